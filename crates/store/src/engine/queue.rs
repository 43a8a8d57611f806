//! A bounded queue from many async callers to a few threads.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};

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
    closed: bool,
}

impl<T> Queue<T> {
    pub(crate) fn new(limit: usize) -> Self {
        let state = Mutex::new(State { items: VecDeque::new(), waiting: 0, closed: false });
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
        let wake = state.waiting > 0;
        drop(state);
        if wake {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Waits for an item and moves it, and up to `max - 1` more that are there already, to `into`.
    /// False when the queue is closed and empty.
    pub(crate) fn pop_into(&self, into: &mut Vec<T>, max: usize) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.items.is_empty() {
            if state.closed {
                return false;
            }
            state.waiting += 1;
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        let count = state.items.len().min(max);
        into.extend(state.items.drain(..count));
        true
    }

    /// Moves up to `max` items that are there already to `into`, without waiting.
    pub(crate) fn take_into(&self, into: &mut Vec<T>, max: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let count = state.items.len().min(max);
        into.extend(state.items.drain(..count));
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
        queue.take_into(&mut items, 0);
        assert!(queue.pop_into(&mut items, 2));
        assert!(!queue.pop_into(&mut items, 2));
        assert_eq!(items, [1, 2, 3]);
    }
}
