//! Projects and environments.

use nephos_model::project::{Environment, Project};
use schemars::JsonSchema;
use serde::Serialize;

use super::time;

/// A project.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Project")]
pub struct ProjectView {
    /// Its id, `prj_…`.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether it is the workspace's first project, which can't be deleted.
    pub is_default: bool,
    /// When it was made.
    pub created_at: String,
    /// When it last changed.
    pub updated_at: String,
}

impl From<&Project> for ProjectView {
    fn from(p: &Project) -> Self {
        Self {
            id: p.id.to_string(),
            name: p.name.clone(),
            is_default: p.is_default,
            created_at: time(p.created_at),
            updated_at: time(p.updated_at),
        }
    }
}

/// An environment of a project.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Environment")]
pub struct EnvironmentView {
    /// Its id, `env_…`.
    pub id: String,
    /// Its project.
    pub project_id: String,
    /// Its name, a hostname label unique in the project.
    pub name: String,
    /// When it was made.
    pub created_at: String,
    /// When it last changed.
    pub updated_at: String,
}

impl From<&Environment> for EnvironmentView {
    fn from(e: &Environment) -> Self {
        Self {
            id: e.id.to_string(),
            project_id: e.project_id.to_string(),
            name: e.name.clone(),
            created_at: time(e.created_at),
            updated_at: time(e.updated_at),
        }
    }
}
