//! Projects.

use nephos_control::caller::{ProjectDelete, ProjectRead, ProjectWrite};
use nephos_control::plan::CommitError;
use nephos_control::project::Force;
use nephos_control::view::ProjectView;
use nephos_model::Code;
use nephos_model::id::ProjectId;

use crate::call::{Answer, Call, DeletedView};
use crate::endpoint::{Endpoint, Need, Success, schema_of};
use crate::fields::{Field, Kind};
use crate::query::{AFTER, DRY_RUN, LIMIT, PAGE, Parameter};
use crate::reply::Reply;

const ALL: &str = "/projects";
const ONE: &str = "/projects/{id}";
const NAME: Field = Field::required("name", Kind::Title, "Its name for people; need not be unique.");
const NEW_NAME: Field = Field::optional("name", Kind::Title, "Its new name.");
const NAME_FILTER: Parameter = Parameter::new("name", Kind::Title, "Only projects with this name.");
const FORCE: Parameter = Parameter::new("force", Kind::Bool, "Deletes the project's live resources with it.");

/// The operations.
pub const OPERATIONS: &[Endpoint] = &[
    Endpoint::new("project.list", "GET", ALL, Success::Listed, schema_of::<ProjectView>, |c| Box::pin(list(c)))
        .needs(Need::of::<ProjectRead>())
        .told("List projects", "The projects that the credential sees, the newest first.", "Projects listed.")
        .query(&[PAGE, LIMIT, AFTER, NAME_FILTER]),
    Endpoint::new("project.create", "POST", ALL, Success::Created, schema_of::<ProjectView>, |c| Box::pin(create(c)))
        .needs(Need::of::<ProjectWrite>())
        .told("Create a project", "Makes a project with the environments dev, staging and prod.", "Project created.")
        .query(&[DRY_RUN])
        .body(&[NAME], r#"{"name":"beta"}"#)
        .faults(&[Code::QuotaExceeded]),
    Endpoint::new("project.get", "GET", ONE, Success::Found, schema_of::<ProjectView>, |c| Box::pin(get(c)))
        .needs(Need::of::<ProjectRead>())
        .told("Read a project", "One project.", "Project found."),
    Endpoint::new("project.update", "PATCH", ONE, Success::Updated, schema_of::<ProjectView>, |c| Box::pin(update(c)))
        .needs(Need::of::<ProjectWrite>())
        .told("Rename a project", "Changes what is sent and leaves the rest.", "Project updated.")
        .body(&[NEW_NAME], r#"{"name":"beta"}"#)
        .faults(&[Code::Conflict]),
    Endpoint::new("project.delete", "DELETE", ONE, Success::Deleted, schema_of::<DeletedView>, |c| Box::pin(delete(c)))
        .needs(Need::of::<ProjectDelete>())
        .told(
            "Delete a project",
            "Removes the project and revokes the keys that are narrowed to it. Refused while it has live resources, unless \
             `force` is true; the header Operation-Id then names what cleans up after them, whose end returns the quota. The \
             default project stays.",
            "Project deleted.",
        )
        .query(&[FORCE])
        .faults(&[Code::Conflict]),
];

fn path(id: ProjectId) -> String {
    format!("/projects/{id}")
}

async fn list(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<ProjectRead>()?;
    let page = call.query.page("prj")?;
    let name = call.query.text("name").map(str::to_owned);
    let listed = call.cloud().projects(&grant, name, &page).await?;
    call.read(Reply::listed(&listed, &page, |p| p.id.to_string(), |p| ProjectView::from(p)))
}

async fn create(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<ProjectWrite>()?;
    let name = call.body.parsed("name")?;
    let plan = call.cloud().create_project(&grant, &name).await?;
    call.commit(plan, |p| Reply::created(&ProjectView::from(p), path(p.id)).version(p.version)).await
}

async fn get(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<ProjectRead>()?;
    let project = call.cloud().project(&grant, call.id("project")?).await?;
    call.read(Reply::found(&ProjectView::from(&project)).version(project.version).of(project.id))
}

async fn update(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<ProjectWrite>()?;
    let project = call.cloud().project_to_change(&grant, call.id("project")?).await?;
    call.must_match(project.version)?;
    let name = call.body.maybe_parsed("name")?;
    let plan = call.cloud().rename_project(&grant, project, name.as_ref()).await?;
    call.commit(plan, |p| Reply::updated(&ProjectView::from(p)).version(p.version)).await
}

async fn delete(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<ProjectDelete>()?;
    let project = call.cloud().project_to_delete(&grant, call.id("project")?).await?;
    call.must_match(project.version)?;
    let force = if call.query.flag("force") { Force::Yes } else { Force::No };
    let plan = call.cloud().delete_project(&grant, project, force).await?;
    call.commit(plan, |deleted| Reply::deleted(deleted.project.id).operation(deleted.operation.as_ref().map(|o| o.id)))
        .await
}
