//! Workspaces.

use nephos_model::Timestamp;
use nephos_model::id::WorkspaceId;
use nephos_model::page::{Listed, Page};
use nephos_model::role::Role;
use nephos_model::tenant::TenantId;
use nephos_model::workspace::Workspace;

use crate::batch::{Miss, Statement};
use crate::convert::Model;
use crate::error::Result;
use crate::list::rows_max;
use crate::project::STALE;
use crate::value::Row;
use crate::{Store, counter, params, sql};

/// The name is taken in the installation.
pub const NAME_TAKEN: Miss = Miss("workspace_name_taken");
/// A workspace would be left without an Owner.
pub const LAST_OWNER: Miss = Miss("last_owner");

macro_rules! columns {
    () => {
        "id, name, plan, suspended_at, version, created_at, updated_at"
    };
}

sql! {
    /// A new workspace, unless the name is taken.
    pub WORKSPACE_INSERT = "INSERT INTO workspaces (id, name, plan, suspended_at, owners, seats, version, created_at,
        updated_at) VALUES ($1, $2, $3, NULL, 0, 0, 1, $4, $4) ON CONFLICT (name) DO NOTHING";
    /// One workspace.
    indexed pub WORKSPACE_GET = concat!("SELECT ", columns!(), " FROM workspaces WHERE id = $1 AND deleted_at IS NULL");
    /// One workspace by name.
    indexed pub WORKSPACE_NAMED = concat!("SELECT ", columns!(), " FROM workspaces WHERE name = $1 AND deleted_at IS NULL");
    /// A page of workspaces.
    indexed pub WORKSPACE_LIST = concat!("SELECT ", columns!(),
        " FROM workspaces WHERE id < $1 AND deleted_at IS NULL ORDER BY id DESC LIMIT $2 OFFSET $3");
    /// How many there are; asked by the operator only.
    pub WORKSPACE_COUNT = "SELECT COUNT(*) FROM workspaces WHERE deleted_at IS NULL";
    /// Another plan or suspension.
    pub WORKSPACE_UPDATE = "UPDATE workspaces SET plan = $3, suspended_at = $4, version = version + 1, updated_at = $5
        WHERE id = $1 AND version = $2 AND deleted_at IS NULL";
    /// Another name; one that is taken is a unique violation.
    pub WORKSPACE_RENAME = "UPDATE workspaces SET name = $3, version = version + 1, updated_at = $4
        WHERE id = $1 AND version = $2 AND deleted_at IS NULL";
    /// No more workspace: nothing finds it, and its name is free.
    pub WORKSPACE_DELETE = "UPDATE workspaces SET deleted_at = $3, name = id, version = version + 1, updated_at = $3
        WHERE id = $1 AND version = $2 AND deleted_at IS NULL";
    /// A row while the workspace was not deleted.
    pub WORKSPACE_LIVES = "SELECT id FROM workspaces WHERE id = $1 AND deleted_at IS NULL";
    /// Takes the lock that whoever makes a compute takes.
    pub COMPUTES_LOCK = "UPDATE counters SET value = value WHERE tenant = $1 AND noun = 'quota.computes' AND scope = ''";
    /// A row when there is a compute.
    pub COMPUTES_ANY = "SELECT id FROM computes WHERE tenant = $1 LIMIT 1";
    /// Takes the row's lock in the transaction that changes who belongs to the workspace.
    pub WORKSPACE_HOLD = "UPDATE workspaces SET version = version WHERE id = $1 AND deleted_at IS NULL";
    /// More or fewer members and invitations, up to a limit.
    pub WORKSPACE_SEATS = "UPDATE workspaces SET seats = seats + $2 WHERE id = $1 AND seats + $2 <= $3";
    /// More or fewer Owners, and never none.
    pub WORKSPACE_OWNERS = "UPDATE workspaces SET owners = owners + $2 WHERE id = $1 AND owners + $2 >= 1";
    /// Members and pending invitations.
    indexed pub WORKSPACE_SEATS_GET = "SELECT seats FROM workspaces WHERE id = $1";
}

fn decode(row: &Row) -> Result<Workspace> {
    Ok(Workspace {
        id: row.id(0)?,
        name: row.string(1)?,
        plan: row.string(2)?,
        suspended_at: row.opt_time(3)?,
        version: row.int(4)?,
        created_at: row.time(5)?,
        updated_at: row.time(6)?,
    })
}

/// Adds a workspace, or misses with [`NAME_TAKEN`].
pub fn insert(w: &Workspace) -> Statement {
    WORKSPACE_INSERT.bind(params![w.id, &w.name, &w.plan, w.created_at]).must(1, NAME_TAKEN)
}

/// Gives a workspace that still has its version another plan or suspension, or misses with [`STALE`].
pub fn update(w: &Workspace, plan: &str, suspended_at: Option<Timestamp>, now: Timestamp) -> Statement {
    WORKSPACE_UPDATE.bind(params![w.id, w.version, plan, suspended_at, now]).must(1, STALE)
}

/// Gives a workspace that still has its version another name, or misses with [`STALE`].
pub fn rename(w: &Workspace, name: &str, now: Timestamp) -> Statement {
    WORKSPACE_RENAME.bind(params![w.id, w.version, name, now]).must(1, STALE)
}

/// Removes a workspace that still has its version, or misses with [`STALE`].
pub fn delete(w: &Workspace, now: Timestamp) -> Statement {
    WORKSPACE_DELETE.bind(params![w.id, w.version, now]).must(1, STALE)
}

/// Nobody makes a compute in the tenant until the batch is committed. Whoever waited finds by [`lives`] that there is no
/// workspace any more.
pub fn lock_computes(tenant: TenantId) -> Statement {
    COMPUTES_LOCK.bind(params![tenant]).must(1, STALE)
}

/// The tenant has no compute, or this misses with [`STALE`].
pub fn without_computes(tenant: TenantId) -> Statement {
    COMPUTES_ANY.bind(params![tenant]).must(0, STALE)
}

/// The workspace was not deleted, or this misses with [`STALE`]; to be asked after the quota of computes was taken.
pub fn lives(id: WorkspaceId) -> Statement {
    WORKSPACE_LIVES.bind(params![id]).must(1, STALE)
}

/// The first statement of a batch that changes who belongs to a workspace; misses with [`STALE`] when it was deleted.
pub fn hold(id: WorkspaceId) -> Statement {
    WORKSPACE_HOLD.bind(params![id]).must(1, STALE)
}

/// Takes `by` seats, of which there are `limit` at most, or misses with [`counter::QUOTA`].
pub fn take_seats(id: WorkspaceId, by: i64, limit: i64) -> Statement {
    WORKSPACE_SEATS.bind(params![id, by, limit]).must(1, counter::QUOTA)
}

/// Gives `by` seats back.
pub fn free_seats(id: WorkspaceId, by: i64) -> Statement {
    WORKSPACE_SEATS.bind(params![id, -by, i64::MAX])
}

/// A member's role ceases to be `before` and begins to be `after`: the Owners are counted, and it misses with
/// [`LAST_OWNER`] when none would be left.
pub(crate) fn count_owner(id: WorkspaceId, before: Option<Role>, after: Option<Role>) -> Option<Statement> {
    let by = i64::from(after == Some(Role::Owner)) - i64::from(before == Some(Role::Owner));
    (by != 0).then(|| WORKSPACE_OWNERS.bind(params![id, by]).must(1, LAST_OWNER))
}

impl Store {
    /// Members and pending invitations of a workspace.
    pub async fn seats(&self, id: WorkspaceId) -> Result<i64> {
        Ok(self.one(WORKSPACE_SEATS_GET.bind(params![id]), |row| row.int(0)).await?.unwrap_or(0))
    }

    /// One workspace.
    pub async fn workspace(&self, id: WorkspaceId) -> Result<Option<Workspace>> {
        self.one(WORKSPACE_GET.bind(params![id]), decode).await
    }

    /// One workspace by its name.
    pub async fn workspace_named(&self, name: &str) -> Result<Option<Workspace>> {
        self.one(WORKSPACE_NAMED.bind(params![name]), decode).await
    }

    /// A page of all workspaces, newest first.
    pub async fn workspaces(&self, page: &Page) -> Result<Listed<Workspace>> {
        let rows = WORKSPACE_LIST.bind(params![page.before(), rows_max(page), page.offset()]);
        self.page(rows, WORKSPACE_COUNT.bind(params![]), page, decode).await
    }
}
