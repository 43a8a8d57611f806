//! Projects.

use nephos_model::Timestamp;
use nephos_model::id::ProjectId;
use nephos_model::page::{Listed, Page};
use nephos_model::project::Project;
use nephos_model::tenant::TenantId;

use crate::batch::{Miss, Statement};
use crate::convert::Model;
use crate::error::Result;
use crate::list::rows_max;
use crate::value::Row;
use crate::{Store, counter, params, sql};

/// The row changed since it was read.
pub const STALE: Miss = Miss("stale");
/// Something still lives in the project or environment.
pub const NOT_EMPTY: Miss = Miss("not_empty");

macro_rules! columns {
    () => {
        "id, name, is_default, version, created_at, updated_at"
    };
}

sql! {
    /// A new project.
    pub PROJECT_INSERT = "INSERT INTO projects (tenant, id, name, is_default, version, created_at, updated_at)
        VALUES ($1, $2, $3, $4, 1, $5, $5)";
    /// One project.
    indexed pub PROJECT_GET = concat!("SELECT ", columns!(), " FROM projects WHERE tenant = $1 AND id = $2");
    /// The first project of a tenant.
    indexed pub PROJECT_DEFAULT = concat!("SELECT ", columns!(),
        " FROM projects WHERE tenant = $1 AND is_default = 1 ORDER BY id LIMIT 1");
    /// A page of projects.
    indexed pub PROJECT_LIST = concat!("SELECT ", columns!(),
        " FROM projects WHERE tenant = $1 AND id < $2 ORDER BY id DESC LIMIT $3 OFFSET $4");
    /// A page of projects with a name.
    indexed pub PROJECT_LIST_NAMED = concat!("SELECT ", columns!(),
        " FROM projects WHERE tenant = $1 AND name = $5 AND id < $2 ORDER BY id DESC LIMIT $3 OFFSET $4");
    /// How many have a name.
    indexed pub PROJECT_COUNT_NAMED = "SELECT COUNT(*) FROM projects WHERE tenant = $1 AND name = $2";
    /// At most one project: what a narrowed key sees.
    indexed pub PROJECT_LIST_ONE = concat!("SELECT ", columns!(), " FROM projects
        WHERE tenant = $1 AND id = $5 AND id < $2 AND (CAST($6 AS TEXT) IS NULL OR name = $6)
        ORDER BY id DESC LIMIT $3 OFFSET $4");
    /// Whether that one is there.
    indexed pub PROJECT_COUNT_ONE = "SELECT COUNT(*) FROM projects
        WHERE tenant = $1 AND id = $2 AND (CAST($3 AS TEXT) IS NULL OR name = $3)";
    /// Another name.
    pub PROJECT_RENAME = "UPDATE projects SET name = $4, version = version + 1, updated_at = $5
        WHERE tenant = $1 AND id = $2 AND version = $3";
    /// No more project.
    pub PROJECT_DELETE = "DELETE FROM projects WHERE tenant = $1 AND id = $2 AND version = $3 AND is_default = 0";
    /// Takes the row's lock in the transaction that puts something into the project, so that a deletion waits.
    pub PROJECT_HOLD = "UPDATE projects SET version = version WHERE tenant = $1 AND id = $2";
    /// What a deleted project was called.
    pub TOMBSTONE_INSERT = "INSERT INTO tombstones (tenant, id, name, created_at, deleted_at)
        VALUES ($1, $2, $3, $4, $5) ON CONFLICT (tenant, id) DO NOTHING";
}

fn decode(row: &Row) -> Result<Project> {
    Ok(Project {
        id: row.id(0)?,
        name: row.string(1)?,
        is_default: row.flag(2)?,
        version: row.int(3)?,
        created_at: row.time(4)?,
        updated_at: row.time(5)?,
    })
}

/// Adds a project and counts it.
pub fn insert(tenant: TenantId, project: &Project) -> Vec<Statement> {
    let Project { id, name, is_default, created_at, .. } = project;
    vec![
        PROJECT_INSERT.bind(params![tenant, *id, name, *is_default, *created_at]),
        counter::add(tenant, "project", "", 1),
        counter::add(tenant, "compute", id.to_string(), 0),
    ]
}

/// Renames a project that still has `version`, or misses with [`STALE`].
pub fn rename(tenant: TenantId, id: ProjectId, version: i64, name: &str, now: Timestamp) -> Statement {
    PROJECT_RENAME.bind(params![tenant, id, version, name, now]).must(1, STALE)
}

/// Holds a project that something is put into; misses with [`STALE`] when it is gone.
pub fn hold(tenant: TenantId, id: ProjectId) -> Statement {
    PROJECT_HOLD.bind(params![tenant, id]).must(1, STALE)
}

/// Removes a project that still has its version, or misses with [`STALE`], and no computes, or misses with
/// [`NOT_EMPTY`]; its name is kept for usage reports. That it is empty is read off its counter: a row that whoever
/// makes a compute changes too, so that on neither engine one can slip in.
pub fn delete(tenant: TenantId, project: &Project, now: Timestamp) -> Vec<Statement> {
    vec![
        PROJECT_DELETE.bind(params![tenant, project.id, project.version]).must(1, STALE),
        counter::forget_zero(tenant, "compute", project.id.to_string()).must(1, NOT_EMPTY),
        TOMBSTONE_INSERT.bind(params![tenant, project.id, &project.name, project.created_at, now]),
        counter::add(tenant, "project", "", -1),
        counter::forget(tenant, "environment", project.id.to_string()),
        crate::compute::forget_counts(tenant, project.id, None),
        crate::environment::COMPUTE_COUNTERS_DELETE_ALL.bind(params![tenant, project.id]),
        crate::environment::ENVIRONMENTS_DELETE_ALL.bind(params![tenant, project.id]),
    ]
}

/// Which projects a list holds.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only this one: what a narrowed key sees.
    pub only: Option<ProjectId>,
    /// Only those with this name.
    pub name: Option<String>,
}

impl Store {
    /// One project.
    pub async fn project(&self, tenant: TenantId, id: ProjectId) -> Result<Option<Project>> {
        self.one(PROJECT_GET.bind(params![tenant, id]), decode).await
    }

    /// The tenant's first project.
    pub async fn default_project(&self, tenant: TenantId) -> Result<Option<Project>> {
        self.one(PROJECT_DEFAULT.bind(params![tenant]), decode).await
    }

    /// A page of projects, newest first.
    pub async fn projects(&self, tenant: TenantId, filter: &Filter, page: &Page) -> Result<Listed<Project>> {
        let base = params![tenant, page.before(), rows_max(page), page.offset()];
        let with = |more: Vec<crate::Value>| base.iter().cloned().chain(more).collect::<Vec<_>>();
        let (rows, total) = match filter {
            Filter { only: Some(id), name } => (
                PROJECT_LIST_ONE.bind(with(params![*id, name.clone()])),
                PROJECT_COUNT_ONE.bind(params![tenant, *id, name.clone()]),
            ),
            Filter { only: None, name: Some(name) } => {
                (PROJECT_LIST_NAMED.bind(with(params![name])), PROJECT_COUNT_NAMED.bind(params![tenant, name]))
            }
            Filter { only: None, name: None } => (PROJECT_LIST.bind(base), counter::get(tenant, "project", "")),
        };
        self.page(rows, total, page, decode).await
    }
}
