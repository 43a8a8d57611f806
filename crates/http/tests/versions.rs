//! Versions and operations from their first day to their last: what their callers read, and who is told.

#![allow(clippy::unwrap_used)]

mod api;

use api::Api;
use jiff::civil::{Date, date};
use nephos_http::call::{Answer, Call};
use nephos_http::endpoint::{Endpoint, Success, schema_of};
use nephos_http::registry::{Deprecation, Registry, Removed};
use nephos_http::reply::Reply;
use nephos_http::{App, Config};
use nephos_model::{Clock as _, Timestamp};
use nephos_testkit::WorldClock;
use schemars::JsonSchema;
use serde::Serialize;

/// What the old operation answers.
#[derive(Serialize, JsonSchema)]
struct Old {
    old: bool,
}

/// An operation that no build has.
static OLD: [Endpoint; 2] =
    [
        Endpoint::new("old.get", "GET", "/old", Success::Found, schema_of::<Old>, |call| Box::pin(old(call))).told(
            "Read the old",
            "What was read before.",
            "Old.",
        ),
        Endpoint::new("old.list", "GET", "/olds/{id}", Success::Found, schema_of::<Old>, |call| Box::pin(old(call)))
            .told("Read an old one", "What was read before.", "Old."),
    ];

async fn old(call: &Call) -> Result<Answer, nephos_control::plan::CommitError> {
    call.read(Reply::found(&Old { old: true }))
}

fn at(day: Date) -> Timestamp {
    Timestamp::from_micros(day.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp().as_microsecond())
}

/// Moves the world to a day.
async fn go_to(clock: &WorldClock, day: Date) {
    clock.advance(at(day).since(clock.now())).await;
}

/// A deprecation whose first day is well after the world's beginning.
fn end() -> Deprecation {
    Deprecation {
        since: date(2031, 1, 1),
        sunset: date(2031, 7, 1),
        successor: Some("/projects"),
        note: "Projects say more.",
    }
}

const VERSION_LINK: &str = "<https://cloud.example/docs/changelog.json>; rel=\"deprecation\"; \
    type=\"application/feed+json\", <https://cloud.example/v2>; rel=\"successor-version\"";
const OWN: [&str; 3] = ["deprecation", "sunset", "link"];

#[tokio::test]
async fn an_operation_from_its_first_day_to_its_last() {
    let registry = Registry::default().with_operations(&OLD).deprecating("old.get", end());
    let notices = registry.notices();
    let api = Api::registered(Config::default(), "unlimited", registry).await;
    let me = api.get("/v1/me").await.json()["data"]["api_key"]["id"].as_str().unwrap().to_owned();
    let key = async || api.get(&format!("/v1/api-keys/{me}")).await.json()["data"]["deprecated_calls"].clone();

    // Active: nothing is to be seen but what the documents announce.
    for path in ["/v1/old", "/api/v1/old", "/sandbox/v1/old"] {
        let bearer = if path.starts_with("/sandbox") { "Bearer test" } else { "Bearer owner" };
        let read = api.send("GET", path, &[("authorization", bearer)], "").await;
        assert_eq!(read.status, 200, "{}", read.text);
        assert!(OWN.iter().all(|name| !read.has(name)));
    }
    assert_eq!(key().await, serde_json::json!([]));
    assert_eq!(api.world.cloud.announce_due(&notices).await.unwrap(), 0);
    let document = api.send("GET", "/docs/openapi/platform.json", &[], "").await.json();
    assert_eq!(document["paths"]["/old"]["get"]["deprecated"], true);
    assert_eq!(document["paths"]["/old"]["get"]["x-sunset-at"], "2031-07-01T00:00:00Z");
    assert!(document["paths"]["/olds/{id}"]["get"]["deprecated"].is_null());

    // Deprecated: it works, and every response of it says so, refusals without a credential included.
    go_to(&api.world.clock, date(2031, 1, 1)).await;
    let transcript = api.get("/v1/old").await;
    assert_eq!(transcript.status, 200);
    assert_eq!(transcript.header("deprecation"), "@1924992000");
    assert_eq!(transcript.header("sunset"), "Tue, 01 Jul 2031 00:00:00 GMT");
    assert_eq!(
        transcript.header("link"),
        "<https://cloud.example/docs/changelog.json>; rel=\"deprecation\"; type=\"application/feed+json\", \
         <https://cloud.example/v1/projects>; rel=\"successor-version\""
    );
    let refused = [
        (api.send("GET", "/v1/old", &[], "").await, 401),
        (api.with("GET", "/v1/old", "", &[("accept", "text/html")]).await, 406),
        (api.get("/v1/old?unknown=1").await, 400),
        (api.with("HEAD", "/api/v1/old", "", &[]).await, 200),
    ];
    for (answer, status) in refused {
        assert_eq!(answer.status, status, "{}", answer.text);
        assert!(OWN.iter().all(|name| answer.has(name)), "{status}: {:?}", answer.headers);
    }
    let others =
        [api.get("/v1/projects").await, api.get("/v1/olds/x").await, api.with("POST", "/v1/old", "{}", &[]).await];
    assert!(others.iter().all(|answer| !answer.has("deprecation") && !answer.has("sunset")));

    // The key's record, before it is written and after.
    let called = serde_json::json!([{"operation": "old.get", "last_called_at": "2031-01-01T00:00:00Z"}]);
    assert_eq!(key().await, called);
    api.world.cloud.flush().await.unwrap();
    api.world.clock.advance(std::time::Duration::from_secs(3_600)).await;
    assert_eq!(key().await, called);
    assert_eq!(api.get("/v1/old").await.status, 200);
    api.world.cloud.flush().await.unwrap();
    let later = serde_json::json!([{"operation": "old.get", "last_called_at": "2031-01-01T01:00:00Z"}]);
    assert_eq!(key().await, later);
    let narrow = api.send("GET", &format!("/v1/api-keys/{me}"), &[("authorization", "Bearer other")], "").await;
    assert_eq!(narrow.status, 404, "another workspace's key tells nothing");

    // Every workspace hears of it once, whichever process tells it.
    let announced = api.world.cloud.announce_due(&notices).await.unwrap();
    assert_eq!(announced, 2, "two workspaces");
    assert_eq!(api.world.replica(99).announce_due(&notices).await.unwrap(), 0);

    // Gone: 410 in its place of the order, and the headers still tell when and what else.
    go_to(&api.world.clock, date(2031, 7, 1)).await;
    let gone = api.get("/v1/old").await;
    assert_eq!((gone.status, gone.json()["code"].as_str().unwrap()), (410, "gone"));
    assert!(gone.text.contains("/projects") && OWN.iter().all(|name| gone.has(name)));
    assert_eq!(api.get("/api/v1/old").await.json()["code"], "GONE");
    assert_eq!(api.send("GET", "/v1/old", &[], "").await.status, 401, "a credential is asked for first");
    let feed = api.send("GET", "/docs/changelog.json", &[], "").await;
    assert_eq!(feed.header("content-type"), "application/feed+json");
    let kinds: Vec<_> = feed.json()["items"].as_array().unwrap().iter().map(|i| i["_nephos"]["kind"].clone()).collect();
    assert!(kinds.contains(&"operation_gone".into()) && kinds.contains(&"operation_deprecated".into()), "{kinds:?}");
    let atom = api.send("GET", "/docs/changelog.atom", &[], "").await;
    assert_eq!(atom.header("content-type"), "application/atom+xml; charset=utf-8");
    assert!(atom.text.contains("<id>urn:nephos:operation:old.get:gone</id>"), "{}", atom.text);
}

#[tokio::test]
async fn the_event_is_in_every_workspaces_list() {
    let registry = Registry::default().with_operations(&OLD).deprecating("old.get", end());
    let notices = registry.notices();
    let mut api = Api::registered(Config::default(), "unlimited", registry).await;
    api.start().await;
    go_to(&api.world.clock, date(2031, 1, 2)).await;
    // One who comes later finds it in the documents.
    api.world.workspace("later", "unlimited").await;
    assert_eq!(api.world.cloud.announce_due(&notices).await.unwrap(), 2);
    let event = api
        .world
        .until(|| async {
            let events = api.get("/v1/events?type=api.operation_deprecated").await.json();
            events["data"].as_array().and_then(|rows| rows.first().cloned())
        })
        .await;
    assert_eq!(event["data"]["name"], "old.get", "{event}");
    assert_eq!(event["data"]["sunset_at"], "2031-07-01T00:00:00Z");
}

#[tokio::test]
async fn a_version_and_what_was_taken_out_of_the_code() {
    let version = Deprecation { successor: Some("/v2"), ..end() };
    let removed = Removed {
        id: "older.get",
        method: "GET",
        path: "/older/{id}",
        deprecation: Deprecation { since: date(2000, 1, 1), sunset: date(2000, 7, 1), ..end() },
    };
    let registry = Registry::default().deprecating_version("/v1", version).without(removed);
    let api = Api::registered(Config::default(), "unlimited", registry).await;
    let older = api.get("/v1/older/x").await;
    assert_eq!((older.status, older.header("sunset")), (410, "Sat, 01 Jul 2000 00:00:00 GMT"));
    assert_eq!(api.get("/v1/older").await.status, 404);
    assert!(api.get("/v2/projects").await.text.contains("The versions there are: /v1."));

    go_to(&api.world.clock, date(2031, 2, 1)).await;
    for path in ["/v1/projects", "/v1/nothing"] {
        let answer = api.get(path).await;
        assert!(answer.headers.get_all("link").iter().any(|link| link == VERSION_LINK), "{path}");
        assert_eq!(answer.header("sunset"), "Tue, 01 Jul 2031 00:00:00 GMT");
    }
    assert!(!api.get("/api/v1/projects").await.has("sunset"));
    let list = api.get("/v1/projects").await;
    let links: Vec<_> = list.headers.get_all("link").iter().map(|v| v.to_str().unwrap()).collect();
    assert!(links.len() == 2 && links[0].contains("rel=\"first\""), "{links:?}");

    go_to(&api.world.clock, date(2031, 7, 1)).await;
    assert_eq!(api.get("/v1/projects").await.status, 410);
    assert_eq!(api.get("/v1/nothing").await.status, 410);
    assert_eq!(api.send("GET", "/sandbox/v1/projects", &[("authorization", "Bearer test")], "").await.status, 200);
    assert!(api.get("/v2/projects").await.text.contains("The versions there are: none."));
}

#[tokio::test]
async fn a_sunset_too_soon_stops_the_start() {
    let api = Api::new().await;
    let soon = Deprecation { sunset: date(2031, 6, 30), ..end() };
    let registry = Registry::default().with_operations(&OLD).deprecating("old.get", soon);
    let refused = App::new(api.world.cloud.clone(), Config::default(), registry).unwrap_err();
    assert!(refused.to_string().contains("at least 6 months later, on 2031-07-01"), "{refused}");
}
