//! Headers of requests and responses in the documents.
//!
//! Not here: which response has which (the parent), and headers that any HTTP response may have.

use serde_json::{Map, Value, json};

use crate::endpoint::{Endpoint, Success};
use crate::headers::TAGS_MAX;
use crate::mount::{Mount, SANDBOX};
use crate::order::{HEADER_BYTES_MAX, TARGET_CHARS_MAX};
use crate::surface::platform::KEY_CHARS_MAX;

/// A UUID of version 4.
const UUID_V4: &str = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-4[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}$";
/// What a header field may hold at all (RFC 9110).
const ANY_VALUE: &str = "^[\\t -~\\u0080-\\u00ff]*$";
const DECIMAL: &str = "^[0-9]+$";
/// Digits of a whole number of 64 bits at most.
const DECIMAL_CHARS_MAX: usize = 20;

/// `*`, or entity tags without commas in them.
fn tags_pattern() -> String {
    const TAG: &str = r#"(W/)?"[ !#-+\--~]*""#;
    format!("^(\\*|{TAG}( *, *{TAG}){{0,{}}})$", TAGS_MAX - 1)
}

/// An id of a request.
pub(super) fn uuid() -> Value {
    json!({"type": "string", "format": "uuid", "maxLength": 36})
}

/// Headers that an operation takes.
pub(super) fn parameters(mount: Mount, endpoint: &Endpoint) -> Vec<Value> {
    let header = |name: &str, schema: Value, description: &str| json!({"name": name, "in": "header", "required": false, "schema": schema, "description": description});
    // No length: headers are limited together only, by a 431.
    let tags = || json!({"type": "string", "minLength": 1, "pattern": tags_pattern()});
    // Of these none is refused: what means nothing is passed over.
    let any = || json!({"type": "string", "pattern": ANY_VALUE});
    let mut out = Vec::new();
    if endpoint.is_idempotent_by_key() {
        let schema = if mount.surface.name() == "strettch" {
            // The pattern alone, because it says which version; and clients are generated that can't send `format: uuid`.
            json!({"type": "string", "minLength": 36, "maxLength": 36, "pattern": UUID_V4})
        } else {
            json!({"type": "string", "minLength": 1, "maxLength": KEY_CHARS_MAX, "pattern": "^[!-~]+$"})
        };
        out.push(header("Idempotency-Key", schema, "Makes a retry safe for 24 hours: it finds the first answer."));
    }
    if matches!(endpoint.method, "PATCH" | "DELETE") {
        out.push(header("If-Match", tags(), "The entity tag of the state that is to be changed."));
    }
    if endpoint.success == Success::Found {
        out.push(header("If-None-Match", tags(), "Entity tags of the states that the client has."));
    }
    if mount.surface.knows_envelope() {
        out.push(header("Prefer", any(), "`envelope=always` asks for `{data, meta}` around everything."));
    }
    out.push(header(
        "X-Request-Id",
        any(),
        "The client's own id of the request, for the log: 1 to 128 visible ASCII characters. Anything else is passed over.",
    ));
    out
}

/// The headers that tell of budgets, with what each says and the form of it.
pub(super) fn budget(mount: Mount) -> Vec<(&'static str, &'static str, Value)> {
    let number = || json!({"type": "string", "maxLength": DECIMAL_CHARS_MAX, "pattern": DECIMAL});
    // An item for each of a key's and a workspace's budget.
    let items = |item: &str| json!({"type": "string", "maxLength": 1_000, "pattern": format!("^{item}(, {item})*$")});
    if mount.surface.name() == "strettch" {
        vec![
            ("x-ratelimit-limit-second", "Requests of this class in one second.", number()),
            ("x-ratelimit-remaining-second", "Requests of this class that are left in this second.", number()),
            ("x-ratelimit-reset-second", "The Unix second at which this one ends.", number()),
        ]
    } else {
        vec![
            (
                "RateLimit-Policy",
                "The budgets: `q` requests in any `w` seconds.",
                items(r#""[a-z0-9_-]+";q=[0-9]+;w=[0-9]+"#),
            ),
            (
                "RateLimit",
                "What is left of each budget: `r` requests, and `t` seconds until there are more.",
                items(r#""[a-z0-9_-]+";r=[0-9]+;t=[0-9]+"#),
            ),
        ]
    }
}

/// What every response may have.
pub(super) fn common(mount: Mount) -> Value {
    let names = budget(mount).into_iter().map(|(name, ..)| name).chain(["X-Request-Id", "Access-Control-Allow-Origin"]);
    let names = names.chain(has_sandbox(mount).then_some("Sandbox-Reset-At"));
    names
        .map(|name| (name.to_owned(), json!({"$ref": format!("#/components/headers/{name}")})))
        .collect::<Map<_, _>>()
        .into()
}

fn has_sandbox(mount: Mount) -> bool {
    mount.surface.name() == SANDBOX.surface.name()
}

/// Every header of the surface's responses.
pub(super) fn responses(mount: Mount) -> Value {
    let text = |chars_max: usize, pattern: &str| json!({"type": "string", "maxLength": chars_max, "pattern": pattern});
    let number = || text(DECIMAL_CHARS_MAX, DECIMAL);
    let address = || json!({"type": "string", "format": "uri-reference", "maxLength": 2 * TARGET_CHARS_MAX});
    let mut all = vec![
        ("X-Request-Id", "The request's id, a UUID.", uuid()),
        (
            "Access-Control-Allow-Origin",
            "To scripts of an origin that the configuration allows: that origin.",
            json!({"type": "string", "format": "uri", "maxLength": TARGET_CHARS_MAX}),
        ),
        ("ETag", "The entity tag of the resource's state.", text(100, r#"^(W/)?"[!#-~]*"$"#)),
        ("Location", "The path of the resource or operation.", address()),
        (
            "Link",
            "Pages of the list: first, prev, next (RFC 8288).",
            text(HEADER_BYTES_MAX, r#"^<[!-;=?-~]*>; rel="[a-z-]+"(, <[!-;=?-~]*>; rel="[a-z-]+")*$"#),
        ),
        ("Operation-Id", "The operation that goes on after the answer.", crate::fields::id_schema("op")),
        ("Retry-After", "Seconds after which a retry may succeed.", number()),
        ("WWW-Authenticate", "How to authenticate (RFC 6750).", text(1_000, "^Bearer( .+)?$")),
        (
            "Idempotent-Replayed",
            "`true` when the answer is that of an earlier request.",
            json!({"type": "string", "enum": ["true"]}),
        ),
        ("Idempotent-Original-Status", "The status of the earlier answer.", text(3, "^2[0-9]{2}$")),
    ];
    if has_sandbox(mount) {
        all.push((
            "Sandbox-Reset-At",
            "In the sandbox only: when it is reset next without being asked to, RFC 3339.",
            json!({"type": "string", "format": "date-time", "maxLength": 20}),
        ));
    }
    all.extend(budget(mount));
    let header =
        |(name, about, schema): (&str, &str, Value)| (name.to_owned(), json!({"description": about, "schema": schema}));
    all.into_iter().map(header).collect::<Map<_, _>>().into()
}
