//! What runs computes: the contract between the control plane and a hypervisor, and its implementations.
//!
//! A driver knows machines, not tenants: no roles, no database, no HTTP. Every call is idempotent, so that it can be
//! repeated after a crash at any line. What it must remember about a machine it either finds again on its host or hands
//! back as [`Notes`], which the control plane keeps in the machine's row.

#[cfg(feature = "testing")]
pub mod conformance;
pub mod qemu;
pub mod simulator;
pub mod terminal;

use std::fmt;

use nephos_model::Timestamp;
use nephos_model::compute::Address;
use nephos_model::id::{ComputeId, EnvironmentId};
use nephos_model::image::Image;
use nephos_model::region::Capacity;
use nephos_model::telemetry::Counters;

use crate::terminal::{Terminal, TerminalError};

/// Everything a driver needs to build and run one compute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The compute.
    pub id: ComputeId,
    /// Its environment, whose private network it joins.
    pub environment_id: EnvironmentId,
    /// Its host name.
    pub hostname: String,
    /// Virtual processors, 1 or more.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Root disk in GiB.
    pub disk_gib: u32,
    /// What it boots from.
    pub image: Image,
    /// SSH public keys that may log in, one OpenSSH line each.
    pub ssh_keys: Vec<String>,
    /// cloud-init user data, at most 64 KiB.
    pub user_data: Option<String>,
    /// Its labels, sorted by key. The simulator reads `simulate`.
    pub labels: Vec<(String, String)>,
    /// What the driver wrote down last.
    pub notes: Option<Notes>,
    /// Whether it has run before, so that a disk that is not there was lost and must not be replaced by an empty one.
    pub has_run: bool,
    /// The time as the machine's tenant has it: a sandbox's clock may be ahead of the wall's.
    pub now: Timestamp,
}

/// How large a machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Virtual processors, 1 or more.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Root disk in GiB.
    pub disk_gib: u32,
}

/// What a driver wants to find again; opaque to everybody else, at most 4 KiB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notes(pub String);

/// What a machine is asked to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Its processors run, in the boot with this number. A machine that runs in an earlier boot is not touched: it is
    /// stopped first.
    Running {
        /// Rises by one with every wished boot, from 1.
        boot: i64,
    },
    /// Its disk is made, its processors do not run.
    Stopped {
        /// How to get there.
        how: Stop,
    },
}

/// How a machine is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The guest is asked to shut down.
    Graceful,
    /// The power is cut.
    Forced,
}

/// What there is of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Nothing.
    Absent,
    /// On its way; look again at the time given.
    Busy {
        /// What it is doing, for people: `making the disk`, `shutting down`.
        doing: String,
        /// When looking again is worth it.
        again_at: Timestamp,
    },
    /// Its disk is there, its processors do not run.
    Stopped {
        /// Why its processors do not run.
        why: Halt,
    },
    /// Its processors run.
    Running {
        /// The boot it is in.
        boot: i64,
        /// Where it is reached.
        address: Address,
        /// The SSH host key it presents (one OpenSSH line), when the driver gave it one.
        ssh_host_key: Option<String>,
    },
}

/// Why processors do not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Halt {
    /// They never ran since the disk was made.
    Fresh,
    /// They were asked to stop, by us or by the guest itself.
    ShutDown,
    /// They stopped by themselves; the text says what is known, for people.
    Died(String),
}

/// What a driver saw and wants written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What there is.
    pub seen: Seen,
    /// To be kept in the machine's row instead of the earlier notes; `None` leaves them.
    pub notes: Option<Notes>,
}

/// Why a driver could not do something.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// Trying again will not help; the text is for the tenant and says what a person can do.
    #[error("{0}")]
    Refused(String),
    /// The host is short of something; the text is for the tenant.
    #[error("{0}")]
    NoCapacity(String),
    /// May pass; the text is for the log.
    #[error("{context}")]
    Passing {
        /// What was tried.
        context: String,
        /// Why it failed.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

/// Whether a driver can run computes now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Availability {
    /// It can.
    Available,
    /// It can't; the text is for tenants and says what the operator can do.
    Unavailable(String),
}

/// What a driver can tell about its host, for `doctor` and the region list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Whether computes can run now.
    pub availability: Availability,
    /// What the host has in all, before any overcommit.
    pub capacity: Capacity,
}

/// A hypervisor. Every method is idempotent and bounded in time.
#[async_trait::async_trait]
pub trait Driver: Send + Sync + fmt::Debug {
    /// The name by which regions ask for it: `qemu`, `simulator`.
    fn name(&self) -> &'static str;

    /// What the host can do now; cheap enough for every request (answers are cached by the driver).
    fn host(&self) -> Host;

    /// Whether nothing is really run. What there is of a machine then follows from its notes and [`Machine::now`] alone,
    /// so that it may be asked about, and moved, as of any time since its last move.
    fn is_simulated(&self) -> bool {
        false
    }

    /// Refuses a machine with these labels before anything of it is made. Labels mean something to simulations only.
    fn check_labels(&self, _labels: &[(String, String)]) -> Result<(), DriverError> {
        Ok(())
    }

    /// What there is of the machine. Changes nothing.
    async fn observe(&self, machine: &Machine) -> Result<Report, DriverError>;

    /// Takes one move towards the goal and says what there is then. Called again until it is reached.
    /// A machine that is absent is made first.
    async fn converge(&self, machine: &Machine, goal: Goal) -> Result<Report, DriverError>;

    /// Removes every trace of the machine, running or not; nothing there is success.
    async fn discard(&self, id: ComputeId) -> Result<(), DriverError>;

    /// Makes the disk of a machine that does not run at least [`Machine::disk_gib`] large and says what there is then; asked
    /// again while it is [`Seen::Busy`]. A disk that is as large already, or larger, stays as it is; nothing there is success,
    /// since the disk will be made as large. A machine that is not stopped is an error and left as it is.
    async fn grow(&self, machine: &Machine) -> Result<Report, DriverError>;

    /// Throws the disk away and says what there is then: [`Seen::Absent`], or [`Seen::Stopped`] with [`Halt::Fresh`] where
    /// the new disk takes no time. The next [`Driver::converge`] makes it from the image anew. Nothing there is success; a
    /// machine that is not stopped is an error and left as it is, and so is one whose image could not be made a disk of.
    async fn wipe(&self, machine: &Machine) -> Result<Report, DriverError>;

    /// Every machine of which there is any trace on the host, for the search for orphans.
    async fn machines(&self) -> Result<Vec<ComputeId>, DriverError>;

    /// The last `bytes_max` bytes of the serial console, as the guest wrote them: hostile until escaped.
    async fn console(&self, machine: &Machine, bytes_max: usize) -> Result<Vec<u8>, DriverError>;

    /// What each machine that runs used until now, in no order. One that does not answer in time is left out; simulations
    /// leave out all, see [`Driver::imagined`].
    async fn measure(&self) -> Result<Vec<(ComputeId, Counters)>, DriverError>;

    /// What a simulated machine has counted at `at` since it was started at `began_at`; `None` of one that is really run.
    /// A function of its arguments alone, so that a series is there for any time, without anybody having looked.
    fn imagined(&self, _id: ComputeId, _shape: Shape, _began_at: Timestamp, _at: Timestamp) -> Option<Counters> {
        None
    }

    /// A terminal on the serial console of a machine that runs, beginning with the last `bytes_max` bytes that it wrote. It ends
    /// with the machine's run as far as this driver sees it: where several servers share a simulation, another may stop it.
    async fn terminal(&self, machine: &Machine, bytes_max: usize) -> Result<Terminal, TerminalError>;

    /// Ends when the state of some machine may have changed by itself, and names it.
    async fn changed(&self) -> ComputeId;
}
