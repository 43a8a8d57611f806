//! Webhooks and their deliveries. A signing secret is shown on the page that made it and nowhere else, as an API key's is.

use askama::Template;
use serde_json::{Map, json};

use crate::form::{query, segment};
use crate::frame::{Frame, missing, refused};
use crate::overview::{ROWS, shown};
use crate::{Api, List, Page, Problem, Thing, Visit};

#[derive(Template)]
#[template(path = "webhooks.html")]
struct WebhooksPage<'a> {
    frame: Frame<'a>,
    webhooks: List,
    projects: Vec<Thing>,
    url: String,
    event_types: String,
    project_id: String,
}

/// The list, with a form for a new one.
pub(crate) async fn list(visit: &Visit<'_>, api: &dyn Api, refusal: Option<Problem>) -> Page {
    let asked = query(&[("limit", ROWS), ("page", visit.query.text("page"))]);
    let (webhooks, problem) = shown(api.call("GET", format!("/webhooks?{asked}"), None, None).await.list());
    let projects = api.call("GET", "/projects?limit=100".to_owned(), None, None).await.list().unwrap_or_default().rows;
    let frame = Frame::new(visit, "webhooks", "Webhooks").with(refusal.or(problem));
    let typed = |name| visit.form.text(name).to_owned();
    let (url, event_types, project_id) = (typed("url"), typed("event_types"), typed("project_id"));
    Page::html(frame.status(), &WebhooksPage { frame, webhooks, projects, url, event_types, project_id })
}

#[derive(Template)]
#[template(path = "webhook_secret.html")]
struct Secret<'a> {
    frame: Frame<'a>,
    webhook: Thing,
}

fn secret_page(visit: &Visit<'_>, webhook: Thing) -> Page {
    let frame = Frame::new(visit, "webhooks", "Signing secret");
    Page::html(200, &Secret { frame, webhook })
}

/// Makes one and shows its secret.
pub(crate) async fn create(visit: &Visit<'_>, api: &dyn Api) -> Page {
    let mut body = Map::new();
    body.insert("url".to_owned(), json!(visit.form.text("url")));
    let types: Vec<&str> =
        visit.form.text("event_types").split([',', ' ', '\n', '\r']).filter(|text| !text.is_empty()).collect();
    if !types.is_empty() {
        body.insert("event_types".to_owned(), json!(types));
    }
    if !visit.form.text("project_id").is_empty() {
        body.insert("project_id".to_owned(), json!(visit.form.text("project_id")));
    }
    match api.call("POST", "/webhooks".to_owned(), Some(body.into()), visit.key()).await.thing() {
        Ok(webhook) => secret_page(visit, webhook),
        Err(problem) => list(visit, api, Some(problem)).await,
    }
}

#[derive(Template)]
#[template(path = "webhook.html")]
struct Detail<'a> {
    frame: Frame<'a>,
    webhook: Thing,
    deliveries: List,
    confirms: bool,
}

/// One webhook with its deliveries, newest first.
pub(crate) async fn detail(visit: &Visit<'_>, api: &dyn Api, id: &str, refusal: Option<Problem>) -> Page {
    let id = segment(id);
    let webhook = match api.call("GET", format!("/webhooks/{id}"), None, None).await.thing() {
        Ok(webhook) => webhook,
        Err(problem) => return refused(visit, "webhooks", problem),
    };
    let asked = query(&[("limit", ROWS), ("page", visit.query.text("page"))]);
    let told = api.call("GET", format!("/webhooks/{id}/deliveries?{asked}"), None, None).await;
    let (deliveries, problem) = shown(told.list());
    let frame = Frame::new(visit, "webhooks", "Webhook").with(refusal.or(problem)).live(std::iter::empty());
    let confirms = visit.query.get("delete").is_some();
    Page::html(frame.status(), &Detail { frame, webhook, deliveries, confirms })
}

/// Does something with one.
pub(crate) async fn act(visit: &Visit<'_>, api: &dyn Api, id: &str, action: &str) -> Page {
    let id = segment(id);
    let status = |status: &str| Some(json!({"status": status}));
    let (method, path, body) = match action {
        "test" | "rotate-secret" => ("POST", format!("/webhooks/{id}/{action}"), None),
        "enable" => ("PATCH", format!("/webhooks/{id}"), status("enabled")),
        "disable" => ("PATCH", format!("/webhooks/{id}"), status("disabled")),
        "delete" => ("DELETE", format!("/webhooks/{id}"), None),
        "retry" => ("POST", format!("/deliveries/{}/retry", segment(visit.form.text("delivery"))), None),
        _ => return missing(visit),
    };
    match api.call(method, path, body, visit.key()).await.thing() {
        Ok(webhook) if action == "rotate-secret" => secret_page(visit, webhook),
        Ok(_) if action == "delete" => Page::go(format!("{}/webhooks", visit.base())),
        Ok(_) => Page::go(format!("{}/webhooks/{id}", visit.base())),
        Err(problem) => detail(visit, api, &id, Some(problem)).await,
    }
}
