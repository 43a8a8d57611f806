//! What an epoch that is over leaves: the rows of its tenant, removed in bounded batches until nothing is left.
//!
//! Deliberately not here: keys, members and workspaces, which outlive an epoch.

use nephos_model::tenant::TenantId;

use crate::batch::Batch;
use crate::error::Result;
use crate::sequence::OVERTAKEN;
use crate::{Sql, Store, params, sql};

macro_rules! purged {
    ($($(#[$doc:meta])* $name:ident $left:ident = $table:literal ($key:literal);)*) => {
        sql! {
            $($(#[$doc])*
            pub $name = concat!("DELETE FROM ", $table, " WHERE tenant = $1 AND (", $key, ") IN (SELECT ", $key,
                " FROM ", $table, " WHERE tenant = $1 LIMIT $2) RETURNING tenant");
            /// How many rows a tenant has there.
            $left = concat!("SELECT COUNT(*) FROM ", $table, " WHERE tenant = $1");)*
        }
        /// How many rows a tenant has in each table.
        #[cfg(feature = "testing")]
        const LEFT: &[&Sql] = &[$(&$left,)*];
        /// Every table of a tenant's rows, in the order in which they are removed: first what makes others write more.
        pub const TABLES: &[(&str, &Sql)] = &[$(($table, &$name),)*];
    };
}

purged! {
    /// Removes some rows of `webhook_cursors`.
    PURGE_WEBHOOK_CURSORS LEFT_WEBHOOK_CURSORS = "webhook_cursors" ("tenant");
    /// Removes some rows of `webhook_queues`.
    PURGE_WEBHOOK_QUEUES LEFT_WEBHOOK_QUEUES = "webhook_queues" ("webhook_id");
    /// Removes some rows of `webhooks`.
    PURGE_WEBHOOKS LEFT_WEBHOOKS = "webhooks" ("id");
    /// Removes some rows of `deliveries`.
    PURGE_DELIVERIES LEFT_DELIVERIES = "deliveries" ("id");
    /// Removes some rows of `delivery_attempts`.
    PURGE_DELIVERY_ATTEMPTS LEFT_DELIVERY_ATTEMPTS = "delivery_attempts" ("delivery_id, number");
    /// Removes some rows of `work`.
    PURGE_WORK LEFT_WORK = "work" ("compute_id");
    /// Removes some rows of `alterations`.
    PURGE_ALTERATIONS LEFT_ALTERATIONS = "alterations" ("compute_id");
    /// Removes some rows of `removals`.
    PURGE_REMOVALS LEFT_REMOVALS = "removals" ("compute_id");
    /// Removes some rows of `computes`.
    PURGE_COMPUTES LEFT_COMPUTES = "computes" ("id");
    /// Removes some rows of `compute_labels`.
    PURGE_COMPUTE_LABELS LEFT_COMPUTE_LABELS = "compute_labels" ("name, value, compute_id");
    /// Removes some rows of `compute_counts`.
    PURGE_COMPUTE_COUNTS LEFT_COMPUTE_COUNTS = "compute_counts" ("project_id, environment_id, region, status");
    /// Removes some rows of `operations`.
    PURGE_OPERATIONS LEFT_OPERATIONS = "operations" ("id");
    /// Removes some rows of `environments`.
    PURGE_ENVIRONMENTS LEFT_ENVIRONMENTS = "environments" ("id");
    /// Removes some rows of `projects`.
    PURGE_PROJECTS LEFT_PROJECTS = "projects" ("id");
    /// Removes some rows of `tombstones`.
    PURGE_TOMBSTONES LEFT_TOMBSTONES = "tombstones" ("id");
    /// Removes some rows of `ssh_keys`.
    PURGE_SSH_KEYS LEFT_SSH_KEYS = "ssh_keys" ("id");
    /// Removes some rows of `meters`.
    PURGE_METERS LEFT_METERS = "meters" ("resource_id");
    /// Removes some rows of `ledger`.
    PURGE_LEDGER LEFT_LEDGER = "ledger" ("resource_id, entry_id");
    /// Removes some rows of `budget_alerts`.
    PURGE_BUDGET_ALERTS LEFT_BUDGET_ALERTS = "budget_alerts" ("id");
    /// Removes some rows of `budget_reached`.
    PURGE_BUDGET_REACHED LEFT_BUDGET_REACHED = "budget_reached" ("alert_id, month, threshold_percent");
    /// Removes some rows of `invoices`.
    PURGE_INVOICES LEFT_INVOICES = "invoices" ("id");
    /// Removes some rows of `invoice_closings`.
    PURGE_INVOICE_CLOSINGS LEFT_INVOICE_CLOSINGS = "invoice_closings" ("tenant");
    /// Removes some rows of `request_counts`.
    PURGE_REQUEST_COUNTS LEFT_REQUEST_COUNTS = "request_counts" ("day, project_id, key_id, surface");
    /// Removes some rows of `compute_telemetry`.
    PURGE_COMPUTE_TELEMETRY LEFT_COMPUTE_TELEMETRY = "compute_telemetry" ("compute_id, period_s, at_s");
    /// Removes some rows of `group_telemetry`.
    PURGE_GROUP_TELEMETRY LEFT_GROUP_TELEMETRY = "group_telemetry" ("period_s, at_s, environment_id, region");
    /// Removes some rows of `compute_counters`.
    PURGE_COMPUTE_COUNTERS LEFT_COMPUTE_COUNTERS = "compute_counters" ("compute_id");
    /// Removes some rows of `request_telemetry`.
    PURGE_REQUEST_TELEMETRY LEFT_REQUEST_TELEMETRY = "request_telemetry" ("at_s, operation, key_id, latency_range");
    /// Removes some rows of `idempotency`.
    PURGE_IDEMPOTENCY LEFT_IDEMPOTENCY = "idempotency" ("key_hash");
    /// Removes some rows of `events_pending`.
    PURGE_EVENTS_PENDING LEFT_EVENTS_PENDING = "events_pending" ("id");
    /// Removes some rows of `events`.
    PURGE_EVENTS LEFT_EVENTS = "events" ("id");
    /// Removes some rows of `audit_pending`.
    PURGE_AUDIT_PENDING LEFT_AUDIT_PENDING = "audit_pending" ("id");
    /// Removes some rows of `audit_log`.
    PURGE_AUDIT_LOG LEFT_AUDIT_LOG = "audit_log" ("seq");
    /// Removes some rows of `audit_cuts`.
    PURGE_AUDIT_CUTS LEFT_AUDIT_CUTS = "audit_cuts" ("tenant");
    /// Removes some rows of `counters`.
    PURGE_COUNTERS LEFT_COUNTERS = "counters" ("noun, scope");
    /// Removes some rows of `sequences`.
    PURGE_SEQUENCES LEFT_SEQUENCES = "sequences" ("tenant");
}

sql! {
    /// Nothing is left of a tenant whose epoch is over.
    pub TENANT_FORGET = "DELETE FROM tenants WHERE id = $1 AND is_current = 0";
    /// The tenant's epoch is over.
    TENANT_IS_OVER = "SELECT id FROM tenants WHERE id = $1 AND is_current = 0";
}

impl Store {
    /// Removes at most `rows_max` rows of one table of a tenant whose epoch is over, and the tenant itself when there are
    /// none; returns whether something may be left. Fails with [`OVERTAKEN`] when it is not over, or gone.
    pub async fn purge(&self, tenant: TenantId, rows_max: u32) -> Result<bool> {
        let over = || TENANT_IS_OVER.bind(params![tenant]).must(1, OVERTAKEN);
        for (_, purge) in TABLES {
            let batch = Batch::from(vec![over(), purge.bind(params![tenant, rows_max])]);
            if self.write(batch).await?.last().is_some_and(|rows| !rows.is_empty()) {
                return Ok(true);
            }
        }
        // Once more and together with its end: a sequencer may have given it numbers since.
        let last = PURGE_SEQUENCES.bind(params![tenant, rows_max]);
        self.write(Batch::from(vec![over(), last, TENANT_FORGET.bind(params![tenant])])).await?;
        Ok(false)
    }
}

#[cfg(feature = "testing")]
impl Store {
    /// How many rows there are of a tenant.
    pub async fn rows_of(&self, tenant: TenantId) -> Result<i64> {
        let counts = self.read_all(LEFT.iter().map(|left| left.bind(params![tenant])).collect()).await?;
        counts.iter().filter_map(|rows| rows.first()).map(|row| row.int(0)).sum()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_table_of_tenants_is_purged() {
        let mut there = Vec::new();
        for migration in crate::MIGRATIONS {
            for table in migration.sql.split("CREATE TABLE ").skip(1) {
                let (name, rest) = table.split_once(" (").unwrap_or_default();
                let columns = rest.split(");").next().unwrap_or_default();
                if columns.lines().any(|line| line.trim_start().starts_with("tenant ")) {
                    there.push(name);
                }
            }
        }
        let mut purged: Vec<_> = super::TABLES.iter().map(|(table, _)| *table).collect();
        there.sort_unstable();
        purged.sort_unstable();
        assert_eq!(there, purged, "a table with tenants' rows is in the list of what a reset removes, and no other is");
    }
}
