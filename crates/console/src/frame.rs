//! What every page of a workspace has around it.

use askama::Template;

use crate::{Page, Problem, Thing, Visit, asset};

/// Milliseconds between two looks at a page on which something is under way. A look costs a few of the person's reads, of
/// which the standard plan has 120 a minute.
const SOON_MS: u32 = 5_000;
/// Milliseconds between two looks at a page on which nothing is.
const CALM_MS: u32 = 30_000;

/// A workspace of the person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The person's role there: `owner`, `admin` or `member`.
    pub role: String,
}

impl Place {
    /// Where its pages are, or its sandbox's.
    pub fn base(&self, is_sandbox: bool) -> String {
        let sandbox = if is_sandbox { "/sandbox" } else { "" };
        format!("/console/{}{sandbox}", self.id)
    }
}

/// What the frame is filled with.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    pub edition: &'static str,
    pub docs_edition: &'static str,
    pub title: String,
    /// Which entry of the navigation the page belongs to.
    pub here: &'static str,
    pub base: String,
    pub visit: &'a Visit<'a>,
    /// What was refused, shown before everything else.
    pub problem: Option<Problem>,
    /// After how many milliseconds the page is worth another look; 0 when nothing on it changes by itself.
    pub live_ms: u32,
}

impl<'a> Frame<'a> {
    pub fn new(visit: &'a Visit<'a>, here: &'static str, title: impl Into<String>) -> Self {
        Self {
            edition: &asset::EDITION,
            docs_edition: nephos_docs::edition(),
            title: title.into(),
            here,
            base: visit.base(),
            visit,
            problem: None,
            live_ms: 0,
        }
    }

    pub fn with(mut self, problem: Option<Problem>) -> Self {
        self.problem = problem;
        self
    }

    /// A page that is looked at again, soon while one of its resources is on its way to another state.
    pub fn live<'t>(mut self, mut things: impl Iterator<Item = &'t Thing>) -> Self {
        let is_moving = |thing: &Thing| {
            !matches!(thing.text("status").as_str(), "running" | "stopped" | "failed" | "succeeded" | "cancelled")
        };
        self.live_ms = if things.any(is_moving) { SOON_MS } else { CALM_MS };
        self
    }

    /// The status of the page: that of the refusal that it shows.
    pub fn status(&self) -> u16 {
        self.problem.as_ref().map_or(200, |problem| problem.status)
    }

    /// Whether the person's role is at least this one.
    pub fn may(&self, role: &str) -> bool {
        let rank = |role: &str| match role {
            "owner" => 2,
            "admin" => 1,
            _ => 0,
        };
        rank(&self.visit.place.role) >= rank(role)
    }

    /// The same page's place in the other mode.
    pub fn other_mode(&self) -> String {
        let path = if self.visit.is_sandbox && self.here == "sandbox" { "" } else { self.section() };
        format!("{}{path}", self.visit.place.base(!self.visit.is_sandbox))
    }

    /// The page's entry of the navigation as a path.
    fn section(&self) -> &'static str {
        match self.here {
            "computes" => "/computes",
            "projects" => "/projects",
            "ssh-keys" => "/ssh-keys",
            "keys" => "/keys",
            "webhooks" => "/webhooks",
            "team" => "/team",
            "events" => "/events",
            "usage" => "/usage",
            "invoices" => "/invoices",
            "audit" => "/audit",
            _ => "",
        }
    }
}

#[derive(Template)]
#[template(path = "problem_page.html")]
struct ProblemPage<'a> {
    frame: Frame<'a>,
}

/// A page that has nothing but a refusal.
pub(crate) fn refused(visit: &Visit<'_>, here: &'static str, problem: Problem) -> Page {
    let frame = Frame::new(visit, here, "Not possible").with(Some(problem));
    Page::html(frame.status(), &ProblemPage { frame })
}

/// A page that there is not.
pub(crate) fn missing(visit: &Visit<'_>) -> Page {
    refused(
        visit,
        "",
        Problem {
            status: 404,
            code: "resource_not_found".to_owned(),
            message: "There is no such page in the console.".to_owned(),
            ..Problem::default()
        },
    )
}
