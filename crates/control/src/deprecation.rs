//! Who calls what is deprecated, and who is told: the record of each key, and one event a workspace.
//!
//! Deliberately not here: what is deprecated; that is the registry's, which knows the operations.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nephos_model::event::Actor;
use nephos_model::id::KeyId;
use nephos_model::{Fault, Timestamp};
use nephos_store as store;
use nephos_store::{Batch, StoreError};
use tracing::warn;

use crate::caller::{ApiKeyRead, Caller, Grant};
use crate::mail::letter::Letter;
use crate::plan::{After, Change};
use crate::{Cloud, fault};

/// Calls that wait to be written, at most; more are noted with the key's next call.
const WAITING_MAX: usize = 65_536;
/// Statements of one batch.
const WRITTEN_AT_ONCE: usize = 512;
/// Deprecated operations that are told of one key, at most: more than there are operations.
const TOLD_MAX: u32 = 1_000;
/// Workspaces that are told in one round.
const ANNOUNCED_AT_ONCE: u32 = 100;
/// How often it is looked whether a notice is due.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(60 * 60);

/// Something that workspaces are to be told once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What it is about: one workspace hears of one subject once.
    pub subject: String,
    /// The event's kind.
    pub event: &'static str,
    /// The version or operation that it is about.
    pub resource_id: String,
    /// From when on it is told, to workspaces that were there before.
    pub at: Timestamp,
    /// The event's data, as JSON text.
    pub data: String,
    /// What is written to every Owner.
    pub letter: Letter,
}

/// A deprecated operation that a key called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeprecatedCall {
    /// The operation's id.
    pub operation: String,
    /// When it was last called, to the minute.
    pub last_called_at: Timestamp,
}

/// Calls that wait to be written.
#[derive(Debug, Default)]
pub(crate) struct Calls(Mutex<HashMap<(KeyId, &'static str), Called>>);

#[derive(Debug, Clone, Copy)]
struct Called {
    at: Timestamp,
    is_written: bool,
}

impl Cloud {
    /// Notes that a key called an operation that is deprecated or gone.
    pub fn note_deprecated_call(&self, caller: &Caller, operation: &'static str) {
        let Some(key) = caller.key_id else { return };
        let at = Timestamp::from_secs(self.clock().now().secs().div_euclid(60) * 60);
        let mut calls = self.0.deprecated_calls.0.lock().unwrap_or_else(PoisonError::into_inner);
        if calls.len() >= WAITING_MAX && !calls.contains_key(&(key, operation)) {
            calls.retain(|_, called| !called.is_written);
            if calls.len() >= WAITING_MAX {
                return;
            }
        }
        let called = calls.entry((key, operation)).or_insert(Called { at, is_written: false });
        if called.at < at {
            *called = Called { at, is_written: false };
        }
    }

    /// Writes them.
    pub(crate) async fn flush_deprecated_calls(&self) -> Result<(), StoreError> {
        let waiting: Vec<_> = {
            let calls = self.0.deprecated_calls.0.lock().unwrap_or_else(PoisonError::into_inner);
            calls.iter().filter(|(_, called)| !called.is_written).map(|(of, called)| (*of, called.at)).collect()
        };
        for some in waiting.chunks(WRITTEN_AT_ONCE) {
            let notes = some.iter().map(|((key, operation), at)| store::deprecation::note_call(*key, operation, *at));
            self.store().write(notes.collect::<Batch>()).await?;
            let mut calls = self.0.deprecated_calls.0.lock().unwrap_or_else(PoisonError::into_inner);
            for (of, at) in some {
                // A later call came meanwhile: it is written with the next batch.
                if let Some(called) = calls.get_mut(of).filter(|called| called.at == *at) {
                    called.is_written = true;
                }
            }
        }
        Ok(())
    }

    /// The deprecated operations that a key called, and when last.
    pub async fn deprecated_calls(&self, grant: &Grant<ApiKeyRead>, key: KeyId) -> Result<Vec<DeprecatedCall>, Fault> {
        // Whoever may not see the key gets its 404 here as well.
        self.api_key(grant, key).await?;
        let written = self.store().deprecated_calls(key, TOLD_MAX).await.map_err(fault::store)?;
        let mut told: HashMap<String, Timestamp> = written.into_iter().collect();
        {
            let calls = self.0.deprecated_calls.0.lock().unwrap_or_else(PoisonError::into_inner);
            for ((_, operation), called) in calls.iter().filter(|((of, _), _)| *of == key) {
                let at = told.entry((*operation).to_owned()).or_insert(called.at);
                *at = (*at).max(called.at);
            }
        }
        let mut told: Vec<_> =
            told.into_iter().map(|(operation, last_called_at)| DeprecatedCall { operation, last_called_at }).collect();
        told.sort_by(|a, b| a.operation.cmp(&b.operation));
        Ok(told)
    }

    /// Tells every workspace what is due and it was not told yet: one event each. Answers how many were told.
    pub async fn announce_due(&self, notices: &[Notice]) -> Result<usize, StoreError> {
        let now = self.clock().now();
        let mut told = 0;
        for notice in notices.iter().filter(|notice| notice.at <= now) {
            loop {
                let wanting = self.store().announcement_wanting(&notice.subject, notice.at, ANNOUNCED_AT_ONCE).await?;
                let is_last = wanting.len() < ANNOUNCED_AT_ONCE as usize;
                for (workspace, tenant) in wanting {
                    let mut batch = Batch::from(store::deprecation::announce(workspace, &notice.subject, now));
                    let change = Change {
                        event: notice.event,
                        action: notice.event,
                        resource_id: notice.resource_id.clone(),
                        project_id: None,
                        environment_id: None,
                        before: None,
                        after: Some(notice.data.clone()),
                        status: 200,
                    };
                    batch.push(self.event_of(tenant, &change, Actor::System, None, now));
                    let about = format!("{} {workspace}", notice.subject);
                    batch.extend(self.mail_owners(workspace, Some(about), &notice.letter));
                    match self.store().write(batch).await {
                        Ok(_) => told += 1,
                        // Another process told it.
                        Err(StoreError::Missed { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
                if is_last {
                    break;
                }
            }
        }
        if told > 0 {
            self.wake(&After { mail: true, ..After::default() });
        }
        Ok(told)
    }

    /// Tells what becomes due, now and every hour, until the future is dropped.
    pub(crate) async fn keep_announcing(self, notices: Vec<Notice>) {
        loop {
            if let Err(error) = self.announce_due(&notices).await {
                warn!(%error, "workspaces can't be told of deprecations now");
            }
            if let Err(error) = self.remind_of_deprecations(&notices).await {
                warn!(%error, "Owners can't be reminded of deprecations now");
            }
            self.clock().sleep(ANNOUNCE_EVERY).await;
        }
    }
}
