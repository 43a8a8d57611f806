//! Deliveries: how events reach webhook endpoints.
//!
//! ```text
//!  events, in the order of their numbers
//!     │  fan_out: one process a tenant; what endpoints take is sent at once, and the cursor moves on in the
//!     ▼           transaction that writes how that went
//!  deliveries ──► taken, exhausted
//!     │  ▲
//!     ▼  │ queue: one process an endpoint; what waits is tried again when it is due
//!   pending
//! ```
//! A row is written after the first try, not before it: until then the cursor says that the event is to be delivered, so
//! a kill anywhere repeats a try and loses none. Who is slow or fails gets a row at once and is waited for by nobody.
//!
//! Deliberately not here: connections, see [`crate::courier`]; who may change endpoints, see [`crate::webhook`].

mod fan_out;
mod queue;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::{Either, select};
use nephos_model::Timestamp;
use nephos_model::event::Event;
use nephos_model::id::{EventId, WebhookId};
use nephos_model::metric::Metric;
use nephos_model::tenant::TenantId;
use nephos_model::webhook::{
    ANSWER_BYTES_KEPT, Attempt, Delivery, DeliveryStatus, Failed, Reason, Status, Webhook, delivery_id,
    first_delivery_id, next_try,
};
use nephos_store as store;
use nephos_store::webhook::Sealed;
use nephos_store::{Batch, StoreError};
use ring::hmac;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{info, warn};

use crate::courier::{Parcel, Receipt, RetryAfter, Trouble};
use crate::plan::After;
use crate::view::{PayloadView, json};
use crate::webhook::{Logged, PURPOSE};
use crate::{Cloud, webhook};

/// In which the whole answer must have arrived: 10 seconds.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// Bytes of what is sent at most: a larger event is sent without its resource.
pub const PAYLOAD_BYTES_MAX: usize = 256 * 1024;
/// Tries at the same time that are expected to be quick, at most.
const SENDS_MAX: usize = 256;
/// Tries at the same time that were found to be slow, at most.
const SLOW_MAX: usize = 1_024;
/// How long a try takes until it counts as slow.
const STALL: Duration = Duration::from_millis(100);
/// Tries at the same time to one endpoint at most; one that fails gets one, and twice as many after each success.
const WINDOW_MAX: u32 = 32;
/// When a try that is under way is due again if nobody tells how it went: later than its deadline.
const UNDER_WAY: Duration = Duration::from_secs(12);
/// What may have been under way when a process ended: due no later than this.
const RECLAIMED: Duration = Duration::from_secs(15);
/// Tries to disable an endpoint that others change at the same time.
const DISABLE_ATTEMPTS_MAX: u32 = 8;

/// How fast an endpoint may be sent to, as its answers tell.
pub(crate) struct Pace {
    window: AtomicU32,
    is_failing: AtomicBool,
    /// Held by who sends new events to it, so that others wait or leave what they have to the queue.
    turn: tokio::sync::Mutex<()>,
}

impl Pace {
    /// An endpoint of which nothing is known is taken for one that fails, until it took something.
    fn new() -> Self {
        Self { window: AtomicU32::new(1), is_failing: AtomicBool::new(true), turn: tokio::sync::Mutex::new(()) }
    }

    fn window(&self) -> usize {
        self.window.load(Ordering::Relaxed) as usize
    }

    fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }

    /// It took something; returns whether it failed before.
    fn took(&self) -> bool {
        let window = self.window.load(Ordering::Relaxed);
        if window < WINDOW_MAX {
            self.window.store((window * 2).min(WINDOW_MAX), Ordering::Relaxed);
        }
        self.is_failing.swap(false, Ordering::Relaxed)
    }

    fn failed(&self) {
        self.window.store(1, Ordering::Relaxed);
        self.is_failing.store(true, Ordering::Relaxed);
    }
}

/// What is under way in this process, and what came of it.
pub(crate) struct Traffic {
    paces: Mutex<HashMap<WebhookId, Weak<Pace>>>,
    sends: Arc<Semaphore>,
    slow: Arc<Semaphore>,
    taken: AtomicU64,
    failed: AtomicU64,
    exhausted: AtomicU64,
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            paces: Mutex::default(),
            sends: Arc::new(Semaphore::new(SENDS_MAX)),
            slow: Arc::new(Semaphore::new(SLOW_MAX)),
            taken: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            exhausted: AtomicU64::new(0),
        }
    }
}

impl fmt::Debug for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traffic").finish_non_exhaustive()
    }
}

impl Traffic {
    fn pace(&self, id: WebhookId) -> Arc<Pace> {
        let mut paces = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pace) = paces.get(&id).and_then(Weak::upgrade) {
            return pace;
        }
        // As many as are in use, and at most as many again that are not.
        if paces.len() > 64 && paces.len() == paces.capacity() {
            paces.retain(|_, pace| pace.strong_count() > 0);
        }
        let pace = Arc::new(Pace::new());
        paces.insert(id, Arc::downgrade(&pace));
        pace
    }

    /// The numbers.
    pub(crate) fn metrics(&self) -> Vec<Metric> {
        let help = "Tries of deliveries to webhook endpoints, by how they went.";
        let count = |outcome, value: &AtomicU64| {
            let value = value.load(Ordering::Relaxed);
            Metric::counter("nephos_webhook_attempts_total", help, &[("outcome", outcome)], value)
        };
        let used = |most: usize, semaphore: &Semaphore| (most - semaphore.available_permits()) as u64;
        let under_way = used(SENDS_MAX, &self.sends) + used(SLOW_MAX, &self.slow);
        let help = "Tries of deliveries to webhook endpoints that are under way.";
        let exhausted = self.exhausted.load(Ordering::Relaxed);
        vec![
            count("taken", &self.taken),
            count("failed", &self.failed),
            Metric::gauge("nephos_webhook_attempts_under_way", help, &[], under_way),
            Metric::counter(
                "nephos_webhook_deliveries_exhausted_total",
                "Deliveries that were tried to the end of their schedule.",
                &[],
                exhausted,
            ),
        ]
    }
}

/// An endpoint that can be sent to.
pub(crate) struct Target {
    webhook: Webhook,
    url: Arc<str>,
    key: hmac::Key,
    previous: Option<hmac::Key>,
    pace: Arc<Pace>,
}

/// One try.
struct Tried {
    began_at: Timestamp,
    took: Duration,
    receipt: Receipt,
}

type Sending = std::pin::Pin<Box<dyn Future<Output = Tried> + Send>>;

/// What an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Taken,
    Failed,
    /// 410: nothing is to be sent there any more.
    Gone,
}

impl Tried {
    fn verdict(&self) -> Verdict {
        match (self.receipt.status, self.receipt.trouble) {
            (Some(200..=299), None) => Verdict::Taken,
            (Some(410), _) => Verdict::Gone,
            _ => Verdict::Failed,
        }
    }

    fn attempt(&self, number: i64) -> Attempt {
        let error = match (self.verdict(), self.receipt.trouble, self.receipt.status) {
            (Verdict::Taken, ..) => None,
            (_, Some(trouble), _) => Some(trouble.told().to_owned()),
            (_, None, Some(status @ 300..=399)) => {
                Some(format!("redirect: the answer {status} leads elsewhere, and redirects are not followed"))
            }
            (_, None, Some(status)) => Some(format!("status: the answer is {status}, not 2xx")),
            (_, None, None) => Some(Trouble::Broken.told().to_owned()),
        };
        let kept = &self.receipt.answer[..self.receipt.answer.len().min(ANSWER_BYTES_KEPT)];
        // A text column of PostgreSQL takes any character but NUL.
        let answer = String::from_utf8_lossy(kept).replace('\0', "\u{fffd}");
        Attempt {
            number,
            tried_at: self.began_at,
            http_status: self.receipt.status,
            latency_ms: i64::try_from(self.took.as_millis()).unwrap_or(i64::MAX),
            error,
            answer: self.receipt.status.map(|_| answer),
        }
    }
}

impl Cloud {
    /// Opens an endpoint's secrets; `None` for one that the master key does not open, which is told to the operator.
    fn target(&self, sealed: Sealed) -> Option<Arc<Target>> {
        let Sealed { webhook, secret, previous } = sealed;
        let owner = webhook.id.to_string();
        let open = |sealed: &[u8]| {
            let clear = self.0.master_key.open(PURPOSE, &owner, sealed)?;
            Some(hmac::Key::new(hmac::HMAC_SHA256, &clear))
        };
        let Some(key) = open(&secret) else {
            warn!(webhook = %webhook.id, "a webhook's secret can't be opened with the master key; nothing is sent to it");
            return None;
        };
        let previous = previous.as_deref().and_then(open);
        let (url, pace) = (Arc::from(webhook.url.as_str()), self.0.sent.pace(webhook.id));
        Some(Arc::new(Target { webhook, url, key, previous, pace }))
    }

    /// One try of an event at an endpoint, which ends at its deadline.
    fn send(&self, target: &Target, id: EventId, body: Arc<[u8]>) -> Sending {
        let cloud = self.clone();
        let began_at = self.clock().now();
        let began = self.clock().monotonic();
        let (id, timestamp_s) = (id.to_string(), began_at.secs());
        let signed = |key: &hmac::Key| {
            let mut context = hmac::Context::with_key(key);
            for part in [id.as_bytes(), b".", timestamp_s.to_string().as_bytes(), b".", &body] {
                context.update(part);
            }
            format!("v1,{}", STANDARD.encode(context.sign()))
        };
        let mut signature = signed(&target.key);
        if let Some(previous) = &target.previous
            && target.webhook.previous_until_at.is_some_and(|until| began_at < until)
        {
            signature = format!("{signature} {}", signed(previous));
        }
        let carrying = self.0.courier.carry(Parcel { url: target.url.clone(), id, timestamp_s, signature, body });
        let deadline = self.clock().sleep(DEADLINE);
        Box::pin(async move {
            let receipt = match select(carrying, deadline).await {
                Either::Left((receipt, _)) => receipt,
                Either::Right(_) => Receipt { trouble: Some(Trouble::Timeout), ..Receipt::default() },
            };
            Tried { began_at, took: cloud.clock().monotonic().saturating_sub(began), receipt }
        })
    }

    /// Writes into a delivery how its try went, and when the next one is.
    fn judge(&self, delivery: &mut Delivery, tried: &Tried) -> Verdict {
        let now = self.clock().now();
        let verdict = tried.verdict();
        delivery.attempts += 1;
        delivery.last = Some(tried.attempt(delivery.attempts));
        let first_at = *delivery.first_at.get_or_insert(tried.began_at);
        if verdict == Verdict::Taken {
            self.0.sent.taken.fetch_add(1, Ordering::Relaxed);
            (delivery.status, delivery.due_at, delivery.ended_at) = (DeliveryStatus::Succeeded, None, Some(now));
            return verdict;
        }
        self.0.sent.failed.fetch_add(1, Ordering::Relaxed);
        let not_before = tried.receipt.retry_after.map(|after| match after {
            RetryAfter::In(pause) => now.plus(pause),
            RetryAfter::At(at) => at,
        });
        let step = delivery.step;
        let dice = self.entropy().u32();
        if let Some(next) = next_try(&Failed { first_at, step, began_at: tried.began_at, now, not_before, dice }) {
            (delivery.status, delivery.due_at, delivery.step) = (DeliveryStatus::Pending, Some(next.at), next.step);
        } else {
            self.0.sent.exhausted.fetch_add(1, Ordering::Relaxed);
            (delivery.status, delivery.due_at, delivery.ended_at) = (DeliveryStatus::Exhausted, None, Some(now));
        }
        verdict
    }

    /// Takes a slow try's place among the slow ones, when there is one.
    fn make_way(&self, permit: &mut OwnedSemaphorePermit) {
        if let Ok(slow) = self.0.sent.slow.clone().try_acquire_owned() {
            *permit = slow;
        }
    }

    /// Writes how tries of deliveries went that have rows, all of one endpoint.
    async fn record(
        &self,
        tenant: TenantId,
        target: &Target,
        ended: Vec<(Delivery, Verdict)>,
    ) -> Result<(), StoreError> {
        let now = self.clock().now();
        let id = target.webhook.id;
        let mut batch = Batch::new();
        let mut mail = false;
        let is_gone = ended.iter().any(|(_, verdict)| *verdict == Verdict::Gone);
        for (delivery, verdict) in &ended {
            batch.extend(store::delivery::tried(tenant, delivery));
            if *verdict != Verdict::Taken {
                target.pace.failed();
                let due_at = delivery.due_at.unwrap_or(store::webhook::IDLE);
                batch.push(store::webhook::failed(tenant, id, due_at, now));
            }
            // Nobody is told of the news of a failure that was not delivered either: that would never end.
            if delivery.status == DeliveryStatus::Exhausted && delivery.event_type != "delivery.exhausted" {
                let mut attempts = self.store().attempts(tenant, std::slice::from_ref(delivery)).await?;
                let logged = Logged { delivery: delivery.clone(), attempts: attempts.pop().unwrap_or_default() };
                let told =
                    webhook::delivery_change("delivery.exhausted", "delivery.exhaust", &logged, &target.webhook, 200);
                let at = self.tenant_now(tenant, now).await?;
                self.tell_webhook(&mut batch, tenant, at, told);
                batch.extend(self.mail_delivery_exhausted(tenant, &target.webhook, delivery).await?);
                mail = true;
            }
        }
        if ended.iter().any(|(_, verdict)| *verdict == Verdict::Taken) {
            target.pace.took();
            batch.push(store::webhook::works(tenant, id));
        }
        self.store().write(batch).await?;
        self.wake(&After { deliveries: true, mail, ..After::default() });
        if is_gone {
            self.disable(tenant, &target.webhook, Reason::Gone).await?;
        }
        Ok(())
    }

    /// The time as a tenant has it.
    async fn tenant_now(&self, tenant: TenantId, now: Timestamp) -> Result<Timestamp, StoreError> {
        let found = self.store().tenant(tenant).await?;
        Ok(found.map_or(now, |tenant| now.plus(crate::reconcile::ahead_of(&tenant))))
    }

    /// Nothing is sent any more to an endpoint that fails everything since a time, unless another process knows better.
    async fn disable_failing(&self, tenant: TenantId, webhook: &Webhook, since: Timestamp) -> Result<(), StoreError> {
        if self.store().took_since(tenant, webhook.id, first_delivery_id(since)).await? {
            self.store().write(store::webhook::works(tenant, webhook.id).into()).await?;
            return Ok(());
        }
        self.disable(tenant, webhook, Reason::Failing).await
    }

    /// Nothing is sent to an endpoint any more, unless it changed its URL meanwhile.
    async fn disable(&self, tenant: TenantId, tried: &Webhook, reason: Reason) -> Result<(), StoreError> {
        for _ in 0..DISABLE_ATTEMPTS_MAX {
            let Some(before) = self.store().webhook(tenant, tried.id).await? else { return Ok(()) };
            if before.status != Status::Enabled || before.url != tried.url {
                return Ok(());
            }
            let at = self.tenant_now(tenant, self.clock().now()).await?;
            let after = Webhook {
                status: Status::Disabled(reason),
                version: before.version + 1,
                updated_at: at,
                ..before.clone()
            };
            let mut batch: Batch = self.write_webhook(tenant, &before, &after).into_iter().collect();
            let told = webhook::change("webhook.disabled", "webhook.disable", Some(&before), Some(&after), 200);
            self.tell_webhook(&mut batch, tenant, at, told);
            batch.extend(self.mail_webhook_disabled(tenant, &after, reason).await?);
            match self.store().write(batch).await {
                Ok(_) => {
                    info!(webhook = %tried.id, ?reason, "a webhook was disabled");
                    self.wake(&After { mail: true, ..After::default() });
                    return Ok(());
                }
                Err(StoreError::Missed { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// What a process that is gone had under way is due at once, where no other process can run.
    pub(crate) async fn take_up_deliveries(&self) -> Result<(), StoreError> {
        if self.store().numbers_at_once() {
            let now = self.clock().now();
            self.store().write(store::delivery::reclaim(now, now.plus(RECLAIMED))).await?;
        }
        Ok(())
    }
}

/// The delivery of an event to an endpoint, before its first try.
fn new_delivery(event: &Event, webhook: WebhookId, now: Timestamp) -> Delivery {
    Delivery {
        id: delivery_id(event.id, webhook),
        webhook_id: webhook,
        event_id: event.id,
        event_seq: event.seq,
        event_type: event.kind.clone(),
        status: DeliveryStatus::Pending,
        due_at: Some(now),
        step: 0,
        first_at: None,
        attempts: 0,
        last: None,
        created_at: now,
        ended_at: None,
    }
}

/// What is sent of an event.
fn payload(event: &Event) -> Arc<[u8]> {
    let text = json(&PayloadView::from(event));
    if text.len() <= PAYLOAD_BYTES_MAX {
        return text.into_bytes().into();
    }
    let without = Event { data: "null".to_owned(), previous: None, ..event.clone() };
    json(&PayloadView::from(&without)).into_bytes().into()
}
