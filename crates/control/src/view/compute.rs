//! Computes and what they are made of.

use std::collections::BTreeMap;

use nephos_driver::Availability;
use nephos_model::compute::Compute;
use nephos_model::image::Image;
use nephos_model::price::SizePrice;
use nephos_model::size::Size;
use nephos_model::ssh_key::SshKey;
use schemars::JsonSchema;
use serde::Serialize;

use super::time;

/// Where a compute is reached.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Address")]
pub struct AddressView {
    /// Host name or IP address for SSH.
    pub ssh_host: String,
    /// TCP port for SSH.
    pub ssh_port: u16,
    /// Its address in its environment's private network.
    pub private_ip: Option<String>,
}

/// A compute instance.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Compute")]
pub struct ComputeView {
    /// Its id, `cmp_…`.
    pub id: String,
    /// Its name, a hostname label unique in its environment.
    pub name: String,
    /// Its project.
    pub project_id: String,
    /// Its environment.
    pub environment_id: String,
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
    pub image_id: String,
    /// Name of its image.
    pub image: String,
    /// What it is doing: `provisioning`, `running`, `stopping`, `stopped`, `starting`, `rebooting`, `resizing`,
    /// `rebuilding` or `failed`.
    pub status: String,
    /// Why it is in this status, when a person should know.
    pub reason: Option<String>,
    /// What happens when it stops by itself: `never` or `on_failure`.
    pub restart_policy: String,
    /// Whether deleting and rebuilding it are refused.
    pub protected: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Where it is reached while it runs.
    pub address: Option<AddressView>,
    /// The SSH host key that it presents, pinned before its first boot.
    pub ssh_host_key: Option<String>,
    /// The operation under way.
    pub operation_id: Option<String>,
    /// When it was made.
    pub created_at: String,
    /// When it last changed.
    pub updated_at: String,
    /// When its processors last began to run.
    pub started_at: Option<String>,
}

impl From<&Compute> for ComputeView {
    fn from(c: &Compute) -> Self {
        Self {
            id: c.id.to_string(),
            name: c.name.clone(),
            project_id: c.project_id.to_string(),
            environment_id: c.environment_id.to_string(),
            region: c.region.clone(),
            size: c.size.clone(),
            vcpus: c.vcpus,
            memory_mib: c.memory_mib,
            disk_gib: c.disk_gib,
            image_id: c.image_id.to_string(),
            image: c.image.clone(),
            status: c.status.as_str().to_owned(),
            reason: c.reason.clone(),
            restart_policy: c.restart_policy.as_str().to_owned(),
            protected: c.protected,
            labels: crate::compute::labels(c),
            address: c.address.as_ref().map(|a| AddressView {
                ssh_host: a.ssh_host.clone(),
                ssh_port: a.ssh_port,
                private_ip: a.private_ip.clone(),
            }),
            ssh_host_key: c.ssh_host_key.clone(),
            operation_id: c.operation_id.map(|id| id.to_string()),
            created_at: time(c.created_at),
            updated_at: time(c.updated_at),
            started_at: c.started_at.map(time),
        }
    }
}

/// An image that computes boot from.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Image")]
pub struct ImageView {
    /// Its id, `img_…`.
    pub id: String,
    /// Its name, a hostname label.
    pub name: String,
    /// A sentence for people.
    pub description: String,
    /// SHA-256 of the disk file, hexadecimal.
    pub checksum: String,
    /// Bytes of the disk file.
    pub size_bytes: u64,
    /// Least memory to boot it, in MiB.
    pub min_memory_mib: u32,
    /// Least root disk to hold it, in GiB.
    pub min_disk_gib: u32,
    /// The user to log in as.
    pub login_user: String,
    /// When it was added.
    pub created_at: String,
}

impl From<&Image> for ImageView {
    fn from(i: &Image) -> Self {
        Self {
            id: i.id.to_string(),
            name: i.name.clone(),
            description: i.description.clone(),
            checksum: i.checksum.clone(),
            size_bytes: i.size_bytes,
            min_memory_mib: i.min_memory_mib,
            min_disk_gib: i.min_disk_gib,
            login_user: i.login_user.clone(),
            created_at: time(i.created_at),
        }
    }
}

/// A size on offer.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Size")]
pub struct SizeView {
    /// Its name, by which it is asked for.
    pub name: String,
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Root disk in GiB.
    pub disk_gib: u32,
    /// The currency of the prices, ISO 4217.
    pub currency: String,
    /// Price of a running hour, in millionths of the currency.
    pub running_microunits_per_hour: i64,
    /// Price of a stopped hour, in millionths of the currency.
    pub stopped_microunits_per_hour: i64,
}

impl SizeView {
    /// A size with what it costs now, in the installation's currency.
    pub fn of(s: &Size, price: SizePrice, currency: &str) -> Self {
        Self {
            name: s.name.clone(),
            vcpus: s.vcpus,
            memory_mib: s.memory_mib,
            disk_gib: s.disk_gib,
            currency: currency.to_owned(),
            running_microunits_per_hour: price.running_microunits_per_hour,
            stopped_microunits_per_hour: price.stopped_microunits_per_hour,
        }
    }
}

/// A region.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Region")]
pub struct RegionView {
    /// Its name, by which it is asked for.
    pub name: String,
    /// The driver that runs its computes.
    pub driver: String,
    /// Whether computes can be made in it now.
    pub available: bool,
    /// Why not.
    pub reason: Option<String>,
}

impl RegionView {
    /// A region with what its driver says.
    pub fn of(name: &str, driver: &str, availability: Availability) -> Self {
        let reason = match availability {
            Availability::Available => None,
            Availability::Unavailable(reason) => Some(reason),
        };
        Self { name: name.to_owned(), driver: driver.to_owned(), available: reason.is_none(), reason }
    }
}

/// An SSH public key.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "SshKey")]
pub struct SshKeyView {
    /// Its id, `ssh_…`.
    pub id: String,
    /// Its name, unique in the workspace.
    pub name: String,
    /// Algorithm and base64.
    pub public_key: String,
    /// As OpenSSH prints it.
    pub fingerprint: String,
    /// When it was added.
    pub created_at: String,
}

impl From<&SshKey> for SshKeyView {
    fn from(k: &SshKey) -> Self {
        Self {
            id: k.id.to_string(),
            name: k.name.clone(),
            public_key: k.public_key.clone(),
            fingerprint: k.fingerprint.clone(),
            created_at: time(k.created_at),
        }
    }
}
