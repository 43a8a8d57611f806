//! Webhook endpoints, the deliveries to them, and what is sent.

use nephos_model::event::Event;
use nephos_model::webhook::{Attempt, Delivery, Webhook};
use schemars::JsonSchema;
use serde::Serialize;

use super::{EventView, time};

/// A webhook endpoint. Its secret is never shown again.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Webhook")]
pub struct WebhookView {
    /// Its id, `whk_…`.
    pub id: String,
    /// Where events are sent.
    pub url: String,
    /// What people call it.
    pub description: Option<String>,
    /// The types of events that it gets, `compute.running` or `compute.*`; null: all.
    pub event_types: Option<Vec<String>>,
    /// The project whose events it gets; null: all.
    pub project_id: Option<String>,
    /// The environment whose events it gets; null: all.
    pub environment_id: Option<String>,
    /// `enabled` or `disabled`.
    pub status: String,
    /// Why it is disabled: `asked`, `gone` (it answered 410) or `failing` (everything failed for five days).
    pub disabled_reason: Option<String>,
    /// Until when the secret before the last rotation signs too.
    pub previous_secret_until: Option<String>,
    /// When it was made.
    pub created_at: String,
    /// When it last changed.
    pub updated_at: String,
}

impl From<&Webhook> for WebhookView {
    fn from(w: &Webhook) -> Self {
        Self {
            id: w.id.to_string(),
            url: w.url.clone(),
            description: w.description.clone(),
            event_types: (!w.event_types.is_empty()).then(|| w.event_types.clone()),
            project_id: w.project_id.map(|id| id.to_string()),
            environment_id: w.environment_id.map(|id| id.to_string()),
            status: w.status.word().to_owned(),
            disabled_reason: w.status.reason().map(str::to_owned),
            previous_secret_until: w.previous_until_at.map(time),
            created_at: time(w.created_at),
            updated_at: time(w.updated_at),
        }
    }
}

/// A webhook endpoint with its secret: shown once, when it is made or its secret is rotated.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "WebhookWithSecret")]
pub struct WebhookWithSecretView {
    /// The endpoint.
    #[serde(flatten)]
    pub webhook: WebhookView,
    /// The secret that signs, `whsec_…`. It is not shown again.
    pub secret: String,
}

impl From<&crate::webhook::WebhookWithSecret> for WebhookWithSecretView {
    fn from(made: &crate::webhook::WebhookWithSecret) -> Self {
        Self { webhook: WebhookView::from(&made.webhook), secret: made.secret.clone() }
    }
}

/// One try of a delivery.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "DeliveryAttempt")]
pub struct AttemptView {
    /// Its number, from 1.
    pub number: i64,
    /// When it began.
    pub at: String,
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// How long it took, in milliseconds.
    pub latency_ms: i64,
    /// What went wrong, as a word and a sentence: `dns`, `refused_address`, `connect`, `tls`, `broken`, `timeout`,
    /// `too_large`, `redirect`, `status`. Null when it succeeded.
    pub error: Option<String>,
    /// The first 4 KiB of the answer's body.
    pub answer: Option<String>,
}

impl From<&Attempt> for AttemptView {
    fn from(a: &Attempt) -> Self {
        Self {
            number: a.number,
            at: time(a.tried_at),
            status: a.http_status,
            latency_ms: a.latency_ms,
            error: a.error.clone(),
            answer: a.answer.clone(),
        }
    }
}

/// The delivery of one event to one endpoint, with its tries.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Delivery")]
pub struct DeliveryView {
    /// Its id, `dlv_…`.
    pub id: String,
    /// The endpoint.
    pub webhook_id: String,
    /// The event.
    pub event_id: String,
    /// The event's place in the sequence.
    pub event_seq: i64,
    /// The event's type.
    pub event_type: String,
    /// `pending` (it is tried again), `succeeded` or `exhausted` (it is not tried any more).
    pub status: String,
    /// How many tries there were.
    pub attempt_count: i64,
    /// When it is tried next; null when it has ended.
    pub next_attempt_at: Option<String>,
    /// Its tries, the first first; of more than 50 the last ones.
    pub attempts: Vec<AttemptView>,
    /// When it was made.
    pub created_at: String,
    /// When it ended.
    pub ended_at: Option<String>,
}

impl DeliveryView {
    /// The view of a delivery with its tries.
    pub fn new(d: &Delivery, attempts: &[Attempt]) -> Self {
        Self {
            id: d.id.to_string(),
            webhook_id: d.webhook_id.to_string(),
            event_id: d.event_id.to_string(),
            event_seq: d.event_seq,
            event_type: d.event_type.clone(),
            status: d.status.as_str().to_owned(),
            attempt_count: d.attempts,
            next_attempt_at: d.due_at.map(time),
            attempts: attempts.iter().map(AttemptView::from).collect(),
            created_at: time(d.created_at),
            ended_at: d.ended_at.map(time),
        }
    }
}

/// A sample that is on its way to an endpoint.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "WebhookTest")]
pub struct WebhookTestView {
    /// The endpoint.
    pub webhook_id: String,
    /// The sample event, of the type `webhook.test`.
    pub event_id: String,
    /// Its delivery, in the endpoint's log as soon as it was tried.
    pub delivery_id: String,
}

/// Events that an endpoint gets again.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "WebhookRecovery")]
pub struct RecoveryView {
    /// The endpoint.
    pub webhook_id: String,
    /// Events since then that it did not take are sent again.
    pub since: String,
    /// How many events since then are looked at. Those that its filters pass and that it did not take are sent.
    pub events: i64,
}

/// What is sent to an endpoint: the event, with the time as Standard Webhooks names it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "WebhookPayload")]
pub struct PayloadView {
    /// The event.
    #[serde(flatten)]
    pub event: EventView,
    /// When the change was made; the same as `created_at`.
    pub timestamp: String,
}

impl From<&Event> for PayloadView {
    fn from(event: &Event) -> Self {
        Self { event: EventView::from(event), timestamp: time(event.created_at) }
    }
}
