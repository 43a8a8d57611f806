//! Workspaces by their operator, and the client on top of them.

use serde_json::{Value, json};

use crate::program::{Place, Server};

struct Client<'a> {
    place: &'a Place,
    server: &'a Server,
    key: String,
}

impl Client<'_> {
    fn try_run(&self, line: &str) -> (Option<i32>, String, String) {
        let words: Vec<&str> = line.split(' ').collect();
        let mut command = self.place.command(&words);
        let done = command.env("CLOUD_API_KEY", &self.key).env("NEPHOS_URL", &self.server.url).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (done.status.code(), text(done.stdout), text(done.stderr))
    }

    fn json(&self, line: &str) -> Value {
        let (code, out, err) = self.try_run(&format!("{line} --output json"));
        assert_eq!(code, Some(0), "{line}: {err}");
        serde_json::from_str(&out).unwrap()
    }

    fn refused(&self, line: &str) -> (Option<i32>, String) {
        let (code, _, err) = self.try_run(line);
        (code, err)
    }
}

#[test]
fn init_works_once_before_the_server_runs() {
    let place = Place::new();
    let made = place.init();
    for (key, prefix) in [("workspace_id", "ws_"), ("live_key", "sk_live_"), ("test_key", "sk_test_")] {
        assert!(made[key].as_str().unwrap().starts_with(prefix), "{made}");
    }
    assert!(made["console_url"].as_str().unwrap().contains("/console/sign-in?token=signin_"), "{made}");
    let again = place.run(&["console", "link", "ann@example.com", "--output", "json"]);
    assert!(again.out.contains("/console/sign-in?token=signin_"), "{}{}", again.out, again.err);
    let nobody = place.run(&["console", "link", "nobody@example.com"]);
    assert!(nobody.code == Some(1) && nobody.err.contains("no such person"), "{}", nobody.err);
    let again = place.run(&["init", "--workspace", "Other", "--owner", "bob@example.com"]);
    assert_eq!(again.code, Some(1));
    assert!(again.err.contains("already") && again.err.contains("workspace create"), "{}", again.err);
    let server = place.serve(&[]);
    assert_eq!(server.get("/v1/projects", made["live_key"].as_str()).0, 200);
    assert_eq!(server.get("/sandbox/v1/projects", made["test_key"].as_str()).0, 200);
}

/// The keys are shown once: a script must not go on as if it had them.
#[cfg(target_os = "linux")]
#[test]
fn keys_that_could_not_be_printed_are_an_error() {
    let place = Place::new();
    let dir = place.data_dir();
    let init = ["init", "--workspace", "acme", "--owner", "ada@example.com"];
    let more = ["workspace", "create", "--workspace", "two", "--owner", "ada@example.com", "--output", "json"];
    for words in [&init[..], &more[..]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = place.command(words);
        let done = command.arg("--data-dir").arg(&dir).stdout(full).output().unwrap();
        let told = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{told}");
        assert!(told.contains("could not be printed"), "{told}");
    }
}

#[test]
fn init_works_while_the_server_runs() {
    let place = Place::new();
    let server = place.serve(&[]);
    let made = place.init();
    assert_eq!(server.get("/api/v1/projects", made["live_key"].as_str()).0, 200);
    let again = place.run(&["init", "--workspace", "Other", "--owner", "bob@example.com"]);
    assert!(!again.ok && again.err.contains("already"), "{}", again.err);
}

#[test]
fn bad_words_to_init_are_named() {
    let place = Place::new();
    for (words, says) in [
        (["init", "--workspace", "Acme", "--owner", "nobody"], "e-mail"),
        (["init", "--workspace", " ", "--owner", "a@example.com"], "name"),
    ] {
        let done = place.run(&words);
        assert!(!done.ok && done.err.contains(says), "{}", done.err);
    }
    let done = place.run(&["init", "--workspace", "Acme", "--owner", "a@example.com", "--plan", "golden"]);
    assert!(!done.ok && done.err.contains("golden") && done.err.contains("standard"), "{}", done.err);
    place.init();
}

#[test]
fn workspaces_are_made_listed_suspended_and_resumed() {
    let place = Place::new();
    let first = place.init();
    let server = place.serve(&[]);
    let second =
        place.run(&["workspace", "create", "--workspace", "Globex", "--owner", "bob@example.com", "--output", "json"]);
    assert!(second.ok, "{}", second.err);
    let (id, key) = (second.json()["workspace_id"].clone(), second.json()["live_key"].clone());
    let listed = place.run(&["workspace", "list", "--output", "json"]).json();
    let names: Vec<&Value> = listed.as_array().unwrap().iter().map(|w| &w["name"]).collect();
    assert!(names.len() == 2 && names.contains(&&json!("Acme")) && names.contains(&&json!("Globex")), "{listed}");

    assert!(place.run(&["workspace", "suspend", id.as_str().unwrap()]).ok);
    assert_eq!(server.get("/v1/projects", key.as_str()).0, 403);
    assert_eq!(server.get("/v1/projects", first["live_key"].as_str()).0, 200);
    assert!(place.run(&["workspace", "resume", id.as_str().unwrap()]).ok);
    assert_eq!(server.get("/v1/projects", key.as_str()).0, 200);
    let none = place.run(&["workspace", "suspend", "ws_00000000000000000000000000"]);
    assert!(!none.ok && none.err.contains("workspace"), "{}", none.err);
}

#[test]
fn the_client_takes_a_compute_through_its_life() {
    let place = Place::new();
    let key = place.init()["test_key"].as_str().unwrap().to_owned();
    let server = place.serve(&[]);
    let client = Client { place: &place, server: &server, key };

    assert_eq!(client.json("me")["mode"], json!("test"));
    let project = client.json("projects create shop");
    client.json("environments create canary --project shop");
    let made = client.json("computes create web-1 --project shop --env canary --label tier=web");
    assert_eq!((&made["status"], &made["project_id"]), (&json!("running"), &project["id"]));
    let listed = client.json("computes list --project shop --env canary --label tier=web");
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(client.json("computes list --project default"), json!([]));
    let stopped = client.json("computes stop web-1");
    assert_eq!(stopped["status"], json!("succeeded"));
    assert_eq!(client.json("computes get web-1")["status"], json!("stopped"));
    let (code, err) = client.refused("computes reboot web-1");
    assert!(code == Some(5) && err.contains("stopped"), "{err}");
    client.json("computes start web-1");
    client.json("computes update web-1 --name web-2 --no-labels");
    let (code, err) = client.refused("projects delete shop");
    assert!(code == Some(5) && err.contains("request "), "{err}");
    client.json("computes delete web-2");
    let (code, err) = client.refused("computes get web-2");
    assert!(code == Some(4) && err.contains("web-2"), "{err}");
    client.json("projects delete shop");
    assert!(!client.json("events list").as_array().unwrap().is_empty());
    assert!(client.json("usage")["requests"].as_i64().unwrap() > 0);
    let (code, out, _) = client.try_run("sizes list");
    assert!(code == Some(0) && out.starts_with("NAME "), "{out}");
}

#[test]
fn keys_are_made_rotated_and_revoked() {
    let place = Place::new();
    let key = place.init()["live_key"].as_str().unwrap().to_owned();
    let server = place.serve(&[]);
    let client = Client { place: &place, server: &server, key };
    let made = client.json("keys create ci --scope project:read");
    let secret = made["secret"].as_str().unwrap().to_owned();
    let narrow = Client { key: secret.clone(), ..client };
    assert!(narrow.json("projects list").is_array());
    let (code, err) = narrow.refused("projects create x");
    assert!(code == Some(3) && err.contains("project:write"), "{err}");
    let client = Client { key: client.key, ..narrow };
    let rotated = client.json("keys rotate ci");
    assert_eq!(server.get("/v1/projects", Some(&secret)).0, 401);
    assert_eq!(server.get("/v1/projects", rotated["secret"].as_str()).0, 200);
    client.json("keys delete ci");
    assert_eq!(server.get("/v1/projects", rotated["secret"].as_str()).0, 401);
}
