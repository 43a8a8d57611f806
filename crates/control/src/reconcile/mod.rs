//! Reconciling: for each compute that wants a look, ask its driver what there is and take the next step.
//!
//! A look is a leased row of the queue. All that a look learns is written in one batch, compare-and-set on the
//! compute's version, so two looks can't both act on the same state and a crash anywhere is made good by the next look.

mod alter;
mod look;
pub mod next;
mod settle;

use std::sync::Arc;
use std::time::Duration;

use nephos_driver::{Driver, DriverError, Machine, Notes};
use nephos_model::Timestamp;
use nephos_model::compute::Compute;
use nephos_model::event::Actor;
use nephos_model::fault::Code;
use nephos_model::id::{ComputeId, Id as _, Raw, RequestId};
use nephos_model::image::Image;
use nephos_model::operation::{Kind as OperationKind, Operation, Status as OperationStatus};
use nephos_model::tenant::{Mode, TenantId};
use nephos_model::trace::TraceContext;
use nephos_store as store;
use nephos_store::tenant::Tenant;
use nephos_store::work::Work;
use nephos_store::{Batch, StoreError};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::{Instrument as _, error, info, warn};

use crate::metrics::Asked;
use crate::operation::end;
use crate::plan::{After, Change};
use crate::scope;
use crate::view::{ComputeView, OperationView, json};
use crate::{Cloud, fault};
use look::{Look, Time, Was};
pub(crate) use settle::Settling;

/// Looks at the same time, at most.
const LOOKS_MAX: usize = 32;
/// Rows of the queue that are read at a time.
const DUE_MAX: u32 = 64;
/// How long after the last sign of life of a process another may take over its look.
const LEASE: Duration = Duration::from_secs(15);
/// How often a look under way gives a sign of life.
const LEASE_KEPT_EVERY: Duration = Duration::from_secs(5);
/// How often the end of a clean-up is written again that others overtook; each time one of them got through.
const REMOVED_ATTEMPTS_MAX: usize = 2 * LOOKS_MAX;
/// Failed looks in a row before a compute is given up; a removal is never given up.
const ATTEMPTS_MAX: u32 = 8;
/// The longest pause after failed looks.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// The queue is read at least this often, for what other processes put into it.
const POLL: Duration = Duration::from_secs(5);
/// How often the hosts are searched for orphans.
const ORPHANS_EVERY: Duration = Duration::from_secs(60 * 60);

/// How far a tenant's clock is ahead of the wall's.
pub(crate) fn ahead_of(tenant: &Tenant) -> Duration {
    Duration::from_micros(u64::try_from(tenant.clock_ahead_us).unwrap_or(0))
}

/// A compute as its driver gets it.
pub(crate) fn machine(c: &Compute, image: Image, now: Timestamp) -> Machine {
    Machine {
        id: c.id,
        environment_id: c.environment_id,
        hostname: c.name.clone(),
        vcpus: c.vcpus,
        memory_mib: c.memory_mib,
        disk_gib: c.disk_gib,
        image,
        ssh_keys: c.ssh_keys.lines().map(ToOwned::to_owned).collect(),
        user_data: c.user_data.clone(),
        labels: crate::compute::labels(c).into_iter().collect(),
        notes: c.notes.clone().map(Notes),
        has_run: c.started_at.is_some(),
        now,
    }
}

/// Counts a look for as long as it is under way.
struct Counted(Cloud);

impl Counted {
    fn new(cloud: &Cloud) -> Self {
        cloud.0.looks.send_modify(|looks| *looks += 1);
        Self(cloud.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.looks.send_modify(|looks| *looks -= 1);
    }
}

/// How a look ended.
enum Looked {
    /// Look again then, after so many failed looks in a row.
    Later(Timestamp, u32),
    /// Nothing is left of the compute.
    Gone,
    /// The rows changed meanwhile: look again at once.
    Again,
}

/// Why a look could not be finished.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Driver(#[from] DriverError),
    #[error("{0}")]
    Other(String),
}

impl Cloud {
    /// Runs the reconcilers until the future is dropped. Looks under way are finished by the next process.
    pub(crate) async fn reconcile(self) {
        let slots = Arc::new(Semaphore::new(LOOKS_MAX));
        let mut looks = JoinSet::new();
        loop {
            while looks.try_join_next().is_some() {}
            let now = self.clock().now();
            let due = match self.store().work_due(now, DUE_MAX).await {
                Ok(due) => due,
                Err(error) => {
                    warn!(%error, "the reconcilers' queue can't be read");
                    self.clock().sleep(POLL).await;
                    continue;
                }
            };
            let read = due.len();
            let due: Vec<Work> = due.into_iter().filter(|work| !self.0.settling.holds(work.tenant)).collect();
            // Only what somebody settles already may be due: then there is nothing to hurry for.
            let full = read == DUE_MAX as usize && !due.is_empty();
            for work in due {
                let lag = now.since(work.due_at);
                // Closed never: the semaphore lives as long as this loop.
                let Ok(slot) = slots.clone().acquire_owned().await else { return };
                let until = self.clock().now().plus(LEASE);
                match self.take(&work, until).await {
                    Ok(true) => self.0.metrics.late(lag),
                    Ok(false) => continue,
                    Err(error) => {
                        warn!(%error, "a compute can't be leased");
                        continue;
                    }
                }
                let cloud = self.clone();
                let counted = Counted::new(&cloud);
                looks.spawn(async move {
                    cloud.look(work, until).await;
                    drop((slot, counted));
                    cloud.0.work.notify_one();
                });
            }
            if full {
                continue;
            }
            let now = self.clock().now();
            let next = self.store().work_next(now).await.ok().flatten().unwrap_or_else(|| now.plus(POLL));
            let alarm = self.clock().sleep_until(next.min(now.plus(POLL)));
            tokio::select! { () = self.0.work.notified() => {}, () = alarm => {} }
        }
    }

    async fn take(&self, work: &Work, until: Timestamp) -> Result<bool, StoreError> {
        let statement = store::work::lease(work.compute_id, self.owner(), until, self.clock().now());
        match self.store().write(Batch::from(statement)).await {
            Ok(_) => Ok(true),
            Err(StoreError::Missed { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// One look at one compute, as a part of the request that asked for what is done.
    async fn look(&self, work: Work, until: Timestamp) {
        let asked = self.asked_by(&work).await;
        let trace =
            asked.as_ref().map(|(request, trace)| trace.clone().unwrap_or_else(|| TraceContext::begun(*request)));
        // Boxed: a look is the largest future there is.
        let looking = Box::pin(self.look_leased(work.clone(), until));
        let looking = looking.instrument(scope::look(work.compute_id, &work.region, trace.as_ref()));
        match asked {
            Some((request, _)) => scope::of(request, looking).await,
            None => looking.await,
        }
    }

    /// The request behind the operation that is under way on a compute, and the trace that it continued.
    async fn asked_by(&self, work: &Work) -> Option<(RequestId, Option<TraceContext>)> {
        let found = self.store().operation_under_way(work.tenant, work.compute_id).await;
        // What can't be read now is only missing from log lines; the look itself says what is wrong.
        let (request, trace) = found.ok().flatten()?;
        Some((RequestId::from_raw(Raw::from_uuid(&request)?), trace))
    }

    /// What a driver is asked for, counted and in a span of its own.
    pub(super) async fn asked<T>(
        &self,
        driver: &dyn Driver,
        asked: Asked,
        asking: impl Future<Output = Result<T, DriverError>>,
    ) -> Result<T, DriverError> {
        let span = tracing::info_span!(
            target: scope::SPANS, "driver", otel.name = asked.span(), otel.kind = "client",
            nephos.driver = driver.name(), otel.status = tracing::field::Empty,
        );
        let began = self.clock().monotonic();
        let result = asking.instrument(span.clone()).await;
        self.0.metrics.step(driver.name(), asked, &result, self.clock().monotonic().saturating_sub(began));
        if result.is_err() {
            span.record("otel.status", "error");
        }
        result
    }

    /// One look at one compute, whose lease is held until `until`.
    async fn look_leased(&self, work: Work, mut until: Timestamp) {
        let looking = self.look_at(&work);
        tokio::pin!(looking);
        let looked = loop {
            let pause = self.clock().sleep(LEASE_KEPT_EVERY);
            tokio::select! {
                looked = &mut looking => break looked,
                () = pause => until = self.keep(&work, until).await,
            }
        };
        let looked = match looked {
            Ok(looked) => looked,
            Err(error) => {
                let attempts = work.attempts.saturating_add(1);
                self.0.metrics.look_failed();
                warn!(compute = %work.compute_id, attempts, error = &error as &dyn std::error::Error, "a look failed");
                let exhausted = attempts >= ATTEMPTS_MAX && matches!(error, LookError::Driver(_));
                match exhausted.then_some(()) {
                    Some(()) => self.give_up(&work).await.unwrap_or(Looked::Later(self.backoff(attempts), attempts)),
                    None => Looked::Later(self.backoff(attempts), attempts),
                }
            }
        };
        let (id, owner, now) = (work.compute_id, self.owner(), self.clock().now());
        let batch = match looked {
            Looked::Gone => return,
            Looked::Later(at, attempts) => Batch::from(store::work::later(id, owner, until, at, attempts)),
            Looked::Again => Batch::from(store::work::later(id, owner, until, now, work.attempts)),
        };
        if let Err(error) = self.store().write(batch).await {
            // The lease runs out, and the row is due then.
            warn!(compute = %id, %error, "a lease can't be given back");
        }
    }

    /// Keeps a lease for a look that takes long. One that is lost does no harm: every write is compare-and-set.
    async fn keep(&self, work: &Work, until: Timestamp) -> Timestamp {
        let longer = self.clock().now().plus(LEASE);
        let statement = store::work::keep(work.compute_id, self.owner(), until, longer);
        match self.store().write(Batch::from(statement)).await {
            Ok(_) => longer,
            Err(error) => {
                warn!(compute = %work.compute_id, %error, "a lease can't be kept");
                until
            }
        }
    }

    fn backoff(&self, attempts: u32) -> Timestamp {
        let pause = Duration::from_millis(250).saturating_mul(1 << attempts.min(16)).min(BACKOFF_MAX);
        self.clock().now().plus(pause)
    }

    async fn look_at(&self, work: &Work) -> Result<Looked, LookError> {
        let tenant = self.store().tenant(work.tenant).await?;
        let tenant = tenant.ok_or_else(|| LookError::Other(format!("tenant {} is not there", work.tenant.0)))?;
        let ahead = ahead_of(&tenant);
        let driver = self.driver(tenant.mode, &work.region).cloned();
        if !tenant.is_current {
            // The sandbox was reset: its rows are about to be removed, and nobody may act on them any more.
            if let Some(driver) = driver {
                driver.discard(work.compute_id).await?;
            }
            self.store().write(Batch::from(store::work::end(work.compute_id))).await?;
            return Ok(Looked::Gone);
        }
        let Some(driver) = driver else {
            return Err(LookError::Other(format!("no configured region is called {}", work.region)));
        };
        let Some(compute) = self.store().compute(work.tenant, work.compute_id).await? else {
            return self.discard(work, &*driver, &tenant).await;
        };
        let operation = match compute.operation_id {
            Some(id) => self.store().operation(work.tenant, id).await?,
            None => None,
        };
        let image = self.image_of(&compute).await.map_err(|f| LookError::Other(f.to_string()))?;
        let alteration = self.store().alteration(work.tenant, compute.id).await?;
        let time = if tenant.mode == Mode::Test && driver.is_simulated() {
            let at = operation.as_ref().map_or(compute.updated_at, |(o, _)| o.created_at);
            Time::AsOf { at, horizon: work.due_at.min(self.clock().now()).plus(ahead) }
        } else {
            Time::Present
        };
        let look = Look { cloud: self, tenant: work.tenant, mode: tenant.mode, ahead, driver, image, alteration, time };
        look.run(compute, operation).await
    }

    /// Removes what is left of a deleted compute; then returns its quota and capacity.
    async fn discard(&self, work: &Work, driver: &dyn Driver, of: &Tenant) -> Result<Looked, LookError> {
        let (tenant, id) = (work.tenant, work.compute_id);
        let Some(removal) = self.store().removal(tenant, id).await? else {
            // Nothing is known of it: whatever is there is an orphan.
            self.asked(driver, Asked::Discard, driver.discard(id)).await?;
            self.store().write(Batch::from(store::work::end(id))).await?;
            return Ok(Looked::Gone);
        };
        self.asked(driver, Asked::Discard, driver.discard(id)).await?;
        let now = if of.mode == Mode::Test && driver.is_simulated() {
            // There was nothing to be removed, which takes no time.
            removal.requested_at
        } else {
            self.clock().now().plus(ahead_of(of))
        };
        let is_live = of.mode == Mode::Live;
        // Several clean-ups may end at once that belong to one operation: each counts itself in turn.
        for _ in 0..REMOVED_ATTEMPTS_MAX {
            let (batch, outcome) = self.removed(tenant, &removal, is_live, now).await?;
            match self.store().write(batch).await {
                Ok(_) => {
                    let (operation, ended) = (Some(removal.operation_id), outcome.into_iter().collect());
                    self.wake(&After { operation, ended, ..After::default() });
                    info!(compute = %id, "nothing is left of a deleted compute");
                    return Ok(Looked::Gone);
                }
                Err(StoreError::Missed { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Looked::Again)
    }

    /// What is written when nothing is left of a compute, and how an operation ends with it.
    async fn removed(
        &self,
        tenant: TenantId,
        removal: &store::compute::Removal,
        is_live: bool,
        now: Timestamp,
    ) -> Result<(Batch, Option<(OperationKind, OperationStatus)>), StoreError> {
        let id = removal.compute_id;
        let mut batch = Batch::new();
        batch.push(store::compute::removed(tenant, id));
        batch.push(store::counter::give_back(tenant, "quota.computes", 1));
        batch.push(store::counter::give_back(tenant, "quota.vcpus", removal.vcpus.into()));
        batch.push(store::counter::give_back(tenant, "quota.memory_mib", removal.memory_mib.into()));
        batch.push(store::counter::give_back(tenant, "quota.disk_gib", removal.disk_gib.into()));
        if is_live {
            let back = nephos_model::region::Capacity {
                vcpus: removal.vcpus.into(),
                memory_mib: removal.memory_mib.into(),
                disk_gib: removal.disk_gib.into(),
            };
            batch.push(store::capacity::put_back(&removal.region, back));
        }
        let mut outcome = None;
        if let Some((mut operation, version)) = self.store().operation(tenant, removal.operation_id).await? {
            let before = OperationView::from(&operation);
            let ended = if operation.kind == OperationKind::ProjectDelete {
                crate::operation::removed(&mut operation, id, now)
            } else {
                end(&mut operation, OperationStatus::Succeeded, None, now);
                true
            };
            batch.push(store::operation::update(tenant, &operation, version));
            if ended {
                outcome = Some((operation.kind, operation.status));
                batch.push(self.operation_event(tenant, &before, &operation, now));
                if operation.kind == OperationKind::ProjectDelete {
                    batch.push(store::counter::give_back(tenant, "quota.projects", 1));
                }
            }
        }
        batch.push(store::work::end(id));
        Ok((batch, outcome))
    }

    /// A compute that its driver failed too often.
    async fn give_up(&self, work: &Work) -> Option<Looked> {
        let why = format!(
            "The host could not do it in {ATTEMPTS_MAX} tries. The operator finds the cause in the log under the compute's id; then start it again or delete it."
        );
        let tenant = self.store().tenant(work.tenant).await.ok()??;
        let compute = self.store().compute(work.tenant, work.compute_id).await.ok()??;
        let operation = match compute.operation_id {
            Some(id) => self.store().operation(work.tenant, id).await.ok()?,
            None => None,
        };
        let driver = self.driver(tenant.mode, &work.region)?.clone();
        let ahead = ahead_of(&tenant);
        let image = self.image_of(&compute).await.ok()?;
        let alteration = self.store().alteration(work.tenant, compute.id).await.ok()?;
        let (mode, time) = (tenant.mode, Time::Present);
        let look = Look { cloud: self, tenant: work.tenant, mode, ahead, driver, image, alteration, time };
        let was = Was { view: ComputeView::from(&compute), status: compute.status };
        look.fail(&was, compute, operation, Code::InternalServerError, why).await.ok()
    }

    /// The event of an operation that ended by itself.
    fn operation_event(
        &self,
        tenant: TenantId,
        before: &OperationView,
        operation: &Operation,
        now: Timestamp,
    ) -> store::Statement {
        let event = match operation.status {
            OperationStatus::Succeeded => "operation.succeeded",
            OperationStatus::Failed => "operation.failed",
            OperationStatus::Cancelled => "operation.cancelled",
            OperationStatus::Pending | OperationStatus::Running => "operation.updated",
        };
        let change =
            Change { before: Some(json(before)), ..crate::operation::change(event, "operation.end", operation, 200) };
        self.event_of(tenant, &change, Actor::System, Some(operation.request_id.clone()), now)
    }

    /// Hears from a driver which machines changed by themselves, until the future is dropped.
    pub(crate) async fn listen(self, driver: Arc<dyn Driver>) {
        loop {
            let id = driver.changed().await;
            let look = Batch::from(store::work::look(id, self.clock().now()));
            match self.store().write(look).await {
                Ok(_) => self.0.work.notify_one(),
                Err(error) => warn!(compute = %id, %error, "a changed machine can't be looked at now"),
            }
        }
    }

    /// Searches every host for machines that nobody knows, and removes them, now and every hour.
    pub(crate) async fn search_orphans(self) {
        loop {
            for (region, driver) in self.regions() {
                match driver.machines().await {
                    Ok(machines) => {
                        for id in machines {
                            self.orphan(&**driver, id).await;
                        }
                    }
                    Err(error) => warn!(region = region.name, %error, "a host can't be searched for orphans"),
                }
            }
            self.clock().sleep(ORPHANS_EVERY).await;
        }
    }

    async fn orphan(&self, driver: &dyn Driver, id: ComputeId) {
        match self.store().work_known(id).await {
            Ok(true) => {}
            Ok(false) => match driver.discard(id).await {
                Ok(()) => warn!(compute = %id, "an orphan was removed: no row knows it"),
                Err(error) => error!(compute = %id, %error, "an orphan can't be removed"),
            },
            Err(error) => warn!(%error, "orphans can't be told from computes now"),
        }
    }

    /// What the process does first: every region is counted, every live compute is looked at, leases of a process that
    /// is gone are ended when no other can run.
    pub(crate) async fn take_up(&self) -> Result<(), nephos_model::Fault> {
        let now = self.clock().now();
        let mut batch = Batch::new();
        for (region, _) in self.regions_of(Mode::Live) {
            batch.push(store::capacity::open(&region.name));
            batch.push(store::work::look_all(&region.name, now));
        }
        if self.store().engine() == store::Engine::Sqlite {
            batch.push(store::work::reclaim(now));
        }
        self.store().write(batch).await.map_err(fault::store)?;
        Ok(())
    }
}
