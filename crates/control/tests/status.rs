//! What is told of the installation is what was measured, on both engines.

#![allow(clippy::unwrap_used)] // a test may

use std::time::Duration;

use nephos_control::view::StatusView;
use nephos_model::{Clock as _, Code};
use nephos_store::Engine;
use nephos_testkit::World;

const MINUTE: Duration = Duration::from_secs(60);

async fn status(world: &World) -> std::sync::Arc<StatusView> {
    world.cloud.public_status().await.unwrap()
}

async fn beat_for(world: &World, minutes: u32) {
    for _ in 0..minutes {
        world.cloud.beat().await.unwrap();
        world.clock.advance(MINUTE).await;
    }
}

async fn an_outage_is_told(engine: Engine) {
    let world = World::new(engine).await;
    let nothing = status(&world).await;
    assert_eq!((nothing.measured_since.as_deref(), nothing.periods[0].uptime_percent), (None, None));
    assert_eq!((nothing.periods[0].average_ms, nothing.status), (None, "operational"));

    for ms in [1, 2, 3] {
        world.cloud.measure_answer(Duration::from_millis(ms));
    }
    beat_for(&world, 90).await;
    let good = status(&world).await;
    assert!(good.measured_since.is_some());
    assert_eq!(good.periods.iter().map(|p| p.period).collect::<Vec<_>>(), ["24h", "7d", "30d", "90d"]);
    assert!(good.periods.iter().all(|p| p.uptime_percent == Some(100.0)), "{good:?}");
    assert_eq!(good.periods[0].average_ms, Some(2.0));
    assert_eq!(good.regions.iter().map(|r| (&*r.name, r.available)).collect::<Vec<_>>(), [("local", true)]);
    assert_eq!(good.regions[0].periods[3].uptime_percent, Some(100.0));

    // Nobody was there for an hour and a half; another process is there now, and knows.
    world.clock.advance(MINUTE * 90).await;
    let replica = world.replica(11);
    replica.beat().await.unwrap();
    let after = replica.public_status().await.unwrap();
    assert_eq!(after.periods[0].uptime_percent, Some(50.0));
    assert_eq!(after.regions[0].periods[0].uptime_percent, Some(50.0));
    assert_eq!(after.measured_since, good.measured_since);
    // Two processes in one minute are one minute, and the sum of their answers.
    world.cloud.measure_answer(Duration::from_millis(10));
    world.cloud.beat().await.unwrap();
    world.clock.advance(MINUTE).await;
    assert_eq!(status(&world).await.periods[0].average_ms, Some(4.0));

    // After the retention it is still known when measuring began.
    world.clock.advance(MINUTE * 60 * 24 * 120).await;
    // What is old is forgotten at the start of an hour.
    let into = u32::try_from(world.clock.now().secs() / 60 % 60).unwrap();
    world.clock.advance(MINUTE * (60 - into)).await;
    world.cloud.beat().await.unwrap();
    world.clock.advance(MINUTE).await;
    let late = status(&world).await;
    assert_eq!(late.measured_since, good.measured_since);
    assert_eq!((late.periods[0].uptime_percent, late.periods[0].average_ms), (Some(0.069), None));
}

async fn incidents_are_told(engine: Engine) {
    let world = World::new(engine).await;
    let cloud = &world.cloud;
    let wrong = cloud.open_incident("", "awful", &["mars".to_owned()], "x").await.unwrap_err();
    assert_eq!((wrong.code, wrong.details.len()), (Code::BadRequest, 3), "{wrong}");
    let told = cloud.open_incident("Slow disks", "minor", &["local".to_owned()], "Looking.").await.unwrap();
    assert_eq!((&*told.status, &*told.impact, told.updates.len()), ("investigating", "minor", 1));
    assert_eq!(status(&world).await.status, "degraded");
    let critical = cloud.open_incident("Fire", "critical", &[], "Out.").await.unwrap();
    assert_eq!(status(&world).await.status, "outage");
    assert_eq!(cloud.update_incident(&critical.id, "done", "").await.unwrap_err().details.len(), 2);
    world.clock.advance(MINUTE).await;
    cloud.update_incident(&critical.id, "resolved", "Out again.").await.unwrap();
    let over = cloud.update_incident(&critical.id, "monitoring", "?").await.unwrap_err();
    assert_eq!(over.code, Code::Conflict);
    assert_eq!(cloud.update_incident("inc_x", "resolved", "?").await.unwrap_err().code, Code::ResourceNotFound);
    let shown = status(&world).await;
    assert_eq!(
        shown.incidents.iter().map(|i| (&*i.title, i.resolved_at.is_some())).collect::<Vec<_>>(),
        [("Slow disks", false), ("Fire", true)]
    );
    assert_eq!(shown.incidents[1].updates.len(), 2);
    world.clock.advance(MINUTE * 60 * 24 * 91).await;
    assert_eq!(cloud.incidents().await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_outage_is_told_sqlite() {
    an_outage_is_told(Engine::Sqlite).await;
}

#[tokio::test]
async fn an_outage_is_told_postgres() {
    an_outage_is_told(Engine::Postgres).await;
}

#[tokio::test]
async fn incidents_are_told_sqlite() {
    incidents_are_told(Engine::Sqlite).await;
}

#[tokio::test]
async fn incidents_are_told_postgres() {
    incidents_are_told(Engine::Postgres).await;
}
