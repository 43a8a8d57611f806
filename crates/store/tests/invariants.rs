//! The check between rows is content with an empty database, and sees what is wrong, on both engines.

#![allow(clippy::unwrap_used)] // what fails here fails the test

use nephos_model::Timestamp;
use nephos_store::testing::{TestDatabase, broken};
use nephos_store::{Batch, Engine, MIGRATIONS, params, sql};

sql! {
    TENANT = "INSERT INTO tenants (id, workspace_id, mode, epoch, is_current, clock_ahead_us, created_at)
        VALUES (1, 'ws', 'live', 1, 1, 0, 0)";
    UNCOUNTED = "INSERT INTO ssh_keys (tenant, id, name, public_key, fingerprint, version, created_at, updated_at)
        VALUES (1, 'ssh_1', 'a', 'k', 'f', 1, 0, 0)";
    ORPHAN = "INSERT INTO work (compute_id, tenant, region, due_at, lease_owner, lease_until_at, attempts)
        VALUES ('cmp_1', 1, 'local', 7, 'somebody', $1, 0)";
}

async fn told_on(engine: Engine) {
    let database = TestDatabase::migrated(engine, MIGRATIONS).await;
    let store = database.store();
    let now = Timestamp::from_micros(1_000);
    assert_eq!(broken(store, now).await, Vec::<String>::new());
    let wrong =
        vec![TENANT.bind([]), UNCOUNTED.bind([]), ORPHAN.bind(params![now.plus(std::time::Duration::from_secs(1))])];
    store.write(Batch::from(wrong)).await.unwrap();
    assert_eq!(
        broken(store, now).await,
        [
            "COUNTED_SSH_KEYS: 1 rows, such as (1, , 1)",
            "QUOTA_SSH_KEYS: 1 rows, such as (1, , 1)",
            "WORK_FOR_NOTHING: 1 rows, such as (1, cmp_1)",
            "LEASE_WITHOUT_END: 1 rows, such as (cmp_1, somebody, 1001000)",
        ]
    );
}

#[tokio::test]
async fn what_is_wrong_is_told_on_sqlite() {
    told_on(Engine::Sqlite).await;
}

#[tokio::test]
async fn what_is_wrong_is_told_on_postgres() {
    told_on(Engine::Postgres).await;
}
