//! The engine for several replicas: a few connections to a PostgreSQL server, each with many requests under way.
//!
//! ```text
//!  read ───► the least loaded connection ──► one query, no transaction
//!  write ──► the least loaded connection ──► BEGIN, statements, COMMIT sent back to back: one round trip
//! ```
//! Guards are part of the statements that are sent ([`guard`]), so a miss makes the server refuse the statement, and
//! with it the rest of the transaction: the `COMMIT` that is already under way then rolls back. Nothing is decided on
//! this side between `BEGIN` and `COMMIT`, so a caller that is dropped midway cannot leave a transaction open.
//!
//! Deliberately not here: encryption. Every way to reach a server over a network that is not trusted is refused or
//! warned about in [`configure`].

mod connection;
mod fault;
mod guard;
mod pipeline;
mod value;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio_postgres::config::{Host, SslMode};

use super::{Counters, Counts};
use crate::batch::{Batch, STATEMENTS_MAX, Statement};
use crate::error::{Result, StoreError};
use crate::value::Row;
use connection::{Lane, Load};
use fault::Verdict;

pub(crate) use value::cell;

/// Times a request is tried when the server asks for another try.
const ATTEMPTS_MAX: u64 = 10;
/// Wait before try number n, n times.
const RETRY_STEP_MS: u64 = 2;

/// How the PostgreSQL engine is set up.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// Connections; at least 1.
    pub connections: usize,
    /// Most requests under way or waiting at one time.
    pub queue: usize,
    /// How long a request may take in all, in milliseconds; then it fails with [`StoreError::Unavailable`].
    pub deadline_ms: u64,
    /// How long the server may work on one statement, in milliseconds. Less than `deadline_ms`.
    pub statement_timeout_ms: u64,
    /// How long a request waits for a connection when there is none, in milliseconds.
    pub outage_wait_ms: u64,
    /// How long one try to connect may take, in milliseconds.
    pub connect_timeout_ms: u64,
    /// Longest pause between two tries to connect, in milliseconds. The first is 50 ms and each doubles.
    pub backoff_max_ms: u64,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            connections: 4,
            queue: 4096,
            deadline_ms: 15_000,
            statement_timeout_ms: 10_000,
            outage_wait_ms: 1_000,
            connect_timeout_ms: 5_000,
            backoff_max_ms: 2_000,
        }
    }
}

/// The engine's shared state; cloning it is cheap.
#[derive(Clone)]
pub(crate) struct Postgres {
    inner: Arc<Inner>,
}

struct Inner {
    config: tokio_postgres::Config,
    options: PostgresOptions,
    lanes: Vec<Arc<Lane>>,
    next: AtomicU64,
    permits: Semaphore,
    closed: AtomicBool,
    /// Raised with each connection that is made, for requests that wait for one.
    arrivals: watch::Receiver<u64>,
    /// Dropped or set to end the tasks that keep the connections.
    stop: watch::Sender<bool>,
    counters: Arc<Counters>,
}

/// The configuration in `url`, or why it cannot be used.
fn configure(url: &str, options: &PostgresOptions) -> Result<tokio_postgres::Config> {
    let refuse = |text: String, source| Err(StoreError::Configuration(text, source));
    let wants_tls =
        ["sslmode=verify-ca", "sslmode=verify-full", "sslmode=require"].iter().any(|mode| url.contains(mode));
    let mut config: tokio_postgres::Config = match url.parse() {
        Ok(config) if !wants_tls => config,
        Ok(_) | Err(_) if wants_tls => {
            return refuse(
                "the database URL asks for TLS, which this build does not speak: reach the server through a Unix \
                 socket, a private network or a TLS tunnel, and say sslmode=disable"
                    .into(),
                None,
            );
        }
        Ok(_) => return refuse("the database URL cannot be used".into(), None),
        Err(error) => return refuse(format!("the database URL cannot be read: {error}"), Some(error.into())),
    };
    let far = config.get_hosts().iter().any(|host| match host {
        Host::Tcp(name) => {
            name != "localhost" && !name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        Host::Unix(_) => false,
    });
    if far && config.get_ssl_mode() != SslMode::Disable {
        tracing::warn!(
            "the connection to the database is not encrypted; sslmode=disable in its URL says that this is wanted"
        );
    }
    config.ssl_mode(SslMode::Disable);
    if config.get_application_name().is_none() {
        config.application_name("nephos");
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(Duration::from_millis(options.connect_timeout_ms));
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(Duration::from_millis(options.deadline_ms));
    }
    Ok(config)
}

impl Postgres {
    /// Connects. Fails when the server cannot be reached, refuses this user, or cannot hold what the store needs.
    pub(crate) async fn open(url: &str, options: PostgresOptions) -> Result<Self> {
        let config = configure(url, &options)?;
        let first = connection::connect(&config, &options).await?;
        connection::check_server(&first.link).await?;
        let counters = Arc::new(Counters::default());
        let (stop, stopped) = watch::channel(false);
        let (arrived, arrivals) = watch::channel(0);
        let arrived = Arc::new(arrived);
        let mut made = Some(first);
        let lanes: Vec<Arc<Lane>> = (0..options.connections.max(1)).map(|_| Arc::new(Lane::default())).collect();
        for lane in &lanes {
            let keeper = connection::Keeper {
                lane: Arc::clone(lane),
                config: config.clone(),
                options: options.clone(),
                arrived: Arc::clone(&arrived),
                stopped: stopped.clone(),
                counters: Arc::clone(&counters),
            };
            let made = made.take();
            if let Some(made) = &made {
                keeper.publish(&made.link);
            }
            tokio::spawn(keeper.run(made));
        }
        let inner = Inner {
            permits: Semaphore::new(options.queue.max(1)),
            config,
            options,
            lanes,
            next: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            arrivals,
            stop,
            counters,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    pub(crate) fn counts(&self) -> Counts {
        self.inner.counters.read()
    }

    pub(crate) fn load(&self) -> super::Load {
        let under_way = self.inner.options.queue.max(1).saturating_sub(self.inner.permits.available_permits());
        super::Load { reads: under_way as u64, writes: 0, groups: self.inner.counters.groups.read() }
    }

    pub(crate) async fn read_all(&self, statements: Vec<Statement>) -> Result<Vec<Vec<Row>>> {
        let begin = match statements.len() {
            0 => return Ok(Vec::new()),
            1 => None,
            _ => Some("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"),
        };
        self.run(&statements, begin, false).await
    }

    pub(crate) async fn write(&self, batch: Batch) -> Result<Vec<Vec<Row>>> {
        if batch.len() > STATEMENTS_MAX {
            let problem = format!("a batch of {} statements; at most {STATEMENTS_MAX} are possible", batch.len());
            return Err(StoreError::Bind { statement: "batch", problem });
        }
        let begin = match (batch.len(), batch.serializable) {
            (0, _) => return Ok(Vec::new()),
            // One statement is a transaction by itself.
            (1, false) => None,
            (_, false) => Some("BEGIN"),
            (_, true) => Some("BEGIN ISOLATION LEVEL SERIALIZABLE"),
        };
        let answer = self.run(&batch.statements, begin, true).await?;
        Counters::add(&self.inner.counters.batches, 1);
        Counters::add(&self.inner.counters.commits, 1);
        self.inner.counters.groups.record(1);
        Ok(answer)
    }

    /// Runs the statements as one transaction within the deadline, again when the server asks for it.
    async fn run(&self, statements: &[Statement], begin: Option<&'static str>, writes: bool) -> Result<Vec<Vec<Row>>> {
        for statement in statements {
            statement.check()?;
        }
        if self.inner.closed.load(Ordering::Relaxed) {
            return Err(StoreError::closed());
        }
        let Ok(_permit) = self.inner.permits.try_acquire() else {
            return Err(StoreError::TooBusy { queue: self.inner.options.queue });
        };
        let mut sent = None;
        let work = self.attempts(statements, begin, writes, &mut sent);
        let deadline = Duration::from_millis(self.inner.options.deadline_ms);
        if let Ok(answer) = tokio::time::timeout(deadline, work).await {
            return answer;
        }
        // The server ends statements sooner than that, so the connection itself is stuck.
        if let Some(link) = &sent {
            link.give_up();
        }
        Err(StoreError::Unavailable {
            reason: format!("no answer within {} ms", deadline.as_millis()),
            uncertain: writes && sent.is_some(),
            source: None,
        })
    }

    async fn attempts(
        &self,
        statements: &[Statement],
        begin: Option<&'static str>,
        writes: bool,
        sent: &mut Option<Arc<connection::Link>>,
    ) -> Result<Vec<Vec<Row>>> {
        let mut attempt = 1;
        loop {
            let load = self.lane(if writes { Load::WRITE } else { Load::READ }).await?;
            *sent = Some(Arc::clone(&load.link));
            let failure = match pipeline::run(&load.link, statements, begin, writes).await {
                Ok(rows) => return Ok(rows),
                Err(failure) => failure,
            };
            drop(load);
            let again = match failure.verdict(writes) {
                Verdict::Final => false,
                Verdict::Again => true,
                Verdict::Prepare => {
                    if let Some(link) = sent {
                        link.forget_prepared();
                    }
                    true
                }
            };
            if !again || attempt >= ATTEMPTS_MAX {
                return Err(failure.into_error(writes));
            }
            Counters::add(&self.inner.counters.retries, 1);
            // Two transactions in each other's way part sooner when they do not start at the same time again.
            let pause = Duration::from_millis(attempt * RETRY_STEP_MS);
            if tokio::time::timeout(pause, self.stopped()).await.is_ok() {
                return Err(StoreError::closed());
            }
            attempt += 1;
        }
    }

    async fn stopped(&self) {
        // An error means that the sender is gone, which lives as long as `self`.
        let _ = self.inner.stop.subscribe().wait_for(|stop| *stop).await;
    }

    /// The least loaded connection that is up; waits a bounded time for one.
    async fn lane(&self, weight: Load) -> Result<connection::Loaded> {
        if let Some(loaded) = self.pick(weight) {
            return Ok(loaded);
        }
        let mut arrivals = self.inner.arrivals.clone();
        let wait = Duration::from_millis(self.inner.options.outage_wait_ms);
        let found = tokio::time::timeout(wait, async {
            loop {
                arrivals.mark_unchanged();
                if let Some(loaded) = self.pick(weight) {
                    return Some(loaded);
                }
                arrivals.changed().await.ok()?;
            }
        });
        found
            .await
            .ok()
            .flatten()
            .ok_or_else(|| StoreError::unavailable("there is no connection to the PostgreSQL server"))
    }

    fn pick(&self, weight: Load) -> Option<connection::Loaded> {
        let lanes = &self.inner.lanes;
        // Only the remainder is used, so cutting the counter to the pointer's width does no harm.
        #[allow(clippy::cast_possible_truncation)]
        let first = self.inner.next.fetch_add(1, Ordering::Relaxed) as usize;
        let lane = (0..lanes.len())
            .map(|offset| &lanes[(first.wrapping_add(offset)) % lanes.len()])
            .filter(|lane| lane.is_up())
            .min_by_key(|lane| lane.load())?;
        lane.take(weight)
    }

    /// Waits for what is under way, then ends the connections.
    pub(crate) async fn close(&self) {
        self.inner.closed.store(true, Ordering::Relaxed);
        let all = u32::try_from(self.inner.options.queue.max(1)).unwrap_or(u32::MAX);
        let deadline = Duration::from_millis(self.inner.options.deadline_ms);
        if tokio::time::timeout(deadline, self.inner.permits.acquire_many(all)).await.is_err() {
            tracing::warn!("the store was closed with requests under way");
        }
        self.inner.stop.send_replace(true);
    }

    /// A connection of its own, for work that holds session state.
    pub(crate) async fn dedicated(&self) -> Result<connection::Made> {
        connection::connect(&self.inner.config, &self.inner.options).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_demands_tls_is_refused() {
        for mode in ["require", "verify-ca", "verify-full"] {
            let error = configure(&format!("postgres://u:secret@db/x?sslmode={mode}"), &PostgresOptions::default());
            let text = error.unwrap_err().to_string();
            assert!(text.contains("TLS") && !text.contains("secret"), "{text}");
        }
        let keyed = configure("host=db user=u sslmode=require", &PostgresOptions::default());
        assert!(keyed.is_err());
    }

    #[test]
    fn a_url_that_allows_plain_text_is_taken() {
        for url in ["postgres://u@127.0.0.1/x", "host=/run/postgresql user=u", "postgres://u@db/x?sslmode=disable"] {
            assert!(configure(url, &PostgresOptions::default()).is_ok(), "{url}");
        }
        assert!(configure("mysql://nothing", &PostgresOptions::default()).is_err());
    }
}
