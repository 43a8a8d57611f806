//! What the control plane counts about itself: how operations ended, what drivers were asked for, how late looks are.

use std::time::Duration;

use nephos_driver::DriverError;
use nephos_model::metric::{Counter, Histogram, Metric};
use nephos_model::operation::{Kind, Status};

use crate::Cloud;

/// Bounds of how long a driver took, in microseconds: 1 ms to 60 s.
const STEP_US: [u64; 8] = [1_000, 5_000, 25_000, 100_000, 500_000, 2_500_000, 10_000_000, 60_000_000];
/// Bounds of how long after its time a look began, in microseconds: 1 ms to 60 s.
const LAG_US: [u64; 7] = [1_000, 10_000, 100_000, 500_000, 1_000_000, 10_000_000, 60_000_000];
/// How operations end.
const OUTCOMES: [Status; 3] = [Status::Succeeded, Status::Failed, Status::Cancelled];
/// The drivers; one that is not here is counted as the last.
const DRIVERS: [&str; 3] = ["qemu", "simulator", "other"];

/// What a driver is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Observe,
    Converge,
    Grow,
    Wipe,
    Discard,
}

impl Asked {
    const ALL: [Self; 5] = [Self::Observe, Self::Converge, Self::Grow, Self::Wipe, Self::Discard];

    /// The name of its span.
    pub(crate) const fn span(self) -> &'static str {
        match self {
            Self::Observe => "driver.observe",
            Self::Converge => "driver.converge",
            Self::Grow => "driver.grow",
            Self::Wipe => "driver.wipe",
            Self::Discard => "driver.discard",
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Converge => "converge",
            Self::Grow => "grow",
            Self::Wipe => "wipe",
            Self::Discard => "discard",
        }
    }
}

/// How what a driver was asked for came out.
const ANSWERS: [&str; 4] = ["done", "refused", "no_capacity", "failed"];

fn answer<T>(result: &Result<T, DriverError>) -> usize {
    match result {
        Ok(_) => 0,
        Err(DriverError::Refused(_)) => 1,
        Err(DriverError::NoCapacity(_)) => 2,
        Err(DriverError::Passing { .. }) => 3,
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[derive(Debug)]
struct Steps {
    answers: [Counter; ANSWERS.len()],
    took: Histogram<8>,
}

impl Default for Steps {
    fn default() -> Self {
        Self { answers: Default::default(), took: Histogram::new(&STEP_US) }
    }
}

/// The numbers.
#[derive(Debug)]
pub(crate) struct Metrics {
    operations: Vec<[Counter; OUTCOMES.len()]>,
    steps: [[Steps; Asked::ALL.len()]; DRIVERS.len()],
    lag: Histogram<7>,
    looks_failed: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            operations: Kind::ALL.iter().map(|_| Default::default()).collect(),
            steps: Default::default(),
            lag: Histogram::new(&LAG_US),
            looks_failed: Counter::default(),
        }
    }
}

impl Metrics {
    /// An operation ended.
    pub(crate) fn ended(&self, kind: Kind, status: Status) {
        let kind = Kind::ALL.iter().position(|k| *k == kind).and_then(|at| self.operations.get(at));
        let outcome = OUTCOMES.iter().position(|o| *o == status);
        if let (Some(kind), Some(outcome)) = (kind, outcome) {
            kind[outcome].one();
        }
    }

    /// A driver was asked for something and took so long.
    pub(crate) fn step<T>(&self, driver: &str, asked: Asked, result: &Result<T, DriverError>, took: Duration) {
        let driver = DRIVERS.iter().position(|d| *d == driver).unwrap_or(DRIVERS.len() - 1);
        let steps = &self.steps[driver][Asked::ALL.iter().position(|a| *a == asked).unwrap_or(0)];
        steps.answers[answer(result)].one();
        steps.took.record(micros(took));
    }

    /// A look began so long after it was due.
    pub(crate) fn late(&self, lag: Duration) {
        self.lag.record(micros(lag));
    }

    /// A look failed and is tried again.
    pub(crate) fn look_failed(&self) {
        self.looks_failed.one();
    }
}

impl Cloud {
    /// The numbers of the control plane and its store.
    pub fn metrics(&self) -> Vec<Metric> {
        let metrics = &self.0.metrics;
        let mut out = self.store().metrics();
        for (kind, outcomes) in Kind::ALL.iter().zip(&metrics.operations) {
            for (status, counter) in OUTCOMES.iter().zip(outcomes) {
                let labels = [("kind", kind.as_str()), ("outcome", status.as_str())];
                out.push(Metric::counter("nephos_operations_total", "Operations that ended.", &labels, counter.get()));
            }
        }
        let drivers = || {
            DRIVERS
                .iter()
                .zip(&metrics.steps)
                .flat_map(|(driver, by)| Asked::ALL.iter().zip(by).map(move |(a, s)| (driver, a, s)))
        };
        for (driver, asked, steps) in drivers() {
            for (name, counter) in ANSWERS.iter().zip(&steps.answers) {
                let labels = [("driver", *driver), ("step", asked.as_str()), ("outcome", *name)];
                out.push(Metric::counter(
                    "nephos_driver_steps_total",
                    "What drivers were asked for.",
                    &labels,
                    counter.get(),
                ));
            }
        }
        for (driver, asked, steps) in drivers() {
            let labels = [("driver", *driver), ("step", asked.as_str())];
            out.push(Metric::durations(
                "nephos_driver_step_seconds",
                "How long drivers took.",
                &labels,
                steps.took.read(),
            ));
        }
        let lag = "How long after its time a look at a compute began.";
        out.push(Metric::durations("nephos_reconcile_lag_seconds", lag, &[], metrics.lag.read()));
        let failed = metrics.looks_failed.get();
        out.push(Metric::counter(
            "nephos_reconcile_failures_total",
            "Looks that failed and are tried again.",
            &[],
            failed,
        ));
        let looks = *self.looks().borrow() as u64;
        out.extend(self.0.sent.metrics());
        out.push(Metric::gauge("nephos_reconcile_looks", "Looks under way.", &[], looks));
        out
    }
}
