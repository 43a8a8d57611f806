//! Guards as SQL: a statement that fails on the server when it changes the wrong number of rows.
//!
//! The statement becomes the body of a `WITH`, its rows are counted, and a wrong count is cast from a text that is no
//! number. The error then carries the count and cannot be taken for any other.

use crate::batch::{Expect, Statement};

/// Begins the text that a failed guard casts; it comes back inside the error's message.
const MARK: &str = "nephos guard counted ";

/// Which text of a statement was prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Form {
    Plain,
    Exactly,
    AtLeast,
}

impl Form {
    pub(super) fn of(expect: Expect) -> Self {
        match expect {
            Expect::Any | Expect::AtLeast(0) => Form::Plain,
            Expect::Exactly(_) => Form::Exactly,
            Expect::AtLeast(_) => Form::AtLeast,
        }
    }
}

/// The text to prepare for `statement`. A guarded one takes the wanted count as one more parameter.
pub(super) fn text(statement: &Statement, form: Form) -> String {
    let text = statement.sql.text;
    let relation = match form {
        Form::Plain => return text.to_owned(),
        Form::Exactly => "=",
        Form::AtLeast => ">=",
    };
    let wanted = statement.params.len() + 1;
    let verdict = format!(
        "CASE WHEN count(*) {relation} CAST(${wanted} AS BIGINT) THEN 1 ELSE CAST('{MARK}' || count(*) AS BIGINT) END AS ok"
    );
    // The line breaks end a comment that the text may close with.
    if statement.sql.shape().returns {
        // MATERIALIZED: an inlined and unused verdict would never be computed.
        format!(
            "WITH guarded AS ({text}\n), counted AS MATERIALIZED (SELECT {verdict} FROM guarded) \
             SELECT guarded.* FROM counted LEFT JOIN guarded ON TRUE"
        )
    } else {
        format!("WITH guarded AS ({text}\nRETURNING 1) SELECT {verdict} FROM guarded")
    }
}

/// The guard's wanted count as a parameter.
pub(super) fn wanted(expect: Expect) -> Option<i64> {
    match expect {
        Expect::Any | Expect::AtLeast(0) => None,
        Expect::Exactly(count) | Expect::AtLeast(count) => Some(i64::try_from(count).unwrap_or(i64::MAX)),
    }
}

/// Whether the rows that came back are the statement's own, and not the guard's.
pub(super) fn keeps_rows(statement: &Statement) -> bool {
    statement.sql.shape().returns && statement.expect != Expect::Exactly(0)
}

/// Whether this error is a guard that did not hold.
pub(super) fn is_miss(error: &tokio_postgres::error::DbError) -> bool {
    *error.code() == tokio_postgres::error::SqlState::INVALID_TEXT_REPRESENTATION && error.message().contains(MARK)
}
