//! The audit log as it is read: listed, exported, checked, and cut at its old end.
//!
//! Deliberately not here: what is written into it (see `plan` for changes, `refusal` for what was refused).

use nephos_model::audit::{Entry, Verdict};
use nephos_model::page::Listed;
use nephos_model::tenant::{Mode, TenantId};
use nephos_model::{Fault, Timestamp};
use nephos_store::StoreError;
pub use nephos_store::audit_log::{Filter, Order, Part};

use crate::caller::{AuditLogRead, Grant};
use crate::{Cloud, fault};

/// Tenants whose logs are looked at in one step.
const TENANTS_AT_ONCE: u32 = 256;
/// Cuts of one log in one round: what is left is cut in the next.
const CUTS_MAX: u32 = 64;
/// Entries of an export that are answered at once, at most.
pub const EXPORT_ENTRIES_MAX: u32 = 1_000;

/// Whose log was checked, and what came of it.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The workspace's name; none for the installation's own log.
    pub workspace: Option<String>,
    /// The mode.
    pub mode: Option<Mode>,
    /// What was found.
    pub verdict: Verdict,
}

impl Cloud {
    /// A part of the workspace's audit log, in the order of its numbers.
    pub async fn audit_log(
        &self,
        grant: &Grant<AuditLogRead>,
        filter: &Filter,
        part: &Part,
    ) -> Result<Listed<Entry>, Fault> {
        self.store().audit_log(grant.tenant(), filter, part).await.map_err(fault::store)
    }

    /// A part of a workspace's log, for the operator; without a workspace it is the installation's own.
    pub async fn audit_log_of(&self, workspace: Option<&str>, mode: Mode, part: &Part) -> Result<Listed<Entry>, Fault> {
        let tenant = match workspace {
            None => TenantId::INSTALLATION,
            Some(workspace) => {
                let workspace = self.workspace_of(workspace).await?;
                let tenant = self.store().current_tenant(workspace.id, mode).await.map_err(fault::store)?;
                tenant.ok_or_else(|| Fault::internal("a workspace without a tenant"))?.id
            }
        };
        self.store().audit_log(tenant, &Filter::default(), part).await.map_err(fault::store)
    }

    /// Checks the chain of one workspace's logs, or of all logs that there are.
    pub async fn verify_audit_logs(&self, workspace: Option<&str>) -> Result<Vec<Checked>, Fault> {
        let only = match workspace {
            Some(workspace) => Some(self.workspace_of(workspace).await?.id),
            None => None,
        };
        let mut checked = Vec::new();
        if only.is_none() {
            let verdict = self.store().verify_audit_log(TenantId::INSTALLATION).await.map_err(fault::store)?;
            checked.push(Checked { workspace: None, mode: None, verdict });
        }
        let mut last = TenantId::INSTALLATION;
        loop {
            let tenants = self.store().tenants(last, TENANTS_AT_ONCE).await.map_err(fault::store)?;
            let Some(end) = tenants.last() else { return Ok(checked) };
            last = end.id;
            let wanted = |id| only.is_none_or(|only| only == id);
            for tenant in tenants.iter().filter(|t| t.is_current && wanted(t.workspace_id)) {
                let verdict = match self.store().verify_audit_log(tenant.id).await {
                    // Its epoch ended meanwhile.
                    Err(StoreError::Missed { .. }) => continue,
                    verdict => verdict.map_err(fault::store)?,
                };
                let workspace = self.store().workspace(tenant.workspace_id).await.map_err(fault::store)?;
                let name = workspace.map_or_else(|| tenant.workspace_id.to_string(), |w| w.name);
                checked.push(Checked { workspace: Some(name), mode: Some(tenant.mode), verdict });
            }
        }
    }

    /// Removes what is past its retention, in bounded steps.
    pub(crate) async fn cut_audit_logs(&self) -> Result<(), StoreError> {
        let now = self.clock().now();
        let before = now.minus(self.settings().audit_kept);
        let mut last = TenantId::INSTALLATION;
        self.cut_audit_log(last, before, now).await?;
        loop {
            let tenants = self.store().tenants(last, TENANTS_AT_ONCE).await?;
            let Some(end) = tenants.last() else { return Ok(()) };
            last = end.id;
            for tenant in tenants.iter().filter(|tenant| tenant.is_current) {
                self.cut_audit_log(tenant.id, before, now).await?;
            }
        }
    }

    async fn cut_audit_log(&self, tenant: TenantId, before: Timestamp, now: Timestamp) -> Result<(), StoreError> {
        for _ in 0..CUTS_MAX {
            if self.store().cut_audit_log(tenant, before, now).await? < nephos_store::audit_log::CUT_ROWS_MAX {
                break;
            }
        }
        Ok(())
    }
}
