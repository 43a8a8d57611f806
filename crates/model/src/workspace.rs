//! Workspaces, people and their places in workspaces.

use crate::clock::Timestamp;
use crate::id::{MemberId, UserId, WorkspaceId};
use crate::role::Role;

/// A workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// Its id.
    pub id: WorkspaceId,
    /// Its name, unique in the installation.
    pub name: String,
    /// Name of its plan.
    pub plan: String,
    /// Since when the operator suspends it.
    pub suspended_at: Option<Timestamp>,
    /// Changes with every write of the row.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// A user's place in a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: MemberId,
    /// The person.
    pub user_id: UserId,
    /// The person's e-mail address, lower case.
    pub email: String,
    /// What the member may do.
    pub role: Role,
    /// Changes with every write of the row.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}
