//! Telemetry: what computes used, and what requests were like.

use nephos_control::caller::TelemetryRead;
use nephos_control::plan::CommitError;
use nephos_control::telemetry::{Asked, Filter, GroupBy, RANGES, RequestsBy, STEPS};
use nephos_control::view::{ComputeMetricsView, RequestTelemetryView, TelemetryView};

use crate::call::{Answer, Call};
use crate::endpoint::{Endpoint, Need, Success, schema_of};
use crate::fields::Kind;
use crate::query::{Parameter, Query};
use crate::reply::{OPEN_METRICS, Reply};

/// The first of each pair.
const fn names<const N: usize>(pairs: [(&'static str, i64); N]) -> [&'static str; N] {
    let mut names = [""; N];
    let mut i = 0;
    while i < N {
        names[i] = pairs[i].0;
        i += 1;
    }
    names
}
const STEP_NAMES: [&str; STEPS.len()] = names(STEPS);
const RANGE_NAMES: [&str; RANGES.len()] = names(RANGES);
const RANGE: Parameter = Parameter::new(
    "range",
    Kind::OneOf(&RANGE_NAMES),
    "How much time before `to`; by default an hour. Not together with `from`.",
);
const FROM: Parameter = Parameter::new("from", Kind::Time, "The first point; see `range`.");
const TO: Parameter = Parameter::new("to", Kind::Time, "The last point is before this time; by default now.");
const STEP: Parameter = Parameter::new(
    "step",
    Kind::OneOf(&STEP_NAMES),
    "How much time is in a point: by default as little as makes 120 points at most. Less than an hour: the last 24 hours only.",
);
const GROUP_BY: Parameter =
    Parameter::new("group_by", Kind::OneOf(&GroupBy::NAMES), "A series for each of these instead of one for all.");
const PROJECT: Parameter = Parameter::new("project_id", Kind::Id("prj"), "Only computes of this project.");
const ENVIRONMENT: Parameter = Parameter::new("environment_id", Kind::Id("env"), "Only computes of this environment.");
const REGION: Parameter = Parameter::new("region", Kind::Reference("a region"), "Only computes of this region.");
const REQUESTS_FROM: Parameter =
    Parameter::new("from", Kind::Time, "From the hour of this time on; by default 24 hours before the end.");
const REQUESTS_TO: Parameter =
    Parameter::new("to", Kind::Time, "To the end of the hour before this time; by default now.");
const REQUESTS_BY: Parameter =
    Parameter::new("group_by", Kind::OneOf(&RequestsBy::NAMES), "What rows are made for; by default `operation`.");
const OPERATION: Parameter =
    Parameter::new("operation", Kind::Reference("an operation"), "Only requests for this operation.");
const KEY: Parameter = Parameter::new("api_key_id", Kind::Id("key"), "Only requests with this key.");

/// The operations.
pub const OPERATIONS: &[Endpoint] = &[
    Endpoint::new(
        "compute.metrics",
        "GET",
        "/computes/{id}/metrics",
        Success::Report,
        schema_of::<ComputeMetricsView>,
        |c| Box::pin(metrics(c)),
    )
    .needs(Need::of::<TelemetryRead>())
    .told(
        "Read a compute's metrics",
        "Processor, memory, disk and network over time, measured from outside of the guest each minute. Amounts are those of \
         the step: divide by `measured_seconds` for a rate. A step that nobody measured has nulls.",
        "Metrics found.",
    )
    .query(&[RANGE, FROM, TO, STEP]),
    Endpoint::new("telemetry.get", "GET", "/telemetry", Success::Report, schema_of::<TelemetryView>, |c| {
        Box::pin(get(c))
    })
    .needs(Need::of::<TelemetryRead>())
    .told(
        "Read the telemetry",
        "What all computes used over time, or those of each project, environment or region. Computes that are deleted by now \
         are in it for the time in which they ran.",
        "Telemetry found.",
    )
    .query(&[RANGE, FROM, TO, STEP, GROUP_BY, PROJECT, ENVIRONMENT, REGION]),
    Endpoint::new(
        "telemetry.requests",
        "GET",
        "/telemetry/requests",
        Success::Report,
        schema_of::<RequestTelemetryView>,
        |c| Box::pin(requests(c)),
    )
    .needs(Need::of::<TelemetryRead>())
    .told(
        "Read the telemetry of requests",
        "How many requests API keys made, how they ended and how long they took, by operation or by key, in whole hours of the \
         last 30 days. A key that is narrowed to a project or environment sees its own requests.",
        "Telemetry of requests found.",
    )
    .query(&[REQUESTS_FROM, REQUESTS_TO, REQUESTS_BY, OPERATION, KEY]),
    Endpoint::new(
        "telemetry.export",
        "GET",
        "/telemetry/openmetrics",
        Success::Report,
        schema_of::<OpenMetricsView>,
        |c| Box::pin(export(c)),
    )
    .needs(Need::of::<TelemetryRead>())
    .told(
        "Scrape computes",
        "What the computes that run have counted since their start, as OpenMetrics text for a Prometheus of your own. Looked at \
         once a minute. With `Accept: application/json` it is that text in JSON.",
        "Computes told.",
    )
    .forms(&[OPEN_METRICS])
    .by_default(OPEN_METRICS),
];

/// The text for who does not ask for it as such.
#[derive(Debug, serde::Serialize, schemars::JsonSchema)]
#[schemars(rename = "OpenMetrics")]
struct OpenMetricsView {
    /// `OpenMetrics` text.
    text: String,
}

fn asked(query: &Query) -> Asked<'_> {
    Asked { from: query.time("from"), range: query.text("range"), to: query.time("to"), step: query.text("step") }
}

async fn metrics(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<TelemetryRead>()?;
    let id = call.id("compute")?;
    call.read(Reply::report(&call.cloud().compute_metrics(&grant, id, &asked(&call.query)).await?))
}

async fn get(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<TelemetryRead>()?;
    let filter = Filter {
        project_id: call.query.parsed("project_id"),
        environment_id: call.query.parsed("environment_id"),
        region: call.query.text("region").map(ToOwned::to_owned),
    };
    let group_by = call.query.text("group_by").and_then(GroupBy::named);
    call.read(Reply::report(&call.cloud().telemetry(&grant, &asked(&call.query), &filter, group_by).await?))
}

async fn requests(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<TelemetryRead>()?;
    let by = call.query.text("group_by").and_then(RequestsBy::named).unwrap_or(RequestsBy::Operation);
    let only = (call.query.text("operation"), call.query.parsed("api_key_id"));
    call.read(Reply::report(&call.cloud().request_telemetry(&grant, &asked(&call.query), by, only).await?))
}

async fn export(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<TelemetryRead>()?;
    let text = call.cloud().open_metrics(&grant).await?;
    call.read(match call.form {
        OPEN_METRICS => Reply::text(OPEN_METRICS, text),
        _ => Reply::report(&OpenMetricsView { text }),
    })
}
