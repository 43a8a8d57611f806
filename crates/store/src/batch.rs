//! Statements with guards, and the batches that make them atomic.
//!
//! A write is a [`Batch`]: all of its statements take effect, durably, or none does. A guard says how many rows a
//! statement must change; when it does not hold, the whole batch is undone and the caller gets the guard's [`Miss`].

use crate::error::{Result, StoreError};
use crate::sql::{PARAMETERS_MAX, Sql};
use crate::value::Value;

/// Most statements that one batch may hold.
pub const STATEMENTS_MAX: usize = 4096;

/// How many rows a statement must change, or return when it has `RETURNING` or is a `SELECT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Any number of rows, none included.
    Any,
    /// This many and no other number.
    Exactly(u64),
    /// This many or more.
    AtLeast(u64),
}

impl Expect {
    /// Whether `count` rows satisfy the guard.
    pub fn holds(self, count: u64) -> bool {
        match self {
            Expect::Any => true,
            Expect::Exactly(wanted) => count == wanted,
            Expect::AtLeast(wanted) => count >= wanted,
        }
    }
}

/// What it means when a guard does not hold. The store only carries it; the caller maps it to its own error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Miss(pub &'static str);

/// What an engine that commits many batches at once may do for all of them together, instead of running the statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shared {
    /// The row is an event and gets its number. The second parameter is the tenant.
    Event,
    /// The row is an audit row, and gets its number and a link of the chain over all parameters. The second is the tenant.
    Audit,
    /// Adds to a counter: tenant, noun, scope, by how much.
    Add,
    /// Adds to a counter of the empty scope up to a limit: tenant, noun, by how much, limit.
    Take,
}

/// A statement with its parameters and its guard.
#[derive(Debug, Clone)]
pub struct Statement {
    pub(crate) sql: &'static Sql,
    pub(crate) params: Vec<Value>,
    pub(crate) expect: Expect,
    pub(crate) miss: Miss,
    pub(crate) shared: Option<Shared>,
}

impl Statement {
    /// What the statement does may be done once for all batches of a transaction, where the engine groups them.
    #[must_use]
    pub(crate) fn shared(mut self, kind: Shared) -> Self {
        self.shared = Some(kind);
        self
    }

    /// The statement must change exactly `count` rows, or its batch is undone and fails with `miss`.
    #[must_use]
    pub fn must(mut self, count: u64, miss: Miss) -> Self {
        self.expect = Expect::Exactly(count);
        self.miss = miss;
        self
    }

    /// The statement must change `count` rows or more, or its batch is undone and fails with `miss`.
    #[must_use]
    pub fn at_least(mut self, count: u64, miss: Miss) -> Self {
        self.expect = Expect::AtLeast(count);
        self.miss = miss;
        self
    }

    /// The statement's declaration.
    pub fn sql(&self) -> &'static Sql {
        self.sql
    }
}

/// Statements that take effect together, in order.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    pub(crate) statements: Vec<Statement>,
    pub(crate) serializable: bool,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a statement.
    pub fn push(&mut self, statement: Statement) {
        self.statements.push(statement);
    }

    /// Puts a statement before all others: one that may miss and should leave nothing to undo then.
    pub fn push_first(&mut self, statement: Statement) {
        self.statements.insert(0, statement);
    }

    /// Appends statements in order.
    pub fn extend(&mut self, statements: impl IntoIterator<Item = Statement>) {
        self.statements.extend(statements);
    }

    /// Appends another batch's statements.
    pub fn append(&mut self, other: Batch) {
        self.statements.extend(other.statements);
        self.serializable |= other.serializable;
    }

    /// The batch with one more statement.
    #[must_use]
    pub fn with(mut self, statement: Statement) -> Self {
        self.push(statement);
        self
    }

    /// Asks PostgreSQL for serializable isolation, for a batch whose statements decide by rows that they do not change
    /// ("insert if fewer than n exist"). It protects only against other batches that ask for it too. `SQLite` has one
    /// writer and always isolates so.
    #[must_use]
    pub fn serializable(mut self) -> Self {
        self.serializable = true;
        self
    }

    /// How many statements the batch holds.
    pub fn len(&self) -> usize {
        self.statements.len()
    }

    /// True when there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }
}

impl From<Vec<Statement>> for Batch {
    fn from(statements: Vec<Statement>) -> Self {
        Self { statements, serializable: false }
    }
}

impl From<Statement> for Batch {
    fn from(statement: Statement) -> Self {
        Self { statements: vec![statement], serializable: false }
    }
}

impl FromIterator<Statement> for Batch {
    fn from_iter<I: IntoIterator<Item = Statement>>(statements: I) -> Self {
        Self { statements: statements.into_iter().collect(), serializable: false }
    }
}

impl Statement {
    /// What both engines refuse before a statement is sent: a wrong number of parameters, and text that PostgreSQL
    /// cannot hold.
    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |problem: String| Err(StoreError::Bind { statement: self.sql.name, problem });
        let wanted = self.sql.shape().parameters;
        if wanted != self.params.len() || wanted > PARAMETERS_MAX {
            return refuse(format!("it takes {wanted} parameters and was given {}", self.params.len()));
        }
        for (place, value) in self.params.iter().enumerate() {
            if let Value::Text(text) = value
                && text.as_bytes().contains(&0)
            {
                return refuse(format!("parameter ${} holds a zero byte, which text cannot", place + 1));
            }
        }
        Ok(())
    }
}
