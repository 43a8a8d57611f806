//! QEMU: computes as processes of this host, overlays on images, a seed for cloud-init, a forwarded SSH port.
//!
//! What there is of a machine is found on disk and in the process table, so a server that was killed finds its machines again;
//! what a running machine does is told by its task (`task`). Calls about one machine take turns. Deliberately not here: what
//! is wished and why, retries and deadlines of operations; that is the control plane's.

mod cgroup;
mod command;
mod console;
mod count;
mod disk;
mod home;
mod host_key;
mod hub;
pub mod images;
mod iso;
mod kvm;
mod launch;
mod machine;
mod network;
mod options;
pub mod probe;
mod process;
mod qcow2;
mod qmp;
mod run;
mod seed;
mod serial;
mod sys;
mod task;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use nephos_model::id::ComputeId;
use nephos_model::telemetry::Counters;
use nephos_model::{Clock, Entropy};
use tokio::sync::watch;

pub use self::images::{Format, Images};
pub use self::options::{Accelerator, CONSOLE_BYTES_MAX, Network, Options, SLOTS_MAX, STOP_DEADLINE_MS, UID_BASE};
pub use self::probe::{Finding, Verdict, report};
pub use self::qcow2::HeaderError;

/// Parsers of what the hypervisor and its files say, for tests with hostile bytes.
#[cfg(feature = "testing")]
pub mod parsers {
    /// How many messages of a monitor's answers were understood.
    pub fn qmp(bytes: &[u8]) -> usize {
        super::qmp::read_all(bytes)
    }

    /// Whether an image's header is one that is taken.
    pub fn qcow2(bytes: &[u8]) -> bool {
        super::qcow2::read(bytes).is_ok_and(|judged| judged.is_ok())
    }

    /// Whether what `qemu-img info` says of an image of one MiB lets it in.
    pub fn image_info(bytes: &[u8]) -> bool {
        serde_json::from_slice(bytes).is_ok_and(|info| super::images::judge_info(&info, 1 << 20).is_ok())
    }

    /// The volume that a guest reads its user data from.
    pub fn seed(user_data: &str) -> Vec<u8> {
        let host_key = super::host_key::HostKey::from_seed([7; 32]);
        let seed = super::seed::Seed {
            instance_id: "cmp_1".to_owned(),
            hostname: "web-1",
            ssh_keys: &[],
            user_data: Some(user_data),
            host_key: &host_key,
            interfaces: &[],
        };
        seed.to_iso()
    }
}

use self::home::{Home, Record};
use self::hub::Switches;
use self::probe::Facts;
use self::task::{Changes, Link};
use crate::terminal::{AttachError, Terminal, TerminalError};
use crate::{Availability, Driver, DriverError, Goal, Host, Machine, Report};

/// Milliseconds between looks at a host that can't run computes: the operator may have mended it.
const LOOK_AGAIN_MS: u64 = 30_000;
/// Milliseconds between looks at a host that can: its disk fills and empties.
const LOOK_ROUTINE_MS: u64 = 300_000;

/// Milliseconds for all machines to tell what they used.
const MEASURE_DEADLINE_MS: u64 = 10_000;

/// Why the driver could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The options can't work; the text names the way out.
    #[error("{0}")]
    Options(String),
    /// A directory can't be made or read.
    #[error("{what} can't be used")]
    Directory {
        /// Which, and for what.
        what: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// The driver. Clones are the same driver.
#[derive(Clone)]
pub struct Qemu {
    inner: Arc<Inner>,
}

impl fmt::Debug for Qemu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Qemu").field("options", &self.inner.options).finish_non_exhaustive()
    }
}

struct Inner {
    options: Options,
    /// What processes of this installation are called, up to the compute's id.
    prefix: String,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    images: Images,
    /// What is said of the host until it was looked at.
    glance: Host,
    facts: watch::Receiver<Option<Arc<Facts>>>,
    changes: Arc<Changes>,
    switches: Arc<Switches>,
    records: Mutex<HashMap<ComputeId, Record>>,
    links: Mutex<HashMap<ComputeId, Link>>,
    turns: Mutex<HashMap<ComputeId, Weak<tokio::sync::Mutex<()>>>>,
}

impl Qemu {
    /// Opens the driver on an installation's data directory, which must exist. It opens also where no QEMU is installed, and
    /// then says so in [`Driver::host`]. Must be called inside a Tokio runtime, where it goes on looking at the host.
    pub fn open(options: Options, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Result<Self, OpenError> {
        if let Some(fault) = options.fault() {
            return Err(OpenError::Options(fault));
        }
        let unusable = |what: String| move |source| OpenError::Directory { what, source };
        let runtime = &options.runtime_dir;
        network::make_runtime_dir(runtime).map_err(unusable(format!("the runtime directory {}", runtime.display())))?;
        let computes = options.computes_dir();
        make_private_dir(&computes).map_err(unusable(format!("the directory {}", computes.display())))?;
        let images = Images::new(&options);
        images.clean().map_err(unusable(format!("the image store {}", options.images_dir().display())))?;
        let mut records = HashMap::new();
        for id in ids_in(&computes).map_err(unusable(format!("the directory {}", computes.display())))? {
            match Home::new(&computes, id).record() {
                Ok(Some(record)) => {
                    records.insert(id, record);
                }
                Ok(None) => {}
                // One damaged file must not keep the others from running: its own compute says what is wrong with it.
                Err(e) => tracing::error!(compute = %id, error = %e, "what was known of a compute can't be read"),
            }
        }
        let glance = probe::glance(&options);
        let (sender, facts) = watch::channel(None);
        tokio::spawn(keep_looking(options.clone(), Arc::clone(&clock), sender));
        let inner = Inner {
            prefix: format!("nephos-{}-", options.mark()),
            options,
            clock,
            entropy,
            images,
            glance,
            facts,
            changes: Arc::default(),
            switches: Arc::default(),
            records: Mutex::new(records),
            links: Mutex::default(),
            turns: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The store of image files.
    pub fn images(&self) -> &Images {
        &self.inner.images
    }

    /// What was found on the host, once the first look is over.
    pub async fn findings(&self) -> Vec<Finding> {
        self.inner.facts().await.map_or_else(Vec::new, |facts| facts.findings.clone())
    }

    /// Runs `work` to its end even when the caller loses interest, so that nothing is left half done for that reason.
    async fn apart<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, DriverError>> + Send + 'static,
    ) -> Result<T, DriverError> {
        tokio::spawn(work).await.unwrap_or_else(|e| Err(passing("the work on a machine broke off", e)))
    }
}

impl Inner {
    /// What is known of the host; waits for the first look.
    async fn facts(&self) -> Option<Arc<Facts>> {
        let mut facts = self.facts.clone();
        facts.wait_for(Option::is_some).await.ok().and_then(|facts| facts.clone())
    }

    fn home(&self, id: ComputeId) -> Home {
        Home::new(&self.options.computes_dir(), id)
    }

    /// The lock by which calls about one machine take turns.
    fn turn(&self, id: ComputeId) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = lock(&self.turns);
        if let Some(turn) = turns.get(&id).and_then(Weak::upgrade) {
            return turn;
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        turns.insert(id, Arc::downgrade(&turn));
        turn
    }

    fn record(&self, id: ComputeId) -> Option<Record> {
        lock(&self.records).get(&id).cloned()
    }
}

#[async_trait::async_trait]
impl Driver for Qemu {
    fn name(&self) -> &'static str {
        "qemu"
    }

    fn host(&self) -> Host {
        let facts = self.inner.facts.borrow().clone();
        let Some(facts) = facts else { return self.inner.glance.clone() };
        let availability = facts.blocker().map_or(Availability::Available, Availability::Unavailable);
        Host { availability, capacity: facts.capacity }
    }

    async fn observe(&self, machine: &Machine) -> Result<Report, DriverError> {
        let (inner, machine) = (Arc::clone(&self.inner), machine.clone());
        self.apart(async move {
            let turn = inner.turn(machine.id);
            let _turn = turn.lock().await;
            inner.observe(&machine).await
        })
        .await
    }

    async fn converge(&self, machine: &Machine, goal: Goal) -> Result<Report, DriverError> {
        let (inner, machine) = (Arc::clone(&self.inner), machine.clone());
        self.apart(async move {
            let turn = inner.turn(machine.id);
            let _turn = turn.lock().await;
            inner.converge(&machine, goal).await
        })
        .await
    }

    async fn discard(&self, id: ComputeId) -> Result<(), DriverError> {
        let inner = Arc::clone(&self.inner);
        self.apart(async move {
            let turn = inner.turn(id);
            let _turn = turn.lock().await;
            inner.discard(id).await
        })
        .await
    }

    async fn grow(&self, machine: &Machine) -> Result<Report, DriverError> {
        let (inner, machine) = (Arc::clone(&self.inner), machine.clone());
        self.apart(async move {
            let turn = inner.turn(machine.id);
            let _turn = turn.lock().await;
            inner.grow(&machine).await
        })
        .await
    }

    async fn wipe(&self, machine: &Machine) -> Result<Report, DriverError> {
        let (inner, machine) = (Arc::clone(&self.inner), machine.clone());
        self.apart(async move {
            let turn = inner.turn(machine.id);
            let _turn = turn.lock().await;
            inner.wipe(&machine).await
        })
        .await
    }

    async fn machines(&self) -> Result<Vec<ComputeId>, DriverError> {
        let inner = Arc::clone(&self.inner);
        let find = move || -> std::io::Result<Vec<ComputeId>> {
            let mut ids: BTreeSet<ComputeId> = ids_in(&inner.options.computes_dir())?.into_iter().collect();
            ids.extend(network::sockets_of(&inner.options.runtime_dir)?);
            ids.extend(process::scan(&inner.prefix)?.into_iter().map(|(id, _)| id));
            Ok(ids.into_iter().collect())
        };
        blocking("the machines of the host can't be listed", find).await
    }

    async fn console(&self, machine: &Machine, bytes_max: usize) -> Result<Vec<u8>, DriverError> {
        let home = self.inner.home(machine.id);
        blocking("a console log can't be read", move || console::tail(&home, bytes_max)).await
    }

    async fn measure(&self) -> Result<Vec<(ComputeId, Counters)>, DriverError> {
        let asked: Vec<_> =
            lock(&self.inner.links).iter().filter_map(|(id, link)| Some((*id, link.measure()?))).collect();
        // All were asked at once, so the last answer is there not much later than the first.
        let late = self.inner.clock.sleep(Duration::from_millis(MEASURE_DEADLINE_MS));
        tokio::pin!(late);
        let mut measured = Vec::with_capacity(asked.len());
        for (id, answer) in asked {
            tokio::select! {
                biased;
                answer = answer => measured.extend(answer.ok().map(|counters| (id, counters))),
                () = &mut late => break,
            }
        }
        Ok(measured)
    }

    async fn terminal(&self, machine: &Machine, bytes_max: usize) -> Result<Terminal, TerminalError> {
        // Whoever looks at a machine that runs follows it from then on.
        self.observe(machine).await?;
        let line = lock(&self.inner.links).get(&machine.id).map(|link| Arc::clone(&link.line));
        let (line, home) = (line.ok_or(TerminalError::NotRunning)?, self.inner.home(machine.id));
        let attach = move || match line.attach(|| console::tail(&home, bytes_max)) {
            Err(AttachError::Read(e)) => Err(e),
            other => Ok(other),
        };
        match blocking("a console log can't be read", attach).await? {
            Ok(terminal) => Ok(terminal),
            Err(AttachError::Full) => Err(TerminalError::Full),
            Err(AttachError::Closed | AttachError::Read(_)) => Err(TerminalError::NotRunning),
        }
    }

    async fn changed(&self) -> ComputeId {
        self.inner.changes.next().await
    }
}

/// Looks at the host now and again, until the driver is gone.
async fn keep_looking(options: Options, clock: Arc<dyn Clock>, sender: watch::Sender<Option<Arc<Facts>>>) {
    loop {
        let facts = Arc::new(probe::look(&options, Arc::clone(&clock)).await);
        let pause = match facts.blocker() {
            None => LOOK_ROUTINE_MS,
            Some(blocker) => {
                tracing::warn!(reason = %blocker, "this host can't run computes");
                LOOK_AGAIN_MS
            }
        };
        if sender.send(Some(facts)).is_err() {
            return;
        }
        tokio::select! {
            () = sender.closed() => return,
            () = clock.sleep(Duration::from_millis(pause)) => {}
        }
    }
}

fn make_private_dir(path: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// The computes that have a directory.
fn ids_in(computes: &std::path::Path) -> std::io::Result<Vec<ComputeId>> {
    let mut ids = Vec::new();
    for entry in std::fs::read_dir(computes)? {
        ids.extend(entry?.file_name().to_str().and_then(|name| name.parse::<ComputeId>().ok()));
    }
    Ok(ids)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs blocking work on a thread for that.
async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, DriverError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(e)) => Err(failed(what, e)),
        Err(e) => Err(passing(what, e)),
    }
}

/// A full disk is the host's want of capacity; all else may pass.
fn failed(what: &str, e: std::io::Error) -> DriverError {
    match e.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            DriverError::NoCapacity("the host's disk is full: the operator must make room".to_owned())
        }
        _ => passing(what, e),
    }
}

fn passing(what: &str, e: impl std::error::Error + Send + Sync + 'static) -> DriverError {
    DriverError::Passing { context: what.to_owned(), source: Some(Box::new(e)) }
}
