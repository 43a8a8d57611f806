//! The workspace, its members, the credential itself and what the plan allows.

use nephos_model::Fault;
use nephos_model::api_key::ApiKey;
use nephos_model::id::MemberId;
use nephos_model::page::{Listed, Page};
use nephos_model::scope::Scopes;
use nephos_model::tenant::Mode;
use nephos_model::workspace::{Member, Workspace};

use crate::budget::{KEY_WINDOW_S, WORKSPACE_WINDOW_S};
use crate::caller::{Grant, LimitRead, MemberRead, WorkspaceRead};
use crate::view::{BudgetView, LimitsView, QuotaView};
use crate::{Cloud, fault};

/// The credential of a request.
#[derive(Debug, Clone)]
pub struct Me {
    /// Its workspace.
    pub workspace: Workspace,
    /// Live or sandbox.
    pub mode: Mode,
    /// The member behind it.
    pub member: Member,
    /// What it may do.
    pub scopes: Scopes,
    /// The API key, unless the console acts.
    pub key: Option<ApiKey>,
}

impl Cloud {
    /// The credential's workspace.
    pub async fn workspace(&self, grant: &Grant<WorkspaceRead>) -> Result<Workspace, Fault> {
        let found = self.store().workspace(grant.caller().workspace_id).await.map_err(fault::store)?;
        found.ok_or_else(|| Fault::not_found("workspace"))
    }

    /// The credential itself.
    pub async fn me(&self, grant: &Grant<WorkspaceRead>) -> Result<Me, Fault> {
        let caller = grant.caller();
        let workspace = self.workspace(grant).await?;
        let member = self.store().member(caller.workspace_id, caller.member_id).await.map_err(fault::store)?;
        let key = match caller.key_id {
            Some(id) => self.store().api_key(caller.workspace_id, caller.mode, id).await.map_err(fault::store)?,
            None => None,
        };
        Ok(Me {
            workspace,
            mode: caller.mode,
            member: member.ok_or_else(|| Fault::not_found("member"))?,
            scopes: caller.scopes,
            key: key.map(|key| self.with_last_use(key)),
        })
    }

    /// A page of the workspace's members.
    pub async fn members(&self, grant: &Grant<MemberRead>, page: &Page) -> Result<Listed<Member>, Fault> {
        self.store().members(grant.caller().workspace_id, page).await.map_err(fault::store)
    }

    /// One member, or 404.
    pub async fn member(&self, grant: &Grant<MemberRead>, id: MemberId) -> Result<Member, Fault> {
        let found = self.store().member(grant.caller().workspace_id, id).await.map_err(fault::store)?;
        found.ok_or_else(|| Fault::not_found("member"))
    }

    /// Budgets and quotas of the plan, and what is used of the quotas.
    pub async fn limits(&self, grant: &Grant<LimitRead>) -> Result<LimitsView, Fault> {
        let caller = grant.caller();
        let limits = &caller.limits;
        let counters = self.store().counters(grant.tenant()).await.map_err(fault::store)?;
        let used = |noun: &str| {
            let value = || counters.iter().find(|(name, _)| name == noun).map_or(0, |(_, value)| *value);
            // What a narrowed credential can't see is not in its totals either.
            (!caller.is_narrowed()).then(value)
        };
        let members = match used("") {
            Some(_) => {
                let page = Page { limit: 1, ..Page::default() };
                Some(self.store().members(caller.workspace_id, &page).await.map_err(fault::store)?.total)
            }
            None => None,
        };
        let quota = |name: &str, limit| QuotaView {
            name: name.to_owned(),
            limit,
            used: if name == "members" { members } else { used(&format!("quota.{name}")) },
        };
        let budget = |name: &str, surface: &str, limit, window_s| BudgetView {
            name: name.to_owned(),
            surface: surface.to_owned(),
            limit,
            window_s,
        };
        Ok(LimitsView {
            plan: limits.plan.clone(),
            budgets: vec![
                budget("key", "platform", limits.key_per_60_s, KEY_WINDOW_S),
                budget("workspace", "platform", limits.workspace_per_600_s, WORKSPACE_WINDOW_S),
                budget("reads", "strettch", limits.reads_per_second, 1),
                budget("writes", "strettch", limits.writes_per_second, 1),
            ],
            quotas: vec![
                quota("projects", limits.projects),
                quota("computes", limits.computes),
                quota("vcpus", limits.vcpus),
                quota("memory_mib", limits.memory_mib),
                quota("disk_gib", limits.disk_gib),
                quota("api_keys", limits.api_keys),
                quota("ssh_keys", limits.ssh_keys),
                quota("members", limits.members),
            ],
        })
    }
}
