//! Invitations: how a person comes into a workspace. Whoever has an invitation's token accepts it, so the token is the
//! credential of the one operation that needs no other.
//!
//! A pending invitation holds a seat of the quota `members`. One that was accepted, revoked or expired is gone; its
//! event and audit row tell of it, and never of the token.

use nephos_model::email::Email;
use nephos_model::event::Actor;
use nephos_model::fault::{Code, Detail};
use nephos_model::id::{InvitationId, UserId, WorkspaceId};
use nephos_model::invitation::{Invitation, LIFE, Token};
use nephos_model::page::{Listed, Page};
use nephos_model::role::Role;
use nephos_model::tenant::{Mode, TenantId};
use nephos_model::workspace::{Member, Workspace};
use nephos_model::{Fault, Timestamp};
use nephos_store as store;
use nephos_store::{Batch, Statement, StoreError};

use crate::api_key::KeyWithSecret;
use crate::caller::{Grant, InvitationRead, InvitationWrite, Request};
use crate::install::FIRST_KEY;
use crate::mail::letter::Letter;
use crate::member::may_invite;
use crate::plan::{Author, Change, Plan};
use crate::plan_limits::{Limits, quota};
use crate::view::{InvitationView, json};
use crate::{Cloud, fault};

/// Open invitations of one member at most: a removal takes them back in one transaction.
pub const INVITATIONS_PER_MEMBER_MAX: u32 = 300;
/// Expired invitations that are removed in one transaction at most.
const EXPIRED_AT_ONCE: u32 = 200;

/// Where an invitation is accepted. The token is behind the `#`, so no server's log has it.
pub fn link(origin: &str, token: &Token) -> String {
    format!("{origin}/invitations/accept#{}", token.expose())
}

/// An invitation with its token, which is shown this once.
#[derive(Debug, Clone)]
pub struct InvitationWithToken {
    /// The invitation.
    pub invitation: Invitation,
    /// Its token.
    pub token: Token,
}

/// What an accepted invitation gives.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The workspace.
    pub workspace: Workspace,
    /// The new member.
    pub member: Member,
    /// The member's first live key, with its secret, which is shown this once.
    pub live_key: KeyWithSecret,
    /// The member's first test key, with its secret, which is shown this once.
    pub test_key: KeyWithSecret,
}

impl Cloud {
    /// A page of the invitations that can be accepted.
    pub async fn invitations(&self, grant: &Grant<InvitationRead>, page: &Page) -> Result<Listed<Invitation>, Fault> {
        let listed = self.store().invitations(grant.caller().workspace_id, page, self.clock().now()).await;
        listed.map_err(fault::store)
    }

    /// One invitation that can be accepted, or 404.
    pub async fn invitation(&self, grant: &Grant<InvitationRead>, id: InvitationId) -> Result<Invitation, Fault> {
        self.found_invitation(grant, id).await
    }

    /// One invitation that is to be revoked, or 404.
    pub async fn invitation_to_revoke(
        &self,
        grant: &Grant<InvitationWrite>,
        id: InvitationId,
    ) -> Result<Invitation, Fault> {
        self.found_invitation(grant, id).await
    }

    async fn found_invitation<P>(&self, grant: &Grant<P>, id: InvitationId) -> Result<Invitation, Fault> {
        let found = self.store().invitation(grant.caller().workspace_id, id, self.clock().now()).await;
        found.map_err(fault::store)?.ok_or_else(|| Fault::not_found("invitation"))
    }

    /// Invites a person, by e-mail address.
    ///
    /// Faults: 403 for a role above the caller's own and for a narrowed credential, 409 for a member and for an address that
    /// is invited already.
    pub async fn invite(
        &self,
        grant: &Grant<InvitationWrite>,
        email: &Email,
        role: Role,
    ) -> Result<Plan<InvitationWithToken>, Fault> {
        let caller = grant.caller();
        let workspace = caller.workspace_id;
        let standing = self.standing(grant).await?;
        if !may_invite(standing.role(), role) {
            return Err(Fault::missing_role(role));
        }
        standing.must_be_whole(caller.scopes)?;
        let now = self.clock().now();
        let mut plan = Plan::new(InvitationWithToken {
            invitation: Invitation {
                id: self.id(),
                email: email.as_str().to_owned(),
                role,
                invited_by: caller.member_id,
                expires_at: now.plus(LIFE),
                version: 1,
                created_at: now,
            },
            token: Token::generate(self.entropy()),
        });
        plan.write(standing.held());
        if let Some(member) = self.store().member_by_email(workspace, email.as_str()).await.map_err(fault::store)? {
            let message = format!("{email} is a member of the workspace already.");
            return Err(Fault::conflict(Detail::at("/email", "already_member", message).resource(member.id)));
        }
        if let Some(open) = self.store().invitation_of(workspace, email.as_str()).await.map_err(fault::store)? {
            if open.expires_at > now {
                let message = format!("{email} is invited already; revoke that invitation to make another one.");
                return Err(Fault::conflict(Detail::at("/email", "already_invited", message).resource(open.id)));
            }
            self.expire_invitation(&mut plan.batch, workspace, caller.tenant, &open);
        }
        self.must_have_few_open(grant).await?;
        let InvitationWithToken { invitation, token } = &plan.value;
        let limit = quota(caller.limits.members);
        let rows = store::invitation::insert(workspace, invitation, token.hash(), limit);
        let change = change("invitation.created", "invitation.create", invitation, 201);
        let letter = self.letter(grant, invitation, token).await?;
        plan.seats(workspace, limit);
        plan.write(rows);
        plan.mail(letter);
        self.journal(&mut plan, grant, now, change);
        Ok(plan)
    }

    /// What is written to the person who is invited.
    async fn letter(
        &self,
        grant: &Grant<InvitationWrite>,
        invitation: &Invitation,
        token: &Token,
    ) -> Result<Option<Statement>, Fault> {
        let caller = grant.caller();
        let workspace = self.store().workspace(caller.workspace_id).await.map_err(fault::store)?;
        let inviter = self.store().member(caller.workspace_id, caller.member_id).await.map_err(fault::store)?;
        // Without them nothing is invited: the commit finds the same and refuses.
        let (Some(workspace), Some(inviter)) = (workspace, inviter) else { return Ok(None) };
        let letter = Letter::Invitation {
            workspace: workspace.name,
            inviter: inviter.email,
            role: invitation.role,
            url: link(&self.settings().origin, token),
            expires_at: invitation.expires_at,
        };
        Ok(self.mail_to(&invitation.email, None, &letter))
    }

    async fn must_have_few_open(&self, grant: &Grant<InvitationWrite>) -> Result<(), Fault> {
        let caller = grant.caller();
        let open = self.store().invitations_by(caller.workspace_id, caller.member_id, INVITATIONS_PER_MEMBER_MAX).await;
        if open.map_err(fault::store)?.len() < INVITATIONS_PER_MEMBER_MAX as usize {
            return Ok(());
        }
        let message =
            format!("A member has at most {INVITATIONS_PER_MEMBER_MAX} open invitations; revoke some of them.");
        let detail = Detail::new("invitations_of_member", message.clone());
        Err(Fault { details: vec![detail], ..Fault::new(Code::QuotaExceeded, message) })
    }

    /// Takes an invitation back. Only who could have made it does.
    pub async fn revoke_invitation(
        &self,
        grant: &Grant<InvitationWrite>,
        invitation: Invitation,
    ) -> Result<Plan<Invitation>, Fault> {
        let standing = self.standing(grant).await?;
        if !may_invite(standing.role(), invitation.role) {
            return Err(Fault::missing_role(invitation.role));
        }
        let mut plan = Plan::new(invitation.clone());
        plan.write(standing.held());
        self.revoke(&mut plan, grant, &invitation);
        Ok(plan)
    }

    /// Adds the withdrawal of an invitation to the plan of whatever takes it along.
    pub(crate) fn revoke<T, P>(&self, plan: &mut Plan<T>, grant: &Grant<P>, invitation: &Invitation) {
        plan.write(store::invitation::delete(grant.caller().workspace_id, invitation));
        let change = ended("invitation.revoked", "invitation.revoke", invitation);
        self.journal(plan, grant, self.clock().now(), change);
    }

    fn expire_invitation(&self, batch: &mut Batch, workspace: WorkspaceId, live: TenantId, invitation: &Invitation) {
        batch.extend(store::invitation::delete(workspace, invitation));
        let author = Author::system(live, self.id());
        let now = self.clock().now();
        self.tell(batch, &author, now, ended("invitation.expired", "invitation.expire", invitation));
    }

    /// Removes what has expired, each with its event.
    pub(crate) async fn expire_invitations(&self) -> Result<(), StoreError> {
        loop {
            let expired = self.store().invitations_expired(self.clock().now(), EXPIRED_AT_ONCE).await?;
            for (invitation, workspace) in &expired {
                let Some(live) = self.store().current_tenant(*workspace, Mode::Live).await? else { continue };
                let mut batch = Batch::from(store::workspace::hold(*workspace));
                self.expire_invitation(&mut batch, *workspace, live.id, invitation);
                match self.store().write(batch).await {
                    // It was revoked meanwhile, or its workspace deleted.
                    Ok(_) | Err(StoreError::Missed { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            if expired.len() < EXPIRED_AT_ONCE as usize {
                return Ok(());
            }
        }
    }

    /// Makes the person whom a token invites a member, with a first key of each mode.
    ///
    /// Faults: 401 for a token that is not, or no longer, one, which counts as a failed credential, 403 while the workspace
    /// is suspended, 422 when its quota of keys is used up.
    pub async fn accept_invitation(&self, request: &Request, mode: Mode, token: &str) -> Result<Plan<Accepted>, Fault> {
        let refused = |fault| Err(self.refuse_credential(request.address, fault));
        if mode != Mode::Live {
            return refused(invalid(
                "wrong_base_url",
                "An invitation is into the workspace as a whole, so it is accepted under a live base URL: /v1 or /api/v1.",
            ));
        }
        let found = match Token::recognize(token) {
            Some(hash) => self.store().invitation_by_hash(hash).await.map_err(fault::store)?,
            None => None,
        };
        let now = self.clock().now();
        let Some((invitation, workspace)) = found.filter(|(invitation, _)| invitation.expires_at > now) else {
            return refused(invalid(
                "invalid_invitation",
                "This invitation can't be accepted: the token is incomplete, or the invitation was accepted, revoked or has \
                 expired. Ask for another one.",
            ));
        };
        let workspace = self.store().workspace(workspace).await.map_err(fault::store)?;
        let Some(workspace) = workspace else {
            return refused(invalid("invalid_invitation", "The workspace of this invitation was deleted."));
        };
        if workspace.suspended_at.is_some() {
            return Err(self.suspended());
        }
        self.join(request, workspace, &invitation, now).await
    }

    async fn join(
        &self,
        request: &Request,
        workspace: Workspace,
        invitation: &Invitation,
        now: Timestamp,
    ) -> Result<Plan<Accepted>, Fault> {
        let user = self.store().user_by_email(&invitation.email).await.map_err(fault::store)?;
        let member = Member {
            id: self.id(),
            user_id: user.unwrap_or_else(|| self.id::<UserId>()),
            email: invitation.email.clone(),
            role: invitation.role,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        let limits = self.settings().plan(&workspace.plan).unwrap_or_else(Limits::standard);
        let mut batch = Batch::from(store::workspace::hold(workspace.id));
        batch.push(store::invitation::accept(workspace.id, invitation));
        if user.is_none() {
            batch.push(store::member::insert_new_user(member.user_id, &member.email, now));
        }
        batch.extend(store::member::insert_invited(workspace.id, &member));
        let mut keys = Vec::new();
        for mode in [Mode::Live, Mode::Test] {
            let tenant = self.store().current_tenant(workspace.id, mode).await.map_err(fault::store)?;
            let tenant = tenant.ok_or_else(|| Fault::internal("a workspace without a tenant"))?.id;
            let author = Author {
                actor: Actor::Member(member.id),
                member_id: Some(member.id),
                ..Author::somebody(request, tenant)
            };
            if mode == Mode::Live {
                self.tell(&mut batch, &author, now, ended("invitation.accepted", "invitation.accept", invitation));
                let change = crate::member::change("member.created", "invitation.accept", None, Some(&member), 201);
                self.tell(&mut batch, &author, now, change);
            }
            let made = self.new_key(member.id, mode, FIRST_KEY, now);
            batch.push(store::tenant::hold(tenant));
            let hash = made.secret.hash();
            batch.extend(store::api_key::insert(tenant, workspace.id, &made.key, hash, quota(limits.api_keys)));
            let change = crate::api_key::change("api_key.created", "api_key.create", None, Some(&made.key), 201);
            self.tell(&mut batch, &author, now, change);
            keys.push(made);
        }
        let (Some(test_key), Some(live_key)) = (keys.pop(), keys.pop()) else {
            return Err(Fault::internal("a mode without a key"));
        };
        let mut plan = Plan::new(Accepted { workspace, member, live_key, test_key });
        plan.batch.append(batch);
        Ok(plan)
    }
}

fn invalid(code: &'static str, message: &str) -> Fault {
    Fault { details: vec![Detail::at("/token", code, message)], ..Fault::new(Code::Unauthorized, message) }
}

fn change(event: &'static str, action: &'static str, invitation: &Invitation, status: u16) -> Change {
    Change {
        event,
        action,
        resource_id: invitation.id.to_string(),
        project_id: None,
        environment_id: None,
        before: None,
        after: Some(json(&InvitationView::from(invitation))),
        status,
    }
}

/// The end of an invitation: what it was is told as what was before.
fn ended(event: &'static str, action: &'static str, invitation: &Invitation) -> Change {
    let told = change(event, action, invitation, 200);
    Change { before: told.after, after: None, ..told }
}
