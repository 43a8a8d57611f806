//! Starts, stops and what comes between.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::program::{Place, get};

#[test]
fn ready_before_there_is_a_workspace() {
    let place = Place::new();
    let server = place.serve(&[]);
    assert_eq!(server.get("/healthz", None).0, 200);
    assert_eq!(server.get("/readyz", None).0, 200);
    assert_eq!(server.get("/v1/me", None).0, 401);
    let details = format!("http://{}", server.details.clone().unwrap());
    let (status, body) = get(&details, "/readyz", None);
    assert_eq!((status, serde_json::from_str::<Value>(&body).unwrap()["ready"].clone()), (200, json!(true)));
    assert!(get(&details, "/metrics", None).1.contains("\nnephos_ready 1\n"));
    assert_eq!(get(&details, "/v1/me", None).0, 404);
    server.stop();
    assert!(!place.data_dir().join("admin.sock").exists());
}

#[test]
fn a_second_server_is_told_who_is_there() {
    let place = Place::new();
    let server = place.serve(&[]);
    let (code, log) = place.spawn(&[]).end();
    assert_eq!(code, Some(1));
    assert!(log.contains(&format!("process {} already runs", server.pid())) && log.contains("--data-dir"), "{log}");
    assert_eq!(server.get("/healthz", None).0, 200);
}

#[test]
fn a_stop_finishes_what_was_begun() {
    let place = Place::new();
    let key = place.init()["live_key"].as_str().unwrap().to_owned();
    let mut server = place.serve(&[]);
    // The head is sent, the body follows when the server is stopping.
    let mut stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let body = r#"{"name":"late"}"#;
    let head = format!(
        "POST /v1/projects HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nexpect: 100-continue\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    // The server asks for the body: the request is under way.
    let mut buffer = [0; 64];
    let read = stream.read(&mut buffer).unwrap();
    assert!(buffer[..read].starts_with(b"HTTP/1.1 100 "), "{:?}", String::from_utf8_lossy(&buffer[..read]));
    server.signal("TERM");
    server.wait_for_line("stopping");
    stream.write_all(body.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    let (code, log) = server.end();
    assert_eq!(code, Some(0), "{log}");

    let server = place.serve(&[]);
    assert!(server.get("/v1/projects", Some(&key)).1.contains("\"late\""));
}

#[test]
fn a_hang_up_changes_nothing() {
    let place = Place::new();
    let mut server = place.serve(&[]);
    server.signal("HUP");
    server.wait_for_line("SIGHUP");
    assert_eq!(server.get("/readyz", None).0, 200);
    server.stop();
}

#[test]
fn a_killed_server_starts_again_with_all_it_had() {
    let place = Place::new();
    let key = place.init()["live_key"].as_str().unwrap().to_owned();
    let server = place.serve(&[]);
    let run = |url: &str, words: &[&str]| {
        let done = place.command(words).env("CLOUD_API_KEY", &key).env("NEPHOS_URL", url).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        serde_json::from_slice::<Value>(&done.stdout).unwrap()
    };
    let made = run(&server.url, &["projects", "create", "kept", "--output", "json"]);
    server.signal("KILL");
    assert_eq!(server.end().0, None);

    let server = place.serve(&[]);
    let found = run(&server.url, &["projects", "get", "kept", "--output", "json"]);
    assert_eq!(found["id"], made["id"]);
    server.stop();
}

#[test]
fn log_lines_are_json_when_asked() {
    let place = Place::new();
    let mut server = place.spawn(&["--log", "json"]);
    let ready: Value = serde_json::from_str(&server.wait_for_line("\"ready\"")).unwrap();
    assert!(ready["url"].as_str().unwrap().starts_with("http://127.0.0.1:"), "{ready}");
    server.stop();
}

#[test]
fn the_database_is_copied_while_the_server_runs_and_put_back_when_it_does_not() {
    let place = Place::new();
    let key = place.init()["live_key"].as_str().unwrap().to_owned();
    let copy = place.parent().join("copy.db");
    let copy = copy.to_str().unwrap();
    let server = place.serve(&[]);
    assert!(place.run(&["backup", copy]).ok);
    let again = place.run(&["backup", copy]);
    assert!(!again.ok && again.err.contains("is there already"), "{}", again.err);
    let running = place.run(&["restore", copy, "--force"]);
    assert!(!running.ok && running.err.contains(&server.pid().to_string()), "{}", running.err);
    server.stop();

    let unforced = place.run(&["restore", copy]);
    assert!(!unforced.ok && unforced.err.contains("--force"), "{}", unforced.err);
    let junk = place.parent().join("junk.db");
    std::fs::write(&junk, "not a database at all").unwrap();
    let refused = place.run(&["restore", junk.to_str().unwrap(), "--force"]);
    assert!(!refused.ok && refused.err.contains("no copy of a nephos database"), "{}", refused.err);
    // An empty file is a valid SQLite database, and not ours.
    std::fs::write(&junk, "").unwrap();
    let refused = place.run(&["restore", junk.to_str().unwrap(), "--force"]);
    assert!(!refused.ok && refused.err.contains("no schema of this program"), "{}", refused.err);

    let restored = place.run(&["restore", copy, "--force", "--output", "json"]);
    assert!(restored.ok, "{}", restored.err);
    assert!(std::path::Path::new(restored.json()["replaced_copy"].as_str().unwrap()).is_file());

    // Elsewhere it needs the master key that belongs to it: nothing is put in place, and no other key is made.
    let elsewhere = Place::new();
    let keyless = elsewhere.run(&["restore", copy]);
    assert!(!keyless.ok && keyless.err.contains("keys/master"), "{}", keyless.err);
    let other = elsewhere.data_dir();
    assert!(!other.join("keys/master").exists() && !other.join("nephos.db").exists(), "{}", keyless.err);
    std::fs::copy(place.data_dir().join("keys/master"), other.join("keys/master")).unwrap();
    let keyed = elsewhere.run(&["restore", copy]);
    assert!(keyed.ok, "{}", keyed.err);
    let server = place.serve(&[]);
    assert_eq!(server.get("/v1/projects", Some(&key)).0, 200);
}

#[test]
fn doctor_tells_about_a_running_server() {
    let place = Place::new();
    let server = place.serve(&[]);
    let done = place.run(&["doctor", "--driver", "simulator", "--output", "json"]);
    let report = done.json();
    let sentence = |name: &str| {
        let found = report["findings"].as_array().unwrap().iter().find(|f| f["name"] == name).unwrap();
        found["sentence"].as_str().unwrap().to_owned()
    };
    assert!(sentence("data folder").contains(&server.pid().to_string()));
    assert!(sentence("port").contains(&server.url));
    assert!(sentence("database").contains("answers"));
    assert_eq!((report["fit"].clone(), done.code), (json!(true), Some(0)));
}
