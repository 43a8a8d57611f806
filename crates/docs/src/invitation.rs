//! The page where a link of an invitation leads. The token is behind the `#`, which no server sees: a script of the page
//! sends it when the person says so. Deliberately not here: what accepting means; that is the API's.

use askama::Template;

use crate::{Answer, asset};

/// Where it is.
pub const PATH: &str = "/invitations/accept";

#[derive(Template)]
#[template(path = "invitation.html")]
struct Invitation<'a> {
    edition: &'a str,
    origin: &'a str,
}

/// The page, for an installation at `origin`.
pub fn page(origin: &str) -> Answer {
    // The template writes to a string, which does not fail.
    let body = Invitation { edition: &asset::EDITION, origin }.render().unwrap_or_default();
    Answer { cache: "no-store", ..Answer::html(200, body) }
}
