//! What computes used and what requests were like.

use nephos_model::Timestamp;
use nephos_model::telemetry::Reading;
use schemars::JsonSchema;
use serde::Serialize;

/// What a compute used over time.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "ComputeMetrics")]
pub struct ComputeMetricsView {
    /// The compute.
    pub compute_id: String,
    /// The beginning of the first step.
    pub from: String,
    /// The end of the last step.
    pub to: String,
    /// Seconds of a step.
    pub step_seconds: i64,
    /// Each step, the earliest first.
    pub points: Vec<TelemetryPointView>,
}

/// What computes used over time, summed.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Telemetry")]
pub struct TelemetryView {
    /// The beginning of the first step.
    pub from: String,
    /// The end of the last step.
    pub to: String,
    /// Seconds of a step.
    pub step_seconds: i64,
    /// `project`, `environment` or `region`; null: there is one group, of all.
    pub group_by: Option<String>,
    /// Each group in which anything was measured.
    pub groups: Vec<TelemetryGroupView>,
}

/// One group of computes.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "TelemetryGroup")]
pub struct TelemetryGroupView {
    /// The id of the project or environment, or the name of the region; null: all computes.
    pub key: Option<String>,
    /// Each step, the earliest first.
    pub points: Vec<TelemetryPointView>,
}

/// What was used in one step. What nobody measured is null, never zero.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "TelemetryPoint")]
pub struct TelemetryPointView {
    /// The beginning of the step.
    pub at: String,
    /// Seconds that were measured, added up over computes; 0 is a gap, or nothing ran.
    pub measured_seconds: f64,
    /// Processor time in seconds.
    pub cpu_seconds: Option<f64>,
    /// Processor time in percent of what the virtual processors had. Emulation takes more than 100 at times.
    pub cpu_percent: Option<f64>,
    /// Memory of the host that was held, on average, in bytes.
    pub memory_bytes: Option<i64>,
    /// Disk space of the host that was taken, on average, in bytes.
    pub disk_bytes: Option<i64>,
    /// Bytes read from the disk.
    pub disk_read_bytes: Option<i64>,
    /// Bytes written to the disk.
    pub disk_written_bytes: Option<i64>,
    /// Reads from the disk.
    pub disk_reads: Option<i64>,
    /// Writes to the disk.
    pub disk_writes: Option<i64>,
    /// Bytes received from the outside; null: not measured there.
    pub network_received_bytes: Option<i64>,
    /// Bytes sent to the outside.
    pub network_sent_bytes: Option<i64>,
    /// Frames received from the outside.
    pub network_received_packets: Option<i64>,
    /// Frames sent to the outside.
    pub network_sent_packets: Option<i64>,
    /// Bytes received from the private network of the environment; null: not measured there.
    pub private_received_bytes: Option<i64>,
    /// Bytes sent to the private network.
    pub private_sent_bytes: Option<i64>,
    /// Frames received from the private network.
    pub private_received_packets: Option<i64>,
    /// Frames sent to the private network.
    pub private_sent_packets: Option<i64>,
}

impl TelemetryPointView {
    /// The step that begins with the second `at_s`. What was held is an average over `held_ms` milliseconds.
    pub fn of(at_s: i64, r: &Reading, held_ms: i64) -> Self {
        let measured = r.measured_ms > 0;
        let known = |value: i64| measured.then_some(value);
        let outside = |value: i64| (r.network_ms > 0).then_some(value);
        let private = |value: i64| (r.private_ms > 0).then_some(value);
        let average = |kib_s: i64| {
            let bytes = i128::from(kib_s) * 1_024 * 1_000 / i128::from(held_ms.max(1));
            known(i64::try_from(bytes).unwrap_or(i64::MAX))
        };
        Self {
            at: Timestamp::from_secs(at_s).to_string(),
            measured_seconds: thousandth(r.measured_ms),
            cpu_seconds: measured.then(|| thousandth(r.cpu_ms)),
            cpu_percent: (r.vcpu_ms > 0).then(|| percent(r.cpu_ms, r.vcpu_ms)),
            memory_bytes: average(r.memory_kib_s),
            disk_bytes: average(r.disk_kib_s),
            disk_read_bytes: known(r.disk_read_bytes),
            disk_written_bytes: known(r.disk_written_bytes),
            disk_reads: known(r.disk_reads),
            disk_writes: known(r.disk_writes),
            network_received_bytes: outside(r.received_bytes),
            network_sent_bytes: outside(r.sent_bytes),
            network_received_packets: outside(r.received_packets),
            network_sent_packets: outside(r.sent_packets),
            private_received_bytes: private(r.private_received_bytes),
            private_sent_bytes: private(r.private_sent_bytes),
            private_received_packets: private(r.private_received_packets),
            private_sent_packets: private(r.private_sent_packets),
        }
    }
}

#[allow(clippy::cast_precision_loss)] // milliseconds are far below 2⁵³
fn thousandth(ms: i64) -> f64 {
    ms as f64 / 1_000.0
}

/// To a hundredth.
#[allow(clippy::cast_precision_loss)]
fn percent(part: i64, whole: i64) -> f64 {
    (part as f64 / whole as f64 * 10_000.0).round() / 100.0
}

/// What requests were like in some hours.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "RequestTelemetry")]
pub struct RequestTelemetryView {
    /// The beginning of the first hour.
    pub from: String,
    /// The end of the last hour.
    pub to: String,
    /// `operation` or `api_key`.
    pub group_by: String,
    /// All requests.
    pub total: RequestGroupView,
    /// Each group, that with the most requests first.
    pub groups: Vec<RequestGroupView>,
}

/// How many requests there were, how they ended, and how long they took.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "RequestGroup")]
pub struct RequestGroupView {
    /// The operation or the key's id; null: all requests, or those to paths that are not there.
    pub key: Option<String>,
    /// How many.
    pub requests: i64,
    /// Those that were answered with a status from 400 to 499, but 429.
    pub client_errors: i64,
    /// Those that were answered with a status of 500 or more.
    pub server_errors: i64,
    /// Those that a budget refused, with 429.
    pub rate_limited: i64,
    /// Average time to answer, in milliseconds. Requests that waited because they asked for it are not in it.
    pub average_ms: Option<f64>,
    /// The time in which half of the requests were answered, in milliseconds, to a quarter.
    pub p50_ms: Option<f64>,
    /// The time in which 95 of 100 were answered.
    pub p95_ms: Option<f64>,
    /// The time in which 99 of 100 were answered.
    pub p99_ms: Option<f64>,
}
