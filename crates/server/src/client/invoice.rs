//! The commands of invoices.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::api::Failure;
use super::command::{Plain, Server};
use super::run::{Session, id_path, show};
use crate::output::{self, Output};

const INVOICE_FIELDS: &[&str] = &["id", "number", "month", "compute_seconds", "amount_microunits", "currency"];
const LINE_FIELDS: &[&str] =
    &["project_name", "item", "size", "region", "computes", "seconds", "microunits_per_hour", "amount_microunits"];

/// `nephos invoices`
#[derive(Debug, Subcommand)]
#[allow(missing_docs)]
pub enum Invoices {
    /// List them.
    List(Plain),
    /// Look at one, with its lines.
    Get(InvoiceOne),
}

/// One invoice.
#[derive(Debug, Args)]
pub struct InvoiceOne {
    /// Its id, inv_….
    pub id: String,
    #[command(flatten)]
    pub server: Server,
}

impl Session<'_> {
    pub(super) fn invoices(&self, command: Invoices) -> Result<(), Failure> {
        match command {
            Invoices::List(a) => self.list(&a.server, "/invoices", &[], a.length.limit, INVOICE_FIELDS),
            Invoices::Get(a) => {
                let mut invoice = self.api(&a.server)?.get(&id_path("/invoices", &a.id))?.data;
                let lines = match (a.server.output, invoice.as_object_mut()) {
                    (Output::Table, Some(fields)) => fields.remove("lines"),
                    _ => None,
                };
                show(a.server.output, &invoice);
                if let Some(Value::Array(lines)) = lines {
                    output::line("");
                    output::raw(&output::table(&lines, LINE_FIELDS));
                }
                Ok(())
            }
        }
    }
}
