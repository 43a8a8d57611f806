//! Invoices.

use nephos_store::invoice::Invoice;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::time;

/// What a workspace owes for a month.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Invoice")]
pub struct InvoiceView {
    /// Its id, `inv_…`.
    pub id: String,
    /// Its number in the workspace: from 1, without gaps.
    pub number: i64,
    /// Its month, `YYYY-MM`, UTC.
    pub month: String,
    /// The currency of all amounts.
    pub currency: String,
    /// Seconds for which computes ran.
    pub compute_seconds: i64,
    /// What it comes to, in millionths of the currency.
    pub amount_microunits: i64,
    /// When it was written.
    pub created_at: String,
}

impl From<&Invoice> for InvoiceView {
    fn from(i: &Invoice) -> Self {
        Self {
            id: i.id.to_string(),
            number: i.number,
            month: i.month.clone(),
            currency: i.currency.clone(),
            compute_seconds: i.compute_seconds,
            amount_microunits: i.amount_microunits,
            created_at: time(i.created_at),
        }
    }
}

/// An invoice with its lines. It never changes.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "InvoiceWithLines")]
pub struct InvoiceWithLinesView {
    /// What lists show of it.
    #[serde(flatten)]
    pub invoice: InvoiceView,
    /// The workspace.
    pub workspace_id: String,
    /// The workspace's name when the invoice was written.
    pub workspace_name: String,
    /// The first second of its month.
    pub period_from: String,
    /// The first second after its month.
    pub period_to: String,
    /// What it consists of; the amounts sum to its own.
    pub lines: Vec<InvoiceLineView>,
}

/// A quantity at a price.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "InvoiceLine")]
pub struct InvoiceLineView {
    /// What was metered: `compute.running` or `compute.stopped`.
    pub item: String,
    /// Its project.
    pub project_id: String,
    /// The project's name when the invoice was written.
    pub project_name: Option<String>,
    /// The size.
    pub size: String,
    /// The region.
    pub region: String,
    /// How many computes it is about.
    pub computes: i64,
    /// Seconds of all of them.
    pub seconds: i64,
    /// The price, in millionths of the currency.
    pub microunits_per_hour: i64,
    /// What it comes to, in millionths of the currency: the sum of what each compute comes to on each day, each rounded.
    pub amount_microunits: i64,
}

/// An invoice as whoever may not see money is told of it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "InvoiceNotice")]
pub struct InvoiceNoticeView {
    /// Its id, `inv_…`.
    pub id: String,
    /// Its number in the workspace.
    pub number: i64,
    /// Its month, `YYYY-MM`, UTC.
    pub month: String,
    /// When it was written.
    pub created_at: String,
}

impl From<&Invoice> for InvoiceNoticeView {
    fn from(i: &Invoice) -> Self {
        Self { id: i.id.to_string(), number: i.number, month: i.month.clone(), created_at: time(i.created_at) }
    }
}
