//! Webhook endpoints and the log of what was delivered to them.

use nephos_control::caller::{WebhookRead, WebhookWrite};
use nephos_control::plan::CommitError;
use nephos_control::view::{DeliveryView, RecoveryView, WebhookTestView, WebhookView, WebhookWithSecretView};
use nephos_control::webhook::{Filter, Logged, NewWebhook, WebhookChange};
use nephos_model::id::ProjectId;
use nephos_model::webhook::{DESCRIPTION_CHARS_MAX, EVENT_TYPES_MAX};
use nephos_model::{Code, Fault, Timestamp};

use crate::call::{Answer, Call, DeletedView};
use crate::endpoint::{Endpoint, Need, Success, schema_of};
use crate::fields::{Field, Kind, Sent, parse_time};
use crate::query::{AFTER, DRY_RUN, LIMIT, PAGE, Parameter};
use crate::reply::Reply;

const ALL: &str = "/webhooks";
const ONE: &str = "/webhooks/{id}";
const LOG: &str = "/webhooks/{id}/deliveries";
const STATUSES: &[&str] = &["enabled", "disabled"];
const DELIVERY_STATUSES: &[&str] = &["pending", "succeeded", "exhausted"];
const URL: &str = "Where events are sent: https, and a host at a public address.";
const DESCRIPTION: Field =
    Field::nullable("description", Kind::Text { bytes_max: DESCRIPTION_CHARS_MAX }, "What people call it.");
const EVENT_TYPES: Field = Field::nullable(
    "event_types",
    Kind::List { of: &Kind::EventType, items_max: EVENT_TYPES_MAX },
    "The types of events that it gets, such as compute.running or compute.*; without, all.",
);
const PROJECT: Field =
    Field::nullable("project_id", Kind::Id("prj"), "The project whose events it gets; without, all.");
const ENVIRONMENT: Field =
    Field::nullable("environment_id", Kind::Id("env"), "The environment whose events it gets; without, all.");
const NEW: &[Field] = &[Field::required("url", Kind::Url, URL), DESCRIPTION, EVENT_TYPES, PROJECT, ENVIRONMENT];
const CHANGE: &[Field] = &[
    Field::optional("url", Kind::Url, URL),
    DESCRIPTION,
    EVENT_TYPES,
    PROJECT,
    ENVIRONMENT,
    Field::optional("status", Kind::OneOf(STATUSES), "Whether it gets events."),
];
const SINCE: &[Field] =
    &[Field::required("since", Kind::Time, "Events since then that it did not take are sent again; kept are 30 days.")];
const FILTERS: &[Parameter] = &[
    PAGE,
    LIMIT,
    AFTER,
    Parameter::new("status", Kind::OneOf(STATUSES), "Only webhooks in this status."),
    Parameter::new("project_id", Kind::Id("prj"), "Only webhooks that get events of this project only."),
    Parameter::new("environment_id", Kind::Id("env"), "Only webhooks that get events of this environment only."),
];

/// The operations.
pub const OPERATIONS: &[Endpoint] = &[
    Endpoint::new("webhook.list", "GET", ALL, Success::Listed, schema_of::<WebhookView>, |c| Box::pin(list(c)))
        .needs(Need::of::<WebhookRead>())
        .told("List webhooks", "Where events are sent, the newest first; never the secrets.", "Webhooks listed.")
        .query(FILTERS),
    Endpoint::new("webhook.create", "POST", ALL, Success::Created, schema_of::<WebhookWithSecretView>, |c| {
        Box::pin(create(c))
    })
    .needs(Need::of::<WebhookWrite>())
    .told(
        "Make a webhook",
        "From now on each event that its filters pass is sent to a URL, at least once and in no order that is promised: \
         an event's `seq` has it. Its secret, with which each delivery is signed, is shown this once.",
        "Webhook made; its secret is not shown again.",
    )
    .query(&[DRY_RUN])
    .body(NEW, r#"{"url":"https://hooks.example/in","event_types":["compute.*","project.created"]}"#)
    .faults(&[Code::QuotaExceeded]),
    Endpoint::new("webhook.get", "GET", ONE, Success::Found, schema_of::<WebhookView>, |c| Box::pin(get(c)))
        .needs(Need::of::<WebhookRead>())
        .told("Read a webhook", "One webhook; never its secret.", "Webhook found."),
    Endpoint::new("webhook.update", "PATCH", ONE, Success::Updated, schema_of::<WebhookView>, |c| Box::pin(update(c)))
        .needs(Need::of::<WebhookWrite>())
        .told(
            "Change a webhook",
            "Changes what is sent and leaves the rest. One that is disabled gets nothing; what waits for it goes on when it \
             is enabled again, and what happened meanwhile can be recovered.",
            "Webhook updated.",
        )
        .body(CHANGE, r#"{"description":"Deployments"}"#),
    Endpoint::new("webhook.delete", "DELETE", ONE, Success::Deleted, schema_of::<DeletedView>, |c| Box::pin(delete(c)))
        .needs(Need::of::<WebhookWrite>())
        .told("Delete a webhook", "Nothing is sent there any more, also what waits; its log is gone.", "Webhook deleted."),
    Endpoint::new(
        "webhook.rotate_secret",
        "POST",
        "/webhooks/{id}/rotate-secret",
        Success::Updated,
        schema_of::<WebhookWithSecretView>,
        |c| Box::pin(rotate(c)),
    )
    .needs(Need::of::<WebhookWrite>())
    .told(
        "Rotate a webhook's secret",
        "Gives it a new secret, shown this once. For 24 hours deliveries carry the signatures of both.",
        "Secret rotated; it is not shown again.",
    ),
    Endpoint::new(
        "webhook.test",
        "POST",
        "/webhooks/{id}/test",
        Success::Report,
        schema_of::<WebhookTestView>,
        |c| Box::pin(test(c)),
    )
    .needs(Need::of::<WebhookWrite>())
    .told(
        "Test a webhook",
        "Sends it a sample event of the type webhook.test, whatever its filters. How that went is in its log.",
        "A sample is on its way.",
    )
    .faults(&[Code::Conflict]),
    Endpoint::new(
        "webhook.recover",
        "POST",
        "/webhooks/{id}/recover",
        Success::Report,
        schema_of::<RecoveryView>,
        |c| Box::pin(recover(c)),
    )
    .needs(Need::of::<WebhookWrite>())
    .told(
        "Recover a webhook",
        "Sends every event since a time again that its filters pass and that it did not take: what failed, and what \
         happened while it was disabled. It goes on in the background.",
        "Events are sent again.",
    )
    .body(SINCE, r#"{"since":"2026-01-15T00:00:00Z"}"#)
    .faults(&[Code::Conflict]),
    Endpoint::new("delivery.list", "GET", LOG, Success::Listed, schema_of::<DeliveryView>, |c| Box::pin(deliveries(c)))
        .needs(Need::of::<WebhookRead>())
        .told(
            "List deliveries",
            "What was sent to a webhook, the newest event first, with every try: when, the status, how long it took, and the \
             first 4 KiB of the answer. Kept for 30 days.",
            "Deliveries listed.",
        )
        .query(&[
            PAGE,
            LIMIT,
            AFTER,
            Parameter::new("status", Kind::OneOf(DELIVERY_STATUSES), "Only deliveries in this status."),
        ]),
    Endpoint::new(
        "delivery.retry",
        "POST",
        "/deliveries/{id}/retry",
        Success::Report,
        schema_of::<DeliveryView>,
        |c| Box::pin(retry(c)),
    )
    .needs(Need::of::<WebhookWrite>())
    .told(
        "Retry a delivery",
        "Tries a delivery again at once, whatever became of it, and when that fails by the schedule from its beginning.",
        "The delivery is tried again.",
    )
    .faults(&[Code::Conflict]),
];

async fn list(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<WebhookRead>()?;
    let page = call.query.page("whk")?;
    let filter = Filter {
        project_id: call.query.parsed("project_id"),
        environment_id: call.query.parsed("environment_id"),
        status: call.query.text("status").map(str::to_owned),
    };
    let listed = call.cloud().webhooks(&grant, filter, &page).await?;
    call.read(
        Reply::listed(&listed, &page, |w| w.id.to_string(), |w| WebhookView::from(w))
            .of(call.query.parsed::<ProjectId>("project_id")),
    )
}

async fn create(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<WebhookWrite>()?;
    let body = &call.body;
    let new = NewWebhook {
        url: body.required("url").to_owned(),
        description: body.text("description").map(str::to_owned),
        event_types: body.texts("event_types").unwrap_or_default(),
        project_id: body.maybe_parsed("project_id")?,
        environment_id: body.maybe_parsed("environment_id")?,
    };
    let plan = call.cloud().create_webhook(&grant, new).await?;
    call.commit(plan, |made| {
        Reply::created(&WebhookWithSecretView::from(made), format!("/webhooks/{}", made.webhook.id))
            .version(made.webhook.version)
            .secret()
    })
    .await
}

async fn get(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<WebhookRead>()?;
    let webhook = call.cloud().webhook(&grant, call.id("webhook")?).await?;
    call.read(Reply::found(&WebhookView::from(&webhook)).version(webhook.version).of(webhook.project_id))
}

/// What a PATCH says of an id that may be cleared.
#[allow(clippy::option_option)] // absent, null and a value are three things
fn change_of<T: std::str::FromStr>(call: &Call, name: &str) -> Result<Option<Option<T>>, Fault> {
    Ok(match call.body.sent(name) {
        Sent::Absent => None,
        Sent::Null => Some(None),
        Sent::Value(_) => Some(call.body.maybe_parsed(name)?),
    })
}

async fn update(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<WebhookWrite>()?;
    let webhook = call.cloud().webhook_to_change(&grant, call.id("webhook")?).await?;
    call.must_match(webhook.version)?;
    let body = &call.body;
    let asked = WebhookChange {
        url: body.text("url").map(str::to_owned),
        description: match body.sent("description") {
            Sent::Absent => None,
            Sent::Null => Some(None),
            Sent::Value(text) => Some(Some(text.to_owned())),
        },
        event_types: body.has("event_types").then(|| body.texts("event_types").unwrap_or_default()),
        project_id: change_of(call, "project_id")?,
        environment_id: change_of(call, "environment_id")?,
        enabled: body.text("status").map(|status| status == "enabled"),
    };
    let plan = call.cloud().update_webhook(&grant, &webhook, asked).await?;
    call.commit(plan, |w| Reply::updated(&WebhookView::from(w)).version(w.version)).await
}

async fn delete(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<WebhookWrite>()?;
    let webhook = call.cloud().webhook_to_change(&grant, call.id("webhook")?).await?;
    call.must_match(webhook.version)?;
    let plan = call.cloud().delete_webhook(&grant, &webhook);
    call.commit(plan, |w| Reply::deleted(w.id)).await
}

async fn rotate(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<WebhookWrite>()?;
    let webhook = call.cloud().webhook_to_change(&grant, call.id("webhook")?).await?;
    let plan = call.cloud().rotate_webhook_secret(&grant, &webhook)?;
    call.commit(plan, |made| Reply::updated(&WebhookWithSecretView::from(made)).version(made.webhook.version).secret())
        .await
}

async fn test(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<WebhookWrite>()?;
    let webhook = call.cloud().webhook_to_change(&grant, call.id("webhook")?).await?;
    let plan = call.cloud().test_webhook(&grant, &webhook)?;
    call.commit(plan, Reply::report).await
}

async fn recover(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<WebhookWrite>()?;
    let webhook = call.cloud().webhook_to_change(&grant, call.id("webhook")?).await?;
    // The field table has read it once.
    let since: Timestamp = parse_time(call.body.required("since")).unwrap_or_default();
    let plan = call.cloud().recover_webhook(&grant, &webhook, since).await?;
    call.commit(plan, Reply::report).await
}

fn shown(logged: &Logged) -> DeliveryView {
    DeliveryView::new(&logged.delivery, &logged.attempts)
}

async fn deliveries(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<WebhookRead>()?;
    let page = call.query.page("dlv")?;
    let status = call.query.parsed("status");
    let listed = call.cloud().deliveries(&grant, call.id("webhook")?, status, &page).await?;
    call.read(Reply::listed(&listed, &page, |logged| logged.delivery.id.to_string(), shown))
}

async fn retry(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<WebhookWrite>()?;
    let plan = call.cloud().retry_delivery(&grant, call.id("delivery")?).await?;
    call.commit(plan, |logged| Reply::report(&shown(logged))).await
}
