//! Measures the store on this machine: durable creates and short lists, on both engines.
//!
//! ```text
//! cargo run --release -p nephos-store --example store_bench [-- FOLDER]
//! ```
//! The `SQLite` file is made in FOLDER (else the temporary folder); PostgreSQL is measured when `NEPHOS_BENCH_POSTGRES`
//! holds the URL of an empty database. Each figure is a median of rounds.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![allow(clippy::print_stdout, reason = "its output is its purpose")]
#![allow(clippy::cast_precision_loss, reason = "figures of three digits")]

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use nephos_store::{Batch, Migration, Miss, PostgresOptions, Result, SqliteOptions, Statement, Store, params, sql};
use rusqlite::Connection;

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(500);
const CALLERS: usize = 64;
const TENANTS: i64 = 50;
const ROWS_PER_TENANT: i64 = 100;
const TAKEN: Miss = Miss("taken");

const SCHEMA: &[Migration] = &[Migration {
    version: 1,
    name: "bench",
    sql: "CREATE TABLE machines (tenant BIGINT NOT NULL, id TEXT NOT NULL, project TEXT NOT NULL, name TEXT NOT NULL,
              size TEXT NOT NULL, status TEXT NOT NULL, version BIGINT NOT NULL, created_at BIGINT NOT NULL,
              updated_at BIGINT NOT NULL, PRIMARY KEY (tenant, id));
          CREATE TABLE operations (tenant BIGINT NOT NULL, id TEXT NOT NULL, machine TEXT NOT NULL, PRIMARY KEY (tenant, id));
          CREATE TABLE events (tenant BIGINT NOT NULL, seq BIGINT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (tenant, seq));",
}];

sql! {
    MACHINE = "INSERT INTO machines (tenant, id, project, name, size, status, version, created_at, updated_at)
               VALUES ($1, $2, $3, $4, $5, $6, 1, $7, $7)";
    OPERATION = "INSERT INTO operations (tenant, id, machine) VALUES ($1, $2, $3)";
    EVENT = "INSERT INTO events (tenant, seq, body) VALUES ($1, $2, $3)";
    indexed LIST = "SELECT id, project, name, size, status, version, created_at, updated_at FROM machines
                    WHERE tenant = $1 AND id < $2 ORDER BY id DESC LIMIT $3";
    indexed TOTAL = "SELECT version FROM machines WHERE tenant = $1 AND id = $2";
    CHECKPOINT_COUNT = "SELECT count(*) FROM machines";
}

const BODY: &str = r#"{"type":"compute.created","data":{"id":"cmp_01h455vb4pex5vsknk084sn02q","name":"web-1"}}"#;

fn machine(tenant: i64, number: i64) -> Statement {
    let (id, name) = (format!("cmp_{number:026}"), format!("web-{number}"));
    MACHINE.bind(params![
        tenant,
        id,
        "prj_01h455vb4pex5vsknk084sn02q",
        name,
        "small",
        "running",
        1_700_000_000_000_000_i64
    ])
}

fn create(number: i64) -> Batch {
    let tenant = number % TENANTS;
    let id = format!("op_{number:026}");
    Batch::new()
        .with(machine(tenant, number).must(1, TAKEN))
        .with(OPERATION.bind(params![tenant, id, format!("cmp_{number:026}")]).must(1, TAKEN))
        .with(EVENT.bind(params![tenant, number, BODY]).must(1, TAKEN))
}

/// The list as the program asks for it: a page, and beside it one more row from the same snapshot.
fn page(tenant: i64) -> Statement {
    LIST.bind(params![tenant, "cmp_~", 20_i64])
}

/// What a kind of call reaches.
#[derive(Clone, Copy)]
struct Figures {
    /// Calls a second.
    rate: f64,
    /// Time of a call in microseconds: the median and the 99th percentile.
    times_us: (u128, u128),
    /// What a call costs in microseconds of processor time, which other programs on the machine disturb less.
    cpu_us: f64,
}

/// Processor time of this process so far, in seconds. The kernel counts it in hundredths.
fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    after_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// Runs `call` with `callers` at a time.
async fn rate<F, W>(callers: usize, call: F) -> Figures
where
    F: Fn(i64) -> W + Clone + Send + 'static,
    W: Future<Output = Result<()>> + Send,
{
    static NUMBER: AtomicI64 = AtomicI64::new(1_000_000);
    let mut rates = Vec::new();
    let mut times = Vec::new();
    let cpu_before = cpu_s();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let tasks: Vec<_> = (0..callers)
            .map(|_| {
                let call = call.clone();
                tokio::spawn(async move {
                    let mut times = Vec::new();
                    while begun.elapsed() < ROUND {
                        let start = Instant::now();
                        call(NUMBER.fetch_add(1, Ordering::Relaxed)).await.expect("the call succeeds");
                        times.push(start.elapsed().as_micros());
                    }
                    times
                })
            })
            .collect();
        let mut count = 0;
        for task in tasks {
            let own = task.await.expect("the caller does not panic");
            count += own.len();
            times.extend(own);
        }
        rates.push(count as f64 / begun.elapsed().as_secs_f64());
    }
    rates.sort_by(f64::total_cmp);
    times.sort_unstable();
    let cpu_us = (cpu_s() - cpu_before) * 1e6 / times.len() as f64;
    Figures { rate: rates[ROUNDS / 2], times_us: (times[times.len() / 2], times[times.len() * 99 / 100]), cpu_us }
}

fn show(what: &str, Figures { rate, times_us: (median, tail), cpu_us }: Figures) {
    println!("{what:<72} {rate:>8.0}/s  p50 {median:>5} us  p99 {tail:>5} us  {cpu_us:>6.1} us of CPU");
}

async fn fill(store: &Store) -> Result<()> {
    store.migrate(SCHEMA, 0).await?;
    for tenant in 0..TENANTS {
        store.write((0..ROWS_PER_TENANT).map(|number| machine(tenant, number)).collect()).await?;
    }
    Ok(())
}

async fn measure(name: &str, store: Store) {
    let store = Arc::new(store);
    for callers in [1, CALLERS] {
        let shared = Arc::clone(&store);
        let list = move |number: i64| {
            let store = Arc::clone(&shared);
            async move {
                let rows = store.read(page(number % TENANTS)).await?;
                assert_eq!(rows.iter().filter(|row| row.text(2).is_ok()).count(), 20);
                Ok(())
            }
        };
        show(&format!("{name}: 20-row list, {callers} callers"), rate(callers, list).await);
        let shared = Arc::clone(&store);
        let list = move |number: i64| {
            let store = Arc::clone(&shared);
            async move {
                let total = TOTAL.bind(params![number % TENANTS, format!("cmp_{:026}", 1)]);
                store.read_all(vec![page(number % TENANTS), total]).await.map(|_| ())
            }
        };
        show(&format!("{name}: 20-row list and a count in a snapshot, {callers} callers"), rate(callers, list).await);
    }
}

async fn measure_creates(name: &str, store: Store) {
    let store = Arc::new(store);
    for callers in [1, CALLERS] {
        let before = store.counts();
        let shared = Arc::clone(&store);
        let call = move |number| {
            let store = Arc::clone(&shared);
            async move { store.write(create(number)).await.map(|_| ()) }
        };
        let figures = rate(callers, call).await;
        let after = store.counts();
        let (batches, commits) = (after.batches - before.batches, after.commits - before.commits);
        show(&format!("{name}: durable 3-row create, {callers} callers"), figures);
        println!("{:<72} {:>9.4} commits a create", "", commits as f64 / batches as f64);
    }
    let rows = store.read(CHECKPOINT_COUNT.bind([])).await.expect("a count");
    println!("{:<72} {:>9} machines now", "", rows[0].int(0).expect("a number"));
}

/// What a plain program does: one connection, one transaction for each create.
fn plain(path: &Path, mut number: i64) -> f64 {
    let mut run = || -> rusqlite::Result<f64> {
        let mut connection = Connection::open(path)?;
        connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON")?;
        let mut rates = Vec::new();
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            let mut count = 0;
            while begun.elapsed() < ROUND {
                number += 1;
                count += 1;
                let (tenant, id) = (number % TENANTS, format!("cmp_{number:026}"));
                let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
                let machine = (
                    tenant,
                    &id,
                    "prj_01h455vb4pex5vsknk084sn02q",
                    "web",
                    "small",
                    "running",
                    1_700_000_000_000_000_i64,
                );
                transaction.prepare_cached(MACHINE.text)?.execute(machine)?;
                transaction.prepare_cached(OPERATION.text)?.execute((tenant, format!("op_{number:026}"), &id))?;
                transaction.prepare_cached(EVENT.text)?.execute((tenant, number, BODY))?;
                transaction.commit()?;
            }
            rates.push(f64::from(count) / begun.elapsed().as_secs_f64());
        }
        rates.sort_by(f64::total_cmp);
        Ok(rates[ROUNDS / 2])
    };
    run().expect("plain SQLite runs")
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let folder = std::env::args().nth(1).map_or_else(std::env::temp_dir, Into::into);
    let folder = tempfile::tempdir_in(folder).expect("a folder");
    let path = folder.path().join("bench.db");
    let defaults = SqliteOptions::default();
    let store = Store::open_sqlite(&path, defaults.clone()).await.expect("the store opens");
    fill(&store).await.expect("rows");
    measure("SQLite, callers' threads", store.clone()).await;
    for (name, options) in [
        ("SQLite, 2 reader threads", SqliteOptions { direct_readers: 0, ..defaults.clone() }),
        ("SQLite, callers' threads, memory map", SqliteOptions { mmap_bytes: 256 * 1024 * 1024, ..defaults.clone() }),
    ] {
        measure(name, Store::open_sqlite(&path, options).await.expect("the store opens")).await;
    }
    println!(
        "{:<72} {:>9.0}/s",
        "plain rusqlite: durable 3-row create, one transaction each",
        plain(&path, 500_000_000)
    );
    measure_creates("SQLite", store.clone()).await;
    println!("{:<72} {:>9.0}/s", "plain rusqlite: the same again", plain(&path, 600_000_000));
    store.close().await;

    if let Ok(url) = std::env::var("NEPHOS_BENCH_POSTGRES") {
        let store = Store::open_postgres(&url, PostgresOptions::default()).await.expect("the server answers");
        fill(&store).await.expect("rows");
        measure("PostgreSQL", store.clone()).await;
        measure_creates("PostgreSQL", store.clone()).await;
        store.close().await;
    }
}
