//! The workspace, the credential itself and what the plan allows. Who belongs to it is in [`crate::member`].

use nephos_model::Fault;
use nephos_model::api_key::ApiKey;
use nephos_model::name::Title;
use nephos_model::scope::Scopes;
use nephos_model::tenant::Mode;
use nephos_model::workspace::{Member, Workspace};
use nephos_store as store;

use crate::budget::{KEY_WINDOW_S, WORKSPACE_WINDOW_S};
use crate::caller::{Grant, LimitRead, MeRead, WorkspaceRead, WorkspaceWrite};
use crate::plan::{Change, Plan};
use crate::view::{BudgetView, LimitsView, QuotaView, WorkspaceView, json};
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
        self.own_workspace(grant).await
    }

    /// The credential's workspace, which is to be changed or deleted.
    pub async fn workspace_to_change(&self, grant: &Grant<WorkspaceWrite>) -> Result<Workspace, Fault> {
        self.own_workspace(grant).await
    }

    async fn own_workspace<P>(&self, grant: &Grant<P>) -> Result<Workspace, Fault> {
        let found = self.store().workspace(grant.caller().workspace_id).await.map_err(fault::store)?;
        found.ok_or_else(|| Fault::not_found("workspace"))
    }

    /// The credential itself.
    pub async fn me(&self, grant: &Grant<MeRead>) -> Result<Me, Fault> {
        let caller = grant.caller();
        let workspace = self.own_workspace(grant).await?;
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

    /// The workspace with another name; 409 when the installation has one of that name.
    pub async fn rename_workspace(
        &self,
        grant: &Grant<WorkspaceWrite>,
        workspace: Workspace,
        name: Option<&Title>,
    ) -> Result<Plan<Workspace>, Fault> {
        let Some(name) = name.filter(|name| name.as_str() != workspace.name) else { return Ok(Plan::new(workspace)) };
        let standing = self.standing(grant).await?;
        let now = self.clock().now();
        let renamed = Workspace {
            name: name.as_str().to_owned(),
            version: workspace.version + 1,
            updated_at: now,
            ..workspace.clone()
        };
        let mut plan = Plan::new(renamed);
        plan.write(standing.held());
        plan.write([store::workspace::rename(&workspace, name.as_str(), now)]);
        let text = |w: &Workspace| json(&WorkspaceView::from(w));
        let change = Change {
            event: "workspace.updated",
            action: "workspace.update",
            resource_id: workspace.id.to_string(),
            project_id: None,
            environment_id: None,
            before: Some(text(&workspace)),
            after: Some(text(&plan.value)),
            status: 200,
        };
        self.journal(&mut plan, grant, now, change);
        Ok(plan)
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
        // Members and open invitations.
        let members = match caller.is_narrowed() {
            true => None,
            false => Some(self.store().seats(caller.workspace_id).await.map_err(fault::store)?),
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
