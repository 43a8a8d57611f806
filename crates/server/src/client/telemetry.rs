//! The commands of telemetry: what computes used, and what requests were like.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::api::{Failure, query_string};
use super::command::{Server, Within};
use super::resolve;
use super::run::{Session, id_path, show};
use crate::output::{self, Output};

const POINT_FIELDS: &[&str] = &[
    "at",
    "measured_seconds",
    "cpu_percent",
    "memory_bytes",
    "disk_read_bytes",
    "disk_written_bytes",
    "network_received_bytes",
    "network_sent_bytes",
];
const REQUEST_FIELDS: &[&str] =
    &["key", "requests", "client_errors", "server_errors", "rate_limited", "average_ms", "p50_ms", "p95_ms", "p99_ms"];

/// `nephos telemetry`
#[derive(Debug, Subcommand)]
#[allow(missing_docs)]
pub enum Telemetry {
    /// What all computes used, step by step, or those of each project, environment or region.
    Computes(Summed),
    /// What API keys' requests were like, by operation or by key.
    Requests(Requests),
    /// What the computes that run have counted, as Prometheus scrapes it.
    Export(Export),
}

/// A range of time and its steps.
#[derive(Debug, Args)]
pub struct Span {
    /// How much time before the end [default: 1h].
    #[arg(long, value_name = "RANGE", value_parser = ["1h", "6h", "24h", "7d", "30d", "90d"], conflicts_with = "from")]
    pub range: Option<String>,
    /// From this time on, such as 2026-03-01T00:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Until before this time [default: now].
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
    /// How much time is in a line [default: as little as makes 120 lines at most].
    #[arg(long, value_name = "STEP", value_parser = ["1m", "5m", "15m", "1h", "6h", "1d"])]
    pub step: Option<String>,
}

impl Span {
    fn query(&self) -> Vec<(&'static str, &str)> {
        let all = [("range", &self.range), ("from", &self.from), ("to", &self.to), ("step", &self.step)];
        all.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))).collect()
    }
}

/// One compute's use.
#[derive(Debug, Args)]
pub struct Metrics {
    /// Name or id of the compute.
    pub name: String,
    #[command(flatten)]
    pub span: Span,
    #[command(flatten)]
    pub within: Within,
    #[command(flatten)]
    pub server: Server,
}

/// The use of many.
#[derive(Debug, Args)]
pub struct Summed {
    #[command(flatten)]
    pub span: Span,
    /// A series for each of these.
    #[arg(long, value_name = "WHAT", value_parser = ["project", "environment", "region"])]
    pub by: Option<String>,
    #[command(flatten)]
    pub server: Server,
}

/// What requests were like.
#[derive(Debug, Args)]
pub struct Requests {
    /// From the hour of this time on [default: 24 hours before the end].
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// To the end of the hour before this time [default: now].
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
    /// A line for each of these [default: operation].
    #[arg(long, value_name = "WHAT", value_parser = ["operation", "api_key"])]
    pub by: Option<String>,
    /// Only this operation, such as compute.create.
    #[arg(long, value_name = "OPERATION")]
    pub operation: Option<String>,
    /// Only the API key with this id.
    #[arg(long, value_name = "ID")]
    pub of_key: Option<String>,
    #[command(flatten)]
    pub server: Server,
}

/// Where from.
#[derive(Debug, Args)]
pub struct Export {
    #[command(flatten)]
    pub server: Server,
}

fn with_query(path: &str, query: &[(&str, &str)]) -> String {
    if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query_string(query)) }
}

fn lines(value: &Value, fields: &[&str]) {
    if let Value::Array(rows) = value {
        output::raw(&output::table(rows, fields));
    }
}

impl Session<'_> {
    pub(super) fn telemetry(&self, command: Telemetry) -> Result<(), Failure> {
        match command {
            Telemetry::Computes(a) => {
                let mut query = a.span.query();
                query.extend(a.by.as_deref().map(|by| ("group_by", by)));
                let data = self.api(&a.server)?.get(&with_query("/telemetry", &query))?.data;
                if a.server.output == Output::Json {
                    output::json(&data);
                    return Ok(());
                }
                for group in data["groups"].as_array().into_iter().flatten() {
                    if let Some(key) = group["key"].as_str() {
                        output::line(key);
                    }
                    lines(&group["points"], POINT_FIELDS);
                }
                Ok(())
            }
            Telemetry::Requests(a) => {
                let filters = [
                    ("from", &a.from),
                    ("to", &a.to),
                    ("group_by", &a.by),
                    ("operation", &a.operation),
                    ("api_key_id", &a.of_key),
                ];
                let query: Vec<_> =
                    filters.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
                let data = self.api(&a.server)?.get(&with_query("/telemetry/requests", &query))?.data;
                match a.server.output {
                    Output::Json => output::json(&data),
                    Output::Table => lines(&data["groups"], REQUEST_FIELDS),
                }
                Ok(())
            }
            Telemetry::Export(a) => {
                let data = self.api(&a.server)?.get("/telemetry/openmetrics")?.data;
                match a.server.output {
                    Output::Json => show(a.server.output, &data),
                    Output::Table => output::raw(data["text"].as_str().unwrap_or_default()),
                }
                Ok(())
            }
        }
    }

    pub(super) fn compute_metrics(&self, a: &Metrics) -> Result<(), Failure> {
        let api = self.api(&a.server)?;
        let id = resolve::compute(&api, &a.name, &a.within)?;
        let path = format!("{}/metrics", id_path("/computes", &id));
        let data = api.get(&with_query(&path, &a.span.query()))?.data;
        match a.server.output {
            Output::Json => output::json(&data),
            Output::Table => lines(&data["points"], POINT_FIELDS),
        }
        Ok(())
    }
}
