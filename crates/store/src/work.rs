//! The reconcilers' queue: which compute wants a look, and when. A row is leased while somebody looks.

use nephos_model::Timestamp;
use nephos_model::id::ComputeId;
use nephos_model::tenant::TenantId;

use crate::batch::{Miss, Statement};
use crate::convert::Model;
use crate::error::Result;
use crate::value::Row;
use crate::{Store, params, sql};

/// Somebody else holds the lease.
pub const LEASED: Miss = Miss("leased");

/// Due never: nobody wants a look.
pub const IDLE: Timestamp = Timestamp::from_micros(i64::MAX);

sql! {
    /// A look is wanted. There is one row for each compute from its making until nothing of it is left.
    pub WORK_WANT = "INSERT INTO work (compute_id, tenant, region, due_at, lease_owner, lease_until_at, attempts)
        VALUES ($1, $2, $3, $4, NULL, 0, 0)
        ON CONFLICT (compute_id) DO UPDATE SET due_at = excluded.due_at, attempts = 0";
    /// A look at a known compute is wanted.
    pub WORK_LOOK = "UPDATE work SET due_at = $2 WHERE compute_id = $1 AND due_at > $2";
    /// A look at everything idle in a region is wanted.
    pub WORK_LOOK_ALL = "UPDATE work SET due_at = $2 WHERE region = $1 AND due_at = $3";
    /// Nobody holds a lease: only while no other process can.
    pub WORK_RECLAIM = "UPDATE work SET lease_owner = NULL, lease_until_at = 0, due_at = $1 WHERE lease_until_at > 0";
    /// What is due and not leased, the longest due first.
    indexed pub WORK_DUE = "SELECT compute_id, tenant, region, attempts, due_at FROM work
        WHERE due_at <= $1 AND lease_until_at <= $1 ORDER BY due_at, compute_id LIMIT $2";
    /// What is due of one tenant and not leased, the longest due first.
    indexed pub WORK_DUE_OF = "SELECT compute_id, tenant, region, attempts, due_at FROM work
        WHERE tenant = $1 AND due_at <= $2 AND lease_until_at <= $2 ORDER BY due_at, compute_id LIMIT $3";
    /// What is leased of one tenant; a leased row is due at the end of its lease.
    indexed pub WORK_LEASED_OF = "SELECT compute_id FROM work
        WHERE tenant = $1 AND due_at < $3 AND lease_until_at > $2 LIMIT 1";
    /// A tenant's clock went forwards: all that is due comes so much earlier by the wall's.
    pub WORK_SOONER = "UPDATE work SET due_at = due_at - $2 WHERE tenant = $1 AND due_at < $3";
    /// When something is due next.
    indexed pub WORK_NEXT = "SELECT due_at FROM work WHERE due_at > $1 ORDER BY due_at, compute_id LIMIT 1";
    /// Takes the lease; the row is due again when it ends.
    pub WORK_LEASE = "UPDATE work SET lease_owner = $2, lease_until_at = $3, due_at = $3
        WHERE compute_id = $1 AND lease_until_at <= $4";
    /// Keeps the lease longer; a look that was wanted meanwhile stays wanted.
    pub WORK_KEEP = "UPDATE work SET lease_until_at = $4, due_at = CASE WHEN due_at = $3 THEN $4 ELSE due_at END
        WHERE compute_id = $1 AND lease_owner = $2 AND lease_until_at = $3";
    /// Gives the lease back and says when to look next, unless a look was wanted meanwhile.
    pub WORK_LATER = "UPDATE work SET lease_owner = NULL, lease_until_at = 0, attempts = $4,
        due_at = CASE WHEN due_at = $5 THEN $3 ELSE due_at END
        WHERE compute_id = $1 AND lease_owner = $2";
    /// Nothing is left of the compute.
    pub WORK_END = "DELETE FROM work WHERE compute_id = $1";
    /// Whether anything may be left of a compute, or it still lives.
    indexed pub WORK_KNOWN = "SELECT tenant FROM work WHERE compute_id = $1";
}

/// A compute that wants a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// Which.
    pub compute_id: ComputeId,
    /// Whose.
    pub tenant: TenantId,
    /// Where.
    pub region: String,
    /// How many looks failed in a row.
    pub attempts: u32,
    /// Since when it wants one, by the wall's clock.
    pub due_at: Timestamp,
}

fn decode(row: &Row) -> Result<Work> {
    Ok(Work {
        compute_id: row.id(0)?,
        tenant: TenantId(row.int(1)?),
        region: row.string(2)?,
        attempts: row.u32(3)?,
        due_at: row.time(4)?,
    })
}

/// A look is wanted at `due_at`.
pub fn want(tenant: TenantId, id: ComputeId, region: &str, due_at: Timestamp) -> Statement {
    WORK_WANT.bind(params![id, tenant, region, due_at])
}

/// Takes the lease until `until` or misses with [`LEASED`]. The row then counts as due at `until`.
pub fn lease(id: ComputeId, owner: &str, until: Timestamp, now: Timestamp) -> Statement {
    WORK_LEASE.bind(params![id, owner, until, now]).must(1, LEASED)
}

/// Keeps a lease (taken until `leased_until`) until `until`, or misses with [`LEASED`] when it was lost.
pub fn keep(id: ComputeId, owner: &str, leased_until: Timestamp, until: Timestamp) -> Statement {
    WORK_KEEP.bind(params![id, owner, leased_until, until]).must(1, LEASED)
}

/// Gives the lease (taken until `leased_until`) back; look again at `due_at` after `attempts` failed looks.
pub fn later(id: ComputeId, owner: &str, leased_until: Timestamp, due_at: Timestamp, attempts: u32) -> Statement {
    WORK_LATER.bind(params![id, owner, due_at, attempts, leased_until])
}

/// Nothing is left of the compute.
pub fn end(id: ComputeId) -> Statement {
    WORK_END.bind(params![id])
}

/// A look at a compute is wanted at `now`, if it is known.
pub fn look(id: ComputeId, now: Timestamp) -> Statement {
    WORK_LOOK.bind(params![id, now])
}

/// A look at everything idle in a region is wanted at `now`.
pub fn look_all(region: &str, now: Timestamp) -> Statement {
    WORK_LOOK_ALL.bind(params![region, now, IDLE])
}

/// A tenant's clock went forwards by `by_us` microseconds.
pub fn sooner(tenant: TenantId, by_us: i64) -> Statement {
    WORK_SOONER.bind(params![tenant, by_us, IDLE])
}

/// Ends every lease: only while no other process can hold one.
pub fn reclaim(now: Timestamp) -> Statement {
    WORK_RECLAIM.bind(params![now])
}

impl Store {
    /// What is due at `now`, at most `limit`.
    pub async fn work_due(&self, now: Timestamp, limit: u32) -> Result<Vec<Work>> {
        self.all(WORK_DUE.bind(params![now, limit]), decode).await
    }

    /// What is due of one tenant at `now` and not leased, at most `limit`.
    pub async fn work_due_of(&self, tenant: TenantId, now: Timestamp, limit: u32) -> Result<Vec<Work>> {
        self.all(WORK_DUE_OF.bind(params![tenant, now, limit]), decode).await
    }

    /// Whether somebody looks at a compute of the tenant.
    pub async fn work_leased_of(&self, tenant: TenantId, now: Timestamp) -> Result<bool> {
        Ok(!self.read(WORK_LEASED_OF.bind(params![tenant, now, IDLE])).await?.is_empty())
    }

    /// When something that is not due at `now` is due next.
    pub async fn work_next(&self, now: Timestamp) -> Result<Option<Timestamp>> {
        let next = self.one(WORK_NEXT.bind(params![now]), |row| row.time(0)).await?;
        Ok(next.filter(|at| *at < IDLE))
    }

    /// Whether the compute lives, or something may be left of it.
    pub async fn work_known(&self, id: ComputeId) -> Result<bool> {
        Ok(!self.read(WORK_KNOWN.bind(params![id])).await?.is_empty())
    }
}
