//! Workspaces.

use nephos_model::Timestamp;
use nephos_model::id::WorkspaceId;
use nephos_model::page::{Listed, Page};
use nephos_model::workspace::Workspace;

use crate::batch::{Miss, Statement};
use crate::convert::Model;
use crate::error::Result;
use crate::list::rows_max;
use crate::project::STALE;
use crate::value::Row;
use crate::{Store, params, sql};

/// The name is taken in the installation.
pub const NAME_TAKEN: Miss = Miss("workspace_name_taken");

macro_rules! columns {
    () => {
        "id, name, plan, suspended_at, version, created_at, updated_at"
    };
}

sql! {
    /// A new workspace, unless the name is taken.
    pub WORKSPACE_INSERT = "INSERT INTO workspaces (id, name, plan, suspended_at, version, created_at, updated_at)
        VALUES ($1, $2, $3, NULL, 1, $4, $4) ON CONFLICT (name) DO NOTHING";
    /// One workspace.
    indexed pub WORKSPACE_GET = concat!("SELECT ", columns!(), " FROM workspaces WHERE id = $1");
    /// One workspace by name.
    indexed pub WORKSPACE_NAMED = concat!("SELECT ", columns!(), " FROM workspaces WHERE name = $1");
    /// A page of workspaces.
    indexed pub WORKSPACE_LIST = concat!("SELECT ", columns!(),
        " FROM workspaces WHERE id < $1 ORDER BY id DESC LIMIT $2 OFFSET $3");
    /// How many there are; asked by the operator only.
    pub WORKSPACE_COUNT = "SELECT COUNT(*) FROM workspaces";
    /// Another plan or suspension.
    pub WORKSPACE_UPDATE = "UPDATE workspaces SET plan = $3, suspended_at = $4, version = version + 1, updated_at = $5
        WHERE id = $1 AND version = $2";
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

impl Store {
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
