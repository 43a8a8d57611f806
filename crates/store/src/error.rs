//! What can go wrong in the store, in terms the callers can act on. No text here ever holds a parameter's value.

use std::error::Error;
use std::path::PathBuf;

use crate::batch::Miss;

/// The result of everything the store does.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// A lower layer's error, kept as the cause.
pub type Cause = Box<dyn Error + Send + Sync>;

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A guard did not hold; the whole batch was undone.
    #[error("the guard of {statement} did not hold: {}", miss.0)]
    Missed {
        /// The guard's label.
        miss: Miss,
        /// The guarded statement.
        statement: &'static str,
    },
    /// A unique constraint or primary key already has such a row; the whole batch was undone.
    #[error("{statement} violates the unique constraint {constraint}")]
    Unique {
        /// The statement that failed.
        statement: &'static str,
        /// The constraint: its name on PostgreSQL, `table.column, …` on `SQLite`.
        constraint: String,
        /// The engine's error.
        source: Cause,
    },
    /// Another constraint (foreign key, check, not null) forbids the change; the whole batch was undone.
    #[error("{statement} violates a constraint: {constraint}")]
    Constraint {
        /// The statement that failed.
        statement: &'static str,
        /// What the engine says about the constraint.
        constraint: String,
        /// The engine's error.
        source: Cause,
    },
    /// The database cannot be reached now. Try again later.
    #[error("the database is unavailable: {reason}{}", if *uncertain { " (whether the change was made is not known)" } else { "" })]
    Unavailable {
        /// What the store was doing.
        reason: String,
        /// True when a write had been sent and its answer was lost: it may or may not have been made.
        uncertain: bool,
        /// The engine's error, if there is one.
        source: Option<Cause>,
    },
    /// The queue is full. Nothing was done; try again later.
    #[error("the database has too much to do: {queue} requests are waiting already")]
    TooBusy {
        /// How many requests the queue holds.
        queue: usize,
    },
    /// A row does not have the shape that the code expects.
    #[error("{statement}: column {column} is {found} where {wanted} is wanted")]
    Decode {
        /// The statement that was read.
        statement: &'static str,
        /// The column, starting at 0.
        column: usize,
        /// The type the code asked for.
        wanted: &'static str,
        /// The type that is there.
        found: &'static str,
    },
    /// A statement was given parameters that it cannot take.
    #[error("{statement}: {problem}")]
    Bind {
        /// The statement.
        statement: &'static str,
        /// What is wrong with the parameters.
        problem: String,
    },
    /// There is no room for the change, or the files may not be changed.
    #[error("{what}")]
    Full {
        /// Which it is, and the way out.
        what: String,
        /// The engine's error.
        source: Cause,
    },
    /// The file is there and is not a database that can be opened.
    #[error("{}: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
        /// The engine's error.
        source: Option<Cause>,
    },
    /// A migration is refused or failed.
    #[error("{0}")]
    Migration(String, #[source] Option<Cause>),
    /// The configuration asks for something that is not possible.
    #[error("{0}")]
    Configuration(String, #[source] Option<Cause>),
    /// Anything else that the engine says.
    #[error("{statement}: {message}")]
    Other {
        /// The statement, or what the store was doing.
        statement: &'static str,
        /// The engine's message.
        message: String,
        /// The engine's error.
        source: Cause,
    },
}

impl StoreError {
    /// The label of the guard that did not hold, if that is what happened.
    pub fn missed(&self) -> Option<Miss> {
        match self {
            StoreError::Missed { miss, .. } => Some(*miss),
            _ => None,
        }
    }

    /// True when the same request may succeed a little later without any change.
    pub fn is_passing(&self) -> bool {
        matches!(self, StoreError::Unavailable { .. } | StoreError::TooBusy { .. })
    }

    pub(crate) fn unavailable(reason: impl Into<String>) -> Self {
        StoreError::Unavailable { reason: reason.into(), uncertain: false, source: None }
    }

    pub(crate) fn closed() -> Self {
        Self::unavailable("it has been closed")
    }
}
