//! What usage reports are made of: counted requests, metered intervals, and the projects that there were.

use nephos_model::id::{EnvironmentId, KeyId, ProjectId};
use nephos_model::tenant::TenantId;

use crate::batch::Statement;
use crate::convert::Model;
use crate::error::Result;
use crate::value::Row;
use crate::{Store, counter, params, sql};

/// Rows of the ledger that are read at once.
const LEDGER_ROWS_MAX: usize = 4_096;
/// Names that are looked up at once.
const NAMES_MAX: usize = 256;

sql! {
    /// Adds to the requests of a day, unless the tenant's epoch is over.
    pub REQUESTS_ADD = "INSERT INTO request_counts (tenant, day, project_id, key_id, surface, requests)
        SELECT t.id, CAST($2 AS BIGINT), CAST($3 AS TEXT), CAST($4 AS TEXT), CAST($5 AS TEXT), CAST($6 AS BIGINT)
        FROM tenants t WHERE t.id = $1 AND t.is_current = 1
        ON CONFLICT (tenant, day, project_id, key_id, surface)
        DO UPDATE SET requests = request_counts.requests + excluded.requests";
    /// Requests of some days by project; of one key, or all.
    pub REQUESTS_BY_PROJECT = "SELECT project_id, CAST(SUM(requests) AS BIGINT) FROM request_counts
        WHERE tenant = $1 AND day >= $2 AND day < $3 AND (CAST($4 AS TEXT) IS NULL OR key_id = $4) GROUP BY project_id";
    /// Requests of some days by day; of one key or all, of one project or all.
    pub REQUESTS_BY_DAY = "SELECT day, CAST(SUM(requests) AS BIGINT) FROM request_counts
        WHERE tenant = $1 AND day >= $2 AND day < $3 AND (CAST($4 AS TEXT) IS NULL OR key_id = $4)
        AND (CAST($5 AS TEXT) IS NULL OR project_id = $5) GROUP BY day";
    /// A tenant's open intervals.
    indexed pub METERS_OPEN = "SELECT resource_id, from_s, project_id, environment_id, item, microunits_per_hour, size,
        region FROM meters WHERE tenant = $1";
    /// Closed intervals that reach into a time, in the order of their ends.
    indexed pub LEDGER_PAGE = "SELECT resource_id, from_s, project_id, environment_id, item, microunits_per_hour, size,
        region, to_s, entry_id FROM ledger WHERE tenant = $1 AND (to_s, resource_id, entry_id) > ($2, $3, $4) AND from_s < $5
        ORDER BY to_s, resource_id, entry_id LIMIT $6";
    /// How many projects there were at a time and are there still.
    indexed pub PROJECTS_SINCE = "SELECT COUNT(*) FROM projects WHERE tenant = $1 AND created_at < $2";
    /// How many projects there were at a time that are gone now.
    indexed pub PROJECTS_GONE = "SELECT COUNT(*) FROM tombstones WHERE tenant = $1 AND id >= 'prj_' AND id < 'prj~'
        AND created_at < $2 AND deleted_at >= $2";
    /// The name of a project that is or was there.
    indexed pub PROJECT_NAME_EVER = "SELECT name FROM projects WHERE tenant = $1 AND id = $2
        UNION ALL SELECT name FROM tombstones WHERE tenant = $1 AND id = $2";
}

/// A metered interval: whole seconds since 1970, half open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interval {
    /// The resource.
    pub resource_id: String,
    /// Its first second.
    pub from_s: i64,
    /// The second after its last; `None` while it is open.
    pub to_s: Option<i64>,
    /// The resource's project.
    pub project_id: ProjectId,
    /// The resource's environment.
    pub environment_id: EnvironmentId,
    /// What was metered: `compute.running` or `compute.stopped`.
    pub item: String,
    /// The resource's size then.
    pub size: String,
    /// The resource's region.
    pub region: String,
    /// The price that was written with it, in millionths of the currency: that of a second for which no list has one.
    pub microunits_per_hour: i64,
}

pub(crate) fn decode_open(row: &Row) -> Result<Interval> {
    Ok(Interval {
        resource_id: row.string(0)?,
        from_s: row.int(1)?,
        to_s: None,
        project_id: row.id(2)?,
        environment_id: row.id(3)?,
        item: row.string(4)?,
        microunits_per_hour: row.int(5)?,
        size: row.string(6)?,
        region: row.string(7)?,
    })
}

/// A place in the ledger: whatever comes after it ended later.
#[derive(Debug, Clone)]
pub struct LedgerPlace {
    to_s: i64,
    resource_id: String,
    entry_id: String,
}

impl LedgerPlace {
    /// The place before every interval that ends after `second`.
    pub fn after(second: i64) -> Self {
        // The text that sorts after every id.
        Self { to_s: second, resource_id: "~".to_owned(), entry_id: String::new() }
    }
}

/// Adds to the requests of a day; no project and no key are empty texts.
pub fn add_requests(
    tenant: TenantId,
    day: i64,
    project: Option<ProjectId>,
    key: Option<KeyId>,
    surface: &'static str,
    requests: i64,
) -> Statement {
    let project = project.map(|p| p.to_string()).unwrap_or_default();
    let key = key.map(|k| k.to_string()).unwrap_or_default();
    REQUESTS_ADD.bind(params![tenant, day, project, key, surface, requests])
}

impl Store {
    /// Requests of the days from `from_day` to before `to_day`, by project; of one key, or all.
    pub async fn requests_by_project(
        &self,
        tenant: TenantId,
        from_day: i64,
        to_day: i64,
        key: Option<KeyId>,
    ) -> Result<Vec<(Option<ProjectId>, i64)>> {
        self.all(REQUESTS_BY_PROJECT.bind(params![tenant, from_day, to_day, key]), |row| {
            let project = if row.text(0)?.is_empty() { None } else { Some(row.id(0)?) };
            Ok((project, row.int(1)?))
        })
        .await
    }

    /// Requests of the days from `from_day` to before `to_day`, by day; of one key or all, of one project or all.
    pub async fn requests_by_day(
        &self,
        tenant: TenantId,
        days: std::ops::Range<i64>,
        key: Option<KeyId>,
        project: Option<ProjectId>,
    ) -> Result<Vec<(i64, i64)>> {
        let rows = REQUESTS_BY_DAY.bind(params![tenant, days.start, days.end, key, project]);
        self.all(rows, |row| Ok((row.int(0)?, row.int(1)?))).await
    }

    /// A tenant's open intervals.
    pub async fn open_intervals(&self, tenant: TenantId) -> Result<Vec<Interval>> {
        self.all(METERS_OPEN.bind(params![tenant]), decode_open).await
    }

    /// Closed intervals after a place that began before `before_s`, and the place to go on from, if there may be more.
    pub async fn closed_intervals(
        &self,
        tenant: TenantId,
        place: &LedgerPlace,
        before_s: i64,
    ) -> Result<(Vec<Interval>, Option<LedgerPlace>)> {
        let LedgerPlace { to_s, resource_id, entry_id } = place;
        let limit = i64::try_from(LEDGER_ROWS_MAX).unwrap_or(i64::MAX);
        let statement = LEDGER_PAGE.bind(params![tenant, *to_s, resource_id, entry_id, before_s, limit]);
        let rows = self.read(statement).await?;
        let mut intervals = Vec::with_capacity(rows.len());
        for row in &rows {
            intervals.push(Interval { to_s: Some(row.int(8)?), ..decode_open(row)? });
        }
        let next = match rows.last() {
            Some(last) if rows.len() == LEDGER_ROWS_MAX => {
                Some(LedgerPlace { to_s: last.int(8)?, resource_id: last.string(0)?, entry_id: last.string(9)? })
            }
            _ => None,
        };
        Ok((intervals, next))
    }

    /// How many projects a tenant has.
    pub async fn projects_now(&self, tenant: TenantId) -> Result<i64> {
        Ok(self.one(counter::get(tenant, "project", ""), |row| row.int(0)).await?.unwrap_or(0))
    }

    /// How many projects a tenant had at a time, in microseconds since 1970.
    pub async fn projects_at(&self, tenant: TenantId, at: nephos_model::Timestamp) -> Result<i64> {
        let statements = vec![PROJECTS_SINCE.bind(params![tenant, at]), PROJECTS_GONE.bind(params![tenant, at])];
        let answers = self.read_all(statements).await?;
        answers.iter().filter_map(|rows| rows.first()).map(|row| row.int(0)).sum()
    }

    /// The names of projects that are or were there, in the order of `ids`.
    pub async fn project_names(&self, tenant: TenantId, ids: &[ProjectId]) -> Result<Vec<Option<String>>> {
        let mut names = Vec::with_capacity(ids.len());
        for some in ids.chunks(NAMES_MAX) {
            let statements = some.iter().map(|id| PROJECT_NAME_EVER.bind(params![tenant, *id])).collect();
            for rows in self.read_all(statements).await? {
                names.push(rows.first().map(|row| row.string(0)).transpose()?);
            }
        }
        Ok(names)
    }
}
