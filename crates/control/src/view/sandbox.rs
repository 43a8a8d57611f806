//! The sandbox and its clock.

use nephos_model::Timestamp;
use nephos_model::id::ProjectId;
use schemars::JsonSchema;
use serde::Serialize;

use super::time;

/// A sandbox that was just reset.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Sandbox")]
pub struct SandboxView {
    /// How often it has begun anew, counted from 1.
    pub epoch: i64,
    /// When it began anew.
    pub began_at: String,
    /// Its one project, with the environments dev, staging and prod.
    pub default_project_id: String,
    /// How many test keys were revoked because they were narrowed to a project that is gone.
    pub revoked_api_keys: i64,
    /// When it is reset next without being asked to; null: never.
    pub next_reset_at: Option<String>,
}

impl SandboxView {
    pub(crate) fn of(
        epoch: i64,
        began_at: Timestamp,
        project: ProjectId,
        revoked_api_keys: i64,
        next_reset_at: Option<Timestamp>,
    ) -> Self {
        Self {
            epoch,
            began_at: time(began_at),
            default_project_id: project.to_string(),
            revoked_api_keys,
            next_reset_at: next_reset_at.map(time),
        }
    }
}

/// The clock of a sandbox.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "SandboxClock")]
pub struct SandboxClockView {
    /// The time in the sandbox.
    pub now: String,
    /// The time outside of it.
    pub real_now: String,
    /// By how many seconds it is ahead; 0 until it is advanced.
    pub ahead_seconds: i64,
    /// When the sandbox is reset next, by the real time, which sets its clock back; null: never.
    pub next_reset_at: Option<String>,
}

impl SandboxClockView {
    pub(crate) fn of(real_now: Timestamp, ahead_us: i64, next_reset_at: Option<Timestamp>) -> Self {
        Self {
            now: time(Timestamp::from_micros(real_now.micros() + ahead_us)),
            real_now: time(real_now),
            ahead_seconds: ahead_us.div_euclid(1_000_000),
            next_reset_at: next_reset_at.map(time),
        }
    }
}
