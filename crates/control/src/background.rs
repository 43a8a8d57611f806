//! What runs beside the requests: reconcilers, the sequencer, deliveries, the search for orphans, keeping retentions, and
//! the resets of sandboxes.

use std::time::Duration;

use nephos_model::Fault;
use nephos_model::tenant::TenantId;
use nephos_model::webhook::first_delivery_id;
use nephos_store as store;
use nephos_store::{Batch, StoreError};
use tokio::task::JoinSet;
use tracing::{error, warn};

use crate::deprecation::Notice;
use crate::{Cloud, fault};

/// How long operations are kept after their end: 90 days.
const OPERATIONS_KEPT: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// How long events, deliveries and their tries are kept: 30 days.
const EVENTS_KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Tenants whose deliveries are looked through at a time.
const TENANTS_AT_ONCE: u32 = 256;
/// How often what is past its retention is removed.
const EXPIRE_EVERY: Duration = Duration::from_secs(10 * 60);
const EXPIRE_LEASE: &str = "retention";

/// The tasks beside the requests. Dropping it ends them at their next await; the rows tell the next process the rest.
#[derive(Debug)]
pub struct Background {
    tasks: JoinSet<()>,
    cloud: Cloud,
}

impl Background {
    /// Ends when a task ended, which none does by itself: a defect that the process should not outlive.
    pub async fn broken(&mut self) {
        if let Some(Err(error)) = self.tasks.join_next().await {
            error!(%error, "a background task ended");
        }
    }

    /// Tells every workspace what is due and it was not told yet, from here on.
    pub fn announce(&mut self, notices: Vec<Notice>) {
        if !notices.is_empty() {
            self.tasks.spawn(self.cloud.clone().keep_announcing(notices));
        }
    }

    /// Ends all tasks, waits for them, and writes what was in memory only.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
        self.cloud.flush_last().await;
        if let Err(error) = self.cloud.beat().await {
            warn!(%error, "how long the last answers took can't be written");
        }
        self.cloud.leave_windows().await;
    }
}

impl Cloud {
    /// Takes up what an earlier process left, and starts the background tasks.
    pub async fn start(&self) -> Result<Background, Fault> {
        self.advance_ids().await?;
        self.take_windows().await?;
        self.roll_signing_keys().await?;
        self.read_prices().await.map_err(fault::store)?;
        self.take_up().await?;
        self.take_up_deliveries().await.map_err(fault::store)?;
        let mut tasks = JoinSet::new();
        tasks.spawn(self.clone().reconcile());
        if !self.store().numbers_at_once() {
            tasks.spawn(self.clone().sequence());
        }
        tasks.spawn(self.clone().fan_out());
        tasks.spawn(self.clone().retry_deliveries());
        tasks.spawn(self.clone().search_orphans());
        tasks.spawn(self.clone().expire());
        tasks.spawn(self.clone().keep_flushing());
        tasks.spawn(self.clone().keep_beating());
        tasks.spawn(self.clone().keep_signing_keys());
        tasks.spawn(self.clone().reset_daily());
        tasks.spawn(self.clone().purge_epochs());
        tasks.spawn(self.clone().keep_mailing());
        tasks.spawn(self.clone().keep_invoicing());
        tasks.spawn(self.clone().keep_watching_budgets());
        tasks.spawn(self.clone().keep_sampling());
        for driver in self.drivers() {
            tasks.spawn(self.clone().listen(driver.clone()));
        }
        Ok(Background { tasks, cloud: self.clone() })
    }

    /// Removes what is past its retention now.
    pub async fn expire_some(&self) -> Result<(), StoreError> {
        let now = self.clock().now();
        // What is removed is first counted: two processes at once would count it twice.
        let lease = store::sequence::lease(EXPIRE_LEASE, self.owner(), now.plus(EXPIRE_EVERY / 2), now);
        let mut batch: Batch = lease.into_iter().collect();
        batch.push(store::idempotency::IDEMPOTENCY_EXPIRE.bind(store::params![now]));
        batch.extend(store::operation::expire(now.minus(OPERATIONS_KEPT)));
        batch.extend(store::event::expire(now.minus(EVENTS_KEPT)));
        self.expire_mails(&mut batch);
        self.expire_sessions(&mut batch);
        self.expire_telemetry(&mut batch);
        self.store().write(batch).await?;
        let before = first_delivery_id(now.minus(EVENTS_KEPT));
        let mut after = TenantId(i64::MIN);
        loop {
            let some = self.store().tenants_with_deliveries(after, TENANTS_AT_ONCE).await?;
            for tenant in &some {
                self.store().write(store::delivery::expire(*tenant, before).into_iter().collect()).await?;
            }
            match some.last() {
                Some(last) if some.len() == TENANTS_AT_ONCE as usize => after = *last,
                _ => break,
            }
        }
        self.cut_audit_logs().await?;
        self.expire_invitations().await?;
        self.warn_of_expiring_keys().await
    }

    async fn expire(self) {
        loop {
            match self.expire_some().await {
                // Another process does it.
                Ok(()) | Err(StoreError::Missed { .. }) => {}
                Err(error) => warn!(%error, "what is past its retention can't be removed now"),
            }
            self.clock().sleep(EXPIRE_EVERY).await;
        }
    }
}
