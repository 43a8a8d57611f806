//! Idempotency at its edges, on both engines: one effect whatever is repeated, by whom, when and how it is spelt.
#![allow(clippy::unwrap_used)] // what fails here fails the test

mod api;

use std::time::Duration;

use api::{Answer, Api};
use futures_util::future::join_all;
use nephos_http::Config;
use nephos_model::scope::{Noun, Scope, Scopes};
use nephos_testkit::Engine;
use serde_json::json;

/// Runs a test on both engines.
macro_rules! on_both {
    ($($name:ident)*) => {
        mod sqlite { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(nephos_testkit::Engine::Sqlite).await; })* }
        mod postgres { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(nephos_testkit::Engine::Postgres).await; })* }
    };
}

on_both! {
    fifty_at_once_make_one_thing
    another_request_is_refused_and_the_same_in_another_spelling_is_not
    a_key_counts_where_it_was_sent_and_for_whom
    a_replay_needs_what_the_first_run_needed
    a_secret_is_sealed_and_replayed_to_its_member
    an_answer_is_kept_for_a_day
    only_successes_are_recorded
    a_key_means_nothing_to_what_is_not_made
}

const UUID: &str = "59ea8f7e-3c1b-4f6e-8a9d-0123456789ab";
const ALPHA: &str = r#"{"name":"alpha"}"#;
const JSON: (&str, &str) = ("content-type", "application/json");

async fn on(engine: Engine) -> Api {
    let mut api = Api::on(engine, Config::default(), "unlimited").await;
    api.start().await;
    api
}

async fn post_as(api: &Api, who: &str, path: &str, key: &str, body: &str) -> Answer {
    api.send("POST", path, &[("authorization", who), ("idempotency-key", key), JSON], body).await
}

async fn post(api: &Api, path: &str, key: &str, body: &str) -> Answer {
    post_as(api, "Bearer owner", path, key, body).await
}

fn is_replay(answer: &Answer) -> bool {
    answer.header("idempotent-replayed") == "true"
}

async fn count(api: &Api, path: &str) -> i64 {
    api.get(path).await.json()["meta"]["total"].as_i64().unwrap()
}

async fn fifty_at_once_make_one_thing(engine: Engine) {
    // Two processes over one database: each gets half of them.
    let one = on(engine).await;
    let two = one.replica(11);
    let answers =
        join_all((0..50).map(|n| post(if n % 2 == 0 { &one } else { &two }, "/v1/projects", "once", ALPHA))).await;
    let first = answers.iter().find(|a| a.status == 201 && !is_replay(a)).unwrap();
    assert_eq!(answers.iter().filter(|a| a.status == 201 && !is_replay(a)).count(), 1);
    for answer in &answers {
        if answer.status == 409 {
            assert_eq!(
                (&answer.json()["code"], answer.header("retry-after")),
                (&json!("idempotency_in_progress"), "1")
            );
        } else {
            assert_eq!((answer.status, &answer.text), (201, &first.text));
            assert_eq!(answer.header("location"), first.header("location"));
        }
    }
    assert_eq!(count(&one, "/v1/projects?name=alpha").await, 1);
    for api in [&one, &two] {
        let again = post(api, "/v1/projects", "once", ALPHA).await;
        assert_eq!((again.status, is_replay(&again), &again.text), (201, true, &first.text));
        assert_eq!(again.header("idempotent-original-status"), "201");
        assert_ne!(again.header("x-request-id"), first.header("x-request-id"));
    }
}

async fn another_request_is_refused_and_the_same_in_another_spelling_is_not(engine: Engine) {
    let api = on(engine).await;
    let first = post(&api, "/v1/projects", "k", "{\"name\":\"al/pha \u{e9}\"}").await;
    assert_eq!(first.status, 201, "{}", first.text);
    for same in [
        "{ \"name\" :\r\n\t\"al/pha \u{e9}\" }",
        r#"{"name":"al\/pha \u00e9"}"#,
        r#"{"\u006eame":"\u0061l/pha \u00E9"}"#,
    ] {
        let again = post(&api, "/v1/projects", "k", same).await;
        assert_eq!((again.status, is_replay(&again)), (201, true), "{same}: {}", again.text);
    }
    // Another normal form of Unicode is another text.
    for other in [r#"{"name":"beta"}"#, r#"{"name":"al/pha e\u0301"}"#, "{}", r#"{"name":"x","more":1}"#, "[]"] {
        let refused = post(&api, "/v1/projects", "k", other).await;
        assert_eq!((refused.status, &refused.json()["code"]), (422, &json!("idempotency_key_reused")), "{other}");
    }

    // Members in another order, numbers in another spelling.
    let body = r#"{"name":"web-1","labels":{"a":"1","b":"2"},"protected":false}"#;
    let made = post(&api, "/v1/computes", "c", body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let reordered = r#"{"protected":false,"labels":{"b":"2","a":"1"},"name":"web-1"}"#;
    assert_eq!(post(&api, "/v1/computes", "c", reordered).await.text, made.text);
    // A list's order means something.
    let key = api.make("/v1/api-keys", r#"{"name":"ci"}"#).await;
    let rotate = format!("/v1/api-keys/{key}/rotate");
    let rotated = post(&api, &rotate, "r", r#"{"grace_seconds":60}"#).await;
    assert_eq!(rotated.status, 200, "{}", rotated.text);
    for same in ["60.0", "6e1", "0.6E+2"] {
        let again = post(&api, &rotate, "r", &format!("{{\"grace_seconds\":{same}}}")).await;
        assert_eq!((is_replay(&again), &again.text), (true, &rotated.text), "{same}");
    }
    assert_eq!(post(&api, &rotate, "r", r#"{"grace_seconds":61}"#).await.status, 422);
    // The query is part of the request, and so is a body that is not there.
    assert_eq!(post(&api, &rotate, "none", "").await.status, 200);
}

async fn a_key_counts_where_it_was_sent_and_for_whom(engine: Engine) {
    let api = on(engine).await;
    let mut ids = Vec::new();
    for (who, path) in [
        ("Bearer owner", "/v1/projects"),
        ("Bearer other", "/v1/projects"),
        ("Bearer test", "/sandbox/v1/projects"),
        ("Bearer owner", "/api/v1/projects"),
    ] {
        let made = post_as(&api, who, path, UUID, ALPHA).await;
        assert_eq!((made.status, is_replay(&made)), (201, false), "{who} {path}: {}", made.text);
        let body = made.json();
        ids.push(body.get("data").unwrap_or(&body)["id"].as_str().unwrap().to_owned());
        let again = post_as(&api, who, path, UUID, ALPHA).await;
        let status = if path.starts_with("/api") { 202 } else { 201 };
        assert_eq!((again.status, is_replay(&again), &again.text), (status, true, &made.text), "{who} {path}");
    }
    // A UUID in capitals is the same UUID on Strettch, another key on Platform.
    assert_eq!(post(&api, "/api/v1/projects", &UUID.to_uppercase(), ALPHA).await.status, 202);
    assert!(!is_replay(&post(&api, "/v1/projects", &UUID.to_uppercase(), ALPHA).await));
    // Two concrete paths of one operation.
    for id in [&ids[0], &ids[3]] {
        let made = post(&api, &format!("/v1/projects/{id}/environments"), UUID, r#"{"name":"qa"}"#).await;
        assert_eq!((made.status, is_replay(&made)), (201, false), "{}", made.text);
    }

    // Another API key of the workspace has the same protection, also the one that this one is rotated to.
    let me = api.get("/v1/me").await.json()["data"]["api_key"]["id"].as_str().unwrap().to_owned();
    let first = post(&api, "/v1/projects", "rotated", ALPHA).await;
    let rotated = api.post(&format!("/v1/api-keys/{me}/rotate"), "").await;
    let secret = format!("Bearer {}", rotated.json()["secret"].as_str().unwrap());
    assert_eq!(post(&api, "/v1/projects", "rotated", ALPHA).await.status, 401);
    let again = post_as(&api, &secret, "/v1/projects", "rotated", ALPHA).await;
    assert_eq!((again.status, is_replay(&again), again.text), (201, true, first.text));
}

async fn a_replay_needs_what_the_first_run_needed(engine: Engine) {
    let api = on(engine).await;
    let project = api.make("/v1/projects", ALPHA).await;
    let body = json!({"name": "web-1", "project_id": project}).to_string();
    let first = post(&api, "/v1/computes", "k", &body).await;
    assert_eq!(first.status, 201, "{}", first.text);
    api.narrowed("reader", |key| key.scopes = Some(Scopes::default().with(Scope::read(Noun::Compute)))).await;
    let refused = post_as(&api, "Bearer reader", "/v1/computes", "k", &body).await;
    assert_eq!((refused.status, &refused.json()["details"][0]["code"]), (403, &json!("missing_scope")));
    // What it does not see it does not see in a replay either.
    let id = api.get("/v1/projects").await.json()["data"][1]["id"].as_str().unwrap().parse().unwrap();
    api.narrowed("elsewhere", |key| key.project_id = Some(id)).await;
    assert_eq!(post_as(&api, "Bearer elsewhere", "/v1/computes", "k", &body).await.status, 404);
    // Another member who may do it gets the answer; also when the thing is gone.
    assert_eq!(post_as(&api, "Bearer member", "/v1/computes", "k", &body).await.text, first.text);
    let id = first.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(api.with("DELETE", &format!("/v1/computes/{id}"), "", &[]).await.status, 200);
    assert_eq!(api.with("DELETE", &format!("/v1/projects/{project}"), "", &[]).await.status, 200);
    let again = post(&api, "/v1/computes", "k", &body).await;
    assert_eq!((again.status, is_replay(&again), again.text), (201, true, first.text));
}

async fn a_secret_is_sealed_and_replayed_to_its_member(engine: Engine) {
    let api = on(engine).await;
    let first = post(&api, "/v1/api-keys", "k", r#"{"name":"ci"}"#).await;
    let secret = first.json()["secret"].as_str().unwrap().to_owned();
    let kept = api.world.kept_answers().await;
    assert!(!kept.is_empty());
    let holds = |body: &Vec<u8>| body.windows(secret.len()).any(|part| part == secret.as_bytes());
    assert!(!kept.iter().any(holds), "the secret is kept in clear");
    for who in ["Bearer admin", "Bearer member"] {
        let refused = post_as(&api, who, "/v1/api-keys", "k", r#"{"name":"ci"}"#).await;
        assert_eq!((refused.status, &refused.json()["details"][0]["code"]), (403, &json!("other_member")));
        assert!(!refused.text.contains(&secret));
    }
    // Its own member gets it with any of its credentials, and nobody may keep it.
    let again = post_as(&api, &format!("Bearer {secret}"), "/v1/api-keys", "k", r#"{"name":"ci"}"#).await;
    assert_eq!((again.status, &again.text, again.header("cache-control")), (201, &first.text, "no-store"));
}

async fn an_answer_is_kept_for_a_day(engine: Engine) {
    let api = on(engine).await;
    let first = post(&api, "/v1/projects", "k", ALPHA).await;
    api.world.clock.advance(Duration::from_secs(24 * 60 * 60 - 1)).await;
    assert_eq!(post(&api, "/v1/projects", "k", ALPHA).await.text, first.text);
    api.world.clock.advance(Duration::from_secs(1)).await;
    let second = post(&api, "/v1/projects", "k", r#"{"name":"beta"}"#).await;
    assert_eq!((second.status, is_replay(&second)), (201, false), "{}", second.text);
    assert_eq!(post(&api, "/v1/projects", "k", r#"{"name":"beta"}"#).await.text, second.text);
}

async fn only_successes_are_recorded(engine: Engine) {
    let api = on(engine).await;
    let refused = [
        (r#"{"name":""}"#, 400),
        (r#"{"name":"web-1","project_id":"prj_01kf0rdqg0fxvvh1fb3wvjkqxh"}"#, 404),
        (r#"{"name":"web-1","size":"huge"}"#, 400),
    ];
    for (body, status) in refused {
        assert_eq!(post(&api, "/v1/computes", "k", body).await.status, status, "{body}");
    }
    api.make("/v1/computes", r#"{"name":"web-1"}"#).await;
    assert_eq!(post(&api, "/v1/computes", "k", r#"{"name":"web-1"}"#).await.status, 409);
    let made = post(&api, "/v1/computes", "k", r#"{"name":"web-2"}"#).await;
    assert_eq!((made.status, is_replay(&made)), (201, false), "{}", made.text);
    // What is refused before the key is read does not spoil it.
    for (body, status) in [("{", 400), (r#"{"name":"a","name":"b"}"#, 400)] {
        assert_eq!(post(&api, "/v1/computes", "k", body).await.status, status);
    }
    assert_eq!(post(&api, "/v1/computes", "k", r#"{"name":"web-2"}"#).await.text, made.text);
}

async fn a_key_means_nothing_to_what_is_not_made(engine: Engine) {
    let api = on(engine).await;
    let id = api.make("/v1/projects", ALPHA).await;
    let path = format!("/v1/projects/{id}");
    let key = [("idempotency-key", "k")];
    for name in ["beta", "gamma"] {
        let renamed = api.with("PATCH", &path, &json!({"name": name}).to_string(), &key).await;
        assert_eq!((renamed.status, &renamed.json()["name"]), (200, &json!(name)));
    }
    // Not even its syntax is looked at.
    let wrong = [("idempotency-key", "not one key")];
    assert_eq!(api.with("GET", &path, "", &wrong).await.status, 200);
    assert_eq!(api.with("GET", &path.replace("/v1", "/api/v1"), "", &wrong).await.status, 200);
    assert_eq!(api.with("POST", "/v1/projects?dry_run=true", ALPHA, &wrong).await.status, 200);
    let keyed = post(&api, "/v1/projects", "dry", ALPHA).await;
    let dry = api.with("POST", "/v1/projects?dry_run=true", ALPHA, &[("idempotency-key", "dry")]).await;
    assert_eq!((dry.status, is_replay(&dry), &dry.json()["dry_run"]), (200, false, &json!(true)), "{}", keyed.text);
    assert_eq!(api.with("DELETE", &path, "", &wrong).await.status, 200);

    // Where it counts, its syntax is decided before the body is read.
    let long = "a".repeat(256);
    for (path, bad) in [
        ("/v1/projects", ""),
        ("/v1/projects", "two words"),
        ("/v1/projects", "\u{e9}"),
        ("/v1/projects", long.as_str()),
        ("/api/v1/projects", "k"),
        ("/api/v1/projects", "59ea8f7e-3c1b-1f6e-8a9d-0123456789ab"),
        ("/api/v1/projects", "59ea8f7e3c1b4f6e8a9d0123456789ab"),
    ] {
        let refused = post(&api, path, bad, "{").await;
        let detail = &refused.json()["details"][0];
        assert_eq!(
            (refused.status, &detail["header"]),
            (400, &json!("idempotency-key")),
            "{path} {bad}: {}",
            refused.text
        );
    }
    let twice = [("authorization", "Bearer owner"), JSON, ("idempotency-key", "a"), ("idempotency-key", "b")];
    assert_eq!(api.send("POST", "/v1/projects", &twice, ALPHA).await.status, 400);
}

#[tokio::test]
async fn a_replay_spends_the_budget() {
    let api = Api::on(Engine::Sqlite, Config::default(), "standard").await;
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(post(&api, "/api/v1/projects", UUID, ALPHA).await.status);
    }
    assert_eq!(statuses, [201, 202, 202, 202, 202, 429]);
}
