//! The neutral answer of a handler. A [`crate::surface::Surface`] gives it a body, a status and headers.

use nephos_model::id::{Id, OperationId, ProjectId};
use nephos_model::page::{Listed, Page, Start};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::json::write_string;

/// Bytes of a digest that a tag is made of.
const TAG_BYTES: usize = 12;

/// The media type of a JSON document a line.
pub const LINES: &str = "application/x-ndjson";

/// The media type of a table, a line a row.
pub const CSV: &str = "text/csv";
/// Metrics for a Prometheus (<https://openmetrics.io>).
pub const OPEN_METRICS: &str = "application/openmetrics-text";
/// Pages for people.
pub const HTML: &str = "text/html";

/// What a handler answers when it does not refuse.
#[derive(Debug)]
pub struct Reply {
    /// What happened.
    pub shape: Shape,
    /// The view, or the array of views, as JSON text.
    pub data: String,
    /// The entity tag with its quotes.
    pub etag: Option<String>,
    /// The path of the resource under the base URL.
    pub location: Option<String>,
    /// The operation that goes on after the answer.
    pub operation_id: Option<OperationId>,
    /// The project whose object this is about, for the count of requests.
    pub project_id: Option<ProjectId>,
    /// Whether `data` holds a secret.
    pub secret: bool,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// A resource was read.
    Found,
    /// A part of a list was read.
    Listed(Meta),
    /// A resource was made.
    Created,
    /// A resource was changed.
    Updated,
    /// A resource was removed.
    Deleted,
    /// An operation has begun.
    Accepted,
    /// A report was made: its own shape, in no envelope unless asked for.
    Report,
    /// A document of another convention, never in an envelope.
    Document,
    /// What is there in another form than JSON, which the client asked for.
    Text {
        /// Its media type.
        form: &'static str,
        /// What it says of itself as a list, in headers.
        meta: Option<Meta>,
    },
}

impl Shape {
    /// The HTTP status.
    pub const fn status(&self) -> u16 {
        match self {
            Self::Created => 201,
            Self::Accepted => 202,
            Self::Found
            | Self::Listed(_)
            | Self::Updated
            | Self::Deleted
            | Self::Report
            | Self::Document
            | Self::Text { .. } => 200,
        }
    }

    /// Whether a client that wants an envelope around everything gets one around this.
    pub const fn has_envelope(&self) -> bool {
        !matches!(self, Self::Document | Self::Text { .. })
    }
}

/// What a list says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// How many items match, over all pages.
    pub total: i64,
    /// The page's number; `None` when the page was asked for by `after`.
    pub page: Option<u32>,
    /// Items in the page at most.
    pub limit: u32,
    /// The id for `after` of the next page; `None` at the end.
    pub next: Option<String>,
}

impl Reply {
    fn new(shape: Shape, data: String) -> Self {
        Self { shape, data, etag: None, location: None, operation_id: None, project_id: None, secret: false }
    }

    /// A resource was read.
    pub fn found(view: &impl Serialize) -> Self {
        Self::new(Shape::Found, text(view))
    }

    /// A part of a list was read. `id` gives an item's id or, where there is none, its name.
    pub fn listed<T, V: Serialize>(
        listed: &Listed<T>,
        page: &Page,
        id: impl Fn(&T) -> String,
        view: impl Fn(&T) -> V,
    ) -> Self {
        Self::listed_texts(listed, page, id, |item| text(&view(item)))
    }

    /// A part of a list was read, whose items' views are JSON texts already.
    pub fn listed_texts<T, S: AsRef<str>>(
        listed: &Listed<T>,
        page: &Page,
        id: impl Fn(&T) -> String,
        text: impl Fn(&T) -> S,
    ) -> Self {
        let mut data = String::with_capacity(1024 * listed.items.len() + 2);
        data.push('[');
        for (i, item) in listed.items.iter().enumerate() {
            if i > 0 {
                data.push(',');
            }
            data.push_str(text(item).as_ref());
        }
        data.push(']');
        let meta = Meta {
            total: listed.total,
            page: match page.start {
                Start::Number(n) => Some(n),
                Start::After(_) => None,
            },
            limit: page.limit,
            next: listed.items.last().filter(|_| listed.more).map(id),
        };
        Self::new(Shape::Listed(meta), data)
    }

    /// A resource was made; `path` is its path under the base URL.
    pub fn created(view: &impl Serialize, path: String) -> Self {
        Self { location: Some(path), ..Self::new(Shape::Created, text(view)) }
    }

    /// A resource was changed.
    pub fn updated(view: &impl Serialize) -> Self {
        Self::new(Shape::Updated, text(view))
    }

    /// The resource with this id was removed.
    pub fn deleted(id: impl Id) -> Self {
        let mut data = String::from("{\"deleted\":true,\"id\":");
        write_string(&mut data, &id.to_string());
        data.push('}');
        Self::new(Shape::Deleted, data)
    }

    /// An operation has begun.
    pub fn accepted(view: &impl Serialize, id: OperationId) -> Self {
        Self {
            location: Some(format!("/operations/{id}")),
            operation_id: Some(id),
            ..Self::new(Shape::Accepted, text(view))
        }
    }

    /// A report in its own shape.
    pub fn report(view: &impl Serialize) -> Self {
        Self::new(Shape::Report, text(view))
    }

    /// A document of another convention, as JSON text.
    pub fn document(text: String) -> Self {
        Self::new(Shape::Document, text)
    }

    /// What there is, in another form than JSON.
    pub fn text(form: &'static str, text: String) -> Self {
        Self::new(Shape::Text { form, meta: None }, text)
    }

    /// A part of a list, one line of JSON an item: the media type is that of a stream of documents.
    pub fn lines<T, V: Serialize>(
        listed: &Listed<T>,
        limit: u32,
        id: impl Fn(&T) -> String,
        view: impl Fn(&T) -> V,
    ) -> Self {
        let data = listed.items.iter().fold(String::new(), |lines, item| lines + &text(&view(item)) + "\n");
        let next = listed.items.last().filter(|_| listed.more).map(id);
        let meta = Meta { total: listed.total, page: None, limit, next };
        Self::new(Shape::Text { form: LINES, meta: Some(meta) }, data)
    }

    /// A resource that was read has a tag: of its row's version, else of what is shown of it.
    #[must_use]
    pub(crate) fn tagged(mut self) -> Self {
        if self.shape == Shape::Found && self.etag.is_none() {
            let digest = Sha256::digest(self.data.as_bytes());
            let tag = digest.iter().take(TAG_BYTES).fold(String::from("\""), |tag, byte| tag + &format!("{byte:02x}"));
            self.etag = Some(tag + "\"");
        }
        self
    }

    /// With the entity tag of a row's version.
    #[must_use]
    pub fn version(mut self, version: i64) -> Self {
        self.etag = Some(etag(version));
        self
    }

    /// With the operation that goes on after the answer.
    #[must_use]
    pub const fn operation(mut self, id: Option<OperationId>) -> Self {
        self.operation_id = id;
        self
    }

    /// About an object of a project.
    #[must_use]
    pub fn of(mut self, project: impl Into<Option<ProjectId>>) -> Self {
        self.project_id = project.into();
        self
    }

    /// Marked as holding a secret.
    #[must_use]
    pub const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }
}

/// The entity tag of a row's version.
pub fn etag(version: i64) -> String {
    format!("\"{version}\"")
}

fn text(view: &impl Serialize) -> String {
    // Views are structs of texts, numbers, lists and maps with text keys: serializing those into memory can't fail.
    serde_json::to_string(view).unwrap_or_default()
}
