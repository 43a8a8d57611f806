//! QEMU's command line: a pure function of what the machine is. All paths are names in the compute's own directory, which is
//! QEMU's working directory; all sockets are descriptors it inherits.

use std::os::fd::RawFd;

use serde_json::json;

/// Megabytes of translated code that emulation keeps: more is memory without speed for guests of this kind.
const TCG_CACHE_MIB: u32 = 128;

/// What runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// Hardware.
    Kvm,
    /// Emulation.
    Tcg,
}

/// How the guest reaches the outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uplink {
    /// QEMU's built-in network: this port of 127.0.0.1 leads to the guest's SSH server, nothing leads out.
    Restricted {
        /// The port.
        port: u16,
    },
    /// A connected socket to passt.
    Passt {
        /// The socket.
        fd: RawFd,
    },
}

/// Everything the command line depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan<'a> {
    /// The name by which the process is found again.
    pub name: &'a str,
    /// The machine's UUID.
    pub uuid: &'a str,
    /// What runs the guest's instructions.
    pub engine: Engine,
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// The kernel's command line, when `kernel` and `initrd` are loaded instead of the disk's boot loader.
    pub kernel: Option<&'a str>,
    /// The way outside.
    pub uplink: Uplink,
    /// The hardware address on the outside.
    pub mac: &'a str,
    /// The private network: a listening socket and a hardware address.
    pub private: Option<(RawFd, &'a str)>,
    /// Listening sockets of the two monitors.
    pub monitors: [RawFd; 2],
    /// Listening socket of the serial console.
    pub serial: RawFd,
}

impl Plan<'_> {
    /// The processor that emulation shows. One that has everything boots a given kernel 15 % slower (1.64 against 1.41
    /// seconds of processor time); a system that brings its own kernel may need it: some are built for x86-64-v3.
    const fn emulated_model(&self) -> &'static str {
        if self.kernel.is_some() { "Westmere" } else { "max" }
    }

    /// The arguments, without the program's name.
    pub fn arguments(&self) -> Vec<String> {
        let mut line = Line(Vec::new());
        line.flag("-nodefaults").flag("-no-user-config");
        line.option("-name", self.name).option("-uuid", self.uuid);
        line.option("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
        line.option("-display", "none");
        // Held before its first instruction until the console is read and the monitor answers; kept after its last, so
        // that a guest that shut itself down is told from one that died.
        line.flag("-S").flag("-no-shutdown");
        line.option("-machine", "q35,graphics=off,vmport=off,smm=off,sata=off,smbus=off");
        match self.engine {
            Engine::Kvm => line.option("-accel", "kvm").option("-cpu", "host"),
            Engine::Tcg => line
                .option("-accel", &format!("tcg,thread=multi,tb-size={TCG_CACHE_MIB}"))
                .option("-cpu", self.emulated_model()),
        };
        line.option("-smp", &self.vcpus.to_string()).option("-m", &format!("{}M", self.memory_mib));
        line.option("-rtc", "base=utc");
        if let Some(command_line) = self.kernel {
            line.option("-kernel", "kernel").option("-initrd", "initrd").option("-append", command_line);
        }
        for (id, fd) in [("control", self.monitors[0]), ("second", self.monitors[1])] {
            line.option("-chardev", &format!("socket,id={id},fd={fd},server=on,wait=off"));
            line.option("-mon", &format!("chardev={id},mode=control"));
        }
        line.option("-chardev", &format!("socket,id=serial,fd={},server=on,wait=off", self.serial));
        line.option("-serial", "chardev:serial");
        let disk = json!({
            "driver": "qcow2", "node-name": "disk", "discard": "unmap",
            "file": {"driver": "file", "filename": "disk.qcow2"},
            "backing": {"driver": "qcow2", "read-only": true, "file": {"driver": "file", "filename": "base.qcow2"}},
        });
        let seed = json!({
            "driver": "raw", "node-name": "seed", "read-only": true,
            "file": {"driver": "file", "filename": "seed.iso"},
        });
        line.option("-blockdev", &disk.to_string()).option("-blockdev", &seed.to_string());
        // A kernel that is loaded takes the first place for itself.
        let first = if self.kernel.is_none() { ",bootindex=0" } else { "" };
        line.option("-device", &format!("virtio-blk-pci,drive=disk{first}"));
        line.option("-device", "virtio-blk-pci,drive=seed");
        match self.uplink {
            Uplink::Restricted { port } => line.option(
                "-netdev",
                &format!("user,id=outside,ipv6=off,restrict=on,hostfwd=tcp:127.0.0.1:{port}-10.0.2.15:22"),
            ),
            Uplink::Passt { fd } => line.option("-netdev", &format!("socket,id=outside,fd={fd}")),
        };
        line.option("-device", &format!("virtio-net-pci,netdev=outside,mac={},romfile=", self.mac));
        if let Some((fd, mac)) = self.private {
            line.option("-netdev", &format!("stream,id=private,server=on,addr.type=fd,addr.str={fd}"));
            line.option("-device", &format!("virtio-net-pci,netdev=private,mac={mac},romfile="));
        }
        line.option("-device", "virtio-rng-pci");
        line.0
    }
}

struct Line(Vec<String>);

impl Line {
    fn flag(&mut self, flag: &str) -> &mut Self {
        self.0.push(flag.to_owned());
        self
    }

    fn option(&mut self, name: &str, value: &str) -> &mut Self {
        self.0.extend([name.to_owned(), value.to_owned()]);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan<'static> {
        Plan {
            name: "nephos-0badcafe-cmp_01h2xcejqtf2nbrexx3vqjhp41",
            uuid: "0188bac7-4afa-78aa-bc3b-bd1eef28d881",
            engine: Engine::Tcg,
            vcpus: 2,
            memory_mib: 128,
            kernel: Some("console=ttyS0, quiet"),
            uplink: Uplink::Restricted { port: 22_001 },
            mac: "52:54:00:00:00:01",
            private: Some((14, "52:54:01:00:00:01")),
            monitors: [11, 12],
            serial: 13,
        }
    }

    #[test]
    fn the_whole_line() {
        let lines = plan().arguments().join("\n");
        insta::assert_snapshot!(lines);
    }

    #[test]
    fn hardware_disk_boot_and_passt() {
        let plan = Plan { engine: Engine::Kvm, kernel: None, uplink: Uplink::Passt { fd: 9 }, private: None, ..plan() };
        let arguments = plan.arguments();
        let has = |name: &str, value: &str| arguments.windows(2).any(|w| w[0] == name && w[1] == value);
        assert!(has("-accel", "kvm") && has("-cpu", "host") && has("-netdev", "socket,id=outside,fd=9"));
        assert!(!arguments.iter().any(|a| a == "-kernel" || a.contains("id=private") || a.contains("hostfwd")));
    }
}
