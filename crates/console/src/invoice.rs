//! Invoices: their list, and one of them as a page to be printed.

use askama::Template;
use serde_json::Value;

use crate::form::segment;
use crate::frame::{Frame, refused};
use crate::overview::shown;
use crate::{Api, List, Page, Thing, Visit, asset};

#[derive(Template)]
#[template(path = "invoices.html")]
struct Invoices<'a> {
    frame: Frame<'a>,
    invoices: List,
}

#[derive(Template)]
#[template(path = "invoice.html")]
struct Printed<'a> {
    /// Of the assets; without, the page holds its style itself.
    edition: Option<&'a str>,
    style: &'static str,
    lines: Vec<Thing>,
    invoice: Thing,
}

impl Printed<'_> {
    fn of(invoice: Thing, edition: Option<&str>) -> Printed<'_> {
        Printed { edition, style: include_str!("../assets/invoice.css"), lines: invoice.all("lines"), invoice }
    }
}

/// An invoice, as the API shows it, as a document that needs nothing beside itself.
pub fn invoice_document(invoice: &Value) -> String {
    // The template writes to a string, which does not fail.
    Printed::of(Thing(invoice.clone()), None).render().unwrap_or_default()
}

/// Every invoice of the workspace.
pub(crate) async fn list(visit: &Visit<'_>, api: &dyn Api) -> Page {
    let path = format!("/invoices?{}", visit.query.query(&["page"]));
    let (invoices, problem) = shown(api.call("GET", path, None, None).await.list());
    let frame = Frame::new(visit, "invoices", "Invoices").with(problem);
    Page::html(frame.status(), &Invoices { frame, invoices })
}

/// One invoice.
pub(crate) async fn detail(visit: &Visit<'_>, api: &dyn Api, id: &str) -> Page {
    match api.call("GET", format!("/invoices/{}", segment(id)), None, None).await.thing() {
        Ok(invoice) => Page::html(200, &Printed::of(invoice, Some(asset::EDITION.as_str()))),
        Err(problem) => refused(visit, "invoices", problem),
    }
}
