//! The installation itself: what the master key is known by, whether there was an `init`, and the newest ids.

use nephos_model::Timestamp;
use nephos_model::id::{AuditId, EventId, Id, ImageId, KeyId, MemberId, Raw, WorkspaceId};
use nephos_model::tenant::TenantId;

use crate::batch::{Miss, Statement};
use crate::convert::Model;
use crate::error::Result;
use crate::value::Row;
use crate::{Store, params, sql};

/// There was an `init` already.
pub const INITIALIZED: Miss = Miss("initialized");
/// Tenants whose newest ids are looked up in one read.
const TENANTS_AT_ONCE: u32 = 512;

sql! {
    /// The installation.
    indexed pub INSTALLATION_GET = "SELECT canary, initialized_at FROM installation WHERE id = 1";
    /// Keeps the first canary that there is.
    pub INSTALLATION_CANARY = "INSERT INTO installation (id, canary, initialized_at, created_at) VALUES (1, $1, NULL, $2)
        ON CONFLICT (id) DO UPDATE SET canary = CASE WHEN installation.canary IS NULL THEN excluded.canary
        ELSE installation.canary END";
    /// Makes sure that there is an installation.
    pub INSTALLATION_ENSURE = "INSERT INTO installation (id, canary, initialized_at, created_at) VALUES (1, NULL, NULL, $1)
        ON CONFLICT (id) DO NOTHING";
    /// There was an `init` from now on.
    pub INSTALLATION_INITIALIZE = "UPDATE installation SET initialized_at = $1 WHERE id = 1 AND initialized_at IS NULL";
    /// A tenant's newest event.
    indexed pub EVENT_LAST = "SELECT id FROM events WHERE tenant = $1 ORDER BY id DESC LIMIT 1";
    /// A tenant's newest row of the audit log.
    indexed pub AUDIT_LAST = "SELECT id FROM audit_log WHERE tenant = $1 ORDER BY seq DESC LIMIT 1";
    /// The newest event that waits for its number.
    indexed pub EVENT_PENDING_LAST = "SELECT id FROM events_pending WHERE id < $1 ORDER BY id DESC LIMIT 1";
    /// The newest row of the audit log that waits for its number.
    indexed pub AUDIT_PENDING_LAST = "SELECT id FROM audit_pending WHERE id < $1 ORDER BY id DESC LIMIT 1";
    /// The newest API key.
    indexed pub API_KEY_LAST = "SELECT id FROM api_keys WHERE id < $1 ORDER BY id DESC LIMIT 1";
    /// The newest workspace.
    indexed pub WORKSPACE_LAST = "SELECT id FROM workspaces WHERE id < $1 ORDER BY id DESC LIMIT 1";
    /// The newest member.
    indexed pub MEMBER_LAST = "SELECT id FROM members WHERE id < $1 ORDER BY id DESC LIMIT 1";
    /// The newest image.
    indexed pub IMAGE_LAST = "SELECT id FROM images WHERE id < $1 ORDER BY id DESC LIMIT 1";
}

/// Marks the installation as initialized, or misses with [`INITIALIZED`].
pub fn initialize(now: Timestamp) -> [Statement; 2] {
    [INSTALLATION_ENSURE.bind(params![now]), INSTALLATION_INITIALIZE.bind(params![now]).must(1, INITIALIZED)]
}

impl Store {
    /// What the master key is known by, if it was kept already.
    pub async fn canary(&self) -> Result<Option<Vec<u8>>> {
        let found = self.one(INSTALLATION_GET.bind(params![]), |row| Ok(row.opt_blob(0)?.map(<[u8]>::to_vec))).await?;
        Ok(found.flatten())
    }

    /// Keeps a canary unless there is one, and answers the one that is kept.
    pub async fn keep_canary(&self, canary: Vec<u8>, now: Timestamp) -> Result<Option<Vec<u8>>> {
        self.write(INSTALLATION_CANARY.bind(params![canary, now]).into()).await?;
        self.canary().await
    }

    /// When there was an `init`.
    pub async fn initialized_at(&self) -> Result<Option<Timestamp>> {
        Ok(self.one(INSTALLATION_GET.bind(params![]), |row| row.opt_time(1)).await?.flatten())
    }

    /// The largest identifier there is. Every change leaves an event or a row of the audit log whose id is younger than
    /// what it is about, so those say it for all that tenants own.
    pub async fn newest_id(&self) -> Result<Option<Raw>> {
        // The text that sorts after every id.
        const END: &str = "~";
        let mut newest = None;
        let mut take = |rows: &[Row], read: fn(&Row) -> Result<Raw>| -> Result<()> {
            for row in rows {
                newest = newest.max(Some(read(row)?));
            }
            Ok(())
        };
        let global: [(&'static crate::Sql, fn(&Row) -> Result<Raw>); 6] = [
            (&EVENT_PENDING_LAST, |row| Ok(row.id::<EventId>(0)?.raw())),
            (&AUDIT_PENDING_LAST, |row| Ok(row.id::<AuditId>(0)?.raw())),
            (&API_KEY_LAST, |row| Ok(row.id::<KeyId>(0)?.raw())),
            (&WORKSPACE_LAST, |row| Ok(row.id::<WorkspaceId>(0)?.raw())),
            (&MEMBER_LAST, |row| Ok(row.id::<MemberId>(0)?.raw())),
            (&IMAGE_LAST, |row| Ok(row.id::<ImageId>(0)?.raw())),
        ];
        for (sql, read) in global {
            take(&self.read(sql.bind(params![END])).await?, read)?;
        }
        let mut after = TenantId(0);
        loop {
            let tenants = self.tenants(after, TENANTS_AT_ONCE).await?;
            let Some(last) = tenants.last() else { return Ok(newest) };
            after = last.id;
            let statements =
                tenants.iter().flat_map(|t| [EVENT_LAST.bind(params![t.id]), AUDIT_LAST.bind(params![t.id])]).collect();
            for (i, rows) in self.read_all(statements).await?.iter().enumerate() {
                let read: fn(&Row) -> Result<Raw> = if i % 2 == 0 {
                    |row| Ok(row.id::<EventId>(0)?.raw())
                } else {
                    |row| Ok(row.id::<AuditId>(0)?.raw())
                };
                take(rows, read)?;
            }
        }
    }
}
