//! Counted requests and metered time.

use std::sync::Arc;
use std::time::Duration;

use nephos_control::api_key::NewApiKey;
use nephos_control::budget::{Class, SurfaceBudget};
use nephos_control::caller::{Caller, UsageRead};
use nephos_control::usage::FLUSH_EVERY;
use nephos_control::view::ProjectUsageView;
use nephos_model::clock::Month;
use nephos_model::id::{Id, ProjectId};
use nephos_model::page::Page;
use nephos_model::role::Role;
use nephos_model::tenant::Mode;
use nephos_model::{Clock, Code};
use nephos_store::Engine;
use nephos_store::meter::Meter;
use nephos_testkit::{Durations, World};

use crate::{HERE, delete, installed, live, mint, new_key, project};

on_both! {
    an_end_in_order_keeps_counts_and_windows
    a_crash_loses_the_counts_of_five_seconds_at_most
    requests_are_counted_by_project
    metered_time_becomes_an_exact_report
    usage_of_a_past_month_and_of_deleted_projects
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
    assert_eq!(next.usage(&world.grant::<UsageRead>(&owner), None, None).await.unwrap().requests, 120);
    drop(background);

    // A crash empties the windows.
    let after_crash = world.replica(9);
    let _background = after_crash.start().await.unwrap();
    assert!(after_crash.admit(&owner, SurfaceBudget::Platform, Class::Read).refused.is_none());
}

async fn a_crash_loses_the_counts_of_five_seconds_at_most(engine: Engine) {
    let (world, made) = installed(engine).await;
    let background = world.cloud.start().await.unwrap();
    // Its tasks begin before anything is counted.
    world.clock.advance(1.seconds()).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    for _ in 0..10 {
        world.cloud.count_request(&owner, SurfaceBudget::Platform, None);
    }
    world.clock.advance(FLUSH_EVERY).await;
    // The store's thread takes its time: it is asked until it has them.
    let written = async || {
        let days = (world.clock.now().day(), world.clock.now().day() + 1);
        let rows = world.database.store().requests_by_project(owner.tenant, days.0, days.1, None).await.unwrap();
        rows.iter().map(|(_, requests)| requests).sum::<i64>()
    };
    let mut looks = 0;
    while written().await < 10 {
        looks += 1;
        tokio::task::yield_now().await;
        assert!(looks < 100_000, "counts are written every {FLUSH_EVERY:?}");
    }
    for _ in 0..3 {
        world.cloud.count_request(&owner, SurfaceBudget::Platform, None);
    }
    // Killed: nobody writes what waited.
    drop(background);
    let next = world.replica(8);
    let owner = next.authenticate(made.live_key.expose(), Mode::Live, HERE).await.unwrap();
    assert_eq!(next.usage(&world.grant::<UsageRead>(&owner), None, None).await.unwrap().requests, 10);
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

    let report = world.cloud.usage(&world.grant::<UsageRead>(&owner), None, None).await.unwrap();
    assert_eq!((report.month.as_str(), report.requests, report.projects), ("2026-01", 9, 3));
    assert_eq!((report.compute_seconds, report.amount_microunits, report.currency.as_str()), (0, Some(0), "EUR"));
    let rows: Vec<_> = report.by_project.iter().map(|r| (r.project_name.as_deref(), r.requests)).collect();
    assert_eq!(rows, [(None, 2), (Some("alpha"), 6), (Some("beta"), 1)]);
    assert_eq!(world.cloud.usage(&world.grant(&owner), None, None).await.unwrap(), report, "nothing is counted twice");

    let mut member = (*narrowed).clone();
    member.role = Role::Member;
    let report = world.cloud.usage(&world.grant(&Arc::new(member)), None, None).await.unwrap();
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
    let report = world.cloud.usage(&world.grant::<UsageRead>(&owner), None, None).await.unwrap();
    // 1,800 s at 1,000, then 61 s at 3,600 and 61 s at 7 micro-units an hour.
    assert_eq!((report.compute_seconds, report.amount_microunits), (1_800 + 61 + 61, Some(500 + 61)));
    assert_eq!(report.by_project.iter().map(|r| r.compute_seconds).sum::<i64>(), report.compute_seconds);

    // Test mode has the seconds and no price.
    let sandbox = world.cloud.authenticate(made.test_key.expose(), Mode::Test, HERE).await.unwrap();
    let first = world.cloud.projects(&world.grant(&sandbox), None, &Page::default()).await.unwrap().items[0].id;
    meter(&world, &sandbox, world.cloud.id(), first, 1_000_000).await;
    world.clock.advance(1.hours()).await;
    let report = world.cloud.usage(&world.grant::<UsageRead>(&sandbox), None, None).await.unwrap();
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
        async move { world.cloud.usage(&grant, Month::parse(month), None).await }
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
