//! The use-cases of nephos, one file a noun: permission, idempotency, operations, reconciling, metering.
//!
//! A handler hands over a [`Grant`](caller::Grant) and parsed input and gets a value, a [`Plan`](plan::Plan) or a
//! [`Fault`]. Deliberately not here: HTTP, SQL texts, hypervisors.

pub mod address;
pub mod alteration;
pub mod api_key;
pub mod audit_log;
pub mod auth;
pub mod background;
pub mod budget;
pub mod budget_alert;
pub mod caller;
pub mod compute;
pub mod courier;
pub mod delivery;
pub mod deprecation;
pub mod environment;
pub mod event;
pub mod fault;
pub mod idempotency;
pub mod image;
pub mod install;
pub mod invitation;
pub mod invoice;
mod latency;
pub mod mail;
pub mod member;
mod metrics;
pub mod operation;
pub mod plan;
pub mod plan_limits;
pub mod price;
pub mod project;
pub mod reconcile;
pub mod refusal;
pub mod region;
pub mod rehearse;
pub mod sandbox;
pub mod scope;
pub mod seal;
pub mod sequence;
pub mod session;
pub mod settings;
pub mod shown;
pub mod signing;
pub mod ssh_key;
pub mod status;
mod tally;
pub mod telemetry;
pub mod terminal;
pub mod token;
pub mod usage;
pub mod view;
pub mod webhook;
pub mod workspace;

use std::fmt;
use std::sync::{Arc, Mutex};

use nephos_driver::Driver;
use nephos_model::id::{Id, IdMint};
use nephos_model::region::Region;
use nephos_model::{Clock, Entropy, Timestamp};
use nephos_store::Store;
use tokio::sync::{Notify, broadcast, watch};

use crate::plan::After;
use crate::settings::Settings;

/// Operations that ended, of which waiters have not heard yet, at most; who lags looks at the row instead.
const OPERATION_NEWS_MAX: usize = 1024;

/// The control plane. Clones share it.
#[derive(Clone)]
pub struct Cloud(Arc<Inner>);

struct Inner {
    store: Store,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    last_id: Mutex<u128>,
    settings: Settings,
    master_key: seal::MasterKey,
    issuer: String,
    signing: signing::Ring,
    credentials: auth::Credentials,
    budgets: budget::BudgetBook,
    requests: tally::Tally<usage::Counted, i64>,
    answers: tally::Tally<nephos_store::telemetry::RequestKind, nephos_store::telemetry::RequestCounts>,
    sampled: telemetry::Sampled,
    prices: price::Prices,
    closed: invoice::Closed,
    refusals: refusal::Refusals,
    measured: status::Measured,
    metrics: metrics::Metrics,
    deprecated_calls: deprecation::Calls,
    regions: Vec<(Region, Arc<dyn Driver>)>,
    running: Arc<idempotency::Running>,
    shown: shown::Shown,
    work: Notify,
    looks: watch::Sender<usize>,
    settling: reconcile::Settling,
    terminals: Arc<terminal::Places>,
    epochs: Notify,
    mailer: Arc<dyn mail::Mailer>,
    mails: Notify,
    courier: Arc<dyn courier::Courier>,
    deliveries: Notify,
    sent: delivery::Traffic,
    pending: Notify,
    numbered: watch::Sender<u64>,
    operations: broadcast::Sender<nephos_model::id::OperationId>,
    owner: String,
}

/// What a [`Cloud`] is made of.
pub struct Parts {
    /// The database, migrated.
    pub store: Store,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// What the operator decided.
    pub settings: Settings,
    /// What seals secrets in rows.
    pub master_key: seal::MasterKey,
    /// Regions with their drivers; the first is the default. The sandbox's are those whose driver is `simulator`.
    pub regions: Vec<(Region, Arc<dyn Driver>)>,
    /// What brings letters out.
    pub mailer: Arc<dyn mail::Mailer>,
    /// What carries events to webhook endpoints.
    pub courier: Arc<dyn courier::Courier>,
}

impl fmt::Debug for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cloud").field("store", &self.0.store).field("owner", &self.0.owner).finish_non_exhaustive()
    }
}

impl Cloud {
    /// The control plane over its parts. Nothing runs in the background until [`Cloud::start`].
    pub fn new(parts: Parts) -> Self {
        let Parts { store, clock, entropy, settings, master_key, regions, mailer, courier } = parts;
        let issuer = settings.issuer.clone().unwrap_or_else(|| format!("urn:nephos:{}", master_key.name()));
        let owner = format!("{:032x}", entropy.u128());
        Self(Arc::new(Inner {
            store,
            clock,
            entropy,
            last_id: Mutex::new(0),
            settings,
            master_key,
            issuer,
            signing: signing::Ring::default(),
            credentials: auth::Credentials::default(),
            budgets: budget::BudgetBook::default(),
            requests: tally::Tally::default(),
            answers: tally::Tally::default(),
            sampled: telemetry::Sampled::default(),
            prices: price::Prices::default(),
            closed: invoice::Closed::default(),
            refusals: refusal::Refusals::default(),
            measured: status::Measured::default(),
            metrics: metrics::Metrics::default(),
            deprecated_calls: deprecation::Calls::default(),
            regions,
            running: Arc::default(),
            shown: shown::Shown::default(),
            work: Notify::new(),
            looks: watch::Sender::new(0),
            settling: reconcile::Settling::default(),
            terminals: Arc::default(),
            epochs: Notify::new(),
            mailer,
            mails: Notify::new(),
            courier,
            deliveries: Notify::new(),
            sent: delivery::Traffic::default(),
            pending: Notify::new(),
            numbered: watch::Sender::new(0),
            operations: broadcast::channel(OPERATION_NEWS_MAX).0,
            owner,
        }))
    }

    /// The database.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// The time.
    pub fn clock(&self) -> &dyn Clock {
        &*self.0.clock
    }

    /// Randomness.
    pub fn entropy(&self) -> &dyn Entropy {
        &*self.0.entropy
    }

    /// What the operator decided.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// A new identifier, greater than every one before it.
    pub fn id<T: Id>(&self) -> T {
        T::from_raw(IdMint::new(&self.0.last_id, self.clock(), self.entropy()).next())
    }

    /// How many looks at computes are under way in this process.
    pub fn looks(&self) -> watch::Receiver<usize> {
        self.0.looks.subscribe()
    }

    /// Every driver once: regions may share one.
    pub(crate) fn drivers(&self) -> impl Iterator<Item = &Arc<dyn Driver>> {
        let regions = self.regions();
        let is_first = |i: usize| !regions[..i].iter().any(|(other, _)| other.driver == regions[i].0.driver);
        regions.iter().enumerate().filter(move |(i, _)| is_first(*i)).map(|(_, (_, driver))| driver)
    }

    /// Every region with its driver.
    pub(crate) fn regions(&self) -> &[(Region, Arc<dyn Driver>)] {
        &self.0.regions
    }

    pub(crate) fn running(&self) -> &Arc<idempotency::Running> {
        &self.0.running
    }

    /// The name under which this process takes leases.
    pub(crate) fn owner(&self) -> &str {
        &self.0.owner
    }

    /// The time as a tenant has it: a sandbox's clock may be ahead.
    pub(crate) fn now(&self, caller: &caller::Caller) -> Timestamp {
        self.clock().now().plus(caller.clock_ahead)
    }

    /// Tells those who wait that a commit left something for them. Only a hint: the rows say it too.
    pub(crate) fn wake(&self, after: &After) {
        if after.credentials {
            self.0.credentials.forget();
        }
        for (kind, status) in &after.ended {
            self.0.metrics.ended(*kind, *status);
        }
        if self.store().numbers_at_once() {
            self.tell_numbered();
        } else {
            self.0.pending.notify_one();
        }
        if after.work {
            self.0.work.notify_one();
        }
        if after.mail {
            self.0.mails.notify_one();
        }
        if after.deliveries {
            self.0.deliveries.notify_one();
        }
        if after.epoch_over {
            self.0.epochs.notify_one();
        }
        if let Some(id) = after.operation {
            // No receiver is nobody waiting.
            let _ = self.0.operations.send(id);
        }
    }
}
