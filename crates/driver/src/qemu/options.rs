//! What the operator can choose about the QEMU driver.

use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Milliseconds a guest has to shut down after it was asked, before its power is cut.
pub const STOP_DEADLINE_MS: u64 = 60_000;
/// Bytes of serial console that are kept for one compute.
pub const CONSOLE_BYTES_MAX: u64 = 1024 * 1024;
/// The user of the first compute when the server is root: above the ranges that Linux distributions and container
/// managers give out.
pub const UID_BASE: u32 = 1_900_000_000;
/// Computes of one host at most: each has a user, a port and an address of its own.
pub const SLOTS_MAX: u32 = 16_384;
/// Bytes in the path of a unix socket at most, the closing zero included.
const SOCKET_PATH_BYTES_MAX: usize = 108;
/// Characters that a socket's name adds to the runtime directory: a slash, an id of 30 and a suffix.
const SOCKET_NAME_CHARS: usize = 1 + 30 + 5;

/// Which accelerator runs guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Accelerator {
    /// KVM when the timed probe finds it fast, else emulation.
    #[default]
    Auto,
    /// KVM.
    Kvm,
    /// Emulation.
    Tcg,
}

/// How guests reach the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// passt when it is there and works, else the built-in network without a way out.
    #[default]
    Auto,
    /// passt: guests reach the network, not the host's loopback.
    Passt,
    /// QEMU's built-in network, restricted: guests are reached by SSH, and reach nothing.
    Restricted,
}

/// What the operator can choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The data directory of the installation: `images/` and `computes/` are below it.
    pub data_dir: PathBuf,
    /// Where sockets lie; its path must be short.
    pub runtime_dir: PathBuf,
    /// Which accelerator runs guests.
    pub accelerator: Accelerator,
    /// How guests reach the network.
    pub network: Network,
    /// QEMU's binary; a bare name is looked for in `PATH`.
    pub qemu_binary: PathBuf,
    /// The disk tool's binary; a bare name is looked for in `PATH`.
    pub qemu_img: PathBuf,
    /// passt's binary; a bare name is looked for in `PATH`.
    pub passt: PathBuf,
    /// Ports on 127.0.0.1 that are forwarded to guests' SSH servers.
    pub port_range: RangeInclusive<u16>,
    /// Milliseconds a guest has to shut down after it was asked, before its power is cut.
    pub stop_deadline_ms: u64,
    /// Bytes of serial console that are kept for one compute.
    pub console_bytes_max: u64,
    /// The first of the users that computes run as when the server is root.
    pub uid_base: u32,
}

impl Options {
    /// The defaults for an installation.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        let data_dir = data_dir.into();
        Self {
            runtime_dir: default_runtime_dir(&data_dir),
            data_dir,
            accelerator: Accelerator::Auto,
            network: Network::Auto,
            qemu_binary: "qemu-system-x86_64".into(),
            qemu_img: "qemu-img".into(),
            passt: "passt".into(),
            port_range: 22_000..=31_999,
            stop_deadline_ms: STOP_DEADLINE_MS,
            console_bytes_max: CONSOLE_BYTES_MAX,
            uid_base: UID_BASE,
        }
    }

    /// Where images lie.
    pub fn images_dir(&self) -> PathBuf {
        self.data_dir.join("images")
    }

    /// Where computes lie.
    pub fn computes_dir(&self) -> PathBuf {
        self.data_dir.join("computes")
    }

    /// Eight hexadecimal digits that tell this installation's processes and sockets from another's on the same host.
    pub fn mark(&self) -> String {
        mark_of(&self.data_dir)
    }

    /// What is wrong with the options, as a sentence with the way out.
    pub fn fault(&self) -> Option<String> {
        let length = self.runtime_dir.as_os_str().as_bytes().len() + SOCKET_NAME_CHARS;
        if length >= SOCKET_PATH_BYTES_MAX {
            return Some(format!(
                "the runtime directory {} is too long for sockets: choose one with at most {} characters",
                self.runtime_dir.display(),
                SOCKET_PATH_BYTES_MAX - SOCKET_NAME_CHARS - 1
            ));
        }
        if self.port_range.is_empty() || *self.port_range.start() < 1_024 {
            return Some(format!(
                "the port range {}-{} is not usable: it must be ascending and start at 1024 or above",
                self.port_range.start(),
                self.port_range.end()
            ));
        }
        if self.console_bytes_max < 4_096 {
            return Some("the console log must be allowed at least 4096 bytes".to_owned());
        }
        if self.uid_base < 1_000 || self.uid_base.checked_add(SLOTS_MAX).is_none() {
            return Some(format!("the first user id {} must lie between 1000 and 4294950911", self.uid_base));
        }
        None
    }
}

/// `/run` for root, the user's runtime directory where there is one, else `/tmp`.
fn default_runtime_dir(data_dir: &Path) -> PathBuf {
    let name = format!("nephos-{}", mark_of(data_dir));
    if rustix::process::geteuid().is_root() {
        return Path::new("/run").join(name);
    }
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| Path::new(dir).is_dir()) {
        Some(dir) if dir.len() < 40 => Path::new(&dir).join(name),
        _ => Path::new("/tmp").join(name),
    }
}

fn mark_of(data_dir: &Path) -> String {
    let real = std::fs::canonicalize(data_dir)
        .or_else(|_| std::path::absolute(data_dir))
        .unwrap_or_else(|_| data_dir.to_owned());
    let digest = Sha256::digest(real.as_os_str().as_bytes());
    digest.iter().take(4).fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_said_with_the_way_out() {
        let good = Options::new("/var/lib/nephos");
        assert_eq!(good.fault(), None);
        let mut long = good.clone();
        long.runtime_dir = format!("/run/{}", "x".repeat(80)).into();
        let mut ports = good.clone();
        ports.port_range = 80..=90;
        let mut users = good.clone();
        users.uid_base = u32::MAX;
        let mut console = good.clone();
        console.console_bytes_max = 1;
        for options in [long, ports, users, console] {
            assert!(options.fault().is_some(), "{options:?}");
        }
    }

    #[test]
    fn installations_have_marks_of_their_own() {
        let mark = Options::new("/var/lib/nephos").mark();
        assert_eq!(mark.len(), 8);
        assert_eq!(mark, Options::new("/var/lib/nephos").mark());
        assert_ne!(mark, Options::new("/var/lib/other").mark());
    }
}
