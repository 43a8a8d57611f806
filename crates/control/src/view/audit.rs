//! Rows of the audit log.

use nephos_model::audit::Entry;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{ActorView, time};

/// A row of the audit log: one request that changed something, or was refused.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "AuditEntry")]
pub struct AuditEntryView {
    /// Its id, `aud_…`.
    pub id: String,
    /// Its number in the workspace's log, from 1 without gaps. A number is never given twice and its row never changes.
    pub seq: i64,
    /// The operation, `noun.verb`, as the reference names it; `request.refused` for counted refusals and unknown paths.
    pub action: String,
    /// What it was done to; null when it is about no resource of its own.
    pub resource_id: Option<String>,
    /// The resource's project, if it has one.
    pub project_id: Option<String>,
    /// Who did it.
    pub actor: ActorView,
    /// The member behind the actor.
    pub member_id: Option<String>,
    /// The client's address.
    pub address: Option<String>,
    /// The `X-Request-Id` that the client sent; nobody vouches for it.
    pub client_request_id: Option<String>,
    /// Our id of the request; of counted refusals, of the last one.
    pub request_id: String,
    /// The resource before; null when it was not there, and of what was refused.
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pub before: Option<Box<RawValue>>,
    /// The resource after; null when it is gone. Of counted refusals the code, the count and the minute.
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pub after: Option<Box<RawValue>>,
    /// The HTTP status of the answer.
    pub status: u16,
    /// When it was; of counted refusals, the beginning of the minute.
    pub created_at: String,
    /// SHA-256 over the link of the row before, the number and the row, in hexadecimal.
    pub chain: String,
}

impl From<&Entry> for AuditEntryView {
    fn from(e: &Entry) -> Self {
        let raw = |text: &Option<String>| text.clone().and_then(|text| RawValue::from_string(text).ok());
        Self {
            id: e.id.to_string(),
            seq: e.seq,
            action: e.action.clone(),
            resource_id: e.resource_id.clone(),
            project_id: e.project_id.clone(),
            actor: ActorView { kind: e.actor_kind.clone(), id: e.actor_id.clone() },
            member_id: e.member_id.clone(),
            address: e.address.clone(),
            client_request_id: e.client_request_id.clone(),
            request_id: e.request_id.clone(),
            before: raw(&e.before),
            after: raw(&e.after),
            status: e.status,
            created_at: time(e.created_at),
            chain: hex(&e.chain),
        }
    }
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing into memory can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
