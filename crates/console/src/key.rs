//! API keys. A secret is shown on the page that made it and nowhere else: no redirect carries it, and a reload asks for
//! the form to be sent again, which the idempotency key answers with the same key.

use askama::Template;
use serde_json::{Map, Value, json};

use crate::form::{query, segment};
use crate::frame::{Frame, missing};
use crate::overview::{ROWS, shown};
use crate::{Api, List, Page, Pairs, Problem, Thing, Visit};

/// The choices of scopes, as a person thinks of them.
const SCOPES: [(&str, &str, &str); 3] = [
    ("", "Everything that your role may", ""),
    (
        "read",
        "Read only",
        "project:read environment:read compute:read image:read size:read region:read ssh_key:read operation:read \
         event:read usage:read status:read limit:read workspace:read",
    ),
    (
        "computes",
        "Computes only",
        "project:read environment:read compute:read compute:write image:read size:read region:read ssh_key:read \
         operation:read",
    ),
];

#[derive(Template)]
#[template(path = "keys.html")]
struct KeysPage<'a> {
    frame: Frame<'a>,
    keys: List,
    projects: Vec<Thing>,
    scopes: [(&'static str, &'static str, &'static str); 3],
    sent: Pairs,
}

/// The list, with a form for a new one.
pub(crate) async fn list(visit: &Visit<'_>, api: &dyn Api, refusal: Option<Problem>) -> Page {
    let asked = query(&[("limit", ROWS), ("page", visit.query.text("page"))]);
    let (keys, problem) = shown(api.call("GET", format!("/api-keys?{asked}"), None, None).await.list());
    let projects = api.call("GET", "/projects?limit=100".to_owned(), None, None).await.list().unwrap_or_default().rows;
    let frame = Frame::new(visit, "keys", "API keys").with(refusal.or(problem));
    Page::html(frame.status(), &KeysPage { frame, keys, projects, scopes: SCOPES, sent: visit.form.clone() })
}

#[derive(Template)]
#[template(path = "key_secret.html")]
struct Secret<'a> {
    frame: Frame<'a>,
    key: Thing,
    base_url: String,
    is_rotated: bool,
}

fn secret_page(visit: &Visit<'_>, key: Thing, is_rotated: bool) -> Page {
    let base_url = format!("{}{}", visit.origin, if visit.is_sandbox { "/sandbox/v1" } else { "/v1" });
    let frame = Frame::new(visit, "keys", if is_rotated { "Key rotated" } else { "Key made" });
    Page::html(200, &Secret { frame, key, base_url, is_rotated })
}

fn body(form: &Pairs) -> Value {
    let mut body = Map::new();
    body.insert("name".to_owned(), json!(form.text("name")));
    if let Some((.., scopes)) = SCOPES.iter().find(|(name, ..)| !name.is_empty() && *name == form.text("access")) {
        body.insert("scopes".to_owned(), json!(scopes.split(' ').collect::<Vec<_>>()));
    }
    if !form.text("project_id").is_empty() {
        body.insert("project_id".to_owned(), json!(form.text("project_id")));
    }
    if !form.text("expires_at").is_empty() {
        // The browser's field has a day only.
        body.insert("expires_at".to_owned(), json!(format!("{}T00:00:00Z", form.text("expires_at"))));
    }
    let addresses: Vec<&str> =
        form.text("allowed_ips").split([',', ' ', '\n', '\r']).filter(|text| !text.is_empty()).collect();
    if !addresses.is_empty() {
        body.insert("allowed_ips".to_owned(), json!(addresses));
    }
    Value::Object(body)
}

/// Makes one and shows its secret.
pub(crate) async fn create(visit: &Visit<'_>, api: &dyn Api) -> Page {
    match api.call("POST", "/api-keys".to_owned(), Some(body(visit.form)), visit.key()).await.thing() {
        Ok(key) => secret_page(visit, key, false),
        Err(problem) => list(visit, api, Some(problem)).await,
    }
}

/// Rotates or revokes one.
pub(crate) async fn act(visit: &Visit<'_>, api: &dyn Api, id: &str, action: &str) -> Page {
    let id = segment(id);
    match action {
        "rotate" => {
            let grace: u32 = visit.form.text("grace_seconds").parse().unwrap_or(0);
            let body = json!({"grace_seconds": grace});
            match api.call("POST", format!("/api-keys/{id}/rotate"), Some(body), visit.key()).await.thing() {
                Ok(key) => secret_page(visit, key, true),
                Err(problem) => list(visit, api, Some(problem)).await,
            }
        }
        "revoke" => match api.call("DELETE", format!("/api-keys/{id}"), None, None).await.thing() {
            Ok(_) => Page::go(format!("{}/keys", visit.base())),
            Err(problem) => list(visit, api, Some(problem)).await,
        },
        _ => missing(visit),
    }
}
