//! The one thread that writes. It groups commits and never waits for a group to fill.

use rusqlite::{Connection, ffi};
use tokio::sync::oneshot;

use super::super::Counters;
use super::super::queue::Queue;
use super::{connection, fault};
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

type Group = Vec<(Vec<Statement>, oneshot::Sender<Answer>)>;

/// Runs until the queue is closed and empty.
pub(super) fn run(connection: Connection, queue: &Queue<Job>, counters: &Counters, group_max: usize) {
    let mut writer = Writer { connection, queue, counters, group_max, careful: 0, jobs: Vec::new(), work: None };
    // What came behind other work is still among the jobs, and is taken first.
    while !writer.jobs.is_empty() || queue.pop_into(&mut writer.jobs, group_max) {
        let mut group = Vec::new();
        writer.sort_jobs(&mut group);
        writer.commit(group);
        if let Some(work) = writer.work.take() {
            work(&mut writer.connection);
            if !writer.connection.is_autocommit() {
                roll_back(&writer.connection);
            }
        }
    }
    // Closing alone would not fold the log: readers may hold their connections longer, and can't write it.
    match writer.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0)) {
        Ok(0) => {}
        Ok(_) => tracing::info!("a read under way kept the log beside the database; the next start takes it up"),
        Err(error) => tracing::warn!(%error, "the log was not folded into the database; the next start takes it up"),
    }
    if let Err((_, error)) = writer.connection.close() {
        tracing::warn!(%error, "the database was not closed cleanly");
    }
}

struct Writer<'a> {
    connection: Connection,
    queue: &'a Queue<Job>,
    counters: &'a Counters,
    group_max: usize,
    /// Groups that are still to be run with savepoints.
    careful: u32,
    /// What was taken from the queue and is not in a group yet.
    jobs: Vec<Job>,
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
    /// Moves the batches among the jobs to the group, up to the first other work.
    fn sort_jobs(&mut self, group: &mut Group) {
        let mut jobs = std::mem::take(&mut self.jobs).into_iter();
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
        self.jobs = jobs.collect();
    }

    /// Batches that have come while the group was run join it. Nothing is waited for.
    fn join(&mut self, group: &mut Group) {
        if self.work.is_none() {
            self.queue.take_into(&mut self.jobs, self.group_max.saturating_sub(group.len()));
            self.sort_jobs(group);
        }
    }

    /// Runs the group, and what joins it, in one transaction. Answers everybody after the commit is durable.
    fn commit(&mut self, mut group: Group) {
        if group.is_empty() {
            return;
        }
        let mut answers = Vec::with_capacity(group.len());
        let mut ended = self.transaction(&mut group, &mut answers, self.careful > 0);
        self.careful = self.careful.saturating_sub(1);
        if let Err(Stop::Undo) = ended {
            roll_back(&self.connection);
            answers.clear();
            self.careful = CAREFUL_GROUPS;
            ended = self.transaction(&mut group, &mut answers, true);
        }
        let failure = match ended {
            Ok(()) => None,
            Err(Stop::Failed(error)) => Some(error),
            // With savepoints nothing asks for this.
            Err(Stop::Undo) => Some(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_ABORT), None)),
        };
        let Some(failure) = failure else {
            let done = answers.iter().filter(|answer| answer.is_ok()).count() as u64;
            Counters::add(&self.counters.batches, done);
            Counters::add(&self.counters.commits, u64::from(done > 0));
            for (answer, (_, reply)) in answers.into_iter().zip(group) {
                // Nobody may be waiting any more; what was done stays done.
                let _ = reply.send(answer);
            }
            return;
        };
        if !self.connection.is_autocommit() {
            roll_back(&self.connection);
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
        execute(&self.connection, "BEGIN IMMEDIATE")?;
        loop {
            for (statements, _) in group.iter().skip(answers.len()) {
                let answer = if careful {
                    run_batch(&self.connection, statements)?
                } else {
                    run_statements(&self.connection, statements)?
                };
                let undo = answer.is_err() && !careful;
                if undo && group.len() > 1 {
                    return Err(Stop::Undo);
                }
                answers.push(answer);
                if undo {
                    execute(&self.connection, "ROLLBACK")?;
                    return Ok(());
                }
            }
            self.join(group);
            if answers.len() == group.len() {
                break;
            }
        }
        let done = answers.iter().any(Result::is_ok);
        Ok(execute(&self.connection, if done { "COMMIT" } else { "ROLLBACK" })?)
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

/// Runs one batch inside the group's transaction, under a savepoint. The outer error means that the transaction itself
/// is gone or unsafe.
fn run_batch(connection: &Connection, statements: &[Statement]) -> Result<Answer, rusqlite::Error> {
    execute(connection, "SAVEPOINT batch")?;
    let answer = run_statements(connection, statements)?;
    if answer.is_err() {
        execute(connection, "ROLLBACK TO batch")?;
    }
    execute(connection, "RELEASE batch")?;
    Ok(answer)
}

/// Runs the statements and their guards. The outer error is the same as for [`run_batch`].
fn run_statements(connection: &Connection, statements: &[Statement]) -> Result<Answer, rusqlite::Error> {
    let mut rows = Vec::with_capacity(statements.len());
    for statement in statements {
        let name = statement.sql.name;
        match connection::run(connection, statement) {
            Ok(outcome) if statement.expect.holds(outcome.count) => rows.push(outcome.rows),
            Ok(_) => return Ok(Err(StoreError::Missed { miss: statement.miss, statement: name })),
            // SQLite gives up the whole transaction when the disk is full or fails.
            Err(error) if connection.is_autocommit() => return Err(error),
            Err(error) => return Ok(Err(fault::on_run(name, error))),
        }
    }
    Ok(Ok(rows))
}

fn execute(connection: &Connection, text: &str) -> Result<(), rusqlite::Error> {
    connection.prepare_cached(text)?.execute([]).map(|_| ())
}

fn roll_back(connection: &Connection) {
    if let Err(error) = execute(connection, "ROLLBACK") {
        tracing::error!(%error, "a transaction could not be rolled back");
    }
}
