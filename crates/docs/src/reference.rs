//! Every operation, as the API documents have it. What a page needs is taken out once; the documents are not kept.

use serde_json::{Map, Value};

/// How deep a schema is looked into.
const DEPTH_MAX: usize = 4;

/// A convention of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    /// `/v1` and `/sandbox/v1`.
    Platform,
    /// `/api/v1`.
    Strettch,
}

impl Surface {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Platform, Self::Strettch];

    /// As it stands in addresses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Strettch => "strettch",
        }
    }

    /// As people read it.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Platform => "Platform",
            Self::Strettch => "Strettch",
        }
    }

    /// Its base path.
    pub const fn base(self) -> &'static str {
        match self {
            Self::Platform => "/v1",
            Self::Strettch => "/api/v1",
        }
    }

    /// The one with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|surface| surface.name() == name)
    }
}

/// A parameter, a field of a body or of an answer.
#[derive(Debug, Clone)]
pub struct Field {
    /// Its name; a nested one with dots.
    pub name: String,
    /// Its type in words.
    pub kind: String,
    /// Whether it has to be given.
    pub is_required: bool,
    /// What it is.
    pub about: String,
    /// Bounds and default, in words; may be empty.
    pub bounds: String,
}

/// What one surface answers.
#[derive(Debug, Clone)]
pub struct Success {
    /// The status.
    pub status: String,
    /// A sentence.
    pub about: String,
    /// A whole body, as JSON.
    pub example: Option<String>,
    /// Names and meanings of headers of its own.
    pub headers: Vec<(String, String)>,
}

/// One operation.
#[derive(Debug, Clone)]
pub struct Operation {
    /// Its id, `noun.verb`.
    pub id: String,
    /// The method.
    pub method: String,
    /// The path under the base URL.
    pub path: String,
    /// A few words.
    pub summary: String,
    /// Sentences.
    pub about: String,
    /// The scope it needs.
    pub scope: Option<String>,
    /// The least role.
    pub role: Option<String>,
    /// `read` or `write`.
    pub budget: String,
    /// Whether an `Idempotency-Key` makes a retry safe.
    pub is_idempotent: bool,
    /// Whether anybody may ask, without a credential.
    pub is_public: bool,
    /// Parameters by place: path, query, header.
    pub parameters: Vec<(&'static str, Vec<Field>)>,
    /// Fields of the body.
    pub body: Vec<Field>,
    /// A body that works.
    pub body_example: Option<Value>,
    /// Fields of what it answers.
    pub answer: Vec<Field>,
    /// Errors it can answer, in `snake_case`.
    pub errors: Vec<String>,
    /// Success by surface, in the order of [`Surface::ALL`]; `None` where it is not served.
    pub success: [Option<Success>; 2],
}

impl Operation {
    /// The noun of its id.
    pub fn noun(&self) -> &str {
        self.id.split('.').next().unwrap_or(&self.id)
    }

    /// The verb of its id, as it stands in addresses.
    pub fn verb(&self) -> String {
        self.id.split('.').skip(1).collect::<Vec<_>>().join("-")
    }

    /// The address of its page.
    pub fn address(&self) -> String {
        format!("/docs/v1/reference/{}/{}", self.noun(), self.verb())
    }

    /// What a surface answers.
    pub fn on(&self, surface: Surface) -> Option<&Success> {
        match surface {
            Surface::Platform => self.success[0].as_ref(),
            Surface::Strettch => self.success[1].as_ref(),
        }
    }

    /// The surfaces it is served on.
    pub fn surfaces(&self) -> impl Iterator<Item = Surface> + '_ {
        Surface::ALL.into_iter().filter(|surface| self.on(*surface).is_some())
    }
}

/// All operations, in the order of the documents within a noun.
#[derive(Debug)]
pub struct Reference {
    /// The operations.
    pub operations: Vec<Operation>,
}

impl Reference {
    /// Takes them out of the two documents.
    pub fn new(platform: &Value, strettch: &Value) -> Self {
        let mut operations: Vec<Operation> = Vec::new();
        for (at, document) in [platform, strettch].into_iter().enumerate() {
            for (path, methods) in object(&document["paths"]) {
                for (method, value) in object(methods) {
                    let id = text(&value["operationId"]);
                    let known = operations.iter().position(|operation| operation.id == id);
                    let position = known.unwrap_or_else(|| {
                        operations.push(operation(document, path, method, value));
                        operations.len() - 1
                    });
                    operations[position].success[at] = success(document, value);
                }
            }
        }
        let order = |method: &str| ["GET", "POST", "PATCH", "PUT", "DELETE"].iter().position(|m| *m == method);
        operations.sort_by(|a, b| {
            let key = |o: &Operation| (o.noun().to_owned(), o.path.clone(), order(&o.method));
            key(a).cmp(&key(b))
        });
        Self { operations }
    }

    /// The nouns, each once.
    pub fn nouns(&self) -> Vec<&str> {
        let mut nouns: Vec<&str> = self.operations.iter().map(Operation::noun).collect();
        nouns.dedup();
        nouns
    }

    /// The operations of a noun.
    pub fn of<'a>(&'a self, noun: &'a str) -> impl Iterator<Item = &'a Operation> {
        self.operations.iter().filter(move |operation| operation.noun() == noun)
    }

    /// The operation at an address.
    pub fn at(&self, address: &str) -> Option<&Operation> {
        self.operations.iter().find(|operation| operation.address() == address)
    }
}

/// A noun as a heading.
pub fn title(noun: &str) -> String {
    let plain = match noun {
        "api_key" => return "API keys".to_owned(),
        "ssh_key" => return "SSH keys".to_owned(),
        "me" => return "This credential".to_owned(),
        "openapi" => return "API document".to_owned(),
        "audit_log" => return "Audit log".to_owned(),
        "usage" | "limits" | "workspace" | "sandbox" | "telemetry" | "status" | "clock" => noun.to_owned(),
        noun if noun.ends_with('s') => noun.to_owned(),
        noun if noun.ends_with('y') => format!("{}ies", &noun[..noun.len() - 1]),
        noun => format!("{noun}s"),
    };
    let mut letters = plain.replace('_', " ");
    if let Some(first) = letters.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    letters
}

fn operation(document: &Value, path: &str, method: &str, value: &Value) -> Operation {
    let mut parameters: Vec<(&'static str, Vec<Field>)> = vec![("path", vec![]), ("query", vec![]), ("header", vec![])];
    for parameter in array(&value["parameters"]) {
        let parameter = resolve(document, parameter);
        let place = text(&parameter["in"]);
        if let Some((_, list)) = parameters.iter_mut().find(|(name, _)| *name == place) {
            let required = parameter["required"].as_bool().unwrap_or(false);
            list.push(field(
                document,
                &text(&parameter["name"]),
                &parameter["schema"],
                &text(&parameter["description"]),
                required,
            ));
        }
    }
    parameters.retain(|(_, list)| !list.is_empty());
    let content = &value["requestBody"]["content"]["application/json"];
    let schema = resolve(document, &content["schema"]);
    let mut body = Vec::new();
    fields(document, schema, "", 0, &mut body);
    let status = first_status(value);
    let answers =
        resolve(document, &resolve(document, &value["responses"][&status])["content"]["application/json"]["schema"]);
    let mut answer = Vec::new();
    fields(document, inner(document, answers), "", 0, &mut answer);
    let is_public = value["security"].as_array().is_some_and(Vec::is_empty);
    Operation {
        id: text(&value["operationId"]),
        method: method.to_uppercase(),
        path: path.to_owned(),
        summary: text(&value["summary"]),
        about: text(&value["description"]),
        scope: value["x-required-scope"].as_str().map(str::to_owned),
        role: value["x-required-role"].as_str().map(str::to_owned),
        budget: text(&value["x-budget"]),
        is_idempotent: value["x-idempotent-by-key"].as_bool().unwrap_or(false),
        is_public,
        parameters,
        body_example: example(content).or_else(|| (!body.is_empty()).then(|| invented(document, schema))),
        body,
        answer,
        errors: array(&value["x-errors"]).iter().map(|code| text(code).to_lowercase()).collect(),
        success: [None, None],
    }
}

fn success(document: &Value, value: &Value) -> Option<Success> {
    let status = first_status(value);
    let response = resolve(document, value["responses"].get(&status)?);
    let headers = object(&response["headers"])
        .map(|(name, header)| (name.clone(), text(&resolve(document, header)["description"])))
        .collect();
    Some(Success {
        about: text(&response["description"]),
        example: example(&response["content"]["application/json"]).map(|value| format!("{value:#}")),
        headers,
        status,
    })
}

/// The status of what happens when all is well: the greatest below 300 that is not a replay's or a dry run's.
fn first_status(value: &Value) -> String {
    let responses = &value["responses"];
    let preferred = ["201", "202", "200", "204"];
    let mut order = preferred.into_iter();
    if responses.get("201").is_none() && responses.get("200").is_some() && !text(&value["operationId"]).contains(['.'])
    {
        return "200".to_owned();
    }
    order.find(|status| responses.get(status).is_some()).unwrap_or("200").to_owned()
}

fn example(content: &Value) -> Option<Value> {
    if let Some(example) = content.get("example") {
        return Some(example.clone());
    }
    object(&content["examples"]).next().and_then(|(_, example)| example.get("value").cloned())
}

/// The resource within an envelope.
fn inner<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    let Some(data) = schema["properties"].get("data") else { return schema };
    let data = resolve(document, data);
    match data.get("items") {
        Some(items) => resolve(document, items),
        None => data,
    }
}

/// A body with what has to be given and nothing else.
fn invented(document: &Value, schema: &Value) -> Value {
    let mut body = Map::new();
    for name in array(&schema["required"]) {
        let name = text(name);
        let property = resolve(document, &schema["properties"][&name]);
        let value = match (name.as_str(), kind(document, property).as_str()) {
            ("name", _) => Value::from("web-1"),
            ("email", _) => Value::from("ada@example.com"),
            ("public_key", _) => Value::from("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI… ada@example.com"),
            ("url", _) => Value::from("https://example.com/hooks"),
            (_, _) if property.get("enum").is_some() => property["enum"][0].clone(),
            (_, "integer") => property.get("minimum").cloned().unwrap_or(Value::from(60)),
            (_, "boolean") => Value::from(true),
            (_, kind) if kind.starts_with("array") => Value::Array(Vec::new()),
            _ => Value::from("…"),
        };
        body.insert(name, value);
    }
    Value::Object(body)
}

fn fields(document: &Value, schema: &Value, prefix: &str, depth: usize, out: &mut Vec<Field>) {
    if depth >= DEPTH_MAX {
        return;
    }
    let required: Vec<String> = array(&schema["required"]).iter().map(text).collect();
    for (name, property) in object(&schema["properties"]) {
        let resolved = resolve(document, property);
        let about = match text(&property["description"]) {
            own if own.is_empty() => text(&resolved["description"]),
            own => own,
        };
        let full = format!("{prefix}{name}");
        out.push(field(document, &full, property, &about, required.contains(name)));
        let nested = resolved.get("items").map_or(resolved, |items| resolve(document, items));
        let mark = if resolved.get("items").is_some() { "[]." } else { "." };
        fields(document, nested, &format!("{full}{mark}"), depth + 1, out);
    }
}

fn field(document: &Value, name: &str, schema: &Value, about: &str, is_required: bool) -> Field {
    let schema = resolve(document, schema);
    let mut bounds: Vec<String> = Vec::new();
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<String> = values.iter().filter(|v| !v.is_null()).map(plain).collect();
        bounds.push(format!("one of {}", values.join(", ")));
    }
    let range = |low: &str, high: &str, unit: &str| match (schema.get(low), schema.get(high)) {
        (Some(low), Some(high)) => Some(format!("{} to {}{unit}", plain(low), plain(high))),
        (None, Some(high)) => Some(format!("at most {}{unit}", plain(high))),
        (Some(low), None) => Some(format!("at least {}{unit}", plain(low))),
        (None, None) => None,
    };
    bounds.extend(range("minimum", "maximum", ""));
    bounds.extend(range("minLength", "maxLength", " characters"));
    bounds.extend(range("minItems", "maxItems", " items"));
    bounds.extend(range("minProperties", "maxProperties", " entries"));
    if let Some(default) = schema.get("default").filter(|value| !value.is_null()) {
        bounds.push(format!("default {}", plain(default)));
    }
    Field {
        name: name.to_owned(),
        kind: kind(document, schema),
        is_required,
        about: about.to_owned(),
        bounds: bounds.join("; "),
    }
}

fn kind(document: &Value, schema: &Value) -> String {
    if let Some(list) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array) {
        let mut kinds: Vec<String> = list.iter().map(|one| kind(document, resolve(document, one))).collect();
        kinds.dedup();
        return kinds.join(" or ");
    }
    let kinds: Vec<String> = match &schema["type"] {
        Value::String(one) => vec![one.clone()],
        Value::Array(many) => many.iter().map(text).collect(),
        _ if schema.get("const").is_some() || schema.get("enum").is_some() => vec!["string".to_owned()],
        _ => vec!["any".to_owned()],
    };
    let named = kinds.into_iter().map(|kind| match kind.as_str() {
        "array" => format!("array of {}", self::kind(document, resolve(document, &schema["items"]))),
        "string" if schema["format"] == "date-time" => "time".to_owned(),
        _ => kind,
    });
    named.collect::<Vec<_>>().join(" or ")
}

fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let Some(path) = value.get("$ref").and_then(Value::as_str) else { return value };
    document.pointer(path.trim_start_matches('#')).unwrap_or(value)
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
