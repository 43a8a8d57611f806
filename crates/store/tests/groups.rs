//! Batches that share a transaction leave what each alone would have left: counters are exact, quotas hold, numbers have
//! no gaps, and whoever is refused leaves nothing of itself.

#![allow(clippy::unwrap_used)] // what fails here fails the test

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use futures_util::future::join_all;
use nephos_model::Timestamp;
use nephos_model::event::Actor;
use nephos_model::id::{Id, Raw};
use nephos_model::ssh_key::SshKey;
use nephos_model::tenant::TenantId;
use nephos_store::testing::{TestDatabase, broken};
use nephos_store::{
    Batch, Engine, MIGRATIONS, Miss, SqliteOptions, Statement, Store, audit, counter, event, params, sql,
};

const TENANT: TenantId = TenantId(1);
const QUOTA: i64 = 50;

sql! {
    OPEN = "INSERT INTO tenants (id, workspace_id, mode, epoch, is_current, clock_ahead_us, created_at)
        VALUES (1, 'ws', 'live', 1, 1, 0, 0)";
    KEYS = "SELECT COUNT(*) FROM ssh_keys WHERE tenant = 1";
    EVENTS = "SELECT seq FROM events WHERE tenant = 1 ORDER BY seq";
    AUDIT = "SELECT seq FROM audit_log WHERE tenant = 1 ORDER BY seq";
    VALUE = "SELECT value FROM counters WHERE tenant = 1 AND noun = $1 AND scope = ''";
    DOUBLE = "UPDATE counters SET value = value * 2 WHERE tenant = 1 AND noun = 'doubled' AND scope = ''";
    NOTE = "CREATE TABLE notes (id BIGINT PRIMARY KEY, body BLOB NOT NULL)";
    WRITE = "INSERT INTO notes (id, body) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET body = excluded.body";
    READ = "SELECT body FROM notes WHERE id = 1";
}

fn id<T: Id>(number: u64) -> T {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&(number + 1).to_be_bytes());
    bytes[6] = 0x70;
    bytes[7] = u8::try_from(number % 251).unwrap();
    bytes[8] = 0x80;
    bytes[9..].copy_from_slice(&number.to_be_bytes()[1..]);
    T::from_raw(Raw::from_bytes(bytes))
}

fn told(number: u64, resource_id: &str) -> [Statement; 2] {
    let (actor, created_at) = (Actor::System, Timestamp::from_micros(1));
    let event = event::NewEvent {
        id: id(number),
        kind: "ssh_key.created",
        resource_id: resource_id.to_owned(),
        project_id: None,
        environment_id: None,
        version: 1,
        data: "{}".to_owned(),
        previous: None,
        actor: actor.clone(),
        request_id: None,
        created_at,
    };
    let row = audit::NewAudit {
        id: id(number),
        action: "ssh_key.create",
        resource_id: Some(resource_id.to_owned()),
        project_id: None,
        actor,
        member_id: None,
        address: None,
        client_request_id: None,
        request_id: String::new(),
        before: None,
        after: None,
        status: 201,
        created_at,
    };
    [event::insert(TENANT, event), audit::insert(TENANT, row)]
}

/// A key whose name two others have as well.
fn create(number: u64) -> Batch {
    let key = SshKey {
        id: id(number),
        name: format!("key {}", number / 3),
        public_key: "k".to_owned(),
        fingerprint: number.to_string(),
        version: 1,
        created_at: Timestamp::from_micros(1),
        updated_at: Timestamp::from_micros(1),
    };
    let mut batch = Batch::from(counter::take(TENANT, "quota.ssh_keys", 1, QUOTA));
    batch.extend(nephos_store::ssh_key::insert(TENANT, &key));
    batch.extend(told(number, &key.id.to_string()));
    batch
}

async fn value(store: &Store, noun: &str) -> i64 {
    store.read(VALUE.bind(params![noun])).await.unwrap().first().map_or(0, |row| row.int(0).unwrap())
}

async fn numbers(store: &Store, statement: Statement) -> Vec<i64> {
    store.read(statement).await.unwrap().iter().map(|row| row.int(0).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn creates_of_which_most_are_refused() {
    let database = TestDatabase::migrated(Engine::Sqlite, MIGRATIONS).await;
    let store = database.store();
    store.write(std::iter::once(OPEN.bind([])).chain(counter::open(TENANT)).collect()).await.unwrap();
    let ended = join_all((0..200).map(|number| store.write(create(number)))).await;
    let made = i64::try_from(ended.iter().filter(|end| end.is_ok()).count()).unwrap();
    let missed = |miss: Miss| ended.iter().filter(|end| end.as_ref().is_err_and(|e| e.missed() == Some(miss))).count();
    let refused = missed(counter::QUOTA) + missed(nephos_store::ssh_key::TAKEN);
    assert_eq!((made, refused), (QUOTA, 150));
    assert_eq!(numbers(store, KEYS.bind([])).await, [QUOTA]);
    assert_eq!([value(store, "ssh_key").await, value(store, "quota.ssh_keys").await], [QUOTA; 2]);
    assert_eq!(value(store, "event").await, QUOTA);
    let all: Vec<i64> = (1..=QUOTA).collect();
    assert_eq!(numbers(store, EVENTS.bind([])).await, all);
    assert_eq!(numbers(store, AUDIT.bind([])).await, all);
    assert_eq!(broken(store, Timestamp::from_micros(1)).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_finds_what_was_added_before_it() {
    let database = TestDatabase::migrated(Engine::Sqlite, MIGRATIONS).await;
    let store = database.store();
    let add = || counter::add(TENANT, "doubled", "", 1);
    let batch = Batch::from(vec![add(), add(), DOUBLE.bind([]).must(1, Miss("not there")), add()]);
    store.write(batch).await.unwrap();
    assert_eq!(value(store, "doubled").await, 5);
    // One that is undone takes what it added with it, and nothing of the others.
    let undone = |number: u64| {
        let mut batch = Batch::from(vec![add(), DOUBLE.bind([])]);
        batch.extend(told(number, "ssh_1"));
        batch.push(DOUBLE.bind([]).must(7, Miss("never")));
        batch
    };
    let writes = (0..60).map(|n| if n % 2 == 0 { undone(n) } else { Batch::from(add()) });
    let ended = join_all(writes.map(|batch| store.write(batch))).await;
    assert_eq!(ended.iter().filter(|end| end.is_ok()).count(), 30);
    assert_eq!(value(store, "doubled").await, 35);
    assert_eq!(numbers(store, EVENTS.bind([])).await, Vec::<i64>::new());
}

async fn alone(folder: &std::path::Path) -> Arc<Store> {
    let options = SqliteOptions { alone: true, ..SqliteOptions::default() };
    let store = Store::open_sqlite(folder.join("state.db"), options).await.unwrap();
    store.write(NOTE.bind([]).into()).await.unwrap();
    Arc::new(store)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_snapshot_is_never_older_than_what_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    let store = alone(folder.path()).await;
    let answered = Arc::new(AtomicI64::new(0));
    let (writing, told) = (store.clone(), answered.clone());
    let writer = tokio::spawn(async move {
        for n in 1..=500_i64 {
            writing.write(WRITE.bind(params![n.to_be_bytes()]).into()).await.unwrap();
            told.store(n, Ordering::SeqCst);
        }
    });
    let readers = (0..3).map(|_| {
        let (store, answered) = (store.clone(), answered.clone());
        tokio::spawn(async move {
            loop {
                let least = answered.load(Ordering::SeqCst);
                let rows = store.read(READ.bind([])).await.unwrap();
                let found = rows.first().map_or(0, |row| i64::from_be_bytes(row.blob(0).unwrap().try_into().unwrap()));
                assert!(found >= least, "{found} after {least} was answered");
                if least == 500 {
                    return;
                }
                tokio::task::yield_now().await;
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    writer.await.unwrap();
    for reader in readers {
        reader.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kept_snapshots_let_the_log_begin_anew() {
    let folder = tempfile::tempdir().unwrap();
    let store = alone(folder.path()).await;
    for n in 0..160_u8 {
        store.write(WRITE.bind(params![vec![n; 1024 * 1024]]).into()).await.unwrap();
        assert_eq!(store.read(READ.bind([])).await.unwrap()[0].blob(0).unwrap()[0], n);
    }
    let log = std::fs::metadata(folder.path().join("state.db-wal")).unwrap().len();
    assert!(log < 100 * 1024 * 1024, "the log has {log} bytes after 160 MiB were written");
    store.close().await;
}
