//! What somebody does to the audit log who can write the database and may not.

use nephos_model::tenant::TenantId;

use crate::batch::Statement;
use crate::{params, sql};

sql! {
    /// Says another status of a row.
    TAMPER_ALTER = "UPDATE audit_log SET status = 204 WHERE tenant = $1 AND seq = $2";
    /// Removes a row.
    TAMPER_REMOVE = "DELETE FROM audit_log WHERE tenant = $1 AND seq = $2";
    /// Moves a row to another number.
    TAMPER_MOVE = "UPDATE audit_log SET seq = $3 WHERE tenant = $1 AND seq = $2";
    /// Gives a row the link of another.
    TAMPER_LINK = "UPDATE audit_log SET chain = (SELECT o.chain FROM audit_log o WHERE o.tenant = $1 AND o.seq = $3)
        WHERE tenant = $1 AND seq = $2";
}

/// Says another status of a row.
pub fn alter(tenant: TenantId, seq: i64) -> Statement {
    TAMPER_ALTER.bind(params![tenant, seq])
}

/// Removes a row.
pub fn remove(tenant: TenantId, seq: i64) -> Statement {
    TAMPER_REMOVE.bind(params![tenant, seq])
}

/// Moves a row to another number.
pub fn shift(tenant: TenantId, seq: i64, to: i64) -> Statement {
    TAMPER_MOVE.bind(params![tenant, seq, to])
}

/// Gives a row the link of another.
pub fn link(tenant: TenantId, seq: i64, of: i64) -> Statement {
    TAMPER_LINK.bind(params![tenant, seq, of])
}
