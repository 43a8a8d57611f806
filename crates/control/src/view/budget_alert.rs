//! Budget alerts.

use nephos_model::budget_alert::BudgetAlert;
use schemars::JsonSchema;
use serde::Serialize;

use super::time;

/// A budget of a month, and when somebody wants to hear how much of it is spent.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "BudgetAlert")]
pub struct BudgetAlertView {
    /// Its id, `bud_…`.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The project whose costs it is about; null: the whole workspace's.
    pub project_id: Option<String>,
    /// The budget of a month, in millionths of the currency.
    pub amount_microunits: i64,
    /// The currency.
    pub currency: String,
    /// Thresholds in percent of the budget.
    #[schemars(inner(range(min = 1, max = 1_000)))]
    pub thresholds_percent: Vec<i64>,
    /// Those of them that were reached this month.
    #[schemars(inner(range(min = 1, max = 1_000)))]
    pub reached_percent: Vec<i64>,
    /// When it was made.
    pub created_at: String,
    /// When it last changed.
    pub updated_at: String,
}

impl BudgetAlertView {
    /// An alert, and what was told of it this month.
    pub fn of(a: &BudgetAlert, currency: &str, reached: &[i64]) -> Self {
        Self {
            id: a.id.to_string(),
            name: a.name.clone(),
            project_id: a.project_id.map(|id| id.to_string()),
            amount_microunits: a.amount_microunits,
            currency: currency.to_owned(),
            thresholds_percent: a.thresholds_percent.clone(),
            reached_percent: reached.to_vec(),
            created_at: time(a.created_at),
            updated_at: time(a.updated_at),
        }
    }
}

/// A budget alert as whoever may not see money is told of it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "BudgetNotice")]
pub struct BudgetNoticeView {
    /// The alert's id, `bud_…`.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The project whose costs it is about; null: the whole workspace's.
    pub project_id: Option<String>,
    /// The threshold that was reached, in percent of the budget; null when something else happened.
    pub threshold_percent: Option<i64>,
    /// In which month, `YYYY-MM`, UTC.
    pub month: Option<String>,
}

impl BudgetNoticeView {
    /// What is told of an alert.
    pub fn of(a: &BudgetAlert, reached: Option<(i64, &str)>) -> Self {
        Self {
            id: a.id.to_string(),
            name: a.name.clone(),
            project_id: a.project_id.map(|id| id.to_string()),
            threshold_percent: reached.map(|(percent, _)| percent),
            month: reached.map(|(_, month)| month.to_owned()),
        }
    }
}
