//! Requests that were refused, on their way into the audit log.
//!
//! A refusal costs no write of its own: rows wait in memory, bounded, and are written in batches with what else is flushed.
//! Whoever is refused more often than a person reads is counted. So refused requests can't keep the store from its work,
//! and the log tells of them all the same. What a crash loses is at most what waited: rows of
//! [`crate::usage::FLUSH_EVERY`], counts of the minute.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use nephos_model::event::Actor;
use nephos_model::id::{AuditId, Id as _, MemberId, ProjectId, Raw};
use nephos_model::tenant::TenantId;
use nephos_model::{Code, Timestamp};
use nephos_store as store;
use nephos_store::audit::NewAudit;
use nephos_store::{Batch, StoreError};
use tracing::warn;

use crate::Cloud;
use crate::caller::Caller;
use crate::plan::After;

/// Rows that wait at most, of everybody together.
const ROWS_WAITING_MAX: usize = 4_096;
/// Rows of one tenant in one minute at most; what is refused beyond is counted.
const ROWS_PER_MINUTE_MAX: u32 = 120;
/// Different counts of a minute at most; beyond, they are counted without actor and address.
const COUNTS_MAX: usize = 4_096;
/// Rows of one batch.
const ROWS_AT_ONCE: usize = 256;
const MINUTE_S: i64 = 60;
/// What a row is called that counts refusals.
const COUNTED: &str = "request.refused";

/// A request as its row tells it.
#[derive(Debug, Clone)]
pub struct Noted<'a> {
    /// The operation, `noun.verb`; `None` when the path names none.
    pub action: Option<&'static str>,
    /// What it was about: an id out of its path.
    pub resource_id: Option<String>,
    /// The project of it.
    pub project_id: Option<ProjectId>,
    /// The client's address.
    pub address: IpAddr,
    /// The client's own id of the request.
    pub client_request_id: Option<&'a str>,
    /// Our id of it, as a UUID.
    pub request_id: &'a str,
    /// The status of the answer.
    pub status: u16,
}

/// What refusals are counted by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Counted {
    tenant: TenantId,
    minute: i64,
    status: u16,
    actor: Option<String>,
    address: Option<String>,
}

#[derive(Debug)]
struct Count {
    requests: i64,
    actor: Actor,
    member_id: Option<MemberId>,
    /// The last request of them.
    request_id: String,
}

#[derive(Debug, Default)]
struct Waiting {
    rows: Vec<(TenantId, NewAudit)>,
    minute: i64,
    rows_of: HashMap<TenantId, u32>,
    counts: BTreeMap<Counted, Count>,
}

/// Rows and counts that are not written yet.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    waiting: Mutex<Waiting>,
    /// Held while rows are written: who flushes for the last time waits for them.
    flushing: tokio::sync::Mutex<()>,
}

impl Refusals {
    fn with<T>(&self, what: impl FnOnce(&mut Waiting) -> T) -> T {
        what(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Waiting {
    /// Whether one more row of a tenant may wait; takes the place if so.
    fn has_room(&mut self, tenant: TenantId, minute: i64) -> bool {
        if self.minute != minute {
            self.minute = minute;
            self.rows_of.clear();
        }
        if self.rows.len() >= ROWS_WAITING_MAX {
            return false;
        }
        let rows = self.rows_of.entry(tenant).or_insert(0);
        *rows += 1;
        *rows <= ROWS_PER_MINUTE_MAX
    }

    fn count(&mut self, mut by: Counted, actor: Actor, member_id: Option<MemberId>, request_id: &str) {
        let mut told = (actor, member_id);
        if self.counts.len() >= COUNTS_MAX && !self.counts.contains_key(&by) {
            // At most one such count for each tenant, minute and status.
            by = Counted { actor: None, address: None, ..by };
            told = (Actor::System, None);
        }
        let (actor, member_id) = told;
        let count =
            self.counts.entry(by).or_insert_with(|| Count { requests: 0, actor, member_id, request_id: String::new() });
        count.requests += 1;
        request_id.clone_into(&mut count.request_id);
    }

    /// What is to be written: rows, and the counts of minutes that are over, or of all.
    fn take(&mut self, minute: i64) -> (Vec<(TenantId, NewAudit)>, Vec<(Counted, Count)>) {
        let mut over = Vec::new();
        while let Some(first) = self.counts.first_entry().filter(|e| e.key().minute < minute) {
            over.push(first.remove_entry());
        }
        // The order is by tenant first: what is over may also stand behind what is not.
        let rest: Vec<Counted> = self.counts.keys().filter(|by| by.minute < minute).cloned().collect();
        over.extend(rest.into_iter().filter_map(|by| self.counts.remove_entry(&by)));
        (std::mem::take(&mut self.rows), over)
    }
}

impl Cloud {
    /// Notes a request that was refused: 401 and 429 are counted by the minute, others have a row of their own unless
    /// there are too many. Without a caller it is the installation's.
    pub fn note_refusal(&self, caller: Option<&Caller>, noted: &Noted<'_>) {
        let now = self.clock().now();
        let minute = now.secs().div_euclid(MINUTE_S);
        let tenant = caller.map_or(TenantId::INSTALLATION, |caller| caller.tenant);
        let is_counted = matches!(noted.status, 401 | 429) || caller.is_none();
        let actor = caller.map_or(Actor::System, Caller::actor);
        let member_id = caller.map(|caller| caller.member_id);
        let has_row = !is_counted && self.0.refusals.with(|waiting| waiting.has_room(tenant, minute));
        if has_row {
            let row = Self::noted(caller, noted, now);
            self.0.refusals.with(|waiting| waiting.rows.push((tenant, row)));
        } else {
            let address = Some(noted.address.to_string());
            let by = Counted { tenant, minute, status: noted.status, actor: actor.id(), address };
            self.0.refusals.with(|waiting| waiting.count(by, actor, member_id, noted.request_id));
        }
    }

    /// Notes a request that read what is worth a row: an export, a secret.
    pub fn note_read(&self, caller: &Caller, noted: &Noted<'_>) {
        let row = Self::noted(Some(caller), noted, self.clock().now());
        self.0.refusals.with(|waiting| {
            // Those who may are few and have budgets; beyond the bound the oldest are the least missed.
            if waiting.rows.len() >= 2 * ROWS_WAITING_MAX {
                warn!("more reads wait for the audit log than it has room for");
                waiting.rows.remove(0);
            }
            waiting.rows.push((caller.tenant, row));
        });
    }

    fn noted(caller: Option<&Caller>, noted: &Noted<'_>, now: Timestamp) -> NewAudit {
        NewAudit {
            // Its own it gets when it is written: that is later than all that a request does.
            id: AuditId::from_raw(Raw::from_bytes([0; 16])),
            action: noted.action.unwrap_or(COUNTED),
            resource_id: noted.resource_id.clone(),
            project_id: noted.project_id,
            actor: caller.map_or(Actor::System, Caller::actor),
            member_id: caller.map(|caller| caller.member_id),
            address: Some(noted.address.to_string()),
            client_request_id: noted.client_request_id.map(str::to_owned),
            request_id: noted.request_id.to_owned(),
            before: None,
            after: None,
            status: noted.status,
            created_at: now,
        }
    }

    /// Writes what waits: rows, and counts of minutes that are over.
    pub(crate) async fn flush_refusals(&self) -> Result<(), StoreError> {
        self.write_refusals(self.clock().now().secs().div_euclid(MINUTE_S)).await
    }

    /// Writes all that waits.
    pub(crate) async fn flush_last_refusals(&self) -> Result<(), StoreError> {
        self.write_refusals(i64::MAX).await
    }

    async fn write_refusals(&self, minute: i64) -> Result<(), StoreError> {
        // A task of its own: it goes on when whoever waits for it does not, so what was taken is always written.
        let cloud = self.clone();
        tokio::spawn(async move { cloud.write_taken(minute).await }).await.unwrap_or_else(|ended| {
            let reason = "writing refused requests ended by itself".to_owned();
            Err(StoreError::Unavailable { reason, uncertain: false, source: Some(ended.into()) })
        })
    }

    async fn write_taken(&self, minute: i64) -> Result<(), StoreError> {
        let _one_at_a_time = self.0.refusals.flushing.lock().await;
        let (mut rows, counts) = self.0.refusals.with(|waiting| waiting.take(minute));
        rows.extend(counts.into_iter().map(|(by, count)| (by.tenant, Self::counted(by, count))));
        rows.sort_by_key(|(tenant, row)| (*tenant, row.created_at));
        for (_, row) in &mut rows {
            row.id = self.id();
        }
        let mut failed = None;
        for some in rows.chunk_by(|a, b| a.0 == b.0).flat_map(|of_one| of_one.chunks(ROWS_AT_ONCE)) {
            let Some((tenant, _)) = some.first() else { continue };
            let mut batch = Batch::new();
            if *tenant != TenantId::INSTALLATION {
                batch.push(store::tenant::hold_epoch(*tenant));
            }
            batch.extend(some.iter().map(|(tenant, row)| store::audit::insert(*tenant, row.clone())));
            match self.store().write(batch).await {
                // An epoch that is over has no log any more.
                Ok(_) | Err(StoreError::Missed { .. }) => {}
                Err(error) => {
                    // Whether it was written may not be known, and a row has an id: it is there once at most.
                    let uncertain = matches!(error, StoreError::Unavailable { uncertain: true, .. });
                    if !uncertain {
                        self.keep_refusals(some);
                    }
                    failed = Some(error);
                }
            }
        }
        if !rows.is_empty() {
            self.wake(&After::default());
        }
        failed.map_or(Ok(()), Err)
    }

    /// What could not be written waits again, as far as there is room.
    fn keep_refusals(&self, rows: &[(TenantId, NewAudit)]) {
        self.0.refusals.with(|waiting| {
            let room = ROWS_WAITING_MAX.saturating_sub(waiting.rows.len());
            if rows.len() > room {
                warn!(lost = rows.len() - room, "refused requests are lost to the audit log: it can't be written");
            }
            waiting.rows.extend(rows.iter().take(room).cloned());
        });
    }

    fn counted(by: Counted, count: Count) -> NewAudit {
        let at = Timestamp::from_secs(by.minute * MINUTE_S);
        let code = Code::ALL.iter().find(|code| code.status() == by.status).map_or("refused", |code| code.snake());
        NewAudit {
            id: AuditId::from_raw(Raw::from_bytes([0; 16])),
            action: COUNTED,
            resource_id: None,
            project_id: None,
            actor: count.actor,
            member_id: count.member_id,
            address: by.address,
            client_request_id: None,
            request_id: count.request_id,
            before: None,
            after: Some(format!("{{\"code\":\"{code}\",\"requests\":{},\"minute\":\"{at}\"}}", count.requests)),
            status: by.status,
            created_at: at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_bounded_by_the_minute_and_counts_lose_their_details_before_they_are_lost() {
        let mut waiting = Waiting::default();
        let tenant = TenantId(1);
        let rows = (0..500).filter(|_| waiting.has_room(tenant, 7)).count();
        assert_eq!(rows, ROWS_PER_MINUTE_MAX as usize);
        assert!(waiting.has_room(TenantId(2), 7) && waiting.has_room(tenant, 8));

        for n in 0..10_000_u32 {
            let by = Counted { tenant, minute: 7, status: 401, actor: None, address: Some(n.to_string()) };
            waiting.count(by, Actor::System, None, "r");
        }
        assert_eq!(waiting.counts.len(), COUNTS_MAX + 1);
        waiting.count(Counted { tenant, minute: 8, status: 401, actor: None, address: None }, Actor::System, None, "r");
        let (_, over) = waiting.take(8);
        assert_eq!(over.iter().map(|(_, count)| count.requests).sum::<i64>(), 10_000);
        assert_eq!(waiting.counts.len(), 1, "the minute that is under way goes on");
    }
}
