//! Administration: what the operator asks for, done by the server while one runs, else here under the folder's lock.
//! Either way it is the same request to the same function, and a database never has two writers.

pub mod manifest;
pub mod perform;
pub mod price;
pub mod socket;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use manifest::{Kernel, NewImage};

/// What the operator asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Make the first workspace.
    Init {
        /// Its name.
        workspace: String,
        /// Its owner's e-mail address.
        owner: String,
        /// Its plan.
        plan: String,
    },
    /// Make one more workspace.
    WorkspaceCreate {
        /// Its name.
        workspace: String,
        /// Its owner's e-mail address.
        owner: String,
        /// Its plan.
        plan: String,
    },
    /// Refuse a workspace's requests.
    WorkspaceSuspend {
        /// Its id or name.
        workspace: String,
    },
    /// End a suspension.
    WorkspaceResume {
        /// Its id or name.
        workspace: String,
    },
    /// Give a workspace another plan.
    WorkspacePlan {
        /// Its id or name.
        workspace: String,
        /// The plan.
        plan: String,
    },
    /// List workspaces.
    WorkspaceList,
    /// List plans.
    PlanList,
    /// Show one plan.
    PlanShow {
        /// Its name.
        plan: String,
    },
    /// Make a link that signs a person in to the console.
    ConsoleLink {
        /// The person's e-mail address.
        email: String,
    },
    /// List the keys that sign tokens.
    SigningKeyList,
    /// Make the next key that signs tokens.
    SigningKeyRotate {
        /// Whether the earlier keys go at once, with all tokens that there are.
        withdraw: bool,
    },
    /// Add an image.
    ImageAdd(NewImage),
    /// List images.
    ImageList,
    /// Remove an image.
    ImageRemove {
        /// Its name or id.
        image: String,
    },
    /// Check the chain of the audit log.
    AuditVerify {
        /// The id or name of the only workspace whose log is meant.
        workspace: Option<String>,
    },
    /// Read a part of an audit log, the oldest first.
    AuditRead {
        /// The id or name of the workspace; without one it is the installation's own log.
        workspace: Option<String>,
        /// Whether the sandbox's log is meant.
        sandbox: bool,
        /// The id of the row that the part comes after.
        after: Option<String>,
    },
    /// List the newest letters.
    MailList {
        /// How many at most.
        limit: u32,
    },
    /// Check a price list.
    PricesCheck(price::List),
    /// Install a price list.
    PricesInstall(price::List),
    /// List the price lists.
    PricesList,
    /// Copy the database.
    Backup {
        /// The file to write, absolute.
        file: PathBuf,
    },
    /// Tell about trouble.
    IncidentOpen {
        /// A sentence.
        title: String,
        /// How bad it is.
        impact: String,
        /// The regions that it is about; none is all.
        regions: Vec<String>,
        /// What is known.
        message: String,
    },
    /// Tell more about it.
    IncidentUpdate {
        /// Its id.
        incident: String,
        /// How far it is.
        status: String,
        /// What is known.
        message: String,
    },
    /// List what was told.
    IncidentList,
    /// Who is there and how it is.
    Status,
}

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The machine-readable reason.
    pub code: String,
    /// For people, with the way out.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into() }
    }
}
