//! Events: written with the change, numbered as [`crate::sequence`] has it, read only once they have a number.

use nephos_model::Timestamp;
use nephos_model::event::{Actor, Event};
use nephos_model::id::{EnvironmentId, EventId, ProjectId};
use nephos_model::page::{Listed, Page};
use nephos_model::tenant::TenantId;

use crate::batch::{Shared, Statement};
use crate::convert::Model;
use crate::error::Result;
use crate::list::rows_max;
use crate::value::Row;
use crate::{Store, counter, params, sql};

macro_rules! columns {
    () => {
        "id, seq, kind, resource_id, project_id, environment_id, version, data, previous, actor_kind, actor_id, request_id,
         created_at"
    };
}

macro_rules! residual {
    () => {
        " AND (CAST($5 AS TEXT) IS NULL OR kind = $5) AND (CAST($6 AS TEXT) IS NULL OR resource_id = $6)
          AND (CAST($7 AS TEXT) IS NULL OR project_id = $7) AND (CAST($8 AS TEXT) IS NULL OR environment_id = $8) "
    };
}

macro_rules! led {
    ($list:ident, $count:ident, $lead:expr) => {
        sql! {
            /// A page of events, led by one filter.
            indexed pub $list = concat!("SELECT ", columns!(), " FROM events WHERE tenant = $1 AND id < $2 ", $lead,
                residual!(), " ORDER BY id DESC LIMIT $3 OFFSET $4");
            /// How many match, led by one filter.
            indexed pub $count = concat!("SELECT COUNT(*) FROM (SELECT 1 FROM events WHERE tenant = $1 AND id < $2 ",
                $lead, residual!(), " LIMIT $3 OFFSET $4) AS matching");
        }
    };
}

led!(EVENT_LIST, EVENT_COUNT, "");
led!(EVENT_LIST_KIND, EVENT_COUNT_KIND, " AND kind = $5 ");
led!(EVENT_LIST_RESOURCE, EVENT_COUNT_RESOURCE, " AND resource_id = $6 ");
led!(EVENT_LIST_PROJECT, EVENT_COUNT_PROJECT, " AND project_id = $7 ");
led!(EVENT_LIST_ENVIRONMENT, EVENT_COUNT_ENVIRONMENT, " AND environment_id = $8 ");

/// Events that one statement gives their numbers, at most.
pub const SEQUENCED_AT_ONCE: usize = 16;

sql! {
    /// An event, not yet sequenced.
    pub EVENT_INSERT = "INSERT INTO events_pending (id, tenant, kind, resource_id, project_id, environment_id, version,
        data, previous, actor_kind, actor_id, request_id, created_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
    /// An event with its number.
    pub EVENT_APPEND = "INSERT INTO events (id, tenant, kind, resource_id, project_id, environment_id, version,
        data, previous, actor_kind, actor_id, request_id, created_at, seq)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
    /// The oldest events that wait for their number.
    pub EVENTS_PENDING = "SELECT id, tenant FROM events_pending ORDER BY id LIMIT $1";
    /// Gives up to [`SEQUENCED_AT_ONCE`] events their numbers: pairs of id and number, `NULL` where there are fewer.
    pub EVENTS_SEQUENCE = "INSERT INTO events (tenant, id, seq, kind, resource_id, project_id, environment_id, version,
        data, previous, actor_kind, actor_id, request_id, created_at)
        SELECT p.tenant, p.id, v.seq, p.kind, p.resource_id, p.project_id, p.environment_id, p.version, p.data, p.previous, p.actor_kind,
        p.actor_id, p.request_id, p.created_at FROM (
        SELECT CAST($1 AS TEXT) AS id, CAST($2 AS BIGINT) AS seq UNION ALL SELECT CAST($3 AS TEXT), CAST($4 AS
        BIGINT) UNION ALL SELECT CAST($5 AS TEXT), CAST($6 AS BIGINT) UNION ALL SELECT CAST($7 AS TEXT), CAST($8
        AS BIGINT) UNION ALL SELECT CAST($9 AS TEXT), CAST($10 AS BIGINT) UNION ALL SELECT CAST($11 AS TEXT),
        CAST($12 AS BIGINT) UNION ALL SELECT CAST($13 AS TEXT), CAST($14 AS BIGINT) UNION ALL SELECT CAST($15 AS
        TEXT), CAST($16 AS BIGINT) UNION ALL SELECT CAST($17 AS TEXT), CAST($18 AS BIGINT) UNION ALL SELECT
        CAST($19 AS TEXT), CAST($20 AS BIGINT) UNION ALL SELECT CAST($21 AS TEXT), CAST($22 AS BIGINT) UNION ALL
        SELECT CAST($23 AS TEXT), CAST($24 AS BIGINT) UNION ALL SELECT CAST($25 AS TEXT), CAST($26 AS BIGINT)
        UNION ALL SELECT CAST($27 AS TEXT), CAST($28 AS BIGINT) UNION ALL SELECT CAST($29 AS TEXT), CAST($30 AS
        BIGINT) UNION ALL SELECT CAST($31 AS TEXT), CAST($32 AS BIGINT)
        ) AS v JOIN events_pending p ON p.id = v.id";
    /// They wait no more.
    pub EVENTS_SEQUENCED = "DELETE FROM events_pending WHERE id IN ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)";
    /// The last numbers of a tenant.
    indexed pub SEQUENCE_GET = "SELECT event_seq, audit_seq, audit_chain FROM sequences WHERE tenant = $1";
    /// One sequenced event.
    indexed pub EVENT_GET = concat!("SELECT ", columns!(), " FROM events WHERE tenant = $1 AND id = $2");
    /// Events after a number, in their order.
    indexed pub EVENTS_AFTER = concat!("SELECT ", columns!(), " FROM events WHERE tenant = $1 AND seq > $2
        ORDER BY seq LIMIT $3");
    /// The least number of the first events from an id on: some may have overtaken others.
    indexed pub EVENT_SEQ_FROM = "SELECT MIN(seq) FROM (SELECT seq FROM events WHERE tenant = $1 AND id >= $2
        ORDER BY id LIMIT 64) AS first";
    /// The last number that readers see.
    indexed pub EVENT_SEQ_LAST = "SELECT seq FROM events WHERE tenant = $1 ORDER BY seq DESC LIMIT 1";
    /// Makes sure that a tenant has numbers.
    pub SEQUENCE_ENSURE = "INSERT INTO sequences (tenant, event_seq, audit_seq, audit_chain) VALUES ($1, 0, 0, $2)
        ON CONFLICT (tenant) DO NOTHING";
    /// A tenant's last numbers from now on, where nobody else can have moved them.
    pub SEQUENCE_PUT = "INSERT INTO sequences (tenant, event_seq, audit_seq, audit_chain) VALUES ($1, $2, $3, $4)
        ON CONFLICT (tenant) DO UPDATE SET event_seq = excluded.event_seq, audit_seq = excluded.audit_seq,
        audit_chain = excluded.audit_chain";
    /// Moves a tenant's numbers on; compare-and-set.
    pub SEQUENCE_MOVE = "UPDATE sequences SET event_seq = $4, audit_seq = $5, audit_chain = $6
        WHERE tenant = $1 AND event_seq = $2 AND audit_seq = $3";
    /// Forgets events that are older than the retention.
    pub EVENTS_EXPIRE = "DELETE FROM events WHERE created_at < $1";
    /// No longer counts them; before they are forgotten.
    pub EVENTS_UNCOUNT = "UPDATE counters SET value = value - (SELECT COUNT(*) FROM events e
        WHERE e.tenant = counters.tenant AND e.created_at < $1) WHERE noun = 'event' AND scope = ''
        AND tenant IN (SELECT tenant FROM events WHERE created_at < $1)";
}

/// An event that is about to be written.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// Its id.
    pub id: EventId,
    /// `noun.change`.
    pub kind: &'static str,
    /// The resource it is about.
    pub resource_id: String,
    /// The resource's project.
    pub project_id: Option<ProjectId>,
    /// The resource's environment.
    pub environment_id: Option<EnvironmentId>,
    /// Version of the schema of `data`, from 1.
    pub version: u32,
    /// The resource after the change, as JSON text.
    pub data: String,
    /// What changed, as it was before, as the text of a JSON object; `None` when nothing was there before.
    pub previous: Option<String>,
    /// Who made the change.
    pub actor: Actor,
    /// The request that caused it, as a UUID.
    pub request_id: Option<String>,
    /// When.
    pub created_at: Timestamp,
}

/// Forgets events from before `time`. Only one process may do so at a time, see [`crate::sequence::lease`].
pub fn expire(time: Timestamp) -> [Statement; 2] {
    [EVENTS_UNCOUNT.bind(params![time]), EVENTS_EXPIRE.bind(params![time])]
}

/// Writes an event in the transaction that makes the change.
pub fn insert(tenant: TenantId, e: NewEvent) -> Statement {
    EVENT_INSERT
        .bind(params![
            e.id,
            tenant,
            e.kind,
            e.resource_id,
            e.project_id,
            e.environment_id,
            e.version,
            e.data,
            e.previous,
            e.actor.kind(),
            e.actor.id(),
            e.request_id,
            e.created_at
        ])
        .shared(Shared::Event)
}

fn decode(row: &Row) -> Result<Event> {
    Ok(Event {
        id: row.id(0)?,
        seq: row.int(1)?,
        kind: row.string(2)?,
        resource_id: row.string(3)?,
        project_id: row.opt_id(4)?,
        environment_id: row.opt_id(5)?,
        version: row.u32(6)?,
        data: row.string(7)?,
        previous: row.opt_string(8)?,
        actor_kind: row.string(9)?,
        actor_id: row.opt_string(10)?,
        request_id: row.opt_string(11)?,
        created_at: row.time(12)?,
    })
}

/// Which events a list holds.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Those of this kind.
    pub kind: Option<String>,
    /// Those about this resource.
    pub resource_id: Option<String>,
    /// Those of this project.
    pub project_id: Option<ProjectId>,
    /// Those of this environment.
    pub environment_id: Option<EnvironmentId>,
}

impl Store {
    /// A page of sequenced events, newest first.
    pub async fn events(&self, tenant: TenantId, filter: &Filter, page: &Page) -> Result<Listed<Event>> {
        let f = filter;
        let values = |before: &str, limit: i64, offset: i64| {
            params![
                tenant,
                before,
                limit,
                offset,
                f.kind.as_deref(),
                f.resource_id.as_deref(),
                f.project_id,
                f.environment_id
            ]
        };
        let (list, count) = match f {
            Filter { resource_id: Some(_), .. } => (&EVENT_LIST_RESOURCE, &EVENT_COUNT_RESOURCE),
            Filter { environment_id: Some(_), .. } => (&EVENT_LIST_ENVIRONMENT, &EVENT_COUNT_ENVIRONMENT),
            Filter { project_id: Some(_), .. } => (&EVENT_LIST_PROJECT, &EVENT_COUNT_PROJECT),
            Filter { kind: Some(_), .. } => (&EVENT_LIST_KIND, &EVENT_COUNT_KIND),
            _ => (&EVENT_LIST, &EVENT_COUNT),
        };
        let unfiltered = matches!(f, Filter { kind: None, resource_id: None, project_id: None, environment_id: None });
        let total = if unfiltered { counter::get(tenant, "event", "") } else { count.bind(values("~", i64::MAX, 0)) };
        self.page(list.bind(values(page.before(), rows_max(page), page.offset())), total, page, decode).await
    }

    /// One sequenced event.
    pub async fn event(&self, tenant: TenantId, id: EventId) -> Result<Option<Event>> {
        self.one(EVENT_GET.bind(params![tenant, id]), decode).await
    }

    /// At most `limit` events after the number `seq`, in their order: whoever has these has all before them.
    pub async fn events_after(&self, tenant: TenantId, seq: i64, limit: u32) -> Result<Vec<Event>> {
        self.all(EVENTS_AFTER.bind(params![tenant, seq, limit]), decode).await
    }

    /// The number before the first event from an id on, and that of the newest event; the same when there is none.
    pub async fn event_seqs_since(&self, tenant: TenantId, from: EventId) -> Result<(i64, i64)> {
        let asked = vec![EVENT_SEQ_FROM.bind(params![tenant, from]), EVENT_SEQ_LAST.bind(params![tenant])];
        let answers = self.read_all(asked).await?;
        let number = |at: usize| match answers.get(at).and_then(|rows| rows.first()) {
            Some(row) => row.opt_int(0),
            None => Ok(None),
        };
        let last = number(1)?.unwrap_or(0);
        Ok((number(0)?.map_or(last, |first| first - 1), last))
    }

    /// The number of the newest event; zero when there is none.
    pub async fn event_seq(&self, tenant: TenantId) -> Result<i64> {
        Ok(self.one(EVENT_SEQ_LAST.bind(params![tenant]), |row| row.int(0)).await?.unwrap_or(0))
    }
}
