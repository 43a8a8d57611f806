//! What is admitted in a region, over all tenants: checked and taken in the transaction that makes the compute.

use nephos_model::region::Capacity;

use crate::batch::{Miss, Statement};
use crate::error::Result;
use crate::{Store, params, sql};

/// The region has no room for what was asked.
pub const FULL: Miss = Miss("capacity");

sql! {
    /// Makes sure that a region is counted.
    pub CAPACITY_ENSURE = "INSERT INTO capacity (region, vcpus, memory_mib, disk_gib) VALUES ($1, 0, 0, 0)
        ON CONFLICT (region) DO NOTHING";
    /// Takes from a region what is there.
    pub CAPACITY_TAKE = "UPDATE capacity SET vcpus = vcpus + $2, memory_mib = memory_mib + $3, disk_gib = disk_gib + $4
        WHERE region = $1 AND vcpus + $2 <= $5 AND memory_mib + $3 <= $6 AND disk_gib + $4 <= $7";
    /// Gives back.
    pub CAPACITY_RETURN = "UPDATE capacity SET vcpus = vcpus - $2, memory_mib = memory_mib - $3, disk_gib = disk_gib - $4
        WHERE region = $1";
    /// What is admitted in a region.
    pub CAPACITY_GET = "SELECT vcpus, memory_mib, disk_gib FROM capacity WHERE region = $1";
}

fn number(value: u64) -> i64 {
    // Half of the range, so that adding to it can't overflow.
    i64::try_from(value).unwrap_or(i64::MAX).min(i64::MAX / 2)
}

/// A region of the installation: counted from now on.
pub fn open(region: &str) -> Statement {
    CAPACITY_ENSURE.bind(params![region])
}

/// Takes `wanted` while no more than `limit` is admitted, or misses with [`FULL`].
pub fn take(region: &str, wanted: Capacity, limit: Capacity) -> Statement {
    CAPACITY_TAKE
        .bind(params![
            region,
            number(wanted.vcpus),
            number(wanted.memory_mib),
            number(wanted.disk_gib),
            number(limit.vcpus),
            number(limit.memory_mib),
            number(limit.disk_gib)
        ])
        .must(1, FULL)
}

/// Gives `back`.
pub fn put_back(region: &str, back: Capacity) -> Statement {
    CAPACITY_RETURN.bind(params![region, number(back.vcpus), number(back.memory_mib), number(back.disk_gib)])
}

impl Store {
    /// What is admitted in a region.
    pub async fn admitted(&self, region: &str) -> Result<Capacity> {
        let number = |n: i64| u64::try_from(n).unwrap_or(0);
        let rows = self.read(CAPACITY_GET.bind(params![region])).await?;
        rows.first().map_or(Ok(Capacity { vcpus: 0, memory_mib: 0, disk_gib: 0 }), |row| {
            Ok(Capacity { vcpus: number(row.int(0)?), memory_mib: number(row.int(1)?), disk_gib: number(row.int(2)?) })
        })
    }
}
