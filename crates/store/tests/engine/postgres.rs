//! What only the server engine does.

use std::time::Duration;

use nephos_store::testing::TestDatabase;
use nephos_store::{Batch, Engine, Miss, PostgresOptions, Store, StoreError, params, sql};

use super::statements::*;

sql! {
    END_THE_OTHERS = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                      WHERE datname = current_database() AND pid <> pg_backend_pid()";
    SLEEP = "SELECT CAST(pg_sleep(CAST($1 AS INT)) AS TEXT)";
    ISOLATED = "SELECT current_setting('transaction_isolation'), current_setting('synchronous_commit')";
    OPEN_TRANSACTIONS = "SELECT count(*) FROM pg_stat_activity
                         WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_connections_are_made_again() {
    let database = database(Engine::Postgres).await;
    let other = database.open_again().await;
    for round in 0..3 {
        other.read(END_THE_OTHERS.bind([])).await.unwrap();
        // Reads are repeated on another connection, so the caller does not see it.
        tokio::time::timeout(Duration::from_secs(20), async {
            loop {
                match database.store().read(COUNT.bind([])).await {
                    Ok(_) => break,
                    Err(error) => assert!(error.is_passing(), "{error}"),
                }
            }
        })
        .await
        .unwrap();
        database.store().write(thing(&format!("t{round}"), 1).into()).await.unwrap();
    }
    assert!(database.store().counts().reconnects > 0);
    assert_eq!(other.read(OPEN_TRANSACTIONS.bind([])).await.unwrap()[0].int(0).unwrap(), 0);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("host={} user=nobody", folder.path().display());
    let error = Store::open_postgres(&url, PostgresOptions::default()).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Unavailable { reason, .. } if reason.contains("cannot be reached")),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_statement_is_ended() {
    let database = TestDatabase::postgres().await;
    let options = PostgresOptions { statement_timeout_ms: 50, ..PostgresOptions::default() };
    let store = Store::open_postgres(&database.location(), options).await.unwrap();
    let error = store.read(SLEEP.bind(params![30_i64])).await.unwrap_err();
    assert!(matches!(&error, StoreError::Unavailable { reason, .. } if reason.contains("SLEEP")), "{error}");

    let options = PostgresOptions { deadline_ms: 50, connections: 1, ..PostgresOptions::default() };
    let store = Store::open_postgres(&database.location(), options).await.unwrap();
    let error = store.read(SLEEP.bind(params![30_i64])).await.unwrap_err();
    assert!(matches!(&error, StoreError::Unavailable { reason, .. } if reason.contains("50 ms")), "{error}");
}

#[tokio::test]
async fn transactions_are_isolated_and_durable() {
    let database = database(Engine::Postgres).await;
    let store = database.store();
    let setting = |rows: &[Vec<nephos_store::Row>]| rows[0][0].text(0).unwrap().to_owned();
    let read = store.read_all(vec![ISOLATED.bind([]), COUNT.bind([])]).await.unwrap();
    let write = store.write(Batch::from(vec![ISOLATED.bind([]), COUNT.bind([])])).await.unwrap();
    let serial = store.write(Batch::from(ISOLATED.bind([])).serializable()).await.unwrap();
    assert_eq!(
        [setting(&read), setting(&write), setting(&serial)],
        ["repeatable read", "read committed", "serializable"]
    );
    assert_eq!(read[0][0].text(1).unwrap(), "on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deadlocks_are_tried_again() {
    let database = database(Engine::Postgres).await;
    let store = database.store();
    store.write(Batch::new().with(thing("a", 0)).with(thing("b", 0))).await.unwrap();
    let both = |first: &'static str, second: &'static str| {
        Batch::new()
            .with(ADD.bind(params![first, 1_i64]).must(1, Miss("gone")))
            .with(ADD.bind(params![second, 1_i64]).must(1, Miss("gone")))
    };
    // Few, because the server looks for a deadlock only after a second.
    let writes = (0..6).map(|n| store.write(if n % 2 == 0 { both("a", "b") } else { both("b", "a") }));
    for answer in futures_util::future::join_all(writes).await {
        answer.unwrap();
    }
    let rows = store.read(SUM.bind([])).await.unwrap();
    assert_eq!(rows[0].int(0).unwrap(), 12);
}

#[tokio::test]
async fn its_copy_is_made_elsewhere() {
    let database = TestDatabase::postgres().await;
    let error = database.store().backup_to("/nowhere").await.unwrap_err().to_string();
    assert!(error.contains("pg_dump"), "{error}");
}
