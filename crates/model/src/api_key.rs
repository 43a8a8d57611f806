//! API keys as resources; their secrets are in [`crate::key`].

use crate::clock::Timestamp;
use crate::id::{EnvironmentId, KeyId, MemberId, ProjectId};
use crate::scope::Scopes;
use crate::tenant::Mode;

/// Seconds for which a rotated secret may go on working, at most: 30 days.
pub const GRACE_S_MAX: i64 = 2_592_000;
/// Address ranges that one key may be narrowed to, at most.
pub const ALLOWED_IPS_MAX: usize = 32;

/// An API key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id.
    pub id: KeyId,
    /// The member it belongs to, and whose role it can never exceed.
    pub member_id: MemberId,
    /// Its name.
    pub name: String,
    /// The last characters of its secret.
    pub hint: String,
    /// Live or sandbox.
    pub mode: Mode,
    /// The scopes it is narrowed to; `None`: whatever the member may do.
    pub scopes: Option<Scopes>,
    /// The project it is narrowed to.
    pub project_id: Option<ProjectId>,
    /// The environment it is narrowed to.
    pub environment_id: Option<EnvironmentId>,
    /// The address ranges (CIDR) it is narrowed to; empty: any.
    pub allowed_ips: Vec<String>,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
    /// Until when the secret before the last rotation works too.
    pub previous_until_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Timestamp>,
    /// Changes with every write of the row but those of `last_used_at`.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}
