//! Declarative tables of request fields: one table checks a body, all its problems at once, and gives the schema of it.
//!
//! What a field may hold is decided here; what it means together with the state of the cloud is decided in control.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::LazyLock;

use nephos_control::event::catalogue;
use nephos_model::clock::Month;
use nephos_model::email::{EMAIL_CHARS_MAX, Email};
use nephos_model::label::{self, LABELS_MAX};
use nephos_model::name::{Hostname, LABEL_CHARS_MAX, TITLE_CHARS_MAX, Title};
use nephos_model::scope::Scopes;
use nephos_model::ssh_key::{PUBLIC_KEY_CHARS_MAX, PublicKey};
use nephos_model::webhook::URL_CHARS_MAX;
use nephos_model::{Detail, Fault, Timestamp};
use serde_json::{Value, json};

use crate::json::{Json, brief, pointer_step};
use crate::outgoing;

/// Items of a list field at most, unless the field says less.
pub const ITEMS_MAX: usize = 64;
const REFERENCE_CHARS_MAX: usize = 100;
/// Characters of a time at most.
const TIME_CHARS_MAX: usize = 40;
/// Characters of an address or a network at most: an IPv6 address that ends in an IPv4 one, and a length.
const NETWORK_CHARS_MAX: usize = 49;
/// A prefix, an underscore and 26 characters.
const ID_PATTERN_TAIL: &str = "_[0-7][0-9a-hjkmnp-tv-z]{25}$";

/// What a field may hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// A name for people, see [`Title`].
    Title,
    /// A hostname label, see [`Hostname`].
    Hostname,
    /// True or false.
    Bool,
    /// Any text without NUL, of at most so many bytes in UTF-8.
    Text {
        /// Bytes at most.
        bytes_max: usize,
    },
    /// A whole number in a range, both ends included.
    Integer {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
    },
    /// An identifier with this prefix.
    Id(&'static str),
    /// The id or the name of a thing: 1 to 100 printable characters.
    Reference(&'static str),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// An object of labels.
    Labels,
    /// An SSH public key in the one-line form.
    PublicKey,
    /// A point in time, RFC 3339.
    Time,
    /// A calendar month, `YYYY-MM`.
    Month,
    /// An IP address or a network in CIDR form.
    Network,
    /// A scope, such as `compute:read`.
    Scope,
    /// A person's e-mail address.
    Email,
    /// A web address to which something is sent.
    Url,
    /// A type of event, or all of a noun: `compute.running`, `compute.*`.
    EventType,
    /// A list without repetition of at most so many items.
    List {
        /// What each item is.
        of: &'static Kind,
        /// Items at most.
        items_max: usize,
    },
}

/// One field of a request body.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its key.
    pub name: &'static str,
    /// What it may hold.
    pub kind: Kind,
    /// Whether it must be there.
    pub required: bool,
    /// Whether `null` is a value of it.
    pub nullable: bool,
    /// A sentence for the reference.
    pub summary: &'static str,
}

impl Field {
    /// A field that must be there.
    pub const fn required(name: &'static str, kind: Kind, summary: &'static str) -> Self {
        Self { name, kind, required: true, nullable: false, summary }
    }

    /// A field that may be left out.
    pub const fn optional(name: &'static str, kind: Kind, summary: &'static str) -> Self {
        Self { name, kind, required: false, nullable: false, summary }
    }

    /// A field that may be left out, or be `null`.
    pub const fn nullable(name: &'static str, kind: Kind, summary: &'static str) -> Self {
        Self { name, kind, required: false, nullable: true, summary }
    }
}

/// What a PATCH says about a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent<T> {
    /// Nothing: leave it as it is.
    Absent,
    /// `null`: clear it.
    Null,
    /// A value.
    Value(T),
}

/// A body that its field table has passed.
#[derive(Debug, Default)]
pub struct Body {
    members: Vec<(String, Json)>,
}

impl Body {
    /// Checks `json` against `table`.
    ///
    /// # Errors
    /// Every problem of every field.
    pub fn check(table: &[Field], json: Json) -> Result<Self, Vec<Detail>> {
        let (body, problems) = Self::sift(table, json);
        if problems.is_empty() { Ok(body) } else { Err(problems) }
    }

    /// The fields of `json` that are as `table` wants them, and every problem of all others.
    pub fn sift(table: &[Field], json: Json) -> (Self, Vec<Detail>) {
        let kind = json.kind();
        let Json::Object(mut members) = json else {
            let wrong = Detail::at("", "wrong_type", format!("The body must be a JSON object, not {kind}."));
            return (Self::default(), vec![wrong]);
        };
        let mut problems = Vec::new();
        let mut wrong = Vec::new();
        for field in table {
            let value = members.iter().find(|(name, _)| name == field.name).map(|(_, value)| value);
            let mut pointer = String::new();
            pointer_step(&mut pointer, field.name);
            let before = problems.len();
            match value {
                None if field.required => {
                    problems.push(Detail::at(pointer, "missing", format!("\"{}\" is required.", field.name)));
                }
                None => {}
                Some(Json::Null) if field.nullable => {}
                Some(value) => field.kind.check(field.name, &mut pointer, value, &mut problems),
            }
            if problems.len() > before {
                wrong.push(field.name);
            }
        }
        for (name, _) in &members {
            if !table.iter().any(|field| field.name == name) {
                let mut pointer = String::new();
                pointer_step(&mut pointer, &brief(name));
                problems.push(Detail::at(pointer, "unknown_field", unknown(name, table)));
            }
        }
        members.retain(|(name, _)| !wrong.contains(&name.as_str()));
        (Self { members }, problems)
    }

    fn get(&self, name: &str) -> Option<&Json> {
        self.members.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// Whether no field was sent.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The text of a field; `None` when absent or `null`.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(Json::String(text)) => Some(text),
            _ => None,
        }
    }

    /// The text of a field that the table requires.
    pub fn required(&self, name: &str) -> &str {
        self.text(name).unwrap_or_default()
    }

    /// What a PATCH says about a text field.
    pub fn sent(&self, name: &str) -> Sent<&str> {
        match self.get(name) {
            None => Sent::Absent,
            Some(Json::String(text)) => Sent::Value(text),
            Some(_) => Sent::Null,
        }
    }

    /// The truth of a field; `None` when absent.
    pub fn flag(&self, name: &str) -> Option<bool> {
        match self.get(name) {
            Some(Json::Bool(flag)) => Some(*flag),
            _ => None,
        }
    }

    /// The number of a field; `None` when absent.
    pub fn integer(&self, name: &str) -> Option<i64> {
        match self.get(name) {
            Some(Json::Integer(n)) => Some(*n),
            _ => None,
        }
    }

    /// The texts of a list field; `None` when absent or `null`.
    pub fn texts(&self, name: &str) -> Option<Vec<String>> {
        match self.get(name) {
            Some(Json::Array(items)) => Some(
                items
                    .iter()
                    .filter_map(|item| match item {
                        Json::String(text) => Some(text.clone()),
                        _ => None,
                    })
                    .collect(),
            ),
            _ => None,
        }
    }

    /// The numbers of a list field; `None` when absent or `null`.
    pub fn integers(&self, name: &str) -> Option<Vec<i64>> {
        let Some(Json::Array(items)) = self.get(name) else { return None };
        let number = |item: &Json| if let Json::Integer(n) = item { Some(*n) } else { None };
        Some(items.iter().filter_map(number).collect())
    }

    /// The pairs of a labels field; `None` when absent or `null`.
    pub fn labels(&self, name: &str) -> Option<BTreeMap<String, String>> {
        match self.get(name) {
            Some(Json::Object(members)) => {
                let pair = |(key, value): &(String, Json)| match value {
                    Json::String(value) => Some((key.clone(), value.clone())),
                    _ => None,
                };
                Some(members.iter().filter_map(pair).collect())
            }
            _ => None,
        }
    }

    /// The value of a text field that the table requires, in the type that the field's kind has checked already.
    ///
    /// # Errors
    /// A 500 when kind and type disagree: a defect.
    pub fn parsed<T: FromStr>(&self, name: &str) -> Result<T, Fault> {
        self.maybe_parsed(name)?.ok_or_else(|| Fault::internal(format!("the field {name} was not required")))
    }

    /// As [`Body::parsed`]; `None` when absent or `null`.
    ///
    /// # Errors
    /// As [`Body::parsed`].
    pub fn maybe_parsed<T: FromStr>(&self, name: &str) -> Result<Option<T>, Fault> {
        let parse = |text: &str| text.parse().map_err(|_| Fault::internal(format!("the field {name} was not checked")));
        self.text(name).map(parse).transpose()
    }

    /// Whether `null` or a value was sent for a field.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }
}

fn unknown(name: &str, table: &[Field]) -> String {
    let name = brief(name);
    if table.is_empty() {
        return format!("There is no field \"{name}\" here; this operation takes no fields.");
    }
    let known: Vec<_> = table.iter().map(|field| field.name).collect();
    format!("There is no field \"{name}\" here; the fields are {}.", known.join(", "))
}

impl Kind {
    /// Reports what is wrong with `value`, which stands at `pointer`.
    fn check(&self, name: &str, pointer: &mut String, value: &Json, problems: &mut Vec<Detail>) {
        let mut problem = |code, message: String| problems.push(Detail::at(pointer.clone(), code, message));
        match (self, value) {
            (Self::Bool, Json::Bool(_)) => {}
            (Self::Integer { min, max }, Json::Integer(n)) => {
                if !(min..=max).contains(&n) {
                    problem("out_of_range", format!("\"{name}\" must be a whole number from {min} to {max}."));
                }
            }
            (Self::Integer { min, max }, Json::Float(_)) => {
                problem("out_of_range", format!("\"{name}\" must be a whole number from {min} to {max}."));
            }
            (Self::Labels, Json::Object(members)) => {
                if members.len() > LABELS_MAX {
                    problem("too_many", format!("\"{name}\" holds more than {LABELS_MAX} labels."));
                }
                for (key, value) in members.iter().take(LABELS_MAX) {
                    let depth = pointer.len();
                    pointer_step(pointer, &brief(key));
                    let wrong = match value {
                        Json::String(text) => {
                            label::key(key).and_then(|()| label::value(text)).err().map(|e| e.to_string())
                        }
                        other => Some(format!("a label's value must be a string, not {}", other.kind())),
                    };
                    if let Some(why) = wrong {
                        problems.push(Detail::at(pointer.clone(), "invalid_label", format!("In \"{name}\": {why}.")));
                    }
                    pointer.truncate(depth);
                }
            }
            (Self::List { of, items_max }, Json::Array(items)) => {
                if items.len() > *items_max {
                    problem("too_many", format!("\"{name}\" holds more than {items_max} items."));
                }
                for (i, item) in items.iter().take(*items_max).enumerate() {
                    let depth = pointer.len();
                    pointer_step(pointer, &i.to_string());
                    if items[..i].contains(item) {
                        problems.push(Detail::at(
                            pointer.clone(),
                            "repeated",
                            format!("\"{name}\" holds this item twice."),
                        ));
                    } else {
                        of.check(name, pointer, item, problems);
                    }
                    pointer.truncate(depth);
                }
            }
            (kind, Json::String(text)) if kind.is_text() => {
                if let Some((code, why)) = kind.wrong(text) {
                    problem(code, format!("\"{name}\" {why}."));
                }
            }
            (kind, other) => {
                let wanted = kind.wanted();
                problem("wrong_type", format!("\"{name}\" must be {wanted}, not {}.", other.kind()));
            }
        }
    }

    const fn is_text(&self) -> bool {
        !matches!(self, Self::Bool | Self::Integer { .. } | Self::Labels | Self::List { .. })
    }

    const fn wanted(&self) -> &'static str {
        match self {
            Self::Bool => "true or false",
            Self::Integer { .. } => "a whole number",
            Self::Labels => "an object of strings",
            Self::List { .. } => "an array",
            _ => "a string",
        }
    }

    /// Why `text` is no value of a kind that is written as text: a code and the end of a sentence without its full stop.
    pub fn wrong(&self, text: &str) -> Option<(&'static str, String)> {
        let invalid = |why: &dyn std::fmt::Display| Some(("invalid_value", why.to_string()));
        match self {
            Self::Title => text.parse::<Title>().err().and_then(|e| invalid(&e)),
            Self::Hostname => text.parse::<Hostname>().err().and_then(|e| invalid(&e)),
            Self::PublicKey => PublicKey::parse(text).err().and_then(|e| invalid(&e)),
            Self::Text { bytes_max } if text.len() > *bytes_max => {
                Some(("too_long", format!("must have at most {bytes_max} bytes")))
            }
            Self::Text { .. } if text.contains('\0') => invalid(&"must not hold the character NUL"),
            Self::Id(prefix) => (!is_id(prefix, text)).then(|| {
                ("invalid_id", format!("must be an id that starts with \"{prefix}_\" followed by 26 characters"))
            }),
            Self::Reference(what) => {
                let fine = !text.is_empty()
                    && text.chars().count() <= REFERENCE_CHARS_MAX
                    && !text.chars().any(char::is_control);
                (!fine).then(|| {
                    ("invalid_value", format!("must be the name or id of {what}, 1 to 100 printable characters"))
                })
            }
            Self::OneOf(words) => {
                (!words.contains(&text)).then(|| ("invalid_value", format!("must be one of {}", words.join(", "))))
            }
            Self::Time => parse_time(text).is_none().then(|| {
                ("invalid_value", "must be a time as RFC 3339 has it, such as 2030-01-31T12:00:00Z".to_owned())
            }),
            Self::Month => {
                Month::parse(text).is_none().then(|| ("invalid_value", "must be a month such as 2030-01".to_owned()))
            }
            Self::Network => (!is_network(text))
                .then(|| ("invalid_value", "must be an IP address or a network such as 192.0.2.0/24".to_owned())),
            Self::Email => text.parse::<Email>().err().and_then(|e| invalid(&e)),
            Self::Scope => text
                .parse::<nephos_model::scope::Scope>()
                .err()
                .map(|()| ("invalid_value", "must be a scope such as compute:read or project:write".to_owned())),
            Self::Url => outgoing::wrong_url(text).map(|why| ("invalid_value", why)),
            Self::EventType => (!is_event_type(text)).then(|| {
                (
                    "invalid_value",
                    "must be a type of event such as compute.running, or all of a noun such as compute.*".to_owned(),
                )
            }),
            Self::Text { .. } | Self::Bool | Self::Integer { .. } | Self::Labels | Self::List { .. } => None,
        }
    }

    /// The JSON Schema (2020-12) of the kind.
    pub fn schema(&self) -> Value {
        // What is checked is stated whole where a pattern can say it, so that a client knows before it asks.
        match self {
            Self::Title => {
                json!({"type": "string", "minLength": 1, "maxLength": TITLE_CHARS_MAX, "pattern": *TITLE_PATTERN})
            }
            Self::Hostname => {
                json!({"type": "string", "minLength": 1, "maxLength": LABEL_CHARS_MAX, "pattern": Hostname::PATTERN})
            }
            Self::Bool => json!({"type": "boolean"}),
            Self::Text { bytes_max } => json!({"type": "string", "maxLength": bytes_max, "pattern": "^[^\\u0000]*$"}),
            Self::Integer { min, max } => {
                let format = if *max > i64::from(i32::MAX) { "int64" } else { "int32" };
                json!({"type": "integer", "format": format, "minimum": min, "maximum": max})
            }
            Self::Id(prefix) => id_schema(prefix),
            Self::Reference(_) => json!({
                "type": "string", "minLength": 1, "maxLength": REFERENCE_CHARS_MAX,
                "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]+$",
            }),
            Self::OneOf(words) => json!({"type": "string", "enum": words}),
            Self::Labels => json!({
                "type": "object", "maxProperties": LABELS_MAX,
                "propertyNames": {"minLength": 1, "maxLength": label::LABEL_CHARS_MAX, "pattern": label::KEY_PATTERN},
                "additionalProperties": {
                    "type": "string", "maxLength": label::LABEL_CHARS_MAX, "pattern": label::VALUE_PATTERN,
                },
            }),
            Self::PublicKey => {
                json!({"type": "string", "maxLength": PUBLIC_KEY_CHARS_MAX, "pattern": *PUBLIC_KEY_PATTERN})
            }
            Self::Time => json!({
                "type": "string", "format": "date-time", "maxLength": TIME_CHARS_MAX,
                "pattern": "^(19[7-9][0-9]|[2-9][0-9]{3})-",
            }),
            Self::Month => json!({"type": "string", "maxLength": 7, "pattern": Month::PATTERN}),
            Self::Network => json!({"type": "string", "maxLength": NETWORK_CHARS_MAX, "pattern": *NETWORK_PATTERN}),
            Self::Url => {
                json!({"type": "string", "format": "uri", "maxLength": URL_CHARS_MAX, "pattern": outgoing::URL_PATTERN})
            }
            Self::EventType => json!({"type": "string", "enum": event_types()}),
            Self::Email => json!({"type": "string", "format": "email", "maxLength": EMAIL_CHARS_MAX}),
            Self::Scope => {
                let all: Vec<_> = Scopes::EVERY.iter().map(|s| s.to_string()).collect();
                json!({"type": "string", "enum": all})
            }
            Self::List { of, items_max } => {
                let mut out =
                    json!({"type": "array", "items": of.schema(), "maxItems": items_max, "uniqueItems": true});
                if **of == Self::Scope {
                    // What could do nothing is not made.
                    out["minItems"] = json!(1);
                }
                out
            }
        }
    }
}

static TITLE_PATTERN: LazyLock<String> = LazyLock::new(nephos_model::name::title_pattern);
static PUBLIC_KEY_PATTERN: LazyLock<String> = LazyLock::new(nephos_model::ssh_key::pattern);
/// What [`Kind::Network`] takes.
static NETWORK_PATTERN: LazyLock<String> = LazyLock::new(|| {
    const BYTE: &str = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
    const WORD: &str = "[0-9A-Fa-f]{1,4}";
    let v4 = format!("{BYTE}(\\.{BYTE}){{3}}");
    // Without `::`; with it at the end, and at the start; and with so many words after it.
    let mut v6 = vec![
        format!("({WORD}:){{7}}{WORD}"),
        format!("({WORD}:){{1,7}}:"),
        format!(":((:{WORD}){{1,7}}|:)"),
        format!("({WORD}:){{6}}{v4}"),
        format!("({WORD}:){{1,5}}:{v4}"),
        format!(":(:{WORD}){{0,5}}:{v4}"),
    ];
    v6.extend((1..=6).map(|after| format!("({WORD}:){{1,{}}}(:{WORD}){{1,{after}}}", 7 - after)));
    v6.extend((1..=4).map(|after| format!("({WORD}:){{1,{}}}(:{WORD}){{1,{after}}}:{v4}", 5 - after)));
    let (v4_bits, v6_bits) = ("(3[0-2]|[12]?[0-9])", "(12[0-8]|1[01][0-9]|[1-9]?[0-9])");
    format!("^({v4}(/{v4_bits})?|({})(/{v6_bits})?)$", v6.join("|"))
});

/// The JSON Schema of an identifier with this prefix.
pub fn id_schema(prefix: &str) -> Value {
    json!({"type": "string", "maxLength": prefix.len() + 27, "pattern": format!("^{prefix}{ID_PATTERN_TAIL}")})
}

/// The JSON Schema (2020-12) of a body.
pub fn schema(table: &[Field]) -> Value {
    let mut properties = serde_json::Map::new();
    for field in table {
        let mut schema = field.kind.schema();
        if let Value::Object(parts) = &mut schema {
            if field.nullable {
                let plain = parts.get("type").cloned().unwrap_or_default();
                parts.insert("type".to_owned(), json!([plain, "null"]));
                if let Some(Value::Array(words)) = parts.get_mut("enum") {
                    words.push(Value::Null);
                }
            }
            parts.insert("description".to_owned(), field.summary.into());
        }
        properties.insert(field.name.to_owned(), schema);
    }
    let required: Vec<_> = table.iter().filter(|field| field.required).map(|field| field.name).collect();
    let mut out = json!({"type": "object", "properties": properties, "additionalProperties": false});
    if let (Value::Object(parts), false) = (&mut out, required.is_empty()) {
        parts.insert("required".to_owned(), json!(required));
    }
    out
}

/// Whether `text` has the form of an identifier with this prefix.
pub fn is_id(prefix: &str, text: &str) -> bool {
    let Some(rest) = text.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('_')) else { return false };
    // Every kind of identifier has the same 26 characters after its prefix.
    format!("key_{rest}").parse::<nephos_model::id::KeyId>().is_ok()
}

/// Reads a time as RFC 3339 has it; years 1970 to 9999.
pub fn parse_time(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let shaped =
        (20..=TIME_CHARS_MAX).contains(&bytes.len()) && matches!(bytes[10], b'T' | b't' | b' ') && bytes[4] == b'-';
    let offset = bytes.last().is_some_and(|b| matches!(b, b'Z' | b'z')) || bytes.iter().rev().nth(2) == Some(&b':');
    if !shaped || !offset {
        return None;
    }
    let time: jiff::Timestamp = text.parse().ok()?;
    (time.as_second() >= 0).then(|| Timestamp::from_micros(time.as_microsecond()))
}

/// Every text that [`is_event_type`] takes, in an order that stays.
fn event_types() -> Vec<String> {
    let known = catalogue::TYPES.iter().map(|known| known.kind.to_owned());
    let all_of = catalogue::TYPES.iter().map(|known| format!("{}.*", known.noun()));
    let mut types: Vec<String> = known.chain(all_of).collect();
    types.sort_unstable();
    types.dedup();
    types
}

/// Whether a text is a type of event, or all of a noun that has some.
fn is_event_type(text: &str) -> bool {
    match text.strip_suffix(".*") {
        Some(noun) => catalogue::TYPES.iter().any(|known| known.noun() == noun),
        None => catalogue::find(text).is_some(),
    }
}

fn is_network(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return text.parse::<IpAddr>().is_ok() };
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let digits = (1..=3).contains(&bits.len()) && bits.bytes().all(|b| b.is_ascii_digit());
    let most = if address.is_ipv4() { 32 } else { 128 };
    digits && bits.parse::<u32>().is_ok_and(|bits| bits <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Field] = &[
        Field::required("name", Kind::Hostname, "Its name."),
        Field::optional("title", Kind::Title, "A title."),
        Field::nullable("note", Kind::Text { bytes_max: 8 }, "A note."),
        Field::optional("grace", Kind::Integer { min: 0, max: 10 }, "Seconds."),
        Field::optional("protected", Kind::Bool, "Whether."),
        Field::nullable("policy", Kind::OneOf(&["never", "always"]), "A policy."),
        Field::optional("labels", Kind::Labels, "Labels."),
        Field::optional("project_id", Kind::Id("prj"), "Its project."),
        Field::optional("keys", Kind::List { of: &Kind::PublicKey, items_max: 2 }, "Keys."),
        Field::nullable("expires_at", Kind::Time, "An end."),
        Field::optional("allowed_ips", Kind::List { of: &Kind::Network, items_max: 3 }, "Networks."),
        Field::optional("scopes", Kind::List { of: &Kind::Scope, items_max: 8 }, "Scopes."),
        Field::optional("image", Kind::Reference("an image"), "An image."),
    ];

    fn check(body: &str) -> Result<Body, Vec<Detail>> {
        Body::check(TABLE, Json::parse(body.as_bytes()).unwrap())
    }

    #[test]
    fn absent_null_and_a_value_are_told_apart() {
        let body = check(r#"{"name":"web-1","note":null,"expires_at":"2030-01-31T12:00:00+02:00","labels":{"b":"2","a":"1"},"grace":3.0}"#).unwrap();
        assert_eq!(body.required("name"), "web-1");
        assert_eq!(body.sent("note"), Sent::Null);
        assert_eq!(body.sent("policy"), Sent::Absent);
        assert_eq!(body.sent("expires_at"), Sent::Value("2030-01-31T12:00:00+02:00"));
        assert_eq!(body.labels("labels").unwrap()["a"], "1");
        assert_eq!(body.integer("grace"), Some(3));
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let body = r#"{"title":"","note":"ninechars","grace":11,"protected":1,"policy":"maybe",
            "labels":{"-a":"x","b":1,"ok":"yes"},"project_id":"prj_1","keys":["x",2,"x"],"expires_at":"tomorrow",
            "allowed_ips":["192.0.2.0/33","::1/64","10.0.0.1"],"scopes":["compute:admin"],"image":"","a/b":1,"nam":"e"}"#;
        let problems = check(body).unwrap_err();
        insta::assert_snapshot!(
            problems.iter().map(|d| format!("{:?} {}: {}", d.place, d.code, d.message)).collect::<Vec<_>>().join("\n")
        );
        assert_eq!(check("[]").unwrap_err()[0].message, "The body must be a JSON object, not an array.");
    }

    #[test]
    fn the_table_is_a_schema() {
        insta::assert_json_snapshot!(schema(TABLE)["properties"]["policy"]);
        assert_eq!(schema(TABLE)["required"], json!(["name"]));
        assert_eq!(schema(&[]), json!({"type": "object", "properties": {}, "additionalProperties": false}));
    }

    /// A kind and its schema agree on each of these texts, and `good` says how.
    fn agree(kind: Kind, good: bool, texts: &[&str]) {
        let schema = jsonschema::options().should_validate_formats(true).build(&kind.schema()).unwrap();
        for text in texts {
            assert_eq!(kind.wrong(text).is_none(), good, "{kind:?} {text:?}");
            assert_eq!(schema.is_valid(&json!(text)), good, "the schema of {kind:?} {text:?}");
        }
    }

    #[test]
    fn a_schema_says_what_is_checked() {
        agree(Kind::Title, true, &["a", "Größe 東京 🚀", "a b", "a\u{fffd}"]);
        agree(
            Kind::Title,
            false,
            &["", " a", "a ", "a\u{a0}", "a\nb", "a\u{202e}b", "\u{200b}", "a\0", "\u{ffff}", "a\u{e000}"],
        );
        agree(Kind::Hostname, true, &["a", "web-1", "0"]);
        agree(Kind::Hostname, false, &["", "-a", "a-", "A", "a\n"]);
        agree(Kind::Month, true, &["1970-01", "2030-12", "9998-12", "9899-10", "9989-11"]);
        agree(Kind::Month, false, &["1969-12", "9999-01", "2030-00", "2030-13", "0000-01", "2030-1"]);
        agree(Kind::Time, true, &["1970-01-02T00:00:00Z", "2030-01-31T12:00:00.5Z", "9998-01-31T12:00:00-02:00"]);
        agree(Kind::Time, false, &["1930-01-31T12:00:00Z", "2030-01-31", "2030-13-31T12:00:00Z", ""]);
        agree(Kind::Id("prj"), false, &["prj_1", "env_01kf0z3t80e5v8x2m7c4q9gj01"]);
        agree(Kind::Id("prj"), true, &["prj_01kf0z3t80e5v8x2m7c4q9gj01"]);
        let v6 =
            ["::", "::1", "1::", "1:2:3:4:5:6:7:8", "1::8", "1:2::7:8/64", "::ffff:192.0.2.1/128", "2001:DB8::/32"];
        let mixed = ["1:2:3:4:5:6:192.0.2.1", "1::192.0.2.1", "1::2:192.0.2.1", "64:ff9b::192.0.2.1/96", "fe80::1/0"];
        agree(Kind::Network, true, &["192.0.2.0/24", "0.0.0.0/0", "255.249.199.1/32", "10.0.0.1"]);
        agree(Kind::Network, true, &v6);
        agree(Kind::Network, true, &mixed);
        let wrong_v4 = ["", "a", "10.0.0", "256.0.0.1", "01.0.0.1", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/+8"];
        let wrong_v6 =
            [":", ":::", "1:2:3:4:5:6:7:8:9", "1::2::3", "12345::", "::/129", "1:2:3:4:5:6:7:192.0.2.1", "::1%eth0"];
        agree(Kind::Network, false, &wrong_v4);
        agree(Kind::Network, false, &wrong_v6);
    }

    #[test]
    fn the_schema_of_public_keys_says_what_is_checked() {
        // Each algorithm's name is so long that another part of it stands between whole groups of digits.
        let keys = [
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl".to_owned(),
            format!("ssh-rsa AAAAB3NzaC1yc2E{}", "A".repeat(49)),
            format!("ssh-rsa AAAAB3NzaC1yc2H{}==", "A".repeat(51)),
            format!("ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTY{}=", "A".repeat(52)),
            format!("sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29t{}", "A".repeat(48)),
        ];
        for key in &keys {
            agree(Kind::PublicKey, true, &[key, &format!(" {key} me@host"), &key.replacen(' ', "  ", 1)]);
            let short = key.trim_end_matches('=');
            let cut = &short[..short.len() - 8];
            let options = format!("no-pty {key}");
            agree(Kind::PublicKey, false, &[cut, &options, &format!("{key}\n{key}"), &key.replacen("AAAA", "AAAB", 1)]);
        }
    }

    #[test]
    fn times_and_networks() {
        for good in ["2030-01-31T12:00:00Z", "2030-01-31T12:00:00.5Z", "2030-01-31T12:00:00-02:00"] {
            assert!(parse_time(good).is_some(), "{good}");
        }
        for bad in [
            "2030-01-31",
            "2030-01-31T12:00:00",
            "2030-13-31T12:00:00Z",
            "1930-01-31T12:00:00Z",
            "",
            "2030-01-31T12:00:00Z[UTC]",
        ] {
            assert!(parse_time(bad).is_none(), "{bad}");
        }
        for bad in ["10.0.0.0/", "10.0.0.0/+8", "10.0.0/8", "::/129", "a", ""] {
            assert!(!is_network(bad), "{bad}");
        }
    }
}
