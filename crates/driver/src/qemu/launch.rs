//! One start of QEMU: what is written, bound and run for it. Blocking. Deliberately not here: when to start.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use nephos_model::id::Id;

use super::command::{self, Plan};
use super::disk;
use super::home::{Home, Record};
use super::network::{self, Socket, Sockets};
use super::probe::{Facts, Uplink};
use super::process::Process;
use super::seed::Seed;
use super::sys::{Cage, Identity, confine, number};
use crate::Machine;

/// Open files for QEMU.
const QEMU_FILES_MAX: u64 = 1_024;

/// Everything that a start needs.
pub struct Launch {
    /// The name that the process bears.
    pub name: String,
    /// Its directory.
    pub home: Home,
    /// Its sockets.
    pub sockets: Sockets,
    /// Who QEMU runs as.
    pub identity: Option<Identity>,
    /// Who passt runs as.
    pub network_identity: Option<Identity>,
    /// The machine.
    pub machine: Machine,
    /// What was decided about it.
    pub record: Record,
    /// The number of the boot.
    pub boot: i64,
    /// The command line of the kernel beside the disk, for a machine that is booted with one.
    pub command_line: Option<String>,
    /// What the host can do.
    pub facts: Arc<Facts>,
}

impl Launch {
    /// Makes seed, sockets and record, and starts passt and QEMU, which then waits to be told to run.
    pub fn go(self) -> io::Result<(Process, Vec<Child>)> {
        let seat = self.facts.has_private_network.then_some(self.record.seat);
        self.write_seed(seat)?;
        let mut keep: Vec<OwnedFd> = Vec::new();
        let mut listen = |socket| -> io::Result<i32> {
            let fd: OwnedFd = self.sockets.listen(socket)?.into();
            let number = number(&fd);
            keep.push(fd);
            Ok(number)
        };
        let (monitors, serial) = ([listen(Socket::Control)?, listen(Socket::Second)?], listen(Socket::Serial)?);
        let private = match seat {
            Some(seat) => Some((listen(Socket::Private)?, network::mac_text(network::private_mac(seat)))),
            None => None,
        };
        let log = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(self.home.file("qemu.log"))?;
        log.set_len(0)?;
        let mut helpers = Vec::new();
        let uplink = match &self.facts.uplink {
            Uplink::Restricted => command::Uplink::Restricted { port: self.record.port },
            Uplink::Passt(program) => {
                let (child, fd) =
                    network::start_passt(program, self.record.port, self.network_identity.clone(), log.try_clone()?)?;
                helpers.push(child);
                let number = number(&fd);
                keep.push(fd);
                command::Uplink::Passt { fd: number }
            }
        };
        let plan = Plan {
            name: &self.name,
            uuid: &self.machine.id.raw().to_uuid(),
            engine: self.facts.engine,
            vcpus: self.machine.vcpus,
            memory_mib: self.machine.memory_mib,
            kernel: self.command_line.as_deref(),
            uplink,
            mac: &network::outside_mac(self.record.slot),
            private: private.as_ref().map(|(fd, mac)| (*fd, mac.as_str())),
            monitors,
            serial,
        };
        let mut command = Command::new(&self.facts.qemu);
        command.args(plan.arguments()).env_clear();
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let group = match &self.facts.cgroups {
            Some(cgroups) => Some(cgroups.make(self.machine.id, self.machine.memory_mib, self.machine.vcpus)?),
            None => None,
        };
        let cage = Cage {
            identity: self.identity.clone(),
            directory: Some(File::open(self.home.path())?.into()),
            keep,
            record: Some(self.home.begin_boot(self.boot)?),
            group,
            file_bytes_max: Some(disk::file_bytes_max(&self.machine)),
            files_max: QEMU_FILES_MAX,
            ..Cage::default()
        };
        self.home.forget_end(self.boot)?;
        confine(&mut command, cage);
        let spawned = command.spawn();
        let qemu = match spawned {
            Ok(qemu) => qemu,
            Err(e) => {
                for mut helper in helpers {
                    let _ = helper.kill();
                    let _ = helper.wait();
                }
                return Err(e);
            }
        };
        let started = self.home.started()?.and_then(|started| started.process);
        let process = started.ok_or_else(|| io::Error::other("QEMU is not on record although it was started"))?;
        let mut children = vec![qemu];
        children.extend(helpers);
        Ok((process, children))
    }

    fn write_seed(&self, seat: Option<u32>) -> io::Result<()> {
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the host key in state.json is damaged");
        let leads_out = self.facts.uplink != Uplink::Restricted;
        let seed = Seed {
            instance_id: self.machine.id.to_string(),
            hostname: &self.machine.hostname,
            ssh_keys: &self.machine.ssh_keys,
            user_data: self.machine.user_data.as_deref(),
            host_key: &self.record.host_key().ok_or_else(damaged)?,
            interfaces: &network::interfaces(self.record.slot, seat, leads_out),
        };
        self.home.write_readable("seed.iso", &seed.to_iso(), self.identity.as_ref().map(|i| i.id))
    }
}
