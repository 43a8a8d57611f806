//! Members and invitations.

use askama::Template;
use serde_json::json;

use crate::form::segment;
use crate::frame::{Frame, missing};
use crate::overview::shown;
use crate::{Api, List, Page, Problem, Thing, Visit};

#[derive(Template)]
#[template(path = "team.html")]
struct Team<'a> {
    frame: Frame<'a>,
    members: List,
    invitations: List,
    /// The invitation that was made just now, with its link.
    made: Option<Thing>,
    email: String,
}

/// Who belongs to the workspace and who is invited.
pub(crate) async fn list(visit: &Visit<'_>, api: &dyn Api, made: Option<Thing>, refusal: Option<Problem>) -> Page {
    let (members, problem) = shown(api.call("GET", "/members?limit=100".to_owned(), None, None).await.list());
    let (invitations, _) = shown(api.call("GET", "/invitations?limit=100".to_owned(), None, None).await.list());
    let frame = Frame::new(visit, "team", "Team").with(refusal.or(problem));
    let email = visit.form.text("email").to_owned();
    Page::html(frame.status(), &Team { frame, members, invitations, made, email })
}

/// Invites somebody, and shows the link.
pub(crate) async fn invite(visit: &Visit<'_>, api: &dyn Api) -> Page {
    let body = json!({"email": visit.form.text("email"), "role": visit.form.text("role")});
    match api.call("POST", "/invitations".to_owned(), Some(body), visit.key()).await.thing() {
        Ok(made) => list(visit, api, Some(made), None).await,
        Err(problem) => list(visit, api, None, Some(problem)).await,
    }
}

/// Changes a role, removes a member, takes an invitation back.
pub(crate) async fn act(visit: &Visit<'_>, api: &dyn Api, id: &str, action: &str) -> Page {
    let id = segment(id);
    let told = match action {
        "role" => {
            let body = json!({"role": visit.form.text("role")});
            api.call("PATCH", format!("/members/{id}"), Some(body), None).await
        }
        "remove" => api.call("DELETE", format!("/members/{id}"), None, None).await,
        "revoke" => api.call("DELETE", format!("/invitations/{id}"), None, None).await,
        _ => return missing(visit),
    };
    match told.thing() {
        // Who removed themselves belongs to the workspace no more.
        Ok(_) => Page::go(format!("{}/team", visit.base())),
        Err(problem) => list(visit, api, None, Some(problem)).await,
    }
}
