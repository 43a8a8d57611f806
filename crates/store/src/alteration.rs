//! What is being made of computes that are resized or rebuilt, until they have become that.
//!
//! A row is there from the request to the moment at which the compute's own row says so (or the attempt has failed). Who
//! writes one of the two writes the other, so the compute's version guards both. Quotas and capacity are the caller's.

use nephos_model::compute::Alteration;
use nephos_model::id::ComputeId;
use nephos_model::tenant::TenantId;

use crate::batch::Statement;
use crate::convert::Model;
use crate::error::Result;
use crate::value::Row;
use crate::{Store, params, sql};

sql! {
    /// A compute is to become this.
    pub ALTERATION_INSERT = "INSERT INTO alterations (tenant, compute_id, size, vcpus, memory_mib, disk_gib, image_id, image)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    /// What a compute is to become.
    indexed pub ALTERATION_GET = "SELECT size, vcpus, memory_mib, disk_gib, image_id, image FROM alterations
        WHERE tenant = $1 AND compute_id = $2";
    /// It has become that, or will not.
    pub ALTERATION_DELETE = "DELETE FROM alterations WHERE tenant = $1 AND compute_id = $2";
}

/// A compute is to become this.
pub fn insert(tenant: TenantId, compute: ComputeId, alteration: &Alteration) -> Statement {
    let (size, image) = match alteration {
        Alteration::Size { name, vcpus, memory_mib, disk_gib } => {
            (Some((&**name, *vcpus, *memory_mib, *disk_gib)), None)
        }
        Alteration::Image { id, name } => (None, Some((*id, &**name))),
    };
    ALTERATION_INSERT.bind(params![
        tenant,
        compute,
        size.map(|s| s.0),
        size.map(|s| s.1),
        size.map(|s| s.2),
        size.map(|s| s.3),
        image.map(|i| i.0),
        image.map(|i| i.1)
    ])
}

/// It has become that, or will not.
pub fn delete(tenant: TenantId, compute: ComputeId) -> Statement {
    ALTERATION_DELETE.bind(params![tenant, compute])
}

fn decode(row: &Row) -> Result<Alteration> {
    Ok(match row.opt_string(0)? {
        Some(name) => Alteration::Size { name, vcpus: row.u32(1)?, memory_mib: row.u32(2)?, disk_gib: row.u32(3)? },
        None => Alteration::Image { id: row.id(4)?, name: row.string(5)? },
    })
}

impl Store {
    /// What a compute is to become.
    pub async fn alteration(&self, tenant: TenantId, compute: ComputeId) -> Result<Option<Alteration>> {
        self.one(ALTERATION_GET.bind(params![tenant, compute]), decode).await
    }
}
