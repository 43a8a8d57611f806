//! The workspace, the credential itself and what the plan allows. Who belongs to it is in [`crate::member`].

use std::time::Duration;

use nephos_model::api_key::ApiKey;
use nephos_model::name::Title;
use nephos_model::operation::Kind;
use nephos_model::page::{LIMIT_MAX, Page};
use nephos_model::scope::Scopes;
use nephos_model::tenant::Mode;
use nephos_model::workspace::{Member, Workspace};
use nephos_model::{Detail, Fault, Timestamp};
use nephos_store as store;
use nephos_store::compute::Filter as ComputeFilter;

use crate::budget::{Budget, KEY_WINDOW_S, WORKSPACE_WINDOW_S};
use crate::caller::{self, Caller, Grant, LimitRead, MeRead, WorkspaceRead, WorkspaceWrite};
use crate::plan::{Change, Plan};
use crate::project::FORCED_MAX;
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
    /// What was shown.
    pub kind: caller::Kind,
    /// When the credential stops working by itself.
    pub expires_at: Option<Timestamp>,
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
            kind: caller.proof.kind,
            expires_at: caller.proof.until,
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

    /// No more workspace, with everything in it, live and in the sandbox: from the commit on no credential of it works and
    /// nothing of it is billed. Its computes are removed by operations of their own.
    ///
    /// Faults: 409 when `confirm` is not the workspace's name, when a compute is protected, and when there are more computes
    /// than one transaction takes.
    pub async fn delete_workspace(
        &self,
        grant: &Grant<WorkspaceWrite>,
        workspace: Workspace,
        confirm: Option<&str>,
    ) -> Result<Plan<Workspace>, Fault> {
        if confirm != Some(workspace.name.as_str()) {
            let message = "This deletes the workspace with everything in it. To confirm, send its name as ?confirm=.";
            return Err(Fault::conflict(Detail::parameter("confirm", "not_confirmed", message)));
        }
        let standing = self.standing(grant).await?;
        let now = self.clock().now();
        let mut plan = Plan::new(workspace.clone());
        plan.write(standing.held());
        plan.write([store::workspace::delete(&workspace, now)]);
        let mut left = FORCED_MAX;
        for mode in [Mode::Live, Mode::Test] {
            let tenant = self.store().current_tenant(workspace.id, mode).await.map_err(fault::store)?;
            let tenant = tenant.ok_or_else(|| Fault::internal("a workspace without a tenant"))?;
            let ahead = Duration::from_micros(u64::try_from(tenant.clock_ahead_us).unwrap_or(0));
            let there = Caller { mode, tenant: tenant.id, clock_ahead: ahead, ..grant.caller().clone() };
            let there = grant.of_caller(there);
            let page = Page { limit: LIMIT_MAX, ..Page::default() };
            let computes = self.store().computes(tenant.id, &ComputeFilter::default(), &page).await;
            let computes = computes.map_err(fault::store)?;
            let count = u32::try_from(computes.items.len()).unwrap_or(u32::MAX);
            left = match left.checked_sub(count).filter(|_| !computes.more) {
                Some(left) => left,
                None => return Err(too_many_computes()),
            };
            plan.write([store::workspace::lock_computes(tenant.id)]);
            let now = self.now(there.caller());
            for compute in &computes.items {
                let operation = self.new_operation(&there, Kind::ComputeDelete, compute, now);
                plan.write(store::operation::insert(tenant.id, &operation));
                self.remove_compute(&mut plan, &there, compute, operation.id, now).await?;
            }
            plan.write([store::workspace::without_computes(tenant.id)]);
        }
        plan.after.credentials = true;
        let change = Change {
            event: "workspace.deleted",
            action: "workspace.delete",
            resource_id: workspace.id.to_string(),
            project_id: None,
            environment_id: None,
            before: Some(json(&WorkspaceView::from(&workspace))),
            after: None,
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
        let members = if caller.is_narrowed() {
            None
        } else {
            Some(self.store().seats(caller.workspace_id).await.map_err(fault::store)?)
        };
        let quota = |name: &str, limit| QuotaView {
            name: name.to_owned(),
            limit,
            used: if name == "members" { members } else { used(&format!("quota.{name}")) },
        };
        let left = self.left(caller);
        let budget = |name: &str, surface: &str, window_s, left: Option<Budget>| BudgetView {
            name: name.to_owned(),
            surface: surface.to_owned(),
            limit: left.map(|left| left.limit),
            remaining: left.map(|left| left.remaining),
            window_s,
            reset_s: left.map(|left| left.reset_s),
        };
        Ok(LimitsView {
            plan: limits.plan.clone(),
            budgets: vec![
                budget("key", "platform", KEY_WINDOW_S, left.key),
                budget("workspace", "platform", WORKSPACE_WINDOW_S, left.workspace),
                budget("reads", "strettch", 1, left.reads),
                budget("writes", "strettch", 1, left.writes),
            ],
            quotas: vec![
                quota("projects", limits.projects),
                quota("computes", limits.computes),
                quota("vcpus", limits.vcpus),
                quota("memory_mib", limits.memory_mib),
                quota("disk_gib", limits.disk_gib),
                quota("api_keys", limits.api_keys),
                quota("ssh_keys", limits.ssh_keys),
                quota("webhooks", limits.webhooks),
                quota("members", limits.members),
            ],
        })
    }
}

fn too_many_computes() -> Fault {
    let message = format!("The workspace has more than {FORCED_MAX} computes; delete some of them first.");
    Fault::conflict(Detail::new("too_many_resources", message))
}
