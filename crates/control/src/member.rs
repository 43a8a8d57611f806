//! Members: who belongs to a workspace, and as what.
//!
//! Every change here writes the workspace's row first, so that changes of one workspace come one after the other: its
//! last Owner is the last one whatever is asked at the same time. What takes rights away needs the scope only; what
//! gives a person rights needs a credential that lacks none of its member's, because a person has no scopes, no expiry
//! and no address ranges to be narrowed by.

use nephos_model::api_key::ApiKey;
use nephos_model::fault::{Code, Detail};
use nephos_model::id::{MemberId, WorkspaceId};
use nephos_model::invitation::Invitation;
use nephos_model::page::{Listed, Page};
use nephos_model::role::Role;
use nephos_model::scope::Scopes;
use nephos_model::tenant::Mode;
use nephos_model::workspace::Member;
use nephos_model::{Fault, Timestamp};
use nephos_store as store;
use nephos_store::Statement;

use crate::api_key::KEYS_PER_MEMBER_MAX;
use crate::caller::{Grant, MemberRead, MemberRemove, MemberWrite, Permission};
use crate::invitation::INVITATIONS_PER_MEMBER_MAX;
use crate::plan::{Author, Change, Plan};
use crate::view::{MemberView, json};
use crate::{Cloud, fault};

/// Room for what slipped in while rows were counted.
const SLIPPED_IN_MAX: u32 = 100;

/// The caller as the rows have it now: a credential may be known for a second, and who gives or takes rights is asked for
/// the truth, which is held until the commit.
#[derive(Debug)]
pub(crate) struct Standing {
    workspace: WorkspaceId,
    member: Member,
    key: Option<ApiKey>,
}

impl Standing {
    /// The caller's role now.
    pub fn role(&self) -> Role {
        self.member.role
    }

    /// What the caller's rights rest on still is there at the commit. The first statements of the batch.
    pub fn held(&self) -> Vec<Statement> {
        let mut held =
            vec![store::workspace::hold(self.workspace), store::member::hold_as(self.workspace, &self.member)];
        held.extend(self.key.as_ref().map(store::api_key::hold));
        held
    }

    /// 403 that names everything in which the credential is narrower than its member.
    pub fn must_be_whole(&self, scopes: Scopes) -> Result<(), Fault> {
        let key = self.key.as_ref();
        let mut details = Vec::new();
        let mut narrowed = |message: String| details.push(Detail::new("beyond_own", message));
        if scopes != Scopes::EVERY {
            narrowed("The credential is narrowed to some scopes.".to_owned());
        }
        if let Some(at) = key.and_then(|key| key.expires_at) {
            narrowed(format!("The credential expires at {at}."));
        }
        if key.is_some_and(|key| !key.allowed_ips.is_empty()) {
            narrowed("The credential is narrowed to some addresses.".to_owned());
        }
        if details.is_empty() {
            return Ok(());
        }
        let message = "A person has everything that the role gives, and this credential has less: a narrowed key invites and \
                       promotes nobody. Use a key that is not narrowed; `details` lists in what this one is.";
        Err(Fault { details, ..Fault::new(Code::Forbidden, message) })
    }
}

impl Cloud {
    /// A page of the workspace's members.
    pub async fn members(&self, grant: &Grant<MemberRead>, page: &Page) -> Result<Listed<Member>, Fault> {
        self.store().members(grant.caller().workspace_id, page).await.map_err(fault::store)
    }

    /// One member, or 404.
    pub async fn member(&self, grant: &Grant<MemberRead>, id: MemberId) -> Result<Member, Fault> {
        self.found_member(grant, id).await
    }

    /// One member whose role is to be changed, or 404.
    pub async fn member_to_change(&self, grant: &Grant<MemberWrite>, id: MemberId) -> Result<Member, Fault> {
        self.found_member(grant, id).await
    }

    /// One member who is to be removed, or 404.
    pub async fn member_to_remove(&self, grant: &Grant<MemberRemove>, id: MemberId) -> Result<Member, Fault> {
        self.found_member(grant, id).await
    }

    async fn found_member<P>(&self, grant: &Grant<P>, id: MemberId) -> Result<Member, Fault> {
        let found = self.store().member(grant.caller().workspace_id, id).await.map_err(fault::store)?;
        found.ok_or_else(|| Fault::not_found("member"))
    }

    /// The caller as the rows have it now.
    ///
    /// Faults: 401 when the member was removed or the key revoked meanwhile, 403 when the role was lowered.
    pub(crate) async fn standing<P: Permission>(&self, grant: &Grant<P>) -> Result<Standing, Fault> {
        let caller = grant.caller();
        let workspace = caller.workspace_id;
        let member = self.store().member(workspace, caller.member_id).await.map_err(fault::store)?;
        let gone = || Fault::new(Code::Unauthorized, "The member of this credential was removed from the workspace.");
        let member = member.ok_or_else(gone)?;
        if member.role < P::ROLE {
            return Err(Fault::missing_role(P::ROLE));
        }
        let key = self.own_key(caller).await?;
        Ok(Standing { workspace, member, key })
    }

    /// A member with another role.
    ///
    /// Faults: 403 for a promotion by a narrowed credential, 409 when no Owner would be left.
    pub async fn change_role(
        &self,
        grant: &Grant<MemberWrite>,
        member: Member,
        role: Option<Role>,
    ) -> Result<Plan<Member>, Fault> {
        let Some(role) = role.filter(|role| *role != member.role) else { return Ok(Plan::new(member)) };
        let workspace = grant.caller().workspace_id;
        let standing = self.standing(grant).await?;
        if role > member.role {
            standing.must_be_whole(grant.caller().scopes)?;
        }
        let now = self.clock().now();
        let changed = Member { role, version: member.version + 1, updated_at: now, ..member.clone() };
        let mut plan = Plan::new(changed);
        plan.write(standing.held());
        plan.write(store::member::set_role(workspace, &member, role, now));
        self.withdraw(&mut plan, grant, &member, Some(role)).await?;
        plan.after.credentials = true;
        let change = change("member.updated", "member.update", Some(&member), Some(&plan.value), 200);
        self.journal(&mut plan, grant, now, change);
        Ok(plan)
    }

    /// No more member: the member's keys are revoked and open invitations withdrawn with it. An Admin removes Members and
    /// Admins, an Owner anybody, and everybody themself.
    ///
    /// Faults: 403 for a member whom the caller can't remove, 409 when no Owner would be left.
    pub async fn remove_member(&self, grant: &Grant<MemberRemove>, member: Member) -> Result<Plan<Member>, Fault> {
        let caller = grant.caller();
        let standing = self.standing(grant).await?;
        let needed = if member.role == Role::Owner { Role::Owner } else { Role::Admin };
        if member.id != caller.member_id && standing.role() < needed {
            return Err(Fault::missing_role(needed));
        }
        let now = self.clock().now();
        let mut plan = Plan::new(member.clone());
        plan.write(standing.held());
        plan.write(store::member::delete(caller.workspace_id, &member));
        self.revoke_keys_of(&mut plan, grant, &member, now).await?;
        self.withdraw(&mut plan, grant, &member, None).await?;
        plan.after.credentials = true;
        let change = change("member.deleted", "member.remove", Some(&member), None, 200);
        self.journal(&mut plan, grant, now, change);
        Ok(plan)
    }

    /// Every key of a member stops working, each with its event and audit row where its mode has them.
    async fn revoke_keys_of<T, P>(
        &self,
        plan: &mut Plan<T>,
        grant: &Grant<P>,
        member: &Member,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let keys = self.store().api_keys_of(member.id, KEYS_PER_MEMBER_MAX + SLIPPED_IN_MAX).await;
        let keys = keys.map_err(fault::store)?;
        for mode in [Mode::Live, Mode::Test] {
            let tenant = self.store().current_tenant(grant.caller().workspace_id, mode).await.map_err(fault::store)?;
            let tenant = tenant.ok_or_else(|| Fault::internal("a workspace without a tenant"))?.id;
            let author = Author::of(grant).within(tenant);
            let keys: Vec<&ApiKey> = keys.iter().filter(|key| key.mode == mode).collect();
            plan.write([store::tenant::hold(tenant)]);
            plan.write(store::api_key::revoke_of(tenant, mode, member.id, keys.len() as u64, now));
            for key in keys {
                let change = crate::api_key::change("api_key.deleted", "api_key.delete", Some(key), None, 200);
                self.tell(&mut plan.batch, &author, now, change);
            }
        }
        Ok(())
    }

    /// Takes back what a member invited and may not invite as what the member is from now on.
    async fn withdraw<T, P>(
        &self,
        plan: &mut Plan<T>,
        grant: &Grant<P>,
        member: &Member,
        role: Option<Role>,
    ) -> Result<(), Fault> {
        let workspace = grant.caller().workspace_id;
        let limit = INVITATIONS_PER_MEMBER_MAX + SLIPPED_IN_MAX;
        let open = self.store().invitations_by(workspace, member.id, limit).await.map_err(fault::store)?;
        let beyond = |invitation: &&Invitation| role.is_none_or(|role| !may_invite(role, invitation.role));
        for invitation in open.iter().filter(beyond) {
            self.revoke(plan, grant, invitation);
        }
        Ok(())
    }
}

/// Whether a member of the role `by` may make somebody a member of the role `role`.
pub(crate) fn may_invite(by: Role, role: Role) -> bool {
    by >= Role::Admin && by >= role
}

pub(crate) fn change(
    event: &'static str,
    action: &'static str,
    before: Option<&Member>,
    after: Option<&Member>,
    status: u16,
) -> Change {
    let text = |m: &Member| json(&MemberView::from(m));
    Change {
        event,
        action,
        resource_id: after.or(before).map(|m| m.id.to_string()).unwrap_or_default(),
        project_id: None,
        environment_id: None,
        before: before.map(text),
        after: after.map(text),
        status,
    }
}
