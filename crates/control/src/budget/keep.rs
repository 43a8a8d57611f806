//! Windows over a restart in order: as bytes, with ages instead of times, because the next process has another clock.
//!
//! `n` is a number of 32 bits, `t` one of 64, big-endian: for each workspace its id (16 bytes), its mode (1 byte), its ring, `n` keys; for each
//! key its id (16 bytes), its ring, its calendar second `t`, reads `n` and writes `n`. A ring is `n` ages `t` in nanoseconds.

use std::sync::PoisonError;
use std::time::Duration;

use nephos_model::id::{Id, Raw, WorkspaceId};
use nephos_model::tenant::Mode;
use nephos_model::{Fault, Timestamp};
use tracing::warn;

use super::{BEFORE_START, BudgetBook, Key, Present, Ring, Workspace, nanos};
use crate::{Cloud, fault};

/// Bytes that are kept at most; workspaces beyond them begin with empty windows.
const KEPT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The first bytes: the version of the form.
const FORM: &[u8; 4] = b"bw02";

impl BudgetBook {
    /// All windows that are not empty, and the wall clock to which their ages belong.
    fn save(&self, now: Present) -> Vec<u8> {
        let mut out = FORM.to_vec();
        out.extend(now.wall.micros().to_be_bytes());
        let mut left_out = 0_usize;
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.forget_idle(now);
            for ((id, mode), workspace) in &shard.workspaces {
                if out.len() > KEPT_BYTES_MAX {
                    left_out += 1;
                    continue;
                }
                out.extend(id.raw().to_bytes());
                out.push(match mode {
                    Mode::Live => 0,
                    Mode::Test => 1,
                });
                write_ring(&mut out, &workspace.rolling, now);
                write_count(&mut out, workspace.keys.len());
                for (id, key) in &workspace.keys {
                    out.extend(id.to_bytes());
                    write_ring(&mut out, &key.rolling, now);
                    out.extend(key.second.to_be_bytes());
                    out.extend(key.reads.to_be_bytes());
                    out.extend(key.writes.to_be_bytes());
                }
            }
        }
        if left_out > 0 {
            warn!(workspaces = left_out, "so many windows of budgets are open that not all are kept");
        }
        out
    }

    /// Takes up what [`BudgetBook::save`] left; `None` when the bytes are not of that form.
    fn restore(&self, bytes: &[u8], now: Present) -> Option<()> {
        let mut rest = bytes.strip_prefix(FORM)?;
        let saved_at = Timestamp::from_micros(i64::from_be_bytes(take(&mut rest)?));
        // Time went on while no process ran. A clock that stepped back makes windows last longer, never shorter.
        let since = now.wall.since(saved_at);
        while !rest.is_empty() {
            let id = WorkspaceId::from_raw(Raw::from_bytes(take(&mut rest)?));
            let mode = match take(&mut rest)? {
                [0] => Mode::Live,
                [1] => Mode::Test,
                _ => return None,
            };
            let mut workspace = Workspace { rolling: read_ring(&mut rest, since, now)?, ..Workspace::default() };
            for _ in 0..u32::from_be_bytes(take(&mut rest)?) {
                let key = Raw::from_bytes(take(&mut rest)?);
                let rolling = read_ring(&mut rest, since, now)?;
                let second = i64::from_be_bytes(take(&mut rest)?);
                let reads = u32::from_be_bytes(take(&mut rest)?);
                let writes = u32::from_be_bytes(take(&mut rest)?);
                workspace.keys.insert(key, Key { rolling, second, reads, writes });
            }
            let mut shard = self.shard(id).lock().unwrap_or_else(PoisonError::into_inner);
            let entries = 1 + workspace.keys.len();
            // Of a workspace that was counted meanwhile, what is counted here is the present.
            if let std::collections::hash_map::Entry::Vacant(entry) = shard.workspaces.entry((id, mode)) {
                entry.insert(workspace);
                shard.entries += entries;
            }
        }
        Some(())
    }
}

fn write_count(out: &mut Vec<u8>, count: usize) {
    out.extend(u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
}

fn write_ring(out: &mut Vec<u8>, ring: &Ring, now: Present) {
    write_count(out, ring.0.len());
    let now = nanos(now.monotonic);
    for at in &ring.0 {
        out.extend(now.saturating_sub(*at).to_be_bytes());
    }
}

fn read_ring(rest: &mut &[u8], since: Duration, now: Present) -> Option<Ring> {
    let mut ring = Ring::default();
    let now = nanos(now.monotonic);
    let since = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
    for _ in 0..u32::from_be_bytes(take(rest)?) {
        let age = u64::from_be_bytes(take(rest)?).saturating_add(since);
        // Older than any window: it would be forgotten at once.
        if age < BEFORE_START {
            ring.0.push_back(now.saturating_sub(age));
        }
    }
    Some(ring)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, others) = rest.split_first_chunk()?;
    *rest = others;
    Some(*first)
}

impl Cloud {
    /// Takes up the windows that the process before left.
    pub(crate) async fn take_windows(&self) -> Result<(), Fault> {
        let now = self.present();
        for windows in self.store().take_windows().await.map_err(fault::store)? {
            if self.0.budgets.restore(&windows, now).is_none() {
                warn!("windows of budgets were left in another form; they begin empty");
            }
        }
        Ok(())
    }

    /// Leaves the windows to the next process.
    pub(crate) async fn leave_windows(&self) {
        let now = self.present();
        let windows = self.0.budgets.save(now);
        if let Err(error) = self.store().leave_windows(self.owner(), windows, now.wall).await {
            warn!(%error, "windows of budgets are not kept; they begin empty");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::tests::{caller, platform};
    use crate::plan_limits::Limits;

    #[test]
    fn windows_go_on_in_a_process_with_another_clock() {
        let limits = Limits::standard();
        let (before, caller) = (BudgetBook::default(), caller(1, 1, &limits));
        let wall = Timestamp::from_secs(1_768_478_400);
        let at = |wall: Timestamp, s: u64| Present { wall, monotonic: Duration::from_secs(s) };
        for s in 0..120 {
            assert!(platform(&before, &caller, Duration::from_millis(1_000_000 + 250 * s)).1.is_none());
        }
        // 30 s after the first of them.
        let bytes = before.save(at(wall, 1_030));
        // 10 s later, with a clock that has just begun.
        let after = BudgetBook::default();
        after.restore(&bytes, at(wall.plus(Duration::from_secs(10)), 1)).unwrap();
        let spent = platform(&after, &caller, Duration::from_secs(1)).1.unwrap();
        assert_eq!((spent.name, spent.reset_s), ("key", 20));
        assert!(platform(&after, &caller, Duration::from_secs(21)).1.is_none());
        assert!(platform(&after, &caller, Duration::from_secs(21)).1.is_some(), "only one left the window");
        assert_eq!(after.save(at(wall, 10_000)).len(), FORM.len() + 8, "what is empty is not kept");
    }

    #[test]
    fn other_bytes_are_refused_and_never_a_panic() {
        let book = BudgetBook::default();
        platform(&book, &caller(1, 1, &Limits::standard()), Duration::ZERO);
        let now = Present { wall: Timestamp::default(), monotonic: Duration::ZERO };
        let bytes = book.save(now);
        assert!(BudgetBook::default().restore(&bytes, now).is_some());
        for length in (0..bytes.len()).filter(|length| *length != FORM.len() + 8) {
            assert!(BudgetBook::default().restore(&bytes[..length], now).is_none(), "{length}");
        }
    }
}
