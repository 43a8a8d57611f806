//! The QEMU driver with a real QEMU and the small image: the life of a machine, its restarts and its accidents.
//!
//! The image is taken from `NEPHOS_TEST_IMAGE_DIR`, or made by `scripts/image` into the target folder, once.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a real machine needs the real time; helpers may panic

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nephos_driver::conformance::{self, Fixture};
use nephos_driver::qemu::images::ImageError;
use nephos_driver::qemu::{Format, HeaderError, Network, Options, Qemu, Verdict};
use nephos_driver::terminal::{Shown, Terminal};
use nephos_driver::{Availability, Driver, DriverError, Goal, Halt, Machine, Seen, Stop};
use nephos_model::clock::Sleep;
use nephos_model::compute::Address;
use nephos_model::id::{ComputeId, EnvironmentId, Id, ImageId, Raw};
use nephos_model::image::{Boot, Image};
use nephos_model::telemetry::{Counters, Reading};
use nephos_model::{Clock, Entropy, Timestamp};

/// Seconds for a guest on a busy machine to reach a state.
const PATIENCE_SECS: u64 = 60;

struct Wall(Instant);

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        let micros = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
        Timestamp::from_micros(i64::try_from(micros).unwrap())
    }
    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
    fn sleep_until(&self, at: Timestamp) -> Sleep {
        self.sleep(at.since(self.now()))
    }
    fn sleep(&self, duration: Duration) -> Sleep {
        Box::pin(tokio::time::sleep(duration))
    }
}

struct Random;

impl Entropy for Random {
    fn fill(&self, bytes: &mut [u8]) {
        use std::io::Read;
        std::fs::File::open("/dev/urandom").unwrap().read_exact(bytes).unwrap();
    }
}

/// A data directory, a driver on it, the image in its store, and a client's key.
struct World {
    dir: tempfile::TempDir,
    clock: Arc<Wall>,
    options: Options,
    driver: Qemu,
    image: Image,
    key: String,
    environment: EnvironmentId,
}

impl World {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Options)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(Wall(Instant::now()));
        let mut options = Options::new(dir.path().join("data"));
        std::fs::create_dir(&options.data_dir).unwrap();
        std::fs::set_permissions(&options.data_dir, PermissionsExt::from_mode(0o700)).unwrap();
        options.runtime_dir = dir.path().join("run");
        change(&mut options);
        let driver = Qemu::open(options.clone(), clock.clone(), Arc::new(Random)).unwrap();
        let image = small_image(&driver, &clock).await;
        let done = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(dir.path().join("key"))
            .status()
            .unwrap();
        assert!(done.success());
        let key = std::fs::read_to_string(dir.path().join("key.pub")).unwrap().trim().to_owned();
        Self { dir, clock, options, driver, image, key, environment: environment() }
    }

    /// The server is killed and started again.
    fn restart(&mut self) {
        // The last handle goes, and with it every task and connection of the driver until now.
        self.driver = Qemu::open(self.options.clone(), self.clock.clone(), Arc::new(Random)).unwrap();
    }

    fn machine(&self, hostname: &str, environment_id: EnvironmentId) -> Machine {
        Machine {
            id: ComputeId::from_raw(Raw::from_bytes(Random.u128().to_be_bytes())),
            environment_id,
            hostname: hostname.to_owned(),
            vcpus: 1,
            memory_mib: 128,
            disk_gib: 1,
            image: self.image.clone(),
            ssh_keys: vec![self.key.clone()],
            user_data: None,
            labels: vec![],
            notes: None,
            has_run: false,
            now: self.clock.now(),
        }
    }

    /// Converges until `done`, looking again when the driver says so or something changed.
    async fn reach(&self, machine: &Machine, goal: Goal, done: impl Fn(&Seen) -> bool) -> Seen {
        let deadline = Instant::now() + Duration::from_secs(PATIENCE_SECS);
        loop {
            let seen = self.driver.converge(machine, goal).await.unwrap().seen;
            if done(&seen) {
                return seen;
            }
            let died = matches!(&seen, Seen::Stopped { why: Halt::Died(_) });
            assert!(!died && Instant::now() < deadline, "still {seen:?}");
            let again = match seen {
                Seen::Busy { again_at, .. } => again_at,
                _ => self.clock.now().plus(Duration::from_secs(1)),
            };
            tokio::select! {
                _ = self.driver.changed() => {}
                () = self.clock.sleep_until(again) => {}
            }
        }
    }

    async fn run(&self, machine: &Machine, boot: i64) -> (Address, String) {
        let seen = self.reach(machine, Goal::Running { boot }, |seen| matches!(seen, Seen::Running { .. })).await;
        let Seen::Running { boot: now, address, ssh_host_key } = seen else { unreachable!() };
        assert_eq!(now, boot);
        (address, ssh_host_key.unwrap())
    }

    async fn stopped(&self, machine: &Machine, how: Stop) -> Halt {
        let seen = self.reach(machine, Goal::Stopped { how }, |seen| matches!(seen, Seen::Stopped { .. })).await;
        let Seen::Stopped { why } = seen else { unreachable!() };
        why
    }

    /// Observes until the machine is stopped by itself.
    async fn ends(&self, machine: &Machine) -> Halt {
        let deadline = Instant::now() + Duration::from_secs(PATIENCE_SECS);
        loop {
            let seen = self.driver.observe(machine).await.unwrap().seen;
            if let Seen::Stopped { why } = seen {
                return why;
            }
            let console = self.driver.console(machine, 2_000).await.unwrap();
            assert!(Instant::now() < deadline, "still {seen:?}: {}", String::from_utf8_lossy(&console));
            tokio::select! {
                _ = self.driver.changed() => {}
                () = self.clock.sleep(Duration::from_secs(1)) => {}
            }
        }
    }

    async fn wait_console(&self, machine: &Machine, line: &str) {
        let deadline = Instant::now() + Duration::from_secs(PATIENCE_SECS);
        loop {
            let console = self.driver.console(machine, 64 * 1024).await.unwrap();
            let console = String::from_utf8_lossy(&console);
            if console.contains(line) {
                return;
            }
            assert!(Instant::now() < deadline, "no {line:?} in {console:?}");
            self.clock.sleep(Duration::from_millis(5)).await;
        }
    }

    /// Runs a command in the guest, with its host key pinned.
    async fn ssh(&self, address: &Address, host_key: &str, command: &str) -> Output {
        let known = self.dir.path().join("known");
        std::fs::write(&known, format!("[{}]:{} {host_key}\n", address.ssh_host, address.ssh_port)).unwrap();
        let mut ssh = tokio::process::Command::new("ssh");
        ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=30"])
            .args(["-o", "ConnectionAttempts=3", "-o", "IdentitiesOnly=yes"])
            .arg("-o")
            .arg(format!("UserKnownHostsFile={}", known.display()))
            .arg("-i")
            .arg(self.dir.path().join("key"))
            .args(["-p", &address.ssh_port.to_string(), &format!("root@{}", address.ssh_host), command]);
        let output = tokio::time::timeout(Duration::from_secs(PATIENCE_SECS), ssh.output()).await.unwrap();
        output.unwrap()
    }

    /// What a command in the guest says, once its SSH server answers: the forward accepts before the guest listens.
    async fn says(&self, address: &Address, host_key: &str, command: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(PATIENCE_SECS);
        loop {
            let output = self.ssh(address, host_key, command).await;
            if output.status.success() {
                return String::from_utf8(output.stdout).unwrap().trim().to_owned();
            }
            let no_server =
                output.status.code() == Some(255) && !String::from_utf8_lossy(&output.stderr).contains("key");
            assert!(
                no_server || String::from_utf8_lossy(&output.stderr).contains("kex_exchange"),
                "{command}: {output:?}"
            );
            assert!(Instant::now() < deadline, "{command}: {output:?}");
            self.clock.sleep(Duration::from_millis(100)).await;
        }
    }

    /// The process ids of all QEMUs and passts of this installation.
    fn processes(&self) -> Vec<u32> {
        let mark = format!("nephos-{}-", self.options.mark());
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&line).split('\0').any(|argument| argument.starts_with(&mark)) {
                found.push(pid);
            }
        }
        found
    }

    fn assert_nothing_left(&self) {
        assert_eq!(self.processes(), Vec::<u32>::new());
        let left = |dir: &Path| std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>();
        assert_eq!(left(&self.options.computes_dir()), Vec::<PathBuf>::new());
        assert_eq!(left(&self.options.runtime_dir), Vec::<PathBuf>::new());
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A failed test must not leave its machines behind.
        for pid in self.processes() {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        }
    }
}

fn image_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("NEPHOS_TEST_IMAGE_DIR") {
        return dir.into();
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("small-image");
    // Tests run in processes of their own: one makes the image, the others wait for it.
    let made = Command::new("flock")
        .arg(env!("CARGO_TARGET_TMPDIR"))
        .args(["sh", "-c", "test -e \"$1/small.toml\" || \"$0\" \"$1\" --yes"])
        .arg(root.join("scripts/image"))
        .arg(&dir)
        .status()
        .unwrap();
    assert!(made.success(), "scripts/image failed");
    dir
}

async fn small_image(driver: &Qemu, clock: &Wall) -> Image {
    let dir = image_dir();
    let manifest = std::fs::read_to_string(dir.join("small.toml")).unwrap();
    let command_line = manifest.lines().find_map(|l| l.strip_prefix("command_line = \"")?.strip_suffix('"')).unwrap();
    let images = driver.images();
    let facts = images.add_disk(&dir.join("small.qcow2"), Format::Qcow2, clock, &Random).await.unwrap();
    let kernel = images.add_boot_file(&dir.join("vmlinux"), &Random).await.unwrap();
    let initrd = images.add_boot_file(&dir.join("initrd"), &Random).await.unwrap();
    Image {
        id: ImageId::from_raw(Raw::from_bytes([1; 16])),
        name: "small".into(),
        description: String::new(),
        checksum: facts.checksum,
        size_bytes: facts.size_bytes,
        min_memory_mib: 96,
        min_disk_gib: facts.min_disk_gib,
        login_user: "root".into(),
        boot: Boot::Kernel { kernel, initrd, command_line: command_line.to_owned() },
        created_at: Timestamp::default(),
    }
}

#[async_trait::async_trait]
impl Fixture for World {
    async fn start(&mut self, before: Option<Arc<dyn Driver>>) -> Arc<dyn Driver> {
        drop(before);
        self.restart();
        Arc::new(self.driver.clone())
    }

    async fn machine(&mut self) -> Machine {
        World::machine(self, "web-1", self.environment)
    }

    async fn wait(&mut self, machine: &mut Machine, at: Timestamp) {
        self.clock.sleep_until(at).await;
        machine.now = self.clock.now();
    }

    fn keeps_traces(&self) -> bool {
        true
    }
}

macro_rules! conforms {
    ($($case:ident),* $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $case() {
            let mut world = World::new().await;
            conformance::$case(&mut world).await;
            world.assert_nothing_left();
        }
    )*};
}

conforms! {
    nothing_is_absent,
    a_disk_is_made_without_a_boot,
    an_absent_machine_is_made_and_runs,
    an_earlier_boot_is_not_touched,
    power_is_cut,
    a_cut_overtakes_a_shutdown,
    a_running_machine_is_discarded,
    a_half_made_machine_is_discarded,
    a_running_machine_outlives_its_server,
    a_crash_after_every_move_changes_nothing,
    a_wiped_machine_is_fresh,
    a_disk_grows_while_nothing_runs,
    the_console_is_bounded,
    terminals_see_and_type,
    machines_are_apart,
}

fn environment() -> EnvironmentId {
    EnvironmentId::from_raw(Raw::from_bytes(Random.u128().to_be_bytes()))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_a_machine() {
    let mut world = World::new().await;
    let machine = world.machine("web-1", world.environment);
    assert_eq!(world.driver.observe(&machine).await.unwrap().seen, Seen::Absent);

    let (address, host_key) = world.run(&machine, 1).await;
    assert_eq!(world.driver.machines().await.unwrap(), [machine.id]);
    world.wait_console(&machine, "nephos: ready").await;
    assert_eq!(world.says(&address, &host_key, "hostname").await, "web-1");
    // Another host key is not accepted.
    let other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
    assert!(!world.ssh(&address, other, "true").await.status.success());
    // The guest reaches no loopback of the host, by whatever address.
    let secret = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = secret.local_addr().unwrap().port();
    secret.set_nonblocking(true).unwrap();
    let probe = format!("for a in 10.0.2.2 10.0.2.3 10.0.2.15 10.0.2.1; do nc -w 2 $a {port} </dev/null; done; true");
    world.says(&address, &host_key, &probe).await;
    assert_eq!(secret.accept().map_err(|e| e.kind()).unwrap_err(), std::io::ErrorKind::WouldBlock);
    // QEMU is not root.
    for pid in world.processes() {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).unwrap().trim().to_owned();
        assert!(!field("Uid:").starts_with("0\t"), "{status}");
        assert_eq!(field("NoNewPrivs:"), "1");
        assert_eq!(field("CapEff:"), "0000000000000000");
        assert_eq!(field("Groups:"), "");
    }

    world.says(&address, &host_key, "echo kept > /root/file; sync").await;
    assert_eq!(world.stopped(&machine, Stop::Graceful).await, Halt::ShutDown);
    assert_eq!(world.processes(), Vec::<u32>::new());

    // The disk is kept over a stop, and the machine over the server's death.
    let (address, same_key) = world.run(&machine, 2).await;
    assert_eq!(same_key, host_key);
    let before = world.processes();
    world.restart();
    let Seen::Running { boot: 2, address: again, .. } = world.driver.observe(&machine).await.unwrap().seen else {
        panic!("not adopted")
    };
    assert_eq!((&again, world.processes()), (&address, before.clone()));
    world.wait_console(&machine, "nephos: ready").await;
    assert_eq!(world.says(&address, &host_key, "cat /root/file").await, "kept");

    // QEMU is killed: the driver tells, and says why.
    for pid in before {
        assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
    }
    assert!(matches!(world.ends(&machine).await, Halt::Died(_)));

    // And once more at the same address, ended by the guest itself.
    let (same_address, _) = world.run(&machine, 3).await;
    assert_eq!(same_address, address);
    // In the background, so that the connection ends before the guest does.
    world.says(&address, &host_key, "(sleep 1; poweroff) </dev/null >/dev/null 2>&1 &").await;
    assert_eq!(world.ends(&machine).await, Halt::ShutDown);

    world.driver.discard(machine.id).await.unwrap();
    world.driver.discard(machine.id).await.unwrap();
    assert_eq!(world.driver.machines().await.unwrap(), []);
    world.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_is_used_at_the_serial_console() {
    let mut world = World::new().await;
    let machine = world.machine("web-1", world.environment);
    world.run(&machine, 1).await;
    world.wait_console(&machine, "Press Enter").await;
    let mut terminal = world.driver.terminal(&machine, 4_000).await.unwrap();
    see(&mut terminal, "Press Enter").await;
    enter(&terminal, "").await;
    see(&mut terminal, "# ").await;
    enter(&terminal, "echo $((6 * 7)) on $(tty)").await;
    see(&mut terminal, "42 on /dev/ttyS0").await;
    // What is typed is in the log of the console too, as the guest echoed it.
    world.wait_console(&machine, "42 on /dev/ttyS0").await;

    // One who does not read loses output, and holds up nobody.
    enter(&terminal, "yes 0123456789 | head -n 20000; echo $((7 * 7)) lines").await;
    world.wait_console(&machine, "49 lines").await;
    let mut lost = 0;
    while lost == 0 {
        match terminal.screen.next().await {
            Shown::Lost { bytes } => lost = bytes,
            shown => assert!(matches!(shown, Shown::Bytes(_)), "{shown:?}"),
        }
    }
    see(&mut terminal, "49 lines").await;

    // The next server's terminals are the same guest's; those of the one that went ended with it.
    world.restart();
    while terminal.screen.next().await != Shown::Ended {}
    let mut terminal = world.driver.terminal(&machine, 0).await.unwrap();
    enter(&terminal, "echo $((8 * 8)) again").await;
    see(&mut terminal, "64 again").await;
    world.driver.discard(machine.id).await.unwrap();
    while terminal.screen.next().await != Shown::Ended {}
    world.assert_nothing_left();
}

async fn enter(terminal: &Terminal, line: &str) {
    terminal.keyboard.press(&mut format!("{line}\r").into_bytes()).await.unwrap();
}

/// Reads until a text comes.
async fn see(terminal: &mut Terminal, text: &str) {
    let mut seen = String::new();
    while !seen.contains(text) {
        let shown = tokio::time::timeout(Duration::from_secs(PATIENCE_SECS), terminal.screen.next()).await;
        match shown.unwrap_or_else(|_| panic!("no {text:?} in {seen:?}")) {
            Shown::Bytes(bytes) => seen.push_str(&String::from_utf8_lossy(&bytes)),
            Shown::Lost { .. } => {}
            Shown::Ended => panic!("it ended after {seen:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn private_networks_are_apart() {
    let world = World::new().await;
    let here = world.machine("here", world.environment);
    let there = world.machine("there", world.environment);
    let elsewhere = world.machine("elsewhere", environment());
    let (here_address, here_key) = world.run(&here, 1).await;
    let (there_address, there_key) = world.run(&there, 1).await;
    let (elsewhere_address, elsewhere_key) = world.run(&elsewhere, 1).await;
    let there_ip = there_address.private_ip.clone().unwrap();
    assert_ne!(here_address.private_ip, there_address.private_ip);

    world.says(&there_address, &there_key, "true").await;
    let ping = format!("ping -c 3 -w 10 {there_ip} >/dev/null && echo reached || echo lost");
    assert_eq!(world.says(&here_address, &here_key, &ping).await, "reached");
    assert_eq!(world.says(&elsewhere_address, &elsewhere_key, &ping).await, "lost");
    for machine in [here, there, elsewhere] {
        world.driver.discard(machine.id).await.unwrap();
    }
    world.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_passt_a_guest_is_reached_and_reaches_nothing() {
    let world = World::with(|options| options.network = Network::Restricted).await;
    let mut machine = world.machine("alone", world.environment);
    machine.user_data = Some("#!/bin/sh\necho \"made for $(hostname)\" > /root/greeting\n".to_owned());
    let (address, host_key) = world.run(&machine, 1).await;
    world.wait_console(&machine, "nephos: user-data ended with 0").await;
    assert_eq!(world.says(&address, &host_key, "cat /root/greeting").await, "made for alone");
    let secret = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    secret.set_nonblocking(true).unwrap();
    let port = secret.local_addr().unwrap().port();
    let probe = format!("for a in 10.0.2.2 10.0.2.3; do nc -w 2 $a {port} </dev/null && echo open; done; true");
    assert_eq!(world.says(&address, &host_key, &probe).await, "");
    assert_eq!(secret.accept().map_err(|e| e.kind()).unwrap_err(), std::io::ErrorKind::WouldBlock);
    world.driver.discard(machine.id).await.unwrap();
    world.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_does_not_hear_is_cut_off_after_the_deadline() {
    let mut world = World::with(|options| options.stop_deadline_ms = 1_500).await;
    let machine = world.machine("deaf", world.environment);
    world.run(&machine, 1).await;
    // It is in its firmware still. The server dies in between; the deadline stays where it was.
    let goal = Goal::Stopped { how: Stop::Graceful };
    let asked = world.clock.now();
    assert!(matches!(world.driver.converge(&machine, goal).await.unwrap().seen, Seen::Busy { .. }));
    world.restart();
    assert_eq!(world.stopped(&machine, Stop::Graceful).await, Halt::ShutDown);
    let took = world.clock.now().since(asked);
    assert!(took >= Duration::from_millis(1_500) && took < Duration::from_secs(10), "{took:?}");
    world.driver.discard(machine.id).await.unwrap();
    world.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_on_no_record_is_found_and_ended() {
    let mut world = World::new().await;
    let machine = world.machine("lost", world.environment);
    world.run(&machine, 1).await;
    let strays = world.processes();
    let record = world.options.computes_dir().join(machine.id.to_string()).join("process");
    std::fs::write(&record, "1\n").unwrap();
    world.restart();
    assert_eq!(world.driver.observe(&machine).await.unwrap().seen, Seen::Stopped { why: Halt::Fresh });
    world.run(&machine, 1).await;
    assert!(strays.iter().all(|pid| !world.processes().contains(pid)));

    // Not even a directory: the process table is enough.
    std::fs::remove_dir_all(record.parent().unwrap()).unwrap();
    world.restart();
    assert_eq!(world.driver.machines().await.unwrap(), [machine.id]);
    world.driver.discard(machine.id).await.unwrap();
    assert_eq!(world.driver.machines().await.unwrap(), []);
    world.assert_nothing_left();
}

#[tokio::test]
async fn a_host_without_qemu_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::new(dir.path());
    options.runtime_dir = dir.path().join("run");
    options.qemu_binary = "/no/such/qemu".into();
    let clock = Arc::new(Wall(Instant::now()));
    let driver = Qemu::open(options, clock, Arc::new(Random)).unwrap();
    let unavailable = |driver: &Qemu| match driver.host().availability {
        Availability::Unavailable(why) => why,
        Availability::Available => panic!("available without QEMU"),
    };
    assert!(unavailable(&driver).contains("apt-get install qemu-system-x86"));
    let findings = driver.findings().await;
    let qemu = findings.iter().find(|f| f.name == "qemu").unwrap();
    assert_eq!(qemu.verdict, Verdict::Missing);
    assert!(qemu.mend.as_ref().unwrap().contains("apt-get install"));
    assert!(unavailable(&driver).contains("apt-get install qemu-system-x86"));
    assert_eq!(driver.machines().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn images_that_could_hurt_are_refused() {
    let world = World::new().await;
    let images = world.driver.images();
    let (dir, clock) = (world.dir.path(), &*world.clock);
    let stored = || std::fs::read_dir(world.options.images_dir()).unwrap().count();
    let before = stored();
    let tool = |arguments: &[&str]| {
        assert!(Command::new("qemu-img").args(arguments).current_dir(dir).output().unwrap().status.success());
    };
    tool(&["create", "-f", "qcow2", "good.qcow2", "16M"]);
    tool(&["create", "-f", "qcow2", "-F", "qcow2", "-b", "good.qcow2", "backed.qcow2"]);
    tool(&["create", "-f", "qcow2", "-o", "data_file=elsewhere", "outside.qcow2", "16M"]);
    tool(&["create", "-f", "qcow2", "huge.qcow2", "3T"]);
    std::fs::write(dir.join("plain"), vec![b'x'; 1 << 20]).unwrap();
    let mut cut = std::fs::read(dir.join("good.qcow2")).unwrap();
    cut.truncate(112);
    std::fs::write(dir.join("cut.qcow2"), cut).unwrap();

    let add = |name: &str, format| {
        let path = dir.join(name);
        async move { images.add_disk(&path, format, clock, &Random).await }
    };
    assert!(matches!(
        add("backed.qcow2", Format::Qcow2).await,
        Err(ImageError::Header { why: HeaderError::Backing, .. })
    ));
    assert!(matches!(
        add("outside.qcow2", Format::Qcow2).await,
        Err(ImageError::Header { why: HeaderError::DataFile, .. })
    ));
    assert!(matches!(add("plain", Format::Qcow2).await, Err(ImageError::Header { why: HeaderError::NotQcow2, .. })));
    assert!(matches!(add("huge.qcow2", Format::Qcow2).await, Err(ImageError::TooLargeDisk { .. })));
    assert!(matches!(add("cut.qcow2", Format::Qcow2).await, Err(ImageError::Tool { .. })));
    assert!(matches!(add(".", Format::Qcow2).await, Err(ImageError::NotAFile(_))));
    assert!(matches!(add("absent", Format::Qcow2).await, Err(ImageError::Source { .. })));
    assert_eq!(stored(), before);

    let raw = add("plain", Format::Raw).await.unwrap();
    assert_eq!((raw.virtual_bytes, raw.min_disk_gib), (1 << 20, 1));
    let good = add("good.qcow2", Format::Qcow2).await.unwrap();
    assert_eq!(add("good.qcow2", Format::Qcow2).await.unwrap(), good);
    assert_eq!(stored(), before + 2);

    // A machine whose image is gone is refused with the way out.
    let mut machine = world.machine("web-1", world.environment);
    machine.image.checksum = "0".repeat(64);
    let refused = world.driver.converge(&machine, Goal::Running { boot: 1 }).await.unwrap_err();
    assert!(matches!(&refused, DriverError::Refused(why) if why.contains("nephos image add")), "{refused}");
    world.assert_nothing_left();
}

/// What a machine used is counted outside of it: work in the guest shows in every number, over a restart of the server too.
async fn what_machines_use_is_counted(network: Network) {
    let mut world = World::with(|options| options.network = network).await;
    let (web, other) = (world.machine("web-1", world.environment), world.machine("web-2", world.environment));
    assert_eq!(world.driver.measure().await.unwrap(), []);
    let ((at, key), (near, _)) = tokio::join!(world.run(&web, 1), world.run(&other, 1));
    world.says(&at, &key, "true").await;
    let of = |measured: &[(ComputeId, Counters)], id: ComputeId| {
        measured.iter().find(|(other, _)| *other == id).map(|(_, counters)| *counters).unwrap()
    };
    let measured = world.driver.measure().await.unwrap();
    assert_eq!(measured.len(), 2);
    let before = of(&measured, web.id);
    assert!(before.cpu_ms > 0 && before.age_ms > 0, "it has booted: {before:?}");
    assert!((16 << 20..1 << 30).contains(&before.memory_bytes), "{before:?}");
    assert!(before.disk_reads > 0 && before.disk_bytes > 0, "{before:?}");
    assert!(before.network.is_some_and(|t| t.received_packets > 0 && t.sent_bytes > 0), "SSH was spoken: {before:?}");

    // 3 MiB to the disk; 40 pings of 1,000 bytes to the neighbour; 2 MiB out of the guest by SSH.
    let neighbour = near.private_ip.unwrap();
    let work = format!(
        "dd if=/dev/urandom of=/data bs=1M count=3 2>/dev/null && sync && ping -c 40 -i 0.02 -s 1000 {neighbour} >/dev/null \
         && dd if=/dev/zero bs=1M count=2 2>/dev/null | tr '\\0' x"
    );
    assert_eq!(world.says(&at, &key, &work).await.len(), 2 << 20);
    let after = of(&world.driver.measure().await.unwrap(), web.id);
    assert_eq!(after.life, before.life);
    let used = Reading::between(Some(&before), &after, after.age_ms - before.age_ms, 1).unwrap();
    assert!(used.cpu_ms > 0 && used.disk_writes > 0 && used.disk_written_bytes >= 3 << 20, "{used:?}");
    assert!(after.disk_bytes >= before.disk_bytes + (3 << 20), "{before:?} {after:?}");
    assert!((2 << 20..3 << 20).contains(&used.sent_bytes), "what it sent and its headers: {used:?}");
    assert!(used.received_packets > 0 && used.received_bytes < used.sent_bytes / 4, "{used:?}");
    assert!((40..60).contains(&used.private_sent_packets), "pings, and ARP: {used:?}");
    assert!((40 * 1_042..60 * 1_042).contains(&used.private_received_bytes), "answers: {used:?}");

    world.restart();
    assert!(matches!(world.driver.observe(&web).await.unwrap().seen, Seen::Running { .. }));
    let again = of(&world.driver.measure().await.unwrap(), web.id);
    assert_eq!(again.life, after.life);
    assert!(again.cpu_ms >= after.cpu_ms && again.disk_writes >= after.disk_writes, "{after:?} {again:?}");
    assert!(again.network.is_some_and(|t| t.sent_bytes < used.sent_bytes), "frames are counted anew: {again:?}");
    world.says(&at, &key, "true").await;
    let later = of(&world.driver.measure().await.unwrap(), web.id);
    assert!(later.network.unwrap().sent_packets > again.network.unwrap().sent_packets, "and they are: {later:?}");

    world.stopped(&web, Stop::Forced).await;
    let left = world.driver.measure().await.unwrap();
    assert!(left.iter().all(|(id, _)| *id != web.id), "what does not run uses nothing");
    for machine in [&web, &other] {
        world.driver.discard(machine.id).await.unwrap();
    }
    world.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_machines_use_is_counted_without_a_way_out() {
    what_machines_use_is_counted(Network::Restricted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_machines_use_is_counted_beside_passt() {
    what_machines_use_is_counted(Network::Auto).await;
}
