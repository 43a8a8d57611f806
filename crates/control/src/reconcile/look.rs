//! One look at one living compute: the moves that bring it to its wish, and the one batch that writes what came of them.
//!
//! What to do is decided in [`super::next`]; who looks when, in [`super`].

use std::sync::Arc;
use std::time::Duration;

use nephos_driver::{Driver, DriverError, Goal, Halt, Machine, Seen};
use nephos_model::Timestamp;
use nephos_model::compute::{Alteration, Compute, Status, Wish};
use nephos_model::event::Actor;
use nephos_model::fault::Code;
use nephos_model::image::Image;
use nephos_model::operation::{Kind, Operation, Status as OperationStatus};
use nephos_model::tenant::{Mode, TenantId};
use nephos_store as store;
use nephos_store::{Batch, StoreError};
use tracing::{info, warn};

use super::alter::Altered;
use super::next::{Step, Wished, next};
use super::{LookError, Looked, machine};
use crate::Cloud;
use crate::metrics::Asked;
use crate::operation::{end, reach};
use crate::plan::{After, Change};
use crate::view::{ComputeView, OperationView, json};

/// Moves in one look, at most.
const MOVES_MAX: u32 = 8;
/// A compute that ran this long does not count as dying in a row.
const LIVED: Duration = Duration::from_secs(10 * 60);

/// One look at one living compute.
pub(super) struct Look<'a> {
    pub(super) cloud: &'a Cloud,
    pub(super) tenant: TenantId,
    pub(super) mode: Mode,
    pub(super) ahead: Duration,
    pub(super) driver: Arc<dyn Driver>,
    pub(super) image: Image,
    pub(super) alteration: Option<Alteration>,
    pub(super) time: Time,
}

/// The time of a look, as the tenant has it.
///
/// A sandbox's machines follow from notes and time alone, and their looks do so too: a look that comes late is done as of
/// the times at which it was due, one after the other. So a machine's life has the same times however late anybody
/// looked: because the server was down, or because the sandbox's clock went forwards by a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Time {
    /// Now.
    Present,
    /// A time that is past, perhaps; the look may go on until its horizon, at which it was due.
    AsOf { at: Timestamp, horizon: Timestamp },
}

/// The operation under way, with the version of its row.
pub(super) type MaybeOperation = Option<(Operation, i64)>;

impl Look<'_> {
    pub(super) fn now(&self) -> Timestamp {
        match self.time {
            Time::Present => self.cloud.clock().now().plus(self.ahead),
            Time::AsOf { at, .. } => at,
        }
    }

    /// Goes on to `next`, if the look has not to end before.
    fn step_to(&mut self, next: Timestamp) -> bool {
        match &mut self.time {
            Time::AsOf { at, horizon } if next <= *horizon => {
                *at = next.max(*at);
                true
            }
            Time::AsOf { .. } | Time::Present => false,
        }
    }

    /// A tenant's time as the wall has it.
    fn wall(&self, at: Timestamp) -> Timestamp {
        at.minus(self.ahead)
    }

    /// Observes, decides and moves until the compute is as wished or must be waited for.
    pub(super) async fn run(
        mut self,
        mut compute: Compute,
        mut operation: MaybeOperation,
    ) -> Result<Looked, LookError> {
        let mut was = Was { view: ComputeView::from(&compute), status: compute.status };
        let mut report =
            self.cloud.asked(&*self.driver, Asked::Observe, self.driver.observe(&self.machine(&compute))).await?;
        for _ in 0..MOVES_MAX {
            if let Some(notes) = report.notes.take() {
                compute.notes = Some(notes.0);
            }
            let now = self.now();
            let mut restarted = false;
            let wished = self.wished(&compute, operation.as_ref(), now);
            let goal = match next(&wished, &report.seen, now) {
                Step::Look(at) if self.step_to(at) => {
                    report = self.driver.observe(&self.machine(&compute)).await?;
                    continue;
                }
                Step::Look(at) => return self.save(&was, compute, operation, self.wall(at)).await,
                Step::Settle => return self.settle(&was, compute, operation, &report.seen).await,
                Step::Stopped => {
                    compute.wish = Wish::Stopped;
                    compute.reason = Some("The guest shut itself down.".to_owned());
                    return self.settle(&was, compute, operation, &report.seen).await;
                }
                Step::Fail(why) => return self.fail(&was, compute, operation, Code::Conflict, why).await,
                Step::Restart(goal) => {
                    compute.restarts = wished.deaths + 1;
                    if wished.was_running {
                        let Seen::Stopped { why: Halt::Died(why) } = &report.seen else { return Ok(Looked::Again) };
                        compute.status = Status::Starting;
                        compute.reason = Some(format!("It stopped by itself ({why}) and is restarted by its policy."));
                        compute.address = None;
                        compute.updated_at = now;
                        compute.boots += 1;
                        restarted = true;
                    }
                    goal_of(&compute, goal)
                }
                Step::Converge(goal) => goal,
                Step::Alter => match self.alter(&mut was, &mut compute, &mut operation).await? {
                    Altered::Seen(then) => {
                        report = then;
                        continue;
                    }
                    Altered::Overtaken => return Ok(Looked::Again),
                    Altered::Never(code, why) => return self.fail(&was, compute, operation, code, why).await,
                },
            };
            // What was counted and noted must be durable before the host is changed.
            let begun = Self::begun(&mut operation, &compute, goal, now);
            let told = if restarted { self.restarted(&was, &compute, now) } else { Vec::new() };
            match self.write_progress(was.status, &mut compute, &mut operation, begun, told).await? {
                Wrote::Done => was.status = compute.status,
                Wrote::Overtaken => return Ok(Looked::Again),
            }
            if restarted {
                was.view = ComputeView::from(&compute);
                self.cloud.wake(&After::default());
            }
            let machine = self.machine(&compute);
            let converging = self.driver.converge(&machine, goal);
            report = match self.cloud.asked(&*self.driver, Asked::Converge, converging).await {
                Ok(report) => report,
                Err(error) => {
                    let (code, why) = for_good(error)?;
                    return self.fail(&was, compute, operation, code, why).await;
                }
            };
        }
        self.save(&was, compute, operation, self.cloud.clock().now()).await
    }

    fn machine(&self, compute: &Compute) -> Machine {
        machine(compute, self.image.clone(), self.now())
    }

    fn wished(&self, compute: &Compute, operation: Option<&(Operation, i64)>, now: Timestamp) -> Wished {
        let never = Timestamp::from_micros(i64::MAX);
        let deadline = self.cloud.settings().stop_deadline;
        let stopping = operation.and_then(|(o, _)| {
            let step = o.steps.iter().find(|s| s.name == "shut_down" && s.ended_at.is_none())?;
            step.started_at
        });
        let cancelled =
            (compute.operation_id.is_none() && compute.status == Status::Stopping).then_some(compute.updated_at);
        Wished {
            wish: compute.wish,
            boot: compute.boots,
            was_running: compute.status == Status::Running,
            policy: compute.restart_policy,
            deaths: if compute.status == Status::Running && lived(compute, now) { 0 } else { compute.restarts },
            force_at: stopping.or(cancelled).map_or(never, |since| since.plus(deadline)),
            alters: self.alteration.is_some(),
        }
    }

    /// The operation's step that a move belongs to is under way.
    fn begun(operation: &mut MaybeOperation, compute: &Compute, goal: Goal, now: Timestamp) -> bool {
        let Some((operation, _)) = operation.as_mut() else { return false };
        let step = match goal {
            Goal::Stopped { .. } => "shut_down",
            Goal::Running { .. } if operation.kind == Kind::ComputeCreate && compute.notes.is_none() => "prepare",
            Goal::Running { .. } => "boot",
        };
        reach(operation, step, now)
    }

    pub(super) async fn write_progress(
        &self,
        was: Status,
        compute: &mut Compute,
        operation: &mut MaybeOperation,
        begun: bool,
        told: Vec<store::Statement>,
    ) -> Result<Wrote, LookError> {
        let mut batch = Batch::from(store::compute::update(self.tenant, compute, was));
        batch.extend(told);
        if let (true, Some((operation, version))) = (begun, operation.as_mut()) {
            batch.push(store::operation::update(self.tenant, operation, *version));
            *version += 1;
        }
        match self.cloud.store().write(batch).await {
            Ok(_) => {
                compute.version += 1;
                Ok(Wrote::Done)
            }
            Err(StoreError::Missed { .. }) => Ok(Wrote::Overtaken),
            Err(error) => Err(error.into()),
        }
    }

    /// On the way: what is known is kept, look again at `at` (the wall's time).
    async fn save(
        &self,
        was: &Was,
        mut compute: Compute,
        mut operation: MaybeOperation,
        at: Timestamp,
    ) -> Result<Looked, LookError> {
        // A simulation says when it boots: with its second move.
        let booting = compute.wish == Wish::Running && compute.notes.is_some() && !self.driver.is_simulated();
        let begun = match operation.as_mut() {
            Some((o, _)) if booting && o.kind == Kind::ComputeCreate => reach(o, "boot", self.now()),
            _ => false,
        };
        match self.write_progress(was.status, &mut compute, &mut operation, begun, Vec::new()).await? {
            Wrote::Done => Ok(Looked::Later(at, 0)),
            Wrote::Overtaken => Ok(Looked::Again),
        }
    }

    /// It is as wished: status, address, meter, event and the operation's end in one batch.
    async fn settle(
        &self,
        was: &Was,
        mut compute: Compute,
        operation: MaybeOperation,
        seen: &Seen,
    ) -> Result<Looked, LookError> {
        let now = self.now();
        let idle = Looked::Later(store::work::IDLE, 0);
        let status = match seen {
            Seen::Running { address, ssh_host_key, .. } => {
                compute.address = Some(address.clone());
                compute.ssh_host_key = ssh_host_key.clone().or(compute.ssh_host_key);
                compute.reason = None;
                Status::Running
            }
            // What failed stays so until somebody acts on it.
            _ if compute.status == Status::Failed => Status::Failed,
            _ => {
                compute.address = None;
                Status::Stopped
            }
        };
        if compute.status == status && operation.is_none() {
            return match self.write_progress(was.status, &mut compute, &mut None, false, Vec::new()).await? {
                Wrote::Done => Ok(idle),
                Wrote::Overtaken => Ok(Looked::Again),
            };
        }
        if status == Status::Running {
            compute.started_at = Some(now);
        }
        let event = if status == Status::Running { "compute.running" } else { "compute.stopped" };
        self.finish(was, compute, operation, status, event, None, now).await
    }

    /// It can't be as wished: the reason is for people.
    pub(super) async fn fail(
        &self,
        was: &Was,
        mut compute: Compute,
        operation: MaybeOperation,
        code: Code,
        why: String,
    ) -> Result<Looked, LookError> {
        warn!(compute = %compute.id, why, "a compute failed");
        compute.wish = Wish::Stopped;
        compute.reason = Some(why.clone());
        compute.address = None;
        let now = self.now();
        self.finish(was, compute, operation, Status::Failed, "compute.failed", Some((code, why)), now).await
    }

    #[allow(clippy::too_many_arguments)] // what one batch is made of
    async fn finish(
        &self,
        was: &Was,
        mut compute: Compute,
        operation: MaybeOperation,
        status: Status,
        event: &'static str,
        error: Option<(Code, String)>,
        now: Timestamp,
    ) -> Result<Looked, LookError> {
        let cloud = self.cloud;
        compute.status = status;
        compute.operation_id = None;
        compute.updated_at = now;
        let request_id = operation.as_ref().map(|(o, _)| o.request_id.clone());
        let mut batch = Batch::from(store::compute::update(self.tenant, &compute, was.status));
        batch.extend(self.meter(&compute, status == Status::Running, now));
        batch.extend(self.abandon(&compute));
        batch.push(self.event(event, was, &compute, request_id, now));
        let mut ended = None;
        if let Some((mut operation, version)) = operation.filter(|(o, _)| !o.status.ended()) {
            let status = if error.is_some() { OperationStatus::Failed } else { OperationStatus::Succeeded };
            let before = OperationView::from(&operation);
            end(&mut operation, status, error, now);
            batch.push(store::operation::update(self.tenant, &operation, version));
            batch.push(cloud.operation_event(self.tenant, &before, &operation, now));
            ended = Some((operation.id, (operation.kind, operation.status)));
        }
        match cloud.store().write(batch).await {
            Ok(_) => {
                info!(compute = %compute.id, status = %compute.status, "a compute settled");
                let (operation, ended) = ended.unzip();
                cloud.wake(&After { operation, ended: ended.into_iter().collect(), ..After::default() });
                Ok(Looked::Later(store::work::IDLE, 0))
            }
            Err(StoreError::Missed { .. }) => Ok(Looked::Again),
            Err(error) => Err(error.into()),
        }
    }

    /// Its policy restarts it: that it died is told by an event, since nothing of it is left once it runs again.
    fn restarted(&self, was: &Was, compute: &Compute, now: Timestamp) -> Vec<store::Statement> {
        warn!(compute = %compute.id, why = compute.reason, "a compute stopped by itself and is restarted by its policy");
        vec![self.event("compute.starting", was, compute, None, now)]
    }

    fn event(
        &self,
        event: &'static str,
        was: &Was,
        compute: &Compute,
        request_id: Option<String>,
        now: Timestamp,
    ) -> store::Statement {
        let change = Change {
            event,
            action: "compute.settle",
            resource_id: compute.id.to_string(),
            project_id: Some(compute.project_id),
            environment_id: Some(compute.environment_id),
            before: Some(json(&was.view)),
            after: Some(json(&ComputeView::from(compute))),
            status: 200,
        };
        self.cloud.event_of(self.tenant, &change, Actor::System, request_id, now)
    }

    /// From now on its running or its stopped time is metered; one that never ran is not.
    pub(super) fn meter(&self, compute: &Compute, running: bool, now: Timestamp) -> Vec<store::Statement> {
        if compute.started_at.is_none() {
            return Vec::new();
        }
        let price = self.cloud.size(&compute.size).map(|size| self.cloud.price_of(size));
        let microunits_per_hour = match (self.mode, price) {
            (Mode::Test, _) | (_, None) => 0,
            (Mode::Live, Some(price)) if running => price.running_microunits_per_hour,
            (Mode::Live, Some(price)) => price.stopped_microunits_per_hour,
        };
        let meter = store::meter::Meter {
            resource_id: compute.id,
            project_id: compute.project_id,
            environment_id: compute.environment_id,
            item: if running { "compute.running" } else { "compute.stopped" },
            size: &compute.size,
            region: &compute.region,
            microunits_per_hour,
        };
        store::meter::turn(self.tenant, &meter, now.secs(), &format!("v{}", compute.version)).into()
    }
}

/// What a compute was when the look began, and the status that its row has: only a write of ours changes that while the
/// version is the same.
pub(super) struct Was {
    pub(super) view: ComputeView,
    pub(super) status: Status,
}

pub(super) enum Wrote {
    Done,
    Overtaken,
}

/// What a driver will not do however often it is asked: a code and the reason, for people. All else is tried again.
pub(super) fn for_good(error: DriverError) -> Result<(Code, String), LookError> {
    match error {
        DriverError::Refused(why) => Ok((Code::Conflict, why)),
        DriverError::NoCapacity(why) => Ok((Code::CapacityUnavailable, why)),
        error @ DriverError::Passing { .. } => Err(error.into()),
    }
}

/// Whether a compute ran long enough that its next death is the first of a new row.
fn lived(compute: &Compute, now: Timestamp) -> bool {
    compute.started_at.is_some_and(|at| now.since(at) >= LIVED)
}

/// A restart goes to the boot that was just counted.
fn goal_of(compute: &Compute, goal: Goal) -> Goal {
    match goal {
        Goal::Running { .. } => Goal::Running { boot: compute.boots },
        stop @ Goal::Stopped { .. } => stop,
    }
}
