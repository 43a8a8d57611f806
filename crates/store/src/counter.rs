//! Exact numbers of rows, kept in the transaction that changes them, and what is used of a quota.

use nephos_model::tenant::TenantId;

use crate::batch::{Miss, Shared, Statement};
use crate::error::Result;
use crate::{Store, params, sql};

/// A quota has no room for what was asked.
pub const QUOTA: Miss = Miss("quota");

sql! {
    /// Adds to a counter that may not exist yet.
    pub COUNTER_ADD = "INSERT INTO counters (tenant, noun, scope, value) VALUES ($1, $2, $3, $4)
        ON CONFLICT (tenant, noun, scope) DO UPDATE SET value = counters.value + excluded.value";
    /// Makes sure that a counter exists.
    pub COUNTER_ENSURE = "INSERT INTO counters (tenant, noun, scope, value) VALUES ($1, $2, '', 0)
        ON CONFLICT (tenant, noun, scope) DO NOTHING";
    /// Adds to a counter only up to a limit.
    pub COUNTER_TAKE = "UPDATE counters SET value = value + $3
        WHERE tenant = $1 AND noun = $2 AND scope = '' AND value + $3 <= $4";
    /// One counter.
    pub COUNTER_GET = "SELECT value FROM counters WHERE tenant = $1 AND noun = $2 AND scope = $3";
    /// All counters with an empty scope: at most one for each noun.
    pub COUNTERS_ALL = "SELECT noun, value FROM counters WHERE tenant = $1 AND scope = '' ORDER BY noun LIMIT 100";
    /// Forgets a counter if it stands at zero.
    pub COUNTER_DROP_ZERO = "DELETE FROM counters WHERE tenant = $1 AND noun = $2 AND scope = $3 AND value = 0";
    /// Forgets the counters of a scope that was deleted.
    pub COUNTERS_DROP = "DELETE FROM counters WHERE tenant = $1 AND noun = $2 AND scope = $3";
}

/// Adds `by` to the number of `noun` in `scope`.
pub fn add(tenant: TenantId, noun: &'static str, scope: impl Into<String>, by: i64) -> Statement {
    COUNTER_ADD.bind(params![tenant, noun, scope.into(), by]).shared(Shared::Add)
}

/// What quotas are counted by; every tenant has each from its beginning.
pub const QUOTAS: &[&str] = &[
    "quota.projects",
    "quota.computes",
    "quota.vcpus",
    "quota.memory_mib",
    "quota.disk_gib",
    "quota.api_keys",
    "quota.ssh_keys",
    "quota.webhooks",
];

/// The quota counters of a new tenant, at zero.
pub fn open(tenant: TenantId) -> impl Iterator<Item = Statement> {
    QUOTAS.iter().map(move |noun| COUNTER_ENSURE.bind(params![tenant, *noun]))
}

/// Adds `by` to what is used of a quota (one of [`QUOTAS`]), or misses with [`QUOTA`] when more than `limit` would be.
pub fn take(tenant: TenantId, noun: &'static str, by: i64, limit: i64) -> Statement {
    debug_assert!(QUOTAS.contains(&noun));
    COUNTER_TAKE.bind(params![tenant, noun, by, limit]).must(1, QUOTA).shared(Shared::Take)
}

/// Gives `by` back to a quota.
pub fn give_back(tenant: TenantId, noun: &'static str, by: i64) -> Statement {
    debug_assert!(QUOTAS.contains(&noun));
    add(tenant, noun, "", -by)
}

/// The statement that reads a counter; no row is zero.
pub(crate) fn get(tenant: TenantId, noun: &'static str, scope: impl Into<String>) -> Statement {
    COUNTER_GET.bind(params![tenant, noun, scope.into()])
}

/// Forgets the number of `noun` in `scope`.
pub fn forget(tenant: TenantId, noun: &'static str, scope: impl Into<String>) -> Statement {
    COUNTERS_DROP.bind(params![tenant, noun, scope.into()])
}

/// Forgets the number of `noun` in `scope` if it is zero; guard it with the meaning of "not empty".
pub fn forget_zero(tenant: TenantId, noun: &'static str, scope: impl Into<String>) -> Statement {
    COUNTER_DROP_ZERO.bind(params![tenant, noun, scope.into()])
}

impl Store {
    /// Every counter of a tenant that is not kept per project.
    pub async fn counters(&self, tenant: TenantId) -> Result<Vec<(String, i64)>> {
        self.all(COUNTERS_ALL.bind(params![tenant]), |row| Ok((row.text(0)?.to_owned(), row.int(1)?))).await
    }
}
