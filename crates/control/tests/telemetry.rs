//! Telemetry: minutes and hours of computes that are measured, series of those that are simulated, and requests; on both
//! engines.

#![allow(clippy::float_cmp, clippy::unwrap_used)] // a test may; these numbers are exact

use std::sync::Arc;
use std::time::Duration;

use nephos_control::caller::{Caller, ComputeRead, ComputeWrite, SandboxWrite, TelemetryRead};
use nephos_control::compute::{Choice, NewCompute};
use nephos_control::sandbox::Advance;
use nephos_control::telemetry::{Asked, Filter, GroupBy, RequestsBy};
use nephos_control::view::{TelemetryPointView, TelemetryView};
use nephos_model::Clock as _;
use nephos_model::compute::{Compute, RestartPolicy, Status};
use nephos_model::operation::Kind;
use nephos_model::role::Role;
use nephos_model::telemetry::{Counters, Traffic};
use nephos_model::tenant::Mode;
use nephos_store::Engine;
use nephos_testkit::{Durations as _, MEASURED, World};

macro_rules! on_both {
    ($($name:ident)*) => {
        mod sqlite { $(#[tokio::test] async fn $name() { super::$name(nephos_store::Engine::Sqlite).await; })* }
        mod postgres { $(#[tokio::test] async fn $name() { super::$name(nephos_store::Engine::Postgres).await; })* }
    };
}

on_both! {
    minutes_become_points_and_gaps_stay_gaps
    what_is_kept_is_bounded
    a_sandbox_has_a_series_wherever_it_ran
    requests_are_told_by_operation_and_key
    a_prometheus_is_told_what_runs
}

/// A compute that runs; the background does not, afterwards.
async fn running(world: &mut World, caller: &Arc<Caller>, name: &str, region: Option<&str>) -> Compute {
    let new = NewCompute {
        name: name.parse().unwrap(),
        choice: Choice { region: region.map(ToOwned::to_owned), ..Choice::default() },
        user_data: None,
        labels: [].into(),
        protected: false,
        restart_policy: RestartPolicy::Never,
    };
    world.start().await;
    let plan = world.cloud.create_compute(&world.grant::<ComputeWrite>(caller), new).await.unwrap();
    let id = world.cloud.commit(plan, None).await.unwrap().compute.id;
    let compute = world
        .until(|| async {
            let found = world.cloud.compute(&world.grant::<ComputeRead>(caller), id).await.unwrap();
            (found.status == Status::Running).then_some(found)
        })
        .await;
    world.halt();
    compute
}

/// Counters of a machine that uses half a processor, and sends 10 bytes each millisecond.
fn counted(life: i64, age_ms: i64) -> Counters {
    let traffic = Traffic { received_bytes: age_ms, sent_bytes: 10 * age_ms, received_packets: 0, sent_packets: 0 };
    Counters {
        life,
        age_ms,
        cpu_ms: age_ms / 2,
        memory_bytes: 64 << 20,
        disk_bytes: 1 << 30,
        disk_written_bytes: 2 * age_ms,
        network: Some(traffic),
        ..Counters::default()
    }
}

async fn until_the_next_minute(world: &World) {
    let into = world.clock.now().micros().rem_euclid(60_000_000);
    world.clock.advance(Duration::from_micros(u64::try_from(60_000_000 - into).unwrap())).await;
}

async fn points(world: &World, caller: &Arc<Caller>, compute: &Compute, asked: &Asked<'_>) -> Vec<TelemetryPointView> {
    world.cloud.compute_metrics(&world.grant::<TelemetryRead>(caller), compute.id, asked).await.unwrap().points
}

async fn summed(world: &World, caller: &Arc<Caller>, asked: &Asked<'_>, by: Option<GroupBy>) -> TelemetryView {
    let grant = world.grant::<TelemetryRead>(caller);
    world.cloud.telemetry(&grant, asked, &Filter::default(), by).await.unwrap()
}

fn written(points: &[TelemetryPointView]) -> Vec<Option<i64>> {
    points.iter().map(|p| p.disk_written_bytes).collect()
}

async fn minutes_become_points_and_gaps_stay_gaps(engine: Engine) {
    let (mut world, measured) = World::measured(engine).await;
    let caller = world.caller(Role::Member, Mode::Live).await;
    let compute = running(&mut world, &caller, "web-1", Some(MEASURED)).await;
    until_the_next_minute(&world).await;
    let start = world.clock.now();
    let other = world.replica(8);

    // It has run for long: the first look only begins. Then two minutes, one that nobody looked at, and a new start.
    measured.set(compute.id, Some(counted(1, 1_000_000)));
    world.cloud.sample().await;
    for age in [1_060_000, 1_120_000] {
        world.clock.advance(1.minutes()).await;
        measured.set(compute.id, Some(counted(1, age)));
        // Two processes on one host is nothing that may be; the second changes nothing.
        world.cloud.sample().await;
        other.sample().await;
    }
    world.clock.advance(2.minutes()).await;
    measured.set(compute.id, Some(counted(1, 1_240_000)));
    world.cloud.sample().await;
    world.clock.advance(1.minutes()).await;
    measured.set(compute.id, Some(counted(2, 30_000)));
    world.cloud.sample().await;

    let asked = Asked { from: Some(start), step: Some("1m"), ..Asked::default() };
    let told = points(&world, &caller, &compute, &asked).await;
    assert_eq!(written(&told), [Some(120_000), Some(120_000), None, None, Some(60_000)]);
    let first = &told[0];
    assert_eq!((first.measured_seconds, first.cpu_seconds, first.cpu_percent), (60.0, Some(30.0), Some(50.0)));
    assert_eq!((first.memory_bytes, first.disk_bytes), (Some(64 << 20), Some(1 << 30)));
    assert_eq!((first.network_sent_bytes, first.private_sent_bytes), (Some(600_000), None), "nobody counts that card");
    assert_eq!((told[2].measured_seconds, told[2].memory_bytes, told[2].network_sent_bytes), (0.0, None, None));
    assert_eq!((told[4].measured_seconds, told[4].memory_bytes), (30.0, Some(64 << 20)), "an average of what is known");
    let coarse = Asked { step: Some("5m"), ..asked };
    let total: i64 = written(&points(&world, &caller, &compute, &coarse).await).into_iter().flatten().sum();
    let hours: i64 = written(&points(&world, &caller, &compute, &Asked { step: Some("1h"), ..asked }).await)
        .into_iter()
        .flatten()
        .sum();
    assert_eq!((total, hours), (300_000, 300_000), "a longer step is the sum of the shorter ones");

    for by in [None, Some(GroupBy::Project), Some(GroupBy::Environment), Some(GroupBy::Region)] {
        let sum = summed(&world, &caller, &asked, by).await;
        assert_eq!(sum.groups.len(), 1, "{by:?}");
        assert_eq!(written(&sum.groups[0].points), written(&told), "{by:?}");
        assert_eq!(sum.groups[0].points[0].memory_bytes, Some(64 << 20));
    }
    let region = summed(&world, &caller, &asked, Some(GroupBy::Region)).await;
    assert_eq!(region.groups[0].key.as_deref(), Some(MEASURED));
    let grant = world.grant::<TelemetryRead>(&caller);
    let elsewhere = Filter { region: Some("local".to_owned()), ..Filter::default() };
    let none = world.cloud.telemetry(&grant, &asked, &elsewhere, None).await.unwrap();
    assert_eq!(written(&none.groups[0].points), [None; 5]);

    // Whoever is narrowed to another project sees nothing of it, and no stranger does.
    let narrowed = Arc::new(Caller { project_id: Some(world.cloud.id()), ..(*caller).clone() });
    let stranger = world.caller(Role::Owner, Mode::Live).await;
    for who in [&narrowed, &stranger] {
        let grant = world.grant::<TelemetryRead>(who);
        assert!(world.cloud.compute_metrics(&grant, compute.id, &asked).await.is_err());
        assert_eq!(written(&summed(&world, who, &asked, None).await.groups[0].points), [None; 5]);
        assert_eq!(summed(&world, who, &asked, Some(GroupBy::Project)).await.groups.len(), 0);
    }

    // It is deleted: its own points go with it, what its project used stays.
    let write = world.grant::<ComputeWrite>(&caller);
    let there = world.cloud.compute_to_change(&write, compute.id).await.unwrap();
    let plan = world.cloud.delete_compute(&write, there).await.unwrap();
    world.cloud.commit(plan, None).await.unwrap();
    assert!(world.cloud.compute_metrics(&grant, compute.id, &asked).await.is_err());
    assert_eq!(written(&summed(&world, &caller, &asked, None).await.groups[0].points), written(&told));
}

async fn what_is_kept_is_bounded(engine: Engine) {
    let (mut world, measured) = World::measured(engine).await;
    let caller = world.caller(Role::Member, Mode::Live).await;
    let compute = running(&mut world, &caller, "web-1", Some(MEASURED)).await;
    until_the_next_minute(&world).await;
    let start = world.clock.now();
    for minute in 0..3_i64 {
        measured.set(compute.id, Some(counted(1, 60_000 * (minute + 1))));
        world.cloud.sample().await;
        world.clock.advance(1.minutes()).await;
    }
    let rows = async |period_s| {
        let range = start.secs() - 3_600..start.secs() + 7_200;
        let own = world.database.store().telemetry_of_compute(caller.tenant, compute.id, period_s, range.clone()).await;
        let all = world.database.store().telemetry_of_groups(caller.tenant, period_s, range, period_s).await;
        (own.unwrap().len(), all.unwrap().len())
    };
    let hours = rows(3_600).await;
    assert_eq!((rows(60).await, hours.0), ((3, 3), hours.1), "what was started in the minute is a minute, too");
    world.clock.advance(24.hours()).await;
    world.cloud.expire_some().await.unwrap();
    assert_eq!(rows(60).await, (3, 3), "an hour of grace: a window that is asked for is whole");
    world.clock.advance(1.hours()).await;
    world.cloud.expire_some().await.unwrap();
    assert_eq!((rows(60).await, rows(3_600).await), ((0, 0), hours));
    let day = Asked { from: Some(start.minus(1.hours())), step: Some("1h"), ..Asked::default() };
    assert_eq!(written(&points(&world, &caller, &compute, &day).await).into_iter().flatten().sum::<i64>(), 360_000);
    world.clock.advance(90.days()).await;
    world.cloud.expire_some().await.unwrap();
    assert_eq!(rows(3_600).await, (0, 0));
}

async fn a_sandbox_has_a_series_wherever_it_ran(engine: Engine) {
    let mut world = World::new(engine).await;
    let caller = world.caller(Role::Member, Mode::Test).await;
    let compute = running(&mut world, &caller, "web-1", None).await;
    let ran_from = world.clock.now();
    // Its clock goes a day and a half ahead at once: nobody can have looked.
    let ahead = Duration::from_secs(36 * 3_600);
    let grant = world.grant::<SandboxWrite>(&caller);
    let plan = world.cloud.advance_sandbox_clock(&grant, Advance::Seconds(36 * 3_600)).await.unwrap();
    world.cloud.commit(plan, None).await.unwrap();
    let caller = Arc::new(Caller { clock_ahead: ahead, ..(*caller).clone() });

    let hour = points(&world, &caller, &compute, &Asked::default()).await;
    let whole = hour.len() - usize::from(world.clock.now().secs() % 60 != 0);
    assert_eq!(whole, 60);
    for point in &hour[..whole] {
        assert_eq!(point.measured_seconds, 60.0, "{point:?}");
        assert!(point.cpu_percent.is_some_and(|percent| percent > 0.0 && percent < 100.0), "{point:?}");
        assert!(point.private_received_bytes.is_some() && point.memory_bytes.is_some());
    }
    assert_ne!(hour[3].cpu_percent, hour[40].cpu_percent, "it is not a flat line");
    assert_eq!(
        points(&world, &caller, &compute, &Asked::default()).await,
        hour,
        "it is the same whenever it is asked for"
    );
    let before = Asked { from: Some(ran_from.minus(7_200.seconds())), step: Some("1h"), ..Asked::default() };
    let all = points(&world, &caller, &compute, &before).await;
    assert_eq!((written(&all)[0], written(&all)[1]), (None, None), "it did not run yet");
    let used: i64 = written(&all).into_iter().flatten().sum();
    let sum = summed(&world, &caller, &before, Some(GroupBy::Region)).await;
    assert_eq!(sum.groups[0].key.as_deref(), Some("us-east"));
    assert_eq!(written(&sum.groups[0].points).into_iter().flatten().sum::<i64>(), used);

    // Stopped, it uses nothing, and that is no zero.
    let there = world.cloud.compute(&world.grant::<ComputeRead>(&caller), compute.id).await.unwrap();
    let plan =
        world.cloud.act_on_compute(&world.grant::<ComputeWrite>(&caller), there, Kind::ComputeStop).await.unwrap();
    world.cloud.commit(plan, None).await.unwrap();
    world.clock.advance(10.minutes()).await;
    let last = points(&world, &caller, &compute, &Asked::default()).await;
    assert_eq!((last[56].cpu_seconds, last[40].cpu_seconds.is_some()), (None, true), "{last:?}");
}

async fn requests_are_told_by_operation_and_key(engine: Engine) {
    let world = World::new(engine).await;
    let caller = world.caller(Role::Member, Mode::Live).await;
    let other = Arc::new(Caller { key_id: Some(world.cloud.id()), ..(*caller).clone() });
    let person = Arc::new(Caller { key_id: None, ..(*caller).clone() });
    let took = |ms| Some(Duration::from_millis(ms));
    for n in 0..100_u64 {
        let status = match n {
            97 => 404,
            98 => 503,
            99 => 429,
            _ => 200,
        };
        world.cloud.count_answer(&caller, Some("compute.list"), status, took(n + 1));
    }
    world.cloud.count_answer(&other, Some("compute.create"), 201, took(900));
    world.cloud.count_answer(&other, Some("event.list"), 200, None);
    world.cloud.count_answer(&other, None, 404, took(1));
    world.cloud.count_answer(&person, Some("compute.list"), 200, took(1));
    let grant = world.grant::<TelemetryRead>(&caller);
    let asked = Asked::default();
    let by_operation =
        world.cloud.request_telemetry(&grant, &asked, RequestsBy::Operation, (None, None)).await.unwrap();
    let row = &by_operation.groups[0];
    assert_eq!(row.key.as_deref(), Some("compute.list"));
    assert_eq!((row.requests, row.client_errors, row.server_errors, row.rate_limited), (100, 1, 1, 1));
    assert_eq!(row.average_ms, Some(50.5));
    assert!(row.p95_ms.is_some_and(|ms| (95.0..120.0).contains(&ms)), "{row:?}");
    assert_eq!((by_operation.total.requests, by_operation.groups.len()), (103, 4), "{by_operation:?}");
    let held = by_operation.groups.iter().find(|g| g.key.as_deref() == Some("event.list")).unwrap();
    assert_eq!((held.requests, held.average_ms), (1, None), "it waited because it asked for it");
    assert!(by_operation.groups.iter().any(|g| g.key.is_none() && g.client_errors == 1), "a path that is not there");

    let by_key = world.cloud.request_telemetry(&grant, &asked, RequestsBy::ApiKey, (None, None)).await.unwrap();
    let keys: Vec<_> = by_key.groups.iter().map(|g| (g.key.clone(), g.requests)).collect();
    assert_eq!(keys, [(caller.key_id.map(|k| k.to_string()), 100), (other.key_id.map(|k| k.to_string()), 3)]);
    let only = (Some("compute.create"), other.key_id);
    let one = world.cloud.request_telemetry(&grant, &asked, RequestsBy::Operation, only).await.unwrap();
    assert_eq!((one.total.requests, one.groups.len()), (1, 1));

    let narrowed = Arc::new(Caller { project_id: Some(world.cloud.id()), ..(*other).clone() });
    let grant = world.grant::<TelemetryRead>(&narrowed);
    let own = world.cloud.request_telemetry(&grant, &asked, RequestsBy::ApiKey, (None, None)).await.unwrap();
    assert_eq!(own.total.requests, 3);
    let foreign = (None, caller.key_id);
    let none = world.cloud.request_telemetry(&grant, &asked, RequestsBy::ApiKey, foreign).await.unwrap();
    assert_eq!((none.total.requests, none.groups.len()), (0, 0));

    world.clock.advance(32.days()).await;
    world.cloud.expire_some().await.unwrap();
    let rows = world.database.store().telemetry_requests(caller.tenant, 0..i64::MAX, None, None).await.unwrap();
    assert_eq!(rows, []);
}

async fn a_prometheus_is_told_what_runs(engine: Engine) {
    let (mut world, measured) = World::measured(engine).await;
    let caller = world.caller(Role::Member, Mode::Live).await;
    let real = running(&mut world, &caller, "web-1", Some(MEASURED)).await;
    let simulated = running(&mut world, &caller, "web-2", None).await;
    measured.set(real.id, Some(counted(1, 123_456)));
    world.cloud.sample().await;
    let text = world.cloud.open_metrics(&world.grant::<TelemetryRead>(&caller)).await.unwrap();
    let line = format!(
        "nephos_compute_cpu_seconds_total{{compute=\"{}\",name=\"web-1\",project=\"{}\",environment=\"{}\",region=\"measured\",\
         size=\"{}\"}} 61.728\n",
        real.id, real.project_id, real.environment_id, real.size
    );
    assert!(text.contains(&line), "{line}{text}");
    assert!(text.contains(",network=\"outside\"} 1234560\n"), "{text}");
    assert!(text.contains(&simulated.id.to_string()) && text.ends_with("# EOF\n"), "{text}");
    let families = text.lines().filter(|line| line.starts_with("# TYPE")).count();
    assert_eq!(families, 13);

    let narrowed = Arc::new(Caller { project_id: Some(world.cloud.id()), ..(*caller).clone() });
    let nothing = world.cloud.open_metrics(&world.grant::<TelemetryRead>(&narrowed)).await.unwrap();
    assert!(!nothing.contains("cmp_") && nothing.ends_with("# EOF\n"));

    // One that nobody has looked at for minutes does not run.
    world.clock.advance(4.minutes()).await;
    let later = world.cloud.open_metrics(&world.grant::<TelemetryRead>(&caller)).await.unwrap();
    assert!(!later.contains(&real.id.to_string()) && later.contains(&simulated.id.to_string()));
}
