//! Events: every change of a resource's state.

use crate::clock::Timestamp;
use crate::id::{EnvironmentId, EventId, ProjectId};

/// Who made a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// An API key, by its id.
    Key(crate::id::KeyId),
    /// A member, by its id, through the console.
    Member(crate::id::MemberId),
    /// The operator, through the admin socket.
    Operator,
    /// The system itself: a reconciler, a schedule.
    System,
}

impl Actor {
    /// The kind on the wire.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Key(_) => "api_key",
            Self::Member(_) => "member",
            Self::Operator => "operator",
            Self::System => "system",
        }
    }

    /// The id on the wire, if it has one.
    pub fn id(&self) -> Option<String> {
        match self {
            Self::Key(id) => Some(id.to_string()),
            Self::Member(id) => Some(id.to_string()),
            Self::Operator | Self::System => None,
        }
    }
}

/// A sequenced event, as readers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its id.
    pub id: EventId,
    /// Its place in the tenant's sequence, from 1, without gaps for a reader.
    pub seq: i64,
    /// `noun.change`, such as `compute.running`.
    pub kind: String,
    /// The resource it is about.
    pub resource_id: String,
    /// The resource's project, if it has one.
    pub project_id: Option<ProjectId>,
    /// The resource's environment, if it has one.
    pub environment_id: Option<EnvironmentId>,
    /// Version of the schema of `data`, from 1.
    pub version: u32,
    /// The resource after the change (after a removal: before it), as JSON text in the neutral form.
    pub data: String,
    /// What changed, as it was before, as the text of a JSON object; `None` when nothing was there before.
    pub previous: Option<String>,
    /// Kind of the actor, see [`Actor::kind`].
    pub actor_kind: String,
    /// Id of the actor, if it has one.
    pub actor_id: Option<String>,
    /// The request that caused it, as a UUID.
    pub request_id: Option<String>,
    /// When the change was made.
    pub created_at: Timestamp,
}
