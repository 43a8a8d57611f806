//! Durable operations.

use nephos_model::Timestamp;
use nephos_model::fault::Code;
use nephos_model::id::{ComputeId, OperationId, ProjectId};
use nephos_model::operation::{Operation, Step};
use nephos_model::page::{Listed, Page};
use nephos_model::tenant::TenantId;
use nephos_model::trace::TraceContext;

use crate::batch::Statement;
use crate::convert::Model;
use crate::error::Result;
use crate::list::rows_max;
use crate::project::STALE;
use crate::value::Row;
use crate::{Store, counter, params, sql};

macro_rules! columns {
    () => {
        "id, kind, status, compute_id, project_id, environment_id, steps, error_code, error_message, request_id, version, \
         created_at, started_at, ended_at, trace"
    };
}

macro_rules! residual {
    () => {
        " AND (CAST($5 AS TEXT) IS NULL OR status = $5) AND (CAST($6 AS TEXT) IS NULL OR compute_id = $6)
          AND (CAST($7 AS TEXT) IS NULL OR project_id = $7) AND (CAST($8 AS TEXT) IS NULL OR environment_id = $8) "
    };
}

macro_rules! led {
    ($list:ident, $count:ident, $lead:expr) => {
        sql! {
            /// A page of operations, led by one filter.
            indexed pub $list = concat!("SELECT ", columns!(), " FROM operations WHERE tenant = $1 AND id < $2 ", $lead,
                residual!(), " ORDER BY id DESC LIMIT $3 OFFSET $4");
            /// How many match, led by one filter.
            indexed pub $count = concat!("SELECT COUNT(*) FROM (SELECT 1 FROM operations WHERE tenant = $1 AND id < $2 ",
                $lead, residual!(), " LIMIT $3 OFFSET $4) AS matching");
        }
    };
}

led!(OPERATION_LIST, OPERATION_COUNT, "");
led!(OPERATION_LIST_STATUS, OPERATION_COUNT_STATUS, " AND status = $5 ");
led!(OPERATION_LIST_COMPUTE, OPERATION_COUNT_COMPUTE, " AND compute_id = $6 ");
led!(OPERATION_LIST_PROJECT, OPERATION_COUNT_PROJECT, " AND project_id = $7 ");

sql! {
    /// One operation.
    indexed pub OPERATION_GET = concat!("SELECT ", columns!(), " FROM operations WHERE tenant = $1 AND id = $2");
    /// The request and the trace of the last operation on a compute.
    indexed pub OPERATION_LAST = "SELECT request_id, trace, ended_at FROM operations WHERE tenant = $1 AND compute_id = $2
        ORDER BY id DESC LIMIT 1";
    /// A new operation.
    pub OPERATION_INSERT = "INSERT INTO operations (tenant, id, kind, status, compute_id, project_id, environment_id, steps,
        request_id, version, created_at, trace) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 1, $10, $11)";
    /// How far it is; compare-and-set on the version.
    pub OPERATION_UPDATE = "UPDATE operations SET status = $4, steps = $5, error_code = $6, error_message = $7,
        started_at = $8, ended_at = $9, version = version + 1 WHERE tenant = $1 AND id = $2 AND version = $3";
    /// Forgets operations that ended long ago.
    pub OPERATIONS_EXPIRE = "DELETE FROM operations WHERE ended_at < $1";
    /// No longer counts them; before they are forgotten.
    pub OPERATIONS_UNCOUNT = "UPDATE counters SET value = value - (SELECT COUNT(*) FROM operations o
        WHERE o.tenant = counters.tenant AND o.ended_at < $1) WHERE noun = 'operation' AND scope = ''
        AND tenant IN (SELECT tenant FROM operations WHERE ended_at < $1)";
}

/// An operation with the version of its row.
pub type Versioned = (Operation, i64);

fn decode(row: &Row) -> Result<Versioned> {
    let error = match (row.opt_text(7)?, row.opt_string(8)?) {
        (Some(code), Some(message)) => {
            let code = Code::ALL.iter().copied().find(|c| c.snake() == code);
            Some((code.unwrap_or(Code::InternalServerError), message))
        }
        _ => None,
    };
    let operation = Operation {
        id: row.id(0)?,
        kind: row.parse(1, "a kind of operation")?,
        status: row.parse(2, "a status")?,
        compute_id: row.opt_id(3)?,
        project_id: row.id(4)?,
        environment_id: row.opt_id(5)?,
        steps: steps_of(row.text(6)?).ok_or_else(|| row.unexpected(6, "steps"))?,
        error,
        request_id: row.string(9)?,
        created_at: row.time(11)?,
        started_at: row.opt_time(12)?,
        ended_at: row.opt_time(13)?,
        trace: row.opt_text(14)?.and_then(TraceContext::from_text),
    };
    Ok((operation, row.int(10)?))
}

/// Steps are stored one a line: name, status, start and end in microseconds (or `-`).
fn steps_text(steps: &[Step]) -> String {
    let time = |t: Option<Timestamp>| t.map_or_else(|| "-".to_owned(), |t| t.micros().to_string());
    let line = |s: &Step| format!("{} {} {} {}", s.name, s.status, time(s.started_at), time(s.ended_at));
    steps.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn steps_of(text: &str) -> Option<Vec<Step>> {
    let time = |t: &str| if t == "-" { Some(None) } else { t.parse().ok().map(|us| Some(Timestamp::from_micros(us))) };
    text.lines()
        .map(|line| {
            let mut words = line.split(' ');
            let step = Step {
                name: words.next()?.to_owned(),
                status: words.next()?.parse().ok()?,
                started_at: time(words.next()?)?,
                ended_at: time(words.next()?)?,
            };
            Some(step)
        })
        .collect()
}

/// Forgets operations that ended before `time`. Only one process may do so at a time, see [`crate::sequence::lease`].
pub fn expire(time: Timestamp) -> [Statement; 2] {
    [OPERATIONS_UNCOUNT.bind(params![time]), OPERATIONS_EXPIRE.bind(params![time])]
}

/// Adds an operation and counts it.
pub fn insert(tenant: TenantId, o: &Operation) -> Vec<Statement> {
    vec![
        OPERATION_INSERT.bind(params![
            tenant,
            o.id,
            o.kind.as_str(),
            o.status.as_str(),
            o.compute_id,
            o.project_id,
            o.environment_id,
            steps_text(&o.steps),
            &o.request_id,
            o.created_at,
            o.trace.as_ref().map(TraceContext::to_text)
        ]),
        counter::add(tenant, "operation", "", 1),
    ]
}

/// Writes how far an operation is, if its row still has `version`, or misses with
/// [`STALE`].
pub fn update(tenant: TenantId, o: &Operation, version: i64) -> Statement {
    let (code, message) =
        o.error.as_ref().map_or((None, None), |(code, message)| (Some(code.snake()), Some(&**message)));
    OPERATION_UPDATE
        .bind(params![
            tenant,
            o.id,
            version,
            o.status.as_str(),
            steps_text(&o.steps),
            code,
            message,
            o.started_at,
            o.ended_at
        ])
        .must(1, STALE)
}

/// Which operations a list holds.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Those in this status.
    pub status: Option<String>,
    /// Those of this compute.
    pub compute_id: Option<ComputeId>,
    /// Those of this project.
    pub project_id: Option<ProjectId>,
    /// Those of this environment.
    pub environment_id: Option<nephos_model::id::EnvironmentId>,
}

impl Store {
    /// One operation with the version of its row.
    pub async fn operation(&self, tenant: TenantId, id: OperationId) -> Result<Option<Versioned>> {
        self.one(OPERATION_GET.bind(params![tenant, id]), decode).await
    }

    /// The request (a UUID) behind the operation that is under way on a compute, and the trace that it continued.
    pub async fn operation_under_way(
        &self,
        tenant: TenantId,
        compute: ComputeId,
    ) -> Result<Option<(String, Option<TraceContext>)>> {
        let decode = |row: &Row| {
            let trace = row.opt_text(1)?.and_then(TraceContext::from_text);
            Ok(if row.opt_time(2)?.is_none() { Some((row.string(0)?, trace)) } else { None })
        };
        Ok(self.one(OPERATION_LAST.bind(params![tenant, compute]), decode).await?.flatten())
    }

    /// A page of operations, newest first.
    pub async fn operations(&self, tenant: TenantId, filter: &Filter, page: &Page) -> Result<Listed<Operation>> {
        let f = filter;
        let values = |before: &str, limit: i64, offset: i64| {
            params![tenant, before, limit, offset, f.status.as_deref(), f.compute_id, f.project_id, f.environment_id]
        };
        let (list, count) = match f {
            Filter { compute_id: Some(_), .. } => (&OPERATION_LIST_COMPUTE, &OPERATION_COUNT_COMPUTE),
            Filter { project_id: Some(_), .. } => (&OPERATION_LIST_PROJECT, &OPERATION_COUNT_PROJECT),
            Filter { status: Some(_), .. } => (&OPERATION_LIST_STATUS, &OPERATION_COUNT_STATUS),
            _ => (&OPERATION_LIST, &OPERATION_COUNT),
        };
        let unfiltered = matches!(f, Filter { status: None, compute_id: None, project_id: None, environment_id: None });
        let total =
            if unfiltered { counter::get(tenant, "operation", "") } else { count.bind(values("~", i64::MAX, 0)) };
        let rows = list.bind(values(page.before(), rows_max(page), page.offset()));
        self.page(rows, total, page, |row| Ok(decode(row)?.0)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nephos_model::operation::Status;

    #[test]
    fn steps_round_trip() {
        let steps = vec![
            Step {
                name: "prepare".into(),
                status: Status::Succeeded,
                started_at: Some(Timestamp::from_micros(5)),
                ended_at: Some(Timestamp::from_micros(9)),
            },
            Step { name: "boot".into(), status: Status::Pending, started_at: None, ended_at: None },
        ];
        assert_eq!(steps_of(&steps_text(&steps)), Some(steps));
        assert_eq!(steps_of(""), Some(vec![]));
        assert_eq!(steps_of("boot nonsense - -"), None);
    }
}
