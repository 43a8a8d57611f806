//! The sandbox: resets, and the clock that a test moves inside of the clock that the test moves; on both engines.

#![allow(
    clippy::default_trait_access,
    clippy::redundant_pattern_matching,
    clippy::unchecked_time_subtraction,
    clippy::unwrap_used
)] // a test may

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use nephos_control::Cloud;
use nephos_control::caller::{
    Caller, ComputeRead, ComputeWrite, EventRead, ImageRead, OperationRead, ProjectRead, ProjectWrite, SandboxRead,
    SandboxReset, SandboxWrite, UsageRead,
};
use nephos_control::compute::{Begun, Choice, NewCompute};
use nephos_control::idempotency::{Keyed, Recording};
use nephos_control::install::Installed;
use nephos_control::plan::CommitError;
use nephos_control::sandbox::Advance;
use nephos_control::view::SandboxView;
use nephos_model::compute::{RestartPolicy, Status};
use nephos_model::key::Secret;
use nephos_model::operation::{Kind, Status as OperationStatus};
use nephos_model::page::{Page, Start};
use nephos_model::role::Role;
use nephos_model::tenant::{Mode, TenantId};
use nephos_model::{Clock as _, Code, Timestamp};
use nephos_store::testing::broken;
use nephos_store::{Engine, Store};
use nephos_testkit::{Durations as _, World};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Runs a test on both engines.
macro_rules! on_both {
    ($($name:ident)*) => {
        mod sqlite { $(#[tokio::test] async fn $name() { super::$name(nephos_store::Engine::Sqlite).await; })* }
        mod postgres { $(#[tokio::test] async fn $name() { super::$name(nephos_store::Engine::Postgres).await; })* }
    };
}

on_both! {
    a_reset_is_a_new_sandbox_at_once
    keys_outlive_a_reset_unless_their_project_is_gone
    a_reset_is_repeated_with_its_idempotency_key
    what_runs_in_an_old_epoch_ends_and_leaves_nothing
    a_request_that_a_reset_overtakes_does_nothing
    every_sandbox_is_reset_once_a_day
    a_clock_that_goes_forwards_takes_everything_along
    a_clock_moves_no_credentials_and_no_idempotency_keys
    a_clock_is_refused_what_it_can_not_do
    a_crash_after_an_advance_is_made_good
    images_of_simulated_computes
}

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn wanted(name: &str, labels: &[(&str, &str)]) -> NewCompute {
    NewCompute {
        name: name.parse().unwrap(),
        choice: Choice::default(),
        user_data: None,
        labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<BTreeMap<_, _>>(),
        protected: false,
        restart_policy: RestartPolicy::Never,
    }
}

async fn create(world: &World, caller: &Arc<Caller>, new: NewCompute) -> Result<Begun, CommitError> {
    let plan = world.cloud.create_compute(&world.grant::<ComputeWrite>(caller), new).await?;
    world.cloud.commit(plan, None).await
}

async fn reset(world: &World, caller: &Arc<Caller>) -> Result<SandboxView, CommitError> {
    let plan = world.cloud.reset_sandbox(&world.grant::<SandboxReset>(caller)).await?;
    world.cloud.commit(plan, None).await
}

async fn advance(world: &World, caller: &Arc<Caller>, by: Advance) -> Result<String, CommitError> {
    let plan = world.cloud.advance_sandbox_clock(&world.grant::<SandboxWrite>(caller), by).await?;
    Ok(world.cloud.commit(plan, None).await?.now)
}

fn code<T: std::fmt::Debug>(result: Result<T, CommitError>) -> Code {
    match result {
        Err(CommitError::Fault(fault)) => fault.code,
        other => panic!("expected a fault, got {other:?}"),
    }
}

async fn totals(world: &World, caller: &Arc<Caller>) -> (i64, i64, i64) {
    let page = Page { limit: 100, ..Page::default() };
    let cloud = &world.cloud;
    let projects = cloud.projects(&world.grant::<ProjectRead>(caller), None, &page).await.unwrap().total;
    let computes = cloud.computes(&world.grant::<ComputeRead>(caller), Default::default(), &page).await.unwrap().total;
    let operations = cloud.operations(&world.grant::<OperationRead>(caller), Default::default(), &page).await;
    (projects, computes, operations.unwrap().total)
}

async fn enter(cloud: &Cloud, key: &Secret) -> Result<Arc<Caller>, nephos_model::Fault> {
    cloud.authenticate(key.expose(), key.mode(), HERE).await
}

/// Removes all that old epochs left.
async fn purge(cloud: &Cloud) {
    while cloud.purge_some().await.unwrap() {}
}

/// Rows of a tenant, over all tables of tenants' rows.
async fn rows_of(store: &Store, tenant: TenantId) -> i64 {
    store.rows_of(tenant).await.unwrap()
}

async fn sound(world: &World) {
    let wrong = broken(world.database.store(), world.clock.now().plus(10.minutes())).await;
    assert!(wrong.is_empty(), "{wrong:#?}");
}

async fn a_reset_is_a_new_sandbox_at_once(engine: Engine) {
    let world = World::new(engine).await;
    let Installed { test_key, live_key, .. } = world.workspace("acme", "standard").await;
    let old = world.caller_of(&test_key).await;
    let live = world.caller_of(&live_key).await;
    for i in 0..3 {
        create(&world, &old, wanted(&format!("web-{i}"), &[("a", "b")])).await.unwrap();
    }
    let title = "other".parse().unwrap();
    let plan = world.cloud.create_project(&world.grant::<ProjectWrite>(&old), &title).await.unwrap();
    world.cloud.commit(plan, None).await.unwrap();
    world.cloud.count_request(&old, nephos_control::budget::SurfaceBudget::Platform, None);
    world.cloud.flush().await.unwrap();
    assert_eq!(totals(&world, &old).await, (2, 3, 3));
    let lives = totals(&world, &live).await;

    world.cloud.count_request(&old, nephos_control::budget::SurfaceBudget::Platform, None);
    let told = reset(&world, &old).await.unwrap();
    assert_eq!((told.epoch, told.revoked_api_keys), (2, 0));
    assert_eq!(told.began_at, world.clock.now().to_string());
    assert_eq!(told.next_reset_at.as_deref(), Some("2026-01-16T03:00:00Z"));

    let new = world.caller_of(&test_key).await;
    assert_ne!(new.tenant, old.tenant);
    assert_eq!(totals(&world, &new).await, (1, 0, 0));
    let projects = world.cloud.projects(&world.grant::<ProjectRead>(&new), None, &Page::default()).await.unwrap();
    assert_eq!((projects.items[0].id.to_string(), projects.items[0].is_default), (told.default_project_id, true));
    let usage = world.cloud.usage(&world.grant::<UsageRead>(&new), None, None).await.unwrap();
    assert_eq!((usage.requests, usage.compute_seconds, usage.projects), (0, 0, 1));
    assert_eq!(totals(&world, &live).await, lives, "the live side is as it was");
    create(&world, &new, wanted("web-0", &[])).await.unwrap();

    // The old rows go in the background, and nothing that still comes for them stays.
    world.cloud.flush().await.unwrap();
    while world.cloud.sequence_some().await.unwrap() > 0 {}
    sound(&world).await;
    purge(&world.cloud).await;
    let store = world.database.store();
    assert_eq!(rows_of(store, old.tenant).await, 0);
    assert!(store.tenant(old.tenant).await.unwrap().is_none());
    assert!(rows_of(store, new.tenant).await > 0 && rows_of(store, live.tenant).await > 0);
    world.cloud.count_request(&old, nephos_control::budget::SurfaceBudget::Platform, None);
    world.cloud.flush().await.unwrap();
    assert_eq!(rows_of(store, old.tenant).await, 0);
    sound(&world).await;

    let page = Page { limit: 100, ..Page::default() };
    let events = world.cloud.events(&world.grant::<EventRead>(&new), Default::default(), &page).await.unwrap();
    let mut kinds: Vec<_> = events.items.iter().map(|e| e.kind.clone()).collect();
    kinds.reverse();
    assert_eq!(
        kinds,
        [
            "project.created",
            "environment.created",
            "environment.created",
            "environment.created",
            "sandbox.reset",
            "compute.created"
        ]
    );
}

async fn keys_outlive_a_reset_unless_their_project_is_gone(engine: Engine) {
    let world = World::new(engine).await;
    let Installed { test_key, live_key, .. } = world.workspace("acme", "standard").await;
    let caller = world.caller_of(&test_key).await;
    let projects = world.cloud.projects(&world.grant::<ProjectRead>(&caller), None, &Page::default()).await.unwrap();
    let project = projects.items[0].id;
    let wide = world.key(&test_key, Role::Member, |_| {}).await;
    let narrow = world.key(&test_key, Role::Owner, |key| key.project_id = Some(project)).await;
    let live = world.grant::<ProjectRead>(&world.caller_of(&live_key).await);
    let live_project = world.cloud.projects(&live, None, &Page::default()).await.unwrap().items[0].id;
    let live_narrow = world.key(&live_key, Role::Owner, |key| key.project_id = Some(live_project)).await;

    // Whoever is narrowed to a project does not reset what it can't see; a Member does not delete projects.
    let narrowed = world.caller_of(&narrow).await;
    assert_eq!(code(reset(&world, &narrowed).await), Code::Forbidden);
    assert_eq!(code(advance(&world, &narrowed, Advance::Seconds(1)).await), Code::Forbidden);
    let member = world.caller_of(&wide).await;
    let request = Arc::new(nephos_control::caller::Request {
        id: world.cloud.id(),
        client_request_id: None,
        address: HERE,
        trace: None,
    });
    assert_eq!(member.permit::<SandboxReset>(&request).unwrap_err().code, Code::Forbidden);
    assert!(member.permit::<SandboxWrite>(&request).is_ok());

    let replica = world.replica(9);
    for key in [&test_key, &wide, &narrow] {
        enter(&replica, key).await.unwrap();
    }
    assert_eq!(reset(&world, &caller).await.unwrap().revoked_api_keys, 1);
    let epoch = |caller: &Arc<Caller>| caller.tenant;
    let now = epoch(&world.caller_of(&test_key).await);
    assert_eq!(epoch(&world.caller_of(&wide).await), now);
    assert_eq!(enter(&world.cloud, &narrow).await.unwrap_err().code, Code::Unauthorized);
    assert!(enter(&world.cloud, &live_narrow).await.is_ok());

    // Another replica knows it within a second.
    world.clock.advance(1.seconds()).await;
    assert_eq!(epoch(&enter(&replica, &test_key).await.unwrap()), now);
    assert_eq!(epoch(&enter(&replica, &wide).await.unwrap()), now);
    assert_eq!(enter(&replica, &narrow).await.unwrap_err().code, Code::Unauthorized);

    // The quota counts the keys that are left.
    let counters = world.database.store().counters(now).await.unwrap();
    assert!(counters.contains(&("quota.api_keys".to_owned(), 2)), "{counters:?}");
    sound(&world).await;
}

async fn a_reset_is_repeated_with_its_idempotency_key(engine: Engine) {
    let world = World::new(engine).await;
    let Installed { test_key, .. } = world.workspace("acme", "standard").await;
    // As a request is decided: it is run, and when it lost a race, or was refused, what was answered earlier is looked for.
    let ask = async |cloud: &Cloud, caller: &Arc<Caller>| {
        let keyed = Keyed { surface: "platform", method: "POST", path: "/reset", key: "again", fingerprint: [3; 32] };
        let ticket = cloud.idempotency_begin(caller, &keyed)?;
        let run = async {
            let plan = cloud.reset_sandbox(&world.grant::<SandboxReset>(caller)).await?;
            let body = nephos_control::view::json(&plan.value).into_bytes();
            let recording = Recording {
                status: 200,
                body: body.clone(),
                location: None,
                etag: None,
                preference_applied: None,
                is_secret: false,
            };
            cloud.commit(plan, Some((&ticket, recording))).await?;
            Ok::<_, CommitError>((false, body))
        };
        match run.await {
            Ok(done) => Ok(done),
            Err(error) => match cloud.idempotency_earlier(Some(caller), &ticket).await? {
                Some(recording) => Ok((true, recording.body)),
                None => Err(error),
            },
        }
    };
    let replica = world.replica(9);
    let stale = enter(&replica, &test_key).await.unwrap();
    let (replayed, first) = ask(&world.cloud, &world.caller_of(&test_key).await).await.unwrap();
    assert!(!replayed);
    // A replica that does not know yet of the reset knows of the answer.
    assert_eq!(ask(&replica, &stale).await.unwrap(), (true, first.clone()));
    purge(&world.cloud).await;
    assert_eq!(code(ask(&replica, &stale).await), Code::ServiceUnavailable);
    // Told so, it has forgotten what it knew.
    assert_eq!(ask(&replica, &enter(&replica, &test_key).await.unwrap()).await.unwrap(), (true, first.clone()));
    // What was made since stays.
    let caller = world.caller_of(&test_key).await;
    create(&world, &caller, wanted("web-1", &[])).await.unwrap();
    assert_eq!(ask(&world.cloud, &caller).await.unwrap(), (true, first));
    assert_eq!(totals(&world, &caller).await, (1, 1, 1));
}

async fn what_runs_in_an_old_epoch_ends_and_leaves_nothing(engine: Engine) {
    let mut world = World::started(engine).await;
    let Installed { test_key, .. } = world.workspace("acme", "standard").await;
    let old = world.caller_of(&test_key).await;
    for (i, label) in ["", "slow_boot", "provision_failure", "", ""].iter().enumerate() {
        create(&world, &old, wanted(&format!("web-{i}"), &[("simulate", label)])).await.unwrap();
    }
    let mut deleted = None;
    for seconds in [1, 1, 1, 1, 1, 1] {
        world.clock.advance_settled(seconds.seconds(), 8).await;
        let listed = world
            .cloud
            .computes(&world.grant::<ComputeRead>(&old), Default::default(), &Page::default())
            .await
            .unwrap();
        deleted = listed.items.first().map(|c| c.id);
    }
    let grant = world.grant::<ComputeWrite>(&old);
    loop {
        let compute = world.cloud.compute_to_change(&grant, deleted.unwrap()).await.unwrap();
        let plan = world.cloud.delete_compute(&grant, compute).await.unwrap();
        // A look may come between.
        match world.cloud.commit(plan, None).await {
            Err(CommitError::Again) => {}
            done => break done.map(|_| ()).unwrap(),
        }
    }
    let told = reset(&world, &old).await.unwrap();
    assert_eq!(told.epoch, 2);
    // Killed before, while and after its rows are removed.
    for seed in 100..104 {
        world.crash(seed).await;
        world.clock.advance_settled(50.millis(), 8).await;
        sound(&world).await;
    }
    let store = world.database.store().clone();
    world.until(|| async { store.tenant(old.tenant).await.unwrap().is_none().then_some(()) }).await;
    assert_eq!(rows_of(&store, old.tenant).await, 0);
    sound(&world).await;
    assert_eq!(totals(&world, &world.caller_of(&test_key).await).await, (1, 0, 0));
}

async fn a_request_that_a_reset_overtakes_does_nothing(engine: Engine) {
    let world = World::new(engine).await;
    let Installed { test_key, .. } = world.workspace("acme", "standard").await;
    let old = world.caller_of(&test_key).await;
    let grant = world.grant::<ComputeWrite>(&old);
    let late = world.cloud.create_compute(&grant, wanted("late", &[])).await.unwrap();
    let clock = world.grant::<SandboxWrite>(&old);
    let moved = world.cloud.advance_sandbox_clock(&clock, Advance::Seconds(60)).await.unwrap();
    let twice = world.cloud.reset_sandbox(&world.grant::<SandboxReset>(&old)).await.unwrap();
    reset(&world, &old).await.unwrap();
    assert_eq!(code(world.cloud.commit(late, None).await), Code::ServiceUnavailable);
    assert_eq!(code(world.cloud.commit(moved, None).await), Code::ServiceUnavailable);
    assert!(matches!(world.cloud.commit(twice, None).await, Err(_)));
    assert_eq!(code(reset(&world, &old).await), Code::ServiceUnavailable);
    let new = world.caller_of(&test_key).await;
    assert_eq!(totals(&world, &new).await, (1, 0, 0));
    purge(&world.cloud).await;
    assert_eq!(rows_of(world.database.store(), old.tenant).await, 0);
    assert_eq!(reset(&world, &new).await.unwrap().epoch, 3);
}

async fn every_sandbox_is_reset_once_a_day(engine: Engine) {
    let world = World::new(engine).await; // 2026-01-15T12:00:00Z; the reset is at 03:00
    let first = world.workspace("first", "standard").await;
    let second = world.workspace("second", "standard").await;
    let epoch = async |installed: &Installed| {
        let caller = world.caller_of(&installed.test_key).await;
        world.database.store().tenant(caller.tenant).await.unwrap().unwrap().epoch
    };
    let live = world.caller_of(&first.live_key).await;
    assert_eq!(world.cloud.reset_due().await.unwrap(), 0);
    world.clock.advance(15.hours() - 1.seconds()).await;
    assert_eq!(world.cloud.reset_due().await.unwrap(), 0);
    let third = world.workspace("third", "standard").await;
    world.clock.advance(1.seconds()).await;
    assert_eq!(world.cloud.next_sandbox_reset().unwrap().to_string(), "2026-01-17T03:00:00Z");

    // Several replicas at once, one of them with a clock ahead.
    let (replica, fast) = (world.replica(9), world.replica_at(10, world.clock.now().plus(2.seconds())));
    let done = futures_join([world.cloud.reset_due(), replica.reset_due(), fast.reset_due()]).await;
    world.clock.advance(11.seconds()).await;
    let again = world.cloud.reset_due().await.unwrap() + replica.reset_due().await.unwrap_or(0);
    assert_eq!(done + again, 3);
    for installed in [&first, &second, &third] {
        assert_eq!(epoch(installed).await, 2);
    }
    assert_eq!(world.caller_of(&first.live_key).await.tenant, live.tenant);

    // After a week in which nobody ran, once.
    world.clock.advance(7.days()).await;
    assert_eq!(world.cloud.reset_due().await.unwrap(), 3);
    assert_eq!(world.cloud.reset_due().await.unwrap(), 0);
    assert_eq!((epoch(&first).await, epoch(&second).await), (3, 3));

    // The background does it by itself, at its time.
    let mut world = world;
    world.clock.advance(24.hours() - 2.minutes()).await;
    world.start().await;
    world.clock.advance_settled(1.minutes(), 8).await;
    let store = world.database.store().clone();
    let at = |world: &World| {
        let (cloud, key) = (world.cloud.clone(), first.test_key.clone());
        let store = store.clone();
        async move {
            let caller = enter(&cloud, &key).await.unwrap();
            store.tenant(caller.tenant).await.unwrap().unwrap().epoch
        }
    };
    assert_eq!(at(&world).await, 3);
    world.until(|| async { (at(&world).await == 4).then_some(()) }).await;
}

/// How many resets several processes did in all; one that another was before has done none.
async fn futures_join<F: Future<Output = Result<u32, nephos_store::StoreError>>>(all: [F; 3]) -> u32 {
    let [a, b, c] = all;
    let (a, b, c) = tokio::join!(a, b, c);
    a.unwrap_or(0) + b.unwrap_or(0) + c.unwrap_or(0)
}

async fn a_clock_that_goes_forwards_takes_everything_along(engine: Engine) {
    let world = World::started(engine).await;
    let Installed { test_key, live_key, .. } = world.workspace("acme", "standard").await;
    let caller = world.caller_of(&test_key).await;
    let begun = create(&world, &caller, wanted("web-1", &[])).await.unwrap();
    let made = begun.compute.created_at;

    let now = advance(&world, &caller, Advance::Seconds(3_600)).await.unwrap();
    assert_eq!(now, made.plus(1.hours()).to_string());
    let caller = world.caller_of(&test_key).await;
    let operation = world.cloud.operation(&world.grant::<OperationRead>(&caller), begun.operation.id).await.unwrap();
    assert_eq!(operation.status, OperationStatus::Succeeded);
    let compute = world.cloud.compute(&world.grant::<ComputeRead>(&caller), begun.compute.id).await.unwrap();
    assert_eq!(compute.status, Status::Running);
    let took = compute.started_at.unwrap().since(made);
    assert!(
        (4.seconds()..8.seconds()).contains(&took),
        "it began when it was due, not when it was looked at: {took:?}"
    );
    assert_eq!(operation.ended_at, compute.started_at);

    let usage = world.cloud.usage(&world.grant::<UsageRead>(&caller), None, None).await.unwrap();
    let ran = made.plus(1.hours()).secs() - compute.started_at.unwrap().secs();
    assert_eq!(usage.compute_seconds, ran);
    assert_eq!(usage.amount_microunits, Some(0), "nothing is billed");

    // What is made from now on has the sandbox's time, and a month that has not begun outside has begun here.
    let to = Timestamp::from_secs(1_772_323_200); // 2026-03-01T00:00:00Z
    assert_eq!(advance(&world, &caller, Advance::To(to)).await.unwrap(), "2026-03-01T00:00:00Z");
    let caller = world.caller_of(&test_key).await;
    assert_eq!(create(&world, &caller, wanted("web-2", &[])).await.unwrap().compute.created_at, to);
    let february = world.cloud.usage(&world.grant::<UsageRead>(&caller), "2026-02".parse_month(), None).await.unwrap();
    assert_eq!(february.compute_seconds, 28 * 86_400);
    let read = world.cloud.sandbox_clock(&world.grant::<SandboxRead>(&caller)).await.unwrap();
    assert_eq!((read.now.as_str(), read.real_now), ("2026-03-01T00:00:00Z", world.clock.now().to_string()));
    assert_eq!(read.ahead_seconds, to.secs() - world.clock.now().secs());

    // The live side goes by the wall's clock.
    let live = world.caller_of(&live_key).await;
    let refused = world.cloud.usage(&world.grant::<UsageRead>(&live), "2026-02".parse_month(), None).await;
    assert_eq!(refused.unwrap_err().code, Code::BadRequest);

    // Time goes on from there by itself, and a reset sets it back.
    let begun = create(&world, &caller, wanted("web-3", &[])).await.unwrap();
    world
        .until(|| async {
            let operation = world.cloud.operation(&world.grant::<OperationRead>(&caller), begun.operation.id).await;
            (operation.unwrap().status == OperationStatus::Succeeded).then_some(())
        })
        .await;
    reset(&world, &caller).await.unwrap();
    let caller = world.caller_of(&test_key).await;
    let read = world.cloud.sandbox_clock(&world.grant::<SandboxRead>(&caller)).await.unwrap();
    assert_eq!((read.now.clone(), read.ahead_seconds), (read.real_now, 0));
    sound(&world).await;
}

trait Parse {
    fn parse_month(&self) -> Option<nephos_model::clock::Month>;
}

impl Parse for str {
    fn parse_month(&self) -> Option<nephos_model::clock::Month> {
        nephos_model::clock::Month::parse(self)
    }
}

async fn a_clock_moves_no_credentials_and_no_idempotency_keys(engine: Engine) {
    let world = World::new(engine).await;
    let Installed { test_key, .. } = world.workspace("acme", "standard").await;
    let soon = world.clock.now().plus(1.hours());
    let mortal = world.key(&test_key, Role::Member, |key| key.expires_at = Some(soon)).await;
    let caller = world.caller_of(&test_key).await;
    let keyed = Keyed { surface: "platform", method: "POST", path: "/computes", key: "k", fingerprint: [3; 32] };
    let ticket = world.cloud.idempotency_begin(&caller, &keyed).unwrap();
    let plan = world.cloud.create_compute(&world.grant::<ComputeWrite>(&caller), wanted("web-1", &[])).await.unwrap();
    let recording = Recording {
        status: 201,
        body: b"first".to_vec(),
        location: None,
        etag: None,
        preference_applied: None,
        is_secret: false,
    };
    world.cloud.commit(plan, Some((&ticket, recording))).await.unwrap();
    drop(ticket);
    let next = world.cloud.next_sandbox_reset();

    advance(&world, &caller, Advance::Seconds(40 * 86_400)).await.unwrap();
    assert!(enter(&world.cloud, &mortal).await.is_ok(), "a key expires by the real time");
    let caller = world.caller_of(&test_key).await;
    let is_kept = async |cloud: &Cloud| {
        let ticket = cloud.idempotency_begin(&caller, &keyed).unwrap();
        cloud.idempotency_earlier(Some(&caller), &ticket).await.unwrap().is_some()
    };
    assert!(is_kept(&world.cloud).await);
    assert_eq!(world.cloud.next_sandbox_reset(), next);
    assert_eq!(world.cloud.reset_due().await.unwrap(), 0);
    world.cloud.expire_some().await.unwrap();
    assert!(is_kept(&world.cloud).await);

    world.clock.advance(1.hours()).await;
    assert_eq!(enter(&world.cloud, &mortal).await.unwrap_err().code, Code::Unauthorized);
}

async fn a_clock_is_refused_what_it_can_not_do(engine: Engine) {
    let world = World::new(engine).await;
    let Installed { test_key, .. } = world.workspace("acme", "standard").await;
    let caller = world.caller_of(&test_key).await;
    advance(&world, &caller, Advance::Seconds(86_400)).await.unwrap();
    let back = Advance::To(world.clock.now().plus(23.hours()));
    assert_eq!(code(advance(&world, &caller, back).await), Code::BadRequest);
    assert_eq!(code(advance(&world, &caller, Advance::Seconds(367 * 86_400)).await), Code::BadRequest);
    for _ in 0..9 {
        advance(&world, &caller, Advance::Seconds(366 * 86_400)).await.unwrap();
    }
    advance(&world, &caller, Advance::Seconds(365 * 86_400)).await.unwrap();
    assert_eq!(code(advance(&world, &caller, Advance::Seconds(1)).await), Code::BadRequest);
    let caller = world.caller_of(&test_key).await;
    assert_eq!(caller.clock_ahead, 3_660.days());

    // Two at once: both count, or one is told to try again; none is lost.
    reset(&world, &caller).await.unwrap();
    let caller = world.caller_of(&test_key).await;
    let grant = world.grant::<SandboxWrite>(&caller);
    let one = world.cloud.advance_sandbox_clock(&grant, Advance::Seconds(10)).await.unwrap();
    let two = world.cloud.advance_sandbox_clock(&grant, Advance::Seconds(20)).await.unwrap();
    world.cloud.commit(one, None).await.unwrap();
    assert!(matches!(world.cloud.commit(two, None).await, Err(CommitError::Again)));
    advance(&world, &caller, Advance::Seconds(20)).await.unwrap();
    assert_eq!(world.caller_of(&test_key).await.clock_ahead, 30.seconds());
}

async fn a_crash_after_an_advance_is_made_good(engine: Engine) {
    let mut world = World::new(engine).await;
    let Installed { test_key, .. } = world.workspace("acme", "standard").await;
    let caller = world.caller_of(&test_key).await;
    let begun = create(&world, &caller, wanted("web-1", &[])).await.unwrap();
    // The commit of an advance, and nothing after it.
    let tenant = world.database.store().tenant(caller.tenant).await.unwrap().unwrap();
    let batch = nephos_store::Batch::from(vec![
        nephos_store::tenant::advance(&tenant, 3_600_000_000),
        nephos_store::work::sooner(tenant.id, 3_600_000_000),
    ]);
    world.database.store().write(batch).await.unwrap();
    world.crash(11).await;
    let compute = world
        .until(|| async {
            let found = world.cloud.compute(&world.grant::<ComputeRead>(&caller), begun.compute.id).await.unwrap();
            (found.status == Status::Running).then_some(found)
        })
        .await;
    let took = compute.started_at.unwrap().since(begun.compute.created_at);
    assert!((4.seconds()..8.seconds()).contains(&took), "{took:?}");
}

fn named(image: &str) -> Choice {
    Choice { image: Some(image.to_owned()), ..Choice::default() }
}

async fn images_of_simulated_computes(engine: Engine) {
    let world = World::started(engine).await;
    let Installed { test_key, live_key, .. } = world.workspace("acme", "standard").await;
    // The world's live region is simulated as well.
    for key in [&test_key, &live_key] {
        let caller = world.caller_of(key).await;
        let grant = world.grant::<ImageRead>(&caller);
        let made = create(&world, &caller, wanted("web-1", &[])).await.unwrap().compute;
        let listed = world.cloud.images(&grant, None, &Page::default()).await.unwrap();
        assert_eq!((listed.total, listed.more, &*listed.items[0].name), (1, false, "simulated"));
        assert_eq!(world.cloud.image(&grant, made.image_id).await.unwrap().name, made.image);
        let simulated = NewCompute { choice: named("simulated"), ..wanted("web-2", &[]) };
        create(&world, &caller, simulated).await.unwrap();
        let unknown = NewCompute { choice: named("no-such"), ..wanted("web-3", &[]) };
        assert_eq!(code(create(&world, &caller, unknown).await), Code::BadRequest);
    }
    // Beside those of the installation it is the last; no page shows it twice or leaves it out.
    let caller = world.caller_of(&test_key).await;
    let grant = world.grant::<ImageRead>(&caller);
    for i in 0..3 {
        let image = nephos_model::image::Image {
            id: world.cloud.id(),
            name: format!("image-{i}"),
            description: String::new(),
            checksum: "0".repeat(64),
            size_bytes: 1,
            min_memory_mib: 64,
            min_disk_gib: 1,
            login_user: "root".to_owned(),
            boot: nephos_model::image::Boot::Disk,
            created_at: world.clock.now(),
        };
        world.cloud.add_image(&image).await.unwrap();
        let taken = nephos_model::image::Image { name: "simulated".to_owned(), id: world.cloud.id(), ..image };
        assert_eq!(world.cloud.add_image(&taken).await.unwrap_err().code, Code::Conflict);
    }
    for limit in 1..6 {
        let (mut names, mut after) = (Vec::new(), None);
        for number in 1.. {
            let numbered = Page { start: Start::Number(number), limit };
            let following = Page { start: after.take().map_or(Start::Number(1), Start::After), limit };
            let listed = world.cloud.images(&grant, None, &numbered).await.unwrap();
            let same = world.cloud.images(&grant, None, &following).await.unwrap();
            assert_eq!((&listed.items, listed.total, listed.more), (&same.items, same.total, same.more));
            assert_eq!(listed.total, 4);
            after = listed.items.last().map(|image| image.id.to_string());
            names.extend(listed.items.into_iter().map(|image| image.name));
            if !listed.more {
                break;
            }
        }
        assert_eq!(names, ["image-2", "image-1", "image-0", "simulated"], "limit {limit}");
    }
    let made = create(&world, &caller, wanted("web-3", &[])).await.unwrap().compute;
    assert_eq!(made.image, "image-0", "as in the live workspace");
}

/// What happens in a sandbox at a time, in seconds since its beginning.
#[derive(Debug, Clone)]
enum Act {
    Create(&'static str), // the label `simulate`
    Do(usize, Kind),
    Delete(usize),
}

/// Everything that clients see of a sandbox at its end.
async fn story(engine: Engine, acts: &[(i64, Act)], end_s: i64, cuts: &[i64]) -> Vec<String> {
    let world = World::new(engine).await;
    let Installed { test_key, .. } = world.workspace("acme", "unlimited").await;
    let start = world.clock.now();
    let mut stops: Vec<(i64, Option<&Act>)> = acts.iter().map(|(at, act)| (*at, Some(act))).collect();
    stops.extend(cuts.iter().map(|at| (*at, None)));
    stops.push((end_s, None));
    // Stable: what happens at one time happens in its order, and cuts come after it.
    stops.sort_by_key(|(at, act)| (*at, act.is_none()));
    let (mut made, mut at) = (Vec::new(), 0);
    for (next, act) in stops {
        let caller = world.caller_of(&test_key).await;
        if next > at {
            advance(&world, &caller, Advance::To(start.plus(Duration::from_secs(next.unsigned_abs())))).await.unwrap();
            at = next;
        }
        let caller = world.caller_of(&test_key).await;
        let grant = world.grant::<ComputeWrite>(&caller);
        match act {
            None => {}
            Some(Act::Create(label)) => {
                let name = format!("web-{}", made.len());
                let begun = create(&world, &caller, wanted(&name, &[("simulate", label)])).await.unwrap();
                made.push(begun.compute.id);
            }
            Some(Act::Do(which, kind)) => {
                let Some(id) = made.get(*which) else { continue };
                let Ok(compute) = world.cloud.compute_to_change(&grant, *id).await else { continue };
                // Not in every state: the same in every division of time.
                if let Ok(plan) = world.cloud.act_on_compute(&grant, compute, *kind).await {
                    world.cloud.commit(plan, None).await.unwrap();
                }
            }
            Some(Act::Delete(which)) => {
                let Some(id) = made.get(*which) else { continue };
                let Ok(compute) = world.cloud.compute_to_change(&grant, *id).await else { continue };
                let plan = world.cloud.delete_compute(&grant, compute).await.unwrap();
                world.cloud.commit(plan, None).await.unwrap();
            }
        }
    }
    while world.cloud.sequence_some().await.unwrap() > 0 {}
    sound(&world).await;
    told(&world, &world.caller_of(&test_key).await, start).await
}

async fn told(world: &World, caller: &Arc<Caller>, start: Timestamp) -> Vec<String> {
    let page = Page { limit: 100, ..Page::default() };
    let since = |at: Option<Timestamp>| at.map(|at| at.micros() - start.micros());
    let mut lines = Vec::new();
    for shown in
        world.cloud.computes(&world.grant::<ComputeRead>(caller), Default::default(), &page).await.unwrap().items
    {
        let c = world.cloud.compute(&world.grant::<ComputeRead>(caller), shown.id).await.unwrap();
        let times = (since(c.started_at), since(Some(c.updated_at)), c.boots, c.restarts, c.operation_id.is_some());
        lines.push(format!("{} {} {times:?} {:?}", c.name, c.status, c.reason));
    }
    let operations = world.cloud.operations(&world.grant::<OperationRead>(caller), Default::default(), &page).await;
    for o in operations.unwrap().items {
        let steps: Vec<_> = o.steps.iter().map(|s| (s.name.clone(), since(s.started_at), since(s.ended_at))).collect();
        lines.push(format!("{:?} {} {:?} {steps:?}", o.kind, o.status, (since(o.started_at), since(o.ended_at))));
    }
    let events = world.cloud.events(&world.grant::<EventRead>(caller), Default::default(), &page).await.unwrap();
    let mut last = start;
    for e in events.items.iter().rev().filter(|e| !e.kind.starts_with("sandbox.")) {
        assert!(e.created_at >= last, "events come in the order of their times: {:?}", events.items);
        last = e.created_at;
        lines.push(format!("{} {:?}", e.kind, since(Some(e.created_at))));
    }
    let usage = world.cloud.usage(&world.grant::<UsageRead>(caller), None, None).await.unwrap();
    lines.push(format!("{} seconds", usage.compute_seconds));
    lines
}

/// However a clock is moved from one time to another: the same happens, at the same times, in the same order.
fn any_division_of_time_is_the_same(engine: Engine, cases: u32) {
    let act = prop_oneof![
        prop_oneof![Just(""), Just("slow_boot"), Just("provision_failure")].prop_map(Act::Create),
        (0_usize..4, prop_oneof![Just(Kind::ComputeStop), Just(Kind::ComputeStart), Just(Kind::ComputeReboot)])
            .prop_map(|(which, kind)| Act::Do(which, kind)),
        (0_usize..4).prop_map(Act::Delete),
    ];
    let acts = prop::collection::vec((0_i64..400, act), 1..8);
    let cuts = prop::collection::vec(1_i64..500, 0..12);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let ran = runner.run(&(acts, 500_i64..900, cuts), |(mut acts, end_s, cuts)| {
        // Delays hang on ids, and those on how many there were before: all are made at the beginning.
        for (at, act) in &mut acts {
            *at = if matches!(act, Act::Create(_)) { 0 } else { *at };
        }
        acts.sort_by_key(|(at, _)| *at);
        let (whole, parts) = runtime.block_on(async {
            let whole = story(engine, &acts, end_s, &[]).await;
            (whole, story(engine, &acts, end_s, &cuts).await)
        });
        prop_assert_eq!(whole, parts);
        Ok(())
    });
    ran.unwrap();
}

#[test]
fn any_division_of_time_is_the_same_on_sqlite() {
    any_division_of_time_is_the_same(Engine::Sqlite, 16);
}

#[test]
fn any_division_of_time_is_the_same_on_postgres() {
    any_division_of_time_is_the_same(Engine::Postgres, 2);
}

#[tokio::test]
async fn live_time_is_never_moved() {
    let world = World::new(Engine::Sqlite).await;
    let live = world.caller(Role::Owner, Mode::Live).await;
    assert_eq!(live.clock_ahead, Duration::ZERO);
}
