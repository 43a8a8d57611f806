//! Images that computes boot from.

use crate::clock::Timestamp;
use crate::id::ImageId;

/// An image of the installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its id.
    pub id: ImageId,
    /// The name by which it is asked for, such as `small`; a hostname label, unique.
    pub name: String,
    /// A sentence for people.
    pub description: String,
    /// SHA-256 of the disk file, hexadecimal.
    pub checksum: String,
    /// Bytes of the disk file.
    pub size_bytes: u64,
    /// Least memory a compute needs to boot it, in MiB.
    pub min_memory_mib: u32,
    /// Least root disk a compute needs to hold it, in GiB.
    pub min_disk_gib: u32,
    /// The user to log in as.
    pub login_user: String,
    /// How it boots.
    pub boot: Boot,
    /// When it was added.
    pub created_at: Timestamp,
}

/// How an image boots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Boot {
    /// From its own boot loader.
    Disk,
    /// The hypervisor loads a kernel that lies beside the disk file.
    Kernel {
        /// SHA-256 of the kernel file, hexadecimal.
        kernel: String,
        /// SHA-256 of the initial RAM disk, hexadecimal.
        initrd: String,
        /// The kernel's command line.
        command_line: String,
    },
}
