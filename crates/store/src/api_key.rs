//! API keys, and what is known of a credential.

use nephos_model::Timestamp;
use nephos_model::api_key::ApiKey;
use nephos_model::id::{EnvironmentId, KeyId, MemberId, ProjectId, WorkspaceId};
use nephos_model::page::{Listed, Page};
use nephos_model::role::Role;
use nephos_model::scope::{Scope, Scopes};
use nephos_model::tenant::{Mode, TenantId};

use crate::batch::Statement;
use crate::convert::Model;
use crate::error::Result;
use crate::list::rows_max;
use crate::project::STALE;
use crate::value::Row;
use crate::{Store, Value, counter, params, sql};

/// The quota that counts the keys that were not revoked; it is the total of their list as well.
const COUNTER: &str = "quota.api_keys";

macro_rules! columns {
    () => {
        "k.id, k.member_id, k.name, k.hint, k.mode, k.scopes, k.project_id, k.environment_id, k.allowed_ips,
         k.expires_at, k.previous_until_at, k.revoked_at, k.last_used_at, k.version, k.created_at, k.updated_at"
    };
}

macro_rules! credential {
    ($previous:literal, $hash:literal) => {
        concat!(
            "SELECT ",
            columns!(),
            ", ",
            $previous,
            ", k.workspace_id, m.role, w.plan, w.suspended_at, t.id, t.clock_ahead_us, k.hash, k.previous_hash
            FROM api_keys k JOIN members m ON m.id = k.member_id JOIN workspaces w ON w.id = k.workspace_id AND w.deleted_at IS NULL
            JOIN tenants t ON t.workspace_id = k.workspace_id AND t.mode = k.mode AND t.is_current = 1
            WHERE k.",
            $hash,
            " = $1"
        )
    };
}

sql! {
    /// What a credential is, by the hash of its secret: the present one or the one before.
    indexed pub CREDENTIAL = concat!(credential!("0", "hash"), " UNION ALL ", credential!("1", "previous_hash"));
    /// What a key is, by its id: for a token, which names it.
    indexed pub CREDENTIAL_OF_KEY = credential!("0", "id");
    /// A new key.
    pub API_KEY_INSERT = "INSERT INTO api_keys (id, workspace_id, mode, member_id, name, hint, hash, scopes, project_id,
        environment_id, allowed_ips, expires_at, version, created_at, updated_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 1, $13, $13)";
    /// One key that was not revoked.
    indexed pub API_KEY_GET = concat!("SELECT ", columns!(), " FROM api_keys k
        WHERE k.id = $3 AND k.workspace_id = $1 AND k.mode = $2 AND k.revoked_at IS NULL");
    /// A page of keys.
    indexed pub API_KEY_LIST = concat!("SELECT ", columns!(), " FROM api_keys k
        WHERE k.workspace_id = $1 AND k.mode = $2 AND k.revoked_at IS NULL AND k.id < $3
        ORDER BY k.id DESC LIMIT $4 OFFSET $5");
    /// A page of keys narrowed to a project, and perhaps an environment: what a key narrowed so sees.
    indexed pub API_KEY_LIST_NARROWED = concat!("SELECT ", columns!(), " FROM api_keys k
        WHERE k.workspace_id = $1 AND k.mode = $2 AND k.project_id = $6 AND k.revoked_at IS NULL AND k.id < $3
        AND (CAST($7 AS TEXT) IS NULL OR k.environment_id = $7) ORDER BY k.id DESC LIMIT $4 OFFSET $5");
    /// A page of keys with a name, within what a narrowed key sees.
    indexed pub API_KEY_LIST_NAMED = concat!("SELECT ", columns!(), " FROM api_keys k
        WHERE k.workspace_id = $1 AND k.mode = $2 AND k.name = $8 AND k.revoked_at IS NULL AND k.id < $3
        AND (CAST($6 AS TEXT) IS NULL OR k.project_id = $6) AND (CAST($7 AS TEXT) IS NULL OR k.environment_id = $7)
        ORDER BY k.id DESC LIMIT $4 OFFSET $5");
    /// How many of those.
    indexed pub API_KEY_COUNT_NAMED = "SELECT COUNT(*) FROM api_keys k
        WHERE k.workspace_id = $1 AND k.mode = $2 AND k.name = $5 AND k.revoked_at IS NULL
        AND (CAST($3 AS TEXT) IS NULL OR k.project_id = $3) AND (CAST($4 AS TEXT) IS NULL OR k.environment_id = $4)";
    /// How many keys are narrowed so.
    indexed pub API_KEY_COUNT_NARROWED = "SELECT COUNT(*) FROM api_keys k
        WHERE k.workspace_id = $1 AND k.mode = $2 AND k.project_id = $3 AND k.revoked_at IS NULL
        AND (CAST($4 AS TEXT) IS NULL OR k.environment_id = $4)";
    /// Another name.
    pub API_KEY_RENAME = "UPDATE api_keys SET name = $3, version = version + 1, updated_at = $4
        WHERE id = $1 AND version = $2 AND revoked_at IS NULL";
    /// Another secret; the present one goes on working until a time, if one is given.
    pub API_KEY_ROTATE = "UPDATE api_keys SET
        previous_hash = CASE WHEN CAST($5 AS BIGINT) IS NULL THEN NULL ELSE hash END, previous_until_at = $5,
        hash = $3, hint = $4, version = version + 1, updated_at = $6
        WHERE id = $1 AND version = $2 AND revoked_at IS NULL";
    /// No more key.
    pub API_KEY_REVOKE = "UPDATE api_keys SET revoked_at = $3, version = version + 1, updated_at = $3
        WHERE id = $1 AND version = $2 AND revoked_at IS NULL";
    /// The key still is as it was read.
    pub API_KEY_HOLD = "UPDATE api_keys SET version = version WHERE id = $1 AND version = $2 AND revoked_at IS NULL";
    /// When a key was last used, unless something later is known.
    pub API_KEY_USED = "UPDATE api_keys SET last_used_at = $2
        WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $2)";
    /// The keys of a member, of both modes.
    indexed pub API_KEYS_OF = concat!("SELECT ", columns!(), " FROM api_keys k
        WHERE k.member_id = $1 AND k.revoked_at IS NULL ORDER BY k.id LIMIT $2");
    /// How many those are, up to a limit.
    indexed pub API_KEYS_OF_COUNT = "SELECT COUNT(*) FROM (SELECT 1 FROM api_keys k
        WHERE k.member_id = $1 AND k.revoked_at IS NULL ORDER BY k.id LIMIT $2) AS keys";
    /// The keys of a member of one mode stop working.
    pub API_KEYS_OF_REVOKE = "UPDATE api_keys SET revoked_at = $3, updated_at = $3, version = version + 1
        WHERE member_id = $1 AND mode = $2 AND revoked_at IS NULL";
    /// Gives the keys narrowed to a project or environment back to the quota.
    pub API_KEYS_UNCOUNT = "UPDATE counters SET value = value - (SELECT COUNT(*) FROM api_keys k
        WHERE k.workspace_id = $2 AND k.mode = $3 AND k.project_id = $4 AND k.revoked_at IS NULL
        AND (CAST($5 AS TEXT) IS NULL OR k.environment_id = $5))
        WHERE tenant = $1 AND noun = 'quota.api_keys' AND scope = ''";
    /// The keys narrowed to a project or environment stop working.
    pub API_KEYS_REVOKE = "UPDATE api_keys SET revoked_at = $5, updated_at = $5, version = version + 1
        WHERE workspace_id = $1 AND mode = $2 AND project_id = $3 AND revoked_at IS NULL
        AND (CAST($4 AS TEXT) IS NULL OR environment_id = $4)";
    /// A page of all keys that are narrowed to some project, newest first.
    indexed pub API_KEY_LIST_ANY_NARROWED = concat!("SELECT ", columns!(), " FROM api_keys k
        WHERE k.workspace_id = $1 AND k.mode = $2 AND k.revoked_at IS NULL AND k.project_id IS NOT NULL AND k.id < $3
        ORDER BY k.id DESC LIMIT $4");
    /// All keys that are narrowed to some project stop working.
    pub API_KEYS_REVOKE_NARROWED = "UPDATE api_keys SET revoked_at = $3, updated_at = $3, version = version + 1
        WHERE workspace_id = $1 AND mode = $2 AND project_id IS NOT NULL AND revoked_at IS NULL";
    /// The quota of a tenant counts the keys that there are.
    pub API_KEYS_RECOUNT = "UPDATE counters SET value = (SELECT COUNT(*) FROM api_keys k
        WHERE k.workspace_id = $2 AND k.mode = $3 AND k.revoked_at IS NULL)
        WHERE tenant = $1 AND noun = 'quota.api_keys' AND scope = ''";
}

fn decode(row: &Row) -> Result<ApiKey> {
    let addresses = row.opt_text(8)?.unwrap_or_default().split(' ').filter(|word| !word.is_empty());
    let scopes = row.opt_text(5)?.map(|text| {
        let scopes = text.split(' ').filter(|word| !word.is_empty()).map(str::parse::<Scope>);
        scopes.collect::<Result<Scopes, ()>>().map_err(|()| row.unexpected(5, "scopes"))
    });
    Ok(ApiKey {
        id: row.id(0)?,
        member_id: row.id(1)?,
        name: row.string(2)?,
        hint: row.string(3)?,
        mode: row.parse(4, "a mode")?,
        scopes: scopes.transpose()?,
        project_id: row.opt_id(6)?,
        environment_id: row.opt_id(7)?,
        allowed_ips: addresses.map(str::to_owned).collect(),
        expires_at: row.opt_time(9)?,
        previous_until_at: row.opt_time(10)?,
        revoked_at: row.opt_time(11)?,
        last_used_at: row.opt_time(12)?,
        version: row.int(13)?,
        created_at: row.time(14)?,
        updated_at: row.time(15)?,
    })
}

/// What is known of a credential: all that decides what it may do.
#[derive(Debug, Clone)]
pub struct Credential {
    /// The key.
    pub key: ApiKey,
    /// Whether the secret is the one before the last rotation.
    pub is_previous: bool,
    /// The key's workspace.
    pub workspace_id: WorkspaceId,
    /// The role of the key's member now.
    pub role: Role,
    /// Name of the workspace's plan.
    pub plan: String,
    /// Since when the workspace is suspended.
    pub suspended_at: Option<Timestamp>,
    /// The current tenant of workspace and mode.
    pub tenant: TenantId,
    /// How far the tenant's clock is ahead of the wall's, in microseconds.
    pub clock_ahead_us: i64,
    /// The hash of the key's present secret.
    pub hash: Vec<u8>,
    /// The hash of the secret before the last rotation, while that works.
    pub previous_hash: Option<Vec<u8>>,
}

fn decode_credential(row: &Row) -> Result<Credential> {
    Ok(Credential {
        key: decode(row)?,
        is_previous: row.int(16)? == 1,
        workspace_id: row.id(17)?,
        role: row.parse(18, "a role")?,
        plan: row.string(19)?,
        suspended_at: row.opt_time(20)?,
        tenant: TenantId(row.int(21)?),
        clock_ahead_us: row.int(22)?,
        hash: row.blob(23)?.to_vec(),
        previous_hash: row.opt_blob(24)?.map(<[u8]>::to_vec),
    })
}

/// Adds a key and counts it against the quota, of which `limit` is the most, or misses with [`counter::QUOTA`].
pub fn insert(tenant: TenantId, workspace: WorkspaceId, k: &ApiKey, hash: [u8; 32], limit: i64) -> [Statement; 2] {
    let scopes = k.scopes.map(|s| s.iter().map(|s| s.to_string()).collect::<Vec<_>>().join(" "));
    let addresses = if k.allowed_ips.is_empty() { None } else { Some(k.allowed_ips.join(" ")) };
    [
        counter::take(tenant, COUNTER, 1, limit),
        API_KEY_INSERT.bind(params![
            k.id,
            workspace,
            k.mode.as_str(),
            k.member_id,
            &k.name,
            &k.hint,
            hash,
            scopes,
            k.project_id,
            k.environment_id,
            addresses,
            k.expires_at,
            k.created_at
        ]),
    ]
}

/// Renames a key that still has its version, or misses with [`STALE`].
pub fn rename(k: &ApiKey, name: &str, now: Timestamp) -> Statement {
    API_KEY_RENAME.bind(params![k.id, k.version, name, now]).must(1, STALE)
}

/// Gives a key that still has its version another secret, or misses with [`STALE`].
pub fn rotate(k: &ApiKey, hash: [u8; 32], hint: &str, grace_until: Option<Timestamp>, now: Timestamp) -> Statement {
    API_KEY_ROTATE.bind(params![k.id, k.version, hash, hint, grace_until, now]).must(1, STALE)
}

/// Revokes a key that still has its version, or misses with [`STALE`].
pub fn revoke(tenant: TenantId, k: &ApiKey, now: Timestamp) -> [Statement; 2] {
    [API_KEY_REVOKE.bind(params![k.id, k.version, now]).must(1, STALE), counter::give_back(tenant, COUNTER, 1)]
}

/// A key that gives another one its rights still has its version, or this misses with [`STALE`].
pub fn hold(k: &ApiKey) -> Statement {
    API_KEY_HOLD.bind(params![k.id, k.version]).must(1, STALE)
}

/// The keys narrowed to a project, or to one environment of it, stop working.
pub fn revoke_narrowed(
    tenant: TenantId,
    workspace: WorkspaceId,
    mode: Mode,
    project: ProjectId,
    environment: Option<EnvironmentId>,
    now: Timestamp,
) -> [Statement; 2] {
    [
        API_KEYS_UNCOUNT.bind(params![tenant, workspace, mode.as_str(), project, environment]),
        API_KEYS_REVOKE.bind(params![workspace, mode.as_str(), project, environment, now]),
    ]
}

/// The `count` keys that a member has in a tenant's mode stop working; misses with [`STALE`] when there are others by now.
pub fn revoke_of(tenant: TenantId, mode: Mode, member: MemberId, count: u64, now: Timestamp) -> Vec<Statement> {
    let revoke = API_KEYS_OF_REVOKE.bind(params![member, mode.as_str(), now]).must(count, STALE);
    // A count is that of rows in memory: far below 2^63.
    let back = i64::try_from(count).unwrap_or(i64::MAX);
    let back = (back > 0).then(|| counter::give_back(tenant, COUNTER, back));
    [revoke].into_iter().chain(back).collect()
}

/// A workspace's keys in a new epoch: those that are narrowed to a project stop working, since it is gone, and the
/// others count against the new tenant's quota. Every write of keys holds its tenant, see [`crate::tenant::hold_epoch`].
pub fn carry_over(to: TenantId, workspace: WorkspaceId, mode: Mode, now: Timestamp) -> [Statement; 2] {
    [
        API_KEYS_REVOKE_NARROWED.bind(params![workspace, mode.as_str(), now]),
        API_KEYS_RECOUNT.bind(params![to, workspace, mode.as_str()]),
    ]
}

/// When a key was last used.
pub fn used(id: KeyId, at: Timestamp) -> Statement {
    API_KEY_USED.bind(params![id, at])
}

impl Store {
    /// The newest `limit` keys before `before` that are narrowed to some project.
    pub async fn narrowed_keys(
        &self,
        workspace: WorkspaceId,
        mode: Mode,
        before: &str,
        limit: u32,
    ) -> Result<Vec<ApiKey>> {
        self.all(API_KEY_LIST_ANY_NARROWED.bind(params![workspace, mode.as_str(), before, limit]), decode).await
    }

    /// What is known of a credential, by the hash of its secret.
    pub async fn credential(&self, hash: [u8; 32]) -> Result<Option<Credential>> {
        self.one(CREDENTIAL.bind(params![hash]), decode_credential).await
    }

    /// What is known of a key, by its id, whichever of its secrets is meant.
    pub async fn credential_of_key(&self, id: KeyId) -> Result<Option<Credential>> {
        self.one(CREDENTIAL_OF_KEY.bind(params![id]), decode_credential).await
    }

    /// One key that was not revoked.
    pub async fn api_key(&self, workspace: WorkspaceId, mode: Mode, id: KeyId) -> Result<Option<ApiKey>> {
        self.one(API_KEY_GET.bind(params![workspace, mode.as_str(), id]), decode).await
    }

    /// The keys of a member, of both modes, at most `limit`.
    pub async fn api_keys_of(&self, member: MemberId, limit: u32) -> Result<Vec<ApiKey>> {
        self.all(API_KEYS_OF.bind(params![member, limit]), decode).await
    }

    /// How many keys a member has, of both modes, or `limit` when there are more.
    pub async fn api_keys_of_count(&self, member: MemberId, limit: u32) -> Result<i64> {
        Ok(self.one(API_KEYS_OF_COUNT.bind(params![member, limit]), |row| row.int(0)).await?.unwrap_or(0))
    }

    /// A page of the keys that were not revoked, newest first; only those narrowed to `only` when it is given.
    pub async fn api_keys(
        &self,
        tenant: TenantId,
        workspace: WorkspaceId,
        mode: Mode,
        only: Option<(ProjectId, Option<EnvironmentId>)>,
        name: Option<&str>,
        page: &Page,
    ) -> Result<Listed<ApiKey>> {
        let mut values: Vec<Value> = params![workspace, mode.as_str(), page.before(), rows_max(page), page.offset()];
        let (rows, total) = match (only, name) {
            (only, Some(name)) => {
                let (project, environment) = (only.map(|o| o.0), only.and_then(|o| o.1));
                values.extend(params![project, environment, name]);
                let count = params![workspace, mode.as_str(), project, environment, name];
                (API_KEY_LIST_NAMED.bind(values), API_KEY_COUNT_NAMED.bind(count))
            }
            (None, None) => (API_KEY_LIST.bind(values), counter::get(tenant, COUNTER, "")),
            (Some((project, environment)), None) => {
                values.extend(params![project, environment]);
                let count = params![workspace, mode.as_str(), project, environment];
                (API_KEY_LIST_NARROWED.bind(values), API_KEY_COUNT_NARROWED.bind(count))
            }
        };
        self.page(rows, total, page, decode).await
    }
}
