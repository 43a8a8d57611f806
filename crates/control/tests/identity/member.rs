//! Members and invitations: who comes in, who goes, and what goes with them.

use std::sync::Arc;

use nephos_control::caller::{
    ApiKeyWrite, Caller, ComputeWrite, EventRead, InvitationWrite, LimitRead, MemberRead, MemberRemove, MemberWrite,
    Request, WorkspaceRead, WorkspaceWrite,
};
use nephos_control::compute::{Choice, NewCompute};
use nephos_control::invitation::{Accepted, InvitationWithToken};
use nephos_control::plan::CommitError;
use nephos_model::compute::RestartPolicy;
use nephos_model::id::MemberId;
use nephos_model::key::Secret;
use nephos_model::page::Page;
use nephos_model::role::Role;
use nephos_model::scope::{Noun, Scope, Scopes};
use nephos_model::tenant::Mode;
use nephos_model::workspace::Member;
use nephos_model::{Clock, Code, Fault};
use nephos_store::Engine;
use nephos_testkit::{Durations, World};

use crate::{HERE, causes, commit, installed, live, mint, new_key, project};
use nephos_control::api_key::NewApiKey;

on_both! {
    an_invited_person_becomes_a_member
    invitations_are_refused_where_they_should_be
    an_invitation_ends_in_one_of_four_ways
    a_role_counts_from_the_next_request_on
    a_removed_member_leaves_nothing_that_works
    a_workspace_keeps_an_owner
    a_narrowed_credential_does_not_reach_the_whole
    the_workspace_is_renamed
    a_deleted_workspace_is_gone_at_once
}

/// Someone whom `by` invites and who accepts.
pub async fn join(world: &World, by: &Arc<Caller>, email: &str, role: Role) -> Accepted {
    let made = invite(world, by, email, role).await.unwrap();
    accept(world, made.token.expose()).await.unwrap()
}

pub async fn invite(world: &World, by: &Arc<Caller>, email: &str, role: Role) -> Result<InvitationWithToken, Fault> {
    let grant = by.permit::<InvitationWrite>(&request(world))?;
    let plan = world.cloud.invite(&grant, &email.parse().unwrap(), role).await?;
    commit(world, plan).await
}

pub async fn accept(world: &World, token: &str) -> Result<Accepted, Fault> {
    let plan = world.cloud.accept_invitation(&request(world), Mode::Live, token).await?;
    commit(world, plan).await
}

pub fn request(world: &World) -> Arc<Request> {
    Arc::new(Request { id: world.cloud.id(), client_request_id: None, address: HERE, trace: None })
}

pub async fn set_role(world: &World, by: &Arc<Caller>, id: MemberId, role: Role) -> Result<Member, Fault> {
    let grant = by.permit::<MemberWrite>(&request(world))?;
    let member = world.cloud.member_to_change(&grant, id).await?;
    let plan = world.cloud.change_role(&grant, member, Some(role)).await?;
    commit(world, plan).await
}

pub async fn remove(world: &World, by: &Arc<Caller>, id: MemberId) -> Result<Member, Fault> {
    let grant = by.permit::<MemberRemove>(&request(world))?;
    let member = world.cloud.member_to_remove(&grant, id).await?;
    let plan = world.cloud.remove_member(&grant, member).await?;
    commit(world, plan).await
}

async fn emails(world: &World, by: &Arc<Caller>) -> Vec<String> {
    let listed = world.cloud.members(&world.grant::<MemberRead>(by), &Page::default()).await.unwrap();
    assert_eq!(usize::try_from(listed.total).unwrap(), listed.items.len());
    listed.items.into_iter().map(|m| m.email).collect()
}

async fn open(world: &World, by: &Arc<Caller>) -> Vec<String> {
    let listed = world.cloud.invitations(&world.grant(by), &Page::default()).await.unwrap();
    assert_eq!(usize::try_from(listed.total).unwrap(), listed.items.len());
    listed.items.into_iter().map(|i| i.email).collect()
}

/// What happened since the last event of a kind, the oldest first.
async fn told_since(world: &World, by: &Arc<Caller>, kind: &str) -> Vec<String> {
    while world.cloud.sequence_some().await.unwrap() > 0 {}
    let filter = nephos_store::event::Filter::default();
    let page = Page { limit: 100, ..Page::default() };
    let events = world.cloud.events(&world.grant::<EventRead>(by), filter, &page).await.unwrap().items;
    let mut kinds: Vec<String> = events.into_iter().map(|e| e.kind).take_while(|k| k != kind).collect();
    kinds.reverse();
    kinds
}

async fn sound(world: &World) {
    let broken = nephos_store::testing::broken(world.database.store(), world.clock.now().plus(1.days())).await;
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

async fn test_caller(world: &World, secret: &Secret) -> Arc<Caller> {
    world.cloud.authenticate(secret.expose(), Mode::Test, HERE).await.unwrap()
}

async fn an_invited_person_becomes_a_member(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let invited = invite(&world, &owner, "Eve@Example.com", Role::Admin).await.unwrap();
    assert_eq!(
        (invited.invitation.email.as_str(), invited.invitation.invited_by),
        ("eve@example.com", owner.member_id)
    );
    assert_eq!(open(&world, &owner).await, ["eve@example.com"]);
    let accepted = accept(&world, invited.token.expose()).await.unwrap();
    assert_eq!((accepted.member.role, accepted.workspace.name.as_str()), (Role::Admin, "acme"));
    assert_eq!(open(&world, &owner).await, Vec::<String>::new());
    assert_eq!(emails(&world, &owner).await, ["eve@example.com", "ada@example.com"]);

    let eve = live(&world, &accepted.live_key.secret).await.unwrap();
    assert_eq!((eve.role, eve.member_id, eve.tenant), (Role::Admin, accepted.member.id, owner.tenant));
    assert_eq!(test_caller(&world, &accepted.test_key.secret).await.member_id, accepted.member.id);
    let twice = accept(&world, invited.token.expose()).await.unwrap_err();
    assert_eq!(causes(&twice), (401, vec!["invalid_invitation"]));

    // The same person in another workspace is another member.
    let other = world.cloud.create_workspace("beta", "bob@example.com", "standard").await.unwrap();
    let bob = live(&world, &other.live_key).await.unwrap();
    let there = join(&world, &bob, "eve@example.com", Role::Member).await.member;
    assert_eq!((there.user_id, there.id == accepted.member.id), (accepted.member.user_id, false));
    assert_eq!(
        told_since(&world, &owner, "workspace.created").await,
        [
            "project.created",
            "api_key.created",
            "invitation.created",
            "invitation.accepted",
            "member.created",
            "api_key.created"
        ]
    );
    sound(&world).await;
}

async fn invitations_are_refused_where_they_should_be(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let admin = join(&world, &owner, "admin@example.com", Role::Admin).await;
    let member = join(&world, &owner, "member@example.com", Role::Member).await;
    let admin = live(&world, &admin.live_key.secret).await.unwrap();
    let member = live(&world, &member.live_key.secret).await.unwrap();
    let refused = invite(&world, &member, "eve@example.com", Role::Member).await.unwrap_err();
    assert_eq!(causes(&refused), (403, vec!["missing_role"]));
    let refused = invite(&world, &admin, "eve@example.com", Role::Owner).await.unwrap_err();
    assert_eq!((causes(&refused), refused.details[0].required_role), ((403, vec!["missing_role"]), Some(Role::Owner)));
    let owners = invite(&world, &owner, "eve@example.com", Role::Owner).await.unwrap();
    for (email, cause) in [("eve@example.com", "already_invited"), ("member@example.com", "already_member")] {
        let refused = invite(&world, &admin, email, Role::Member).await.unwrap_err();
        assert_eq!(causes(&refused), (409, vec![cause]));
    }
    // An Admin takes back what an Admin can make.
    let grant = world.grant::<InvitationWrite>(&admin);
    let refused = world.cloud.revoke_invitation(&grant, owners.invitation).await.unwrap_err();
    assert_eq!(causes(&refused), (403, vec!["missing_role"]));

    for bad in ["", "invite_", "sk_live_x", "invite_0000000000000000000000000000000000000000000000000"] {
        assert_eq!(causes(&accept(&world, bad).await.unwrap_err()), (401, vec!["invalid_invitation"]));
    }
    let sandbox = world.cloud.accept_invitation(&request(&world), Mode::Test, owners.token.expose()).await;
    assert_eq!(causes(&sandbox.unwrap_err()), (401, vec!["wrong_base_url"]));
    world.cloud.suspend_workspace("acme").await.unwrap();
    let refused = accept(&world, owners.token.expose()).await.unwrap_err();
    assert_eq!(causes(&refused), (403, vec!["workspace_suspended"]));
    world.cloud.resume_workspace("acme").await.unwrap();
    for _ in 0..nephos_control::auth::FAILURES_MAX {
        accept(&world, "x").await.unwrap_err();
    }
    assert_eq!(accept(&world, "x").await.unwrap_err().code, Code::TooManyRequests);
    accept(&world, owners.token.expose()).await.expect("a valid token is never refused by it");

    let mut few = (*owner).clone();
    few.limits = Arc::new(nephos_control::plan_limits::Limits { members: Some(5), ..(*few.limits).clone() });
    let few = Arc::new(few);
    invite(&world, &few, "fifth@example.com", Role::Member).await.unwrap();
    let refused = invite(&world, &few, "sixth@example.com", Role::Member).await.unwrap_err();
    assert_eq!(causes(&refused), (422, vec!["quota_exceeded"]));
    let limits = world.cloud.limits(&world.grant::<LimitRead>(&few)).await.unwrap();
    let seats = limits.quotas.iter().find(|q| q.name == "members").unwrap();
    assert_eq!((seats.limit, seats.used), (Some(5), Some(5)), "open invitations count");
    sound(&world).await;
}

async fn an_invitation_ends_in_one_of_four_ways(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let revoked = invite(&world, &owner, "a@example.com", Role::Member).await.unwrap();
    let grant = world.grant::<InvitationWrite>(&owner);
    let plan = world.cloud.revoke_invitation(&grant, revoked.invitation.clone()).await.unwrap();
    commit(&world, plan).await.unwrap();
    let gone = world.cloud.invitation_to_revoke(&grant, revoked.invitation.id).await.unwrap_err();
    assert_eq!(gone.code, Code::ResourceNotFound);
    assert_eq!(accept(&world, revoked.token.expose()).await.unwrap_err().code, Code::Unauthorized);

    let late = invite(&world, &owner, "b@example.com", Role::Member).await.unwrap();
    let again = invite(&world, &owner, "c@example.com", Role::Member).await.unwrap();
    world.clock.advance(7.days()).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    assert_eq!(open(&world, &owner).await, Vec::<String>::new());
    assert_eq!(accept(&world, late.token.expose()).await.unwrap_err().code, Code::Unauthorized);
    let second = invite(&world, &owner, "c@example.com", Role::Member).await.expect("the first one has expired");
    assert_eq!(accept(&world, again.token.expose()).await.unwrap_err().code, Code::Unauthorized);
    world.cloud.expire_some().await.unwrap();
    assert_eq!(open(&world, &owner).await, ["c@example.com"]);

    // Who invites and is removed takes the invitations along.
    let admin = join(&world, &owner, "admin@example.com", Role::Admin).await;
    let caller = live(&world, &admin.live_key.secret).await.unwrap();
    let alone = invite(&world, &caller, "d@example.com", Role::Admin).await.unwrap();
    set_role(&world, &owner, admin.member.id, Role::Member).await.unwrap();
    assert_eq!(accept(&world, alone.token.expose()).await.unwrap_err().code, Code::Unauthorized);
    assert_eq!(open(&world, &owner).await, ["c@example.com"]);
    assert_eq!(
        told_since(&world, &owner, "api_key.created").await,
        ["invitation.created", "invitation.revoked", "member.updated"]
    );
    accept(&world, second.token.expose()).await.unwrap();
    let kinds = told_since(&world, &owner, "workspace.created").await;
    let ends = |kind: &str| kinds.iter().filter(|k| *k == kind).count();
    assert_eq!(
        (
            ends("invitation.created"),
            ends("invitation.revoked"),
            ends("invitation.expired"),
            ends("invitation.accepted")
        ),
        (6, 2, 2, 2)
    );
    sound(&world).await;
}

async fn a_role_counts_from_the_next_request_on(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let eve = join(&world, &owner, "eve@example.com", Role::Member).await;
    let caller = live(&world, &eve.live_key.secret).await.unwrap();
    for by in [&caller, &owner] {
        let same = set_role(&world, by, eve.member.id, Role::Member).await;
        assert_eq!(same.is_ok(), Arc::ptr_eq(by, &owner), "only an Owner, and what it is already changes nothing");
    }
    let raised = set_role(&world, &owner, eve.member.id, Role::Owner).await.unwrap();
    assert_eq!((raised.role, raised.version), (Role::Owner, 2));
    let eve_now = live(&world, &eve.live_key.secret).await.unwrap();
    assert_eq!(eve_now.role, Role::Owner);
    // She was let in as an Owner; what she asks for after she was demoted is judged by what she is then.
    set_role(&world, &owner, eve.member.id, Role::Admin).await.unwrap();
    let refused = set_role(&world, &eve_now, owner.member_id, Role::Member).await.unwrap_err();
    assert_eq!(causes(&refused), (403, vec!["missing_role"]));
    let refused = invite(&world, &eve_now, "x@example.com", Role::Owner).await.unwrap_err();
    assert_eq!(causes(&refused), (403, vec!["missing_role"]));
    assert_eq!(live(&world, &eve.live_key.secret).await.unwrap().role, Role::Admin);
    assert_eq!(test_caller(&world, &eve.test_key.secret).await.role, Role::Admin);

    // An Admin who is judged while an Owner demotes her: the guard says so at the commit.
    let grant = world.grant::<InvitationWrite>(&live(&world, &eve.live_key.secret).await.unwrap());
    let plan = world.cloud.invite(&grant, &"y@example.com".parse().unwrap(), Role::Admin).await.unwrap();
    set_role(&world, &owner, eve.member.id, Role::Member).await.unwrap();
    assert!(matches!(world.cloud.commit(plan, None).await, Err(CommitError::Again)));
    sound(&world).await;
}

async fn a_removed_member_leaves_nothing_that_works(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let admin = join(&world, &owner, "admin@example.com", Role::Admin).await;
    let eve = join(&world, &owner, "eve@example.com", Role::Admin).await;
    let caller = live(&world, &eve.live_key.secret).await.unwrap();
    let spare = mint(&world, &caller, new_key("spare")).await.unwrap();
    let invited = invite(&world, &caller, "friend@example.com", Role::Member).await.unwrap();
    let late = world.cloud.create_api_key(&world.grant::<ApiKeyWrite>(&caller), new_key("late")).await.unwrap();

    let by = live(&world, &admin.live_key.secret).await.unwrap();
    let refused = remove(&world, &by, owner.member_id).await.unwrap_err();
    assert_eq!(causes(&refused), (403, vec!["missing_role"]));
    remove(&world, &by, eve.member.id).await.unwrap();
    for secret in [&eve.live_key.secret, &spare.secret] {
        assert_eq!(live(&world, secret).await.unwrap_err().code, Code::Unauthorized);
    }
    let test = world.cloud.authenticate(eve.test_key.secret.expose(), Mode::Test, HERE).await;
    assert_eq!(test.unwrap_err().code, Code::Unauthorized);
    assert_eq!(accept(&world, invited.token.expose()).await.unwrap_err().code, Code::Unauthorized);
    assert!(
        matches!(world.cloud.commit(late, None).await, Err(CommitError::Again)),
        "nothing is made for her any more"
    );
    assert_eq!(mint(&world, &caller, new_key("late")).await.unwrap_err().code, Code::Unauthorized);
    assert_eq!(
        told_since(&world, &owner, "invitation.created").await,
        ["api_key.deleted", "api_key.deleted", "invitation.revoked", "member.deleted"],
        "the sandbox tells of its own keys"
    );
    let audit = world.database.store().audit_waiting(100).await.unwrap();
    assert!(audit.is_empty());
    assert_eq!(emails(&world, &owner).await, ["admin@example.com", "ada@example.com"]);
    assert_eq!(remove(&world, &owner, eve.member.id).await.unwrap_err().code, Code::ResourceNotFound);

    // She may come again, as the same person and another member.
    let again = join(&world, &owner, "eve@example.com", Role::Member).await;
    assert_eq!((again.member.user_id, again.member.id == eve.member.id), (eve.member.user_id, false));
    // And leave by herself, but throw nobody out.
    let caller = live(&world, &again.live_key.secret).await.unwrap();
    let refused = remove(&world, &caller, admin.member.id).await.unwrap_err();
    assert_eq!(causes(&refused), (403, vec!["missing_role"]));
    remove(&world, &caller, again.member.id).await.unwrap();
    assert_eq!(live(&world, &again.live_key.secret).await.unwrap_err().code, Code::Unauthorized);
    sound(&world).await;
}

async fn a_workspace_keeps_an_owner(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    for _ in 0..2 {
        let refused = remove(&world, &owner, owner.member_id).await.unwrap_err();
        assert_eq!(causes(&refused), (409, vec!["last_owner"]));
        let refused = set_role(&world, &owner, owner.member_id, Role::Admin).await.unwrap_err();
        assert_eq!(causes(&refused), (409, vec!["last_owner"]));
    }
    let eve = join(&world, &owner, "eve@example.com", Role::Owner).await;
    let other = live(&world, &eve.live_key.secret).await.unwrap();
    // Each of two Owners demotes the other at the same time: one is left.
    let (one, two) = tokio::join!(
        set_role(&world, &owner, other.member_id, Role::Member),
        set_role(&world, &other, owner.member_id, Role::Member)
    );
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    sound(&world).await;
}

async fn a_narrowed_credential_does_not_reach_the_whole(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let home = project(&world, &owner, "home").await;
    let narrow = mint(&world, &owner, NewApiKey { project_id: Some(home), ..new_key("narrow") }).await.unwrap();
    let narrow = live(&world, &narrow.secret).await.unwrap();
    let asked = request(&world);
    let refusals = [
        narrow.permit::<MemberRead>(&asked).map(drop),
        narrow.permit::<MemberRemove>(&asked).map(drop),
        narrow.permit::<MemberWrite>(&asked).map(drop),
        narrow.permit::<InvitationWrite>(&asked).map(drop),
        narrow.permit::<nephos_control::caller::InvitationRead>(&asked).map(drop),
        narrow.permit::<WorkspaceRead>(&asked).map(drop),
        narrow.permit::<WorkspaceWrite>(&asked).map(drop),
    ];
    for refused in refusals {
        let refused = refused.unwrap_err();
        assert_eq!(causes(&refused), (403, vec!["narrowed_credential"]));
        assert!(refused.message.contains(&home.to_string()), "{refused}");
    }
    world.cloud.me(&world.grant(&narrow)).await.expect("what it is itself, it may know");

    let test = test_caller(&world, &made.test_key).await;
    test.permit::<MemberRead>(&asked).expect("a test key reads");
    let refused = test.permit::<MemberRemove>(&asked).map(drop).unwrap_err();
    assert_eq!(causes(&refused), (403, vec!["test_credential"]));

    // A person can't be narrowed, so a narrowed key gives nobody anything; it may take.
    let eve = join(&world, &owner, "eve@example.com", Role::Admin).await;
    let scopes = [Scope::write(Noun::Member), Scope::write(Noun::Invitation), Scope::read(Noun::Member)];
    let soon = world.clock.now().plus(1.hours());
    let new = NewApiKey {
        scopes: Some(scopes.into_iter().collect::<Scopes>()),
        expires_at: Some(soon),
        allowed_ips: vec![HERE.to_string()],
        ..new_key("hr")
    };
    let hr = mint(&world, &owner, new).await.unwrap();
    let hr = live(&world, &hr.secret).await.unwrap();
    let refused = invite(&world, &hr, "x@example.com", Role::Member).await.unwrap_err();
    assert_eq!(causes(&refused), (403, vec!["beyond_own"; 3]));
    let refused = set_role(&world, &hr, eve.member.id, Role::Owner).await.unwrap_err();
    assert_eq!(causes(&refused), (403, vec!["beyond_own"; 3]));
    set_role(&world, &hr, eve.member.id, Role::Member).await.unwrap();
    remove(&world, &hr, eve.member.id).await.unwrap();
}

async fn the_workspace_is_renamed(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    world.cloud.create_workspace("beta", "bob@example.com", "standard").await.unwrap();
    let grant = world.grant::<WorkspaceWrite>(&owner);
    let rename = |name: &'static str| {
        let (world, grant) = (&world, &grant);
        async move {
            let workspace = world.cloud.workspace_to_change(grant).await?;
            commit(world, world.cloud.rename_workspace(grant, workspace, Some(&name.parse().unwrap())).await?).await
        }
    };
    assert_eq!(causes(&rename("beta").await.unwrap_err()), (409, vec!["name_taken"]));
    let renamed = rename("Acme & Söhne").await.unwrap();
    assert_eq!((renamed.name.as_str(), renamed.version), ("Acme & Söhne", 2));
    assert_eq!(world.cloud.workspace(&world.grant(&owner)).await.unwrap(), renamed);
    assert_eq!(rename("Acme & Söhne").await.unwrap(), renamed, "the same name changes nothing");
    assert_eq!(told_since(&world, &owner, "api_key.created").await, ["workspace.updated"]);
}

async fn a_deleted_workspace_is_gone_at_once(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let eve = join(&world, &owner, "eve@example.com", Role::Member).await;
    let open = invite(&world, &owner, "late@example.com", Role::Member).await.unwrap();
    let test = test_caller(&world, &made.test_key).await;
    let create = async |name: &str| {
        let new = NewCompute {
            name: name.parse().unwrap(),
            choice: Choice::default(),
            user_data: None,
            labels: std::collections::BTreeMap::new(),
            protected: false,
            restart_policy: RestartPolicy::Never,
        };
        world.cloud.create_compute(&world.grant::<ComputeWrite>(&test), new).await.unwrap()
    };
    commit(&world, create("toy").await).await.unwrap();
    let late = create("late").await;

    let grant = world.grant::<WorkspaceWrite>(&owner);
    let workspace = world.cloud.workspace_to_change(&grant).await.unwrap();
    for wrong in [None, Some("Acme"), Some("")] {
        let refused = world.cloud.delete_workspace(&grant, workspace.clone(), wrong).await.unwrap_err();
        assert_eq!(causes(&refused), (409, vec!["not_confirmed"]));
    }
    let overtaken = world.cloud.delete_workspace(&grant, workspace.clone(), Some("acme")).await.unwrap();
    commit(&world, create("between").await).await.unwrap();
    assert!(matches!(world.cloud.commit(overtaken, None).await, Err(CommitError::Again)), "a compute came in between");
    let plan = world.cloud.delete_workspace(&grant, workspace, Some("acme")).await.unwrap();
    commit(&world, plan).await.unwrap();

    for secret in [&made.live_key, &eve.live_key.secret] {
        assert_eq!(live(&world, secret).await.unwrap_err().code, Code::Unauthorized);
    }
    let sandbox = world.cloud.authenticate(made.test_key.expose(), Mode::Test, HERE).await;
    assert_eq!(sandbox.unwrap_err().code, Code::Unauthorized);
    assert_eq!(accept(&world, open.token.expose()).await.unwrap_err().code, Code::Unauthorized);
    assert!(
        matches!(world.cloud.commit(late, None).await, Err(CommitError::Again)),
        "who was let in before makes nothing"
    );
    assert_eq!(world.cloud.list_workspaces(&Page::default()).await.unwrap().total, 0);
    let store = world.database.store();
    for tenant in [owner.tenant, test.tenant] {
        let filter = nephos_store::compute::Filter::default();
        assert_eq!(store.computes(tenant, &filter, &Page::default()).await.unwrap().total, 0);
    }
    world.cloud.create_workspace("acme", "ada@example.com", "standard").await.expect("its name is free");
    sound(&world).await;
}
