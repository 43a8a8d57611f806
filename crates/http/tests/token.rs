//! Tokens, limits and the credential itself over HTTP, on both surfaces.
#![allow(clippy::unwrap_used)] // what fails here fails the test

mod api;

use api::{Answer, Api};
use nephos_control::signing::JWKS_MAX_AGE_S;
use nephos_http::Config;
use nephos_model::scope::{Noun, Scope};
use serde_json::Value;

/// A token from a surface's answer.
fn token(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text);
    let json = answer.json();
    let body = json.get("data").unwrap_or(&json);
    body["access_token"].as_str().unwrap().to_owned()
}

async fn ask(api: &Api, method: &str, path: &str, token: &str, body: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let mut headers = vec![("authorization", bearer.as_str())];
    if !body.is_empty() {
        headers.push(("content-type", "application/json"));
    }
    api.send(method, path, &headers, body).await
}

#[tokio::test]
async fn a_key_is_exchanged_on_both_surfaces() {
    let api = Api::new().await;
    for base in ["/v1", "/api/v1"] {
        let made = api
            .post(&format!("{base}/tokens"), r#"{"scopes":["workspace:read","project:read"],"expires_in":60}"#)
            .await;
        let json = made.json();
        let body = if base == "/v1" { &json } else { &json["data"] };
        assert_eq!(body["issued_token_type"], "urn:ietf:params:oauth:token-type:access_token");
        assert_eq!((&body["token_type"], &body["expires_in"]), (&Value::from("Bearer"), &Value::from(60)));
        assert_eq!(body["scope"], "project:read workspace:read");
        assert_eq!((made.header("cache-control"), made.has("location")), ("no-store", false));
        let token = token(&made);
        for base in ["/v1", "/api/v1"] {
            assert_eq!(ask(&api, "GET", &format!("{base}/projects"), &token, "").await.status, 200);
            let me = ask(&api, "GET", &format!("{base}/me"), &token, "").await.json()["data"].clone();
            assert_eq!(
                (&me["kind"], &me["scopes"][0], &me["role"]),
                (&"token".into(), &"project:read".into(), &"owner".into())
            );
            assert!(me["expires_at"].is_string() && me["api_key"]["id"].is_string());
            assert_eq!(ask(&api, "POST", &format!("{base}/projects"), &token, r#"{"name":"a"}"#).await.status, 403);
            let again = ask(&api, "POST", &format!("{base}/tokens"), &token, "").await;
            assert_eq!((again.status, &again.json()["details"][0]["code"]), (403, &"not_a_key".into()));
        }
        let other_mode = ask(&api, "GET", "/sandbox/v1/projects", &token, "").await;
        assert_eq!(other_mode.status, 401);
        assert_eq!(other_mode.header("www-authenticate"), "Bearer error=\"invalid_token\"");
        assert!(other_mode.text.contains("Live tokens work under /v1 or /api/v1."), "{}", other_mode.text);
    }
    let me = api.get("/v1/me").await.json()["data"].clone();
    assert_eq!((&me["kind"], &me["expires_at"]), (&"api_key".into(), &Value::Null));
    // Without a body, with a test key, in the sandbox.
    let made = api.send("POST", "/sandbox/v1/tokens", &[("authorization", "Bearer test")], "").await;
    assert_eq!(made.json()["expires_in"], 900);
    let test = token(&made);
    assert_eq!(ask(&api, "GET", "/sandbox/v1/projects", &test, "").await.status, 200);
    let live = ask(&api, "GET", "/api/v1/projects", &test, "").await;
    assert!(live.status == 401 && live.text.contains("Test tokens work under /sandbox/v1."), "{}", live.text);
}

#[tokio::test]
async fn what_is_asked_of_a_token_is_checked() {
    let api = Api::new().await;
    api.narrowed("narrow", |key| key.scopes = Some([Scope::read(Noun::Compute)].into_iter().collect())).await;
    let narrow = [("authorization", "Bearer narrow"), ("content-type", "application/json")];
    let answers = [
        api.post("/v1/tokens", r#"{"scopes":["compute:fly","x"],"expires_in":901,"audience":"y"}"#).await,
        api.post("/api/v1/tokens", r#"{"expires_in":0}"#).await,
        api.post("/v1/tokens", r#"{"scopes":[]}"#).await,
        api.send("POST", "/v1/tokens", &narrow, r#"{"scopes":["compute:read","compute:write"]}"#).await,
        api.with("GET", "/v1/tokens", "", &[]).await,
    ];
    insta::assert_snapshot!(answers.map(|a| a.transcript()).join("\n\n"));
    let made = api.send("POST", "/v1/tokens", &narrow, "{}").await;
    assert_eq!((made.status, &made.json()["scope"]), (200, &"compute:read".into()));
    // No idempotency: each is another one, and a key in no form is not looked at.
    let keyed = [("idempotency-key", "k")];
    let first = api.with("POST", "/v1/tokens", "{}", &keyed).await;
    let second = api.with("POST", "/v1/tokens", "{}", &keyed).await;
    assert_ne!(token(&first), token(&second));
    assert!(!second.has("idempotent-replayed"));
    assert_eq!(api.with("POST", "/api/v1/tokens", "{}", &[("idempotency-key", "no uuid")]).await.status, 200);
}

#[tokio::test]
async fn the_public_keys_are_public() {
    let api = Api::new().await;
    let token = token(&api.post("/v1/tokens", "{}").await);
    let keys = api.send("GET", "/.well-known/jwks.json", &[], "").await;
    assert_eq!(keys.status, 200);
    assert_eq!(keys.header("cache-control"), format!("public, max-age={JWKS_MAX_AGE_S}"));
    let key = &keys.json()["keys"][0];
    let mut members: Vec<_> = key.as_object().unwrap().keys().map(String::as_str).collect();
    members.sort_unstable();
    assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x"]);
    assert_eq!(token.split('.').count(), 3);
    let head = api.send("HEAD", "/.well-known/jwks.json", &[], "").await;
    assert_eq!((head.status, head.header("content-length")), (200, keys.text.len().to_string().as_str()));
    assert_eq!(api.send("POST", "/.well-known/jwks.json", &[], "").await.status, 404);
}

#[tokio::test]
async fn every_authenticated_response_tells_the_budgets() {
    let api = Api::configured(Config::default(), "partner").await;
    let json = ("content-type", "application/json");
    let once = ("idempotency-key", "59ea8f7e-3c1b-4f6e-8a9d-0123456789ab");
    for (base, headers) in [
        ("/v1", &["ratelimit", "ratelimit-policy"][..]),
        ("/api/v1", &["x-ratelimit-limit-second", "x-ratelimit-remaining-second", "x-ratelimit-reset-second"][..]),
    ] {
        for (method, path, more, body, status) in [
            ("GET", "/projects", vec![], "", 200),
            ("OPTIONS", "/projects", vec![], "", 204),
            ("GET", "/nothing", vec![], "", 404),
            ("PUT", "/projects", vec![], "", 405),
            ("GET", "/projects", vec![("accept", "text/html")], "", 406),
            ("POST", "/projects", vec![("content-type", "text/plain")], "{}", 415),
            ("POST", "/projects", vec![json], "{", 400),
            ("POST", "/projects", vec![json, once], r#"{"name":"a"}"#, 201),
            ("POST", "/projects", vec![json, once], r#"{"name":"a"}"#, if base == "/v1" { 201 } else { 202 }),
            ("POST", "/projects", vec![json, once], r#"{"name":"b"}"#, 422),
        ] {
            let headers_of = [&[("authorization", "Bearer owner")][..], &more].concat();
            let answer = api.send(method, &format!("{base}{path}"), &headers_of, body).await;
            assert_eq!(answer.status, status, "{method} {base}{path}: {}", answer.text);
            for name in headers {
                assert!(answer.has(name), "{method} {base}{path} {status} has no {name}");
            }
        }
    }
    // A store that can't answer is 503, and the budget was spent.
    let before = api.get("/v1/projects").await.header("ratelimit").to_owned();
    api.world.database.store().close().await;
    let down = api.get("/v1/projects").await;
    assert!(down.status == 503 || down.status == 500, "{}", down.status);
    assert!(down.has("ratelimit") && down.header("ratelimit") != before);
}

#[tokio::test]
async fn limits_tell_what_is_left() {
    let api = Api::configured(Config::default(), "standard").await;
    api.make("/v1/projects", r#"{"name":"a"}"#).await;
    for base in ["/v1", "/api/v1"] {
        let limits = api.get(&format!("{base}/limits")).await.json()["data"].clone();
        insta::assert_snapshot!(format!("limits{}", base.replace('/', "_")), format!("{limits:#}"));
    }
}
