//! What must hold between the rows of a database at any moment, whatever was killed before: each invariant is a question
//! whose answer is the rows that break it.
//!
//! Deliberately not here: what clients were promised. Only a test that kept their answers knows that.

use std::fmt::Write as _;

use nephos_model::Timestamp;

use crate::{Row, Store, params, sql};

/// Rows that one broken invariant is shown with, at most.
const SHOWN_MAX: usize = 5;

sql! {
    KEPT_ANSWERS = "SELECT body FROM idempotency ORDER BY key_hash";
}

macro_rules! counted {
    ($name:ident, $noun:literal, $scope:literal, $from:literal) => {
        sql! {
            $name = concat!("SELECT t.id, k.value, (SELECT COUNT(*) FROM ", $from, " r WHERE r.tenant = t.id) AS rows_there
                FROM tenants t LEFT JOIN counters k ON k.tenant = t.id AND k.noun = '", $noun, "' AND k.scope = '", $scope,
                "' WHERE t.is_current = 1 AND COALESCE(k.value, 0) <> (SELECT COUNT(*) FROM ", $from,
                " r WHERE r.tenant = t.id)");
        }
    };
}

counted!(COUNTED_PROJECTS, "project", "", "projects");
counted!(COUNTED_COMPUTES, "compute", "", "computes");
counted!(COUNTED_SSH_KEYS, "ssh_key", "", "ssh_keys");
counted!(COUNTED_OPERATIONS, "operation", "", "operations");
counted!(COUNTED_EVENTS, "event", "", "events");
sql! {
    QUOTA_PROJECTS = "SELECT t.id, k.value FROM tenants t
        LEFT JOIN counters k ON k.tenant = t.id AND k.noun = 'quota.projects' AND k.scope = ''
        WHERE COALESCE(k.value, 0) <> (SELECT COUNT(*) FROM projects p WHERE p.tenant = t.id)
        + (SELECT COUNT(*) FROM operations o WHERE o.tenant = t.id AND o.kind = 'project.delete' AND o.ended_at IS NULL)";
    COUNTED_KINDS = "SELECT k.tenant, k.environment_id, k.status, k.value FROM compute_counts k
        WHERE k.value <> (SELECT COUNT(*) FROM computes c WHERE c.tenant = k.tenant AND c.project_id = k.project_id
            AND c.environment_id = k.environment_id AND c.region = k.region AND c.status = k.status)";
    COUNTED_ALL_KINDS = "SELECT t.id FROM tenants t
        WHERE (SELECT COUNT(*) FROM computes c WHERE c.tenant = t.id)
        <> (SELECT CAST(COALESCE(SUM(k.value), 0) AS BIGINT) FROM compute_counts k WHERE k.tenant = t.id)";
    COUNTED_LABELS = "SELECT k.tenant, k.scope, k.value FROM counters k WHERE k.noun = 'compute.label'
        AND k.value <> (SELECT COUNT(*) FROM compute_labels l WHERE l.tenant = k.tenant AND l.name || ':' || l.value = k.scope)";
}
counted!(QUOTA_SSH_KEYS, "quota.ssh_keys", "", "ssh_keys");
counted!(COUNTED_WEBHOOKS, "webhook", "", "webhooks");
counted!(QUOTA_WEBHOOKS, "quota.webhooks", "", "webhooks");

/// The end of a condition: not a row of an epoch that is over, which is removed in parts.
macro_rules! kept {
    ($tenant:literal) => {
        concat!(" AND ", $tenant, " NOT IN (SELECT id FROM tenants WHERE is_current = 0)")
    };
}

/// A compute that is resized holds the larger of what it has and what it will have.
macro_rules! held {
    ($of:literal) => {
        concat!(
            "CAST(COALESCE(SUM(CASE WHEN a.",
            $of,
            " > c.",
            $of,
            " THEN a.",
            $of,
            " ELSE c.",
            $of,
            " END), 0) AS BIGINT)
            FROM computes c LEFT JOIN alterations a ON a.tenant = c.tenant AND a.compute_id = c.id"
        )
    };
}

macro_rules! promised {
    ($name:ident, $noun:literal, $of:literal) => {
        sql! {
            $name = concat!("SELECT t.id, k.value FROM tenants t
                LEFT JOIN counters k ON k.tenant = t.id AND k.noun = '", $noun, "' AND k.scope = ''
                WHERE t.is_current = 1 AND COALESCE(k.value, 0) <> (
                    SELECT ", held!($of), " WHERE c.tenant = t.id)
                + (SELECT CAST(COALESCE(SUM(", $of, "), 0) AS BIGINT) FROM removals c WHERE c.tenant = t.id)");
        }
    };
}

promised!(QUOTA_VCPUS, "quota.vcpus", "vcpus");
promised!(QUOTA_MEMORY, "quota.memory_mib", "memory_mib");
promised!(QUOTA_DISK, "quota.disk_gib", "disk_gib");
sql! {
    QUOTA_COMPUTES = "SELECT t.id, k.value FROM tenants t
        LEFT JOIN counters k ON k.tenant = t.id AND k.noun = 'quota.computes' AND k.scope = ''
        WHERE t.is_current = 1 AND COALESCE(k.value, 0) <> (SELECT COUNT(*) FROM computes c WHERE c.tenant = t.id)
        + (SELECT COUNT(*) FROM removals r WHERE r.tenant = t.id)";
}

macro_rules! admitted {
    ($name:ident, $of:literal) => {
        sql! {
            $name = concat!("SELECT r.region, r.", $of, " FROM capacity r
                WHERE r.", $of, " <> (SELECT ", held!($of), "
                    JOIN tenants t ON t.id = c.tenant WHERE t.mode = 'live' AND c.region = r.region)
                + (SELECT CAST(COALESCE(SUM(c.", $of, "), 0) AS BIGINT) FROM removals c
                    JOIN tenants t ON t.id = c.tenant WHERE t.mode = 'live' AND c.region = r.region)");
        }
    };
}

admitted!(ADMITTED_VCPUS, "vcpus");
admitted!(ADMITTED_MEMORY, "memory_mib");
admitted!(ADMITTED_DISK, "disk_gib");

sql! {
    COUNTED_BY_PROJECT = concat!("SELECT p.tenant, p.id, k.value FROM projects p
        LEFT JOIN counters k ON k.tenant = p.tenant AND k.noun = 'compute' AND k.scope = p.id
        WHERE COALESCE(k.value, -1) <> (SELECT COUNT(*) FROM computes c WHERE c.tenant = p.tenant AND c.project_id = p.id)", kept!("p.tenant"));
    COUNTED_BY_ENVIRONMENT = concat!("SELECT e.tenant, e.id, k.value FROM environments e
        LEFT JOIN counters k ON k.tenant = e.tenant AND k.noun = 'compute' AND k.scope = e.id
        WHERE COALESCE(k.value, -1) <> (SELECT COUNT(*) FROM computes c
            WHERE c.tenant = e.tenant AND c.environment_id = e.id)", kept!("e.tenant"));
    COUNTED_ENVIRONMENTS = concat!("SELECT p.tenant, p.id, k.value FROM projects p
        LEFT JOIN counters k ON k.tenant = p.tenant AND k.noun = 'environment' AND k.scope = p.id
        WHERE COALESCE(k.value, 0) <> (SELECT COUNT(*) FROM environments e
            WHERE e.tenant = p.tenant AND e.project_id = p.id)", kept!("p.tenant"));
    NEGATIVE = concat!("SELECT tenant, noun, scope, value FROM counters WHERE value < 0", kept!("tenant"));
    COUNTER_OF_NOBODY = concat!("SELECT k.tenant, k.noun, k.scope FROM counters k WHERE k.scope <> ''
        AND k.noun NOT IN ('compute.label', 'delivery') AND NOT EXISTS (SELECT 1 FROM projects p WHERE p.tenant = k.tenant AND p.id = k.scope)
        AND NOT EXISTS (SELECT 1 FROM environments e WHERE e.tenant = k.tenant AND e.id = k.scope)", kept!("k.tenant"));

    HOMELESS_ENVIRONMENT = concat!("SELECT e.tenant, e.id FROM environments e
        WHERE NOT EXISTS (SELECT 1 FROM projects p WHERE p.tenant = e.tenant AND p.id = e.project_id)", kept!("e.tenant"));
    HOMELESS_COMPUTE = concat!("SELECT c.tenant, c.id FROM computes c WHERE NOT EXISTS (SELECT 1 FROM environments e
        WHERE e.tenant = c.tenant AND e.id = c.environment_id AND e.project_id = c.project_id)", kept!("c.tenant"));
    LABEL_OF_NOBODY = concat!("SELECT l.tenant, l.compute_id FROM compute_labels l
        WHERE NOT EXISTS (SELECT 1 FROM computes c WHERE c.tenant = l.tenant AND c.id = l.compute_id)", kept!("l.tenant"));
    ALTERATION_OF_NOBODY = concat!("SELECT a.tenant, a.compute_id FROM alterations a WHERE NOT EXISTS (SELECT 1 FROM computes c
        WHERE c.tenant = a.tenant AND c.id = a.compute_id AND c.status IN ('resizing', 'rebuilding'))", kept!("a.tenant"));
    DELETED_AND_THERE = "SELECT r.tenant, r.compute_id FROM removals r
        JOIN computes c ON c.tenant = r.tenant AND c.id = r.compute_id";
    PROJECT_DELETED_AND_THERE = "SELECT d.tenant, d.id FROM tombstones d
        JOIN projects p ON p.tenant = d.tenant AND p.id = d.id";

    COMPUTE_THAT_NOBODY_LOOKS_AFTER = concat!("SELECT c.tenant, c.id FROM computes c
        WHERE NOT EXISTS (SELECT 1 FROM work w WHERE w.compute_id = c.id AND w.tenant = c.tenant AND w.region = c.region)", kept!("c.tenant"));
    REMOVAL_THAT_NOBODY_LOOKS_AFTER = concat!("SELECT r.tenant, r.compute_id FROM removals r
        WHERE NOT EXISTS (SELECT 1 FROM work w WHERE w.compute_id = r.compute_id AND w.tenant = r.tenant)", kept!("r.tenant"));
    WORK_FOR_NOTHING = concat!("SELECT w.tenant, w.compute_id FROM work w
        WHERE NOT EXISTS (SELECT 1 FROM computes c WHERE c.tenant = w.tenant AND c.id = w.compute_id)
        AND NOT EXISTS (SELECT 1 FROM removals r WHERE r.tenant = w.tenant AND r.compute_id = w.compute_id)", kept!("w.tenant"));
    WORK_THAT_SLEEPS_ON = concat!("SELECT w.tenant, w.compute_id, w.due_at FROM work w
        LEFT JOIN computes c ON c.tenant = w.tenant AND c.id = w.compute_id
        WHERE w.due_at = $1 AND (c.id IS NULL OR c.operation_id IS NOT NULL)", kept!("w.tenant"));
    LEASE_WITHOUT_END = "SELECT compute_id, lease_owner, lease_until_at FROM work
        WHERE lease_until_at > $1 OR (lease_owner IS NOT NULL AND due_at > lease_until_at)";
    NAMED_LEASE_WITHOUT_END = "SELECT name, owner, until_at FROM leases WHERE until_at > $1";

    OPERATION_THAT_NOBODY_ENDS = concat!("SELECT o.tenant, o.id, o.kind, o.status FROM operations o WHERE o.ended_at IS NULL
        AND NOT EXISTS (SELECT 1 FROM computes c WHERE c.tenant = o.tenant AND c.operation_id = o.id)
        AND NOT EXISTS (SELECT 1 FROM removals r WHERE r.tenant = o.tenant AND r.operation_id = o.id)", kept!("o.tenant"));
    OPERATION_ENDED_AND_UNDER_WAY = concat!("SELECT c.tenant, c.id, o.id, o.status FROM computes c
        JOIN operations o ON o.tenant = c.tenant AND o.id = c.operation_id WHERE o.ended_at IS NOT NULL", kept!("c.tenant"));
    OPERATION_MISSING = concat!("SELECT c.tenant, c.id, c.operation_id FROM computes c WHERE c.operation_id IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM operations o WHERE o.tenant = c.tenant AND o.id = c.operation_id)", kept!("c.tenant"));
    OPERATION_OF_TWO_MINDS = "SELECT tenant, id, status, ended_at FROM operations
        WHERE (ended_at IS NULL) <> (status IN ('pending', 'running'))
        OR (status = 'failed') <> (error_code IS NOT NULL)";
    REMOVAL_ENDED_AND_THERE = concat!("SELECT r.tenant, r.compute_id FROM removals r
        JOIN operations o ON o.tenant = r.tenant AND o.id = r.operation_id WHERE o.ended_at IS NOT NULL", kept!("r.tenant"));

    EVENT_GAP = "SELECT e.tenant, COUNT(*), MIN(e.seq), MAX(e.seq), MAX(s.event_seq) FROM events e
        LEFT JOIN sequences s ON s.tenant = e.tenant
        WHERE e.tenant NOT IN (SELECT id FROM tenants WHERE is_current = 0) GROUP BY e.tenant
        HAVING COUNT(*) <> MAX(e.seq) - MIN(e.seq) + 1 OR MAX(e.seq) <> COALESCE(MAX(s.event_seq), 0)";
    EVENT_TWICE = "SELECT p.tenant, p.id FROM events_pending p JOIN events e ON e.tenant = p.tenant AND e.id = p.id";
    AUDIT_GAP = "SELECT a.tenant, COUNT(*), MIN(a.seq), MAX(a.seq), MAX(s.audit_seq) FROM audit_log a
        LEFT JOIN sequences s ON s.tenant = a.tenant
        WHERE a.tenant NOT IN (SELECT id FROM tenants WHERE is_current = 0) GROUP BY a.tenant
        HAVING COUNT(*) <> MAX(a.seq) - MIN(a.seq) + 1 OR MAX(a.seq) <> COALESCE(MAX(s.audit_seq), 0)";
    AUDIT_TWICE = "SELECT p.tenant, p.id FROM audit_pending p JOIN audit_log a ON a.tenant = p.tenant AND a.id = p.id";

    COUNTED_DELIVERIES = concat!("SELECT w.tenant, w.id, k.value FROM webhooks w
        LEFT JOIN counters k ON k.tenant = w.tenant AND k.noun = 'delivery' AND k.scope = w.id
        WHERE COALESCE(k.value, 0) <> (SELECT COUNT(*) FROM deliveries d WHERE d.tenant = w.tenant AND d.webhook_id = w.id)",
        kept!("w.tenant"));
    ENDPOINTS_COUNTED = concat!("SELECT c.tenant, c.endpoints FROM webhook_cursors c
        WHERE c.endpoints <> (SELECT COUNT(*) FROM webhooks w WHERE w.tenant = c.tenant)", kept!("c.tenant"));
    WEBHOOK_WITHOUT_QUEUE = concat!("SELECT w.tenant, w.id FROM webhooks w WHERE NOT EXISTS (SELECT 1 FROM webhook_queues q
        WHERE q.webhook_id = w.id AND q.tenant = w.tenant)", kept!("w.tenant"));
    DELIVERY_THAT_NOBODY_TRIES = concat!("SELECT d.tenant, d.id, d.due_at, q.due_at FROM deliveries d
        JOIN webhooks w ON w.tenant = d.tenant AND w.id = d.webhook_id AND w.status = 'enabled'
        JOIN webhook_queues q ON q.webhook_id = d.webhook_id WHERE d.status = 'pending' AND q.due_at > d.due_at",
        kept!("d.tenant"));
    DELIVERY_OF_TWO_MINDS = "SELECT tenant, id, status, ended_at, attempts FROM deliveries
        WHERE (status = 'pending') <> (ended_at IS NULL) OR (attempts > 0) <> (tried_at IS NOT NULL)
        OR (status = 'succeeded' AND attempts = 0)";
    ATTEMPTS_MISSING = concat!("SELECT d.tenant, d.id, d.attempts FROM deliveries d WHERE d.attempts > 1 AND d.attempts - 1 <>
        (SELECT COUNT(*) FROM delivery_attempts a WHERE a.tenant = d.tenant AND a.delivery_id = d.id)", kept!("d.tenant"));

    METER_OF_NOBODY = concat!("SELECT m.tenant, m.resource_id FROM meters m
        WHERE NOT EXISTS (SELECT 1 FROM computes c WHERE c.tenant = m.tenant AND c.id = m.resource_id)", kept!("m.tenant"));
    RUNNING_UNMETERED = concat!("SELECT c.tenant, c.id FROM computes c WHERE c.status = 'running' AND NOT EXISTS
        (SELECT 1 FROM meters m WHERE m.tenant = c.tenant AND m.resource_id = c.id AND m.item = 'compute.running')", kept!("c.tenant"));
    LEDGER_BACKWARDS = "SELECT tenant, resource_id, entry_id FROM ledger WHERE to_s <= from_s";
    LEDGER_TWICE = "SELECT a.tenant, a.resource_id, a.entry_id, b.entry_id FROM ledger a JOIN ledger b
        ON b.tenant = a.tenant AND b.resource_id = a.resource_id AND b.entry_id <> a.entry_id
        WHERE b.from_s < a.to_s AND a.from_s <= b.from_s";
    QUOTA_API_KEYS = "SELECT t.id, k.value FROM tenants t
        LEFT JOIN counters k ON k.tenant = t.id AND k.noun = 'quota.api_keys' AND k.scope = ''
        WHERE t.is_current = 1 AND COALESCE(k.value, 0) <> (SELECT COUNT(*) FROM api_keys a
            WHERE a.workspace_id = t.workspace_id AND a.mode = t.mode AND a.revoked_at IS NULL)";
    WORKSPACE_OWNERS_COUNTED = "SELECT w.id, w.owners FROM workspaces w WHERE w.deleted_at IS NULL AND (w.owners < 1
        OR w.owners <> (SELECT COUNT(*) FROM members m WHERE m.workspace_id = w.id AND m.role = 'owner'))";
    WORKSPACE_SEATS_COUNTED = "SELECT w.id, w.seats FROM workspaces w WHERE w.deleted_at IS NULL AND
        w.seats <> (SELECT COUNT(*) FROM members m WHERE m.workspace_id = w.id)
            + (SELECT COUNT(*) FROM invitations i WHERE i.workspace_id = w.id)";
    KEY_OF_NOBODY = "SELECT k.id, k.member_id FROM api_keys k WHERE k.revoked_at IS NULL
        AND NOT EXISTS (SELECT 1 FROM members m WHERE m.id = k.member_id AND m.workspace_id = k.workspace_id)";
    LEDGER_AND_METER = "SELECT l.tenant, l.resource_id, l.entry_id FROM ledger l
        JOIN meters m ON m.tenant = l.tenant AND m.resource_id = l.resource_id WHERE l.to_s > m.from_s";
}

/// What is wrong between the rows, one line each with some of the rows that break it; empty when all is sound. Holds at
/// any moment, also right after a kill. `lease_until` is the latest end that a lease may have.
///
/// # Panics
///
/// When the database cannot be asked.
pub async fn broken(store: &Store, lease_until: Timestamp) -> Vec<String> {
    let plain = [
        &COUNTED_PROJECTS,
        &COUNTED_COMPUTES,
        &COUNTED_SSH_KEYS,
        &COUNTED_WEBHOOKS,
        &QUOTA_WEBHOOKS,
        &COUNTED_DELIVERIES,
        &ENDPOINTS_COUNTED,
        &WEBHOOK_WITHOUT_QUEUE,
        &DELIVERY_THAT_NOBODY_TRIES,
        &DELIVERY_OF_TWO_MINDS,
        &ATTEMPTS_MISSING,
        &COUNTED_OPERATIONS,
        &COUNTED_EVENTS,
        &QUOTA_PROJECTS,
        &QUOTA_SSH_KEYS,
        &QUOTA_API_KEYS,
        &QUOTA_COMPUTES,
        &QUOTA_VCPUS,
        &QUOTA_MEMORY,
        &QUOTA_DISK,
        &ADMITTED_VCPUS,
        &ADMITTED_MEMORY,
        &ADMITTED_DISK,
        &COUNTED_BY_PROJECT,
        &COUNTED_BY_ENVIRONMENT,
        &COUNTED_ENVIRONMENTS,
        &NEGATIVE,
        &COUNTER_OF_NOBODY,
        &HOMELESS_ENVIRONMENT,
        &HOMELESS_COMPUTE,
        &LABEL_OF_NOBODY,
        &ALTERATION_OF_NOBODY,
        &DELETED_AND_THERE,
        &PROJECT_DELETED_AND_THERE,
        &COMPUTE_THAT_NOBODY_LOOKS_AFTER,
        &REMOVAL_THAT_NOBODY_LOOKS_AFTER,
        &WORK_FOR_NOTHING,
        &OPERATION_THAT_NOBODY_ENDS,
        &OPERATION_ENDED_AND_UNDER_WAY,
        &OPERATION_MISSING,
        &OPERATION_OF_TWO_MINDS,
        &REMOVAL_ENDED_AND_THERE,
        &EVENT_GAP,
        &EVENT_TWICE,
        &AUDIT_GAP,
        &AUDIT_TWICE,
        &METER_OF_NOBODY,
        &RUNNING_UNMETERED,
        &LEDGER_BACKWARDS,
        &LEDGER_TWICE,
        &LEDGER_AND_METER,
        &COUNTED_KINDS,
        &COUNTED_ALL_KINDS,
        &COUNTED_LABELS,
        &WORKSPACE_OWNERS_COUNTED,
        &WORKSPACE_SEATS_COUNTED,
        &KEY_OF_NOBODY,
    ];
    let mut questions: Vec<_> = plain.iter().map(|sql| sql.bind([])).collect();
    questions.push(WORK_THAT_SLEEPS_ON.bind(params![crate::work::IDLE]));
    questions.push(LEASE_WITHOUT_END.bind(params![lease_until]));
    questions.push(NAMED_LEASE_WITHOUT_END.bind(params![lease_until]));
    let names: Vec<_> = questions.iter().map(|question| question.sql().name).collect();
    // One snapshot for all: the server may be at work.
    let answers = store.read_all(questions).await.expect("the database answers");
    let mut found = Vec::new();
    for (name, rows) in names.into_iter().zip(answers).filter(|(_, rows)| !rows.is_empty()) {
        let mut line = format!("{name}: {} rows, such as", rows.len());
        for row in rows.iter().take(SHOWN_MAX) {
            let values: Vec<_> = (0..row.columns()).map(|column| shown(row, column)).collect();
            // Writing to a String cannot fail.
            let _ = write!(line, " ({})", values.join(", "));
        }
        found.push(line);
    }
    found
}

/// The bodies that are kept for idempotency keys, as they are kept.
///
/// # Panics
/// When they can't be read.
pub async fn kept_answers(store: &Store) -> Vec<Vec<u8>> {
    let rows = store.read(KEPT_ANSWERS.bind([])).await.expect("the database answers");
    rows.iter().map(|row| row.blob(0).expect("a body").to_vec()).collect()
}

fn shown(row: &Row, column: usize) -> String {
    row.int(column)
        .map(|number| number.to_string())
        .or_else(|_| row.text(column).map(str::to_owned))
        .unwrap_or_default()
}
