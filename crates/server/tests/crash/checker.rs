//! After the kills: what was promised is there once, what was deleted is gone, and all numbers agree, as the API tells it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Value, json};

use crate::clients::{Face, Http, Kind, Made};

/// A page that does not divide anything evenly.
const PAGE: usize = 37;
/// Looks for the last event at most: the sequencer's lease runs 5 seconds, an answer takes a millisecond.
const LOOKS_MAX: u32 = 100_000;

/// A checker of one installation.
pub struct Checker<'a> {
    pub http: &'a Http,
    pub url: &'a str,
    pub made: &'a [Made],
    /// Long polls of 30 seconds for one operation at most.
    pub polls_max: u32,
}

impl Checker<'_> {
    fn get(&self, face: Face, path: &str) -> (u16, Value) {
        let answer = self.http.ask(self.url, face, "GET", path, None).unwrap();
        (answer.status, serde_json::from_str(&answer.body).unwrap())
    }

    fn found(&self, face: Face, path: &str) -> Value {
        let (status, body) = self.get(face, path);
        assert_eq!(status, 200, "{face:?} GET {path}: {body}");
        body
    }

    /// Everything in a list by way of `after`; its total must be what is found, on every page.
    fn all(&self, face: Face, path: &str) -> Vec<Value> {
        let mut items: Vec<Value> = Vec::new();
        let mut totals = BTreeSet::new();
        loop {
            let after = items.last().map(|last| format!("&after={}", last["id"].as_str().unwrap())).unwrap_or_default();
            let page = self.found(face, &format!("{path}?limit={PAGE}{after}"));
            totals.insert(page["meta"]["total"].as_u64().unwrap());
            let more = page["data"].as_array().unwrap().clone();
            let is_last = more.len() < PAGE;
            items.extend(more);
            if is_last {
                break;
            }
        }
        assert_eq!(totals, BTreeSet::from([items.len() as u64]), "{face:?} {path}");
        let ids: BTreeSet<&str> = items.iter().map(|item| item["id"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), items.len(), "{face:?} {path} lists something twice");
        items
    }

    fn of(&self, face: Face) -> impl Iterator<Item = &Made> {
        self.made.iter().filter(move |made| made.face.is_test() == face.is_test())
    }

    /// Every operation has ended, or ends now; then all computes run.
    pub fn operations_end(&self) {
        for face in [Face::Platform, Face::Sandbox] {
            for operation in self.all(face, "/operations") {
                let path = format!("/operations/{}", operation["id"].as_str().unwrap());
                let is_under_way = |o: &Value| o["ended_at"].is_null();
                let mut operation = operation;
                for _ in 0..self.polls_max {
                    if is_under_way(&operation) {
                        operation = self.found(face, &format!("{path}?wait=30"))["data"].clone();
                    }
                }
                assert!(!is_under_way(&operation), "it never ends: {operation}");
                let status = operation["status"].as_str().unwrap();
                assert!(matches!(status, "succeeded" | "cancelled"), "{operation}");
                assert!(operation["error"].is_null(), "{operation}");
            }
            for compute in self.all(face, "/computes") {
                assert_eq!(
                    (&compute["status"], &compute["operation_id"]),
                    (&json!("running"), &Value::Null),
                    "{compute}"
                );
            }
        }
    }

    /// What was acknowledged is there, once, on every surface; what was deleted is 404.
    pub fn nothing_is_lost_or_twice(&self) {
        for face in Face::ALL {
            for kind in Kind::ALL {
                let mut listed: BTreeMap<String, String> = BTreeMap::new();
                for item in self.all(face, kind.path()) {
                    let text = |name: &str| item[name].as_str().unwrap().to_owned();
                    listed.insert(text("id"), text("name"));
                }
                let promised = self.of(face).filter(|made| made.kind == kind && !made.deleted);
                let mut expected: BTreeMap<_, _> = promised.map(|made| (made.id.clone(), made.name.clone())).collect();
                if kind == Kind::Project {
                    let default = listed.iter().find(|(_, name)| *name == "default").expect("the default project");
                    expected.insert(default.0.clone(), default.1.clone());
                }
                assert_eq!(listed, expected, "{face:?} {}", kind.path());
            }
            for made in self.of(face) {
                let (status, body) = self.get(face, &format!("{}/{}", made.kind.path(), made.id));
                if made.deleted {
                    assert_eq!(status, 404, "{made:?}: {body}");
                } else {
                    assert_eq!((status, &body["data"]["name"]), (200, &json!(made.name)), "{made:?}: {body}");
                }
            }
        }
        let ids: BTreeSet<&str> = self.made.iter().map(|made| made.id.as_str()).collect();
        assert_eq!(ids.len(), self.made.len(), "two keys made one resource");
    }

    /// Every key answers what it answered first, byte for byte, and makes nothing.
    pub fn replays_are_identical(&self) {
        for made in self.made {
            let post = Some((made.key.as_str(), made.request.as_str()));
            let answer = self.http.ask(self.url, made.face, "POST", made.kind.path(), post).unwrap();
            assert!(answer.replayed, "{made:?}: {}", answer.body);
            assert_eq!(answer.status, made.face.replayed(), "{made:?}");
            assert_eq!(answer.body, made.body, "{made:?}");
        }
    }

    /// Numbered from 1 without a gap, and each change was told once.
    pub fn events_are_complete(&self) {
        for face in [Face::Platform, Face::Sandbox] {
            self.wait_for_events(face);
            let mut numbers = BTreeSet::new();
            let mut told: HashMap<(String, String), u32> = HashMap::new();
            let events = self.all(face, "/events");
            for event in &events {
                numbers.insert(event["seq"].as_u64().unwrap());
                let text = |name: &str| event[name].as_str().unwrap().to_owned();
                *told.entry((text("resource_id"), text("type"))).or_default() += 1;
            }
            let count = events.len() as u64;
            assert_eq!((numbers.first(), numbers.last()), (Some(&1), Some(&count)), "{face:?}: numbers of events");
            assert_eq!(numbers.len(), events.len(), "{face:?}: two events have one number");
            for made in self.of(face) {
                let times = |what: &str| told.get(&(made.id.clone(), format!("{}.{what}", made.kind.noun()))).copied();
                assert_eq!(times("created"), Some(1), "{made:?}");
                assert_eq!(times("deleted"), made.deleted.then_some(1), "{made:?}");
            }
        }
    }

    /// Every event since the webhook was made reached it, and its log says so.
    pub fn deliveries_are_complete(&self, received: impl Fn() -> BTreeSet<String>) {
        for face in [Face::Platform, Face::Sandbox] {
            let webhook = self.all(face, "/webhooks").remove(0)["id"].as_str().unwrap().to_owned();
            let log = format!("/webhooks/{webhook}/deliveries");
            let events = self.all(face, "/events");
            let began = events.iter().find(|event| event["type"] == json!("webhook.created")).unwrap()["seq"].as_u64();
            let wanted: BTreeSet<String> = events
                .iter()
                .filter(|event| event["seq"].as_u64() > began)
                .map(|event| event["id"].as_str().unwrap().to_owned())
                .collect();
            let total = |filter: &str| self.found(face, &format!("{log}?{filter}limit=1"))["meta"]["total"].as_u64();
            let ended = || total("").unwrap() >= wanted.len() as u64 && total("status=pending&") == Some(0);
            assert!((0..LOOKS_MAX).any(|_| ended()), "{face:?}: {:?} are pending", total("status=pending&"));
            let received = received();
            let lost: Vec<_> = wanted.difference(&received).collect();
            assert!(lost.is_empty(), "{face:?}: never received: {lost:?}");
            let delivered = self.all(face, &log);
            let told: BTreeSet<&str> = delivered.iter().map(|d| d["event_id"].as_str().unwrap()).collect();
            assert_eq!(told.len(), delivered.len(), "{face:?}: an event has two deliveries");
            for delivery in &delivered {
                assert_eq!(delivery["status"], json!("succeeded"), "{delivery}");
                let tries = delivery["attempts"].as_array().unwrap();
                assert_eq!(Some(tries.len() as u64), delivery["attempt_count"].as_u64(), "{delivery}");
            }
        }
    }

    /// Makes something, and waits until its event is there: all earlier ones are then, too.
    fn wait_for_events(&self, face: Face) {
        let key = format!("00000000-0000-4000-8000-{:012x}", face as u8);
        let body = json!({"name": "last"}).to_string();
        let made = self.http.ask(self.url, face, "POST", "/projects", Some((&key, &body))).unwrap();
        assert_eq!(made.status, 201, "{}", made.body);
        let id = face.resource(&made.body)["id"].as_str().unwrap().to_owned();
        let path = format!("/events?resource_id={id}");
        let seen = (0..LOOKS_MAX).any(|_| self.found(face, &path)["meta"]["total"] != json!(0));
        assert!(seen, "an event never gets its number");
    }

    /// Each compute has one operation that made it, and one that deleted it if it was.
    pub fn operations_are_single(&self) {
        for face in [Face::Platform, Face::Sandbox] {
            let mut counts: HashMap<(String, String), u32> = HashMap::new();
            for operation in self.all(face, "/operations") {
                let text = |name: &str| operation[name].as_str().unwrap().to_owned();
                *counts.entry((text("resource_id"), text("kind"))).or_default() += 1;
            }
            for made in self.of(face).filter(|made| made.kind == Kind::Compute) {
                let times = |kind: &str| counts.get(&(made.id.clone(), kind.to_owned())).copied();
                assert_eq!(times("compute.create"), Some(1), "{made:?}");
                // By itself, or as a part of its project.
                let project = made.project.as_ref().map(|id| (id.clone(), "project.delete".to_owned()));
                let with_project = project.and_then(|project| counts.get(&project).copied());
                let removals = times("compute.delete").or(with_project.filter(|_| made.deleted));
                assert_eq!(removals, made.deleted.then_some(1), "{made:?}");
            }
        }
    }
}
