//! A bounded queue from many async callers to a few threads.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Why a push was refused. The item comes back dropped: its caller still holds what it was made of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The queue holds as much as it may.
    Full,
    /// The queue takes no more.
    Closed,
}

/// Pushing never waits, popping does.
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
    limit: usize,
}

struct State<T> {
    items: VecDeque<T>,
    waiting: usize,
    /// How many items whoever waits is woken for.
    wanted: usize,
    closed: bool,
}

/// What came of waiting for an item.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Popped {
    /// There is at least one.
    Some,
    /// There was none in time.
    None,
    /// There is none, and there will be none.
    Closed,
}

impl<T> State<T> {
    fn take(&mut self, into: &mut Vec<T>, max: usize) {
        let count = self.items.len().min(max);
        into.extend(self.items.drain(..count));
    }
}

impl<T> Queue<T> {
    pub(crate) fn new(limit: usize) -> Self {
        let state = Mutex::new(State { items: VecDeque::new(), waiting: 0, wanted: 1, closed: false });
        Self { state, filled: Condvar::new(), limit }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn push(&self, item: T) -> Result<(), Refused> {
        // The state is whole after every statement below, so a panic elsewhere cannot have broken it.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return Err(Refused::Closed);
        }
        if state.items.len() >= self.limit {
            return Err(Refused::Full);
        }
        state.items.push_back(item);
        let wake = state.waiting > 0 && state.items.len() >= state.wanted;
        drop(state);
        if wake {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Waits for an item and moves it, and up to `max - 1` more that are there already, to `into`.
    /// False when the queue is closed and empty.
    pub(crate) fn pop_into(&self, into: &mut Vec<T>, max: usize) -> bool {
        self.pop_within(into, max, Duration::MAX) == Popped::Some
    }

    /// As [`Queue::pop_into`], but waits no longer than `patience`.
    pub(crate) fn pop_within(&self, into: &mut Vec<T>, max: usize, patience: Duration) -> Popped {
        let mut state = self.wait(1, patience);
        if state.items.is_empty() {
            return if state.closed { Popped::Closed } else { Popped::None };
        }
        state.take(into, max);
        Popped::Some
    }

    /// Moves up to `max` items that are there already to `into`. When there are none, waits until there are `wanted`,
    /// but no longer than `patience`, and moves those.
    pub(crate) fn gather(&self, into: &mut Vec<T>, max: usize, wanted: usize, patience: Duration) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.items.is_empty() && wanted > 0 {
            drop(state);
            state = self.wait(wanted, patience);
        }
        state.take(into, max);
    }

    /// How many items there are.
    pub(crate) fn len(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).items.len()
    }

    /// Waits until there are `wanted` items, the queue is closed, or `patience` has passed.
    fn wait(&self, wanted: usize, patience: Duration) -> MutexGuard<'_, State<T>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.items.len() >= wanted || state.closed {
            return state;
        }
        state.waiting += 1;
        state.wanted = wanted;
        let is_short = |state: &mut State<T>| state.items.len() < wanted && !state.closed;
        state = if patience == Duration::MAX {
            self.filled.wait_while(state, is_short).unwrap_or_else(PoisonError::into_inner)
        } else {
            self.filled.wait_timeout_while(state, patience, is_short).unwrap_or_else(PoisonError::into_inner).0
        };
        state.waiting -= 1;
        state.wanted = 1;
        state
    }

    /// Takes no more items; those inside are still popped.
    pub(crate) fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.filled.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded_drained_and_closed() {
        let queue = Queue::new(3);
        assert_eq!([1, 2, 3, 4].map(|item| queue.push(item)), [Ok(()), Ok(()), Ok(()), Err(Refused::Full)]);
        let mut items = Vec::new();
        assert!(queue.pop_into(&mut items, 2));
        queue.close();
        assert_eq!(queue.push(5), Err(Refused::Closed));
        queue.gather(&mut items, 0, 1, Duration::MAX);
        assert!(queue.pop_into(&mut items, 2));
        assert!(!queue.pop_into(&mut items, 2));
        assert_eq!(items, [1, 2, 3]);
        assert_eq!(queue.pop_within(&mut items, 1, Duration::ZERO), Popped::Closed);
    }

    #[test]
    fn waiting_ends_with_the_last_that_is_wanted_or_in_time() {
        let queue = Queue::new(8);
        let mut items = Vec::new();
        assert_eq!(queue.pop_within(&mut items, 8, Duration::ZERO), Popped::None);
        queue.gather(&mut items, 8, 2, Duration::from_micros(1));
        assert_eq!((items.len(), queue.len()), (0, 0));
        std::thread::scope(|scope| {
            let gathering = scope.spawn(|| {
                let mut items = Vec::new();
                queue.gather(&mut items, 8, 2, Duration::from_secs(60));
                items
            });
            queue.push(1).unwrap();
            queue.push(2).unwrap();
            // Whoever came first is taken at once, and waits for nobody when it is there before.
            let gathered = gathering.join().unwrap();
            assert!(gathered == [1, 2] || gathered == [1], "{gathered:?}");
        });
    }
}
