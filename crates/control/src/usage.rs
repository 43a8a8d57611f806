//! Usage: counting requests, and the report of a month.
//!
//! Requests are counted in memory and written in batches; metered time comes from the ledger and the open intervals. All
//! is whole numbers: an amount is rounded once for each resource, price and day ([`metered`]), and every larger figure is a
//! sum of those. What a crash loses of the counts is what waited, at most [`FLUSH_EVERY`]; metered time it loses none of.

pub(crate) mod metered;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use nephos_model::clock::Month;
use nephos_model::fault::Detail;
use nephos_model::id::{KeyId, ProjectId};
use nephos_model::role::Role;
use nephos_model::tenant::{Mode, TenantId};
use nephos_model::{Fault, Timestamp};
use nephos_store as store;
use nephos_store::StoreError;
use nephos_store::usage::{Interval, LedgerPlace};
use tracing::{error, warn};

use crate::budget::SurfaceBudget;
use crate::caller::{Caller, Grant, UsageRead};
use crate::tally::Coarse;
use crate::usage::metered::{Line, Metered};
use crate::view::{ProjectUsageView, UsageGroupView, UsageView};
use crate::{Cloud, fault};

/// How often counted requests and last uses of keys are written.
pub const FLUSH_EVERY: Duration = Duration::from_secs(5);
/// How often writing is tried at the end of the program, when the store does not answer at once.
const LAST_ATTEMPTS_MAX: u32 = 3;

/// Intervals that are looked through before others get their turn.
const INTERVALS_AT_ONCE: usize = 512;

/// What requests are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Counted {
    tenant: TenantId,
    /// Days since 1970, by the tenant's clock.
    day: i64,
    project: Option<ProjectId>,
    key: Option<KeyId>,
    surface: SurfaceBudget,
}

impl Coarse for Counted {
    /// At most one for each tenant, day and surface.
    fn coarse(self) -> Self {
        Self { key: None, project: None, ..self }
    }
}

fn surface_name(surface: SurfaceBudget) -> &'static str {
    match surface {
        SurfaceBudget::Platform => "platform",
        SurfaceBudget::Strettch => "strettch",
    }
}

/// What figures are grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupBy {
    /// Projects, by their ids.
    Project,
    /// Environments, by their ids.
    Environment,
    /// Sizes, by their names.
    Size,
    /// Regions, by their names.
    Region,
    /// Days, `YYYY-MM-DD`.
    Day,
}

impl GroupBy {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Project, Self::Environment, Self::Size, Self::Region, Self::Day];
    /// Their names, in the same order.
    pub const NAMES: [&'static str; 5] = ["project", "environment", "size", "region", "day"];

    /// The one of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|by| by.as_str() == name)
    }

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    fn key(self, line: &Line<'_>) -> String {
        match self {
            Self::Project => line.kind.project_id.to_string(),
            Self::Environment => line.kind.environment_id.to_string(),
            Self::Size => line.kind.size.clone(),
            Self::Region => line.kind.region.clone(),
            Self::Day => date(line.day),
        }
    }
}

/// A day as it is shown, `YYYY-MM-DD`.
fn date(day: i64) -> String {
    let mut text = Timestamp::from_secs(day * metered::SECONDS_PER_DAY).to_string();
    text.truncate("YYYY-MM-DD".len());
    text
}

/// The figures of one project, or of another group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Figures {
    requests: i64,
    compute_seconds: i64,
    amount: i128,
}

impl Figures {
    fn add(&mut self, line: &Line<'_>) {
        self.compute_seconds += line.compute_seconds();
        self.amount += line.amount;
    }
}

impl Cloud {
    /// Counts a request, whatever its status but 401 and 429.
    pub fn count_request(&self, caller: &Caller, surface: SurfaceBudget, project: Option<ProjectId>) {
        let day = self.now(caller).day();
        self.0.requests.add(Counted { tenant: caller.tenant, day, project, key: caller.key_id, surface }, &1);
    }

    /// Writes what is kept in memory only for a while: counted requests, and when keys were last used.
    pub async fn flush(&self) -> Result<(), StoreError> {
        self.flush_requests().await?;
        self.flush_deprecated_calls().await?;
        self.flush_refusals().await?;
        self.flush_used().await
    }

    pub(crate) async fn flush_requests(&self) -> Result<(), StoreError> {
        // A task of its own: it goes on when whoever waits for it does not, so what was written is always taken off.
        let cloud = self.clone();
        tokio::spawn(async move { cloud.write_requests().await }).await.unwrap_or_else(|ended| {
            let reason = "writing the counts of requests ended by itself".to_owned();
            Err(StoreError::Unavailable { reason, uncertain: false, source: Some(ended.into()) })
        })
    }

    async fn write_requests(&self) -> Result<(), StoreError> {
        let add = |c: &Counted, requests: &i64| {
            store::usage::add_requests(c.tenant, c.day, c.project, c.key, surface_name(c.surface), *requests)
        };
        self.0.requests.write(self.store(), add).await?;
        self.0.answers.write(self.store(), store::telemetry::add_requests).await
    }

    /// Writes them every few seconds, and reads the prices that others installed, until the future is dropped.
    pub(crate) async fn keep_flushing(self) {
        loop {
            self.clock().sleep(FLUSH_EVERY).await;
            if let Err(error) = self.flush().await {
                warn!(%error, "counts of requests can't be written now and are kept");
            }
            if let Err(error) = self.read_prices().await {
                warn!(%error, "prices can't be read now and are those of before");
            }
        }
    }

    /// Writes them for the last time.
    pub(crate) async fn flush_last(&self) {
        if let Err(error) = self.flush_last_refusals().await {
            error!(%error, "refused requests of the last minute are lost to the audit log");
        }
        for attempt in 1..=LAST_ATTEMPTS_MAX {
            match self.flush().await {
                Ok(()) => return,
                Err(error) if error.is_passing() && attempt < LAST_ATTEMPTS_MAX => {}
                Err(error) => error!(%error, "counts of requests of the last seconds are lost"),
            }
        }
    }

    /// The report of a month, the current one by default; 400 for one that has not begun.
    ///
    /// A narrowed credential sees its project's figures only; amounts are there for Owners.
    pub async fn usage(
        &self,
        grant: &Grant<UsageRead>,
        month: Option<Month>,
        group_by: Option<GroupBy>,
    ) -> Result<UsageView, Fault> {
        let caller = grant.caller();
        let now = self.now(caller);
        let month = month.unwrap_or_else(|| now.month());
        if month.start() > now {
            let message = format!("The month {month} has not begun.");
            return Err(Fault::bad(Detail::parameter("month", "out_of_range", message)));
        }
        self.flush_requests().await.map_err(fault::store)?;
        if caller.mode == Mode::Test {
            // A look that comes late is done as of its time: metered time would step back.
            self.settle(caller.tenant).await;
        }
        let book = self.store().price_book().await.map_err(fault::store)?;
        let to_s = month.end().secs().min(now.secs());
        let mut meter = Metered::new(month.start().secs(), to_s, &book);
        let is_seen = |i: &Interval| caller.sees(i.project_id, i.environment_id);
        self.meter_all(caller.tenant, &mut meter, is_seen).await.map_err(fault::store)?;
        let mut figures: BTreeMap<Option<ProjectId>, Figures> = BTreeMap::new();
        let mut groups: BTreeMap<Option<String>, Figures> = BTreeMap::new();
        meter.each(|line| {
            // Test mode is never billed.
            let line = &Line { amount: if caller.mode == Mode::Test { 0 } else { line.amount }, ..*line };
            figures.entry(Some(line.kind.project_id)).or_default().add(line);
            if let Some(by) = group_by {
                groups.entry(Some(by.key(line))).or_default().add(line);
            }
        });
        for (project, requests) in self.requests_of(caller, month).await.map_err(fault::store)? {
            figures.entry(project).or_default().requests += requests;
        }
        if caller.is_narrowed() {
            figures.retain(|project, _| project.is_some_and(|id| caller.sees_project(id)));
        }
        let total = figures.values().fold(Figures::default(), |sum, of| Figures {
            requests: sum.requests + of.requests,
            compute_seconds: sum.compute_seconds + of.compute_seconds,
            amount: sum.amount + of.amount,
        });
        match group_by {
            Some(GroupBy::Project) => {
                groups = figures.iter().map(|(project, of)| (project.map(|id| id.to_string()), *of)).collect();
            }
            Some(GroupBy::Day) => {
                for (day, requests) in self.requests_by_day(caller, month).await.map_err(fault::store)? {
                    groups.entry(Some(date(day))).or_default().requests += requests;
                }
            }
            // Requests are counted by nothing else: they have a row of their own.
            Some(_) if total.requests > 0 => groups.entry(None).or_default().requests = total.requests,
            None | Some(_) => {}
        }
        let projects = self.projects_of(caller, month, now).await.map_err(fault::store)?;
        let ids: Vec<ProjectId> = figures.keys().flatten().copied().collect();
        let names = self.store().project_names(caller.tenant, &ids).await.map_err(fault::store)?;
        let names: HashMap<ProjectId, Option<String>> = ids.into_iter().zip(names).collect();
        let amount = |amount: i128| (caller.role >= Role::Owner).then(|| i64::try_from(amount).unwrap_or(i64::MAX));
        let by_project = figures.iter().map(|(project, of)| ProjectUsageView {
            project_id: project.map(|id| id.to_string()),
            project_name: project.and_then(|id| names.get(&id).cloned().flatten()),
            requests: of.requests,
            compute_seconds: of.compute_seconds,
            amount_microunits: amount(of.amount),
        });
        let groups = groups.into_iter().map(|(key, of)| UsageGroupView {
            key,
            requests: of.requests,
            compute_seconds: of.compute_seconds,
            amount_microunits: amount(of.amount),
        });
        Ok(UsageView {
            month: month.to_string(),
            requests: total.requests,
            projects,
            compute_seconds: total.compute_seconds,
            amount_microunits: amount(total.amount),
            currency: self.settings().currency.clone(),
            by_project: by_project.collect(),
            group_by: group_by.map(|by| by.as_str().to_owned()),
            groups: group_by.map(|_| groups.collect()),
        })
    }

    async fn requests_of(&self, caller: &Caller, month: Month) -> Result<Vec<(Option<ProjectId>, i64)>, StoreError> {
        // Requests are not counted by environment: a key that is narrowed to one sees its own.
        let key = caller.environment_id.and(caller.key_id);
        self.store().requests_by_project(caller.tenant, month.start().day(), month.end().day(), key).await
    }

    async fn projects_of(&self, caller: &Caller, month: Month, now: Timestamp) -> Result<i64, StoreError> {
        if let Some(only) = caller.project_id {
            let project = self.store().project(caller.tenant, only).await?;
            return Ok(i64::from(project.is_some_and(|p| p.created_at < month.end())));
        }
        if month.end() > now {
            self.store().projects_now(caller.tenant).await
        } else {
            self.store().projects_at(caller.tenant, month.end()).await
        }
    }

    async fn requests_by_day(&self, caller: &Caller, month: Month) -> Result<Vec<(i64, i64)>, StoreError> {
        let key = caller.environment_id.and(caller.key_id);
        let days = month.start().day()..month.end().day();
        self.store().requests_by_day(caller.tenant, days, key, caller.project_id).await
    }

    /// Adds every interval of a tenant that is wanted, closed and open, as they are now.
    pub(crate) async fn meter_all(
        &self,
        tenant: TenantId,
        meter: &mut Metered<'_>,
        is_wanted: impl Fn(&Interval) -> bool,
    ) -> Result<(), StoreError> {
        let (from_s, to_s) = meter.range();
        self.each_interval(tenant, from_s..to_s, |interval| {
            if is_wanted(interval) {
                meter.add(interval);
            }
        })
        .await
    }

    /// Shows every interval of a tenant that reaches into a range of seconds, once.
    pub(crate) async fn each_interval(
        &self,
        tenant: TenantId,
        range_s: std::ops::Range<i64>,
        mut show: impl FnMut(&Interval),
    ) -> Result<(), StoreError> {
        // What is open is read first. What closes while the ledger is read is then in both, and is shown once.
        let open = self.store().open_intervals(tenant).await?;
        let was_open: HashSet<(&str, i64)> = open.iter().map(|i| (&*i.resource_id, i.from_s)).collect();
        for some in open.chunks(INTERVALS_AT_ONCE) {
            some.iter().for_each(&mut show);
            tokio::task::yield_now().await;
        }
        let mut place = Some(LedgerPlace::after(range_s.start));
        while let Some(from) = place {
            let (closed, next) = self.store().closed_intervals(tenant, &from, range_s.end).await?;
            for some in closed.chunks(INTERVALS_AT_ONCE) {
                some.iter().filter(|i| !was_open.contains(&(&*i.resource_id, i.from_s))).for_each(&mut show);
                tokio::task::yield_now().await;
            }
            place = next;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
