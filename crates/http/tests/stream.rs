//! Events as they come: nothing is left out and nothing told twice, over reconnects, on both engines.

#![allow(clippy::unwrap_used)] // what fails here fails the test

mod api;

use std::sync::Arc;
use std::time::Duration;

use api::Api;
use bytes::Bytes;
use http::{HeaderValue, Request};
use http_body_util::{BodyExt as _, Full};
use nephos_control::caller::ProjectWrite;
use nephos_http::stream::ResponseBody;
use nephos_http::{Config, Peer, handle};
use nephos_model::Clock as _;
use nephos_model::role::Role;
use nephos_testkit::{Durations as _, Engine, World, WorldClock};
use tokio::task::JoinHandle;

/// A stream that is open.
struct Open {
    status: u16,
    kind: String,
    body: ResponseBody,
    text: String,
}

async fn open(api: &Api, path: &str, last: Option<&str>) -> Open {
    open_as(api, "owner", path, last).await
}

async fn open_as(api: &Api, key: &str, path: &str, last: Option<&str>) -> Open {
    let bearer = format!("Bearer {}", api.key(key).expose());
    let mut request = Request::builder().method("GET").uri(path);
    request = request.header("authorization", bearer).header("accept", "text/event-stream");
    if let Some(last) = last {
        request = request.header("last-event-id", HeaderValue::from_str(last).unwrap());
    }
    let peer = Peer { address: "127.0.0.1".parse().unwrap() };
    let response = handle(&api.app, request.body(Full::new(Bytes::new())).unwrap(), peer).await;
    let kind = response.headers().get("content-type").unwrap().to_str().unwrap().to_owned();
    Open { status: response.status().as_u16(), kind, body: response.into_body(), text: String::new() }
}

impl Open {
    /// Reads until so many events came, and returns their ids and numbers.
    async fn events(&mut self, count: usize) -> Vec<(String, i64)> {
        loop {
            let found = self.seen();
            if found.len() >= count {
                return found;
            }
            assert!(self.more().await, "the stream ended: {}", self.text);
        }
    }

    async fn more(&mut self) -> bool {
        let next = tokio::time::timeout(Duration::from_secs(30), self.body.frame()).await;
        let Some(frame) = next.expect("something comes") else { return false };
        self.text.push_str(std::str::from_utf8(frame.unwrap().data_ref().unwrap()).unwrap());
        true
    }

    /// The id and number of the last event about something of this name.
    fn told(&self, name: &str) -> Option<(String, i64)> {
        let part = format!("\"name\":\"{name}\"");
        let before = self.text.split("\n\n").filter(|message| message.contains("data: "));
        let at = before.collect::<Vec<_>>().iter().rposition(|message| message.contains(&part))?;
        self.seen().get(at).cloned()
    }

    fn seen(&self) -> Vec<(String, i64)> {
        let messages = self.text.split("\n\n").filter(|message| message.contains("data: "));
        let read = |message: &str| {
            let field = |name: &str| message.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
            let data: serde_json::Value = serde_json::from_str(&field("data: ")).unwrap();
            assert_eq!((data["id"].as_str(), data["type"].as_str()), (Some(&*field("id: ")), Some(&*field("event: "))));
            (field("id: "), data["seq"].as_i64().unwrap())
        };
        messages.map(read).collect()
    }
}

/// Where events get their numbers after the commit, who gives them rests for a moment between.
fn let_moments_pass(clock: WorldClock) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            let now = clock.now();
            if let Some(at) = clock.next_wake().filter(|at| at.since(now) <= 2.millis()) {
                clock.advance(at.since(now)).await;
            }
            tokio::task::yield_now().await;
        }
    })
}

async fn a_reconnect_has_neither_gap_nor_repetition(engine: Engine) {
    let mut api = Api::on(engine, Config::default(), "unlimited").await;
    api.start().await;
    // What was before the test is behind whoever follows from now on, once it has its number.
    let clock = api.world.clock.clone();
    let before = async || api.get("/v1/events?type=project.created").await.json()["meta"]["total"].as_u64().unwrap();
    while before().await == 0 {
        clock.advance(1.millis()).await;
    }
    let mut first = open(&api, "/v1/events?type=project.created", None).await;
    assert_eq!((first.status, &*first.kind), (200, "text/event-stream"));
    assert!(first.more().await);
    assert!(first.text.starts_with(": connected\nretry: 1000\n\n"));
    let moments = let_moments_pass(clock);
    let make = async |from: u32, to: u32| {
        for number in from..to {
            api.make("/v1/projects", &format!(r#"{{"name":"project {number}"}}"#)).await;
        }
    };
    make(0, 5).await;
    let told = first.events(5).await;
    assert_eq!(told.len(), 5);
    drop(first);
    make(5, 10).await;
    let mut second = open(&api, "/v1/events?type=project.created", Some(&told[2].0)).await;
    make(10, 12).await;
    let more = second.events(9).await;
    assert_eq!(more[..2], told[3..], "after the third come the fourth and the fifth");
    assert_eq!(more.len(), 9);
    assert!(more.windows(2).all(|two| two[0].1 < two[1].1), "in the order of their numbers: {more:?}");
    let strettch = open(&api, "/api/v1/events", Some(&told[4].0)).await.events(20).await;
    assert!(strettch.windows(2).all(|two| two[0].1 + 1 == two[1].1), "without a filter there is no gap: {strettch:?}");
    moments.abort();
}

#[tokio::test]
async fn a_reconnect_on_sqlite() {
    a_reconnect_has_neither_gap_nor_repetition(Engine::Sqlite).await;
}

#[tokio::test]
async fn a_reconnect_on_postgres() {
    a_reconnect_has_neither_gap_nor_repetition(Engine::Postgres).await;
}

/// What is decided first and committed last, on PostgreSQL in a transaction that began before the other and ends after it.
async fn what_commits_out_of_order_is_told_once(engine: Engine) {
    let mut api = Api::on(engine, Config::default(), "unlimited").await;
    api.start().await;
    let moments = let_moments_pass(api.world.clock.clone());
    let path = "/v1/events";
    let mut whole = open(&api, path, None).await;
    assert!(whole.more().await);

    let caller = api.world.caller_of(&api.key("owner")).await;
    let held = api.world.database.hold_counter(caller.tenant, "quota.projects").await;
    let grant = api.world.grant::<ProjectWrite>(&caller);
    let early = api.world.cloud.create_project(&grant, &"early".parse().unwrap()).await.unwrap();
    let commit = |world: Arc<World>| tokio::spawn(async move { world.cloud.commit(early, None).await.map(|_| ()) });
    let waiting = if held.is_some() { Ok(commit(api.world.clone())) } else { Err(commit) };
    api.make("/v1/api-keys", r#"{"name":"late"}"#).await;
    let late = loop {
        if let Some(found) = whole.told("late") {
            break found;
        }
        assert!(whole.more().await);
    };
    if let Ok(waiting) = &waiting {
        assert!(!waiting.is_finished(), "its transaction is open");
    }
    let mut again = open(&api, path, Some(&late.0)).await;
    drop(held);
    waiting.unwrap_or_else(|commit| commit(api.world.clone())).await.unwrap().unwrap();

    let told = again.events(4).await;
    let early = again.told("early").unwrap();
    assert!(early.0 < late.0, "it was decided first: {} {}", early.0, late.0);
    assert_eq!(told.iter().map(|event| event.1).collect::<Vec<_>>(), (late.1 + 1..=late.1 + 4).collect::<Vec<_>>());
    let count = 1 + whole.seen().iter().position(|event| *event == late).unwrap() + 4;
    let all = whole.events(count).await;
    assert_eq!(all[count - 4..], told, "whoever listened all the time was told the same");
    assert!(all.windows(2).all(|two| two[0].1 + 1 == two[1].1), "no gap, nothing twice: {all:?}");
    moments.abort();
}

#[tokio::test]
async fn out_of_order_on_sqlite() {
    what_commits_out_of_order_is_told_once(Engine::Sqlite).await;
}

#[tokio::test]
async fn out_of_order_on_postgres() {
    what_commits_out_of_order_is_told_once(Engine::Postgres).await;
}

#[tokio::test]
async fn what_a_stream_is_refused() {
    let api = Api::new().await;
    let never = "evt_01kf0rdqg0fxvvh1fb3wvjkqxh";
    for (path, last, status, says) in [
        ("/v1/events", Some(never), 400, "unknown_event"),
        ("/v1/events", Some("7"), 400, "invalid_value"),
        ("/v1/events?limit=5", None, 400, "not_in_streams"),
        ("/v1/events?nothing=5", None, 400, "unknown_parameter"),
        ("/v1/projects", None, 406, "not_acceptable"),
    ] {
        let refused = open(&api, path, last).await;
        let text = String::from_utf8(refused.body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        assert_eq!(refused.status, status, "{path}: {text}");
        assert!(text.contains(says), "{path}: {text}");
    }
    // Only who names the type gets a stream.
    let wildcard = api.with("GET", "/v1/events", "", &[("accept", "*/*")]).await;
    assert_eq!((wildcard.status, wildcard.header("content-type")), (200, "application/json"));
}

#[tokio::test]
async fn a_key_holds_twenty_streams_of_one_read_each() {
    let api = Api::configured(Config::default(), "standard").await;
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(open(&api, "/v1/events", None).await);
    }
    assert!(held.iter().all(|stream| stream.status == 200));
    assert_eq!(open(&api, "/v1/events", None).await.status, 429);
    held.pop();
    assert_eq!(open(&api, "/v1/events", None).await.status, 200);
    let left = api.get("/v1/me").await.header("ratelimit").to_owned();
    assert!(left.contains("r=97"), "22 streams and this: {left}");
}

#[tokio::test]
async fn a_stream_ends_with_its_credential_and_with_the_server() {
    let api = Api::new().await;
    let key = api.world.key(&api.key("owner"), Role::Member, |_| {}).await;
    let caller = api.world.caller_of(&key).await;
    api.keep("short", key);
    let mut stream = open_as(&api, "short", "/v1/events", None).await;
    let mut other = open(&api, "/v1/events", None).await;
    assert!(stream.more().await && other.more().await);
    api.make("/v1/projects", r#"{"name":"one"}"#).await;
    stream.events(1).await;
    let id = caller.key_id.unwrap();
    assert_eq!(api.with("DELETE", &format!("/v1/api-keys/{id}"), "", &[]).await.status, 200);
    api.world.clock.advance(2.seconds()).await;
    api.make("/v1/projects", r#"{"name":"two"}"#).await;
    while stream.more().await {
        assert!(!stream.text.contains("\"two\""), "nothing is told to a key that was revoked");
    }
    other.events(2).await;
    api.app.drain();
    while other.more().await {}
}
