//! Sizes: what a compute can be.

/// A choice of processors, memory and disk, with its price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Size {
    /// The name by which it is asked for, such as `small`; a hostname label.
    pub name: String,
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Root disk in GiB.
    pub disk_gib: u32,
    /// Price of a running hour, in millionths of the installation's currency.
    pub running_microunits_per_hour: i64,
    /// Price of a stopped hour, in millionths of the installation's currency.
    pub stopped_microunits_per_hour: i64,
}
