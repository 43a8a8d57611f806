//! The OpenAPI 3.1 document of each surface, made from the endpoint table: schemas from field tables and views.

mod headers;
mod refine;
mod tags;

use std::collections::HashMap;
use std::sync::LazyLock;

use bytes::Bytes;
use nephos_control::caller::Reach;
use nephos_control::event::catalogue;
use nephos_control::view::PayloadView;
use nephos_model::page::LIMIT_MAX;
use nephos_model::role::Role;
use nephos_model::scope::Scopes;
use nephos_model::{Code, Fault, Timestamp};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::app::BODY_BYTES_MAX_DEFAULT as BODY_BYTES_MAX;
use crate::endpoint::{Endpoint, Success};
use crate::fields;
use crate::mount::{Mount, PLATFORM, SANDBOX, STRETTCH};
use crate::order::HEADER_BYTES_MAX;
use crate::query::{AFTER, PAGE_MAX};
use crate::registry::{Deprecation, Registry};
use crate::surface::Stamp;

/// Version of the OpenAPI specification that the documents follow.
const OPENAPI: &str = "3.1.0";

/// Answers to the examples of the endpoint table, as a test recorded them: `{operation: {surface: {status, body}}}`.
static ANSWERS: LazyLock<HashMap<String, HashMap<String, Value>>> = LazyLock::new(|| {
    // Committed, and read by the test that writes it.
    serde_json::from_str(include_str!("../../../openapi/examples.json")).unwrap_or_default()
});

/// The recorded answer of an operation on a surface, if there is one.
fn recorded(mount: Mount, endpoint: &Endpoint) -> Option<&'static Value> {
    ANSWERS.get(endpoint.id)?.get(mount.surface.name())
}

const LIVE: &str = "Live: production, with computes that run";

/// Both documents, rendered once.
#[derive(Debug)]
pub struct Documents {
    platform: Bytes,
    strettch: Bytes,
}

impl Documents {
    /// The documents of an installation; `origin` becomes the servers' URL.
    pub fn new(origin: &str, registry: &Registry) -> Self {
        let render = |mount| Bytes::from(document(mount, origin, registry).to_string());
        Self { platform: render(PLATFORM), strettch: render(STRETTCH) }
    }

    /// The document of the surface with this name.
    pub fn get(&self, surface: &str) -> Option<Bytes> {
        match surface {
            "platform" => Some(self.platform.clone()),
            "strettch" => Some(self.strettch.clone()),
            _ => None,
        }
    }
}

/// The documents as they are committed: file name and text.
pub fn files() -> [(&'static str, String); 2] {
    [PLATFORM, STRETTCH].map(|mount| {
        let mut text = format!("{:#}", document(mount, "", &Registry::default()));
        text.push('\n');
        (mount.surface.name(), text)
    })
}

/// The document of one surface.
pub fn document(mount: Mount, origin: &str, registry: &Registry) -> Value {
    let mut generator = SchemaSettings::draft2020_12()
        .with(|s| {
            s.definitions_path = "/components/schemas".into();
            s.meta_schema = None;
        })
        .into_generator();
    let mut paths = Map::new();
    for endpoint in registry.operations().filter(|endpoint| is_documented(mount, endpoint)) {
        let mut operation = operation(mount, endpoint, origin, &mut generator);
        if let Some(deprecation) = registry.deprecation(endpoint.id) {
            deprecate(&mut operation, deprecation);
        }
        let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        path[endpoint.method.to_lowercase()] = operation;
    }
    let webhooks = webhooks(&mut generator);
    let mut schemas: Map<String, Value> = generator.take_definitions(true).into_iter().collect();
    refine::refine(&mut schemas);
    schemas.insert("Error".to_owned(), error_schema(mount));
    schemas.insert("ErrorDetail".to_owned(), detail_schema());
    let servers = match mount.surface.name() {
        "platform" => json!([
            {"url": format!("{origin}/v1"), "description": LIVE, "x-internal": false},
            {
                "url": format!("{origin}/sandbox/v1"), "description": "Sandbox: simulated, never billed, for test keys",
                "x-internal": false,
            },
        ]),
        _ => json!([{"url": format!("{origin}{}", mount.base), "description": LIVE, "x-internal": false}]),
    };
    json!({
        "openapi": OPENAPI,
        "info": {
            "title": if mount.surface.name() == "platform" { "nephos: Platform API" } else { "nephos: Strettch API" },
            "version": "1",
            "description": about(mount),
            "contact": contact(origin),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": servers,
        "security": [{"api_key": []}],
        "tags": tags::all(mount),
        "paths": paths,
        "webhooks": webhooks,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"api_key": {
                "type": "http", "scheme": "bearer",
                "description": "An API key (`sk_live_…` on live base URLs, `sk_test_…` in the sandbox), or a token that one was \
                    exchanged for at `POST /tokens`.",
            }},
            "headers": headers::responses(mount),
            "responses": error_responses(mount),
        },
    })
}

/// What webhook endpoints are sent: one entry for each type of event.
fn webhooks(generator: &mut SchemaGenerator) -> Value {
    let event = Value::from(generator.subschema_for::<PayloadView>());
    let mut out = Map::new();
    for kind in catalogue::TYPES {
        let data = Value::from((kind.schema)(generator));
        let schema = json!({"allOf": [event, {"type": "object", "properties": {
            "type": {"const": kind.kind}, "version": {"const": kind.version}, "data": {"anyOf": [data, {"type": "null"}]},
        }}]});
        let post = json!({
            "operationId": format!("event.{}", kind.kind),
            "tags": [kind.noun()],
            "summary": kind.summary,
            "description": format!("{} Signed as Standard Webhooks 1.0.0 has it.", kind.summary),
            "security": [],
            "requestBody": {"required": true, "content": {"application/json": {"schema": schema}}},
            "responses": {"2XX": {"description": "Any 2xx within ten seconds; everything else is tried again."}},
        });
        out.insert(kind.kind.to_owned(), json!({"post": post}));
    }
    out.into()
}

/// Where there is more: each installation has a documentation of its own.
fn contact(origin: &str) -> Value {
    let mut out = json!({"name": "Whoever runs this installation"});
    if !origin.is_empty() {
        out["url"] = json!(format!("{origin}/docs"));
    }
    out
}

fn about(mount: Mount) -> &'static str {
    match mount.surface.name() {
        "platform" => {
            "Reads answer `{data, meta}`; writes answer the resource itself. `Prefer: envelope=always` asks for \
             `{data, meta}` everywhere. Unknown fields and parameters are refused by name. New response fields may come at \
             any time."
        }
        _ => {
            "Every answer is an envelope with `success`, `message` and `data`. Unknown fields and parameters are refused by \
             name. New response fields may come at any time."
        }
    }
}

/// Whether an operation is there under some base URL of a surface. Only one of them has a sandbox.
fn is_documented(mount: Mount, endpoint: &Endpoint) -> bool {
    !endpoint.sandbox_only || mount.surface.name() == SANDBOX.surface.name()
}

/// An operation whose end is known, and what it says of it.
fn deprecate(operation: &mut Value, deprecation: &Deprecation) {
    operation["deprecated"] = json!(true);
    operation["x-deprecated-at"] = json!(deprecation.since_at().to_string());
    operation["x-sunset-at"] = json!(deprecation.sunset_at().to_string());
    operation["x-successor"] = json!(deprecation.successor);
    let told = operation["description"].as_str().unwrap_or_default();
    operation["description"] = json!(format!("{told} Deprecated: {}", deprecation.note));
}

fn operation(mount: Mount, endpoint: &Endpoint, origin: &str, generator: &mut SchemaGenerator) -> Value {
    let mut parameters: Vec<Value> = Vec::new();
    if endpoint.path.contains("{id}") {
        parameters.push(json!({
            "name": "id", "in": "path", "required": true, "schema": refine::id_in_path(endpoint.path),
            "description": "The id of the resource.",
        }));
    }
    let data = Value::from((endpoint.schema)(generator));
    for parameter in endpoint.query {
        let mut schema = parameter.schema();
        if parameter.name == AFTER.name
            && let Some(id) = refine::id_of(&data)
        {
            schema = id;
        }
        parameters.push(json!({
            "name": parameter.name, "in": "query", "required": false, "schema": schema, "description": parameter.summary,
        }));
    }
    parameters.extend(headers::parameters(mount, endpoint));

    let status = endpoint.success.status().to_string();
    let mut responses = Map::new();
    responses.insert(status.clone(), success(mount, endpoint, data));
    if endpoint.takes_dry_run() {
        let view = Value::from(generator.subschema_for::<crate::call::DryRunView>());
        let body = envelope(mount, Success::Report, view);
        responses.insert(
            "200".to_owned(),
            json!({
                "description": "With `dry_run`: what it would cost. Nothing was done.",
                "headers": headers::common(mount),
                "content": {"application/json": {"schema": body}},
            }),
        );
    }
    if endpoint.success == Success::Found {
        responses.insert(
            "304".to_owned(),
            json!({"description": "The client has it already: `If-None-Match` names its state."}),
        );
    }
    if endpoint.upgrade.is_some() {
        responses.insert(
            "101".to_owned(),
            json!({"description": "The connection is a WebSocket from now on, as the client's `Upgrade` asks."}),
        );
    }
    if endpoint.is_idempotent_by_key() && mount.surface.name() == "strettch" && endpoint.success.status() != 202 {
        responses.insert("202".to_owned(), json!({
            "description": "The request was done before with this idempotency key; this is the first answer's body.",
            "headers": responses[&status]["headers"],
            "content": {"application/json": {"schema": responses[&status]["content"]["application/json"]["schema"]}},
        }));
    }
    for code in faults(endpoint) {
        let status = code.status().to_string();
        let name = status_name(code.status());
        responses.entry(status).or_insert_with(|| json!({"$ref": format!("#/components/responses/{name}")}));
    }

    let mut out = json!({
        "operationId": endpoint.id,
        "tags": [endpoint.noun()],
        "summary": endpoint.summary,
        "description": endpoint.description,
        "parameters": parameters,
        "responses": responses,
        "x-required-scope": endpoint.need.map(|need| need.scope.to_string()),
        "x-required-role": endpoint.need.map(|need| need.role.as_str()),
        "x-required-reach": endpoint.need.map(|need| match need.reach {
            Reach::Part => "part",
            Reach::Whole => "workspace",
            Reach::WholeLive => "live_workspace",
        }),
        "x-budget": if endpoint.is_read() { "read" } else { "write" },
        "x-idempotent-by-key": endpoint.is_idempotent_by_key(),
        "x-errors": faults(endpoint).iter().map(|code| mount.surface.code(*code)).collect::<Vec<_>>(),
    });
    if let Some(upgrade) = endpoint.upgrade {
        out["x-websocket-required-scope"] = json!(upgrade.need.scope.to_string());
    }
    if endpoint.is_open {
        out["security"] = json!([]);
    }
    if let Some(table) = endpoint.body {
        let required = table.iter().any(|field| field.required);
        out["requestBody"] = json!({
            "required": required,
            "description": format!("At most {} bytes.", endpoint.body_bytes_max(BODY_BYTES_MAX)),
            "content": {"application/json": {"schema": fields::schema(table)}},
        });
        if let Ok(example) = serde_json::from_str::<Value>(endpoint.example) {
            out["requestBody"]["content"]["application/json"]["example"] = example;
        }
        if !endpoint.exactly_one.is_empty() {
            let one: Vec<_> = endpoint.exactly_one.iter().map(|name| json!({"required": [name]})).collect();
            out["requestBody"]["content"]["application/json"]["schema"]["oneOf"] = json!(one);
            out["requestBody"]["required"] = json!(true);
        }
    }
    if endpoint.sandbox_only {
        let about = "The sandbox only: a live base URL has no such path";
        out["servers"] = json!([{"url": format!("{origin}{}", SANDBOX.base), "description": about}]);
    }
    out
}

/// Every code that an operation can answer.
fn faults(endpoint: &Endpoint) -> Vec<Code> {
    let writes = !endpoint.is_read();
    let posts = endpoint.is_idempotent_by_key();
    let takes_body = matches!(endpoint.method, "POST" | "PATCH");
    let can = |code: &Code| match code {
        Code::BadRequest
        | Code::Unauthorized
        | Code::NotAcceptable
        | Code::RequestTimeout
        | Code::TooManyRequests
        | Code::HeadersTooLarge
        | Code::InternalServerError
        | Code::ServiceUnavailable => true,
        Code::Forbidden => endpoint.need.is_some() || endpoint.faults.contains(code),
        Code::ResourceNotFound => endpoint.path.contains("{id}") || posts,
        Code::Conflict => (writes || endpoint.upgrade.is_some()) && endpoint.faults.contains(code),
        Code::PreconditionFailed => matches!(endpoint.method, "PATCH" | "DELETE"),
        Code::PayloadTooLarge | Code::UnsupportedMediaType => takes_body,
        Code::IdempotencyInProgress | Code::IdempotencyKeyReused => posts,
        Code::MethodNotAllowed | Code::Gone => false,
        Code::QuotaExceeded | Code::CapacityUnavailable => endpoint.faults.contains(code),
    };
    Code::ALL.iter().filter(|code| can(code)).copied().collect()
}

fn success(mount: Mount, endpoint: &Endpoint, data: Value) -> Value {
    let mut headers = headers::common(mount);
    let mut also = |name: &str| headers[name] = json!({"$ref": format!("#/components/headers/{name}")});
    match endpoint.success {
        Success::Listed => also("Link"),
        Success::Created => {
            also("Location");
            also("ETag");
        }
        Success::Accepted => {
            also("Location");
            also("Operation-Id");
        }
        Success::Found | Success::Updated => also("ETag"),
        Success::Deleted if matches!(endpoint.noun(), "compute" | "project") => also("Operation-Id"),
        Success::Deleted | Success::Report | Success::Document => {}
    }
    if endpoint.id == "compute.create" {
        also("Operation-Id");
    }
    if endpoint.is_idempotent_by_key() {
        also("Idempotent-Replayed");
        also("Idempotent-Original-Status");
    }
    let done = if endpoint.done.is_empty() { endpoint.summary } else { endpoint.done };
    let mut whole = json!({"schema": envelope(mount, endpoint.success, data)});
    if let Some(answer) = recorded(mount, endpoint) {
        whole["example"] = answer["body"].clone();
    }
    let mut content = json!({"application/json": whole});
    for form in endpoint.forms {
        // As long as texts are that clients can hold.
        content[*form] = json!({"schema": {"type": "string", "maxLength": i32::MAX}});
    }
    if endpoint.streamer.is_some() {
        content["text/event-stream"] = json!({"schema": {
            "type": "string", "maxLength": i32::MAX, "description": "Each message: `id`, the event's id; `event`, its type; `data`, the event as JSON.",
        }});
    }
    json!({"description": done, "headers": headers, "content": content})
}

/// The schema of a body around a resource.
fn envelope(mount: Mount, success: Success, data: Value) -> Value {
    let data = match success {
        Success::Listed => json!({"type": "array", "maxItems": LIMIT_MAX, "items": data}),
        _ => data,
    };
    if success == Success::Document {
        return data;
    }
    let uuid = headers::uuid();
    if mount.surface.name() == "strettch" {
        let mut out = json!({
            "type": "object",
            "required": ["success", "message", "data", "requestId", "timestamp"],
            "properties": {
                "success": {"const": true},
                "message": sentence(),
                "data": data,
                "requestId": uuid,
                "timestamp": {"type": "string", "format": "date-time", "maxLength": 20},
            },
        });
        if success == Success::Listed {
            out["properties"]["meta"] = meta(false);
            out["required"] = json!(["success", "message", "data", "meta", "requestId", "timestamp"]);
        }
        return out;
    }
    match success {
        Success::Found => json!({
            "type": "object", "required": ["data", "meta"],
            "properties": {
                "data": data,
                "meta": {"type": "object", "required": ["requestId"], "properties": {"requestId": uuid}},
            },
        }),
        Success::Listed => {
            json!({"type": "object", "required": ["data", "meta"], "properties": {"data": data, "meta": meta(true)}})
        }
        _ => data,
    }
}

fn meta(is_platform: bool) -> Value {
    let mut properties = json!({
        "total": {
            "type": "integer", "format": "int64", "minimum": 0, "maximum": i64::MAX,
            "description": "How many items match, over all pages.",
        },
        "page": {
            "type": "integer", "format": "int64", "minimum": 1, "maximum": PAGE_MAX,
            "description": "The page's number; absent with `after`.",
        },
        "limit": {
            "type": "integer", "format": "int32", "minimum": 1, "maximum": LIMIT_MAX,
            "description": "Items in the page at most.",
        },
    });
    let mut required = vec!["total", "limit"];
    if is_platform {
        properties["requestId"] = headers::uuid();
        properties["next"] = json!({
            "type": ["string", "null"], "maxLength": refine::TEXT_CHARS_MAX,
            "description": "The value for `after` of the next page.",
        });
        required.extend(["requestId", "next"]);
    }
    json!({"type": "object", "required": required, "properties": properties})
}

/// A text for people.
fn sentence() -> Value {
    json!({"type": "string", "maxLength": refine::TEXT_CHARS_MAX})
}

fn detail_schema() -> Value {
    let text = |more: Value, description: &str| {
        let mut out = json!({"type": "string", "maxLength": refine::TEXT_CHARS_MAX, "description": description});
        if let (Value::Object(out), Value::Object(more)) = (&mut out, more) {
            out.extend(more);
        }
        out
    };
    let word = || json!({"pattern": "^[a-z][a-z0-9_]*$", "maxLength": 100});
    let scopes: Vec<_> = Scopes::EVERY.iter().map(|scope| scope.to_string()).collect();
    let roles: Vec<_> = Role::ALL.iter().map(ToString::to_string).collect();
    json!({
        "type": "object",
        "required": ["code", "message"],
        "properties": {
            "code": text(word(), "A stable reason."),
            "message": text(json!({}), "A sentence for people that says the way out."),
            "pointer": text(json!({"format": "json-pointer"}), "Where in the body: a JSON Pointer."),
            "parameter": text(json!({}), "Which query parameter."),
            "header": text(json!({"pattern": "^[a-z0-9-]+$", "maxLength": 100}), "Which header."),
            "required_scope": text(json!({"enum": scopes}), "The scope that is missing."),
            "required_role": text(json!({"enum": roles}), "The role that is missing."),
            "resource_id": text(refine::any_id(), "The resource that stands in the way."),
            "budget": text(word(), "The budget that is spent."),
        },
    })
}

fn error_schema(mount: Mount) -> Value {
    let codes: Vec<_> = Code::ALL.iter().map(|code| mount.surface.code(*code)).collect();
    let details = json!({
        "type": "array", "maxItems": refine::ITEMS_MAX, "items": {"$ref": "#/components/schemas/ErrorDetail"},
    });
    let uuid = headers::uuid();
    if mount.surface.name() == "strettch" {
        return json!({
            "type": "object",
            "required": ["success", "code", "message", "details", "requestId", "timestamp"],
            "properties": {
                "success": {"const": false},
                "code": {"type": "string", "enum": codes},
                "message": sentence(),
                "details": details,
                "requestId": uuid,
                "timestamp": {"type": "string", "format": "date-time", "maxLength": 20},
            },
        });
    }
    json!({
        "type": "object",
        "required": ["status", "code", "message", "details", "request_id", "doc_url"],
        "properties": {
            "status": {"type": "integer", "format": "int32", "minimum": 400, "maximum": 599},
            "code": {"type": "string", "enum": codes},
            "message": sentence(),
            "details": details,
            "request_id": uuid,
            "doc_url": {"type": "string", "format": "uri", "maxLength": refine::TEXT_CHARS_MAX},
        },
    })
}

/// The name of a status' shared response.
fn status_name(status: u16) -> String {
    format!("Error{status}")
}

fn error_responses(mount: Mount) -> Value {
    let mut out = Map::new();
    for code in Code::ALL {
        let status = code.status();
        let codes: Vec<_> = Code::ALL.iter().filter(|c| c.status() == status).map(|c| mount.surface.code(*c)).collect();
        let mut headers = headers::common(mount);
        if let (401, Some(headers)) = (status, headers.as_object_mut()) {
            // Nobody's budget.
            headers.retain(|name, _| !headers::budget(mount).iter().any(|(budget, ..)| budget == name));
        }
        headers["X-Request-Id"] = json!({"$ref": "#/components/headers/X-Request-Id"});
        if matches!(status, 429 | 503 | 409) {
            headers["Retry-After"] = json!({"$ref": "#/components/headers/Retry-After"});
        }
        if status == 401 {
            headers["WWW-Authenticate"] = json!({"$ref": "#/components/headers/WWW-Authenticate"});
        }
        out.insert(
            status_name(status),
            json!({
                "description": format!("{}: {}", codes.join(" or "), meaning(status)),
                "headers": headers,
                "content": {"application/json": {
                    "schema": {"$ref": "#/components/schemas/Error"},
                    "examples": error_examples(mount, status),
                }},
            }),
        );
    }
    Value::Object(out)
}

/// A refusal of each code of a status, as the surface says it.
fn error_examples(mount: Mount, status: u16) -> Value {
    let stamp = Stamp {
        request_id: "01a1b2c3-d4e5-7f60-8a1b-2c3d4e5f6071",
        now: Timestamp::from_secs(1_773_829_329),
        origin: "https://cloud.example",
        message: "",
        envelope: false,
    };
    let of = |code: &Code| {
        let body = mount.surface.fault(&Fault::new(*code, meaning(status)), &stamp);
        // A surface writes JSON.
        let value: Value = serde_json::from_str(&body).unwrap_or_default();
        (mount.surface.code(*code).to_owned(), json!({"value": value}))
    };
    Code::ALL.iter().filter(|code| code.status() == status).map(of).collect::<Map<_, _>>().into()
}

/// What a status means, for people.
fn meaning(status: u16) -> String {
    match status {
        400 => "the request is malformed; `details` lists every problem.".to_owned(),
        401 => "there is no valid credential.".to_owned(),
        403 => "the credential lacks the scope or role that `details` names.".to_owned(),
        404 => "there is no such resource, or this credential does not see it.".to_owned(),
        405 => "the path has other methods; `Allow` lists them.".to_owned(),
        406 => "`Accept` allows no JSON.".to_owned(),
        408 => "the request took too long to arrive or to answer.".to_owned(),
        409 => "the state of the resource forbids it, or the first request with this idempotency key still runs."
            .to_owned(),
        410 => "the version or operation was retired.".to_owned(),
        412 => "the resource has changed since `If-Match`.".to_owned(),
        413 => format!("the body is larger than {BODY_BYTES_MAX} bytes."),
        415 => "the body is not sent as JSON.".to_owned(),
        422 => "a quota, the region's capacity or an idempotency key used for another request stands in the way."
            .to_owned(),
        429 => "the budget that `details` names is spent.".to_owned(),
        431 => format!("the headers are larger than {HEADER_BYTES_MAX} bytes."),
        503 => "the server can't answer for the moment.".to_owned(),
        _ => "something went wrong on the server's side; the request id identifies it in its log.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint;

    #[test]
    fn every_reference_leads_somewhere_and_every_operation_is_told() {
        for mount in [PLATFORM, STRETTCH] {
            let document = document(mount, "https://cloud.example", &Registry::default());
            let text = document.to_string();
            for reference in text.split("\"$ref\":\"#").skip(1) {
                let pointer = reference.split('"').next().unwrap();
                assert!(document.pointer(pointer).is_some(), "{pointer}");
            }
            assert!(!text.contains("definitions") && !text.contains("$defs"));
        }
        for endpoint in endpoint::all() {
            for (what, text) in
                [("summary", endpoint.summary), ("description", endpoint.description), ("done", endpoint.done)]
            {
                assert!(!text.is_empty(), "{} has no {what}", endpoint.id);
            }
        }
    }
}
