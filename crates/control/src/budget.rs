//! Budgets of requests, exact and in memory.
//!
//! A rolling window keeps the time of each admission that is in it, so no window, wherever it begins, holds more than the
//! limit. A request passes all budgets of its surface or spends none: they are looked at and spent under one lock, which
//! is a workspace's. A workspace's sandbox has budgets of its own, so that it can't starve what is live. Windows are half open: an admission exactly one window old is no longer in it. They are kept over a
//! restart in order, and empty after a crash.

mod keep;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nephos_model::fault::{Code, Detail};
use nephos_model::id::{Id, Raw, WorkspaceId};
use nephos_model::tenant::Mode;
use nephos_model::{Fault, Timestamp};

use crate::Cloud;
use crate::caller::Caller;

/// The rolling window of one key on the Platform surface, in seconds.
pub const KEY_WINDOW_S: u32 = 60;
/// The rolling window of a workspace on the Platform surface, in seconds.
pub const WORKSPACE_WINDOW_S: u32 = 600;
/// Locks that workspaces share.
const SHARDS: usize = 16;
/// Workspaces and keys with a window that is not empty, in one shard, at most; more wait.
const ACTIVE_PER_SHARD_MAX: usize = 16_384;
/// A shard with fewer entries is not searched for idle ones.
const SEARCH_FROM: usize = 64;
/// A full shard is searched for idle entries this often at most.
const SEARCH_EVERY: Duration = Duration::from_secs(1);
/// Seconds after which a request that found no place may try again.
const FULL_RETRY_AFTER_S: u32 = 1;

/// The surface whose budgets a request spends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SurfaceBudget {
    /// Rolling windows of the key and of the workspace.
    Platform,
    /// Calendar seconds of the key, reads and writes apart.
    Strettch,
}

/// What a request is counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// GET, HEAD and OPTIONS.
    Read,
    /// All else.
    Write,
}

/// One budget after the request was counted or refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Its name: `key`, `workspace`, `reads` or `writes`.
    pub name: &'static str,
    /// Requests in one window.
    pub limit: u32,
    /// Seconds in one window.
    pub window_s: u32,
    /// Requests that are left now.
    pub remaining: u32,
    /// Seconds until there are more, rounded up.
    pub reset_s: u32,
    /// The Unix second at which there are more.
    pub reset_at_s: i64,
}

/// The budgets of one request: at most two, without an allocation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Budgets([Option<Budget>; 2]);

impl Budgets {
    /// Each of them; none when the plan has none.
    pub fn iter(&self) -> impl Iterator<Item = &Budget> {
        self.0.iter().flatten()
    }

    /// Whether the plan has none.
    pub fn is_empty(&self) -> bool {
        self.0 == [None, None]
    }
}

impl FromIterator<Budget> for Budgets {
    /// The first two.
    fn from_iter<I: IntoIterator<Item = Budget>>(budgets: I) -> Self {
        let mut budgets = budgets.into_iter();
        Self([budgets.next(), budgets.next()])
    }
}

/// Whether a request may go on.
#[derive(Debug)]
pub struct Verdict {
    /// What is left of each budget.
    pub budgets: Budgets,
    /// The 429 that names the spent budget, with `Retry-After`.
    pub refused: Option<Fault>,
}

/// Admissions in a rolling window, the oldest first, in nanoseconds of the monotonic clock. Never longer than its limit.
#[derive(Debug, Default)]
struct Ring(VecDeque<u64>);

impl Ring {
    /// Forgets what is no longer in the window.
    fn expire(&mut self, now: u64, window: u64) {
        while self.0.front().is_some_and(|oldest| now.saturating_sub(*oldest) >= window) {
            self.0.pop_front();
        }
        if self.0.is_empty() {
            self.0 = VecDeque::new();
        }
    }

    fn has_room(&self, limit: u32) -> bool {
        self.0.len() < limit as usize
    }

    /// What is left of a window that was expired.
    fn budget(&self, name: &'static str, limit: u32, window_s: u32, now: Present) -> Budget {
        let used = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        let wait = self.wait(nanos(now.monotonic), u64::from(window_s) * NANOS_PER_S, limit);
        let reset_s = u32::try_from(wait.div_ceil(NANOS_PER_S)).unwrap_or(u32::MAX);
        let reset_at_s = now.wall.plus(Duration::from_nanos(wait)).secs();
        Budget { name, limit, window_s, remaining: limit.saturating_sub(used), reset_s, reset_at_s }
    }

    /// Nanoseconds until an admission leaves the window; zero when there is none in it.
    fn wait(&self, now: u64, window: u64, limit: u32) -> u64 {
        // A limit that was lowered meanwhile: as many must leave as are over it.
        let over = self.0.len().saturating_sub(limit as usize);
        self.0.get(over).map_or(0, |oldest| (oldest + window).saturating_sub(now))
    }
}

/// What is counted of one key.
#[derive(Debug, Default)]
struct Key {
    rolling: Ring,
    /// The calendar second that `reads` and `writes` are of.
    second: i64,
    reads: u32,
    writes: u32,
}

/// Whose budgets: a sandbox spends none of the live ones.
type Whose = (WorkspaceId, Mode);

#[derive(Debug, Default)]
struct Workspace {
    rolling: Ring,
    keys: HashMap<Raw, Key>,
}

#[derive(Debug, Default)]
struct Shard {
    workspaces: HashMap<Whose, Workspace>,
    /// Workspaces and keys.
    entries: usize,
    /// The number of entries at which idle ones are looked for next.
    search_at: usize,
    /// When they were looked for last.
    searched_at: Duration,
}

/// The windows of all workspaces and keys.
pub struct BudgetBook {
    shards: [Mutex<Shard>; SHARDS],
}

impl Default for BudgetBook {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()) }
    }
}

impl fmt::Debug for BudgetBook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BudgetBook").finish_non_exhaustive()
    }
}

/// The present, on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Present {
    /// The wall clock.
    pub wall: Timestamp,
    /// The monotonic clock.
    pub monotonic: Duration,
}

const NANOS_PER_S: u64 = 1_000_000_000;

/// Windows of an earlier process began before this one's clock did: times in rings are this much later, in nanoseconds.
const BEFORE_START: u64 = 2 * WORKSPACE_WINDOW_S as u64 * NANOS_PER_S;

fn nanos(duration: Duration) -> u64 {
    // 584 years of uptime.
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).saturating_add(BEFORE_START)
}

/// Whose budget of a key: a token shares that of its key.
fn credential(caller: &Caller) -> Raw {
    caller.key_id.map_or(caller.member_id.raw(), Id::raw)
}

/// What is left of a calendar second.
fn calendar(name: &'static str, limit: u32, used: u32, second: i64) -> Budget {
    Budget { name, limit, window_s: 1, remaining: limit.saturating_sub(used), reset_s: 1, reset_at_s: second + 1 }
}

/// What is left of every budget of a caller; none where the plan has none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Left {
    /// Platform: the key's.
    pub key: Option<Budget>,
    /// Platform: the workspace's.
    pub workspace: Option<Budget>,
    /// Strettch: reads.
    pub reads: Option<Budget>,
    /// Strettch: writes.
    pub writes: Option<Budget>,
}

impl BudgetBook {
    /// What is left of every budget of a caller. Spends nothing.
    fn left(&self, caller: &Caller, now: Present) -> Left {
        let (at, second, limits) = (nanos(now.monotonic), now.wall.secs(), &caller.limits);
        let mut shard = self.shard(caller.workspace_id).lock().unwrap_or_else(PoisonError::into_inner);
        let (mut no_workspace, mut no_key) = (Workspace::default(), Key::default());
        let workspace = shard.workspaces.get_mut(&(caller.workspace_id, caller.mode)).unwrap_or(&mut no_workspace);
        workspace.rolling.expire(at, u64::from(WORKSPACE_WINDOW_S) * NANOS_PER_S);
        let of_workspace = limits
            .workspace_per_600_s
            .map(|limit| workspace.rolling.budget("workspace", limit, WORKSPACE_WINDOW_S, now));
        let key = workspace.keys.get_mut(&credential(caller)).unwrap_or(&mut no_key);
        key.rolling.expire(at, u64::from(KEY_WINDOW_S) * NANOS_PER_S);
        let (reads, writes) = if key.second == second { (key.reads, key.writes) } else { (0, 0) };
        Left {
            key: limits.key_per_60_s.map(|limit| key.rolling.budget("key", limit, KEY_WINDOW_S, now)),
            workspace: of_workspace,
            reads: limits.reads_per_second.map(|limit| calendar("reads", limit, reads, second)),
            writes: limits.writes_per_second.map(|limit| calendar("writes", limit, writes, second)),
        }
    }

    /// Counts a request against all budgets of its surface, or against none when one of them is spent.
    ///
    /// `Err` when so many keys are active that this one can't be counted: seconds after which to try again.
    fn admit(
        &self,
        caller: &Caller,
        surface: SurfaceBudget,
        class: Class,
        now: Present,
    ) -> Result<(Budgets, Option<Budget>), u32> {
        let limits = &caller.limits;
        let per_second = match class {
            Class::Read => limits.reads_per_second,
            Class::Write => limits.writes_per_second,
        };
        let has_budget = match surface {
            SurfaceBudget::Platform => limits.key_per_60_s.is_some() || limits.workspace_per_600_s.is_some(),
            SurfaceBudget::Strettch => per_second.is_some(),
        };
        if !has_budget {
            return Ok((Budgets::default(), None));
        }
        let credential = credential(caller);
        let mut shard = self.shard(caller.workspace_id).lock().unwrap_or_else(PoisonError::into_inner);
        let workspace = shard.open((caller.workspace_id, caller.mode), credential, now)?;
        Ok(match surface {
            SurfaceBudget::Platform => workspace.platform(credential, limits, now),
            SurfaceBudget::Strettch => workspace.strettch(credential, class, per_second, now),
        })
    }

    #[allow(clippy::cast_possible_truncation)] // a remainder below 16
    fn shard(&self, workspace: WorkspaceId) -> &Mutex<Shard> {
        // Of an id's low bits, the last ones are random.
        &self.shards[(workspace.raw().low() % SHARDS as u64) as usize]
    }
}

impl Shard {
    /// The entries of a workspace and one of its keys, made if they are not there.
    fn open(&mut self, id: Whose, key: Raw, now: Present) -> Result<&mut Workspace, u32> {
        let known = self.workspaces.get(&id).is_some_and(|w| w.keys.contains_key(&key));
        if !known {
            let is_full = self.entries + 2 > ACTIVE_PER_SHARD_MAX;
            let may_search = now.monotonic.saturating_sub(self.searched_at) >= SEARCH_EVERY;
            if self.entries >= self.search_at.max(SEARCH_FROM) || (is_full && may_search) {
                self.forget_idle(now);
                self.searched_at = now.monotonic;
                self.search_at = 2 * self.entries;
            }
            if self.entries + 2 > ACTIVE_PER_SHARD_MAX {
                return Err(FULL_RETRY_AFTER_S);
            }
            self.entries += 1 + usize::from(!self.workspaces.contains_key(&id));
        }
        let workspace = self.workspaces.entry(id).or_default();
        workspace.keys.entry(key).or_default();
        Ok(workspace)
    }

    /// Forgets what has nothing in any window: it would be made again just so.
    fn forget_idle(&mut self, now: Present) {
        let (at, second) = (nanos(now.monotonic), now.wall.secs());
        self.workspaces.retain(|_, workspace| {
            workspace.rolling.expire(at, u64::from(WORKSPACE_WINDOW_S) * NANOS_PER_S);
            workspace.keys.retain(|_, key| {
                key.rolling.expire(at, u64::from(KEY_WINDOW_S) * NANOS_PER_S);
                !key.rolling.0.is_empty() || key.second == second
            });
            !workspace.keys.is_empty() || !workspace.rolling.0.is_empty()
        });
        self.entries = self.workspaces.values().map(|w| 1 + w.keys.len()).sum();
    }
}

impl Workspace {
    fn platform(&mut self, key: Raw, limits: &crate::plan_limits::Limits, now: Present) -> (Budgets, Option<Budget>) {
        let at = nanos(now.monotonic);
        let of_key = &mut self.keys.entry(key).or_default().rolling;
        let mut windows = [
            limits.key_per_60_s.map(|limit| ("key", of_key, KEY_WINDOW_S, limit)),
            limits.workspace_per_600_s.map(|limit| ("workspace", &mut self.rolling, WORKSPACE_WINDOW_S, limit)),
        ];
        let mut admitted = true;
        for (_, ring, window_s, limit) in windows.iter_mut().flatten() {
            ring.expire(at, u64::from(*window_s) * NANOS_PER_S);
            admitted &= ring.has_room(*limit);
        }
        let mut spent: Option<Budget> = None;
        let budgets = windows.map(|window| {
            let (name, ring, window_s, limit) = window?;
            let refuses = !ring.has_room(limit);
            if admitted {
                ring.0.push_back(at);
            }
            let budget = ring.budget(name, limit, window_s, now);
            if refuses && spent.is_none_or(|other| other.reset_s < budget.reset_s) {
                spent = Some(budget);
            }
            Some(budget)
        });
        (Budgets(budgets), spent)
    }

    fn strettch(&mut self, key: Raw, class: Class, limit: Option<u32>, now: Present) -> (Budgets, Option<Budget>) {
        let Some(limit) = limit else { return (Budgets::default(), None) };
        let key = self.keys.entry(key).or_default();
        let second = now.wall.secs();
        if key.second != second {
            (key.second, key.reads, key.writes) = (second, 0, 0);
        }
        let (name, used) = match class {
            Class::Read => ("reads", &mut key.reads),
            Class::Write => ("writes", &mut key.writes),
        };
        let admitted = *used < limit;
        *used += u32::from(admitted);
        let budget = calendar(name, limit, *used, second);
        (Budgets([Some(budget), None]), (!admitted).then_some(budget))
    }
}

impl Cloud {
    /// Counts a request against the budgets of its surface. A refused request spends none of them.
    pub fn admit(&self, caller: &Caller, surface: SurfaceBudget, class: Class) -> Verdict {
        let now = self.present();
        match self.0.budgets.admit(caller, surface, class, now) {
            Ok((budgets, None)) => Verdict { budgets, refused: None },
            Ok((budgets, Some(spent))) => Verdict { budgets, refused: Some(self.too_many(&spent)) },
            Err(retry_after_s) => Verdict {
                budgets: Budgets::default(),
                refused: Some(Fault::unavailable(retry_after_s, "more keys are active than budgets are kept for")),
            },
        }
    }

    /// What is left of every budget of a caller.
    pub(crate) fn left(&self, caller: &Caller) -> Left {
        self.0.budgets.left(caller, self.present())
    }

    fn present(&self) -> Present {
        Present { wall: self.clock().now(), monotonic: self.clock().monotonic() }
    }

    fn too_many(&self, spent: &Budget) -> Fault {
        let Budget { name, limit, window_s, reset_s, .. } = *spent;
        let what = match name {
            "workspace" => format!("The workspace's budget of {limit} requests in any {window_s} seconds"),
            "key" => format!("The key's budget of {limit} requests in any {window_s} seconds"),
            _ => format!("The key's budget of {limit} {name} in one second"),
        };
        let contact = &self.settings().support_contact;
        let detail = Detail { budget: Some(name), ..Detail::new("budget_spent", format!("{what} is spent.")) };
        Fault {
            retry_after_s: Some(reset_s.max(1)),
            details: vec![detail],
            ..Fault::new(
                Code::TooManyRequests,
                format!("{what} is spent; retry after {} s. For a higher budget, contact {contact}.", reset_s.max(1)),
            )
        }
    }
}

#[cfg(test)]
mod tests;
