//! Malformed requests of every kind, on every base URL: the status, the code, and the place that is named.

#![allow(clippy::unwrap_used)] // all of it is a test

#[path = "program/program.rs"]
#[allow(dead_code)] // shared with tests that use more of it
mod program;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use program::{Place, Server};

const WAIT_MAX: Duration = Duration::from_secs(30);

/// The place that a detail names.
#[derive(Debug, Clone, Copy)]
enum At {
    Nowhere,
    Pointer(&'static str),
    Parameter(&'static str),
    Header(&'static str),
}
use At::{Header, Nowhere, Parameter, Pointer};

/// A request without what it has in common with all others.
struct Bad {
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Option<Vec<u8>>,
}

impl Bad {
    fn get(path: &str) -> Self {
        Self { method: "GET", path: path.to_owned(), headers: Vec::new(), body: None }
    }

    fn method(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    fn post(path: &str, body: impl Into<Vec<u8>>) -> Self {
        let json = ("content-type", "application/json".to_owned());
        Self { method: "POST", path: path.to_owned(), headers: vec![json], body: Some(body.into()) }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.retain(|(other, _)| *other != name || name == "idempotency-key");
        self.headers.push((name, value.into()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(other, _)| *other != name);
        self
    }
}

struct Answer {
    status: u16,
    head: String,
    body: Value,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

/// Sends bytes as they are and reads to the end of the connection.
fn exchange(server: &Server, bytes: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
    // A server that has seen enough may answer and hang up before it has read everything.
    _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let end = stream.read_to_end(&mut answer);
    assert!(end.is_ok() || !answer.is_empty(), "{end:?}");
    let text = String::from_utf8(answer).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: serde_json::from_str(body).unwrap_or(Value::Null) }
}

/// One base URL with a key for it and a key for another.
struct Base<'a> {
    server: &'a Server,
    path: &'static str,
    key: &'a str,
    other_key: &'a str,
}

impl Base<'_> {
    fn send(&self, bad: &Bad) -> Answer {
        let mut bytes = Vec::new();
        write!(bytes, "{} {}{} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n", bad.method, self.path, bad.path).unwrap();
        if !bad.headers.iter().any(|(name, _)| *name == "authorization") {
            write!(bytes, "authorization: Bearer {}\r\n", self.key).unwrap();
        }
        for (name, value) in bad.headers.iter().filter(|(_, value)| !value.is_empty()) {
            write!(bytes, "{name}: {value}\r\n").unwrap();
        }
        if let Some(body) = &bad.body {
            write!(bytes, "content-length: {}\r\n", body.len()).unwrap();
        }
        bytes.extend(b"\r\n");
        bytes.extend(bad.body.iter().flatten());
        exchange(self.server, &bytes)
    }

    fn found(&self, path: &str) -> Value {
        let answer = self.send(&Bad::get(path));
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.body
    }

    /// Sends it and says what is wrong with the answer, if anything.
    fn expect(&self, bad: &Bad, status: u16, code: &str, at: At) -> Option<String> {
        let answer = self.send(bad);
        let body = &answer.body;
        let is_strettch = self.path == "/api/v1";
        let (code, id) = if is_strettch {
            (code.to_uppercase(), &body["requestId"])
        } else {
            (code.to_owned(), &body["request_id"])
        };
        let (key, value) = match at {
            Nowhere => ("", ""),
            Pointer(value) => ("pointer", value),
            Parameter(value) => ("parameter", value),
            Header(value) => ("header", value),
        };
        let details = body["details"].as_array().cloned().unwrap_or_default();
        let is_placed = key.is_empty() || details.iter().any(|d| d[key] == json!(value));
        let is_whole =
            details.iter().all(|d| d["code"].is_string() && d["message"].as_str().is_some_and(|m| !m.is_empty()))
                && body["message"].as_str().is_some_and(|m| !m.is_empty())
                && id.as_str() == answer.header("x-request-id")
                && answer.header("content-type").is_some_and(|t| t.starts_with("application/json"))
                && if is_strettch {
                    body["success"] == json!(false) && body["timestamp"].is_string()
                } else {
                    body["status"] == json!(status) && body["doc_url"].as_str().is_some_and(|u| u.ends_with(&code))
                };
        let fine = answer.status == status && body["code"] == json!(code) && is_placed && is_whole;
        (!fine).then(|| {
            let sent: String =
                String::from_utf8_lossy(bad.body.as_deref().unwrap_or_default()).chars().take(200).collect();
            format!(
                "{} {}{} {sent}\n  expected {status} {code} {at:?}\n  {}\n  {body}",
                bad.method,
                self.path,
                bad.path,
                answer.head.lines().next().unwrap_or_default()
            )
        })
    }
}

/// A compute with one field more.
fn compute(field: &str, value: &Value) -> Bad {
    Bad::post("/computes", json!({"name": "web-1", field: value}).to_string())
}

fn project(body: &str) -> Bad {
    Bad::post("/projects", body)
}

const GOOD: &str = r#"{"name":"a"}"#;
const NO_PROJECT: &str = "prj_01h2xcejqtf2nbrexx3vqjhp41";

fn table(default: &str, other_key: &str) -> Vec<(Bad, u16, &'static str, At)> {
    let too_many_keys: Vec<String> = (0..100).map(|i| format!("key-{i}")).collect();
    let default = format!("/projects/{default}");
    let bad = "bad_request";
    let absent = "resource_not_found";
    vec![
        // Credentials.
        (Bad::get("/projects").with("authorization", ""), 401, "unauthorized", Nowhere),
        (Bad::get("/projects").with("authorization", "Basic YTpi"), 401, "unauthorized", Nowhere),
        (Bad::get("/projects").with("authorization", "Bearer"), 401, "unauthorized", Nowhere),
        (Bad::get("/projects").with("authorization", "Bearer sk_live_short"), 401, "unauthorized", Nowhere),
        (Bad::get("/projects").with("authorization", format!("Bearer {other_key}")), 401, "unauthorized", Nowhere),
        // Paths and methods.
        (Bad::get(""), 404, absent, Nowhere),
        (Bad::get("/projcts"), 404, absent, Nowhere),
        (Bad::get("/projects/"), 404, absent, Nowhere),
        (Bad::get("/projects/%ff"), 404, absent, Nowhere),
        (Bad::get("/computes/web-1"), 404, absent, Nowhere),
        (Bad::get(&format!("/computes/{NO_PROJECT}")), 404, absent, Nowhere),
        (Bad::get("/computes").method("PUT"), 405, "method_not_allowed", Nowhere),
        // Headers.
        (Bad::get("/projects").with("accept", "text/html"), 406, "not_acceptable", Header("accept")),
        (project(GOOD).with("content-type", "text/plain"), 415, "unsupported_media_type", Header("content-type")),
        (project(GOOD).without("content-type"), 415, "unsupported_media_type", Header("content-type")),
        (project(GOOD).with("idempotency-key", "a\tb"), 400, bad, Header("idempotency-key")),
        (
            project(GOOD)
                .with("idempotency-key", "59ea8f7e-3c1b-4f6e-8a9d-0123456789ab")
                .with("idempotency-key", "59ea8f7e-3c1b-4f6e-8a9d-0123456789ac"),
            400,
            bad,
            Header("idempotency-key"),
        ),
        (Bad::get(&default).method("DELETE").with("if-match", "seven"), 400, bad, Header("if-match")),
        (Bad::get(&default).method("DELETE").with("if-match", "\"77\""), 412, "precondition_failed", Nowhere),
        (Bad::get("/projects").with("x-long", "x".repeat(40_000)), 431, "headers_too_large", Nowhere),
        // Queries.
        (Bad::get("/projects?colour=red"), 400, bad, Parameter("colour")),
        (Bad::get("/projects?limit=0"), 400, bad, Parameter("limit")),
        (Bad::get("/projects?limit=101"), 400, bad, Parameter("limit")),
        (Bad::get("/projects?limit=5&limit=6"), 400, bad, Parameter("limit")),
        (Bad::get("/projects?page=0"), 400, bad, Parameter("page")),
        (Bad::get("/projects?page=one"), 400, bad, Parameter("page")),
        (Bad::get("/projects?page=99999999999999999999"), 400, bad, Parameter("page")),
        (Bad::get(&format!("/projects?page=1&after={NO_PROJECT}")), 400, bad, Parameter("after")),
        (Bad::get("/projects?after=cmp_01h2xcejqtf2nbrexx3vqjhp41"), 400, bad, Parameter("after")),
        (Bad::get("/projects?name=%zz"), 400, bad, Parameter("name")),
        (Bad::get("/computes?status=flying"), 400, bad, Parameter("status")),
        (Bad::get("/computes?label=tier"), 400, bad, Parameter("label")),
        (Bad::get("/computes?project_id=7"), 400, bad, Parameter("project_id")),
        (Bad::get("/operations/op_01h2xcejqtf2nbrexx3vqjhp41?wait=31"), 400, bad, Parameter("wait")),
        (Bad::get("/usage?month=2026-13"), 400, bad, Parameter("month")),
        (Bad::post("/projects?dry_run=maybe", GOOD), 400, bad, Parameter("dry_run")),
        // Bodies.
        (project(&"x".repeat(1024 * 1024 + 1)), 413, "payload_too_large", Nowhere),
        (project(""), 400, bad, Pointer("/name")),
        (project("{"), 400, bad, Nowhere),
        (project("{\"name\":\"a\"} x"), 400, bad, Nowhere),
        (Bad::post("/projects", *b"{\"name\":\"\xff\"}"), 400, bad, Nowhere),
        (project(&"[".repeat(100_000)), 400, bad, Nowhere),
        (project("[]"), 400, bad, Pointer("")),
        (project(r#"{"name":"a","name":"b"}"#), 400, bad, Pointer("/name")),
        // Fields.
        (project("{}"), 400, bad, Pointer("/name")),
        (project(r#"{"name":null}"#), 400, bad, Pointer("/name")),
        (project(r#"{"name":7}"#), 400, bad, Pointer("/name")),
        (project(r#"{"name":""}"#), 400, bad, Pointer("/name")),
        (project(r#"{"name":"a\nb"}"#), 400, bad, Pointer("/name")),
        (project(&json!({"name": "x".repeat(101)}).to_string()), 400, bad, Pointer("/name")),
        (project(r#"{"name":"a","colour":"red"}"#), 400, bad, Pointer("/colour")),
        (project(r#"{"name":"a","a/b~c":1}"#), 400, bad, Pointer("/a~1b~0c")),
        (Bad::post("/computes", r#"{"name":"Web_1"}"#), 400, bad, Pointer("/name")),
        (Bad::post("/computes", json!({"name": "x".repeat(64)}).to_string()), 400, bad, Pointer("/name")),
        (compute("user_data", &json!("x".repeat(64 * 1024 + 1))), 400, bad, Pointer("/user_data")),
        (compute("user_data", &json!("a\0b")), 400, bad, Pointer("/user_data")),
        (compute("labels", &json!(["a"])), 400, bad, Pointer("/labels")),
        (compute("labels", &json!({"a b": "c"})), 400, bad, Pointer("/labels/a b")),
        (compute("labels", &json!({"a": 1})), 400, bad, Pointer("/labels/a")),
        (compute("protected", &json!("yes")), 400, bad, Pointer("/protected")),
        (compute("restart_policy", &json!("always")), 400, bad, Pointer("/restart_policy")),
        (compute("project_id", &json!("shop")), 400, bad, Pointer("/project_id")),
        (compute("environment", &json!("moon")), 400, bad, Pointer("/environment")),
        (compute("region", &json!("moon")), 400, bad, Pointer("/region")),
        (compute("size", &json!("huge")), 400, bad, Pointer("/size")),
        (compute("image", &json!("windows")), 400, bad, Pointer("/image")),
        (compute("ssh_keys", &json!("laptop")), 400, bad, Pointer("/ssh_keys")),
        (compute("ssh_keys", &json!(["nobody"])), 400, bad, Pointer("/ssh_keys/0")),
        (compute("ssh_keys", &json!(["ssh-ed25519 AAAA"])), 400, bad, Pointer("/ssh_keys/0")),
        (compute("ssh_keys", &json!(too_many_keys)), 400, bad, Pointer("/ssh_keys")),
        (Bad::post("/ssh-keys", r#"{"name":"k","public_key":"ssh-ed25519 ????"}"#), 400, bad, Pointer("/public_key")),
        (
            Bad::post("/ssh-keys", r#"{"name":"k","public_key":"-----BEGIN OPENSSH PRIVATE KEY-----"}"#),
            400,
            bad,
            Pointer("/public_key"),
        ),
        (Bad::post("/api-keys", r#"{"name":"k","scopes":["moon:read"]}"#), 400, bad, Pointer("/scopes/0")),
        (Bad::post("/api-keys", r#"{"name":"k","allowed_ips":["10.0.0.0/33"]}"#), 400, bad, Pointer("/allowed_ips/0")),
        (
            Bad::post("/api-keys", r#"{"name":"k","expires_at":"2020-01-01T00:00:00Z"}"#),
            400,
            bad,
            Pointer("/expires_at"),
        ),
        // States.
        (Bad::get(&default).method("DELETE"), 409, "conflict", Nowhere),
    ]
}

#[test]
fn malformed_requests_are_told_what_and_where() {
    let place = Place::new();
    let installed = place.init();
    let server = place.serve(&[]);
    let [live, test] = ["live_key", "test_key"].map(|name| installed[name].as_str().unwrap());
    let mut wrong = Vec::new();
    for (path, key, other_key) in [("/v1", live, test), ("/sandbox/v1", test, live), ("/api/v1", live, test)] {
        let base = Base { server: &server, path, key, other_key };
        let default = base.found("/projects")["data"][0]["id"].as_str().unwrap().to_owned();
        for (bad, status, code, at) in table(&default, base.other_key) {
            wrong.extend(base.expect(&bad, status, code, at));
        }
        for list in ["/computes", "/ssh-keys", "/operations"] {
            assert_eq!(base.found(list)["meta"]["total"], json!(0), "{path}{list}: a refused request left something");
        }
        assert_eq!(base.found("/projects")["meta"]["total"], json!(1), "{path}: a refused request left something");
        assert_eq!(base.found("/api-keys")["meta"]["total"], json!(1), "{path}: a refused request left something");
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    server.stop();
}

#[test]
fn everything_unknown_is_told_at_once() {
    let place = Place::new();
    let installed = place.init();
    let server = place.serve(&[]);
    let [key, other_key] = ["test_key", "live_key"].map(|name| installed[name].as_str().unwrap());
    let base = Base { server: &server, path: "/sandbox/v1", key, other_key };
    let body = json!({"name": "web-1", "environment": "moon", "region": "moon", "size": "huge", "image": "windows",
        "ssh_keys": ["nobody", "ssh-ed25519 AAAA"]});
    // What is wrong with the fields comes before what is not there.
    let unknown = base.send(&compute("project_id", &json!(NO_PROJECT)));
    assert_eq!(unknown.status, 404, "{}", unknown.body);
    let answer = base.send(&Bad::post("/computes", body.to_string()));
    let mut pointers: Vec<_> =
        answer.body["details"].as_array().unwrap().iter().map(|d| d["pointer"].as_str().unwrap()).collect();
    pointers.sort_unstable();
    assert_eq!(
        pointers,
        ["/environment", "/image", "/region", "/size", "/ssh_keys/0", "/ssh_keys/1"],
        "{}",
        answer.body
    );
    server.stop();
}

#[test]
fn a_key_of_the_other_mode_is_told_where_to_go() {
    let place = Place::new();
    let installed = place.init();
    let server = place.serve(&[]);
    for (path, key, says) in
        [("/v1", "test_key", "/sandbox/v1"), ("/api/v1", "test_key", "/sandbox/v1"), ("/sandbox/v1", "live_key", "/v1")]
    {
        let (status, body) = server.get(&format!("{path}/me"), installed[key].as_str());
        let body: Value = serde_json::from_str(&body).unwrap();
        assert!(status == 401 && body["message"].as_str().unwrap().contains(says), "{path}: {body}");
    }
    server.stop();
}

#[test]
fn what_is_no_http_is_answered_in_the_error_form() {
    let place = Place::new();
    let server = place.serve(&[]);
    for bytes in [
        &b"hello\r\n\r\n"[..],
        b"GET /v1/projects\r\n\r\n",
        b"GET /v1/projects HTTP/9.9\r\n\r\n",
        b"GET /v1/projects HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n",
        b"POST /v1/projects HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/projects HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx",
    ] {
        let answer = exchange(&server, bytes);
        let sent = String::from_utf8_lossy(bytes);
        assert_eq!((answer.status, &answer.body["code"]), (400, &json!("bad_request")), "{sent:?}: {}", answer.head);
        assert_eq!(answer.body["request_id"].as_str(), answer.header("x-request-id"), "{sent:?}");
    }
    assert_eq!(exchange(&server, b"GET nowhere HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").status, 404);
    assert_eq!(server.get("/healthz", None).0, 200);
    server.stop();
}
