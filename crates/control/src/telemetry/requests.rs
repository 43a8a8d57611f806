//! What clients' requests were like: how many, how they ended and how long they took, by operation and key and hour.

use std::collections::BTreeMap;
use std::time::Duration;

use nephos_model::fault::Detail;
use nephos_model::id::KeyId;
use nephos_model::{Fault, Timestamp};
use nephos_store::telemetry::{HOUR_S, RequestCounts, RequestKind};

use super::{Asked, REQUESTS_KEPT_S};
use crate::caller::{Caller, Grant, TelemetryRead};
use crate::tally::Coarse;
use crate::view::{RequestGroupView, RequestTelemetryView};
use crate::{Cloud, fault, latency};

/// Ranges for each doubling of a duration: one is known to a quarter.
const RANGES_PER_DOUBLING: u64 = 4;
/// The range of requests that waited because their client asked for it: how long they took says nothing.
const HELD: i64 = -1;

impl Coarse for RequestKind {
    /// At most one for each tenant, hour, operation and range.
    fn coarse(self) -> Self {
        Self { key_id: None, ..self }
    }
}

/// What requests are grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestsBy {
    /// Operations, by their ids.
    Operation,
    /// API keys, by their ids.
    ApiKey,
}

impl RequestsBy {
    /// Their names.
    pub const NAMES: [&'static str; 2] = ["operation", "api_key"];

    /// The one of a name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Operation, Self::ApiKey].into_iter().find(|by| Self::NAMES[*by as usize] == name)
    }
}

/// The number of the range that a duration is in.
fn range(us: u64) -> i64 {
    i64::try_from(latency::range(us, RANGES_PER_DOUBLING)).unwrap_or(i64::MAX)
}

/// The longest duration of a range, in microseconds.
fn longest_us(range: i64) -> i64 {
    let range = u64::try_from(range).unwrap_or(0);
    i64::try_from(latency::longest_us(range, RANGES_PER_DOUBLING)).unwrap_or(i64::MAX)
}

/// Sums of requests, and how many were in each range.
#[derive(Debug, Default)]
struct Sum {
    counts: RequestCounts,
    /// Those whose duration says something.
    timed: RequestCounts,
    ranges: BTreeMap<i64, i64>,
}

impl Sum {
    fn add(&mut self, range: i64, counts: &RequestCounts) {
        self.counts.add(counts, 1);
        if range != HELD {
            self.timed.add(counts, 1);
            *self.ranges.entry(range).or_default() += counts.requests;
        }
    }

    /// The time in which so many of 100 were answered, in milliseconds, to a quarter.
    fn quantile_ms(&self, percent: i64) -> Option<f64> {
        let mut left = (self.timed.requests * percent + 99) / 100;
        for (range, requests) in &self.ranges {
            left -= requests;
            if left <= 0 {
                return Some(ms(longest_us(*range)));
            }
        }
        None
    }

    fn view(&self, key: Option<String>) -> RequestGroupView {
        let RequestCounts { requests, client_errors, server_errors, rate_limited, .. } = self.counts;
        RequestGroupView {
            key,
            requests,
            client_errors,
            server_errors,
            rate_limited,
            average_ms: (self.timed.requests > 0).then(|| ms(self.timed.total_us / self.timed.requests)),
            p50_ms: self.quantile_ms(50),
            p95_ms: self.quantile_ms(95),
            p99_ms: self.quantile_ms(99),
        }
    }
}

#[allow(clippy::cast_precision_loss)] // durations are far below 2⁵³ µs
fn ms(us: i64) -> f64 {
    us as f64 / 1_000.0
}

impl Cloud {
    /// Counts an answer to a key's request: of which operation (`None`: of none that there is), how it ended and how long it
    /// took, unless it was held because its client asked for that.
    pub fn count_answer(&self, caller: &Caller, operation: Option<&'static str>, status: u16, took: Option<Duration>) {
        // A person in the console is no client that somebody integrates.
        if caller.key_id.is_none() {
            return;
        }
        let now_s = self.now(caller).secs();
        let us = took.map_or(0, |took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        let kind = RequestKind {
            tenant: caller.tenant,
            at_s: now_s - now_s.rem_euclid(HOUR_S),
            operation: operation.unwrap_or_default(),
            key_id: caller.key_id,
            latency_range: took.map_or(HELD, |_| range(us)),
        };
        let counts = RequestCounts {
            requests: 1,
            client_errors: i64::from((400..500).contains(&status) && status != 429),
            server_errors: i64::from(status >= 500),
            rate_limited: i64::from(status == 429),
            total_us: i64::try_from(us).unwrap_or(i64::MAX),
        };
        self.0.answers.add(kind, &counts);
    }

    /// What requests were like from one hour to another, by operation or by key, the most frequent first. A credential that
    /// is narrowed to a project or environment sees its own.
    pub async fn request_telemetry(
        &self,
        grant: &Grant<TelemetryRead>,
        asked: &Asked<'_>,
        by: RequestsBy,
        (operation, key): (Option<&str>, Option<KeyId>),
    ) -> Result<RequestTelemetryView, Fault> {
        let caller = grant.caller();
        let now_s = self.now(caller).secs();
        // The second that goes on is in it.
        let to_s = asked.to.map_or(now_s + 1, |to| to.secs().min(now_s + 1));
        let from_s = asked.from.map_or(to_s - 24 * HOUR_S, Timestamp::secs);
        if from_s >= to_s || from_s < now_s - REQUESTS_KEPT_S {
            let message = "\"from\" must be before \"to\" and within the last 30 days, for which requests are kept.";
            return Err(Fault::bad(Detail::parameter("from", "out_of_range", message)));
        }
        let (from_s, to_s) = (from_s - from_s.rem_euclid(HOUR_S), to_s + (-to_s).rem_euclid(HOUR_S));
        self.flush_requests().await.map_err(fault::store)?;
        let own = caller.key_id.filter(|_| caller.is_narrowed());
        let mut total = Sum::default();
        let mut groups: BTreeMap<Option<String>, Sum> = BTreeMap::new();
        // Another's key is as one that made no request.
        if own.is_none_or(|own| key.is_none_or(|key| key == own)) {
            let rows = self.store().telemetry_requests(caller.tenant, from_s..to_s, own.or(key), operation);
            for row in rows.await.map_err(fault::store)? {
                let group = match by {
                    RequestsBy::Operation => Some(row.operation).filter(|id| !id.is_empty()),
                    RequestsBy::ApiKey => row.key_id.map(|id| id.to_string()),
                };
                total.add(row.latency_range, &row.counts);
                groups.entry(group).or_default().add(row.latency_range, &row.counts);
            }
        }
        let mut groups: Vec<RequestGroupView> = groups.into_iter().map(|(key, sum)| sum.view(key)).collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.requests));
        Ok(RequestTelemetryView {
            from: Timestamp::from_secs(from_s).to_string(),
            to: Timestamp::from_secs(to_s).to_string(),
            group_by: RequestsBy::NAMES[by as usize].to_owned(),
            total: total.view(None),
            groups,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_what_was_not_held() {
        let one = |us: i64| RequestCounts { requests: 1, total_us: us, ..RequestCounts::default() };
        let mut sum = Sum::default();
        assert_eq!((sum.view(None).p50_ms, sum.view(None).average_ms), (None, None));
        for us in 1..=100 {
            sum.add(range(us * 1_000), &one(i64::try_from(us * 1_000).unwrap()));
        }
        sum.add(HELD, &one(0));
        let view = sum.view(None);
        assert_eq!((view.requests, view.average_ms), (101, Some(50.5)));
        assert!(view.p50_ms.is_some_and(|ms| (50.0..=62.5).contains(&ms)), "{:?}", view.p50_ms);
        assert!(view.p99_ms.is_some_and(|ms| (99.0..=124.0).contains(&ms)), "{:?}", view.p99_ms);
    }
}
