//! The audit log's rows: written with the change, numbered and chained as [`crate::sequence`] has it.

use nephos_model::Timestamp;
use nephos_model::event::Actor;
use nephos_model::id::{AuditId, MemberId, ProjectId};
use nephos_model::tenant::TenantId;

use crate::batch::{Shared, Statement};
use crate::convert::Model;
use crate::error::Result;
use crate::sequence::Content;
use crate::{Store, params, sql};

sql! {
    /// A row, not yet numbered.
    pub AUDIT_INSERT = "INSERT INTO audit_pending (id, tenant, action, resource_id, project_id, actor_kind, actor_id,
        member_id, address, client_request_id, request_id, before_state, after_state, status, created_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)";
    /// A row with its number and its link of the chain.
    pub AUDIT_APPEND = "INSERT INTO audit_log (id, tenant, action, resource_id, project_id, actor_kind, actor_id,
        member_id, address, client_request_id, request_id, before_state, after_state, status, created_at, seq, chain)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)";
    /// The oldest rows that wait for their number.
    pub AUDIT_PENDING = "SELECT id, tenant, action, resource_id, project_id, actor_kind, actor_id, member_id,
        address, client_request_id, request_id, before_state, after_state, status, created_at
        FROM audit_pending ORDER BY id LIMIT $1";
    /// Gives one row its number and its link of the chain.
    pub AUDIT_SEQUENCE = "INSERT INTO audit_log (tenant, seq, id, action, resource_id, project_id, actor_kind, actor_id,
        member_id, address, client_request_id, request_id, before_state, after_state, status, created_at, chain)
        SELECT tenant, $2, id, action, resource_id, project_id, actor_kind, actor_id, member_id, address,
        client_request_id, request_id, before_state, after_state, status, created_at, $3
        FROM audit_pending WHERE id = $1";
    /// Up to [`crate::event::SEQUENCED_AT_ONCE`] rows wait no more.
    pub AUDIT_SEQUENCED = "DELETE FROM audit_pending WHERE id IN ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)";
}

/// A row of the audit log that is about to be written.
#[derive(Debug, Clone)]
pub struct NewAudit {
    /// Its id.
    pub id: AuditId,
    /// `noun.verb`, as the endpoint is called.
    pub action: &'static str,
    /// What it was done to.
    pub resource_id: Option<String>,
    /// Its project.
    pub project_id: Option<ProjectId>,
    /// Who did it.
    pub actor: Actor,
    /// The member behind the actor.
    pub member_id: Option<MemberId>,
    /// The client's IP address.
    pub address: Option<String>,
    /// The request id that the client sent, untrusted.
    pub client_request_id: Option<String>,
    /// Our request id, as a UUID.
    pub request_id: String,
    /// The resource before, as JSON text.
    pub before: Option<String>,
    /// The resource after, as JSON text.
    pub after: Option<String>,
    /// The HTTP status of the answer.
    pub status: u16,
    /// When.
    pub created_at: Timestamp,
}

/// Writes a row in the transaction that makes the change.
pub fn insert(tenant: TenantId, a: NewAudit) -> Statement {
    AUDIT_INSERT
        .bind(params![
            a.id,
            tenant,
            a.action,
            a.resource_id,
            a.project_id,
            a.actor.kind(),
            a.actor.id(),
            a.member_id,
            a.address,
            a.client_request_id,
            a.request_id,
            a.before,
            a.after,
            a.status,
            a.created_at
        ])
        .shared(Shared::Audit)
}

/// A row that waits for its number: its id, its tenant, and the bytes that the chain covers.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// The row.
    pub id: AuditId,
    /// Whose.
    pub tenant: TenantId,
    /// Every column, each with its length before it, so that no two rows have the same bytes.
    pub content: Vec<u8>,
}

impl Store {
    /// The oldest `limit` rows that wait for their number.
    pub async fn audit_waiting(&self, limit: u32) -> Result<Vec<Waiting>> {
        self.all(AUDIT_PENDING.bind(params![limit]), |row| {
            let mut content = Content::default();
            for column in 0..15 {
                match column {
                    1 | 13 | 14 => content.push(Some(row.int(column)?.to_string().as_bytes())),
                    _ => content.push(row.opt_text(column)?.map(str::as_bytes)),
                }
            }
            Ok(Waiting { id: row.id(0)?, tenant: TenantId(row.int(1)?), content: content.finish() })
        })
        .await
    }
}
