//! What this host can do, found by trying: for the driver's own choices, for `host()` and for `doctor`.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use nephos_model::Clock;
use nephos_model::region::Capacity;

use super::cgroup::Cgroups;
use super::command::Engine;
use super::images::{said, tool_identity};
use super::kvm;
use super::network::start_passt;
use super::options::{Accelerator, Network, Options};
use super::process::{Exit, Process};
use super::run::{Output, RunError, run};
use super::sys::Cage;
use crate::{Availability, Host};

/// Milliseconds for a program to say its version.
const VERSION_DEADLINE_MS: u64 = 5_000;
/// Milliseconds that passt must stay up to be taken for working.
const PASST_WATCH_MS: u64 = 250;
/// The first QEMU that can do what is asked of it here.
const QEMU_VERSION_MIN: (u32, u32) = (6, 0);
/// The first QEMU whose cards speak to a socket that it listens on, which private networks need.
const QEMU_VERSION_STREAM: (u32, u32) = (7, 2);
/// Free disk space below which computes can be expected to fail soon, in GiB.
const DISK_FREE_GIB_MIN: u64 = 2;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// How good something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// It works, with a drawback that the sentence tells.
    Degraded,
    /// It does not work.
    Missing,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What: `accelerator`, `qemu`, `qemu-img`, `network`, `private network`, `user`, `limits`, `disk`, `memory`, `sockets`.
    pub name: &'static str,
    /// How good it is.
    pub verdict: Verdict,
    /// What was found, in plain words.
    pub sentence: String,
    /// What the operator can do about it.
    pub mend: Option<String>,
}

/// How guests reach the outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uplink {
    /// By passt, at this path.
    Passt(PathBuf),
    /// Not at all; only their SSH servers are reached.
    Restricted,
}

/// What the driver needs to know of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// QEMU's path.
    pub qemu: PathBuf,
    /// What runs guests.
    pub engine: Engine,
    /// The group that may open `/dev/kvm`, when that is what it takes.
    pub kvm_group: Option<u32>,
    /// The way outside.
    pub uplink: Uplink,
    /// Where machines' limits are set, when they can be.
    pub cgroups: Option<Cgroups>,
    /// Whether computes get a card in their environment's private network.
    pub has_private_network: bool,
    /// What the host has in all.
    pub capacity: Capacity,
    /// All that was looked at.
    pub findings: Vec<Finding>,
}

impl Facts {
    /// Why no compute can run, for tenants, with what the operator can do.
    pub fn blocker(&self) -> Option<String> {
        let finding = self.findings.iter().find(|f| f.verdict == Verdict::Missing)?;
        Some(match &finding.mend {
            Some(mend) => format!("{} ({mend})", finding.sentence),
            None => finding.sentence.clone(),
        })
    }
}

/// What can be said of the host at once: whether the programs are there, and its size.
pub fn glance(options: &Options) -> Host {
    let mut findings = Vec::new();
    let missing = [&options.qemu_binary, &options.qemu_img].into_iter().find(|program| find(program).is_none());
    let availability = missing.map_or(Availability::Available, |program| {
        Availability::Unavailable(format!(
            "{} is not installed (install it: apt-get install qemu-system-x86 qemu-utils)",
            program.display()
        ))
    });
    Host { availability, capacity: capacity(options, &mut findings) }
}

fn capacity(options: &Options, findings: &mut Vec<Finding>) -> Capacity {
    Capacity {
        vcpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
        memory_mib: memory(findings),
        disk_gib: disk(options, findings),
    }
}

/// Looks at everything.
pub async fn report(options: &Options, clock: Arc<dyn Clock>) -> Vec<Finding> {
    look(options, clock).await.findings
}

/// Looks at everything, within seconds.
pub async fn look(options: &Options, clock: Arc<dyn Clock>) -> Facts {
    let mut findings = Vec::new();
    let version = qemu(options, &*clock, &mut findings).await;
    disk_tool(options, &*clock, &mut findings).await;
    let (engine, kvm_group) = accelerator(options, Arc::clone(&clock), &mut findings).await;
    let uplink = uplink(options, &*clock, &mut findings).await;
    let has_private_network = private_network(version, &mut findings);
    user(options, &*clock, &mut findings).await;
    let cgroups = limits(options, &mut findings);
    sockets(options, &mut findings);
    let capacity = capacity(options, &mut findings);
    let qemu = find(&options.qemu_binary).unwrap_or_else(|| options.qemu_binary.clone());
    Facts { qemu, engine, kvm_group, uplink, cgroups, has_private_network, capacity, findings }
}

fn found(name: &'static str, verdict: Verdict, sentence: impl Into<String>, mend: Option<&str>) -> Finding {
    Finding { name, verdict, sentence: sentence.into(), mend: mend.map(str::to_owned) }
}

async fn qemu(options: &Options, clock: &dyn Clock, findings: &mut Vec<Finding>) -> Option<(u32, u32)> {
    const MEND: &str = "install it: apt-get install qemu-system-x86";
    let name = options.qemu_binary.display();
    let (finding, version) = match version(&options.qemu_binary, options, clock).await {
        Err(why) => (found("qemu", Verdict::Missing, format!("QEMU does not run: {name}: {why}"), Some(MEND)), None),
        Ok(text) => match parse_version(&text) {
            None => {
                (found("qemu", Verdict::Missing, format!("{name} does not say a version of QEMU"), Some(MEND)), None)
            }
            Some(version) if version < QEMU_VERSION_MIN => {
                let sentence = format!("QEMU {}.{} is too old: 6.0 is the least", version.0, version.1);
                (found("qemu", Verdict::Missing, sentence, Some("install a newer one")), None)
            }
            Some(version) => {
                (found("qemu", Verdict::Good, format!("QEMU {}.{}", version.0, version.1), None), Some(version))
            }
        },
    };
    findings.push(finding);
    version
}

async fn disk_tool(options: &Options, clock: &dyn Clock, findings: &mut Vec<Finding>) {
    findings.push(match version(&options.qemu_img, options, clock).await {
        Ok(text) => match parse_version(&text) {
            Some((major, minor)) => found("qemu-img", Verdict::Good, format!("qemu-img {major}.{minor}"), None),
            None => found(
                "qemu-img",
                Verdict::Missing,
                "qemu-img does not say a version",
                Some("apt-get install qemu-utils"),
            ),
        },
        Err(why) => found(
            "qemu-img",
            Verdict::Missing,
            format!("the disk tool does not run: {}: {why}", options.qemu_img.display()),
            Some("install it: apt-get install qemu-utils"),
        ),
    });
}

async fn accelerator(options: &Options, clock: Arc<dyn Clock>, findings: &mut Vec<Finding>) -> (Engine, Option<u32>) {
    if options.accelerator == Accelerator::Tcg {
        findings.push(found("accelerator", Verdict::Good, "emulation, as the configuration says", None));
        return (Engine::Tcg, None);
    }
    let verdict = kvm::probe(clock).await;
    let forced = options.accelerator == Accelerator::Kvm;
    let emulated = "guests are emulated";
    let (engine, finding) = match verdict {
        kvm::Verdict::Fast(mips) => {
            let sentence = format!("KVM: {mips} million guest instructions a second");
            (Engine::Kvm, found("accelerator", Verdict::Good, sentence, None))
        }
        kvm::Verdict::Slow(mips) if forced => {
            let sentence =
                format!("KVM, as the configuration says, but it runs {mips} million instructions a second only");
            (Engine::Kvm, found("accelerator", Verdict::Degraded, sentence, Some("set the accelerator to auto")))
        }
        kvm::Verdict::Slow(mips) => {
            let sentence = format!(
                "/dev/kvm is there but runs {mips} million instructions a second only (worth it from {}); {emulated}",
                kvm::MIPS_MIN
            );
            let mend = "use a host with hardware virtualization; it works without, some ten times slower";
            (Engine::Tcg, found("accelerator", Verdict::Degraded, sentence, Some(mend)))
        }
        kvm::Verdict::Unusable(why) if forced => {
            let sentence = format!("the configuration says KVM, which does not work: {why}");
            (Engine::Kvm, found("accelerator", Verdict::Missing, sentence, Some("set the accelerator to auto")))
        }
        kvm::Verdict::Unusable(why) => {
            let mend = "load the module kvm_intel or kvm_amd and let the server open /dev/kvm; it works without, some ten times slower";
            (Engine::Tcg, found("accelerator", Verdict::Degraded, format!("no KVM ({why}); {emulated}"), Some(mend)))
        }
    };
    findings.push(finding);
    let group = fs::metadata("/dev/kvm").ok().filter(|m| m.mode() & 0o066 == 0o060).map(|m| m.gid());
    (engine, group.filter(|_| engine == Engine::Kvm))
}

async fn uplink(options: &Options, clock: &dyn Clock, findings: &mut Vec<Finding>) -> Uplink {
    const MEND: &str = "install passt so that guests reach the network: apt-get install passt";
    if options.network == Network::Restricted {
        let sentence = "guests are reached by SSH and reach nothing themselves, as the configuration says";
        findings.push(found("network", Verdict::Good, sentence, None));
        return Uplink::Restricted;
    }
    let (path, why) = match find(&options.passt) {
        None => (None, "passt is not installed".to_owned()),
        Some(path) => match try_passt(&path, options, clock).await {
            Ok(()) => (Some(path), String::new()),
            Err(why) => (None, format!("passt does not work here: {why}")),
        },
    };
    if let Some(path) = path {
        let sentence = "passt: guests reach the network, and no loopback of the host";
        findings.push(found("network", Verdict::Good, sentence, None));
        return Uplink::Passt(path);
    }
    let (verdict, sentence) = if options.network == Network::Passt {
        (Verdict::Missing, format!("the configuration says passt, but {why}"))
    } else {
        (Verdict::Degraded, format!("{why}; guests are reached by SSH and reach nothing themselves"))
    };
    findings.push(found("network", verdict, sentence, Some(MEND)));
    Uplink::Restricted
}

/// Starts passt as for a guest and sees whether it stays up.
async fn try_passt(path: &Path, options: &Options, clock: &dyn Clock) -> Result<(), String> {
    let (mut said_here, log) = io::pipe().map_err(|e| e.to_string())?;
    let log = File::from(std::os::fd::OwnedFd::from(log));
    // A port of 0 can't be forwarded; one that is free now is as good as a guest's.
    let port =
        options.port_range.clone().find(|port| super::network::is_free(*port)).unwrap_or(*options.port_range.start());
    let (mut child, ours) = start_passt(path, port, tool_identity(options.uid_base), log).map_err(|e| e.to_string())?;
    let process = Process::of(child.id().cast_signed());
    let exit = process.and_then(|process| Exit::new(process.open().ok()?).ok());
    let exited = async {
        // None: it has ended already.
        if let Some(exit) = exit {
            exit.wait().await;
        }
    };
    let stayed = tokio::select! {
        () = exited => false,
        () = clock.sleep(Duration::from_millis(PASST_WATCH_MS)) => true,
    };
    drop(ours);
    let _ = child.kill();
    let _ = child.wait();
    if stayed {
        return Ok(());
    }
    let mut text = Vec::new();
    let _ = io::Read::read_to_end(&mut io::Read::take(&mut said_here, 4_096), &mut text);
    let text = String::from_utf8_lossy(&text).into_owned();
    Err(match text.lines().rev().find(|line| !line.trim().is_empty()) {
        Some(line) => said(line),
        None => "it ends at once".to_owned(),
    })
}

fn private_network(version: Option<(u32, u32)>, findings: &mut Vec<Finding>) -> bool {
    let Some(version) = version else { return false };
    let has = version >= QEMU_VERSION_STREAM;
    findings.push(if has {
        found("private network", Verdict::Good, "computes of one environment reach each other, and no other's", None)
    } else {
        let sentence = format!("QEMU {}.{} can't join computes of one environment; 7.2 can", version.0, version.1);
        found("private network", Verdict::Degraded, sentence, Some("install QEMU 7.2 or newer"))
    });
    has
}

async fn user(options: &Options, clock: &dyn Clock, findings: &mut Vec<Finding>) {
    let Some(identity) = tool_identity(options.uid_base) else {
        let sentence = "the server is not root: all computes run as its own user";
        findings.push(found("user", Verdict::Good, sentence, None));
        return;
    };
    let cage = Cage { identity: Some(identity), directory: File::open("/").ok().map(Into::into), ..Cage::default() };
    findings.push(match run(Command::new("true"), cage, VERSION_DEADLINE_MS, clock).await {
        Ok(output) if output.success => {
            let sentence = format!("each compute runs as a user of its own, from {} on", options.uid_base);
            found("user", Verdict::Good, sentence, None)
        }
        other => {
            let why = other.err().map_or_else(|| "a test program failed".to_owned(), |e| why(&e));
            let sentence = format!("no program can be run as user {}: {why}", options.uid_base);
            let mend =
                "choose a first user id that exists in this container, or run the server as a user that is not root";
            found("user", Verdict::Missing, sentence, Some(mend))
        }
    });
}

fn limits(options: &Options, findings: &mut Vec<Finding>) -> Option<Cgroups> {
    let cgroups = if rustix::process::geteuid().is_root() {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        Cgroups::open(&mounts, &options.mark())
    } else {
        Err("the server is not root".to_owned())
    };
    findings.push(match &cgroups {
        Ok(_) => found("limits", Verdict::Good, "a control group bounds each compute's memory and threads", None),
        Err(why) => {
            let sentence = format!("no control group bounds what QEMU takes beyond the guest's own memory: {why}");
            let mend = "run the server as root on a host with control groups of version 2; it works without";
            found("limits", Verdict::Degraded, sentence, Some(mend))
        }
    });
    cgroups.ok()
}

fn sockets(options: &Options, findings: &mut Vec<Finding>) {
    if let Some(fault) = options.fault() {
        findings.push(found("sockets", Verdict::Missing, fault, None));
    }
}

fn memory(findings: &mut Vec<Finding>) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
    };
    let (total, free) = (kib("MemTotal:") / 1_024, kib("MemAvailable:") / 1_024);
    findings.push(found("memory", Verdict::Good, format!("{total} MiB, of which {free} MiB are free"), None));
    total
}

/// GiB that disks of computes can take: what is free, and what they took already.
fn disk(options: &Options, findings: &mut Vec<Finding>) -> u64 {
    let existing = options.data_dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let free = match rustix::fs::statvfs(existing) {
        Ok(stat) => stat.f_bavail.saturating_mul(stat.f_frsize),
        Err(e) => {
            let sentence = format!("the free space of {} can't be told: {e}", existing.display());
            findings.push(found("disk", Verdict::Degraded, sentence, None));
            return 0;
        }
    };
    let sentence = format!("{} GiB free in {}", free / GIB, existing.display());
    findings.push(if free / GIB >= DISK_FREE_GIB_MIN {
        found("disk", Verdict::Good, sentence, None)
    } else {
        found("disk", Verdict::Degraded, sentence, Some("make room, or choose another data directory"))
    });
    (free + taken(&options.computes_dir())) / GIB
}

/// Bytes that the disks of computes take.
fn taken(computes: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(computes) else { return 0 };
    let disks = entries.filter_map(|entry| fs::metadata(entry.ok()?.path().join("disk.qcow2")).ok());
    disks.map(|disk| disk.blocks() * 512).sum()
}

async fn version(program: &Path, options: &Options, clock: &dyn Clock) -> Result<String, String> {
    let path = find(program).ok_or("it is not installed")?;
    let cage = Cage {
        identity: tool_identity(options.uid_base),
        directory: File::open("/").ok().map(Into::into),
        file_bytes_max: Some(MIB),
        ..Cage::default()
    };
    let mut command = Command::new(path);
    command.arg("--version");
    match run(command, cage, VERSION_DEADLINE_MS, clock).await {
        Ok(Output { success: true, stdout, .. }) => Ok(stdout),
        Ok(output) => Err(said(&output.stderr)),
        Err(e) => Err(why(&e)),
    }
}

fn why(e: &RunError) -> String {
    match std::error::Error::source(e) {
        Some(source) => source.to_string(),
        None => e.to_string(),
    }
}

/// The first `version N.N` of a program's words.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split("version ").nth(1)?.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The path of a program: as given when it has a slash, else the first in `PATH`.
pub fn find(program: &Path) -> Option<PathBuf> {
    let runs = |path: &Path| fs::metadata(path).is_ok_and(|m| m.is_file() && m.mode() & 0o111 != 0);
    if program.components().count() > 1 {
        return runs(program).then(|| program.to_owned());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|path| runs(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(parse_version("QEMU emulator version 7.2.22 (Debian 1:7.2)"), Some((7, 2)));
        assert_eq!(parse_version("qemu-img version 10.0"), Some((10, 0)));
        assert_eq!(parse_version("version x"), None);
        assert_eq!(parse_version(""), None);
    }

    #[test]
    fn programs_are_found_by_path_or_name() {
        assert!(find(Path::new("sh")).is_some());
        assert_eq!(find(Path::new("no-such-program-here")), None);
        assert_eq!(find(Path::new("/etc/passwd")), None);
    }
}
