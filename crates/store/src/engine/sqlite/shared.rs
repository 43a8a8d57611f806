//! What the batches of one transaction have in common, and is written once for all of them: a tenant's numbers, its
//! counters, and rows that nobody asks for before the transaction ends.
//!
//! One create writes an event, an audit row and two counters, and a group of 64 would change the same two counters 64
//! times. Here a counter is read once and written once, and rows are inserted many at a time. Deliberately not here: any
//! statement that decides by what it finds. Whatever names one of these tables has it written first, see
//! [`Sql`](crate::Sql)'s shape.

use crate::batch::{Shared, Statement};
use crate::error::Result;
use crate::sequence::{Content, Numbers, link, numbers};
use crate::value::{Row, Value};
use crate::{Sql, counter, params};
use nephos_model::tenant::TenantId;

/// What a transaction holds back.
#[derive(Debug, Default)]
pub(super) struct Held {
    tenants: Vec<(i64, Numbers, i64)>,
    counters: Vec<Counter>,
    /// Rows to insert, in their order.
    pub(super) rows: Vec<Place>,
}

/// A row to insert: a statement of the group, and the parameters that it gets beside its own.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) batch: usize,
    pub(super) statement: usize,
    pub(super) sql: &'static Sql,
    pub(super) more: Vec<Value>,
}

/// What is known of a row of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// It was not asked for.
    Unasked,
    /// There is none.
    Absent,
    /// This.
    Value(i64),
}

/// A counter of a tenant with an empty scope.
#[derive(Debug, Clone)]
struct Counter {
    tenant: i64,
    noun: String,
    /// What the database holds.
    found: Found,
    /// What is to be added, when there is something.
    by: Option<i64>,
}

/// What was held back at a time, to return to.
pub(super) struct Mark {
    tenants: Vec<(i64, Numbers, i64)>,
    counters: Vec<Counter>,
    rows: usize,
}

impl Held {
    /// What is held back now.
    pub(super) fn mark(&self) -> Mark {
        Mark { tenants: self.tenants.clone(), counters: self.counters.clone(), rows: self.rows.len() }
    }

    /// Forgets what came after the mark. Rows that were there then must not have been written since.
    pub(super) fn undo(&mut self, mark: Mark) {
        self.tenants = mark.tenants;
        self.counters = mark.counters;
        self.rows.truncate(mark.rows);
    }

    /// The statement that must be run before this one can be held, its answer given to [`Held::learn`].
    pub(super) fn unknown(&mut self, statement: &Statement) -> Option<Statement> {
        match statement.shared? {
            Shared::Event | Shared::Audit => {
                let tenant = int(statement, 1)?;
                let known = self.tenants.iter().any(|(known, ..)| *known == tenant);
                (!known).then(|| crate::event::SEQUENCE_GET.bind(params![tenant]))
            }
            Shared::Take => {
                let (tenant, noun) = (int(statement, 0)?, text(statement, 1)?);
                let known = self.counter(tenant, noun).found != Found::Unasked;
                (!known).then(|| counter::COUNTER_GET.bind(params![tenant, noun, ""]))
            }
            Shared::Add => None,
        }
    }

    /// Takes the answer to [`Held::unknown`].
    pub(super) fn learn(&mut self, statement: &Statement, rows: &[Row]) -> Result<()> {
        match statement.shared {
            Some(Shared::Event | Shared::Audit) => {
                if let Some(tenant) = int(statement, 1) {
                    self.tenants.push((tenant, rows.first().map_or_else(|| Ok(Numbers::first()), numbers)?, 0));
                }
            }
            Some(Shared::Take) => {
                if let (Some(tenant), Some(noun)) = (int(statement, 0), text(statement, 1)) {
                    self.counter(tenant, noun).found = match rows.first() {
                        Some(row) => Found::Value(row.int(0)?),
                        None => Found::Absent,
                    };
                }
            }
            Some(Shared::Add) | None => {}
        }
        Ok(())
    }

    /// Holds the statement back, if it can be, and tells how many rows it changes.
    pub(super) fn hold(&mut self, statement: &Statement, batch: usize, number: usize) -> Option<u64> {
        match statement.shared? {
            kind @ (Shared::Event | Shared::Audit) => {
                let tenant = int(statement, 1)?;
                let (_, numbers, events) = self.tenants.iter_mut().find(|(known, ..)| *known == tenant)?;
                let (sql, more) = if kind == Shared::Event {
                    numbers.event_seq += 1;
                    *events += 1;
                    (&crate::event::EVENT_APPEND, params![numbers.event_seq])
                } else {
                    numbers.audit_seq += 1;
                    let content = Content::of(&statement.params).finish();
                    numbers.chain = link(&numbers.chain, numbers.audit_seq, &content);
                    (&crate::audit::AUDIT_APPEND, params![numbers.audit_seq, numbers.chain.clone()])
                };
                self.rows.push(Place { batch, statement: number, sql, more });
                Some(1)
            }
            Shared::Add => {
                let (tenant, noun, by) = (int(statement, 0)?, text(statement, 1)?, int(statement, 3)?);
                // A counter of something else than the tenant is rarely changed twice.
                if !text(statement, 2)?.is_empty() {
                    return None;
                }
                let counter = self.counter(tenant, noun);
                counter.by = Some(counter.by.unwrap_or(0).checked_add(by)?);
                Some(1)
            }
            Shared::Take => {
                let (tenant, noun, by, limit) =
                    (int(statement, 0)?, text(statement, 1)?, int(statement, 2)?, int(statement, 3)?);
                let counter = self.counter(tenant, noun);
                let found = match counter.found {
                    Found::Unasked => return None,
                    Found::Absent => return Some(0),
                    Found::Value(found) => found,
                };
                let sum = counter.by.unwrap_or(0).checked_add(by)?;
                if found.checked_add(sum)? > limit {
                    return Some(0);
                }
                counter.by = Some(sum);
                Some(1)
            }
        }
    }

    /// Whether the statement must find what is held back in its tables.
    pub(super) fn must_be_written_before(statement: &Statement) -> bool {
        // A counter of another scope is another row than those held back.
        statement.sql.shape().names_shared && statement.shared != Some(Shared::Add)
    }

    /// The statements that bring the counters up to date; they are not known any more then.
    pub(super) fn counters(&mut self) -> Vec<Statement> {
        let counters = std::mem::take(&mut self.counters);
        let add = |c: Counter| Some(counter::COUNTER_ADD.bind(params![TenantId(c.tenant), c.noun, "", c.by?]));
        counters.into_iter().filter_map(add).collect()
    }

    /// The statements that write the numbers; they are not known any more then.
    pub(super) fn numbers(&mut self) -> Vec<Statement> {
        let tenants = std::mem::take(&mut self.tenants).into_iter();
        tenants
            .flat_map(|(tenant, numbers, events)| {
                let tenant = TenantId(tenant);
                let kept = crate::event::SEQUENCE_PUT.bind(params![
                    tenant,
                    numbers.event_seq,
                    numbers.audit_seq,
                    numbers.chain
                ]);
                [Some(kept), (events > 0).then(|| counter::add(tenant, "event", "", events))].into_iter().flatten()
            })
            .collect()
    }

    fn counter(&mut self, tenant: i64, noun: &str) -> &mut Counter {
        let place = self.counters.iter().position(|c| c.tenant == tenant && c.noun == noun).unwrap_or_else(|| {
            self.counters.push(Counter { tenant, noun: noun.to_owned(), found: Found::Unasked, by: None });
            self.counters.len() - 1
        });
        &mut self.counters[place]
    }
}

fn int(statement: &Statement, place: usize) -> Option<i64> {
    match statement.params.get(place) {
        Some(Value::Int(value)) => Some(*value),
        _ => None,
    }
}

fn text(statement: &Statement, place: usize) -> Option<&str> {
    match statement.params.get(place) {
        Some(Value::Text(value)) => Some(value),
        _ => None,
    }
}
