//! The two engines behind [`Store`](crate::Store). Nothing outside of this folder knows which one runs.

pub mod postgres;
mod queue;
pub mod sqlite;

use std::sync::atomic::{AtomicU64, Ordering};

use nephos_model::metric::Histogram;

/// Which engine a store runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Engine {
    /// Embedded, one process, one file.
    Sqlite,
    /// A server, shared by several replicas.
    Postgres,
}

impl Engine {
    /// Its name in spans.
    pub(crate) const fn system(self) -> &'static str {
        match self {
            Engine::Sqlite => "sqlite",
            Engine::Postgres => "postgresql",
        }
    }
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

/// Bounds of how many batches one commit made durable.
const GROUP_SIZES: [u64; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];

/// The counters behind [`Counts`].
#[derive(Debug)]
struct Counters {
    batches: AtomicU64,
    commits: AtomicU64,
    retries: AtomicU64,
    reconnects: AtomicU64,
    /// How many batches each commit made durable.
    groups: Histogram<9>,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            batches: AtomicU64::default(),
            commits: AtomicU64::default(),
            retries: AtomicU64::default(),
            reconnects: AtomicU64::default(),
            groups: Histogram::new(&GROUP_SIZES),
        }
    }
}

/// What waits and how commits were grouped.
#[derive(Debug)]
pub(crate) struct Load {
    /// Reads that wait, or on PostgreSQL all requests under way.
    pub(crate) reads: u64,
    /// Batches that wait.
    pub(crate) writes: u64,
    /// How many batches each commit made durable.
    pub(crate) groups: nephos_model::metric::Distribution,
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
