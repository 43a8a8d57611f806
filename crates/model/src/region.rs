//! Regions: where computes run.

/// A region as the configuration has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// The name by which it is asked for, such as `local`; a hostname label.
    pub name: String,
    /// The name of the driver that runs its computes.
    pub driver: String,
    /// Whether live workspaces or their sandboxes see it.
    pub mode: crate::tenant::Mode,
}

/// What a region can hold. `u64::MAX` stands for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Virtual processors.
    pub vcpus: u64,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Disk in GiB.
    pub disk_gib: u64,
}
