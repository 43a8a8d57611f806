//! The surface's own description.

use std::future::ready;

use nephos_control::plan::CommitError;
use nephos_model::Fault;
use serde_json::{Map, Value};

use crate::call::{Answer, Call};
use crate::endpoint::{Endpoint, Success, schema_of};
use crate::reply::Reply;

/// The operations.
pub const OPERATIONS: &[Endpoint] =
    &[Endpoint::new("openapi.get", "GET", "/openapi.json", Success::Document, schema_of::<Map<String, Value>>, |c| {
        Box::pin(ready(get(c)))
    })
    .told(
        "Read this document",
        "The OpenAPI document of this surface. Without a credential it is at /docs/openapi.",
        "Document found.",
    )];

fn get(call: &Call) -> Result<Answer, CommitError> {
    let document = call.app.documents.get(call.mount.surface.name());
    let document = document.ok_or_else(|| Fault::internal("a surface has no OpenAPI document"))?;
    let text = String::from_utf8(document.to_vec()).map_err(Fault::internal)?;
    call.read(Reply::document(text))
}
