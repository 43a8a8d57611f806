//! Tenants: one (workspace, mode, epoch) each.

use nephos_model::Timestamp;
use nephos_model::id::WorkspaceId;
use nephos_model::tenant::{Mode, TenantId};

use crate::batch::Miss;
use crate::convert::Model;
use crate::error::Result;
use crate::project::STALE;
use crate::{Row, Statement, Store, counter, params, sql};

/// The tenant is not the current one any more: its sandbox was reset.
pub const EPOCH_OVER: Miss = Miss("epoch_over");

sql! {
    /// A new tenant; a taken id or epoch is a unique violation.
    pub TENANT_INSERT = "INSERT INTO tenants (id, workspace_id, mode, epoch, is_current, clock_ahead_us, created_at)
        VALUES ($1, $2, $3, $4, 1, 0, $5)";
    /// One tenant.
    indexed pub TENANT_GET = "SELECT id, workspace_id, mode, epoch, is_current, clock_ahead_us FROM tenants WHERE id = $1";
    /// Whether there is a tenant.
    pub TENANT_EXISTS = "SELECT id FROM tenants WHERE id = $1";
    /// A workspace's current tenant of a mode.
    indexed pub TENANT_CURRENT = "SELECT id, workspace_id, mode, epoch, is_current, clock_ahead_us FROM tenants
        WHERE workspace_id = $1 AND mode = $2 AND is_current = 1";
    /// Takes the lock of a tenant that still is its workspace's present one.
    pub TENANT_HOLD = "UPDATE tenants SET is_current = is_current WHERE id = $1 AND is_current = 1";
    /// The largest id.
    pub TENANT_LAST = "SELECT id FROM tenants ORDER BY id DESC LIMIT 1";
    /// A page of all tenants.
    indexed pub TENANT_PAGE = "SELECT id, workspace_id, mode, epoch, is_current, clock_ahead_us FROM tenants
        WHERE id > $1 ORDER BY id LIMIT $2";
    /// The tenant's epoch is over.
    pub TENANT_END = "UPDATE tenants SET is_current = 0 WHERE id = $1 AND is_current = 1";
    /// The tenant's clock goes forwards; compare-and-set.
    pub TENANT_ADVANCE = "UPDATE tenants SET clock_ahead_us = $3
        WHERE id = $1 AND clock_ahead_us = $2 AND is_current = 1";
    /// The oldest tenants whose epoch is over and of which something may be left.
    indexed pub TENANTS_OVER = "SELECT id FROM tenants WHERE is_current = 0 AND id > $1 ORDER BY id LIMIT $2";
    /// Sandboxes of living workspaces whose epoch began before a time, the oldest first.
    indexed pub SANDBOXES_BEFORE = "SELECT t.id, t.workspace_id, t.mode, t.epoch, t.is_current, t.clock_ahead_us
        FROM tenants t WHERE t.mode = 'test' AND t.is_current = 1 AND t.created_at < $1
        AND EXISTS (SELECT 1 FROM workspaces w WHERE w.id = t.workspace_id AND w.deleted_at IS NULL)
        ORDER BY t.created_at, t.id LIMIT $2";
}

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its integer.
    pub id: TenantId,
    /// Its workspace.
    pub workspace_id: WorkspaceId,
    /// Live or sandbox.
    pub mode: Mode,
    /// Rises with every reset of a sandbox, from 1.
    pub epoch: i64,
    /// Whether it is the workspace's present one of its mode.
    pub is_current: bool,
    /// How far its clock is ahead of the wall's, in microseconds.
    pub clock_ahead_us: i64,
}

fn decode(row: &Row) -> Result<Tenant> {
    Ok(Tenant {
        id: TenantId(row.int(0)?),
        workspace_id: row.id(1)?,
        mode: row.parse(2, "a mode")?,
        epoch: row.int(3)?,
        is_current: row.flag(4)?,
        clock_ahead_us: row.int(5)?,
    })
}

/// Adds a tenant with its quota counters.
pub fn insert(t: &Tenant, now: Timestamp) -> Vec<Statement> {
    let mut batch = vec![TENANT_INSERT.bind(params![t.id, t.workspace_id, t.mode.as_str(), t.epoch, now])];
    batch.extend(counter::open(t.id));
    batch
}

/// Holds a tenant that something is given to by way of its workspace; misses with [`STALE`] when it was reset.
pub fn hold(id: TenantId) -> Statement {
    TENANT_HOLD.bind(params![id]).must(1, STALE)
}

/// The tenant's epoch is over from now on, or this misses with [`EPOCH_OVER`] because it was already.
pub fn end(id: TenantId) -> Statement {
    TENANT_END.bind(params![id]).must(1, EPOCH_OVER)
}

/// The tenant is the current one until the batch is committed, or this misses with [`EPOCH_OVER`].
pub fn hold_epoch(id: TenantId) -> Statement {
    TENANT_HOLD.bind(params![id]).must(1, EPOCH_OVER)
}

/// Moves the clock of a tenant that still is as it was read, or misses with [`STALE`].
pub fn advance(t: &Tenant, clock_ahead_us: i64) -> Statement {
    TENANT_ADVANCE.bind(params![t.id, t.clock_ahead_us, clock_ahead_us]).must(1, STALE)
}

impl Store {
    /// The oldest `limit` tenants after `after` whose epoch is over.
    pub async fn tenants_over(&self, after: TenantId, limit: u32) -> Result<Vec<TenantId>> {
        self.all(TENANTS_OVER.bind(params![after, limit]), |row| Ok(TenantId(row.int(0)?))).await
    }

    /// The oldest `limit` current sandboxes whose epoch began before `time`.
    pub async fn sandboxes_before(&self, time: Timestamp, limit: u32) -> Result<Vec<Tenant>> {
        self.all(SANDBOXES_BEFORE.bind(params![time, limit]), decode).await
    }

    /// One tenant.
    pub async fn tenant(&self, id: TenantId) -> Result<Option<Tenant>> {
        self.one(TENANT_GET.bind(params![id]), decode).await
    }

    /// A workspace's current tenant of a mode.
    pub async fn current_tenant(&self, workspace: WorkspaceId, mode: Mode) -> Result<Option<Tenant>> {
        self.one(TENANT_CURRENT.bind(params![workspace, mode.as_str()]), decode).await
    }

    /// The next free tenant id; another process may take it first, which is a unique violation at the insert.
    pub async fn next_tenant(&self) -> Result<TenantId> {
        Ok(TenantId(self.one(TENANT_LAST.bind(params![]), |row| row.int(0)).await?.unwrap_or(0) + 1))
    }

    /// A page of all tenants after `after`.
    pub async fn tenants(&self, after: TenantId, limit: u32) -> Result<Vec<Tenant>> {
        self.all(TENANT_PAGE.bind(params![after, limit]), decode).await
    }
}
