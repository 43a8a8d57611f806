//! The edges of HTTP, for each operation on both surfaces: what is refused, with which status, headers and shape.
#![allow(clippy::unwrap_used)] // what fails here fails the test

mod api;

use std::time::Duration;

use api::{Answer, Api};
use nephos_http::endpoint::{self, Endpoint};
use nephos_http::{Config, Peer, handle};
use serde_json::json;

const JSON: (&str, &str) = ("content-type", "application/json");
const OWNER: (&str, &str) = ("authorization", "Bearer owner");

/// A path of an operation; nothing is there.
fn path(base: &str, endpoint: &Endpoint) -> String {
    format!("{base}{}", endpoint.path.replace("{id}", "nothing"))
}

/// A refusal in the shape of the surface, with a request id.
fn assert_refused(answer: &Answer, base: &str, status: u16, code: &str, asked: &str) {
    assert_eq!(answer.status, status, "{asked}: {}", answer.text);
    let body = answer.json();
    let id = answer.header("x-request-id");
    assert_eq!(answer.header("content-type"), "application/json", "{asked}");
    assert!(body["details"].is_array() && body["message"].is_string(), "{asked}: {body}");
    if base == "/api/v1" {
        assert_eq!((&body["success"], &body["code"]), (&json!(false), &json!(code.to_uppercase())), "{asked}");
        assert_eq!(body["requestId"], id, "{asked}");
    } else {
        assert_eq!((&body["status"], &body["code"]), (&json!(status), &json!(code)), "{asked}");
        assert_eq!(body["request_id"], id, "{asked}");
        assert!(body["doc_url"].as_str().unwrap().ends_with(&format!("/docs/errors/{code}")), "{asked}");
    }
}

#[tokio::test]
async fn every_operation_refuses_the_same_things_in_the_shape_of_its_surface() {
    let api = Api::new().await;
    let huge = format!("\"{}\"", "x".repeat(1024 * 1024));
    let long = "a".repeat(33 * 1024);
    for base in ["/v1", "/api/v1"] {
        for endpoint in endpoint::all().filter(|e| !e.sandbox_only) {
            let path = path(base, endpoint);
            let asked = format!("{} {path}", endpoint.method);
            let send =
                async |method: &str, headers: &[(&str, &str)], body: &str| api.send(method, &path, headers, body).await;
            let wrong = send("TRACE", &[OWNER], "").await;
            assert_refused(&wrong, base, 405, "method_not_allowed", &asked);
            let options = send("OPTIONS", &[OWNER], "").await;
            assert_eq!((options.status, options.text.as_str()), (204, ""), "{asked}");
            assert_eq!(wrong.header("allow"), options.header("allow"), "{asked}");
            assert!(options.header("allow").split(", ").any(|method| method == endpoint.method), "{asked}");
            let has_head = options.header("allow").split(", ").any(|method| method == "HEAD");
            assert_eq!(has_head, options.header("allow").contains("GET"), "{asked}");

            if !endpoint.is_open {
                let keyless = send(endpoint.method, &[], "").await;
                assert_refused(&keyless, base, 401, "unauthorized", &asked);
                assert!(keyless.header("www-authenticate").starts_with("Bearer"), "{asked}");
            }
            let answer = send(endpoint.method, &[OWNER, ("accept", "image/png")], "").await;
            assert_refused(&answer, base, 406, "not_acceptable", &asked);
            let answer = send(endpoint.method, &[OWNER, ("x-long", &long)], "").await;
            assert_refused(&answer, base, 431, "headers_too_large", &asked);
            let unknown = api.send(endpoint.method, &format!("{path}?no_such=1"), &[OWNER], "").await;
            assert_refused(&unknown, base, 400, "bad_request", &asked);
            assert_eq!(unknown.json()["details"][0]["parameter"], "no_such", "{asked}");
            if endpoint.method == "GET" {
                let head = send("HEAD", &[OWNER], "").await;
                let get = send("GET", &[OWNER], "").await;
                assert_eq!((head.status, head.text.as_str()), (get.status, ""), "{asked}");
                assert_eq!(head.header("content-length"), get.text.len().to_string(), "{asked}");
            }
            if matches!(endpoint.method, "POST" | "PUT" | "PATCH") {
                let plain = send(endpoint.method, &[OWNER, ("content-type", "text/plain")], "{}").await;
                assert_refused(&plain, base, 415, "unsupported_media_type", &asked);
                let none = send(endpoint.method, &[OWNER], "{}").await;
                assert_refused(&none, base, 415, "unsupported_media_type", &asked);
                let packed = send(endpoint.method, &[OWNER, JSON, ("content-encoding", "gzip")], "{}").await;
                assert_refused(&packed, base, 415, "unsupported_media_type", &asked);
                let large = send(endpoint.method, &[OWNER, JSON], &huge).await;
                assert_refused(&large, base, 413, "payload_too_large", &asked);
                assert_eq!(large.header("connection"), "close", "{asked}");
                let broken = send(endpoint.method, &[OWNER, JSON], "{").await;
                assert_refused(&broken, base, 400, "bad_request", &asked);
                let unknown = send(endpoint.method, &[OWNER, JSON], r#"{"no_such":1}"#).await;
                assert_refused(&unknown, base, 400, "bad_request", &asked);
                assert!(unknown.text.contains("\"/no_such\""), "{asked}: {}", unknown.text);
            }
        }
    }
}

/// A body that never comes.
struct Silent;

impl http_body::Body for Silent {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        std::task::Poll::Pending
    }
}

#[tokio::test]
async fn every_operation_with_a_body_waits_for_it_as_long() {
    let api = Api::new().await;
    for base in ["/v1", "/api/v1"] {
        let mut waiting = Vec::new();
        for endpoint in endpoint::all().filter(|e| !e.sandbox_only && matches!(e.method, "POST" | "PUT" | "PATCH")) {
            let request = http::Request::builder()
                .method(endpoint.method)
                .uri(path(base, endpoint))
                .header("authorization", format!("Bearer {}", api.key("owner").expose()))
                .header("content-type", "application/json")
                .body(Silent)
                .unwrap();
            let (app, peer) = (api.app.clone(), Peer { address: std::net::Ipv4Addr::LOCALHOST.into() });
            waiting.push(tokio::spawn(async move { handle(&app, request, peer).await }));
        }
        api.world.clock.settled(waiting.len()).await;
        api.world.clock.advance(Duration::from_secs(30)).await;
        for answer in waiting {
            let answer = answer.await.unwrap();
            assert_eq!(
                (answer.status(), &answer.headers()["connection"]),
                (http::StatusCode::REQUEST_TIMEOUT, &"close".parse().unwrap())
            );
        }
    }
}

#[tokio::test]
async fn entity_tags_come_in_every_form() {
    let api = Api::started().await;
    let id = api.make("/v1/projects", r#"{"name":"alpha"}"#).await;
    for base in ["/v1", "/api/v1"] {
        let path = format!("{base}/projects/{id}");
        let tag = api.get(&path).await.header("etag").to_owned();
        let get = async |value: &str| api.with("GET", &path, "", &[("if-none-match", value)]).await.status;
        let rename = async |value: &str| api.with("PATCH", &path, "{}", &[("if-match", value)]).await.status;
        for (value, read, write) in [
            (tag.clone(), 304, 200),
            (format!("W/{tag}"), 304, 412),
            ("*".to_owned(), 304, 200),
            (format!("\"x\", {tag}, W/\"y\""), 304, 200),
            ("\"x\"".to_owned(), 200, 412),
            ("W/\"x\"".to_owned(), 200, 412),
            ("\"\"".to_owned(), 200, 412),
            ("x".to_owned(), 400, 400),
            (format!("{tag} \"x\""), 400, 400),
            ("\"x".to_owned(), 400, 400),
        ] {
            assert_eq!((get(&value).await, rename(&value).await), (read, write), "{path} {value}");
        }
        let head = api.with("HEAD", &path, "", &[("if-none-match", &tag)]).await;
        assert_eq!((head.status, head.header("etag")), (304, tag.as_str()));
        // A precondition is decided after the object is found, and before its state.
        let gone = api
            .with("DELETE", &format!("{base}/projects/prj_01kf0rdqg0fxvvh1fb3wvjkqxh"), "", &[("if-match", "\"1\"")])
            .await;
        assert_eq!(gone.status, 404);
    }
    let default = api.get("/v1/projects?name=default").await.json()["data"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/projects/{default}");
    assert_eq!(api.with("DELETE", &path, "", &[("if-match", "\"x\"")]).await.status, 412);
    assert_eq!(api.with("DELETE", &path, "", &[("if-match", "*")]).await.status, 409);

    // Whatever is read alone has a tag that changes when it does.
    api.make("/v1/computes", r#"{"name":"web-1"}"#).await;
    let operation = api.get("/v1/operations").await.json()["data"][0]["id"].as_str().unwrap().to_owned();
    let image = api.get("/v1/images").await.json()["data"][0]["id"].as_str().unwrap().to_owned();
    for path in [
        format!("/v1/operations/{operation}"),
        format!("/api/v1/images/{image}"),
        "/v1/me".to_owned(),
        "/v1/limits".to_owned(),
    ] {
        let read = api.get(&path).await;
        let tag = read.header("etag").to_owned();
        assert!(tag.starts_with('"'), "{path}: {tag}");
        let again = api.with("GET", &path, "", &[("if-none-match", &tag)]).await;
        assert_eq!(again.status, 304, "{path}");
    }
    let path = format!("/v1/operations/{operation}");
    let before = api.get(&path).await.header("etag").to_owned();
    api.world.until(async || Some(api.get(&path).await.json()).filter(|o| o["data"]["status"] == "succeeded")).await;
    assert_eq!(api.with("GET", &path, "", &[("if-none-match", &before)]).await.status, 200);
}

#[tokio::test]
async fn whoever_prefers_to_wait_gets_the_end() {
    let api = Api::started().await;
    let prefer = ("prefer", "wait=30, envelope=always");
    let waiting = async |path: &str, body: &str, more: &[(&str, &str)]| -> Answer {
        let mut headers = vec![prefer];
        headers.extend(more);
        // Small steps, each with time for the background to see it: it needs a fifth of what is waited for.
        let moving = async {
            for _ in 0..1_000 {
                api.world.clock.advance(Duration::from_millis(100)).await;
                for _ in 0..3 {
                    api.get("/v1/operations").await;
                    api.world.cloud.looks().wait_for(|looks| *looks == 0).await.unwrap();
                }
            }
        };
        tokio::select! {
            answer = api.with("POST", path, body, &headers) => answer,
            () = moving => panic!("it does not answer"),
        }
    };
    let key = ("idempotency-key", "59ea8f7e-3c1b-4f6e-8a9d-0123456789ab");
    let made = waiting("/v1/computes", r#"{"name":"web-1"}"#, &[key]).await;
    assert_eq!((made.status, made.header("preference-applied")), (201, "envelope=always, wait=30"), "{}", made.text);
    let compute = made.json()["data"].clone();
    assert_eq!(compute["status"], "running", "{compute}");
    // A replay is what was answered, byte for byte, at once.
    let again = api.with("POST", "/v1/computes", r#"{"name":"web-1"}"#, &[key]).await;
    assert_eq!((&again.text, again.header("preference-applied")), (&made.text, "envelope=always, wait=30"));
    assert_eq!(again.header("etag"), made.header("etag"));

    let path = format!("/api/v1/computes/{}", compute["id"].as_str().unwrap());
    let stopped = waiting(&format!("{path}/stop"), "", &[]).await;
    assert_eq!((stopped.status, stopped.header("preference-applied")), (202, "wait=30"), "{}", stopped.text);
    assert_eq!(stopped.json()["data"]["status"], "succeeded");
    // Who does not wait, or not for long, is told what there is.
    let started = api.with("POST", &format!("{path}/start"), "", &[("prefer", "wait=0")]).await;
    assert_eq!((started.status, &started.json()["data"]["status"]), (202, &json!("pending")));
    // What is no number is no preference, and a rehearsal has nothing to wait for.
    let odd = api.with("POST", "/v1/computes?dry_run=true", r#"{"name":"web-2"}"#, &[("prefer", "wait=soon")]).await;
    assert_eq!((odd.status, odd.has("preference-applied")), (200, false));
}

#[tokio::test]
async fn a_rehearsal_tells_price_and_capacity() {
    let api = Api::started().await;
    for base in ["/v1", "/api/v1"] {
        let dry = api.post(&format!("{base}/computes?dry_run=true"), r#"{"name":"web-1"}"#).await;
        assert_eq!(dry.status, 200, "{}", dry.text);
        let body = dry.json();
        let told = body.get("data").unwrap_or(&body);
        assert_eq!(told["price"]["running_microunits_per_hour"], 1_000, "{told}");
        assert_eq!(told["capacity"], json!({"region": "local", "vcpus": 1, "memory_mib": 128, "disk_gib": 1}));
    }
    let id = api.make("/v1/computes", r#"{"name":"web-1"}"#).await;
    let path = format!("/v1/computes/{id}");
    api.world.until(async || Some(api.get(&path).await.json()).filter(|c| c["data"]["status"] == "running")).await;
    let dry = api.post(&format!("{path}/stop?dry_run=true"), "").await;
    assert_eq!((dry.status, &dry.json()["price"]["stopped_microunits_per_hour"]), (200, &json!(200)), "{}", dry.text);
    assert_eq!(dry.json()["capacity"]["vcpus"], 1);
    assert_eq!(api.post(&format!("{path}/start?dry_run=true"), "").await.status, 409);
    assert_eq!(api.get(&path).await.json()["data"]["status"], "running");
}

#[tokio::test]
async fn scripts_of_other_origins_are_let_in_by_configuration_only() {
    let closed = Api::new().await;
    let preflight = [("origin", "https://app.example"), ("access-control-request-method", "POST")];
    let answer = closed.send("OPTIONS", "/v1/projects", &preflight, "").await;
    assert_eq!((answer.status, answer.has("access-control-allow-origin"), answer.has("vary")), (204, false, false));

    let config = Config { cors_origins: vec!["https://app.example".to_owned()], ..Config::default() };
    let open = Api::configured(config, "unlimited").await;
    for base in ["/v1", "/api/v1"] {
        let path = format!("{base}/projects");
        let answer = open.send("OPTIONS", &path, &preflight, "").await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (204, "https://app.example"));
        assert!(answer.header("access-control-allow-headers").contains("idempotency-key"));
        let other = [("origin", "https://evil.example"), ("access-control-request-method", "POST")];
        let answer = open.send("OPTIONS", &path, &other, "").await;
        assert_eq!(
            (answer.status, answer.has("access-control-allow-origin"), answer.header("vary")),
            (204, false, "origin")
        );
        // Refusals are read by scripts too.
        let answer = open.send("GET", &path, &preflight[..1], "").await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (401, "https://app.example"));
        for name in
            ["x-request-id", "location", "etag", "retry-after", "operation-id", "idempotent-replayed", "ratelimit"]
        {
            assert!(answer.header("access-control-expose-headers").contains(name), "{name}");
        }
        assert_eq!(open.with("GET", &path, "", &[]).await.header("vary"), "origin");
    }
}
