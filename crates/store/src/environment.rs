//! Environments of projects.

use nephos_model::Timestamp;
use nephos_model::id::{EnvironmentId, ProjectId};
use nephos_model::page::{Listed, Page};
use nephos_model::project::Environment;
use nephos_model::tenant::TenantId;

use crate::batch::{Miss, Statement};
use crate::convert::Model;
use crate::error::Result;
use crate::list::rows_max;
use crate::project::{NOT_EMPTY, STALE};
use crate::value::Row;
use crate::{Store, counter, params, sql};

/// The project has as many as it may.
pub const FULL: Miss = Miss("environments_full");
/// The name is taken in the project.
pub const NAME_TAKEN: Miss = Miss("environment_name_taken");

macro_rules! columns {
    () => {
        "id, project_id, name, version, created_at, updated_at"
    };
}

sql! {
    /// A new environment, unless the name is taken.
    pub ENVIRONMENT_INSERT = "INSERT INTO environments (tenant, id, project_id, name, version, created_at, updated_at)
        VALUES ($1, $2, $3, $4, 1, $5, $5) ON CONFLICT (tenant, project_id, name) DO NOTHING";
    /// One environment.
    indexed pub ENVIRONMENT_GET = concat!("SELECT ", columns!(), " FROM environments WHERE tenant = $1 AND id = $2");
    /// One environment of a project, by name.
    indexed pub ENVIRONMENT_NAMED = concat!("SELECT ", columns!(),
        " FROM environments WHERE tenant = $1 AND project_id = $2 AND name = $3");
    /// A page of a project's environments.
    indexed pub ENVIRONMENT_LIST = concat!("SELECT ", columns!(), " FROM environments
        WHERE tenant = $1 AND project_id = $5 AND id < $2 ORDER BY id DESC LIMIT $3 OFFSET $4");
    /// A page of at most one: what a key narrowed to an environment sees, or those with a name.
    indexed pub ENVIRONMENT_LIST_FILTERED = concat!("SELECT ", columns!(), " FROM environments
        WHERE tenant = $1 AND project_id = $5 AND id < $2 AND (CAST($6 AS TEXT) IS NULL OR id = $6)
        AND (CAST($7 AS TEXT) IS NULL OR name = $7) ORDER BY id DESC LIMIT $3 OFFSET $4");
    /// How many of those.
    indexed pub ENVIRONMENT_COUNT_FILTERED = "SELECT COUNT(*) FROM environments
        WHERE tenant = $1 AND project_id = $2 AND (CAST($3 AS TEXT) IS NULL OR id = $3)
        AND (CAST($4 AS TEXT) IS NULL OR name = $4)";
    /// Another name, unless it is taken.
    pub ENVIRONMENT_RENAME = "UPDATE environments SET name = $4, version = version + 1, updated_at = $5
        WHERE tenant = $1 AND id = $2 AND version = $3";
    /// No more environment.
    pub ENVIRONMENT_DELETE = "DELETE FROM environments WHERE tenant = $1 AND id = $2 AND version = $3";
    /// No more environments of a project.
    pub ENVIRONMENTS_DELETE_ALL = "DELETE FROM environments WHERE tenant = $1 AND project_id = $2";
    /// No more counters of computes in a project's environments.
    pub COMPUTE_COUNTERS_DELETE_ALL = "DELETE FROM counters WHERE tenant = $1 AND noun = 'compute'
        AND scope IN (SELECT id FROM environments WHERE tenant = $1 AND project_id = $2)";
    /// A project's number of environments, if it is within a limit.
    pub ENVIRONMENTS_WITHIN = "UPDATE counters SET value = value
        WHERE tenant = $1 AND noun = 'environment' AND scope = $2 AND value <= $3";
    /// Takes the row's lock in the transaction that puts something into the environment.
    pub ENVIRONMENT_HOLD = "UPDATE environments SET version = version WHERE tenant = $1 AND id = $2";
}

fn decode(row: &Row) -> Result<Environment> {
    Ok(Environment {
        id: row.id(0)?,
        project_id: row.id(1)?,
        name: row.string(2)?,
        version: row.int(3)?,
        created_at: row.time(4)?,
        updated_at: row.time(5)?,
    })
}

/// Adds an environment and counts it, or misses with [`NAME_TAKEN`].
pub fn insert(tenant: TenantId, environment: &Environment) -> Vec<Statement> {
    let Environment { id, project_id, name, created_at, .. } = environment;
    vec![
        ENVIRONMENT_INSERT.bind(params![tenant, *id, *project_id, name, *created_at]).must(1, NAME_TAKEN),
        counter::add(tenant, "environment", project_id.to_string(), 1),
        counter::add(tenant, "compute", id.to_string(), 0),
    ]
}

/// Renames an environment that still has `version`, or misses with [`STALE`]; a taken name is a unique violation.
pub fn rename(tenant: TenantId, id: EnvironmentId, version: i64, name: &str, now: Timestamp) -> Statement {
    ENVIRONMENT_RENAME.bind(params![tenant, id, version, name, now]).must(1, STALE)
}

/// A project has at most `limit` environments, or misses with [`FULL`].
pub fn at_most(tenant: TenantId, project: ProjectId, limit: i64) -> Statement {
    ENVIRONMENTS_WITHIN.bind(params![tenant, project, limit]).must(1, FULL)
}

/// Holds an environment that something is put into; misses with [`STALE`] when it is gone.
pub fn hold(tenant: TenantId, id: EnvironmentId) -> Statement {
    ENVIRONMENT_HOLD.bind(params![tenant, id]).must(1, STALE)
}

/// Removes an environment that still has its version, or misses with [`STALE`], and no computes, or misses with
/// [`NOT_EMPTY`].
pub fn delete(tenant: TenantId, environment: &Environment) -> Vec<Statement> {
    vec![
        ENVIRONMENT_DELETE.bind(params![tenant, environment.id, environment.version]).must(1, STALE),
        counter::forget_zero(tenant, "compute", environment.id.to_string()).must(1, NOT_EMPTY),
        counter::add(tenant, "environment", environment.project_id.to_string(), -1),
        crate::compute::forget_counts(tenant, environment.project_id, Some(environment.id)),
    ]
}

impl Store {
    /// One environment.
    pub async fn environment(&self, tenant: TenantId, id: EnvironmentId) -> Result<Option<Environment>> {
        self.one(ENVIRONMENT_GET.bind(params![tenant, id]), decode).await
    }

    /// One environment of a project, by its name.
    pub async fn environment_named(
        &self,
        tenant: TenantId,
        project: ProjectId,
        name: &str,
    ) -> Result<Option<Environment>> {
        self.one(ENVIRONMENT_NAMED.bind(params![tenant, project, name]), decode).await
    }

    /// A page of a project's environments, newest first; `only` is what a narrowed key sees.
    pub async fn environments(
        &self,
        tenant: TenantId,
        project: ProjectId,
        only: Option<EnvironmentId>,
        name: Option<&str>,
        page: &Page,
    ) -> Result<Listed<Environment>> {
        let mut values = params![tenant, page.before(), rows_max(page), page.offset(), project];
        let (rows, total) = if only.is_none() && name.is_none() {
            (ENVIRONMENT_LIST.bind(values), counter::get(tenant, "environment", project.to_string()))
        } else {
            values.extend(params![only, name]);
            (
                ENVIRONMENT_LIST_FILTERED.bind(values),
                ENVIRONMENT_COUNT_FILTERED.bind(params![tenant, project, only, name]),
            )
        };
        self.page(rows, total, page, decode).await
    }
}
