//! The sequencer: gives events and audit rows their numbers after their transactions committed, one process at a time.
//! Where the store numbers rows as it writes them there is none.

use std::collections::BTreeMap;
use std::time::Duration;

use nephos_model::tenant::TenantId;
use nephos_store as store;
use nephos_store::sequence::{Given, OVERTAKEN, link};
use nephos_store::{Batch, StoreError};
use tracing::warn;

use crate::Cloud;

/// Rows numbered in one batch, of each kind, at most.
const ROWS_MAX: u32 = 256;
/// How long a process keeps the right to number after its last batch.
const LEASE: Duration = Duration::from_secs(5);
/// Rows are looked for at least this often, for what other processes wrote.
const POLL: Duration = Duration::from_millis(500);
/// Between two batches that are not full: of many writes not each costs a transaction of its own here. What is written
/// after a longer silence waits for nothing.
const PAUSE: Duration = Duration::from_millis(1);
const LEASE_NAME: &str = "sequencer";

impl Cloud {
    /// Numbers rows until the future is dropped.
    pub(crate) async fn sequence(self) {
        loop {
            match self.sequence_some().await {
                Ok(0) => {
                    let pause = self.clock().sleep(POLL);
                    tokio::select! { () = self.0.pending.notified() => {}, () = pause => {} }
                }
                Ok(count) if count < ROWS_MAX as usize => self.clock().sleep(PAUSE).await,
                Ok(_) => {}
                Err(StoreError::Missed { miss, .. }) if miss == OVERTAKEN => self.clock().sleep(POLL).await,
                Err(error) => {
                    warn!(%error, "events can't be numbered now");
                    self.clock().sleep(POLL).await;
                }
            }
        }
    }

    /// Numbers what waits, at most [`ROWS_MAX`] rows of each kind; how many there were.
    pub async fn sequence_some(&self) -> Result<usize, StoreError> {
        let events = self.store().events_waiting(ROWS_MAX).await?;
        let rows = self.store().audit_waiting(ROWS_MAX).await?;
        if events.is_empty() && rows.is_empty() {
            return Ok(0);
        }
        let mut given: BTreeMap<TenantId, Given> = BTreeMap::new();
        for tenant in events.iter().map(|(_, t)| *t).chain(rows.iter().map(|r| r.tenant)) {
            if let std::collections::btree_map::Entry::Vacant(entry) = given.entry(tenant) {
                let before = self.store().numbers(tenant).await?;
                entry.insert(Given { after: before.clone(), before, events: Vec::new(), audit: Vec::new() });
            }
        }
        let count = events.len() + rows.len();
        for (id, tenant) in events {
            if let Some(given) = given.get_mut(&tenant) {
                given.after.event_seq += 1;
                given.events.push((id, given.after.event_seq));
            }
        }
        for row in rows {
            if let Some(given) = given.get_mut(&row.tenant) {
                given.after.audit_seq += 1;
                given.after.chain = link(&given.after.chain, given.after.audit_seq, &row.content);
                given.audit.push((row.id, given.after.audit_seq, given.after.chain.clone()));
            }
        }
        let now = self.clock().now();
        let mut batch: Batch =
            store::sequence::lease(LEASE_NAME, self.owner(), now.plus(LEASE), now).into_iter().collect();
        batch.append(store::sequence::write(&given));
        self.store().write(batch).await?;
        self.store().tell_news(given.keys().copied());
        self.tell_numbered();
        Ok(count)
    }
}
