//! The audit log: who did what, and whether the log is whole.

use crate::clock::Timestamp;
use crate::id::AuditId;

/// A row of the audit log that has its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub id: AuditId,
    /// Its number, from 1 without gaps.
    pub seq: i64,
    /// `noun.verb`.
    pub action: String,
    /// What it was done to.
    pub resource_id: Option<String>,
    /// The resource's project.
    pub project_id: Option<String>,
    /// Kind of the actor.
    pub actor_kind: String,
    /// Id of the actor, if it has one.
    pub actor_id: Option<String>,
    /// The member behind the actor.
    pub member_id: Option<String>,
    /// The client's address.
    pub address: Option<String>,
    /// The client's own id of the request, untrusted.
    pub client_request_id: Option<String>,
    /// Our id of the request, as a UUID.
    pub request_id: String,
    /// The resource before, as JSON text.
    pub before: Option<String>,
    /// The resource after, as JSON text.
    pub after: Option<String>,
    /// The HTTP status of the answer.
    pub status: u16,
    /// When.
    pub created_at: Timestamp,
    /// Its link of the chain: SHA-256 over the link before, the number and the row.
    pub chain: Vec<u8>,
}

/// What a check of the chain found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Rows that were checked and are whole.
    pub rows: i64,
    /// The number from which on rows are kept.
    pub first_seq: i64,
    /// The last number that was given when the check began.
    pub last_seq: i64,
    /// The link of the last row.
    pub head: Vec<u8>,
    /// The first thing that is wrong.
    pub fault: Option<Fault>,
}

/// What is wrong with the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// There is no row with this number.
    Missing {
        /// The number.
        seq: i64,
    },
    /// The row with this number is not the one that was written under it.
    Altered {
        /// The number.
        seq: i64,
    },
}
