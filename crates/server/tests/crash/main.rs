//! `kill -9` at random moments under concurrent clients: nothing acknowledged is lost, nothing happens twice, what was
//! under way goes on, and every event reaches its webhook, on both engines.
//!
//! A kill comes after a random number of acknowledged requests, so it hits whatever the others are doing then. The seed is
//! printed; `NEPHOS_TEST_SEED` repeats its choices, not the kernel's.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout)] // all of it is a test, against the real clock

mod checker;
mod clients;
#[path = "../program/program.rs"]
#[allow(dead_code)] // shared with tests that use more of it
mod program;

use std::collections::HashSet;
use std::hash::{BuildHasher as _, Hasher as _};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nephos_model::{Entropy as _, Timestamp};
use nephos_store::testing::{TestDatabase, broken};
use nephos_store::{PostgresOptions, SqliteOptions, Store};
use nephos_testkit::{Receiver, Reply, SeededEntropy};

use checker::Checker;
use clients::{Board, Client, Face, Http};
use program::{Place, Server};

const CLIENTS: u64 = 10;
/// Acknowledged requests between a start and the next kill are fewer than this.
const REQUESTS_MAX: u64 = 120;
/// Acknowledged requests after the last kill.
const REQUESTS_LAST: u64 = 100;
/// The longest lease that there is.
const LEASE_MAX: Duration = Duration::from_secs(5 * 60);

#[test]
fn fifty_kills_on_sqlite() {
    survive(50, None);
}

#[test]
fn five_kills_on_postgres() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let database = runtime.block_on(TestDatabase::postgres());
    survive(5, Some(&as_url(&database.location())));
}

fn survive(kills: u32, database: Option<&str>) {
    let seed = std::env::var("NEPHOS_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| std::collections::hash_map::RandomState::new().build_hasher().finish());
    println!("NEPHOS_TEST_SEED={seed}");
    let entropy = SeededEntropy::new(seed);
    let place = Place::new();
    let mut more = vec!["--private-targets"];
    more.extend(database.map_or_else(Vec::new, |url| vec!["--database", url]));
    let mut server = place.serve(&more);
    let http = Http::new(&place.init());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let receiver = runtime.block_on(forgetful_receiver());
    for face in [Face::Platform, Face::Sandbox] {
        let key = format!("00000000-0000-4000-8000-1{:011x}", face as u8);
        let body = serde_json::json!({"url": receiver.url()}).to_string();
        let made = http.ask(&server.url, face, "POST", "/webhooks", Some((&key, &body))).unwrap();
        assert_eq!(made.status, 201, "{}", made.body);
    }
    let live_computes = add_image(&place);
    let board = Arc::new(Board::default());
    board.publish(&server.url);
    let clients = (0..CLIENTS).map(|number| {
        let client = Client::new(number, seed.wrapping_add(1), http.clone(), Arc::clone(&board), live_computes);
        std::thread::spawn(move || client.run())
    });
    let clients: Vec<_> = clients.collect();

    for kill in 0..kills {
        let mut bytes = [0; 8];
        entropy.fill(&mut bytes);
        board.wait_for(u64::from_le_bytes(bytes) % REQUESTS_MAX);
        kill_now(server);
        // Every second time, so that the server's own recovery of the file is tested as well.
        if kill % 2 == 0 {
            assert_sound(&place, database);
        }
        server = place.serve(&more);
        board.publish(&server.url);
    }
    board.wait_for(REQUESTS_LAST);
    board.stop();
    let (mut made, mut repeated) = (Vec::new(), 0);
    for client in clients {
        let (more, again) = client.join().unwrap();
        made.extend(more);
        repeated += again;
    }
    let deleted = made.iter().filter(|made| made.deleted).count();
    println!("{} made, {deleted} deleted, {repeated} answered only at a later try", made.len());
    assert!(repeated > 0, "no kill hit a request: the test shows nothing");

    // On SQLite a process that starts knows that it is alone and ends all leases; elsewhere they run out after 90 seconds.
    let polls_max = if database.is_none() { 1 } else { 4 };
    let checker = Checker { http: &http, url: &server.url, made: &made, polls_max };
    checker.nothing_is_lost_or_twice();
    checker.replays_are_identical();
    checker.operations_end();
    checker.nothing_is_lost_or_twice();
    checker.operations_are_single();
    checker.events_are_complete();
    checker.deliveries_are_complete(|| receiver.received().iter().map(|r| r.header("webhook-id").to_owned()).collect());
    println!("{} requests were received", receiver.received().len());
    server.stop();
    assert_sound(&place, database);
}

/// A receiver that fails at first with every fifth event.
async fn forgetful_receiver() -> Receiver {
    let failed = Mutex::new(HashSet::new());
    Receiver::new(move |number, received| {
        let is_new = failed.lock().unwrap().insert(received.header("webhook-id").to_owned());
        Reply::Status(if is_new && number % 5 == 0 { 500 } else { 200 })
    })
    .await
}

fn kill_now(server: Server) {
    let pid = rustix::process::Pid::from_raw(server.pid().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let (code, log) = server.end();
    assert_eq!(code, None, "it ended before it was killed: {log}");
    assert!(!log.contains("panicked"), "{log}");
}

/// An image for live computes. Without the disk tool there is none, and only the sandbox has computes.
fn add_image(place: &Place) -> bool {
    let file = place.parent().join("empty.qcow2");
    let Ok(made) = Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&file).arg("1M").status() else {
        println!("left out: live computes, because qemu-img is not installed");
        return false;
    };
    assert!(made.success());
    let added = place.run(&["image", "add", file.to_str().unwrap(), "--name", "empty", "--min-memory-mib", "64"]);
    assert!(added.ok, "{}", added.err);
    true
}

/// The rows agree with each other.
fn assert_sound(place: &Place, database: Option<&str>) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let latest = Timestamp::from_micros(i64::try_from(now.as_micros()).unwrap()).plus(LEASE_MAX);
    let found = runtime.block_on(async {
        let store = match database {
            Some(url) => Store::open_postgres(url, PostgresOptions::default()).await,
            None => Store::open_sqlite(place.data_dir().join("nephos.db"), SqliteOptions::default()).await,
        };
        let store = store.unwrap();
        let found = broken(&store, latest).await;
        store.close().await;
        found
    });
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The URL of a database that is given as words, on a socket.
fn as_url(location: &str) -> String {
    if location.contains("://") {
        return location.to_owned();
    }
    let word = |name: &str| location.split(' ').filter_map(|w| w.strip_prefix(name)?.strip_prefix('=')).next_back();
    let [host, user, name] = ["host", "user", "dbname"].map(|name| word(name).unwrap());
    format!("postgres:///{name}?host={host}&user={user}")
}
