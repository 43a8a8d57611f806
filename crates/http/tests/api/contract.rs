//! Every answer of every test against the committed kind of document: its status is one that the operation has, its headers
//! are told of, its body has exactly the shape that is promised.
//!
//! Clients must take fields that they do not know; here a field that the document does not know fails, so that none appears
//! untold.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use jsonschema::Validator;
use nephos_http::endpoint::{self, Router};
use nephos_http::mount::{self, Mount, PLATFORM, Place, STRETTCH};
use nephos_http::{App, Registry, openapi};
use serde_json::{Value, json};

use super::Answer;

/// Headers that any response may have.
const ANYWHERE: &[&str] = &[
    "content-type",
    "content-length",
    "content-language",
    "date",
    "vary",
    "cache-control",
    "allow",
    "connection",
    "x-content-type-options",
    "preference-applied",
    // Of what is deprecated, on every response.
    "deprecation",
    "sunset",
    "link",
];

static ROUTER: LazyLock<Router> = LazyLock::new(|| Router::new(endpoint::all()));
static DOCUMENTS: LazyLock<[Value; 2]> = LazyLock::new(|| {
    [PLATFORM, STRETTCH].map(|mount| {
        let mut document = openapi::document(mount, "", &Registry::default());
        close(&mut document["components"]["schemas"]);
        document
    })
});
/// Compiled schemas by surface, operation and status.
static VALIDATORS: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);

/// An object takes no properties but those that it tells of.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if members.get("properties").is_some_and(Value::is_object) && !members.contains_key("additionalProperties")
            {
                members.insert("additionalProperties".to_owned(), json!(false));
            }
            members.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// Panics when an answer is not as the document says.
pub fn check(_app: &App, method: &str, path: &str, answer: &Answer) {
    let (path, _) = path.split_once('?').unwrap_or((path, ""));
    let plain = mount::plain(path);
    let mount = match mount::find(&plain, false) {
        Place::Under(mount, _) | Place::NoVersion(mount) | Place::Nowhere(mount) => mount,
    };
    let is_json = answer.header("content-type").starts_with("application/json");
    if answer.text.is_empty() || !is_json || path == "/readyz" {
        return;
    }
    let what = format!("{method} {path} {}", answer.status);
    let found = match mount::find(&plain, false) {
        Place::Under(mount, under) => ROUTER.find(under, mount.mode).and_then(|(resource, _)| resource.method(method)),
        _ => None,
    };
    let Some(endpoint) = found else {
        // No operation, or one that only the test has: a refusal has the shape of all refusals.
        if answer.status >= 400 {
            conforms(
                mount,
                &format!("error {}", mount.surface.name()),
                &what,
                answer,
                || json!({"$ref": "#/components/schemas/Error"}),
            );
        }
        return;
    };
    let document = document(mount);
    let operation = &document["paths"][endpoint.path][endpoint.method.to_lowercase()];
    let mut response = &operation["responses"][answer.status.to_string()];
    // What a client does before it reaches the operation, and what a test's own registry says of it.
    if response.is_null() && matches!(answer.status, 404 | 405 | 410) {
        response = &document["components"]["responses"][format!("Error{}", answer.status)];
    }
    if let Some(reference) = response["$ref"].as_str() {
        response = document.pointer(reference.trim_start_matches('#')).unwrap();
    }
    assert!(!response.is_null(), "{what}: the document has no such status for {}: {}", endpoint.id, answer.text);
    for name in answer.headers.keys().map(http::HeaderName::as_str) {
        let is_told =
            response["headers"].as_object().is_some_and(|told| told.keys().any(|t| t.eq_ignore_ascii_case(name)));
        let is_anywhere = ANYWHERE.contains(&name) || name.starts_with("access-control-");
        assert!(is_told || is_anywhere, "{what}: the document does not tell of the header {name} of {}", endpoint.id);
    }
    let schema = &response["content"]["application/json"]["schema"];
    let key = format!("{} {} {}", mount.surface.name(), endpoint.id, answer.status);
    conforms(mount, &key, &what, answer, || schema.clone());
}

fn document(mount: Mount) -> &'static Value {
    &DOCUMENTS[usize::from(mount.surface.name() == STRETTCH.surface.name())]
}

fn conforms(mount: Mount, key: &str, what: &str, answer: &Answer, schema: impl FnOnce() -> Value) {
    let known = VALIDATORS.lock().unwrap().get(key).cloned();
    let validator = known.unwrap_or_else(|| {
        let mut schema = schema();
        close(&mut schema);
        schema["components"] = json!({"schemas": document(mount)["components"]["schemas"]});
        let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
        let validator = Arc::new(validator);
        VALIDATORS.lock().unwrap().insert(key.to_owned(), validator.clone());
        validator
    });
    let body = answer.json();
    // An envelope that was asked for is around what the document tells of.
    let is_enveloped =
        answer.header("preference-applied").contains("envelope=always") && validator.validate(&body).is_err();
    let body = if is_enveloped { &body["data"] } else { &body };
    let problems: Vec<String> =
        validator.iter_errors(body).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(problems.is_empty(), "{what}: not as the document says: {problems:#?}\n{}", answer.text);
}
