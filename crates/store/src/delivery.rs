//! Deliveries of events to webhook endpoints, each with its last try; what came before it is in a table of its own.

use nephos_model::Timestamp;
use nephos_model::event::Event;
use nephos_model::id::{DeliveryId, WebhookId};
use nephos_model::page::{Listed, Page};
use nephos_model::tenant::TenantId;
use nephos_model::webhook::{Attempt, Delivery, DeliveryStatus};

use crate::batch::{Batch, Miss, Statement};
use crate::convert::Model;
use crate::error::Result;
use crate::list::rows_max;
use crate::value::Row;
use crate::webhook::IDLE;
use crate::{Store, counter, params, sql};

/// The delivery is not as it was read.
pub const CHANGED: Miss = Miss("delivery_changed");
/// Tries of one delivery that are read at most, the newest first.
pub const ATTEMPTS_READ_MAX: u32 = 50;
/// Ids that one question asks about.
const ASKED_AT_ONCE: usize = 32;

macro_rules! columns {
    () => {
        "d.id, d.webhook_id, d.event_id, d.event_seq, d.event_type, d.status, d.due_at, d.step, d.first_at, d.attempts,
         d.tried_at, d.http_status, d.latency_ms, d.error, d.answer, d.created_at, d.ended_at"
    };
}

macro_rules! listed {
    ($name:ident, $which:literal) => {
        sql! {
            /// A page of an endpoint's deliveries.
            indexed pub $name = concat!("SELECT ", columns!(), " FROM deliveries d WHERE d.tenant = $1 AND d.webhook_id = $2
                AND d.id < $3 ", $which, " ORDER BY d.id DESC LIMIT $4 OFFSET $5");
        }
    };
}

listed!(DELIVERY_LIST, "");
listed!(DELIVERY_LIST_OPEN, " AND d.status <> 'succeeded' AND d.status = $6 ");
listed!(DELIVERY_LIST_DONE, " AND d.status = 'succeeded' ");

sql! {
    /// A delivery and its first try, if it was tried.
    pub DELIVERY_INSERT = "INSERT INTO deliveries (tenant, id, webhook_id, event_id, event_seq, event_type, status, due_at,
        step, first_at, attempts, tried_at, http_status, latency_ms, error, answer, created_at, ended_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)";
    /// The last try is one of those before, from now on.
    pub ATTEMPT_KEEP = "INSERT INTO delivery_attempts (tenant, delivery_id, number, tried_at, http_status, latency_ms,
        error, answer) SELECT d.tenant, d.id, d.attempts, d.tried_at, d.http_status, d.latency_ms, d.error, d.answer
        FROM deliveries d WHERE d.tenant = $1 AND d.id = $2 AND d.attempts = $3 AND d.attempts > 0";
    /// One more try; compare-and-set on how many there were.
    pub DELIVERY_TRIED = "UPDATE deliveries SET status = $4, due_at = $5, step = $6, first_at = $7, attempts = attempts + 1,
        tried_at = $8, http_status = $9, latency_ms = $10, error = $11, answer = $12, ended_at = $13
        WHERE tenant = $1 AND id = $2 AND attempts = $3 AND status = 'pending'";
    /// It is tried anew, from the beginning of the schedule.
    pub DELIVERY_ANEW = "UPDATE deliveries SET status = 'pending', due_at = $3, step = 0, first_at = NULL, ended_at = NULL
        WHERE tenant = $1 AND id = $2";
    /// It can't be tried any more.
    pub DELIVERY_GIVE_UP = "UPDATE deliveries SET status = 'exhausted', due_at = $3, ended_at = $4
        WHERE tenant = $1 AND id = $2 AND status = 'pending'";
    /// How many of an endpoint's deliveries are in one status, none of them taken.
    indexed pub DELIVERY_COUNT_OPEN = "SELECT COUNT(*) FROM deliveries d WHERE d.tenant = $1 AND d.webhook_id = $2
        AND d.status <> 'succeeded' AND d.status = $3";
    /// How many of an endpoint's deliveries it took: all but the others.
    indexed pub DELIVERY_COUNT_DONE = "SELECT COALESCE((SELECT c.value FROM counters c WHERE c.tenant = $1
        AND c.noun = 'delivery' AND c.scope = $2), 0) - (SELECT COUNT(*) FROM deliveries d WHERE d.tenant = $1
        AND d.webhook_id = $2 AND d.status <> 'succeeded')";
    /// One delivery.
    indexed pub DELIVERY_GET = concat!("SELECT ", columns!(), " FROM deliveries d WHERE d.tenant = $1 AND d.id = $2");
    /// What is due of an endpoint, each with its event if that is still kept.
    indexed pub DELIVERIES_DUE = concat!("SELECT ", columns!(), ", e.seq, e.kind, e.resource_id, e.project_id,
        e.environment_id, e.version, e.data, e.previous, e.actor_kind, e.actor_id, e.request_id, e.created_at
        FROM deliveries d LEFT JOIN events e ON e.tenant = d.tenant AND e.id = d.event_id
        WHERE d.webhook_id = $1 AND d.tenant = $2 AND d.status = 'pending' AND d.due_at <= $3
        ORDER BY d.due_at LIMIT $4");
    /// Whether an endpoint took a delivery from an id on.
    indexed pub DELIVERY_TAKEN = "SELECT 1 FROM deliveries d WHERE d.tenant = $1 AND d.webhook_id = $2 AND d.id >= $3
        AND d.status = 'succeeded' LIMIT 1";
    /// The tries of a delivery before one of them, the newest first.
    indexed pub ATTEMPTS = "SELECT number, tried_at, http_status, latency_ms, error, answer FROM delivery_attempts
        WHERE tenant = $1 AND delivery_id = $2 AND number < $3 ORDER BY number DESC LIMIT $4";
    /// Which of some deliveries there are.
    pub DELIVERIES_AMONG = "SELECT id, status FROM deliveries WHERE tenant = $1 AND id IN ($2, $3, $4, $5, $6, $7, $8, $9, $10,
        $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33)";
    /// Only while no other process runs: what one that is gone was sending for the first time is due at once.
    pub DELIVERIES_RECLAIM = "UPDATE deliveries SET due_at = $1 WHERE status = 'pending' AND attempts = 0 AND due_at > $1
        AND webhook_id IN (SELECT q.webhook_id FROM webhook_queues q WHERE q.due_at <= $1)";

    /// Forgets deliveries that are older than the retention.
    pub DELIVERIES_EXPIRE = "DELETE FROM deliveries WHERE tenant = $1 AND id < $2";
    /// No longer counts them; before they are forgotten.
    pub DELIVERIES_UNCOUNT = "UPDATE counters SET value = value - (SELECT COUNT(*) FROM deliveries d
        WHERE d.tenant = counters.tenant AND d.webhook_id = counters.scope AND d.id < $2)
        WHERE tenant = $1 AND noun = 'delivery'";
    /// Forgets their tries.
    pub ATTEMPTS_EXPIRE = "DELETE FROM delivery_attempts WHERE tenant = $1 AND delivery_id < $2";
}

fn attempt(row: &Row, number: i64, first: usize) -> Result<Attempt> {
    let status = row.opt_int(first + 1)?;
    Ok(Attempt {
        number,
        tried_at: row.time(first)?,
        http_status: status.map(u16::try_from).transpose().map_err(|_| row.unexpected(first + 1, "an HTTP status"))?,
        latency_ms: row.int(first + 2)?,
        error: row.opt_string(first + 3)?,
        answer: row.opt_string(first + 4)?,
    })
}

fn decode(row: &Row) -> Result<Delivery> {
    let attempts = row.int(9)?;
    Ok(Delivery {
        id: row.id(0)?,
        webhook_id: row.id(1)?,
        event_id: row.id(2)?,
        event_seq: row.int(3)?,
        event_type: row.string(4)?,
        status: row.parse(5, "a delivery's status")?,
        due_at: row.opt_time(6)?.filter(|at| *at < IDLE),
        step: usize::try_from(row.int(7)?).map_err(|_| row.unexpected(7, "a place in the schedule"))?,
        first_at: row.opt_time(8)?,
        attempts,
        last: if attempts > 0 { Some(attempt(row, attempts, 10)?) } else { None },
        created_at: row.time(15)?,
        ended_at: row.opt_time(16)?,
    })
}

/// A delivery that is due, with its event if that is still kept.
#[derive(Debug, Clone)]
pub struct Due {
    /// The delivery.
    pub delivery: Delivery,
    /// What is delivered.
    pub event: Option<Event>,
}

fn decode_due(row: &Row) -> Result<Due> {
    let delivery = decode(row)?;
    let event = match row.opt_int(17)? {
        None => None,
        Some(seq) => Some(Event {
            id: delivery.event_id,
            seq,
            kind: row.string(18)?,
            resource_id: row.string(19)?,
            project_id: row.opt_id(20)?,
            environment_id: row.opt_id(21)?,
            version: row.u32(22)?,
            data: row.string(23)?,
            previous: row.opt_string(24)?,
            actor_kind: row.string(25)?,
            actor_id: row.opt_string(26)?,
            request_id: row.opt_string(27)?,
            created_at: row.time(28)?,
        }),
    };
    Ok(Due { delivery, event })
}

/// A new delivery, as it is after its first try, or before it.
pub fn insert(tenant: TenantId, d: &Delivery) -> Statement {
    let last = d.last.as_ref();
    DELIVERY_INSERT.bind(params![
        tenant,
        d.id,
        d.webhook_id,
        d.event_id,
        d.event_seq,
        &d.event_type,
        d.status.as_str(),
        d.due_at.unwrap_or(IDLE),
        step(d),
        d.first_at,
        d.attempts,
        last.map(|a| a.tried_at),
        last.and_then(|a| a.http_status).map(i64::from),
        last.map(|a| a.latency_ms),
        last.and_then(|a| a.error.as_deref()),
        last.and_then(|a| a.answer.as_deref()),
        d.created_at,
        d.ended_at
    ])
}

fn step(d: &Delivery) -> i64 {
    i64::try_from(d.step).unwrap_or(i64::MAX)
}

/// Counts new deliveries of an endpoint.
pub fn count(tenant: TenantId, webhook: WebhookId, by: i64) -> Statement {
    counter::add(tenant, "delivery", webhook.to_string(), by)
}

/// Writes a delivery after one more try. Changes nothing when somebody else did or it is gone.
pub fn tried(tenant: TenantId, d: &Delivery) -> Vec<Statement> {
    let before = d.attempts - 1;
    let Some(last) = &d.last else { return Vec::new() };
    let update = DELIVERY_TRIED.bind(params![
        tenant,
        d.id,
        before,
        d.status.as_str(),
        d.due_at.unwrap_or(IDLE),
        step(d),
        d.first_at,
        last.tried_at,
        last.http_status.map(i64::from),
        last.latency_ms,
        last.error.as_deref(),
        last.answer.as_deref(),
        d.ended_at
    ]);
    let keep = (before > 0).then(|| ATTEMPT_KEEP.bind(params![tenant, d.id, before]));
    keep.into_iter().chain([update]).collect()
}

/// A delivery is tried anew at `now`, from the beginning of the schedule.
pub fn anew(tenant: TenantId, id: DeliveryId, now: Timestamp) -> Statement {
    DELIVERY_ANEW.bind(params![tenant, id, now])
}

/// A delivery can't be tried any more: what it was to deliver is no longer kept.
pub fn give_up(tenant: TenantId, id: DeliveryId, now: Timestamp) -> Statement {
    DELIVERY_GIVE_UP.bind(params![tenant, id, IDLE, now])
}

/// Forgets a tenant's deliveries before an id. Only one process may do so at a time, see [`crate::sequence::lease`].
pub fn expire(tenant: TenantId, before: DeliveryId) -> [Statement; 3] {
    [
        DELIVERIES_UNCOUNT.bind(params![tenant, before]),
        DELIVERIES_EXPIRE.bind(params![tenant, before]),
        ATTEMPTS_EXPIRE.bind(params![tenant, before]),
    ]
}

/// Only while no other process runs: what one that is gone was sending or about to hear of is due at `now`. Whatever is
/// due until `soon` may be such.
pub fn reclaim(now: Timestamp, soon: Timestamp) -> Batch {
    Batch::from(vec![crate::webhook::QUEUES_RECLAIM.bind(params![now, soon]), DELIVERIES_RECLAIM.bind(params![now])])
}

impl Store {
    /// One delivery.
    pub async fn delivery(&self, tenant: TenantId, id: DeliveryId) -> Result<Option<Delivery>> {
        self.one(DELIVERY_GET.bind(params![tenant, id]), decode).await
    }

    /// A page of an endpoint's deliveries, newest first.
    pub async fn deliveries(
        &self,
        tenant: TenantId,
        webhook: WebhookId,
        status: Option<DeliveryStatus>,
        page: &Page,
    ) -> Result<Listed<Delivery>> {
        let mut values = params![tenant, webhook, page.before(), rows_max(page), page.offset()];
        let scope = webhook.to_string();
        let (rows, total) = match status {
            None => (DELIVERY_LIST.bind(values), counter::get(tenant, "delivery", scope)),
            Some(DeliveryStatus::Succeeded) => {
                (DELIVERY_LIST_DONE.bind(values), DELIVERY_COUNT_DONE.bind(params![tenant, scope]))
            }
            Some(open) => {
                values.extend(params![open.as_str()]);
                let count = params![tenant, webhook, open.as_str()];
                (DELIVERY_LIST_OPEN.bind(values), DELIVERY_COUNT_OPEN.bind(count))
            }
        };
        self.page(rows, total, page, decode).await
    }

    /// All tries of some deliveries in the order of their numbers, of each the last [`ATTEMPTS_READ_MAX`] at most.
    pub async fn attempts(&self, tenant: TenantId, deliveries: &[Delivery]) -> Result<Vec<Vec<Attempt>>> {
        let several: Vec<&Delivery> = deliveries.iter().filter(|d| d.attempts > 1).collect();
        // Before the one that was read with the delivery: it may have been tried again since.
        let ask = |d: &&Delivery| ATTEMPTS.bind(params![tenant, d.id, d.attempts, ATTEMPTS_READ_MAX]);
        let found =
            if several.is_empty() { Vec::new() } else { self.read_all(several.iter().map(ask).collect()).await? };
        let mut found = found.into_iter();
        let mut all = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            let mut tries = Vec::new();
            if delivery.attempts > 1 {
                for row in found.next().unwrap_or_default().iter().rev() {
                    tries.push(attempt(row, row.int(0)?, 1)?);
                }
            }
            tries.extend(delivery.last.clone());
            all.push(tries);
        }
        Ok(all)
    }

    /// What is due of an endpoint at `now`, at most `limit`.
    pub async fn deliveries_due(
        &self,
        tenant: TenantId,
        webhook: WebhookId,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Due>> {
        self.all(DELIVERIES_DUE.bind(params![webhook, tenant, now, limit]), decode_due).await
    }

    /// Whether an endpoint took a delivery from an id on.
    pub async fn took_since(&self, tenant: TenantId, webhook: WebhookId, from: DeliveryId) -> Result<bool> {
        Ok(!self.read(DELIVERY_TAKEN.bind(params![tenant, webhook, from])).await?.is_empty())
    }

    /// Which of some deliveries there are, and in what status.
    pub async fn deliveries_among(
        &self,
        tenant: TenantId,
        ids: &[DeliveryId],
    ) -> Result<Vec<(DeliveryId, DeliveryStatus)>> {
        let mut found = Vec::new();
        for some in ids.chunks(ASKED_AT_ONCE) {
            let mut values = params![tenant];
            values.extend(some.iter().map(|id| crate::Value::from(*id)));
            values.resize(1 + ASKED_AT_ONCE, crate::Value::Null);
            let decode = |row: &Row| Ok((row.id(0)?, row.parse(1, "a delivery's status")?));
            found.extend(self.all(DELIVERIES_AMONG.bind(values), decode).await?);
        }
        Ok(found)
    }
}
