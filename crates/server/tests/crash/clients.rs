//! Clients that make and delete things all the time, repeat every request until it has an answer, and keep what they
//! were promised.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use nephos_model::Entropy as _;
use nephos_testkit::SeededEntropy;
use serde_json::{Value, json};

/// The longest wait for an answer, or for a server that was killed to be back.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Tries of one request at most: each is broken off by a kill.
const TRIES_MAX: u32 = 100;

/// A base URL with its way to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Face {
    /// Platform, live.
    Platform,
    /// Platform, sandbox.
    Sandbox,
    /// Strettch, which is live.
    Strettch,
}

impl Face {
    pub const ALL: [Self; 3] = [Self::Platform, Self::Sandbox, Self::Strettch];

    pub const fn base(self) -> &'static str {
        match self {
            Self::Platform => "/v1",
            Self::Sandbox => "/sandbox/v1",
            Self::Strettch => "/api/v1",
        }
    }

    pub const fn is_test(self) -> bool {
        matches!(self, Self::Sandbox)
    }

    /// Status of a replayed 201.
    pub const fn replayed(self) -> u16 {
        if matches!(self, Self::Strettch) { 202 } else { 201 }
    }

    /// The resource in the body of a create or a delete.
    pub fn resource(self, body: &str) -> Value {
        let body: Value = serde_json::from_str(body).unwrap();
        if self == Self::Strettch { body["data"].clone() } else { body }
    }
}

/// What is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Project,
    SshKey,
    Compute,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Project, Self::SshKey, Self::Compute];

    pub const fn path(self) -> &'static str {
        match self {
            Self::Project => "/projects",
            Self::SshKey => "/ssh-keys",
            Self::Compute => "/computes",
        }
    }

    pub const fn noun(self) -> &'static str {
        match self {
            Self::Project => "project",
            Self::SshKey => "ssh_key",
            Self::Compute => "compute",
        }
    }
}

/// A thing whose making was acknowledged.
#[derive(Debug, Clone)]
pub struct Made {
    pub face: Face,
    pub kind: Kind,
    pub key: String,
    pub request: String,
    /// The body of the first acknowledgement.
    pub body: String,
    pub id: String,
    pub name: String,
    /// The project of a compute, when it is one of the client's own.
    pub project: Option<String>,
    /// Whether its deletion was acknowledged.
    pub deleted: bool,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
    pub replayed: bool,
}

/// Asks a server.
#[derive(Debug, Clone)]
pub struct Http {
    agent: ureq::Agent,
    live_key: String,
    test_key: String,
}

impl Http {
    pub fn new(installed: &Value) -> Self {
        let key = |name: &str| installed[name].as_str().unwrap().to_owned();
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(WAIT_MAX));
        Self { agent: config.build().into(), live_key: key("live_key"), test_key: key("test_key") }
    }

    pub fn key(&self, face: Face) -> &str {
        if face.is_test() { &self.test_key } else { &self.live_key }
    }

    /// One try: an answer, or none because the server went away.
    pub fn ask(
        &self,
        url: &str,
        face: Face,
        method: &str,
        path: &str,
        post: Option<(&str, &str)>,
    ) -> Result<Answer, ureq::Error> {
        let url = format!("{url}{}{path}", face.base());
        let bearer = format!("Bearer {}", self.key(face));
        let mut response = match (method, post) {
            ("POST", Some((key, body))) => self
                .agent
                .post(url)
                .header("authorization", bearer)
                .header("content-type", "application/json")
                .header("idempotency-key", key)
                .send(body)?,
            ("DELETE", _) => self.agent.delete(url).header("authorization", bearer).call()?,
            _ => self.agent.get(url).header("authorization", bearer).call()?,
        };
        let replayed = response.headers().contains_key("idempotent-replayed");
        Ok(Answer { status: response.status().as_u16(), body: response.body_mut().read_to_string()?, replayed })
    }
}

/// Where the server is now, and how many requests were acknowledged: what clients and killer share.
#[derive(Debug, Default)]
pub struct Board {
    server: Mutex<(u64, String)>,
    moved: Condvar,
    acknowledged: Mutex<u64>,
    counted: Condvar,
    stop: AtomicBool,
}

impl Board {
    /// A server is ready at `url`.
    pub fn publish(&self, url: &str) {
        let mut server = self.server.lock().unwrap();
        *server = (server.0 + 1, url.to_owned());
        self.moved.notify_all();
    }

    /// No more new requests.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn server(&self) -> (u64, String) {
        self.server.lock().unwrap().clone()
    }

    /// Waits for a server after the one with this number.
    fn after(&self, number: u64) {
        let server = self.server.lock().unwrap();
        let (server, waited) = self.moved.wait_timeout_while(server, WAIT_MAX, |now| now.0 <= number).unwrap();
        drop(server);
        assert!(!waited.timed_out(), "a request failed, and no server was killed or none came back");
    }

    fn acknowledge(&self) {
        *self.acknowledged.lock().unwrap() += 1;
        self.counted.notify_all();
    }

    /// Waits until `more` requests are acknowledged from now on.
    pub fn wait_for(&self, more: u64) {
        let count = self.acknowledged.lock().unwrap();
        let target = *count + more;
        let (count, waited) = self.counted.wait_timeout_while(count, WAIT_MAX, |now| *now < target).unwrap();
        drop(count);
        assert!(!waited.timed_out(), "the clients stand still");
    }
}

/// One client.
pub struct Client {
    number: u64,
    http: Http,
    board: Arc<Board>,
    entropy: SeededEntropy,
    live_computes: bool,
    made: Vec<Made>,
    /// How many answers came only at a later try.
    pub repeated: u32,
}

impl Client {
    pub fn new(number: u64, seed: u64, http: Http, board: Arc<Board>, live_computes: bool) -> Self {
        let entropy = SeededEntropy::new(seed.wrapping_add(number));
        Self { number, http, board, entropy, live_computes, made: Vec::new(), repeated: 0 }
    }

    fn below(&self, bound: u64) -> u64 {
        let mut bytes = [0; 8];
        self.entropy.fill(&mut bytes);
        u64::from_le_bytes(bytes) % bound
    }

    /// Makes and deletes until it is told to stop. Returns everything that was acknowledged.
    pub fn run(mut self) -> (Vec<Made>, u32) {
        while !self.board.stop.load(Ordering::Relaxed) {
            let there: Vec<usize> = (0..self.made.len()).filter(|i| !self.made[*i].deleted).collect();
            if there.is_empty() || self.below(100) < 60 {
                self.make();
            } else {
                let at = usize::try_from(self.below(there.len() as u64)).unwrap();
                self.delete(there[at]);
            }
        }
        (self.made, self.repeated)
    }

    /// Asks until there is an answer. Returns it and how many tries had none.
    fn insist(&mut self, face: Face, method: &str, path: &str, post: Option<(&str, &str)>) -> (Answer, u32) {
        for lost in 0..TRIES_MAX {
            let (number, url) = self.board.server();
            match self.http.ask(&url, face, method, path, post) {
                Ok(answer) => {
                    self.board.acknowledge();
                    self.repeated += u32::from(lost > 0);
                    return (answer, lost);
                }
                Err(_) => self.board.after(number),
            }
        }
        panic!("{method} {path}: no answer in {TRIES_MAX} tries");
    }

    fn make(&mut self) {
        let face = Face::ALL[usize::try_from(self.below(3)).unwrap()];
        let kind = match self.below(100) {
            0..35 => Kind::Project,
            35..60 => Kind::SshKey,
            _ if self.live_computes || face.is_test() => Kind::Compute,
            _ => Kind::Project,
        };
        let name = format!("c{}-{}", self.number, self.made.len());
        let project = self.made.iter().rfind(|m| {
            m.kind == Kind::Project && !m.deleted && m.face.is_test() == face.is_test() && self.below(3) == 0
        });
        let project = project.filter(|_| kind == Kind::Compute).map(|m| m.id.clone());
        let mut body = json!({"name": name});
        match kind {
            Kind::Project => {}
            Kind::SshKey => body["public_key"] = json!(self.public_key()),
            Kind::Compute => {
                body["labels"] = json!({"client": self.number.to_string()});
                body["project_id"] = json!(project);
            }
        }
        let (key, request) = (self.uuid(), body.to_string());
        let (answer, lost) = self.insist(face, "POST", kind.path(), Some((&key, &request)));
        let expected = if answer.replayed { face.replayed() } else { 201 };
        assert_eq!(answer.status, expected, "{face:?} POST {} {request}: {}", kind.path(), answer.body);
        assert!(!answer.replayed || lost > 0, "a first request is no replay: {}", answer.body);
        let resource = face.resource(&answer.body);
        assert_eq!(resource["name"], json!(name));
        let id = resource["id"].as_str().unwrap().to_owned();
        self.made.push(Made { face, kind, key, request, body: answer.body, id, name, project, deleted: false });
    }

    fn delete(&mut self, at: usize) {
        let Made { kind, id, face, .. } = self.made[at].clone();
        // What one surface made, the other deletes as well.
        let face = match (face, self.below(2)) {
            (Face::Sandbox, _) => Face::Sandbox,
            (_, 0) => Face::Platform,
            _ => Face::Strettch,
        };
        let force = if kind == Kind::Project { "?force=true" } else { "" };
        let path = format!("{}/{id}{force}", kind.path());
        let (answer, lost) = self.insist(face, "DELETE", &path, None);
        match answer.status {
            200 => assert_eq!(face.resource(&answer.body), json!({"deleted": true, "id": id})),
            404 => assert!(lost > 0, "{id} was lost: {}", answer.body),
            status => panic!("{face:?} DELETE {path}: {status} {}", answer.body),
        }
        self.made[at].deleted = true;
        for inside in self.made.iter_mut().filter(|m| m.project.as_ref() == Some(&id)) {
            inside.deleted = true;
        }
    }

    fn uuid(&self) -> String {
        let mut bytes = [0; 16];
        self.entropy.fill(&mut bytes);
        let number = u128::from_be_bytes(bytes) & !(0xf << 76) | (0x4 << 76);
        let hex = format!("{:032x}", number & !(0x3 << 62) | (0x2 << 62));
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }

    /// An Ed25519 key in the form of a .pub file; nobody has its other half.
    fn public_key(&self) -> String {
        let mut blob = Vec::from(*b"\0\0\0\x0bssh-ed25519\0\0\0\x20");
        let mut point = [0; 32];
        self.entropy.fill(&mut point);
        blob.extend(point);
        format!("ssh-ed25519 {}", base64(&blob))
    }
}

/// Base64 of a length that needs no padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    assert_eq!(bytes.len() % 3, 0);
    let digits = bytes.chunks(3).flat_map(|three| {
        let word = three.iter().fold(0_usize, |word, byte| word << 8 | usize::from(*byte));
        [18, 12, 6, 0].map(|shift| char::from(DIGITS[word >> shift & 63]))
    });
    digits.collect()
}
