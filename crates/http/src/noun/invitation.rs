//! Invitations into the workspace.

use nephos_control::caller::{InvitationRead, InvitationWrite};
use nephos_control::plan::CommitError;
use nephos_control::view::{AcceptedInvitationView, InvitationView, InvitationWithTokenView};
use nephos_model::Code;

use super::ROLE;
use crate::call::{Answer, Call, DeletedView};
use crate::endpoint::{Endpoint, Need, Success, schema_of};
use crate::fields::{Field, Kind};
use crate::query::{AFTER, DRY_RUN, LIMIT, PAGE};
use crate::reply::Reply;

const ALL: &str = "/invitations";
const ONE: &str = "/invitations/{id}";
const ACCEPT: &str = "/invitations/accept";
/// Bytes of a token at most; a whole one has fewer, and what has more is not one.
const TOKEN_BYTES_MAX: usize = 200;

const NEW: &[Field] = &[
    Field::required("email", Kind::Email, "The e-mail address of the person."),
    Field::required("role", ROLE, "The role that the person will have; at most that of who invites."),
];
const TOKEN: &[Field] = &[Field::required(
    "token",
    Kind::Text { bytes_max: TOKEN_BYTES_MAX },
    "The token of the invitation: what is behind the # of its link.",
)];

/// The operations.
pub const OPERATIONS: &[Endpoint] = &[
    Endpoint::new("invitation.list", "GET", ALL, Success::Listed, schema_of::<InvitationView>, |c| Box::pin(list(c)))
        .needs(Need::of::<InvitationRead>())
        .told(
            "List invitations",
            "The invitations that can be accepted, the newest first; never their tokens.",
            "Invitations listed.",
        )
        .query(&[PAGE, LIMIT, AFTER]),
    Endpoint::new("invitation.create", "POST", ALL, Success::Created, schema_of::<InvitationWithTokenView>, |c| {
        Box::pin(create(c))
    })
    .needs(Need::of::<InvitationWrite>())
    .told(
        "Invite a person",
        "Makes a link by which the person becomes a member within 7 days. Nobody invites above the own role, and a narrowed \
         key nobody at all. Open invitations count against the quota of members.",
        "Invitation made; its link is not shown again.",
    )
    .query(&[DRY_RUN])
    .body(NEW, r#"{"email":"ada@people.example","role":"member"}"#)
    .faults(&[Code::Conflict, Code::QuotaExceeded]),
    Endpoint::new("invitation.get", "GET", ONE, Success::Found, schema_of::<InvitationView>, |c| Box::pin(get(c)))
        .needs(Need::of::<InvitationRead>())
        .told("Read an invitation", "One invitation that can be accepted; never its token.", "Invitation found."),
    Endpoint::new("invitation.revoke", "DELETE", ONE, Success::Deleted, schema_of::<DeletedView>, |c| {
        Box::pin(revoke(c))
    })
    .needs(Need::of::<InvitationWrite>())
    .told("Revoke an invitation", "Its link can't be accepted any more.", "Invitation revoked."),
    Endpoint::new("invitation.accept", "POST", ACCEPT, Success::Created, schema_of::<AcceptedInvitationView>, |c| {
        Box::pin(accept(c))
    })
    .open()
    .told(
        "Accept an invitation",
        "Makes the invited person a member, and answers the member with a first live and a first test key, whose secrets \
         are shown this once. The token is the only credential that this takes: an Authorization header is not looked at. \
         A wrong token is a failed credential. Only under a live base URL.",
        "Invitation accepted; the keys are not shown again.",
    )
    .body(TOKEN, r#"{"token":"invite_0"}"#)
    .faults(&[Code::Forbidden, Code::QuotaExceeded]),
];

async fn list(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<InvitationRead>()?;
    let page = call.query.page("ivt")?;
    let listed = call.cloud().invitations(&grant, &page).await?;
    call.read(Reply::listed(&listed, &page, |i| i.id.to_string(), |i| InvitationView::from(i)))
}

async fn create(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<InvitationWrite>()?;
    let role = call.body.parsed("role")?;
    let plan = call.cloud().invite(&grant, &call.body.parsed("email")?, role).await?;
    let origin = &call.app.config.origin;
    call.commit(plan, |made| {
        let view = InvitationWithTokenView::new(made, origin);
        Reply::created(&view, format!("/invitations/{}", made.invitation.id)).version(made.invitation.version).secret()
    })
    .await
}

async fn get(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<InvitationRead>()?;
    let invitation = call.cloud().invitation(&grant, call.id("invitation")?).await?;
    call.read(Reply::found(&InvitationView::from(&invitation)).version(invitation.version))
}

async fn revoke(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<InvitationWrite>()?;
    let invitation = call.cloud().invitation_to_revoke(&grant, call.id("invitation")?).await?;
    call.must_match(invitation.version)?;
    let plan = call.cloud().revoke_invitation(&grant, invitation).await?;
    call.commit(plan, |i| Reply::deleted(i.id)).await
}

async fn accept(call: &Call) -> Result<Answer, CommitError> {
    let token = call.body.required("token");
    let plan = call.cloud().accept_invitation(&call.request, call.mount.mode, token).await?;
    call.commit(plan, |accepted| {
        Reply::created(&AcceptedInvitationView::from(accepted), format!("/members/{}", accepted.member.id))
            .version(accepted.member.version)
            .secret()
    })
    .await
}
