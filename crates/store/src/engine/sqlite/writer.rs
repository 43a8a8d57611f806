//! The one thread that writes. It groups commits and never waits for a group to fill.

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::super::Counters;
use super::super::queue::Queue;
use super::{connection, fault};
use crate::batch::Statement;
use crate::error::{Result, StoreError};
use crate::value::Row;

type Answer = Result<Vec<Vec<Row>>>;

pub(super) enum Job {
    /// A batch, and who waits for it.
    Batch(Vec<Statement>, oneshot::Sender<Answer>),
    /// Work that needs the connection for itself, outside of any transaction.
    Run(Box<dyn FnOnce(&mut Connection) + Send>),
}

/// Runs until the queue is closed and empty.
pub(super) fn run(mut connection: Connection, queue: &Queue<Job>, counters: &Counters, group_max: usize) {
    let mut jobs = Vec::with_capacity(group_max);
    let mut group = Vec::with_capacity(group_max);
    while queue.pop_into(&mut jobs, group_max) {
        for job in jobs.drain(..) {
            match job {
                // A caller that has gone before its batch began has nothing done.
                Job::Batch(statements, reply) if !reply.is_closed() => group.push((statements, reply)),
                Job::Batch(..) => {}
                Job::Run(work) => {
                    commit_group(&connection, &mut group, counters);
                    work(&mut connection);
                    if !connection.is_autocommit() {
                        roll_back(&connection);
                    }
                }
            }
        }
        commit_group(&connection, &mut group, counters);
    }
    // Closing the last connection folds the log into the file; this one is the last that can write.
    if let Err((_, error)) = connection.close() {
        tracing::warn!(%error, "the database was not closed cleanly");
    }
}

type Group = Vec<(Vec<Statement>, oneshot::Sender<Answer>)>;

/// Runs the group in one transaction and answers everybody after its commit is durable.
fn commit_group(connection: &Connection, group: &mut Group, counters: &Counters) {
    if group.is_empty() {
        return;
    }
    let mut answers: Vec<(Answer, oneshot::Sender<Answer>)> = Vec::with_capacity(group.len());
    let mut failure = execute(connection, "BEGIN IMMEDIATE").err();
    let mut batches = group.drain(..);
    if failure.is_none() {
        for (statements, reply) in batches.by_ref() {
            match run_batch(connection, &statements) {
                Ok(answer) => answers.push((answer, reply)),
                Err(error) => {
                    answers.push((Ok(Vec::new()), reply));
                    failure = Some(error);
                    break;
                }
            }
        }
    }
    let done = answers.iter().filter(|(answer, _)| answer.is_ok()).count() as u64;
    let failure = failure.or_else(|| execute(connection, if done > 0 { "COMMIT" } else { "ROLLBACK" }).err());
    match failure {
        None => {
            Counters::add(&counters.batches, done);
            Counters::add(&counters.commits, u64::from(done > 0));
            for (answer, reply) in answers {
                // Nobody may be waiting any more; what was done stays done.
                let _ = reply.send(answer);
            }
        }
        Some(error) => {
            if !connection.is_autocommit() {
                roll_back(connection);
            }
            tracing::error!(%error, batches = answers.len(), "a group of batches was undone");
            // Misses are answers that hold without the transaction; all else has failed with it.
            let mut original = Some(error);
            for (answer, reply) in answers {
                let answer = match answer {
                    Err(own) => Err(own),
                    Ok(_) => Err(failure_for(&mut original)),
                };
                let _ = reply.send(answer);
            }
            for (_, reply) in batches {
                let _ = reply.send(Err(failure_for(&mut original)));
            }
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

/// Runs one batch inside the group's transaction. The outer error means that the transaction itself is gone or unsafe.
fn run_batch(connection: &Connection, statements: &[Statement]) -> Result<Answer, rusqlite::Error> {
    execute(connection, "SAVEPOINT batch")?;
    let answer = run_statements(connection, statements);
    if connection.is_autocommit() {
        // SQLite gave up the whole transaction, which it does when the disk is full or fails.
        return Err(match answer {
            Err((_, Failed::Engine(error))) => error,
            _ => rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ABORT), None),
        });
    }
    if answer.is_err() {
        execute(connection, "ROLLBACK TO batch")?;
    }
    execute(connection, "RELEASE batch")?;
    Ok(answer.map_err(|(statement, failed)| match failed {
        Failed::Guard => StoreError::Missed { miss: statement.miss, statement: statement.sql.name },
        Failed::Engine(error) => fault::on_run(statement.sql.name, error),
    }))
}

enum Failed {
    Guard,
    Engine(rusqlite::Error),
}

fn run_statements<'a>(
    connection: &Connection,
    statements: &'a [Statement],
) -> Result<Vec<Vec<Row>>, (&'a Statement, Failed)> {
    let mut rows = Vec::with_capacity(statements.len());
    for statement in statements {
        let outcome = connection::run(connection, statement).map_err(|error| (statement, Failed::Engine(error)))?;
        if !statement.expect.holds(outcome.count) {
            return Err((statement, Failed::Guard));
        }
        rows.push(outcome.rows);
    }
    Ok(rows)
}

fn execute(connection: &Connection, text: &str) -> Result<(), rusqlite::Error> {
    connection.prepare_cached(text)?.execute([]).map(|_| ())
}

fn roll_back(connection: &Connection) {
    if let Err(error) = execute(connection, "ROLLBACK") {
        tracing::error!(%error, "a transaction could not be rolled back");
    }
}
