//! The two engines behind [`Store`](crate::Store). Nothing outside of this folder knows which one runs.

pub mod postgres;
mod queue;
pub mod sqlite;

use std::sync::atomic::{AtomicU64, Ordering};

/// Which engine a store runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Engine {
    /// Embedded, one process, one file.
    Sqlite,
    /// A server, shared by several replicas.
    Postgres,
}

impl std::fmt::Display for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Engine::Sqlite => "SQLite",
            Engine::Postgres => "PostgreSQL",
        })
    }
}

/// What a store has done since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Batches that were made durable.
    pub batches: u64,
    /// Transactions that were committed for them; on `SQLite` one such makes a whole group durable.
    pub commits: u64,
    /// Batches that were run again after a deadlock or a serialization failure.
    pub retries: u64,
    /// Connections made anew after the first.
    pub reconnects: u64,
}

/// The counters behind [`Counts`].
#[derive(Debug, Default)]
struct Counters {
    batches: AtomicU64,
    commits: AtomicU64,
    retries: AtomicU64,
    reconnects: AtomicU64,
}

impl Counters {
    fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    fn read(&self) -> Counts {
        Counts {
            batches: self.batches.load(Ordering::Relaxed),
            commits: self.commits.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
            reconnects: self.reconnects.load(Ordering::Relaxed),
        }
    }
}
