//! The sandbox: its resets, and its clock.
//!
//! A reset is a new tenant, current from one commit on; what the old one leaves is removed in bounded batches beside the
//! requests. Keys outlive a reset unless they are narrowed to a project, since all projects are gone. The clock is an
//! offset in the tenant's row: it moves what a tenant owns, and never credentials, budgets, the expiry of idempotency
//! keys, ids, or the reset itself, which all go by the wall's clock.

use std::time::Duration;

use nephos_model::api_key::ApiKey;
use nephos_model::event::Actor;
use nephos_model::fault::Detail;
use nephos_model::id::{AuditId, Id, MemberId, ProjectId, RequestId};
use nephos_model::project::{DEFAULT_NAME, Environment, Project};
use nephos_model::sandbox::{ADVANCE_S_MAX, AHEAD_S_MAX};
use nephos_model::tenant::{Mode, TenantId};
use nephos_model::{Fault, Timestamp};
use nephos_store as store;
use nephos_store::audit::NewAudit;
use nephos_store::sequence::OVERTAKEN;
use nephos_store::tenant::{EPOCH_OVER, Tenant};
use nephos_store::{Batch, StoreError};
use tracing::{info, warn};

use crate::caller::{Grant, Request, SandboxRead, SandboxReset, SandboxWrite};
use crate::plan::{After, Change, Plan};
use crate::plan_limits::quota;
use crate::project::narrowed;
use crate::view::{SandboxClockView, SandboxView, json};
use crate::{Cloud, fault};

/// Rows of an old epoch that one transaction removes, at most.
const PURGE_ROWS_MAX: u32 = 500;
/// Pause between two such transactions, so that requests come between.
const PURGE_PAUSE: Duration = Duration::from_millis(5);
/// Old epochs are looked for at least this often, for what other processes left.
const PURGE_POLL: Duration = Duration::from_secs(60);
/// How long a process keeps the right to remove old epochs after its last batch.
const PURGE_LEASE: Duration = Duration::from_secs(10);
const PURGE_LEASE_NAME: &str = "sandbox.purge";
/// Sandboxes that are due for a reset and read at a time.
const RESETS_AT_ONCE: u32 = 64;
/// How long a process keeps the right to do the daily resets after its last one.
const RESET_LEASE: Duration = Duration::from_secs(10);
/// After a reset that failed, or that another process does.
const RESET_RETRY: Duration = Duration::from_secs(15);
const RESET_LEASE_NAME: &str = "sandbox.reset";
/// Keys whose revocation a reset tells as events, at most: the newest. More are revoked without one.
const REVOKED_TOLD_MAX: u32 = 500;

/// How far a clock is asked to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advance {
    /// By so many seconds.
    Seconds(i64),
    /// Until the sandbox has this time.
    To(Timestamp),
}

/// Who resets a sandbox.
struct Cause {
    actor: Actor,
    member_id: Option<MemberId>,
    address: Option<String>,
    client_request_id: Option<String>,
    request: RequestId,
}

impl Cause {
    fn of(actor: Actor, member_id: MemberId, request: &Request) -> Self {
        Self {
            actor,
            member_id: Some(member_id),
            address: Some(request.address.to_string()),
            client_request_id: request.client_request_id.clone(),
            request: request.id,
        }
    }
}

impl Cloud {
    /// When sandboxes are reset next without being asked to, by the wall's clock.
    pub fn next_sandbox_reset(&self) -> Option<Timestamp> {
        self.settings().sandbox_reset_at.map(|at| at.next(self.clock().now()))
    }

    /// A sandbox that begins anew, at once: a default project and nothing else. 403 for a narrowed credential, because
    /// it would reset what it can't see. The answer to an idempotency key is kept in the new epoch, where a retry looks.
    pub async fn reset_sandbox(&self, grant: &Grant<SandboxReset>) -> Result<Plan<SandboxView>, Fault> {
        let caller = grant.caller();
        if caller.is_narrowed() {
            return Err(narrowed("reset the sandbox"));
        }
        let old = self.current(grant.tenant()).await?;
        let cause = Cause::of(caller.actor(), caller.member_id, grant.request());
        let (view, to, batch) = self.new_epoch(&old, &cause).await.map_err(fault::store)?;
        let mut plan = Plan::new(view);
        plan.batch = batch;
        plan.kept_in = Some(to);
        plan.after = After { credentials: true, epoch_over: true, ..After::default() };
        Ok(plan)
    }

    /// The sandbox's clock.
    pub async fn sandbox_clock(&self, grant: &Grant<SandboxRead>) -> Result<SandboxClockView, Fault> {
        let tenant = self.current(grant.tenant()).await?;
        Ok(SandboxClockView::of(self.clock().now(), tenant.clock_ahead_us, self.next_sandbox_reset()))
    }

    /// The sandbox's clock goes forwards; what becomes due by that is done before the answer, in the order of its times.
    /// 400 when it would go backwards, or too far at once or in all; 403 for a narrowed credential.
    pub async fn advance_sandbox_clock(
        &self,
        grant: &Grant<SandboxWrite>,
        by: Advance,
    ) -> Result<Plan<SandboxClockView>, Fault> {
        let caller = grant.caller();
        if caller.is_narrowed() {
            return Err(narrowed("move the sandbox's clock"));
        }
        let tenant = self.current(grant.tenant()).await?;
        let real_now = self.clock().now();
        let by_us = distance(by, real_now, tenant.clock_ahead_us).map_err(Fault::bad)?;
        let ahead_us = tenant.clock_ahead_us + by_us;
        let next_reset_at = self.next_sandbox_reset();
        let before = SandboxClockView::of(real_now, tenant.clock_ahead_us, next_reset_at);
        let mut plan = Plan::new(SandboxClockView::of(real_now, ahead_us, next_reset_at));
        plan.write([store::tenant::advance(&tenant, ahead_us), store::work::sooner(tenant.id, by_us)]);
        plan.after = After { credentials: true, settle: Some(tenant.id), ..After::default() };
        let change = Change {
            event: "sandbox.clock_advanced",
            action: "sandbox.advance",
            resource_id: tenant.workspace_id.to_string(),
            project_id: None,
            environment_id: None,
            before: Some(json(&before)),
            after: Some(json(&plan.value)),
            status: 200,
        };
        let now = Timestamp::from_micros(real_now.micros() + ahead_us);
        self.journal(&mut plan, grant, now, change);
        Ok(plan)
    }

    /// The tenant, if it still is the current one.
    async fn current(&self, id: TenantId) -> Result<Tenant, Fault> {
        let found = self.store().tenant(id).await.map_err(fault::store)?;
        found.filter(|t| t.is_current).ok_or_else(|| {
            self.0.credentials.forget();
            fault::epoch_over()
        })
    }

    /// The rows of a new epoch after `old`, its tenant, and what is shown of it.
    async fn new_epoch(&self, old: &Tenant, cause: &Cause) -> Result<(SandboxView, TenantId, Batch), StoreError> {
        let now = self.clock().now();
        let (workspace, mode) = (old.workspace_id, old.mode);
        let tenant = Tenant {
            id: self.store().next_tenant().await?,
            workspace_id: workspace,
            mode,
            epoch: old.epoch + 1,
            is_current: true,
            clock_ahead_us: 0,
        };
        let revoked = self.store().narrowed_keys(workspace, mode, "~", REVOKED_TOLD_MAX).await?;
        let live = self.store().current_tenant(workspace, Mode::Live).await?;

        let mut batch = Batch::from(store::tenant::end(old.id));
        batch.extend(store::tenant::insert(&tenant, now));
        batch.extend(store::api_key::carry_over(tenant.id, workspace, mode, now));
        let (project, environments, statements) = self.new_project(tenant.id, DEFAULT_NAME, true, now);
        batch.push(store::counter::take(tenant.id, "quota.projects", 1, quota(None)));
        batch.extend(statements);

        let count = i64::try_from(revoked.len()).unwrap_or(i64::MAX);
        let view = SandboxView::of(tenant.epoch, now, project.id, count, self.next_sandbox_reset());
        let reset = Change {
            event: "sandbox.reset",
            action: "sandbox.reset",
            resource_id: workspace.to_string(),
            project_id: None,
            environment_id: None,
            before: None,
            after: Some(json(&view)),
            status: 200,
        };
        for change in made(&project, &environments, &revoked) {
            batch.push(self.told(tenant.id, cause, &change, now));
        }
        batch.push(self.told(tenant.id, cause, &reset, now));
        // The sandbox's own log goes with the next reset: who reset it stays in the log that nothing resets.
        for log in [Some(tenant.id), live.map(|t| t.id)].into_iter().flatten() {
            batch.push(self.logged(log, cause, &reset, now));
        }
        Ok((view, tenant.id, batch))
    }

    fn told(&self, tenant: TenantId, cause: &Cause, change: &Change, now: Timestamp) -> store::Statement {
        self.event_of(tenant, change, cause.actor.clone(), Some(cause.request.raw().to_uuid()), now)
    }

    fn logged(&self, tenant: TenantId, cause: &Cause, change: &Change, now: Timestamp) -> store::Statement {
        store::audit::insert(
            tenant,
            NewAudit {
                id: self.id::<AuditId>(),
                action: change.action,
                resource_id: Some(change.resource_id.clone()),
                project_id: None,
                actor: cause.actor.clone(),
                member_id: cause.member_id,
                address: cause.address.clone(),
                client_request_id: cause.client_request_id.clone(),
                request_id: cause.request.raw().to_uuid(),
                before: None,
                after: change.after.clone(),
                status: change.status,
                created_at: now,
            },
        )
    }

    /// Resets every sandbox that is due, until the future is dropped.
    pub(crate) async fn reset_daily(self) {
        loop {
            let next = match self.reset_due().await {
                Ok(_) => self.next_sandbox_reset(),
                Err(error) => {
                    if error.missed() != Some(OVERTAKEN) {
                        warn!(%error, "sandboxes can't be reset now");
                    }
                    Some(self.clock().now().plus(RESET_RETRY))
                }
            };
            match next {
                Some(at) => self.clock().sleep_until(at).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Resets the sandboxes whose epoch began before the last daily reset, and returns how many there were. Each is reset
    /// once, whoever else does so at the same time, and once only after a time in which nobody did.
    pub async fn reset_due(&self) -> Result<u32, StoreError> {
        let Some(daily) = self.settings().sandbox_reset_at else { return Ok(0) };
        let due = daily.last(self.clock().now());
        let mut count = 0;
        loop {
            let now = self.clock().now();
            let some = self.store().sandboxes_before(due, RESETS_AT_ONCE).await?;
            if some.is_empty() {
                return Ok(count);
            }
            let lease = store::sequence::lease(RESET_LEASE_NAME, self.owner(), now.plus(RESET_LEASE), now);
            self.store().write(lease.into_iter().collect()).await?;
            for old in some {
                count += u32::from(self.reset_one(&old).await?);
            }
        }
    }

    /// Resets one sandbox; returns whether nobody else did.
    async fn reset_one(&self, old: &Tenant) -> Result<bool, StoreError> {
        let cause =
            Cause { actor: Actor::System, member_id: None, address: None, client_request_id: None, request: self.id() };
        loop {
            let (view, _, batch) = self.new_epoch(old, &cause).await?;
            match self.store().write(batch).await {
                Ok(_) => {
                    info!(workspace = %old.workspace_id, epoch = view.epoch, "a sandbox was reset");
                    self.wake(&After { credentials: true, epoch_over: true, ..After::default() });
                    return Ok(true);
                }
                Err(error) if error.missed() == Some(EPOCH_OVER) => return Ok(false),
                // Another process took the number of the tenant: numbers rise, so this ends.
                Err(StoreError::Unique { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes what epochs that are over left, until the future is dropped.
    pub(crate) async fn purge_epochs(self) {
        loop {
            let pause = match self.purge_some().await {
                Ok(true) => {
                    self.clock().sleep(PURGE_PAUSE).await;
                    continue;
                }
                Ok(false) => PURGE_POLL,
                Err(error) => {
                    if error.missed() != Some(OVERTAKEN) {
                        warn!(%error, "an old epoch of a sandbox can't be removed now");
                    }
                    PURGE_LEASE
                }
            };
            let pause = self.clock().sleep(pause);
            tokio::select! { () = self.0.epochs.notified() => {}, () = pause => {} }
        }
    }

    /// Removes one batch of what an epoch that is over left; returns whether there may be more.
    pub async fn purge_some(&self) -> Result<bool, StoreError> {
        let Some(tenant) = self.store().tenants_over(TenantId(0), 1).await?.pop() else { return Ok(false) };
        let now = self.clock().now();
        let lease = store::sequence::lease(PURGE_LEASE_NAME, self.owner(), now.plus(PURGE_LEASE), now);
        self.store().write(lease.into_iter().collect()).await?;
        if !self.store().purge(tenant, PURGE_ROWS_MAX).await? {
            info!(tenant = tenant.0, "nothing is left of an old epoch of a sandbox");
        }
        Ok(true)
    }
}

/// By how many microseconds a clock goes, or why it does not.
fn distance(by: Advance, real_now: Timestamp, ahead_us: i64) -> Result<i64, Detail> {
    let now = Timestamp::from_micros(real_now.micros() + ahead_us);
    let (pointer, by_us) = match by {
        Advance::Seconds(seconds) => ("/seconds", seconds.saturating_mul(1_000_000)),
        Advance::To(to) => ("/to", to.micros().saturating_sub(now.micros())),
    };
    if by_us <= 0 {
        let why = format!("must be later than the time of the sandbox, {now}: its clock goes forwards only");
        return Err(Detail::field(pointer, "out_of_range", why));
    }
    if by_us > ADVANCE_S_MAX * 1_000_000 {
        let why = format!("must move the clock by at most {ADVANCE_S_MAX} seconds ({} days)", ADVANCE_S_MAX / 86_400);
        return Err(Detail::field(pointer, "out_of_range", why));
    }
    if by_us.saturating_add(ahead_us) > AHEAD_S_MAX * 1_000_000 {
        let last = real_now.plus(Duration::from_secs(AHEAD_S_MAX.unsigned_abs()));
        let why = format!(
            "must not move the clock more than {} days ahead of the real time, to {last}; a reset sets it back",
            AHEAD_S_MAX / 86_400
        );
        return Err(Detail::field(pointer, "out_of_range", why));
    }
    Ok(by_us)
}

/// What comes and goes with a reset.
fn made(project: &Project, environments: &[Environment], revoked: &[ApiKey]) -> Vec<Change> {
    let mut changes = vec![crate::project::change("project.created", "sandbox.reset", None, Some(project), 200)];
    let environment = |e| crate::environment::change("environment.created", "sandbox.reset", None, Some(e), 200);
    changes.extend(environments.iter().map(environment));
    changes.extend(revoked.iter().map(|key| Change {
        // Its project is not one of this epoch.
        project_id: None::<ProjectId>,
        environment_id: None,
        ..crate::api_key::change("api_key.deleted", "sandbox.reset", Some(key), None, 200)
    }));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_goes_forwards_and_not_too_far() {
        let real = Timestamp::from_secs(1_000_000);
        let day_us = 86_400_000_000;
        assert_eq!(distance(Advance::Seconds(60), real, 0).unwrap(), 60_000_000);
        assert_eq!(distance(Advance::To(Timestamp::from_secs(1_000_100)), real, 40_000_000).unwrap(), 60_000_000);
        assert_eq!(distance(Advance::Seconds(ADVANCE_S_MAX), real, 0).unwrap(), 366 * day_us);
        let most = AHEAD_S_MAX * 1_000_000 - 1_000_000;
        assert_eq!(distance(Advance::Seconds(1), real, most).unwrap(), 1_000_000);
        for (by, ahead_us) in [
            (Advance::Seconds(0), 0),
            (Advance::Seconds(-1), 0),
            (Advance::Seconds(i64::MIN), 0),
            (Advance::Seconds(i64::MAX), 0),
            (Advance::Seconds(ADVANCE_S_MAX + 1), 0),
            (Advance::Seconds(2), most),
            (Advance::To(real), 0),
            (Advance::To(real), day_us),
            (Advance::To(Timestamp::from_micros(i64::MAX)), 0),
        ] {
            assert_eq!(distance(by, real, ahead_us).unwrap_err().code, "out_of_range", "{by:?}");
        }
    }
}
