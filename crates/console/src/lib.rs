//! The console: pages on which people do what the API does, server-rendered, usable without a script.
//!
//! Owns its pages, where they are and what each asks of the API. It is a client of the Platform API like any other: what
//! a person may do is decided there, and a refusal is shown with the API's own words. Deliberately not here: cookies,
//! sessions and sockets.

mod account;
mod asset;
mod chart;
mod compute;
mod form;
mod frame;
mod invoice;
mod key;
mod overview;
mod project;
mod sandbox;
mod ssh_key;
mod team;
mod thing;
mod webhook;

use std::pin::Pin;

use serde_json::Value;

pub use account::{Shown, account_page, problem_page, sign_in_page};
pub use asset::asset;
pub use form::Pairs;
pub use frame::Place;
pub use invoice::invoice_document;
pub use thing::{Problem, Thing};

/// Bytes of a form at most: its largest field is the user data of a compute.
pub const FORM_BYTES_MAX: usize = 128 * 1024;

/// What a browser may load on a page of the console (Content Security Policy, level 3): nothing from anywhere else.
pub const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self' data:; \
    connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// An answer of the API, later.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Told> + Send + 'a>>;

/// The Platform API, called by the person in the workspace and mode at hand.
pub trait Api: Sync {
    /// Sends a request. `key` is an idempotency key: a form that is sent twice acts once.
    fn call<'a>(
        &'a self,
        method: &'static str,
        path: String,
        body: Option<Value>,
        key: Option<&'a str>,
    ) -> Answering<'a>;
}

/// What the API answered.
#[derive(Debug, Clone)]
pub struct Told {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Value,
}

impl Told {
    /// The resource, or what the API said against it.
    fn thing(self) -> Result<Thing, Problem> {
        if self.status >= 400 {
            return Err(Problem::of(&self.body, self.status));
        }
        let Value::Object(mut all) = self.body else { return Ok(Thing(self.body)) };
        Ok(match (all.contains_key("meta"), all.remove("data")) {
            (true, Some(data)) => Thing(data),
            (_, Some(data)) => {
                all.insert("data".to_owned(), data);
                Thing(Value::Object(all))
            }
            (_, None) => Thing(Value::Object(all)),
        })
    }

    /// A page of resources with what is known of the list, or what the API said against it.
    fn list(self) -> Result<List, Problem> {
        if self.status >= 400 {
            return Err(Problem::of(&self.body, self.status));
        }
        let meta = Thing(self.body["meta"].clone());
        let Value::Array(rows) = &self.body["data"] else { return Ok(List::default()) };
        let number = |name| meta.number(name);
        Ok(List {
            total: number("total"),
            page: number("page").max(1),
            limit: number("limit").max(1),
            rows: rows.iter().cloned().map(Thing).collect(),
        })
    }
}

/// A page of a list.
#[derive(Debug, Clone, Default)]
pub struct List {
    /// How many there are in all.
    pub total: i64,
    /// Which page this is, from 1.
    pub page: i64,
    /// How many a page has.
    pub limit: i64,
    /// The rows.
    pub rows: Vec<Thing>,
}

impl List {
    /// The number of the page before, if there is one.
    pub fn before(&self) -> Option<i64> {
        (self.page > 1).then(|| self.page - 1)
    }

    /// The number of the next page, if there is one.
    pub fn after(&self) -> Option<i64> {
        (self.page * self.limit < self.total).then(|| self.page + 1)
    }
}

/// A page, or the way to one.
#[derive(Debug, Clone)]
pub struct Page {
    /// The HTTP status.
    pub status: u16,
    /// The HTML.
    pub body: String,
    /// Where to go instead (303).
    pub location: Option<String>,
}

impl Page {
    fn html(status: u16, page: &impl askama::Template) -> Self {
        // The templates write to a string, which does not fail.
        Self { status, body: page.render().unwrap_or_default(), location: None }
    }

    /// Shows another page, after something was done.
    pub fn go(to: impl Into<String>) -> Self {
        Self { status: 303, body: String::new(), location: Some(to.into()) }
    }
}

/// A request of a person who is signed in, to a page of a workspace.
#[derive(Debug, Clone, Copy)]
pub struct Visit<'a> {
    /// Scheme and authority of the installation.
    pub origin: &'a str,
    /// What a form must bring along (it is bound to the session).
    pub csrf: &'a str,
    /// A fresh idempotency key for the page's forms.
    pub fresh: &'a str,
    /// Who is signed in.
    pub email: &'a str,
    /// All workspaces of the person.
    pub places: &'a [Place],
    /// The one at hand.
    pub place: &'a Place,
    /// Whether it is the workspace's sandbox.
    pub is_sandbox: bool,
    /// Whether a form was sent.
    pub is_post: bool,
    /// The path within the workspace, such as `/computes`.
    pub path: &'a str,
    /// The query.
    pub query: &'a Pairs,
    /// The form that was sent.
    pub form: &'a Pairs,
}

impl Visit<'_> {
    /// The idempotency key that came with a form.
    fn key(&self) -> Option<&str> {
        self.form.get("idempotency_key").filter(|key| !key.is_empty())
    }

    /// Where the workspace's pages are.
    pub fn base(&self) -> String {
        self.place.base(self.is_sandbox)
    }
}

/// Answers a page of a workspace.
pub async fn workspace_page(visit: &Visit<'_>, api: &dyn Api) -> Page {
    let parts: Vec<&str> = visit.path.split('/').filter(|part| !part.is_empty()).collect();
    match (visit.is_post, parts.as_slice()) {
        (false, []) => overview::overview(visit, api).await,
        (false, ["audit"]) => overview::audit(visit, api).await,
        (false, ["events"]) => overview::events(visit, api).await,
        (false, ["usage"]) => overview::usage(visit, api).await,
        (false, ["invoices"]) => invoice::list(visit, api).await,
        (false, ["invoices", id]) => invoice::detail(visit, api, id).await,
        (false, ["computes"]) => compute::list(visit, api).await,
        (false, ["computes", "new"]) => compute::form(visit, api, None).await,
        (true, ["computes"]) => compute::create(visit, api).await,
        (false, ["computes", id]) => compute::detail(visit, api, id, None).await,
        (true, ["computes", id, action]) => compute::act(visit, api, id, action).await,
        (false, ["projects"]) => project::list(visit, api, None).await,
        (true, ["projects"]) => project::create(visit, api).await,
        (false, ["projects", id]) => project::detail(visit, api, id, None).await,
        (true, ["projects", id, action]) => project::act(visit, api, id, action).await,
        (false, ["ssh-keys"]) => ssh_key::list(visit, api, None).await,
        (true, ["ssh-keys"]) => ssh_key::create(visit, api).await,
        (true, ["ssh-keys", id, "delete"]) => ssh_key::delete(visit, api, id).await,
        (false, ["keys"]) => key::list(visit, api, None).await,
        (true, ["keys"]) => key::create(visit, api).await,
        (true, ["keys", id, action]) => key::act(visit, api, id, action).await,
        (false, ["webhooks"]) => webhook::list(visit, api, None).await,
        (true, ["webhooks"]) => webhook::create(visit, api).await,
        (false, ["webhooks", id]) => webhook::detail(visit, api, id, None).await,
        (true, ["webhooks", id, action]) => webhook::act(visit, api, id, action).await,
        (false, ["team"]) => team::list(visit, api, None, None).await,
        (true, ["team", "invite"]) => team::invite(visit, api).await,
        (true, ["team", id, action]) => team::act(visit, api, id, action).await,
        (false, ["sandbox"]) if visit.is_sandbox => sandbox::show(visit, api, None).await,
        (true, ["sandbox", action]) if visit.is_sandbox => sandbox::act(visit, api, action).await,
        _ => frame::missing(visit),
    }
}

#[cfg(test)]
mod tests;
