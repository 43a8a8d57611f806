//! Budget alerts: budgets of a month, and telling once for each threshold and month that it is reached.
//!
//! What is spent is looked at every few minutes, by the figures of the usage report. The row that says that a threshold was
//! told is written with the event and the letter, so of several processes one tells it, once. A budget that is changed
//! tells nothing again of what it told this month. Events and the audit log name no amount: not all who read them see money.

use std::collections::BTreeMap;
use std::time::Duration;

use nephos_model::budget_alert::BudgetAlert;
use nephos_model::fault::Detail;
use nephos_model::id::{BudgetAlertId, ProjectId};
use nephos_model::name::Title;
use nephos_model::page::{Listed, Page};
use nephos_model::tenant::TenantId;
use nephos_model::{Fault, Timestamp};
use nephos_store as store;
use nephos_store::budget_alert::{TOLD, Watched};
use nephos_store::{Batch, StoreError};
use tracing::{info, warn};

use crate::caller::{BudgetAlertRead, BudgetAlertWrite, Grant};
use crate::invoice::decimal;
use crate::mail::letter::Letter;
use crate::plan::{After, Author, Change, Plan};
use crate::usage::metered::Metered;
use crate::view::{BudgetAlertView, BudgetNoticeView, json};
use crate::{Cloud, fault};

/// How often it is looked what is spent.
pub const WATCH_EVERY: Duration = Duration::from_secs(300);
/// Workspaces that are read at a time.
const WORKSPACES_AT_ONCE: u32 = 64;

/// An alert that is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBudgetAlert {
    /// Its name.
    pub name: Title,
    /// The project; `None`: the whole workspace.
    pub project_id: Option<ProjectId>,
    /// The budget of a month, in millionths of the currency.
    pub amount_microunits: i64,
    /// In percent of the budget, in any order.
    pub thresholds_percent: Vec<i64>,
}

/// What is to change of an alert; `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BudgetAlertChange {
    /// Another name.
    pub name: Option<Title>,
    /// Another budget.
    pub amount_microunits: Option<i64>,
    /// Other thresholds.
    pub thresholds_percent: Option<Vec<i64>>,
}

/// An alert with the thresholds that were told this month.
#[derive(Debug, Clone)]
pub struct Alert {
    /// The alert.
    pub alert: BudgetAlert,
    /// In percent.
    pub reached: Vec<i64>,
    /// The currency of its budget.
    pub currency: String,
}

impl Alert {
    /// As the API shows it.
    pub fn view(&self) -> BudgetAlertView {
        BudgetAlertView::of(&self.alert, &self.currency, &self.reached)
    }
}

impl Cloud {
    /// A page of alerts.
    pub async fn budget_alerts(&self, grant: &Grant<BudgetAlertRead>, page: &Page) -> Result<Listed<Alert>, Fault> {
        let listed = self.store().budget_alerts(grant.tenant(), page).await.map_err(fault::store)?;
        let reached = self.reached_now(grant.tenant()).await?;
        let with = |alert: BudgetAlert| {
            let reached = reached.get(&alert.id).cloned().unwrap_or_default();
            Alert { alert, reached, currency: self.settings().currency.clone() }
        };
        Ok(Listed { items: listed.items.into_iter().map(with).collect(), total: listed.total, more: listed.more })
    }

    /// One alert, or 404.
    pub async fn budget_alert(&self, grant: &Grant<BudgetAlertRead>, id: BudgetAlertId) -> Result<Alert, Fault> {
        self.alert(grant.tenant(), id).await
    }

    /// One alert that is to be changed or deleted, or 404.
    pub async fn budget_alert_to_change(
        &self,
        grant: &Grant<BudgetAlertWrite>,
        id: BudgetAlertId,
    ) -> Result<Alert, Fault> {
        self.alert(grant.tenant(), id).await
    }

    async fn alert(&self, tenant: TenantId, id: BudgetAlertId) -> Result<Alert, Fault> {
        let found = self.store().budget_alert(tenant, id).await.map_err(fault::store)?;
        let alert = found.ok_or_else(|| Fault::not_found("budget alert"))?;
        let reached = self.reached_now(tenant).await?.remove(&id).unwrap_or_default();
        Ok(Alert { alert, reached, currency: self.settings().currency.clone() })
    }

    async fn reached_now(&self, tenant: TenantId) -> Result<BTreeMap<BudgetAlertId, Vec<i64>>, Fault> {
        let month = self.clock().now().month().to_string();
        let mut reached: BTreeMap<BudgetAlertId, Vec<i64>> = BTreeMap::new();
        for (id, percent) in self.store().budgets_reached(tenant, &month).await.map_err(fault::store)? {
            reached.entry(id).or_default().push(percent);
        }
        for percents in reached.values_mut() {
            percents.sort_unstable();
        }
        Ok(reached)
    }

    /// A new alert; 422 when there are as many as there may be.
    pub async fn create_budget_alert(
        &self,
        grant: &Grant<BudgetAlertWrite>,
        new: NewBudgetAlert,
    ) -> Result<Plan<Alert>, Fault> {
        if let Some(id) = new.project_id
            && self.store().project(grant.tenant(), id).await.map_err(fault::store)?.is_none()
        {
            let why = "must be the id of a project; GET /projects lists them";
            return Err(Fault::bad(Detail::field("/project_id", "unknown_project", why)));
        }
        let now = self.now(grant.caller());
        let alert = BudgetAlert {
            id: self.id(),
            name: new.name.as_str().to_owned(),
            project_id: new.project_id,
            amount_microunits: new.amount_microunits,
            thresholds_percent: ascending(new.thresholds_percent),
            version: 1,
            created_at: now,
            updated_at: now,
        };
        let mut plan = Plan::new(Alert { alert, reached: Vec::new(), currency: self.settings().currency.clone() });
        plan.write(store::budget_alert::insert(grant.tenant(), &plan.value.alert));
        let change = change("budget_alert.created", "budget_alert.create", &plan.value.alert, 201);
        self.journal(&mut plan, grant, now, change);
        Ok(plan)
    }

    /// Another name, budget or other thresholds.
    pub fn update_budget_alert(
        &self,
        grant: &Grant<BudgetAlertWrite>,
        before: &Alert,
        asked: BudgetAlertChange,
    ) -> Plan<Alert> {
        let now = self.now(grant.caller());
        let mut after = before.clone();
        let alert = &mut after.alert;
        if let Some(name) = asked.name {
            name.as_str().clone_into(&mut alert.name);
        }
        if let Some(amount) = asked.amount_microunits {
            alert.amount_microunits = amount;
        }
        if let Some(thresholds) = asked.thresholds_percent {
            alert.thresholds_percent = ascending(thresholds);
        }
        if *alert == before.alert {
            return Plan::new(after);
        }
        alert.version += 1;
        alert.updated_at = now;
        let mut plan = Plan::new(after);
        plan.write([store::budget_alert::update(grant.tenant(), &plan.value.alert, before.alert.version)]);
        let change = change("budget_alert.updated", "budget_alert.update", &plan.value.alert, 200);
        self.journal(&mut plan, grant, now, change);
        plan
    }

    /// No more alert.
    pub fn delete_budget_alert(&self, grant: &Grant<BudgetAlertWrite>, alert: &Alert) -> Plan<Alert> {
        let now = self.now(grant.caller());
        let mut plan = Plan::new(alert.clone());
        plan.write(store::budget_alert::delete(grant.tenant(), &alert.alert));
        let change = change("budget_alert.deleted", "budget_alert.delete", &alert.alert, 200);
        self.journal(&mut plan, grant, now, change);
        plan
    }

    /// Looks at what is spent, until the future is dropped.
    pub(crate) async fn keep_watching_budgets(self) {
        loop {
            self.clock().sleep(WATCH_EVERY).await;
            if let Err(error) = self.watch_budgets().await {
                warn!(%error, "budgets can't be watched now; it is tried again");
            }
        }
    }

    /// Tells of every threshold that is reached this month and was not told yet.
    pub async fn watch_budgets(&self) -> Result<(), StoreError> {
        let mut after = TenantId(i64::MIN);
        loop {
            let some = self.store().watched_budgets(after, WORKSPACES_AT_ONCE).await?;
            let Some(last) = some.last() else { return Ok(()) };
            after = last.tenant;
            for watched in &some {
                // One workspace's trouble keeps no other from its alerts; that another process told it is none.
                if let Err(error) = self.watch_budgets_of(watched).await
                    && error.missed() != Some(TOLD)
                {
                    warn!(workspace = %watched.workspace_id, %error, "its budgets can't be watched now; it is tried again");
                }
            }
        }
    }

    async fn watch_budgets_of(&self, of: &Watched) -> Result<(), StoreError> {
        let now = self.clock().now();
        let month = now.month();
        let name = month.to_string();
        let book = self.store().price_book().await?;
        let mut meter = Metered::new(month.start().secs(), now.secs(), &book);
        self.meter_all(of.tenant, &mut meter, |_| true).await?;
        let (mut whole, mut by_project) = (0_i128, BTreeMap::<ProjectId, i128>::new());
        meter.each(|line| {
            whole += line.amount;
            *by_project.entry(line.kind.project_id).or_default() += line.amount;
        });
        let told = self.store().budgets_reached(of.tenant, &name).await?;
        for alert in self.store().every_budget_alert(of.tenant).await? {
            let spent = alert.project_id.map_or(whole, |id| by_project.get(&id).copied().unwrap_or(0));
            for percent in alert.reached(spent).filter(|percent| !told.contains(&(alert.id, *percent))) {
                self.tell_budget(of, &alert, (percent, &name), spent, now).await?;
            }
        }
        Ok(())
    }

    async fn tell_budget(
        &self,
        of: &Watched,
        alert: &BudgetAlert,
        (percent, month): (i64, &str),
        spent: i128,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut batch: Batch =
            store::budget_alert::reach(of.tenant, alert.id, month, percent, now).into_iter().collect();
        let author = Author::system(of.tenant, self.id());
        let notice = BudgetNoticeView::of(alert, Some((percent, month)));
        let reached =
            Change { after: Some(json(&notice)), ..change("budget_alert.reached", "budget_alert.reach", alert, 200) };
        self.tell(&mut batch, &author, now, reached);
        let letter = Letter::BudgetReached {
            workspace: of.workspace.clone(),
            workspace_id: of.workspace_id,
            name: alert.name.clone(),
            percent,
            month: month.to_owned(),
            spent: decimal(i64::try_from(spent).unwrap_or(i64::MAX)),
            budget: decimal(alert.amount_microunits),
            currency: self.settings().currency.clone(),
        };
        let letter = self.mail_owners(of.workspace_id, None, &letter);
        let mail = letter.is_some();
        batch.extend(letter);
        self.store().write(batch).await?;
        info!(workspace = %of.workspace_id, alert = %alert.id, percent, month, "a budget alert is reached");
        self.wake(&After { mail, ..After::default() });
        Ok(())
    }
}

fn ascending(mut percents: Vec<i64>) -> Vec<i64> {
    percents.sort_unstable();
    percents.dedup();
    percents
}

fn change(event: &'static str, action: &'static str, alert: &BudgetAlert, status: u16) -> Change {
    Change {
        event,
        action,
        resource_id: alert.id.to_string(),
        project_id: alert.project_id,
        environment_id: None,
        before: None,
        after: Some(json(&BudgetNoticeView::of(alert, None))),
        status,
    }
}
