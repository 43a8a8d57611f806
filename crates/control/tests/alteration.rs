//! Resizing and rebuilding, from the request to the end, on both engines, with the simulator and a clock that the test moves.

#![allow(clippy::unwrap_used)] // a test may

use std::sync::Arc;

use nephos_control::caller::{Caller, ComputeRead, ComputeWrite, EventRead, OperationRead, UsageRead};
use nephos_control::compute::{Begun, Choice, NewCompute};
use nephos_control::plan::CommitError;
use nephos_control::plan_limits::Limits;
use nephos_model::compute::{Compute, RestartPolicy, Status};
use nephos_model::fault::{Detail, Place};
use nephos_model::id::OperationId;
use nephos_model::operation::{Kind, Operation, Status as OperationStatus};
use nephos_model::page::Page;
use nephos_model::role::Role;
use nephos_model::tenant::Mode;
use nephos_model::{Code, Fault, Timestamp};
use nephos_store::Engine;
use nephos_store::testing::broken;
use nephos_store::usage::LedgerPlace;
use nephos_testkit::World;

/// Runs a test on both engines.
macro_rules! on_both {
    ($($name:ident)*) => {
        mod sqlite { $(#[tokio::test] async fn $name() { super::$name(nephos_store::Engine::Sqlite).await; })* }
        mod postgres { $(#[tokio::test] async fn $name() { super::$name(nephos_store::Engine::Postgres).await; })* }
    };
}

on_both! {
    a_running_compute_is_shut_down_resized_and_booted
    a_stopped_compute_stays_stopped_and_gives_back_what_it_has_no_more
    what_can_not_be_resized_is_refused_before_anything_is_taken
    a_rebuilt_compute_is_the_same_with_a_fresh_disk
    a_rebuild_that_fails_says_why
    a_compute_that_is_deleted_while_it_is_resized_returns_all_it_held
    kills_in_the_middle_are_made_good
}

async fn made(world: &World, caller: &Arc<Caller>, size: &str) -> Compute {
    let new = NewCompute {
        name: "web-1".parse().unwrap(),
        choice: Choice { size: Some(size.to_owned()), ..Choice::default() },
        user_data: None,
        labels: std::collections::BTreeMap::new(),
        protected: false,
        restart_policy: RestartPolicy::Never,
    };
    let plan = world.cloud.create_compute(&world.grant::<ComputeWrite>(caller), new).await.unwrap();
    let begun = world.cloud.commit(plan, None).await.unwrap();
    succeeded(world, caller, begun.operation.id).await;
    now(world, caller, &begun.compute).await
}

async fn ended(world: &World, caller: &Arc<Caller>, id: OperationId) -> Operation {
    world
        .until(|| async {
            let operation = world.cloud.operation(&world.grant::<OperationRead>(caller), id).await.unwrap();
            operation.status.ended().then_some(operation)
        })
        .await
}

async fn succeeded(world: &World, caller: &Arc<Caller>, id: OperationId) -> Operation {
    let operation = ended(world, caller, id).await;
    assert_eq!(operation.status, OperationStatus::Succeeded, "{operation:?}");
    operation
}

async fn now(world: &World, caller: &Arc<Caller>, compute: &Compute) -> Compute {
    world.cloud.compute(&world.grant::<ComputeRead>(caller), compute.id).await.unwrap()
}

async fn resize(world: &World, caller: &Arc<Caller>, compute: &Compute, size: &str) -> Result<Begun, CommitError> {
    let compute = now(world, caller, compute).await;
    let plan = world.cloud.resize_compute(&world.grant::<ComputeWrite>(caller), compute, size).await?;
    world.cloud.commit(plan, None).await
}

async fn rebuild(world: &World, caller: &Arc<Caller>, compute: &Compute) -> Result<Begun, CommitError> {
    let compute = now(world, caller, compute).await;
    let plan = world.cloud.rebuild_compute(&world.grant::<ComputeWrite>(caller), compute, None).await?;
    world.cloud.commit(plan, None).await
}

async fn stop(world: &World, caller: &Arc<Caller>, compute: &Compute) {
    let compute = now(world, caller, compute).await;
    let grant = world.grant::<ComputeWrite>(caller);
    let plan = world.cloud.act_on_compute(&grant, compute, Kind::ComputeStop).await.unwrap();
    let begun = world.cloud.commit(plan, None).await.unwrap();
    succeeded(world, caller, begun.operation.id).await;
}

fn refused(result: Result<Begun, CommitError>) -> Fault {
    match result {
        Err(CommitError::Fault(fault)) => fault,
        other => panic!("expected a fault, got {other:?}"),
    }
}

fn names(operation: &Operation) -> Vec<&str> {
    operation.steps.iter().map(|step| step.name.as_str()).collect()
}

/// What is used of vCPUs, memory and disk, by the quota and in the region.
async fn held(world: &World, caller: &Arc<Caller>) -> ([i64; 3], [u64; 3]) {
    let counters = world.database.store().counters(caller.tenant).await.unwrap();
    let used = |noun: &str| counters.iter().find(|(n, _)| n == noun).map_or(0, |(_, value)| *value);
    let admitted = world.database.store().admitted("local").await.unwrap();
    (
        [used("quota.vcpus"), used("quota.memory_mib"), used("quota.disk_gib")],
        [admitted.vcpus, admitted.memory_mib, admitted.disk_gib],
    )
}

async fn assert_sound(world: &World) {
    let found = broken(world.database.store(), Timestamp::from_micros(i64::MAX)).await;
    assert_eq!(found, Vec::<String>::new());
}

async fn a_running_compute_is_shut_down_resized_and_booted(engine: Engine) {
    let world = World::started(engine).await;
    let caller = world.caller(Role::Owner, Mode::Live).await;
    let web = made(&world, &caller, "nano").await;
    assert_eq!(held(&world, &caller).await, ([1, 128, 1], [1, 128, 1]));

    let begun = resize(&world, &caller, &web, "medium").await.unwrap();
    assert_eq!((begun.compute.status, begun.compute.size.as_str()), (Status::Resizing, "nano"), "it is not so yet");
    assert_eq!(names(&begun.operation), ["shut_down", "resize", "boot"]);
    assert_eq!(held(&world, &caller).await, ([2, 4_096, 40], [2, 4_096, 40]), "what it adds is taken at once");
    assert_sound(&world).await;
    let conflict = refused(resize(&world, &caller, &web, "large").await);
    assert!(conflict.code == Code::Conflict && conflict.message.contains("resizing"), "{conflict:?}");

    let operation = succeeded(&world, &caller, begun.operation.id).await;
    assert!(operation.steps.windows(2).all(|two| two[0].ended_at <= two[1].started_at), "{operation:?}");
    let resized = now(&world, &caller, &web).await;
    assert_eq!((resized.status, resized.size.as_str(), resized.disk_gib), (Status::Running, "medium", 40));
    assert_eq!((resized.id, &resized.ssh_host_key, &resized.address), (web.id, &web.ssh_host_key, &web.address));
    assert_eq!(held(&world, &caller).await, ([2, 4_096, 40], [2, 4_096, 40]));

    // From the second on at which the disk was ready it costs what its new size costs, with no gap and no overlap.
    let store = world.database.store();
    let (closed, _) = store.closed_intervals(caller.tenant, &LedgerPlace::after(0), i64::MAX).await.unwrap();
    let resize_began = operation.steps[1].started_at.unwrap().secs();
    let nano: Vec<_> = closed.iter().filter(|i| i.microunits_per_hour == 1_000).collect();
    let medium: Vec<_> = closed.iter().filter(|i| i.microunits_per_hour == 20_000).collect();
    assert_eq!(nano.len() + medium.len(), closed.len(), "{closed:?}");
    let ready = nano.iter().map(|i| i.to_s).max().unwrap().unwrap();
    assert!(ready >= resize_began && medium.iter().all(|i| i.from_s >= ready), "{closed:?}");
    let open = store.open_intervals(caller.tenant).await.unwrap();
    assert!(open.len() == 1 && open[0].microunits_per_hour == 20_000, "{open:?}");
    assert_sound(&world).await;

    let kinds = world
        .until(|| async {
            let page = Page { limit: 100, ..Page::default() };
            let grant = world.grant::<EventRead>(&caller);
            let listed = world.cloud.events(&grant, nephos_store::event::Filter::default(), &page).await.unwrap();
            let mut kinds: Vec<_> = listed.items.iter().map(|e| (e.seq, e.kind.clone())).collect();
            kinds.sort();
            let kinds: Vec<_> = kinds.into_iter().map(|(_, kind)| kind).filter(|k| k.starts_with("compute.")).collect();
            (kinds.len() >= 5).then_some(kinds)
        })
        .await;
    let wanted = ["compute.created", "compute.running", "compute.resizing", "compute.resized", "compute.running"];
    assert_eq!(kinds, wanted);
    world.cloud.usage(&world.grant::<UsageRead>(&caller), None, None).await.unwrap();
}

async fn a_stopped_compute_stays_stopped_and_gives_back_what_it_has_no_more(engine: Engine) {
    // Two sizes of which neither has more of everything.
    let mut settings = nephos_control::settings::Settings::default();
    let wide =
        nephos_model::size::Size { name: "wide".to_owned(), vcpus: 4, memory_mib: 64, ..settings.sizes[0].clone() };
    settings.sizes.push(wide);
    let mut world = World::with(engine, settings).await;
    world.start().await;
    let caller = world.caller(Role::Member, Mode::Live).await;
    let web = made(&world, &caller, "nano").await;
    stop(&world, &caller, &web).await;

    let begun = resize(&world, &caller, &web, "wide").await.unwrap();
    assert_eq!(names(&begun.operation), ["resize"]);
    assert_eq!(held(&world, &caller).await, ([4, 128, 1], [4, 128, 1]), "of each the larger");
    succeeded(&world, &caller, begun.operation.id).await;
    let resized = now(&world, &caller, &web).await;
    assert_eq!((resized.status, resized.size.as_str(), resized.memory_mib), (Status::Stopped, "wide", 64));
    assert_eq!(held(&world, &caller).await, ([4, 64, 1], [4, 64, 1]));
    assert_sound(&world).await;
}

async fn what_can_not_be_resized_is_refused_before_anything_is_taken(engine: Engine) {
    let world = World::started(engine).await;
    let caller = world.caller(Role::Member, Mode::Live).await;
    let web = made(&world, &caller, "micro").await;
    let before = held(&world, &caller).await;
    let pointer = Some(Place::Pointer("/size".to_owned()));
    let first = |fault: Fault| -> Detail { fault.details[0].clone() };
    for (size, status, code) in [
        ("huge", Code::BadRequest, "unknown_size"),
        ("nano", Code::Conflict, "disk_would_shrink"),
        ("micro", Code::Conflict, "same_size"),
    ] {
        let fault = refused(resize(&world, &caller, &web, size).await);
        assert_eq!(fault.code, status, "{fault:?}");
        let detail = first(fault);
        assert_eq!((detail.code, &detail.place), (code, &pointer), "{detail:?}");
    }
    // The quota counts what the size adds, not the size.
    let limits = Limits { vcpus: Some(1), memory_mib: Some(1_023), ..Limits::unlimited() };
    let tight = Arc::new(Caller { limits: Arc::new(limits), ..(*caller).clone() });
    assert_eq!(refused(resize(&world, &tight, &web, "small").await).code, Code::QuotaExceeded);
    let current = now(&world, &tight, &web).await;
    let plan = world.cloud.resize_compute(&world.grant::<ComputeWrite>(&tight), current, "small").await.unwrap();
    assert_eq!(world.cloud.rehearse(tight.tenant, &plan).await.unwrap_err().code, Code::QuotaExceeded);
    let limits = Limits { vcpus: Some(1), memory_mib: Some(1_024), ..Limits::unlimited() };
    let enough = Arc::new(Caller { limits: Arc::new(limits), ..(*caller).clone() });
    assert_eq!(held(&world, &caller).await, before);
    let begun = resize(&world, &enough, &web, "small").await.unwrap();
    succeeded(&world, &caller, begun.operation.id).await;
    assert_sound(&world).await;
}

async fn a_rebuilt_compute_is_the_same_with_a_fresh_disk(engine: Engine) {
    let world = World::started(engine).await;
    let caller = world.caller(Role::Member, Mode::Live).await;
    let web = made(&world, &caller, "nano").await;
    let begun = rebuild(&world, &caller, &web).await.unwrap();
    assert_eq!(
        (begun.compute.status, names(&begun.operation)),
        (Status::Rebuilding, vec!["shut_down", "rebuild", "boot"])
    );
    succeeded(&world, &caller, begun.operation.id).await;
    let rebuilt = now(&world, &caller, &web).await;
    assert_eq!((rebuilt.status, rebuilt.boots), (Status::Running, 2));
    assert_eq!((rebuilt.id, &rebuilt.name, &rebuilt.address), (web.id, &web.name, &web.address));
    assert_eq!((&rebuilt.ssh_host_key, &rebuilt.image), (&web.ssh_host_key, &web.image));

    // A stopped one is booted from its fresh disk as well.
    stop(&world, &caller, &web).await;
    let begun = rebuild(&world, &caller, &web).await.unwrap();
    assert_eq!(names(&begun.operation), ["rebuild", "boot"]);
    succeeded(&world, &caller, begun.operation.id).await;
    assert_eq!(now(&world, &caller, &web).await.status, Status::Running);
    assert_sound(&world).await;

    let grant = world.grant::<ComputeWrite>(&caller);
    let patch = nephos_control::compute::ComputePatch { protected: Some(true), ..Default::default() };
    let plan = world.cloud.change_compute(&grant, now(&world, &caller, &web).await, patch).await.unwrap();
    world.cloud.commit(plan, None).await.unwrap();
    let fault = refused(rebuild(&world, &caller, &web).await);
    assert_eq!((fault.code, fault.details[0].code), (Code::Conflict, "protected"));
}

async fn a_rebuild_that_fails_says_why(engine: Engine) {
    let world = World::started(engine).await;
    let caller = world.caller(Role::Member, Mode::Test).await;
    let web = made(&world, &caller, "nano").await;
    let grant = world.grant::<ComputeWrite>(&caller);
    let labels = [("simulate".to_owned(), "provision_failure".to_owned())].into_iter().collect();
    let patch = nephos_control::compute::ComputePatch { labels: Some(labels), ..Default::default() };
    let plan = world.cloud.change_compute(&grant, web.clone(), patch).await.unwrap();
    world.cloud.commit(plan, None).await.unwrap();
    let begun = rebuild(&world, &caller, &web).await.unwrap();
    let operation = ended(&world, &caller, begun.operation.id).await;
    assert_eq!(operation.status, OperationStatus::Failed, "{operation:?}");
    let failed = now(&world, &caller, &web).await;
    assert_eq!((failed.status, failed.reason), (Status::Failed, operation.error.map(|(_, why)| why)));
    assert_sound(&world).await;
}

async fn a_compute_that_is_deleted_while_it_is_resized_returns_all_it_held(engine: Engine) {
    let world = World::started(engine).await;
    let caller = world.caller(Role::Member, Mode::Live).await;
    let web = made(&world, &caller, "nano").await;
    resize(&world, &caller, &web, "medium").await.unwrap();
    let grant = world.grant::<ComputeWrite>(&caller);
    // The resizing moves on meanwhile: as often as it was faster, the deletion decides anew.
    let begun = loop {
        let plan = world.cloud.delete_compute(&grant, now(&world, &caller, &web).await).await.unwrap();
        match world.cloud.commit(plan, None).await {
            Ok(begun) => break begun,
            Err(CommitError::Again) => {}
            Err(CommitError::Fault(fault)) => panic!("{fault}"),
        }
    };
    assert_sound(&world).await;
    succeeded(&world, &caller, begun.operation.id).await;
    assert_eq!(held(&world, &caller).await, ([0; 3], [0; 3]));
    assert_sound(&world).await;
}

async fn kills_in_the_middle_are_made_good(engine: Engine) {
    let mut world = World::started(engine).await;
    let caller = world.caller(Role::Member, Mode::Test).await;
    let web = made(&world, &caller, "nano").await;
    for (round, size) in ["micro", "small", "medium"].into_iter().enumerate() {
        let begun = resize(&world, &caller, &web, size).await.unwrap();
        for kill in 0..7 {
            world.clock.advance(std::time::Duration::from_millis(600)).await;
            world.crash(100 * (round as u64 + 1) + kill).await;
            assert_sound(&world).await;
        }
        succeeded(&world, &caller, begun.operation.id).await;
        assert_eq!(now(&world, &caller, &web).await.size, size);
        let begun = rebuild(&world, &caller, &web).await.unwrap();
        for kill in 0..7 {
            world.clock.advance(std::time::Duration::from_millis(600)).await;
            world.crash(1_000 * (round as u64 + 1) + kill).await;
            assert_sound(&world).await;
        }
        succeeded(&world, &caller, begun.operation.id).await;
        assert_eq!(now(&world, &caller, &web).await.status, Status::Running);
    }
}
