//! Webhook endpoints: who makes and changes them, their secrets, and their log of deliveries.
//!
//! Deliberately not here: sending, see [`crate::delivery`].

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nephos_model::event::Event;
use nephos_model::fault::Detail;
use nephos_model::id::{DeliveryId, EnvironmentId, EventId, ProjectId, WebhookId};
use nephos_model::page::{Listed, Page};
use nephos_model::webhook::{
    Attempt, Delivery, DeliveryStatus, Reason, SECRET_GRACE, Status, TEST_KIND, Told, WEBHOOKS_MAX, Webhook,
    delivery_id, first_event_id,
};
use nephos_model::{Fault, Timestamp};
use nephos_store as store;
pub use nephos_store::webhook::Filter;

use crate::caller::{Caller, Grant, WebhookRead, WebhookWrite};
use crate::plan::{Author, Change, Plan};
use crate::view::{DeliveryView, RecoveryView, WebhookTestView, WebhookView, json};
use crate::{Cloud, fault};

/// What secrets of endpoints are sealed for.
pub(crate) const PURPOSE: &str = "webhooks";
/// What a secret begins with.
const SECRET_PREFIX: &str = "whsec_";
/// Random bytes of a secret; Standard Webhooks asks for 24 to 64.
const SECRET_BYTES: usize = 32;

/// What a new endpoint shall be.
#[derive(Debug, Clone)]
pub struct NewWebhook {
    /// Where events are sent.
    pub url: String,
    /// What people call it.
    pub description: Option<String>,
    /// Types of events that it gets; empty: all.
    pub event_types: Vec<String>,
    /// The project whose events it gets.
    pub project_id: Option<ProjectId>,
    /// The environment whose events it gets.
    pub environment_id: Option<EnvironmentId>,
}

/// What changes of an endpoint; `None` stays as it is.
#[derive(Debug, Clone, Default)]
pub struct WebhookChange {
    /// Where events are sent.
    pub url: Option<String>,
    /// What people call it.
    pub description: Option<Option<String>>,
    /// Types of events that it gets; empty: all.
    pub event_types: Option<Vec<String>>,
    /// The project whose events it gets.
    pub project_id: Option<Option<ProjectId>>,
    /// The environment whose events it gets.
    pub environment_id: Option<Option<EnvironmentId>>,
    /// Whether it gets events.
    pub enabled: Option<bool>,
}

/// An endpoint with its secret, which is shown this once.
#[derive(Debug, Clone)]
pub struct WebhookWithSecret {
    /// The endpoint.
    pub webhook: Webhook,
    /// Its secret.
    pub secret: String,
}

/// A delivery with its tries.
#[derive(Debug, Clone)]
pub struct Logged {
    /// The delivery.
    pub delivery: Delivery,
    /// Its tries, the first first.
    pub attempts: Vec<Attempt>,
}

impl Cloud {
    /// A page of the endpoints that the credential sees.
    pub async fn webhooks(
        &self,
        grant: &Grant<WebhookRead>,
        mut filter: Filter,
        page: &Page,
    ) -> Result<Listed<Webhook>, Fault> {
        let caller = grant.caller();
        let foreign = filter.project_id.is_some_and(|p| !caller.sees_project(p))
            || filter.environment_id.is_some_and(|e| caller.environment_id.is_some_and(|only| only != e));
        if foreign {
            return Ok(Listed { items: Vec::new(), total: 0, more: false });
        }
        filter.project_id = filter.project_id.or(caller.project_id);
        filter.environment_id = filter.environment_id.or(caller.environment_id);
        self.store().webhooks(grant.tenant(), &filter, page).await.map_err(fault::store)
    }

    /// One endpoint, or 404.
    pub async fn webhook(&self, grant: &Grant<WebhookRead>, id: WebhookId) -> Result<Webhook, Fault> {
        self.visible_webhook(grant, id).await
    }

    /// One endpoint that is to be changed, or 404.
    pub async fn webhook_to_change(&self, grant: &Grant<WebhookWrite>, id: WebhookId) -> Result<Webhook, Fault> {
        self.visible_webhook(grant, id).await
    }

    async fn visible_webhook<P>(&self, grant: &Grant<P>, id: WebhookId) -> Result<Webhook, Fault> {
        let found = self.store().webhook(grant.tenant(), id).await.map_err(fault::store)?;
        found.filter(|webhook| sees(grant.caller(), webhook)).ok_or_else(|| Fault::not_found("webhook"))
    }

    /// A new endpoint, which gets what happens from now on.
    ///
    /// Faults: 400 for a URL to which nothing may be sent, 404 for an unknown project or environment, 422 for the quota.
    pub async fn create_webhook(
        &self,
        grant: &Grant<WebhookWrite>,
        new: NewWebhook,
    ) -> Result<Plan<WebhookWithSecret>, Fault> {
        let caller = grant.caller();
        let home = self.webhook_home(grant, new.project_id, new.environment_id).await;
        let url = self.must_be_sendable(&new.url);
        let (project_id, environment_id) = match (home, url) {
            (Ok(home), Ok(())) => home,
            (home, url) => return Err(fault::together([home.err(), url.err()].into_iter().flatten().collect())),
        };
        let now = self.now(caller);
        let webhook = Webhook {
            id: self.id(),
            url: new.url,
            description: new.description,
            event_types: new.event_types,
            project_id,
            environment_id,
            status: Status::Enabled,
            previous_until_at: None,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        let (secret, sealed) = self.new_webhook_secret(webhook.id)?;
        let mut plan = Plan::new(WebhookWithSecret { webhook, secret });
        plan.project_id = project_id;
        plan.environment_id = environment_id;
        let limit = caller.limits.webhooks.unwrap_or(WEBHOOKS_MAX).min(WEBHOOKS_MAX);
        plan.take(grant.tenant(), "quota.webhooks", 1, Some(limit));
        plan.write(store::webhook::insert(grant.tenant(), &plan.value.webhook, sealed));
        plan.write(project_id.map(|id| store::project::hold(caller.tenant, id)));
        plan.write(environment_id.map(|id| store::environment::hold(caller.tenant, id)));
        let change = change("webhook.created", "webhook.create", None, Some(&plan.value.webhook), 201);
        self.journal(&mut plan, grant, now, change);
        Ok(plan)
    }

    /// Another URL, description, filter or status. What waits for an endpoint goes on when it is enabled again.
    ///
    /// Faults: as for a new one.
    pub async fn update_webhook(
        &self,
        grant: &Grant<WebhookWrite>,
        before: &Webhook,
        asked: WebhookChange,
    ) -> Result<Plan<Webhook>, Fault> {
        let caller = grant.caller();
        let mut after = before.clone();
        let moves = asked.project_id.is_some() || asked.environment_id.is_some();
        let home = if moves {
            let environment = asked.environment_id.unwrap_or(before.environment_id);
            // Another project, or none, takes the environment of the one before along.
            let environment = if asked.project_id.is_some() { asked.environment_id.flatten() } else { environment };
            self.webhook_home(grant, asked.project_id.unwrap_or(before.project_id), environment).await
        } else {
            Ok((before.project_id, before.environment_id))
        };
        let url = asked.url.as_deref().map_or(Ok(()), |url| self.must_be_sendable(url));
        (after.project_id, after.environment_id) = match (home, url) {
            (Ok(home), Ok(())) => home,
            (home, url) => return Err(fault::together([home.err(), url.err()].into_iter().flatten().collect())),
        };
        after.url = asked.url.unwrap_or(after.url);
        after.description = asked.description.unwrap_or(after.description);
        after.event_types = asked.event_types.unwrap_or(after.event_types);
        after.status = match (asked.enabled, before.status) {
            (Some(true), _) => Status::Enabled,
            (Some(false), Status::Enabled) => Status::Disabled(Reason::Asked),
            (_, status) => status,
        };
        let mut plan = Plan::new(after);
        plan.project_id = plan.value.project_id;
        plan.environment_id = plan.value.environment_id;
        if plan.value == *before {
            return Ok(plan);
        }
        let now = self.now(caller);
        plan.value.version += 1;
        plan.value.updated_at = now;
        plan.write(self.write_webhook(grant.tenant(), before, &plan.value));
        plan.after.deliveries = true;
        let event = match (before.status, plan.value.status) {
            (Status::Disabled(_), Status::Enabled) => "webhook.enabled",
            (Status::Enabled, Status::Disabled(_)) => "webhook.disabled",
            _ => "webhook.updated",
        };
        let change = change(event, "webhook.update", Some(before), Some(&plan.value), 200);
        self.journal(&mut plan, grant, now, change);
        Ok(plan)
    }

    /// The statements of a changed endpoint: what waits for it rests while it is disabled.
    pub(crate) fn write_webhook(
        &self,
        tenant: nephos_model::tenant::TenantId,
        before: &Webhook,
        after: &Webhook,
    ) -> Vec<store::Statement> {
        let mut statements = store::webhook::update(tenant, after);
        match (before.status, after.status) {
            (Status::Disabled(_), Status::Enabled) => {
                statements.push(store::webhook::works(tenant, after.id));
                statements.push(store::webhook::want(tenant, after.id, self.clock().now()));
            }
            (Status::Enabled, Status::Disabled(_)) => statements.push(store::webhook::rest(tenant, after.id)),
            _ => {}
        }
        statements
    }

    /// Another secret. The one before signs beside it for 24 hours.
    pub fn rotate_webhook_secret(
        &self,
        grant: &Grant<WebhookWrite>,
        before: &Webhook,
    ) -> Result<Plan<WebhookWithSecret>, Fault> {
        let now = self.now(grant.caller());
        let (secret, sealed) = self.new_webhook_secret(before.id)?;
        // Secrets do not live by the sandbox's clock.
        let until = self.clock().now().plus(SECRET_GRACE);
        let webhook =
            Webhook { previous_until_at: Some(until), version: before.version + 1, updated_at: now, ..before.clone() };
        let mut plan = Plan::new(WebhookWithSecret { webhook, secret });
        plan.project_id = before.project_id;
        plan.environment_id = before.environment_id;
        plan.write(store::webhook::rotate(grant.tenant(), &plan.value.webhook, sealed));
        let after = Some(&plan.value.webhook);
        let change = change("webhook.secret_rotated", "webhook.rotate_secret", Some(before), after, 200);
        self.journal(&mut plan, grant, now, change);
        Ok(plan)
    }

    /// No more endpoint. What waits for it is not sent any more.
    pub fn delete_webhook(&self, grant: &Grant<WebhookWrite>, webhook: &Webhook) -> Plan<Webhook> {
        let now = self.now(grant.caller());
        let mut plan = Plan::new(webhook.clone());
        plan.project_id = webhook.project_id;
        plan.environment_id = webhook.environment_id;
        plan.write(store::webhook::delete(grant.tenant(), webhook));
        plan.write([store::counter::give_back(grant.tenant(), "quota.webhooks", 1)]);
        let change = change("webhook.deleted", "webhook.delete", Some(webhook), None, 200);
        self.journal(&mut plan, grant, now, change);
        plan
    }

    /// A sample for an endpoint, delivered like any event. 409 for one that is disabled.
    pub fn test_webhook(&self, grant: &Grant<WebhookWrite>, webhook: &Webhook) -> Result<Plan<WebhookTestView>, Fault> {
        must_be_enabled(webhook)?;
        let now = self.now(grant.caller());
        let change = change(TEST_KIND, "webhook.test", None, Some(webhook), 200);
        let event: EventId = self.id();
        let view = WebhookTestView {
            webhook_id: webhook.id.to_string(),
            event_id: event.to_string(),
            delivery_id: delivery_id(event, webhook.id).to_string(),
        };
        let mut plan = Plan::new(view);
        plan.project_id = webhook.project_id;
        plan.environment_id = webhook.environment_id;
        plan.write([store::webhook::hold(grant.tenant(), webhook)]);
        self.journal_as(&mut plan, grant, now, change, event);
        Ok(plan)
    }

    /// Every event since a time that an endpoint did not take is sent again, in the background. 409 for one that is
    /// disabled.
    pub async fn recover_webhook(
        &self,
        grant: &Grant<WebhookWrite>,
        webhook: &Webhook,
        since: Timestamp,
    ) -> Result<Plan<RecoveryView>, Fault> {
        must_be_enabled(webhook)?;
        let tenant = grant.tenant();
        if since > self.now(grant.caller()) {
            return Err(Fault::bad(Detail::field("/since", "out_of_range", "must not be in the future")));
        }
        // A sandbox tells its own time; ids go by the real one.
        let first = first_event_id(since.minus(grant.caller().clock_ahead));
        let (after, last) = self.store().event_seqs_since(tenant, first).await.map_err(fault::store)?;
        let view = RecoveryView {
            webhook_id: webhook.id.to_string(),
            since: since.to_string(),
            events: last.saturating_sub(after),
        };
        let mut plan = Plan::new(view);
        plan.project_id = webhook.project_id;
        plan.environment_id = webhook.environment_id;
        plan.write([
            store::webhook::hold(tenant, webhook),
            store::webhook::recover(tenant, webhook.id, after, self.clock().now()),
        ]);
        plan.after.deliveries = true;
        let now = self.now(grant.caller());
        let change = change("webhook.recovered", "webhook.recover", None, Some(webhook), 200);
        self.journal(&mut plan, grant, now, change);
        Ok(plan)
    }

    /// A page of an endpoint's deliveries, or 404.
    pub async fn deliveries(
        &self,
        grant: &Grant<WebhookRead>,
        id: WebhookId,
        status: Option<DeliveryStatus>,
        page: &Page,
    ) -> Result<Listed<Logged>, Fault> {
        let tenant = grant.tenant();
        self.visible_webhook(grant, id).await?;
        let Listed { items, total, more } =
            self.store().deliveries(tenant, id, status, page).await.map_err(fault::store)?;
        let attempts = self.store().attempts(tenant, &items).await.map_err(fault::store)?;
        let items = items.into_iter().zip(attempts).map(|(delivery, attempts)| Logged { delivery, attempts }).collect();
        Ok(Listed { items, total, more })
    }

    /// A delivery is tried at once, and if that fails by the schedule from its beginning. 404 for an unknown one, 409 when
    /// its endpoint is disabled.
    pub async fn retry_delivery(&self, grant: &Grant<WebhookWrite>, id: DeliveryId) -> Result<Plan<Logged>, Fault> {
        let tenant = grant.tenant();
        let found = self.store().delivery(tenant, id).await.map_err(fault::store)?;
        let mut delivery = found.ok_or_else(|| Fault::not_found("delivery"))?;
        // A delivery is seen with its endpoint; an id that is not is the same 404 as one that is nowhere.
        let webhook = self.visible_webhook(grant, delivery.webhook_id).await;
        let webhook =
            webhook.map_err(|fault| if fault.code.status() == 404 { Fault::not_found("delivery") } else { fault })?;
        must_be_enabled(&webhook)?;
        let now = self.clock().now();
        let attempts = self.store().attempts(tenant, std::slice::from_ref(&delivery)).await.map_err(fault::store)?;
        delivery.status = DeliveryStatus::Pending;
        delivery.due_at = Some(now);
        delivery.ended_at = None;
        let logged = Logged { delivery, attempts: attempts.into_iter().next().unwrap_or_default() };
        let mut plan = Plan::new(logged);
        plan.project_id = webhook.project_id;
        plan.environment_id = webhook.environment_id;
        plan.write([
            store::webhook::hold(tenant, &webhook),
            store::delivery::anew(tenant, id, now),
            store::webhook::want(tenant, webhook.id, now),
        ]);
        plan.after.deliveries = true;
        let change = delivery_change("delivery.retried", "delivery.retry", &plan.value, &webhook, 200);
        self.journal(&mut plan, grant, self.now(grant.caller()), change);
        Ok(plan)
    }

    fn must_be_sendable(&self, url: &str) -> Result<(), Fault> {
        match self.0.courier.refuses(url) {
            None => Ok(()),
            Some(why) => Err(Fault::bad(Detail::field("/url", "refused_url", why))),
        }
    }

    /// The project and environment of an endpoint: those asked for, else those of the credential.
    async fn webhook_home(
        &self,
        grant: &Grant<WebhookWrite>,
        project: Option<ProjectId>,
        environment: Option<EnvironmentId>,
    ) -> Result<(Option<ProjectId>, Option<EnvironmentId>), Fault> {
        let caller = grant.caller();
        if let Some(id) = environment.or(caller.environment_id) {
            let found = self.store().environment(caller.tenant, id).await.map_err(fault::store)?;
            let found = found.filter(|e| caller.sees(e.project_id, e.id));
            let found = found.ok_or_else(|| fault::of_body(Fault::not_found("environment"), "/environment_id"))?;
            if let Some(project) = project.filter(|project| *project != found.project_id) {
                let message = format!("must be the id of an environment of the project {project}");
                return Err(Fault::bad(Detail::field("/environment_id", "unknown_environment", message)));
            }
            return Ok((Some(found.project_id), Some(id)));
        }
        let project = project.or(caller.project_id);
        if let Some(id) = project {
            self.visible_project(grant, id).await.map_err(|fault| fault::of_body(fault, "/project_id"))?;
        }
        Ok((project, None))
    }

    /// A secret, and how it is kept.
    fn new_webhook_secret(&self, id: WebhookId) -> Result<(String, Vec<u8>), Fault> {
        let mut bytes = [0; SECRET_BYTES];
        self.entropy().fill(&mut bytes);
        let sealed = self.0.master_key.seal(PURPOSE, &id.to_string(), &bytes, self.entropy());
        let sealed = sealed.ok_or_else(|| Fault::internal("a webhook's secret can't be sealed"))?;
        Ok((format!("{SECRET_PREFIX}{}", STANDARD.encode(bytes)), sealed))
    }

    /// Adds the event of what happens to an endpoint by itself, and its row in the audit log.
    pub(crate) fn tell_webhook(
        &self,
        batch: &mut store::Batch,
        tenant: nephos_model::tenant::TenantId,
        now: Timestamp,
        change: Change,
    ) {
        let author = Author {
            tenant,
            actor: nephos_model::event::Actor::System,
            member_id: None,
            address: None,
            client_request_id: None,
            request_id: nephos_model::id::Id::raw(self.id::<nephos_model::id::RequestId>()).to_uuid(),
        };
        self.tell(batch, &author, now, change);
    }
}

fn must_be_enabled(webhook: &Webhook) -> Result<(), Fault> {
    if webhook.status == Status::Enabled {
        return Ok(());
    }
    let message = "The webhook is disabled. Enable it first: PATCH with \"status\": \"enabled\".";
    Err(Fault::conflict(Detail::new("webhook_disabled", message).resource(webhook.id)))
}

/// A narrowed credential sees the endpoints that get nothing beyond what it sees.
fn sees(caller: &Caller, webhook: &Webhook) -> bool {
    caller.project_id.is_none_or(|only| webhook.project_id == Some(only))
        && caller.environment_id.is_none_or(|only| webhook.environment_id == Some(only))
}

/// What an endpoint's filters look at in an event.
pub(crate) fn told(event: &Event) -> Told<'_> {
    Told {
        id: event.id,
        kind: &event.kind,
        resource_id: &event.resource_id,
        project_id: event.project_id,
        environment_id: event.environment_id,
    }
}

/// What happened to a delivery, which is in its endpoint's project.
pub(crate) fn delivery_change(
    event: &'static str,
    action: &'static str,
    logged: &Logged,
    webhook: &Webhook,
    status: u16,
) -> Change {
    Change {
        event,
        action,
        resource_id: logged.delivery.id.to_string(),
        project_id: webhook.project_id,
        environment_id: webhook.environment_id,
        before: None,
        after: Some(json(&DeliveryView::new(&logged.delivery, &logged.attempts))),
        status,
    }
}

pub(crate) fn change(
    event: &'static str,
    action: &'static str,
    before: Option<&Webhook>,
    after: Option<&Webhook>,
    status: u16,
) -> Change {
    let text = |w: &Webhook| json(&WebhookView::from(w));
    let any = after.or(before);
    Change {
        event,
        action,
        resource_id: any.map(|w| w.id.to_string()).unwrap_or_default(),
        project_id: any.and_then(|w| w.project_id),
        environment_id: any.and_then(|w| w.environment_id),
        before: before.map(text),
        after: after.map(text),
        status,
    }
}
