//! The one thread that writes. It groups commits: a group stays open while those who are likely on the way join it.
//!
//! Who is on the way is told by the group before: those whom it answered and those who came meanwhile. A caller that is
//! alone waits for nobody. So does the first one after a pause.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, ffi};
use tokio::sync::oneshot;

use super::super::Counters;
use super::super::queue::{Popped, Queue};
use super::connection::{LogPages, Outcome, Prepared};
use super::fault;
use super::reader::Direct;
use super::shared::Held;
use crate::Sql;
use crate::batch::Statement;
use crate::error::{Result, StoreError};
use crate::value::Row;

type Answer = Result<Vec<Vec<Row>>>;

type Work = Box<dyn FnOnce(&mut Connection) + Send>;

pub(super) enum Job {
    /// A batch, and who waits for it.
    Batch(Vec<Statement>, oneshot::Sender<Answer>),
    /// Work that needs the connection for itself, outside of any transaction.
    Run(Work),
}

/// After a batch had to be undone, so many groups are run with a savepoint for each batch.
const CAREFUL_GROUPS: u32 = 16;
/// How long a group stays open after the last batch joined it, while more are expected, in microseconds.
const LINGER_US: u64 = 1_000;
/// Batches that are waited for at a time, at most.
const JOIN_AT_ONCE: usize = 8;
/// After so many milliseconds without a batch nobody is expected.
const FORGET_MS: u64 = 5;

/// After so many milliseconds without a batch the log is folded into the database, and cached pages are let go.
const FOLD_MS: u64 = 1_000;
/// Batches since the last time for which that is worth while.
const FOLD_BATCHES_MIN: u64 = 256;
/// The log is folded back into the database file after this many pages, unless a quiet moment comes before. Many, since a
/// page that was written often is folded once.
const FOLD_PAGES: u32 = 16_000;

static BEGIN: Sql = Sql::declared("BEGIN", "BEGIN IMMEDIATE", false);
static COMMIT: Sql = Sql::declared("COMMIT", "COMMIT", false);
static ROLLBACK: Sql = Sql::declared("ROLLBACK", "ROLLBACK", false);
static SAVEPOINT: Sql = Sql::declared("SAVEPOINT", "SAVEPOINT batch", false);
static UNDO: Sql = Sql::declared("UNDO", "ROLLBACK TO batch", false);
static RELEASE: Sql = Sql::declared("RELEASE", "RELEASE batch", false);

type Group = Vec<(Vec<Statement>, oneshot::Sender<Answer>)>;

/// What the writer works with beside its connection.
pub(super) struct Around {
    pub(super) queue: Arc<Queue<Job>>,
    pub(super) counters: Arc<Counters>,
    pub(super) direct: Arc<Direct>,
    pub(super) log: LogPages,
    pub(super) group_max: usize,
}

/// Runs until the queue is closed and empty.
pub(super) fn run(mut connection: Connection, around: &Around) {
    let mut kept = Kept { careful: 0, expected: 1, unfolded: 0, jobs: Vec::new() };
    loop {
        let prepared = Prepared::new(&connection);
        let mut writer = Writer { prepared, around, kept: &mut kept, work: None };
        let Some(work) = writer.groups() else { break };
        drop(writer);
        work(&mut connection);
        if !connection.is_autocommit()
            && let Err(error) = connection.execute_batch(ROLLBACK.text)
        {
            tracing::error!(%error, "a transaction could not be rolled back");
        }
    }
    // Closing alone would not fold the log: readers may hold their connections longer, and can't write it.
    match connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0)) {
        Ok(0) => {}
        Ok(_) => tracing::info!("a read under way kept the log beside the database; the next start takes it up"),
        Err(error) => tracing::warn!(%error, "the log was not folded into the database; the next start takes it up"),
    }
    if let Err((_, error)) = connection.close() {
        tracing::warn!(%error, "the database was not closed cleanly");
    }
}

/// What the writer remembers while other work has the connection.
struct Kept {
    /// Groups that are still to be run with savepoints.
    careful: u32,
    /// How many batches the next group is expected to have.
    expected: usize,
    /// Batches since the log was last folded in a quiet moment.
    unfolded: u64,
    /// What was taken from the queue and is not in a group yet.
    jobs: Vec<Job>,
}

struct Writer<'a> {
    prepared: Prepared<'a>,
    around: &'a Around,
    kept: &'a mut Kept,
    /// Work that waits for the end of the group. While there is some, no more batches join.
    work: Option<Work>,
}

/// Why a transaction was not ended.
enum Stop {
    /// A batch must be undone and has no savepoint: run the group again, with savepoints.
    Undo,
    /// The transaction itself failed, and with it all of its batches.
    Failed(rusqlite::Error),
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Self {
        Stop::Failed(error)
    }
}

impl Writer<'_> {
    /// Commits groups until other work comes, or there is no more.
    fn groups(&mut self) -> Option<Work> {
        // What came behind other work is still among the jobs, and is taken first.
        while !self.kept.jobs.is_empty() || self.wait() {
            let mut group = Vec::new();
            self.sort_jobs(&mut group);
            self.commit(group);
            if self.work.is_some() {
                return self.work.take();
            }
        }
        None
    }

    /// Waits for jobs. False when there will be none.
    fn wait(&mut self) -> bool {
        let mut popped =
            self.around.queue.pop_within(&mut self.kept.jobs, self.around.group_max, Duration::from_millis(FORGET_MS));
        if popped == Popped::None {
            self.kept.expected = 1;
            popped = self.around.queue.pop_within(
                &mut self.kept.jobs,
                self.around.group_max,
                Duration::from_millis(FOLD_MS),
            );
        }
        if popped == Popped::None {
            self.fold();
            return self.around.queue.pop_into(&mut self.kept.jobs, self.around.group_max);
        }
        popped == Popped::Some
    }

    /// Does in a quiet moment what would otherwise hold up a commit, and keeps no more memory than an idle program needs.
    fn fold(&mut self) {
        if self.kept.unfolded < FOLD_BATCHES_MIN {
            return;
        }
        self.kept.unfolded = 0;
        self.fold_log();
        if let Err(error) = self.ask("PRAGMA shrink_memory") {
            tracing::warn!(%error, "cached pages could not be let go");
        }
    }

    /// Folds the log into the database. Nobody waits for it but those whose batches come meanwhile.
    fn fold_log(&mut self) {
        // A snapshot keeps the log from being folded beyond it, and one that was begun before the end, from beginning anew.
        self.around.direct.release();
        if let Err(error) = self.ask("PRAGMA wal_checkpoint(PASSIVE)") {
            tracing::warn!(%error, "the log could not be folded into the database now");
        }
        self.around.direct.release();
    }

    fn ask(&self, pragma: &str) -> rusqlite::Result<Option<()>> {
        self.prepared.connection().query_row(pragma, [], |_| Ok(())).optional()
    }

    /// Moves the batches among the jobs to the group, up to the first other work.
    fn sort_jobs(&mut self, group: &mut Group) {
        let mut jobs = std::mem::take(&mut self.kept.jobs).into_iter();
        while self.work.is_none()
            && let Some(job) = jobs.next()
        {
            match job {
                // A caller that has gone before its batch began has nothing done.
                Job::Batch(statements, reply) if !reply.is_closed() => group.push((statements, reply)),
                Job::Batch(..) => {}
                Job::Run(work) => self.work = Some(work),
            }
        }
        self.kept.jobs = jobs.collect();
    }

    /// Batches that have come while the group was run join it, or else those that are expected and come in time.
    fn join(&mut self, group: &mut Group) {
        if self.work.is_some() || group.len() >= self.around.group_max {
            return;
        }
        // Waking up for each would cost as much as running it; waiting for all would leave the work to the end.
        let missing = self.kept.expected.saturating_sub(group.len());
        let wanted = missing.div_ceil(2).min(JOIN_AT_ONCE);
        let room = self.around.group_max - group.len();
        self.around.queue.gather(&mut self.kept.jobs, room, wanted, Duration::from_micros(LINGER_US));
        self.sort_jobs(group);
    }

    /// Runs the group, and what joins it, in one transaction. Answers everybody after the commit is durable.
    fn commit(&mut self, mut group: Group) {
        if group.is_empty() {
            return;
        }
        let mut answers = Vec::with_capacity(group.len());
        let mut ended = self.transaction(&mut group, &mut answers, self.kept.careful > 0);
        self.kept.careful = self.kept.careful.saturating_sub(1);
        if let Err(Stop::Undo) = ended {
            self.roll_back();
            answers.clear();
            self.kept.careful = CAREFUL_GROUPS;
            ended = self.transaction(&mut group, &mut answers, true);
        }
        // Those who are answered now are likely to come again, and others wait already.
        self.kept.expected = (group.len() + self.around.queue.len()).min(self.around.group_max);
        let failure = match ended {
            Ok(()) => None,
            Err(Stop::Failed(error)) => Some(error),
            // With savepoints nothing asks for this.
            Err(Stop::Undo) => Some(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_ABORT), None)),
        };
        let Some(failure) = failure else {
            let done = answers.iter().filter(|answer| answer.is_ok()).count() as u64;
            self.kept.unfolded += done;
            Counters::add(&self.around.counters.batches, done);
            Counters::add(&self.around.counters.commits, u64::from(done > 0));
            if done > 0 {
                self.around.counters.groups.record(done);
            }
            self.around.direct.committed();
            for (answer, (_, reply)) in answers.into_iter().zip(group) {
                // Nobody may be waiting any more; what was done stays done.
                let _ = reply.send(answer);
            }
            if self.around.log.load(Ordering::Relaxed) >= FOLD_PAGES {
                self.fold_log();
            }
            return;
        };
        if !self.prepared.connection().is_autocommit() {
            self.roll_back();
        }
        tracing::error!(error = %failure, batches = group.len(), "a group of batches was undone");
        let mut failure = Some(failure);
        for (_, reply) in group {
            let _ = reply.send(Err(failure_for(&mut failure)));
        }
    }

    /// Runs the group from `BEGIN` to `COMMIT`, with one answer for each batch.
    ///
    /// A savepoint costs about as much as a row, because every page that is changed under it is copied. So a group is
    /// first run without; `careful` gives each batch its own.
    fn transaction(&mut self, group: &mut Group, answers: &mut Vec<Answer>, careful: bool) -> Result<(), Stop> {
        self.execute(&BEGIN)?;
        let mut held = Held::default();
        loop {
            for batch in answers.len()..group.len() {
                let (answer, changed) = if careful {
                    (self.run_batch(group, batch, &mut held)?, false)
                } else {
                    self.run_statements(group, batch, &mut held)?
                };
                let undo = answer.is_err() && changed;
                if undo && group.len() > 1 {
                    return Err(Stop::Undo);
                }
                answers.push(answer);
                if undo {
                    self.execute(&ROLLBACK)?;
                    return Ok(());
                }
            }
            self.join(group);
            if answers.len() == group.len() {
                break;
            }
        }
        if answers.iter().any(Result::is_ok) {
            self.write_held(group, &mut held)?;
            self.execute(&COMMIT)?;
        } else {
            self.execute(&ROLLBACK)?;
        }
        Ok(())
    }

    /// Writes what was held back.
    fn write_held(&mut self, group: &Group, held: &mut Held) -> Result<(), rusqlite::Error> {
        let rows = std::mem::take(&mut held.rows);
        // Rows of one table after those of another, each in their order.
        for sql in [&crate::event::EVENT_APPEND, &crate::audit::AUDIT_APPEND] {
            let own = rows.iter().filter(|row| std::ptr::eq(row.sql, sql));
            let own = own.map(|row| (&*group[row.batch].0[row.statement].params, &*row.more)).collect::<Vec<_>>();
            self.prepared.insert(sql, &own)?;
        }
        for statement in held.counters().into_iter().chain(held.numbers()) {
            self.prepared.run(statement.sql, &statement.params, &[])?;
        }
        Ok(())
    }

    /// Runs one batch inside the group's transaction, under a savepoint. The outer error means that the transaction
    /// itself is gone or unsafe.
    fn run_batch(&mut self, group: &Group, batch: usize, held: &mut Held) -> Result<Answer, rusqlite::Error> {
        // What other batches hold back must not be written under this one's savepoint, and undone with it.
        if group[batch].0.iter().any(Held::must_be_written_before) {
            self.write_held(group, held)?;
        }
        self.execute(&SAVEPOINT)?;
        let before = held.mark();
        let (answer, _) = self.run_statements(group, batch, held)?;
        if answer.is_err() {
            self.execute(&UNDO)?;
            held.undo(before);
        }
        self.execute(&RELEASE)?;
        Ok(answer)
    }

    /// Holds a statement back, and tells how many rows it changes; or writes what it may ask for, and it is to be run.
    fn hold(
        &mut self,
        group: &Group,
        (batch, number): (usize, usize),
        held: &mut Held,
    ) -> Result<Option<u64>, rusqlite::Error> {
        let statement = &group[batch].0[number];
        if let Some(question) = held.unknown(statement) {
            let answer = self.prepared.run(question.sql, &question.params, &[])?;
            held.learn(statement, &answer.rows).map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))?;
        }
        let count = held.hold(statement, batch, number);
        if count.is_none() && Held::must_be_written_before(statement) {
            self.write_held(group, held)?;
        }
        Ok(count)
    }

    /// Runs the statements and their guards, and tells whether rows may have been changed. The outer error is the same
    /// as for [`Writer::run_batch`].
    fn run_statements(
        &mut self,
        group: &Group,
        batch: usize,
        held: &mut Held,
    ) -> Result<(Answer, bool), rusqlite::Error> {
        let statements = &group[batch].0;
        let mut rows = Vec::with_capacity(statements.len());
        let mut changed = false;
        for (number, statement) in statements.iter().enumerate() {
            let name = statement.sql.name;
            let outcome = match self.hold(group, (batch, number), held)? {
                Some(count) => Ok(Outcome { rows: Vec::new(), count }),
                None => self.prepared.run(statement.sql, &statement.params, &[]),
            };
            match outcome {
                Ok(outcome) => {
                    changed |= outcome.count > 0;
                    if !statement.expect.holds(outcome.count) {
                        return Ok((Err(StoreError::Missed { miss: statement.miss, statement: name }), changed));
                    }
                    rows.push(outcome.rows);
                }
                // SQLite gives up the whole transaction when the disk is full or fails.
                Err(error) if self.prepared.connection().is_autocommit() => return Err(error),
                Err(error) => return Ok((Err(fault::on_run(name, error)), changed)),
            }
        }
        Ok((Ok(rows), changed))
    }

    fn execute(&mut self, sql: &'static Sql) -> Result<(), rusqlite::Error> {
        self.prepared.run(sql, &[], &[]).map(|_| ())
    }

    fn roll_back(&mut self) {
        if let Err(error) = self.execute(&ROLLBACK) {
            tracing::error!(%error, "a transaction could not be rolled back");
        }
    }
}

/// The group's failure for one more member: the same kind and text.
fn failure_for(original: &mut Option<rusqlite::Error>) -> StoreError {
    let Some(error) = original.take() else {
        return StoreError::unavailable("the group commit failed");
    };
    if let rusqlite::Error::SqliteFailure(code, message) = &error {
        *original = Some(rusqlite::Error::SqliteFailure(*code, message.clone()));
    }
    fault::on_run("group commit", error)
}
