//! The workspace, its limits, and the credential itself.

use nephos_control::caller::{LimitRead, MeRead, WorkspaceRead, WorkspaceWrite};
use nephos_control::plan::CommitError;
use nephos_control::view::{LimitsView, MeView, WorkspaceView};
use nephos_model::Code;

use crate::call::{Answer, Call, DeletedView};
use crate::endpoint::{Endpoint, Need, Success, schema_of};
use crate::fields::{Field, Kind};
use crate::query::Parameter;
use crate::reply::Reply;

const NEW_NAME: Field = Field::optional("name", Kind::Title, "Its new name, unique in the installation.");
const CONFIRM: Parameter = Parameter::new(
    "confirm",
    Kind::Title,
    "The name of the workspace; without it, or with another, the answer is 409.",
);

/// The operations.
pub const OPERATIONS: &[Endpoint] = &[
    Endpoint::new("workspace.get", "GET", "/workspace", Success::Found, schema_of::<WorkspaceView>, |c| {
        Box::pin(workspace(c))
    })
    .needs(Need::of::<WorkspaceRead>())
    .told("Read the workspace", "The credential's workspace.", "Workspace found."),
    Endpoint::new("workspace.update", "PATCH", "/workspace", Success::Updated, schema_of::<WorkspaceView>, |c| {
        Box::pin(update(c))
    })
    .needs(Need::of::<WorkspaceWrite>())
    .told("Rename the workspace", "Changes what is sent and leaves the rest.", "Workspace updated.")
    .body(&[NEW_NAME], r#"{"name":"ours"}"#)
    .faults(&[Code::Conflict]),
    Endpoint::new("workspace.delete", "DELETE", "/workspace", Success::Deleted, schema_of::<DeletedView>, |c| {
        Box::pin(delete(c))
    })
    .needs(Need::of::<WorkspaceWrite>())
    .told(
        "Delete the workspace",
        "Deletes the workspace with everything in it, live and in the sandbox: from then on no credential of it works and \
         nothing is billed. Its computes are removed, unless one of them is protected.",
        "Workspace deleted.",
    )
    .query(&[CONFIRM])
    .faults(&[Code::Conflict]),
    Endpoint::new("workspace.me", "GET", "/me", Success::Found, schema_of::<MeView>, |c| Box::pin(me(c)))
        .needs(Need::of::<MeRead>())
        .told(
            "Read the credential",
            "Workspace, member, role and scopes of the credential itself.",
            "Credential found.",
        ),
    Endpoint::new("limit.get", "GET", "/limits", Success::Found, schema_of::<LimitsView>, |c| Box::pin(limits(c)))
        .needs(Need::of::<LimitRead>())
        .told("Read the limits", "Budgets and quotas of the plan, and what is used of the quotas.", "Limits found."),
];

async fn workspace(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<WorkspaceRead>()?;
    let workspace = call.cloud().workspace(&grant).await?;
    call.read(Reply::found(&WorkspaceView::from(&workspace)).version(workspace.version))
}

async fn update(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<WorkspaceWrite>()?;
    let workspace = call.cloud().workspace_to_change(&grant).await?;
    call.must_match(workspace.version)?;
    let name = call.body.maybe_parsed("name")?;
    let plan = call.cloud().rename_workspace(&grant, workspace, name.as_ref()).await?;
    call.commit(plan, |w| Reply::updated(&WorkspaceView::from(w)).version(w.version)).await
}

async fn delete(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<WorkspaceWrite>()?;
    let workspace = call.cloud().workspace_to_change(&grant).await?;
    call.must_match(workspace.version)?;
    let plan = call.cloud().delete_workspace(&grant, workspace, call.query.text("confirm")).await?;
    call.commit(plan, |w| Reply::deleted(w.id)).await
}

async fn me(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<MeRead>()?;
    let me = call.cloud().me(&grant).await?;
    call.read(Reply::found(&MeView::from(&me)))
}

async fn limits(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<LimitRead>()?;
    let limits = call.cloud().limits(&grant).await?;
    call.read(Reply::found(&limits))
}
