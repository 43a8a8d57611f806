//! What schemas derived from views do not say by themselves: which properties are always there, forms of texts that follow
//! from a property's name, the words of closed lists, and a bound for everything.
//!
//! A property that is named as others are needs nothing here. Deliberately not here: what request bodies may hold, which
//! their field tables say exactly.

use nephos_model::compute::Status;
use nephos_model::label::{LABEL_CHARS_MAX, LABELS_MAX};
use nephos_model::operation::Kind;
use nephos_model::role::Role;
use nephos_model::scope::Scopes;
use serde_json::{Map, Value, json};

use crate::fields::id_schema;

/// An id of any kind.
const ANY_ID: &str = "^[a-z]+_[0-7][0-9a-hjkmnp-tv-z]{25}$";
/// Characters in an id of any kind at most.
const ID_CHARS_MAX: usize = 40;
/// Characters of a text of an answer at most, where nothing narrower is known.
pub(super) const TEXT_CHARS_MAX: u64 = 16_384;
/// Characters of an answer's console output at most: every byte of it may be an escape of six.
const OUTPUT_CHARS_MAX: u64 = 1_048_576;
/// Items of a list in a resource at most, where nothing narrower is known.
pub(super) const ITEMS_MAX: u64 = 100_000;
/// Members of an object without a schema at most.
const MEMBERS_MAX: u64 = 1_000;

/// Prefixes of ids by the name of the property that holds one.
const PREFIXES: &[(&str, &str)] = &[
    ("project_id", "prj"),
    ("default_project_id", "prj"),
    ("environment_id", "env"),
    ("compute_id", "cmp"),
    ("operation_id", "op"),
    ("event_id", "evt"),
    ("image_id", "img"),
    ("member_id", "mem"),
    ("invited_by", "mem"),
    ("user_id", "usr"),
    ("workspace_id", "ws"),
    ("api_key_id", "key"),
    ("webhook_id", "whk"),
    ("delivery_id", "dlv"),
    ("volume_id", "vol"),
    ("snapshot_id", "snp"),
    ("firewall_id", "fwl"),
];

/// Prefixes of the `id` of resources, by the first words of their schema's name.
const OWN_PREFIXES: &[(&str, &str)] = &[
    ("AcceptedInvitation", "mem"),
    ("ApiKey", "key"),
    ("AuditEntry", "aud"),
    ("BudgetAlert", "bud"),
    ("BudgetNotice", "bud"),
    ("Compute", "cmp"),
    ("Delivery", "dlv"),
    ("Environment", "env"),
    ("Event", "evt"),
    ("Firewall", "fwl"),
    ("Image", "img"),
    ("Incident", "inc"),
    ("Invitation", "ivt"),
    ("Invoice", "inv"),
    ("InvoiceNotice", "inv"),
    ("InvoiceWithLines", "inv"),
    ("Member", "mem"),
    ("Operation", "op"),
    ("Project", "prj"),
    ("Snapshot", "snp"),
    ("SshKey", "ssh"),
    ("Volume", "vol"),
    ("Webhook", "whk"),
    ("Workspace", "ws"),
];

/// Prefixes of ids in paths, by the first part of the path.
const PATH_PREFIXES: &[(&str, &str)] = &[
    ("api-keys", "key"),
    ("budget-alerts", "bud"),
    ("computes", "cmp"),
    ("deliveries", "dlv"),
    ("environments", "env"),
    ("firewalls", "fwl"),
    ("images", "img"),
    ("invitations", "ivt"),
    ("invoices", "inv"),
    ("members", "mem"),
    ("operations", "op"),
    ("projects", "prj"),
    ("snapshots", "snp"),
    ("ssh-keys", "ssh"),
    ("volumes", "vol"),
    ("webhooks", "whk"),
];

/// The schema of an id of whatever resource.
pub(super) fn any_id() -> Value {
    json!({"type": "string", "maxLength": ID_CHARS_MAX, "pattern": ANY_ID})
}

/// The schema of the `{id}` in a path.
pub(super) fn id_in_path(path: &str) -> Value {
    let first = path.split('/').nth(1).unwrap_or_default();
    PATH_PREFIXES.iter().find(|(part, _)| *part == first).map_or_else(any_id, |(_, prefix)| id_schema(prefix))
}

/// The schema of the ids of what a reference to a schema is about; `None` when it is known by its name.
pub(super) fn id_of(reference: &Value) -> Option<Value> {
    let name = reference["$ref"].as_str()?.rsplit('/').next()?;
    OWN_PREFIXES.iter().find(|(own, _)| *own == name).map(|(_, prefix)| id_schema(prefix))
}

/// Makes the schemas of answers exact.
pub(super) fn refine(schemas: &mut Map<String, Value>) {
    for (name, schema) in schemas {
        let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else { continue };
        for (property, schema) in properties.iter_mut() {
            property_of(name, property, schema);
        }
        // The contract: every declared field is present, null when it has no value.
        let every: Vec<&String> = properties.keys().collect();
        schema["required"] = json!(every);
    }
}

fn property_of(owner: &str, property: &str, schema: &mut Value) {
    if is(schema, "string") {
        text(owner, property, schema);
    } else if is(schema, "integer") {
        integer(schema);
    } else if is(schema, "array") {
        schema["maxItems"] = json!(ITEMS_MAX);
        if let Some(items) = schema.get_mut("items").filter(|items| is(items, "string")) {
            text(owner, property, items);
        }
    } else if is(schema, "object") {
        if property == "labels" {
            schema["maxProperties"] = json!(LABELS_MAX);
            schema["propertyNames"] = json!({"minLength": 1, "maxLength": LABEL_CHARS_MAX});
            schema["additionalProperties"]["maxLength"] = json!(LABEL_CHARS_MAX);
        } else if schema.get("properties").is_none() {
            schema["maxProperties"] = json!(MEMBERS_MAX);
            schema["additionalProperties"] = json!(true);
        }
    }
}

/// Whether a schema is of a type, or of that type and null.
fn is(schema: &Value, kind: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(one)) => one == kind,
        Some(Value::Array(several)) => several.iter().any(|one| one == kind),
        _ => false,
    }
}

fn text(owner: &str, property: &str, schema: &mut Value) {
    if let Some(words) = words(owner, property) {
        let mut words: Vec<Value> = words.into_iter().map(Value::String).collect();
        if is(schema, "null") {
            words.push(Value::Null);
        }
        schema["enum"] = json!(words);
        return;
    }
    if schema.get("enum").is_some() || schema.get("const").is_some() || schema.get("pattern").is_some() {
        return;
    }
    // `ApiKeyWithSecret` is an `ApiKey`; `EventActor` is no `Event`.
    let is_of = |rest: &str| rest.is_empty() || rest.starts_with("With") || rest == "Details";
    let own = || OWN_PREFIXES.iter().find(|(name, _)| owner.strip_prefix(name).is_some_and(is_of));
    let prefix = match property {
        "id" => own().map(|(_, prefix)| *prefix),
        other => PREFIXES.iter().find(|(name, _)| *name == other).map(|(_, prefix)| *prefix),
    };
    if let Some(prefix) = prefix {
        let id = id_schema(prefix);
        schema["pattern"] = id["pattern"].clone();
        schema["maxLength"] = id["maxLength"].clone();
    } else if property.ends_with("_at")
        || matches!(property, "at" | "now" | "real_now" | "measured_since" | "previous_secret_until")
    {
        schema["format"] = json!("date-time");
        schema["maxLength"] = json!(20);
    } else if property == "month" {
        schema["pattern"] = json!("^[0-9]{4}-(0[1-9]|1[0-2])$");
        schema["maxLength"] = json!(7);
    } else if property == "email" {
        schema["format"] = json!("email");
        schema["maxLength"] = json!(nephos_model::email::EMAIL_CHARS_MAX);
    } else if property == "currency" {
        schema["pattern"] = json!("^[A-Z]{3}$");
        schema["maxLength"] = json!(3);
    } else if property == "output" {
        schema["maxLength"] = json!(OUTPUT_CHARS_MAX);
    } else {
        schema["maxLength"] = json!(TEXT_CHARS_MAX);
    }
}

/// The words of a closed list.
fn words(owner: &str, property: &str) -> Option<Vec<String>> {
    let plain = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect());
    match (owner, property) {
        (_, "role") => Some(Role::ALL.iter().map(ToString::to_string).collect()),
        (_, "mode") => plain(&["live", "test"]),
        (_, "scopes") => Some(Scopes::EVERY.iter().map(|scope| scope.to_string()).collect()),
        (_, "restart_policy") => plain(&["never", "on_failure"]),
        ("Compute", "status") => Some(Status::ALL.iter().map(|status| status.as_str().to_owned()).collect()),
        ("Operation", "kind") => Some(Kind::ALL.iter().map(|kind| kind.as_str().to_owned()).collect()),
        ("Operation", "status") => plain(&["pending", "running", "succeeded", "failed", "cancelled"]),
        ("Budget", "surface") => plain(&["platform", "strettch"]),
        ("Me", "kind") => plain(&["api_key", "token"]),
        ("EventActor", "kind") => plain(&["api_key", "member", "operator", "system"]),
        _ => None,
    }
}

fn integer(schema: &mut Value) {
    let bounds = match schema.get("format").and_then(Value::as_str) {
        Some("uint8") => (0, u64::from(u8::MAX)),
        Some("uint16") => (0, u64::from(u16::MAX)),
        Some("uint32") => (0, u64::from(u32::MAX)),
        Some("uint64" | "uint") => (0, i64::MAX.unsigned_abs()),
        _ => (i64::MIN, i64::MAX.unsigned_abs()),
    };
    // OpenAPI knows two widths.
    schema["format"] = json!("int64");
    schema["minimum"] = json!(bounds.0);
    schema["maximum"] = json!(bounds.1);
}
