//! Metered time as lines: quantities, what they cost, and sums of them by whatever they are asked for.
//!
//! An amount is rounded once for each resource, price and UTC day, half to even. Where such a unit falls into several lines
//! (sizes of one price), each gets the difference that it makes to the rounded sum, so that lines always sum to the unit.

use std::collections::{BTreeMap, HashMap};

use nephos_model::id::{EnvironmentId, ProjectId};
use nephos_model::price::PriceBook;
use nephos_store::usage::Interval;

const SECONDS_PER_HOUR: i128 = 3_600;
pub(crate) const SECONDS_PER_DAY: i64 = 86_400;
/// What is metered while a compute runs.
pub(crate) const RUNNING: &str = "compute.running";

/// What is the same for many quantities.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Kind {
    pub project_id: ProjectId,
    pub environment_id: EnvironmentId,
    pub region: String,
    pub size: String,
    pub item: String,
}

/// A quantity of one resource on one day at one price.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    pub kind: &'a Kind,
    /// Of which resource.
    pub resource: &'a str,
    /// In millionths of the currency.
    pub microunits_per_hour: i64,
    /// Days since 1970.
    pub day: i64,
    pub seconds: i64,
    /// In millionths of the currency.
    pub amount: i128,
}

impl Line<'_> {
    /// Seconds for which a compute ran.
    pub(crate) fn compute_seconds(&self) -> i64 {
        if self.kind.item == RUNNING { self.seconds } else { 0 }
    }
}

/// Sums intervals, clipped to a range of seconds, by resource, price and day.
#[derive(Debug)]
pub(crate) struct Metered<'a> {
    from_s: i64,
    to_s: i64,
    prices: &'a PriceBook,
    /// Each kind that was met, with its number: a resource has many days and few kinds.
    kinds: HashMap<Kind, usize>,
    /// By resource and price, then by day and kind.
    seconds: BTreeMap<(String, i64), BTreeMap<(i64, usize), i64>>,
}

impl<'a> Metered<'a> {
    /// Nothing yet, of the seconds from `from_s` to before `to_s`.
    pub(crate) fn new(from_s: i64, to_s: i64, prices: &'a PriceBook) -> Self {
        Self { from_s, to_s, prices, kinds: HashMap::new(), seconds: BTreeMap::new() }
    }

    /// The range of seconds.
    pub(crate) const fn range(&self) -> (i64, i64) {
        (self.from_s, self.to_s)
    }

    /// Adds what of an interval is in the range.
    pub(crate) fn add(&mut self, interval: &Interval) {
        let mut at = interval.from_s.max(self.from_s);
        let to = interval.to_s.unwrap_or(i64::MAX).min(self.to_s);
        if at >= to {
            return;
        }
        let kind = Kind {
            project_id: interval.project_id,
            environment_id: interval.environment_id,
            region: interval.region.clone(),
            size: interval.size.clone(),
            item: interval.item.clone(),
        };
        let next = self.kinds.len();
        let kind = *self.kinds.entry(kind).or_insert(next);
        while at < to {
            let changes_s = self.prices.next_change(at).unwrap_or(i64::MAX);
            let until = to.min(changes_s);
            let rate = (interval.resource_id.clone(), self.price(interval, at));
            let days = self.seconds.entry(rate).or_default();
            while at < until {
                let day = at.div_euclid(SECONDS_PER_DAY);
                let end = until.min((day + 1) * SECONDS_PER_DAY);
                *days.entry((day, kind)).or_insert(0) += end - at;
                at = end;
            }
        }
    }

    fn price(&self, interval: &Interval, at_s: i64) -> i64 {
        match self.prices.price(&interval.size, at_s) {
            Some(price) if interval.item == RUNNING => price.running_microunits_per_hour,
            Some(price) => price.stopped_microunits_per_hour,
            None => interval.microunits_per_hour,
        }
    }

    /// Shows every line. Their order does not depend on the order in which intervals were added.
    pub(crate) fn each(&self, mut show: impl FnMut(&Line<'_>)) {
        let mut kinds: Vec<(&Kind, usize)> = self.kinds.iter().map(|(kind, number)| (kind, *number)).collect();
        kinds.sort_unstable();
        let mut place = vec![0; kinds.len()];
        for (sorted, (_, number)) in kinds.iter().enumerate() {
            place[*number] = sorted;
        }
        for ((resource, price), days) in &self.seconds {
            let mut days: Vec<(i64, usize, i64)> =
                days.iter().map(|((day, kind), seconds)| (*day, place[*kind], *seconds)).collect();
            days.sort_unstable();
            for unit in days.chunk_by(|a, b| a.0 == b.0) {
                let mut before = 0;
                for (day, kind, seconds) in unit {
                    let amount = amount(before + seconds, *price) - amount(before, *price);
                    before += seconds;
                    let kind = kinds[*kind].0;
                    show(&Line { kind, resource, microunits_per_hour: *price, day: *day, seconds: *seconds, amount });
                }
            }
        }
    }
}

/// The price of some seconds at a price by the hour, rounded half to even.
pub(crate) fn amount(seconds: i64, microunits_per_hour: i64) -> i128 {
    let exact = i128::from(seconds) * i128::from(microunits_per_hour);
    let (whole, rest) = (exact.div_euclid(SECONDS_PER_HOUR), exact.rem_euclid(SECONDS_PER_HOUR));
    let rounds_up = 2 * rest > SECONDS_PER_HOUR || (2 * rest == SECONDS_PER_HOUR && whole % 2 != 0);
    whole + i128::from(rounds_up)
}

#[cfg(test)]
mod tests;
