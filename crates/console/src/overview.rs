//! What a workspace has at a glance; what happened; what was used.

use askama::Template;

use crate::form::query;
use crate::frame::{Frame, refused};
use crate::{Api, List, Page, Problem, Thing, Visit};

/// Rows of a page.
pub(crate) const ROWS: &str = "20";

#[derive(Template)]
#[template(path = "overview.html")]
struct Overview<'a> {
    frame: Frame<'a>,
    computes: List,
    events: List,
    usage: Thing,
    quotas: Vec<Thing>,
    plan: String,
}

/// The first page of a workspace.
pub(crate) async fn overview(visit: &Visit<'_>, api: &dyn Api) -> Page {
    let got = async {
        let computes = api.call("GET", "/computes?limit=5".to_owned(), None, None).await.list()?;
        let events = api.call("GET", "/events?limit=8".to_owned(), None, None).await.list()?;
        let usage = api.call("GET", "/usage".to_owned(), None, None).await.thing()?;
        let limits = api.call("GET", "/limits".to_owned(), None, None).await.thing()?;
        Ok::<_, Problem>((computes, events, usage, limits))
    };
    match got.await {
        Ok((computes, events, usage, limits)) => {
            let frame = Frame::new(visit, "overview", "Overview").live(computes.rows.iter());
            let (quotas, plan) = (limits.all("quotas"), limits.text("plan"));
            Page::html(200, &Overview { frame, computes, events, usage, quotas, plan })
        }
        Err(problem) => refused(visit, "overview", problem),
    }
}

#[derive(Template)]
#[template(path = "events.html")]
struct EventsPage<'a> {
    frame: Frame<'a>,
    events: List,
    kind: String,
    filters: String,
}

/// What happened in the workspace, newest first.
pub(crate) async fn events(visit: &Visit<'_>, api: &dyn Api) -> Page {
    let (kind, page) = (visit.query.text("type"), visit.query.text("page"));
    let asked = query(&[("limit", ROWS), ("page", page), ("type", kind)]);
    let (events, problem) = shown(api.call("GET", format!("/events?{asked}"), None, None).await.list());
    let frame = Frame::new(visit, "events", "Events").with(problem);
    let filters = query(&[("type", kind)]);
    Page::html(frame.status(), &EventsPage { frame, events, kind: kind.to_owned(), filters })
}

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage<'a> {
    frame: Frame<'a>,
    rows: List,
    action: String,
    resource: String,
    filters: String,
}

/// Who did what, newest first.
pub(crate) async fn audit(visit: &Visit<'_>, api: &dyn Api) -> Page {
    let (action, resource) = (visit.query.text("action"), visit.query.text("resource_id"));
    let page = visit.query.text("page");
    let asked = query(&[("limit", ROWS), ("page", page), ("action", action), ("resource_id", resource)]);
    let (rows, problem) = shown(api.call("GET", format!("/audit-log?{asked}"), None, None).await.list());
    let frame = Frame::new(visit, "audit", "Audit log").with(problem);
    let filters = query(&[("action", action), ("resource_id", resource)]);
    let (action, resource) = (action.to_owned(), resource.to_owned());
    Page::html(frame.status(), &AuditPage { frame, rows, action, resource, filters })
}

/// A list, or an empty one and why.
pub(crate) fn shown(list: Result<List, Problem>) -> (List, Option<Problem>) {
    match list {
        Ok(list) => (list, None),
        Err(problem) => (List::default(), Some(problem)),
    }
}

#[derive(Template)]
#[template(path = "usage.html")]
struct UsagePage<'a> {
    frame: Frame<'a>,
    usage: Thing,
    rows: Vec<Thing>,
    /// The largest number of compute seconds of a row, for the bars.
    most: i64,
    month: String,
}

/// What a month used, by project.
pub(crate) async fn usage(visit: &Visit<'_>, api: &dyn Api) -> Page {
    let month = visit.query.text("month");
    let asked = query(&[("month", month)]);
    let told = api.call("GET", format!("/usage?{asked}"), None, None).await.thing();
    let (usage, problem) = match told {
        Ok(usage) => (usage, None),
        Err(problem) => (Thing::default(), Some(problem)),
    };
    let rows = usage.all("by_project");
    let most = rows.iter().map(|row| row.number("compute_seconds")).max().unwrap_or(0).max(1);
    let frame = Frame::new(visit, "usage", "Usage").with(problem);
    let month = if month.is_empty() { usage.text("month") } else { month.to_owned() };
    Page::html(frame.status(), &UsagePage { frame, usage, rows, most, month })
}
