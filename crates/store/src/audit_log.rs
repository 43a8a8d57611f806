//! Reading the audit log: pages in the order of its numbers, the check of its chain, and the cut at its old end.
//!
//! Deliberately not here: writing rows (see [`crate::audit`]) and numbering them (see [`crate::sequence`]).

use nephos_model::Timestamp;
use nephos_model::audit::{Entry, Fault, Verdict};
use nephos_model::id::AuditId;
use nephos_model::page::Listed;
use nephos_model::tenant::TenantId;

use crate::batch::{Batch, Statement};
use crate::convert::Model;
use crate::error::Result;
use crate::sequence::{Content, OVERTAKEN, link};
use crate::value::Row;
use crate::{Sql, Store, params, sql};

/// Rows of the chain that are read at once.
const CHAIN_ROWS: i64 = 1_000;
/// Rows that one cut removes at most.
pub const CUT_ROWS_MAX: i64 = 1_000;
/// How often a check begins again because retention cut the log meanwhile.
const CHECKS_MAX: u32 = 4;
/// Columns of a row that its link covers, in the order in which they are written.
const COVERED: usize = 15;

macro_rules! columns {
    () => {
        "id, tenant, action, resource_id, project_id, actor_kind, actor_id, member_id, address, client_request_id,
         request_id, before_state, after_state, status, created_at, seq, chain"
    };
}

macro_rules! matching {
    ($lead:expr) => {
        concat!(
            " FROM audit_log WHERE tenant = $1 AND seq > $2 AND seq < $3 ",
            $lead,
            " AND created_at >= $6 AND created_at < $7 AND (CAST($8 AS TEXT) IS NULL OR action = $8)
              AND (CAST($9 AS TEXT) IS NULL OR resource_id = $9) AND (CAST($10 AS TEXT) IS NULL OR actor_id = $10) "
        )
    };
}

macro_rules! led {
    ($newest:ident, $oldest:ident, $count:ident, $lead:expr) => {
        sql! {
            /// A page, the newest first, led by one filter.
            indexed pub $newest = concat!("SELECT ", columns!(), matching!($lead), " ORDER BY seq DESC LIMIT $4 OFFSET $5");
            /// A page, the oldest first, led by one filter.
            indexed pub $oldest = concat!("SELECT ", columns!(), matching!($lead), " ORDER BY seq LIMIT $4 OFFSET $5");
            /// How many match, led by one filter.
            indexed pub $count = concat!("SELECT COUNT(*) FROM (SELECT 1", matching!($lead), " LIMIT $4 OFFSET $5) AS matching");
        }
    };
}

led!(AUDIT_NEWEST, AUDIT_OLDEST, AUDIT_COUNT, "");
led!(AUDIT_NEWEST_ACTION, AUDIT_OLDEST_ACTION, AUDIT_COUNT_ACTION, " AND action = $8 ");
led!(AUDIT_NEWEST_RESOURCE, AUDIT_OLDEST_RESOURCE, AUDIT_COUNT_RESOURCE, " AND resource_id = $9 ");
led!(AUDIT_NEWEST_ACTOR, AUDIT_OLDEST_ACTOR, AUDIT_COUNT_ACTOR, " AND actor_id = $10 ");

sql! {
    /// The numbers between which all rows of a time are.
    indexed pub AUDIT_BETWEEN = "SELECT MIN(seq), MAX(seq) FROM audit_log
        WHERE tenant = $1 AND created_at >= $2 AND created_at < $3";
    /// The number of a row.
    indexed pub AUDIT_SEQ_OF = "SELECT seq FROM audit_log WHERE tenant = $1 AND id = $2";
    /// Rows in the order of their numbers, after one.
    indexed pub AUDIT_CHAIN = concat!("SELECT ", columns!(), " FROM audit_log WHERE tenant = $1 AND seq > $2
        ORDER BY seq LIMIT $3");
    /// What was cut off.
    indexed pub AUDIT_CUT_GET = "SELECT seq, chain FROM audit_cuts WHERE tenant = $1";
    /// Remembers a cut; one that is not further than the last is none.
    pub AUDIT_CUT_PUT = "INSERT INTO audit_cuts (tenant, seq, chain, cut_at) VALUES ($1, $2, $3, $4)
        ON CONFLICT (tenant) DO UPDATE SET seq = excluded.seq, chain = excluded.chain, cut_at = excluded.cut_at
        WHERE audit_cuts.seq < excluded.seq";
    /// Removes what was cut off.
    pub AUDIT_CUT = "DELETE FROM audit_log WHERE tenant = $1 AND seq <= $2";
}

/// Which rows are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// The action, `noun.verb`.
    pub action: Option<String>,
    /// The resource.
    pub resource_id: Option<String>,
    /// The actor: an API key, or a member.
    pub actor_id: Option<String>,
    /// From this time on.
    pub from: Option<Timestamp>,
    /// Before this time.
    pub to: Option<Timestamp>,
}

impl Filter {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// In which order rows are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The last number first.
    Newest,
    /// The first number first: a page that is full never changes.
    Oldest,
}

/// Which rows of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The order.
    pub order: Order,
    /// Only what comes after this row.
    pub after: Option<AuditId>,
    /// Rows that are left out before the first.
    pub offset: i64,
    /// Rows at most.
    pub limit: u32,
}

fn decode(row: &Row) -> Result<Entry> {
    Ok(Entry {
        id: row.id(0)?,
        action: row.string(2)?,
        resource_id: row.opt_string(3)?,
        project_id: row.opt_string(4)?,
        actor_kind: row.string(5)?,
        actor_id: row.opt_string(6)?,
        member_id: row.opt_string(7)?,
        address: row.opt_string(8)?,
        client_request_id: row.opt_string(9)?,
        request_id: row.string(10)?,
        before: row.opt_string(11)?,
        after: row.opt_string(12)?,
        status: u16::try_from(row.int(13)?).unwrap_or_default(),
        created_at: row.time(14)?,
        seq: row.int(15)?,
        chain: row.blob(16)?.to_vec(),
    })
}

/// The bytes that a row's link covers.
fn content(row: &Row) -> Result<Vec<u8>> {
    let mut content = Content::default();
    for column in 0..COVERED {
        match column {
            1 | 13 | 14 => content.push(Some(row.int(column)?.to_string().as_bytes())),
            _ => content.push(row.opt_text(column)?.map(str::as_bytes)),
        }
    }
    Ok(content.finish())
}

fn statements(filter: &Filter) -> [&'static Sql; 3] {
    if filter.resource_id.is_some() {
        [&AUDIT_NEWEST_RESOURCE, &AUDIT_OLDEST_RESOURCE, &AUDIT_COUNT_RESOURCE]
    } else if filter.actor_id.is_some() {
        [&AUDIT_NEWEST_ACTOR, &AUDIT_OLDEST_ACTOR, &AUDIT_COUNT_ACTOR]
    } else if filter.action.is_some() {
        [&AUDIT_NEWEST_ACTION, &AUDIT_OLDEST_ACTION, &AUDIT_COUNT_ACTION]
    } else {
        [&AUDIT_NEWEST, &AUDIT_OLDEST, &AUDIT_COUNT]
    }
}

impl Store {
    /// A part of a tenant's audit log.
    pub async fn audit_log(&self, tenant: TenantId, filter: &Filter, part: &Part) -> Result<Listed<Entry>> {
        let (from, to) =
            (filter.from.map_or(i64::MIN, Timestamp::micros), filter.to.map_or(i64::MAX, Timestamp::micros));
        // A time is led to numbers first, and numbers are what the list is searched by.
        let (mut above, mut below) = (0, i64::MAX);
        if filter.from.is_some() || filter.to.is_some() {
            let between = self.read(AUDIT_BETWEEN.bind(params![tenant, from, to])).await?;
            let Some(first) = between.first().map(|row| row.opt_int(0)).transpose()?.flatten() else {
                return Ok(Listed { items: Vec::new(), total: 0, more: false });
            };
            let last = between.first().map(|row| row.opt_int(1)).transpose()?.flatten().unwrap_or(first);
            (above, below) = (first - 1, last + 1);
        }
        let bound = |sql: &'static Sql, above: i64, below: i64, limit: i64, offset: i64| {
            let (action, resource, actor) = (&filter.action, &filter.resource_id, &filter.actor_id);
            sql.bind(params![
                tenant,
                above,
                below,
                limit,
                offset,
                from,
                to,
                action.clone(),
                resource.clone(),
                actor.clone()
            ])
        };
        let [newest, oldest, count] = statements(filter);
        let counted = if filter.is_none() {
            let numbers = self.numbers(tenant).await?;
            Some(numbers.audit_seq - self.audit_cut(tenant).await?.0)
        } else {
            None
        };
        let total = bound(count, above, below, i64::MAX, 0);
        if let Some(after) = part.after {
            let seq = self.one(AUDIT_SEQ_OF.bind(params![tenant, after]), |row| row.int(0)).await?;
            match (part.order, seq) {
                (Order::Newest, Some(seq)) => below = below.min(seq),
                // What is older than a row that retention removed was removed before it.
                (Order::Newest, None) => below = 0,
                (Order::Oldest, seq) => above = above.max(seq.unwrap_or(0)),
            }
        }
        let sql = if part.order == Order::Newest { newest } else { oldest };
        let rows = bound(sql, above, below, i64::from(part.limit) + 1, part.offset);
        let (rows, total) = if let Some(total) = counted {
            (self.read(rows).await?, total)
        } else {
            let mut answers = self.read_all(vec![rows, total]).await?.into_iter();
            let rows = answers.next().unwrap_or_default();
            (rows, answers.next().unwrap_or_default().first().map_or(Ok(0), |row| row.int(0))?)
        };
        let limit = part.limit as usize;
        let items = rows.iter().take(limit).map(decode).collect::<Result<Vec<_>>>()?;
        Ok(Listed { items, total, more: rows.len() > limit })
    }

    /// The last row that retention removed: its number and its link; before any it is the chain's own beginning.
    pub async fn audit_cut(&self, tenant: TenantId) -> Result<(i64, Vec<u8>)> {
        let cut = self.one(AUDIT_CUT_GET.bind(params![tenant]), |row| Ok((row.int(0)?, row.blob(1)?.to_vec()))).await?;
        Ok(cut.unwrap_or_else(|| (0, vec![0; 32])))
    }

    /// Checks a tenant's log row by row: every number is there, and every link is what the row and the link before it make.
    pub async fn verify_audit_log(&self, tenant: TenantId) -> Result<Verdict> {
        let mut cut = self.audit_cut(tenant).await?;
        for _ in 1..CHECKS_MAX {
            let verdict = self.verify_from(tenant, cut.clone()).await?;
            let now = self.audit_cut(tenant).await?;
            if verdict.fault.is_none() || now.0 == cut.0 {
                return Ok(verdict);
            }
            cut = now;
        }
        self.verify_from(tenant, cut).await
    }

    async fn verify_from(&self, tenant: TenantId, (cut, mut chain): (i64, Vec<u8>)) -> Result<Verdict> {
        // What is written meanwhile is not checked: the end is read first.
        let head = self.numbers(tenant).await?;
        let mut verdict =
            Verdict { rows: 0, first_seq: cut + 1, last_seq: head.audit_seq, head: head.chain, fault: None };
        let mut seq = cut;
        while seq < verdict.last_seq {
            let rows = self.read(AUDIT_CHAIN.bind(params![tenant, seq, CHAIN_ROWS])).await?;
            for row in &rows {
                let number = row.int(15)?;
                if number > verdict.last_seq {
                    break;
                }
                if number != seq + 1 {
                    verdict.fault = Some(Fault::Missing { seq: seq + 1 });
                    return Ok(verdict);
                }
                chain = link(&chain, number, &content(row)?);
                if row.blob(16)? != chain {
                    verdict.fault = Some(Fault::Altered { seq: number });
                    return Ok(verdict);
                }
                seq = number;
                verdict.rows += 1;
            }
            if seq < verdict.last_seq && (rows.len() as u64) < CHAIN_ROWS.unsigned_abs() {
                verdict.fault = Some(Fault::Missing { seq: seq + 1 });
                return Ok(verdict);
            }
        }
        if chain != verdict.head {
            verdict.fault = Some(Fault::Altered { seq });
        }
        Ok(verdict)
    }

    /// Removes the oldest rows of before a time, [`CUT_ROWS_MAX`] at most, and remembers where the chain goes on; how many
    /// there were. A row stays as long as one with a smaller number has to.
    pub async fn cut_audit_log(&self, tenant: TenantId, before: Timestamp, now: Timestamp) -> Result<i64> {
        let (cut, _) = self.audit_cut(tenant).await?;
        let rows = self.read(AUDIT_CHAIN.bind(params![tenant, cut, CUT_ROWS_MAX])).await?;
        let mut last: Option<(i64, Vec<u8>)> = None;
        for row in &rows {
            if row.time(14)? >= before {
                break;
            }
            last = Some((row.int(15)?, row.blob(16)?.to_vec()));
        }
        let Some((seq, chain)) = last else { return Ok(0) };
        let put: Statement = AUDIT_CUT_PUT.bind(params![tenant, seq, chain, now]).must(1, OVERTAKEN);
        self.write(Batch::from(vec![put, AUDIT_CUT.bind(params![tenant, seq])])).await?;
        Ok(seq - cut)
    }
}
