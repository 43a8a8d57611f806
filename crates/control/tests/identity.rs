//! Credentials, API keys, workspaces, budgets and usage, on both engines, with a clock that the test moves.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use nephos_control::api_key::{KeyWithSecret, NewApiKey};
use nephos_control::auth::{FAILURES_MAX, FAILURES_WINDOW, KNOWN_FOR};
use nephos_control::budget::{Class, SurfaceBudget};
use nephos_control::caller::{
    ApiKeyRead, ApiKeyWrite, Caller, EnvironmentDelete, EnvironmentRead, EventRead, LimitRead, MemberRead,
    ProjectDelete, ProjectWrite, UsageRead, WorkspaceRead,
};
use nephos_control::install::{Installed, MasterKeyError};
use nephos_control::plan::{CommitError, Plan};
use nephos_control::project::Force;
use nephos_control::view::{MeView, ProjectUsageView, json};
use nephos_model::api_key::ApiKey;
use nephos_model::clock::Month;
use nephos_model::id::{Id, ProjectId};
use nephos_model::key::Secret;
use nephos_model::page::Page;
use nephos_model::role::Role;
use nephos_model::scope::{Noun, Scope, Scopes};
use nephos_model::tenant::Mode;
use nephos_model::workspace::Member;
use nephos_model::{Clock, Code, Fault, Timestamp};
use nephos_store::meter::Meter;
use nephos_store::{Batch, Engine};
use nephos_testkit::{Durations, World};

/// Runs a test on both engines.
macro_rules! on_both {
    ($($name:ident)*) => {
        mod sqlite { $(#[tokio::test] async fn $name() { super::$name(nephos_store::Engine::Sqlite).await; })* }
        mod postgres { $(#[tokio::test] async fn $name() { super::$name(nephos_store::Engine::Postgres).await; })* }
    };
}

on_both! {
    an_installation_is_initialized_once
    the_operator_suspends_resumes_and_changes_plans
    a_credential_works_where_it_should
    a_key_is_narrowed_by_time_and_address
    failed_credentials_are_limited_and_valid_ones_never
    a_key_follows_its_member
    another_process_sees_a_revocation_within_a_second
    a_key_is_made_listed_renamed_and_revoked
    a_rotated_secret_works_inside_its_grace
    a_key_gives_nothing_that_it_does_not_have
    a_key_narrowed_to_a_project_sees_and_dies_with_it
    members_and_admins_differ
    the_quota_of_keys_holds
    a_spent_budget_says_which
    an_end_in_order_keeps_counts_and_windows
    the_last_use_of_a_key_is_kept_to_the_minute
    requests_are_counted_by_project
    metered_time_becomes_an_exact_report
    usage_of_a_past_month_and_of_deleted_projects
    another_master_key_is_refused
    ids_go_on_after_the_largest_stored
}

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));

async fn installed(engine: Engine) -> (World, Installed) {
    let world = World::new(engine).await;
    let made = world.cloud.init("acme", "Ada@Example.com", "standard").await.unwrap();
    (world, made)
}

async fn live(world: &World, secret: &Secret) -> Result<Arc<Caller>, Fault> {
    world.cloud.authenticate(secret.expose(), Mode::Live, HERE).await
}

async fn commit<T>(world: &World, plan: Plan<T>) -> Result<T, Fault> {
    world.cloud.commit(plan, None).await.map_err(|error| match error {
        CommitError::Fault(fault) => fault,
        CommitError::Again => Fault::internal("nobody else is there to run into"),
    })
}

fn new_key(name: &str) -> NewApiKey {
    NewApiKey {
        name: name.parse().unwrap(),
        scopes: None,
        project_id: None,
        environment_id: None,
        allowed_ips: Vec::new(),
        expires_at: None,
    }
}

async fn mint(world: &World, caller: &Arc<Caller>, new: NewApiKey) -> Result<KeyWithSecret, Fault> {
    let plan = world.cloud.create_api_key(&world.grant::<ApiKeyWrite>(caller), new).await?;
    commit(world, plan).await
}

async fn project(world: &World, caller: &Arc<Caller>, name: &str) -> ProjectId {
    let plan = world.cloud.create_project(&world.grant::<ProjectWrite>(caller), &name.parse().unwrap()).await.unwrap();
    commit(world, plan).await.unwrap().id
}

async fn delete(world: &World, caller: &Arc<Caller>, id: ProjectId) {
    let grant = world.grant::<ProjectDelete>(caller);
    let project = world.cloud.project_to_delete(&grant, id).await.unwrap();
    let plan = world.cloud.delete_project(&grant, project, Force::No).await.unwrap();
    commit(world, plan).await.unwrap();
}

async fn keys(world: &World, caller: &Arc<Caller>) -> Vec<String> {
    let listed = world.cloud.api_keys(&world.grant::<ApiKeyRead>(caller), &Page::default()).await.unwrap();
    assert_eq!(usize::try_from(listed.total).unwrap(), listed.items.len(), "the total is the true one");
    listed.items.into_iter().map(|key| key.name).collect()
}

fn causes(fault: &Fault) -> (u16, Vec<&'static str>) {
    (fault.code.status(), fault.details.iter().map(|detail| detail.code).collect())
}

/// A member of the installation's first workspace, and a live key of theirs.
async fn member(world: &World, owner: &Arc<Caller>, role: Role) -> (Member, Secret) {
    let now = world.clock.now();
    let secret = Secret::generate(Mode::Live, world.cloud.entropy());
    let member = Member {
        id: world.cloud.id(),
        user_id: world.cloud.id(),
        email: format!("{role}@example.com"),
        role,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    let key = ApiKey {
        id: world.cloud.id(),
        member_id: member.id,
        name: format!("key of {role}"),
        hint: secret.hint().to_owned(),
        mode: Mode::Live,
        scopes: None,
        project_id: None,
        environment_id: None,
        allowed_ips: Vec::new(),
        expires_at: None,
        previous_until_at: None,
        revoked_at: None,
        last_used_at: None,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    let mut batch = Batch::new();
    batch.push(nephos_store::member::insert_user(member.user_id, &member.email, now));
    batch.push(nephos_store::member::insert(owner.workspace_id, &member));
    batch.extend(nephos_store::api_key::insert(owner.tenant, owner.workspace_id, &key, secret.hash(), 1_000));
    world.database.store().write(batch).await.unwrap();
    (member, secret)
}

async fn an_installation_is_initialized_once(engine: Engine) {
    let world = World::new(engine).await;
    let refused = world.cloud.init("", "nobody", "golden").await.unwrap_err();
    assert_eq!(causes(&refused), (400, vec!["invalid_value", "invalid_value", "unknown_plan"]));
    assert!(refused.details[2].message.contains("standard, partner, unlimited"), "{refused}");

    let made = world.cloud.init("acme", "Ada@Example.com", "partner").await.unwrap();
    assert_eq!((made.live_key.mode(), made.test_key.mode(), &made.console_url), (Mode::Live, Mode::Test, &None));
    let again = world.cloud.init("other", "eve@example.com", "standard").await.unwrap_err();
    assert_eq!(causes(&again), (409, vec!["initialized"]));
    assert!(again.message.contains("nephos workspace create"), "{again}");

    let caller = live(&world, &made.live_key).await.unwrap();
    let me = world.cloud.me(&world.grant::<WorkspaceRead>(&caller)).await.unwrap();
    assert_eq!((me.workspace.id, me.member.email.as_str()), (made.workspace_id, "ada@example.com"));
    assert_eq!((me.member.role, caller.limits.plan.as_str(), caller.role), (Role::Owner, "partner", Role::Owner));
    assert!(!json(&MeView::from(&me)).contains(made.live_key.expose()));
    let first = world.cloud.projects(&world.grant(&caller), None, &Page::default()).await.unwrap();
    assert_eq!(first.items.iter().map(|p| (p.name.as_str(), p.is_default)).collect::<Vec<_>>(), [("default", true)]);
    let grant = world.grant::<EnvironmentRead>(&caller);
    let environments = world.cloud.environments(&grant, first.items[0].id, None, &Page::default()).await.unwrap();
    assert_eq!(environments.items.iter().map(|e| e.name.as_str()).collect::<Vec<_>>(), ["dev", "staging", "prod"]);

    let second = world.cloud.create_workspace("beta", "ADA@example.com ", "standard").await.unwrap();
    let taken = world.cloud.create_workspace("beta", "eve@example.com", "standard").await.unwrap_err();
    assert_eq!(causes(&taken), (409, vec!["name_taken"]));
    let listed = world.cloud.list_workspaces(&Page::default()).await.unwrap();
    assert_eq!(listed.items.iter().map(|w| w.name.as_str()).collect::<Vec<_>>(), ["beta", "acme"]);
    let other = live(&world, &second.live_key).await.unwrap();
    let her = world.cloud.me(&world.grant(&other)).await.unwrap().member;
    assert_eq!((her.user_id, her.id == me.member.id), (me.member.user_id, false), "one person, two members");
    let tenants = world.database.store().tenants(nephos_model::tenant::TenantId(0), 100).await.unwrap();
    assert_eq!(tenants.len(), 4);

    while world.cloud.sequence_some().await.unwrap() > 0 {}
    let (grant, filter) = (world.grant::<EventRead>(&caller), nephos_store::event::Filter::default());
    let events = world.cloud.events(&grant, filter, &Page::default()).await.unwrap().items;
    assert_eq!(
        events.iter().map(|e| (e.kind.as_str(), e.actor_kind.as_str())).collect::<Vec<_>>(),
        [("api_key.created", "operator"), ("project.created", "operator"), ("workspace.created", "operator")]
    );
}

async fn the_operator_suspends_resumes_and_changes_plans(engine: Engine) {
    let (world, made) = installed(engine).await;
    live(&world, &made.live_key).await.unwrap();
    let id = made.workspace_id.to_string();
    let suspended = world.cloud.suspend_workspace("acme").await.unwrap();
    assert_eq!(world.cloud.suspend_workspace(&id).await.unwrap(), suspended, "twice is once");
    let refused = live(&world, &made.live_key).await.unwrap_err();
    assert_eq!(causes(&refused), (403, vec!["workspace_suspended"]));
    world.cloud.resume_workspace(&id).await.unwrap();
    assert_eq!(live(&world, &made.live_key).await.unwrap().limits.plan, "standard");
    world.cloud.set_plan(&id, "unlimited").await.unwrap();
    assert_eq!(live(&world, &made.live_key).await.unwrap().limits.key_per_60_s, None);
    assert_eq!(world.cloud.set_plan(&id, "golden").await.unwrap_err().code, Code::BadRequest);
    assert_eq!(world.cloud.suspend_workspace("nobody's").await.unwrap_err().code, Code::ResourceNotFound);
}

async fn a_credential_works_where_it_should(engine: Engine) {
    let (world, made) = installed(engine).await;
    let ask = |text: String, mode| {
        let world = &world;
        async move { world.cloud.authenticate(&text, mode, HERE).await }
    };
    let (live_key, test_key) = (made.live_key.expose().to_owned(), made.test_key.expose().to_owned());
    let live_caller = ask(live_key.clone(), Mode::Live).await.unwrap();
    let test_caller = ask(test_key.clone(), Mode::Test).await.unwrap();
    assert_ne!(live_caller.tenant, test_caller.tenant);
    assert!(
        Arc::ptr_eq(&live_caller, &ask(live_key.clone(), Mode::Live).await.unwrap()),
        "a busy key is not read again"
    );

    let on_live = ask(test_key, Mode::Live).await.unwrap_err();
    assert_eq!(causes(&on_live), (401, vec!["wrong_base_url"]));
    assert!(on_live.message.contains("/sandbox/v1"), "{on_live}");
    let on_sandbox = ask(live_key.clone(), Mode::Test).await.unwrap_err();
    assert!(on_sandbox.message.contains("/v1 or /api/v1"), "{on_sandbox}");

    let never_made = Secret::generate(Mode::Live, &nephos_testkit::SeededEntropy::new(99)).expose().to_owned();
    let mistyped = format!("{}0", &live_key[..live_key.len() - 1]);
    for bad in [never_made, mistyped, String::new(), "sk_live_".to_owned(), "é".repeat(30)] {
        assert_eq!(causes(&ask(bad, Mode::Live).await.unwrap_err()), (401, vec!["invalid_credential"]));
    }
    let seen = world.cloud.api_keys(&world.grant(&test_caller), &Page::default()).await.unwrap();
    assert!(seen.items.iter().all(|key| key.mode == Mode::Test), "test keys see test keys");
    let live_id = live_caller.key_id.unwrap();
    assert_eq!(
        world.cloud.api_key(&world.grant(&test_caller), live_id).await.unwrap_err().code,
        Code::ResourceNotFound
    );
}

async fn a_key_is_narrowed_by_time_and_address(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let wrong = NewApiKey {
        allowed_ips: vec!["10.0.0.0/8".to_owned(), "10.0.0.1/8".to_owned(), "home".to_owned()],
        expires_at: Some(world.clock.now()),
        scopes: Some(Scopes::default()),
        ..new_key("wrong")
    };
    let fault = mint(&world, &owner, wrong).await.unwrap_err();
    assert_eq!(causes(&fault), (400, vec!["invalid_value", "invalid_value", "out_of_range", "too_short"]));

    let soon = world.clock.now().plus(1.hours());
    let new = NewApiKey {
        allowed_ips: vec!["10.1.2.3".to_owned(), "2001:db8::/32".to_owned()],
        expires_at: Some(soon),
        ..new_key("narrow")
    };
    let narrow = mint(&world, &owner, new).await.unwrap();
    assert_eq!(narrow.key.allowed_ips, ["10.1.2.3/32", "2001:db8::/32"]);
    let from = |address: &'static str| {
        let (world, secret) = (&world, &narrow.secret);
        async move { world.cloud.authenticate(secret.expose(), Mode::Live, address.parse().unwrap()).await }
    };
    for good in ["10.1.2.3", "::ffff:10.1.2.3", "2001:db8:5::1"] {
        from(good).await.unwrap();
    }
    for bad in ["10.1.2.4", "2001:db9::1", "127.0.0.1"] {
        let fault = from(bad).await.unwrap_err();
        assert_eq!(causes(&fault), (401, vec!["address_not_allowed"]));
        assert!(fault.message.contains(bad), "{fault}");
    }
    world.clock.advance(1.hours()).await;
    assert_eq!(causes(&from("10.1.2.3").await.unwrap_err()), (401, vec!["expired_credential"]));
}

async fn failed_credentials_are_limited_and_valid_ones_never(engine: Engine) {
    let (world, made) = installed(engine).await;
    let fail = |address: &'static str| {
        let cloud = &world.cloud;
        async move { cloud.authenticate("sk_live_nothing", Mode::Live, address.parse().unwrap()).await.unwrap_err() }
    };
    for _ in 0..FAILURES_MAX {
        assert_eq!(fail("203.0.113.7").await.code, Code::Unauthorized);
    }
    world.clock.advance(10.seconds()).await;
    let limited = fail("::ffff:203.0.113.7").await;
    assert_eq!((limited.code, limited.retry_after_s), (Code::TooManyRequests, Some(50)));
    assert_eq!(fail("203.0.113.8").await.code, Code::Unauthorized, "another address");
    live(&world, &made.live_key).await.expect("a valid credential is never refused by it");
    let by_hand = world.cloud.refuse_credential(HERE, Fault::new(Code::Unauthorized, "none"));
    assert_eq!(by_hand.code, Code::TooManyRequests);
    world.clock.advance(FAILURES_WINDOW).await;
    assert_eq!(fail("203.0.113.7").await.code, Code::Unauthorized);
    for i in 0..=FAILURES_MAX {
        let code = fail(if i % 2 == 0 { "2001:db8:0:1::1" } else { "2001:db8:0:1:ffff::2" }).await.code;
        assert_eq!(code, if i < FAILURES_MAX { Code::Unauthorized } else { Code::TooManyRequests }, "{i}");
    }
    assert_eq!(fail("2001:db8:0:2::1").await.code, Code::Unauthorized, "another /64");
}

async fn a_key_follows_its_member(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let (member, secret) = member(&world, &owner, Role::Admin).await;
    assert_eq!(live(&world, &secret).await.unwrap().role, Role::Admin);
    // As another process does it, which can't tell this one.
    let demote = nephos_store::member::set_role(owner.workspace_id, &member, Role::Member, world.clock.now());
    world.database.store().write(demote.into()).await.unwrap();
    world.clock.advance(KNOWN_FOR).await;
    assert_eq!(live(&world, &secret).await.unwrap().role, Role::Member);
}

async fn another_process_sees_a_revocation_within_a_second(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let spare = mint(&world, &owner, new_key("spare")).await.unwrap();
    let replica = world.replica(8);
    let there = || replica.authenticate(spare.secret.expose(), Mode::Live, HERE);
    there().await.unwrap();
    let grant = world.grant::<ApiKeyWrite>(&owner);
    commit(&world, world.cloud.revoke_api_key(&grant, spare.key.clone()).unwrap()).await.unwrap();
    assert_eq!(
        causes(&live(&world, &spare.secret).await.unwrap_err()),
        (401, vec!["revoked_credential"]),
        "here at once"
    );
    world.clock.advance(KNOWN_FOR).await;
    assert_eq!(there().await.unwrap_err().code, Code::Unauthorized);
}

async fn a_key_is_made_listed_renamed_and_revoked(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let made = mint(&world, &owner, new_key("ci")).await.unwrap();
    assert_eq!(made.key.hint, made.secret.hint());
    let grant = world.grant::<ApiKeyWrite>(&owner);
    assert_eq!(world.cloud.api_key(&world.grant(&owner), made.key.id).await.unwrap(), made.key);
    assert_eq!(keys(&world, &owner).await, ["ci", "First key"]);

    let same = world.cloud.rename_api_key(&grant, made.key.clone(), None).unwrap();
    assert_eq!(commit(&world, same).await.unwrap(), made.key);
    let renamed = world.cloud.rename_api_key(&grant, made.key.clone(), Some(&"cd".parse().unwrap())).unwrap();
    let renamed = commit(&world, renamed).await.unwrap();
    assert_eq!(world.cloud.api_key(&world.grant(&owner), made.key.id).await.unwrap(), renamed);
    let stale = world.cloud.revoke_api_key(&grant, made.key.clone()).unwrap();
    assert!(matches!(world.cloud.commit(stale, None).await, Err(CommitError::Again)), "it changed meanwhile");

    let caller = live(&world, &made.secret).await.unwrap();
    let own = world.cloud.revoke_api_key(&world.grant(&caller), renamed.clone()).unwrap_err();
    assert_eq!(causes(&own), (409, vec!["own_key"]));
    commit(&world, world.cloud.revoke_api_key(&grant, renamed.clone()).unwrap()).await.unwrap();
    assert_eq!(causes(&live(&world, &made.secret).await.unwrap_err()), (401, vec!["revoked_credential"]));
    let gone = world.cloud.api_key_to_change(&grant, renamed.id).await.unwrap_err();
    assert_eq!(gone.code, Code::ResourceNotFound);
    assert_eq!(keys(&world, &owner).await, ["First key"]);
    // The revoked key was let in before: what it still asks for finds no rights.
    assert_eq!(mint(&world, &caller, new_key("late")).await.unwrap_err().code, Code::Unauthorized);
}

async fn a_rotated_secret_works_inside_its_grace(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let grant = world.grant::<ApiKeyWrite>(&owner);
    let first = mint(&world, &owner, new_key("ci")).await.unwrap();
    for bad in [-1, 2_592_001, i64::MAX] {
        let fault = world.cloud.rotate_api_key(&grant, first.key.clone(), bad).await.unwrap_err();
        assert_eq!(causes(&fault), (400, vec!["out_of_range"]));
    }
    let plan = world.cloud.rotate_api_key(&grant, first.key.clone(), 60).await.unwrap();
    let second = commit(&world, plan).await.unwrap();
    assert_eq!(second.key.id, first.key.id);
    assert_eq!(world.cloud.api_key(&world.grant(&owner), first.key.id).await.unwrap(), second.key);
    live(&world, &first.secret).await.expect("the earlier secret works");
    live(&world, &second.secret).await.expect("so does the new one");
    world.clock.advance(60.seconds()).await;
    assert_eq!(causes(&live(&world, &first.secret).await.unwrap_err()), (401, vec!["rotated_credential"]));
    live(&world, &second.secret).await.unwrap();

    let plan = world.cloud.rotate_api_key(&grant, second.key.clone(), 0).await.unwrap();
    let third = commit(&world, plan).await.unwrap();
    assert_eq!(live(&world, &second.secret).await.unwrap_err().code, Code::Unauthorized);
    live(&world, &third.secret).await.unwrap();

    // A key rotates itself.
    let own = live(&world, &made.live_key).await.unwrap();
    let key = world.cloud.api_key_to_change(&world.grant(&own), own.key_id.unwrap()).await.unwrap();
    let plan = world.cloud.rotate_api_key(&world.grant(&own), key, 0).await.unwrap();
    let fresh = commit(&world, plan).await.unwrap();
    assert_eq!(live(&world, &made.live_key).await.unwrap_err().code, Code::Unauthorized);
    live(&world, &fresh.secret).await.unwrap();
}

async fn a_key_gives_nothing_that_it_does_not_have(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let (mine, other) = (project(&world, &owner, "mine").await, project(&world, &owner, "other").await);
    let scopes: Scopes =
        [Scope::write(Noun::ApiKey), Scope::read(Noun::ApiKey), Scope::read(Noun::Compute)].into_iter().collect();
    let soon = world.clock.now().plus(1.hours());
    let new = NewApiKey {
        scopes: Some(scopes),
        project_id: Some(mine),
        allowed_ips: vec!["203.0.113.0/24".to_owned()],
        expires_at: Some(soon),
        ..new_key("narrow")
    };
    let narrow = mint(&world, &owner, new).await.unwrap();
    let caller = live(&world, &narrow.secret).await.unwrap();
    assert_eq!((caller.scopes, caller.project_id), (scopes, Some(mine)));

    let heir = mint(&world, &caller, new_key("heir")).await.unwrap().key;
    assert_eq!(
        (heir.scopes, heir.project_id, heir.expires_at, heir.allowed_ips),
        (Some(scopes), Some(mine), Some(soon), vec!["203.0.113.0/24".to_owned()]),
        "what is not asked for is the credential's own"
    );
    let wide = NewApiKey {
        scopes: Some(scopes.with(Scope::write(Noun::Compute))),
        allowed_ips: vec!["203.0.113.7".to_owned(), "203.0.114.0/24".to_owned()],
        expires_at: Some(soon.plus(1.seconds())),
        ..new_key("wide")
    };
    let fault = mint(&world, &caller, wide).await.unwrap_err();
    assert_eq!(causes(&fault), (403, vec!["beyond_own", "beyond_own", "missing_scope"]));
    let elsewhere = NewApiKey { project_id: Some(other), ..new_key("elsewhere") };
    assert_eq!(causes(&mint(&world, &caller, elsewhere).await.unwrap_err()), (400, vec!["unknown_project"]));

    // A wider key of the same member is not rotated into the hands of a narrower one.
    let same_project = NewApiKey { project_id: Some(mine), ..new_key("same project, every scope") };
    let wider = mint(&world, &owner, same_project).await.unwrap();
    let seen = world.cloud.api_key_to_change(&world.grant(&caller), wider.key.id).await.unwrap();
    let fault = world.cloud.rotate_api_key(&world.grant(&caller), seen, 0).await.unwrap_err();
    assert_eq!(fault.code, Code::Forbidden);
    let unseen = world.cloud.api_key_to_change(&world.grant(&caller), owner.key_id.unwrap()).await.unwrap_err();
    assert_eq!(unseen.code, Code::ResourceNotFound);
}

async fn a_key_narrowed_to_a_project_sees_and_dies_with_it(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let doomed = project(&world, &owner, "doomed").await;
    let environments =
        world.cloud.environments(&world.grant(&owner), doomed, None, &Page::default()).await.unwrap().items;
    let narrowed = mint(&world, &owner, NewApiKey { project_id: Some(doomed), ..new_key("project") }).await.unwrap();
    let deeper = NewApiKey { environment_id: Some(environments[0].id), ..new_key("environment") };
    let deeper = mint(&world, &owner, deeper).await.unwrap();
    assert_eq!(deeper.key.project_id, Some(doomed), "an environment names its project");
    let wrong = NewApiKey { project_id: Some(doomed), environment_id: Some(world.cloud.id()), ..new_key("wrong") };
    assert_eq!(causes(&mint(&world, &owner, wrong).await.unwrap_err()), (400, vec!["unknown_environment"]));

    let caller = live(&world, &narrowed.secret).await.unwrap();
    assert_eq!(keys(&world, &caller).await, ["environment", "project"]);
    let deep_caller = live(&world, &deeper.secret).await.unwrap();
    assert_eq!(keys(&world, &deep_caller).await, ["environment"]);
    assert_eq!(keys(&world, &owner).await, ["environment", "project", "First key"]);

    let grant = world.grant::<EnvironmentDelete>(&owner);
    let environment = world.cloud.environment_to_delete(&grant, environments[0].id).await.unwrap();
    let plan = world.cloud.delete_environment(&grant, environment).await.unwrap();
    commit(&world, plan).await.unwrap();
    assert_eq!(live(&world, &deeper.secret).await.unwrap_err().code, Code::Unauthorized);
    live(&world, &narrowed.secret).await.expect("only the environment is gone");
    delete(&world, &owner, doomed).await;
    assert_eq!(live(&world, &narrowed.secret).await.unwrap_err().code, Code::Unauthorized);
    assert_eq!(keys(&world, &owner).await, ["First key"], "and they are given back to the quota");
}

async fn members_and_admins_differ(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let (_, member_secret) = member(&world, &owner, Role::Member).await;
    let (_, admin_secret) = member(&world, &owner, Role::Admin).await;
    let (member, admin) = (live(&world, &member_secret).await.unwrap(), live(&world, &admin_secret).await.unwrap());
    let listed = world.cloud.members(&world.grant::<MemberRead>(&member), &Page::default()).await.unwrap();
    assert_eq!(listed.items.iter().map(|m| m.role).collect::<Vec<_>>(), [Role::Admin, Role::Member, Role::Owner]);
    assert_eq!(world.cloud.member(&world.grant(&member), listed.items[2].id).await.unwrap(), listed.items[2]);

    let spare = mint(&world, &owner, new_key("spare")).await.unwrap().key;
    let refused = world.cloud.revoke_api_key(&world.grant(&member), spare.clone()).unwrap_err();
    assert_eq!(causes(&refused), (403, vec!["missing_role"]));
    for of in [&member, &admin] {
        let renamed = world.cloud.rename_api_key(&world.grant(of), spare.clone(), None).unwrap_err();
        assert_eq!(causes(&renamed), (403, vec!["other_member"]));
        let rotated = world.cloud.rotate_api_key(&world.grant(of), spare.clone(), 0).await.unwrap_err();
        assert_eq!(causes(&rotated), (403, vec!["other_member"]));
    }
    commit(&world, world.cloud.revoke_api_key(&world.grant(&admin), spare).unwrap()).await.unwrap();
}

async fn the_quota_of_keys_holds(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let mut few = (*owner).clone();
    let limits = nephos_control::plan_limits::Limits { api_keys: Some(2), ..(*few.limits).clone() };
    few.limits = Arc::new(limits);
    let few = Arc::new(few);
    let spare = mint(&world, &few, new_key("second")).await.unwrap();
    assert_eq!(mint(&world, &few, new_key("third")).await.unwrap_err().code, Code::QuotaExceeded);
    commit(&world, world.cloud.revoke_api_key(&world.grant(&few), spare.key).unwrap()).await.unwrap();
    mint(&world, &few, new_key("third")).await.expect("a revoked key makes room");

    let limits = world.cloud.limits(&world.grant::<LimitRead>(&few)).await.unwrap();
    let quotas: Vec<_> = limits.quotas.iter().map(|q| (q.name.as_str(), q.limit, q.used)).collect();
    assert_eq!(quotas[0], ("projects", Some(100), Some(1)));
    assert_eq!(quotas[5], ("api_keys", Some(2), Some(2)));
    assert_eq!(quotas[7], ("members", Some(100), Some(1)));
    let budgets: Vec<_> = limits.budgets.iter().map(|b| (b.name.as_str(), b.limit, b.window_s)).collect();
    assert_eq!(
        budgets,
        [("key", Some(120), 60), ("workspace", Some(600), 600), ("reads", Some(30), 1), ("writes", Some(5), 1)]
    );
}

async fn a_spent_budget_says_which(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    for _ in 0..5 {
        let verdict = world.cloud.admit(&owner, SurfaceBudget::Strettch, Class::Write);
        assert!(verdict.refused.is_none());
    }
    let verdict = world.cloud.admit(&owner, SurfaceBudget::Strettch, Class::Write);
    let refused = verdict.refused.unwrap();
    assert_eq!((refused.code, refused.retry_after_s), (Code::TooManyRequests, Some(1)));
    assert_eq!(refused.details[0].budget, Some("writes"));
    assert!(refused.message.contains("the operator of this installation"), "{refused}");
    assert_eq!(verdict.budgets.iter().map(|b| b.reset_at_s).collect::<Vec<_>>(), [world.clock.now().secs() + 1]);
    for _ in 0..120 {
        assert!(world.cloud.admit(&owner, SurfaceBudget::Platform, Class::Write).refused.is_none());
    }
    let refused = world.cloud.admit(&owner, SurfaceBudget::Platform, Class::Read).refused.unwrap();
    assert_eq!((refused.retry_after_s, refused.details[0].budget), (Some(60), Some("key")));
    world.clock.advance(60.seconds()).await;
    assert!(world.cloud.admit(&owner, SurfaceBudget::Platform, Class::Read).refused.is_none());
}

async fn an_end_in_order_keeps_counts_and_windows(engine: Engine) {
    let (world, made) = installed(engine).await;
    let background = world.cloud.start().await.unwrap();
    let owner = live(&world, &made.live_key).await.unwrap();
    for _ in 0..120 {
        assert!(world.cloud.admit(&owner, SurfaceBudget::Platform, Class::Read).refused.is_none());
        world.cloud.count_request(&owner, SurfaceBudget::Platform, None);
    }
    background.stop().await;
    world.clock.advance(10.seconds()).await;

    let next = world.replica(8);
    let background = next.start().await.unwrap();
    let owner = next.authenticate(made.live_key.expose(), Mode::Live, HERE).await.unwrap();
    let refused = next.admit(&owner, SurfaceBudget::Platform, Class::Read).refused.unwrap();
    assert_eq!(refused.retry_after_s, Some(50));
    assert_eq!(next.usage(&world.grant::<UsageRead>(&owner), None).await.unwrap().requests, 120);
    drop(background);

    // A crash empties the windows.
    let after_crash = world.replica(9);
    let _background = after_crash.start().await.unwrap();
    assert!(after_crash.admit(&owner, SurfaceBudget::Platform, Class::Read).refused.is_none());
}

async fn the_last_use_of_a_key_is_kept_to_the_minute(engine: Engine) {
    let (world, made) = installed(engine).await;
    world.clock.advance(Duration::from_millis(90_500)).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let minute = Timestamp::from_secs(world.clock.now().secs() / 60 * 60);
    let id = owner.key_id.unwrap();
    let stored =
        || async { world.database.store().api_key(owner.workspace_id, Mode::Live, id).await.unwrap().unwrap() };
    assert_eq!(stored().await.last_used_at, None, "no request writes it");
    assert_eq!(world.cloud.api_key(&world.grant(&owner), id).await.unwrap().last_used_at, Some(minute));
    world.cloud.flush().await.unwrap();
    let row = stored().await;
    assert_eq!((row.last_used_at, row.version), (Some(minute), 1));
    let writes = world.database.store().counts();
    live(&world, &made.live_key).await.unwrap();
    world.cloud.flush().await.unwrap();
    assert_eq!(world.database.store().counts(), writes, "the same minute is not written again");
}

async fn requests_are_counted_by_project(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let (alpha, beta) = (project(&world, &owner, "alpha").await, project(&world, &owner, "beta").await);
    let narrowed = mint(&world, &owner, NewApiKey { project_id: Some(alpha), ..new_key("alpha's") }).await.unwrap();
    let narrowed = live(&world, &narrowed.secret).await.unwrap();
    for _ in 0..3 {
        world.cloud.count_request(&owner, SurfaceBudget::Platform, Some(alpha));
        world.cloud.count_request(&narrowed, SurfaceBudget::Strettch, Some(alpha));
    }
    world.cloud.count_request(&owner, SurfaceBudget::Platform, Some(beta));
    world.cloud.count_request(&owner, SurfaceBudget::Platform, None);
    world.cloud.flush().await.unwrap();
    world.cloud.count_request(&owner, SurfaceBudget::Platform, None);

    let report = world.cloud.usage(&world.grant::<UsageRead>(&owner), None).await.unwrap();
    assert_eq!((report.month.as_str(), report.requests, report.projects), ("2026-01", 9, 3));
    assert_eq!((report.compute_seconds, report.amount_microunits, report.currency.as_str()), (0, Some(0), "EUR"));
    let rows: Vec<_> = report.by_project.iter().map(|r| (r.project_name.as_deref(), r.requests)).collect();
    assert_eq!(rows, [(None, 2), (Some("alpha"), 6), (Some("beta"), 1)]);
    assert_eq!(world.cloud.usage(&world.grant(&owner), None).await.unwrap(), report, "nothing is counted twice");

    let mut member = (*narrowed).clone();
    member.role = Role::Member;
    let report = world.cloud.usage(&world.grant(&Arc::new(member)), None).await.unwrap();
    let row = ProjectUsageView {
        project_id: Some(alpha.to_string()),
        project_name: Some("alpha".to_owned()),
        requests: 6,
        compute_seconds: 0,
        amount_microunits: None,
    };
    assert_eq!((report.requests, report.projects, report.amount_microunits), (6, 1, None));
    assert_eq!(report.by_project, [row]);
}

/// Meters a resource of a project from now on, as a running compute is metered.
async fn meter(world: &World, caller: &Caller, resource: nephos_model::id::ComputeId, project: ProjectId, price: i64) {
    let meter = Meter {
        resource_id: resource,
        project_id: project,
        environment_id: nephos_model::id::EnvironmentId::from_raw(project.raw()),
        item: "compute.running",
        size: "nano",
        region: "local",
        microunits_per_hour: price,
    };
    let entry = world.cloud.id::<nephos_model::id::OperationId>().to_string();
    let turn = nephos_store::meter::turn(caller.tenant, &meter, world.clock.now().secs(), &entry);
    world.database.store().write(turn.into_iter().collect()).await.unwrap();
}

async fn metered_time_becomes_an_exact_report(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let alpha = project(&world, &owner, "alpha").await;
    let (one, two) = (world.cloud.id(), world.cloud.id());
    meter(&world, &owner, one, alpha, 1_000).await;
    world.clock.advance(Duration::from_millis(1_800_400)).await;
    meter(&world, &owner, one, alpha, 3_600).await;
    meter(&world, &owner, two, alpha, 7).await;
    world.clock.advance(Duration::from_millis(60_600)).await;
    let report = world.cloud.usage(&world.grant::<UsageRead>(&owner), None).await.unwrap();
    // 1,800 s at 1,000, then 61 s at 3,600 and 61 s at 7 micro-units an hour.
    assert_eq!((report.compute_seconds, report.amount_microunits), (1_800 + 61 + 61, Some(500 + 61)));
    assert_eq!(report.by_project.iter().map(|r| r.compute_seconds).sum::<i64>(), report.compute_seconds);

    // Test mode has the seconds and no price.
    let sandbox = world.cloud.authenticate(made.test_key.expose(), Mode::Test, HERE).await.unwrap();
    let first = world.cloud.projects(&world.grant(&sandbox), None, &Page::default()).await.unwrap().items[0].id;
    meter(&world, &sandbox, world.cloud.id(), first, 1_000_000).await;
    world.clock.advance(1.hours()).await;
    let report = world.cloud.usage(&world.grant::<UsageRead>(&sandbox), None).await.unwrap();
    assert_eq!((report.compute_seconds, report.amount_microunits), (3_600, Some(0)));
}

async fn usage_of_a_past_month_and_of_deleted_projects(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let (kept, gone) = (project(&world, &owner, "kept").await, project(&world, &owner, "gone").await);
    meter(&world, &owner, world.cloud.id(), kept, 3_600).await;
    world.cloud.count_request(&owner, SurfaceBudget::Platform, Some(gone));
    // From 2026-01-15T12:00:00Z into February.
    world.clock.advance(20.days()).await;
    world.cloud.count_request(&owner, SurfaceBudget::Platform, Some(kept));
    delete(&world, &owner, gone).await;
    project(&world, &owner, "late").await;

    let usage = |month: &'static str| {
        let (world, grant) = (&world, world.grant::<UsageRead>(&owner));
        async move { world.cloud.usage(&grant, Month::parse(month)).await }
    };
    let january = usage("2026-01").await.unwrap();
    assert_eq!((january.requests, january.projects), (1, 3), "default, kept and gone were there at its end");
    assert_eq!(january.compute_seconds, 16 * 86_400 + 43_200);
    let names: Vec<_> = january.by_project.iter().map(|r| r.project_name.as_deref()).collect();
    assert_eq!(names, [Some("kept"), Some("gone")], "a deleted project keeps its row");
    let february = usage("2026-02").await.unwrap();
    assert_eq!((february.requests, february.projects, february.compute_seconds), (1, 3, 3 * 86_400 + 43_200));
    assert_eq!(january.amount_microunits, Some(january.compute_seconds));
    let december = usage("2025-12").await.unwrap();
    assert_eq!((december.requests, december.projects, december.by_project.len()), (0, 0, 0));
    assert_eq!(usage("2026-03").await.unwrap_err().code, Code::BadRequest);
}

async fn another_master_key_is_refused(engine: Engine) {
    let world = World::new(engine).await;
    world.cloud.check_master_key(&[1; 32]).await.unwrap();
    world.cloud.init("acme", "ada@example.com", "standard").await.unwrap();
    world.cloud.check_master_key(&[1; 32]).await.unwrap();
    assert!(matches!(world.cloud.check_master_key(&[2; 32]).await, Err(MasterKeyError::Other)));
    // Two first starts at once: one key is kept.
    let world = World::new(engine).await;
    let (a, b) = tokio::join!(world.cloud.check_master_key(&[1; 32]), world.cloud.check_master_key(&[2; 32]));
    assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
}

async fn ids_go_on_after_the_largest_stored(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    while world.cloud.sequence_some().await.unwrap() > 0 {}
    let newest: ProjectId = world.cloud.id();
    project(&world, &owner, "newest").await;
    let replica = world.replica_at(9, Timestamp::from_secs(1_700_000_000));
    assert!(replica.id::<ProjectId>() < newest, "its clock is years behind");
    replica.advance_ids().await.unwrap();
    let last = world.cloud.projects(&world.grant(&owner), None, &Page::default()).await.unwrap().items[0].id;
    assert!(last > newest && replica.id::<ProjectId>() > last);
}
