//! A client of the whole request path, without a socket: a world, an application over it, and who may come in.

// Each test file uses a part of it, and what fails here fails the test.
#![allow(dead_code, clippy::unwrap_used)]

pub mod contract;
pub mod object;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::{BodyExt as _, Full};
use nephos_http::{App, Config, Peer, Registry, handle};
use nephos_model::Clock as _;
use nephos_model::api_key::ApiKey;
use nephos_model::id::ImageId;
use nephos_model::image::{Boot, Image};
use nephos_model::key::Secret;
use nephos_model::role::Role;
use nephos_testkit::{Engine, World};
use serde_json::Value;

const ORIGIN: &str = "https://cloud.example";

/// A client of a whole cloud.
pub struct Api {
    pub world: Arc<World>,
    pub app: Arc<App>,
    keys: Mutex<HashMap<&'static str, Secret>>,
}

/// What came back.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Api {
    /// A cloud without budgets. In the tests' headers `Bearer owner` stands for an Owner's key, `member` and `admin` for
    /// others' of the same workspace, `other` for another workspace's Owner's, `test` for the first one's in the sandbox.
    pub async fn new() -> Self {
        Self::configured(Config::default(), "unlimited").await
    }

    /// The same with its background running, which computes need.
    pub async fn started() -> Self {
        let mut api = Self::new().await;
        api.start().await;
        api
    }

    /// Starts the background, before anybody shares the world.
    pub async fn start(&mut self) {
        Arc::get_mut(&mut self.world).unwrap().start().await;
    }

    /// Ends it again: nothing happens by itself.
    pub fn halt(&mut self) {
        Arc::get_mut(&mut self.world).unwrap().halt();
    }

    pub async fn configured(config: Config, plan: &str) -> Self {
        Self::on(Engine::Sqlite, config, plan).await
    }

    /// The same with versions and operations of its own.
    pub async fn registered(config: Config, plan: &str, registry: Registry) -> Self {
        Self::made(Engine::Sqlite, config, plan, registry).await
    }

    /// Another process over the same database, with the same keys.
    pub fn replica(&self, seed: u64) -> Self {
        let config = Config { origin: ORIGIN.to_owned(), ..Config::default() };
        let app = App::new(self.world.replica(seed), config, Registry::default()).unwrap();
        Self { world: self.world.clone(), app, keys: Mutex::new(self.keys.lock().unwrap().clone()) }
    }

    pub async fn on(engine: Engine, config: Config, plan: &str) -> Self {
        Self::made(engine, config, plan, Registry::default()).await
    }

    async fn made(engine: Engine, config: Config, plan: &str, registry: Registry) -> Self {
        let config = Config { origin: ORIGIN.to_owned(), ..config };
        let world = Arc::new(World::new(engine).await);
        let app = App::new(world.cloud.clone(), config, registry).unwrap();
        let mine = world.workspace("mine", plan).await;
        let other = world.workspace("other", plan).await;
        let member = world.key(&mine.live_key, Role::Member, |_| {}).await;
        let admin = world.key(&mine.live_key, Role::Admin, |_| {}).await;
        let keys = [
            ("owner", mine.live_key),
            ("test", mine.test_key),
            ("other", other.live_key),
            ("member", member),
            ("admin", admin),
        ];
        let api = Self { world, app, keys: Mutex::new(HashMap::from(keys)) };
        api.add_image().await;
        api
    }

    /// The key of a name.
    pub fn key(&self, name: &str) -> Secret {
        self.keys.lock().unwrap()[name].clone()
    }

    /// One more key of an Owner, narrowed.
    pub async fn narrowed(&self, name: &'static str, narrow: impl FnOnce(&mut ApiKey)) {
        let key = self.world.key(&self.key("owner"), Role::Owner, narrow).await;
        self.keys.lock().unwrap().insert(name, key);
    }

    /// The secret under a name.
    pub fn keep(&self, name: &'static str, key: Secret) {
        self.keys.lock().unwrap().insert(name, key);
    }

    /// From now on the names of keys stand for keys of the sandbox, and `test` for a live one.
    pub async fn in_sandbox(&self) {
        let (owner, live) = (self.key("test"), self.key("owner"));
        let other = self.world.workspace("third", "unlimited").await.test_key;
        let member = self.world.key(&owner, Role::Member, |_| {}).await;
        let admin = self.world.key(&owner, Role::Admin, |_| {}).await;
        let keys = [("owner", owner), ("test", live), ("other", other), ("member", member), ("admin", admin)];
        self.keys.lock().unwrap().extend(keys);
    }

    /// The text with the name of a key replaced by the key.
    fn with_key(&self, value: &str) -> String {
        let keys = self.keys.lock().unwrap();
        let key = value.strip_prefix("Bearer ").and_then(|name| keys.get(name));
        key.map_or_else(|| value.to_owned(), |key| format!("Bearer {}", key.expose()))
    }

    async fn add_image(&self) {
        let image = Image {
            id: self.world.cloud.id::<ImageId>(),
            name: "small".to_owned(),
            description: "A small image.".to_owned(),
            checksum: "0".repeat(64),
            size_bytes: 1,
            min_memory_mib: 64,
            min_disk_gib: 1,
            login_user: "root".to_owned(),
            boot: Boot::Disk,
            created_at: self.world.clock.now(),
        };
        self.world.cloud.add_image(&image).await.unwrap();
    }

    /// One request with exactly these headers.
    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, HeaderValue::from_bytes(self.with_key(value).as_bytes()).unwrap());
        }
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
        let peer = Peer { address: IpAddr::V4(Ipv4Addr::LOCALHOST) };
        let (parts, body) = Box::pin(handle(&self.app, request, peer)).await.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(parts.headers.contains_key("x-request-id"), "every response has a request id");
        let answer = Answer { status: parts.status.as_u16(), headers: parts.headers, text };
        contract::check(&self.app, method, path, &answer);
        answer
    }

    /// One request of the Owner, with a JSON body unless it is empty, and more headers.
    pub async fn with(&self, method: &str, path: &str, body: &str, more: &[(&str, &str)]) -> Answer {
        let mut headers = vec![("authorization", "Bearer owner")];
        if !body.is_empty() {
            headers.push(("content-type", "application/json"));
        }
        headers.extend(more);
        self.send(method, path, &headers, body).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.with("GET", path, "", &[]).await
    }

    pub async fn post(&self, path: &str, body: &str) -> Answer {
        self.with("POST", path, body, &[]).await
    }

    /// The id of something that is made.
    pub async fn make(&self, path: &str, body: &str) -> String {
        let made = self.post(path, body).await;
        assert_eq!(made.status, 201, "{}", made.text);
        made.json()["id"].as_str().unwrap().to_owned()
    }
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|v| v.to_str().unwrap()).unwrap_or_default()
    }

    pub fn has(&self, name: &str) -> bool {
        self.headers.contains_key(name)
    }

    /// Status, headers in order of their names without those of every response, and the body.
    pub fn transcript(&self) -> String {
        const EVERYWHERE: [&str; 2] = ["content-type", "x-content-type-options"];
        let mut out = format!("{}\n", self.status);
        let told = self.headers.iter().filter(|(name, _)| !EVERYWHERE.contains(&name.as_str()));
        let mut lines: Vec<_> = told.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        for line in lines {
            let _ = writeln!(out, "{line}");
        }
        match serde_json::from_str::<Value>(&self.text) {
            Ok(json) => {
                let _ = write!(out, "{json:#}");
            }
            Err(_) => out.push_str(&self.text),
        }
        out
    }
}
