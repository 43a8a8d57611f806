//! Letters that no request causes: a key will soon stop working, an operation with an end is still called.
//!
//! Each is remembered by the letter's own row, so that nobody is reminded twice of the same.

use std::time::Duration;

use nephos_store as store;
use nephos_store::{Batch, StoreError};

use super::letter::Letter;
use crate::Cloud;
use crate::deprecation::Notice;
use crate::plan::After;

/// How long before its end the owner of a key hears of it: 7 days.
pub const KEY_EXPIRY_NOTICE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Keys that were made for less than this need no reminder: 14 days.
const KEY_LIFE_MIN: Duration = Duration::from_secs(14 * 24 * 60 * 60);
/// A call within this time counts as still calling: 7 days.
const STILL: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Letters that are written in one round; the next round has the rest.
const AT_ONCE: u32 = 500;

impl Cloud {
    /// Writes to the members whose keys will soon stop working.
    pub(crate) async fn warn_of_expiring_keys(&self) -> Result<(), StoreError> {
        let now = self.clock().now();
        let expiring = self.store().keys_expiring(now, now.plus(KEY_EXPIRY_NOTICE), KEY_LIFE_MIN, AT_ONCE).await?;
        let mut batch = Batch::new();
        for key in expiring {
            let (recipient, about) = (key.recipient.clone(), store::mail::about_expiry(key.id));
            let letter = Letter::KeyExpiring {
                workspace: key.workspace,
                name: key.name,
                hint: key.hint,
                expires_at: key.expires_at,
            };
            batch.extend(self.mail_to(&recipient, Some(about), &letter));
        }
        self.write_letters(batch).await
    }

    /// Writes to the Owners whose keys still call an operation that has an end: once a month.
    pub async fn remind_of_deprecations(&self, notices: &[Notice]) -> Result<(), StoreError> {
        let now = self.clock().now();
        let mut batch = Batch::new();
        for notice in notices.iter().filter(|notice| notice.at <= now) {
            let Letter::Deprecated(deprecated) = &notice.letter else { continue };
            if deprecated.noun != "operation" || deprecated.sunset_at <= now {
                continue;
            }
            let about = format!("still called {} {} ", deprecated.name, now.month());
            for (workspace, name) in
                self.store().still_calling(&deprecated.name, now.minus(STILL), &about, AT_ONCE).await?
            {
                let letter = Letter::StillCalled { workspace: name, deprecated: deprecated.clone() };
                batch.extend(self.mail_owners(workspace, Some(format!("{about}{workspace}")), &letter));
            }
        }
        self.write_letters(batch).await
    }

    async fn write_letters(&self, batch: Batch) -> Result<(), StoreError> {
        if batch.is_empty() {
            return Ok(());
        }
        self.store().write(batch).await?;
        self.wake(&After { mail: true, ..After::default() });
        Ok(())
    }
}
