//! Budget alerts.

use nephos_control::budget_alert::{BudgetAlertChange, NewBudgetAlert};
use nephos_control::caller::{BudgetAlertRead, BudgetAlertWrite};
use nephos_control::plan::CommitError;
use nephos_control::view::BudgetAlertView;
use nephos_model::Code;
use nephos_model::budget_alert::{BUDGET_MICROUNITS_MAX, THRESHOLD_PERCENT_MAX, THRESHOLDS_DEFAULT, THRESHOLDS_MAX};

use crate::call::{Answer, Call, DeletedView};
use crate::endpoint::{Endpoint, Need, Success, schema_of};
use crate::fields::{Field, Kind};
use crate::query::{AFTER, DRY_RUN, LIMIT, PAGE};
use crate::reply::Reply;

const ALL: &str = "/budget-alerts";
const ONE: &str = "/budget-alerts/{id}";
const AMOUNT: Kind = Kind::Integer { min: 1, max: BUDGET_MICROUNITS_MAX };
const AMOUNT_IS: &str = "The budget of a month, in millionths of the currency.";
const THRESHOLDS: Field = Field::optional(
    "thresholds_percent",
    Kind::List { of: &Kind::Integer { min: 1, max: THRESHOLD_PERCENT_MAX }, items_max: THRESHOLDS_MAX },
    "At which parts of the budget to tell, in percent; by default 50, 90 and 100.",
);
const NEW: &[Field] = &[
    Field::required("name", Kind::Title, "Its name."),
    Field::required("amount_microunits", AMOUNT, AMOUNT_IS),
    Field::nullable(
        "project_id",
        Kind::Id("prj"),
        "The project whose costs it is about; without, the whole workspace.",
    ),
    THRESHOLDS,
];
const CHANGE: &[Field] = &[
    Field::optional("name", Kind::Title, "Its name."),
    Field::optional("amount_microunits", AMOUNT, AMOUNT_IS),
    THRESHOLDS,
];

/// The operations.
pub const OPERATIONS: &[Endpoint] = &[
    Endpoint::new("budget_alert.list", "GET", ALL, Success::Listed, schema_of::<BudgetAlertView>, |c| Box::pin(list(c)))
        .needs(Need::of::<BudgetAlertRead>())
        .told(
            "List budget alerts",
            "Budgets of a month, the newest first, with what of them was reached this month.",
            "Budget alerts listed.",
        )
        .query(&[PAGE, LIMIT, AFTER]),
    Endpoint::new("budget_alert.create", "POST", ALL, Success::Created, schema_of::<BudgetAlertView>, |c| {
        Box::pin(create(c))
    })
    .needs(Need::of::<BudgetAlertWrite>())
    .told(
        "Make a budget alert",
        "Once a month for each threshold that is reached, Owners get an e-mail and there is an event budget_alert.reached. \
         What is spent is looked at every five minutes. Nothing is stopped by it.",
        "Budget alert made.",
    )
    .query(&[DRY_RUN])
    .body(NEW, r#"{"name":"All of it","amount_microunits":100000000}"#)
    .faults(&[Code::QuotaExceeded]),
    Endpoint::new("budget_alert.get", "GET", ONE, Success::Found, schema_of::<BudgetAlertView>, |c| Box::pin(get(c)))
        .needs(Need::of::<BudgetAlertRead>())
        .told("Read a budget alert", "One budget, with what of it was reached this month.", "Budget alert found."),
    Endpoint::new("budget_alert.update", "PATCH", ONE, Success::Updated, schema_of::<BudgetAlertView>, |c| {
        Box::pin(update(c))
    })
    .needs(Need::of::<BudgetAlertWrite>())
    .told(
        "Change a budget alert",
        "Changes what is sent and leaves the rest. What was told this month is not told again.",
        "Budget alert updated.",
    )
    .body(CHANGE, r#"{"amount_microunits":200000000}"#),
    Endpoint::new("budget_alert.delete", "DELETE", ONE, Success::Deleted, schema_of::<DeletedView>, |c| {
        Box::pin(delete(c))
    })
    .needs(Need::of::<BudgetAlertWrite>())
    .told("Delete a budget alert", "Nothing is told of it any more.", "Budget alert deleted."),
];

async fn list(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<BudgetAlertRead>()?;
    let page = call.query.page("bud")?;
    let listed = call.cloud().budget_alerts(&grant, &page).await?;
    call.read(Reply::listed(&listed, &page, |a| a.alert.id.to_string(), nephos_control::budget_alert::Alert::view))
}

async fn create(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<BudgetAlertWrite>()?;
    let body = &call.body;
    let new = NewBudgetAlert {
        name: body.parsed("name")?,
        project_id: body.maybe_parsed("project_id")?,
        amount_microunits: body.integer("amount_microunits").unwrap_or(1),
        thresholds_percent: body.integers("thresholds_percent").unwrap_or_else(|| THRESHOLDS_DEFAULT.to_vec()),
    };
    let plan = call.cloud().create_budget_alert(&grant, new).await?;
    call.commit(plan, |a| Reply::created(&a.view(), format!("/budget-alerts/{}", a.alert.id)).version(a.alert.version))
        .await
}

async fn get(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<BudgetAlertRead>()?;
    let found = call.cloud().budget_alert(&grant, call.id("budget alert")?).await?;
    call.read(Reply::found(&found.view()).version(found.alert.version))
}

async fn update(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<BudgetAlertWrite>()?;
    let found = call.cloud().budget_alert_to_change(&grant, call.id("budget alert")?).await?;
    call.must_match(found.alert.version)?;
    let asked = BudgetAlertChange {
        name: call.body.maybe_parsed("name")?,
        amount_microunits: call.body.integer("amount_microunits"),
        thresholds_percent: call.body.integers("thresholds_percent"),
    };
    let plan = call.cloud().update_budget_alert(&grant, &found, asked);
    call.commit(plan, |a| Reply::updated(&a.view()).version(a.alert.version)).await
}

async fn delete(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<BudgetAlertWrite>()?;
    let found = call.cloud().budget_alert_to_change(&grant, call.id("budget alert")?).await?;
    call.must_match(found.alert.version)?;
    let plan = call.cloud().delete_budget_alert(&grant, &found);
    call.commit(plan, |a| Reply::deleted(a.alert.id)).await
}
