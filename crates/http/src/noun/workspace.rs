//! The workspace, its members and limits, and the credential itself.

use nephos_control::caller::{LimitRead, MemberRead, WorkspaceRead};
use nephos_control::plan::CommitError;
use nephos_control::view::{LimitsView, MeView, MemberView, WorkspaceView};

use crate::call::{Answer, Call};
use crate::endpoint::{Endpoint, Need, Success, schema_of};
use crate::query::{AFTER, LIMIT, PAGE};
use crate::reply::Reply;

/// The operations.
pub const OPERATIONS: &[Endpoint] = &[
    Endpoint::new("workspace.get", "GET", "/workspace", Success::Found, schema_of::<WorkspaceView>, |c| {
        Box::pin(workspace(c))
    })
    .needs(Need::of::<WorkspaceRead>())
    .told("Read the workspace", "The credential's workspace.", "Workspace found."),
    Endpoint::new("workspace.me", "GET", "/me", Success::Found, schema_of::<MeView>, |c| Box::pin(me(c)))
        .needs(Need::of::<WorkspaceRead>())
        .told(
            "Read the credential",
            "Workspace, member, role and scopes of the credential itself.",
            "Credential found.",
        ),
    Endpoint::new("member.list", "GET", "/members", Success::Listed, schema_of::<MemberView>, |c| Box::pin(members(c)))
        .needs(Need::of::<MemberRead>())
        .told("List members", "The people of the workspace and their roles, the newest first.", "Members listed.")
        .query(&[PAGE, LIMIT, AFTER]),
    Endpoint::new("member.get", "GET", "/members/{id}", Success::Found, schema_of::<MemberView>, |c| {
        Box::pin(member(c))
    })
    .needs(Need::of::<MemberRead>())
    .told("Read a member", "One person's place in the workspace.", "Member found."),
    Endpoint::new("limit.get", "GET", "/limits", Success::Found, schema_of::<LimitsView>, |c| Box::pin(limits(c)))
        .needs(Need::of::<LimitRead>())
        .told("Read the limits", "Budgets and quotas of the plan, and what is used of the quotas.", "Limits found."),
];

async fn workspace(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<WorkspaceRead>()?;
    let workspace = call.cloud().workspace(&grant).await?;
    call.read(Reply::found(&WorkspaceView::from(&workspace)).version(workspace.version))
}

async fn me(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<WorkspaceRead>()?;
    let me = call.cloud().me(&grant).await?;
    call.read(Reply::found(&MeView::from(&me)))
}

async fn members(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<MemberRead>()?;
    let page = call.query.page("mem")?;
    let listed = call.cloud().members(&grant, &page).await?;
    call.read(Reply::listed(&listed, &page, |m| m.id.to_string(), |m| MemberView::from(m)))
}

async fn member(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<MemberRead>()?;
    let member = call.cloud().member(&grant, call.id("member")?).await?;
    call.read(Reply::found(&MemberView::from(&member)).version(member.version))
}

async fn limits(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<LimitRead>()?;
    let limits = call.cloud().limits(&grant).await?;
    call.read(Reply::found(&limits))
}
