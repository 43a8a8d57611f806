//! Connections and their settings, running one statement, and copying a database.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, MAIN_DB, OpenFlags};

use super::{SqliteOptions, fault};
use crate::batch::Statement;
use crate::error::{Result, StoreError};
use crate::sql::Sql;
use crate::value::{BlockBuilder, Cell, Row, Value};

/// Prepared statements that a connection keeps; more than the program has.
const STATEMENTS_CACHED_MAX: usize = 512;
/// What a log file is cut down to after it was folded back, in bytes.
const LOG_KEPT_BYTES: u32 = 64 * 1024 * 1024;

/// How many pages the log has, as the last commit left it.
pub(super) type LogPages = Arc<AtomicU32>;

pub(super) fn open_writer(path: &Path, options: &SqliteOptions) -> Result<(Connection, LogPages)> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(|error| fault::on_open(path, error))?;
    if connection.is_readonly(MAIN_DB).map_err(|error| fault::on_open(path, error))? {
        // SQLite opens a file that may not be written for reading only, without a word.
        return Err(fault::read_only(path));
    }
    set_up(&connection, options, options.writer_cache_kib).map_err(|error| fault::on_open(path, error))?;
    let mode: String = connection
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
        .map_err(|error| fault::on_open(path, error))?;
    if mode != "wal" {
        let problem =
            format!("its file system does not allow the journal mode WAL (it stays in {mode}); use a local disk");
        return Err(StoreError::Damaged { path: path.to_owned(), problem, source: None });
    }
    // WAL is persistent, so only a write proves that this directory can be written at all. Nothing is changed by it.
    let settings = format!(
        "PRAGMA synchronous = FULL;
         PRAGMA journal_size_limit = {LOG_KEPT_BYTES};
         BEGIN IMMEDIATE; ROLLBACK;"
    );
    connection.execute_batch(&settings).map_err(|error| fault::on_open(path, error))?;
    if options.size_max_bytes > 0 {
        limit_size(&connection, options.size_max_bytes).map_err(|error| fault::on_open(path, error))?;
    }
    let log = LogPages::default();
    let pages = Arc::clone(&log);
    // In the place of SQLite's own, which folds the log within a commit, while its callers wait.
    let told = move |_: &mut rusqlite::hooks::Wal, count: i32| {
        pages.store(count.unsigned_abs(), Ordering::Relaxed);
        Ok(())
    };
    connection.wal_hook(Some(told)).map_err(|error| fault::on_open(path, error))?;
    Ok((connection, log))
}

fn limit_size(connection: &Connection, bytes: u64) -> rusqlite::Result<()> {
    let page: i64 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
    let pages = i64::try_from(bytes).unwrap_or(i64::MAX) / page.max(1);
    connection.query_row(&format!("PRAGMA max_page_count = {}", pages.max(1)), [], |_| Ok(()))
}

pub(super) fn open_reader(path: &Path, options: &SqliteOptions) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| fault::on_open(path, error))?;
    set_up(&connection, options, options.cache_kib).map_err(|error| fault::on_open(path, error))?;
    connection.execute_batch("PRAGMA query_only = ON").map_err(|error| fault::on_open(path, error))?;
    Ok(connection)
}

fn set_up(connection: &Connection, options: &SqliteOptions, cache_kib: u32) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_millis(options.busy_timeout_ms))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED_MAX);
    // Without this a plan may depend on the bound values, and a statement with a bound LIMIT is prepared anew each time.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // LIKE then tells upper from lower case, as on PostgreSQL.
    connection.execute_batch(&format!(
        "PRAGMA foreign_keys = ON;
         PRAGMA case_sensitive_like = ON;
         PRAGMA temp_store = MEMORY;
         PRAGMA trusted_schema = OFF;
         PRAGMA cache_size = -{};
         PRAGMA mmap_size = {};",
        cache_kib, options.mmap_bytes,
    ))
}

/// What one statement did.
pub(super) struct Outcome {
    pub(super) rows: Vec<Row>,
    /// Rows returned, or changed by a statement that returns none.
    pub(super) count: u64,
}

/// Runs one statement to its end. The parameters have been checked against its text.
pub(super) fn run(connection: &Connection, statement: &Statement) -> Result<Outcome, rusqlite::Error> {
    let mut prepared = connection.prepare_cached(statement.sql.text)?;
    step(&mut prepared, statement.sql, &statement.params, &[])
}

/// The prepared statements of one connection, found by their places in the program and not by their texts.
pub(super) struct Prepared<'c> {
    connection: &'c Connection,
    known: Vec<Option<rusqlite::Statement<'c>>>,
    /// Inserts of several rows: the place of the statement that inserts one, and how many.
    many: Vec<(usize, usize, rusqlite::Statement<'c>)>,
}

/// How many rows are inserted at once: as many times the first as there are, and so on.
const INSERTED_AT_ONCE: [usize; 3] = [16, 4, 1];

impl<'c> Prepared<'c> {
    pub(super) fn new(connection: &'c Connection) -> Self {
        Self { connection, known: Vec::new(), many: Vec::new() }
    }

    pub(super) fn connection(&self) -> &'c Connection {
        self.connection
    }

    /// Runs a statement to its end, its parameters in two parts.
    pub(super) fn run(
        &mut self,
        sql: &'static Sql,
        params: &[Value],
        more: &[Value],
    ) -> Result<Outcome, rusqlite::Error> {
        let place = sql.place();
        if self.known.len() <= place {
            self.known.resize_with(place + 1, || None);
        }
        let prepared = match &mut self.known[place] {
            Some(prepared) => prepared,
            none => none.insert(self.connection.prepare(sql.text)?),
        };
        step(prepared, sql, params, more)
    }

    /// Inserts rows with a statement that inserts one, its parameters numbered as they stand. Each row is in two parts.
    pub(super) fn insert(
        &mut self,
        sql: &'static Sql,
        mut rows: &[(&[Value], &[Value])],
    ) -> Result<(), rusqlite::Error> {
        for count in INSERTED_AT_ONCE {
            while rows.len() >= count {
                let (some, rest) = rows.split_at(count);
                let prepared = self.inserting(sql, count)?;
                let values = some.iter().flat_map(|(params, more)| params.iter().chain(*more));
                for (place, value) in values.enumerate() {
                    bind(prepared, place + 1, Some(value))?;
                }
                prepared.raw_execute()?;
                rows = rest;
            }
        }
        Ok(())
    }

    fn inserting(&mut self, sql: &'static Sql, count: usize) -> Result<&mut rusqlite::Statement<'c>, rusqlite::Error> {
        let place = sql.place();
        let known = self.many.iter().position(|(known, rows, _)| (*known, *rows) == (place, count));
        let found = if let Some(found) = known {
            found
        } else {
            let head = sql.text.split_once("VALUES").map_or(sql.text, |(head, _)| head);
            // Whoever inserts so gives up the transaction when a row can't be: no need to keep what each page held before.
            let head = head.replacen("INSERT INTO", "INSERT OR FAIL INTO", 1);
            let row = format!("({})", vec!["?"; sql.shape().parameters].join(", "));
            let text = format!("{head} VALUES {}", vec![row; count].join(", "));
            self.many.push((place, count, self.connection.prepare(&text)?));
            self.many.len() - 1
        };
        Ok(&mut self.many[found].2)
    }
}

fn bind(prepared: &mut rusqlite::Statement<'_>, place: usize, value: Option<&Value>) -> Result<(), rusqlite::Error> {
    match value {
        Some(Value::Int(value)) => prepared.raw_bind_parameter(place, value),
        Some(Value::Text(text)) => prepared.raw_bind_parameter(place, text),
        Some(Value::Blob(bytes)) => prepared.raw_bind_parameter(place, bytes),
        Some(Value::Null) | None => prepared.raw_bind_parameter(place, rusqlite::types::Null),
    }
}

fn step(
    prepared: &mut rusqlite::Statement<'_>,
    sql: &'static Sql,
    params: &[Value],
    more: &[Value],
) -> Result<Outcome, rusqlite::Error> {
    // SQLite numbers parameters by first use in the text, so `$10` before `$1` is number 1: bind by the name's number.
    for (place, number) in sql.shape().order.iter().enumerate() {
        let value = params.get(number - 1).or_else(|| more.get((number - 1).checked_sub(params.len())?));
        bind(prepared, place + 1, value)?;
    }
    let columns = prepared.column_count();
    if columns == 0 {
        let count = prepared.raw_execute()?;
        return Ok(Outcome { rows: Vec::new(), count: count as u64 });
    }
    let mut block = BlockBuilder::new(sql, columns);
    let mut rows = prepared.raw_query();
    while let Some(row) = rows.next()? {
        for column in 0..columns {
            let cell = match row.get_ref(column)? {
                ValueRef::Null => Cell::Null,
                ValueRef::Integer(value) => Cell::Int(value),
                ValueRef::Real(_) => Cell::Foreign("REAL"),
                ValueRef::Text(text) => {
                    std::str::from_utf8(text).map_or(Cell::Foreign("TEXT that is not UTF-8"), Cell::Text)
                }
                ValueRef::Blob(bytes) => Cell::Blob(bytes),
            };
            block.push(cell).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        }
    }
    let rows = block.finish();
    Ok(Outcome { count: rows.len() as u64, rows })
}

/// Writes a consistent and durable copy of the database at `path` to `target`, which must not exist yet.
pub(crate) fn copy(path: &Path, target: &Path) -> Result<()> {
    if target.exists() {
        let problem = "it exists already; name a new file for the copy".to_owned();
        return Err(StoreError::Damaged { path: target.to_owned(), problem, source: None });
    }
    let failed = |error| fault::on_open(target, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| fault::on_open(path, error))?;
    connection.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
    let mut partial = target.as_os_str().to_owned();
    partial.push(".partial");
    let partial = Path::new(&partial);
    let unusable = |error: std::io::Error| StoreError::Damaged {
        path: target.to_owned(),
        problem: format!("the copy cannot be written: {error}"),
        source: Some(error.into()),
    };
    if partial.exists() {
        std::fs::remove_file(partial).map_err(unusable)?;
    }
    let Some(text) = partial.to_str() else {
        return Err(StoreError::Configuration(format!("{}: the path is not UTF-8", partial.display()), None));
    };
    if let Err(error) = connection.execute("VACUUM INTO ?1", [text]) {
        // Whatever was written is of no use; that it cannot be removed either is the lesser problem.
        let _ = std::fs::remove_file(partial);
        return Err(failed(error));
    }
    // The copy must survive a power failure before anything relies on it.
    File::open(partial).and_then(|file| file.sync_all()).map_err(unusable)?;
    std::fs::rename(partial, target).map_err(unusable)?;
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(unusable)
}
