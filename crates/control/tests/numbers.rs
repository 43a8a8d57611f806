//! Events and audit rows have consecutive numbers, and audit rows a chain that can be checked, on both engines: where
//! rows are numbered as they are written, and where a sequencer numbers them afterwards.

#![allow(clippy::unwrap_used)] // a test may

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nephos_control::caller::{Caller, EventRead, SshKeyWrite};
use nephos_control::plan::CommitError;
use nephos_model::Code;
use nephos_model::page::Page;
use nephos_model::role::Role;
use nephos_model::tenant::Mode;
use nephos_store::sequence::link;
use nephos_store::{Engine, event, sql};
use nephos_testkit::World;

sql! {
    AUDIT_ALL = "SELECT id, tenant, action, resource_id, project_id, actor_kind, actor_id, member_id, address,
        client_request_id, request_id, before_state, after_state, status, created_at, seq, chain FROM audit_log
        ORDER BY tenant, seq";
    EVENTS_ALL = "SELECT tenant, seq FROM events ORDER BY tenant, seq";
    LAST = "SELECT tenant, event_seq, audit_seq, audit_chain FROM sequences ORDER BY tenant";
}

/// Keys of which some have a name that is taken: their batches are undone, in groups with others.
async fn creates(world: &World, caller: &Arc<Caller>, first: u32) -> (usize, usize) {
    let made = futures_util::future::join_all((first..first + 60).map(|n| async move {
        let mut blob = Vec::new();
        for part in [&b"ssh-ed25519"[..], &[n.to_be_bytes(); 8].concat()] {
            blob.extend_from_slice(&u32::try_from(part.len()).unwrap().to_be_bytes());
            blob.extend_from_slice(part);
        }
        let line = format!("ssh-ed25519 {}", STANDARD.encode(&blob));
        let key = nephos_model::ssh_key::PublicKey::parse(&line).unwrap();
        let name = format!("key {}", if n % 3 == 0 { first } else { n }).parse().unwrap();
        let grant = world.grant::<SshKeyWrite>(caller);
        let plan = world.cloud.create_ssh_key(&grant, &name, &key).await.unwrap();
        world.cloud.commit(plan, None).await
    }))
    .await;
    let taken = made.iter().filter(|m| matches!(m, Err(CommitError::Fault(f)) if f.code == Code::Conflict)).count();
    (made.iter().filter(|m| m.is_ok()).count(), taken)
}

/// The length of each column before it, then its bytes; none is the largest length.
fn content(row: &nephos_store::Row) -> Vec<u8> {
    let mut content = Vec::new();
    for column in 0..15 {
        let text = match row.int(column) {
            Ok(number) => Some(number.to_string()),
            Err(_) => row.opt_text(column).unwrap().map(str::to_owned),
        };
        let length = text.as_ref().map_or(u64::MAX, |t| t.len() as u64);
        content.extend_from_slice(&length.to_be_bytes());
        content.extend_from_slice(text.unwrap_or_default().as_bytes());
    }
    content
}

async fn numbers_have_no_gaps(engine: Engine) {
    let world = World::new(engine).await;
    let live = world.caller(Role::Owner, Mode::Live).await;
    let test = world.caller(Role::Owner, Mode::Test).await;
    let (of_live, of_test) = tokio::join!(creates(&world, &live, 999), creates(&world, &test, 3000));
    assert_eq!((of_live, of_test), ((41, 19), (41, 19)));
    let store = world.database.store();
    if store.numbers_at_once() {
        assert_eq!(world.cloud.sequence_some().await.unwrap(), 0, "nothing waits");
    } else {
        while world.cloud.sequence_some().await.unwrap() > 0 {}
    }

    let last = store.read(LAST.bind([])).await.unwrap();
    let (audit, events) =
        (store.read(AUDIT_ALL.bind([])).await.unwrap(), store.read(EVENTS_ALL.bind([])).await.unwrap());
    for tenant in [live.tenant.0, test.tenant.0] {
        let last = last.iter().find(|row| row.int(0).unwrap() == tenant).unwrap();
        let seqs: Vec<i64> =
            events.iter().filter(|row| row.int(0).unwrap() == tenant).map(|row| row.int(1).unwrap()).collect();
        assert_eq!(seqs, (1..=last.int(1).unwrap()).collect::<Vec<_>>());
        assert!(seqs.len() >= 41, "{}", seqs.len());

        let mut chain = vec![0; 32];
        let rows: Vec<_> = audit.iter().filter(|row| row.int(1).unwrap() == tenant).collect();
        for (row, seq) in rows.iter().zip(1_i64..) {
            assert_eq!(row.int(15).unwrap(), seq);
            chain = link(&chain, seq, &content(row));
            assert_eq!(row.blob(16).unwrap(), chain, "row {seq}");
        }
        assert_eq!((last.int(2).unwrap(), last.blob(3).unwrap()), (i64::try_from(rows.len()).unwrap(), &chain[..]));
    }
    let listed =
        world.cloud.events(&world.grant::<EventRead>(&live), event::Filter::default(), &Page::default()).await.unwrap();
    let of_live = events.iter().filter(|row| row.int(0).unwrap() == live.tenant.0).count();
    assert_eq!(listed.total, i64::try_from(of_live).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_have_no_gaps_on_sqlite() {
    numbers_have_no_gaps(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_have_no_gaps_on_postgres() {
    numbers_have_no_gaps(Engine::Postgres).await;
}
