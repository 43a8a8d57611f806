//! Settling: everything that is due of one sandbox is done now, in the order of the times at which it was due.
//!
//! A sandbox's clock that goes forwards makes much due at once. It is done one after the other, so that events come in the
//! order of their times; the reconcilers of this process leave the sandbox alone meanwhile. What is not done within the
//! bounds, or is being done by another process, goes on in the background.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nephos_model::tenant::TenantId;
use nephos_store::StoreError;
use tracing::warn;

use super::{Counted, LEASE};
use crate::Cloud;

/// How long a request settles at most.
const SETTLE_DEADLINE: Duration = Duration::from_secs(20);
/// Looks that one request does at most.
const SETTLE_LOOKS_MAX: u32 = 20_000;

/// Whose sandboxes are being settled, and by how many requests.
#[derive(Debug, Default, Clone)]
pub(crate) struct Settling(Arc<Mutex<HashMap<TenantId, u32>>>);

impl Settling {
    /// Whether a sandbox is being settled.
    pub(crate) fn holds(&self, tenant: TenantId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&tenant)
    }

    /// A sandbox is being settled until what is returned is dropped.
    pub(crate) fn begin(&self, tenant: TenantId) -> Settled {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(tenant).or_insert(0) += 1;
        Settled { settling: self.clone(), tenant }
    }
}

/// A sandbox that is being settled.
#[derive(Debug)]
pub(crate) struct Settled {
    settling: Settling,
    tenant: TenantId,
}

impl Drop for Settled {
    fn drop(&mut self) {
        let mut settling = self.settling.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = settling.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                settling.remove(&self.tenant);
            }
        }
    }
}

impl Cloud {
    /// Does what is due of a sandbox, within bounds; the background does the rest.
    pub(crate) async fn settle(&self, tenant: TenantId) {
        let settling = self.0.settling.begin(tenant);
        let settled = async {
            if let Err(error) = self.settle_all(tenant).await {
                warn!(tenant = tenant.0, %error, "a sandbox can't be settled now; the reconcilers go on with it");
            }
        };
        let deadline = self.clock().sleep(SETTLE_DEADLINE);
        // A look that is broken off here is done again when its lease has run out.
        tokio::select! { () = settled => {}, () = deadline => {} }
        drop(settling);
        self.0.work.notify_one();
    }

    async fn settle_all(&self, tenant: TenantId) -> Result<(), StoreError> {
        let mut looks = self.looks();
        for _ in 0..SETTLE_LOOKS_MAX {
            let now = self.clock().now();
            let seen = *looks.borrow_and_update();
            if let Some(work) = self.store().work_due_of(tenant, now, 1).await?.pop() {
                let until = now.plus(LEASE);
                if self.take(&work, until).await? {
                    let counted = Counted::new(self);
                    self.look(work, until).await;
                    drop(counted);
                }
            } else if seen > 0 && self.store().work_leased_of(tenant, now).await? {
                // A look of this process is under way.
                if looks.changed().await.is_err() {
                    return Ok(());
                }
            } else {
                return Ok(());
            }
        }
        Ok(())
    }
}
