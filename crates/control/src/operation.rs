//! Durable operations.

use std::time::Duration;

use nephos_model::Fault;
use nephos_model::Timestamp;
use nephos_model::compute::{Compute, Status as ComputeStatus, Wish};
use nephos_model::fault::{Code, Detail};
use nephos_model::id::{ComputeId, Id, OperationId, ProjectId};
use nephos_model::operation::{Kind, Operation, Status, Step, removal_step};
use nephos_model::page::{Listed, Page};
use nephos_store as store;
pub use nephos_store::operation::Filter;
use tokio::sync::broadcast::error::RecvError;

use crate::caller::{ComputeWrite, Grant, OperationRead, OperationWrite};
use crate::compute::Begun;
use crate::plan::{Change, Plan};
use crate::view::{OperationView, json};
use crate::{Cloud, fault};

/// Seconds that a client may wait for an operation's end in one request.
pub const WAIT_S_MAX: u32 = 30;

impl Cloud {
    /// One operation, or 404.
    pub async fn operation(&self, grant: &Grant<OperationRead>, id: OperationId) -> Result<Operation, Fault> {
        Ok(self.visible_operation(grant, id).await?.0)
    }

    async fn visible_operation<P>(
        &self,
        grant: &Grant<P>,
        id: OperationId,
    ) -> Result<store::operation::Versioned, Fault> {
        let found = self.store().operation(grant.tenant(), id).await.map_err(fault::store)?;
        found
            .filter(|(o, _)| grant.caller().sees_within(o.project_id, o.environment_id))
            .ok_or_else(|| Fault::not_found("operation"))
    }

    /// One operation as soon as it has ended, or as it is after `wait_s` seconds (at most [`WAIT_S_MAX`]).
    pub async fn await_operation(
        &self,
        grant: &Grant<OperationRead>,
        id: OperationId,
        wait_s: u32,
    ) -> Result<Operation, Fault> {
        self.ended_or_after(grant, id, wait_s).await
    }

    /// What was begun on a compute, as it is when it has ended or `wait_s` seconds later; none when the compute is gone.
    pub async fn await_begun(&self, grant: &Grant<ComputeWrite>, begun: &Begun, wait_s: u32) -> Option<Begun> {
        let operation = self.ended_or_after(grant, begun.operation.id, wait_s).await.ok()?;
        let compute = self.store().compute(grant.tenant(), begun.compute.id).await.ok()??;
        Some(Begun { compute, operation })
    }

    async fn ended_or_after<P>(&self, grant: &Grant<P>, id: OperationId, wait_s: u32) -> Result<Operation, Fault> {
        // News of another replica do not arrive here; a look every second finds them.
        const LOOK_EVERY: Duration = Duration::from_secs(1);
        let mut news = self.0.operations.subscribe();
        let deadline = self.clock().monotonic() + Duration::from_secs(u64::from(wait_s.min(WAIT_S_MAX)));
        loop {
            let (operation, _) = self.visible_operation(grant, id).await?;
            let left = deadline.saturating_sub(self.clock().monotonic());
            if operation.status.ended() || left.is_zero() {
                return Ok(operation);
            }
            let pause = self.clock().sleep(left.min(LOOK_EVERY));
            let heard = async {
                loop {
                    match news.recv().await {
                        Ok(heard) if heard != id => {}
                        Ok(_) | Err(RecvError::Lagged(_)) => return,
                        Err(RecvError::Closed) => std::future::pending().await,
                    }
                }
            };
            tokio::select! { () = pause => {}, () = heard => {} }
        }
    }

    /// A page of the operations that the credential sees.
    pub async fn operations(
        &self,
        grant: &Grant<OperationRead>,
        mut filter: store::operation::Filter,
        page: &Page,
    ) -> Result<Listed<Operation>, Fault> {
        let caller = grant.caller();
        if filter.project_id.is_some_and(|p| !caller.sees_project(p)) {
            return Ok(Listed { items: Vec::new(), total: 0, more: false });
        }
        filter.project_id = filter.project_id.or(caller.project_id);
        filter.environment_id = filter.environment_id.or(caller.environment_id);
        self.store().operations(grant.tenant(), &filter, page).await.map_err(fault::store)
    }

    /// Cancels what brings a compute up: its wish is then to be stopped. 409 for what has ended or can't be undone.
    pub async fn cancel_operation(
        &self,
        grant: &Grant<OperationWrite>,
        id: OperationId,
    ) -> Result<Plan<Operation>, Fault> {
        let tenant = grant.tenant();
        let now = self.now(grant.caller());
        let (mut operation, version) = self.visible_operation(grant, id).await?;
        if operation.status.ended() {
            let message = format!("The operation has ended already: it is {}.", operation.status);
            return Err(Fault::conflict(Detail::new("operation_ended", message).resource(id)));
        }
        let undoable = matches!(operation.kind, Kind::ComputeCreate | Kind::ComputeStart | Kind::ComputeReboot);
        let compute = match operation.compute_id {
            Some(id) => self.store().compute(tenant, id).await.map_err(fault::store)?,
            None => None,
        };
        let Some(compute) = compute.filter(|_| undoable) else {
            let message = format!("An operation of the kind {} can't be cancelled.", operation.kind.as_str());
            return Err(Fault::conflict(Detail::new("not_cancellable", message).resource(id)));
        };
        let before = json(&OperationView::from(&operation));
        end(&mut operation, Status::Cancelled, None, now);
        let mut plan = Plan::new(operation).of(compute.project_id, Some(compute.environment_id));
        plan.write([store::operation::update(tenant, &plan.value, version)]);
        let was = compute.status;
        let stopped = Compute {
            wish: Wish::Stopped,
            status: ComputeStatus::Stopping,
            operation_id: None,
            updated_at: now,
            ..compute
        };
        plan.write(store::compute::update(tenant, &stopped, was));
        plan.write([store::work::want(tenant, stopped.id, &stopped.region, self.clock().now())]);
        plan.after.work = true;
        plan.after.operation = Some(id);
        let change =
            Change { before: Some(before), ..change("operation.cancelled", "operation.cancel", &plan.value, 202) };
        plan.after.ended.push((plan.value.kind, Status::Cancelled));
        self.journal(&mut plan, grant, now, change);
        Ok(plan)
    }

    /// A new operation on a compute.
    pub(crate) fn new_operation<P>(
        &self,
        grant: &Grant<P>,
        kind: Kind,
        compute: &Compute,
        now: Timestamp,
    ) -> Operation {
        let step =
            |name: &&str| Step { name: (*name).to_owned(), status: Status::Pending, started_at: None, ended_at: None };
        Operation {
            id: self.id(),
            kind,
            status: Status::Pending,
            compute_id: Some(compute.id),
            project_id: compute.project_id,
            environment_id: Some(compute.environment_id),
            steps: kind.steps().iter().map(step).collect(),
            error: None,
            request_id: grant.request().id.raw().to_uuid(),
            trace: grant.request().trace.clone(),
            created_at: now,
            started_at: None,
            ended_at: None,
        }
    }
}

impl Cloud {
    /// A new operation that removes a project with its computes: a step for each of them.
    pub(crate) fn new_project_deletion<P>(
        &self,
        grant: &Grant<P>,
        project: ProjectId,
        computes: &[Compute],
        now: Timestamp,
    ) -> Operation {
        let step =
            |c: &Compute| Step { name: removal_step(c.id), status: Status::Pending, started_at: None, ended_at: None };
        Operation {
            id: self.id(),
            kind: Kind::ProjectDelete,
            status: Status::Pending,
            compute_id: None,
            project_id: project,
            environment_id: None,
            steps: computes.iter().map(step).collect(),
            error: None,
            request_id: grant.request().id.raw().to_uuid(),
            trace: grant.request().trace.clone(),
            created_at: now,
            started_at: None,
            ended_at: None,
        }
    }
}

/// One compute of a deleted project is removed; whether it was the last.
pub(crate) fn removed(operation: &mut Operation, compute: ComputeId, now: Timestamp) -> bool {
    let name = removal_step(compute);
    operation.status = Status::Running;
    operation.started_at = operation.started_at.or(Some(now));
    for step in operation.steps.iter_mut().filter(|step| step.name == name && !step.status.ended()) {
        step.status = Status::Succeeded;
        step.started_at = step.started_at.or(Some(now));
        step.ended_at = Some(now);
    }
    let last = operation.steps.iter().all(|step| step.status.ended());
    if last {
        end(operation, Status::Succeeded, None, now);
    }
    last
}

/// Ends an operation: steps under way end as it does, steps not begun are cancelled unless it succeeded.
pub(crate) fn end(operation: &mut Operation, status: Status, error: Option<(Code, String)>, now: Timestamp) {
    for step in &mut operation.steps {
        if step.status.ended() {
            continue;
        }
        let begun = step.started_at.is_some();
        step.status = if begun || status == Status::Succeeded { status } else { Status::Cancelled };
        if begun || status == Status::Succeeded {
            step.started_at = step.started_at.or(Some(now));
            step.ended_at = Some(now);
        }
    }
    operation.status = status;
    operation.error = error;
    operation.started_at = operation.started_at.or(Some(now));
    operation.ended_at = Some(now);
}

/// The step `name` is under way; those before it are done.
pub(crate) fn reach(operation: &mut Operation, name: &str, now: Timestamp) -> bool {
    let Some(at) = operation.steps.iter().position(|s| s.name == name) else { return false };
    if operation.status == Status::Running && operation.steps[at].status != Status::Pending {
        return false;
    }
    for step in &mut operation.steps[..at] {
        if !step.status.ended() {
            step.status = Status::Succeeded;
            step.started_at = step.started_at.or(Some(now));
            step.ended_at = Some(now);
        }
    }
    let step = &mut operation.steps[at];
    if step.status == Status::Pending {
        step.status = Status::Running;
        step.started_at = Some(now);
    }
    operation.status = Status::Running;
    operation.started_at = operation.started_at.or(Some(now));
    true
}

pub(crate) fn change(event: &'static str, action: &'static str, operation: &Operation, status: u16) -> Change {
    Change {
        event,
        action,
        resource_id: operation.id.to_string(),
        project_id: Some(operation.project_id),
        environment_id: operation.environment_id,
        before: None,
        after: Some(json(&OperationView::from(operation))),
        status,
    }
}
