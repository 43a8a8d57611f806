//! What is decided first, seen from outside: each request is wrong in several ways, and one of them is answered.
#![allow(clippy::unwrap_used)] // what fails here fails the test

mod api;

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use api::Api;
use nephos_http::{Config, Peer, handle};

/// A request, and the status that it gets.
async fn expect(api: &Api, method: &str, path: &str, headers: &[(&str, &str)], body: &str, status: u16) {
    let answer = api.send(method, path, headers, body).await;
    assert_eq!(answer.status, status, "{method} {path} {headers:?} {body}: {}", answer.text);
}

#[tokio::test]
async fn each_step_comes_before_the_next() {
    let api = Api::new().await;
    let owner = ("authorization", "Bearer owner");
    let json = ("content-type", "application/json");
    let html = ("accept", "text/html");
    let huge = "x".repeat(1024 * 1024 + 1);
    let long = "a".repeat(40_000);

    // 1. Limits, before an unknown base.
    expect(&api, "GET", "/nowhere", &[("x-long", &long)], "", 431).await;
    expect(&api, "GET", "/v1/regions", &[("x-many", "a"); 129], "", 431).await;
    // 2. An unknown base, before the credential.
    expect(&api, "GET", "/nowhere", &[], "", 404).await;
    expect(&api, "GET", "/v2/projects", &[], "", 404).await;
    // 3. Preflight, before the credential.
    expect(&api, "OPTIONS", "/v1/projects", &[("access-control-request-method", "GET")], "", 204).await;
    // 4. The credential, before the path.
    expect(&api, "GET", "/v1/nothing", &[], "", 401).await;
    // 5. Budgets, before the path.
    let poor = Api::configured(Config::default(), "standard").await;
    for _ in 0..30 {
        expect(&poor, "GET", "/api/v1/nothing", &[owner], "", 404).await;
    }
    expect(&poor, "GET", "/api/v1/nothing", &[owner], "", 429).await;
    // 6. Path and method, before the role.
    expect(&api, "GET", "/v1/nothing", &[owner, html], "", 404).await;
    expect(&api, "PUT", "/v1/projects", &[owner, html], "", 405).await;
    // 7. The role, before media types.
    expect(&api, "DELETE", "/v1/projects/x?y=1", &[("authorization", "Bearer member"), html], "", 403).await;
    // 8. Accept, then Content-Type, then syntax; before the size.
    expect(&api, "POST", "/v1/projects?x=1", &[owner, html], &huge, 406).await;
    expect(&api, "POST", "/v1/projects?x=1", &[owner], &huge, 415).await;
    expect(&api, "POST", "/v1/projects?x=1", &[owner, json, ("content-encoding", "gzip")], &huge, 415).await;
    expect(&api, "POST", "/v1/projects?x=1", &[owner, json, ("content-encoding", "identity")], &huge, 400).await;
    expect(&api, "POST", "/v1/projects?x=1", &[owner, json], &huge, 400).await;
    // 9. The size and JSON, before idempotency.
    expect(&api, "POST", "/v1/projects", &[owner, json], &huge, 413).await;
    let key = ("idempotency-key", "k");
    expect(&api, "POST", "/v1/projects", &[owner, json, key], r#"{"name":"a"}"#, 201).await;
    expect(&api, "POST", "/v1/projects", &[owner, json, key], "{", 400).await;
    // 10. Idempotency, before fields.
    expect(&api, "POST", "/v1/projects", &[owner, json, key], r#"{"nam":"a"}"#, 422).await;
    // 11. Fields, before objects.
    expect(&api, "PATCH", "/v1/projects/x", &[owner, json], r#"{"name":""}"#, 400).await;
    // 12. Objects, then If-Match, then state.
    expect(&api, "PATCH", "/v1/projects/x", &[owner, json, ("if-match", "\"9\"")], r#"{"name":"b"}"#, 404).await;
    let default = api.get("/v1/projects?name=default").await.json()["data"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/projects/{default}");
    expect(&api, "DELETE", &path, &[owner, ("if-match", "\"9\"")], "", 412).await;
    expect(&api, "DELETE", &path, &[owner, ("if-match", "\"1\"")], "", 409).await;
}

#[tokio::test]
async fn paths_under_no_base_url_are_answered_in_the_shape_of_their_prefix() {
    let api = Api::new().await;
    let mut told = Vec::new();
    for path in ["/", "/v2/projects", "/sandbox/v2", "/api", "/api/v2/computes", "/nowhere"] {
        told.push(format!("GET {path}\n{}", api.send("GET", path, &[], "").await.transcript()));
    }
    insta::assert_snapshot!(told.join("\n\n"));
}

#[tokio::test]
async fn probes_and_documents_need_no_credential() {
    let api = Api::new().await;
    assert_eq!(api.send("GET", "/healthz", &[], "").await.status, 200);
    assert_eq!(api.send("GET", "/readyz", &[], "").await.status, 200);
    let document = api.send("GET", "/docs/openapi/platform.json", &[], "").await;
    assert_eq!(document.json()["openapi"], "3.1.0");
    assert_eq!(api.send("GET", "/v1/openapi.json", &[], "").await.status, 401);
    assert_eq!(api.get("/v1/openapi.json").await.text, document.text);
    assert_eq!(api.get("/api/v1/openapi.json").await.json()["openapi"], "3.1.0");
    api.app.drain();
    assert_eq!(api.send("GET", "/readyz", &[], "").await.status, 503);
    assert_eq!(api.send("GET", "/healthz", &[], "").await.status, 200);
}

#[tokio::test]
async fn budgets_are_told_on_successes_and_refusals() {
    let api = Api::configured(Config::default(), "standard").await;
    let mut told = Vec::new();
    for path in ["/v1/nothing", "/v1/regions", "/api/v1/regions"] {
        told.push(format!("GET {path}\n{}", api.get(path).await.transcript()));
    }
    told.push(format!("POST /api/v1/projects\n{}", api.post("/api/v1/projects", r#"{"name":"a"}"#).await.transcript()));
    while api.get("/v1/regions").await.status == 200 {}
    told.push(format!("GET /v1/regions\n{}", api.get("/v1/regions").await.transcript()));
    insta::assert_snapshot!(told.join("\n\n"));
    // One more fits as soon as the first has left the window; the first three requests were at the same time.
    api.world.clock.advance(Duration::from_secs(60)).await;
    assert_eq!(api.get("/v1/regions").await.status, 200);
}

#[tokio::test]
async fn scripts_of_known_origins_may_call() {
    let config = Config { cors_origins: vec!["https://app.example".to_owned()], ..Config::default() };
    let api = Api::configured(config, "unlimited").await;
    let ask = [("origin", "https://app.example"), ("access-control-request-method", "POST")];
    insta::assert_snapshot!(api.send("OPTIONS", "/v1/projects", &ask, "").await.transcript());
    let known = api.with("GET", "/v1/regions", "", &[("origin", "https://app.example")]).await;
    assert_eq!(known.header("access-control-allow-origin"), "https://app.example");
    assert!(known.header("access-control-expose-headers").contains("ratelimit"));
    let ask = [("origin", "https://evil.example"), ("access-control-request-method", "POST")];
    let unknown = api.send("OPTIONS", "/v1/projects", &ask, "").await;
    assert_eq!((unknown.status, unknown.has("access-control-allow-origin")), (204, false));
}

#[tokio::test]
async fn head_and_options_are_served() {
    let api = Api::new().await;
    let get = api.get("/v1/regions").await;
    let head = api.with("HEAD", "/v1/regions", "", &[]).await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    assert_eq!(head.header("content-length"), get.text.len().to_string());
    let options = api.with("OPTIONS", "/v1/projects/x", "", &[]).await;
    assert_eq!((options.status, options.header("allow")), (204, "DELETE, GET, HEAD, OPTIONS, PATCH"));
    let refused = api.with("PUT", "/v1/projects/x", "", &[]).await;
    assert_eq!((refused.status, refused.header("allow")), (405, "DELETE, GET, HEAD, OPTIONS, PATCH"));
}

#[tokio::test]
async fn a_host_of_the_sandbox() {
    let config = Config { sandbox_hosts: vec!["sandbox.example".to_owned()], ..Config::default() };
    let api = Api::configured(config, "unlimited").await;
    let test = ("authorization", "Bearer test");
    expect(&api, "GET", "/v1/projects", &[test, ("host", "Sandbox.example:443")], "", 200).await;
    expect(&api, "GET", "/v1/projects", &[test, ("host", "cloud.example")], "", 401).await;
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_forwarded_address_counts() {
    // The connection of every request here comes from the loopback address.
    for (trusted, statuses) in
        [(vec!["127.0.0.0/8"], [200, 401, 401]), (vec!["10.0.0.0/8"], [401; 3]), (vec![], [401; 3])]
    {
        let trusted_proxies = trusted.iter().map(|range| range.parse().unwrap()).collect();
        let api = Api::configured(Config { trusted_proxies, ..Config::default() }, "unlimited").await;
        api.narrowed("narrow", |key| key.allowed_ips = vec!["192.0.2.0/24".to_owned()]).await;
        let forwarded = ["198.51.100.1, 192.0.2.7", "192.0.2.7, 198.51.100.1", "nonsense"];
        for (from, status) in forwarded.into_iter().zip(statuses) {
            let headers = [("authorization", "Bearer narrow"), ("x-forwarded-for", from)];
            expect(&api, "GET", "/v1/projects", &headers, "", status).await;
        }
    }
}

/// A body that never comes.
struct Silent;

impl http_body::Body for Silent {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        Poll::Pending
    }
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_given_up() {
    let api = Api::new().await;
    let request = http::Request::post("/api/v1/projects")
        .header("authorization", format!("Bearer {}", api.key("owner").expose()))
        .header("content-type", "application/json")
        .body(Silent)
        .unwrap();
    let peer = Peer { address: std::net::Ipv4Addr::LOCALHOST.into() };
    let (app, clock) = (api.app.clone(), api.world.clock.clone());
    let waiters = clock.waiters();
    let answer = tokio::spawn(async move { handle(&app, request, peer).await });
    clock.settled(waiters + 1).await;
    clock.advance(Duration::from_secs(30)).await;
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 408);
    assert_eq!(answer.headers()["connection"], "close");
    assert!(answer.headers().contains_key("x-request-id"));
}

/// A body that comes when it is sent.
struct Late(Option<tokio::sync::oneshot::Receiver<bytes::Bytes>>);

impl http_body::Body for Late {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        let Some(receiver) = &mut self.0 else { return Poll::Ready(None) };
        let sent = std::task::ready!(Pin::new(receiver).poll(cx));
        self.0 = None;
        Poll::Ready(sent.ok().map(|bytes| Ok(http_body::Frame::data(bytes))))
    }
}

#[tokio::test]
async fn a_key_that_is_revoked_while_its_body_arrives_does_nothing() {
    let api = Api::new().await;
    for (change, status) in [("none", 201), ("revoked", 401)] {
        let made = api.post("/v1/api-keys", r#"{"name":"late"}"#).await.json();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let request = http::Request::post("/v1/projects")
            .header("authorization", format!("Bearer {}", made["secret"].as_str().unwrap()))
            .header("content-type", "application/json")
            .body(Late(Some(receiver)))
            .unwrap();
        let peer = Peer { address: std::net::Ipv4Addr::LOCALHOST.into() };
        let (app, clock) = (api.app.clone(), api.world.clock.clone());
        let waiters = clock.waiters();
        let answer = tokio::spawn(async move { handle(&app, request, peer).await });
        clock.settled(waiters + 1).await;
        if change == "revoked" {
            let path = format!("/v1/api-keys/{}", made["id"].as_str().unwrap());
            expect(&api, "DELETE", &path, &[("authorization", "Bearer owner")], "", 200).await;
        }
        sender.send(bytes::Bytes::from_static(b"{\"name\":\"late\"}")).unwrap();
        assert_eq!(answer.await.unwrap().status(), status, "{change}");
    }
    assert_eq!(api.get("/v1/projects?name=late").await.json()["meta"]["total"], 1);
}

#[tokio::test]
async fn every_problem_of_a_request_is_told_at_once() {
    let api = Api::new().await;
    let answers = [
        api.get("/v1/computes?page=0&limit=101&status=flying&nme=x&label=x&after=cmp_1").await,
        api.get("/api/v1/projects?after=prj_1").await,
        api.with("POST", "/api/v1/projects?x=1", "{}", &[("idempotency-key", "not a uuid")]).await,
        api.post("/v1/projects", "{\"name\": \"a\",\n \"name\": \"b\"}").await,
        api.post("/v1/projects", "{\"name\":\n gamma}").await,
        api.post("/v1/projects", "").await,
        api.post("/v1/computes", r#"{"name":"Web_1","labels":{"a b":"c"},"protected":"yes","colour":"red"}"#).await,
    ];
    insta::assert_snapshot!(answers.map(|a| a.transcript()).join("\n\n"));
}
