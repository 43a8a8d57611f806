//! `SQLite`'s errors in the store's terms.

use std::path::Path;

use rusqlite::ErrorCode;
use rusqlite::ffi;

use crate::error::StoreError;

/// An error from running `statement`.
pub(super) fn on_run(statement: &'static str, error: rusqlite::Error) -> StoreError {
    let (code, extended) = codes(&error);
    let message = error.to_string();
    match code {
        Some(ErrorCode::ConstraintViolation) => {
            let constraint = message.split_once("failed: ").map_or(message.as_str(), |(_, rest)| rest).to_owned();
            let unique = [ffi::SQLITE_CONSTRAINT_UNIQUE, ffi::SQLITE_CONSTRAINT_PRIMARYKEY, ffi::SQLITE_CONSTRAINT_ROWID];
            if unique.contains(&extended) {
                StoreError::Unique { statement, constraint, source: error.into() }
            } else {
                StoreError::Constraint { statement, constraint: message, source: error.into() }
            }
        }
        _ if is_full(&error) => StoreError::Full {
            what: "the disk, or the size set for the database, is full: free some space or raise the limit".into(),
            source: error.into(),
        },
        Some(ErrorCode::ReadOnly) => StoreError::Full {
            what: "the database is read-only: check the owner and mode of its file and folder, and how the disk is mounted"
                .into(),
            source: error.into(),
        },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => unavailable("another process holds the write lock", error),
        Some(ErrorCode::SystemIoFailure) => StoreError::Unavailable {
            reason: "the disk does not read or write".into(),
            uncertain: true,
            source: Some(error.into()),
        },
        Some(ErrorCode::CannotOpen) => unavailable("the database file cannot be opened", error),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            unavailable("the database file is damaged: restore a copy", error)
        }
        _ => StoreError::Other { statement, message, source: error.into() },
    }
}

fn unavailable(reason: &str, error: rusqlite::Error) -> StoreError {
    StoreError::Unavailable { reason: reason.into(), uncertain: false, source: Some(error.into()) }
}

/// An error from opening or copying the database at `path`.
pub(super) fn on_open(path: &Path, error: rusqlite::Error) -> StoreError {
    if is_full(&error) || codes(&error).0 == Some(ErrorCode::ReadOnly) {
        return match on_run("open", error) {
            StoreError::Full { what, source } => {
                StoreError::Full { what: format!("{}: {what}", path.display()), source }
            }
            other => other,
        };
    }
    let problem = match codes(&error).0 {
        Some(ErrorCode::NotADatabase) => "the file is not a database: name another file, or restore a copy",
        Some(ErrorCode::DatabaseCorrupt) => "the database is damaged: restore a copy",
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another process holds it: is this program running already?"
        }
        Some(ErrorCode::CannotOpen) => {
            "it cannot be opened or created: check that the folder exists and may be written to"
        }
        Some(ErrorCode::PermissionDenied) => {
            "this user may not open it: check the owner and mode of the file and its folder"
        }
        Some(ErrorCode::SystemIoFailure) => "the disk does not read or write",
        _ => "it cannot be opened",
    };
    StoreError::Damaged { path: path.to_owned(), problem: format!("{problem} ({error})"), source: Some(error.into()) }
}

/// The database at `path` may only be read.
pub(super) fn read_only(path: &Path) -> StoreError {
    on_open(path, rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_READONLY), None))
}

/// No room is left. `SQLite` has a code for that, and one of its own for the file beside the database that processes share.
fn is_full(error: &rusqlite::Error) -> bool {
    let (code, extended) = codes(error);
    code == Some(ErrorCode::DiskFull) || extended == ffi::SQLITE_IOERR_SHMSIZE
}

/// True when the statement was stopped by the step budget.
pub(super) fn is_interrupted(error: &rusqlite::Error) -> bool {
    codes(error).0 == Some(ErrorCode::OperationInterrupted)
}

fn codes(error: &rusqlite::Error) -> (Option<ErrorCode>, i32) {
    match error {
        rusqlite::Error::SqliteFailure(inner, _) | rusqlite::Error::SqlInputError { error: inner, .. } => {
            (Some(inner.code), inner.extended_code)
        }
        _ => (None, 0),
    }
}
