//! Metering: one open interval a resource, and the ledger of closed ones, written with the state change.
//!
//! Intervals are whole seconds and half open, so the parts of any division of time sum to the whole.

use nephos_model::id::{ComputeId, EnvironmentId, OperationId, ProjectId};
use nephos_model::tenant::TenantId;

use crate::batch::Statement;
use crate::{params, sql};

sql! {
    /// Closes the open interval into the ledger, unless it is empty. It ends after every month that has an invoice, whatever a
    /// clock that stepped back says.
    pub METER_CLOSE = "INSERT INTO ledger (tenant, resource_id, from_s, to_s, project_id, environment_id, item, size, region,
        microunits_per_hour, entry_id)
        SELECT m.tenant, m.resource_id, m.from_s, CASE WHEN c.before_s > $3 THEN c.before_s ELSE $3 END, m.project_id,
        m.environment_id, m.item, m.size, m.region, m.microunits_per_hour, $4
        FROM meters m CROSS JOIN (SELECT COALESCE(MAX(closed_before_s), 0) AS before_s FROM invoice_closings WHERE tenant = $1) c
        WHERE m.tenant = $1 AND m.resource_id = $2
        AND m.from_s < CASE WHEN c.before_s > $3 THEN c.before_s ELSE $3 END";
    /// Forgets the open interval.
    pub METER_STOP = "DELETE FROM meters WHERE tenant = $1 AND resource_id = $2";
    /// Opens an interval after every month that has an invoice; one that began later than now (the clock stepped back) keeps
    /// its beginning.
    pub METER_OPEN = "INSERT INTO meters (tenant, resource_id, project_id, environment_id, item, size, region,
        microunits_per_hour, from_s)
        SELECT CAST($1 AS BIGINT), CAST($2 AS TEXT), CAST($3 AS TEXT), CAST($4 AS TEXT), CAST($5 AS TEXT), CAST($6 AS TEXT),
        CAST($7 AS TEXT), CAST($8 AS BIGINT), CASE WHEN c.before_s > $9 THEN c.before_s ELSE $9 END
        FROM (SELECT COALESCE(MAX(closed_before_s), 0) AS before_s FROM invoice_closings WHERE tenant = $1) c WHERE TRUE
        ON CONFLICT (tenant, resource_id) DO UPDATE SET item = excluded.item, size = excluded.size,
        microunits_per_hour = excluded.microunits_per_hour,
        from_s = CASE WHEN meters.from_s > excluded.from_s THEN meters.from_s ELSE excluded.from_s END";
}

/// What is metered of a resource from now on.
#[derive(Debug, Clone)]
pub struct Meter<'a> {
    /// The resource.
    pub resource_id: ComputeId,
    /// Its project.
    pub project_id: ProjectId,
    /// Its environment.
    pub environment_id: EnvironmentId,
    /// What is metered: `compute.running` or `compute.stopped`.
    pub item: &'static str,
    /// Its size.
    pub size: &'a str,
    /// Its region.
    pub region: &'a str,
    /// The price from now on, in millionths of the currency.
    pub microunits_per_hour: i64,
}

/// From `now_s` (seconds since 1970) on, this is metered; what was before is closed. `entry` makes the ledger's row
/// unique: the same change repeated writes the same row.
pub fn turn(tenant: TenantId, meter: &Meter<'_>, now_s: i64, entry: &str) -> [Statement; 2] {
    let m = meter;
    [
        METER_CLOSE.bind(params![tenant, m.resource_id, now_s, entry]),
        METER_OPEN.bind(params![
            tenant,
            m.resource_id,
            m.project_id,
            m.environment_id,
            m.item,
            m.size,
            m.region,
            m.microunits_per_hour,
            now_s
        ]),
    ]
}

/// Nothing is metered of the resource from `now_s` on.
pub fn stop(tenant: TenantId, id: ComputeId, now_s: i64, operation: OperationId) -> [Statement; 2] {
    [METER_CLOSE.bind(params![tenant, id, now_s, operation.to_string()]), METER_STOP.bind(params![tenant, id])]
}
