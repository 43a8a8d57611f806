//! People and their places in workspaces.

use nephos_model::Timestamp;
use nephos_model::id::{MemberId, UserId, WorkspaceId};
use nephos_model::page::{Listed, Page};
use nephos_model::role::Role;
use nephos_model::workspace::Member;

use crate::batch::Statement;
use crate::convert::Model;
use crate::error::Result;
use crate::list::rows_max;
use crate::project::STALE;
use crate::value::Row;
use crate::{Store, params, sql, workspace};

macro_rules! columns {
    () => {
        "m.id, m.user_id, u.email, m.role, m.version, m.created_at, m.updated_at
         FROM members m JOIN users u ON u.id = m.user_id"
    };
}

sql! {
    /// A new person; a taken e-mail address is a unique violation.
    pub USER_INSERT = "INSERT INTO users (id, email, created_at) VALUES ($1, $2, $3)";
    /// A new person, unless there is one with the e-mail address.
    pub USER_INSERT_NEW = "INSERT INTO users (id, email, created_at) VALUES ($1, $2, $3) ON CONFLICT (email) DO NOTHING";
    /// One person by e-mail address.
    indexed pub USER_BY_EMAIL = "SELECT id FROM users WHERE email = $1";
    /// A new member.
    pub MEMBER_INSERT = "INSERT INTO members (id, workspace_id, user_id, role, version, created_at, updated_at)
        VALUES ($1, $2, $3, $4, 1, $5, $5)";
    /// One member.
    indexed pub MEMBER_GET = concat!("SELECT ", columns!(), " WHERE m.workspace_id = $1 AND m.id = $2");
    /// A page of members.
    indexed pub MEMBER_LIST = concat!("SELECT ", columns!(),
        " WHERE m.workspace_id = $1 AND m.id < $2 ORDER BY m.id DESC LIMIT $3 OFFSET $4");
    /// How many there are: few, since a quota bounds them.
    indexed pub MEMBER_COUNT = "SELECT COUNT(*) FROM members WHERE workspace_id = $1";
    /// Another role.
    pub MEMBER_SET_ROLE = "UPDATE members SET role = $4, version = version + 1, updated_at = $5
        WHERE workspace_id = $1 AND id = $2 AND version = $3";
    /// No more member.
    pub MEMBER_DELETE = "DELETE FROM members WHERE workspace_id = $1 AND id = $2 AND version = $3";
    /// Whether a person is a member, by e-mail address.
    indexed pub MEMBER_BY_EMAIL = concat!("SELECT ", columns!(), " WHERE u.email = $2 AND m.workspace_id = $1");
    /// Takes the lock of a row that still is as it was read.
    pub MEMBER_HOLD_AS = "UPDATE members SET version = version WHERE workspace_id = $1 AND id = $2 AND version = $3";
    /// Takes the row's lock in the transaction that gives the member something.
    pub MEMBER_HOLD = "UPDATE members SET version = version WHERE workspace_id = $1 AND id = $2";
}

fn decode(row: &Row) -> Result<Member> {
    Ok(Member {
        id: row.id(0)?,
        user_id: row.id(1)?,
        email: row.string(2)?,
        role: row.parse(3, "a role")?,
        version: row.int(4)?,
        created_at: row.time(5)?,
        updated_at: row.time(6)?,
    })
}

/// Adds a person.
pub fn insert_user(id: UserId, email: &str, now: Timestamp) -> Statement {
    USER_INSERT.bind(params![id, email, now])
}

/// Adds a person, or misses with [`STALE`] when there is one with the e-mail address by now.
pub fn insert_new_user(id: UserId, email: &str, now: Timestamp) -> Statement {
    USER_INSERT_NEW.bind(params![id, email, now]).must(1, STALE)
}

/// Adds a member who takes a seat, whatever the plan allows.
pub fn insert(workspace: WorkspaceId, m: &Member) -> Vec<Statement> {
    let mut out = vec![workspace::take_seats(workspace, 1, i64::MAX)];
    out.extend(insert_invited(workspace, m));
    out
}

/// Adds a member who takes the seat of an invitation.
pub fn insert_invited(workspace: WorkspaceId, m: &Member) -> Vec<Statement> {
    let row = MEMBER_INSERT.bind(params![m.id, workspace, m.user_id, m.role.as_str(), m.created_at]);
    workspace::count_owner(workspace, None, Some(m.role)).into_iter().chain([row]).collect()
}

/// Gives a member that still has its version another role, or misses with [`STALE`]; with
/// [`workspace::LAST_OWNER`] when no Owner would be left.
pub fn set_role(workspace: WorkspaceId, m: &Member, role: Role, now: Timestamp) -> Vec<Statement> {
    let row = MEMBER_SET_ROLE.bind(params![workspace, m.id, m.version, role.as_str(), now]).must(1, STALE);
    workspace::count_owner(workspace, Some(m.role), Some(role)).into_iter().chain([row]).collect()
}

/// Removes a member that still has its version, or misses with [`STALE`]; with [`workspace::LAST_OWNER`] when no
/// Owner would be left.
pub fn delete(workspace: WorkspaceId, m: &Member) -> Vec<Statement> {
    let row = MEMBER_DELETE.bind(params![workspace, m.id, m.version]).must(1, STALE);
    let seat = workspace::free_seats(workspace, 1);
    workspace::count_owner(workspace, Some(m.role), None).into_iter().chain([seat, row]).collect()
}

/// Holds a member that still has its version, or misses with [`STALE`].
pub fn hold_as(workspace: WorkspaceId, m: &Member) -> Statement {
    MEMBER_HOLD_AS.bind(params![workspace, m.id, m.version]).must(1, STALE)
}

/// Holds a member that gets something; misses with [`STALE`] when it is gone.
pub fn hold(workspace: WorkspaceId, id: MemberId) -> Statement {
    MEMBER_HOLD.bind(params![workspace, id]).must(1, STALE)
}

impl Store {
    /// The person with an e-mail address, in lower case.
    pub async fn user_by_email(&self, email: &str) -> Result<Option<UserId>> {
        self.one(USER_BY_EMAIL.bind(params![email]), |row| row.id(0)).await
    }

    /// One member of a workspace.
    pub async fn member(&self, workspace: WorkspaceId, id: MemberId) -> Result<Option<Member>> {
        self.one(MEMBER_GET.bind(params![workspace, id]), decode).await
    }

    /// The member of a workspace with an e-mail address, in lower case.
    pub async fn member_by_email(&self, workspace: WorkspaceId, email: &str) -> Result<Option<Member>> {
        self.one(MEMBER_BY_EMAIL.bind(params![workspace, email]), decode).await
    }

    /// A page of a workspace's members, newest first.
    pub async fn members(&self, workspace: WorkspaceId, page: &Page) -> Result<Listed<Member>> {
        let rows = MEMBER_LIST.bind(params![workspace, page.before(), rows_max(page), page.offset()]);
        self.page(rows, MEMBER_COUNT.bind(params![workspace]), page, decode).await
    }
}
