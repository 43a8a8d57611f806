//! What is told of versions and operations that come and go.

use nephos_model::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::time;

/// A deprecated operation that a key called.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "DeprecatedCall")]
pub struct DeprecatedCallView {
    /// The operation's id, as the OpenAPI document has it.
    pub operation: String,
    /// When it was last called, to the minute.
    pub last_called_at: String,
}

/// An operation or a version whose end is known.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Deprecation")]
pub struct DeprecationView {
    /// `operation` or `version`.
    pub kind: String,
    /// The operation's id, or the version's base URL.
    pub name: String,
    /// From when on it is deprecated.
    pub deprecated_at: String,
    /// From when on it answers 410.
    pub sunset_at: String,
    /// What to use instead, if anything replaces it.
    pub successor: Option<String>,
    /// Why, and what to do.
    pub note: String,
}

/// A version of the API.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Version")]
pub struct VersionView {
    /// Its base URL.
    pub version: String,
    /// When it appeared.
    pub released_at: String,
}

impl DeprecationView {
    /// An end, with what to do about it.
    pub fn new(kind: &str, name: &str, life: (Timestamp, Timestamp), successor: Option<&str>, note: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            name: name.to_owned(),
            deprecated_at: time(life.0),
            sunset_at: time(life.1),
            successor: successor.map(str::to_owned),
            note: note.to_owned(),
        }
    }
}

impl VersionView {
    /// A version that appeared at `at`.
    pub fn new(version: &str, at: Timestamp) -> Self {
        Self { version: version.to_owned(), released_at: time(at) }
    }
}
