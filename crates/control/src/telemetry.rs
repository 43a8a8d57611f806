//! Telemetry: what computes used, minute by minute, and what clients' requests were like.
//!
//! At the end of each minute every driver is asked what its machines have counted. What was added since the minute before
//! goes into rows of the minute and of the hour, of the compute and of its environment; a machine that was not looked at a
//! minute before leaves a gap. Simulated machines have no rows: what they used follows from their ids and from when they
//! ran, which the ledger knows. Requests are counted in memory and written with the counts of the usage.

pub mod export;
mod requests;
mod window;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nephos_driver::{Driver, Shape};
use nephos_model::fault::Detail;
use nephos_model::id::{ComputeId, EnvironmentId, ProjectId};
use nephos_model::telemetry::{Counters, Reading};
use nephos_model::tenant::Mode;
use nephos_model::{Fault, Timestamp};
use nephos_store as store;
use nephos_store::telemetry::{HOUR_S, MINUTE_S, Place};
use nephos_store::usage::Interval;
use nephos_store::{Batch, StoreError};
use tracing::{debug, warn};

pub use self::requests::RequestsBy;
pub use self::window::{Asked, RANGES, STEPS, Window};
use crate::caller::{Caller, Grant, TelemetryRead};
use crate::usage::metered::RUNNING;
use crate::view::{ComputeMetricsView, TelemetryGroupView, TelemetryPointView, TelemetryView};
use crate::{Cloud, fault};

/// How long periods of a minute are kept.
pub const MINUTES_KEPT_S: i64 = 24 * HOUR_S;
/// How long periods of an hour are kept.
pub const HOURS_KEPT_S: i64 = 90 * 24 * HOUR_S;
/// How long counts of requests are kept.
pub const REQUESTS_KEPT_S: i64 = 30 * 24 * HOUR_S;
/// How long after its last look a compute is told of as running.
pub const COUNTED_KEPT: Duration = Duration::from_secs(180);
/// Milliseconds between two looks of which the difference is a minute's: a look that comes later than that has missed one.
const APART_MS_MAX: i64 = 90_000;
/// Computes whose rows are written together.
const COMPUTES_AT_ONCE: usize = 64;
/// Points of all groups together at most.
pub const GROUP_POINTS_MAX: usize = 20_000;

/// What the machines of this process had counted at the last look.
#[derive(Debug, Default)]
pub(crate) struct Sampled(Mutex<HashMap<ComputeId, Look>>);

/// One look at one machine.
#[derive(Debug, Clone, Copy)]
struct Look {
    /// By the clock that never steps.
    at: Duration,
    /// The first second of the minute that it ended, since 1970.
    minute_s: i64,
    counters: Counters,
}

/// What figures are grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupBy {
    /// Projects, by their ids.
    Project,
    /// Environments, by their ids.
    Environment,
    /// Regions, by their names.
    Region,
}

impl GroupBy {
    /// Their names.
    pub const NAMES: [&'static str; 3] = ["project", "environment", "region"];

    /// The one of a name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Project, Self::Environment, Self::Region].into_iter().find(|by| by.as_str() == name)
    }

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    fn key(self, home: &Home<'_>) -> String {
        match self {
            Self::Project => home.project_id.to_string(),
            Self::Environment => home.environment_id.to_string(),
            Self::Region => home.region.to_owned(),
        }
    }
}

/// Which computes are summed.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Those of a project.
    pub project_id: Option<ProjectId>,
    /// Those of an environment.
    pub environment_id: Option<EnvironmentId>,
    /// Those of a region.
    pub region: Option<String>,
}

/// Where what is summed was used.
struct Home<'a> {
    project_id: ProjectId,
    environment_id: EnvironmentId,
    region: &'a str,
}

impl Filter {
    fn takes(&self, caller: &Caller, home: &Home<'_>) -> bool {
        caller.sees(home.project_id, home.environment_id)
            && self.project_id.is_none_or(|only| only == home.project_id)
            && self.environment_id.is_none_or(|only| only == home.environment_id)
            && self.region.as_deref().is_none_or(|only| only == home.region)
    }
}

/// Readings of steps, by the first second of each.
type Steps = BTreeMap<i64, Reading>;

impl Cloud {
    /// Looks at all machines at the end of each minute, until the future is dropped.
    pub(crate) async fn keep_sampling(self) {
        loop {
            let now_s = self.clock().now().secs();
            let next_s = now_s - now_s.rem_euclid(MINUTE_S) + MINUTE_S;
            self.clock().sleep_until(Timestamp::from_secs(next_s)).await;
            self.sample().await;
        }
    }

    /// Looks at all machines of this process's drivers, and writes what they used in the minute that has just ended.
    pub async fn sample(&self) {
        let mut looks: Vec<(ComputeId, Counters)> = Vec::new();
        for driver in self.drivers() {
            match driver.measure().await {
                Ok(measured) => looks.extend(measured),
                Err(error) => warn!(driver = driver.name(), %error, "what machines used can't be asked now"),
            }
        }
        for some in looks.chunks(COMPUTES_AT_ONCE) {
            if let Err(error) = self.write_looks(some).await {
                // They are a gap then.
                warn!(%error, "what some machines used can't be written now");
            }
        }
        let seen: std::collections::HashSet<ComputeId> = looks.iter().map(|(id, _)| *id).collect();
        self.sampled().retain(|id, _| seen.contains(id));
    }

    fn sampled(&self) -> std::sync::MutexGuard<'_, HashMap<ComputeId, Look>> {
        self.0.sampled.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write_looks(&self, looks: &[(ComputeId, Counters)]) -> Result<(), StoreError> {
        let (now, at) = (self.clock().now(), self.clock().monotonic());
        let minute_s = now.secs() - now.secs().rem_euclid(MINUTE_S) - MINUTE_S;
        let ids: Vec<ComputeId> = looks.iter().map(|(id, _)| *id).collect();
        let places = self.store().telemetry_places(&ids).await?;
        let mut batch = Batch::new();
        let mut groups: Vec<(Place, Reading)> = Vec::new();
        for ((id, counters), place) in looks.iter().zip(places) {
            // Nobody's any more: what is left of it is on its way out.
            let Some(place) = place else { continue };
            let before = self.sampled().insert(*id, Look { at, minute_s, counters: *counters });
            batch.push(store::telemetry::counted(place.tenant, *id, now, counters));
            let Some(reading) = added(before, Look { at, minute_s, counters: *counters }, place.vcpus) else {
                debug!(compute = %id, minute_s, "a minute of a machine is not known");
                continue;
            };
            batch.extend(store::telemetry::measured(place.tenant, *id, minute_s, &reading));
            let same = |of: &Place| {
                of.tenant == place.tenant && of.environment_id == place.environment_id && of.region == place.region
            };
            match groups.iter_mut().find(|(of, _)| same(of)) {
                Some((_, sum)) => sum.add(&reading),
                None => groups.push((place, reading)),
            }
        }
        for (place, sum) in &groups {
            batch.extend(store::telemetry::group_measured(place, minute_s, sum));
        }
        self.store().write(batch).await.map(|_| ())
    }

    /// What is past its retention goes with the other rows that are.
    pub(crate) fn expire_telemetry(&self, batch: &mut Batch) {
        let now = self.clock().now();
        let [minutes_s, hours_s, requests_s] =
            [MINUTES_KEPT_S, HOURS_KEPT_S, REQUESTS_KEPT_S].map(|kept_s| now.secs() - kept_s - HOUR_S);
        batch.extend(store::telemetry::expire(minutes_s, hours_s, requests_s, now.minus(COUNTED_KEPT)));
    }

    /// What a compute used, step by step; 404 for one that is not there, 400 for times that have no points.
    pub async fn compute_metrics(
        &self,
        grant: &Grant<TelemetryRead>,
        id: ComputeId,
        asked: &Asked<'_>,
    ) -> Result<ComputeMetricsView, Fault> {
        let compute = self.visible_compute(grant, id).await?;
        let caller = grant.caller();
        let now = self.now(caller);
        let window = Window::of(asked, now)?;
        let mut steps = Steps::new();
        match self.driver(caller.mode, &compute.region) {
            Some(driver) if driver.is_simulated() => {
                self.settle_sandbox(caller).await;
                let intervals = self.store().intervals_of(caller.tenant, id, window.range_s()).await;
                for interval in intervals.map_err(fault::store)? {
                    self.imagine(&**driver, &interval, &window, now, &mut steps);
                }
            }
            _ => {
                let rows = self.store().telemetry_of_compute(caller.tenant, id, window.period_s(), window.range_s());
                for (at_s, reading) in rows.await.map_err(fault::store)? {
                    steps.entry(window.step_of(at_s)).or_default().add(&reading);
                }
            }
        }
        let point = |at_s: i64| {
            let reading = steps.get(&at_s).copied().unwrap_or_default();
            // What it held is an average over the time for which that is known.
            TelemetryPointView::of(at_s, &reading, reading.measured_ms)
        };
        Ok(ComputeMetricsView {
            compute_id: id.to_string(),
            from: Timestamp::from_secs(window.from_s).to_string(),
            to: Timestamp::from_secs(window.to_s).to_string(),
            step_seconds: window.step_s,
            points: window.steps().map(point).collect(),
        })
    }

    /// What all computes that the credential sees used, step by step, in all or by group; computes that are gone count.
    pub async fn telemetry(
        &self,
        grant: &Grant<TelemetryRead>,
        asked: &Asked<'_>,
        filter: &Filter,
        group_by: Option<GroupBy>,
    ) -> Result<TelemetryView, Fault> {
        let caller = grant.caller();
        let now = self.now(caller);
        let window = Window::of(asked, now)?;
        let mut groups: BTreeMap<Option<String>, Steps> = BTreeMap::new();
        if group_by.is_none() {
            groups.insert(None, Steps::new());
        }
        let key = |home: &Home<'_>| group_by.map(|by| by.key(home));
        let rows =
            self.store().telemetry_of_groups(caller.tenant, window.period_s(), window.range_s(), window.step_s).await;
        for row in rows.map_err(fault::store)? {
            let home = Home { project_id: row.project_id, environment_id: row.environment_id, region: &row.region };
            if filter.takes(caller, &home) {
                groups.entry(key(&home)).or_default().entry(row.at_s).or_default().add(&row.reading);
            }
        }
        let simulated: Vec<(&str, &Arc<dyn Driver>)> = self
            .regions_of(caller.mode)
            .filter(|(_, driver)| driver.is_simulated())
            .map(|(region, driver)| (&*region.name, driver))
            .collect();
        if !simulated.is_empty() {
            self.settle_sandbox(caller).await;
            self.each_interval(caller.tenant, window.range_s(), |interval| {
                let (project_id, environment_id, region) =
                    (interval.project_id, interval.environment_id, &*interval.region);
                let home = Home { project_id, environment_id, region };
                let driver = simulated.iter().find(|(name, _)| *name == interval.region);
                if let Some((_, driver)) = driver.filter(|_| filter.takes(caller, &home)) {
                    self.imagine(&***driver, interval, &window, now, groups.entry(key(&home)).or_default());
                }
            })
            .await
            .map_err(fault::store)?;
        }
        if groups.len().saturating_mul(window.points()) > GROUP_POINTS_MAX {
            let message = format!(
                "This would be {} groups of {} points, and {GROUP_POINTS_MAX} points is the most; ask for a longer \"step\", a \
                 shorter time, or filter by project.",
                groups.len(),
                window.points()
            );
            return Err(Fault::bad(Detail::parameter("step", "too_many_points", message)));
        }
        let group = |(key, steps): (Option<String>, Steps)| TelemetryGroupView {
            key,
            points: window
                .steps()
                .map(|at_s| {
                    let reading = steps.get(&at_s).copied().unwrap_or_default();
                    TelemetryPointView::of(at_s, &reading, window.elapsed_ms(at_s, now))
                })
                .collect(),
        };
        Ok(TelemetryView {
            from: Timestamp::from_secs(window.from_s).to_string(),
            to: Timestamp::from_secs(window.to_s).to_string(),
            step_seconds: window.step_s,
            group_by: group_by.map(|by| by.as_str().to_owned()),
            groups: groups.into_iter().map(group).collect(),
        })
    }

    /// A look at a sandbox that comes late is done as of its time, so that the ledger knows what ran.
    async fn settle_sandbox(&self, caller: &Caller) {
        if caller.mode == Mode::Test {
            self.settle(caller.tenant).await;
        }
    }

    /// Adds what a simulated machine used in one interval of the ledger.
    fn imagine(&self, driver: &dyn Driver, interval: &Interval, window: &Window, now: Timestamp, steps: &mut Steps) {
        let size = self.size(&interval.size).filter(|_| interval.item == RUNNING);
        let (Some(size), Ok(id)) = (size, interval.resource_id.parse::<ComputeId>()) else { return };
        let shape = Shape { vcpus: size.vcpus, memory_mib: size.memory_mib, disk_gib: size.disk_gib };
        let began_at = Timestamp::from_secs(interval.from_s);
        let until_s = interval.to_s.unwrap_or(i64::MAX).min(now.secs()).min(window.to_s);
        let mut at_s = interval.from_s.max(window.from_s);
        let counted = |at_s: i64| driver.imagined(id, shape, began_at, Timestamp::from_secs(at_s));
        let mut before = counted(at_s);
        while at_s < until_s {
            let step_s = window.step_of(at_s);
            let end_s = until_s.min(step_s + window.step_s);
            let after = counted(end_s);
            let (Some(was), Some(is)) = (before, after) else { return };
            if let Some(reading) = Reading::between(Some(&was), &is, 1_000 * (end_s - at_s), shape.vcpus) {
                steps.entry(step_s).or_default().add(&reading);
            }
            (at_s, before) = (end_s, after);
        }
    }
}

/// What was added between two looks; `None` when the first is too long ago, or the machine began anew long before the
/// second.
fn added(before: Option<Look>, after: Look, vcpus: u32) -> Option<Reading> {
    if let Some(before) = before.filter(|before| before.counters.life == after.counters.life) {
        let apart_ms = i64::try_from(after.at.saturating_sub(before.at).as_millis()).unwrap_or(i64::MAX);
        let is_next = before.minute_s + MINUTE_S == after.minute_s && apart_ms <= APART_MS_MAX;
        return Reading::between(Some(&before.counters), &after.counters, apart_ms, vcpus).filter(|_| is_next);
    }
    // A machine that was started in this minute has counted from zero.
    let age_ms = after.counters.age_ms;
    Reading::between(None, &after.counters, age_ms, vcpus).filter(|_| age_ms <= 1_000 * MINUTE_S)
}

#[cfg(test)]
mod tests;
