//! What is breaking between two schemas of one place: in a request everything that was taken must still be taken, in an
//! answer nothing may come that could not come before.
//!
//! Two things are no break, because the documentation promises clients that they come: a new property of an answer, and a
//! new word in a closed list of one. Bounds of an answer are not compared either: no client depends on them.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// Deeper than this schemas are taken for the same: ours are not nested so far, and references may go in circles.
const DEPTH_MAX: usize = 24;

/// Keywords that bound from above, and from below.
const UPPER: [&str; 5] = ["maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"];
const LOWER: [&str; 5] = ["minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"];
/// Keywords that narrow by being there, and of which no other value is known to be wider.
const EXACT: [&str; 6] = ["pattern", "format", "const", "multipleOf", "propertyNames", "allOf"];

/// Which way a value travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Request,
    Answer,
}

/// Two documents and the way in which values travel.
pub(super) struct Comparison<'a> {
    pub(super) old: &'a Value,
    pub(super) new: &'a Value,
    pub(super) direction: Direction,
}

impl Comparison<'_> {
    /// Everything that is breaking between two schemas; `at` names the place.
    pub(super) fn breaks(&self, at: &str, old: &Value, new: &Value) -> Vec<String> {
        let mut found = Vec::new();
        self.compare(at, old, new, 0, &mut found);
        found
    }

    fn compare(&self, at: &str, old: &Value, new: &Value, depth: usize, found: &mut Vec<String>) {
        if depth > DEPTH_MAX || (old == new && self.old == self.new) {
            return;
        }
        let (old, new) = (variants(self.old, old), variants(self.new, new));
        // Each of the one side must have somebody on the other who takes it; the closest one is told of.
        let (asking, answering) = match self.direction {
            Direction::Request => (&old, &new),
            Direction::Answer => (&new, &old),
        };
        for one in asking {
            let mut best: Option<Vec<String>> = None;
            for other in answering.iter().filter(|other| is_kin(one, other)) {
                let mut these = Vec::new();
                let (old, new) = if self.direction == Direction::Request { (one, other) } else { (other, one) };
                self.single(at, old, new, depth, &mut these);
                if best.as_ref().is_none_or(|best| these.len() < best.len()) {
                    best = Some(these);
                }
            }
            match (best, self.direction) {
                (Some(these), _) => found.extend(these),
                (None, Direction::Request) => found.push(format!("{at} no longer takes {}", kind_of(one))),
                (None, Direction::Answer) => found.push(format!("{at} may now be {}", kind_of(one))),
            }
        }
    }

    /// Two schemas of one type each.
    fn single(
        &self,
        at: &str,
        old: &Map<String, Value>,
        new: &Map<String, Value>,
        depth: usize,
        found: &mut Vec<String>,
    ) {
        match self.direction {
            Direction::Request => narrowed(at, old, new, found),
            Direction::Answer => answered(at, old, new, found),
        }
        for (property, old_one) in properties(old) {
            let at = format!("{at}/{property}");
            match (properties(new).get(property), self.direction) {
                (Some(new_one), _) => self.compare(&at, old_one, new_one, depth + 1, found),
                (None, Direction::Request) if is_open(new) => {}
                (None, Direction::Request) => found.push(format!("{at} is no longer taken")),
                (None, Direction::Answer) => found.push(format!("{at} is gone")),
            }
        }
        let (was, is) = (required(old), required(new));
        match self.direction {
            Direction::Request => found.extend(is.difference(&was).map(|name| format!("{at}/{name} is now required"))),
            // A property that is gone was told of already.
            Direction::Answer => found.extend(
                was.difference(&is)
                    .filter(|name| properties(new).contains_key(**name))
                    .map(|name| format!("{at}/{name} may now be absent")),
            ),
        }
        for keyword in ["items", "additionalProperties"] {
            if let (Some(old), Some(new)) = (old.get(keyword), new.get(keyword))
                && old.is_object()
                && new.is_object()
            {
                self.compare(&format!("{at}/*"), old, new, depth + 1, found);
            }
        }
    }
}

/// What a request can't hold any more, apart from its properties.
fn narrowed(at: &str, old: &Map<String, Value>, new: &Map<String, Value>, found: &mut Vec<String>) {
    for keyword in UPPER {
        if let Some(is) = new.get(keyword).and_then(Value::as_f64)
            && old.get(keyword).and_then(Value::as_f64).is_none_or(|was| was > is)
        {
            found.push(format!("{at} is narrowed: {keyword} {is}"));
        }
    }
    for keyword in LOWER {
        let was = old.get(keyword).and_then(Value::as_f64);
        // Nothing has a length below 0.
        let floor = if keyword.starts_with("min") && keyword != "minimum" { Some(0.0) } else { None };
        if let Some(is) = new.get(keyword).and_then(Value::as_f64)
            && was.or(floor).is_none_or(|was| was < is)
        {
            found.push(format!("{at} is narrowed: {keyword} {is}"));
        }
    }
    for keyword in EXACT.into_iter().chain(["oneOf", "anyOf"]) {
        if let Some(is) = new.get(keyword)
            && old.get(keyword) != Some(is)
        {
            found.push(format!("{at} is narrowed: {keyword} {is}"));
        }
    }
    if let Some(is) = words(new) {
        match words(old) {
            None => found.push(format!("{at} is narrowed to a list of words")),
            Some(was) => found.extend(was.difference(&is).map(|word| format!("{at} no longer takes {word}"))),
        }
    }
    if new.get("uniqueItems") == Some(&Value::Bool(true)) && old.get("uniqueItems") != Some(&Value::Bool(true)) {
        found.push(format!("{at} is narrowed: uniqueItems"));
    }
    if is_open(old) && !is_open(new) {
        found.push(format!("{at} no longer takes other properties"));
    }
}

/// What an answer may now be, apart from its properties.
fn answered(at: &str, old: &Map<String, Value>, new: &Map<String, Value>, found: &mut Vec<String>) {
    for keyword in ["format", "const"] {
        if let Some(was) = old.get(keyword)
            && new.get(keyword) != Some(was)
        {
            found.push(format!("{at} has no longer the {keyword} {was}"));
        }
    }
    match (words(old), words(new)) {
        (Some(was), Some(is)) => {
            found.extend(was.difference(&is).map(|word| format!("{at} is never {word} any more")));
        }
        (Some(_), None) => found.push(format!("{at} is no longer one of a list of words")),
        (None, _) => {}
    }
}

/// A schema without references, as alternatives of one type each.
fn variants(document: &Value, schema: &Value) -> Vec<Map<String, Value>> {
    let mut out = Vec::new();
    collect(document, schema, 0, &mut out);
    out
}

fn collect(document: &Value, schema: &Value, depth: usize, out: &mut Vec<Map<String, Value>>) {
    let schema = resolve(document, schema);
    let Some(schema) = schema.as_object().filter(|_| depth <= DEPTH_MAX) else {
        // `true` takes everything, like a schema without keywords.
        out.push(Map::new());
        return;
    };
    for keyword in ["anyOf", "oneOf"] {
        // Alternatives that only say what is required bound the object beside them.
        let alternatives = schema.get(keyword).and_then(Value::as_array).filter(|all| all.iter().any(has_a_shape));
        if let Some(alternatives) = alternatives {
            for one in alternatives {
                collect(document, one, depth + 1, out);
            }
            return;
        }
    }
    let mut schema = schema.clone();
    match schema.remove("type") {
        Some(Value::Array(types)) => {
            for one in types {
                let mut single = schema.clone();
                single.insert("type".to_owned(), one);
                out.push(single);
            }
        }
        Some(one) => {
            schema.insert("type".to_owned(), one);
            out.push(schema);
        }
        None => out.push(schema),
    }
}

fn has_a_shape(schema: &Value) -> bool {
    ["$ref", "type", "properties", "enum", "const"].iter().any(|keyword| schema.get(keyword).is_some())
}

/// What a value refers to within its document, or itself.
pub(super) fn resolve<'a>(document: &'a Value, mut value: &'a Value) -> &'a Value {
    for _ in 0..DEPTH_MAX {
        let Some(reference) = value.get("$ref").and_then(Value::as_str) else { return value };
        let found = reference.strip_prefix('#').and_then(|pointer| document.pointer(pointer));
        value = found.unwrap_or(&Value::Null);
    }
    value
}

/// Whether two alternatives can be compared: they are of one type, or one of them is of any.
fn is_kin(one: &Map<String, Value>, other: &Map<String, Value>) -> bool {
    match (one.get("type"), other.get("type")) {
        (Some(one), Some(other)) => one == other || (one == "integer" && other == "number"),
        _ => true,
    }
}

fn kind_of(schema: &Map<String, Value>) -> String {
    schema.get("type").and_then(Value::as_str).unwrap_or("anything").to_owned()
}

/// Whether an object takes properties that its schema does not name.
fn is_open(schema: &Map<String, Value>) -> bool {
    schema.get("additionalProperties").is_none_or(|value| value != &Value::Bool(false))
}

fn properties(schema: &Map<String, Value>) -> &Map<String, Value> {
    static NONE: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    schema.get("properties").and_then(Value::as_object).unwrap_or(&NONE)
}

fn required(schema: &Map<String, Value>) -> BTreeSet<&str> {
    schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The words of a closed list; null is a type of its own.
fn words(schema: &Map<String, Value>) -> Option<BTreeSet<String>> {
    let list = schema.get("enum")?.as_array()?;
    Some(list.iter().filter(|word| !word.is_null()).map(Value::to_string).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn breaks(direction: Direction, old: &Value, new: &Value) -> Vec<String> {
        let (left, right) = (json!({"side": "old"}), json!({"side": "new"}));
        Comparison { old: &left, new: &right, direction }.breaks("body", old, new)
    }

    fn request(old: &Value, new: &Value) -> Vec<String> {
        breaks(Direction::Request, old, new)
    }

    fn answer(old: &Value, new: &Value) -> Vec<String> {
        breaks(Direction::Answer, old, new)
    }

    #[test]
    fn a_field_that_a_request_loses_or_must_have_is_breaking() {
        let old = json!({"type": "object", "additionalProperties": false, "properties": {"a": {"type": "string"}, "b": {"type": "string"}}});
        let new = json!({"type": "object", "additionalProperties": false, "required": ["c"],
            "properties": {"a": {"type": "string"}, "c": {"type": "string"}}});
        assert_eq!(request(&old, &new), ["body/b is no longer taken", "body/c is now required"]);
    }

    #[test]
    fn a_new_optional_field_of_a_request_and_wider_bounds_are_not() {
        let old = json!({"type": "object", "additionalProperties": false, "properties": {"a": {"type": "string", "maxLength": 5, "enum": ["x"]}}});
        let new = json!({"type": "object", "additionalProperties": false,
            "properties": {"a": {"type": ["string", "null"], "maxLength": 9, "enum": ["x", "y", null]}, "c": {"type": "string"}}});
        assert_eq!(request(&old, &new), [""; 0]);
    }

    #[test]
    fn every_way_to_narrow_a_request_is_found() {
        let narrow = |old: Value, new: Value| request(&old, &new);
        assert_eq!(
            narrow(json!({"type": "string"}), json!({"type": "string", "maxLength": 3})),
            ["body is narrowed: maxLength 3"]
        );
        assert_eq!(
            narrow(json!({"type": "integer", "minimum": 1}), json!({"type": "integer", "minimum": 2})),
            ["body is narrowed: minimum 2"]
        );
        assert_eq!(
            narrow(json!({"type": ["string", "null"]}), json!({"type": "string"})),
            ["body no longer takes null"]
        );
        assert_eq!(narrow(json!({"type": "string"}), json!({"type": "integer"})), ["body no longer takes string"]);
        assert_eq!(
            narrow(json!({"type": "string", "enum": ["a", "b"]}), json!({"type": "string", "enum": ["a"]})),
            ["body no longer takes \"b\""]
        );
        assert_eq!(
            narrow(json!({"type": "string"}), json!({"type": "string", "pattern": "^a$"})),
            ["body is narrowed: pattern \"^a$\""]
        );
        assert_eq!(
            narrow(
                json!({"type": "array", "items": {"type": "string"}}),
                json!({"type": "array", "items": {"type": "integer"}})
            ),
            ["body/* no longer takes string"]
        );
        assert_eq!(
            narrow(json!({"type": "object"}), json!({"type": "object", "oneOf": [{"required": ["a"]}]})),
            ["body is narrowed: oneOf [{\"required\":[\"a\"]}]"]
        );
        assert_eq!(
            narrow(json!({"type": "object"}), json!({"type": "object", "additionalProperties": false})),
            ["body no longer takes other properties"]
        );
        assert_eq!(narrow(json!({"type": "string"}), json!({"type": "string", "minLength": 0})), [""; 0]);
    }

    #[test]
    fn what_an_answer_loses_is_breaking() {
        let old = json!({"type": "object", "required": ["a", "b", "c"], "properties": {
            "a": {"type": "string"}, "b": {"type": "string"}, "c": {"type": "string", "enum": ["x", "y"]}}});
        let new = json!({"type": "object", "required": ["c"], "properties": {
            "b": {"type": ["string", "null"]}, "c": {"type": "string", "enum": ["x"]}}});
        assert_eq!(
            answer(&old, &new),
            ["body/a is gone", "body/b may now be null", "body/c is never \"y\" any more", "body/b may now be absent"]
        );
    }

    #[test]
    fn a_new_field_and_a_new_word_of_an_answer_are_not() {
        let old = json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "string", "enum": ["x"], "maxLength": 1}}});
        let new = json!({"type": "object", "required": ["a", "b"], "properties": {
            "a": {"type": "string", "enum": ["x", "y"], "maxLength": 2}, "b": {"type": "integer"}}});
        assert_eq!(answer(&old, &new), [""; 0]);
    }

    #[test]
    fn an_answer_s_form_is_kept() {
        let old = json!({"type": "string", "format": "date-time"});
        assert_eq!(answer(&old, &json!({"type": "string"})), ["body has no longer the format \"date-time\""]);
        assert_eq!(answer(&json!({"type": "integer"}), &json!({"type": "number"})), ["body may now be number"]);
    }

    #[test]
    fn references_and_alternatives_are_seen_through() {
        let old =
            json!({"components": {"schemas": {"Thing": {"type": "object", "properties": {"a": {"type": "string"}}}}}});
        let new = json!({"components": {"schemas": {"Thing": {"type": "object", "properties": {}}}}});
        let thing = json!({"anyOf": [{"$ref": "#/components/schemas/Thing"}, {"type": "null"}]});
        let comparison = Comparison { old: &old, new: &new, direction: Direction::Answer };
        assert_eq!(comparison.breaks("body", &thing, &thing), ["body/a is gone"]);
    }

    #[test]
    fn a_schema_that_holds_itself_ends() {
        let document = |kind: &str| {
            json!({"components": {"schemas": {"Node": {"type": "object", "properties": {
                "next": {"$ref": "#/components/schemas/Node"}, "value": {"type": kind}}}}}})
        };
        let (old, new) = (document("string"), document("integer"));
        let node = json!({"$ref": "#/components/schemas/Node"});
        let comparison = Comparison { old: &old, new: &new, direction: Direction::Answer };
        let found = comparison.breaks("body", &node, &node);
        // Once on each level that is looked at, the innermost first.
        assert_eq!(found.last().unwrap(), "body/value may now be integer");
        assert!(found.len() <= DEPTH_MAX, "{found:?}");
    }
}
