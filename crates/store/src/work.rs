//! The reconcilers' queue: which compute wants a look, and when. A row is leased while somebody looks.

use nephos_model::Timestamp;
use nephos_model::id::ComputeId;
use nephos_model::tenant::TenantId;

use crate::batch::{Miss, Statement};
use crate::convert::Model;
use crate::error::Result;
use crate::{Store, params, sql};

/// Somebody else holds the lease.
pub const LEASED: Miss = Miss("leased");

sql! {
    /// A look is wanted; an earlier wish for one is moved forward, never back.
    pub WORK_WANT = "INSERT INTO work (compute_id, tenant, region, due_at, lease_owner, lease_until_at, attempts)
        VALUES ($1, $2, $3, $4, NULL, 0, 0)
        ON CONFLICT (compute_id) DO UPDATE SET due_at = excluded.due_at, attempts = 0";
    /// What is due and not leased, the longest due first.
    indexed pub WORK_DUE = "SELECT compute_id, tenant, region, attempts FROM work
        WHERE due_at <= $1 AND lease_until_at <= $1 ORDER BY due_at, compute_id LIMIT $2";
    /// When something is due next.
    indexed pub WORK_NEXT = "SELECT due_at FROM work ORDER BY due_at, compute_id LIMIT 1";
    /// Takes the lease.
    pub WORK_LEASE = "UPDATE work SET lease_owner = $2, lease_until_at = $3, due_at = $5
        WHERE compute_id = $1 AND lease_until_at <= $4";
    /// Gives the lease back and says when to look next, unless a look was wanted meanwhile.
    pub WORK_LATER = "UPDATE work SET lease_owner = NULL, lease_until_at = 0, attempts = $4,
        due_at = CASE WHEN due_at = $5 THEN $3 ELSE due_at END
        WHERE compute_id = $1 AND lease_owner = $2";
    /// No look is wanted any more, unless one was wanted meanwhile.
    pub WORK_DONE = "DELETE FROM work WHERE compute_id = $1 AND lease_owner = $2 AND due_at = $3";
    /// Gives the lease back where a look was wanted meanwhile.
    pub WORK_RELEASE = "UPDATE work SET lease_owner = NULL, lease_until_at = 0 WHERE compute_id = $1 AND lease_owner = $2";
    /// Every compute that should have a machine, for the look at start.
    indexed pub WORK_LIVING = "SELECT id, tenant, region FROM computes WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT $3";
    /// Whether anything may be left of a compute or it still lives.
    pub WORK_KNOWN = "SELECT COUNT(*) FROM (SELECT id FROM computes WHERE tenant = $1 AND id = $2
        UNION ALL SELECT compute_id FROM removals WHERE tenant = $1 AND compute_id = $2) AS known";
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
}

/// A look is wanted at `due_at`.
pub fn want(tenant: TenantId, id: ComputeId, region: &str, due_at: Timestamp) -> Statement {
    WORK_WANT.bind(params![id, tenant, region, due_at])
}

/// Takes the lease until `until` or misses with [`LEASED`]. The row then counts as due at `until`.
pub fn lease(id: ComputeId, owner: &str, until: Timestamp, now: Timestamp) -> Statement {
    WORK_LEASE.bind(params![id, owner, until, now, until]).must(1, LEASED)
}

/// Gives the lease (taken until `leased_until`) back; look again at `due_at` after `attempts` failed looks.
pub fn later(id: ComputeId, owner: &str, leased_until: Timestamp, due_at: Timestamp, attempts: u32) -> Statement {
    WORK_LATER.bind(params![id, owner, due_at, attempts, leased_until])
}

/// The look was the last, unless one was wanted since the lease (until `leased_until`) was taken.
pub fn done(id: ComputeId, owner: &str, leased_until: Timestamp) -> [Statement; 2] {
    [WORK_DONE.bind(params![id, owner, leased_until]), WORK_RELEASE.bind(params![id, owner])]
}

impl Store {
    /// What is due at `now`, at most `limit`.
    pub async fn work_due(&self, now: Timestamp, limit: u32) -> Result<Vec<Work>> {
        self.all(WORK_DUE.bind(params![now, limit]), |row| {
            Ok(Work {
                compute_id: row.id(0)?,
                tenant: TenantId(row.int(1)?),
                region: row.string(2)?,
                attempts: row.u32(3)?,
            })
        })
        .await
    }

    /// When something is due next.
    pub async fn work_next(&self) -> Result<Option<Timestamp>> {
        self.one(WORK_NEXT.bind(params![]), |row| row.time(0)).await
    }

    /// A page of a tenant's computes after `after`, for the look at start.
    pub async fn work_living(&self, tenant: TenantId, after: &str, limit: u32) -> Result<Vec<Work>> {
        self.all(WORK_LIVING.bind(params![tenant, after, limit]), |row| {
            Ok(Work { compute_id: row.id(0)?, tenant: TenantId(row.int(1)?), region: row.string(2)?, attempts: 0 })
        })
        .await
    }

    /// Whether the compute lives, or something may be left of it.
    pub async fn work_known(&self, tenant: TenantId, id: ComputeId) -> Result<bool> {
        Ok(self.one(WORK_KNOWN.bind(params![tenant, id]), |row| row.int(0)).await?.unwrap_or(0) > 0)
    }
}
