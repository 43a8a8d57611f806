//! How a child process is confined between fork and exec, and how its end is watched: the one place of this crate, with
//! the KVM probe, that needs unsafe code. Deliberately not here: what is run and with which arguments.

#![allow(unsafe_code)] // `pre_exec` runs between fork and exec; the closure below makes system calls only

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::fs::{Mode, OFlags};
use rustix::io::FdFlags;
use rustix::process::{Resource, Rlimit};
use rustix::thread::{Gid, Uid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Bytes of `/proc/self/stat` that are kept: it is a line of some 300.
const STAT_BYTES_MAX: usize = 1_024;

/// Who a child becomes. Only a root server can say; others stay who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user id, equal to the group id.
    pub id: u32,
    /// Supplementary groups: none, or the one that may open `/dev/kvm`.
    pub groups: Vec<u32>,
}

/// What is taken from a child before it runs.
#[derive(Debug)]
pub struct Cage {
    /// Who it becomes; `None` leaves it the server's user.
    pub identity: Option<Identity>,
    /// Its working directory. By descriptor, because its user may have no way there by path.
    pub directory: Option<OwnedFd>,
    /// Descriptors it inherits besides the standard three, under the same numbers.
    pub keep: Vec<OwnedFd>,
    /// Gets the child's `/proc/self/stat`: its process id and start time are on record before it can do anything.
    pub record: Option<File>,
    /// The door of a control group: the child enters before it gives its rights up.
    pub group: Option<File>,
    /// Largest file it may write, in bytes.
    pub file_bytes_max: Option<u64>,
    /// Largest address space, in bytes.
    pub memory_bytes_max: Option<u64>,
    /// Most processor time, in seconds.
    pub cpu_seconds_max: Option<u64>,
    /// Most open files.
    pub files_max: u64,
}

impl Default for Cage {
    fn default() -> Self {
        Self {
            identity: None,
            directory: None,
            keep: Vec::new(),
            record: None,
            group: None,
            file_bytes_max: None,
            memory_bytes_max: None,
            cpu_seconds_max: None,
            files_max: 256,
        }
    }
}

/// Makes `command` run in the cage, in a session of its own, with no core dumps, no way to gain rights, and files that
/// nobody else may read.
pub fn confine(command: &mut Command, cage: Cage) {
    let limits: Vec<(Resource, u64)> = [
        (Resource::Core, Some(0)),
        (Resource::Nofile, Some(cage.files_max)),
        (Resource::Fsize, cage.file_bytes_max),
        (Resource::As, cage.memory_bytes_max),
        (Resource::Cpu, cage.cpu_seconds_max),
    ]
    .into_iter()
    .filter_map(|(resource, limit)| Some((resource, limit?)))
    .collect();
    let identity = cage.identity.map(|i| {
        let groups: Vec<Gid> = i.groups.into_iter().map(Gid::from_raw).collect();
        (Uid::from_raw(i.id), Gid::from_raw(i.id), groups)
    });
    let (directory, keep, record, group) = (cage.directory, cage.keep, cage.record, cage.group);
    let confine = move || -> io::Result<()> {
        rustix::process::setsid()?;
        rustix::process::umask(Mode::from_raw_mode(0o077));
        if let Some(directory) = &directory {
            rustix::process::fchdir(directory)?;
        }
        for fd in &keep {
            rustix::io::fcntl_setfd(fd, FdFlags::empty())?;
        }
        if let Some(record) = &record {
            record_self(record)?;
        }
        if let Some(group) = &group {
            rustix::io::write(group, b"0")?;
        }
        for (resource, limit) in &limits {
            let hard = rustix::process::getrlimit(*resource).maximum.map_or(*limit, |most| most.min(*limit));
            rustix::process::setrlimit(*resource, Rlimit { current: Some(hard), maximum: Some(hard) })?;
        }
        if let Some((uid, gid, groups)) = &identity {
            rustix::thread::set_thread_groups(groups)?;
            rustix::thread::set_thread_res_gid(*gid, *gid, *gid)?;
            rustix::thread::set_thread_res_uid(*uid, *uid, *uid)?;
        }
        rustix::thread::set_no_new_privs(true)?;
        Ok(())
    };
    // SAFETY: the closure allocates nothing, takes no lock and only makes system calls, as a child of a process with
    // threads must; everything it uses was made before the fork and is owned by it.
    unsafe {
        command.pre_exec(confine);
    }
}

/// Copies the line of this process in the process table to `record`.
fn record_self(record: &File) -> io::Result<()> {
    let stat = rustix::fs::open(c"/proc/self/stat", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut line = [0u8; STAT_BYTES_MAX];
    let length = rustix::io::read(&stat, &mut line)?;
    let mut rest = &line[..length];
    while !rest.is_empty() {
        let written = rustix::io::write(record, rest)?;
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(())
}

/// The numbers under which a child finds the descriptors that it keeps.
pub fn number(fd: &impl AsRawFd) -> RawFd {
    fd.as_raw_fd()
}

/// Has the runtime watch a descriptor for becoming readable.
pub fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an owned descriptor stays open, and the same, until the watch that holds it is dropped.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(Into::into)
}
