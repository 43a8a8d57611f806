//! Migrating the embedded engine, on its writer's connection.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::{APPLIED, Applied, BACKUPS_MAX, CREATE, Migrated, Migration, RECORD, ddl, failed, pending};
use crate::engine::sqlite::{Sqlite, copy};
use crate::error::{Result, StoreError};

/// Counts the copies this process has made, to name them apart.
static COPIES: AtomicU32 = AtomicU32::new(0);

pub(super) async fn migrate(store: &Sqlite, migrations: &[Migration], now_us: i64) -> Result<Migrated> {
    let (migrations, path) = (migrations.to_vec(), store.path().to_owned());
    store.with_writer(move |connection| run(connection, &path, &migrations, now_us)).await
}

fn run(connection: &mut Connection, path: &Path, migrations: &[Migration], now_us: i64) -> Result<Migrated> {
    let create = ddl::sqlite(CREATE);
    connection.execute_batch(&create).map_err(|error| unreadable(error.into()))?;
    let found = applied(connection)?;
    let from = found.last().map_or(0, |last| last.version);
    let left = pending(migrations, &found)?;
    let backup = match left.last() {
        Some(last) if from > 0 => Some(back_up(path, from, last.version, now_us)?),
        _ => None,
    };
    // A step that makes a table anew would trip over references to the old one; they are checked before its commit.
    set_foreign_keys(connection, false)?;
    let result = left.iter().try_for_each(|migration| apply(connection, migrations, migration, now_us));
    set_foreign_keys(connection, true)?;
    result?;
    let to = applied(connection)?.last().map_or(0, |last| last.version);
    Ok(Migrated { from, to, backup })
}

fn apply(connection: &mut Connection, migrations: &[Migration], migration: &Migration, now_us: i64) -> Result<()> {
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(|error| failed(migration, error))?;
    // Another process may have applied it since.
    let found = applied(&transaction)?;
    if !pending(migrations, &found)?.iter().any(|left| left.version == migration.version) {
        return Ok(());
    }
    let statements = ddl::statements(migration.sql, ddl::sqlite)?;
    change(&transaction, &statements, migration, now_us).map_err(|error| failed(migration, error))?;
    if dangling(&transaction).map_err(|error| failed(migration, error))? {
        return Err(failed(migration, "it leaves references to rows that do not exist"));
    }
    transaction.commit().map_err(|error| failed(migration, error))?;
    tracing::info!(version = migration.version, name = migration.name, "migrated");
    Ok(())
}

fn change(
    transaction: &Transaction<'_>,
    statements: &[String],
    migration: &Migration,
    now_us: i64,
) -> rusqlite::Result<()> {
    for statement in statements {
        transaction.execute_batch(statement)?;
    }
    transaction.execute(RECORD, (migration.version, migration.name, migration.checksum(), now_us)).map(|_| ())
}

fn dangling(transaction: &Transaction<'_>) -> rusqlite::Result<bool> {
    transaction.prepare("PRAGMA foreign_key_check")?.exists([])
}

fn set_foreign_keys(connection: &Connection, on: bool) -> Result<()> {
    connection.pragma_update(None, "foreign_keys", on).map_err(|error| unreadable(error.into()))
}

fn applied(connection: &Connection) -> Result<Vec<Applied>> {
    let read = || {
        let mut statement = connection.prepare(APPLIED)?;
        let rows = statement
            .query_map([], |row| Ok(Applied { version: row.get(0)?, name: row.get(1)?, checksum: row.get(2)? }))?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    };
    read().map_err(|error| unreadable(error.into()))
}

fn unreadable(cause: crate::error::Cause) -> StoreError {
    StoreError::Migration(format!("the table schema_migrations cannot be used: {cause}"), Some(cause))
}

/// Copies the database to `backups/` beside it and removes the oldest copies.
fn back_up(path: &Path, from: i64, to: i64, now_us: i64) -> Result<PathBuf> {
    let folder = path.parent().unwrap_or(Path::new("")).join("backups");
    let refuse = |error: std::io::Error| {
        let text = format!("{}: the copy before the migration cannot be made: {error}", folder.display());
        StoreError::Migration(text, Some(error.into()))
    };
    std::fs::create_dir_all(&folder).map_err(refuse)?;
    // Of two processes that start at once, one waits here, so neither removes the other's unfinished copy.
    let turn = File::create(folder.join("lock")).map_err(refuse)?;
    turn.lock().map_err(refuse)?;
    // Twenty digits hold every time, so that names sort as times do. The process and the count tell two apart that are
    // made at one time.
    let number = COPIES.fetch_add(1, Ordering::Relaxed);
    let name = format!("before-{now_us:020}-v{from}-to-v{to}-{}-{number}.db", std::process::id());
    let target = folder.join(name);
    copy(path, &target)?;
    prune(&folder).map_err(refuse)?;
    Ok(target)
}

/// Removes all but the newest [`BACKUPS_MAX`] copies, and what is left of copies that were cut short before those.
fn prune(folder: &Path) -> std::io::Result<()> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        names.extend(entry?.file_name().into_string().ok().filter(|name| name.starts_with("before-")));
    }
    names.sort_unstable_by(|a, b| b.cmp(a));
    let mut whole = 0;
    for name in names {
        let is_whole = Path::new(&name).extension().is_some_and(|extension| extension == "db");
        whole += usize::from(is_whole);
        let is_old = if is_whole { whole > BACKUPS_MAX } else { whole > 0 };
        if is_old && let Err(error) = std::fs::remove_file(folder.join(&name)) {
            tracing::warn!(%error, name, "an old copy of the database cannot be removed");
        }
    }
    Ok(())
}
