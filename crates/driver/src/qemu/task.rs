//! The task that owns one running machine: its monitor, its console (`serial`), its end.
//!
//! ```text
//!  Starting ──cont──▶ Running ⇄ Paused            (told by the monitor)
//!      └────────────────┴─────────┴──▶ Ended      (told by the process)
//! ```
//! A guest that shut itself down leaves QEMU waiting; the task notes it on disk and lets QEMU go. A process that goes without
//! that is a death, and the task notes what is known of it. Deliberately not here: who wishes what; see the parent.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nephos_model::Clock;
use nephos_model::id::ComputeId;
use nephos_model::telemetry::Counters;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use super::console::Console;
use super::count::{self, Cards};
use super::home::Home;
use super::hub::{self, Seat, Switches};
use super::network::{Socket, Sockets};
use super::process::{Exit, Process};
use super::qmp::{Qmp, QmpError};
use super::serial::Serial;
use crate::Halt;
use crate::terminal::Line;

/// Milliseconds for QEMU to greet on its monitor.
const GREETING_DEADLINE_MS: u64 = 10_000;
/// Milliseconds between tries to reach the monitor again.
const RETRY_MS: u64 = 1_000;
/// Milliseconds for QEMU to go after it was let go.
const QUIT_DEADLINE_MS: u64 = 5_000;
/// Milliseconds between looks at things that nothing tells: a paused disk, the size of QEMU's own log.
const ROUND_MS: u64 = 5_000;
/// Milliseconds between presses of the power button: a guest that still boots does not hear the first.
pub const PRESS_AGAIN_MS: u64 = 2_000;
/// Bytes of QEMU's own log from which it is emptied.
const QEMU_LOG_BYTES_MAX: u64 = 256 * 1024;
/// Orders that wait for the task at most.
const ORDERS_MAX: usize = 8;

/// What a machine's process does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Its processors do not run yet.
    Starting,
    /// Its processors run.
    Running,
    /// Its processors are held; why, for people.
    Paused(String),
    /// It is gone.
    Ended,
}

/// What the task is asked to do.
#[derive(Debug)]
pub enum Order {
    /// Press the power button, again and again until the guest has heard it.
    PowerDown,
    /// Tell what the machine used until now. Who asks hears nothing when it can't be told.
    Measure(oneshot::Sender<Counters>),
}

/// Computes whose state may have changed by itself.
#[derive(Debug, Default)]
pub struct Changes {
    set: Mutex<BTreeSet<ComputeId>>,
    notify: Notify,
}

impl Changes {
    /// Adds one.
    pub fn tell(&self, id: ComputeId) {
        self.set.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        self.notify.notify_one();
    }

    /// Takes one, when there is one.
    pub async fn next(&self) -> ComputeId {
        loop {
            let (first, more) = {
                let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
                (set.pop_first(), !set.is_empty())
            };
            if more {
                self.notify.notify_one();
            }
            match first {
                Some(id) => return id,
                None => self.notify.notified().await,
            }
        }
    }
}

/// The driver's end of a task; dropping it ends the task and leaves the machine running.
#[derive(Debug)]
pub struct Link {
    /// Which process it is about.
    pub process: Process,
    /// What that does.
    pub status: watch::Receiver<Status>,
    /// Its serial console, for terminals.
    pub line: Arc<Line>,
    orders: mpsc::Sender<Order>,
    task: AbortHandle,
}

impl Link {
    /// Gives an order; it is lost when the machine is gone or many wait already.
    pub fn order(&self, order: Order) {
        let _ = self.orders.try_send(order);
    }

    /// What the machine used until now, if it runs: to be awaited without a lock, and dropped when it takes too long.
    pub fn measure(&self) -> Option<oneshot::Receiver<Counters>> {
        if *self.status.borrow() != Status::Running {
            return None;
        }
        let (answer, receiver) = oneshot::channel();
        self.orders.try_send(Order::Measure(answer)).ok()?;
        Some(receiver)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a task needs to know about its machine.
#[derive(Debug)]
pub struct Subject {
    /// The compute.
    pub id: ComputeId,
    /// Its boot.
    pub boot: i64,
    /// Its process.
    pub process: Process,
    /// The children of this server that belong to it: QEMU first, then passt. Empty when it was adopted.
    pub children: Vec<Child>,
    /// Its directory.
    pub home: Home,
    /// Its sockets.
    pub sockets: Sockets,
    /// Its place in its environment's network, when it has a card there.
    pub seat: Option<Seat>,
    /// Bytes of console to keep.
    pub console_bytes_max: u64,
    /// The user that QEMU runs as; `None` is the server's own.
    pub owner: Option<u32>,
}

/// What tasks share.
#[derive(Clone)]
pub struct Shared {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where changes are told.
    pub changes: Arc<Changes>,
    /// The private networks.
    pub switches: Arc<Switches>,
}

/// Starts the task of a running process.
pub fn start(subject: Subject, shared: Shared) -> io::Result<Link> {
    let exit = Exit::new(subject.process.open()?)?;
    let console = Console::open(&subject.home, subject.console_bytes_max)?;
    let (status, receiver) = watch::channel(Status::Starting);
    let (orders, inbox) = mpsc::channel(ORDERS_MAX);
    let process = subject.process;
    // A shutdown that was asked for before the server was started anew goes on.
    let pressing = subject.home.stopping_since(subject.boot)?.map(|_| shared.clock.monotonic());
    let has_private = subject.seat.is_some();
    let (line, guest) = Line::open();
    let serial = Serial {
        id: subject.id,
        path: subject.sockets.path(Socket::Serial),
        clock: Arc::clone(&shared.clock),
        console,
        guest,
        stream: None,
        unsent: Vec::new(),
    };
    let task = Task { subject, shared, status, inbox, pressing, has_private, cards: None };
    let task = tokio::spawn(task.live(exit, serial)).abort_handle();
    Ok(Link { process, status: receiver, line, orders, task })
}

struct Task {
    subject: Subject,
    shared: Shared,
    status: watch::Sender<Status>,
    inbox: mpsc::Receiver<Order>,
    /// When the power button is pressed next, once a shutdown was asked for.
    pressing: Option<Duration>,
    has_private: bool,
    /// What counts its frames, once the monitor answers.
    cards: Option<Cards>,
}

/// What wakes the task.
enum Wake {
    Event(Result<super::qmp::Event, QmpError>),
    Order(Option<Order>),
    Press,
    Round,
}

impl Task {
    async fn live(mut self, exit: Exit, mut serial: Serial) {
        let switch = self.subject.seat.take().map(|seat| {
            let (switches, clock) = (Arc::clone(&self.shared.switches), Arc::clone(&self.shared.clock));
            AbortOnDrop(tokio::spawn(hub::serve(seat, switches, clock)).abort_handle())
        });
        // Before the monitor is spoken to, which lets the processors run: nothing that the guest writes is missed.
        serial.connect().await;
        tokio::select! {
            () = exit.wait() => {}
            () = self.converse() => {}
            () = serial.converse() => {}
        }
        drop(switch);
        serial.last_words(self.subject.console_bytes_max).await;
        drop(serial);
        self.reap();
        if let Err(e) = count::remove_files(&self.subject.home) {
            tracing::debug!(compute = %self.subject.id, error = %e, "counts of frames of a machine that ended can't be removed");
        }
        if let Err(e) = self.subject.sockets.remove() {
            tracing::warn!(compute = %self.subject.id, error = %e, "sockets of a machine that ended can't be removed");
        }
        self.publish(Status::Ended);
    }

    /// Talks to the monitor as long as the process lives.
    async fn converse(&mut self) {
        let path = self.subject.sockets.path(Socket::Control);
        loop {
            if let Err(e) = self.conversation(&path).await {
                tracing::warn!(compute = %self.subject.id, error = %e, "the monitor of a machine failed; trying again");
            }
            self.shared.clock.sleep(Duration::from_millis(RETRY_MS)).await;
        }
    }

    async fn conversation(&mut self, path: &Path) -> Result<(), QmpError> {
        let clock = Arc::clone(&self.shared.clock);
        let mut qmp = Qmp::connect(path, &*clock, GREETING_DEADLINE_MS).await?;
        let uuid = qmp.execute("query-uuid", None, &*clock).await?;
        let wanted = nephos_model::id::Id::raw(self.subject.id).to_uuid();
        if uuid["UUID"] != wanted.as_str() {
            return Err(QmpError::Garbled);
        }
        // Before the first instruction of a machine that is held for that.
        let (home, owner) = (&self.subject.home, self.subject.owner);
        self.cards = Some(Cards::attach(&mut qmp, &*clock, home, owner, self.has_private).await);
        self.look(&mut qmp).await?;
        loop {
            let press = async {
                match self.pressing {
                    None => std::future::pending().await,
                    Some(at) => clock.sleep(at.saturating_sub(clock.monotonic())).await,
                }
            };
            let wake = tokio::select! {
                event = qmp.event() => Wake::Event(event),
                order = self.inbox.recv() => Wake::Order(order),
                () = press => Wake::Press,
                () = clock.sleep(Duration::from_millis(ROUND_MS)) => Wake::Round,
            };
            match wake {
                Wake::Event(event) => {
                    if matters(&event?.name) {
                        self.look(&mut qmp).await?;
                    }
                }
                Wake::Order(Some(Order::PowerDown)) | Wake::Press => {
                    self.pressing = Some(clock.monotonic().saturating_add(Duration::from_millis(PRESS_AGAIN_MS)));
                    qmp.execute("system_powerdown", None, &*clock).await?;
                }
                Wake::Order(Some(Order::Measure(answer))) => {
                    if let Some(cards) = &mut self.cards {
                        cards.read(&self.subject.home);
                    }
                    let (process, home) = (self.subject.process, &self.subject.home);
                    match count::counters(&mut qmp, &*clock, process, home, self.cards.as_ref()).await {
                        // Who asked may have gone.
                        Ok(counters) => drop(answer.send(counters)),
                        Err(e) => {
                            tracing::warn!(compute = %self.subject.id, error = %e, "what a machine used can't be told");
                        }
                    }
                }
                // The driver let go of the link; the abort that comes with it ends this task.
                Wake::Order(None) => std::future::pending().await,
                Wake::Round => self.round(&mut qmp).await?,
            }
        }
    }

    /// Asks what the machine does, and takes the step that follows.
    async fn look(&mut self, qmp: &mut Qmp) -> Result<(), QmpError> {
        let clock = Arc::clone(&self.shared.clock);
        let answer = qmp.execute("query-status", None, &*clock).await?;
        match answer["status"].as_str().ok_or(QmpError::Garbled)? {
            "running" => self.publish(Status::Running),
            "prelaunch" => {
                qmp.execute("cont", None, &*clock).await?;
                self.publish(Status::Running);
            }
            "shutdown" => self.let_go(qmp, Halt::ShutDown).await,
            state @ ("guest-panicked" | "internal-error" | "watchdog") => {
                let halt = Halt::Died(self.subject.home.epitaph(&format!("QEMU stopped the guest ({state})")));
                self.let_go(qmp, halt).await;
            }
            "io-error" => self.publish(Status::Paused(
                "paused: the host could not write the disk; it goes on by itself once there is room".to_owned(),
            )),
            state => self.publish(Status::Paused(format!("paused by the operator ({})", super::images::said(state)))),
        }
        Ok(())
    }

    /// Notes how it ended, and has QEMU go: asked first, then killed.
    async fn let_go(&mut self, qmp: &mut Qmp, halt: Halt) {
        self.note(&halt);
        let clock = Arc::clone(&self.shared.clock);
        if let Err(e) = qmp.execute("quit", None, &*clock).await {
            tracing::debug!(compute = %self.subject.id, error = %e, "QEMU did not answer when it was let go");
        }
        // The end of the process ends this task's talk, and with it this wait.
        clock.sleep(Duration::from_millis(QUIT_DEADLINE_MS)).await;
        if let Err(e) = self.subject.process.kill(&*clock, QUIT_DEADLINE_MS).await {
            tracing::error!(compute = %self.subject.id, error = %e, "QEMU does not go");
        }
    }

    async fn round(&mut self, qmp: &mut Qmp) -> Result<(), QmpError> {
        let clock = Arc::clone(&self.shared.clock);
        if let Some(cards) = &mut self.cards {
            cards.keep_small(qmp, &*clock, &self.subject.home, self.subject.owner).await;
        }
        let log = self.subject.home.file("qemu.log");
        if std::fs::metadata(&log).is_ok_and(|m| m.len() > QEMU_LOG_BYTES_MAX) {
            // QEMU appends, so it goes on at the new end.
            let emptied = std::fs::OpenOptions::new().write(true).open(&log).and_then(|file| file.set_len(0));
            if let Err(e) = emptied {
                tracing::warn!(compute = %self.subject.id, error = %e, "QEMU's log can't be emptied");
            }
        }
        if matches!(&*self.status.borrow(), Status::Paused(_)) {
            let answer = qmp.execute("query-status", None, &*clock).await?;
            if answer["status"] == "io-error" {
                qmp.execute("cont", None, &*clock).await?;
            }
            self.look(qmp).await?;
        }
        Ok(())
    }

    /// Collects the children's ends, and notes a death that nobody has noted otherwise.
    fn reap(&mut self) {
        let status = self.subject.children.first_mut().and_then(|qemu| qemu.try_wait().ok().flatten());
        let known = self.subject.home.has_halt(self.subject.boot);
        if !known.unwrap_or(false) {
            use std::os::unix::process::ExitStatusExt;
            let how = match status.map(|s| (s.signal(), s.code())) {
                Some((Some(signal), _)) => format!("QEMU was ended by signal {signal}"),
                Some((None, Some(code))) => format!("QEMU ended with status {code}"),
                _ => "QEMU ended".to_owned(),
            };
            self.note(&Halt::Died(self.subject.home.epitaph(&how)));
        }
        for mut helper in self.subject.children.drain(..).skip(1) {
            // passt goes with QEMU's end of its socket; one that hangs is killed.
            let _ = helper.kill();
            let _ = helper.wait();
        }
    }

    fn note(&self, halt: &Halt) {
        if let Err(e) = self.subject.home.write_halt(self.subject.boot, halt) {
            tracing::error!(compute = %self.subject.id, error = %e, "how a machine ended can't be written down");
        }
    }

    fn publish(&self, status: Status) {
        let changed = self.status.send_if_modified(|now| {
            let changed = *now != status;
            *now = status;
            changed
        });
        if changed {
            self.shared.changes.tell(self.subject.id);
        }
    }
}

/// Whether an event says that the machine's state changed.
fn matters(event: &str) -> bool {
    matches!(event, "SHUTDOWN" | "STOP" | "RESUME" | "BLOCK_IO_ERROR" | "GUEST_PANICKED" | "WATCHDOG")
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
