//! The sandbox's clock and its reset.

use askama::Template;
use serde_json::json;

use crate::frame::{Frame, missing, refused};
use crate::{Api, Page, Problem, Thing, Visit};

#[derive(Template)]
#[template(path = "sandbox.html")]
struct Sandbox<'a> {
    frame: Frame<'a>,
    clock: Thing,
}

/// The clock.
pub(crate) async fn show(visit: &Visit<'_>, api: &dyn Api, refusal: Option<Problem>) -> Page {
    match api.call("GET", "/clock".to_owned(), None, None).await.thing() {
        Ok(clock) => {
            let frame = Frame::new(visit, "sandbox", "Sandbox").with(refusal);
            Page::html(frame.status(), &Sandbox { frame, clock })
        }
        Err(problem) => refused(visit, "sandbox", problem),
    }
}

/// Moves the clock, or begins anew.
pub(crate) async fn act(visit: &Visit<'_>, api: &dyn Api, action: &str) -> Page {
    let told = match action {
        "advance" => {
            let seconds: u64 = visit.form.text("seconds").parse().unwrap_or(0);
            api.call("POST", "/clock/advance".to_owned(), Some(json!({"seconds": seconds})), visit.key()).await
        }
        "reset" => api.call("POST", "/reset".to_owned(), None, visit.key()).await,
        _ => return missing(visit),
    };
    match told.thing() {
        Ok(_) => Page::go(format!("{}/sandbox", visit.base())),
        Err(problem) => show(visit, api, Some(problem)).await,
    }
}
