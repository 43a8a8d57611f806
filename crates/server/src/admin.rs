//! Administration: what the operator asks for, done by the server while one runs, else here under the folder's lock.
//! Either way it is the same request to the same function, and a database never has two writers.

pub mod manifest;
pub mod perform;
pub mod socket;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

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

/// A file that becomes an image. Paths are absolute: the server's own folder is another one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NewImage {
    /// The disk, a qcow2 file.
    pub file: PathBuf,
    /// The name by which it is asked for.
    pub name: String,
    /// A sentence for people.
    pub description: String,
    /// SHA-256 that the disk must have.
    pub checksum: Option<String>,
    /// Least memory in MiB.
    pub min_memory_mib: u32,
    /// Least root disk in GiB; the disk's own size when not given.
    pub min_disk_gib: Option<u32>,
    /// The user to log in as.
    pub login_user: String,
    /// What the hypervisor loads, when the disk has no boot loader.
    pub kernel: Option<Kernel>,
}

/// A kernel that the hypervisor loads.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Kernel {
    /// Its file.
    pub file: PathBuf,
    /// SHA-256 that it must have.
    pub checksum: Option<String>,
    /// The initial RAM disk's file.
    pub initrd: PathBuf,
    /// SHA-256 that it must have.
    pub initrd_checksum: Option<String>,
    /// Its command line.
    pub command_line: String,
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
