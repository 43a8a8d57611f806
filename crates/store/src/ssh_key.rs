//! SSH public keys of a tenant.

use nephos_model::id::SshKeyId;
use nephos_model::page::{Listed, Page};
use nephos_model::ssh_key::SshKey;
use nephos_model::tenant::TenantId;

use crate::batch::{Miss, Statement};
use crate::convert::Model;
use crate::error::Result;
use crate::list::rows_max;
use crate::project::STALE;
use crate::value::Row;
use crate::{Store, counter, params, sql};

/// The name or the key is there already.
pub const TAKEN: Miss = Miss("ssh_key_taken");

macro_rules! columns {
    () => {
        "id, name, public_key, fingerprint, version, created_at, updated_at"
    };
}

sql! {
    /// A new key, unless its name or the key itself is there.
    pub SSH_KEY_INSERT = "INSERT INTO ssh_keys (tenant, id, name, public_key, fingerprint, version, created_at, updated_at)
        VALUES ($1, $2, $3, $4, $5, 1, $6, $6) ON CONFLICT DO NOTHING";
    /// One key.
    indexed pub SSH_KEY_GET = concat!("SELECT ", columns!(), " FROM ssh_keys WHERE tenant = $1 AND id = $2");
    /// One key by name.
    indexed pub SSH_KEY_NAMED = concat!("SELECT ", columns!(), " FROM ssh_keys WHERE tenant = $1 AND name = $2");
    /// Whether a name or a fingerprint is taken.
    pub SSH_KEY_TAKEN = "SELECT COUNT(*) FROM ssh_keys WHERE tenant = $1 AND (name = $2 OR fingerprint = $3)";
    /// A page of keys.
    indexed pub SSH_KEY_LIST = concat!("SELECT ", columns!(),
        " FROM ssh_keys WHERE tenant = $1 AND id < $2 ORDER BY id DESC LIMIT $3 OFFSET $4");
    /// A page of at most one: those with a name.
    indexed pub SSH_KEY_LIST_NAMED = concat!("SELECT ", columns!(),
        " FROM ssh_keys WHERE tenant = $1 AND name = $5 AND id < $2 ORDER BY id DESC LIMIT $3 OFFSET $4");
    /// Whether there is one with a name.
    indexed pub SSH_KEY_COUNT_NAMED = "SELECT COUNT(*) FROM ssh_keys WHERE tenant = $1 AND name = $2";
    /// No more key.
    pub SSH_KEY_DELETE = "DELETE FROM ssh_keys WHERE tenant = $1 AND id = $2 AND version = $3";
}

fn decode(row: &Row) -> Result<SshKey> {
    Ok(SshKey {
        id: row.id(0)?,
        name: row.string(1)?,
        public_key: row.string(2)?,
        fingerprint: row.string(3)?,
        version: row.int(4)?,
        created_at: row.time(5)?,
        updated_at: row.time(6)?,
    })
}

/// Adds a key and counts it, or misses with [`TAKEN`].
pub fn insert(tenant: TenantId, k: &SshKey) -> Vec<Statement> {
    vec![
        SSH_KEY_INSERT.bind(params![tenant, k.id, &k.name, &k.public_key, &k.fingerprint, k.created_at]).must(1, TAKEN),
        counter::add(tenant, "ssh_key", "", 1),
    ]
}

/// Removes a key that still has its version, or misses with [`STALE`].
pub fn delete(tenant: TenantId, k: &SshKey) -> Vec<Statement> {
    vec![SSH_KEY_DELETE.bind(params![tenant, k.id, k.version]).must(1, STALE), counter::add(tenant, "ssh_key", "", -1)]
}

impl Store {
    /// One key.
    pub async fn ssh_key(&self, tenant: TenantId, id: SshKeyId) -> Result<Option<SshKey>> {
        self.one(SSH_KEY_GET.bind(params![tenant, id]), decode).await
    }

    /// One key by its name.
    pub async fn ssh_key_named(&self, tenant: TenantId, name: &str) -> Result<Option<SshKey>> {
        self.one(SSH_KEY_NAMED.bind(params![tenant, name]), decode).await
    }

    /// Whether a key of this name or fingerprint is there.
    pub async fn ssh_key_taken(&self, tenant: TenantId, name: &str, fingerprint: &str) -> Result<bool> {
        let count = self.one(SSH_KEY_TAKEN.bind(params![tenant, name, fingerprint]), |row| row.int(0)).await?;
        Ok(count.unwrap_or(0) > 0)
    }

    /// A page of keys, newest first.
    pub async fn ssh_keys(&self, tenant: TenantId, name: Option<&str>, page: &Page) -> Result<Listed<SshKey>> {
        let mut values = params![tenant, page.before(), rows_max(page), page.offset()];
        let (rows, total) = match name {
            None => (SSH_KEY_LIST.bind(values), counter::get(tenant, "ssh_key", "")),
            Some(name) => {
                values.extend(params![name]);
                (SSH_KEY_LIST_NAMED.bind(values), SSH_KEY_COUNT_NAMED.bind(params![tenant, name]))
            }
        };
        self.page(rows, total, page, decode).await
    }
}
