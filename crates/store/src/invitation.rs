//! Pending invitations. One that was accepted, revoked or expired has no row.

use nephos_model::Timestamp;
use nephos_model::id::{InvitationId, MemberId, WorkspaceId};
use nephos_model::invitation::Invitation;
use nephos_model::page::{Listed, Page};

use crate::batch::Statement;
use crate::convert::Model;
use crate::error::Result;
use crate::list::rows_max;
use crate::project::STALE;
use crate::value::Row;
use crate::{Store, params, sql, workspace};

macro_rules! columns {
    () => {
        "id, email, role, invited_by, expires_at, version, created_at"
    };
}

sql! {
    /// A new invitation, unless the address is invited already or its person is a member.
    pub INVITATION_INSERT = "INSERT INTO invitations (id, workspace_id, email, role, invited_by, hash, expires_at, version,
        created_at) SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS TEXT), CAST($4 AS TEXT), CAST($5 AS TEXT), $6,
        CAST($7 AS BIGINT), 1, CAST($8 AS BIGINT)
        WHERE NOT EXISTS (SELECT 1 FROM members m JOIN users u ON u.id = m.user_id
            WHERE u.email = CAST($3 AS TEXT) AND m.workspace_id = CAST($2 AS TEXT))
        ON CONFLICT (workspace_id, email) DO NOTHING";
    /// One invitation that has not expired.
    indexed pub INVITATION_GET = concat!("SELECT ", columns!(),
        " FROM invitations WHERE id = $2 AND workspace_id = $1 AND expires_at > $3");
    /// The invitation of an address, expired or not.
    indexed pub INVITATION_OF = concat!("SELECT ", columns!(), " FROM invitations WHERE workspace_id = $1 AND email = $2");
    /// A page of invitations that have not expired.
    indexed pub INVITATION_LIST = concat!("SELECT ", columns!(), " FROM invitations
        WHERE workspace_id = $1 AND id < $2 AND expires_at > $5 ORDER BY id DESC LIMIT $3 OFFSET $4");
    /// How many there are: few, since a quota bounds them.
    indexed pub INVITATION_COUNT = "SELECT COUNT(*) FROM invitations WHERE workspace_id = $1 AND expires_at > $2";
    /// What a member invited, expired or not.
    indexed pub INVITATIONS_BY = concat!("SELECT ", columns!(), " FROM invitations
        WHERE workspace_id = $1 AND invited_by = $2 ORDER BY id LIMIT $3");
    /// What a token is, by its hash.
    indexed pub INVITATION_BY_HASH = concat!("SELECT ", columns!(), ", workspace_id FROM invitations WHERE hash = $1");
    /// Those that expired, the longest expired first.
    indexed pub INVITATIONS_EXPIRED = concat!("SELECT ", columns!(), ", workspace_id FROM invitations
        WHERE expires_at <= $1 ORDER BY expires_at, id LIMIT $2");
    /// No more invitation.
    pub INVITATION_DELETE = "DELETE FROM invitations WHERE workspace_id = $1 AND id = $2 AND version = $3";
}

/// An invitation with its workspace.
pub type Of = (Invitation, WorkspaceId);

fn decode(row: &Row) -> Result<Invitation> {
    Ok(Invitation {
        id: row.id(0)?,
        email: row.string(1)?,
        role: row.parse(2, "a role")?,
        invited_by: row.id(3)?,
        expires_at: row.time(4)?,
        version: row.int(5)?,
        created_at: row.time(6)?,
    })
}

fn decode_of(row: &Row) -> Result<Of> {
    Ok((decode(row)?, row.id(7)?))
}

/// Adds an invitation, which takes a seat, of which there are `limit` at most, or misses with
/// [`QUOTA`](crate::counter::QUOTA); with [`STALE`] when the address was invited, or its person became a member, meanwhile.
pub fn insert(workspace: WorkspaceId, i: &Invitation, hash: [u8; 32], limit: i64) -> [Statement; 2] {
    let row = params![i.id, workspace, &i.email, i.role.as_str(), i.invited_by, hash, i.expires_at, i.created_at];
    [workspace::take_seats(workspace, 1, limit), INVITATION_INSERT.bind(row).must(1, STALE)]
}

/// Removes an invitation that is revoked or expired, and frees its seat, or misses with [`STALE`].
pub fn delete(workspace: WorkspaceId, i: &Invitation) -> [Statement; 2] {
    [workspace::free_seats(workspace, 1), accept(workspace, i)]
}

/// Removes an invitation whose person becomes a member and takes its seat, or misses with [`STALE`].
pub fn accept(workspace: WorkspaceId, i: &Invitation) -> Statement {
    INVITATION_DELETE.bind(params![workspace, i.id, i.version]).must(1, STALE)
}

impl Store {
    /// One invitation that has not expired at `now`.
    pub async fn invitation(&self, w: WorkspaceId, id: InvitationId, now: Timestamp) -> Result<Option<Invitation>> {
        self.one(INVITATION_GET.bind(params![w, id, now]), decode).await
    }

    /// The invitation of an e-mail address, expired or not.
    pub async fn invitation_of(&self, workspace: WorkspaceId, email: &str) -> Result<Option<Invitation>> {
        self.one(INVITATION_OF.bind(params![workspace, email]), decode).await
    }

    /// A page of the invitations that have not expired at `now`, newest first.
    pub async fn invitations(&self, w: WorkspaceId, page: &Page, now: Timestamp) -> Result<Listed<Invitation>> {
        let rows = INVITATION_LIST.bind(params![w, page.before(), rows_max(page), page.offset(), now]);
        self.page(rows, INVITATION_COUNT.bind(params![w, now]), page, decode).await
    }

    /// What a member invited and is not accepted, at most `limit`.
    pub async fn invitations_by(&self, w: WorkspaceId, member: MemberId, limit: u32) -> Result<Vec<Invitation>> {
        self.all(INVITATIONS_BY.bind(params![w, member, limit]), decode).await
    }

    /// What a token is, by its hash.
    pub async fn invitation_by_hash(&self, hash: [u8; 32]) -> Result<Option<Of>> {
        self.one(INVITATION_BY_HASH.bind(params![hash]), decode_of).await
    }

    /// Invitations that have expired at `now`, at most `limit`.
    pub async fn invitations_expired(&self, now: Timestamp, limit: u32) -> Result<Vec<Of>> {
        self.all(INVITATIONS_EXPIRED.bind(params![now, limit]), decode_of).await
    }
}
