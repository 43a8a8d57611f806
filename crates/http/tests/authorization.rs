//! A ratchet: every operation against every kind of credential that should not pass, as `authorization.table` says.
//!
//! An operation that is not in the table fails, so nobody adds one without having thought about who may use it.

#![allow(clippy::unwrap_used)] // what fails here fails the test

mod api;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use api::Api;
use api::object::{base, path};
use nephos_http::endpoint::{self, Endpoint};
use nephos_model::key::Secret;
use nephos_model::scope::Scopes;
use nephos_testkit::SeededEntropy;

const TABLE: &str = include_str!("authorization.table");
/// The columns: a credential that is missing, of another scheme, misspelt, nobody's, expired, revoked, for the sandbox;
/// without the operation's scope; of another workspace; narrowed to another project; of each role.
const KINDS: [&str; 13] = [
    "none",
    "scheme",
    "misspelt",
    "unknown",
    "expired",
    "revoked",
    "mode",
    "scope",
    "workspace",
    "project",
    "member",
    "admin",
    "owner",
];

/// The status that each kind of credential gets, on both surfaces the same.
async fn statuses(api: &Api, endpoint: &Endpoint) -> Vec<u16> {
    let (object, base) = (path(api, endpoint).await, base(endpoint));
    let without =
        endpoint.need.map_or(Scopes::EVERY, |need| Scopes::EVERY.iter().filter(|s| *s != need.scope).collect());
    api.narrowed("without", |key| key.scopes = Some(without)).await;
    api.narrowed("expired", |key| key.expires_at = Some(key.created_at.minus(Duration::from_secs(1)))).await;
    let elsewhere = api.make(&format!("{base}/projects"), r#"{"name":"elsewhere"}"#).await.parse().unwrap();
    api.narrowed("narrow", |key| key.project_id = Some(elsewhere)).await;
    let mut secrets = Vec::new();
    for _ in 0..2 {
        let made = api.post(&format!("{base}/api-keys"), r#"{"name":"revoked"}"#).await.json();
        secrets.push((made["id"].as_str().unwrap().to_owned(), made["secret"].as_str().unwrap().to_owned()));
    }
    let (id, revoked) = secrets.pop().unwrap();
    assert_eq!(api.with("DELETE", &format!("{base}/api-keys/{id}"), "", &[]).await.status, 200);
    let revoked = format!("Bearer {revoked}");
    // Of the right form, and nobody's.
    let unknown = Secret::generate(api.key("owner").mode(), &SeededEntropy::new(99));
    api.keep("unknown", unknown);
    let strettch = object.replacen("/v1", "/api/v1", 1);
    let mut out = Vec::new();
    for token in [
        None,
        Some("Basic b3duZXI6"),
        Some("Bearer nobody"),
        Some("Bearer unknown"),
        Some("Bearer expired"),
        Some(&*revoked),
        Some("Bearer test"),
        Some("Bearer without"),
        Some("Bearer other"),
        Some("Bearer narrow"),
    ] {
        let status = call(api, endpoint, &object, token).await;
        if status >= 400 && !endpoint.sandbox_only {
            assert_eq!(call(api, endpoint, &strettch, token).await, status, "{} {token:?}", endpoint.id);
        }
        out.push(status);
    }
    for role in ["Bearer member", "Bearer admin", "Bearer owner"] {
        // What one did the next would find done.
        let object = path(api, endpoint).await;
        out.push(call(api, endpoint, &object, Some(role)).await);
    }
    out
}

async fn call(api: &Api, endpoint: &Endpoint, path: &str, token: Option<&str>) -> u16 {
    // What must be unique is another in each call.
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let key = format!("{number:04}\"}}");
    let body = endpoint.example.replace("web-2", &format!("web-{number}")).replace("ada@", &format!("ada{number}@"));
    let body = body.replace("ours", &format!("ours {number}"));
    let body = body.replace("laptop", &format!("laptop {number}")).replace("GKJl\"}", &key);
    let mut headers = vec![];
    headers.extend(token.map(|token| ("authorization", token)));
    if !body.is_empty() {
        headers.push(("content-type", "application/json"));
    }
    api.send(endpoint.method, path, &headers, &body).await.status
}

static NUMBER: AtomicU32 = AtomicU32::new(10);

/// `NEPHOS_TEST_TABLE=write` writes the table anew, for the author of an operation to read and commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_against_every_credential() {
    let rows = TABLE.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let wanted: BTreeMap<&str, Vec<u16>> = rows
        .map(|line| {
            let mut words = line.split_whitespace();
            (words.next().unwrap(), words.map(|w| w.parse().unwrap()).collect())
        })
        .collect();
    let header = KINDS.iter().fold(format!("{:<28}", "# operation"), |line, kind| format!("{line}{kind:>10}"));
    let mut table = format!("{header}\n");
    let mut wrong = Vec::new();
    let (live, sandbox) = (Api::started().await, Api::started().await);
    sandbox.in_sandbox().await;
    for endpoint in endpoint::all() {
        let seen = statuses(if endpoint.sandbox_only { &sandbox } else { &live }, endpoint).await;
        let line = seen.iter().fold(format!("{:<28}", endpoint.id), |line, status| format!("{line}{status:>10}"));
        match wanted.get(endpoint.id) {
            None => wrong.push(format!("not in the table: {line}")),
            Some(row) if *row != seen => wrong.push(format!("otherwise in the table: {line}")),
            Some(_) => {}
        }
        table = format!("{table}{line}\n");
    }
    for id in wanted.keys().filter(|id| endpoint::all().all(|e| e.id != **id)) {
        wrong.push(format!("no such operation: {id}"));
    }
    if std::env::var("NEPHOS_TEST_TABLE").is_ok_and(|what| what == "write") {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/authorization.table"), table).unwrap();
        return;
    }
    assert!(wrong.is_empty(), "NEPHOS_TEST_TABLE=write writes it anew.\n{header}\n{}", wrong.join("\n"));
}

/// What is another workspace's is answered as what is nowhere, but for the request id, to the byte.
#[tokio::test]
async fn what_is_another_workspaces_is_nowhere() {
    let other = ("authorization", "Bearer other");
    let api = Api::started().await;
    for endpoint in endpoint::all().filter(|e| e.path.contains("{id}") && e.noun() != "image") {
        let theirs = path(&api, endpoint).await;
        let id = theirs.split('/').nth(3).unwrap();
        let nowhere = format!("{}_01kf0rdqg0fxvvh1fb3wvjkqxh", id.split('_').next().unwrap());
        for base in ["/v1", "/api/v1"] {
            let mut told = Vec::new();
            for id in [id, &*nowhere, "nothing"] {
                let path = theirs.replacen("/v1", base, 1).replace(theirs.split('/').nth(3).unwrap(), id);
                let body = endpoint.example;
                let mut headers = vec![other];
                if !body.is_empty() {
                    headers.push(("content-type", "application/json"));
                }
                let answer = api.send(endpoint.method, &path, &headers, body).await;
                let id = answer.header("x-request-id").to_owned();
                let mut names: Vec<_> = answer.headers.keys().map(ToString::to_string).collect();
                names.sort();
                told.push((answer.status, names, answer.text.replace(&id, "")));
            }
            assert_eq!(told[0].0, 404, "{} {base}: {}", endpoint.id, told[0].2);
            assert_eq!((&told[0], &told[0]), (&told[1], &told[2]), "{} {base}", endpoint.id);
        }
    }
}

#[test]
fn nobody_but_owners_and_admins_does_what_the_roles_reserve() {
    for endpoint in endpoint::all() {
        let Some(need) = endpoint.need else {
            // Any key may be exchanged: a token can do nothing that its key can't.
            let open = ["openapi.get", "invitation.accept", "token.create"];
            assert!(open.contains(&endpoint.id), "{}: every other operation needs a permission", endpoint.id);
            continue;
        };
        let reads = need.scope.to_string().ends_with(":read");
        assert_eq!(
            reads,
            endpoint.method == "GET",
            "{}: reading needs a read scope, writing a write scope",
            endpoint.id
        );
    }
}
