//! The console's links and sessions. Of their secrets there are only hashes.

use nephos_model::Timestamp;
use nephos_model::id::{SessionId, UserId};
use nephos_model::session::{Membership, Session};

use crate::batch::{Miss, Statement};
use crate::convert::Model;
use crate::error::Result;
use crate::value::Row;
use crate::{Store, params, sql};

/// The link was used, or its time is over.
pub const LINK_OVER: Miss = Miss("sign_in_link_over");

macro_rules! columns {
    () => {
        "s.id, s.user_id, u.email, s.address, s.agent, s.seen_at, s.expires_at, s.created_at
         FROM sessions s JOIN users u ON u.id = s.user_id"
    };
}

sql! {
    /// A new link.
    pub SIGN_IN_LINK_INSERT = "INSERT INTO sign_in_links (hash, user_id, expires_at, created_at) VALUES ($1, $2, $3, $4)";
    /// Whose link it is, while it can be used.
    indexed pub SIGN_IN_LINK_GET = "SELECT user_id FROM sign_in_links WHERE hash = $1 AND expires_at > $2";
    /// How many links of a person can be used.
    indexed pub SIGN_IN_LINK_COUNT = "SELECT COUNT(*) FROM sign_in_links WHERE user_id = $1 AND expires_at > $2";
    /// The link was used.
    pub SIGN_IN_LINK_USE = "DELETE FROM sign_in_links WHERE hash = $1 AND expires_at > $2";
    /// Links that can't be used any more.
    pub SIGN_IN_LINKS_EXPIRE = "DELETE FROM sign_in_links WHERE expires_at <= $1";
    /// A new session.
    pub SESSION_INSERT = "INSERT INTO sessions (id, user_id, hash, address, agent, seen_at, expires_at, created_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $6)";
    /// What a secret is, by its hash.
    indexed pub SESSION_BY_HASH = concat!("SELECT ", columns!(), " WHERE s.hash = $1");
    /// A person's sessions, the newest first.
    indexed pub SESSIONS_OF = concat!("SELECT ", columns!(), " WHERE s.user_id = $1 ORDER BY s.id DESC LIMIT $2");
    /// It was used.
    pub SESSION_SEEN = "UPDATE sessions SET seen_at = $2 WHERE id = $1 AND seen_at < $2";
    /// It is over.
    pub SESSION_DELETE = "DELETE FROM sessions WHERE id = $1 AND user_id = $2";
    /// Sessions that are over by age or by rest.
    pub SESSIONS_EXPIRE = "DELETE FROM sessions WHERE expires_at <= $1 OR seen_at <= $2";
    /// The places of a person, the oldest first.
    indexed pub MEMBERSHIPS_OF = "SELECT w.id, w.name, w.plan, w.suspended_at, m.id, m.role
        FROM members m JOIN workspaces w ON w.id = m.workspace_id AND w.deleted_at IS NULL
        WHERE m.user_id = $1 ORDER BY m.id LIMIT $2";
}

fn decode(row: &Row) -> Result<Session> {
    Ok(Session {
        id: row.id(0)?,
        user_id: row.id(1)?,
        email: row.string(2)?,
        address: row.string(3)?,
        agent: row.string(4)?,
        seen_at: row.time(5)?,
        expires_at: row.time(6)?,
        created_at: row.time(7)?,
    })
}

fn decode_membership(row: &Row) -> Result<Membership> {
    Ok(Membership {
        workspace_id: row.id(0)?,
        workspace: row.string(1)?,
        plan: row.string(2)?,
        is_suspended: row.opt_time(3)?.is_some(),
        member_id: row.id(4)?,
        role: row.parse(5, "a role")?,
    })
}

/// Adds a link that signs a person in.
pub fn insert_link(user: UserId, hash: [u8; 32], expires_at: Timestamp, now: Timestamp) -> Statement {
    SIGN_IN_LINK_INSERT.bind(params![hash, user, expires_at, now])
}

/// Uses a link up and begins a session, or misses with [`LINK_OVER`].
pub fn begin(link: [u8; 32], s: &Session, hash: [u8; 32]) -> [Statement; 2] {
    [
        SIGN_IN_LINK_USE.bind(params![link, s.created_at]).must(1, LINK_OVER),
        SESSION_INSERT.bind(params![s.id, s.user_id, hash, &s.address, &s.agent, s.created_at, s.expires_at]),
    ]
}

/// A session was used.
pub fn seen(id: SessionId, at: Timestamp) -> Statement {
    SESSION_SEEN.bind(params![id, at])
}

/// Ends a session of a person; none is there when it is over already.
pub fn end(user: UserId, id: SessionId) -> Statement {
    SESSION_DELETE.bind(params![id, user])
}

/// Removes links and sessions that are over at `now`; sessions also that were not used since `idle`.
pub fn expire(now: Timestamp, idle: Timestamp) -> [Statement; 2] {
    [SIGN_IN_LINKS_EXPIRE.bind(params![now]), SESSIONS_EXPIRE.bind(params![now, idle])]
}

impl Store {
    /// Whose link it is, by its hash, while it can be used.
    pub async fn sign_in_link(&self, hash: [u8; 32], now: Timestamp) -> Result<Option<UserId>> {
        self.one(SIGN_IN_LINK_GET.bind(params![hash, now]), |row| row.id(0)).await
    }

    /// How many links of a person can be used.
    pub async fn sign_in_links(&self, user: UserId, now: Timestamp) -> Result<i64> {
        Ok(self.one(SIGN_IN_LINK_COUNT.bind(params![user, now]), |row| row.int(0)).await?.unwrap_or(0))
    }

    /// What a session's secret is, by its hash, over or not.
    pub async fn session_by_hash(&self, hash: [u8; 32]) -> Result<Option<Session>> {
        self.one(SESSION_BY_HASH.bind(params![hash]), decode).await
    }

    /// A person's sessions, newest first, over or not, at most `limit`.
    pub async fn sessions(&self, user: UserId, limit: u32) -> Result<Vec<Session>> {
        self.all(SESSIONS_OF.bind(params![user, limit]), decode).await
    }

    /// A person's places, the oldest first, at most `limit`.
    pub async fn memberships(&self, user: UserId, limit: u32) -> Result<Vec<Membership>> {
        self.all(MEMBERSHIPS_OF.bind(params![user, limit]), decode_membership).await
    }
}
