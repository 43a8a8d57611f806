//! Operations and events.

use nephos_model::event::Event;
use nephos_model::operation::Operation;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use super::time;

/// Why an operation failed.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "OperationError")]
pub struct ErrorView {
    /// A code of the error catalogue.
    pub code: String,
    /// A sentence that a person can act on.
    pub message: String,
}

/// One step of an operation.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "OperationStep")]
pub struct StepView {
    /// What is done.
    pub name: String,
    /// `pending`, `running`, `succeeded`, `failed` or `cancelled`.
    pub status: String,
    /// When it began.
    pub started_at: Option<String>,
    /// When it ended.
    pub ended_at: Option<String>,
}

/// A durable operation.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Operation")]
pub struct OperationView {
    /// Its id, `op_…`.
    pub id: String,
    /// What is done, such as `compute.create`.
    pub kind: String,
    /// `pending`, `running`, `succeeded`, `failed` or `cancelled`.
    pub status: String,
    /// Percent of it that is done, 0 to 100.
    pub progress: u32,
    /// The compute or project it is done to.
    pub resource_id: String,
    /// The compute's project, or the project itself.
    pub project_id: String,
    /// The compute's environment.
    pub environment_id: Option<String>,
    /// Its steps, in order.
    pub steps: Vec<StepView>,
    /// Why it failed.
    pub error: Option<ErrorView>,
    /// The request that asked for it.
    pub request_id: String,
    /// When it was asked for.
    pub created_at: String,
    /// When its first step began.
    pub started_at: Option<String>,
    /// When it ended.
    pub ended_at: Option<String>,
}

impl From<&Operation> for OperationView {
    fn from(o: &Operation) -> Self {
        let step = |s: &nephos_model::operation::Step| StepView {
            name: s.name.clone(),
            status: s.status.as_str().to_owned(),
            started_at: s.started_at.map(time),
            ended_at: s.ended_at.map(time),
        };
        Self {
            id: o.id.to_string(),
            kind: o.kind.as_str().to_owned(),
            status: o.status.as_str().to_owned(),
            progress: o.progress_percent(),
            resource_id: o.resource_id(),
            project_id: o.project_id.to_string(),
            environment_id: o.environment_id.map(|id| id.to_string()),
            steps: o.steps.iter().map(step).collect(),
            error: o
                .error
                .as_ref()
                .map(|(code, message)| ErrorView { code: code.snake().to_owned(), message: message.clone() }),
            request_id: o.request_id.clone(),
            created_at: time(o.created_at),
            started_at: o.started_at.map(time),
            ended_at: o.ended_at.map(time),
        }
    }
}

/// Who made a change.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "EventActor")]
pub struct ActorView {
    /// `api_key`, `member`, `operator` or `system`.
    pub kind: String,
    /// Its id, if it has one.
    pub id: Option<String>,
}

/// An event: one change of one resource.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Event")]
pub struct EventView {
    /// Its id, `evt_…`.
    pub id: String,
    /// Its place in the sequence of the workspace's events.
    pub seq: i64,
    /// What changed, such as `compute.running`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The resource it is about.
    pub resource_id: String,
    /// The resource's project.
    pub project_id: Option<String>,
    /// The resource's environment.
    pub environment_id: Option<String>,
    /// Who made the change.
    pub actor: ActorView,
    /// The request that caused it.
    pub request_id: Option<String>,
    /// Version of the schema of `data` for this type, from 1; it rises when a field goes or changes its meaning.
    pub version: u32,
    /// The resource after the change; after a removal, as it was.
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pub data: Box<RawValue>,
    /// For a change of something that was there: its fields that changed, as they were before.
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pub previous_attributes: Option<Box<RawValue>>,
    /// When the change was made.
    pub created_at: String,
}

impl From<&Event> for EventView {
    fn from(e: &Event) -> Self {
        Self {
            id: e.id.to_string(),
            seq: e.seq,
            kind: e.kind.clone(),
            resource_id: e.resource_id.clone(),
            project_id: e.project_id.map(|id| id.to_string()),
            environment_id: e.environment_id.map(|id| id.to_string()),
            actor: ActorView { kind: e.actor_kind.clone(), id: e.actor_id.clone() },
            request_id: e.request_id.clone(),
            version: e.version,
            data: RawValue::from_string(e.data.clone()).unwrap_or_else(|_| RawValue::NULL.to_owned()),
            previous_attributes: e.previous.clone().and_then(|text| RawValue::from_string(text).ok()),
            created_at: time(e.created_at),
        }
    }
}
