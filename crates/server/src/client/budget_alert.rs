//! The commands of budget alerts.

use clap::{Args, Subcommand};
use serde_json::{Map, json};

use super::api::Failure;
use super::command::{Plain, Server};
use super::run::{Session, id_path, show};

const FIELDS: &[&str] =
    &["id", "name", "project_id", "amount_microunits", "currency", "thresholds_percent", "reached_percent"];

/// `nephos budget-alerts`
#[derive(Debug, Subcommand)]
#[allow(missing_docs)]
pub enum BudgetAlerts {
    /// List them, with what was reached this month.
    List(Plain),
    /// Look at one.
    Get(BudgetAlertOne),
    /// Make one.
    Create(BudgetAlertCreate),
    /// Delete one.
    Delete(BudgetAlertOne),
}

/// One alert.
#[derive(Debug, Args)]
pub struct BudgetAlertOne {
    /// Its id, bud_….
    pub id: String,
    #[command(flatten)]
    pub server: Server,
}

/// A new alert.
#[derive(Debug, Args)]
pub struct BudgetAlertCreate {
    /// Its name.
    pub name: String,
    /// The budget of a month, in whole units of the currency.
    #[arg(long, value_name = "AMOUNT", value_parser = clap::value_parser!(i64).range(1..=1_000_000_000))]
    pub amount: i64,
    /// Tell when so many percent of it are spent; may be repeated [default: 50, 90 and 100].
    #[arg(long = "at", value_name = "PERCENT", value_parser = clap::value_parser!(i64).range(1..=1_000))]
    pub at: Vec<i64>,
    /// The id of the project whose costs it is about [default: the whole workspace].
    #[arg(long, value_name = "ID")]
    pub project: Option<String>,
    #[command(flatten)]
    pub server: Server,
}

impl Session<'_> {
    pub(super) fn budget_alerts(&self, command: BudgetAlerts) -> Result<(), Failure> {
        match command {
            BudgetAlerts::List(a) => self.list(&a.server, "/budget-alerts", &[], a.length.limit, FIELDS),
            BudgetAlerts::Get(a) => {
                show(a.server.output, &self.api(&a.server)?.get(&id_path("/budget-alerts", &a.id))?.data);
                Ok(())
            }
            BudgetAlerts::Create(a) => {
                let mut body = Map::new();
                body.insert("name".to_owned(), json!(a.name));
                body.insert("amount_microunits".to_owned(), json!(a.amount * 1_000_000));
                if !a.at.is_empty() {
                    body.insert("thresholds_percent".to_owned(), json!(a.at));
                }
                if let Some(project) = a.project {
                    body.insert("project_id".to_owned(), json!(project));
                }
                show(a.server.output, &self.api(&a.server)?.post("/budget-alerts", &json!(body))?.data);
                Ok(())
            }
            BudgetAlerts::Delete(a) => {
                show(a.server.output, &self.api(&a.server)?.delete(&id_path("/budget-alerts", &a.id))?.data);
                Ok(())
            }
        }
    }
}
