//! The examples of the documents: every operation is asked with the body that the document shows, on each surface that has
//! it, and answers what the document shows.
//!
//! `openapi/examples.json` holds the answers; `NEPHOS_TEST_EXAMPLES=write` writes it anew, for the author of an operation to
//! read and commit, before `cargo xtask openapi`. Ids, request ids and secrets are replaced by ones that are the same in
//! every run.

#![allow(clippy::unwrap_used)] // what fails here fails the test

mod api;

use std::collections::BTreeMap;

use api::Api;
use api::object::path;
use nephos_http::endpoint::{self, Endpoint, Success};
use serde_json::{Value, json};

const ANSWERS: &str = include_str!("../../../openapi/examples.json");
/// Twenty-four of the twenty-six characters of an id; the last two count.
const ID: &str = "01kf0z3t80e5v8x2m7c4q9gj";
const UUID: &str = "019bdf1d-6a00-7c4e-9b1a-5d2f8e3c7a";
const TIME: &str = "2026-01-15T12:00:00Z";
/// Forty-nine characters of no key: an example must not look like one to a scanner, nor to us.
const SECRET: &str = "…";

/// How far the operation had come when it was cancelled is not the test's to say.
const RACES: &str = "operation.cancel";

/// Replaces what differs from run to run.
#[derive(Default)]
struct Stable {
    known: BTreeMap<String, String>,
}

impl Stable {
    fn value(&mut self, value: &mut Value) {
        match value {
            // When something happened depends on who got his turn first; an end that was given is another day.
            Value::String(text) if text.starts_with("2026-01-15T12:0") => TIME.clone_into(text),
            // Base64, which is no word.
            Value::String(text) if text.starts_with("whsec_") => *text = format!("whsec_{SECRET}"),
            Value::String(text) => *text = self.text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item)),
            Value::Object(members) => {
                for (name, member) in members {
                    match name.as_str() {
                        "hint" => *member = json!("Zq3x"),
                        "ssh_host_key" if member.is_string() => *member = json!("ssh-ed25519 …"),
                        _ => self.value(member),
                    }
                }
            }
            _ => {}
        }
    }

    /// Every word of the text that is an id or a secret in its stable form.
    fn text(&mut self, text: &str) -> String {
        let mut out = String::new();
        let mut word = String::new();
        for c in text.chars().chain(['\0']) {
            if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') {
                word.push(c);
                continue;
            }
            out.push_str(&self.word(&word));
            word.clear();
            if c != '\0' {
                out.push(c);
            }
        }
        out
    }

    fn word(&mut self, word: &str) -> String {
        let number = self.known.len() + 1;
        let is_uuid = word.len() == 36
            && word.matches('-').count() == 4
            && word.chars().all(|c| c == '-' || c.is_ascii_hexdigit());
        let stable = match word.rsplit_once('_') {
            _ if is_uuid => format!("{UUID}{number:02x}"),
            Some((prefix, tail))
                if tail.len() == 26
                    && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') =>
            {
                format!("{prefix}_{ID}{number:02}")
            }
            Some((prefix @ ("sk_live" | "sk_test" | "invite"), _)) => return format!("{prefix}_{SECRET}"),
            _ if word.len() > 80 || word.starts_with("eyJ") => return SECRET.to_owned(),
            _ => return word.to_owned(),
        };
        self.known.entry(word.to_owned()).or_insert(stable).clone()
    }
}

/// What the operation is about: the path of something that it can be done to, and its body.
async fn request(api: &Api, endpoint: &Endpoint) -> (String, String) {
    let mut object = path(api, endpoint).await;
    let mut body = endpoint.example.to_owned();
    match endpoint.id {
        "compute.start" | "compute.stop" | "compute.reboot" | "compute.resize" | "compute.rebuild" => {
            until(api, &object, "running").await;
            if endpoint.id == "compute.start" {
                let stop = object.replace("/start", "/stop");
                assert_eq!(api.post(&stop, "").await.status, 202);
                until(api, &object, "stopped").await;
            }
        }
        "operation.get" => settled(api).await,
        // One point is enough for an example.
        "compute.metrics" => {
            ran_an_hour(api).await;
            object.push_str("?step=1h");
        }
        "telemetry.get" => {
            path(api, endpoint::all().find(|other| other.id == "compute.get").unwrap()).await;
            ran_an_hour(api).await;
            object.push_str("?group_by=project&step=1h");
        }
        "workspace.delete" => object.push_str("?confirm=mine"),
        "invitation.accept" => {
            let made = api.post("/v1/invitations", r#"{"email":"eve@people.example","role":"member"}"#).await;
            body = json!({"token": made.json()["token"]}).to_string();
        }
        "delivery.list" => {
            path(api, endpoint::all().find(|other| other.id == "delivery.retry").unwrap()).await;
            object = path(api, endpoint).await;
        }
        // An example of a list has something in it.
        id if id.ends_with(".list") => {
            let one = format!("{}.get", endpoint.noun());
            if let Some(one) = endpoint::all().find(|other| other.id == one && other.path.contains("{id}")) {
                path(api, one).await;
                if endpoint.id == "operation.list" {
                    settled(api).await;
                }
            }
        }
        _ => {}
    }
    (object, body)
}

/// Waits until the compute of a path has a status.
async fn until(api: &Api, path: &str, status: &str) {
    let compute = path.rsplit_once('/').unwrap().0;
    api.world.until(async || (api.get(compute).await.json()["data"]["status"] == status).then_some(())).await;
}

/// Waits until the compute that there is runs, and so its operation has ended.
async fn settled(api: &Api) {
    let listed = api.get("/v1/computes").await.json();
    until(api, &format!("/v1/computes/{}/", listed["data"][0]["id"].as_str().unwrap()), "running").await;
}

/// The compute that there is has run for an hour, to the second.
async fn ran_an_hour(api: &Api) {
    let compute = api.get("/v1/computes").await.json()["data"][0].clone();
    let id = |name: &str| compute[name].as_str().unwrap().to_owned();
    let tenant = api.world.caller_of(&api.key("owner")).await.tenant;
    let home = (id("project_id").parse().unwrap(), id("environment_id").parse().unwrap());
    api.world.meter(tenant, id("id").parse().unwrap(), home).await;
    api.world.clock.advance(std::time::Duration::from_secs(3_600)).await;
}

async fn answer(api: &Api, endpoint: &Endpoint, surface: &str) -> Value {
    let (object, body) = request(api, endpoint).await;
    let object = if surface == "strettch" { object.replacen("/v1", "/api/v1", 1) } else { object };
    let answer = api.with(endpoint.method, &object, &body, &[("accept", "application/json")]).await;
    let mut body = answer.json();
    Stable::default().value(&mut body);
    json!({"status": answer.status, "body": body})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_answers_as_its_example_says() {
    let committed: Value = serde_json::from_str(ANSWERS).unwrap();
    let mut recorded = BTreeMap::new();
    let mut wrong = Vec::new();
    for endpoint in endpoint::all() {
        let mut surfaces = BTreeMap::new();
        for surface in ["platform", "strettch"] {
            // The document of the API is no example of itself.
            if endpoint.success == Success::Document || endpoint.sandbox_only && surface == "strettch" {
                continue;
            }
            // A cloud of its own, so that no example depends on another.
            let mut api = Api::new().await;
            if matches!(endpoint.noun(), "compute" | "operation" | "webhook" | "delivery" | "telemetry") {
                api.start().await;
            }
            // What ran is metered to the second here, which whoever reconciles would not do.
            if matches!(endpoint.id, "compute.metrics" | "telemetry.get") {
                api.halt();
            }
            if endpoint.sandbox_only {
                api.in_sandbox().await;
            }
            let told = answer(&api, endpoint, surface).await;
            if told["status"] != endpoint.success.status() {
                wrong.push(format!("{} on {surface}: {told:#}", endpoint.id));
            } else if endpoint.id != RACES && committed[endpoint.id][surface] != told {
                wrong.push(format!("{} on {surface} has another example: {told:#}", endpoint.id));
            }
            surfaces.insert(surface, told);
        }
        recorded.insert(endpoint.id, surfaces);
    }
    if std::env::var("NEPHOS_TEST_EXAMPLES").is_ok_and(|what| what == "write") {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../openapi/examples.json");
        std::fs::write(file, format!("{:#}\n", json!(recorded))).unwrap();
    } else {
        assert!(
            wrong.is_empty(),
            "run this test with NEPHOS_TEST_EXAMPLES=write, then cargo xtask openapi:\n{}",
            wrong.join("\n")
        );
    }
}
