//! The store of image files: `DIR/images/` holds each file once under the SHA-256 of its content, read-only. A file is
//! copied and hashed in one pass into a folder of its own, judged there, and only then gets its name.
//! Deliberately not here: names, descriptions and who may use an image; those are rows.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use nephos_model::image::{Boot, Image};
use nephos_model::{Clock, Entropy};
use rustix::fs::{Gid, Mode};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::home::{remove_file, sync_dir};
use super::options::Options;
use super::qcow2::{self, HeaderError};
use super::run::{RunError, run};
use super::sys::{Cage, Identity};

/// Bytes of a disk file at most.
pub const DISK_FILE_BYTES_MAX: u64 = 64 << 30;
/// Bytes of the disk that a guest sees at most.
pub const VIRTUAL_BYTES_MAX: u64 = 2 << 40;
/// Bytes of a kernel or an initial RAM disk at most.
pub const BOOT_FILE_BYTES_MAX: u64 = 512 << 20;
/// Milliseconds for looking at an image.
const INFO_DEADLINE_MS: u64 = 20_000;
/// Milliseconds for checking an image's tables.
const CHECK_DEADLINE_MS: u64 = 120_000;
/// Milliseconds for converting a raw image.
const CONVERT_DEADLINE_MS: u64 = 600_000;
/// Memory for the disk tool, in bytes: it maps libraries generously.
const TOOL_MEMORY_BYTES_MAX: u64 = 2 << 30;
const COPY_BYTES: usize = 1 << 20;
const GIB: u64 = 1 << 30;

/// What a disk file is taken for. Never guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// qcow2.
    #[default]
    Qcow2,
    /// The disk byte by byte; stored as qcow2.
    Raw,
}

/// What is known of a stored disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// SHA-256 of the stored file, hexadecimal: its name in the store.
    pub checksum: String,
    /// Bytes of the stored file.
    pub size_bytes: u64,
    /// Bytes of the disk that a guest sees.
    pub virtual_bytes: u64,
    /// Least root disk that holds it, in GiB.
    pub min_disk_gib: u32,
}

/// Why a file was not added.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The file can't be read.
    #[error("{path} can't be read")]
    Source {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not a regular file.
    #[error("{0} is not a regular file")]
    NotAFile(PathBuf),
    /// It is larger than allowed.
    #[error("{path} has more than {bytes_max} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The bound.
        bytes_max: u64,
    },
    /// Its disk is larger than allowed.
    #[error("{path} is a disk of {virtual_bytes} bytes; at most {VIRTUAL_BYTES_MAX} are taken")]
    TooLargeDisk {
        /// The file.
        path: PathBuf,
        /// What its header says.
        virtual_bytes: u64,
    },
    /// Its header forbids it.
    #[error("{path} can't be used: {why}")]
    Header {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        why: HeaderError,
    },
    /// The disk tool found fault with it.
    #[error("{path} can't be used; qemu-img says: {said}")]
    Tool {
        /// The file.
        path: PathBuf,
        /// Its words, bounded.
        said: String,
    },
    /// The disk tool gave no answer.
    #[error("qemu-img gave no answer; is the package qemu-utils installed?")]
    Run(#[from] RunError),
    /// The store can't be written.
    #[error("the image store {path} can't be written")]
    Store {
        /// The store.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The store.
#[derive(Debug, Clone)]
pub struct Images {
    dir: PathBuf,
    qemu_img: PathBuf,
    uid: u32,
}

impl Images {
    /// The store of an installation. Nothing is touched yet.
    pub fn new(options: &Options) -> Self {
        Self { dir: options.images_dir(), qemu_img: options.qemu_img.clone(), uid: options.uid_base }
    }

    /// The path of a stored file; `None` when the checksum is not one.
    pub fn path(&self, checksum: &str) -> Option<PathBuf> {
        let valid = checksum.len() == 64 && checksum.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        valid.then(|| self.dir.join(checksum))
    }

    /// Whether every file of an image is there.
    pub fn holds(&self, image: &Image) -> bool {
        let has = |checksum: &str| self.path(checksum).is_some_and(|path| path.is_file());
        has(&image.checksum)
            && match &image.boot {
                Boot::Disk => true,
                Boot::Kernel { kernel, initrd, .. } => has(kernel) && has(initrd),
            }
    }

    /// Removes a stored file. Computes keep their hard links; nothing there is success.
    pub fn remove(&self, checksum: &str) -> io::Result<()> {
        self.path(checksum).map_or(Ok(()), |path| remove_file(&path))
    }

    /// Adds a disk. A file that is there already is success.
    pub async fn add_disk(
        &self,
        source: &Path,
        format: Format,
        clock: &dyn Clock,
        entropy: &dyn Entropy,
    ) -> Result<Facts, ImageError> {
        let stage = Stage::new(self, entropy)?;
        stage.copy(source, "image", DISK_FILE_BYTES_MAX).await?;
        let name = match format {
            Format::Qcow2 => "image",
            Format::Raw => {
                stage.convert(source, self, clock).await?;
                "converted"
            }
        };
        let bad_header = |why| ImageError::Header { path: source.to_owned(), why };
        let file = File::open(stage.path.join(name)).map_err(|e| self.store_error(e))?;
        let header = qcow2::read(&file).map_err(|e| self.store_error(e))?.map_err(bad_header)?;
        if header.virtual_bytes > VIRTUAL_BYTES_MAX {
            return Err(ImageError::TooLargeDisk { path: source.to_owned(), virtual_bytes: header.virtual_bytes });
        }
        stage.inspect(source, name, header.virtual_bytes, self, clock).await?;
        let (checksum, size_bytes) = stage.keep(name).await?;
        let min_disk_gib = u32::try_from(header.virtual_bytes.div_ceil(GIB)).unwrap_or(u32::MAX);
        Ok(Facts { checksum, size_bytes, virtual_bytes: header.virtual_bytes, min_disk_gib })
    }

    /// Adds a kernel or an initial RAM disk and gives its checksum.
    pub async fn add_boot_file(&self, source: &Path, entropy: &dyn Entropy) -> Result<String, ImageError> {
        let stage = Stage::new(self, entropy)?;
        stage.copy(source, "image", BOOT_FILE_BYTES_MAX).await?;
        Ok(stage.keep("image").await?.0)
    }

    /// Removes what broken-off additions left. Only while nothing is being added: at start.
    pub fn clean(&self) -> io::Result<()> {
        let entries = match fs::read_dir(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(".adding-") {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }

    fn store_error(&self, source: io::Error) -> ImageError {
        ImageError::Store { path: self.dir.clone(), source }
    }
}

/// The user that tools run as, when the server can choose: one that no compute has.
pub fn tool_identity(uid: u32) -> Option<Identity> {
    rustix::process::geteuid().is_root().then_some(Identity { id: uid, groups: Vec::new() })
}

/// A cage for the disk tool in a directory.
pub fn tool_cage(directory: OwnedFd, identity: Option<Identity>, file_bytes_max: u64) -> Cage {
    Cage {
        identity,
        directory: Some(directory),
        file_bytes_max: Some(file_bytes_max),
        memory_bytes_max: Some(TOOL_MEMORY_BYTES_MAX),
        cpu_seconds_max: Some(600),
        ..Cage::default()
    }
}

/// A folder for one addition; gone when dropped.
struct Stage<'a> {
    images: &'a Images,
    path: PathBuf,
    identity: Option<Identity>,
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

impl<'a> Stage<'a> {
    fn new(images: &'a Images, entropy: &dyn Entropy) -> Result<Self, ImageError> {
        let identity = tool_identity(images.uid);
        let path = images.dir.join(format!(".adding-{:032x}", entropy.u128()));
        let make = || -> io::Result<()> {
            match fs::DirBuilder::new().mode(0o700).create(&images.dir) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                other => other?,
            }
            fs::DirBuilder::new().mode(0o700).create(&path)?;
            if let Some(identity) = &identity {
                let directory = File::open(&path)?;
                rustix::fs::fchown(&directory, None, Some(Gid::from_raw(identity.id)))?;
                rustix::fs::fchmod(&directory, Mode::from_raw_mode(0o710))?;
            }
            Ok(())
        };
        make().map_err(|e| images.store_error(e))?;
        Ok(Self { images, path, identity })
    }

    /// Copies a file of the operator's; the tool's user may read the copy.
    async fn copy(&self, source: &Path, name: &str, bytes_max: u64) -> Result<(), ImageError> {
        let (source, target) = (source.to_owned(), self.path.join(name));
        let images = self.images.clone();
        blocking(move || {
            let unreadable = |e| ImageError::Source { path: source.clone(), source: e };
            // Without waiting: the name may be that of a pipe.
            let mut options = OpenOptions::new();
            options.read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
            let mut from = options.open(&source).map_err(unreadable)?;
            if !from.metadata().map_err(unreadable)?.is_file() {
                return Err(ImageError::NotAFile(source));
            }
            let store = |e| images.store_error(e);
            let mut to = OpenOptions::new().create_new(true).write(true).mode(0o444).open(target).map_err(store)?;
            let mut buffer = vec![0; COPY_BYTES];
            let mut copied = 0u64;
            loop {
                let length = from.read(&mut buffer).map_err(unreadable)?;
                if length == 0 {
                    return Ok(());
                }
                copied += length as u64;
                if copied > bytes_max {
                    return Err(ImageError::TooLarge { path: source, bytes_max });
                }
                to.write_all(&buffer[..length]).map_err(store)?;
            }
        })
        .await
    }

    async fn tool(
        &self,
        images: &Images,
        arguments: &[&str],
        deadline_ms: u64,
        clock: &dyn Clock,
    ) -> Result<super::run::Output, ImageError> {
        let directory = File::open(&self.path).map_err(|e| images.store_error(e))?;
        let mut command = Command::new(&images.qemu_img);
        command.args(arguments);
        let cage = tool_cage(directory.into(), self.identity.clone(), DISK_FILE_BYTES_MAX);
        Ok(run(command, cage, deadline_ms, clock).await?)
    }

    /// Makes the copy `image`, taken byte by byte, into `converted`.
    async fn convert(&self, source: &Path, images: &Images, clock: &dyn Clock) -> Result<(), ImageError> {
        let path = self.path.join("converted");
        let make = || -> io::Result<()> {
            let file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path)?;
            if let Some(identity) = &self.identity {
                rustix::fs::fchown(&file, Some(rustix::fs::Uid::from_raw(identity.id)), None)?;
            }
            Ok(())
        };
        make().map_err(|e| images.store_error(e))?;
        let arguments = ["convert", "-f", "raw", "-O", "qcow2", "image", "converted"];
        let output = self.tool(images, &arguments, CONVERT_DEADLINE_MS, clock).await?;
        if output.success {
            Ok(())
        } else {
            Err(ImageError::Tool { path: source.to_owned(), said: said(&output.stderr) })
        }
    }

    /// Has the disk tool confirm what the header said.
    async fn inspect(
        &self,
        source: &Path,
        name: &str,
        virtual_bytes: u64,
        images: &Images,
        clock: &dyn Clock,
    ) -> Result<(), ImageError> {
        let output =
            self.tool(images, &["info", "--output=json", "-f", "qcow2", name], INFO_DEADLINE_MS, clock).await?;
        let fault = |said: String| ImageError::Tool { path: source.to_owned(), said };
        if !output.success {
            return Err(fault(said(&output.stderr)));
        }
        let info: Value =
            serde_json::from_str(&output.stdout).map_err(|e| fault(format!("nothing that can be read ({e})")))?;
        judge_info(&info, virtual_bytes).map_err(fault)?;
        // A file that was cut off has a good header all the same.
        let check = self.tool(images, &["check", "-q", "-f", "qcow2", name], CHECK_DEADLINE_MS, clock).await;
        let damaged = || fault("it is damaged, or cut off: make the file again, or fetch it again".to_owned());
        match check {
            // 3: clusters that nothing uses, which waste room and hurt nobody.
            Ok(output) if matches!(output.code, Some(0 | 3)) => Ok(()),
            // 2: damage; it is told at such length that it may exceed what is read.
            Ok(_) | Err(ImageError::Run(RunError::Loud { .. })) => Err(damaged()),
            Err(e) => Err(e),
        }
    }

    /// Hashes a file of the stage and gives it its name in the store, durably.
    async fn keep(&self, name: &str) -> Result<(String, u64), ImageError> {
        let path = self.path.join(name);
        let images = self.images.clone();
        blocking(move || {
            let store = |e| images.store_error(e);
            let (checksum, size) = hash(&path).map_err(store)?;
            let file = File::open(&path).map_err(store)?;
            rustix::fs::fchown(&file, Some(rustix::process::geteuid()), Some(rustix::process::getegid()))
                .map_err(|e| store(e.into()))?;
            rustix::fs::fchmod(&file, Mode::from_raw_mode(0o444)).map_err(|e| store(e.into()))?;
            file.sync_all().map_err(store)?;
            fs::rename(&path, images.dir.join(&checksum)).map_err(store)?;
            sync_dir(&images.dir).map_err(store)?;
            Ok((checksum, size))
        })
        .await
    }
}

/// Whether what the tool found is what was expected of an image, and nothing beside it.
pub(super) fn judge_info(info: &Value, virtual_bytes: u64) -> Result<(), String> {
    if info["format"] != "qcow2" {
        return Err("it is not qcow2".into());
    }
    if info["virtual-size"].as_u64() != Some(virtual_bytes) {
        return Err("its size is not what its header says".into());
    }
    for (at, what) in [
        ("/backing-filename", "a backing file"),
        ("/full-backing-filename", "a backing file"),
        ("/format-specific/data/data-file", "an external data file"),
    ] {
        if info.pointer(at).is_some_and(|v| !v.is_null()) {
            return Err(format!("it has {what}"));
        }
    }
    if info["encrypted"] == true || info.pointer("/format-specific/data/corrupt").is_some_and(|c| c == true) {
        return Err("it is encrypted or marked as damaged".into());
    }
    Ok(())
}

/// A tool's words, short and printable.
pub fn said(text: &str) -> String {
    const CHARS_MAX: usize = 400;
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(CHARS_MAX).collect()
}

fn hash(path: &Path) -> io::Result<(String, u64)> {
    let mut file = File::open(path)?;
    file.rewind()?;
    let (mut hasher, mut buffer, mut size) = (Sha256::new(), vec![0; COPY_BYTES], 0);
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        size += length as u64;
        hasher.update(&buffer[..length]);
    }
    Ok((hasher.finalize().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}")), size))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(ImageError::Store { path: PathBuf::new(), source: io::Error::other(e) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_tool_confirms() {
        let good = json!({"format": "qcow2", "virtual-size": 7, "format-specific": {"data": {"corrupt": false}}});
        assert_eq!(judge_info(&good, 7), Ok(()));
        assert!(judge_info(&good, 8).is_err());
        for (key, value) in [
            ("format", json!("raw")),
            ("backing-filename", json!("/etc/shadow")),
            ("format-specific", json!({"data": {"data-file": "/dev/sda"}})),
            ("format-specific", json!({"data": {"corrupt": true}})),
            ("encrypted", json!(true)),
        ] {
            let mut bad = good.clone();
            bad[key] = value;
            assert!(judge_info(&bad, 7).is_err(), "{key}");
        }
    }

    #[test]
    fn only_checksums_are_paths() {
        let images = Images::new(&Options::new("/nowhere"));
        assert!(images.path(&"a".repeat(64)).is_some());
        for bad in ["", "../../etc/shadow", &"A".repeat(64), &"a/".repeat(32)] {
            assert_eq!(images.path(bad), None, "{bad}");
        }
    }
}
