//! The lines of the two public documents, with host, key and ids replaced: each gives the documented shape.
#![allow(clippy::unwrap_used)] // what fails here fails the test

mod api;

use api::Api;
use serde_json::{Value, json};

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn platform_lists_projects() {
    let api = Api::new().await;
    let headers = [("authorization", "Bearer owner"), ("accept", "application/json")];
    let answer = api.send("GET", "/v1/projects", &headers, "").await;
    assert_eq!(answer.status, 200);
    let body = answer.json();
    assert_eq!(keys(&body), ["data", "meta"]);
    assert_eq!(body["data"][0]["name"], "default");
    assert!(body["data"][0]["id"].as_str().unwrap().starts_with("prj_"));
    assert_eq!(body["meta"]["requestId"], answer.header("x-request-id"));
}

#[tokio::test]
async fn platform_creates_and_deletes_a_project() {
    let api = Api::new().await;
    let headers = [("authorization", "Bearer owner"), ("content-type", "application/json")];
    let made = api.send("POST", "/v1/projects", &headers, r#"{"name":"gamma"}"#).await;
    assert_eq!(made.status, 201);
    let body = made.json();
    let id = body["id"].as_str().unwrap();
    assert_eq!((body["name"].as_str(), body["created_at"].as_str()), (Some("gamma"), Some("2026-01-15T12:00:00Z")));
    assert_eq!(made.header("location"), format!("/v1/projects/{id}"));

    let gone = api.send("DELETE", &format!("/v1/projects/{id}"), &headers[..1], "").await;
    assert_eq!((gone.status, gone.text), (200, format!("{{\"deleted\":true,\"id\":\"{id}\"}}")));
    assert_eq!(api.get(&format!("/v1/projects/{id}")).await.status, 404);
}

#[tokio::test]
async fn platform_errors_have_status_code_message_and_request_id() {
    let api = Api::new().await;
    let answer = api.send("GET", "/v1/projects", &[], "").await;
    assert_eq!((answer.status, answer.header("www-authenticate")), (401, "Bearer"));
    let body = answer.json();
    assert_eq!(keys(&body), ["code", "details", "doc_url", "message", "request_id", "status"]);
    assert_eq!((&body["status"], &body["code"]), (&json!(401), &json!("unauthorized")));
    assert_eq!(body["request_id"], answer.header("x-request-id"));
    assert_eq!(body["doc_url"], "https://cloud.example/docs/errors/unauthorized");
}

#[tokio::test]
async fn platform_sandbox_takes_test_keys() {
    let api = Api::new().await;
    let answer = api.send("GET", "/sandbox/v1/projects", &[("authorization", "Bearer test")], "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(api.send("GET", "/v1/projects", &[("authorization", "Bearer test")], "").await.status, 401);
    assert_eq!(api.send("GET", "/sandbox/v1/projects", &[("authorization", "Bearer owner")], "").await.status, 401);
}

#[tokio::test]
async fn strettch_answers_in_its_envelope() {
    let api = Api::started().await;
    let made = api.post("/api/v1/computes", r#"{"name":"web-1"}"#).await;
    assert_eq!(made.status, 201);
    let body = made.json();
    assert_eq!(keys(&body), ["data", "message", "requestId", "success", "timestamp"]);
    assert_eq!((&body["success"], &body["timestamp"]), (&json!(true), &json!("2026-01-15T12:00:00Z")));

    let listed = api.get("/api/v1/computes?page=1&limit=20").await.json();
    assert_eq!(keys(&listed), ["data", "message", "meta", "requestId", "success", "timestamp"]);
    assert_eq!(listed["meta"], json!({"total": 1, "page": 1, "limit": 20}));
    assert_eq!(listed["data"][0]["id"], body["data"]["id"]);

    let id = body["data"]["id"].as_str().unwrap();
    let gone = api.with("DELETE", &format!("/api/v1/computes/{id}"), "", &[]).await;
    assert_eq!(gone.json()["data"], json!({"deleted": true, "id": id}));
    let missing = api.get(&format!("/api/v1/computes/{id}")).await;
    let body = missing.json();
    assert_eq!(keys(&body), ["code", "details", "message", "requestId", "success", "timestamp"]);
    assert_eq!((missing.status, &body["success"], &body["code"]), (404, &json!(false), &json!("RESOURCE_NOT_FOUND")));
}

#[tokio::test]
async fn strettch_replays_with_202_and_the_first_body() {
    let api = Api::started().await;
    let key = [("idempotency-key", "59ea8f7e-3c1b-4f6e-8a9d-0123456789ab")];
    let first = api.with("POST", "/api/v1/computes", r#"{"name":"web-1"}"#, &key).await;
    let again = api.with("POST", "/api/v1/computes", r#"{ "name" : "web-1" }"#, &key).await;
    assert_eq!((first.status, again.status), (201, 202));
    assert_eq!(first.text, again.text);
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert_eq!(again.header("idempotent-original-status"), "201");
    assert_eq!(again.header("location"), first.header("location"));
    assert_ne!(again.header("x-request-id"), first.header("x-request-id"));
    assert_eq!(api.get("/api/v1/computes").await.json()["meta"]["total"], 1);
}

#[tokio::test]
async fn platform_reports_usage() {
    let api = Api::new().await;
    let answer = api.send("GET", "/v1/usage", &[("authorization", "Bearer owner")], "").await;
    assert_eq!(answer.status, 200);
    let body = answer.json();
    assert_eq!((&body["month"], &body["requests"], &body["projects"]), (&json!("2026-01"), &json!(0), &json!(1)));
    let strettch = api.get("/api/v1/usage").await.json();
    assert_eq!((&strettch["success"], &strettch["data"]["month"]), (&json!(true), &json!("2026-01")));
}
