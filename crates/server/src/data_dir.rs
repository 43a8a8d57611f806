//! The data folder: its rights, the lock that makes one process its only writer, and the master key.
//!
//! Deliberately not here: what lies in the folder beyond that. Nothing in it is ever loosened or deleted.

use std::fmt::Write as _;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use nephos_model::Entropy;
use rustix::fs::FlockOperation;

/// Folders that are made in it.
const FOLDERS: &[&str] = &["keys", "images", "computes", "volumes", "backups"];
/// The name of the lock file.
const LOCK: &str = "lock";
/// Bytes of a lock file that are read at most: it holds a process id.
const LOCK_BYTES_MAX: u64 = 64;
/// Bytes of a master key.
pub const MASTER_KEY_BYTES: usize = 32;

/// The data folder, there and private.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
}

/// The only writer of the data folder. Released when dropped, and by the kernel when the process ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Whether the lock could be had.
#[derive(Debug)]
pub enum Locked {
    /// It is ours.
    Ours(Lock),
    /// Another process has it; its id, when it could be read.
    Theirs(Option<u32>),
}

/// Says what an error of the file system means for the operator.
fn way_out(error: &io::Error, path: &Path) -> String {
    let shown = path.display();
    match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::ROFS) => {
            format!(
                "{shown} lies on a file system that is mounted read-only; mount it writable, or choose another folder with --data-dir"
            )
        }
        Some(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT) => {
            format!("no space is left for {shown}; make room there, or choose another folder with --data-dir")
        }
        Some(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => {
            format!(
                "{shown} can't be written by this user; run as the user who owns it, or choose another folder with --data-dir"
            )
        }
        Some(rustix::io::Errno::NOTDIR | rustix::io::Errno::EXIST) => {
            format!(
                "{shown} can't be a folder, because a part of its path is a file; choose another folder with --data-dir"
            )
        }
        _ => format!("{shown} can't be used ({error}); choose another folder with --data-dir"),
    }
}

impl DataDir {
    /// Opens the folder; makes it, with mode 0700, when it is not there.
    pub fn open_or_create(path: &Path) -> Result<Self> {
        if !path.exists() {
            if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
                std::fs::create_dir_all(parent).map_err(|e| anyhow::anyhow!(way_out(&e, parent)))?;
            }
            match DirBuilder::new().mode(0o700).create(path) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => bail!(way_out(&e, path)),
                _ => {}
            }
        }
        let dir = Self::open(path)?;
        for folder in FOLDERS {
            let folder = dir.path.join(folder);
            match DirBuilder::new().mode(0o700).create(&folder) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => bail!(way_out(&e, &folder)),
                _ => {}
            }
        }
        Ok(dir)
    }

    /// Opens the folder, which must be there. Nothing is written.
    pub fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        let found = match std::fs::metadata(path) {
            Ok(found) => found,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                bail!(
                    "there is no data folder {shown}; `nephos serve` and `nephos init` make one, --data-dir names another"
                )
            }
            Err(e) => bail!(way_out(&e, path)),
        };
        if !found.is_dir() {
            bail!("{shown} is a file, not a folder; choose another place with --data-dir");
        }
        let me = rustix::process::geteuid().as_raw();
        if found.uid() != me {
            bail!(
                "{shown} belongs to the user {}, this runs as {me}; run as that user, or choose another folder with --data-dir",
                found.uid()
            );
        }
        // Another program's folder, `/` or `/tmp` say, must not be closed to others at our word.
        let is_ours = path.join(LOCK).exists()
            || path.join("keys").exists()
            || std::fs::read_dir(path).is_ok_and(|mut d| d.next().is_none());
        if found.mode() & 0o077 != 0 && !is_ours {
            bail!("{shown} holds other things and is no data folder; choose a new or an empty one with --data-dir");
        }
        if found.mode() & 0o077 != 0 {
            bail!(
                "{shown} holds keys and is open to others (mode {:04o}); run: chmod 700 {shown}",
                found.mode() & 0o7777
            );
        }
        let path = path.canonicalize().with_context(|| format!("{shown} can't be resolved"))?;
        Ok(Self { path })
    }

    /// Its absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the lock, or says who has it. Does not wait.
    pub fn lock(&self) -> Result<Locked> {
        let path = self.path.join(LOCK);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|e| anyhow::anyhow!(way_out(&e, &path)))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                // What it holds is for people only: unreadable means unknown.
                _ = file.take(LOCK_BYTES_MAX).read_to_string(&mut text);
                return Ok(Locked::Theirs(text.trim().parse().ok()));
            }
            Err(e) => bail!("{} can't be locked: {e}; the file system must support flock", path.display()),
        }
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .and_then(|()| file.sync_all());
        written.map_err(|e| anyhow::anyhow!(way_out(&e, &path)))?;
        Ok(Locked::Ours(Lock { _file: file }))
    }

    /// Where the master key lies when the configuration names no file.
    pub fn master_key_path(&self) -> PathBuf {
        self.path.join("keys").join("master")
    }

    /// Reads the master key; `None` when no file is named and there is none in the folder. Whether a database was
    /// sealed with it is for whoever opens the database to ask.
    pub fn master_key(&self, named: Option<&Path>) -> Result<Option<[u8; MASTER_KEY_BYTES]>> {
        let own = self.master_key_path();
        let path = named.unwrap_or(&own);
        match read_key(path) {
            Ok(key) => Ok(Some(key)),
            Err(e) if named.is_none() && is_not_found(&e) => Ok(None),
            Err(e) if is_not_found(&e) => bail!(
                "there is no master key file {}; make one with `openssl rand -hex 32`, mode 0600, the same for all replicas",
                path.display()
            ),
            Err(e) => Err(e),
        }
    }

    /// Makes a master key in the folder: only for a database that was not sealed yet.
    pub fn make_master_key(&self, entropy: &dyn Entropy) -> Result<[u8; MASTER_KEY_BYTES]> {
        let path = self.master_key_path();
        let mut key = [0; MASTER_KEY_BYTES];
        entropy.fill(&mut key);
        write_key(&path, &key).map_err(|e| anyhow::anyhow!(way_out(&e, &path)))?;
        Ok(key)
    }
}

fn is_not_found(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::NotFound)
}

fn read_key(path: &Path) -> Result<[u8; MASTER_KEY_BYTES]> {
    let shown = path.display();
    let file = File::open(path)?;
    let found = file.metadata()?;
    if found.mode() & 0o077 != 0 {
        bail!(
            "the master key {shown} can be read by others (mode {:04o}); run: chmod 600 {shown}",
            found.mode() & 0o7777
        );
    }
    let mut text = String::new();
    let read = file.take(1024).read_to_string(&mut text);
    let key = read.ok().and_then(|_| from_hex(text.trim()));
    key.with_context(|| format!("the master key {shown} must hold 64 hexadecimal digits; put the right file back: without it sealed secrets are lost"))
}

fn write_key(path: &Path, key: &[u8; MASTER_KEY_BYTES]) -> io::Result<()> {
    let mut hex = String::new();
    for byte in key {
        // Writing to a String can't fail.
        _ = write!(hex, "{byte:02x}");
    }
    // Whole or not at all, and durable before anything is sealed with it.
    let partial = path.with_extension("partial");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
    writeln!(file, "{hex}")?;
    file.sync_all()?;
    std::fs::rename(&partial, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn from_hex(text: &str) -> Option<[u8; MASTER_KEY_BYTES]> {
    let mut key = [0; MASTER_KEY_BYTES];
    if text.len() != MASTER_KEY_BYTES * 2 || !text.is_ascii() {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(pair).ok().filter(|p| !p.starts_with('+'))?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Sevens;
    impl Entropy for Sevens {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(7);
        }
    }

    fn opened(parent: &Path) -> DataDir {
        DataDir::open_or_create(&parent.join("deep/data")).unwrap()
    }

    #[test]
    fn the_folder_is_private() {
        let parent = tempfile::tempdir().unwrap();
        let dir = opened(parent.path());
        assert_eq!(std::fs::metadata(dir.path()).unwrap().mode() & 0o777, 0o700);
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let error = DataDir::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("mode 0755") && error.contains("chmod 700"), "{error}");
    }

    #[test]
    fn nobody_is_told_to_close_a_folder_of_others() {
        let parent = tempfile::tempdir().unwrap();
        std::fs::set_permissions(parent.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let empty = DataDir::open(parent.path()).unwrap_err().to_string();
        assert!(empty.contains("chmod 700"), "{empty}");
        std::fs::write(parent.path().join("letter"), "").unwrap();
        let taken = DataDir::open(parent.path()).unwrap_err().to_string();
        assert!(taken.contains("no data folder") && !taken.contains("chmod"), "{taken}");
    }

    #[test]
    fn a_file_in_its_place_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(DataDir::open_or_create(&file).unwrap_err().to_string().contains("is a file"));
        let below = DataDir::open_or_create(&file.join("data")).unwrap_err().to_string();
        assert!(below.contains("a part of its path is a file") || below.contains("is a file"), "{below}");
        let missing = DataDir::open(&parent.path().join("none")).unwrap_err().to_string();
        assert!(missing.contains("there is no data folder"), "{missing}");
    }

    #[test]
    fn one_holder_at_a_time_and_the_other_learns_who() {
        let parent = tempfile::tempdir().unwrap();
        let dir = opened(parent.path());
        let Locked::Ours(lock) = dir.lock().unwrap() else { panic!("nobody else has it") };
        let Locked::Theirs(pid) = dir.lock().unwrap() else { panic!("it is taken") };
        assert_eq!(pid, Some(std::process::id()));
        drop(lock);
        assert!(matches!(dir.lock().unwrap(), Locked::Ours(_)));
    }

    #[test]
    fn the_master_key_is_made_once_and_guarded() {
        let parent = tempfile::tempdir().unwrap();
        let dir = opened(parent.path());
        assert_eq!(dir.master_key(None).unwrap(), None);
        assert_eq!(dir.make_master_key(&Sevens).unwrap(), [7; 32]);
        assert_eq!(dir.master_key(None).unwrap(), Some([7; 32]));
        let path = dir.master_key_path();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        std::fs::write(&path, "08".repeat(32)).unwrap();
        assert_eq!(dir.master_key(None).unwrap(), Some([8; 32]));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        assert!(dir.master_key(None).unwrap_err().to_string().contains("chmod 600"));
        let none = parent.path().join("none");
        assert!(dir.master_key(Some(&none)).unwrap_err().to_string().contains("no master key file"));
        let short = parent.path().join("short");
        std::fs::write(&short, "abc").unwrap();
        std::fs::set_permissions(&short, PermissionsExt::from_mode(0o600)).unwrap();
        assert!(dir.master_key(Some(&short)).unwrap_err().to_string().contains("64 hexadecimal digits"));
    }
}
