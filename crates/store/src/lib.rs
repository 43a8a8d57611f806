//! The storage engine and, one file per noun, the program's queries.
//!
//! Owns: the two database engines behind one SQL text, batches with guards, migrations, and every SQL statement.
//! Deliberately not here: permission, idempotency, wording of faults. Callers map a [`Miss`] to their own error.
//!
//! Reads see one snapshot each. A write is a [`Batch`]; when [`Store::write`] answers it is durable.
//!
//! ```
//! use nephos_store::{Batch, Miss, SqliteOptions, Store, params, sql};
//!
//! sql! {
//!     CREATE = "CREATE TABLE counters (name TEXT NOT NULL PRIMARY KEY, value BIGINT NOT NULL)";
//!     INSERT = "INSERT INTO counters (name, value) VALUES ($1, $2)";
//!     RAISE = "UPDATE counters SET value = value + $2 WHERE name = $1 RETURNING value";
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! # let folder = tempfile::tempdir().unwrap();
//! let store = Store::open_sqlite(folder.path().join("state.db"), SqliteOptions::default()).await?;
//! store.write(CREATE.bind([]).into()).await?;
//! store.write(INSERT.bind(params!["visits", 0_i64]).into()).await?;
//!
//! let rows = store.write(RAISE.bind(params!["visits", 2_i64]).must(1, Miss("no such counter")).into()).await?;
//! assert_eq!(rows[0][0].int(0)?, 2);
//!
//! let missed = store.write(RAISE.bind(params!["nothing", 1_i64]).must(1, Miss("no such counter")).into()).await;
//! assert_eq!(missed.unwrap_err().missed(), Some(Miss("no such counter")));
//! # Ok::<(), nephos_store::StoreError>(()) }).unwrap();
//! ```

pub mod alteration;
pub mod api_key;
pub mod audit;
pub mod audit_log;
mod batch;
pub mod budget;
pub mod budget_alert;
pub mod capacity;
pub mod compute;
mod convert;
pub mod counter;
pub mod delivery;
pub mod deprecation;
mod engine;
pub mod environment;
pub mod epoch;
mod error;
pub mod event;
pub mod idempotency;
pub mod image;
pub mod install;
pub mod invitation;
pub mod invoice;
mod list;
pub mod mail;
pub mod member;
pub mod meter;
pub mod migrate;
pub mod operation;
pub mod price;
pub mod project;
mod schema;
pub mod sequence;
pub mod session;
pub mod signing_key;
pub mod sql;
pub mod ssh_key;
pub mod status;
pub mod telemetry;
pub mod tenant;
#[cfg(feature = "testing")]
pub mod testing;
pub mod usage;
mod value;
pub mod webhook;
pub mod work;
pub mod workspace;

use std::path::PathBuf;
use std::sync::Arc;

use nephos_model::metric::Metric;
use tracing::Instrument as _;

pub use batch::{Batch, Expect, Miss, STATEMENTS_MAX, Statement};
pub use engine::postgres::PostgresOptions;
pub use engine::sqlite::SqliteOptions;
pub use engine::{Counts, Engine};
pub use error::{Cause, Result, StoreError};
#[doc(hidden)]
pub use linkme;
pub use migrate::{Migrated, Migration};
pub use schema::MIGRATIONS;
pub use sql::Sql;
pub use value::{Row, Value};

use sequence::News;

use engine::postgres::Postgres;
use engine::sqlite::Sqlite;

/// A database on either engine. Clones share it.
#[derive(Clone)]
pub struct Store {
    backend: Backend,
    news: Arc<News>,
}

#[derive(Clone)]
enum Backend {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("engine", &self.engine()).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the `SQLite` database at `path`, or creates it. Its folder must exist.
    ///
    /// Fails with [`StoreError::Damaged`] or [`StoreError::Full`], which say what is wrong with the file or folder.
    pub async fn open_sqlite(path: impl Into<PathBuf>, options: SqliteOptions) -> Result<Self> {
        let path = path.into();
        let opened = tokio::task::spawn_blocking(move || Sqlite::open(&path, &options)).await;
        let sqlite = opened.unwrap_or_else(|_| Err(StoreError::unavailable("opening it ended by a panic")))?;
        Ok(Self { backend: Backend::Sqlite(sqlite), news: Arc::default() })
    }

    /// Connects to the PostgreSQL database at `url` (`postgres://user:password@host/database`, or `key=value` words).
    ///
    /// Fails with [`StoreError::Unavailable`] when the server cannot be reached now, and with
    /// [`StoreError::Configuration`] when the URL or the server can never do. A URL that demands TLS is refused.
    pub async fn open_postgres(url: &str, options: PostgresOptions) -> Result<Self> {
        Ok(Self { backend: Backend::Postgres(Postgres::open(url, options).await?), news: Arc::default() })
    }

    /// Which engine the store runs on.
    pub fn engine(&self) -> Engine {
        match &self.backend {
            Backend::Sqlite(_) => Engine::Sqlite,
            Backend::Postgres(_) => Engine::Postgres,
        }
    }

    /// The rows of one statement that only reads.
    pub async fn read(&self, statement: Statement) -> Result<Vec<Row>> {
        let mut rows = self.read_all(vec![statement]).await?;
        Ok(rows.pop().unwrap_or_default())
    }

    /// The rows of several statements that only read, all from one snapshot. Answers are in the statements' order.
    pub async fn read_all(&self, statements: Vec<Statement>) -> Result<Vec<Vec<Row>>> {
        let span = self.span("sql.read", &statements);
        let reading = async {
            match &self.backend {
                Backend::Sqlite(sqlite) => sqlite.read_all(statements).await,
                // Boxed, because it is many times as large as the other engine's and callers hold it inside of theirs.
                Backend::Postgres(postgres) => Box::pin(postgres.read_all(statements)).await,
            }
        };
        reading.instrument(span).await
    }

    /// Does all of the batch, durably, or nothing of it. Answers the rows of each statement in order; a statement
    /// without `RETURNING` has none. A caller that is dropped midway leaves the batch either done or not begun.
    pub async fn write(&self, batch: Batch) -> Result<Vec<Vec<Row>>> {
        let span = self.span("sql.write", &batch.statements);
        let told = if self.numbers_at_once() { sequence::tenants_of(&batch.statements) } else { Vec::new() };
        let writing = async {
            match &self.backend {
                Backend::Sqlite(sqlite) => sqlite.write(batch).await,
                Backend::Postgres(postgres) => Box::pin(postgres.write(batch)).await,
            }
        };
        let answer = writing.instrument(span).await?;
        self.news.add(told);
        Ok(answer)
    }

    /// The span of a read or a batch. Off, it costs the look at a flag; values are never in it, only statements' names.
    fn span(&self, name: &'static str, statements: &[Statement]) -> tracing::Span {
        tracing::info_span!(
            target: "otel", "sql", otel.name = name, otel.kind = "client", db.system.name = self.engine().system(),
            db.operation.batch.size = statements.len(), db.query.summary = %Names(statements),
        )
    }

    /// The store's numbers.
    pub fn metrics(&self) -> Vec<Metric> {
        let counts = self.counts();
        let load = match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.load(),
            Backend::Postgres(postgres) => postgres.load(),
        };
        let counter = |name, help, value| Metric::counter(name, help, &[], value);
        let waiting = |queue, value| {
            let help = "Requests that wait for the database; on PostgreSQL all that are under way are reads.";
            Metric::gauge("nephos_store_queue_depth", help, &[("queue", queue)], value)
        };
        vec![
            counter("nephos_store_batches_total", "Batches that were made durable.", counts.batches),
            counter("nephos_store_commits_total", "Transactions that were committed.", counts.commits),
            counter("nephos_store_retries_total", "Batches that were run again after a conflict.", counts.retries),
            counter("nephos_store_reconnects_total", "Connections made anew.", counts.reconnects),
            Metric::sizes("nephos_store_group_size", "Batches that one commit made durable.", &[], load.groups),
            waiting("read", load.reads),
            waiting("write", load.writes),
        ]
    }

    /// What the store has done since it was opened.
    pub fn counts(&self) -> Counts {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.counts(),
            Backend::Postgres(postgres) => postgres.counts(),
        }
    }

    /// Succeeds when the database answers.
    pub async fn ping(&self) -> Result<()> {
        self.read(PING.bind([])).await.map(|_| ())
    }

    /// Finishes what has been asked for, then refuses everything with [`StoreError::Unavailable`].
    pub async fn close(&self) {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.close().await,
            Backend::Postgres(postgres) => postgres.close().await,
        }
    }

    /// Writes a consistent copy of an `SQLite` database to `target`, a file that must not exist yet, while the store
    /// goes on working. On PostgreSQL this is refused: its own `pg_dump` does it.
    pub async fn backup_to(&self, target: impl Into<PathBuf>) -> Result<()> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.backup_to(target.into()).await,
            Backend::Postgres(_) => Err(StoreError::Configuration(
                "the database is on a PostgreSQL server: copy it with pg_dump".into(),
                None,
            )),
        }
    }
}

/// The names of the first statements of a batch, with how many more there are.
struct Names<'a>(&'a [Statement]);

/// Statements that a span names.
const NAMES_MAX: usize = 8;

impl std::fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, statement) in self.0.iter().take(NAMES_MAX).enumerate() {
            write!(f, "{}{}", if i == 0 { "" } else { " " }, statement.sql.name)?;
        }
        match self.0.len().checked_sub(NAMES_MAX) {
            Some(more) if more > 0 => write!(f, " and {more} more"),
            _ => Ok(()),
        }
    }
}

sql! {
    PING = "SELECT 1";
}
