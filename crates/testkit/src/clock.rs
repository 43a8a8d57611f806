//! A clock that stands still until a test moves it.
//!
//! A move goes from sleeper to sleeper: time stops at each wake-up, and the task that woke gets its turn before time goes
//! on. So what it does happens at its own time, a sleep that it begins again within the move ends within the move, and the
//! order is that of the times, then of the sleeps' beginnings. Work that leaves the test's runtime, such as a database's
//! thread, takes longer than a turn: [`WorldClock::advance_settled`] waits for it.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use nephos_model::clock::Sleep;
use nephos_model::{Clock, Timestamp};
use tokio::sync::watch;

/// Turns that other tasks get after each wake-up.
const TURNS: usize = 64;
/// Real time that [`WorldClock::settled`] waits at most: longer than any test should take.
const SETTLE_MAX: Duration = Duration::from_secs(30);

/// The clock of a test's world. Clones are the same clock.
#[derive(Clone)]
pub struct WorldClock(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// How many sleep.
    waiters: watch::Sender<usize>,
}

struct State {
    started_at: Timestamp,
    /// Since the start.
    elapsed: Duration,
    /// Sleepers by the time at which they wake, since the start, then by when they began.
    sleepers: BTreeMap<(Duration, u64), Waker>,
    next: u64,
}

impl WorldClock {
    /// A clock that stands at 2026-01-15T12:00:00Z.
    pub fn new() -> Self {
        Self::at(Timestamp::from_secs(1_768_478_400))
    }

    /// A clock that stands at `now`.
    pub fn at(now: Timestamp) -> Self {
        let state = State { started_at: now, elapsed: Duration::ZERO, sleepers: BTreeMap::new(), next: 0 };
        Self(Arc::new(Shared { state: Mutex::new(state), waiters: watch::Sender::new(0) }))
    }

    /// Moves time, waking whoever sleeps less long, in order; each that wakes gets its turn before time goes on.
    pub async fn advance(&self, by: Duration) {
        let until = self.monotonic().saturating_add(by);
        while self.wake_next(until) {
            turns(TURNS).await;
        }
        turns(TURNS).await;
    }

    /// As [`WorldClock::advance`], and waits after each wake-up, and at the end, until `waiters` sleep again.
    ///
    /// # Panics
    /// As [`WorldClock::settled`].
    pub async fn advance_settled(&self, by: Duration, waiters: usize) {
        let until = self.monotonic().saturating_add(by);
        while self.wake_next(until) {
            self.settled(waiters).await;
        }
        self.settled(waiters).await;
    }

    /// Goes to the next wake-up, at `until` at the latest; returns whether there was one.
    fn wake_next(&self, until: Duration) -> bool {
        let mut state = self.state();
        let Some((&(at, number), _)) = state.sleepers.first_key_value().filter(|((at, _), _)| *at <= until) else {
            state.elapsed = state.elapsed.max(until);
            return false;
        };
        state.elapsed = state.elapsed.max(at);
        let woken = state.sleepers.remove(&(at, number));
        self.0.waiters.send_replace(state.sleepers.len());
        drop(state);
        if let Some(waker) = woken {
            waker.wake();
        }
        true
    }

    /// How many sleep now.
    pub fn waiters(&self) -> usize {
        self.state().sleepers.len()
    }

    /// When the first of those that sleep wakes.
    pub fn next_wake(&self) -> Option<Timestamp> {
        let state = self.state();
        state.sleepers.first_key_value().map(|((at, _), _)| state.started_at.plus(*at))
    }

    /// Waits until at least `waiters` sleep: until that many tasks have done what they had to do.
    ///
    /// # Panics
    /// When they do not within 30 seconds of real time, which is a test that would hang.
    pub async fn settled(&self, waiters: usize) {
        let mut sleeping = self.0.waiters.subscribe();
        let reached = tokio::time::timeout(SETTLE_MAX, sleeping.wait_for(|now| *now >= waiters)).await.is_ok();
        assert!(reached, "{} sleep on the world's clock, and {waiters} were waited for", self.waiters());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sleep_to(&self, wake_at: Duration) -> Sleep {
        Box::pin(Sleeper { clock: self.clone(), wake_at, number: None })
    }
}

impl Default for WorldClock {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for WorldClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WorldClock({}, {} sleep)", self.now(), self.waiters())
    }
}

impl Clock for WorldClock {
    fn now(&self) -> Timestamp {
        let state = self.state();
        state.started_at.plus(state.elapsed)
    }

    fn monotonic(&self) -> Duration {
        self.state().elapsed
    }

    fn sleep_until(&self, at: Timestamp) -> Sleep {
        let started_at = self.state().started_at;
        self.sleep_to(at.since(started_at))
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        let wake_at = self.state().elapsed.saturating_add(duration);
        self.sleep_to(wake_at)
    }
}

/// A sleep; it counts as a waiter from its first poll until it ends or is dropped.
struct Sleeper {
    clock: WorldClock,
    wake_at: Duration,
    number: Option<u64>,
}

impl Sleeper {
    fn forget(&mut self) {
        let Some(number) = self.number.take() else { return };
        let mut state = self.clock.state();
        state.sleepers.remove(&(self.wake_at, number));
        self.clock.0.waiters.send_replace(state.sleepers.len());
    }
}

impl Future for Sleeper {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let clock = self.clock.clone();
        let mut state = clock.state();
        if self.wake_at <= state.elapsed {
            drop(state);
            self.forget();
            return Poll::Ready(());
        }
        let number = *self.number.get_or_insert_with(|| {
            state.next += 1;
            state.next
        });
        state.sleepers.insert((self.wake_at, number), cx.waker().clone());
        clock.0.waiters.send_replace(state.sleepers.len());
        Poll::Pending
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.forget();
    }
}

async fn turns(count: usize) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Durations;

    type Log = Arc<Mutex<Vec<(String, u64)>>>;

    fn note(log: &Log, clock: &WorldClock, who: &str) {
        log.lock().unwrap().push((who.to_owned(), clock.monotonic().as_secs()));
    }

    fn noted(log: &Log) -> Vec<(String, u64)> {
        std::mem::take(&mut *log.lock().unwrap())
    }

    #[tokio::test]
    async fn time_stands_still_until_it_is_moved() {
        let clock = WorldClock::new();
        assert_eq!(clock.now().to_string(), "2026-01-15T12:00:00Z");
        clock.advance(24.hours()).await;
        assert_eq!(clock.now().to_string(), "2026-01-16T12:00:00Z");
        assert_eq!(clock.monotonic(), 24.hours());
    }

    #[tokio::test]
    async fn sleepers_wake_in_order_and_at_their_own_time() {
        let (clock, log) = (WorldClock::new(), Log::default());
        for (who, seconds) in [("late", 90), ("early", 10), ("tie a", 30), ("tie b", 30)] {
            let (clock, log) = (clock.clone(), log.clone());
            tokio::spawn(async move {
                clock.sleep(seconds.seconds()).await;
                note(&log, &clock, who);
            });
            // One after the other, so that ties have an order.
            tokio::task::yield_now().await;
        }
        clock.settled(4).await;
        assert_eq!(clock.next_wake(), Some(clock.now().plus(10.seconds())));
        clock.advance(9.seconds()).await;
        assert_eq!(noted(&log), []);
        clock.advance(1.minutes()).await;
        let expected = [("early", 10), ("tie a", 30), ("tie b", 30)].map(|(who, at)| (who.to_owned(), at));
        assert_eq!(noted(&log), expected);
        assert_eq!(clock.waiters(), 1);
        clock.advance(1.hours()).await;
        assert_eq!(noted(&log), [("late".to_owned(), 90)]);
    }

    #[tokio::test]
    async fn a_task_that_sleeps_again_wakes_again_within_one_move() {
        let (clock, log) = (WorldClock::new(), Log::default());
        let task = tokio::spawn({
            let (clock, log) = (clock.clone(), log.clone());
            async move {
                for _ in 0..3 {
                    clock.sleep(20.seconds()).await;
                    note(&log, &clock, "tick");
                }
            }
        });
        clock.settled(1).await;
        clock.advance(1.minutes()).await;
        assert_eq!(noted(&log), [20, 40, 60].map(|at| ("tick".to_owned(), at)));
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_move_waits_for_work_on_other_threads() {
        let (clock, log) = (WorldClock::new(), Log::default());
        let task = tokio::spawn({
            let (clock, log) = (clock.clone(), log.clone());
            async move {
                loop {
                    clock.sleep(20.seconds()).await;
                    let (clock, log) = (clock.clone(), log.clone());
                    tokio::task::spawn_blocking(move || note(&log, &clock, "wrote")).await.unwrap();
                }
            }
        });
        clock.settled(1).await;
        clock.advance_settled(1.minutes(), 1).await;
        assert_eq!(noted(&log), [20, 40, 60].map(|at| ("wrote".to_owned(), at)));
        task.abort();
    }

    #[tokio::test]
    async fn what_is_past_does_not_sleep_and_what_is_dropped_does_not_wait() {
        let clock = WorldClock::new();
        clock.sleep_until(clock.now()).await;
        clock.sleep_until(clock.now().minus(1.hours())).await;
        clock.sleep(Duration::ZERO).await;

        let task = tokio::spawn(clock.sleep_until(clock.now().plus(1.days())));
        clock.settled(1).await;
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!(clock.waiters(), 0);
    }
}
