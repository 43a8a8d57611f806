//! Terminals over WebSockets, with a client on a socket of loopback: what is refused, shown, lost, closed and bounded.

#![allow(clippy::unwrap_used)] // what fails here fails the test

mod api;

use std::net::SocketAddr;
use std::time::Duration;

use api::Api;
use futures_util::{SinkExt as _, StreamExt as _};
use nephos_http::serve;
use nephos_model::role::Role;
use nephos_model::scope::{Noun, Scope, Scopes};
use nephos_testkit::Durations as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role as End;

/// Real time in which anything must come.
const PATIENCE: Duration = Duration::from_secs(30);
const HANDSHAKE: &str = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
    sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

struct Served {
    api: Api,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    done: tokio::task::JoinHandle<()>,
}

impl Served {
    async fn new() -> Self {
        let api = Api::started().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let done = tokio::spawn(serve(listener, api.app.clone(), async {
            let _ = stopped.await;
        }));
        Self { api, address, stop: Some(stop), done }
    }

    /// A compute that runs.
    async fn compute(&self, name: &str) -> String {
        let id = self.api.make("/v1/computes", &format!(r#"{{"name":"{name}"}}"#)).await;
        self.reach(&id, "running").await;
        id
    }

    async fn reach(&self, id: &str, status: &str) {
        let path = format!("/v1/computes/{id}");
        self.api.world.until(async || is(&self.api, &path, status).await.then_some(())).await;
    }

    /// One request with these lines of headers: its head, and the connection with what came behind the head.
    async fn ask(&self, path: &str, headers: &str) -> (String, TcpStream, Vec<u8>) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut read = Vec::new();
        loop {
            if let Some(at) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                let rest = read.split_off(at + 4);
                return (String::from_utf8(read).unwrap().to_lowercase(), stream, rest);
            }
            assert!(stream.read_buf(&mut read).await.unwrap() > 0, "{}", String::from_utf8_lossy(&read));
        }
    }

    /// A request for a terminal that is refused: the head and the body of the answer.
    async fn refused(&self, path: &str, headers: &str) -> (String, Value) {
        let (head, mut stream, mut body) = self.ask(path, headers).await;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        let length = length.unwrap_or_else(|| panic!("{head}"));
        while body.len() < length {
            assert!(stream.read_buf(&mut body).await.unwrap() > 0);
        }
        (head, serde_json::from_slice(&body).unwrap())
    }

    fn bearer(&self, key: &str) -> String {
        format!("authorization: Bearer {}\r\n{HANDSHAKE}", self.api.key(key).expose())
    }

    async fn open(&self, key: &str, base: &str, id: &str) -> Terminal {
        let (head, stream, rest) = self.ask(&format!("{base}/computes/{id}/console"), &self.bearer(key)).await;
        assert!(head.starts_with("http/1.1 101 switching protocols\r\n"), "{head}");
        for line in [
            "connection: upgrade",
            "upgrade: websocket",
            "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=",
            "x-request-id: ",
        ] {
            assert!(head.contains(&format!("\r\n{line}")), "{line}: {head}");
        }
        assert!(!head.contains("content-"), "{head}");
        Terminal {
            socket: WebSocketStream::from_partially_read(stream, rest, End::Client, None).await,
            seen: String::new(),
        }
    }

    async fn audited(&self) -> Vec<Value> {
        self.api.get("/v1/audit-log?action=compute.terminal").await.json()["data"].as_array().unwrap().clone()
    }
}

async fn is(api: &Api, path: &str, status: &str) -> bool {
    api.get(path).await.json()["data"]["status"] == status
}

/// A client's end of a terminal.
struct Terminal {
    socket: WebSocketStream<TcpStream>,
    seen: String,
}

impl Terminal {
    async fn next(&mut self) -> Message {
        let next = tokio::time::timeout(PATIENCE, self.socket.next()).await;
        next.unwrap_or_else(|_| panic!("nothing comes after {:?}", self.seen)).expect("it is open").unwrap()
    }

    /// Reads until a text was shown.
    async fn see(&mut self, text: &str) {
        while !self.seen.contains(text) {
            match self.next().await {
                Message::Binary(bytes) => self.seen.push_str(std::str::from_utf8(&bytes).unwrap()),
                Message::Ping(_) => {}
                other => panic!("{other:?} after {:?}", self.seen),
            }
        }
    }

    async fn type_in(&mut self, text: &str) {
        self.socket.send(Message::binary(text.as_bytes().to_vec())).await.unwrap();
    }

    /// Reads on to the close, and returns its code and reason.
    async fn closed(&mut self) -> (u16, String) {
        loop {
            if let Message::Close(frame) = self.next().await {
                let frame = frame.expect("a close says why");
                return (frame.code.into(), frame.reason.to_string());
            }
        }
    }

    /// Until the server has read everything that was sent.
    async fn in_step(&mut self) {
        self.socket.send(Message::Ping(vec![7].into())).await.unwrap();
        while !matches!(self.next().await, Message::Pong(_)) {}
    }
}

#[tokio::test]
async fn a_terminal_on_every_base_url() {
    let served = Served::new().await;
    let live = served.compute("web-1").await;
    let test = [("authorization", "Bearer test"), ("content-type", "application/json")];
    let made = served.api.send("POST", "/sandbox/v1/computes", &test, r#"{"name":"web-1"}"#).await;
    let sandboxed = made.json()["id"].as_str().unwrap().to_owned();
    let path = format!("/sandbox/v1/computes/{sandboxed}");
    served
        .api
        .world
        .until(async || {
            let status = served.api.send("GET", &path, &test[..1], "").await.json()["data"]["status"].clone();
            Some(()).filter(|()| status == "running")
        })
        .await;
    for (key, base, id) in [("owner", "/v1", &live), ("owner", "/api/v1", &live), ("test", "/sandbox/v1", &sandboxed)] {
        let mut terminal = served.open(key, base, id).await;
        terminal.see("web-1 login: ").await;
        assert!(terminal.seen.contains("nephos simulator: power on"), "it begins with the log: {}", terminal.seen);
        terminal.type_in("uname\r").await;
        terminal.see("uname\r\nsimulated, not run: uname\r\n").await;
        // Text is typed as well.
        terminal.socket.send(Message::text("date\r")).await.unwrap();
        terminal.see("not run: date\r\n").await;
        terminal.socket.close(None).await.unwrap();
        while let Some(Ok(_)) = terminal.socket.next().await {}
    }

    // It is in the audit log who opened it and on what, and nothing of what was typed.
    let rows = served.audited().await;
    assert_eq!(rows.len(), 2, "{rows:#?}");
    for row in &rows {
        assert_eq!((&row["resource_id"], &row["status"], &row["after"]), (&json!(live), &json!(101), &Value::Null));
        assert!(row["actor"]["id"].as_str().unwrap().starts_with("key_") && row["address"] == "127.0.0.1", "{row}");
        assert!(!row.to_string().contains("uname"));
    }
}

#[tokio::test]
async fn all_see_and_all_type() {
    let served = Served::new().await;
    let id = served.compute("web-1").await;
    let (mut one, mut two) = (served.open("owner", "/v1", &id).await, served.open("member", "/api/v1", &id).await);
    one.see("login: ").await;
    two.see("login: ").await;
    one.type_in("o").await;
    two.see("login: o").await;
    two.type_in("k\r").await;
    one.see("not run: ok\r\n").await;
    two.see("not run: ok\r\n").await;
}

#[tokio::test]
async fn what_is_refused_is_refused_in_json_before_the_upgrade() {
    let served = Served::new().await;
    let id = served.compute("web-1").await;
    served
        .api
        .narrowed("reader", |key| key.scopes = Some([Scope::read(Noun::Compute)].into_iter().collect::<Scopes>()))
        .await;
    let path = format!("/v1/computes/{id}/console");
    let owner = served.bearer("owner");
    let no_key = format!("authorization: Bearer sk_live_nonsense\r\n{HANDSHAKE}");
    let old = owner.replace("version: 13", "version: 8");
    let keyless = owner.replace("sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==", "sec-websocket-key: short");
    let unknown = "/v1/computes/cmp_01kf0rdqg0fxvvh1fb3wvjkqxh/console";
    let cookie = format!("cookie: session=1\r\norigin: https://elsewhere.example\r\n{HANDSHAKE}");
    for (path, headers, status, says) in [
        (&*path, HANDSHAKE, 401, "missing_credential"),
        (&path, &cookie, 401, "missing_credential"),
        (&path, &no_key, 401, "unauthorized"),
        (&path, &served.bearer("test"), 401, "unauthorized"),
        (&path, &served.bearer("reader"), 403, "compute:write"),
        (&path, &served.bearer("other"), 404, "resource_not_found"),
        (unknown, &owner, 404, "resource_not_found"),
        (&path, &old, 400, "sec-websocket-version"),
        (&path, &keyless, 400, "sec-websocket-key"),
        (&format!("{path}?colour=red"), &owner, 400, "unknown_parameter"),
    ] {
        let (head, body) = served.refused(path, headers).await;
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{path}: {head}{body}");
        assert!(body.to_string().contains(says) && body["request_id"].is_string(), "{says}: {body}");
        assert_eq!(head.contains("sec-websocket-version: 13"), status == 400 && says.starts_with("sec-"), "{head}");
    }
    let (head, body) = served.refused(&format!("/api{path}"), &served.bearer("reader")).await;
    assert!(head.starts_with("http/1.1 403 ") && body["success"] == false, "{body}");

    // What asks for no WebSocket, or for another protocol, reads; a reader may.
    let reads = format!("authorization: Bearer {}\r\n", served.api.key("reader").expose());
    for more in ["", "connection: upgrade\r\nupgrade: h2c\r\n"] {
        let (head, body) = served.refused(&path, &format!("{reads}{more}")).await;
        assert!(head.starts_with("http/1.1 200 ") && body["data"]["compute_id"] == json!(id), "{head}{body}");
    }

    let stopping = served.api.post(&format!("/v1/computes/{id}/stop"), "").await;
    assert_eq!(stopping.status, 202);
    for state in ["stopping", "stopped"] {
        served.reach(&id, state).await;
        let (head, body) = served.refused(&path, &owner).await;
        assert!(head.starts_with("http/1.1 409 ") && body.to_string().contains(state), "{head}{body}");
    }
    assert_eq!(served.audited().await, Vec::<Value>::new(), "no terminal was opened");
}

#[tokio::test]
async fn who_reads_slowly_is_told_what_is_lost() {
    // Far more answers at once than wait for anybody.
    const ENTERS: usize = 60_000;
    let served = Served::new().await;
    let id = served.compute("w").await;
    let mut terminal = served.open("owner", "/v1", &id).await;
    // This one reads nothing for as long as the other is at work, and holds up nobody.
    let mut deaf = served.open("owner", "/v1", &id).await;
    terminal.see("w login: ").await;
    terminal.type_in(&"\r".repeat(ENTERS)).await;
    let (mut shown, mut lost) = (0, 0);
    while shown + lost < ENTERS * "\r\nw login: ".len() {
        match terminal.next().await {
            Message::Binary(bytes) => shown += bytes.len(),
            Message::Text(notice) => {
                let notice: Value = serde_json::from_str(&notice).unwrap();
                lost += usize::try_from(notice["lost_bytes"].as_u64().unwrap()).unwrap();
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(shown + lost, ENTERS * "\r\nw login: ".len(), "what is not shown is told as lost");
    assert!(lost > 0 && shown > 0, "{shown} {lost}");
    for _ in 0..20 {
        terminal.type_in(&"\r".repeat(ENTERS)).await;
    }
    terminal.type_in("still here\r").await;
    for reader in [&mut terminal, &mut deaf] {
        let (mut end, mut lost) = (String::new(), 0);
        while !end.contains("not run: still here") {
            match reader.next().await {
                Message::Binary(bytes) => {
                    end.push_str(std::str::from_utf8(&bytes).unwrap());
                    end = end.split_off(end.len().saturating_sub(100));
                }
                Message::Text(_) => lost += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(lost > 0);
    }
}

#[tokio::test]
async fn a_terminal_ends_with_its_credential() {
    let served = Served::new().await;
    let id = served.compute("web-1").await;
    let key = served.api.world.key(&served.api.key("owner"), Role::Member, |_| {}).await;
    let caller = served.api.world.caller_of(&key).await;
    served.api.keep("short", key);
    let (mut quiet, mut busy) = (served.open("short", "/v1", &id).await, served.open("short", "/v1", &id).await);
    let mut other = served.open("owner", "/v1", &id).await;
    quiet.see("login: ").await;
    busy.see("login: ").await;
    other.see("login: ").await;
    let path = format!("/v1/api-keys/{}", caller.key_id.unwrap());
    assert_eq!(served.api.with("DELETE", &path, "", &[]).await.status, 200);
    served.api.world.clock.advance(2.seconds()).await;
    busy.type_in("secret\r").await;
    assert_eq!(busy.closed().await.0, 1008);
    served.api.world.clock.advance(5.seconds()).await;
    assert_eq!(quiet.closed().await, (1008, "the credential may not do this any more".to_owned()));
    other.type_in("x\r").await;
    other.see("not run: x").await;
    assert!(!other.seen.contains("secret"), "nothing is typed for a key that was revoked");
}

#[tokio::test]
async fn a_drain_closes_terminals_and_waits_for_them() {
    let mut served = Served::new().await;
    let id = served.compute("web-1").await;
    let mut terminal = served.open("owner", "/v1", &id).await;
    terminal.see("login: ").await;
    served.stop.take().unwrap().send(()).unwrap();
    assert_eq!(terminal.closed().await, (1001, "the server stops; connect again".to_owned()));
    while let Some(Ok(_)) = terminal.socket.next().await {}
    tokio::time::timeout(PATIENCE, &mut served.done).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_terminal_ends_with_the_run_of_its_compute() {
    let served = Served::new().await;
    let id = served.compute("web-1").await;
    let mut terminal = served.open("owner", "/v1", &id).await;
    terminal.see("login: ").await;
    assert_eq!(served.api.post(&format!("/v1/computes/{id}/stop"), "").await.status, 202);
    served.reach(&id, "stopped").await;
    assert_eq!(terminal.closed().await, (1000, "the compute has stopped".to_owned()));

    // Where another process stops it, the rows say so.
    assert_eq!(served.api.post(&format!("/v1/computes/{id}/start"), "").await.status, 202);
    served.reach(&id, "running").await;
    let mut terminal = served.open("owner", "/v1", &id).await;
    terminal.see("login: ").await;
    assert_eq!(served.api.with("DELETE", &format!("/v1/computes/{id}"), "", &[]).await.status, 200);
    served.api.world.clock.advance(6.seconds()).await;
    assert_eq!(terminal.closed().await.0, 1000);
}

#[tokio::test]
async fn messages_silence_and_idleness_are_bounded() {
    let served = Served::new().await;
    let id = served.compute("web-1").await;
    let clock = &served.api.world.clock;
    let mut long = served.open("owner", "/v1", &id).await;
    long.see("login: ").await;
    long.type_in(&"x".repeat(64 * 1024 + 1)).await;
    assert_eq!(long.closed().await.0, 1009);

    let mut garbled = served.open("owner", "/v1", &id).await;
    garbled.see("login: ").await;
    garbled.socket.get_mut().write_all(&[0x81, 0x01, b'x']).await.unwrap();
    assert_eq!(garbled.closed().await.0, 1002, "a client masks what it sends");

    // Nothing is read of this one, and so no ping answered.
    let mut silent = served.open("owner", "/v1", &id).await;
    let mut idle = served.open("owner", "/v1", &id).await;
    idle.see("login: ").await;
    for half_minutes in 1..=119 {
        clock.advance(30.seconds()).await;
        while !matches!(idle.next().await, Message::Ping(_)) {}
        idle.in_step().await;
        if half_minutes == 3 {
            assert_eq!(silent.closed().await.0, 1008);
        }
    }
    clock.advance(30.seconds()).await;
    assert_eq!(idle.closed().await, (1000, "nothing was typed or shown for an hour".to_owned()));
}

#[tokio::test]
async fn terminals_are_bounded_for_each_compute_key_and_workspace() {
    let served = Served::new().await;
    let mut computes = Vec::new();
    for number in 0..5 {
        computes.push(served.compute(&format!("web-{number}")).await);
    }
    let path = |number: usize| format!("/v1/computes/{}/console", computes[number]);
    let mut open = Vec::new();
    for _ in 0..8 {
        open.push(served.open("owner", "/v1", &computes[0]).await);
    }
    let refused = async |key: &str, number: usize, code: &str, says: &str| {
        let (head, body) = served.refused(&path(number), &served.bearer(key)).await;
        assert!(head.starts_with("http/1.1 429 ") && head.contains("retry-after: "), "{head}{body}");
        assert_eq!(body["details"][0]["code"], code, "{body}");
        assert!(body["message"].as_str().unwrap().contains(says), "{body}");
    };
    refused("owner", 0, "too_many_terminals", "The compute has 8").await;
    for number in [1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2] {
        open.push(served.open("owner", "/v1", &computes[number]).await);
    }
    refused("owner", 2, "too_many_held", "20").await;
    for number in [2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3] {
        open.push(served.open("admin", "/v1", &computes[number]).await);
    }
    refused("admin", 4, "too_many_terminals", "The workspace has 32").await;
    // Who leaves makes room.
    let mut last = open.pop().unwrap();
    last.socket.close(None).await.unwrap();
    while let Some(Ok(_)) = last.socket.next().await {}
    drop(last);
    served.open("member", "/v1", &computes[4]).await.see("login: ").await;
}
