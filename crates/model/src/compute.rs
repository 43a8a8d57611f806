//! Compute instances: their states, and which actions the states allow.

use std::fmt;
use std::str::FromStr;

use crate::clock::Timestamp;
use crate::id::{ComputeId, EnvironmentId, ImageId, OperationId, ProjectId};
use crate::operation::Kind;

/// Bytes of `user_data` at most.
pub const USER_DATA_BYTES_MAX: usize = 64 * 1024;
/// SSH keys on one compute at most.
pub const SSH_KEYS_MAX: usize = 32;

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What a compute is doing, as clients see it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Status { $($(#[$doc])* $name,)* }

        impl Status {
            /// Every status.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
            /// The wire and stored form.
            pub const fn as_str(self) -> &'static str { match self { $(Self::$name => $text,)* } }
        }
    };
}

statuses! {
    /// Its disk is being made, or it boots for the first time.
    Provisioning = "provisioning",
    /// Its processors run.
    Running = "running",
    /// It was asked to shut down.
    Stopping = "stopping",
    /// Its disk is kept, its processors do not run.
    Stopped = "stopped",
    /// It was asked to boot.
    Starting = "starting",
    /// It was asked to shut down and boot again.
    Rebooting = "rebooting",
    /// It gets another size.
    Resizing = "resizing",
    /// It gets a fresh root disk.
    Rebuilding = "rebuilding",
    /// Something went wrong; the reason says what, and what to do.
    Failed = "failed",
}

impl Status {
    /// The status while an operation of `kind` is under way.
    pub const fn during(kind: Kind) -> Self {
        match kind {
            Kind::ComputeCreate => Self::Provisioning,
            Kind::ComputeStart => Self::Starting,
            Kind::ComputeStop | Kind::ComputeDelete | Kind::ProjectDelete => Self::Stopping,
            Kind::ComputeReboot => Self::Rebooting,
            Kind::ComputeResize => Self::Resizing,
            Kind::ComputeRebuild => Self::Rebuilding,
        }
    }

    /// Whether an action may begin in this status.
    pub const fn allows(self, kind: Kind) -> bool {
        match kind {
            Kind::ComputeCreate | Kind::ProjectDelete => false,
            Kind::ComputeDelete => true,
            Kind::ComputeStart => matches!(self, Self::Stopped | Self::Failed),
            Kind::ComputeStop => matches!(self, Self::Running | Self::Failed),
            Kind::ComputeReboot => matches!(self, Self::Running),
            Kind::ComputeResize | Kind::ComputeRebuild => matches!(self, Self::Running | Self::Stopped | Self::Failed),
        }
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
        Self::ALL.iter().copied().find(|s| s.as_str() == text).ok_or(())
    }
}

/// What a compute is wished to be; the reconciler makes it so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wish {
    /// Its processors run.
    Running,
    /// Its disk is kept, its processors do not run.
    Stopped,
    /// Nothing of it is left.
    Gone,
}

impl Wish {
    /// The stored form.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Gone => "gone",
        }
    }
}

impl FromStr for Wish {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Running, Self::Stopped, Self::Gone].into_iter().find(|w| w.as_str() == text).ok_or(())
    }
}

/// What happens when a compute's processors stop without a wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RestartPolicy {
    /// It becomes `failed` (or `stopped`, when the guest shut itself down).
    Never,
    /// After a failure it is started again, a bounded number of times; a guest that shut itself down stays `stopped`.
    OnFailure,
}

impl RestartPolicy {
    /// The wire and stored form.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::OnFailure => "on_failure",
        }
    }
}

impl FromStr for RestartPolicy {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Never, Self::OnFailure].into_iter().find(|w| w.as_str() == text).ok_or(())
    }
}

/// Where a compute is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Host name or IP address for SSH.
    pub ssh_host: String,
    /// TCP port for SSH.
    pub ssh_port: u16,
    /// Its address in its environment's private network.
    pub private_ip: Option<String>,
}

/// A compute instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compute {
    /// Its id.
    pub id: ComputeId,
    /// Its name, a hostname label unique in its environment.
    pub name: String,
    /// Its project.
    pub project_id: ProjectId,
    /// Its environment.
    pub environment_id: EnvironmentId,
    /// Name of its region.
    pub region: String,
    /// Name of its size.
    pub size: String,
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Root disk in GiB.
    pub disk_gib: u32,
    /// Its image.
    pub image_id: ImageId,
    /// Name of its image.
    pub image: String,
    /// What it is doing.
    pub status: Status,
    /// Why it is in this status, when a person should know.
    pub reason: Option<String>,
    /// What it is wished to be.
    pub wish: Wish,
    /// What happens when it stops by itself.
    pub restart_policy: RestartPolicy,
    /// How often it was restarted by its policy since it was last asked to start.
    pub restarts: u32,
    /// Whether deleting and rebuilding are refused.
    pub protected: bool,
    /// Labels as a JSON object, keys sorted.
    pub labels: String,
    /// SSH public keys, one a line.
    pub ssh_keys: String,
    /// cloud-init user data.
    pub user_data: Option<String>,
    /// Where it is reached while it runs.
    pub address: Option<Address>,
    /// The SSH host key that it presents, pinned before its first boot.
    pub ssh_host_key: Option<String>,
    /// How many boots were wished; a reboot adds one.
    pub boots: i64,
    /// The operation under way.
    pub operation_id: Option<OperationId>,
    /// What its driver wrote down, opaque to everybody else.
    pub notes: Option<String>,
    /// Changes with every write of the row.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When its processors last began to run.
    pub started_at: Option<Timestamp>,
}

/// What is being made of a compute, until it has become that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alteration {
    /// It gets another size.
    Size {
        /// Its name.
        name: String,
        /// Virtual processors.
        vcpus: u32,
        /// Memory in MiB.
        memory_mib: u32,
        /// Root disk in GiB, never less than it has.
        disk_gib: u32,
    },
    /// It gets a fresh root disk.
    Image {
        /// The image's id.
        id: ImageId,
        /// The image's name.
        name: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_on_the_way_allows_nothing_but_deletion() {
        for status in [
            Status::Provisioning,
            Status::Stopping,
            Status::Starting,
            Status::Rebooting,
            Status::Resizing,
            Status::Rebuilding,
        ] {
            for kind in Kind::ALL {
                assert_eq!(status.allows(*kind), *kind == Kind::ComputeDelete, "{status} {}", kind.as_str());
            }
        }
    }
}
