//! Which keys called what is deprecated, and which workspaces were told of a deprecation.

use nephos_model::Timestamp;
use nephos_model::id::{KeyId, WorkspaceId};
use nephos_model::tenant::TenantId;

use crate::batch::{Miss, Statement};
use crate::convert::Model;
use crate::error::Result;
use crate::{Store, params, sql};

/// Another process told the workspace.
pub const TOLD: Miss = Miss("told already");

sql! {
    /// When a key last called an operation, unless something later is known. A key that is gone has no calls.
    pub DEPRECATED_CALL_NOTE = "INSERT INTO deprecated_calls (key_id, operation, last_called_at)
        SELECT k.id, $2, $3 FROM api_keys k WHERE k.id = $1
        ON CONFLICT (key_id, operation) DO UPDATE SET last_called_at = excluded.last_called_at
        WHERE deprecated_calls.last_called_at < excluded.last_called_at";
    /// What a key called.
    indexed pub DEPRECATED_CALL_LIST = "SELECT operation, last_called_at FROM deprecated_calls WHERE key_id = $1
        ORDER BY operation LIMIT $2";
    /// Workspaces from before a time that were not told of a subject, with their live tenants.
    pub ANNOUNCEMENT_WANTING = "SELECT w.id, t.id FROM workspaces w
        JOIN tenants t ON t.workspace_id = w.id AND t.mode = 'live' AND t.is_current = 1
        WHERE w.created_at < $2 AND NOT EXISTS
            (SELECT 1 FROM announcements a WHERE a.workspace_id = w.id AND a.subject = $1)
        ORDER BY w.id LIMIT $3";
    /// A workspace is told.
    pub ANNOUNCEMENT_INSERT = "INSERT INTO announcements (workspace_id, subject, created_at) VALUES ($1, $2, $3)
        ON CONFLICT (workspace_id, subject) DO NOTHING";
}

/// A key called an operation at `at`.
pub fn note_call(key: KeyId, operation: &str, at: Timestamp) -> Statement {
    DEPRECATED_CALL_NOTE.bind(params![key, operation, at])
}

/// A workspace is told of a subject, or this misses with [`TOLD`].
pub fn announce(workspace: WorkspaceId, subject: &str, now: Timestamp) -> Statement {
    ANNOUNCEMENT_INSERT.bind(params![workspace, subject, now]).must(1, TOLD)
}

impl Store {
    /// The deprecated operations that a key called, with the time of the last call, at most `limit`.
    pub async fn deprecated_calls(&self, key: KeyId, limit: u32) -> Result<Vec<(String, Timestamp)>> {
        self.all(DEPRECATED_CALL_LIST.bind(params![key, limit]), |row| Ok((row.string(0)?, row.time(1)?))).await
    }

    /// At most `limit` workspaces from before `before` that were not told of a subject, with their live tenants.
    pub async fn announcement_wanting(
        &self,
        subject: &str,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<(WorkspaceId, TenantId)>> {
        let rows = ANNOUNCEMENT_WANTING.bind(params![subject, before, limit]);
        self.all(rows, |row| Ok((row.id(0)?, TenantId(row.int(1)?)))).await
    }
}
