//! Durable operations.

use nephos_control::caller::{OperationRead, OperationWrite};
use nephos_control::operation::{Filter, WAIT_S_MAX};
use nephos_control::plan::CommitError;
use nephos_control::view::OperationView;
use nephos_model::Code;
use nephos_model::id::ProjectId;

use crate::call::{Answer, Call};
use crate::endpoint::{Endpoint, Need, Success, schema_of};
use crate::fields::Kind;
use crate::query::{AFTER, LIMIT, PAGE, Parameter};
use crate::reply::Reply;

const STATUSES: &[&str] = &["pending", "running", "succeeded", "failed", "cancelled"];
const ONE: &str = "/operations/{id}";
const FILTERS: &[Parameter] = &[
    PAGE,
    LIMIT,
    AFTER,
    Parameter::new("status", Kind::OneOf(STATUSES), "Only operations in this status."),
    Parameter::new("compute_id", Kind::Id("cmp"), "Only operations on this compute."),
    Parameter::new("project_id", Kind::Id("prj"), "Only operations on this project's computes."),
    Parameter::new("environment_id", Kind::Id("env"), "Only operations on this environment's computes."),
];
const WAIT: Parameter = Parameter::new(
    "wait",
    Kind::Integer { min: 0, max: WAIT_S_MAX as i64 },
    "Seconds to wait for the operation's end; the answer comes as soon as it ends.",
);

/// The operations on operations.
pub const OPERATIONS: &[Endpoint] = &[
    Endpoint::new("operation.list", "GET", "/operations", Success::Listed, schema_of::<OperationView>, |c| {
        Box::pin(list(c))
    })
    .needs(Need::of::<OperationRead>())
    .told("List operations", "What was asked of computes and how it went, the newest first.", "Operations listed.")
    .query(FILTERS),
    Endpoint::new("operation.get", "GET", ONE, Success::Found, schema_of::<OperationView>, |c| Box::pin(get(c)))
        .needs(Need::of::<OperationRead>())
        .told(
            "Read an operation",
            "One operation with its steps; with `wait`, as soon as it has ended.",
            "Operation found.",
        )
        .query(&[WAIT]),
    Endpoint::new(
        "operation.cancel",
        "POST",
        "/operations/{id}/cancel",
        Success::Accepted,
        schema_of::<OperationView>,
        |c| Box::pin(cancel(c)),
    )
    .needs(Need::of::<OperationWrite>())
    .told(
        "Cancel an operation",
        "Ends an operation that brings a compute up; the compute is then stopped. Others can't be cancelled.",
        "Operation cancelled.",
    )
    .faults(&[Code::Conflict]),
];

async fn list(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<OperationRead>()?;
    let page = call.query.page("op")?;
    let filter = Filter {
        status: call.query.text("status").map(str::to_owned),
        compute_id: call.query.parsed("compute_id"),
        project_id: call.query.parsed("project_id"),
        environment_id: call.query.parsed("environment_id"),
    };
    let listed = call.cloud().operations(&grant, filter, &page).await?;
    call.read(
        Reply::listed(&listed, &page, |o| o.id.to_string(), |o| OperationView::from(o))
            .of(call.query.parsed::<ProjectId>("project_id")),
    )
}

async fn get(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<OperationRead>()?;
    let id = call.id("operation")?;
    let wait_s = call.query.integer("wait").and_then(|s| u32::try_from(s).ok()).unwrap_or(0);
    let operation = match wait_s {
        0 => call.cloud().operation(&grant, id).await?,
        wait_s => call.cloud().await_operation(&grant, id, wait_s).await?,
    };
    call.read(Reply::found(&OperationView::from(&operation)).of(operation.project_id))
}

async fn cancel(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<OperationWrite>()?;
    let plan = call.cloud().cancel_operation(&grant, call.id("operation")?).await?;
    call.commit(plan, |o| Reply::accepted(&OperationView::from(o), o.id)).await
}
