//! Durable operations: what was asked of a resource, how far it is and how it ended.

use std::fmt;
use std::str::FromStr;

use crate::clock::Timestamp;
use crate::fault::Code;
use crate::id::{ComputeId, EnvironmentId, OperationId, ProjectId};
use crate::trace::TraceContext;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal, [$($step:literal),*];)*) => {
        /// What is done.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kind { $($(#[$doc])* $name,)* }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
            /// The wire and stored form.
            pub const fn as_str(self) -> &'static str { match self { $(Self::$name => $text,)* } }
            /// The names of its steps, in order.
            pub const fn steps(self) -> &'static [&'static str] { match self { $(Self::$name => &[$($step),*],)* } }
        }

        impl FromStr for Kind {
            type Err = ();
            fn from_str(text: &str) -> Result<Self, ()> {
                match text { $($text => Ok(Self::$name),)* _ => Err(()) }
            }
        }
    };
}

kinds! {
    /// A compute is made and started.
    ComputeCreate = "compute.create", ["prepare", "boot"];
    /// A compute is started.
    ComputeStart = "compute.start", ["boot"];
    /// A compute is stopped.
    ComputeStop = "compute.stop", ["shut_down"];
    /// A compute is stopped and started.
    ComputeReboot = "compute.reboot", ["shut_down", "boot"];
    /// A compute gets another size.
    ComputeResize = "compute.resize", ["shut_down", "resize", "boot"];
    /// A compute gets a fresh root disk.
    ComputeRebuild = "compute.rebuild", ["shut_down", "rebuild", "boot"];
    /// A compute and its disk are removed.
    ComputeDelete = "compute.delete", ["remove"];
    /// A project is removed with its computes: a step for each, see [`removal_step`].
    ProjectDelete = "project.delete", [];
}

/// How far an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Written down, not begun.
    Pending,
    /// Under way.
    Running,
    /// Ended as wished.
    Succeeded,
    /// Ended otherwise; the error says why.
    Failed,
    /// Ended because it was cancelled or overtaken by a later wish.
    Cancelled,
}

impl Status {
    /// The wire and stored form.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more will happen.
    pub const fn ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Status {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Pending, Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled]
            .into_iter()
            .find(|s| s.as_str() == text)
            .ok_or(())
    }
}

/// One step of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// One of [`Kind::steps`], or a compute's own, see [`removal_step`].
    pub name: String,
    /// How far it is.
    pub status: Status,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// A durable operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Its id.
    pub id: OperationId,
    /// What is done.
    pub kind: Kind,
    /// How far it is.
    pub status: Status,
    /// The compute it is done to; none when it is done to the project.
    pub compute_id: Option<ComputeId>,
    /// The compute's project, or the project it is done to.
    pub project_id: ProjectId,
    /// The compute's environment.
    pub environment_id: Option<EnvironmentId>,
    /// Its steps, in order.
    pub steps: Vec<Step>,
    /// Why it failed: a code and a sentence that a person can act on.
    pub error: Option<(Code, String)>,
    /// The request that asked for it, as a UUID.
    pub request_id: String,
    /// The trace that the request continued, under the request's own span; `None` when the request began it.
    pub trace: Option<TraceContext>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When its first step began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// The step that removes one of a project's computes.
pub fn removal_step(compute: ComputeId) -> String {
    format!("remove_compute:{compute}")
}

impl Operation {
    /// The id of what it is done to.
    pub fn resource_id(&self) -> String {
        self.compute_id.map_or_else(|| self.project_id.to_string(), |id| id.to_string())
    }

    /// Percent of its steps that are done, 0 to 100; 100 only when it succeeded.
    pub fn progress_percent(&self) -> u32 {
        if self.status == Status::Succeeded {
            return 100;
        }
        let done = self.steps.iter().filter(|s| s.status == Status::Succeeded).count();
        u32::try_from(done * 100 / self.steps.len().max(1)).unwrap_or(0).min(99)
    }
}
