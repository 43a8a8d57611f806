//! Pages outside of a workspace: signing in, and the sessions of a person.

use askama::Template;

use crate::{Page, Place, Problem, asset};

/// A session as the person sees it.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Its id.
    pub id: String,
    /// The address that signed in.
    pub address: String,
    /// What the browser called itself.
    pub agent: String,
    /// When it was used last.
    pub seen_at: String,
    /// When it ends.
    pub expires_at: String,
    /// Whether it is the one that asks.
    pub is_this: bool,
}

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignIn<'a> {
    edition: &'a str,
    docs_edition: &'a str,
    token: &'a str,
    email: &'a str,
    /// Whether a link was asked for just now.
    is_sent: bool,
    problem: Option<Problem>,
}

/// The page on which a link is used or asked for.
pub fn sign_in_page(token: &str, email: &str, is_sent: bool, problem: Option<Problem>) -> Page {
    let status = problem.as_ref().map_or(200, |problem| problem.status);
    let (edition, docs_edition) = (&**asset::EDITION, nephos_docs::edition());
    Page::html(status, &SignIn { edition, docs_edition, token, email, is_sent, problem })
}

#[derive(Template)]
#[template(path = "account.html")]
struct Account<'a> {
    edition: &'a str,
    docs_edition: &'a str,
    csrf: &'a str,
    email: &'a str,
    places: &'a [Place],
    sessions: &'a [Shown],
}

/// A person's workspaces and sessions.
pub fn account_page(csrf: &str, email: &str, places: &[Place], sessions: &[Shown]) -> Page {
    let (edition, docs_edition) = (&**asset::EDITION, nephos_docs::edition());
    Page::html(200, &Account { edition, docs_edition, csrf, email, places, sessions })
}

#[derive(Template)]
#[template(path = "alone.html")]
struct Alone<'a> {
    edition: &'a str,
    docs_edition: &'a str,
    problem: Problem,
}

/// A refusal outside of any workspace.
pub fn problem_page(problem: Problem) -> Page {
    let (edition, docs_edition) = (&**asset::EDITION, nephos_docs::edition());
    Page::html(problem.status, &Alone { edition, docs_edition, problem })
}
