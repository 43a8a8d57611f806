//! How the installation is doing: measured, kept, and told to anybody who asks.
//!
//! A beat each minute writes that the installation and each of its regions worked; a minute without one counts as down.
//! Durations of answers are counted in memory and written with the beat: `kill -9` loses those of at most a minute.

use std::fmt;
use std::str::FromStr as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nephos_model::fault::Detail;
use nephos_model::id::IncidentId;
use nephos_model::tenant::Mode;
use nephos_model::{Fault, Timestamp};
use nephos_store as store;
use nephos_store::status::{ITSELF, Incident, MeasuredHour, MeasuredLatency, NOT_OVER};
use nephos_store::{Batch, StoreError};
use serde_json::{Value, json};
use tracing::warn;

use crate::caller::{Grant, StatusRead};
use crate::region::unavailable;
use crate::view::{IncidentView, PeriodView, RegionStatusView, StatusView, UptimeView};
use crate::{Cloud, fault, latency};

/// Periods that are told of: their names, and their lengths in minutes.
const PERIODS: [(&str, i64); 4] = [("24h", 1_440), ("7d", 10_080), ("30d", 43_200), ("90d", 129_600)];
/// Hours for which measurements are kept.
const HOURS_KEPT: i64 = 100 * 24;
/// Days for which an incident is told of after its end.
const INCIDENT_DAYS_SHOWN: u64 = 90;
/// Ranges for each doubling of a duration: a duration is known to an eighth.
const RANGES_PER_DOUBLING: u64 = 8;
/// Ranges of durations; what takes longer than about two minutes is in the last.
const RANGES: usize = 200;
const TITLE_CHARS_MAX: usize = 200;
const MESSAGE_CHARS_MAX: usize = 2_000;
/// What is told of one incident at most.
const UPDATES_MAX: usize = 100;
/// How bad an incident can be.
pub const IMPACTS: [&str; 3] = ["minor", "major", "critical"];
/// How far an incident can be; the last is its end.
pub const STATES: [&str; 4] = ["investigating", "identified", "monitoring", "resolved"];

/// How long answers took that are not written yet, and what was told last.
pub(crate) struct Measured {
    counts: Vec<AtomicU64>,
    totals_us: Vec<AtomicU64>,
    told: Mutex<Option<(i64, Arc<StatusView>)>>,
}

impl Default for Measured {
    fn default() -> Self {
        let zeros = || (0..RANGES).map(|_| AtomicU64::new(0)).collect();
        Self { counts: zeros(), totals_us: zeros(), told: Mutex::default() }
    }
}

impl fmt::Debug for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Measured").finish_non_exhaustive()
    }
}

impl Measured {
    fn add(&self, range: usize, count: u64, total_us: u64) {
        self.counts[range].fetch_add(count, Ordering::Relaxed);
        self.totals_us[range].fetch_add(total_us, Ordering::Relaxed);
    }

    /// What was counted since the last time.
    fn take(&self) -> Vec<(usize, u64, u64)> {
        let take = |range: usize| {
            let count = self.counts[range].swap(0, Ordering::Relaxed);
            (range, count, self.totals_us[range].swap(0, Ordering::Relaxed))
        };
        (0..RANGES).map(take).filter(|(_, count, total_us)| *count > 0 || *total_us > 0).collect()
    }
}

/// The range that a duration is in; the last has all that are longer.
fn range(us: u64) -> usize {
    usize::try_from(latency::range(us, RANGES_PER_DOUBLING)).map_or(RANGES - 1, |range| range.min(RANGES - 1))
}

impl Cloud {
    /// Counts how long an answer took.
    pub fn measure_answer(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.0.measured.add(range(us), 1, us);
    }

    /// Writes that this minute works, and what was counted.
    pub async fn beat(&self) -> Result<(), StoreError> {
        let now = self.clock().now();
        let (hour, minute) = (now.secs().div_euclid(3_600), now.secs().div_euclid(60));
        let bit = 1_i64 << minute.rem_euclid(60);
        let mut batch: Batch = store::status::mark(hour, ITSELF, bit).into();
        for (region, driver) in self.regions_of(Mode::Live) {
            if unavailable(&**driver).is_none() {
                batch.push(store::status::mark(hour, &region.name, bit));
            }
        }
        let counted = self.0.measured.take();
        for (range, count, total_us) in &counted {
            let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
            let bucket = i64::try_from(*range).unwrap_or(0);
            let latency = MeasuredLatency { bucket, requests: signed(*count), total_us: signed(*total_us) };
            batch.push(store::status::add_latency(hour, latency));
        }
        if minute.rem_euclid(60) == 0 {
            batch.extend(store::status::expire(hour - HOURS_KEPT));
        }
        let written = self.store().write(batch).await;
        if written.is_err() {
            for (range, count, total_us) in counted {
                self.0.measured.add(range, count, total_us);
            }
        }
        written.map(|_| ())
    }

    /// Beats at the start of each minute, and keeps what is told up to date.
    pub(crate) async fn keep_beating(self) {
        loop {
            if let Err(error) = self.beat().await {
                warn!(%error, "that this minute works can't be written now; it counts as down");
            } else if let Err(fault) = self.status_of_minute().await {
                warn!(%fault, "the status can't be read now");
            }
            let into = u64::try_from(self.clock().now().secs().rem_euclid(60)).unwrap_or(0);
            self.clock().sleep(Duration::from_secs(60 - into)).await;
        }
    }

    /// How the installation is doing.
    pub async fn status(&self, _: &Grant<StatusRead>) -> Result<Arc<StatusView>, Fault> {
        self.status_of_minute().await
    }

    /// The same, for anybody: it says nothing of any workspace.
    pub async fn public_status(&self) -> Result<Arc<StatusView>, Fault> {
        self.status_of_minute().await
    }

    /// What was told last; `None` before the first beat.
    pub fn last_status(&self) -> Option<Arc<StatusView>> {
        let told = self.0.measured.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.as_ref().map(|(_, view)| view.clone())
    }

    /// Computed once a minute: a figure of the day before does not change faster.
    async fn status_of_minute(&self) -> Result<Arc<StatusView>, Fault> {
        let minute = self.clock().now().secs().div_euclid(60);
        let told = self.0.measured.told.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, view)) = told.filter(|(of, _)| *of == minute) {
            return Ok(view);
        }
        let view = Arc::new(self.compute_status(minute).await.map_err(fault::store)?);
        *self.0.measured.told.lock().unwrap_or_else(PoisonError::into_inner) = Some((minute, view.clone()));
        Ok(view)
    }

    async fn compute_status(&self, minute: i64) -> Result<StatusView, StoreError> {
        let longest = PERIODS[PERIODS.len() - 1].1;
        let hours = self.store().measured_hours((minute - longest).div_euclid(60)).await?;
        let first = self.store().measured_first().await?;
        let mut periods = Vec::with_capacity(PERIODS.len());
        for (name, minutes) in PERIODS {
            let latencies = self.store().measured_latencies((minute - minutes).div_euclid(60) + 1).await?;
            periods.push(PeriodView {
                period: name,
                uptime_percent: uptime(&hours, ITSELF, first, minute, minutes),
                average_ms: average_ms(&latencies),
                p99_ms: p99_ms(&latencies),
            });
        }
        let regions: Vec<RegionStatusView> = self
            .regions_of(Mode::Live)
            .map(|(region, driver)| {
                let reason = unavailable(&**driver);
                let first = first_minute(&hours, &region.name);
                let uptime = |(name, minutes)| UptimeView {
                    period: name,
                    uptime_percent: uptime(&hours, &region.name, first, minute, minutes),
                };
                RegionStatusView {
                    name: region.name.clone(),
                    available: reason.is_none(),
                    unavailable_reason: reason,
                    periods: PERIODS.map(uptime).to_vec(),
                }
            })
            .collect();
        let shown_since = self.clock().now().minus(Duration::from_secs(INCIDENT_DAYS_SHOWN * 86_400));
        let incidents: Vec<IncidentView> =
            self.store().incidents(shown_since).await?.iter().map(IncidentView::from).collect();
        let measured_since = first.map(|minute| Timestamp::from_secs(minute * 60).to_string());
        Ok(StatusView { status: overall(&regions, &incidents), measured_since, periods, regions, incidents })
    }

    /// Tells about trouble. `impact` is one of [`IMPACTS`], `regions` are names of live regions.
    ///
    /// Faults: 400 with everything that is wrong.
    pub async fn open_incident(
        &self,
        title: &str,
        impact: &str,
        regions: &[String],
        message: &str,
    ) -> Result<IncidentView, Fault> {
        let known = self.region_names();
        let mut wrong = Vec::new();
        wrong.extend(too_long("/title", title, TITLE_CHARS_MAX));
        wrong.extend(too_long("/message", message, MESSAGE_CHARS_MAX));
        wrong.extend(not_one_of("/impact", impact, &IMPACTS));
        for region in regions.iter().filter(|region| !known.contains(region)) {
            let why = format!("names {region:?}, which is none of {}", known.join(", "));
            wrong.push(Detail::field("/regions", "unknown_region", why));
        }
        if !wrong.is_empty() {
            return Err(Fault::invalid(wrong));
        }
        let now = self.clock().now();
        let incident = Incident {
            id: self.id(),
            version: 1,
            title: title.to_owned(),
            impact: impact.to_owned(),
            status: STATES[0].to_owned(),
            regions: json!(regions).to_string(),
            updates: json!([update(now, STATES[0], message)]).to_string(),
            created_at: now,
            resolved_at: NOT_OVER,
        };
        self.store().write(store::status::insert(&incident).into()).await.map_err(fault::store)?;
        self.forget_status();
        Ok(IncidentView::from(&incident))
    }

    /// Tells more about an incident. `status` is one of [`STATES`]; `resolved` ends it.
    ///
    /// Faults: 400; 404; 409 when it is over, was told about too often or changed meanwhile.
    pub async fn update_incident(&self, id: &str, status: &str, message: &str) -> Result<IncidentView, Fault> {
        let wrong: Vec<Detail> = not_one_of("/status", status, &STATES)
            .into_iter()
            .chain(too_long("/message", message, MESSAGE_CHARS_MAX))
            .collect();
        if !wrong.is_empty() {
            return Err(Fault::invalid(wrong));
        }
        let id = IncidentId::from_str(id).map_err(|_| Fault::not_found("incident"))?;
        let found = self.store().incident(id).await.map_err(fault::store)?;
        let mut incident = found.ok_or_else(|| Fault::not_found("incident"))?;
        if incident.resolved_at != NOT_OVER {
            return Err(Fault::conflict(Detail::new("resolved", "The incident is over; open another one.")));
        }
        let mut updates = list(&incident.updates);
        if updates.len() >= UPDATES_MAX {
            let why = format!("{UPDATES_MAX} updates were told about this incident; resolve it and open another one.");
            return Err(Fault::conflict(Detail::new("too_many_updates", why)));
        }
        let now = self.clock().now();
        updates.push(update(now, status, message));
        status.clone_into(&mut incident.status);
        incident.updates = Value::Array(updates).to_string();
        if status == STATES[STATES.len() - 1] {
            incident.resolved_at = now;
        }
        self.store().write(store::status::update(&incident).into()).await.map_err(fault::store)?;
        self.forget_status();
        Ok(IncidentView::from(&incident))
    }

    /// Incidents that are told of.
    pub async fn incidents(&self) -> Result<Vec<IncidentView>, Fault> {
        self.forget_status();
        Ok(self.status_of_minute().await?.incidents.clone())
    }

    fn forget_status(&self) {
        *self.0.measured.told.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn update(at: Timestamp, status: &str, message: &str) -> Value {
    json!({"at": at.to_string(), "status": status, "message": message})
}

/// The items of a JSON list that this module wrote.
pub(crate) fn list(text: &str) -> Vec<Value> {
    serde_json::from_str(text).unwrap_or_default()
}

fn too_long(pointer: &'static str, text: &str, chars_max: usize) -> Option<Detail> {
    let chars = text.chars().count();
    let why = format!("has {chars} characters; 1 to {chars_max} are allowed");
    (chars == 0 || chars > chars_max).then(|| Detail::field(pointer, "length", why))
}

fn not_one_of(pointer: &'static str, value: &str, allowed: &[&str]) -> Option<Detail> {
    let why = format!("is {value:?}; it must be one of {}", allowed.join(", "));
    (!allowed.contains(&value)).then(|| Detail::field(pointer, "unknown_value", why))
}

fn overall(regions: &[RegionStatusView], incidents: &[IncidentView]) -> &'static str {
    let mut open = incidents.iter().filter(|incident| incident.resolved_at.is_none());
    let none_works = !regions.is_empty() && regions.iter().all(|region| !region.available);
    if none_works || open.clone().any(|incident| incident.impact == "critical") {
        "outage"
    } else if regions.iter().any(|region| !region.available) || open.next().is_some() {
        "degraded"
    } else {
        "operational"
    }
}

/// The first minute of those that were read in which a place worked.
fn first_minute(hours: &[MeasuredHour], place: &str) -> Option<i64> {
    let first = hours.iter().find(|hour| hour.place == place && hour.minutes != 0)?;
    Some(first.hour * 60 + i64::from(first.minutes.trailing_zeros()))
}

/// The share of whole minutes before `minute` in which a place worked, since `first` at the earliest.
fn uptime(hours: &[MeasuredHour], place: &str, first: Option<i64>, minute: i64, minutes: i64) -> Option<f64> {
    let from = (minute - minutes).max(first?);
    let whole = u32::try_from(minute - from).ok().filter(|whole| *whole > 0)?;
    let mut up: u32 = 0;
    for hour in hours.iter().filter(|hour| hour.place == place) {
        // The bits of the minutes from `from` to before `minute`.
        let begin = (from - hour.hour * 60).clamp(0, 60);
        let end = (minute - hour.hour * 60).clamp(0, 60);
        let below = |bits: i64| (1_i64 << bits) - 1;
        up += (hour.minutes & below(end) & !below(begin)).count_ones();
    }
    // Thousandths of a percent, rounded down: never better than it was.
    let thousandths = u64::from(up) * 100_000 / u64::from(whole);
    Some(f64::from(u32::try_from(thousandths).unwrap_or(100_000)) / 1_000.0)
}

fn average_ms(latencies: &[MeasuredLatency]) -> Option<f64> {
    let requests: i64 = latencies.iter().map(|l| l.requests).sum();
    let total_us: i64 = latencies.iter().map(|l| l.total_us).sum();
    (requests > 0).then(|| milliseconds(total_us / requests))
}

/// The duration that 99 of 100 answers did not exceed, to an eighth.
fn p99_ms(latencies: &[MeasuredLatency]) -> Option<f64> {
    let mut sorted = latencies.to_vec();
    sorted.sort_by_key(|l| l.bucket);
    let requests: i64 = sorted.iter().map(|l| l.requests).sum();
    let mut left = requests - requests / 100;
    for latency in &sorted {
        left -= latency.requests;
        if left <= 0 && latency.requests > 0 {
            let longest = latency::longest_us(u64::try_from(latency.bucket).unwrap_or(0), RANGES_PER_DOUBLING);
            return Some(milliseconds(i64::try_from(longest).unwrap_or(i64::MAX)));
        }
    }
    None
}

fn milliseconds(us: i64) -> f64 {
    f64::from(u32::try_from(us / 10).unwrap_or(u32::MAX)) / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_known_to_an_eighth() {
        let mut last = 0;
        for us in (0..100_000).chain([1_000_000, 60_000_000, u64::MAX]) {
            let range = range(us);
            assert!(range >= last && range < RANGES);
            last = range;
            let longest = latency::longest_us(range as u64, RANGES_PER_DOUBLING);
            assert!(us > 60_000_000 || (longest >= us && longest <= us + us / 8 + 1), "{us} in {range} to {longest}");
        }
    }

    fn hour(hour: i64, minutes: i64) -> MeasuredHour {
        MeasuredHour { hour, place: ITSELF.to_owned(), minutes }
    }

    #[test]
    fn a_gap_counts_as_down_and_the_time_before_the_first_minute_does_not_count() {
        let all = (1 << 60) - 1;
        let hours = [hour(10, all), hour(12, all)];
        // Measured from the start of hour 10 to the end of hour 12; hour 11 is missing.
        assert_eq!(uptime(&hours, ITSELF, Some(600), 780, 1_440), Some(66.666));
        // Only the last two hours.
        assert_eq!(uptime(&hours, ITSELF, Some(600), 780, 120), Some(50.0));
        // The minute that runs is not counted, and neither is the time before the first one.
        let hours = [hour(10, 0b1110)];
        assert_eq!(uptime(&hours, ITSELF, Some(601), 603, 1_440), Some(100.0));
        assert_eq!(uptime(&hours, ITSELF, Some(601), 601, 1_440), None);
        assert_eq!(uptime(&hours, ITSELF, None, 603, 1_440), None);
        assert_eq!(first_minute(&hours, ITSELF), Some(601));
    }

    #[test]
    fn the_slowest_of_a_hundred_does_not_count_and_the_second_slowest_does() {
        let latency = |us: u64, requests: i64| MeasuredLatency {
            bucket: i64::try_from(range(us)).unwrap_or(0),
            requests,
            total_us: i64::try_from(us).unwrap_or(0) * requests,
        };
        let fast = [latency(1_000, 99), latency(800_000, 1)];
        assert_eq!(p99_ms(&fast), Some(1.02));
        assert_eq!(average_ms(&fast), Some(8.99));
        let slow = [latency(1_000, 98), latency(800_000, 2)];
        assert!(p99_ms(&slow).is_some_and(|ms| ms >= 800.0));
        assert_eq!((p99_ms(&[]), average_ms(&[])), (None, None));
    }
}
