//! Invoices, and up to where each tenant's months are closed.
//!
//! Not here: what an invoice says, which `control` makes and this keeps as it is.

use nephos_model::Timestamp;
use nephos_model::id::{InvoiceId, WorkspaceId};
use nephos_model::page::{Listed, Page};
use nephos_model::tenant::TenantId;

use crate::batch::Statement;
use crate::convert::Model;
use crate::error::Result;
use crate::list::rows_max;
use crate::sequence::OVERTAKEN;
use crate::value::Row;
use crate::{Store, counter, params, sql};

sql! {
    /// A new invoice.
    pub INVOICE_INSERT = "INSERT INTO invoices (tenant, id, number, month, currency, compute_seconds, amount_microunits, body,
        created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    /// Closes months up to a second, if those before are closed up to another.
    pub INVOICE_CLOSE = "INSERT INTO invoice_closings (tenant, closed_before_s) SELECT id, CAST($3 AS BIGINT) FROM tenants
        WHERE id = $1 AND is_current = 1 ON CONFLICT (tenant) DO UPDATE SET closed_before_s = excluded.closed_before_s
        WHERE invoice_closings.closed_before_s = $2";
    /// Workspaces with months to be closed: live tenants in the order of their ids.
    pub INVOICE_DUE = "SELECT t.id, w.id, w.name, t.created_at, COALESCE(c.closed_before_s, 0) FROM tenants t
        JOIN workspaces w ON w.id = t.workspace_id LEFT JOIN invoice_closings c ON c.tenant = t.id
        WHERE t.id > $1 AND t.mode = 'live' AND t.is_current = 1 AND t.created_at < $2
        AND COALESCE(c.closed_before_s, 0) < $3 ORDER BY t.id LIMIT $4";
    /// One invoice, whole.
    indexed pub INVOICE_GET = "SELECT body FROM invoices WHERE tenant = $1 AND id = $2";
    /// A page of invoices.
    indexed pub INVOICE_LIST = "SELECT id, number, month, currency, compute_seconds, amount_microunits, created_at
        FROM invoices WHERE tenant = $1 AND id < $2 ORDER BY id DESC LIMIT $3 OFFSET $4";
    /// A page of at most one: that of a month.
    indexed pub INVOICE_LIST_OF_MONTH = "SELECT id, number, month, currency, compute_seconds, amount_microunits, created_at
        FROM invoices WHERE tenant = $1 AND month = $5 AND id < $2 ORDER BY id DESC LIMIT $3 OFFSET $4";
    /// Whether there is one of a month.
    indexed pub INVOICE_COUNT_OF_MONTH = "SELECT COUNT(*) FROM invoices WHERE tenant = $1 AND month = $2";
}

/// What lists show of an invoice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invoice {
    /// Its id.
    pub id: InvoiceId,
    /// Its number in the workspace, from 1, without gaps.
    pub number: i64,
    /// Its month, `YYYY-MM`.
    pub month: String,
    /// The currency of its amounts.
    pub currency: String,
    /// Seconds for which computes ran.
    pub compute_seconds: i64,
    /// What it comes to, in millionths of the currency.
    pub amount_microunits: i64,
    /// When it was written.
    pub created_at: Timestamp,
}

/// A workspace with months to be closed.
#[derive(Debug, Clone)]
pub struct Due {
    /// Its live tenant.
    pub tenant: TenantId,
    /// The workspace.
    pub workspace_id: WorkspaceId,
    /// Its name.
    pub workspace: String,
    /// Since when there is something to be metered.
    pub since: Timestamp,
    /// The second before which its months are closed; 0 when none is.
    pub closed_before_s: i64,
}

fn decode(row: &Row) -> Result<Invoice> {
    Ok(Invoice {
        id: row.id(0)?,
        number: row.int(1)?,
        month: row.string(2)?,
        currency: row.string(3)?,
        compute_seconds: row.int(4)?,
        amount_microunits: row.int(5)?,
        created_at: row.time(6)?,
    })
}

/// Closes a tenant's months up to `until_s`, or misses with [`OVERTAKEN`] when they were not closed up to `from_s`.
pub fn close(tenant: TenantId, from_s: i64, until_s: i64) -> Statement {
    INVOICE_CLOSE.bind(params![tenant, from_s, until_s]).must(1, OVERTAKEN)
}

/// Writes an invoice with its whole text, and counts it.
pub fn insert(tenant: TenantId, i: &Invoice, body: String) -> [Statement; 2] {
    [
        INVOICE_INSERT.bind(params![
            tenant,
            i.id,
            i.number,
            i.month.as_str(),
            i.currency.as_str(),
            i.compute_seconds,
            i.amount_microunits,
            body,
            i.created_at
        ]),
        counter::add(tenant, "invoice", "", 1),
    ]
}

impl Store {
    /// Workspaces behind `after` whose months before `until` are not all closed.
    pub async fn invoices_due(&self, after: TenantId, until: Timestamp, count_max: u32) -> Result<Vec<Due>> {
        let rows = self.read(INVOICE_DUE.bind(params![after, until, until.secs(), i64::from(count_max)])).await?;
        let due = rows.iter().map(|row| {
            Ok(Due {
                tenant: TenantId(row.int(0)?),
                workspace_id: row.id(1)?,
                workspace: row.string(2)?,
                since: row.time(3)?,
                closed_before_s: row.int(4)?,
            })
        });
        due.collect()
    }

    /// How many invoices a tenant has, which is the number of its last one.
    pub async fn invoice_count(&self, tenant: TenantId) -> Result<i64> {
        Ok(self.one(counter::get(tenant, "invoice", ""), |row| row.int(0)).await?.unwrap_or(0))
    }

    /// The whole text of an invoice.
    pub async fn invoice(&self, tenant: TenantId, id: InvoiceId) -> Result<Option<String>> {
        self.one(INVOICE_GET.bind(params![tenant, id]), |row| row.string(0)).await
    }

    /// A page of invoices, the newest first.
    pub async fn invoices(&self, tenant: TenantId, month: Option<&str>, page: &Page) -> Result<Listed<Invoice>> {
        let mut values = params![tenant, page.before(), rows_max(page), page.offset()];
        let (rows, total) = match month {
            None => (INVOICE_LIST.bind(values), counter::get(tenant, "invoice", "")),
            Some(month) => {
                values.extend(params![month]);
                (INVOICE_LIST_OF_MONTH.bind(values), INVOICE_COUNT_OF_MONTH.bind(params![tenant, month]))
            }
        };
        self.page(rows, total, page, decode).await
    }
}
