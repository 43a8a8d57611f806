//! Computes from their making to their end, on both engines, with the simulator and a clock that the test moves.

#![allow(clippy::unwrap_used)] // a test may

use std::collections::BTreeMap;
use std::sync::Arc;

use nephos_control::caller::{
    Caller, ComputeRead, ComputeWrite, EventRead, OperationRead, ProjectDelete, ProjectWrite,
};
use nephos_control::compute::{Begun, Choice, ComputePatch, NewCompute};
use nephos_control::idempotency::{Keyed, Recording};
use nephos_control::plan::CommitError;
use nephos_control::project::Force;
use nephos_model::Code;
use nephos_model::compute::{Compute, RestartPolicy, Status};
use nephos_model::id::{ComputeId, OperationId};
use nephos_model::operation::{Kind, Operation, Status as OperationStatus};
use nephos_model::page::Page;
use nephos_model::role::Role;
use nephos_model::tenant::Mode;
use nephos_store::Engine;
use nephos_testkit::World;

/// Runs a test on both engines.
macro_rules! on_both {
    ($($name:ident)*) => {
        mod sqlite { $(#[tokio::test] async fn $name() { super::$name(nephos_store::Engine::Sqlite).await; })* }
        mod postgres { $(#[tokio::test] async fn $name() { super::$name(nephos_store::Engine::Postgres).await; })* }
    };
}

on_both! {
    a_compute_lives_and_leaves_nothing
    a_failed_provisioning_says_why
    no_room_is_said_before_anything_is_made
    capacity_is_never_promised_twice
    a_crash_in_the_middle_is_made_good
    a_key_replays_the_first_answer
    a_project_with_computes_is_not_deleted_without_force
    names_are_unique_in_their_environment
}

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

async fn ended(world: &World, caller: &Arc<Caller>, id: OperationId) -> Operation {
    world
        .until(|| async {
            let operation = world.cloud.operation(&world.grant::<OperationRead>(caller), id).await.unwrap();
            operation.status.ended().then_some(operation)
        })
        .await
}

async fn compute(world: &World, caller: &Arc<Caller>, id: ComputeId) -> Option<Compute> {
    world.cloud.compute(&world.grant::<ComputeRead>(caller), id).await.ok()
}

async fn act(world: &World, caller: &Arc<Caller>, id: ComputeId, kind: Kind) -> Result<Begun, CommitError> {
    let compute = compute(world, caller, id).await.unwrap();
    let plan = world.cloud.act_on_compute(&world.grant::<ComputeWrite>(caller), compute, kind).await?;
    world.cloud.commit(plan, None).await
}

fn code(result: Result<Begun, CommitError>) -> Code {
    match result {
        Err(CommitError::Fault(fault)) => fault.code,
        other => panic!("expected a fault, got {other:?}"),
    }
}

async fn used(world: &World, caller: &Arc<Caller>) -> Vec<(String, i64)> {
    let mut used = world.database.store().counters(caller.tenant).await.unwrap();
    used.retain(|(noun, _)| noun.starts_with("quota.") || noun == "compute");
    used
}

async fn a_compute_lives_and_leaves_nothing(engine: Engine) {
    let world = World::started(engine).await;
    let caller = world.caller(Role::Member, Mode::Test).await;
    let before = used(&world, &caller).await;
    let begun = create(&world, &caller, wanted("web-1", &[])).await.unwrap();
    assert_eq!(begun.compute.status, Status::Provisioning);
    assert_eq!(begun.compute.region, "us-east");

    let operation = ended(&world, &caller, begun.operation.id).await;
    assert_eq!(operation.status, OperationStatus::Succeeded, "{operation:?}");
    assert_eq!(operation.progress_percent(), 100);
    assert!(operation.steps.iter().all(|s| s.status == OperationStatus::Succeeded && s.ended_at.is_some()));
    let running = compute(&world, &caller, begun.compute.id).await.unwrap();
    assert_eq!(running.status, Status::Running);
    assert!(running.address.is_some() && running.operation_id.is_none());

    assert_eq!(code(act(&world, &caller, running.id, Kind::ComputeStart).await), Code::Conflict);
    for (kind, status) in [
        (Kind::ComputeReboot, Status::Running),
        (Kind::ComputeStop, Status::Stopped),
        (Kind::ComputeStart, Status::Running),
    ] {
        let begun = act(&world, &caller, running.id, kind).await.unwrap();
        let operation = ended(&world, &caller, begun.operation.id).await;
        assert_eq!(operation.status, OperationStatus::Succeeded, "{operation:?}");
        assert_eq!(compute(&world, &caller, running.id).await.unwrap().status, status);
    }

    let grant = world.grant::<ComputeWrite>(&caller);
    let now = compute(&world, &caller, running.id).await.unwrap();
    let plan = world.cloud.delete_compute(&grant, now).await.unwrap();
    let begun = world.cloud.commit(plan, None).await.unwrap();
    assert!(compute(&world, &caller, running.id).await.is_none(), "gone at once");
    assert_eq!(ended(&world, &caller, begun.operation.id).await.status, OperationStatus::Succeeded);
    let after = used(&world, &caller).await;
    let differ: Vec<_> = after.iter().filter(|(n, v)| *v != 0 && !before.contains(&(n.clone(), *v))).collect();
    assert!(differ.is_empty(), "{differ:?}");

    let kinds = world
        .until(|| async {
            let grant = world.grant::<EventRead>(&caller);
            let page = Page { limit: 100, ..Page::default() };
            let listed = world.cloud.events(&grant, nephos_store::event::Filter::default(), &page).await.unwrap();
            assert_eq!(listed.total, i64::try_from(listed.items.len()).unwrap());
            let mut kinds: Vec<_> = listed.items.iter().map(|e| (e.seq, e.kind.clone())).collect();
            kinds.sort();
            let kinds: Vec<_> = kinds.into_iter().map(|(_, kind)| kind).collect();
            (kinds.last().map(String::as_str) == Some("operation.succeeded") && kinds.len() >= 13).then_some(kinds)
        })
        .await;
    let computes: Vec<_> = kinds.iter().filter(|k| k.starts_with("compute.")).map(String::as_str).collect();
    assert_eq!(
        computes,
        [
            "compute.created",
            "compute.running",
            "compute.rebooting",
            "compute.running",
            "compute.stopping",
            "compute.stopped",
            "compute.starting",
            "compute.running",
            "compute.deleted"
        ]
    );
}

async fn a_failed_provisioning_says_why(engine: Engine) {
    let world = World::started(engine).await;
    let caller = world.caller(Role::Member, Mode::Test).await;
    let begun = create(&world, &caller, wanted("web-1", &[("simulate", "provision_failure")])).await.unwrap();
    let operation = ended(&world, &caller, begun.operation.id).await;
    assert_eq!(operation.status, OperationStatus::Failed);
    assert_eq!(operation.error.as_ref().unwrap().0, Code::Conflict);
    let failed = compute(&world, &caller, begun.compute.id).await.unwrap();
    assert_eq!(failed.status, Status::Failed);
    assert_eq!(failed.reason.as_deref(), operation.error.as_ref().map(|(_, why)| why.as_str()));
}

async fn no_room_is_said_before_anything_is_made(engine: Engine) {
    let world = World::started(engine).await;
    let caller = world.caller(Role::Member, Mode::Test).await;
    let before = used(&world, &caller).await;
    let refused = create(&world, &caller, wanted("web-1", &[("simulate", "capacity")])).await;
    assert_eq!(code(refused), Code::CapacityUnavailable);
    assert_eq!(code(create(&world, &caller, wanted("web-1", &[("simulate", "slowboot")])).await), Code::BadRequest);
    assert_eq!(used(&world, &caller).await, before, "nothing was made");

    // A compute that has the label when it is started is refused its room as well, and stays as it is.
    let begun = create(&world, &caller, wanted("web-1", &[])).await.unwrap();
    ended(&world, &caller, begun.operation.id).await;
    let stop = act(&world, &caller, begun.compute.id, Kind::ComputeStop).await.unwrap();
    ended(&world, &caller, stop.operation.id).await;
    let label = async |value: &str| {
        let now = compute(&world, &caller, begun.compute.id).await.unwrap();
        let labels = BTreeMap::from([("simulate".to_owned(), value.to_owned())]);
        let patch = ComputePatch { labels: Some(labels), ..ComputePatch::default() };
        let plan = world.cloud.change_compute(&world.grant::<ComputeWrite>(&caller), now, patch).await?;
        world.cloud.commit(plan, None).await
    };
    let unknown = label("slowboot").await;
    assert!(matches!(unknown, Err(CommitError::Fault(fault)) if fault.code == Code::BadRequest));
    label("capacity").await.unwrap();
    assert_eq!(code(act(&world, &caller, begun.compute.id, Kind::ComputeStart).await), Code::CapacityUnavailable);
    assert_eq!(compute(&world, &caller, begun.compute.id).await.unwrap().status, Status::Stopped);
    label("").await.unwrap();
    act(&world, &caller, begun.compute.id, Kind::ComputeStart).await.unwrap();
}

async fn capacity_is_never_promised_twice(engine: Engine) {
    use nephos_model::region::Capacity;
    let world = World::new(engine).await;
    let store = world.database.store();
    store.write(nephos_store::Batch::from(nephos_store::capacity::open("r"))).await.unwrap();
    let one = Capacity { vcpus: 1, memory_mib: 100, disk_gib: 1 };
    let limit = Capacity { vcpus: 10, memory_mib: 1_000, disk_gib: 7 };
    let takes = (0..40).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            store.write(nephos_store::Batch::from(nephos_store::capacity::take("r", one, limit))).await.is_ok()
        })
    });
    let mut taken = 0;
    for take in takes.collect::<Vec<_>>() {
        taken += u32::from(take.await.unwrap());
    }
    assert_eq!(taken, 7);
    assert_eq!(store.admitted("r").await.unwrap(), Capacity { vcpus: 7, memory_mib: 700, disk_gib: 7 });
}

async fn a_crash_in_the_middle_is_made_good(engine: Engine) {
    let mut world = World::started(engine).await;
    let caller = world.caller(Role::Member, Mode::Test).await;
    let mut begun = Vec::new();
    for n in 0..8 {
        begun.push(create(&world, &caller, wanted(&format!("web-{n}"), &[])).await.unwrap());
        world.clock.advance(std::time::Duration::from_millis(700)).await;
        world.crash(100 + n).await;
    }
    for begun in begun {
        let operation = ended(&world, &caller, begun.operation.id).await;
        assert_eq!(operation.status, OperationStatus::Succeeded, "{operation:?}");
        assert_eq!(compute(&world, &caller, begun.compute.id).await.unwrap().status, Status::Running);
    }
}

async fn a_key_replays_the_first_answer(engine: Engine) {
    let world = World::new(engine).await;
    let caller = world.caller(Role::Member, Mode::Test).await;
    let keyed = |fingerprint| Keyed { surface: "platform", method: "POST", path: "/projects", key: "k-1", fingerprint };
    let begin = |caller: &Caller, fingerprint| world.cloud.idempotency_begin(caller, &keyed(fingerprint));
    let ticket = begin(&caller, [1; 32]).unwrap();
    assert_eq!(world.cloud.idempotency_earlier(Some(&caller), &ticket).await.unwrap(), None);
    let busy = begin(&caller, [1; 32]).unwrap_err();
    assert_eq!((busy.code, busy.retry_after_s), (Code::IdempotencyInProgress, Some(1)));
    let grant = world.grant::<ProjectWrite>(&caller);
    let plan = world.cloud.create_project(&grant, &"alpha".parse().unwrap()).await.unwrap();
    let recording = Recording {
        status: 201,
        body: b"{\"secret\":1}".to_vec(),
        location: Some("/v1/projects/x".to_owned()),
        etag: None,
        preference_applied: None,
        is_secret: true,
    };
    world.cloud.commit(plan, Some((&ticket, recording.clone()))).await.unwrap();
    drop(ticket);

    // Run as if the key were new, the commit meets the record: nothing is written, and the first answer is there.
    let ticket = begin(&caller, [1; 32]).unwrap();
    let plan = world.cloud.create_project(&grant, &"beta".parse().unwrap()).await.unwrap();
    let second = Recording { body: b"{\"secret\":2}".to_vec(), ..recording.clone() };
    assert!(matches!(world.cloud.commit(plan, Some((&ticket, second))).await, Err(CommitError::Again)));
    assert_eq!(world.cloud.idempotency_earlier(Some(&caller), &ticket).await.unwrap(), Some(recording));
    let projects =
        world.cloud.projects(&world.grant(&caller), Some("beta".to_owned()), &Page::default()).await.unwrap();
    assert_eq!(projects.total, 0);
    drop(ticket);

    let world = &world;
    let earlier = |caller: Arc<Caller>, fingerprint| async move {
        let ticket = world.cloud.idempotency_begin(&caller, &keyed(fingerprint)).unwrap();
        world.cloud.idempotency_earlier(Some(&caller), &ticket).await
    };
    assert_eq!(earlier(caller.clone(), [2; 32]).await.unwrap_err().code, Code::IdempotencyKeyReused);
    let other = Arc::new(Caller { member_id: world.cloud.id(), ..(*caller).clone() });
    assert_eq!(earlier(other, [1; 32]).await.unwrap_err().code, Code::Forbidden);
    world.clock.advance(std::time::Duration::from_secs(24 * 60 * 60)).await;
    assert_eq!(earlier(caller.clone(), [2; 32]).await.unwrap(), None);
    // An expired record makes room for another.
    let ticket = begin(&caller, [2; 32]).unwrap();
    let plan = world.cloud.create_project(&grant, &"gamma".parse().unwrap()).await.unwrap();
    let third = Recording {
        status: 201,
        body: b"{}".to_vec(),
        location: None,
        etag: None,
        preference_applied: None,
        is_secret: false,
    };
    world.cloud.commit(plan, Some((&ticket, third.clone()))).await.unwrap();
    assert_eq!(world.cloud.idempotency_earlier(Some(&caller), &ticket).await.unwrap(), Some(third));
}

async fn a_project_with_computes_is_not_deleted_without_force(engine: Engine) {
    let world = World::started(engine).await;
    let caller = world.caller(Role::Admin, Mode::Test).await;
    let plan =
        world.cloud.create_project(&world.grant::<ProjectWrite>(&caller), &"alpha".parse().unwrap()).await.unwrap();
    let project = world.cloud.commit(plan, None).await.unwrap();
    let new = NewCompute {
        choice: Choice { project_id: Some(project.id), environment: Some("prod".to_owned()), ..Choice::default() },
        ..wanted("web-1", &[])
    };
    let begun = create(&world, &caller, new).await.unwrap();
    let grant = world.grant::<ProjectDelete>(&caller);
    let refused = world.cloud.delete_project(&grant, project.clone(), Force::No).await.unwrap_err();
    assert_eq!(refused.code, Code::Conflict);
    assert_eq!(refused.details[0].resource_id, Some(begun.compute.id.to_string()));
    for name in ["web-2", "web-3"] {
        let new =
            NewCompute { choice: Choice { project_id: Some(project.id), ..Choice::default() }, ..wanted(name, &[]) };
        create(&world, &caller, new).await.unwrap();
    }
    let quota = async |noun: &str| {
        let counters = world.database.store().counters(caller.tenant).await.unwrap();
        counters.iter().find(|(n, _)| n == noun).map_or(0, |(_, used)| *used)
    };
    // The reconciler may change the compute meanwhile; then the request is run again, as a handler does.
    let deleted = loop {
        let plan = world.cloud.delete_project(&grant, project.clone(), Force::Yes).await.unwrap();
        match world.cloud.commit(plan, None).await {
            Ok(deleted) => break deleted,
            Err(CommitError::Again) => {}
            Err(CommitError::Fault(fault)) => panic!("{fault}"),
        }
    };
    let clean_up = deleted.operation.unwrap();
    assert_eq!((clean_up.kind, clean_up.steps.len()), (Kind::ProjectDelete, 3));
    // The project is gone, its operation is there, and its end returns the quota.
    let ended = ended(&world, &caller, clean_up.id).await;
    assert_eq!((ended.status, ended.progress_percent()), (OperationStatus::Succeeded, 100));
    assert!(ended.steps.iter().all(|s| s.status == OperationStatus::Succeeded && s.ended_at.is_some()));
    assert_eq!((quota("quota.projects").await, quota("quota.computes").await), (1, 0), "the default project is left");
    assert!(compute(&world, &caller, begun.compute.id).await.is_none());
    let operation = world.cloud.operation(&world.grant::<OperationRead>(&caller), begun.operation.id).await.unwrap();
    assert_eq!(operation.status, OperationStatus::Cancelled);
    let kinds = world
        .until(|| async {
            let filter = nephos_store::event::Filter { project_id: Some(project.id), ..Default::default() };
            let page = Page { limit: 100, ..Page::default() };
            let listed = world.cloud.events(&world.grant::<EventRead>(&caller), filter, &page).await.unwrap();
            let kinds: Vec<_> = listed.items.iter().map(|e| e.kind.clone()).collect();
            // The end of the operation is numbered after the deletion, perhaps a moment later.
            let is_told = |kind: &str| kinds.iter().any(|told| told == kind);
            (is_told("project.deleted") && is_told("operation.succeeded")).then_some(kinds)
        })
        .await;
    let count = |kind: &str| kinds.iter().filter(|k| *k == kind).count();
    assert_eq!((count("environment.created"), count("environment.deleted")), (3, 3), "{kinds:?}");
    assert_eq!((count("compute.deleted"), count("operation.cancelled")), (3, 3), "{kinds:?}");
    assert_eq!(count("operation.succeeded"), 1, "{kinds:?}");
    let left = world.database.store().counters(caller.tenant).await.unwrap();
    assert!(left.contains(&("project".to_owned(), 1)), "{left:?}");
}

async fn names_are_unique_in_their_environment(engine: Engine) {
    let world = World::new(engine).await;
    let caller = world.caller(Role::Member, Mode::Test).await;
    create(&world, &caller, wanted("web-1", &[])).await.unwrap();
    assert_eq!(code(create(&world, &caller, wanted("web-1", &[])).await), Code::Conflict);
    let again = world.cloud.create_compute(&world.grant(&caller), wanted("web-1", &[])).await.unwrap();
    let rehearsed = world.cloud.rehearse(caller.tenant, &again).await.unwrap_err();
    assert_eq!(rehearsed.code, Code::Conflict);
    let elsewhere = NewCompute {
        choice: Choice { environment: Some("prod".to_owned()), ..Choice::default() },
        ..wanted("web-1", &[])
    };
    create(&world, &caller, elsewhere).await.unwrap();
    let wrong = NewCompute {
        choice: Choice {
            region: Some("moon".to_owned()),
            size: Some("huge".to_owned()),
            image: Some("none".to_owned()),
            ..Choice::default()
        },
        ..wanted("web-2", &[])
    };
    match create(&world, &caller, wrong).await {
        Err(CommitError::Fault(fault)) => assert_eq!(fault.details.len(), 3, "{fault:?}"),
        other => panic!("{other:?}"),
    }
}
