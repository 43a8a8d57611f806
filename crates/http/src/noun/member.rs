//! Members of the workspace.

use nephos_control::caller::{MemberRead, MemberRemove, MemberWrite};
use nephos_control::plan::CommitError;
use nephos_control::view::MemberView;
use nephos_model::Code;

use super::ROLE;
use crate::call::{Answer, Call, DeletedView};
use crate::endpoint::{Endpoint, Need, Success, schema_of};
use crate::fields::Field;
use crate::query::{AFTER, LIMIT, PAGE};
use crate::reply::Reply;

const ALL: &str = "/members";
const ONE: &str = "/members/{id}";
const NEW_ROLE: Field = Field::optional("role", ROLE, "The role that the member has from now on.");

/// The operations.
pub const OPERATIONS: &[Endpoint] = &[
    Endpoint::new("member.list", "GET", ALL, Success::Listed, schema_of::<MemberView>, |c| Box::pin(list(c)))
        .needs(Need::of::<MemberRead>())
        .told("List members", "The people of the workspace and their roles, the newest first.", "Members listed.")
        .query(&[PAGE, LIMIT, AFTER]),
    Endpoint::new("member.get", "GET", ONE, Success::Found, schema_of::<MemberView>, |c| Box::pin(get(c)))
        .needs(Need::of::<MemberRead>())
        .told("Read a member", "One person's place in the workspace.", "Member found."),
    Endpoint::new("member.update", "PATCH", ONE, Success::Updated, schema_of::<MemberView>, |c| Box::pin(update(c)))
        .needs(Need::of::<MemberWrite>())
        .told(
            "Change a member's role",
            "From the next request on, the member's keys can do what the new role may. Invitations that the member could \
             not make any more are revoked. The last Owner stays one. A promotion needs a key that is not narrowed.",
            "Member updated.",
        )
        .body(&[NEW_ROLE], r#"{"role":"member"}"#)
        .faults(&[Code::Conflict]),
    Endpoint::new("member.remove", "DELETE", ONE, Success::Deleted, schema_of::<DeletedView>, |c| Box::pin(remove(c)))
        .needs(Need::of::<MemberRemove>())
        .told(
            "Remove a member",
            "Revokes the member's keys and open invitations at once. An Admin removes Members and Admins, an Owner anybody, \
             and everybody may leave, except the last Owner.",
            "Member removed.",
        )
        .faults(&[Code::Conflict]),
];

async fn list(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<MemberRead>()?;
    let page = call.query.page("mem")?;
    let listed = call.cloud().members(&grant, &page).await?;
    call.read(Reply::listed(&listed, &page, |m| m.id.to_string(), |m| MemberView::from(m)))
}

async fn get(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<MemberRead>()?;
    let member = call.cloud().member(&grant, call.id("member")?).await?;
    call.read(Reply::found(&MemberView::from(&member)).version(member.version))
}

async fn update(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<MemberWrite>()?;
    let member = call.cloud().member_to_change(&grant, call.id("member")?).await?;
    call.must_match(member.version)?;
    let role = call.body.maybe_parsed("role")?;
    let plan = call.cloud().change_role(&grant, member, role).await?;
    call.commit(plan, |m| Reply::updated(&MemberView::from(m)).version(m.version)).await
}

async fn remove(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<MemberRemove>()?;
    let member = call.cloud().member_to_remove(&grant, call.id("member")?).await?;
    call.must_match(member.version)?;
    let plan = call.cloud().remove_member(&grant, member).await?;
    call.commit(plan, |m| Reply::deleted(m.id)).await
}
