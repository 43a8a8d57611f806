//! PostgreSQL's errors in the store's terms.

use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

use super::guard;
use crate::batch::Statement;
use crate::error::StoreError;

/// The first error of a transaction, with the statement that it belongs to.
pub(super) struct Failure<'a> {
    /// `None` for `BEGIN` and `COMMIT`.
    pub(super) statement: Option<&'a Statement>,
    pub(super) error: Error,
    /// The transaction's end had been sent, so the change may have been made although no answer came.
    pub(super) sent: bool,
}

/// What to do about a failure.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Tell the caller.
    Final,
    /// The same may succeed now.
    Again,
    /// The same may succeed after the statements were prepared anew.
    Prepare,
}

impl Failure<'_> {
    fn state(&self) -> Option<&SqlState> {
        self.error.code()
    }

    pub(super) fn verdict(&self, writes: bool) -> Verdict {
        const STALE_PLAN: &str = "cached plan";
        match self.error.as_db_error() {
            Some(error) if *error.code() == SqlState::T_R_SERIALIZATION_FAILURE => Verdict::Again,
            Some(error) if *error.code() == SqlState::T_R_DEADLOCK_DETECTED => Verdict::Again,
            Some(error) if *error.code() == SqlState::INVALID_SQL_STATEMENT_NAME => Verdict::Prepare,
            Some(error) if *error.code() == SqlState::FEATURE_NOT_SUPPORTED && error.message().contains(STALE_PLAN) => {
                Verdict::Prepare
            }
            Some(error) if is_shutdown(error) && !writes => Verdict::Again,
            // A read has no effects, so another connection may answer it; neither has what was never sent.
            None if self.error.is_closed() && (!writes || !self.sent) => Verdict::Again,
            _ => Verdict::Final,
        }
    }

    pub(super) fn into_error(self, writes: bool) -> StoreError {
        let statement = self.statement.map_or("transaction", |statement| statement.sql.name);
        let Some(code) = self.state().cloned() else {
            return self.without_code(statement, writes);
        };
        let database = self.error.as_db_error();
        if database.is_some_and(guard::is_miss)
            && let Some(guarded) = self.statement
        {
            return StoreError::Missed { miss: guarded.miss, statement };
        }
        let message = database.map_or_else(|| self.error.to_string(), |error| error.message().to_owned());
        let constraint = database.and_then(DbError::constraint).map(str::to_owned);
        let source = self.error.into();
        let unavailable =
            |reason: String, source| StoreError::Unavailable { reason, uncertain: false, source: Some(source) };
        if code == SqlState::UNIQUE_VIOLATION {
            return StoreError::Unique { statement, constraint: constraint.unwrap_or(message), source };
        }
        match (code.code(), code.code().get(..2).unwrap_or("")) {
            (_, "23") => StoreError::Constraint { statement, constraint: message, source },
            ("53100", _) => {
                StoreError::Full { what: "the database server's disk is full: free some space there".into(), source }
            }
            ("25006", _) => StoreError::Full {
                what: "the database server is read-only: name the primary server in the database URL".into(),
                source,
            },
            ("57014", _) => unavailable(format!("{statement} took longer than the server allows"), source),
            ("40001" | "40P01", _) => {
                unavailable(format!("{statement} kept meeting other changes of the same rows"), source)
            }
            (_, "08" | "53" | "57" | "58") => unavailable(message, source),
            ("22P03" | "22P02" | "22021", _) => StoreError::Bind { statement, problem: message },
            _ => StoreError::Other { statement, message, source },
        }
    }

    fn without_code(self, statement: &'static str, writes: bool) -> StoreError {
        let broken = self.error.is_closed() || is_io(&self.error);
        let uncertain = writes && self.sent;
        // The driver's own text does not tell which parameter's type was wrong; its cause does.
        let cause = std::error::Error::source(&self.error).map(ToString::to_string);
        let message = cause.map_or_else(|| self.error.to_string(), |cause| format!("{}: {cause}", self.error));
        if broken {
            let reason = "the connection to the PostgreSQL server was lost".to_owned();
            StoreError::Unavailable { reason, uncertain, source: Some(self.error.into()) }
        } else {
            StoreError::Bind { statement, problem: message }
        }
    }
}

fn is_io(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<std::io::Error>)
}

/// The server ends this connection: shutdown, crash of another, or an operator's command.
fn is_shutdown(error: &DbError) -> bool {
    [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW].contains(error.code())
}

/// An error from connecting.
pub(super) fn on_connect(error: Error) -> StoreError {
    let reason = match error.as_db_error() {
        Some(refused) => format!("the PostgreSQL server refuses the connection: {}", refused.message()),
        None => match std::error::Error::source(&error) {
            Some(cause) => format!("the PostgreSQL server cannot be reached: {cause}"),
            None => format!("the PostgreSQL server cannot be reached: {error}"),
        },
    };
    StoreError::Unavailable { reason, uncertain: false, source: Some(error.into()) }
}
