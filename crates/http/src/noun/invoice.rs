//! Invoices: what closed months came to.

use nephos_control::caller::InvoiceRead;
use nephos_control::plan::CommitError;
use nephos_control::view::{InvoiceView, InvoiceWithLinesView};
use nephos_model::clock::Month;

use crate::call::{Answer, Call};
use crate::endpoint::{Endpoint, Need, Success, schema_of};
use crate::fields::Kind;
use crate::query::{AFTER, LIMIT, PAGE, Parameter};
use crate::reply::{CSV, HTML, Reply};

const ALL: &str = "/invoices";
const ONE: &str = "/invoices/{id}";
const MONTH: Parameter = Parameter::new("month", Kind::Month, "Only the invoice of this month.");

/// The operations.
pub const OPERATIONS: &[Endpoint] = &[
    Endpoint::new("invoice.list", "GET", ALL, Success::Listed, schema_of::<InvoiceView>, |c| Box::pin(list(c)))
        .needs(Need::of::<InvoiceRead>())
        .told(
            "List invoices",
            "One for each month in which something was metered, the newest first. A month is closed an hour after its end, once; \
             the sandbox has none.",
            "Invoices listed.",
        )
        .query(&[PAGE, LIMIT, AFTER, MONTH]),
    Endpoint::new("invoice.get", "GET", ONE, Success::Found, schema_of::<InvoiceWithLinesView>, |c| Box::pin(get(c)))
        .needs(Need::of::<InvoiceRead>())
        .told(
            "Read an invoice",
            "One invoice with its lines, as it was written. With `Accept: text/html` it is a page to be printed, with \
             `Accept: text/csv` a table of its lines.",
            "Invoice found.",
        )
        .forms(&[CSV, HTML]),
];

async fn list(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<InvoiceRead>()?;
    let page = call.query.page("inv")?;
    let month = call.query.text("month").and_then(Month::parse);
    let listed = call.cloud().invoices(&grant, month, &page).await?;
    call.read(Reply::listed(&listed, &page, |i| i.id.to_string(), |i| InvoiceView::from(i)))
}

async fn get(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<InvoiceRead>()?;
    let invoice = call.cloud().invoice(&grant, call.id("invoice")?).await?;
    call.read(match call.form {
        CSV => Reply::text(CSV, table(&invoice)),
        HTML => Reply::text(HTML, nephos_console::invoice_document(&serde_json::json!(invoice))),
        _ => Reply::found(&invoice),
    })
}

/// The lines as CSV (RFC 4180). Nothing in it needs quotes: ids, names of sizes and regions, and numbers.
fn table(invoice: &InvoiceWithLinesView) -> String {
    let mut text = "month,invoice,item,project_id,size,region,computes,seconds,microunits_per_hour,amount_microunits,\
                    currency\r\n"
        .to_owned();
    for line in &invoice.lines {
        let [computes, seconds, price, amount] =
            [line.computes, line.seconds, line.microunits_per_hour, line.amount_microunits].map(|n| n.to_string());
        let (month, id) = (&*invoice.invoice.month, &*invoice.invoice.id);
        let columns = [
            month,
            id,
            &line.item,
            &line.project_id,
            &line.size,
            &line.region,
            &computes,
            &seconds,
            &price,
            &amount,
            &invoice.invoice.currency,
        ];
        text.push_str(&columns.join(","));
        text.push_str("\r\n");
    }
    text
}
