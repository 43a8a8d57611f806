//! How the installation is doing.

use nephos_control::caller::StatusRead;
use nephos_control::plan::CommitError;
use nephos_control::view::StatusView;

use crate::call::{Answer, Call};
use crate::endpoint::{Endpoint, Need, Success, schema_of};
use crate::reply::Reply;

/// The operations.
pub const OPERATIONS: &[Endpoint] =
    &[Endpoint::new("status.get", "GET", "/status", Success::Found, schema_of::<StatusView>, |c| Box::pin(get(c)))
        .needs(Need::of::<StatusRead>())
        .told(
            "Read the status",
            "Uptime and latency as they were measured, each region, and what the operator tells. The same is at \
             /status.json without a credential.",
            "Status found.",
        )];

async fn get(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<StatusRead>()?;
    let status = call.cloud().status(&grant).await?;
    call.read(Reply::found(&*status))
}
