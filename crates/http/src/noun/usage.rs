//! Usage of a month.

use nephos_control::caller::UsageRead;
use nephos_control::plan::CommitError;
use nephos_control::view::UsageView;
use nephos_model::clock::Month;

use crate::call::{Answer, Call};
use crate::endpoint::{Endpoint, Need, Success, schema_of};
use crate::fields::Kind;
use crate::query::Parameter;
use crate::reply::Reply;

const MONTH: Parameter = Parameter::new("month", Kind::Month, "The month, UTC; by default this one, to date.");

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
    "Requests, compute time and its price in a month, in all and by project. Amounts are null below the role owner.",
    "Usage found.",
)
.query(&[MONTH])];

async fn get(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<UsageRead>()?;
    let usage = call.cloud().usage(&grant, call.query.text("month").and_then(Month::parse)).await?;
    call.read(Reply::report(&usage))
}
