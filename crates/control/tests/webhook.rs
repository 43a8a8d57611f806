//! Webhooks from the change to the receiver: signatures, the schedule, deadlines, crashes, replicas; on both engines, with
//! receivers that do what receivers do.

#![allow(clippy::default_trait_access, clippy::unwrap_used)] // a test may

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nephos_control::Cloud;
use nephos_control::caller::{Caller, EventRead, ProjectWrite, SandboxReset, SandboxWrite, WebhookRead, WebhookWrite};
use nephos_control::event::Filter;
use nephos_control::sandbox::Advance;
use nephos_control::webhook::{Logged, NewWebhook, WebhookChange, WebhookWithSecret};
use nephos_model::id::ProjectId;
use nephos_model::page::{LIMIT_MAX, Page};
use nephos_model::role::Role;
use nephos_model::webhook::{DeliveryStatus, Reason, SCHEDULE, Status, Webhook};
use nephos_model::{Clock as _, Code};
use nephos_store::Engine;
use nephos_store::testing::broken;
use nephos_testkit::{Durations as _, Received, Receiver, Reply, World};
use ring::hmac;
use tokio::sync::Notify;

/// Runs a test on both engines.
macro_rules! on_both {
    ($($name:ident)*) => {
        mod sqlite { $(#[tokio::test] async fn $name() { super::$name(nephos_store::Engine::Sqlite).await; })* }
        mod postgres { $(#[tokio::test] async fn $name() { super::$name(nephos_store::Engine::Postgres).await; })* }
    };
}

on_both! {
    every_event_is_delivered_and_signed
    a_delivery_is_tried_ten_times_in_a_day
    an_endpoint_that_is_gone_is_disabled
    an_endpoint_that_fails_for_five_days_is_disabled
    a_silent_endpoint_delays_no_other
    an_answer_has_ten_seconds
    a_crash_loses_nothing
    what_was_missed_is_recovered
    a_rotated_secret_signs_for_a_day
    a_reset_drops_what_waits
    narrowed_keys_see_their_part
}

/// A workspace with its Owner.
async fn world(engine: Engine) -> (World, Arc<Caller>) {
    let world = World::started(engine).await;
    let installed = world.workspace("mine", "unlimited").await;
    let caller = world.caller_of(&installed.live_key).await;
    (world, caller)
}

async fn webhook(world: &World, caller: &Arc<Caller>, url: String) -> WebhookWithSecret {
    let new = NewWebhook {
        url,
        description: None,
        event_types: vec!["project.*".to_owned(), "compute.*".to_owned()],
        project_id: None,
        environment_id: None,
    };
    let plan = world.cloud.create_webhook(&world.grant::<WebhookWrite>(caller), new).await.unwrap();
    world.cloud.commit(plan, None).await.unwrap()
}

/// One event that endpoints of these tests take.
async fn project(cloud: &Cloud, world: &World, caller: &Arc<Caller>, name: &str) -> ProjectId {
    let plan = cloud.create_project(&world.grant::<ProjectWrite>(caller), &name.parse().unwrap()).await.unwrap();
    cloud.commit(plan, None).await.unwrap().id
}

/// Lets whoever sleeps for a moment only go on: where events get their numbers afterwards, that is who gives them.
async fn nudge(world: &World) {
    let now = world.clock.now();
    if let Some(at) = world.clock.next_wake().filter(|at| at.since(now) <= 2.millis()) {
        world.clock.advance(at.since(now)).await;
    }
    tokio::task::yield_now().await;
}

/// Waits in real time, while the clock stands but for moments, until so many requests came.
async fn arrived(world: &World, receiver: &Receiver, count: usize) -> Vec<Received> {
    let waiting = async {
        while receiver.received().len() < count {
            nudge(world).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), waiting).await;
    assert!(waited.is_ok(), "{count} requests were waited for, and {} came", receiver.received().len());
    receiver.received()
}

/// Time passes. A long one passes while no process runs, and then another begins.
async fn pass(world: &mut World, by: Duration, seed: u64) {
    if by < 5.minutes() {
        return world.clock.advance(by).await;
    }
    world.halt();
    world.clock.advance(by).await;
    world.crash(1_000 + seed).await;
}

/// Waits in real time until an endpoint has a status.
async fn status_when(world: &World, caller: &Arc<Caller>, webhook: &Webhook, wanted: Status) {
    let waiting = async {
        while status(world, caller, webhook).await != wanted {
            nudge(world).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(30), waiting).await.is_ok(), "it is not {wanted:?}");
}

async fn log(world: &World, caller: &Arc<Caller>, webhook: &Webhook) -> Vec<Logged> {
    let page = Page { limit: LIMIT_MAX, ..Page::default() };
    let grant = world.grant::<WebhookRead>(caller);
    world.cloud.deliveries(&grant, webhook.id, None, &page).await.unwrap().items
}

/// Waits in real time, while the clock stands, until the log is as it should be.
async fn log_when(
    world: &World,
    caller: &Arc<Caller>,
    webhook: &Webhook,
    done: impl Fn(&[Logged]) -> bool,
) -> Vec<Logged> {
    let waiting = async {
        loop {
            let log = log(world, caller, webhook).await;
            if done(&log) {
                return log;
            }
            nudge(world).await;
        }
    };
    if let Ok(log) = tokio::time::timeout(Duration::from_secs(30), waiting).await {
        return log;
    }
    panic!("the log does not become what it should: {:#?}", log(world, caller, webhook).await);
}

async fn kinds(world: &World, caller: &Arc<Caller>, kind: &str) -> usize {
    let filter = Filter { kind: Some(kind.to_owned()), ..Filter::default() };
    let events = world.cloud.events(&world.grant::<EventRead>(caller), filter, &Page::default()).await.unwrap();
    usize::try_from(events.total).unwrap()
}

/// The letters about webhooks, one for each time that somebody heard of them: the subject and the text.
async fn letters(world: &World, count: usize) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let waiting = async {
        while all.len() < count {
            let new = world.mailbox.take().into_iter().map(|letter| (letter.text.subject, letter.text.plain));
            all.extend(new.filter(|(subject, _)| subject.starts_with("A webhook")));
            nudge(world).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(30), waiting).await.is_ok(), "no letter comes");
    assert_eq!(all.len(), count);
    all
}

async fn told(world: &World, caller: &Arc<Caller>, kind: &str, count: usize) {
    let waiting = async {
        while kinds(world, caller, kind).await < count {
            nudge(world).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(30), waiting).await.is_ok(), "{kind} is not told");
    assert_eq!(kinds(world, caller, kind).await, count);
}

async fn status(world: &World, caller: &Arc<Caller>, webhook: &Webhook) -> Status {
    world.cloud.webhook(&world.grant::<WebhookRead>(caller), webhook.id).await.unwrap().status
}

/// What the rows promise holds, once what is left of the sandbox's earlier days is removed, bit by bit.
async fn assert_sound(world: &World) {
    let mut found = Vec::new();
    let waiting = async {
        loop {
            found = broken(world.database.store(), world.clock.now().plus(1.hours())).await;
            if found.is_empty() {
                return;
            }
            world.clock.advance(250.millis()).await;
        }
    };
    let sound = tokio::time::timeout(Duration::from_secs(10), waiting).await;
    assert!(sound.is_ok(), "{}", found.join("\n"));
}

/// The signatures that a secret makes of what was received.
fn signature(secret: &str, received: &Received) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap());
    let mut text = format!("{}.{}.", received.header("webhook-id"), received.header("webhook-timestamp")).into_bytes();
    text.extend_from_slice(&received.body);
    format!("v1,{}", STANDARD.encode(hmac::sign(&key, &text)))
}

async fn every_event_is_delivered_and_signed(engine: Engine) {
    let (world, caller) = world(engine).await;
    let receiver = Receiver::taking().await;
    let made = webhook(&world, &caller, receiver.url()).await;
    let ids: Vec<String> =
        vec![project(&world.cloud, &world, &caller, "one").await, project(&world.cloud, &world, &caller, "two").await]
            .into_iter()
            .map(|id| id.to_string())
            .collect();
    let received = arrived(&world, &receiver, 2).await;
    let mut told: Vec<String> = received.iter().map(|r| r.json()["resource_id"].as_str().unwrap().to_owned()).collect();
    told.sort();
    assert_eq!(told, ids);
    for one in &received {
        assert_eq!(one.path, "/in");
        assert_eq!(one.header("content-type"), "application/json");
        assert_eq!(one.header("webhook-timestamp"), world.clock.now().secs().to_string());
        assert_eq!(one.header("webhook-signature"), signature(&made.secret, one));
        let body = one.json();
        assert_eq!((&body["id"], &body["type"]), (&one.header("webhook-id").into(), &"project.created".into()));
        assert_eq!(body["timestamp"], body["created_at"]);
        assert_eq!(body["data"]["id"], body["resource_id"]);
    }
    let log = log_when(&world, &caller, &made.webhook, |log| log.len() == 2).await;
    for Logged { delivery, attempts } in &log {
        assert_eq!((delivery.status, delivery.attempts, attempts.len()), (DeliveryStatus::Succeeded, 1, 1));
        assert_eq!((attempts[0].http_status, attempts[0].error.as_deref()), (Some(200), None));
        assert!(received.iter().any(|r| r.header("webhook-id") == delivery.event_id.to_string()));
    }
    assert_sound(&world).await;
}

async fn a_delivery_is_tried_ten_times_in_a_day(engine: Engine) {
    let (mut world, caller) = world(engine).await;
    let receiver = Receiver::new(|_, _| Reply::Raw(b"HTTP/1.1 500 No\r\ncontent-length: 4\r\n\r\nnope".to_vec())).await;
    let made = webhook(&world, &caller, receiver.url()).await;
    project(&world.cloud, &world, &caller, "one").await;
    let began = world.clock.now();
    for tries in 1..=10 {
        arrived(&world, &receiver, tries).await;
        let log =
            log_when(&world, &caller, &made.webhook, |log| log.first().is_some_and(|l| l.attempts.len() == tries))
                .await;
        let due = log[0].delivery.due_at;
        let elapsed = world.clock.now().since(began);
        let nominal = if tries == 1 { Duration::ZERO } else { SCHEDULE[tries - 2] };
        let tenth = if (3..10).contains(&tries) { nominal / 10 } else { Duration::ZERO };
        assert!(elapsed + tenth >= nominal && elapsed <= nominal + tenth + 1.seconds(), "{tries}: {elapsed:?}");
        match due {
            Some(at) if tries < 10 => {
                let by = at.since(world.clock.now());
                pass(&mut world, by, tries as u64).await;
            }
            due => assert_eq!((due, tries), (None, 10)),
        }
    }
    let log = log(&world, &caller, &made.webhook).await;
    let Logged { delivery, attempts } = &log[0];
    assert_eq!(delivery.status, DeliveryStatus::Exhausted);
    assert_eq!(attempts.iter().map(|a| a.number).collect::<Vec<_>>(), (1..=10).collect::<Vec<_>>());
    assert!(attempts.iter().all(|a| a.answer.as_deref() == Some("nope") && a.http_status == Some(500)));
    let ids: BTreeSet<String> = receiver.received().iter().map(|r| r.header("webhook-id").to_owned()).collect();
    assert_eq!(ids.len(), 1, "the id is the same on every try");
    let times: BTreeSet<String> =
        receiver.received().iter().map(|r| r.header("webhook-timestamp").to_owned()).collect();
    assert_eq!(times.len(), 10, "the time is each try's own");
    told(&world, &caller, "delivery.exhausted", 1).await;
    let (subject, text) = letters(&world, 1).await.remove(0);
    assert_eq!(subject, "A webhook of the workspace “mine” does not take events");
    let last =
        format!("The delivery is {}; its last try ended with “status: the answer is 500, not 2xx”.", delivery.id);
    assert!(text.contains(&last), "{text}");
    assert_sound(&world).await;
    // Somebody asks for it again: from the beginning.
    let plan = world.cloud.retry_delivery(&world.grant::<WebhookWrite>(&caller), delivery.id).await.unwrap();
    world.cloud.commit(plan, None).await.unwrap();
    arrived(&world, &receiver, 11).await;
    let log = log_when(&world, &caller, &made.webhook, |log| log[0].attempts.len() == 11).await;
    let attempt = log[0].attempts.last().unwrap();
    assert_eq!(log[0].delivery.due_at.unwrap().since(attempt.tried_at), 1.seconds());
}

async fn an_endpoint_that_is_gone_is_disabled(engine: Engine) {
    let (world, caller) = world(engine).await;
    let receiver = Receiver::new(|_, _| Reply::Status(410)).await;
    let made = webhook(&world, &caller, receiver.url()).await;
    project(&world.cloud, &world, &caller, "one").await;
    arrived(&world, &receiver, 1).await;
    log_when(&world, &caller, &made.webhook, |log| log.len() == 1).await;
    status_when(&world, &caller, &made.webhook, Status::Disabled(Reason::Gone)).await;
    told(&world, &caller, "webhook.disabled", 1).await;
    let (subject, text) = letters(&world, 1).await.remove(0);
    assert_eq!(subject, "A webhook of the workspace “mine” is disabled");
    assert!(text.contains("it answered 410, that it is gone"), "{text}");
    project(&world.cloud, &world, &caller, "two").await;
    world.clock.advance(2.minutes()).await;
    assert_eq!(receiver.received().len(), 1, "a disabled endpoint gets nothing");
    assert_sound(&world).await;
    let grant = world.grant::<WebhookWrite>(&caller);
    let now = world.cloud.webhook_to_change(&grant, made.webhook.id).await.unwrap();
    let refused = world.cloud.test_webhook(&grant, &now).unwrap_err();
    assert_eq!(refused.code, Code::Conflict);
}

async fn an_endpoint_that_fails_for_five_days_is_disabled(engine: Engine) {
    let (mut world, caller) = world(engine).await;
    let receiver = Receiver::new(|_, _| Reply::Status(503)).await;
    let made = webhook(&world, &caller, receiver.url()).await;
    project(&world.cloud, &world, &caller, "first").await;
    arrived(&world, &receiver, 1).await;
    log_when(&world, &caller, &made.webhook, |log| log.len() == 1).await;
    pass(&mut world, 4.days(), 1).await;
    // What was due meanwhile is tried once more, and fails.
    let log = log_when(&world, &caller, &made.webhook, |log| log[0].delivery.due_at.is_none()).await;
    assert_eq!((log[0].delivery.status, log[0].delivery.attempts), (DeliveryStatus::Exhausted, 2));
    assert_eq!(status(&world, &caller, &made.webhook).await, Status::Enabled);
    pass(&mut world, 1.days(), 2).await;
    project(&world.cloud, &world, &caller, "second").await;
    arrived(&world, &receiver, 3).await;
    log_when(&world, &caller, &made.webhook, |log| log.len() == 2).await;
    world.clock.advance(1.seconds()).await;
    status_when(&world, &caller, &made.webhook, Status::Disabled(Reason::Failing)).await;
    assert_sound(&world).await;
}

async fn a_silent_endpoint_delays_no_other(engine: Engine) {
    let (world, caller) = world(engine).await;
    let silent = Receiver::new(|_, _| Reply::Silence).await;
    let healthy = Receiver::taking().await;
    let dead = webhook(&world, &caller, silent.url()).await;
    webhook(&world, &caller, healthy.url()).await;
    webhook(&world, &caller, "http://127.0.0.1:1/nobody".to_owned()).await;
    for number in 1..=5 {
        project(&world.cloud, &world, &caller, &format!("project {number}")).await;
        // The clock stands: nobody waits for anybody.
        arrived(&world, &healthy, number).await;
    }
    world.clock.advance(11.seconds()).await;
    let log =
        log_when(&world, &caller, &dead.webhook, |log| log.len() == 5 && log.iter().any(|l| l.attempts.len() == 1))
            .await;
    assert!(log.iter().all(|l| l.delivery.status == DeliveryStatus::Pending));
    let error = log.iter().find_map(|l| l.attempts.first()?.error.clone()).unwrap();
    assert!(error.starts_with("timeout"), "{error}");
    assert_eq!(healthy.received().len(), 5, "each once");
    assert_sound(&world).await;
}

async fn an_answer_has_ten_seconds(engine: Engine) {
    let (world, caller) = world(engine).await;
    let signal = Arc::new(Notify::new());
    let wait = signal.clone();
    // The head comes at once, the rest when the test says so.
    let receiver = Receiver::new(move |_, _| Reply::After(wait.clone(), Box::new(Reply::Status(204)))).await;
    let made = webhook(&world, &caller, receiver.url()).await;
    for (number, wait, taken) in [(1, 9_900, true), (2, 10_100, false)] {
        project(&world.cloud, &world, &caller, &format!("project {number}")).await;
        arrived(&world, &receiver, number).await;
        world.clock.advance(Duration::from_millis(wait)).await;
        signal.notify_waiters();
        let log = log_when(&world, &caller, &made.webhook, |log| {
            log.len() == number && log.iter().all(|l| !l.attempts.is_empty())
        })
        .await;
        let newest = &log[0];
        assert_eq!(newest.delivery.status == DeliveryStatus::Succeeded, taken, "{newest:?}");
        let attempt = &newest.attempts[0];
        assert_eq!(attempt.error.is_none(), taken);
        // Moments pass while events wait for their numbers.
        let least = if taken { 9_900 } else { 10_000 };
        assert!((least..least + 50).contains(&attempt.latency_ms), "{attempt:?}");
    }
}

async fn a_crash_loses_nothing(engine: Engine) {
    let (mut world, caller) = world(engine).await;
    let signal = Arc::new(Notify::new());
    let wait = signal.clone();
    let receiver = Receiver::new(move |number, _| match number {
        // Nobody hears of the first answers.
        0..3 => Reply::After(wait.clone(), Box::new(Reply::Status(200))),
        _ => Reply::Status(200),
    })
    .await;
    let made = webhook(&world, &caller, receiver.url()).await;
    project(&world.cloud, &world, &caller, "one").await;
    arrived(&world, &receiver, 1).await;
    let began = world.clock.now();
    world.crash(8).await;
    while receiver.received().len() < 2 {
        world.clock.advance(500.millis()).await;
        tokio::task::yield_now().await;
    }
    // It is found slow, has a row now, and its process ends.
    world.clock.advance(200.millis()).await;
    log_when(&world, &caller, &made.webhook, |log| log.len() == 1).await;
    world.crash(9).await;
    while receiver.received().len() < 3 {
        world.clock.advance(500.millis()).await;
        tokio::task::yield_now().await;
    }
    world.clock.advance(200.millis()).await;
    world.crash(10).await;
    while receiver.received().len() < 4 {
        world.clock.advance(500.millis()).await;
        tokio::task::yield_now().await;
    }
    if engine == Engine::Sqlite {
        let took = world.clock.now().since(began);
        assert!(took <= 5.seconds(), "{took:?}");
    }
    let log = log_when(&world, &caller, &made.webhook, |log| {
        log.len() == 1 && log[0].delivery.status == DeliveryStatus::Succeeded
    })
    .await;
    assert_eq!(log.len(), 1);
    assert_sound(&world).await;
}

async fn what_was_missed_is_recovered(engine: Engine) {
    let (world, caller) = world(engine).await;
    let receiver = Receiver::taking().await;
    let made = webhook(&world, &caller, receiver.url()).await;
    project(&world.cloud, &world, &caller, "taken").await;
    arrived(&world, &receiver, 1).await;
    log_when(&world, &caller, &made.webhook, |log| log.len() == 1).await;
    world.clock.advance(1.seconds()).await;
    let since = world.clock.now();
    let grant = world.grant::<WebhookWrite>(&caller);
    let set = async |enabled: bool| {
        let now = world.cloud.webhook_to_change(&grant, made.webhook.id).await.unwrap();
        let change = WebhookChange { enabled: Some(enabled), ..WebhookChange::default() };
        let plan = world.cloud.update_webhook(&grant, &now, change).await.unwrap();
        world.cloud.commit(plan, None).await.unwrap()
    };
    set(false).await;
    for number in 1..=3 {
        project(&world.cloud, &world, &caller, &format!("missed {number}")).await;
    }
    world.clock.advance(10.seconds()).await;
    let now = set(true).await;
    let future = world.cloud.recover_webhook(&grant, &now, world.clock.now().plus(1.hours())).await.unwrap_err();
    assert_eq!(future.code, Code::BadRequest);
    assert_eq!(receiver.received().len(), 1);
    let plan = world.cloud.recover_webhook(&grant, &now, since).await.unwrap();
    world.cloud.commit(plan, None).await.unwrap();
    arrived(&world, &receiver, 4).await;
    let log = log_when(&world, &caller, &made.webhook, |log| {
        log.len() == 4 && log.iter().all(|l| l.delivery.status == DeliveryStatus::Succeeded)
    })
    .await;
    assert_eq!(log.len(), 4);
    assert_eq!(receiver.received().len(), 4, "what was taken is not sent again");
    let now = world.cloud.webhook_to_change(&grant, made.webhook.id).await.unwrap();
    let plan = world.cloud.test_webhook(&grant, &now).unwrap();
    let tested = world.cloud.commit(plan, None).await.unwrap();
    let received = arrived(&world, &receiver, 5).await;
    assert_eq!(received[4].json()["type"], "webhook.test");
    assert_eq!(received[4].header("webhook-id"), tested.event_id);
    log_when(&world, &caller, &made.webhook, |log| log[0].delivery.id.to_string() == tested.delivery_id).await;
    assert_sound(&world).await;
}

async fn a_rotated_secret_signs_for_a_day(engine: Engine) {
    let (mut world, caller) = world(engine).await;
    let receiver = Receiver::taking().await;
    let made = webhook(&world, &caller, receiver.url()).await;
    let grant = world.grant::<WebhookWrite>(&caller);
    let plan = world.cloud.rotate_webhook_secret(&grant, &made.webhook).unwrap();
    let rotated = world.cloud.commit(plan, None).await.unwrap();
    assert_ne!(made.secret, rotated.secret);
    project(&world.cloud, &world, &caller, "one").await;
    let first = arrived(&world, &receiver, 1).await.remove(0);
    let both = format!("{} {}", signature(&rotated.secret, &first), signature(&made.secret, &first));
    assert_eq!(first.header("webhook-signature"), both);
    log_when(&world, &caller, &made.webhook, |log| log.len() == 1).await;
    pass(&mut world, 24.hours(), 1).await;
    project(&world.cloud, &world, &caller, "two").await;
    let second = arrived(&world, &receiver, 2).await.remove(1);
    assert_eq!(second.header("webhook-signature"), signature(&rotated.secret, &second));
}

async fn a_reset_drops_what_waits(engine: Engine) {
    let world = World::started(engine).await;
    let installed = world.workspace("mine", "unlimited").await;
    let caller = world.caller_of(&installed.test_key).await;
    let receiver = Receiver::new(|_, _| Reply::Status(500)).await;
    let made = webhook(&world, &caller, receiver.url()).await;
    let plan = world.cloud.advance_sandbox_clock(&world.grant::<SandboxWrite>(&caller), Advance::Seconds(86_400)).await;
    world.cloud.commit(plan.unwrap(), None).await.unwrap();
    let caller = world.caller_of(&installed.test_key).await;
    project(&world.cloud, &world, &caller, "one").await;
    let first = arrived(&world, &receiver, 1).await.remove(0);
    assert_eq!(first.header("webhook-timestamp"), world.clock.now().secs().to_string(), "never the sandbox's clock");
    log_when(&world, &caller, &made.webhook, |log| log.len() == 1).await;
    let plan = world.cloud.reset_sandbox(&world.grant::<SandboxReset>(&caller)).await.unwrap();
    world.cloud.commit(plan, None).await.unwrap();
    world.clock.advance(2.minutes()).await;
    assert_eq!(receiver.received().len(), 1, "nothing of the old epoch is sent");
    let caller = world.caller_of(&installed.test_key).await;
    let gone = world.cloud.webhook(&world.grant::<WebhookRead>(&caller), made.webhook.id).await.unwrap_err();
    assert_eq!(gone.code, Code::ResourceNotFound);
}

async fn narrowed_keys_see_their_part(engine: Engine) {
    let world = World::new(engine).await;
    let installed = world.workspace("mine", "standard").await;
    let owner = world.caller_of(&installed.live_key).await;
    let all = webhook(&world, &owner, "http://127.0.0.1:1/".to_owned()).await;
    let own = project(&world.cloud, &world, &owner, "own").await;
    let narrow = world.key(&installed.live_key, Role::Admin, |key| key.project_id = Some(own)).await;
    let narrow = world.caller_of(&narrow).await;
    let part = webhook(&world, &narrow, "http://127.0.0.1:1/".to_owned()).await;
    assert_eq!(part.webhook.project_id, Some(own), "what it makes is as narrow as itself");
    let grant = world.grant::<WebhookRead>(&narrow);
    let listed = world.cloud.webhooks(&grant, Default::default(), &Page::default()).await.unwrap();
    assert_eq!((listed.total, listed.items[0].id), (1, part.webhook.id));
    assert_eq!(world.cloud.webhook(&grant, all.webhook.id).await.unwrap_err().code, Code::ResourceNotFound);
    let write = world.grant::<WebhookWrite>(&narrow);
    let wider = WebhookChange { project_id: Some(None), ..WebhookChange::default() };
    let kept = world.cloud.update_webhook(&write, &part.webhook, wider).await.unwrap();
    assert_eq!(kept.value.project_id, Some(own), "it can't be widened beyond the key");
}

/// Two processes over one database: each event reaches each endpoint once.
#[tokio::test]
async fn replicas_share_the_work_without_doubling_it() {
    let (world, caller) = world(Engine::Postgres).await;
    let other = world.replica(99);
    let background = other.start().await.unwrap();
    let receiver = Receiver::taking().await;
    let made = webhook(&world, &caller, receiver.url()).await;
    for number in 0..20 {
        let cloud = if number % 2 == 0 { &world.cloud } else { &other };
        project(cloud, &world, &caller, &format!("project {number}")).await;
    }
    while receiver.received().len() < 20 {
        world.clock.advance(20.millis()).await;
        // Asks the database, as those who work do: no lease runs out only because the clock goes faster than it answers.
        log(&world, &caller, &made.webhook).await;
    }
    log_when(&world, &caller, &made.webhook, |log| log.len() == 20).await;
    let ids: BTreeSet<String> = receiver.received().iter().map(|r| r.header("webhook-id").to_owned()).collect();
    assert_eq!((ids.len(), receiver.received().len()), (20, 20));
    background.stop().await;
}
