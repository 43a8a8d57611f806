//! Rehearsals (`dry_run`): would the guards of a plan hold now? Only the commit decides.

use nephos_model::Fault;
use nephos_model::id::{EnvironmentId, ProjectId, WorkspaceId};
use nephos_model::page::{Page, Start};
use nephos_model::region::Capacity;
use nephos_model::tenant::TenantId;
use nephos_store as store;
use nephos_store::Miss;

use crate::plan::Plan;
use crate::plan_limits::quota;
use crate::{Cloud, fault};

/// A guard of a plan, in a form that can be asked beforehand.
#[derive(Debug, Clone)]
pub(crate) enum Check {
    /// A quota has room.
    Quota { tenant: TenantId, noun: &'static str, by: i64, limit: i64 },
    /// The workspace has a seat.
    Seat { workspace: WorkspaceId, limit: i64 },
    /// A region has room.
    Capacity { region: String, wanted: Capacity, limit: Capacity },
    /// No compute of the environment has the name.
    ComputeName { environment: EnvironmentId, name: String },
    /// No environment of the project has the name.
    EnvironmentName { project: ProjectId, name: String },
    /// No key has the name or the fingerprint.
    SshKey { name: String, fingerprint: String },
}

impl<T> Plan<T> {
    /// Takes `by` of a quota; no limit is none.
    pub(crate) fn take(&mut self, tenant: TenantId, noun: &'static str, by: i64, limit: Option<u32>) {
        let limit = quota(limit);
        self.write([store::counter::take(tenant, noun, by, limit)]);
        self.counts(tenant, noun, by, limit);
    }

    /// A statement of the plan takes `by` of a quota.
    pub(crate) fn counts(&mut self, tenant: TenantId, noun: &'static str, by: i64, limit: i64) {
        self.checks.push(Check::Quota { tenant, noun, by, limit });
    }

    /// A seat is taken, of which there are `limit`; the statements are those of what takes it.
    pub(crate) fn seats(&mut self, workspace: WorkspaceId, limit: i64) {
        self.checks.push(Check::Seat { workspace, limit });
    }

    /// Takes `wanted` of a region that may promise `limit`.
    pub(crate) fn admit(&mut self, region: String, wanted: Capacity, limit: Capacity) {
        self.write([store::capacity::take(&region, wanted, limit)]);
        self.checks.push(Check::Capacity { region, wanted, limit });
    }
}

impl Cloud {
    /// The fault that a plan's commit would meet now, if any.
    pub async fn rehearse<T>(&self, tenant: TenantId, plan: &Plan<T>) -> Result<(), Fault> {
        for check in &plan.checks {
            if let Some(miss) = self.misses(tenant, check).await.map_err(fault::store)? {
                if miss == store::counter::QUOTA {
                    return Err(self.over_quota(&plan.checks).await);
                }
                return Err(fault::missed(miss).unwrap_or_else(|| Fault::internal("a rehearsed guard has no meaning")));
            }
        }
        Ok(())
    }

    /// The fault of a quota that had no room: which, what it is, and what is used of it now.
    pub(crate) async fn over_quota(&self, checks: &[Check]) -> Fault {
        let mut over = Vec::new();
        for check in checks {
            let (noun, by, limit, used) = match check {
                Check::Quota { tenant, noun, by, limit } => {
                    let counters = self.store().counters(*tenant).await;
                    let of = |counters: Vec<(String, i64)>| {
                        counters.iter().find(|(name, _)| name == noun).map_or(0, |(_, value)| *value)
                    };
                    (*noun, *by, *limit, counters.map(of))
                }
                Check::Seat { workspace, limit } => ("members", 1, *limit, self.store().seats(*workspace).await),
                _ => continue,
            };
            match used {
                Ok(used) if used.saturating_add(by) > limit => over.push(fault::over_quota(noun, used, by, limit)),
                Ok(_) => {}
                Err(error) => return fault::store(error),
            }
        }
        fault::quota_exceeded(over)
    }

    async fn misses(&self, tenant: TenantId, check: &Check) -> Result<Option<Miss>, store::StoreError> {
        let one = Page { start: Start::Number(1), limit: 1 };
        Ok(match check {
            Check::Quota { noun, by, limit, .. } => {
                let used = self.store().counters(tenant).await?;
                let used = used.iter().find(|(n, _)| n == noun).map_or(0, |(_, value)| *value);
                (used.saturating_add(*by) > *limit).then_some(store::counter::QUOTA)
            }
            Check::Seat { workspace, limit } => {
                (self.store().seats(*workspace).await? >= *limit).then_some(store::counter::QUOTA)
            }
            Check::Capacity { region, wanted, limit } => {
                let admitted = self.store().admitted(region).await?;
                let over = |used: u64, more: u64, limit: u64| used.saturating_add(more) > limit;
                let over = over(admitted.vcpus, wanted.vcpus, limit.vcpus)
                    || over(admitted.memory_mib, wanted.memory_mib, limit.memory_mib)
                    || over(admitted.disk_gib, wanted.disk_gib, limit.disk_gib);
                over.then_some(store::capacity::FULL)
            }
            Check::ComputeName { environment, name } => {
                let filter = store::compute::Filter {
                    environment_id: Some(*environment),
                    name: Some(name.clone()),
                    ..store::compute::Filter::default()
                };
                let found = self.store().computes(tenant, &filter, &one).await?;
                (found.total > 0).then_some(store::compute::NAME_TAKEN)
            }
            Check::EnvironmentName { project, name } => {
                let found = self.store().environment_named(tenant, *project, name).await?;
                found.map(|_| store::environment::NAME_TAKEN)
            }
            Check::SshKey { name, fingerprint } => {
                let found = self.store().ssh_key_taken(tenant, name, fingerprint).await?;
                found.then_some(store::ssh_key::TAKEN)
            }
        })
    }
}
