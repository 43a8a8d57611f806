//! What is past its retention is removed and no longer counted, on both engines.

#![allow(clippy::unwrap_used)] // a test may

use std::time::Duration;

use nephos_control::caller::{ComputeWrite, EventRead, OperationRead};
use nephos_control::compute::{Choice, NewCompute};
use nephos_control::operation::Filter;
use nephos_model::compute::RestartPolicy;
use nephos_model::page::Page;
use nephos_model::role::Role;
use nephos_model::tenant::Mode;
use nephos_store::{Engine, event};
use nephos_testkit::World;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

async fn totals_follow(engine: Engine) {
    let world = World::new(engine).await;
    let background = world.cloud.start().await.unwrap();
    let caller = world.caller(Role::Owner, Mode::Test).await;
    let new = NewCompute {
        name: "web-1".parse().unwrap(),
        choice: Choice::default(),
        user_data: None,
        labels: std::collections::BTreeMap::default(),
        protected: false,
        restart_policy: RestartPolicy::Never,
    };
    let plan = world.cloud.create_compute(&world.grant::<ComputeWrite>(&caller), new).await.unwrap();
    let begun = world.cloud.commit(plan, None).await.unwrap();
    let (operations, events) = (world.grant::<OperationRead>(&caller), world.grant::<EventRead>(&caller));
    let totals = || async {
        let page = Page { limit: 100, ..Page::default() };
        let operations = world.cloud.operations(&operations, Filter::default(), &page).await.unwrap();
        let events = world.cloud.events(&events, event::Filter::default(), &page).await.unwrap();
        assert_eq!(operations.total, i64::try_from(operations.items.len()).unwrap());
        assert_eq!(events.total, i64::try_from(events.items.len()).unwrap());
        (operations.total, events.total)
    };
    world
        .until(|| async {
            let operation = world.cloud.operation(&operations, begun.operation.id).await.unwrap();
            (operation.status.ended() && totals().await.1 > 0).then_some(())
        })
        .await;

    // Without the background the clock has nobody to wake on the way.
    background.stop().await;
    world.clock.advance(31 * DAY).await;
    world.cloud.expire_some().await.unwrap();
    assert_eq!(totals().await, (1, 0));
    world.clock.advance(60 * DAY).await;
    world.cloud.expire_some().await.unwrap();
    assert_eq!(totals().await, (0, 0));
}

#[tokio::test]
async fn totals_follow_on_sqlite() {
    totals_follow(Engine::Sqlite).await;
}

#[tokio::test]
async fn totals_follow_on_postgres() {
    totals_follow(Engine::Postgres).await;
}
