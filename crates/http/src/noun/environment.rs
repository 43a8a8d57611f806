//! Environments of projects.

use nephos_control::caller::{EnvironmentDelete, EnvironmentRead, EnvironmentWrite};
use nephos_control::plan::CommitError;
use nephos_control::view::EnvironmentView;
use nephos_model::Code;

use crate::call::{Answer, Call, DeletedView};
use crate::endpoint::{Endpoint, Need, Success, schema_of};
use crate::fields::{Field, Kind};
use crate::query::{AFTER, DRY_RUN, LIMIT, PAGE, Parameter};
use crate::reply::Reply;

const ALL: &str = "/projects/{id}/environments";
const ONE: &str = "/environments/{id}";
const NAME: Field = Field::required("name", Kind::Hostname, "Its name, a hostname label unique in the project.");
const NEW_NAME: Field =
    Field::optional("name", Kind::Hostname, "Its new name, a hostname label unique in the project.");
const NAME_FILTER: Parameter = Parameter::new("name", Kind::Hostname, "Only the environment with this name.");

/// The operations.
pub const OPERATIONS: &[Endpoint] = &[
    Endpoint::new("environment.list", "GET", ALL, Success::Listed, schema_of::<EnvironmentView>, |c| Box::pin(list(c)))
        .needs(Need::of::<EnvironmentRead>())
        .told("List a project's environments", "The environments of one project, the newest first.", "Environments listed.")
        .query(&[PAGE, LIMIT, AFTER, NAME_FILTER]),
    Endpoint::new("environment.create", "POST", ALL, Success::Created, schema_of::<EnvironmentView>, |c| Box::pin(create(c)))
        .needs(Need::of::<EnvironmentWrite>())
        .told(
            "Create an environment",
            "Makes an isolated deployment context in a project: its computes share a network that no other environment reaches.",
            "Environment created.",
        )
        .query(&[DRY_RUN])
        .body(&[NAME], r#"{"name":"qa"}"#)
        .faults(&[Code::Conflict, Code::QuotaExceeded]),
    Endpoint::new("environment.get", "GET", ONE, Success::Found, schema_of::<EnvironmentView>, |c| Box::pin(get(c)))
        .needs(Need::of::<EnvironmentRead>())
        .told("Read an environment", "One environment.", "Environment found."),
    Endpoint::new("environment.update", "PATCH", ONE, Success::Updated, schema_of::<EnvironmentView>, |c| Box::pin(update(c)))
        .needs(Need::of::<EnvironmentWrite>())
        .told("Rename an environment", "Changes what is sent and leaves the rest.", "Environment updated.")
        .body(&[NEW_NAME], r#"{"name":"qa"}"#)
        .faults(&[Code::Conflict]),
    Endpoint::new("environment.delete", "DELETE", ONE, Success::Deleted, schema_of::<DeletedView>, |c| Box::pin(delete(c)))
        .needs(Need::of::<EnvironmentDelete>())
        .told(
            "Delete an environment",
            "Removes the environment and revokes the keys that are narrowed to it. Refused while it has live resources.",
            "Environment deleted.",
        )
        .faults(&[Code::Conflict]),
];

async fn list(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<EnvironmentRead>()?;
    let page = call.query.page("env")?;
    let name = call.query.text("name");
    let project = call.id("project")?;
    let listed = call.cloud().environments(&grant, project, name, &page).await?;
    call.read(Reply::listed(&listed, &page, |e| e.id.to_string(), |e| EnvironmentView::from(e)).of(project))
}

async fn create(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<EnvironmentWrite>()?;
    let name = call.body.parsed("name")?;
    let plan = call.cloud().create_environment(&grant, call.id("project")?, &name).await?;
    call.commit(plan, |e| {
        Reply::created(&EnvironmentView::from(e), format!("/environments/{}", e.id)).version(e.version)
    })
    .await
}

async fn get(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<EnvironmentRead>()?;
    let environment = call.cloud().environment(&grant, call.id("environment")?).await?;
    let reply = Reply::found(&EnvironmentView::from(&environment)).version(environment.version);
    call.read(reply.of(environment.project_id))
}

async fn update(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<EnvironmentWrite>()?;
    let environment = call.cloud().environment_to_change(&grant, call.id("environment")?).await?;
    call.must_match(environment.version)?;
    let name = call.body.maybe_parsed("name")?;
    let plan = call.cloud().rename_environment(&grant, environment, name.as_ref()).await?;
    call.commit(plan, |e| Reply::updated(&EnvironmentView::from(e)).version(e.version)).await
}

async fn delete(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<EnvironmentDelete>()?;
    let environment = call.cloud().environment_to_delete(&grant, call.id("environment")?).await?;
    call.must_match(environment.version)?;
    let plan = call.cloud().delete_environment(&grant, environment).await?;
    call.commit(plan, |e| Reply::deleted(e.id)).await
}
