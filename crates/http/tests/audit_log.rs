//! The audit log over HTTP: who may read it, what a refused request leaves, and its export.

#![allow(clippy::unwrap_used)] // a test may

mod api;

use api::Api;
use serde_json::{Value, json};

const LINES: &str = "application/x-ndjson";

#[tokio::test]
async fn it_tells_what_was_done_refused_and_taken_out() {
    let api = Api::new().await;
    let project = api.make("/v1/projects", r#"{"name":"shop"}"#).await;
    let member = [("authorization", "Bearer member")];
    assert_eq!(api.send("DELETE", "/v1/workspace?confirm=wrong", &member, "").await.status, 403);
    assert_eq!(api.send("GET", "/v1/audit-log", &member, "").await.status, 403);
    let header = [("x-request-id", "mine-1")];
    assert_eq!(api.with("GET", "/v1/projects/prj_0000000000000000000000000f", "", &header).await.status, 404);
    api.world.cloud.flush().await.unwrap();

    let log = api.get("/v1/audit-log").await;
    let rows = log.json()["data"].as_array().unwrap().clone();
    let row = |action: &str, status: u16| {
        let found = rows.iter().find(|row| row["action"] == action && row["status"] == status);
        found.unwrap_or_else(|| panic!("{action} {status} in {rows:#?}"))
    };
    assert_eq!(
        (&row("project.create", 201)["resource_id"], &row("project.create", 201)["before"]),
        (&json!(project), &Value::Null)
    );
    assert_eq!(row("project.create", 201)["after"]["name"], "shop");
    let missed = row("project.get", 404);
    assert_eq!(
        (&missed["client_request_id"], &missed["resource_id"]),
        (&json!("mine-1"), &json!("prj_0000000000000000000000000f"))
    );
    assert_ne!(row("workspace.delete", 403)["actor"]["id"], missed["actor"]["id"]);
    row("audit_log.list", 403);
    let seqs: Vec<i64> = rows.iter().map(|row| row["seq"].as_i64().unwrap()).collect();
    assert!(seqs.windows(2).all(|pair| pair[0] == pair[1] + 1), "{seqs:?}");

    let accept = [("accept", LINES)];
    let first = api.with("GET", "/v1/audit-log?limit=2", "", &accept).await;
    assert_eq!((first.status, first.header("content-type")), (200, LINES));
    assert_eq!(first.header("vary"), "accept");
    let lines: Vec<Value> = first.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().map(|row| row["seq"].as_i64().unwrap()).collect::<Vec<_>>(), [1, 2]);
    let after = lines[1]["id"].as_str().unwrap();
    assert!(first.header("link").contains(&format!("after={after}")), "{}", first.header("link"));
    let next = api.with("GET", &format!("/api/v1/audit-log?after={after}"), "", &accept).await;
    let next: Value = serde_json::from_str(next.text.lines().next().unwrap()).unwrap();
    assert_eq!(next["seq"], 3);
    assert_eq!(api.with("GET", "/v1/audit-log", "", &[("accept", "text/csv")]).await.status, 406);

    api.world.cloud.flush().await.unwrap();
    let exports = api.get("/v1/audit-log?action=audit_log.list").await.json();
    let told: Vec<_> = exports["data"].as_array().unwrap().iter().map(|row| row["status"].as_i64().unwrap()).collect();
    assert_eq!(told, [406, 200, 200, 403], "{exports}");
    for wrong in ["order=sideways", "from=yesterday", "page=1&after=aud_0000000000000000000000000f", "colour=red"] {
        assert_eq!(api.get(&format!("/v1/audit-log?{wrong}")).await.status, 400, "{wrong}");
    }
}
