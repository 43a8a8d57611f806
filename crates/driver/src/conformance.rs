//! The suite that every driver must pass: the driver's contract as code.
//!
//! A driver's test gives a [`Fixture`], which makes machines, restarts the driver and waits: the simulator's moves the
//! machine's clock, a hypervisor's waits in real time. [`run`] runs every case; each case is also there by itself, so that
//! a slow driver can run them as tests of their own. A case that fails panics and says what it saw.
//!
//! Deliberately not here: what only one driver can show, such as logging in over SSH.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use nephos_model::Timestamp;
use nephos_model::compute::Address;
use nephos_model::ssh_key::PublicKey;

use crate::terminal::{Keyboard, Screen, Shown, TERMINALS_MAX, TerminalError};
use crate::{Driver, Goal, Halt, Machine, Report, Seen, Stop};

/// Bytes of notes at most, as [`crate::Notes`] has it.
pub const NOTES_BYTES_MAX: usize = 4 * 1024;
/// Calls of [`Driver::converge`] on the way to a goal at most.
pub const MOVES_MAX: usize = 400;
/// Looks at a console that is empty as yet at most.
pub const LOOKS_MAX: usize = 100;
/// Real milliseconds without output after which a guest is typed at again: one that still boots takes no input.
const TYPE_AGAIN_MS: u64 = 500;
/// Times that a guest is typed at before it is taken for deaf.
const TYPED_MAX: usize = 200;
/// Bytes of a console that are more than any guest of these tests writes.
const CONSOLE_BYTES: usize = 1024 * 1024;

/// What the suite needs to know about one driver's world.
#[async_trait]
pub trait Fixture: Send {
    /// The driver as a server has it that has just started, on the same host as before. `before` is the one until now:
    /// it goes as a killed process goes, and its machines stay.
    async fn start(&mut self, before: Option<Arc<dyn Driver>>) -> Arc<dyn Driver>;

    /// A machine with a fresh id, of which there is nothing yet and which has no notes. All are in one environment.
    async fn machine(&mut self) -> Machine;

    /// Waits until `at`, or for less: the suite looks again and again. Sets the machine's `now`.
    async fn wait(&mut self, machine: &mut Machine, at: Timestamp);

    /// Whether the driver keeps anything on its host, so that [`Driver::machines`] must name it.
    fn keeps_traces(&self) -> bool;
}

/// Runs every case, one after the other.
///
/// # Panics
/// When the driver breaks its contract.
pub async fn run(fixture: &mut dyn Fixture) {
    nothing_is_absent(fixture).await;
    a_disk_is_made_without_a_boot(fixture).await;
    an_absent_machine_is_made_and_runs(fixture).await;
    an_earlier_boot_is_not_touched(fixture).await;
    power_is_cut(fixture).await;
    a_cut_overtakes_a_shutdown(fixture).await;
    a_running_machine_is_discarded(fixture).await;
    a_half_made_machine_is_discarded(fixture).await;
    a_running_machine_outlives_its_server(fixture).await;
    a_crash_after_every_move_changes_nothing(fixture).await;
    a_wiped_machine_is_fresh(fixture).await;
    a_disk_grows_while_nothing_runs(fixture).await;
    the_console_is_bounded(fixture).await;
    terminals_see_and_type(fixture).await;
    machines_are_apart(fixture).await;
}

/// Nothing is seen of a machine that was never made; looking, and discarding it, leave nothing.
///
/// # Panics
/// When the driver breaks its contract.
pub async fn nothing_is_absent(fixture: &mut dyn Fixture) {
    let mut bench = Bench::new(fixture).await;
    for _ in 0..2 {
        assert_eq!(bench.look().await, Seen::Absent);
        bench.discard().await;
    }
    let wiped = bench.driver.wipe(&bench.machine).await.expect("nothing there is success");
    bench.keep(&wiped);
    assert_eq!(bench.look().await, Seen::Absent);
    assert_eq!(bench.console(CONSOLE_BYTES).await, b"", "a machine that never was has written nothing");
    bench.assert_listed(false).await;
}

/// A goal without a boot makes the disk and leaves the processors alone.
///
/// # Panics
/// When the driver breaks its contract.
pub async fn a_disk_is_made_without_a_boot(fixture: &mut dyn Fixture) {
    let mut bench = Bench::new(fixture).await;
    for how in [Stop::Graceful, Stop::Forced] {
        assert_eq!(bench.reach(Goal::Stopped { how }).await, Seen::Stopped { why: Halt::Fresh });
    }
    assert_eq!(bench.look().await, Seen::Stopped { why: Halt::Fresh });
    bench.assert_listed(true).await;
    bench.clear().await;
}

/// An absent machine is made on the way to running, and once it runs nothing changes it.
///
/// # Panics
/// When the driver breaks its contract.
pub async fn an_absent_machine_is_made_and_runs(fixture: &mut dyn Fixture) {
    let mut bench = Bench::new(fixture).await;
    let running = bench.reach(Goal::Running { boot: 1 }).await;
    let (boot, address, key) = parts(&running);
    assert_eq!(boot, 1);
    assert!(!address.ssh_host.is_empty() && address.ssh_port != 0, "it is reached somewhere: {address:?}");
    if let Some(ip) = &address.private_ip {
        assert!(ip.parse::<std::net::IpAddr>().is_ok(), "a private address is an address: {ip}");
    }
    if let Some(line) = key {
        assert!(PublicKey::parse(line).is_ok(), "a host key is one OpenSSH line: {line}");
    }
    for _ in 0..3 {
        let report = bench.converge(Goal::Running { boot: 1 }).await;
        assert_eq!(report.seen, running, "a goal that is reached stays reached");
        assert_eq!(bench.look().await, running);
    }
    bench.assert_listed(true).await;
    bench.clear().await;
}

/// A later boot is begun only after a stop; and a machine keeps its address's host key over boots.
///
/// # Panics
/// When the driver breaks its contract.
pub async fn an_earlier_boot_is_not_touched(fixture: &mut dyn Fixture) {
    let mut bench = Bench::new(fixture).await;
    let first = bench.reach(Goal::Running { boot: 1 }).await;
    for _ in 0..2 {
        let report = bench.converge(Goal::Running { boot: 2 }).await;
        assert_eq!(report.seen, first, "a machine in an earlier boot is reported as it is");
    }
    let stopped = bench.reach(Goal::Stopped { how: Stop::Graceful }).await;
    assert_eq!(stopped, Seen::Stopped { why: Halt::ShutDown });
    let again = bench.converge(Goal::Stopped { how: Stop::Graceful }).await;
    assert_eq!(again.seen, stopped, "a goal that is reached stays reached");

    let second = bench.reach(Goal::Running { boot: 2 }).await;
    assert_eq!(parts(&second).0, 2);
    assert_eq!(parts(&second).2, parts(&first).2, "the host key is pinned before the first boot");
    bench.clear().await;
}

/// Power is cut, once and twice.
///
/// # Panics
/// When the driver breaks its contract.
pub async fn power_is_cut(fixture: &mut dyn Fixture) {
    let mut bench = Bench::new(fixture).await;
    bench.reach(Goal::Running { boot: 1 }).await;
    for _ in 0..2 {
        let stopped = bench.reach(Goal::Stopped { how: Stop::Forced }).await;
        assert_eq!(stopped, Seen::Stopped { why: Halt::ShutDown });
    }
    assert_eq!(parts(&bench.reach(Goal::Running { boot: 2 }).await).0, 2);
    bench.clear().await;
}

/// A guest that is shutting down can be cut off.
///
/// # Panics
/// When the driver breaks its contract.
pub async fn a_cut_overtakes_a_shutdown(fixture: &mut dyn Fixture) {
    let mut bench = Bench::new(fixture).await;
    bench.reach(Goal::Running { boot: 1 }).await;
    bench.converge(Goal::Stopped { how: Stop::Graceful }).await;
    let stopped = bench.reach(Goal::Stopped { how: Stop::Forced }).await;
    assert_eq!(stopped, Seen::Stopped { why: Halt::ShutDown });
    bench.clear().await;
}

/// Discarding a machine that runs leaves nothing, and twice is once.
///
/// # Panics
/// When the driver breaks its contract.
pub async fn a_running_machine_is_discarded(fixture: &mut dyn Fixture) {
    let mut bench = Bench::new(fixture).await;
    bench.reach(Goal::Running { boot: 1 }).await;
    bench.clear().await;
    bench.clear().await;
}

/// A machine is discarded after each of the first moves towards running, by a server that has just started.
///
/// # Panics
/// When the driver breaks its contract.
pub async fn a_half_made_machine_is_discarded(fixture: &mut dyn Fixture) {
    const MOVES: usize = 4;
    let mut bench = Bench::new(fixture).await;
    for moves in 1..=MOVES {
        bench.machine = bench.fixture.machine().await;
        for _ in 0..moves {
            bench.step(Goal::Running { boot: 1 }).await;
        }
        bench.restart().await;
        bench.clear().await;
    }
}

/// A server that starts finds the machine running as it was, and does not boot it again.
///
/// # Panics
/// When the driver breaks its contract.
pub async fn a_running_machine_outlives_its_server(fixture: &mut dyn Fixture) {
    let mut bench = Bench::new(fixture).await;
    let running = bench.reach(Goal::Running { boot: 3 }).await;
    for _ in 0..2 {
        bench.restart().await;
        assert_eq!(bench.look().await, running);
        assert_eq!(bench.converge(Goal::Running { boot: 3 }).await.seen, running);
    }
    let stopped = bench.reach(Goal::Stopped { how: Stop::Graceful }).await;
    assert_eq!(stopped, Seen::Stopped { why: Halt::ShutDown });
    bench.restart().await;
    assert_eq!(bench.look().await, stopped);
    bench.clear().await;
}

/// A whole life in which the server is killed after every move, before it has written down what the driver handed it.
///
/// # Panics
/// When the driver breaks its contract.
pub async fn a_crash_after_every_move_changes_nothing(fixture: &mut dyn Fixture) {
    let mut bench = Bench::new(fixture).await;
    bench.crashing = true;
    assert_eq!(parts(&bench.reach(Goal::Running { boot: 1 }).await).0, 1);
    let stopped = bench.reach(Goal::Stopped { how: Stop::Graceful }).await;
    assert_eq!(stopped, Seen::Stopped { why: Halt::ShutDown });
    assert_eq!(parts(&bench.reach(Goal::Running { boot: 2 }).await).0, 2);
    let stopped = bench.reach(Goal::Stopped { how: Stop::Forced }).await;
    assert_eq!(stopped, Seen::Stopped { why: Halt::ShutDown });
    bench.clear().await;
}

/// A machine that runs is not wiped; one that is stopped gets a fresh disk and boots from it.
///
/// # Panics
/// When the driver breaks its contract.
pub async fn a_wiped_machine_is_fresh(fixture: &mut dyn Fixture) {
    let mut bench = Bench::new(fixture).await;
    let running = bench.reach(Goal::Running { boot: 1 }).await;
    let refused = bench.driver.wipe(&bench.machine).await;
    assert!(refused.is_err(), "a machine that runs is not wiped: {refused:?}");
    assert_eq!(bench.look().await, running);

    bench.reach(Goal::Stopped { how: Stop::Forced }).await;
    for _ in 0..2 {
        // The second is the call of a server that was killed before it wrote down the first one's notes.
        let wiped = bench.driver.wipe(&bench.machine).await.expect("a stopped machine is wiped");
        assert!(matches!(wiped.seen, Seen::Absent | Seen::Stopped { why: Halt::Fresh }), "{:?}", wiped.seen);
        bench.restart().await;
    }
    let wiped = bench.driver.wipe(&bench.machine).await.expect("a wiped machine is wiped");
    bench.keep(&wiped);
    assert_eq!(bench.look().await, wiped.seen);
    let fresh = bench.reach(Goal::Stopped { how: Stop::Graceful }).await;
    assert_eq!(fresh, Seen::Stopped { why: Halt::Fresh });
    let second = bench.reach(Goal::Running { boot: 2 }).await;
    assert_eq!(parts(&second).0, 2);
    bench.clear().await;
}

/// A disk grows while the machine does not run, once, by a server that is killed in between; it is never made smaller, and
/// what ran before boots from it again.
///
/// # Panics
/// When the driver breaks its contract.
pub async fn a_disk_grows_while_nothing_runs(fixture: &mut dyn Fixture) {
    let mut bench = Bench::new(fixture).await;
    let nothing = bench.driver.grow(&bench.machine).await.expect("nothing there is success");
    assert_eq!(nothing.seen, Seen::Absent);
    let running = bench.reach(Goal::Running { boot: 1 }).await;
    let has_gib = bench.machine.disk_gib;
    bench.machine.disk_gib = has_gib + 1;
    let refused = bench.driver.grow(&bench.machine).await;
    assert!(refused.is_err(), "the disk of a machine that runs does not grow: {refused:?}");
    assert_eq!(bench.look().await, running);

    let stopped = bench.reach(Goal::Stopped { how: Stop::Graceful }).await;
    // The report of the first is lost with its server.
    bench.driver.grow(&bench.machine).await.expect("a stopped machine's disk grows");
    bench.restart().await;
    bench.grow().await;
    for gib in [has_gib + 1, has_gib] {
        bench.machine.disk_gib = gib;
        let report = bench.driver.grow(&bench.machine).await.expect("a disk that is as large is left alone");
        assert_eq!(report.seen, stopped, "it is as large as {gib} GiB already");
        bench.keep(&report);
    }
    bench.machine.disk_gib = has_gib + 1;
    assert_eq!(bench.look().await, stopped, "a machine that was resized is as stopped as before");
    assert_eq!(parts(&bench.reach(Goal::Running { boot: 2 }).await).0, 2);
    bench.clear().await;
}

/// The console answers with the end of what the guest wrote, never with more than was asked for.
///
/// # Panics
/// When the driver breaks its contract.
pub async fn the_console_is_bounded(fixture: &mut dyn Fixture) {
    const BYTES_MAX: usize = 64;
    let mut bench = Bench::new(fixture).await;
    bench.reach(Goal::Running { boot: 1 }).await;
    for _ in 0..LOOKS_MAX {
        if bench.console(CONSOLE_BYTES).await.len() > BYTES_MAX {
            break;
        }
        let at = bench.machine.now.plus(Duration::from_millis(200));
        bench.fixture.wait(&mut bench.machine, at).await;
    }
    bench.reach(Goal::Stopped { how: Stop::Forced }).await;
    let whole = bench.console(CONSOLE_BYTES).await;
    assert!(whole.len() > BYTES_MAX, "a guest that booted has written something: {} bytes", whole.len());
    let end = bench.console(BYTES_MAX).await;
    assert_eq!(end, whole[whole.len() - BYTES_MAX..], "a bounded answer is the end of the whole one");
    assert_eq!(bench.console(0).await, b"");
    bench.clear().await;
}

/// What anybody types is answered to everybody; terminals are bounded, and end with the run of the machine.
///
/// # Panics
/// When the driver breaks its contract.
pub async fn terminals_see_and_type(fixture: &mut dyn Fixture) {
    let mut bench = Bench::new(fixture).await;
    bench.assert_no_terminal().await;
    bench.reach(Goal::Stopped { how: Stop::Forced }).await;
    bench.assert_no_terminal().await;
    bench.reach(Goal::Running { boot: 1 }).await;
    let mut open = Vec::new();
    for _ in 0..TERMINALS_MAX {
        open.push(bench.driver.terminal(&bench.machine, 0).await.expect("a machine that runs has terminals"));
    }
    let refused = bench.driver.terminal(&bench.machine, 0).await;
    assert!(matches!(refused, Err(TerminalError::Full)), "one more than may be: {refused:?}");
    open.truncate(2);
    for (typist, word) in [(0, "conformance-one"), (1, "conformance-two")] {
        let keyboard = open[typist].keyboard.clone();
        for terminal in &mut open {
            type_until(&keyboard, &mut terminal.screen, word).await;
        }
    }
    bench.reach(Goal::Stopped { how: Stop::Forced }).await;
    for terminal in &mut open {
        let ended = async { while terminal.screen.next().await != Shown::Ended {} };
        let ended = tokio::time::timeout(Duration::from_millis(TYPE_AGAIN_MS * 20), ended).await;
        assert!(ended.is_ok(), "a terminal ends with the run of its machine");
    }
    bench.assert_no_terminal().await;
    bench.clear().await;
}

/// Types a word, again and again, until a screen shows it.
async fn type_until(keyboard: &Keyboard, screen: &mut Screen, word: &str) {
    let mut seen = Vec::new();
    for _ in 0..TYPED_MAX {
        keyboard.press(&mut format!("{word}\r").into_bytes()).await.expect("the machine runs");
        while let Ok(shown) = tokio::time::timeout(Duration::from_millis(TYPE_AGAIN_MS), screen.next()).await {
            match shown {
                Shown::Bytes(bytes) => seen.extend_from_slice(&bytes),
                Shown::Lost { .. } => {}
                Shown::Ended => panic!("the terminal ended: {}", String::from_utf8_lossy(&seen)),
            }
            if seen.windows(word.len()).any(|window| window == word.as_bytes()) {
                return;
            }
        }
    }
    panic!("{word:?} is not seen in {}", String::from_utf8_lossy(&seen));
}

/// Two machines of one environment have different addresses and host keys, and stopping one leaves the other alone.
///
/// # Panics
/// When the driver breaks its contract.
pub async fn machines_are_apart(fixture: &mut dyn Fixture) {
    let mut bench = Bench::new(fixture).await;
    let first = bench.reach(Goal::Running { boot: 1 }).await;
    let other = bench.fixture.machine().await;
    let earlier = std::mem::replace(&mut bench.machine, other);
    let second = bench.reach(Goal::Running { boot: 1 }).await;
    let ((_, a, a_key), (_, b, b_key)) = (parts(&first), parts(&second));
    assert_ne!((&a.ssh_host, a.ssh_port), (&b.ssh_host, b.ssh_port));
    assert!(a.private_ip.is_none() || a.private_ip != b.private_ip, "private addresses differ: {a:?} {b:?}");
    assert!(a_key.is_none() || a_key != b_key, "host keys differ");

    bench.reach(Goal::Stopped { how: Stop::Forced }).await;
    let stopped = std::mem::replace(&mut bench.machine, earlier);
    assert_eq!(bench.look().await, first, "stopping one machine leaves the other alone");
    bench.clear().await;
    bench.machine = stopped;
    assert_eq!(bench.look().await, Seen::Stopped { why: Halt::ShutDown }, "discarding one leaves the other alone");
    bench.clear().await;
}

fn parts(seen: &Seen) -> (i64, &Address, Option<&str>) {
    match seen {
        Seen::Running { boot, address, ssh_host_key } => (*boot, address, ssh_host_key.as_deref()),
        other => panic!("expected a running machine, saw {other:?}"),
    }
}

/// A driver, a machine and what a control plane does with both.
struct Bench<'a> {
    fixture: &'a mut dyn Fixture,
    driver: Arc<dyn Driver>,
    machine: Machine,
    /// Whether the server is killed after every move, before it has written the notes down.
    crashing: bool,
}

impl<'a> Bench<'a> {
    async fn new(fixture: &'a mut dyn Fixture) -> Self {
        let driver = fixture.start(None).await;
        let machine = fixture.machine().await;
        assert_eq!(machine.notes, None, "a fixture's machine starts without notes");
        Self { fixture, driver, machine, crashing: false }
    }

    async fn restart(&mut self) {
        // The fixture gets the only handle, so that it can let go of the driver before it makes the next one.
        let before = std::mem::replace(&mut self.driver, Arc::new(crate::simulator::Simulator::new()));
        self.driver = self.fixture.start(Some(before)).await;
    }

    /// What a control plane does with a report: it keeps the notes.
    fn keep(&mut self, report: &Report) {
        if let Some(notes) = &report.notes {
            assert!(notes.0.len() <= NOTES_BYTES_MAX, "notes have {NOTES_BYTES_MAX} bytes at most: {}", notes.0);
            self.machine.notes = Some(notes.clone());
        }
    }

    /// Looks twice: looking changes nothing.
    async fn look(&mut self) -> Seen {
        let first = self.driver.observe(&self.machine).await.expect("a machine can be observed");
        let second = self.driver.observe(&self.machine).await.expect("a machine can be observed");
        assert_eq!(first.seen, second.seen, "looking changes nothing");
        self.keep(&second);
        second.seen
    }

    async fn converge(&mut self, goal: Goal) -> Report {
        let mut report = self.driver.converge(&self.machine, goal).await.expect("a machine can be moved");
        if self.crashing {
            self.restart().await;
            report = self.driver.converge(&self.machine, goal).await.expect("a machine can be moved after a crash");
        }
        self.keep(&report);
        report
    }

    /// One move, and the wait that it asks for.
    async fn step(&mut self, goal: Goal) -> Seen {
        let report = self.converge(goal).await;
        if let Seen::Busy { doing, again_at } = &report.seen {
            assert!(!doing.is_empty(), "a busy machine says what it is doing");
            self.fixture.wait(&mut self.machine, *again_at).await;
        }
        report.seen
    }

    /// Moves until the goal is reached.
    async fn reach(&mut self, goal: Goal) -> Seen {
        let mut seen = Seen::Absent;
        for _ in 0..MOVES_MAX {
            seen = self.step(goal).await;
            match (&seen, goal) {
                (Seen::Running { boot, .. }, Goal::Running { boot: wished }) if *boot == wished => return seen,
                (Seen::Stopped { .. }, Goal::Stopped { .. }) => return seen,
                _ => {}
            }
        }
        panic!("{goal:?} is not reached in {MOVES_MAX} moves; the last was {seen:?}");
    }

    /// Grows the disk, waiting for it as long as the driver says.
    async fn grow(&mut self) {
        for _ in 0..MOVES_MAX {
            let report = self.driver.grow(&self.machine).await.expect("a stopped machine's disk grows");
            self.keep(&report);
            let Seen::Busy { again_at, .. } = report.seen else { return };
            self.fixture.wait(&mut self.machine, again_at).await;
        }
        panic!("the disk does not grow in {MOVES_MAX} moves");
    }

    /// Discards the machine, as a control plane does that then drops its row and its notes.
    async fn discard(&mut self) {
        self.driver.discard(self.machine.id).await.expect("a machine can be discarded");
        self.machine.notes = None;
    }

    /// Discards the machine, twice, and looks for what is left.
    async fn clear(&mut self) {
        for _ in 0..2 {
            self.discard().await;
            assert_eq!(self.look().await, Seen::Absent);
            self.assert_listed(false).await;
        }
    }

    async fn console(&self, bytes_max: usize) -> Vec<u8> {
        let bytes = self.driver.console(&self.machine, bytes_max).await.expect("a console can be read");
        assert!(bytes.len() <= bytes_max, "{} bytes of a console, {bytes_max} were asked for", bytes.len());
        bytes
    }

    async fn assert_no_terminal(&self) {
        let refused = self.driver.terminal(&self.machine, 0).await;
        assert!(matches!(refused, Err(TerminalError::NotRunning)), "a machine that does not run has none: {refused:?}");
    }

    async fn assert_listed(&self, wanted: bool) {
        let all = self.driver.machines().await.expect("machines can be listed");
        let listed = all.contains(&self.machine.id);
        assert_eq!(listed, wanted && self.fixture.keeps_traces(), "{} among {all:?}", self.machine.id);
    }
}
