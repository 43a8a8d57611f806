//! Reads: on the caller's own thread when a connection is free, else on reader threads.
//!
//! A 20-row list takes about as long as waking another thread does, so the hop is only taken for statements that turn
//! out to be long: a budget of virtual machine steps stops them, and a reader thread starts them again. Reading has no
//! effects, so starting again is safe. Such a statement then goes straight to the threads for its next runs.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, TryLockError};

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
}

struct Slot {
    connection: Connection,
    looks_left: Arc<AtomicU32>,
}

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
                Ok(Mutex::new(Slot { connection, looks_left }))
            })
            .collect::<Result<_>>()?;
        let looks = options.direct_steps.div_ceil(STEPS_PER_LOOK);
        Ok(Self { slots, next: AtomicU32::new(0), closed: AtomicBool::new(false), looks })
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Runs the statements here and now, or answers `None` when a reader thread should.
    pub(super) fn run(&self, statements: &[Statement]) -> Option<Answer> {
        if self.closed.load(Ordering::Relaxed) {
            return Some(Err(StoreError::closed()));
        }
        if statements.iter().any(|statement| statement.sql.is_heavy()) {
            return None;
        }
        let first = self.next.fetch_add(1, Ordering::Relaxed) as usize;
        let slot = (0..self.slots.len()).find_map(|offset| {
            match self.slots[(first + offset) % self.slots.len()].try_lock() {
                Ok(slot) => Some(slot),
                // A reader has no state between statements that a panic could have broken: it only answers reads.
                Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => None,
            }
        })?;
        slot.looks_left.store(self.looks, Ordering::Relaxed);
        match read(&slot.connection, statements) {
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

/// Runs all statements on one snapshot.
fn read(connection: &Connection, statements: &[Statement]) -> Result<Vec<Vec<Row>>, (&'static str, rusqlite::Error)> {
    let run = |statement: &Statement| {
        connection::run(connection, statement).map(|outcome| outcome.rows).map_err(|error| (statement.sql.name, error))
    };
    if let [statement] = statements {
        return run(statement).map(|rows| vec![rows]);
    }
    let execute = |text: &str| connection.prepare_cached(text)?.execute([]).map(|_| ());
    execute("BEGIN DEFERRED").map_err(|error| ("BEGIN", error))?;
    let rows = statements.iter().map(run).collect();
    // An interrupted transaction of reads may have ended by itself.
    if !connection.is_autocommit()
        && let Err(error) = execute("ROLLBACK")
    {
        return Err(("ROLLBACK", error));
    }
    rows
}
