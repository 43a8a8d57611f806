//! Calls to the API: one credential, bounded retries, and errors that keep all that the server said.
//!
//! A create is sent with an idempotency key and the same key on every try, so that a lost answer never makes two of
//! anything. Deliberately not here: what the resources mean.

use std::fmt;
use std::io::{BufRead as _, BufReader, Read as _};
use std::time::Duration;

use http::{HeaderMap, Method};
use nephos_model::Entropy;
use serde_json::Value;

use crate::output::escape;
use crate::system::{pause, uuid_v4};

/// Tries of one call at most.
const ATTEMPTS_MAX: u32 = 6;
/// A server's wish to be left alone is followed up to this; a longer one ends the call.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// The first pause between tries; each doubles, with up to half of it on top by chance.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
/// Time to connect.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// Time for one whole exchange; a long-poll of 30 seconds fits in.
const CALL_DEADLINE: Duration = Duration::from_secs(60);
/// Bytes of an answer at most.
const ANSWER_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Items of a page.
const PAGE_ITEMS: u32 = 100;

/// Why a command failed. Each has its exit status.
#[derive(Debug)]
pub enum Failure {
    /// Something on this side: a file, a setting, an unclear name.
    Local(String),
    /// There is no credential to send.
    Credential(String),
    /// A setting is wrong.
    Setting(String),
    /// The server refused.
    Refused(Refusal),
    /// There was no answer.
    Unreachable(String),
    /// The operation ended without success.
    Operation(String),
    /// The operation had not ended in time.
    Waiting(String),
}

/// What the server said.
#[derive(Debug)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The machine-readable reason.
    pub code: String,
    /// The sentence for people.
    pub message: String,
    /// Every reason.
    pub details: Vec<Value>,
    /// By which the server's log finds the request.
    pub request_id: String,
}

impl Failure {
    /// The exit status of the command, as `nephos --help` lists them.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Local(_) => 1,
            Self::Setting(_) => 2,
            Self::Credential(_) => 3,
            Self::Refused(refusal) => match refusal.status {
                401 | 403 => 3,
                404 | 410 => 4,
                409 | 412 => 5,
                422 | 429 => 6,
                500.. => 7,
                _ => 1,
            },
            Self::Unreachable(_) => 7,
            Self::Operation(_) => 8,
            Self::Waiting(_) => 9,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(text)
            | Self::Credential(text)
            | Self::Setting(text)
            | Self::Unreachable(text)
            | Self::Operation(text)
            | Self::Waiting(text) => f.write_str(text),
            Self::Refused(r) => {
                write!(f, "{} ({}, {})", escape(&r.message), escape(&r.code), r.status)?;
                for detail in &r.details {
                    let text = |key: &str| detail.get(key).and_then(Value::as_str).map(escape);
                    let place =
                        ["pointer", "parameter", "header", "resource_id", "budget"].iter().find_map(|k| text(k));
                    let message = text("message").unwrap_or_default();
                    let code = text("code").unwrap_or_default();
                    match place {
                        Some(place) => write!(f, "\n  {place}: {message} ({code})")?,
                        None => write!(f, "\n  {message} ({code})")?,
                    }
                }
                if r.request_id.is_empty() { Ok(()) } else { write!(f, "\n  request {}", escape(&r.request_id)) }
            }
        }
    }
}

/// An answer with a 2xx status.
#[derive(Debug)]
pub struct Answer {
    /// The resource, list or report.
    pub data: Value,
    /// Beside it: `next`, `total`, …
    pub meta: Value,
    /// Headers.
    pub headers: HeaderMap,
}

/// A server and a credential.
pub struct Api<'a> {
    agent: ureq::Agent,
    base: String,
    key: String,
    entropy: &'a dyn Entropy,
}

impl<'a> Api<'a> {
    /// A client of the server at `url`. A test key goes to the sandbox.
    pub fn new(url: &str, key: Option<&str>, entropy: &'a dyn Entropy) -> Result<Self, Failure> {
        let key = key.map(str::trim).filter(|k| !k.is_empty()).ok_or_else(|| {
            Failure::Credential(
                "there is no API key: set CLOUD_API_KEY to one that `nephos init` or `nephos keys create` printed"
                    .to_owned(),
            )
        })?;
        if !key.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Failure::Credential("CLOUD_API_KEY holds characters that no API key has".to_owned()));
        }
        let origin = url.trim_end_matches('/');
        let web = origin.parse::<http::Uri>().ok().filter(|u| matches!(u.scheme_str(), Some("http" | "https")));
        if web.and_then(|u| u.authority().cloned()).is_none() {
            return Err(Failure::Setting(format!(
                "{} is no server address; NEPHOS_URL or --url is like http://127.0.0.1:7600",
                escape(url)
            )));
        }
        let base = if origin.ends_with("/v1") {
            origin.to_owned()
        } else if key.starts_with("sk_test_") {
            format!("{origin}/sandbox/v1")
        } else {
            format!("{origin}/v1")
        };
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT_DEADLINE))
            .timeout_global(Some(CALL_DEADLINE))
            .user_agent(concat!("nephos-cli/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self { agent: config.into(), base, key: key.to_owned(), entropy })
    }

    /// Reads `path` (below the base URL, with its query).
    pub fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.call(&Method::GET, path, None)
    }

    /// Creates or acts; safe to repeat, by an idempotency key.
    pub fn post(&self, path: &str, body: &Value) -> Result<Answer, Failure> {
        self.call(&Method::POST, path, Some(body))
    }

    /// Changes.
    pub fn patch(&self, path: &str, body: &Value) -> Result<Answer, Failure> {
        self.call(&Method::PATCH, path, Some(body))
    }

    /// Deletes.
    pub fn delete(&self, path: &str) -> Result<Answer, Failure> {
        self.call(&Method::DELETE, path, None)
    }

    /// The newest `limit` items of a list, over as many pages as it takes.
    pub fn list(&self, path: &str, query: &[(&str, &str)], limit: u32) -> Result<Vec<Value>, Failure> {
        let mut items = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let left = limit.saturating_sub(u32::try_from(items.len()).unwrap_or(u32::MAX));
            let page = left.min(PAGE_ITEMS).to_string();
            let mut pairs = query.to_vec();
            pairs.push(("limit", &page));
            pairs.extend(after.as_deref().map(|id| ("after", id)));
            let answer = self.get(&format!("{path}?{}", query_string(&pairs)))?;
            let Value::Array(found) = answer.data else {
                return Err(Failure::Unreachable(format!(
                    "{path} did not answer with a list; is this server a nephos?"
                )));
            };
            let empty = found.is_empty();
            items.extend(found);
            after = answer.meta.get("next").and_then(Value::as_str).map(str::to_owned);
            if after.is_none() || empty || items.len() >= limit as usize {
                return Ok(items);
            }
        }
    }

    /// Follows a stream of server-sent events: hands id and data of each to `told`, until that says no or the stream
    /// ends. Returns why it ended.
    pub fn follow(
        &self,
        path: &str,
        last: Option<&str>,
        told: &mut dyn FnMut(&str, &str) -> bool,
    ) -> Result<String, Failure> {
        // The deadline of a whole exchange is not for what never ends; a sign of life comes every 15 seconds.
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT_DEADLINE))
            .timeout_recv_response(Some(CALL_DEADLINE))
            .user_agent(concat!("nephos-cli/", env!("CARGO_PKG_VERSION")))
            .build();
        let agent: ureq::Agent = config.into();
        let mut request = agent
            .get(format!("{}{path}", self.base))
            .header("authorization", format!("Bearer {}", self.key))
            .header("accept", "text/event-stream, application/json");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = match request.call() {
            Ok(response) => response,
            Err(error) => return Ok(error.to_string()),
        };
        let (parts, mut body) = response.into_parts();
        if !parts.status.is_success() {
            let bytes = body.with_config().limit(ANSWER_BYTES_MAX).read_to_vec().unwrap_or_default();
            return Err(Failure::Refused(self.refusal(&parts, &bytes)));
        }
        let mut lines = BufReader::new(body.into_reader());
        let (mut id, mut data) = (String::new(), String::new());
        loop {
            let mut line = String::new();
            match (&mut lines).take(ANSWER_BYTES_MAX).read_line(&mut line) {
                Ok(0) => return Ok("the server ended it".to_owned()),
                Ok(_) => {}
                Err(error) => return Ok(error.to_string()),
            }
            match line.trim_end_matches(['\r', '\n']).split_once(": ") {
                Some(("id", value)) => value.clone_into(&mut id),
                Some(("data", value)) => value.clone_into(&mut data),
                None if line.trim_end().is_empty() && !data.is_empty() => {
                    if !told(&id, &data) {
                        return Ok("nobody reads any more".to_owned());
                    }
                    data.clear();
                }
                _ => {}
            }
        }
    }

    /// The base URL, without a slash at its end.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// The value of `Authorization`.
    pub(super) fn authorization(&self) -> String {
        format!("Bearer {}", self.key)
    }

    /// Sixteen random bytes.
    pub(super) fn random(&self) -> [u8; 16] {
        self.entropy.u128().to_be_bytes()
    }

    fn call(&self, method: &Method, path: &str, body: Option<&Value>) -> Result<Answer, Failure> {
        let idempotency = (*method == Method::POST).then(|| uuid_v4(self.entropy));
        let mut lost = false;
        for attempt in 1.. {
            let last = attempt == ATTEMPTS_MAX;
            let pause_for = match self.once(method, path, body, idempotency.as_deref()) {
                Ok(Ok(answer)) => return Ok(answer),
                // The answer to an earlier try was lost, and that try did it.
                Ok(Err((refusal, _))) if lost && *method == Method::DELETE && refusal.status == 404 => {
                    return Ok(Answer { data: Value::Null, meta: Value::Null, headers: HeaderMap::new() });
                }
                Ok(Err((refusal, retry_after))) => {
                    let passing =
                        matches!(refusal.status, 429 | 502 | 503 | 504) || refusal.code == "idempotency_in_progress";
                    let wait = retry_after.unwrap_or_else(|| self.backoff(attempt));
                    if !passing || last || wait > RETRY_AFTER_MAX {
                        return Err(Failure::Refused(refusal));
                    }
                    wait
                }
                Err(why) if last => {
                    return Err(Failure::Unreachable(format!(
                        "{} can't be reached: {why}. Is the server running there? NEPHOS_URL or --url names another",
                        self.base
                    )));
                }
                Err(why) => {
                    // A refused connection on this machine means that nobody listens: no use to wait long for it.
                    if why.contains("refused") && attempt >= 3 {
                        return Err(Failure::Unreachable(format!(
                            "nobody listens at {}. Is the server running? NEPHOS_URL or --url names another",
                            self.base
                        )));
                    }
                    lost = true;
                    self.backoff(attempt)
                }
            };
            pause(pause_for);
        }
        Err(Failure::Unreachable(format!("{} can't be reached", self.base)))
    }

    fn backoff(&self, attempt: u32) -> Duration {
        let base = PAUSE_FIRST * 2u32.saturating_pow(attempt - 1);
        base + base.mul_f64(f64::from(self.entropy.u32()) / f64::from(u32::MAX) / 2.0)
    }

    #[allow(clippy::type_complexity)] // three outcomes: an answer, a refusal, no answer
    fn once(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
        idempotency: Option<&str>,
    ) -> Result<Result<Answer, (Refusal, Option<Duration>)>, String> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("authorization", format!("Bearer {}", self.key))
            .header("accept", "application/json")
            .header("prefer", "envelope=always");
        if let Some(key) = idempotency {
            request = request.header("idempotency-key", key);
        }
        let response = match body {
            Some(body) => {
                let request = request.header("content-type", "application/json").body(body.to_string());
                self.agent.run(request.map_err(|e| e.to_string())?)
            }
            None => self.agent.run(request.body(()).map_err(|e| e.to_string())?),
        };
        let mut response = response.map_err(|e| e.to_string())?;
        let bytes =
            response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec().map_err(|e| e.to_string())?;
        let (parts, _) = response.into_parts();
        let json: Option<Value> = serde_json::from_slice(&bytes).ok();
        if parts.status.is_success() {
            let Some(mut json) = json else { return Err("the answer is not JSON".to_owned()) };
            let enveloped = json.get("data").is_some() && json.get("meta").is_some();
            let meta = if enveloped { json["meta"].take() } else { Value::Null };
            let data = if enveloped { json["data"].take() } else { json };
            return Ok(Ok(Answer { data, meta, headers: parts.headers }));
        }
        let header = |name: &str| parts.headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let retry_after = header("retry-after").and_then(|t| t.parse().ok()).map(Duration::from_secs);
        Ok(Err((self.refusal(&parts, &bytes), retry_after)))
    }

    /// What the server says of why it refuses.
    pub(super) fn refusal(&self, parts: &http::response::Parts, bytes: &[u8]) -> Refusal {
        let json: Option<Value> = serde_json::from_slice(bytes).ok();
        let header = |name: &str| parts.headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let text = |key: &str| json.as_ref().and_then(|j| j.get(key)).and_then(Value::as_str).map(str::to_owned);
        Refusal {
            status: parts.status.as_u16(),
            code: text("code").unwrap_or_else(|| "no_code".to_owned()),
            message: text("message").unwrap_or_else(|| {
                format!("the server at {} answered {} without a reason; is it a nephos?", self.base, parts.status)
            }),
            details: json.as_ref().and_then(|j| j.get("details")?.as_array().cloned()).unwrap_or_default(),
            request_id: text("request_id").or_else(|| header("x-request-id")).unwrap_or_default(),
        }
    }
}

/// Pairs as a query string, percent-encoded.
pub fn query_string(pairs: &[(&str, &str)]) -> String {
    pairs.iter().map(|(k, v)| format!("{}={}", encode(k), encode(v))).collect::<Vec<_>>().join("&")
}

/// Percent-encodes everything that is not unreserved (RFC 3986).
pub fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut out, b| {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            out.push(char::from(b));
        } else {
            // Writing to a String can't fail.
            _ = write!(out, "%{b:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    use serde_json::json;

    use super::*;
    use crate::system::SystemEntropy;

    /// Answers one connection with each text in turn; an empty one is hung up on. Returns what it read.
    fn server(answers: Vec<String>) -> (String, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let handle = std::thread::spawn(move || {
            answers
                .into_iter()
                .map(|answer| {
                    let (mut stream, _) = listener.accept().unwrap();
                    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                    let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
                    let whole = |read: &[u8]| {
                        let text = String::from_utf8_lossy(read).to_lowercase();
                        let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
                        let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok());
                        body.len() >= length.unwrap_or(0)
                    };
                    while !whole(&read) {
                        let n = stream.read(&mut buffer).unwrap();
                        assert!(n > 0, "the client hung up");
                        read.extend_from_slice(&buffer[..n]);
                    }
                    stream.write_all(answer.as_bytes()).unwrap();
                    String::from_utf8(read).unwrap()
                })
                .collect()
        });
        (url, handle)
    }

    fn answer(status: &str, headers: &str, body: &Value) -> String {
        let body = body.to_string();
        format!("HTTP/1.1 {status}\r\n{headers}connection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    fn header<'a>(request: &'a str, name: &str) -> Option<&'a str> {
        let start = format!("{name}: ");
        request.lines().find(|l| l.to_lowercase().starts_with(&start)).map(|l| &l[start.len()..])
    }

    #[test]
    fn a_lost_answer_is_asked_for_again_with_the_same_key() {
        let done = answer("201 Created", "", &json!({"data": {"id": "prj_1"}, "meta": {}}));
        let busy = answer("503 Service Unavailable", "retry-after: 0\r\n", &json!({"code": "service_unavailable"}));
        let (url, handle) = server(vec![String::new(), busy, done]);
        let api = Api::new(&url, Some("sk_live_x"), &SystemEntropy).unwrap();
        assert_eq!(api.post("/projects", &json!({"name": "a"})).unwrap().data, json!({"id": "prj_1"}));
        let requests = handle.join().unwrap();
        let keys: Vec<_> = requests.iter().map(|r| header(r, "idempotency-key").unwrap()).collect();
        assert!(keys[0].len() == 36 && keys.iter().all(|k| *k == keys[0]), "{keys:?}");
        assert!(requests[0].starts_with("POST /v1/projects HTTP/1.1"));
        assert_eq!(header(&requests[0], "authorization"), Some("Bearer sk_live_x"));
    }

    #[test]
    fn refusals_say_everything_and_are_not_repeated() {
        let body = json!({"status": 400, "code": "bad_request", "message": "Two problems.", "request_id": "r-1",
            "details": [{"code": "x", "message": "no\u{1b}", "pointer": "/name"}, {"code": "y", "message": "z"}]});
        let (url, handle) = server(vec![answer("400 Bad Request", "", &body)]);
        let api = Api::new(&url, Some("sk_test_x"), &SystemEntropy).unwrap();
        let failure = api.get("/me").unwrap_err();
        let expected = "Two problems. (bad_request, 400)\n  /name: no\\u{1b} (x)\n  z (y)\n  request r-1";
        assert_eq!((failure.to_string().as_str(), failure.exit_status()), (expected, 1));
        assert!(handle.join().unwrap()[0].starts_with("GET /sandbox/v1/me "));
    }

    #[test]
    fn a_long_retry_after_is_handed_on() {
        let body = json!({"code": "too_many_requests", "message": "m"});
        let (url, handle) = server(vec![answer("429 Too Many Requests", "retry-after: 3600\r\n", &body)]);
        let api = Api::new(&url, Some("sk_live_x"), &SystemEntropy).unwrap();
        assert_eq!(api.get("/me").unwrap_err().exit_status(), 6);
        handle.join().unwrap();
    }

    #[test]
    fn a_delete_whose_answer_was_lost_is_done() {
        let gone = answer("404 Not Found", "", &json!({"code": "resource_not_found", "message": "m"}));
        let (url, handle) = server(vec![String::new(), gone]);
        let api = Api::new(&url, Some("sk_live_x"), &SystemEntropy).unwrap();
        assert!(api.delete("/projects/prj_1").is_ok());
        handle.join().unwrap();
    }

    #[test]
    fn lists_go_over_pages() {
        let page = |n: u32, next: Value| answer("200 OK", "", &json!({"data": [{"n": n}], "meta": {"next": next}}));
        let (url, handle) = server(vec![page(1, json!("a b")), page(2, Value::Null)]);
        let api = Api::new(&url, Some("sk_live_x"), &SystemEntropy).unwrap();
        assert_eq!(api.list("/projects", &[("name", "ä")], 50).unwrap(), [json!({"n": 1}), json!({"n": 2})]);
        let requests = handle.join().unwrap();
        assert!(requests[1].starts_with("GET /v1/projects?name=%C3%A4&limit=49&after=a%20b "), "{}", requests[1]);
    }

    #[test]
    fn mistakes_on_this_side_are_named() {
        for (url, key, named, status) in [
            ("http://h", None, "CLOUD_API_KEY", 3),
            ("http://h", Some("a b"), "CLOUD_API_KEY", 3),
            ("h:1", Some("sk_live_x"), "NEPHOS_URL", 2),
        ] {
            let failure = Api::new(url, key, &SystemEntropy).err().unwrap();
            assert!(failure.to_string().contains(named), "{failure}");
            assert_eq!(failure.exit_status(), status, "{failure}");
        }
    }
}
