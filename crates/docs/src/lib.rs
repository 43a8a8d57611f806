//! The documentation: guides, a page for each error, the reference of every operation, search.
//!
//! Owns its pages, how they look and where they are. It answers from what is compiled in and from the API documents it
//! is given; it opens no file, reads no table and knows no credential.

mod asset;
mod error;
mod invitation;
mod markdown;
mod reference;
mod render;
mod sample;
mod search;
mod site;

use bytes::Bytes;
use serde_json::Value;

pub use reference::Surface;
pub use site::{ADDRESSES_MOVED, addresses};

use reference::Reference;

/// Bytes of a search query that are looked at.
pub const QUERY_BYTES_MAX: usize = 200;

/// What a browser may load on a documentation page (Content Security Policy, level 3): nothing from anywhere else.
pub const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self' data:; \
    connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Names the style, the script and the fonts as they are now: they lie at `/docs/assets/EDITION/NAME`.
pub fn edition() -> &'static str {
    &asset::EDITION
}

/// How the installation is doing, for the strip at the top of each page.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Health {
    /// Share of the last 90 days in which it answered, in thousandths of a percent; `None` while nothing was measured.
    pub uptime_millipercent: Option<u32>,
    /// Average time to answer, in microseconds.
    pub latency_us: Option<u64>,
    /// The names of the regions.
    pub regions: Vec<String>,
}

/// A response without the headers that every response has.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The media type.
    pub content_type: &'static str,
    /// The body.
    pub body: Bytes,
    /// For how long it may be kept, as `Cache-Control` has it.
    pub cache: &'static str,
    /// Where to go instead, on a redirect.
    pub location: Option<String>,
    /// Where the same page is in another form, as `Link` has it.
    pub link: Option<String>,
}

impl Answer {
    fn html(status: u16, body: String) -> Self {
        Self {
            status,
            content_type: "text/html; charset=utf-8",
            body: body.into(),
            cache: "no-cache",
            location: None,
            link: None,
        }
    }

    fn text(content_type: &'static str, body: String) -> Self {
        Self { content_type, ..Self::html(200, body) }
    }

    fn redirect(to: &str) -> Self {
        Self { location: Some(to.to_owned()), ..Self::html(301, String::new()) }
    }
}

/// The documentation of one installation.
#[derive(Debug)]
pub struct Docs {
    origin: String,
    reference: Reference,
    index: Bytes,
}

impl Docs {
    /// Makes it from the installation's origin (scheme and authority) and its API documents.
    pub fn new(origin: &str, platform: &Value, strettch: &Value) -> Self {
        let reference = Reference::new(platform, strettch);
        let index = Bytes::from(search::index(&reference).to_string());
        Self { origin: origin.to_owned(), reference, index }
    }

    /// Whether a path belongs to the documentation.
    pub fn owns(path: &str) -> bool {
        matches!(path, "/" | "/docs" | "/llms.txt" | "/favicon.svg" | invitation::PATH) || path.starts_with("/docs/")
    }

    /// Answers a path, with its query as it stands in the URL.
    pub fn answer(&self, path: &str, query: &str, health: &Health) -> Answer {
        let trimmed = path.strip_suffix('/').filter(|rest| !rest.is_empty());
        if let Some(rest) = trimmed {
            return Answer::redirect(rest);
        }
        if let Some((_, to)) = ADDRESSES_MOVED.iter().find(|(from, _)| *from == path) {
            return Answer::redirect(to);
        }
        match path {
            "/" => Answer { status: 302, ..Answer::redirect("/docs") },
            "/favicon.svg" => asset::favicon(),
            invitation::PATH => invitation::page(&self.origin),
            "/llms.txt" => Answer::text("text/markdown; charset=utf-8", self.llms()),
            "/docs/search.json" => {
                Answer { body: self.index.clone(), ..Answer::text("application/json", String::new()) }
            }
            "/docs/errors.json" => Answer::text("application/json", error::catalogue(&self.origin).to_string()),
            _ => match path.strip_prefix("/docs/assets/") {
                Some(name) => asset::find(name).unwrap_or_else(|| self.missing(path, health)),
                None => self.page(path, query, health),
            },
        }
    }
}

#[cfg(test)]
mod tests;
