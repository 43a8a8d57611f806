//! Projects and their environments.

use crate::clock::Timestamp;
use crate::id::{EnvironmentId, ProjectId};

/// The name of the project that every workspace has; it can't be deleted.
pub const DEFAULT_NAME: &str = "default";
/// The environments that a new project has.
pub const FIRST_ENVIRONMENTS: &[&str] = &["dev", "staging", "prod"];

/// A project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// Its name; need not be unique.
    pub name: String,
    /// Whether it is the workspace's first project, which can't be deleted.
    pub is_default: bool,
    /// Changes with every write of the row.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// An environment: an isolated deployment context of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// Its id.
    pub id: EnvironmentId,
    /// Its project.
    pub project_id: ProjectId,
    /// Its name, a hostname label unique in the project.
    pub name: String,
    /// Changes with every write of the row.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}
