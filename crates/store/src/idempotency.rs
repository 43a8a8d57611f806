//! What was answered to a request with an idempotency key, written with its effect.

use nephos_model::Timestamp;
use nephos_model::id::{EnvironmentId, MemberId, ProjectId};
use nephos_model::tenant::TenantId;

use crate::batch::{Miss, Statement};
use crate::convert::Model;
use crate::error::Result;
use crate::{Store, params, sql};

/// Another request with the same key committed first.
pub const DUPLICATE: Miss = Miss("duplicate");

sql! {
    /// A record, unless there is a living one. An expired one makes room.
    pub IDEMPOTENCY_PUT = "INSERT INTO idempotency (tenant, key_hash, fingerprint, member_id, project_id, environment_id,
        status, body, is_sealed, location, etag, preference_applied, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
        ON CONFLICT (tenant, key_hash) DO UPDATE SET fingerprint = excluded.fingerprint, member_id = excluded.member_id,
        project_id = excluded.project_id, environment_id = excluded.environment_id, status = excluded.status,
        body = excluded.body, is_sealed = excluded.is_sealed, location = excluded.location, etag = excluded.etag,
        preference_applied = excluded.preference_applied, expires_at = excluded.expires_at
        WHERE idempotency.expires_at <= $14";
    /// One living record.
    indexed pub IDEMPOTENCY_GET = "SELECT fingerprint, member_id, project_id, environment_id, status, body, is_sealed,
        location, etag, preference_applied FROM idempotency WHERE tenant = $1 AND key_hash = $2 AND expires_at > $3";
    /// Another body, as long as nothing secret is in it.
    pub IDEMPOTENCY_AMEND = "UPDATE idempotency SET body = $3, etag = $4, preference_applied = $5
        WHERE tenant = $1 AND key_hash = $2 AND is_sealed = 0";
    /// Forgets expired records.
    pub IDEMPOTENCY_EXPIRE = "DELETE FROM idempotency WHERE expires_at <= $1";
}

/// Where a key counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scope {
    /// Whose: workspace, mode and epoch.
    pub tenant: TenantId,
    /// SHA-256 of surface, method, concrete path and key.
    pub key_hash: [u8; 32],
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// SHA-256 of the query and the canonical body.
    pub fingerprint: Vec<u8>,
    /// Who asked.
    pub member_id: MemberId,
    /// The project of the object, which a narrowed key must see for a replay.
    pub project_id: Option<ProjectId>,
    /// The environment of the object.
    pub environment_id: Option<EnvironmentId>,
    /// The first status.
    pub status: u16,
    /// The first body, or its sealed form.
    pub body: Vec<u8>,
    /// Whether the body is sealed with a key that only the idempotency key gives.
    pub is_sealed: bool,
    /// The first `Location`.
    pub location: Option<String>,
    /// The first `ETag`.
    pub etag: Option<String>,
    /// The first `Preference-Applied`.
    pub preference_applied: Option<String>,
}

/// Writes a record in the transaction of the effect, or misses with [`DUPLICATE`]. Before the effect in its batch it
/// leaves nothing to undo when it misses.
pub fn insert(scope: &Scope, r: Record, expires_at: Timestamp, now: Timestamp) -> Statement {
    IDEMPOTENCY_PUT
        .bind(params![
            scope.tenant,
            scope.key_hash,
            r.fingerprint,
            r.member_id,
            r.project_id,
            r.environment_id,
            r.status,
            r.body,
            r.is_sealed,
            r.location,
            r.etag,
            r.preference_applied,
            expires_at,
            now
        ])
        .must(1, DUPLICATE)
}

/// Replaces what a record answers, or misses with [`DUPLICATE`] when it is not there.
pub fn amend(s: &Scope, body: Vec<u8>, etag: Option<String>, preference_applied: Option<String>) -> Statement {
    IDEMPOTENCY_AMEND.bind(params![s.tenant, s.key_hash, body, etag, preference_applied]).must(1, DUPLICATE)
}

impl Store {
    /// The record of a key that has not expired at `now`.
    pub async fn idempotency(&self, s: &Scope, now: Timestamp) -> Result<Option<Record>> {
        let statement = IDEMPOTENCY_GET.bind(params![s.tenant, s.key_hash, now]);
        self.one(statement, |row| {
            Ok(Record {
                fingerprint: row.blob(0)?.to_vec(),
                member_id: row.id(1)?,
                project_id: row.opt_id(2)?,
                environment_id: row.opt_id(3)?,
                status: u16::try_from(row.int(4)?).map_err(|_| row.unexpected(4, "a status"))?,
                body: row.blob(5)?.to_vec(),
                is_sealed: row.flag(6)?,
                location: row.opt_string(7)?,
                etag: row.opt_string(8)?,
                preference_applied: row.opt_string(9)?,
            })
        })
        .await
    }
}
