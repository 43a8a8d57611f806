//! A compute's directory: what is remembered of it on disk, and how it is written so that a crash between any two steps
//! leaves something that is finished or cleaned up.
//!
//! ```text
//! DIR/computes/cmp_…/   owner: the server; group: the compute's own, which may read and not write
//!   state.json          slot, port, environment, host key; written once it is decided, before anything is made
//!   base.qcow2          hard link to the image, read-only; beside it kernel and initrd where the image has them
//!   boot.json           how the disk is booted, as its image said when it was made: images may be removed later
//!   disk.qcow2          the overlay, the only file that QEMU may write; under its name only when complete
//!   seed.iso            written anew at every start
//!   process             the boot's number, then the line of QEMU in the process table
//!   halt                how the boot with that number ended, when that was seen
//!   stopping            the boot that was asked to shut down, and when
//!   console.log, .old   what the guest wrote to its serial console; qemu.log: what QEMU said
//! ```
//! Deliberately not here: processes and sockets.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nephos_model::Timestamp;
use nephos_model::id::ComputeId;
use rustix::fs::{Gid, Mode, Uid};
use serde::{Deserialize, Serialize};

use super::host_key::HostKey;
use super::process::Process;
use crate::Halt;

/// Bytes of a file of ours that are read: state files are far smaller.
const STATE_BYTES_MAX: u64 = 64 * 1024;

/// What is decided once about a compute and kept as long as it lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its place among the computes of this host, from 1: its user is the first one plus this.
    pub slot: u32,
    /// The port on 127.0.0.1 that leads to its SSH server.
    pub port: u16,
    /// Its environment.
    pub environment: String,
    /// Its place in its environment's private network, from 1.
    pub seat: u32,
    /// The seed of its host key, hexadecimal.
    pub host_key: String,
}

impl Record {
    /// The host key.
    pub fn host_key(&self) -> Option<HostKey> {
        HostKey::from_hex(&self.host_key)
    }
}

/// The start of a boot, as far as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// The boot's number.
    pub boot: i64,
    /// QEMU, unless the server died before there was one.
    pub process: Option<Process>,
}

/// How a disk is booted: it stays so when its image is removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootRecord {
    /// The command line of the kernel that lies beside it; none boots from the disk itself.
    pub command_line: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct HaltRecord {
    boot: i64,
    died: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoppingRecord {
    boot: i64,
    since_micros: i64,
}

/// A compute's directory, which need not exist.
#[derive(Debug, Clone)]
pub struct Home {
    path: PathBuf,
}

impl Home {
    /// The directory of a compute below `computes`.
    pub fn new(computes: &Path, id: ComputeId) -> Self {
        Self { path: computes.join(id.to_string()) }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of one of its files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes the directory. With a group, its members may look files up by name and read those that are the group's.
    pub fn make(&self, group: Option<u32>) -> io::Result<()> {
        match fs::DirBuilder::new().mode(0o700).create(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
        if let Some(group) = group {
            let directory = File::open(&self.path)?;
            rustix::fs::fchown(&directory, None, Some(Gid::from_raw(group)))?;
            rustix::fs::fchmod(&directory, Mode::from_raw_mode(0o710))?;
        }
        if let Some(parent) = self.path.parent() {
            sync_dir(parent)?;
        }
        Ok(())
    }

    /// What was decided about the compute, when that was written.
    pub fn record(&self) -> io::Result<Option<Record>> {
        read_json(&self.file("state.json"))
    }

    /// Writes what was decided.
    pub fn write_record(&self, record: &Record) -> io::Result<()> {
        self.write_json("state.json", record)
    }

    /// How its disk is booted, when that was written.
    pub fn boot_record(&self) -> io::Result<Option<BootRecord>> {
        read_json(&self.file("boot.json"))
    }

    /// Writes how its disk is booted.
    pub fn write_boot_record(&self, record: &BootRecord) -> io::Result<()> {
        self.write_json("boot.json", record)
    }

    /// Whether the disk is complete.
    pub fn has_disk(&self) -> bool {
        self.file("disk.qcow2").exists()
    }

    /// The last boot that was started.
    pub fn started(&self) -> io::Result<Option<Started>> {
        let Some(bytes) = read_bounded(&self.file("process"))? else { return Ok(None) };
        let text = String::from_utf8_lossy(&bytes);
        let (boot, stat) = text.split_once('\n').unwrap_or((&text, ""));
        Ok(boot.parse().ok().map(|boot| Started { boot, process: Process::from_stat(stat) }))
    }

    /// Begins the record of a boot; the child adds itself to the file.
    pub fn begin_boot(&self, boot: i64) -> io::Result<File> {
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(self.file("process"))?;
        file.write_all(format!("{boot}\n").as_bytes())?;
        Ok(file)
    }

    /// How the last boot ended, for a compute whose processors do not run.
    pub fn halt(&self) -> io::Result<Halt> {
        let started = self.started()?;
        let halt: Option<HaltRecord> = read_json(&self.file("halt"))?;
        Ok(match (started, halt) {
            (None, _) | (Some(Started { process: None, .. }), None) => Halt::Fresh,
            (Some(started), Some(halt)) if halt.boot == started.boot || started.process.is_none() => {
                halt.died.map_or(Halt::ShutDown, Halt::Died)
            }
            (Some(_), _) => Halt::Died(self.epitaph("QEMU ended while nobody watched (was the host restarted?)")),
        })
    }

    /// Whether it was noted how a boot ended.
    pub fn has_halt(&self, boot: i64) -> io::Result<bool> {
        let halt: Option<HaltRecord> = read_json(&self.file("halt"))?;
        Ok(halt.is_some_and(|halt| halt.boot == boot))
    }

    /// Forgets an earlier end of the boot with this number, which is about to be started once more.
    pub fn forget_end(&self, boot: i64) -> io::Result<()> {
        if self.has_halt(boot)? {
            remove_file(&self.file("halt"))?;
        }
        if self.stopping_since(boot)?.is_some() {
            remove_file(&self.file("stopping"))?;
        }
        Ok(())
    }

    /// Notes how a boot ended.
    pub fn write_halt(&self, boot: i64, halt: &Halt) -> io::Result<()> {
        let died = match halt {
            Halt::Died(text) => Some(text.clone()),
            Halt::Fresh | Halt::ShutDown => None,
        };
        self.write_json("halt", &HaltRecord { boot, died })
    }

    /// When the boot was asked to shut down, if it was.
    pub fn stopping_since(&self, boot: i64) -> io::Result<Option<Timestamp>> {
        let record: Option<StoppingRecord> = read_json(&self.file("stopping"))?;
        Ok(record.filter(|r| r.boot == boot).map(|r| Timestamp::from_micros(r.since_micros)))
    }

    /// Notes that the boot was asked to shut down.
    pub fn write_stopping(&self, boot: i64, since: Timestamp) -> io::Result<()> {
        self.write_json("stopping", &StoppingRecord { boot, since_micros: since.micros() })
    }

    /// `what`, with the last line that QEMU said, printable and short.
    pub fn epitaph(&self, what: &str) -> String {
        const LINE_CHARS_MAX: usize = 300;
        let log = read_tail(&self.file("qemu.log"), 4_096).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        match log.lines().rev().map(str::trim).find(|line| !line.is_empty()) {
            Some(line) => {
                let line: String = line.chars().filter(|c| !c.is_control()).take(LINE_CHARS_MAX).collect();
                format!("{what}; it last said: {line}")
            }
            None => what.to_owned(),
        }
    }

    /// Throws the disk away, and all that was known of its boots. The disk goes first: without it the rest says nothing.
    pub fn wipe(&self) -> io::Result<()> {
        for name in
            ["disk.qcow2", "disk.new", "boot.json", "base.qcow2", "kernel", "initrd", "halt", "stopping", "process"]
        {
            remove_file(&self.file(name))?;
        }
        if self.path.exists() {
            sync_dir(&self.path)?;
        }
        Ok(())
    }

    /// Removes the directory and all in it.
    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// A file for the compute's user to write: empty, owned by it.
    pub fn make_writable(&self, name: &str, owner: Option<u32>) -> io::Result<()> {
        remove_file(&self.file(name))?;
        let file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(self.file(name))?;
        if let Some(owner) = owner {
            rustix::fs::fchown(&file, Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner)))?;
        }
        Ok(())
    }

    /// A file for the compute's user to read, replaced as a whole. Not durable: it is written anew at every start.
    pub fn write_readable(&self, name: &str, bytes: &[u8], group: Option<u32>) -> io::Result<()> {
        write_part(&self.path, name, bytes, group)?;
        fs::rename(self.file(&format!("{name}.part")), self.file(name))
    }

    /// Makes a hard link to a file of the image store under a name of the directory, anew.
    pub fn link(&self, source: &Path, name: &str) -> io::Result<()> {
        remove_file(&self.file(name))?;
        match fs::hard_link(source, self.file(name)) {
            // Another file system, or one without links: a copy, complete before it has its name.
            Err(e) if matches!(e.raw_os_error(), Some(code) if LINK_REFUSED.contains(&code)) => {
                let part = self.file(&format!("{name}.part"));
                fs::copy(source, &part)?;
                File::open(&part)?.sync_all()?;
                fs::rename(part, self.file(name))
            }
            other => other,
        }
    }

    /// Makes renames in the directory durable.
    pub fn sync(&self) -> io::Result<()> {
        sync_dir(&self.path)
    }

    fn write_json(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        replace(&self.path, name, &serde_json::to_vec(value)?)
    }
}

/// `EXDEV`, `EMLINK`, `EPERM`: the file system makes no such link.
const LINK_REFUSED: [i32; 3] = [
    rustix::io::Errno::XDEV.raw_os_error(),
    rustix::io::Errno::MLINK.raw_os_error(),
    rustix::io::Errno::PERM.raw_os_error(),
];

/// Writes a file under a temporary name, makes it durable, and gives it its name.
fn replace(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    write_part(dir, name, bytes, None)?.sync_all()?;
    fs::rename(dir.join(format!("{name}.part")), dir.join(name))?;
    sync_dir(dir)
}

/// Writes a file under its temporary name. With a group, its members may read it.
fn write_part(dir: &Path, name: &str, bytes: &[u8], group: Option<u32>) -> io::Result<File> {
    let part = dir.join(format!("{name}.part"));
    remove_file(&part)?;
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&part)?;
    file.write_all(bytes)?;
    if let Some(group) = group {
        rustix::fs::fchown(&file, None, Some(Gid::from_raw(group)))?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(0o640))?;
    }
    Ok(file)
}

/// Removes a file; nothing there is success.
pub fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Makes the names in a directory durable.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The last `bytes_max` bytes of a file; none when it is not there.
pub fn read_tail(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    use std::io::Seek;
    let mut file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let length = file.metadata()?.len();
    file.seek(io::SeekFrom::Start(length.saturating_sub(bytes_max)))?;
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn read_bounded(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut bytes = Vec::new();
    file.take(STATE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> io::Result<Option<T>> {
    match read_bounded(path)? {
        None => Ok(None),
        Some(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged: {e}", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path(), "cmp_01h2xcejqtf2nbrexx3vqjhp41".parse().unwrap());
        home.make(None).unwrap();
        (dir, home)
    }

    #[test]
    fn a_boot_that_never_had_a_process_is_not_a_death() {
        let (_dir, home) = home();
        assert_eq!(home.halt().unwrap(), Halt::Fresh);
        drop(home.begin_boot(1).unwrap());
        assert_eq!(home.started().unwrap(), Some(Started { boot: 1, process: None }));
        assert_eq!(home.halt().unwrap(), Halt::Fresh);
    }

    #[test]
    fn a_halt_counts_for_its_own_boot_only() {
        let (_dir, home) = home();
        let start = |boot| {
            let mut file = home.begin_boot(boot).unwrap();
            file.write_all(&fs::read("/proc/self/stat").unwrap()).unwrap();
        };
        start(1);
        assert!(matches!(home.halt().unwrap(), Halt::Died(text) if text.contains("nobody watched")));
        home.write_halt(1, &Halt::ShutDown).unwrap();
        assert_eq!(home.halt().unwrap(), Halt::ShutDown);
        // The next start breaks off before its process: the earlier end still holds.
        drop(home.begin_boot(2).unwrap());
        assert_eq!(home.halt().unwrap(), Halt::ShutDown);
        start(2);
        fs::write(home.file("qemu.log"), "one\nlast \u{7}words\n\n").unwrap();
        assert!(matches!(home.halt().unwrap(), Halt::Died(text) if text.ends_with("it last said: last words")));
        home.wipe().unwrap();
        assert_eq!(home.halt().unwrap(), Halt::Fresh);
    }

    #[test]
    fn a_damaged_record_is_an_error_that_names_it() {
        let (_dir, home) = home();
        assert_eq!(home.record().unwrap(), None);
        fs::write(home.file("state.json"), "{").unwrap();
        assert!(home.record().unwrap_err().to_string().contains("state.json is damaged"));
    }
}
