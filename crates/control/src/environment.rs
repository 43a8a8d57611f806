//! Environments.

use nephos_model::Fault;
use nephos_model::fault::Detail;
use nephos_model::id::{EnvironmentId, ProjectId};
use nephos_model::name::Hostname;
use nephos_model::page::{Listed, Page};
use nephos_model::project::Environment;
use nephos_store as store;

use crate::caller::{EnvironmentDelete, EnvironmentRead, EnvironmentWrite, Grant};
use crate::plan::{Change, Plan};
use crate::project::{NAMED_MAX, narrowed};
use crate::rehearse::Check;
use crate::view::{EnvironmentView, json};
use crate::{Cloud, fault};

/// Environments of one project at most.
pub const ENVIRONMENTS_MAX: i64 = 50;

impl Cloud {
    /// One environment, or 404.
    pub async fn environment(&self, grant: &Grant<EnvironmentRead>, id: EnvironmentId) -> Result<Environment, Fault> {
        self.visible_environment(grant, id).await
    }

    /// One environment that is to be changed, or 404.
    pub async fn environment_to_change(
        &self,
        grant: &Grant<EnvironmentWrite>,
        id: EnvironmentId,
    ) -> Result<Environment, Fault> {
        self.visible_environment(grant, id).await
    }

    /// One environment that is to be deleted, or 404.
    pub async fn environment_to_delete(
        &self,
        grant: &Grant<EnvironmentDelete>,
        id: EnvironmentId,
    ) -> Result<Environment, Fault> {
        self.visible_environment(grant, id).await
    }

    async fn visible_environment<P>(&self, grant: &Grant<P>, id: EnvironmentId) -> Result<Environment, Fault> {
        let found = self.store().environment(grant.tenant(), id).await.map_err(fault::store)?;
        found.filter(|e| grant.caller().sees(e.project_id, e.id)).ok_or_else(|| Fault::not_found("environment"))
    }

    /// A page of a project's environments that the credential sees; 404 when it does not see the project.
    pub async fn environments(
        &self,
        grant: &Grant<EnvironmentRead>,
        project: ProjectId,
        name: Option<&str>,
        page: &Page,
    ) -> Result<Listed<Environment>, Fault> {
        self.visible_project(grant, project).await?;
        let only = grant.caller().environment_id;
        self.store().environments(grant.tenant(), project, only, name, page).await.map_err(fault::store)
    }

    /// A new environment of a project.
    pub async fn create_environment(
        &self,
        grant: &Grant<EnvironmentWrite>,
        project: ProjectId,
        name: &Hostname,
    ) -> Result<Plan<Environment>, Fault> {
        let project = self.visible_project(grant, project).await?;
        if grant.caller().environment_id.is_some() {
            return Err(narrowed("make environments"));
        }
        let now = self.now(grant.caller());
        let environment = Environment {
            id: self.id(),
            project_id: project.id,
            name: name.as_str().to_owned(),
            version: 1,
            created_at: now,
            updated_at: now,
        };
        let mut plan = Plan::new(environment).of(project.id, None);
        plan.write([store::project::hold(grant.tenant(), project.id)]);
        plan.write(store::environment::insert(grant.tenant(), &plan.value));
        plan.checks.push(Check::EnvironmentName { project: project.id, name: plan.value.name.clone() });
        plan.write([store::environment::at_most(grant.tenant(), project.id, ENVIRONMENTS_MAX)]);
        let change = change("environment.created", "environment.create", None, Some(&plan.value), 201);
        self.journal(&mut plan, grant, now, change);
        Ok(plan)
    }

    /// An environment with another name.
    pub async fn rename_environment(
        &self,
        grant: &Grant<EnvironmentWrite>,
        environment: Environment,
        name: Option<&Hostname>,
    ) -> Result<Plan<Environment>, Fault> {
        let Some(name) = name else {
            let project = environment.project_id;
            return Ok(Plan::new(environment).of(project, None));
        };
        let now = self.now(grant.caller());
        let mut renamed = environment.clone();
        name.as_str().clone_into(&mut renamed.name);
        renamed.version += 1;
        renamed.updated_at = now;
        let mut plan = Plan::new(renamed).of(environment.project_id, Some(environment.id));
        plan.write([store::environment::rename(
            grant.tenant(),
            environment.id,
            environment.version,
            name.as_str(),
            now,
        )]);
        let change = change("environment.updated", "environment.update", Some(&environment), Some(&plan.value), 200);
        self.journal(&mut plan, grant, now, change);
        Ok(plan)
    }

    /// No more environment; 409 while it has computes.
    pub async fn delete_environment(
        &self,
        grant: &Grant<EnvironmentDelete>,
        environment: Environment,
    ) -> Result<Plan<Environment>, Fault> {
        let tenant = grant.tenant();
        if grant.caller().environment_id == Some(environment.id) {
            let message = "This key is narrowed to the environment and would be revoked with it; use another key.";
            return Err(Fault::conflict(Detail::new("own_environment", message).resource(environment.id)));
        }
        let live =
            self.store().computes_of_environment(tenant, environment.id, NAMED_MAX).await.map_err(fault::store)?;
        if !live.is_empty() {
            let detail = |c: &nephos_model::compute::Compute| {
                Detail::new("live_resource", format!("Compute \"{}\" is in the environment.", c.name)).resource(c.id)
            };
            return Err(Fault {
                message: "The environment has live resources; delete them first.".to_owned(),
                details: live.iter().map(detail).collect(),
                ..Fault::conflict(Detail::new("live_resource", ""))
            });
        }
        let now = self.now(grant.caller());
        let mut plan = Plan::new(environment.clone()).of(environment.project_id, None);
        plan.write(store::environment::delete(tenant, &environment));
        self.announce_revoked(&mut plan, grant, environment.project_id, Some(environment.id)).await?;
        plan.write(self.revoke_narrowed(grant.caller(), environment.project_id, Some(environment.id)));
        plan.after.credentials = true;
        let change = change("environment.deleted", "environment.delete", Some(&environment), None, 200);
        self.journal(&mut plan, grant, now, change);
        Ok(plan)
    }
}

pub(crate) fn change(
    event: &'static str,
    action: &'static str,
    before: Option<&Environment>,
    after: Option<&Environment>,
    status: u16,
) -> Change {
    let text = |e: &Environment| json(&EnvironmentView::from(e));
    let any = after.or(before);
    Change {
        event,
        action,
        resource_id: any.map(|e| e.id.to_string()).unwrap_or_default(),
        project_id: any.map(|e| e.project_id),
        environment_id: any.map(|e| e.id),
        before: before.map(text),
        after: after.map(text),
        status,
    }
}
