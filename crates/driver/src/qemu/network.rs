//! Addresses, ports and sockets of a machine, and passt beside it.
//!
//! The sockets are bound by the server and inherited by QEMU, which therefore needs no way to them by path; they lie in a
//! directory that only the server may enter. Deliberately not here: the private network between machines (`hub`).

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nephos_model::id::ComputeId;

use super::home::remove_file;
use super::seed::Interface;
use super::sys::{Cage, Identity, confine};

/// The guest's address on the outside, the same for all: each has a network of its own there.
pub const OUTSIDE_ADDRESS: &str = "10.0.2.15";
/// Its gateway there.
pub const OUTSIDE_GATEWAY: &str = "10.0.2.2";
/// Its name server there.
pub const OUTSIDE_NAMESERVER: &str = "10.0.2.3";
/// The first two bytes of addresses in an environment's private network, which is a /16 of its own.
const PRIVATE_PREFIX: [u8; 2] = [10, 77];

/// The hardware address on the outside of the compute with this slot.
pub fn outside_mac(slot: u32) -> String {
    let [_, a, b, c] = slot.to_be_bytes();
    format!("52:54:00:{a:02x}:{b:02x}:{c:02x}")
}

/// The hardware address in its environment of the compute with this seat.
pub fn private_mac(seat: u32) -> [u8; 6] {
    let [_, a, b, c] = seat.to_be_bytes();
    [0x52, 0x54, 0x01, a, b, c]
}

/// The usual form of a hardware address.
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// The address in its environment of the compute with this seat; seats start at 1.
pub fn private_address(seat: u32) -> Ipv4Addr {
    let [_, _, high, low] = seat.to_be_bytes();
    Ipv4Addr::new(PRIVATE_PREFIX[0], PRIVATE_PREFIX[1], high, low)
}

/// What a guest is told about its interfaces. Where the outside leads out it asks for its address by DHCP: passt learns a
/// guest's hardware address from what the guest sends, and until then the first connection to it would wait for 10 s.
pub fn interfaces(slot: u32, seat: Option<u32>, leads_out: bool) -> Vec<Interface> {
    let mut list = vec![Interface {
        name: "outside",
        mac: outside_mac(slot),
        address: (!leads_out).then(|| format!("{OUTSIDE_ADDRESS}/24")),
        gateway: (!leads_out).then(|| OUTSIDE_GATEWAY.to_owned()),
        nameservers: if leads_out { vec![OUTSIDE_NAMESERVER.to_owned()] } else { Vec::new() },
    }];
    if let Some(seat) = seat {
        list.push(Interface {
            name: "private",
            mac: mac_text(private_mac(seat)),
            address: Some(format!("{}/16", private_address(seat))),
            gateway: None,
            nameservers: Vec::new(),
        });
    }
    list
}

/// Whether nobody listens on the port of 127.0.0.1 now.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// The paths of a machine's sockets.
#[derive(Debug, Clone)]
pub struct Sockets {
    base: PathBuf,
}

/// Which of a machine's sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Socket {
    /// The monitor that the driver speaks to.
    Control,
    /// The monitor for people and diagnosis: nephos does not connect to it.
    Second,
    /// The serial console.
    Serial,
    /// The private network.
    Private,
}

impl Socket {
    const ALL: [Self; 4] = [Self::Control, Self::Second, Self::Serial, Self::Private];

    const fn suffix(self) -> &'static str {
        match self {
            Self::Control => "qmp",
            Self::Second => "mon",
            Self::Serial => "tty",
            Self::Private => "net",
        }
    }
}

impl Sockets {
    /// Those of a compute below the runtime directory.
    pub fn new(runtime_dir: &Path, id: ComputeId) -> Self {
        Self { base: runtime_dir.join(id.to_string()) }
    }

    /// The path of one.
    pub fn path(&self, socket: Socket) -> PathBuf {
        self.base.with_extension(socket.suffix())
    }

    /// Binds one anew.
    pub fn listen(&self, socket: Socket) -> io::Result<UnixListener> {
        let path = self.path(socket);
        remove_file(&path)?;
        UnixListener::bind(path)
    }

    /// Removes all.
    pub fn remove(&self) -> io::Result<()> {
        Socket::ALL.iter().try_for_each(|socket| remove_file(&self.path(*socket)))
    }
}

/// The computes of which there are sockets.
pub fn sockets_of(runtime_dir: &Path) -> io::Result<Vec<ComputeId>> {
    let entries = match fs::read_dir(runtime_dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut ids: Vec<ComputeId> =
        entries.filter_map(|entry| entry.ok()?.path().file_stem()?.to_str()?.parse().ok()).collect();
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// Makes the runtime directory, which only the server may enter, or says why the one there will not do.
pub fn make_runtime_dir(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        other => other?,
    }
    // In a directory that everybody may write to, somebody else may have been first.
    let found = fs::symlink_metadata(path)?;
    if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() || found.mode() & 0o077 != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{} is not a directory that only the server may enter", path.display()),
        ));
    }
    Ok(())
}

/// passt's command line for one guest; `fd` is its end of the socket to QEMU. It ends when QEMU's end is closed.
pub fn passt_arguments(port: u16, fd: i32) -> Vec<String> {
    let text = format!(
        "--foreground --quiet --fd {fd} --ipv4-only --no-map-gw --address {OUTSIDE_ADDRESS} --netmask 24 \
         --gateway {OUTSIDE_GATEWAY} --dns-forward {OUTSIDE_NAMESERVER} --tcp-ports 127.0.0.1/{port}:22 --udp-ports none"
    );
    text.split(' ').map(str::to_owned).collect()
}

/// Starts passt for one guest and gives QEMU's end of the socket.
pub fn start_passt(
    program: &Path,
    port: u16,
    identity: Option<Identity>,
    log: fs::File,
) -> io::Result<(std::process::Child, std::os::fd::OwnedFd)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let mut command = Command::new(program);
    command.args(passt_arguments(port, super::sys::number(&theirs)));
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    confine(&mut command, Cage { identity, keep: vec![theirs], files_max: 4_096, ..Cage::default() });
    Ok((command.spawn()?, ours))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_have_addresses_of_their_own() {
        assert_eq!(private_address(1).to_string(), "10.77.0.1");
        assert_eq!(private_address(300).to_string(), "10.77.1.44");
        assert_eq!(mac_text(private_mac(300)), "52:54:01:00:01:2c");
        assert_eq!(outside_mac(16_384), "52:54:00:00:40:00");
    }

    #[test]
    fn only_a_way_out_has_a_name_server() {
        assert_eq!(interfaces(1, None, false)[0].nameservers.len(), 0);
        let both = interfaces(1, Some(2), true);
        assert_eq!((both[0].nameservers.len(), both[1].gateway.is_none()), (1, true));
    }

    #[test]
    fn a_runtime_directory_of_somebody_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run");
        make_runtime_dir(&path).unwrap();
        make_runtime_dir(&path).unwrap();
        let open = dir.path().join("open");
        fs::DirBuilder::new().mode(0o777).create(&open).unwrap();
        fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        assert!(make_runtime_dir(&open).is_err());
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(make_runtime_dir(&link).is_err());
    }
}
