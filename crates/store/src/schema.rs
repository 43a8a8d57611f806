//! The schema, as the list of migrations that make it.

use crate::Migration;

/// Every migration, the oldest first. A released one never changes.
pub const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "core", sql: include_str!("../migrations/0001_core.sql") },
    Migration { version: 2, name: "mail", sql: include_str!("../migrations/0002_mail.sql") },
    Migration { version: 3, name: "audit", sql: include_str!("../migrations/0003_audit.sql") },
    Migration { version: 4, name: "alterations", sql: include_str!("../migrations/0004_alterations.sql") },
    Migration { version: 5, name: "console", sql: include_str!("../migrations/0005_console.sql") },
    Migration { version: 6, name: "webhooks", sql: include_str!("../migrations/0006_webhooks.sql") },
    Migration { version: 7, name: "prices", sql: include_str!("../migrations/0007_prices.sql") },
    Migration { version: 8, name: "invoices", sql: include_str!("../migrations/0008_invoices.sql") },
    Migration { version: 9, name: "budget_alerts", sql: include_str!("../migrations/0009_budget_alerts.sql") },
    Migration { version: 10, name: "telemetry", sql: include_str!("../migrations/0010_telemetry.sql") },
];
