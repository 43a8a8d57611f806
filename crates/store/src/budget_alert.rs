//! Budget alerts, and which of their thresholds were told.

use nephos_model::Timestamp;
use nephos_model::budget_alert::{ALERTS_MAX, BudgetAlert};
use nephos_model::id::{BudgetAlertId, WorkspaceId};
use nephos_model::page::{Listed, Page};
use nephos_model::tenant::TenantId;

use crate::batch::{Miss, Statement};
use crate::convert::Model;
use crate::error::Result;
use crate::list::rows_max;
use crate::project::STALE;
use crate::value::Row;
use crate::{Store, counter, params, sql};

/// The workspace has as many alerts as it may.
pub const FULL: Miss = Miss("budget_alerts_full");
/// Somebody else told of the threshold.
pub const TOLD: Miss = Miss("budget_alert_told");

macro_rules! columns {
    () => {
        "id, name, project_id, amount_microunits, thresholds, version, created_at, updated_at"
    };
}

sql! {
    /// A new alert.
    pub BUDGET_ALERT_INSERT = "INSERT INTO budget_alerts (tenant, id, name, project_id, amount_microunits, thresholds, version,
        created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, 1, $7, $7)";
    /// There are no more than so many, the new one included.
    pub BUDGET_ALERTS_WITHIN = "UPDATE counters SET value = value WHERE tenant = $1 AND noun = 'budget_alert' AND scope = ''
        AND value <= $2";
    /// Changes one that has its version.
    pub BUDGET_ALERT_UPDATE = "UPDATE budget_alerts SET name = $3, project_id = $4, amount_microunits = $5, thresholds = $6,
        version = version + 1, updated_at = $7 WHERE tenant = $1 AND id = $2 AND version = $8";
    /// No more alert.
    pub BUDGET_ALERT_DELETE = "DELETE FROM budget_alerts WHERE tenant = $1 AND id = $2 AND version = $3";
    /// Nor what it told.
    pub BUDGET_REACHED_DELETE = "DELETE FROM budget_reached WHERE tenant = $1 AND alert_id = $2";
    /// One alert.
    indexed pub BUDGET_ALERT_GET = concat!("SELECT ", columns!(), " FROM budget_alerts WHERE tenant = $1 AND id = $2");
    /// A page of alerts.
    indexed pub BUDGET_ALERT_LIST = concat!("SELECT ", columns!(),
        " FROM budget_alerts WHERE tenant = $1 AND id < $2 ORDER BY id DESC LIMIT $3 OFFSET $4");
    /// All of a tenant, which are few.
    indexed pub BUDGET_ALERT_ALL = concat!("SELECT ", columns!(), " FROM budget_alerts WHERE tenant = $1");
    /// What was told of a month.
    indexed pub BUDGET_REACHED_IN = "SELECT alert_id, threshold_percent FROM budget_reached WHERE tenant = $1 AND month = $2";
    /// Tells of a threshold, once.
    pub BUDGET_REACHED_INSERT = "INSERT INTO budget_reached (tenant, alert_id, month, threshold_percent, reached_at)
        SELECT tenant, id, CAST($3 AS TEXT), CAST($4 AS BIGINT), CAST($5 AS BIGINT) FROM budget_alerts
        WHERE tenant = $1 AND id = $2 ON CONFLICT DO NOTHING";
    /// What was told of months before.
    pub BUDGET_REACHED_FORGET = "DELETE FROM budget_reached WHERE tenant = $1 AND alert_id = $2 AND month < $3";
    /// Live workspaces that have alerts, in the order of their tenants.
    pub BUDGET_ALERT_TENANTS = "SELECT t.id, w.id, w.name FROM tenants t JOIN workspaces w ON w.id = t.workspace_id
        WHERE t.id > $1 AND t.mode = 'live' AND t.is_current = 1
        AND EXISTS (SELECT 1 FROM budget_alerts b WHERE b.tenant = t.id) ORDER BY t.id LIMIT $2";
}

fn decode(row: &Row) -> Result<BudgetAlert> {
    Ok(BudgetAlert {
        id: row.id(0)?,
        name: row.string(1)?,
        project_id: row.opt_id(2)?,
        amount_microunits: row.int(3)?,
        thresholds_percent: row.string(4)?.split(',').filter_map(|percent| percent.parse().ok()).collect(),
        version: row.int(5)?,
        created_at: row.time(6)?,
        updated_at: row.time(7)?,
    })
}

fn thresholds(a: &BudgetAlert) -> String {
    a.thresholds_percent.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Adds an alert and counts it, or misses with [`FULL`].
pub fn insert(tenant: TenantId, a: &BudgetAlert) -> Vec<Statement> {
    let row = params![tenant, a.id, &a.name, a.project_id, a.amount_microunits, thresholds(a), a.created_at];
    vec![
        BUDGET_ALERT_INSERT.bind(row),
        counter::add(tenant, "budget_alert", "", 1),
        BUDGET_ALERTS_WITHIN.bind(params![tenant, ALERTS_MAX]).must(1, FULL),
    ]
}

/// Writes an alert over that of a version, or misses with [`STALE`].
pub fn update(tenant: TenantId, a: &BudgetAlert, version: i64) -> Statement {
    let row = params![tenant, a.id, &a.name, a.project_id, a.amount_microunits, thresholds(a), a.updated_at, version];
    BUDGET_ALERT_UPDATE.bind(row).must(1, STALE)
}

/// Removes an alert that still has its version, or misses with [`STALE`].
pub fn delete(tenant: TenantId, a: &BudgetAlert) -> Vec<Statement> {
    vec![
        BUDGET_ALERT_DELETE.bind(params![tenant, a.id, a.version]).must(1, STALE),
        BUDGET_REACHED_DELETE.bind(params![tenant, a.id]),
        counter::add(tenant, "budget_alert", "", -1),
    ]
}

/// Notes that a threshold is told of a month, or misses with [`TOLD`]; what was told of months before is forgotten.
pub fn reach(tenant: TenantId, id: BudgetAlertId, month: &str, percent: i64, now: Timestamp) -> [Statement; 2] {
    [
        BUDGET_REACHED_INSERT.bind(params![tenant, id, month, percent, now]).must(1, TOLD),
        BUDGET_REACHED_FORGET.bind(params![tenant, id, month]),
    ]
}

/// A workspace that has alerts.
#[derive(Debug, Clone)]
pub struct Watched {
    /// Its live tenant.
    pub tenant: TenantId,
    /// The workspace.
    pub workspace_id: WorkspaceId,
    /// Its name.
    pub workspace: String,
}

impl Store {
    /// One alert.
    pub async fn budget_alert(&self, tenant: TenantId, id: BudgetAlertId) -> Result<Option<BudgetAlert>> {
        self.one(BUDGET_ALERT_GET.bind(params![tenant, id]), decode).await
    }

    /// A page of alerts, the newest first.
    pub async fn budget_alerts(&self, tenant: TenantId, page: &Page) -> Result<Listed<BudgetAlert>> {
        let rows = BUDGET_ALERT_LIST.bind(params![tenant, page.before(), rows_max(page), page.offset()]);
        self.page(rows, counter::get(tenant, "budget_alert", ""), page, decode).await
    }

    /// Every alert of a tenant.
    pub async fn every_budget_alert(&self, tenant: TenantId) -> Result<Vec<BudgetAlert>> {
        self.all(BUDGET_ALERT_ALL.bind(params![tenant]), decode).await
    }

    /// Which thresholds of a tenant's alerts were told of a month.
    pub async fn budgets_reached(&self, tenant: TenantId, month: &str) -> Result<Vec<(BudgetAlertId, i64)>> {
        self.all(BUDGET_REACHED_IN.bind(params![tenant, month]), |row| Ok((row.id(0)?, row.int(1)?))).await
    }

    /// Workspaces behind `after` that have alerts.
    pub async fn watched_budgets(&self, after: TenantId, count_max: u32) -> Result<Vec<Watched>> {
        self.all(BUDGET_ALERT_TENANTS.bind(params![after, i64::from(count_max)]), |row| {
            Ok(Watched { tenant: TenantId(row.int(0)?), workspace_id: row.id(1)?, workspace: row.string(2)? })
        })
        .await
    }
}
