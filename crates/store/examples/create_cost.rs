//! What a durable create costs the thread that writes: processor time and bytes written, on `SQLite`, where one thread
//! does all of it.
//!
//! ```text
//! cargo run --release -p nephos-store --example create_cost [-- FOLDER [GROUPS]]
//! ```
//! Groups of 64 SSH keys, then of 64 projects, each with all that the program writes beside them. Processor time is the
//! thread's own as the kernel counts it, so that other programs on the machine disturb it little.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![allow(clippy::print_stdout, reason = "its output is its purpose")]
#![allow(clippy::cast_precision_loss, reason = "figures of three digits")]

use std::time::{Duration, Instant};

use nephos_model::Timestamp;
use nephos_model::event::Actor;
use nephos_model::id::{Id, MemberId, Raw};
use nephos_model::project::Environment;
use nephos_model::project::Project;
use nephos_model::ssh_key::SshKey;
use nephos_model::tenant::TenantId;
use nephos_store::idempotency::{Record, Scope};
use nephos_store::{Batch, MIGRATIONS, SqliteOptions, Statement, Store, audit, counter, event, idempotency};
use sha2::{Digest, Sha256};

const TENANT: TenantId = TenantId(1);
const GROUP: u64 = 64;
const BODY: &str = r#"{"id":"ssh_01h455vb4pex5vsknk084sn02q","object":"ssh_key","name":"key 1","public_key":"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKzv9qM0dY0b2Jr2cGd1dG9iZW5jaA bench","fingerprint":"SHA256:MWZjY2FiNzg5YTIyNGI5ZmM3NmEyYjYxN2Q0","version":1,"created_at":"2026-01-01T00:00:00.000000Z","updated_at":"2026-01-01T00:00:00.000000Z"}"#;

/// Ids as the program makes them: a time of milliseconds, then chance.
fn id<T: Id>(number: u64) -> T {
    let mut bytes = [0; 16];
    let chance = Sha256::digest(number.to_be_bytes());
    bytes.copy_from_slice(&chance[..16]);
    bytes[..6].copy_from_slice(&(1_790_000_000_000_u64 + number / 20).to_be_bytes()[2..]);
    bytes[6] = (bytes[6] & 0x0f) | 0x70;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    T::from_raw(Raw::from_bytes(bytes))
}

fn told(number: u64, kind: &'static str, resource: &str, at: Timestamp) -> Statement {
    let event = event::NewEvent {
        id: id(number),
        kind,
        resource_id: resource.to_owned(),
        project_id: None,
        environment_id: None,
        version: 1,
        data: BODY.to_owned(),
        previous: None,
        actor: Actor::Key(id(2)),
        request_id: Some("0199a3b0-0000-7000-8000-000000000000".to_owned()),
        created_at: at,
    };
    event::insert(TENANT, event)
}

fn audited(number: u64, action: &'static str, resource: &str, at: Timestamp) -> Statement {
    let row = audit::NewAudit {
        id: id(number),
        action,
        resource_id: Some(resource.to_owned()),
        project_id: None,
        actor: Actor::Key(id(2)),
        member_id: Some(id(1)),
        address: Some("127.0.0.1".to_owned()),
        client_request_id: None,
        request_id: "0199a3b0-0000-7000-8000-000000000000".to_owned(),
        before: None,
        after: Some(BODY.to_owned()),
        status: 201,
        created_at: at,
    };
    audit::insert(TENANT, row)
}

fn answered(number: u64, at: Timestamp) -> Statement {
    let record = Record {
        fingerprint: vec![7; 32],
        member_id: id::<MemberId>(1),
        project_id: None,
        environment_id: None,
        status: 201,
        body: BODY.as_bytes().to_vec(),
        is_sealed: false,
        location: Some("/v1/ssh-keys/ssh_01h455vb4pex5vsknk084sn02q".to_owned()),
        etag: Some("\"1\"".to_owned()),
        preference_applied: None,
    };
    let key_hash = Sha256::digest(format!("bench-{number}")).into();
    let scope = Scope { tenant: TENANT, key_hash };
    idempotency::insert(&scope, record, at.plus(Duration::from_secs(86_400)), at)
}

fn ssh_key(number: u64, at: Timestamp) -> Batch {
    let key = SshKey {
        id: id(number),
        name: format!("key {number}"),
        public_key: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKzv9qM0dY0b2Jr2cGd1dG9iZW5jaA bench".to_owned(),
        fingerprint: format!("{:x?}", &Sha256::digest(number.to_le_bytes())[..11]),
        version: 1,
        created_at: at,
        updated_at: at,
    };
    let mut batch = Batch::from(answered(number, at));
    batch.push(counter::take(TENANT, "quota.ssh_keys", 1, i64::MAX / 2));
    batch.extend(nephos_store::ssh_key::insert(TENANT, &key));
    batch.push(told(number, "ssh_key.created", &key.id.to_string(), at));
    batch.push(audited(number, "ssh_key.create", &key.id.to_string(), at));
    batch
}

fn project(number: u64, at: Timestamp) -> Batch {
    let project = Project {
        id: id(number),
        name: format!("project {number}"),
        is_default: false,
        version: 1,
        created_at: at,
        updated_at: at,
    };
    let environments: Vec<_> = ["prod", "staging", "dev"]
        .into_iter()
        .zip(0..)
        .map(|(name, place)| Environment {
            id: id(number + (place + 1) * 1_000_000_007),
            project_id: project.id,
            name: name.to_owned(),
            version: 1,
            created_at: at,
            updated_at: at,
        })
        .collect();
    let mut batch = Batch::from(answered(number, at));
    batch.push(counter::take(TENANT, "quota.projects", 1, i64::MAX / 2));
    batch.extend(nephos_store::project::insert(TENANT, &project));
    batch.extend(environments.iter().flat_map(|e| nephos_store::environment::insert(TENANT, e)));
    batch.push(told(number, "project.created", &project.id.to_string(), at));
    batch.push(audited(number, "project.create", &project.id.to_string(), at));
    for (environment, place) in environments.iter().zip(1..) {
        batch.push(told(number + place * 3_000_000_019, "environment.created", &environment.id.to_string(), at));
    }
    batch
}

/// Processor time of the writer thread so far, in microseconds.
fn writer_us() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("threads").flatten();
    let writer = tasks
        .map(|task| task.path())
        .find(|path| std::fs::read_to_string(path.join("comm")).is_ok_and(|name| name.starts_with("store-writer")));
    let text = std::fs::read_to_string(writer.expect("a writer").join("schedstat")).expect("its time");
    text.split_whitespace().next().and_then(|ns| ns.parse::<f64>().ok()).expect("nanoseconds") / 1e3
}

/// Bytes that this process wrote so far.
fn written() -> f64 {
    let text = std::fs::read_to_string("/proc/self/io").expect("what was written");
    let line = text.lines().find_map(|line| line.strip_prefix("wchar: ")).expect("bytes");
    line.trim().parse().expect("a number")
}

async fn measure(store: &Store, name: &str, groups: u64, make: fn(u64, Timestamp) -> Batch) {
    static FIRST: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    for part in 1..=3 {
        let (time, bytes, begun) = (writer_us(), written(), Instant::now());
        let commits = store.counts().commits;
        for _ in 0..groups {
            let first = FIRST.fetch_add(GROUP, std::sync::atomic::Ordering::Relaxed);
            let at = Timestamp::from_micros(1_790_000_000_000_000 + i64::try_from(first).unwrap_or(0) * 50);
            let writes = (first..first + GROUP).map(|number| {
                let (store, batch) = (store.clone(), make(number, at));
                tokio::spawn(async move { store.write(batch).await })
            });
            for write in writes.collect::<Vec<_>>() {
                write.await.expect("no panic").expect("written");
            }
        }
        let creates = (groups * GROUP) as f64;
        println!(
            "{name}, part {part}: {:>5.1} us of the writer, {:>6.0} bytes, {:.4} commits, {:>6.0}/s",
            (writer_us() - time) / creates,
            (written() - bytes) / creates,
            (store.counts().commits - commits) as f64 / creates,
            creates / begun.elapsed().as_secs_f64()
        );
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() {
    let mut words = std::env::args().skip(1);
    let folder = words.next().map_or_else(std::env::temp_dir, Into::into);
    let groups = words.next().and_then(|word| word.parse().ok()).unwrap_or(500);
    let folder = tempfile::tempdir_in(folder).expect("a folder");
    let store = Store::open_sqlite(folder.path().join("cost.db"), SqliteOptions::default()).await.expect("a store");
    store.migrate(MIGRATIONS, 0).await.expect("a schema");
    store.write(counter::open(TENANT).collect()).await.expect("counters");
    measure(&store, "SSH keys", groups, ssh_key).await;
    measure(&store, "projects", groups, project).await;
    store.close().await;
}
