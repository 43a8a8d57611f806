//! Numbers for events and audit rows, consecutive for each tenant, and the audit rows' hash chain.
//!
//! A reader who has seen number n has seen every smaller one. On an engine with one writer that is so when a row gets its
//! number in the transaction that writes it (`engine::sqlite::shared`): later numbers commit later. Where transactions overtake each
//! other, rows wait in tables of their own, and one sequencer at a time numbers those that have committed ([`write`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use nephos_model::Timestamp;
use nephos_model::id::{AuditId, EventId};
use nephos_model::tenant::TenantId;

use sha2::{Digest, Sha256};

use crate::batch::{Batch, Miss, Shared, Statement};
use crate::convert::Model;
use crate::error::Result;
use crate::event::SEQUENCED_AT_ONCE;
use crate::value::Row;
use crate::{Store, Value, counter, params, sql};

/// Somebody else moved the numbers or holds the lease.
pub const OVERTAKEN: Miss = Miss("overtaken");

sql! {
    /// Makes sure that a lease exists, free.
    pub LEASE_ENSURE = "INSERT INTO leases (name, owner, until_at) VALUES ($1, '', 0) ON CONFLICT (name) DO NOTHING";
    /// Takes or keeps a lease.
    pub LEASE_TAKE = "UPDATE leases SET owner = $2, until_at = $3 WHERE name = $1 AND (owner = $2 OR until_at <= $4)";
}

/// A tenant's last numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbers {
    /// The last event's.
    pub event_seq: i64,
    /// The last audit row's.
    pub audit_seq: i64,
    /// The last audit row's link of the chain.
    pub chain: Vec<u8>,
}

/// Takes or keeps the lease `name` until `until`, or misses with [`OVERTAKEN`].
pub fn lease(name: &'static str, owner: &str, until: Timestamp, now: Timestamp) -> [Statement; 2] {
    [LEASE_ENSURE.bind(params![name]), LEASE_TAKE.bind(params![name, owner, until, now]).must(1, OVERTAKEN)]
}

/// Numbers given to one tenant's waiting rows.
#[derive(Debug, Clone)]
pub struct Given {
    /// The numbers before.
    pub before: Numbers,
    /// The numbers after.
    pub after: Numbers,
    /// Events with their numbers.
    pub events: Vec<(EventId, i64)>,
    /// Audit rows with their numbers and links.
    pub audit: Vec<(AuditId, i64, Vec<u8>)>,
}

/// The values and as many `NULL`s as there are places left.
fn padded(mut values: Vec<Value>, places: usize) -> Vec<Value> {
    values.resize(places, Value::Null);
    values
}

/// Writes the numbers of every tenant in `given`; misses with [`OVERTAKEN`] when somebody else was faster.
pub fn write(given: &BTreeMap<TenantId, Given>) -> Batch {
    let mut batch = Batch::new();
    for (tenant, g) in given {
        batch.push(
            crate::event::SEQUENCE_MOVE
                .bind(params![
                    *tenant,
                    g.before.event_seq,
                    g.before.audit_seq,
                    g.after.event_seq,
                    g.after.audit_seq,
                    g.after.chain.clone()
                ])
                .must(1, OVERTAKEN),
        );
        for some in g.events.chunks(SEQUENCED_AT_ONCE) {
            let count = some.len() as u64;
            let pairs = some.iter().flat_map(|(id, seq)| params![*id, *seq]).collect();
            let numbered = padded(pairs, 2 * SEQUENCED_AT_ONCE);
            batch.push(crate::event::EVENTS_SEQUENCE.bind(numbered).must(count, OVERTAKEN));
            let ids = padded(some.iter().map(|(id, _)| Value::from(*id)).collect(), SEQUENCED_AT_ONCE);
            batch.push(crate::event::EVENTS_SEQUENCED.bind(ids).must(count, OVERTAKEN));
        }
        for (id, seq, chain) in &g.audit {
            batch.push(crate::audit::AUDIT_SEQUENCE.bind(params![*id, *seq, chain.clone()]).must(1, OVERTAKEN));
        }
        for some in g.audit.chunks(SEQUENCED_AT_ONCE) {
            let ids = padded(some.iter().map(|(id, ..)| Value::from(*id)).collect(), SEQUENCED_AT_ONCE);
            batch.push(crate::audit::AUDIT_SEQUENCED.bind(ids).must(some.len() as u64, OVERTAKEN));
        }
        if !g.events.is_empty() {
            batch.push(counter::add(*tenant, "event", "", i64::try_from(g.events.len()).unwrap_or(0)));
        }
    }
    batch
}

/// The content of an audit row as its chain covers it: every column, each with its length before it, so that no two
/// rows have the same bytes.
#[derive(Debug, Default)]
pub(crate) struct Content(Vec<u8>);

impl Content {
    pub(crate) fn push(&mut self, column: Option<&[u8]>) {
        let length = column.map_or(u64::MAX, |bytes| bytes.len() as u64);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(column.unwrap_or_default());
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }

    pub(crate) fn of(values: &[Value]) -> Self {
        let mut content = Self(Vec::with_capacity(1024));
        for value in values {
            match value {
                Value::Null => content.push(None),
                Value::Int(number) => content.push(Some(number.to_string().as_bytes())),
                Value::Text(text) => content.push(Some(text.as_bytes())),
                Value::Blob(bytes) => content.push(Some(bytes)),
            }
        }
        content
    }
}

/// A link of the audit chain: SHA-256 over the link before, the number and the row.
pub fn link(before: &[u8], seq: i64, content: &[u8]) -> Vec<u8> {
    let mut hash = Sha256::new();
    hash.update(before);
    hash.update(seq.to_be_bytes());
    hash.update(content);
    hash.finalize().to_vec()
}

/// Tenants whose events got numbers since somebody asked last, as a hint for whoever waits for them.
#[derive(Debug, Default)]
pub(crate) struct News(Mutex<Recent>);

#[derive(Debug, Default)]
struct Recent {
    tenants: BTreeSet<TenantId>,
    is_full: bool,
}

/// Tenants that are told apart; of more it is only known that there were.
const NEWS_MAX: usize = 4_096;

impl News {
    pub(crate) fn add(&self, tenants: impl IntoIterator<Item = TenantId>) {
        let mut tenants = tenants.into_iter().peekable();
        if tenants.peek().is_none() {
            return;
        }
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recent.tenants.extend(tenants);
        if recent.tenants.len() > NEWS_MAX {
            *recent = Recent { tenants: BTreeSet::new(), is_full: true };
        }
    }
}

/// The tenants of the events that a batch writes; the second parameter of such a statement is the tenant.
pub(crate) fn tenants_of(statements: &[Statement]) -> Vec<TenantId> {
    let events = statements.iter().filter(|statement| statement.shared == Some(Shared::Event));
    let mut tenants: Vec<TenantId> = events
        .filter_map(|statement| match statement.params.get(1) {
            Some(Value::Int(tenant)) => Some(TenantId(*tenant)),
            _ => None,
        })
        .collect();
    tenants.dedup();
    tenants
}

pub(crate) fn numbers(row: &Row) -> Result<Numbers> {
    Ok(Numbers { event_seq: row.int(0)?, audit_seq: row.int(1)?, chain: row.blob(2)?.to_vec() })
}

impl Numbers {
    /// Those of a tenant that has none yet.
    pub(crate) fn first() -> Self {
        Self { event_seq: 0, audit_seq: 0, chain: vec![0; 32] }
    }
}

impl Store {
    /// The tenants whose events got numbers in this process since the last call; `None`: too many to tell. Only a hint.
    pub fn take_news(&self) -> Option<BTreeSet<TenantId>> {
        let recent = std::mem::take(&mut *self.news.0.lock().unwrap_or_else(PoisonError::into_inner));
        (!recent.is_full).then_some(recent.tenants)
    }

    /// Tells of tenants whose events got numbers.
    pub fn tell_news(&self, tenants: impl IntoIterator<Item = TenantId>) {
        self.news.add(tenants);
    }

    /// Whether rows get their numbers in the transaction that writes them, so that none ever waits for the sequencer.
    pub fn numbers_at_once(&self) -> bool {
        self.engine() == crate::Engine::Sqlite
    }

    /// The oldest `limit` events that wait for their number.
    pub async fn events_waiting(&self, limit: u32) -> Result<Vec<(EventId, TenantId)>> {
        self.all(crate::event::EVENTS_PENDING.bind(params![limit]), |row| Ok((row.id(0)?, TenantId(row.int(1)?)))).await
    }

    /// A tenant's last numbers; a tenant that has none begins at zero.
    pub async fn numbers(&self, tenant: TenantId) -> Result<Numbers> {
        let get = || crate::event::SEQUENCE_GET.bind(params![tenant]);
        if let Some(numbers) = self.one(get(), numbers).await? {
            return Ok(numbers);
        }
        let first = Numbers::first();
        let ensure = crate::event::SEQUENCE_ENSURE.bind(params![tenant, first.chain.clone()]);
        let mut batch = Batch::new();
        if tenant != TenantId::INSTALLATION {
            // Of a tenant that is purged meanwhile nothing may be left.
            batch.push(crate::tenant::TENANT_EXISTS.bind(params![tenant]).must(1, OVERTAKEN));
        }
        batch.push(ensure);
        self.write(batch).await?;
        Ok(self.one(get(), numbers).await?.unwrap_or(first))
    }
}
