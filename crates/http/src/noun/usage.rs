//! Usage of a month.

use nephos_control::caller::UsageRead;
use nephos_control::plan::CommitError;
use nephos_control::usage::GroupBy;
use nephos_control::view::{UsageGroupView, UsageView};
use nephos_model::clock::Month;

use crate::call::{Answer, Call};
use crate::endpoint::{Endpoint, Need, Success, schema_of};
use crate::fields::Kind;
use crate::query::Parameter;
use crate::reply::{CSV, Reply};

const MONTH: Parameter = Parameter::new("month", Kind::Month, "The month, UTC; by default this one, to date.");
const GROUP_BY: Parameter = Parameter::new(
    "group_by",
    Kind::OneOf(&GroupBy::NAMES),
    "Adds `groups`: the same figures by project, environment, size, region or day.",
);

/// The operations.
pub const OPERATIONS: &[Endpoint] = &[Endpoint::new(
    "usage.get",
    "GET",
    "/usage",
    Success::Report,
    schema_of::<UsageView>,
    |c| Box::pin(get(c)),
)
.needs(Need::of::<UsageRead>())
.told(
    "Read the usage",
    "Requests, compute time and its price in a month, in all and by project. Amounts are null below the role owner. With \
     `Accept: text/csv` it is a table with a line for each project, or for each row of `group_by`.",
    "Usage found.",
)
.query(&[MONTH, GROUP_BY])
.forms(&[CSV])];

async fn get(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<UsageRead>()?;
    let month = call.query.text("month").and_then(Month::parse);
    let is_table = call.form == CSV;
    let by_default = is_table.then_some(GroupBy::Project);
    let group_by = call.query.text("group_by").and_then(GroupBy::named).or(by_default);
    let usage = call.cloud().usage(&grant, month, group_by).await?;
    call.read(if is_table { Reply::text(CSV, table(&usage)) } else { Reply::report(&usage) })
}

/// A report as CSV (RFC 4180). Nothing in it needs quotes: ids, names of sizes and regions, days and numbers.
fn table(usage: &UsageView) -> String {
    let mut text = "month,group_by,key,requests,compute_seconds,amount_microunits,currency\r\n".to_owned();
    let by = usage.group_by.as_deref().unwrap_or_default();
    for UsageGroupView { key, requests, compute_seconds, amount_microunits } in usage.groups.iter().flatten() {
        let key = key.as_deref().unwrap_or_default();
        let amount = amount_microunits.map(|amount| amount.to_string()).unwrap_or_default();
        let line =
            [&*usage.month, by, key, &requests.to_string(), &compute_seconds.to_string(), &amount, &usage.currency];
        text.push_str(&line.join(","));
        text.push_str("\r\n");
    }
    text
}
