//! What waits: deliveries that failed, or found their endpoint slow, are tried again when they are due, an endpoint at a
//! time, so that one with much to do stands in nobody's way. Also events that an endpoint is to get again.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::StreamExt as _;
use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use nephos_model::id::{DeliveryId, WebhookId};
use nephos_model::tenant::TenantId;
use nephos_model::webhook::{Delivery, DeliveryStatus, FAILING_MAX, Webhook};
use nephos_store as store;
use nephos_store::webhook::{LEASED, Queue};
use nephos_store::{Batch, StoreError};
use tokio::task::JoinSet;
use tracing::{error, warn};

use super::{STALL, Target, Tried, Verdict, new_delivery, payload};
use crate::{Cloud, webhook};

/// Endpoints that are looked at at the same time, at most.
const QUEUES_MAX: usize = 512;
/// Endpoints that are read at a time, beside those under way.
const DUE_MAX: usize = 64;
/// Deliveries of one endpoint that are tried at the same time at least, also when it fails.
const WINDOW_MIN: usize = 4;
/// Events that are looked at in one step of a recovery.
const RECOVERED_AT_ONCE: u32 = 256;
/// What is due is looked for at least this often, for what other processes leave.
const POLL: Duration = Duration::from_secs(5);
const POLL_OTHERS: Duration = Duration::from_millis(500);
/// How long after its last sign of life a process's endpoints are taken over.
const LEASE: Duration = Duration::from_secs(4);
/// How often it gives one.
const LEASE_KEPT_EVERY: Duration = Duration::from_secs(1);
/// Pause of an endpoint whose rows could not be read or written.
const PAUSE: Duration = Duration::from_secs(1);

impl Cloud {
    /// Tries again what is due until the future is dropped.
    pub(crate) async fn retry_deliveries(self) {
        let mut looks: JoinSet<WebhookId> = JoinSet::new();
        let mut busy: HashSet<WebhookId> = HashSet::new();
        let poll = if self.store().numbers_at_once() { POLL } else { POLL_OTHERS };
        loop {
            while let Some(Ok(id)) = looks.try_join_next() {
                busy.remove(&id);
            }
            let now = self.clock().now();
            let limit = u32::try_from(DUE_MAX + busy.len()).unwrap_or(u32::MAX);
            match self.store().webhooks_due(now, limit).await {
                Ok(due) => {
                    for (id, tenant) in due {
                        if looks.len() < QUEUES_MAX && busy.insert(id) {
                            looks.spawn(self.clone().look_at_queue(tenant, id));
                        }
                    }
                }
                Err(error) => warn!(%error, "which deliveries are due can't be read now"),
            }
            let next = self.store().webhooks_next(now).await.ok().flatten();
            let latest = now.plus(poll);
            let alarm = self.clock().sleep_until(next.map_or(latest, |at| at.min(latest)));
            tokio::select! {
                () = self.0.deliveries.notified() => {}
                () = alarm => {}
                Some(ended) = looks.join_next(), if !looks.is_empty() => {
                    if let Ok(id) = ended {
                        busy.remove(&id);
                    }
                }
            }
        }
    }

    /// One look at one endpoint: everything that is due, and when something is due next.
    async fn look_at_queue(self, tenant: TenantId, id: WebhookId) -> WebhookId {
        let looked = AssertUnwindSafe(self.look_at_queue_leased(tenant, id)).catch_unwind().await;
        match looked {
            Ok(Ok(())) => {}
            Ok(Err(error)) if error.missed() == Some(LEASED) => {}
            Ok(Err(error)) => {
                warn!(%error, webhook = %id, "what waits for a webhook can't be sent now");
                self.clock().sleep(PAUSE).await;
            }
            Err(_) => {
                error!(webhook = %id, "looking after a webhook panicked");
                self.clock().sleep(POLL).await;
            }
        }
        id
    }

    async fn look_at_queue_leased(&self, tenant: TenantId, id: WebhookId) -> Result<(), StoreError> {
        if self.store().numbers_at_once() {
            // No other process can run.
            return self.work_off(tenant, id).await;
        }
        self.lease_queue(id).await?;
        let working = self.work_off(tenant, id);
        tokio::pin!(working);
        let worked = loop {
            tokio::select! {
                worked = &mut working => break worked,
                () = self.clock().sleep(LEASE_KEPT_EVERY) => self.lease_queue(id).await?,
            }
        };
        self.store().write(store::webhook::release_queue(id, self.owner()).into()).await?;
        worked
    }

    async fn lease_queue(&self, id: WebhookId) -> Result<(), StoreError> {
        let now = self.clock().now();
        self.store().write(store::webhook::lease_queue(id, self.owner(), now.plus(LEASE), now).into()).await?;
        Ok(())
    }

    async fn work_off(&self, tenant: TenantId, id: WebhookId) -> Result<(), StoreError> {
        loop {
            let Some(queue) = self.store().webhook_queue(tenant, id).await? else { return Ok(()) };
            let Some((sealed, _)) = self.store().webhook_to_send(tenant, id).await? else {
                self.store().write(store::webhook::rest_unless_changed(tenant, id, queue.version).into()).await?;
                return Ok(());
            };
            if let Some(after) = queue.recover_after {
                self.recover_some(tenant, &sealed.webhook, &queue, after).await?;
                continue;
            }
            let Some(target) = self.target(sealed) else {
                self.store().write(store::webhook::rest_unless_changed(tenant, id, queue.version).into()).await?;
                return Ok(());
            };
            let now = self.clock().now();
            let window = target.pace.window().max(WINDOW_MIN);
            let due = self.store().deliveries_due(tenant, id, now, u32::try_from(window).unwrap_or(1)).await?;
            if due.is_empty() {
                self.store().write(store::webhook::next(id, queue.version, now).into_iter().collect()).await?;
                return Ok(());
            }
            let mut forgotten = Batch::new();
            let mut running = FuturesUnordered::new();
            for store::delivery::Due { delivery, event } in due {
                match event {
                    Some(event) => running.push(self.patient_try(&target, delivery, payload(&event))),
                    // The event is no longer kept: there is nothing to send.
                    None => forgotten.push(store::delivery::give_up(tenant, delivery.id, now)),
                }
            }
            if !forgotten.is_empty() {
                self.store().write(forgotten).await?;
            }
            while let Some(first) = running.next().await {
                let mut ended = vec![first];
                while let Some(Some(more)) = running.next().now_or_never() {
                    ended.push(more);
                }
                let judge = |(mut delivery, tried): (Delivery, Tried)| {
                    let verdict = self.judge(&mut delivery, &tried);
                    (delivery, verdict)
                };
                let ended: Vec<_> = ended.into_iter().map(judge).collect();
                let failed = ended.iter().any(|(_, verdict)| *verdict == Verdict::Failed);
                self.record(tenant, &target, ended).await?;
                let since = queue.failing_since_at.filter(|since| self.clock().now().since(*since) >= FAILING_MAX);
                if let (true, Some(since)) = (failed, since) {
                    self.disable_failing(tenant, &target.webhook, since).await?;
                }
            }
        }
    }

    /// A try that is waited for however slow it is.
    async fn patient_try(&self, target: &Arc<Target>, delivery: Delivery, body: Arc<[u8]>) -> (Delivery, Tried) {
        let places = if target.pace.is_failing() { &self.0.sent.slow } else { &self.0.sent.sends };
        // Closed never: it lives as long as the control plane.
        let mut permit = places.clone().acquire_owned().await.ok();
        match select(self.send(target, delivery.event_id, body), self.clock().sleep(STALL)).await {
            Either::Left((tried, _)) => (delivery, tried),
            Either::Right(((), sending)) => {
                if let Some(permit) = &mut permit {
                    self.make_way(permit);
                }
                (delivery, sending.await)
            }
        }
    }

    /// One step of a recovery: of some events, those that the endpoint takes and did not take are due.
    async fn recover_some(
        &self,
        tenant: TenantId,
        webhook: &Webhook,
        queue: &Queue,
        after: i64,
    ) -> Result<(), StoreError> {
        let now = self.clock().now();
        let events = self.store().events_after(tenant, after, RECOVERED_AT_ONCE).await?;
        let is_last = events.len() < RECOVERED_AT_ONCE as usize;
        let last = events.last().map_or(after, |event| event.seq);
        let taken = events.iter().filter(|e| e.seq <= queue.recover_through && webhook.takes(&webhook::told(e)));
        let wanted: Vec<Delivery> = taken.map(|event| new_delivery(event, webhook.id, now)).collect();
        let ids: Vec<DeliveryId> = wanted.iter().map(|delivery| delivery.id).collect();
        let known = self.store().deliveries_among(tenant, &ids).await?;
        let goes_on = (!is_last && last < queue.recover_through).then_some(last);
        let mut batch = Batch::from(store::webhook::recovered(tenant, webhook.id, after, goes_on));
        let mut count = 0;
        for delivery in &wanted {
            match known.iter().find(|(id, _)| *id == delivery.id) {
                None => {
                    batch.push(store::delivery::insert(tenant, delivery));
                    count += 1;
                }
                Some((_, DeliveryStatus::Succeeded)) => {}
                Some((id, DeliveryStatus::Pending | DeliveryStatus::Exhausted)) => {
                    batch.push(store::delivery::anew(tenant, *id, now));
                }
            }
        }
        if count > 0 {
            batch.push(store::delivery::count(tenant, webhook.id, count));
        }
        self.store().write(batch).await?;
        Ok(())
    }
}
