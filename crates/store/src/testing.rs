//! Databases for tests, and the checks that every statement must pass. Behind the feature `testing`.
//!
//! PostgreSQL comes from the URL in `NEPHOS_TEST_POSTGRES`, or else from a private cluster that `scripts/lib/postgres`
//! starts once and all test processes share. Each test gets a database of its own in it.

mod invariants;
mod plan;
pub mod tamper;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use nephos_model::tenant::TenantId;
use tempfile::TempDir;
use tokio_postgres::NoTls;

use crate::{Backend, Engine, Migration, PostgresOptions, SqliteOptions, Store};

pub use invariants::{broken, kept_answers};
pub use plan::audit;

/// Any two processes that make a template take turns by this advisory lock.
const TEMPLATE_LOCK: i64 = 0x6e65_7068_6f73_0002;
/// When tests migrate; any fixed time does. Microseconds since 1970.
const MIGRATED_AT_US: i64 = 1_700_000_000_000_000;

/// A fresh database on either engine. Dropping it removes it.
///
/// Everything here panics when it fails: without its database a test cannot say anything.
#[derive(Debug)]
pub struct TestDatabase {
    store: Store,
    place: Place,
    folder: TempDir,
}

/// A transaction that is open; it is rolled back when this is dropped.
pub struct Held {
    _client: tokio_postgres::Client,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

#[derive(Debug)]
enum Place {
    Sqlite(PathBuf),
    Postgres { url: String, name: String },
}

impl TestDatabase {
    /// An empty database on `engine`.
    ///
    /// # Panics
    ///
    /// As [`TestDatabase::migrated`] does.
    pub async fn new(engine: Engine) -> Self {
        Self::migrated(engine, &[]).await
    }

    /// An empty `SQLite` database.
    pub async fn sqlite() -> Self {
        Self::new(Engine::Sqlite).await
    }

    /// An empty PostgreSQL database.
    pub async fn postgres() -> Self {
        Self::new(Engine::Postgres).await
    }

    /// A database on `engine` with `migrations` applied. On PostgreSQL it is copied from a template, which the first
    /// test that asks for these migrations makes.
    ///
    /// # Panics
    ///
    /// When there is no such database to be had, or a migration fails.
    pub async fn migrated(engine: Engine, migrations: &[Migration]) -> Self {
        let folder = tempfile::Builder::new().prefix("nephos-test-").tempdir().expect("a temporary folder");
        let place = match engine {
            Engine::Sqlite => Place::Sqlite(folder.path().join("state.db")),
            Engine::Postgres => {
                let name = folder.path().file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
                create(&name, migrations).await;
                Place::Postgres { url: in_database(&cluster(), &name), name }
            }
        };
        let store = place.open().await;
        if engine == Engine::Sqlite && !migrations.is_empty() {
            store.migrate(migrations, MIGRATED_AT_US).await.expect("the migrations apply");
        }
        Self { store, place, folder }
    }

    /// The database.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Another store on the same database, as another process would open it.
    pub async fn open_again(&self) -> Store {
        self.place.open().await
    }

    /// Locks a tenant's counter in a transaction that stays open: whoever writes it waits until what is returned is dropped. `None`
    /// on `SQLite`, where one writes after the other.
    ///
    /// # Panics
    ///
    /// When it can't be locked.
    pub async fn hold_counter(&self, tenant: TenantId, noun: &str) -> Option<Held> {
        let Place::Postgres { url, .. } = &self.place else { return None };
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the test's database opens");
        tokio::spawn(connection);
        client.batch_execute("BEGIN").await.expect("a transaction begins");
        let lock = "SELECT value FROM counters WHERE tenant = $1 AND noun = $2 FOR UPDATE";
        client.query(lock, &[&tenant.0, &noun]).await.expect("the counter is locked");
        Some(Held { _client: client })
    }

    /// A folder that lives as long as the database; an `SQLite` one lies in it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The PostgreSQL database's URL, or the `SQLite` file's path.
    pub fn location(&self) -> String {
        match &self.place {
            Place::Sqlite(path) => path.display().to_string(),
            Place::Postgres { url, .. } => url.clone(),
        }
    }
}

impl Place {
    async fn open(&self) -> Store {
        match self {
            Place::Sqlite(path) => Store::open_sqlite(path, SqliteOptions::default()).await,
            Place::Postgres { url, .. } => Store::open_postgres(url, PostgresOptions::default()).await,
        }
        .expect("the test's database opens")
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        if let Place::Postgres { name, .. } = &self.place {
            let statement = format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)");
            // The test's own runtime may be ending, so another thread waits for it.
            let dropped = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(admin(&statement)).map_err(std::io::Error::other)
            });
            if !matches!(dropped.join(), Ok(Ok(()))) {
                tracing::warn!(name, "a test's database was left behind");
            }
        }
    }
}

/// The cluster's URL. The first call in a process may start the cluster.
fn cluster() -> String {
    static CLUSTER: OnceLock<(String, Option<File>)> = OnceLock::new();
    CLUSTER
        .get_or_init(|| {
            if let Ok(url) = std::env::var("NEPHOS_TEST_POSTGRES") {
                return (url, None);
            }
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/lib/postgres");
            let folder = std::env::var_os("NEPHOS_TEST_POSTGRES_DIR").map(PathBuf::from);
            // Twice, because a cluster found running may end before it is known to be used.
            let mut used = None;
            let mut url = String::new();
            for _ in 0..2 {
                let output = Command::new(&script).arg("share").output().expect("scripts/lib/postgres runs");
                let complaint = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "no PostgreSQL to test with: {complaint}");
                String::from_utf8_lossy(&output.stdout).trim().clone_into(&mut url);
                if used.is_none() {
                    let host = url.split(' ').find_map(|word| word.strip_prefix("host="));
                    let folder = folder.clone().or_else(|| host.map(PathBuf::from)).expect("the URL names the folder");
                    let users = File::open(folder.join("users")).expect("the cluster's file of users");
                    users.lock_shared().expect("a shared lock");
                    used = Some(users);
                }
            }
            (url, used)
        })
        .0
        .clone()
}

/// The cluster's URL with another database in it.
fn in_database(url: &str, name: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        // Of a word that is given twice, the last counts.
        return format!("{url} dbname={name}");
    };
    let (before, query) = rest.split_once('?').map_or((rest, None), |(before, query)| (before, Some(query)));
    let server = before.split_once('/').map_or(before, |(server, _)| server);
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{scheme}://{server}/{name}{query}")
}

async fn admin(statement: &str) -> Result<(), tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(&cluster(), NoTls).await?;
    let driver = tokio::spawn(connection);
    let answer = client.batch_execute(statement).await;
    drop(client);
    driver.abort();
    answer
}

/// Creates the database `name`, as a copy of a template that has `migrations`.
async fn create(name: &str, migrations: &[Migration]) {
    let template = if migrations.is_empty() { "template0".to_owned() } else { template(migrations).await };
    let statement = format!("CREATE DATABASE \"{name}\" TEMPLATE {template}");
    admin(&statement).await.expect("the test's database can be created");
}

async fn template(migrations: &[Migration]) -> String {
    let name = format!("nephos_template_{}", crate::migrate::fingerprint(migrations));
    let (client, connection) = tokio_postgres::connect(&cluster(), NoTls).await.expect("the cluster answers");
    let driver = tokio::spawn(connection);
    client.execute("SELECT pg_advisory_lock($1)", &[&TEMPLATE_LOCK]).await.expect("the lock is free sometime");
    let known =
        client.query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[&name]).await.expect("a list of databases");
    if known.is_none() {
        // It gets its name when it is whole, so one that is cut short is never used.
        let draft = format!("{name}_draft");
        let drop_draft = format!("DROP DATABASE IF EXISTS {draft} WITH (FORCE)");
        client.batch_execute(&drop_draft).await.expect("no old draft");
        client.batch_execute(&format!("CREATE DATABASE {draft} TEMPLATE template0")).await.expect("a draft");
        let store = Store::open_postgres(&in_database(&cluster(), &draft), PostgresOptions::default()).await;
        let store = store.expect("the draft opens");
        store.migrate(migrations, MIGRATED_AT_US).await.expect("the migrations apply");
        store.close().await;
        let end = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1";
        client.execute(end, &[&draft]).await.expect("nobody uses the draft");
        client.batch_execute(&format!("ALTER DATABASE {draft} RENAME TO {name}")).await.expect("the draft's new name");
    }
    drop(client);
    driver.abort();
    name
}

/// The `SQLite` file behind a store, for checks that go around it.
fn sqlite_path(store: &Store) -> Option<PathBuf> {
    match &store.backend {
        Backend::Sqlite(sqlite) => Some(sqlite.path().to_owned()),
        Backend::Postgres(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_database_of_a_cluster() {
        assert_eq!(in_database("host=/run user=u dbname=a", "b"), "host=/run user=u dbname=a dbname=b");
        assert_eq!(in_database("postgres://u:p@h:5/a?sslmode=disable", "b"), "postgres://u:p@h:5/b?sslmode=disable");
        assert_eq!(in_database("postgres://h", "b"), "postgres://h/b");
    }
}
