//! Letters on their way: sealed rows that wait for a mail server, each sent at least once and tried within a bound.
//!
//! What a letter says is sealed, because it may hold a link that is a credential; it is forgotten when the letter has
//! ended. Deliberately not here: texts, the schedule of tries, and mail servers.

use std::time::Duration;

use nephos_model::Timestamp;
use nephos_model::id::{KeyId, WorkspaceId};

use crate::batch::{Miss, Statement};
use crate::convert::Model;
use crate::error::Result;
use crate::value::Row;
use crate::{Store, params, sql};

/// Greater than every id.
const LAST_ID: &str = "mail_~";
/// Somebody else has the letter in hand, or it has ended.
pub const TAKEN: Miss = Miss("letter taken");

sql! {
    /// A letter to one address, unless it had one about the same already.
    pub MAIL_INSERT = "INSERT INTO mails (id, recipient, about, kind, workspace_id, sealed, attempts, due_at, expires_at,
        created_at) VALUES ($1, $2, $3, $4, $5, $6, 0, $7, $8, $7) ON CONFLICT (about, recipient) DO NOTHING";
    /// The same letter to every Owner of a workspace.
    pub MAIL_INSERT_OWNERS = "INSERT INTO mails (id, recipient, about, kind, workspace_id, sealed, attempts, due_at,
        expires_at, created_at)
        SELECT CAST($1 AS TEXT), u.email, CAST($2 AS TEXT), CAST($3 AS TEXT), m.workspace_id, $5, 0,
            CAST($6 AS BIGINT), CAST($7 AS BIGINT), CAST($6 AS BIGINT)
        FROM members m JOIN users u ON u.id = m.user_id WHERE m.workspace_id = $4 AND m.role = 'owner'
        ON CONFLICT (about, recipient) DO NOTHING";
    /// Letters that are due, the longest due first.
    indexed pub MAIL_DUE = "SELECT id, recipient, kind, sealed, attempts, created_at, expires_at FROM mails
        WHERE due_at <= $1 AND ended_at IS NULL ORDER BY due_at, id LIMIT $2";
    /// When the next letter is due.
    indexed pub MAIL_NEXT = "SELECT due_at FROM mails WHERE due_at >= $1 AND ended_at IS NULL ORDER BY due_at LIMIT 1";
    /// Takes a letter in hand: nobody else does before `$4`.
    pub MAIL_TAKE = "UPDATE mails SET attempts = attempts + 1, due_at = $4
        WHERE id = $1 AND recipient = $2 AND attempts = $3 AND ended_at IS NULL";
    /// A try failed; the next is due at `$4`.
    pub MAIL_RETRY = "UPDATE mails SET due_at = $4, last_error = $5
        WHERE id = $1 AND recipient = $2 AND attempts = $3 AND ended_at IS NULL";
    /// A letter was sent or given up. What it said is forgotten.
    pub MAIL_END = "UPDATE mails SET ended_at = $4, last_error = $5, sealed = NULL
        WHERE id = $1 AND recipient = $2 AND attempts = $3 AND ended_at IS NULL";
    /// Letters that ended long ago.
    pub MAIL_EXPIRE = "DELETE FROM mails WHERE ended_at IS NOT NULL AND ended_at < $1";
    /// Keys that end soon, with the address of their member, unless it was told.
    pub MAIL_KEYS_EXPIRING = "SELECT k.id, k.name, k.hint, k.expires_at, w.name, u.email FROM api_keys k
        JOIN workspaces w ON w.id = k.workspace_id AND w.deleted_at IS NULL
        JOIN members m ON m.id = k.member_id JOIN users u ON u.id = m.user_id
        WHERE k.expires_at > $1 AND k.expires_at <= $2 AND k.expires_at - k.created_at >= $3 AND k.revoked_at IS NULL
        AND NOT EXISTS (SELECT 1 FROM mails l WHERE l.about = 'key expires ' || k.id AND l.recipient = u.email)
        ORDER BY k.expires_at, k.id LIMIT $4";
    /// Workspaces whose keys called an operation lately, unless they were told about the same.
    pub MAIL_STILL_CALLING = "SELECT DISTINCT w.id, w.name FROM deprecated_calls d
        JOIN api_keys k ON k.id = d.key_id AND k.revoked_at IS NULL
        JOIN workspaces w ON w.id = k.workspace_id AND w.deleted_at IS NULL
        WHERE d.operation = $1 AND d.last_called_at > $2
        AND NOT EXISTS (SELECT 1 FROM mails l WHERE l.about = $3 || w.id) ORDER BY w.id LIMIT $4";
    /// The newest letters, for the operator.
    indexed pub MAIL_LIST = "SELECT id, recipient, kind, attempts, due_at, last_error, created_at, ended_at FROM mails
        WHERE id < $2 ORDER BY id DESC, recipient DESC LIMIT $1";
}

/// A letter to be sent.
#[derive(Debug, Clone)]
pub struct NewMail {
    /// Its id, `mail_…`: the same for every recipient, and what its text is sealed for.
    pub id: String,
    /// What it is about: an address gets one letter about it.
    pub about: String,
    /// What kind of letter it is.
    pub kind: &'static str,
    /// The workspace on whose account it is sent.
    pub workspace_id: Option<WorkspaceId>,
    /// The sealed text.
    pub sealed: Vec<u8>,
    /// From when on nobody needs it any more.
    pub expires_at: Timestamp,
    /// When it was written.
    pub created_at: Timestamp,
}

/// A letter that is due.
#[derive(Debug, Clone)]
pub struct Due {
    /// Its id.
    pub id: String,
    /// To whom.
    pub recipient: String,
    /// What kind of letter it is.
    pub kind: String,
    /// The sealed text.
    pub sealed: Vec<u8>,
    /// Tries so far.
    pub attempts: i64,
    /// When it was written.
    pub created_at: Timestamp,
    /// From when on nobody needs it any more.
    pub expires_at: Timestamp,
}

/// A letter as the operator sees it: never its text.
#[derive(Debug, Clone)]
pub struct Told {
    /// Its id.
    pub id: String,
    /// To whom.
    pub recipient: String,
    /// What kind of letter it is.
    pub kind: String,
    /// Tries so far.
    pub attempts: i64,
    /// When it is tried next, while it has not ended.
    pub due_at: Timestamp,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// When it was written.
    pub created_at: Timestamp,
    /// When it was sent or given up.
    pub ended_at: Option<Timestamp>,
}

/// A key that ends soon.
#[derive(Debug, Clone)]
pub struct Expiring {
    /// The key.
    pub id: KeyId,
    /// Its name.
    pub name: String,
    /// What is shown of its secret.
    pub hint: String,
    /// When it ends.
    pub expires_at: Timestamp,
    /// The name of its workspace.
    pub workspace: String,
    /// The e-mail address of its member.
    pub recipient: String,
}

/// What the letter about a key's end is about, as the query for such keys has it.
pub fn about_expiry(key: KeyId) -> String {
    format!("key expires {key}")
}

fn expiring(row: &Row) -> Result<Expiring> {
    Ok(Expiring {
        id: row.id(0)?,
        name: row.string(1)?,
        hint: row.string(2)?,
        expires_at: row.time(3)?,
        workspace: row.string(4)?,
        recipient: row.string(5)?,
    })
}

fn due(row: &Row) -> Result<Due> {
    Ok(Due {
        id: row.string(0)?,
        recipient: row.string(1)?,
        kind: row.string(2)?,
        sealed: row.blob(3)?.to_vec(),
        attempts: row.int(4)?,
        created_at: row.time(5)?,
        expires_at: row.time(6)?,
    })
}

fn told(row: &Row) -> Result<Told> {
    Ok(Told {
        id: row.string(0)?,
        recipient: row.string(1)?,
        kind: row.string(2)?,
        attempts: row.int(3)?,
        due_at: row.time(4)?,
        last_error: row.opt_string(5)?,
        created_at: row.time(6)?,
        ended_at: row.opt_time(7)?,
    })
}

/// A letter to one address, due at once.
pub fn to(recipient: &str, m: NewMail) -> Statement {
    let row = params![m.id, recipient, m.about, m.kind, m.workspace_id, m.sealed, m.created_at, m.expires_at];
    MAIL_INSERT.bind(row)
}

/// A letter to every Owner that a workspace has at the commit, due at once.
pub fn to_owners(workspace: WorkspaceId, m: NewMail) -> Statement {
    MAIL_INSERT_OWNERS.bind(params![m.id, m.about, m.kind, workspace, m.sealed, m.created_at, m.expires_at])
}

/// Takes a letter in hand until `until`, or misses with [`TAKEN`].
pub fn take(letter: &Due, until: Timestamp) -> Statement {
    MAIL_TAKE.bind(params![&letter.id, &letter.recipient, letter.attempts, until]).must(1, TAKEN)
}

/// A try failed: the next is due at `at`. `letter` is as it was before it was taken.
pub fn retry(letter: &Due, at: Timestamp, error: &str) -> Statement {
    MAIL_RETRY.bind(params![&letter.id, &letter.recipient, letter.attempts + 1, at, error]).must(1, TAKEN)
}

/// A letter was sent, or given up with an error. `letter` is as it was before it was taken.
pub fn end(letter: &Due, at: Timestamp, error: Option<&str>) -> Statement {
    MAIL_END.bind(params![&letter.id, &letter.recipient, letter.attempts + 1, at, error]).must(1, TAKEN)
}

/// Forgets letters that ended before `before`.
pub fn expire(before: Timestamp) -> Statement {
    MAIL_EXPIRE.bind(params![before])
}

impl Store {
    /// Letters that are due at `now`, at most `limit`.
    pub async fn mails_due(&self, now: Timestamp, limit: u32) -> Result<Vec<Due>> {
        self.all(MAIL_DUE.bind(params![now, limit]), due).await
    }

    /// When the next letter is due.
    pub async fn mail_next(&self) -> Result<Option<Timestamp>> {
        self.one(MAIL_NEXT.bind(params![Timestamp::from_micros(0)]), |row| row.time(0)).await
    }

    /// Keys of a life of at least `life_min` that end after `now` and not after `until`, and of which nobody was told; at
    /// most `limit`.
    pub async fn keys_expiring(
        &self,
        now: Timestamp,
        until: Timestamp,
        life_min: Duration,
        limit: u32,
    ) -> Result<Vec<Expiring>> {
        let life_us = i64::try_from(life_min.as_micros()).unwrap_or(i64::MAX);
        self.all(MAIL_KEYS_EXPIRING.bind(params![now, until, life_us, limit]), expiring).await
    }

    /// Workspaces, with their names, whose keys called an operation after `since`, and that had no letter about `about`
    /// with their id behind it; at most `limit`.
    pub async fn still_calling(
        &self,
        operation: &str,
        since: Timestamp,
        about: &str,
        limit: u32,
    ) -> Result<Vec<(WorkspaceId, String)>> {
        let rows = MAIL_STILL_CALLING.bind(params![operation, since, about, limit]);
        self.all(rows, |row| Ok((row.id(0)?, row.string(1)?))).await
    }

    /// The newest letters, at most `limit`.
    pub async fn mails(&self, limit: u32) -> Result<Vec<Told>> {
        self.all(MAIL_LIST.bind(params![limit, LAST_ID]), told).await
    }
}
