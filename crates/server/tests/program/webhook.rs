//! Webhooks of the whole program: signatures as a public library reads them, the switch for private addresses, and the
//! stream of events on the command line.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use nephos_testkit::{Receiver, Reply};
use serde_json::{Value, json};

use crate::program::Place;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[test]
fn a_public_library_verifies_what_is_sent() {
    let runtime = runtime();
    let receiver = runtime.block_on(Receiver::new(|number, _| Reply::Status(if number == 0 { 500 } else { 200 })));
    let place = Place::new();
    let server = place.serve(&["--private-targets"]);
    assert!(server.seen().iter().any(|line| line.contains("private_targets is set")), "it says so at its start");
    let key = place.init()["live_key"].as_str().unwrap().to_owned();
    let client = |words: &[&str]| -> Value {
        let mut command = place.command(words);
        let done = command.env("CLOUD_API_KEY", &key).env("NEPHOS_URL", &server.url).args(["--output", "json"]);
        let done = done.output().unwrap();
        assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
        serde_json::from_slice(&done.stdout).unwrap()
    };
    let url = receiver.url();
    let made = client(&["webhooks", "create", &url, "--event", "project.*"]);
    let id = made["id"].as_str().unwrap();
    let first = standardwebhooks::Webhook::new(made["secret"].as_str().unwrap()).unwrap();
    client(&["projects", "create", "one"]);
    let received = runtime.block_on(receiver.wait_for(2));
    // The first try failed; its repetition has the same id and signs its own time.
    assert_eq!(received[0].header("webhook-id"), received[1].header("webhook-id"));
    for one in &received {
        first.verify(&one.body, &one.headers).unwrap();
        let mut other = one.body.clone();
        other[0] ^= 1;
        assert!(first.verify(&other, &one.headers).is_err());
    }
    let rotated = client(&["webhooks", "rotate-secret", id]);
    let second = standardwebhooks::Webhook::new(rotated["secret"].as_str().unwrap()).unwrap();
    client(&["webhooks", "test", id]);
    let received = runtime.block_on(receiver.wait_for(3));
    for both in [&first, &second] {
        both.verify(&received[2].body, &received[2].headers).unwrap();
    }
    let log = (0..10_000)
        .map(|_| client(&["webhooks", "deliveries", id]))
        .find(|log| log.as_array().is_some_and(|l| l.len() == 2 && l.iter().all(|d| d["status"] == "succeeded")))
        .unwrap();
    assert_eq!((&log[1]["attempt_count"], &log[1]["attempts"][0]["status"]), (&json!(2), &json!(500)));
    client(&["webhooks", "update", id, "--status", "disabled"]);
    assert_eq!(client(&["webhooks", "get", id])["disabled_reason"], "asked");
    client(&["webhooks", "delete", id]);
    assert_eq!(client(&["webhooks", "list"]), json!([]));
    server.stop();
}

#[test]
fn without_the_switch_nothing_private_is_reached() {
    let place = Place::new();
    let server = place.serve(&[]);
    let key = place.init()["live_key"].as_str().unwrap().to_owned();
    for url in ["http://127.0.0.1:9/", "https://127.0.0.1:9/", "https://[::1]/", "https://169.254.169.254/latest"] {
        let (status, told) = server.post("/v1/webhooks", &key, &json!({"url": url}));
        assert_eq!((status, &told["details"][0]["pointer"]), (400, &json!("/url")), "{url}: {told}");
    }
    // A name is judged when it is dialled.
    let (status, made) = server.post("/v1/webhooks", &key, &json!({"url": "https://localhost:9/"}));
    assert_eq!(status, 201, "{made}");
    let path = format!("/v1/webhooks/{}", made["id"].as_str().unwrap());
    assert_eq!(server.post(&format!("{path}/test"), &key, &json!({})).0, 200);
    let log = (0..10_000)
        .map(|_| server.get(&format!("{path}/deliveries"), Some(&key)).1)
        .find(|log| log.contains("\"attempt_count\":1"))
        .unwrap();
    assert!(log.contains("refused_address"), "{log}");
    server.stop();
}

#[test]
fn events_are_followed_on_the_command_line() {
    let place = Place::new();
    let server = place.serve(&[]);
    let key = place.init()["live_key"].as_str().unwrap().to_owned();
    let mut command = place.command(&["events", "--follow", "--type", "project.created", "--output", "json"]);
    command.env("CLOUD_API_KEY", &key).env("NEPHOS_URL", &server.url).stdout(Stdio::piped());
    let mut following = command.spawn().unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    // What is made before the stream is there is not told; so it is made until something is.
    let (made, told) = std::thread::scope(|scope| {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let (place, url, key) = (&place, &server.url, &key);
        let making = scope.spawn(move || {
            let mut ids = Vec::new();
            while stopped.recv_timeout(std::time::Duration::from_millis(50)).is_err() {
                let name = format!("project {}", ids.len());
                let mut command = place.command(&["projects", "create", &name, "--output", "json"]);
                let done = command.env("CLOUD_API_KEY", key).env("NEPHOS_URL", url).output().unwrap();
                let made: Value = serde_json::from_slice(&done.stdout).unwrap();
                ids.push(made["id"].as_str().unwrap().to_owned());
            }
            ids
        });
        let told: Vec<Value> = (0..3).map(|_| serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap()).collect();
        stop.send(()).unwrap();
        (making.join().unwrap(), told)
    });
    for event in &told {
        assert_eq!(event["type"], "project.created");
        assert!(made.iter().any(|id| event["resource_id"] == json!(id)), "{event}");
    }
    following.kill().unwrap();
    following.wait().unwrap();
    server.stop();
}
