//! Projects.

use nephos_model::Fault;
use nephos_model::Timestamp;
use nephos_model::fault::Detail;
use nephos_model::id::{EnvironmentId, ProjectId};
use nephos_model::name::Title;
use nephos_model::operation::Operation;
use nephos_model::page::{LIMIT_MAX, Listed, Page};
use nephos_model::project::{Environment, FIRST_ENVIRONMENTS, Project};
use nephos_store as store;
use nephos_store::Statement;

use crate::caller::{Grant, ProjectDelete, ProjectRead, ProjectWrite};
use crate::plan::{Change, Plan};
use crate::view::{ProjectView, json};
use crate::{Cloud, fault};

/// Live resources that a refusal to delete names at most.
pub const NAMED_MAX: u32 = 20;
/// Computes that a forced deletion takes with the project at most, in one transaction.
pub const FORCED_MAX: u32 = 100;

/// A deleted project, and the computes deleted with it.
#[derive(Debug, Clone)]
pub struct DeletedProject {
    /// The project as it was.
    pub project: Project,
    /// What cleans up after the computes deleted with it; its end returns the project's quota.
    pub operation: Option<Operation>,
}

impl Cloud {
    /// One project, or 404.
    pub async fn project(&self, grant: &Grant<ProjectRead>, id: ProjectId) -> Result<Project, Fault> {
        self.visible_project(grant, id).await
    }

    pub(crate) async fn visible_project<P>(&self, grant: &Grant<P>, id: ProjectId) -> Result<Project, Fault> {
        if !grant.caller().sees_project(id) {
            return Err(Fault::not_found("project"));
        }
        self.store().project(grant.tenant(), id).await.map_err(fault::store)?.ok_or_else(|| Fault::not_found("project"))
    }

    /// A page of the projects that the credential sees.
    pub async fn projects(
        &self,
        grant: &Grant<ProjectRead>,
        name: Option<String>,
        page: &Page,
    ) -> Result<Listed<Project>, Fault> {
        let filter = store::project::Filter { only: grant.caller().project_id, name };
        self.store().projects(grant.tenant(), &filter, page).await.map_err(fault::store)
    }

    /// A new project with its first environments.
    pub async fn create_project(&self, grant: &Grant<ProjectWrite>, name: &Title) -> Result<Plan<Project>, Fault> {
        if grant.caller().is_narrowed() {
            return Err(narrowed("make projects"));
        }
        let now = self.now(grant.caller());
        let (project, environments, statements) = self.new_project(grant.tenant(), name.as_str(), false, now);
        let mut plan = Plan::new(project).of_project();
        plan.take(grant.tenant(), "quota.projects", 1, grant.caller().limits.projects);
        plan.write(statements);
        let change = change("project.created", "project.create", None, Some(&plan.value), 201);
        self.journal(&mut plan, grant, now, change);
        for environment in &environments {
            let change =
                crate::environment::change("environment.created", "project.create", None, Some(environment), 201);
            self.announce(&mut plan, grant, now, &change);
        }
        Ok(plan)
    }

    /// The rows of a new tenant's first project.
    pub fn first_project(&self, tenant: nephos_model::tenant::TenantId, now: Timestamp) -> Vec<Statement> {
        self.new_project(tenant, nephos_model::project::DEFAULT_NAME, true, now).2
    }

    /// The rows of a new project and its first environments.
    pub(crate) fn new_project(
        &self,
        tenant: nephos_model::tenant::TenantId,
        name: &str,
        is_default: bool,
        now: Timestamp,
    ) -> (Project, Vec<Environment>, Vec<Statement>) {
        let project =
            Project { id: self.id(), name: name.to_owned(), is_default, version: 1, created_at: now, updated_at: now };
        let mut statements = store::project::insert(tenant, &project);
        let mut environments = Vec::with_capacity(FIRST_ENVIRONMENTS.len());
        // Newest first: made in reverse, a list shows dev, staging, prod.
        for name in FIRST_ENVIRONMENTS.iter().rev() {
            let environment = Environment {
                id: self.id::<EnvironmentId>(),
                project_id: project.id,
                name: (*name).to_owned(),
                version: 1,
                created_at: now,
                updated_at: now,
            };
            statements.extend(store::environment::insert(tenant, &environment));
            environments.push(environment);
        }
        (project, environments, statements)
    }

    /// A project with another name.
    pub async fn rename_project(
        &self,
        grant: &Grant<ProjectWrite>,
        project: Project,
        name: Option<&Title>,
    ) -> Result<Plan<Project>, Fault> {
        let now = self.now(grant.caller());
        let Some(name) = name else {
            return Ok(Plan::new(project).of_project());
        };
        let mut renamed = project.clone();
        name.as_str().clone_into(&mut renamed.name);
        renamed.version += 1;
        renamed.updated_at = now;
        let mut plan = Plan::new(renamed).of_project();
        plan.write([store::project::rename(grant.tenant(), project.id, project.version, name.as_str(), now)]);
        let change = change("project.updated", "project.update", Some(&project), Some(&plan.value), 200);
        self.journal(&mut plan, grant, now, change);
        Ok(plan)
    }

    /// One project that is to be changed, or 404.
    pub async fn project_to_change(&self, grant: &Grant<ProjectWrite>, id: ProjectId) -> Result<Project, Fault> {
        self.visible_project(grant, id).await
    }

    /// One project that is to be deleted, or 404.
    pub async fn project_to_delete(&self, grant: &Grant<ProjectDelete>, id: ProjectId) -> Result<Project, Fault> {
        self.visible_project(grant, id).await
    }

    /// No more project: its keys are revoked with it. 409 for the default project, for the project of the very key
    /// that asks, and when it has computes, unless `force`, which deletes them too.
    pub async fn delete_project(
        &self,
        grant: &Grant<ProjectDelete>,
        project: Project,
        force: Force,
    ) -> Result<Plan<DeletedProject>, Fault> {
        let tenant = grant.tenant();
        let now = self.now(grant.caller());
        if project.is_default {
            let message = "The workspace's default project can't be deleted.";
            return Err(Fault::conflict(Detail::new("default_project", message).resource(project.id)));
        }
        if grant.caller().project_id == Some(project.id) {
            let message = "This key is narrowed to the project and would be revoked with it; use another key.";
            return Err(Fault::conflict(Detail::new("own_project", message).resource(project.id)));
        }
        let limit = if force == Force::Yes { FORCED_MAX + 1 } else { NAMED_MAX };
        let live = self.store().computes_of_project(tenant, project.id, limit).await.map_err(fault::store)?;
        if force == Force::No && !live.is_empty() {
            let details = live.iter().map(|c| {
                Detail::new("live_resource", format!("Compute \"{}\" is in the project.", c.name)).resource(c.id)
            });
            return Err(Fault {
                message:
                    "The project has live resources; delete them first, or send ?force=true to delete them with it."
                        .to_owned(),
                details: details.collect(),
                ..Fault::conflict(Detail::new("live_resource", ""))
            });
        }
        let mut plan =
            Plan::new(DeletedProject { project: project.clone(), operation: None }).of_project_id(project.id);
        if live.len() > FORCED_MAX as usize {
            let message = format!("The project has more than {FORCED_MAX} computes; delete some of them first.");
            return Err(Fault::conflict(Detail::new("too_many_resources", message)));
        }
        if live.is_empty() {
            plan.write([store::counter::give_back(tenant, "quota.projects", 1)]);
        } else {
            let operation = self.new_project_deletion(grant, project.id, &live, now);
            plan.write(store::operation::insert(tenant, &operation));
            for compute in &live {
                self.remove_compute(&mut plan, grant, compute, operation.id, now).await?;
            }
            plan.value.operation = Some(operation);
        }
        let all = Page { limit: LIMIT_MAX, ..Page::default() };
        let environments =
            self.store().environments(tenant, project.id, None, None, &all).await.map_err(fault::store)?;
        for environment in &environments.items {
            let change =
                crate::environment::change("environment.deleted", "project.delete", Some(environment), None, 200);
            self.announce(&mut plan, grant, now, &change);
        }
        self.announce_revoked(&mut plan, grant, project.id, None).await?;
        plan.write(store::project::delete(tenant, &project, now));
        plan.write(self.revoke_narrowed(grant.caller(), project.id, None));
        plan.after.credentials = true;
        let change = change("project.deleted", "project.delete", Some(&project), None, 200);
        self.journal(&mut plan, grant, now, change);
        Ok(plan)
    }
}

/// Whether live resources go too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// They do.
    Yes,
    /// They stand in the way.
    No,
}

pub(crate) fn narrowed(what: &str) -> Fault {
    let message = format!("This credential is narrowed to a project or environment and can't {what}.");
    Fault {
        details: vec![Detail::new("narrowed_credential", message.clone())],
        ..Fault::new(nephos_model::Code::Forbidden, message)
    }
}

pub(crate) fn change(
    event: &'static str,
    action: &'static str,
    before: Option<&Project>,
    after: Option<&Project>,
    status: u16,
) -> Change {
    let text = |p: &Project| json(&ProjectView::from(p));
    let id = after.or(before).map(|p| p.id);
    Change {
        event,
        action,
        resource_id: id.map(|id| id.to_string()).unwrap_or_default(),
        project_id: id,
        environment_id: None,
        before: before.map(text),
        after: after.map(text),
        status,
    }
}

impl Plan<Project> {
    fn of_project(self) -> Self {
        let id = self.value.id;
        self.of(id, None)
    }
}

impl<T> Plan<T> {
    fn of_project_id(self, id: ProjectId) -> Self {
        self.of(id, None)
    }
}
