//! Counting in memory what happens too often to be written each time, and writing it in batches.
//!
//! What a crash loses is what waited. Counts of which nobody knows whether they were written are lost as well: better than
//! counted twice.

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use nephos_store::telemetry::RequestCounts;
use nephos_store::{Batch, Statement, Store, StoreError};
use tracing::warn;

/// Locks over the counts.
const SHARDS: usize = 16;
/// Different keys in one shard at most; what comes beyond is counted by its coarse key.
const KEYS_PER_SHARD_MAX: usize = 8_192;
/// Statements of one batch.
const COUNTS_AT_ONCE: usize = 1_024;

/// A key that gives up details where there are too many.
pub(crate) trait Coarse {
    /// The same without what there can be any number of.
    fn coarse(self) -> Self;
}

/// What is counted.
pub(crate) trait Amount: Copy + Default + PartialEq {
    /// Adds another `times` times; -1 takes it off.
    fn add(&mut self, other: &Self, times: i64);
}

impl Amount for i64 {
    fn add(&mut self, other: &Self, times: i64) {
        *self += times * other;
    }
}

impl Amount for RequestCounts {
    fn add(&mut self, other: &Self, times: i64) {
        Self::add(self, other, times);
    }
}

/// What was counted and is not written yet.
pub(crate) struct Tally<K, V> {
    shards: [Mutex<HashMap<K, V>>; SHARDS],
    /// Held while counts are written, so that nothing is written twice.
    writing: tokio::sync::Mutex<()>,
}

impl<K, V> Default for Tally<K, V> {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()), writing: tokio::sync::Mutex::default() }
    }
}

impl<K, V> fmt::Debug for Tally<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tally").finish_non_exhaustive()
    }
}

impl<K: Copy + Eq + Hash + Coarse, V: Amount> Tally<K, V> {
    /// Counts.
    #[allow(clippy::cast_possible_truncation)] // a remainder below 16
    pub(crate) fn add(&self, key: K, amount: &V) {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let shard = &self.shards[(hasher.finish() % SHARDS as u64) as usize];
        let mut counts = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let key = if counts.len() < KEYS_PER_SHARD_MAX || counts.contains_key(&key) { key } else { key.coarse() };
        counts.entry(key).or_default().add(amount, 1);
    }

    /// Writes what waits, and takes it off. What could not be written waits on.
    pub(crate) async fn write(&self, store: &Store, statement: impl Fn(&K, &V) -> Statement) -> Result<(), StoreError> {
        let _one_at_a_time = self.writing.lock().await;
        let waiting = self.waiting();
        for some in waiting.chunks(COUNTS_AT_ONCE) {
            let batch: Batch = some.iter().map(|(_, key, amount)| statement(key, amount)).collect();
            match store.write(batch).await {
                Ok(_) => self.written(some),
                Err(failed @ StoreError::Unavailable { uncertain: true, .. }) => {
                    warn!(error = %failed, "some counts of requests may be lost");
                    self.written(some);
                    return Err(failed);
                }
                Err(failed) => return Err(failed),
            }
        }
        Ok(())
    }

    fn waiting(&self) -> Vec<(usize, K, V)> {
        let mut waiting = Vec::new();
        for (i, shard) in self.shards.iter().enumerate() {
            let counts = shard.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.extend(counts.iter().map(|(key, amount)| (i, *key, *amount)));
        }
        waiting
    }

    fn written(&self, written: &[(usize, K, V)]) {
        for (i, key, amount) in written {
            let mut counts = self.shards[*i].lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(left) = counts.get_mut(key) {
                left.add(amount, -1);
                if *left == V::default() {
                    counts.remove(key);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    struct Key(u32, bool);

    impl Coarse for Key {
        fn coarse(self) -> Self {
            Self(0, true)
        }
    }

    #[test]
    fn counts_are_bounded_and_none_is_lost() {
        let tally = Tally::<Key, i64>::default();
        for n in 0..200_000 {
            tally.add(Key(n, false), &1);
        }
        let waiting = tally.waiting();
        // Each shard may have its own coarse count.
        assert!(waiting.len() <= SHARDS * (KEYS_PER_SHARD_MAX + 1), "{} keys", waiting.len());
        assert_eq!(waiting.iter().map(|(_, _, n)| n).sum::<i64>(), 200_000);
        tally.add(Key(7, false), &1);
        tally.written(&waiting);
        assert_eq!(tally.waiting().iter().map(|(_, key, n)| (*key, *n)).collect::<Vec<_>>(), [(Key(7, false), 1)]);
    }
}
