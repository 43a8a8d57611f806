//! Migrations: forward only, each in a transaction of its own, recorded with a checksum.
//!
//! Owns the table `schema_migrations`, the order and the refusals. The texts are written once, for `SQLite`, and
//! [`ddl`] says what is changed in them for each engine.
//!
//! Two processes may start at once: on PostgreSQL an advisory lock lets one of them migrate while the other waits; on
//! `SQLite` each migration takes the write lock and looks again at what is applied. Before a database that holds
//! something is changed, an `SQLite` one is copied beside itself. What is absent: a way back. A binary that is older
//! than the database refuses it.

mod ddl;
mod postgres;
mod sqlite;

use std::fmt::Write as _;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::error::{Result, StoreError};
use crate::{Backend, Store};

/// Copies made before migrations that are kept; the oldest go first.
pub const BACKUPS_MAX: usize = 5;

/// One step of the schema. Steps are numbered from 1 without gaps.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// Its number.
    pub version: i64,
    /// A short name, for people.
    pub name: &'static str,
    /// One or more statements, separated by semicolons.
    pub sql: &'static str,
}

impl Migration {
    /// SHA-256 of the text, in hexadecimal digits.
    fn checksum(&self) -> String {
        checksum(self.sql)
    }
}

/// SHA-256 of `text`, in hexadecimal digits.
fn checksum(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().fold(String::with_capacity(64), |mut digits, byte| {
        // Writing to a string cannot fail.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

/// What [`Store::migrate`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// The version before; 0 for an empty database.
    pub from: i64,
    /// The version now.
    pub to: i64,
    /// The copy that was made before, on `SQLite` and if there was something to copy.
    pub backup: Option<PathBuf>,
}

/// A migration that the database has.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Applied {
    version: i64,
    name: String,
    checksum: String,
}

/// The table's own statements run on both engines as they are, except for what [`ddl`] changes.
const CREATE: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (\
    version BIGINT PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_at BIGINT NOT NULL)";
const APPLIED: &str = "SELECT version, name, checksum FROM schema_migrations ORDER BY version";
const RECORD: &str = "INSERT INTO schema_migrations (version, name, checksum, applied_at) VALUES ($1, $2, $3, $4)";

/// The migrations that are still to be applied, or why the database and this program do not fit together.
fn pending<'a>(migrations: &'a [Migration], applied: &[Applied]) -> Result<&'a [Migration]> {
    let refuse = |text: String| Err(StoreError::Migration(text, None));
    for (place, migration) in (1_i64..).zip(migrations) {
        if migration.version != place {
            return refuse(format!("migration {} ({}) stands at place {place}", migration.version, migration.name));
        }
    }
    let newest = applied.last().map_or(0, |last| last.version);
    if applied.len() > migrations.len() {
        return refuse(format!(
            "the database has schema version {newest}, which is newer than this program's version {}: \
             start a newer program, or restore a copy made before the upgrade",
            migrations.len()
        ));
    }
    for (known, found) in migrations.iter().zip(applied) {
        if found.version != known.version {
            return refuse(format!("the database lacks migration {} but has {}", known.version, found.version));
        }
        if found.checksum != known.checksum() {
            return refuse(format!(
                "migration {} ({}) is not the one that was applied to the database as {}: \
                 a migration must not change after it was released",
                known.version, known.name, found.name
            ));
        }
    }
    Ok(migrations.get(applied.len()..).unwrap_or_default())
}

/// Names a list of migrations: two lists with other texts have other names.
#[cfg(feature = "testing")]
pub(crate) fn fingerprint(migrations: &[Migration]) -> String {
    let all: String = migrations.iter().map(Migration::checksum).collect();
    checksum(&all)[..16].to_owned()
}

fn failed(migration: &Migration, cause: impl Into<crate::error::Cause>) -> StoreError {
    let cause = cause.into();
    StoreError::Migration(format!("migration {} ({}) failed: {cause}", migration.version, migration.name), Some(cause))
}

impl Store {
    /// Brings the schema up to the last of `migrations`. `now_us` is the time that is recorded, in microseconds since
    /// 1970.
    ///
    /// An `SQLite` database that holds something is first copied to `backups/` beside it; [`BACKUPS_MAX`] copies are
    /// kept. Fails with [`StoreError::Migration`] when the database is newer than the program, when an applied
    /// migration has changed, or when a step fails; what was applied before that step stays.
    pub async fn migrate(&self, migrations: &[Migration], now_us: i64) -> Result<Migrated> {
        match &self.backend {
            Backend::Sqlite(store) => sqlite::migrate(store, migrations, now_us).await,
            Backend::Postgres(store) => postgres::migrate(store, migrations, now_us).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Migration = Migration { version: 1, name: "one", sql: "CREATE TABLE a (b TEXT)" };
    const SECOND: Migration = Migration { version: 2, name: "two", sql: "CREATE TABLE c (d TEXT)" };

    fn applied(migration: &Migration) -> Applied {
        Applied { version: migration.version, name: migration.name.into(), checksum: migration.checksum() }
    }

    #[test]
    fn what_is_pending() {
        let versions = |applied: &[Applied]| {
            pending(&[FIRST, SECOND], applied).map(|left| left.iter().map(|m| m.version).collect())
        };
        assert_eq!(versions(&[]).ok(), Some(vec![1, 2]));
        assert_eq!(versions(&[applied(&FIRST)]).ok(), Some(vec![2]));
        assert_eq!(versions(&[applied(&FIRST), applied(&SECOND)]).ok(), Some(vec![]));
    }

    #[test]
    fn what_is_refused() {
        let refusal = |migrations: &[Migration], found: &[Applied]| pending(migrations, found).unwrap_err().to_string();
        let newer = refusal(&[FIRST], &[applied(&FIRST), applied(&SECOND)]);
        assert!(newer.contains("version 2") && newer.contains("version 1"), "{newer}");
        let changed = refusal(&[Migration { sql: "CREATE TABLE a (b BIGINT)", ..FIRST }], &[applied(&FIRST)]);
        assert!(changed.contains("migration 1"), "{changed}");
        assert!(refusal(&[SECOND], &[]).contains("place 1"));
        assert!(refusal(&[FIRST, SECOND], &[applied(&SECOND)]).contains("lacks migration 1"));
    }
}
