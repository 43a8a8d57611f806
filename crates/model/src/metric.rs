//! Numbers about the program itself, with names and labels of fixed sets.
//!
//! A label's value is a `&'static str`, so nothing that a client or tenant chose can become one, and how many series there
//! are is decided by the code. Deliberately not here: how they are exported.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn one(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// How many there were.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How often values fell under each of `N` ascending bounds, their number and their sum.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    bounds: &'static [u64; N],
    under: [AtomicU64; N],
    count: AtomicU64,
    sum: AtomicU64,
}

impl<const N: usize> Histogram<N> {
    /// An empty histogram; `bounds` ascend.
    pub fn new(bounds: &'static [u64; N]) -> Self {
        let under = std::array::from_fn(|_| AtomicU64::new(0));
        Self { bounds, under, count: AtomicU64::new(0), sum: AtomicU64::new(0) }
    }

    /// Counts a value.
    pub fn record(&self, value: u64) {
        if let Some(bucket) = self.bounds.iter().position(|bound| value <= *bound) {
            self.under[bucket].fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(value, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn read(&self) -> Distribution {
        let mut sum = 0;
        let buckets = self.bounds.iter().zip(&self.under).map(|(bound, under)| {
            sum += under.load(Ordering::Relaxed);
            (*bound, sum)
        });
        let buckets: Vec<_> = buckets.collect();
        // What is counted meanwhile is never less than what the buckets hold.
        let count = self.count.load(Ordering::Relaxed).max(sum);
        Distribution { buckets, count, sum: self.sum.load(Ordering::Relaxed) }
    }
}

/// What a histogram counted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Distribution {
    /// Each bound with how many values were not above it.
    pub buckets: Vec<(u64, u64)>,
    /// How many values there were.
    pub count: u64,
    /// Their sum.
    pub sum: u64,
}

/// What a number is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// It only rises.
    Counter(u64),
    /// It is what it is now.
    Gauge(u64),
    /// Microseconds, exported as seconds.
    Durations(Distribution),
    /// Counts of things.
    Sizes(Distribution),
}

/// A label: its name and its value.
pub type Label = (&'static str, &'static str);

/// One number with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    /// Its name, with the unit at the end.
    pub name: &'static str,
    /// What it tells.
    pub help: &'static str,
    /// Its labels.
    pub labels: Vec<Label>,
    /// The number.
    pub reading: Reading,
}

impl Metric {
    /// A number that only rises.
    pub fn counter(name: &'static str, help: &'static str, labels: &[Label], value: u64) -> Self {
        Self { name, help, labels: labels.to_vec(), reading: Reading::Counter(value) }
    }

    /// A number as it is now.
    pub fn gauge(name: &'static str, help: &'static str, labels: &[Label], value: u64) -> Self {
        Self { name, help, labels: labels.to_vec(), reading: Reading::Gauge(value) }
    }

    /// A distribution of durations in microseconds.
    pub fn durations(name: &'static str, help: &'static str, labels: &[Label], value: Distribution) -> Self {
        Self { name, help, labels: labels.to_vec(), reading: Reading::Durations(value) }
    }

    /// A distribution of numbers.
    pub fn sizes(name: &'static str, help: &'static str, labels: &[Label], value: Distribution) -> Self {
        Self { name, help, labels: labels.to_vec(), reading: Reading::Sizes(value) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative() {
        let histogram = Histogram::new(&[1, 10, 100]);
        for value in [0, 1, 2, 10, 11, 1_000] {
            histogram.record(value);
        }
        let read = histogram.read();
        assert_eq!(read, Distribution { buckets: vec![(1, 2), (10, 4), (100, 5)], count: 6, sum: 1_024 });
        let counter = Counter::default();
        counter.one();
        counter.add(2);
        assert_eq!(counter.get(), 3);
    }
}
