//! Computes: the list, the form, one with its actions, operations, console and events.

use askama::Template;
use serde_json::{Map, Value, json};

use crate::chart::{self, Chart, RANGES};
use crate::form::{query, segment};
use crate::frame::{Frame, missing, refused};
use crate::overview::{ROWS, shown};
use crate::{Api, List, Page, Pairs, Problem, Thing, Visit};

/// The states of a compute, for the filter.
const STATUSES: [&str; 9] =
    ["provisioning", "running", "stopping", "stopped", "starting", "rebooting", "resizing", "rebuilding", "failed"];

#[derive(Template)]
#[template(path = "computes.html")]
struct ComputesPage<'a> {
    frame: Frame<'a>,
    computes: List,
    projects: Vec<Thing>,
    statuses: [&'static str; 9],
    filters: String,
}

/// The list.
pub(crate) async fn list(visit: &Visit<'_>, api: &dyn Api) -> Page {
    const FILTERS: [&str; 3] = ["status", "project_id", "name"];
    let filters = visit.query.query(&FILTERS);
    let page = query(&[("limit", ROWS), ("page", visit.query.text("page"))]);
    let asked = [page.as_str(), filters.as_str()].join("&");
    let told = api.call("GET", format!("/computes?{}", asked.trim_end_matches('&')), None, None).await.list();
    let (computes, problem) = shown(told);
    let projects = projects(api).await;
    let frame = Frame::new(visit, "computes", "Computes").with(problem).live(computes.rows.iter());
    Page::html(frame.status(), &ComputesPage { frame, computes, projects, statuses: STATUSES, filters })
}

/// The projects to choose from; none when they can't be read.
async fn projects(api: &dyn Api) -> Vec<Thing> {
    api.call("GET", "/projects?limit=100".to_owned(), None, None).await.list().unwrap_or_default().rows
}

#[derive(Template)]
#[template(path = "compute_new.html")]
struct New<'a> {
    frame: Frame<'a>,
    sizes: Vec<Thing>,
    images: Vec<Thing>,
    regions: Vec<Thing>,
    ssh_keys: Vec<Thing>,
    projects: Vec<Thing>,
    /// What was sent, when it was refused.
    sent: Pairs,
    base_url: String,
}

impl New<'_> {
    fn is_chosen(&self, name: &str, value: &str, otherwise: impl std::borrow::Borrow<bool>) -> bool {
        match self.sent.get(name) {
            Some(_) => self.sent.all(name).contains(&value),
            None => *otherwise.borrow(),
        }
    }

    fn wrong(&self, field: &str) -> String {
        let problem = self.frame.problem.as_ref();
        problem.and_then(|problem| problem.at(field)).unwrap_or_default().to_owned()
    }
}

/// The form for a new one.
pub(crate) async fn form(visit: &Visit<'_>, api: &dyn Api, refusal: Option<Problem>) -> Page {
    let rows = async |path: &str| {
        let told = api.call("GET", format!("/{path}?limit=100"), None, None).await;
        Ok::<_, Problem>(told.list()?.rows)
    };
    let got = async {
        Ok::<_, Problem>((rows("sizes").await?, rows("images").await?, rows("regions").await?, rows("ssh-keys").await?))
    };
    let (sizes, images, regions, ssh_keys) = match got.await {
        Ok(got) => got,
        Err(problem) => return refused(visit, "computes", problem),
    };
    let projects = projects(api).await;
    let base_url = format!("{}{}", visit.origin, if visit.is_sandbox { "/sandbox/v1" } else { "/v1" });
    let frame = Frame::new(visit, "computes", "New compute").with(refusal);
    let sent = visit.form.clone();
    Page::html(frame.status(), &New { frame, sizes, images, regions, ssh_keys, projects, sent, base_url })
}

/// The body of a create, from the form: what was left empty is left to the API.
fn body(form: &Pairs) -> Value {
    let mut body = Map::new();
    for name in ["name", "project_id", "environment", "region", "size", "image", "restart_policy"] {
        let value = form.text(name);
        if !value.is_empty() || name == "name" {
            body.insert(name.to_owned(), json!(value));
        }
    }
    let keys = form.all("ssh_keys");
    if !keys.is_empty() {
        body.insert("ssh_keys".to_owned(), json!(keys));
    }
    if let Some(text) = form.get("user_data").filter(|text| !text.trim().is_empty()) {
        // A form sends lines as RFC 7578 has them; a script wants them as Unix does.
        body.insert("user_data".to_owned(), json!(text.replace("\r\n", "\n")));
    }
    if form.get("protected").is_some() {
        body.insert("protected".to_owned(), json!(true));
    }
    let labels: Map<String, Value> = form
        .text("labels")
        .split_whitespace()
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name.to_owned(), json!(value))
        })
        .collect();
    if !labels.is_empty() {
        body.insert("labels".to_owned(), Value::Object(labels));
    }
    Value::Object(body)
}

/// Makes one.
pub(crate) async fn create(visit: &Visit<'_>, api: &dyn Api) -> Page {
    let told = api.call("POST", "/computes".to_owned(), Some(body(visit.form)), visit.key()).await;
    match told.thing() {
        Ok(compute) => Page::go(format!("{}/computes/{}", visit.base(), compute.text("id"))),
        Err(problem) => form(visit, api, Some(problem)).await,
    }
}

#[derive(Template)]
#[template(path = "compute.html")]
struct Detail<'a> {
    frame: Frame<'a>,
    compute: Thing,
    operations: List,
    events: List,
    sizes: Vec<Thing>,
    images: Vec<Thing>,
    charts: Vec<Chart>,
    ranges: [(&'static str, &'static str); 3],
    range: &'static str,
    console: String,
    ssh: String,
    /// Whether what is deleted is to be confirmed.
    confirms: bool,
}

impl Detail<'_> {
    fn is_range(&self, name: &str) -> bool {
        self.range == name
    }

    fn can(&self, action: &str) -> bool {
        let status = self.compute.text("status");
        match action {
            "start" => matches!(status.as_str(), "stopped" | "failed"),
            "stop" | "reboot" => status == "running",
            _ => true,
        }
    }
}

/// One compute.
pub(crate) async fn detail(visit: &Visit<'_>, api: &dyn Api, id: &str, refusal: Option<Problem>) -> Page {
    let id = segment(id);
    let compute = match api.call("GET", format!("/computes/{id}"), None, None).await.thing() {
        Ok(compute) => compute,
        Err(problem) => return refused(visit, "computes", problem),
    };
    let (operations, _) =
        shown(api.call("GET", format!("/operations?limit=5&compute_id={id}"), None, None).await.list());
    let (events, _) = shown(api.call("GET", format!("/events?limit=10&resource_id={id}"), None, None).await.list());
    let (range, _) = RANGES.into_iter().find(|(name, _)| *name == visit.query.text("range")).unwrap_or(RANGES[0]);
    let metrics = format!("/computes/{id}/metrics?range={range}");
    let metrics = api.call("GET", metrics, None, None).await.thing().unwrap_or_default();
    let charts = chart::of(&metrics.0);
    let console = api.call("GET", format!("/computes/{id}/console"), None, None).await.thing();
    let console = console.map(|console| console.text("output")).unwrap_or_default();
    // Another look takes nothing of the forms.
    let choices = async |path: &str| match visit.query.get("look") {
        Some(_) => Vec::new(),
        None => api.call("GET", format!("/{path}?limit=100"), None, None).await.list().unwrap_or_default().rows,
    };
    let (sizes, images) = (choices("sizes").await, choices("images").await);
    let address = compute.part("address");
    let ssh = match (address.text("ssh_host").as_str(), address.number("ssh_port")) {
        ("", _) => String::new(),
        (host, port) => format!("ssh -p {port} root@{host}"),
    };
    let frame = Frame::new(visit, "computes", compute.text("name")).with(refusal).live(std::iter::once(&compute));
    let confirms = visit.query.get("delete").is_some();
    Page::html(
        frame.status(),
        &Detail {
            frame,
            compute,
            operations,
            events,
            sizes,
            images,
            charts,
            ranges: RANGES,
            range,
            console,
            ssh,
            confirms,
        },
    )
}

/// Does something with one.
pub(crate) async fn act(visit: &Visit<'_>, api: &dyn Api, id: &str, action: &str) -> Page {
    let id = segment(id);
    let (method, path, body) = match action {
        "start" | "stop" | "reboot" => ("POST", format!("/computes/{id}/{action}"), None),
        "resize" => ("POST", format!("/computes/{id}/resize"), Some(json!({"size": visit.form.text("size")}))),
        "rebuild" => ("POST", format!("/computes/{id}/rebuild"), Some(json!({"image": visit.form.text("image")}))),
        "rename" => ("PATCH", format!("/computes/{id}"), Some(json!({"name": visit.form.text("name")}))),
        "delete" => ("DELETE", format!("/computes/{id}"), None),
        _ => return missing(visit),
    };
    match api.call(method, path, body, visit.key()).await.thing() {
        Ok(_) if action == "delete" => Page::go(format!("{}/computes", visit.base())),
        Ok(_) => Page::go(format!("{}/computes/{id}", visit.base())),
        Err(problem) => detail(visit, api, &id, Some(problem)).await,
    }
}
