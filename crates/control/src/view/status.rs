//! How the installation is doing.

use nephos_store::status::{Incident, NOT_OVER};
use schemars::JsonSchema;
use serde::Serialize;

use super::time;
use crate::status::list;

/// How the installation is doing, as it was measured.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "Status")]
pub struct StatusView {
    /// `operational`, `degraded` (a region can't run computes, or there is an incident) or `outage`.
    pub status: &'static str,
    /// When measuring began; null before the first minute.
    pub measured_since: Option<String>,
    /// The installation over the last 24 hours, 7, 30 and 90 days.
    pub periods: Vec<PeriodView>,
    /// Each region.
    pub regions: Vec<RegionStatusView>,
    /// What the operator tells: incidents that are not over, and those of the last 90 days.
    pub incidents: Vec<IncidentView>,
}

/// One period of the installation.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "StatusPeriod")]
pub struct PeriodView {
    /// `24h`, `7d`, `30d` or `90d`.
    pub period: &'static str,
    /// Share of whole minutes in which it worked, in percent, rounded down; a minute that was not measured counts as down.
    pub uptime_percent: Option<f64>,
    /// Average time to answer, in milliseconds; null without requests.
    pub average_ms: Option<f64>,
    /// The time in which 99 of 100 requests were answered, in milliseconds, to an eighth; null without requests.
    pub p99_ms: Option<f64>,
}

/// One region.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "RegionStatus")]
pub struct RegionStatusView {
    /// Its name.
    pub name: String,
    /// Whether computes can run there now.
    pub available: bool,
    /// Why they can't.
    pub unavailable_reason: Option<String>,
    /// The last 24 hours, 7, 30 and 90 days.
    pub periods: Vec<UptimeView>,
}

/// One period of a region.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "RegionPeriod")]
pub struct UptimeView {
    /// `24h`, `7d`, `30d` or `90d`.
    pub period: &'static str,
    /// Share of whole minutes in which computes could run, in percent, rounded down.
    pub uptime_percent: Option<f64>,
}

/// Trouble that the operator tells about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Incident")]
pub struct IncidentView {
    /// Its id.
    pub id: String,
    /// A sentence.
    pub title: String,
    /// `minor`, `major` or `critical`.
    pub impact: String,
    /// `investigating`, `identified`, `monitoring` or `resolved`.
    pub status: String,
    /// The regions that it is about; none is all.
    pub regions: Vec<String>,
    /// What was told, the oldest first.
    pub updates: Vec<IncidentUpdateView>,
    /// When it was told first.
    pub created_at: String,
    /// When it was over.
    pub resolved_at: Option<String>,
}

/// What was told of an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "IncidentUpdate")]
pub struct IncidentUpdateView {
    /// When.
    pub at: String,
    /// How far it was.
    pub status: String,
    /// What was told.
    pub message: String,
}

impl From<&Incident> for IncidentView {
    fn from(incident: &Incident) -> Self {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let told = |update: &serde_json::Value| IncidentUpdateView {
            at: text(&update["at"]),
            status: text(&update["status"]),
            message: text(&update["message"]),
        };
        Self {
            id: incident.id.to_string(),
            title: incident.title.clone(),
            impact: incident.impact.clone(),
            status: incident.status.clone(),
            regions: list(&incident.regions).iter().map(text).collect(),
            updates: list(&incident.updates).iter().map(told).collect(),
            created_at: time(incident.created_at),
            resolved_at: (incident.resolved_at != NOT_OVER).then(|| time(incident.resolved_at)),
        }
    }
}
