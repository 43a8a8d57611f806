//! Webhook endpoints of a tenant, how far its events have been given to them, and when each wants to be looked at.
//!
//! Deliberately not here: deliveries, see [`crate::delivery`].

use nephos_model::Timestamp;
use nephos_model::id::{EnvironmentId, ProjectId, WebhookId};
use nephos_model::page::{Listed, Page};
use nephos_model::tenant::TenantId;
use nephos_model::webhook::Webhook;

use crate::batch::{Miss, Statement};
use crate::convert::Model;
use crate::error::Result;
use crate::list::rows_max;
use crate::project::STALE;
use crate::sequence::OVERTAKEN;
use crate::value::Row;
use crate::{Store, counter, params, sql};

/// Somebody else gives this tenant's events to its endpoints, or looks at this endpoint.
pub const LEASED: Miss = Miss("webhook_leased");

/// Due never.
pub const IDLE: Timestamp = Timestamp::from_micros(i64::MAX);

macro_rules! columns {
    () => {
        "w.id, w.url, w.description, w.event_types, w.project_id, w.environment_id, w.status, w.previous_until_at,
         w.version, w.created_at, w.updated_at"
    };
}

macro_rules! residual {
    () => {
        " AND (CAST($5 AS TEXT) IS NULL OR w.project_id = $5) AND (CAST($6 AS TEXT) IS NULL OR w.environment_id = $6)
          AND (CAST($7 AS TEXT) IS NULL OR (w.status = 'enabled' AND $7 = 'enabled')
            OR (w.status <> 'enabled' AND $7 <> 'enabled')) "
    };
}

sql! {
    /// A new endpoint.
    pub WEBHOOK_INSERT = "INSERT INTO webhooks (tenant, id, url, description, event_types, project_id, environment_id,
        status, sealed_secret, sealed_previous, previous_until_at, version, created_at, updated_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, NULL, NULL, 1, $10, $10)";
    /// One endpoint.
    indexed pub WEBHOOK_GET = concat!("SELECT ", columns!(), " FROM webhooks w WHERE w.tenant = $1 AND w.id = $2");
    /// One endpoint with its sealed secrets.
    indexed pub WEBHOOK_SEALED = "SELECT w.sealed_secret FROM webhooks w WHERE w.tenant = $1 AND w.id = $2";
    /// A page of endpoints.
    indexed pub WEBHOOK_LIST = concat!("SELECT ", columns!(), " FROM webhooks w WHERE w.tenant = $1 AND w.id < $2 ",
        residual!(), " ORDER BY w.id DESC LIMIT $3 OFFSET $4");
    /// How many match.
    indexed pub WEBHOOK_COUNT = concat!("SELECT COUNT(*) FROM (SELECT 1 FROM webhooks w WHERE w.tenant = $1 AND w.id < $2 ",
        residual!(), " LIMIT $3 OFFSET $4) AS matching");
    /// Every endpoint of a tenant that gets events, with what it needs to be sent some.
    indexed pub WEBHOOKS_ENABLED = concat!("SELECT ", columns!(), ", w.sealed_secret, w.sealed_previous
        FROM webhooks w WHERE w.tenant = $1 AND w.status = 'enabled' ORDER BY w.id LIMIT $2");
    /// One endpoint that gets events, if its tenant is not over, and how far the tenant's clock is ahead.
    indexed pub WEBHOOK_TO_SEND = concat!("SELECT ", columns!(), ", w.sealed_secret, w.sealed_previous, t.clock_ahead_us
        FROM webhooks w JOIN tenants t ON t.id = w.tenant AND t.is_current = 1
        WHERE w.tenant = $1 AND w.id = $2 AND w.status = 'enabled'");
    /// Changes an endpoint; compare-and-set.
    pub WEBHOOK_UPDATE = "UPDATE webhooks SET url = $4, description = $5, event_types = $6, project_id = $7,
        environment_id = $8, status = $9, version = version + 1, updated_at = $10
        WHERE tenant = $1 AND id = $2 AND version = $3";
    /// Another secret; the one before signs too until a time.
    pub WEBHOOK_ROTATE = "UPDATE webhooks SET sealed_previous = sealed_secret, sealed_secret = $4,
        previous_until_at = $5, version = version + 1, updated_at = $6 WHERE tenant = $1 AND id = $2 AND version = $3";
    /// The endpoint still is as it was read.
    pub WEBHOOK_HOLD = "UPDATE webhooks SET version = version WHERE tenant = $1 AND id = $2 AND version = $3";
    /// No more endpoint.
    pub WEBHOOK_DELETE = "DELETE FROM webhooks WHERE tenant = $1 AND id = $2 AND version = $3";

    /// A tenant has `$2` more endpoints; the first gets what comes from now on.
    pub CURSOR_OPEN = "INSERT INTO webhook_cursors (tenant, seq, endpoints, version, lease_owner, lease_until_at)
        VALUES ($1, COALESCE((SELECT event_seq FROM sequences WHERE tenant = $1), 0), $2, 1, '', 0)
        ON CONFLICT (tenant) DO UPDATE SET endpoints = webhook_cursors.endpoints + excluded.endpoints,
        version = webhook_cursors.version + 1";
    /// The endpoints of a tenant changed.
    pub CURSOR_CHANGED = "UPDATE webhook_cursors SET endpoints = endpoints + $2, version = version + 1 WHERE tenant = $1";
    /// How far a tenant's events have been given to its endpoints.
    indexed pub CURSOR_GET = "SELECT c.seq, c.version, COALESCE(s.event_seq, 0) FROM webhook_cursors c
        JOIN tenants t ON t.id = c.tenant AND t.is_current = 1 LEFT JOIN sequences s ON s.tenant = c.tenant
        WHERE c.tenant = $1 AND c.endpoints > 0";
    /// Tenants that have endpoints.
    indexed pub CURSORS = "SELECT c.tenant FROM webhook_cursors c WHERE c.tenant > $1 AND c.endpoints > 0
        ORDER BY c.tenant LIMIT $2";
    /// Tenants that have or had endpoints.
    indexed pub CURSORS_ALL = "SELECT c.tenant FROM webhook_cursors c WHERE c.tenant > $1 ORDER BY c.tenant LIMIT $2";
    /// The cursor goes on; compare-and-set.
    pub CURSOR_MOVE = "UPDATE webhook_cursors SET seq = $3 WHERE tenant = $1 AND seq = $2";
    /// Takes or keeps the right to give a tenant's events to its endpoints.
    pub CURSOR_LEASE = "UPDATE webhook_cursors SET lease_owner = $2, lease_until_at = $3
        WHERE tenant = $1 AND (lease_owner = $2 OR lease_until_at <= $4)";

    /// A new endpoint has nothing waiting.
    pub QUEUE_OPEN = "INSERT INTO webhook_queues (webhook_id, tenant, due_at, version, lease_owner, lease_until_at)
        VALUES ($1, $2, $3, 1, '', 0)";
    /// No more endpoint.
    pub QUEUE_CLOSE = "DELETE FROM webhook_queues WHERE webhook_id = $1 AND tenant = $2";
    /// The endpoint wants to be looked at, at this time at the latest.
    pub QUEUE_WANT = "UPDATE webhook_queues SET due_at = CASE WHEN due_at > $3 THEN $3 ELSE due_at END,
        version = version + 1 WHERE webhook_id = $1 AND tenant = $2";
    /// The same after a failure: since when there are nothing but failures.
    pub QUEUE_FAILED = "UPDATE webhook_queues SET due_at = CASE WHEN due_at > $3 THEN $3 ELSE due_at END,
        version = version + 1, failing_since_at = COALESCE(failing_since_at, $4) WHERE webhook_id = $1 AND tenant = $2";
    /// It took something.
    pub QUEUE_WORKS = "UPDATE webhook_queues SET failing_since_at = NULL
        WHERE webhook_id = $1 AND tenant = $2 AND failing_since_at IS NOT NULL";
    /// Events after one number, up to another, are wanted again.
    pub QUEUE_RECOVER = "UPDATE webhook_queues SET recover_after = CASE WHEN recover_after < $3 THEN recover_after ELSE $3
        END, recover_through = COALESCE((SELECT seq FROM webhook_cursors WHERE tenant = $2), 0), due_at = $4,
        version = version + 1 WHERE webhook_id = $1 AND tenant = $2";
    /// How far that is; nothing is left when no number is given.
    pub QUEUE_RECOVERED = "UPDATE webhook_queues SET recover_after = $3 WHERE webhook_id = $1 AND tenant = $2
        AND recover_after = $4";
    /// Nothing is to be done for it.
    pub QUEUE_REST = "UPDATE webhook_queues SET due_at = $3, version = version + 1 WHERE webhook_id = $1 AND tenant = $2";
    /// The same, when nothing came between.
    pub QUEUE_REST_UNLESS = "UPDATE webhook_queues SET due_at = $3 WHERE webhook_id = $1 AND tenant = $2 AND version = $4";
    /// What is due of an endpoint next, when nothing came between.
    pub QUEUE_NEXT = "UPDATE webhook_queues SET due_at = CASE WHEN recover_after IS NOT NULL THEN 0 ELSE
        COALESCE((SELECT MIN(d.due_at) FROM deliveries d WHERE d.webhook_id = webhook_queues.webhook_id
        AND d.status = 'pending'), $3) END WHERE webhook_id = $1 AND version = $2";
    /// What is due of an endpoint, whatever came between: it wants another look, at this time at the latest.
    pub QUEUE_AGAIN = "UPDATE webhook_queues SET due_at = CASE WHEN due_at > $3 THEN $3 ELSE due_at END
        WHERE webhook_id = $1 AND version <> $2";
    /// Gives the lease back.
    pub QUEUE_RELEASE = "UPDATE webhook_queues SET lease_until_at = 0 WHERE webhook_id = $1 AND lease_owner = $2";
    /// Takes or keeps the right to look at an endpoint.
    pub QUEUE_LEASE = "UPDATE webhook_queues SET lease_owner = $2, lease_until_at = $3
        WHERE webhook_id = $1 AND (lease_owner = $2 OR lease_until_at <= $4)";
    /// One endpoint's.
    indexed pub QUEUE_GET = "SELECT version, failing_since_at, recover_after, recover_through FROM webhook_queues
        WHERE webhook_id = $1 AND tenant = $2";
    /// Endpoints that want to be looked at, the longest due first.
    indexed pub QUEUES_DUE = "SELECT webhook_id, tenant FROM webhook_queues WHERE due_at <= $1 AND lease_until_at <= $1
        ORDER BY due_at, webhook_id LIMIT $2";
    /// When one that is not due is due next.
    indexed pub QUEUES_NEXT = "SELECT due_at FROM webhook_queues WHERE due_at > $1 ORDER BY due_at, webhook_id LIMIT 1";
    /// Only while no other process runs: what one that is gone was about to hear is due at once.
    pub QUEUES_RECLAIM = "UPDATE webhook_queues SET lease_until_at = 0, version = version + 1,
        due_at = CASE WHEN due_at > $1 THEN $1 ELSE due_at END WHERE due_at <= $2";
}

fn decode(row: &Row) -> Result<Webhook> {
    Ok(Webhook {
        id: row.id(0)?,
        url: row.string(1)?,
        description: row.opt_string(2)?,
        event_types: row.text(3)?.split_whitespace().map(str::to_owned).collect(),
        project_id: row.opt_id(4)?,
        environment_id: row.opt_id(5)?,
        status: row.parse(6, "a webhook's status")?,
        previous_until_at: row.opt_time(7)?,
        version: row.int(8)?,
        created_at: row.time(9)?,
        updated_at: row.time(10)?,
    })
}

/// An endpoint with its secrets as they are kept.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// The endpoint.
    pub webhook: Webhook,
    /// The secret that signs.
    pub secret: Vec<u8>,
    /// The one before.
    pub previous: Option<Vec<u8>>,
}

fn decode_sealed(row: &Row) -> Result<Sealed> {
    Ok(Sealed {
        webhook: decode(row)?,
        secret: row.blob(11)?.to_vec(),
        previous: row.opt_blob(12)?.map(<[u8]>::to_vec),
    })
}

/// How far a tenant's events have been given to its endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Every event up to this number.
    pub seq: i64,
    /// Rises with each change of the endpoints.
    pub version: i64,
    /// The last event's number.
    pub last_seq: i64,
}

/// What is known of an endpoint beside its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// Rises with whatever may make it due sooner.
    pub version: i64,
    /// Since when it fails everything.
    pub failing_since_at: Option<Timestamp>,
    /// Events after this number are wanted again, …
    pub recover_after: Option<i64>,
    /// … up to this one.
    pub recover_through: i64,
}

/// Adds an endpoint, which gets what comes from now on.
pub fn insert(tenant: TenantId, w: &Webhook, sealed_secret: Vec<u8>) -> Vec<Statement> {
    vec![
        WEBHOOK_INSERT.bind(params![
            tenant,
            w.id,
            &w.url,
            w.description.as_deref(),
            w.event_types.join(" "),
            w.project_id,
            w.environment_id,
            w.status.as_str(),
            sealed_secret,
            w.created_at
        ]),
        CURSOR_OPEN.bind(params![tenant, 1]),
        QUEUE_OPEN.bind(params![w.id, tenant, IDLE]),
        counter::add(tenant, "webhook", "", 1),
    ]
}

/// Writes an endpoint that was read with the version before its own, or misses with [`STALE`].
pub fn update(tenant: TenantId, w: &Webhook) -> Vec<Statement> {
    let update = WEBHOOK_UPDATE.bind(params![
        tenant,
        w.id,
        w.version - 1,
        &w.url,
        w.description.as_deref(),
        w.event_types.join(" "),
        w.project_id,
        w.environment_id,
        w.status.as_str(),
        w.updated_at
    ]);
    vec![update.must(1, STALE), CURSOR_CHANGED.bind(params![tenant, 0])]
}

/// Gives an endpoint that was read with the version before its own another secret, or misses with [`STALE`].
pub fn rotate(tenant: TenantId, w: &Webhook, sealed_secret: Vec<u8>) -> Vec<Statement> {
    let values = params![tenant, w.id, w.version - 1, sealed_secret, w.previous_until_at, w.updated_at];
    vec![WEBHOOK_ROTATE.bind(values).must(1, STALE), CURSOR_CHANGED.bind(params![tenant, 0])]
}

/// Removes an endpoint that still has its version, or misses with [`STALE`].
pub fn delete(tenant: TenantId, w: &Webhook) -> Vec<Statement> {
    vec![
        WEBHOOK_DELETE.bind(params![tenant, w.id, w.version]).must(1, STALE),
        CURSOR_CHANGED.bind(params![tenant, -1]),
        QUEUE_CLOSE.bind(params![w.id, tenant]),
        counter::add(tenant, "webhook", "", -1),
        counter::forget(tenant, "delivery", w.id.to_string()),
    ]
}

/// The endpoint still has the version that was read, or the batch misses with [`STALE`].
pub fn hold(tenant: TenantId, w: &Webhook) -> Statement {
    WEBHOOK_HOLD.bind(params![tenant, w.id, w.version]).must(1, STALE)
}

/// The cursor of a tenant goes from one number to another, or misses with [`OVERTAKEN`].
pub fn move_cursor(tenant: TenantId, from: i64, to: i64) -> Statement {
    CURSOR_MOVE.bind(params![tenant, from, to]).must(1, OVERTAKEN)
}

/// Takes or keeps the right to give a tenant's events to its endpoints, or misses with [`LEASED`].
pub fn lease_cursor(tenant: TenantId, owner: &str, until: Timestamp, now: Timestamp) -> Statement {
    CURSOR_LEASE.bind(params![tenant, owner, until, now]).must(1, LEASED)
}

/// Takes or keeps the right to look at an endpoint, or misses with [`LEASED`].
pub fn lease_queue(id: WebhookId, owner: &str, until: Timestamp, now: Timestamp) -> Statement {
    QUEUE_LEASE.bind(params![id, owner, until, now]).must(1, LEASED)
}

/// Gives that right back.
pub fn release_queue(id: WebhookId, owner: &str) -> Statement {
    QUEUE_RELEASE.bind(params![id, owner])
}

/// An endpoint wants to be looked at, at `due_at` at the latest. Misses with [`OVERTAKEN`] when it is gone.
pub fn want(tenant: TenantId, id: WebhookId, due_at: Timestamp) -> Statement {
    QUEUE_WANT.bind(params![id, tenant, due_at])
}

/// The same after a failure at `now`.
pub fn failed(tenant: TenantId, id: WebhookId, due_at: Timestamp, now: Timestamp) -> Statement {
    QUEUE_FAILED.bind(params![id, tenant, due_at, now])
}

/// An endpoint took something.
pub fn works(tenant: TenantId, id: WebhookId) -> Statement {
    QUEUE_WORKS.bind(params![id, tenant])
}

/// Nothing is to be done for an endpoint until it is told again.
pub fn rest(tenant: TenantId, id: WebhookId) -> Statement {
    QUEUE_REST.bind(params![id, tenant, IDLE])
}

/// The same, unless something came since its queue was read with this version.
pub fn rest_unless_changed(tenant: TenantId, id: WebhookId, version: i64) -> Statement {
    QUEUE_REST_UNLESS.bind(params![id, tenant, IDLE, version])
}

/// Every event after the number `after` that was given to endpoints is wanted again.
pub fn recover(tenant: TenantId, id: WebhookId, after: i64, now: Timestamp) -> Statement {
    QUEUE_RECOVER.bind(params![id, tenant, after, now])
}

/// How far that came, from where it was read; `None`: to its end. Misses with [`OVERTAKEN`].
pub fn recovered(tenant: TenantId, id: WebhookId, from: i64, to: Option<i64>) -> Statement {
    QUEUE_RECOVERED.bind(params![id, tenant, to, from]).must(1, OVERTAKEN)
}

/// What is due of an endpoint next, when its queue still has the version that was read, else another look at `now`.
pub fn next(id: WebhookId, version: i64, now: Timestamp) -> [Statement; 2] {
    [QUEUE_NEXT.bind(params![id, version, IDLE]), QUEUE_AGAIN.bind(params![id, version, now])]
}

/// Which endpoints a list holds.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Those of this project.
    pub project_id: Option<ProjectId>,
    /// Those of this environment.
    pub environment_id: Option<EnvironmentId>,
    /// Those in this status, `enabled` or `disabled`.
    pub status: Option<String>,
}

impl Store {
    /// One endpoint.
    pub async fn webhook(&self, tenant: TenantId, id: WebhookId) -> Result<Option<Webhook>> {
        self.one(WEBHOOK_GET.bind(params![tenant, id]), decode).await
    }

    /// A page of endpoints, newest first.
    pub async fn webhooks(&self, tenant: TenantId, filter: &Filter, page: &Page) -> Result<Listed<Webhook>> {
        let f = filter;
        let values = |before: &str, limit: i64, offset: i64| {
            params![tenant, before, limit, offset, f.project_id, f.environment_id, f.status.as_deref()]
        };
        let unfiltered = matches!(f, Filter { project_id: None, environment_id: None, status: None });
        let total =
            if unfiltered { counter::get(tenant, "webhook", "") } else { WEBHOOK_COUNT.bind(values("~", i64::MAX, 0)) };
        self.page(WEBHOOK_LIST.bind(values(page.before(), rows_max(page), page.offset())), total, page, decode).await
    }

    /// Every endpoint of a tenant that gets events, at most `limit`.
    pub async fn webhooks_enabled(&self, tenant: TenantId, limit: u32) -> Result<Vec<Sealed>> {
        self.all(WEBHOOKS_ENABLED.bind(params![tenant, limit]), decode_sealed).await
    }

    /// One endpoint that gets events and by how many microseconds its tenant's clock is ahead; `None` when it gets none
    /// or its epoch is over.
    pub async fn webhook_to_send(&self, tenant: TenantId, id: WebhookId) -> Result<Option<(Sealed, i64)>> {
        self.one(WEBHOOK_TO_SEND.bind(params![tenant, id]), |row| Ok((decode_sealed(row)?, row.int(13)?))).await
    }

    /// How far a tenant's events have been given to its endpoints; `None` when it has none or its epoch is over.
    pub async fn webhook_cursor(&self, tenant: TenantId) -> Result<Option<Cursor>> {
        let decode = |row: &Row| Ok(Cursor { seq: row.int(0)?, version: row.int(1)?, last_seq: row.int(2)? });
        self.one(CURSOR_GET.bind(params![tenant]), decode).await
    }

    /// Tenants after `after` that have endpoints, at most `limit`.
    pub async fn tenants_with_webhooks(&self, after: TenantId, limit: u32) -> Result<Vec<TenantId>> {
        self.all(CURSORS.bind(params![after, limit]), |row| Ok(TenantId(row.int(0)?))).await
    }

    /// What is known of an endpoint beside its settings.
    pub async fn webhook_queue(&self, tenant: TenantId, id: WebhookId) -> Result<Option<Queue>> {
        let decode = |row: &Row| {
            Ok(Queue {
                version: row.int(0)?,
                failing_since_at: row.opt_time(1)?,
                recover_after: row.opt_int(2)?,
                recover_through: row.opt_int(3)?.unwrap_or(0),
            })
        };
        self.one(QUEUE_GET.bind(params![id, tenant]), decode).await
    }

    /// Endpoints that want to be looked at, at most `limit`.
    pub async fn webhooks_due(&self, now: Timestamp, limit: u32) -> Result<Vec<(WebhookId, TenantId)>> {
        self.all(QUEUES_DUE.bind(params![now, limit]), |row| Ok((row.id(0)?, TenantId(row.int(1)?)))).await
    }

    /// Tenants after `after` that have or had endpoints, at most `limit`.
    pub async fn tenants_with_deliveries(&self, after: TenantId, limit: u32) -> Result<Vec<TenantId>> {
        self.all(CURSORS_ALL.bind(params![after, limit]), |row| Ok(TenantId(row.int(0)?))).await
    }

    /// When an endpoint that is not due at `now` is due next.
    pub async fn webhooks_next(&self, now: Timestamp) -> Result<Option<Timestamp>> {
        let next = self.one(QUEUES_NEXT.bind(params![now]), |row| row.time(0)).await?;
        Ok(next.filter(|at| *at < IDLE))
    }
}
