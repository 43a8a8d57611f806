//! What only the operator does.

use nephos_control::caller::{EnvironmentRead, EventRead, MeRead};
use nephos_control::install::MasterKeyError;
use nephos_control::view::{MeView, json};
use nephos_model::id::ProjectId;
use nephos_model::page::Page;
use nephos_model::role::Role;
use nephos_model::tenant::Mode;
use nephos_model::{Code, Timestamp};
use nephos_store::Engine;
use nephos_testkit::World;

use crate::{causes, installed, live, project};

on_both! {
    an_installation_is_initialized_once
    the_operator_suspends_resumes_and_changes_plans
    another_master_key_is_refused
    ids_go_on_after_the_largest_stored
}

async fn an_installation_is_initialized_once(engine: Engine) {
    let world = World::new(engine).await;
    let refused = world.cloud.init("", "nobody", "golden").await.unwrap_err();
    assert_eq!(causes(&refused), (400, vec!["invalid_value", "invalid_value", "unknown_plan"]));
    assert!(refused.details[2].message.contains("standard, partner, unlimited"), "{refused}");

    let made = world.cloud.init("acme", "Ada@Example.com", "partner").await.unwrap();
    assert_eq!((made.live_key.mode(), made.test_key.mode()), (Mode::Live, Mode::Test));
    assert!(made.console_url.contains("/console/sign-in?token=signin_"), "{}", made.console_url);
    let again = world.cloud.init("other", "eve@example.com", "standard").await.unwrap_err();
    assert_eq!(causes(&again), (409, vec!["initialized"]));
    assert!(again.message.contains("nephos workspace create"), "{again}");

    let caller = live(&world, &made.live_key).await.unwrap();
    let me = world.cloud.me(&world.grant::<MeRead>(&caller)).await.unwrap();
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
