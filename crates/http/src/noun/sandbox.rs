//! The sandbox: its reset and its clock. Under the sandbox's base URLs only.

use nephos_control::caller::{SandboxRead, SandboxReset, SandboxWrite};
use nephos_control::plan::CommitError;
use nephos_control::sandbox::Advance;
use nephos_control::view::{SandboxClockView, SandboxView};
use nephos_model::sandbox::ADVANCE_S_MAX;

use crate::call::{Answer, Call};
use crate::endpoint::{Endpoint, Need, Success, schema_of};
use crate::fields::{Field, Kind, parse_time};
use crate::reply::Reply;

const SECONDS: Field =
    Field::optional("seconds", Kind::Integer { min: 1, max: ADVANCE_S_MAX }, "By how many seconds, 366 days at most.");
const TO: Field = Field::optional(
    "to",
    Kind::Time,
    "The time that the sandbox has afterwards: later than the one it has, by 366 days at most.",
);

/// The operations.
pub const OPERATIONS: &[Endpoint] = &[
    Endpoint::new("sandbox.reset", "POST", "/reset", Success::Report, schema_of::<SandboxView>, |c| Box::pin(reset(c)))
        .needs(Need::of::<SandboxReset>())
        .in_sandbox()
        .told(
            "Reset the sandbox",
            "Begins the workspace's sandbox anew, at once: one default project and nothing else. Computes, operations, \
             events, usage, webhooks and idempotency keys of before are gone, and its clock is set back. Test keys go on \
             working, except those narrowed to a project, which are revoked. Needs the role Admin, because it deletes \
             projects and revokes keys of others. The same happens every day at the time that the header Sandbox-Reset-At \
             tells.",
            "Sandbox reset.",
        ),
    Endpoint::new("sandbox.clock", "GET", "/clock", Success::Found, schema_of::<SandboxClockView>, |c| {
        Box::pin(clock(c))
    })
    .needs(Need::of::<SandboxRead>())
    .in_sandbox()
    .told("Read the sandbox's clock", "The time in the sandbox, and how far it is ahead.", "Clock read."),
    Endpoint::new("sandbox.advance", "POST", "/clock/advance", Success::Report, schema_of::<SandboxClockView>, |c| {
        Box::pin(advance(c))
    })
    .needs(Need::of::<SandboxWrite>())
    .in_sandbox()
    .told(
        "Advance the sandbox's clock",
        "Moves the time of the workspace's sandbox forwards: its operations, usage and the times of its resources. What \
         becomes due is done before the answer, in the order of its times, and the same whether the clock goes in one \
         step or in many. Keys, budgets, the expiry of idempotency keys, the daily reset and the timestamps of webhooks \
         go by the real time. At most 366 days at once and 3,660 days in all; a reset sets the clock back.",
        "Clock advanced.",
    )
    .body(&[SECONDS, TO], r#"{"seconds":60}"#)
    .exactly_one(&["seconds", "to"]),
];

async fn reset(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<SandboxReset>()?;
    let plan = call.cloud().reset_sandbox(&grant).await?;
    call.commit(plan, Reply::report).await
}

async fn clock(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<SandboxRead>()?;
    let clock = call.cloud().sandbox_clock(&grant).await?;
    call.read(Reply::found(&clock))
}

async fn advance(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<SandboxWrite>()?;
    let body = &call.body;
    // Exactly one of them is there, and the kind of the field has passed the time.
    let by = match body.text("to").and_then(parse_time) {
        Some(to) => Advance::To(to),
        None => Advance::Seconds(body.integer("seconds").unwrap_or_default()),
    };
    let plan = call.cloud().advance_sandbox_clock(&grant, by).await?;
    call.commit(plan, Reply::report).await
}
