//! Whether an event is as the catalogue describes it: run on every event of a debug build, so on every one of every test.
//!
//! Knows the part of JSON Schema that views' schemas are made of, and is stricter in one thing: a member that the schema
//! does not name is wrong.

#![cfg(debug_assertions)]

use std::sync::OnceLock;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::catalogue;

struct Known {
    schemas: Vec<(&'static str, Value)>,
    shared: Map<String, Value>,
}

fn known() -> &'static Known {
    static KNOWN: OnceLock<Known> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let mut generator = generator();
        let schemas = catalogue::TYPES.iter().map(|t| (t.kind, Value::from((t.schema)(&mut generator)))).collect();
        Known { schemas, shared: generator.take_definitions(true).into_iter().collect() }
    })
}

/// What is wrong with an event, if anything.
pub(super) fn check(kind: &str, data: &str, previous: Option<&str>) -> Result<(), String> {
    let Some(entry) = catalogue::find(kind) else {
        return Err(format!(
            "the event {kind} is not in the catalogue (control/src/event/catalogue.rs): describe it there"
        ));
    };
    let known = known();
    let schema = known.schemas.iter().find(|(of, _)| *of == kind).map_or(&Value::Null, |(_, schema)| schema);
    let value: Value =
        serde_json::from_str(data).map_err(|error| format!("the event {kind} carries no JSON: {error}"))?;
    matches(schema, &value, known).map_err(|why| format!("the event {kind} is not as the catalogue has it: {why}"))?;
    if entry.has_previous != previous.is_some() {
        let has = if previous.is_some() { "tells" } else { "does not tell" };
        return Err(format!("the event {kind} {has} what was before, and the catalogue has it the other way"));
    }
    let before: Map<String, Value> =
        previous.map(serde_json::from_str).transpose().map_err(|e| e.to_string())?.unwrap_or_default();
    let stranger = before.keys().find(|key| value.get(key.as_str()).is_none());
    stranger.map_or(Ok(()), |key| Err(format!("the event {kind} tells of {key} before, which its data has not")))
}

fn matches(schema: &Value, value: &Value, known: &Known) -> Result<(), String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap_or_default();
        return matches(known.shared.get(name).ok_or_else(|| format!("{reference} leads nowhere"))?, value, known);
    }
    if let Some(any) = schema["anyOf"].as_array() {
        let fits = any.iter().any(|one| matches(one, value, known).is_ok());
        return if fits { Ok(()) } else { Err(format!("{value} is none of what it may be")) };
    }
    let is = |name: &str| match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    };
    let fits = match &schema["type"] {
        Value::String(name) => is(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).any(is),
        _ => true,
    };
    if !fits {
        return Err(format!("{value} is not {}", schema["type"]));
    }
    if let Value::Array(items) = value {
        return items.iter().try_for_each(|item| matches(&schema["items"], item, known));
    }
    let Value::Object(members) = value else { return Ok(()) };
    let properties = schema["properties"].as_object();
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !members.contains_key(name) {
            return Err(format!("{name} is missing"));
        }
    }
    for (name, member) in members {
        match properties.and_then(|known| known.get(name)).or_else(|| schema.get("additionalProperties")) {
            Some(inner) => matches(inner, member, known).map_err(|why| format!("{name}: {why}"))?,
            None if properties.is_none() => {}
            None => return Err(format!("{name} is not described")),
        }
    }
    Ok(())
}

/// A generator that puts shared schemas where OpenAPI documents have them.
fn generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12()
        .with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        })
        .into_generator()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_described_is_found() {
        let good = r#"{"id":"prj_1","name":"a","is_default":false,"created_at":"x","updated_at":"y"}"#;
        assert_eq!(check("project.created", good, None), Ok(()));
        assert_eq!(check("project.updated", good, Some(r#"{"name":"b"}"#)), Ok(()));
        for (kind, data, previous, why) in [
            ("project.painted", good, None, "catalogue"),
            ("project.created", good, Some("{}"), "before"),
            ("project.updated", good, None, "before"),
            ("project.updated", good, Some(r#"{"colour":"red"}"#), "colour"),
            ("project.created", "{}", None, "missing"),
            ("project.created", &good.replace("false", "3"), None, "is_default"),
            ("project.created", &good.replace("\"id\"", "\"secret\":\"x\",\"id\""), None, "secret"),
            ("project.created", "null", None, "object"),
            ("project.created", "nothing", None, "JSON"),
        ] {
            assert!(check(kind, data, previous).unwrap_err().contains(why), "{kind} {data}");
        }
    }
}
