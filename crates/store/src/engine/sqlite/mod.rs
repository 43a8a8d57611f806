//! The embedded engine: one file, one writer thread that groups commits, many readers.
//!
//! ```text
//!  write ──► queue ──► writer thread: BEGIN IMMEDIATE
//!                        for each batch that is queued, comes meanwhile or is expected: statements and guards
//!                        (a miss after a change: all again, each batch under a SAVEPOINT, which undoes only its own)
//!                      COMMIT (one fsync for all of them) ──► every caller gets its answer
//!  read ───► a free connection, on the caller's own thread, within a budget of steps
//!       └──► queue ──► reader threads, for statements that are over the budget or find no free connection
//! ```
//!
//! Deliberately not here: retries. There is one writer, so nothing can conflict inside the process; another process
//! that holds the write lock is waited for by `busy_timeout`.

mod connection;
mod fault;
mod reader;
mod shared;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::queue::{Queue, Refused};
use super::{Counters, Counts, Load};
use crate::batch::{Batch, STATEMENTS_MAX, Statement};
use crate::error::{Result, StoreError};
use crate::value::Row;

pub(crate) use connection::copy;

/// How the embedded engine is set up. The default suits a small machine.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// Threads for long reads; at least 1.
    pub readers: usize,
    /// Connections that short reads use on the caller's own thread; 0 sends every read to a reader thread.
    pub direct_readers: usize,
    /// How many steps of `SQLite`'s virtual machine a read may take on the caller's thread before it is moved to a
    /// reader thread. About 50 to 100 steps take a microsecond.
    pub direct_steps: u32,
    /// Most batches that may wait for the writer.
    pub write_queue: usize,
    /// Most reads that may wait for a reader thread.
    pub read_queue: usize,
    /// Most batches that one commit makes durable.
    pub group_max: usize,
    /// How long to wait for another process that holds the write lock, in milliseconds.
    pub busy_timeout_ms: u64,
    /// Page cache of each reader, in KiB. It is taken as it is needed.
    pub cache_kib: u32,
    /// Page cache of the writer, in KiB. It is taken as it is needed, and let go in a quiet moment.
    pub writer_cache_kib: u32,
    /// How much of the file is read through a memory map, in bytes; 0 for none.
    pub mmap_bytes: u64,
    /// Largest size of the database file in bytes; 0 for no limit but the disk's.
    pub size_max_bytes: u64,
    /// Whether nobody else writes to the file, no other process and no other store: a read then may keep its snapshot
    /// until this store writes.
    pub alone: bool,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            readers: 2,
            direct_readers: 4,
            direct_steps: 50_000,
            write_queue: 1024,
            read_queue: 1024,
            group_max: 256,
            busy_timeout_ms: 5_000,
            cache_kib: 8 * 1024,
            writer_cache_kib: 16 * 1024,
            mmap_bytes: 0,
            size_max_bytes: 0,
            alone: false,
        }
    }
}

/// The engine's shared state; cloning it is cheap.
#[derive(Clone)]
pub(crate) struct Sqlite {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    writes: Arc<Queue<writer::Job>>,
    reads: Arc<Queue<reader::Job>>,
    direct: Arc<reader::Direct>,
    counters: Arc<Counters>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.writes.close();
        self.reads.close();
    }
}

impl Sqlite {
    /// Opens or creates the database. Blocking work, so it belongs on a blocking thread.
    pub(crate) fn open(path: &Path, options: &SqliteOptions) -> Result<Self> {
        let (writer, log) = connection::open_writer(path, options)?;
        let counters = Arc::new(Counters::default());
        let writes = Arc::new(Queue::new(options.write_queue.max(1)));
        let reads = Arc::new(Queue::new(options.read_queue.max(1)));
        let direct = Arc::new(reader::Direct::open(path, options)?);
        let mut threads = Vec::new();
        for number in 0..options.readers.max(1) {
            let connection = connection::open_reader(path, options)?;
            let reads = Arc::clone(&reads);
            threads.push(spawn(&format!("store-reader-{number}"), move || reader::run(&connection, &reads))?);
        }
        {
            let (queue, counters, direct) = (Arc::clone(&writes), Arc::clone(&counters), Arc::clone(&direct));
            let around = writer::Around { queue, counters, direct, log, group_max: options.group_max.max(1) };
            threads.push(spawn("store-writer", move || writer::run(writer, &around))?);
        }
        let threads = Mutex::new(threads);
        Ok(Self { inner: Arc::new(Inner { path: path.to_owned(), writes, reads, direct, counters, threads }) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.inner.path
    }

    pub(crate) fn counts(&self) -> Counts {
        self.inner.counters.read()
    }

    pub(crate) fn load(&self) -> Load {
        let Inner { reads, writes, counters, .. } = &*self.inner;
        Load { reads: reads.len() as u64, writes: writes.len() as u64, groups: counters.groups.read() }
    }

    /// Reads all statements from one snapshot.
    pub(crate) async fn read_all(&self, statements: Vec<Statement>) -> Result<Vec<Vec<Row>>> {
        for statement in &statements {
            statement.check()?;
        }
        if let Some(answer) = self.inner.direct.run(&statements) {
            return answer;
        }
        let (reply, answer) = oneshot::channel();
        match self.inner.reads.push(reader::Job { statements, reply }) {
            Ok(()) => answer.await.unwrap_or_else(|_| Err(StoreError::closed())),
            Err(refused) => Err(refusal(&refused, self.inner.reads.limit())),
        }
    }

    pub(crate) async fn write(&self, batch: Batch) -> Result<Vec<Vec<Row>>> {
        if batch.len() > STATEMENTS_MAX {
            let problem = format!("a batch of {} statements; at most {STATEMENTS_MAX} are possible", batch.len());
            return Err(StoreError::Bind { statement: "batch", problem });
        }
        for statement in &batch.statements {
            statement.check()?;
        }
        let (reply, answer) = oneshot::channel();
        self.submit(writer::Job::Batch(batch.statements, reply))?;
        // Dropping the reply without an answer only happens when the thread is gone, midway or before.
        answer.await.unwrap_or_else(|_| Err(lost()))
    }

    /// Runs `work` on the writer's connection, between two groups.
    pub(crate) async fn with_writer<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let direct = Arc::clone(&self.inner.direct);
        self.submit(writer::Job::Run(Box::new(move |connection| {
            let done = work(connection);
            direct.committed();
            // The caller may be gone; the work is done all the same.
            let _ = reply.send(done);
        })))?;
        answer.await.unwrap_or_else(|_| Err(lost()))
    }

    fn submit(&self, job: writer::Job) -> Result<()> {
        self.inner.writes.push(job).map_err(|refused| refusal(&refused, self.inner.writes.limit()))
    }

    /// Finishes what is queued, refuses what comes later, and folds the log into the database file.
    pub(crate) async fn close(&self) {
        // The snapshots first: the writer's last act is to fold the log.
        self.inner.direct.close();
        self.inner.writes.close();
        self.inner.reads.close();
        let threads = std::mem::take(&mut *self.inner.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let joined =
            tokio::task::spawn_blocking(move || threads.into_iter().map(JoinHandle::join).all(|end| end.is_ok()));
        if !joined.await.unwrap_or(false) {
            tracing::error!("a thread of the store ended by a panic");
        }
    }

    /// Writes a consistent copy to `target`, which must not exist yet, without holding up readers or the writer.
    pub(crate) async fn backup_to(&self, target: PathBuf) -> Result<()> {
        let path = self.inner.path.clone();
        let copied = tokio::task::spawn_blocking(move || connection::copy(&path, &target));
        copied.await.unwrap_or_else(|_| Err(StoreError::unavailable("the copy ended by a panic")))
    }
}

fn lost() -> StoreError {
    StoreError::Unavailable { reason: "the writer thread has ended".into(), uncertain: true, source: None }
}

fn refusal(refused: &Refused, queue: usize) -> StoreError {
    match refused {
        Refused::Full => StoreError::TooBusy { queue },
        Refused::Closed => StoreError::closed(),
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(|error| StoreError::Unavailable {
        reason: format!("cannot start the thread {name}"),
        uncertain: false,
        source: Some(error.into()),
    })
}
