//! Resources over both surfaces: lists, entity tags, replays, dry runs, actions.
#![allow(clippy::unwrap_used)] // what fails here fails the test

mod api;

use std::time::Duration;

use api::Api;
use nephos_model::scope::{Noun, Scope, Scopes};
use serde_json::json;

#[tokio::test]
async fn lists_are_cut_by_page_and_by_after() {
    let api = Api::new().await;
    let mut ids = vec![api.get("/v1/projects").await.json()["data"][0]["id"].as_str().unwrap().to_owned()];
    for name in ["a", "b", "c", "d"] {
        ids.push(api.make("/v1/projects", &json!({"name": name}).to_string()).await);
    }
    ids.reverse();
    let seen = |body: &serde_json::Value| -> Vec<String> {
        body["data"].as_array().unwrap().iter().map(|p| p["id"].as_str().unwrap().to_owned()).collect()
    };

    let page = api.get("/v1/projects?page=2&limit=2").await;
    let body = page.json();
    assert_eq!(seen(&body), ids[2..4]);
    assert_eq!(
        (&body["meta"]["total"], &body["meta"]["page"], &body["meta"]["next"]),
        (&json!(5), &json!(2), &json!(ids[3]))
    );
    assert_eq!(
        page.header("link"),
        "</v1/projects?limit=2>; rel=\"first\", </v1/projects?page=1&limit=2>; rel=\"prev\", </v1/projects?page=3&limit=2>; rel=\"next\""
    );

    // The row that `after` names may be gone.
    api.with("DELETE", &format!("/v1/projects/{}", ids[1]), "", &[]).await;
    let after = api.get(&format!("/v1/projects?limit=2&after={}", ids[1])).await;
    let body = after.json();
    assert_eq!(seen(&body), ids[2..4]);
    assert_eq!((&body["meta"]["total"], body["meta"].get("page")), (&json!(4), None));
    let last = api.get(&format!("/v1/projects?limit=2&after={}", ids[3])).await.json();
    assert_eq!((seen(&last), &last["meta"]["next"]), (ids[4..].to_vec(), &json!(null)));

    // Past the end: nothing, and the true total.
    let past = api.get("/v1/projects?page=4294967295").await.json();
    assert_eq!((past["data"].as_array().unwrap().len(), &past["meta"]["total"]), (0, &json!(4)));
    // The page before is the last that holds something.
    let link = api.get("/v1/projects?page=70&limit=3").await.header("link").to_owned();
    assert!(link.ends_with("</v1/projects?page=2&limit=3>; rel=\"prev\""), "{link}");
    // An unreserved character may be percent-encoded: it is the same path.
    assert_eq!(api.get("/v1/%70rojects").await.json()["meta"]["total"], 4);
    assert_eq!(api.get("/v1/%2570rojects").await.status, 404);
}

#[tokio::test]
async fn entity_tags_guard_changes_and_spare_reads() {
    let api = Api::new().await;
    let id = api.make("/v1/projects", r#"{"name":"alpha"}"#).await;
    let path = format!("/v1/projects/{id}");
    let read = api.get(&path).await;
    let tag = read.header("etag").to_owned();
    let spared = api.with("GET", &path, "", &[("if-none-match", &tag)]).await;
    assert_eq!((spared.status, spared.text.as_str(), spared.header("etag")), (304, "", tag.as_str()));

    let changed = api.with("PATCH", &path, r#"{"name":"beta"}"#, &[("if-match", &tag)]).await;
    assert_eq!((changed.status, &changed.json()["name"]), (200, &json!("beta")));
    assert_ne!(changed.header("etag"), tag);
    let late = api.with("PATCH", &path, r#"{"name":"gamma"}"#, &[("if-match", &tag)]).await;
    assert_eq!((late.status, &late.json()["code"]), (412, &json!("precondition_failed")));
    assert_eq!(api.with("GET", &path, "", &[("if-none-match", &tag)]).await.status, 200);
    assert_eq!(api.with("PATCH", &path, "{}", &[]).await.json()["name"], "beta");
    assert_eq!(api.with("DELETE", &path, "", &[("if-match", "*")]).await.status, 200);
}

#[tokio::test]
async fn a_replay_is_the_first_answer_whatever_happened_since() {
    let api = Api::new().await;
    let key = ("idempotency-key", "key-1");
    let envelope = ("prefer", "envelope=always");
    let body = r#"{"name":"alpha"}"#;
    let first = api.with("POST", "/v1/projects", body, &[key, envelope]).await;
    assert_eq!((first.status, first.header("preference-applied")), (201, "envelope=always"));
    let id = first.json()["data"]["id"].as_str().unwrap().to_owned();
    assert_eq!(api.with("DELETE", &format!("/v1/projects/{id}"), "", &[]).await.status, 200);

    let again = api.with("POST", "/v1/projects", body, &[key]).await;
    assert_eq!((again.status, &again.text), (201, &first.text));
    assert_eq!(again.header("preference-applied"), "envelope=always");
    assert_eq!((again.header("etag"), again.header("location")), (first.header("etag"), first.header("location")));

    let other = api.with("POST", "/v1/projects", r#"{"name":"beta"}"#, &[key]).await;
    assert_eq!((other.status, &other.json()["code"]), (422, &json!("idempotency_key_reused")));
    // Another surface and another path are other requests.
    assert_eq!(api.with("POST", "/v1/ssh-keys", "{}", &[key]).await.status, 400);
    // Refusals are not recorded.
    let key = [("idempotency-key", "key-2")];
    assert_eq!(api.with("POST", "/v1/projects", r#"{"name":""}"#, &key).await.status, 400);
    assert_eq!(api.with("POST", "/v1/projects", body, &key).await.status, 201);
}

#[tokio::test]
async fn an_envelope_is_given_to_whom_prefers_it() {
    let api = Api::new().await;
    let prefer = [("prefer", "envelope=always")];
    let made = api.with("POST", "/v1/projects", r#"{"name":"alpha"}"#, &prefer).await;
    assert_eq!(made.json()["meta"]["requestId"], made.header("x-request-id"));
    let path = format!("/v1/projects/{}", made.json()["data"]["id"].as_str().unwrap());
    let gone = api.with("DELETE", &path, "", &prefer).await;
    assert_eq!((&gone.json()["data"]["deleted"], gone.header("preference-applied")), (&json!(true), "envelope=always"));
    let strettch = api.with("GET", "/api/v1/projects", "", &prefer).await;
    assert!(!strettch.has("preference-applied"));
}

#[tokio::test]
async fn a_dry_run_tells_the_price_and_does_nothing() {
    let api = Api::started().await;
    let body = r#"{"name":"web-1"}"#;
    let key = [("idempotency-key", "same")];
    let dry = api.with("POST", "/v1/computes?dry_run=true", body, &key).await;
    assert_eq!(dry.status, 200);
    insta::assert_snapshot!(dry.text);
    assert_eq!(api.get("/v1/computes").await.json()["meta"]["total"], 0);
    // It left no record of its key.
    assert_eq!(api.with("POST", "/v1/computes", body, &key).await.status, 201);
}

#[tokio::test]
async fn a_compute_from_its_making_to_its_end() {
    let api = Api::started().await;
    let made = api.post("/v1/computes", r#"{"name":"web-1","labels":{"tier":"web"}}"#).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let compute = made.json();
    let id = compute["id"].as_str().unwrap();
    let path = format!("/v1/computes/{id}");
    assert_eq!(compute["status"], "provisioning");
    assert_eq!(made.header("operation-id"), compute["operation_id"].as_str().unwrap());

    let operation = format!("/v1/operations/{}", made.header("operation-id"));
    let ended = api
        .world
        .until(async || Some(api.get(&operation).await.json()["data"].clone()).filter(|o| o["status"] == "succeeded"))
        .await;
    assert_eq!((&ended["progress"], &ended["resource_id"]), (&json!(100), &json!(id)));
    assert_eq!(api.get(&format!("{operation}?wait=30")).await.json()["data"]["status"], "succeeded");
    assert_eq!(api.get(&path).await.json()["data"]["status"], "running");
    assert_eq!(api.get(&format!("{path}/console")).await.status, 200);
    assert_eq!(api.get("/v1/computes?label=tier:web&status=running").await.json()["meta"]["total"], 1);

    let stopping = api.post(&format!("{path}/stop"), "").await;
    assert_eq!((stopping.status, &stopping.json()["kind"]), (202, &json!("compute.stop")));
    assert_eq!(stopping.header("location"), format!("/v1/operations/{}", stopping.json()["id"].as_str().unwrap()));
    let refused = api.post(&format!("{path}/stop"), "").await;
    assert_eq!((refused.status, &refused.json()["details"][0]["code"]), (409, &json!("state_forbids")));

    let gone = api.with("DELETE", &path, "", &[]).await;
    assert_eq!((gone.status, gone.has("operation-id")), (200, true));
    assert_eq!(api.get(&path).await.status, 404);
    assert!(api.get("/v1/events?limit=100").await.json()["data"].as_array().is_some());
}

#[tokio::test]
async fn lists_are_filtered() {
    let api = Api::started().await;
    for (name, labels) in
        [("web-1", json!({"app": "shop", "tier": "web"})), ("web-2", json!({"app": "shop"})), ("db-1", json!({}))]
    {
        api.make("/v1/computes", &json!({"name": name, "labels": labels}).to_string()).await;
    }
    api.make("/v1/api-keys", r#"{"name":"ci"}"#).await;
    for (path, total) in [
        ("/v1/computes?label=app:shop", 2),
        ("/v1/computes?label=app:shop&label=tier:web", 1),
        ("/v1/computes?label=app:shop&label=tier:web&label=tier:db", 0),
        ("/v1/computes?label=app:shop&label=app:shop&name=web-2", 1),
        ("/v1/computes?label=app:shop&region=local", 2),
        ("/v1/api-keys?name=ci", 1),
        ("/v1/api-keys?name=none", 0),
        ("/api/v1/images?name=small", 1),
        ("/api/v1/images?name=large", 0),
        ("/v1/ssh-keys?name=none", 0),
    ] {
        let listed = api.get(path).await;
        assert_eq!(listed.json()["meta"]["total"], total, "{path}: {}", listed.text);
        assert_eq!(listed.json()["data"].as_array().unwrap().len(), total, "{path}");
    }
    let link = api.get("/v1/computes?label=app:shop&label=tier:web").await.header("link").to_owned();
    assert!(link.starts_with("</v1/computes?label=app:shop&label=tier:web&limit=20>"), "{link}");
    let many = api.get("/v1/computes?label=a:1&label=a:2&label=a:3&label=a:4&label=a:5").await;
    assert_eq!((many.status, &many.json()["details"][0]["code"]), (400, &json!("too_many")));
}

#[tokio::test]
async fn wrong_fields_and_unknown_names_are_told_together() {
    let api = Api::new().await;
    let body = r#"{"name":"Web_1","protected":"yes","region":"moon","size":"huge","image":"none","ssh_keys":["mine"],
        "environment":"attic","colour":"red"}"#;
    let wrong = api.post("/v1/computes", body).await.json();
    let mut pointers: Vec<_> =
        wrong["details"].as_array().unwrap().iter().map(|d| d["pointer"].as_str().unwrap().to_owned()).collect();
    pointers.sort();
    let all = ["/colour", "/environment", "/image", "/name", "/protected", "/region", "/size", "/ssh_keys/0"];
    assert_eq!((&wrong["status"], pointers.as_slice()), (&json!(400), all.map(str::to_owned).as_slice()));
    // A name that can't be one is not looked up: it is told once.
    let wrong = api.post("/v1/computes", r#"{"name":"web-1","region":7,"size":"huge"}"#).await.json();
    assert_eq!(wrong["details"].as_array().unwrap().len(), 2, "{wrong}");
}

#[tokio::test]
async fn an_id_in_a_body_is_as_unknown_as_one_in_a_path() {
    let api = Api::new().await;
    let other = [("authorization", "Bearer other"), ("content-type", "application/json")];
    let theirs = api.send("POST", "/v1/projects", &other, r#"{"name":"a"}"#).await.json()["id"].clone();
    for (path, id, status) in [
        ("/v1/computes", json!("prj_01kf0rdqg0fxvvh1fb3wvjkqxh"), 404),
        ("/v1/computes", theirs.clone(), 404),
        ("/v1/computes", json!("prj_1"), 400),
        ("/api/v1/api-keys", json!("prj_01kf0rdqg0fxvvh1fb3wvjkqxh"), 404),
        ("/api/v1/api-keys", theirs, 404),
        ("/api/v1/api-keys", json!("prj_1"), 400),
    ] {
        let refused = api.post(path, &json!({"name": "web-1", "project_id": id}).to_string()).await;
        let body = refused.json();
        assert_eq!((refused.status, &body["details"][0]["pointer"]), (status, &json!("/project_id")), "{body}");
    }
}

#[tokio::test]
async fn a_forced_deletion_names_what_cleans_up() {
    let api = Api::started().await;
    let project = api.make("/v1/projects", r#"{"name":"alpha"}"#).await;
    api.make("/v1/computes", &json!({"name": "web-1", "project_id": project}).to_string()).await;
    let path = format!("/v1/projects/{project}");
    assert_eq!(api.with("DELETE", &path, "", &[]).await.status, 409);
    let gone = api.with("DELETE", &format!("{path}?force=true"), "", &[]).await;
    assert_eq!((gone.status, gone.has("operation-id")), (200, true), "{}", gone.text);
    let operation = format!("/v1/operations/{}", gone.header("operation-id"));
    assert_eq!(api.get(&path).await.status, 404);
    let seen = api.get(&operation).await.json()["data"].clone();
    assert_eq!((&seen["kind"], &seen["resource_id"]), (&json!("project.delete"), &json!(project)));
    api.world
        .until(async || Some(api.get(&operation).await.json()).filter(|o| o["data"]["status"] == "succeeded"))
        .await;
}

#[tokio::test]
async fn what_a_credential_does_not_see_is_as_if_it_were_not_there() {
    let api = Api::new().await;
    let theirs = api.make("/v1/projects", r#"{"name":"alpha"}"#).await;
    let other = [("authorization", "Bearer other")];
    let foreign = api.send("GET", &format!("/v1/projects/{theirs}"), &other, "").await;
    let nothing = api.send("GET", "/v1/projects/prj_01kf0rdqg0fxvvh1fb3wvjkqxh", &other, "").await;
    let malformed = api.send("GET", "/v1/projects/prj_1", &other, "").await;
    let told = |a: &api::Answer| a.text.replace(a.header("x-request-id"), "");
    assert_eq!((foreign.status, told(&foreign)), (404, told(&nothing)));
    assert_eq!(told(&foreign), told(&malformed));

    api.narrowed("narrow", |key| key.scopes = Some(Scopes::default().with(Scope::read(Noun::Compute)))).await;
    let refused = api.send("GET", "/v1/projects", &[("authorization", "Bearer narrow")], "").await;
    assert_eq!((refused.status, &refused.json()["details"][0]["required_scope"]), (403, &json!("project:read")));
}

#[tokio::test]
async fn a_key_is_made_used_rotated_and_revoked() {
    let api = Api::new().await;
    let body =
        r#"{"name":"ci","scopes":["project:read"],"allowed_ips":["127.0.0.0/8"],"expires_at":"2026-02-01T00:00:00Z"}"#;
    let key = [("idempotency-key", "k")];
    let made = api.with("POST", "/v1/api-keys", body, &key).await;
    assert_eq!((made.status, made.header("cache-control")), (201, "no-store"), "{}", made.text);
    let first = made.json()["secret"].as_str().unwrap().to_owned();
    let path = format!("/v1/api-keys/{}", made.json()["id"].as_str().unwrap());
    let list = async |secret: &str| {
        api.send("GET", "/v1/projects", &[("authorization", &format!("Bearer {secret}"))], "").await.status
    };
    assert_eq!(list(&first).await, 200);
    assert!(api.get(&path).await.json()["data"].get("secret").is_none());

    // The same member's retry sees the secret again, nobody else's.
    assert_eq!(api.with("POST", "/v1/api-keys", body, &key).await.text, made.text);
    let admin = [("authorization", "Bearer admin"), ("content-type", "application/json"), key[0]];
    assert_eq!(api.send("POST", "/v1/api-keys", &admin, body).await.status, 403);

    let rotated = api.post(&format!("{path}/rotate"), r#"{"grace_seconds":60}"#).await;
    assert_eq!(rotated.status, 200, "{}", rotated.text);
    let second = rotated.json()["secret"].as_str().unwrap().to_owned();
    assert_eq!((list(&first).await, list(&second).await), (200, 200));
    api.world.clock.advance(Duration::from_secs(61)).await;
    assert_eq!((list(&first).await, list(&second).await), (401, 200));
    assert_eq!(api.post(&format!("{path}/rotate"), r#"{"grace_seconds":2592001}"#).await.status, 400);

    assert_eq!(api.with("DELETE", &path, "", &[]).await.status, 200);
    assert_eq!(list(&second).await, 401);
    let me = api.get("/v1/me").await.json();
    let own = me["data"]["api_key"]["id"].as_str().unwrap();
    assert_eq!(api.with("DELETE", &format!("/v1/api-keys/{own}"), "", &[]).await.status, 409);
}

#[tokio::test]
async fn requests_are_counted_by_project() {
    let api = Api::new().await;
    let id = api.make("/v1/projects", r#"{"name":"alpha"}"#).await;
    api.get(&format!("/v1/projects/{id}")).await;
    api.get("/v1/projects").await;
    api.get("/v1/nothing").await;
    api.send("GET", "/v1/projects", &[], "").await;
    let usage = api.get("/v1/usage").await;
    let body = usage.json();
    assert_eq!((&body["month"], &body["requests"], &body["projects"]), (&json!("2026-01"), &json!(4), &json!(2)));
    let rows = body["by_project"].as_array().unwrap();
    let of = |project: serde_json::Value| rows.iter().find(|r| r["project_id"] == project).unwrap()["requests"].clone();
    assert_eq!((of(json!(id)), of(json!(null))), (json!(2), json!(2)));
    assert_eq!(api.get("/v1/usage?month=2026-13").await.status, 400);
    assert_eq!(api.get("/v1/usage?month=2027-01").await.status, 400);
    let grouped = api.get("/v1/usage?group_by=day").await.json();
    assert_eq!((&grouped["group_by"], &grouped["groups"][0]["key"]), (&json!("day"), &json!("2026-01-15")));
    assert_eq!(api.get("/v1/usage?group_by=colour").await.status, 400);
    let table = api.with("GET", "/v1/usage?group_by=region", "", &[("accept", "text/csv")]).await;
    assert_eq!((table.status, table.header("content-type"), table.header("vary")), (200, "text/csv", "accept"));
    let lines: Vec<_> = table.text.split("\r\n").collect();
    assert_eq!(lines[0], "month,group_by,key,requests,compute_seconds,amount_microunits,currency");
    assert!(lines[1].starts_with("2026-01,region,,") && lines[1].ends_with(",0,0,EUR"), "{lines:?}");
    let member = api.send("GET", "/v1/usage", &[("authorization", "Bearer member")], "").await.json();
    assert_eq!(member["amount_microunits"], json!(null));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_once_a_key_makes_one_thing_and_renames_all_go_through() {
    let api = Api::new().await;
    let key = [("idempotency-key", "once")];
    let create = || api.with("POST", "/v1/projects", r#"{"name":"alpha"}"#, &key);
    let answers = futures_util::future::join_all((0..16).map(|_| create())).await;
    for answer in &answers {
        assert!(matches!(answer.status, 201 | 409), "{}", answer.text);
        assert!(answer.status == 201 || answer.has("retry-after"));
    }
    let made = answers.iter().find(|a| a.status == 201).unwrap();
    assert!(answers.iter().filter(|a| a.status == 201).all(|a| a.text == made.text));
    assert_eq!(api.get("/v1/projects?name=alpha").await.json()["meta"]["total"], 1);
    assert_eq!(create().await.text, made.text);

    let path = format!("/v1/projects/{}", made.json()["id"].as_str().unwrap());
    let rename = |n: usize| {
        let (path, body) = (path.clone(), json!({"name": format!("name-{n}")}).to_string());
        let api = &api;
        async move { api.with("PATCH", &path, &body, &[]).await.status }
    };
    let statuses = futures_util::future::join_all((0..4).map(rename)).await;
    assert_eq!(statuses, [200; 4]);
    assert_eq!(api.get(&path).await.header("etag"), "\"5\"");
}

#[tokio::test]
async fn the_status_is_told_to_anybody_and_to_programs() {
    let api = Api::new().await;
    api.get("/v1/projects").await;
    api.world.cloud.beat().await.unwrap();
    api.world.clock.advance(Duration::from_secs(60)).await;
    let platform = api.get("/v1/status").await.json()["data"].clone();
    assert_eq!(platform["periods"][0]["uptime_percent"], json!(100.0));
    assert_eq!(platform["regions"][0]["name"], json!("local"));
    assert_eq!(api.get("/api/v1/status").await.json()["data"], platform);
    let public = api.with("GET", "/status.json", "", &[("authorization", "")]).await;
    assert_eq!((public.status, public.json()), (200, platform));
    let docs = api.with("GET", "/docs", "", &[("authorization", "")]).await;
    assert!(docs.text.contains("<b>100.000 %</b> uptime"), "{}", docs.text);
}
