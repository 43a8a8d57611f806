//! Reads: on the caller's own thread when a connection is free, else on reader threads.
//!
//! A 20-row list takes about as long as waking another thread does, so the hop is only taken for statements that turn
//! out to be long: a budget of virtual machine steps stops them, and a reader thread starts them again. Reading has no
//! effects, so starting again is safe. Such a statement then goes straight to the threads for its next runs.
//!
//! Where nobody else writes the file, a connection on the callers' threads keeps its snapshot from one read to the next, as
//! long as it is the newest: beginning and ending one are two locks on the log, which cost as much as reading a row. The
//! writer says when there is a newer one, before anybody is told of the commit, and ends snapshots that nobody uses, which
//! would keep the log from beginning anew.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::super::queue::Queue;
use super::{SqliteOptions, connection, fault};
use crate::batch::Statement;
use crate::error::{Result, StoreError};
use crate::value::Row;

/// How often the budget is looked at, in virtual machine steps.
const STEPS_PER_LOOK: u32 = 1_000;
/// After a statement was over the budget, so many runs of it go straight to a reader thread.
const HEAVY_RUNS: u8 = 32;

type Answer = Result<Vec<Vec<Row>>>;

pub(super) struct Job {
    pub(super) statements: Vec<Statement>,
    pub(super) reply: oneshot::Sender<Answer>,
}

/// Runs until the queue is closed and empty.
pub(super) fn run(connection: &Connection, queue: &Queue<Job>) {
    let mut jobs = Vec::with_capacity(1);
    while queue.pop_into(&mut jobs, 1) {
        for Job { statements, reply } in jobs.drain(..) {
            if !reply.is_closed() {
                let answer =
                    read(connection, &statements).map_err(|(statement, error)| fault::on_run(statement, error));
                // The caller may have gone meanwhile.
                let _ = reply.send(answer);
            }
        }
    }
}

/// Connections for reads on the callers' threads.
pub(super) struct Direct {
    slots: Vec<Mutex<Slot>>,
    next: AtomicU32,
    closed: AtomicBool,
    looks: u32,
    /// Whether connections keep their snapshots.
    keeps: bool,
    /// Which commit of this process was the last.
    newest: AtomicU64,
}

struct Slot {
    connection: Connection,
    looks_left: Arc<AtomicU32>,
    /// The commit that the snapshot under way has, at least.
    snapshot: Option<u64>,
}

impl Slot {
    /// Runs the statements on a snapshot that has the commit `newest`, and keeps it.
    fn read(&mut self, statements: &[Statement], newest: u64) -> Result<Vec<Vec<Row>>, Failure> {
        if self.snapshot != Some(newest) {
            self.end()?;
            execute(&self.connection, "BEGIN DEFERRED")?;
            self.snapshot = Some(newest);
        }
        let read = statements.iter().map(|statement| row(&self.connection, statement)).collect();
        if matches!(&read, Err((_, error)) if !fault::is_interrupted(error)) {
            self.end()?;
        }
        read
    }

    /// Ends the snapshot.
    fn end(&mut self) -> Result<(), Failure> {
        self.snapshot = None;
        if self.connection.is_autocommit() { Ok(()) } else { execute(&self.connection, "ROLLBACK") }
    }
}

/// The name of a statement, and why it failed.
type Failure = (&'static str, rusqlite::Error);

impl Direct {
    pub(super) fn open(path: &Path, options: &SqliteOptions) -> Result<Self> {
        let slots = (0..options.direct_readers)
            .map(|_| {
                let mut connection = connection::open_reader(path, options)?;
                let looks_left = Arc::new(AtomicU32::new(0));
                let counter = Arc::clone(&looks_left);
                // Stops the statement when the counter cannot go further down.
                let spent = move || {
                    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err()
                };
                connection
                    .progress_handler(i32::try_from(STEPS_PER_LOOK).unwrap_or(i32::MAX), Some(spent))
                    .map_err(|error| fault::on_open(path, error))?;
                Ok(Mutex::new(Slot { connection, looks_left, snapshot: None }))
            })
            .collect::<Result<_>>()?;
        let looks = options.direct_steps.div_ceil(STEPS_PER_LOOK);
        let (next, closed, newest) = (AtomicU32::new(0), AtomicBool::new(false), AtomicU64::new(0));
        Ok(Self { slots, next, closed, looks, keeps: options.alone, newest })
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        for slot in &self.slots {
            // A read under way ends soon: it has its budget.
            end(&mut slot.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Something was committed: from now on every read sees it. Before anybody is told of it.
    pub(super) fn committed(&self) {
        self.newest.fetch_add(1, Ordering::Release);
        self.release();
    }

    /// Ends the snapshots that nobody uses just now.
    pub(super) fn release(&self) {
        for slot in &self.slots {
            if let Ok(mut slot) = slot.try_lock() {
                end(&mut slot);
            }
        }
    }

    /// Runs the statements here and now, or answers `None` when a reader thread should.
    pub(super) fn run(&self, statements: &[Statement]) -> Option<Answer> {
        if self.closed.load(Ordering::Relaxed) {
            return Some(Err(StoreError::closed()));
        }
        if statements.iter().any(|statement| statement.sql.is_heavy()) {
            return None;
        }
        // Before the snapshot: one that is begun later may have more, never less.
        let newest = self.newest.load(Ordering::Acquire);
        let first = self.next.fetch_add(1, Ordering::Relaxed) as usize;
        let mut slot = (0..self.slots.len()).find_map(|offset| {
            match self.slots[(first + offset) % self.slots.len()].try_lock() {
                Ok(slot) => Some(slot),
                // A reader has no state between statements that a panic could have broken: it only answers reads.
                Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => None,
            }
        })?;
        slot.looks_left.store(self.looks, Ordering::Relaxed);
        let read = if self.keeps { slot.read(statements, newest) } else { read(&slot.connection, statements) };
        match read {
            Ok(rows) => Some(Ok(rows)),
            Err((name, error)) if fault::is_interrupted(&error) => {
                statements.iter().filter(|statement| statement.sql.name == name).for_each(|statement| {
                    statement.sql.mark_heavy(HEAVY_RUNS);
                });
                None
            }
            Err((statement, error)) => Some(Err(fault::on_run(statement, error))),
        }
    }
}

/// Ends a snapshot; when that fails, the next read on it does, and is told why.
fn end(slot: &mut Slot) {
    if slot.snapshot.is_some()
        && let Err((statement, error)) = slot.end()
    {
        tracing::warn!(%error, statement, "a snapshot could not be ended");
    }
}

fn row(connection: &Connection, statement: &Statement) -> Result<Vec<Row>, Failure> {
    connection::run(connection, statement).map(|outcome| outcome.rows).map_err(|error| (statement.sql.name, error))
}

fn execute(connection: &Connection, text: &'static str) -> Result<(), Failure> {
    let run = || connection.prepare_cached(text)?.execute([]).map(|_| ());
    run().map_err(|error| (text, error))
}

/// Runs all statements on one snapshot of their own.
fn read(connection: &Connection, statements: &[Statement]) -> Result<Vec<Vec<Row>>, Failure> {
    if let [statement] = statements {
        return row(connection, statement).map(|rows| vec![rows]);
    }
    execute(connection, "BEGIN DEFERRED")?;
    let rows = statements.iter().map(|statement| row(connection, statement)).collect();
    // An interrupted transaction of reads may have ended by itself.
    if !connection.is_autocommit() {
        execute(connection, "ROLLBACK")?;
    }
    rows
}
