//! Connections: making them, keeping them up, and what each remembers.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_postgres::{Client, Config, Connection, NoTls, Socket, Statement as Prepared};

use super::guard::{self, Form};
use super::{PostgresOptions, fault};
use crate::batch::Statement;
use crate::engine::Counters;
use crate::error::{Result, StoreError};

/// First pause after a connection was lost, in milliseconds; each further one doubles.
const BACKOFF_FIRST_MS: u64 = 50;

/// One connection while it is up.
pub(crate) struct Link {
    pub(crate) client: Client,
    /// Held while a transaction's messages are enqueued, so that nobody else's come between them.
    enqueue: Mutex<()>,
    prepared: Mutex<HashMap<(usize, Form), Prepared>>,
    broken: Notify,
}

impl Link {
    /// The right to enqueue. Held for enqueueing only, never for an answer, so waiting for it is short.
    pub(super) fn enqueueing(&self) -> MutexGuard<'_, ()> {
        self.enqueue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a request whose messages must not land inside another's transaction: there they would fail with it, or
    /// make it fail.
    pub(super) async fn ordered<F: Future>(&self, request: F) -> F::Output {
        let mut request = pin!(request);
        let mut enqueued = false;
        poll_fn(|context| {
            let _right = (!enqueued).then(|| self.enqueueing());
            enqueued = true;
            request.as_mut().poll(context)
        })
        .await
    }

    /// The statement, prepared on this connection before or now.
    pub(super) async fn prepared(&self, statement: &Statement) -> Result<Prepared, tokio_postgres::Error> {
        let form = Form::of(statement.expect);
        // Statements are statics, so their address names them.
        let key = (std::ptr::from_ref(statement.sql) as usize, form);
        // The map is whole between any two calls, so a panic elsewhere cannot have broken it.
        let known = self.prepared.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let text = guard::text(statement, form);
        let prepared = self.ordered(self.client.prepare(&text)).await?;
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner).insert(key, prepared.clone());
        Ok(prepared)
    }

    /// Prepares everything anew, because the schema has changed under the old plans.
    pub(super) fn forget_prepared(&self) {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Ends the connection; another is made in its place.
    pub(super) fn give_up(&self) {
        self.broken.notify_one();
    }
}

/// A fresh connection: its handle, and the half that must be polled.
pub(crate) struct Made {
    pub(crate) link: Arc<Link>,
    driver: tokio::task::JoinHandle<()>,
}

impl Drop for Made {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Connects and sets the session up.
pub(super) async fn connect(config: &Config, options: &PostgresOptions) -> Result<Made> {
    let limit = Duration::from_millis(options.connect_timeout_ms);
    let connecting = async {
        let (client, connection) = config.connect(NoTls).await?;
        let driver = tokio::spawn(drive(connection));
        let link = Link { client, enqueue: Mutex::default(), prepared: Mutex::default(), broken: Notify::new() };
        let made = Made { link: Arc::new(link), driver };
        // A commit that answers is durable whatever the server's default is. Short statements gain nothing from JIT.
        let session = format!(
            "SET statement_timeout = {timeout}; SET idle_in_transaction_session_timeout = {timeout}; SET jit = off; \
             SET client_min_messages = warning; \
             SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
            timeout = options.statement_timeout_ms,
        );
        made.link.client.batch_execute(&session).await?;
        Ok(made)
    };
    match tokio::time::timeout(limit, connecting).await {
        Ok(Ok(made)) => Ok(made),
        Ok(Err(error)) => Err(fault::on_connect(error)),
        Err(_) => Err(StoreError::unavailable(format!(
            "the PostgreSQL server did not answer within {} ms",
            limit.as_millis()
        ))),
    }
}

async fn drive(connection: Connection<Socket, tokio_postgres::tls::NoTlsStream>) {
    if let Err(error) = connection.await {
        tracing::warn!(%error, "a connection to the database ended");
    }
}

/// Refuses a server that cannot hold what the store needs.
pub(super) async fn check_server(link: &Link) -> Result<()> {
    const OLDEST: i32 = 12;
    let text = "SELECT CAST(current_setting('server_version_num') AS INT) / 10000, current_setting('server_encoding')";
    let row = link.client.query_one(text, &[]).await.map_err(fault::on_connect)?;
    let (version, encoding): (i32, &str) = (row.get(0), row.get(1));
    if version < OLDEST {
        let text = format!("the server is PostgreSQL {version}; {OLDEST} or newer is needed");
        return Err(StoreError::Configuration(text, None));
    }
    if encoding != "UTF8" {
        let text = format!("the database's encoding is {encoding}; create it with ENCODING 'UTF8'");
        return Err(StoreError::Configuration(text, None));
    }
    Ok(())
}

/// What a request weighs while it is under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load(usize);

impl Load {
    pub(super) const READ: Load = Load(1);
    /// A write waits for the server's disk and holds up what comes after it on its connection, so reads avoid it.
    pub(super) const WRITE: Load = Load(16);
}

/// A place for one connection, over all its lives.
#[derive(Default)]
pub(super) struct Lane {
    link: RwLock<Option<Arc<Link>>>,
    load: AtomicUsize,
}

impl Lane {
    pub(super) fn is_up(&self) -> bool {
        self.link.read().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(|link| !link.client.is_closed())
    }

    pub(super) fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    fn put(&self, link: Option<Arc<Link>>) {
        *self.link.write().unwrap_or_else(PoisonError::into_inner) = link;
    }

    /// The connection, counted as loaded until the answer is dropped.
    pub(super) fn take(self: &Arc<Self>, weight: Load) -> Option<Loaded> {
        let link = self.link.read().unwrap_or_else(PoisonError::into_inner).clone()?;
        self.load.fetch_add(weight.0, Ordering::Relaxed);
        Some(Loaded { link, lane: Arc::clone(self), weight })
    }
}

/// A connection with one more request on it.
pub(super) struct Loaded {
    pub(super) link: Arc<Link>,
    lane: Arc<Lane>,
    weight: Load,
}

impl Drop for Loaded {
    fn drop(&mut self) {
        self.lane.load.fetch_sub(self.weight.0, Ordering::Relaxed);
    }
}

/// Keeps one lane's connection up until the store is closed or dropped.
pub(super) struct Keeper {
    pub(super) lane: Arc<Lane>,
    pub(super) config: Config,
    pub(super) options: PostgresOptions,
    pub(super) arrived: Arc<watch::Sender<u64>>,
    pub(super) stopped: watch::Receiver<bool>,
    pub(super) counters: Arc<Counters>,
}

impl Keeper {
    pub(super) fn publish(&self, link: &Arc<Link>) {
        self.lane.put(Some(Arc::clone(link)));
        self.arrived.send_modify(|count| *count += 1);
    }

    pub(super) async fn run(mut self, mut made: Option<Made>) {
        let mut backoff_ms = BACKOFF_FIRST_MS;
        let mut lives = 0_u64;
        while !*self.stopped.borrow() {
            let fresh = match made.take() {
                Some(made) => Ok(made),
                None => connect(&self.config, &self.options).await,
            };
            match fresh {
                Ok(mut fresh) => {
                    backoff_ms = BACKOFF_FIRST_MS;
                    Counters::add(&self.counters.reconnects, u64::from(lives > 0));
                    lives += 1;
                    self.publish(&fresh.link);
                    let link = Arc::clone(&fresh.link);
                    let stop = tokio::select! {
                        _ = &mut fresh.driver => false,
                        () = link.broken.notified() => false,
                        _ = self.stopped.wait_for(|stop| *stop) => true,
                    };
                    self.lane.put(None);
                    if stop {
                        break;
                    }
                }
                Err(error) => tracing::warn!(%error, backoff_ms, "cannot connect to the database"),
            }
            // Ends at once, and for good, when the store is closed or dropped.
            let pause = Duration::from_millis(backoff_ms);
            if tokio::time::timeout(pause, self.stopped.wait_for(|stop| *stop)).await.is_ok() {
                break;
            }
            backoff_ms = (backoff_ms * 2).min(self.options.backoff_max_ms.max(BACKOFF_FIRST_MS));
        }
        self.lane.put(None);
    }
}
