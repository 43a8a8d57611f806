//! PostgreSQL behind the whole program: what is wrong with its address is told, and replicas share it.

#![allow(clippy::unwrap_used)] // all of it is a test

#[path = "program/program.rs"]
#[allow(dead_code)] // shared with tests that use more of it
mod program;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use nephos_store::testing::TestDatabase;
use serde_json::{Value, json};

use program::Place;

const WAIT_MAX: Duration = Duration::from_secs(30);
/// Requests with each key that are sent at once, half of them to each replica.
const TOGETHER: usize = 8;
const KEYS: usize = 10;

/// An empty database and its URL.
fn database() -> (TestDatabase, String) {
    let database = tokio::runtime::Runtime::new().unwrap().block_on(TestDatabase::postgres());
    let location = database.location();
    if location.contains("://") {
        return (database, location);
    }
    let word = |name: &str| location.split(' ').filter_map(|w| w.strip_prefix(name)?.strip_prefix('=')).next_back();
    let [host, user, name] = ["host", "user", "dbname"].map(|name| word(name).unwrap().to_owned());
    (database, format!("postgres:///{name}?host={host}&user={user}"))
}

#[test]
fn a_database_that_is_not_there_is_named() {
    let (database, url) = database();
    let name = database.folder().file_name().unwrap().to_str().unwrap().to_owned();
    let place = Place::new();
    let (code, log) = place.spawn(&["--database", &url.replace(&name, "nowhere")]).end();
    assert_eq!(code, Some(1));
    assert!(log.contains("nowhere") && log.contains("--database"), "{log}");
    let (code, log) = place.spawn(&["--database", &url.replace("user=", "user=nobody_of_that_name_")]).end();
    assert_eq!(code, Some(1));
    assert!(log.contains("nobody_of_that_name_") && log.contains("--database"), "{log}");
}

#[test]
fn replicas_that_start_at_once_are_one_cloud() {
    let (_database, url) = database();
    let (one, two) = (Place::new(), Place::new());
    let key_file = one.parent().join("master");
    std::fs::write(&key_file, "5a".repeat(32)).unwrap();
    std::fs::set_permissions(&key_file, PermissionsExt::from_mode(0o600)).unwrap();
    let variables = [("NEPHOS_MASTER_KEY_FILE", key_file.to_str().unwrap())];
    let more = ["--database", url.as_str()];
    // Both find an empty database.
    let servers = std::thread::scope(|scope| {
        let starts = [&one, &two].map(|place| scope.spawn(|| place.serve_with(&more, &variables)));
        starts.map(|start| start.join().unwrap())
    });
    let key = one.init()["live_key"].as_str().unwrap().to_owned();
    let again = two.run(&["init", "--workspace", "Other", "--owner", "bob@example.com"]);
    assert!(!again.ok && again.err.contains("already"), "{}", again.err);

    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(WAIT_MAX)).build().into();
    let post = |url: &str, number: usize| {
        let request = agent.post(format!("{url}/v1/projects")).header("authorization", format!("Bearer {key}"));
        let request = request.header("content-type", "application/json");
        let request = request.header("idempotency-key", format!("key-{number}"));
        let mut answer = request.send(json!({"name": format!("p-{number}")}).to_string()).unwrap();
        (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
    };
    for number in 0..KEYS {
        let answers: Vec<(u16, String)> = std::thread::scope(|scope| {
            let urls = servers.iter().map(|server| server.url.as_str()).cycle().take(TOGETHER);
            let asked: Vec<_> = urls.map(|url| scope.spawn(move || post(url, number))).collect();
            asked.into_iter().map(|answer| answer.join().unwrap()).collect()
        });
        // In one replica a second request is told to wait; between replicas the loser answers what the winner did.
        assert!(answers.iter().all(|(status, _)| matches!(status, 201 | 409)), "{answers:?}");
        let bodies: BTreeSet<&str> = answers.iter().filter(|(s, _)| *s == 201).map(|(_, b)| b.as_str()).collect();
        assert_eq!(bodies.len(), 1, "{answers:?}");
    }
    for server in &servers {
        let (status, body) = server.get("/v1/projects?limit=100", Some(&key));
        let total = serde_json::from_str::<Value>(&body).unwrap()["meta"]["total"].clone();
        assert_eq!((status, total), (200, json!(KEYS + 1)));
    }
    for server in servers {
        server.stop();
    }

    // A third that would seal with another key is refused.
    let (code, log) = Place::new().spawn(&more).end();
    assert_eq!(code, Some(1));
    assert!(log.contains("master key"), "{log}");
}
