//! SSH public keys that new computes let in.

use askama::Template;
use serde_json::json;

use crate::form::{query, segment};
use crate::frame::Frame;
use crate::overview::{ROWS, shown};
use crate::{Api, List, Page, Problem, Visit};

#[derive(Template)]
#[template(path = "ssh_keys.html")]
struct SshKeys<'a> {
    frame: Frame<'a>,
    keys: List,
    name: String,
    public_key: String,
}

/// The list, with a form for a new one.
pub(crate) async fn list(visit: &Visit<'_>, api: &dyn Api, refusal: Option<Problem>) -> Page {
    let asked = query(&[("limit", ROWS), ("page", visit.query.text("page"))]);
    let (keys, problem) = shown(api.call("GET", format!("/ssh-keys?{asked}"), None, None).await.list());
    let frame = Frame::new(visit, "ssh-keys", "SSH keys").with(refusal.or(problem));
    let (name, public_key) = (visit.form.text("name").to_owned(), visit.form.text("public_key").to_owned());
    Page::html(frame.status(), &SshKeys { frame, keys, name, public_key })
}

/// Adds one.
pub(crate) async fn create(visit: &Visit<'_>, api: &dyn Api) -> Page {
    let body = json!({"name": visit.form.text("name"), "public_key": visit.form.text("public_key")});
    match api.call("POST", "/ssh-keys".to_owned(), Some(body), visit.key()).await.thing() {
        Ok(_) => Page::go(format!("{}/ssh-keys", visit.base())),
        Err(problem) => list(visit, api, Some(problem)).await,
    }
}

/// Removes one.
pub(crate) async fn delete(visit: &Visit<'_>, api: &dyn Api, id: &str) -> Page {
    match api.call("DELETE", format!("/ssh-keys/{}", segment(id)), None, None).await.thing() {
        Ok(_) => Page::go(format!("{}/ssh-keys", visit.base())),
        Err(problem) => list(visit, api, Some(problem)).await,
    }
}
