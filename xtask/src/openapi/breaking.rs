//! `cargo xtask openapi --breaking BASE`: what clients of the documents of the commit BASE would run into with these.
//!
//! A break that is meant is admitted in `openapi/breaks.toml`, with its reason, in the commit that makes it; an entry
//! counts once, against a base that does not have it yet, and stays as a record.
//!
//! Deliberately not here: what two schemas make of each other (`schema.rs`).

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value};

use super::schema::{Comparison, Direction, resolve};

/// Where deliberate breaks are admitted.
const ADMITTED: &str = "openapi/breaks.toml";
const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// Fails when a document of now breaks clients of the one committed at `base`.
pub fn run(root: &Path, base: &str) -> Result<()> {
    let commit = show(root, &["rev-parse", "--verify", "--quiet", &format!("{base}^{{commit}}")])?
        .with_context(|| format!("git knows no commit {base}: name one that is there (git log), or fetch it"))?;
    let commit = commit.trim();
    let here = std::fs::read_to_string(root.join(ADMITTED)).unwrap_or_default();
    let there = show(root, &["show", &format!("{commit}:{ADMITTED}")])?.unwrap_or_default();
    let known = admitted(&there).with_context(|| format!("{ADMITTED} of {base}"))?;
    let mut admitted = admitted(&here).with_context(|| ADMITTED.to_owned())?;
    admitted.retain(|entry| !known.contains(entry));
    let mut unadmitted = Vec::new();
    for (name, text) in nephos_http::openapi::files() {
        let Some(old) = show(root, &["show", &format!("{commit}:openapi/{name}.json")])? else { continue };
        let old = serde_json::from_str(&old).with_context(|| format!("openapi/{name}.json of {base}"))?;
        for what in breaks(&old, &serde_json::from_str(&text)?) {
            let (document, what) = (name.to_owned(), what);
            if !admitted.iter().any(|entry| entry.document == document && fits(&entry.what, &what)) {
                unadmitted.push((document, what));
            }
        }
    }
    if unadmitted.is_empty() {
        return Ok(());
    }
    let mut told = format!("{} would break clients of the documents of {base}:\n", unadmitted.len());
    // Writing to a string does not fail.
    for (document, what) in &unadmitted {
        let _ = write!(told, "\n  {document}: {what}");
    }
    let _ = writeln!(told, "\n\nKeep what is there and deprecate it. A break that is meant is admitted in {ADMITTED}:");
    for (document, what) in &unadmitted {
        let what = toml::Value::from(what.as_str());
        let _ = writeln!(told, "\n[[break]]\ndocument = \"{document}\"\nwhat = {what}\nreason = \"…\"");
    }
    bail!(told)
}

/// What git prints, or nothing when it has no such thing.
fn show(root: &Path, args: &[&str]) -> Result<Option<String>> {
    let out = Command::new("git").args(args).current_dir(root).output().context("run git: is it installed?")?;
    if !out.status.success() {
        return Ok(None);
    }
    Ok(Some(String::from_utf8(out.stdout).context("what git prints is not UTF-8")?))
}

/// A break that is meant.
#[derive(Debug, PartialEq, Eq)]
struct Admitted {
    document: String,
    what: String,
}

/// The entries of `openapi/breaks.toml`; each must say why.
fn admitted(text: &str) -> Result<Vec<Admitted>> {
    let table: toml::Table = text.parse()?;
    let entries = table.get("break").and_then(toml::Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut out = Vec::new();
    for entry in entries {
        let field = |name: &str| entry.get(name).and_then(toml::Value::as_str).map(str::trim).unwrap_or_default();
        if ["document", "what", "reason"].iter().any(|name| field(name).is_empty()) || field("reason") == "…" {
            bail!("each [[break]] has `document`, `what` and a `reason`; this one has not: {entry}");
        }
        out.push(Admitted { document: field("document").to_owned(), what: field("what").to_owned() });
    }
    Ok(out)
}

/// Whether a text is what a pattern says; `*` in it stands for any text.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(left) = text.strip_prefix(first) else { return false };
    left.char_indices().map(|(at, _)| at).chain([left.len()]).any(|at| fits(rest, &left[at..]))
}

/// Everything in `new` that a client of `old` would run into, in the order of `old`.
fn breaks(old: &Value, new: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for url in urls(old).filter(|url| !urls(new).any(|other| other == *url)) {
        found.push(format!("the server {url} is gone"));
    }
    for (path, methods) in object(old, "/paths") {
        let Some(now) = new.get("paths").and_then(|paths| paths.get(path)) else {
            found.push(format!("{path} is gone"));
            continue;
        };
        for method in METHODS {
            let Some(was) = methods.get(method) else { continue };
            let name = format!("{} {path}", method.to_uppercase());
            match now.get(method) {
                None => found.push(format!("{name} is gone")),
                Some(is) => operation(&Documents { old, new }, &name, was, is, &mut found),
            }
        }
    }
    for (event, was) in object(old, "/webhooks") {
        match new.get("webhooks").and_then(|all| all.get(event)) {
            None => found.push(format!("the event {event} is gone")),
            Some(is) => {
                let pair = Documents { old, new };
                // What a request to us is for others, a delivery is for our clients: they read it.
                let (was, is) = (body(old, &was["post"]), body(new, &is["post"]));
                found.extend(pair.compare(Direction::Answer, &format!("the event {event}:"), was, is));
            }
        }
    }
    found
}

/// Two documents that are compared.
struct Documents<'a> {
    old: &'a Value,
    new: &'a Value,
}

impl Documents<'_> {
    fn compare(&self, direction: Direction, at: &str, old: &Value, new: &Value) -> Vec<String> {
        Comparison { old: self.old, new: self.new, direction }.breaks(at, old, new)
    }
}

/// The schema of a request's body.
fn body<'a>(document: &'a Value, operation: &'a Value) -> &'a Value {
    let body = resolve(document, &operation["requestBody"]);
    &body["content"]["application/json"]["schema"]
}

fn operation(pair: &Documents<'_>, name: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    for field in ["operationId", "x-required-scope", "x-required-role", "x-required-reach", "x-budget"] {
        if old.get(field).is_some() && old.get(field) != new.get(field) {
            found.push(format!("{name}: {field} was {}, is {}", old[field], new[field]));
        }
    }
    let is_open = |operation: &Value| operation["security"].as_array().is_some_and(Vec::is_empty);
    if is_open(old) && !is_open(new) {
        found.push(format!("{name} now needs a credential"));
    }
    parameters(pair, name, old, new, found);
    request(pair, name, old, new, found);
    for (status, was) in object(old, "/responses") {
        // An error that can't happen any more is no loss.
        let is_error = status.starts_with(['4', '5']);
        match new["responses"].get(status) {
            None if is_error => {}
            None => found.push(format!("{name}: it no longer answers {status}")),
            Some(is) => response(pair, &format!("{name} {status}:"), was, is, found),
        }
    }
}

fn parameters(pair: &Documents<'_>, name: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    let (was, is) = (listed(pair.old, old), listed(pair.new, new));
    for one in &was {
        let at = format!("{name}: the {} parameter {}", text(one, "in"), text(one, "name"));
        match is.iter().find(|other| other["name"] == one["name"] && other["in"] == one["in"]) {
            None => found.push(format!("{at} is gone")),
            Some(other) => found.extend(pair.compare(Direction::Request, &at, &one["schema"], &other["schema"])),
        }
    }
    for one in is.iter().filter(|one| one["required"] == true) {
        let before = was.iter().find(|other| other["name"] == one["name"] && other["in"] == one["in"]);
        if before.is_none_or(|before| before["required"] != true) {
            found.push(format!("{name}: the {} parameter {} is now required", text(one, "in"), text(one, "name")));
        }
    }
}

fn request(pair: &Documents<'_>, name: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    match (old.get("requestBody"), new.get("requestBody")) {
        (Some(_), None) => found.push(format!("{name} no longer takes a body")),
        (None, Some(body)) if body["required"] == true => found.push(format!("{name} now needs a body")),
        (Some(was), Some(is)) => {
            if was["required"] != true && is["required"] == true {
                found.push(format!("{name} now needs a body"));
            }
            let (was, is) = (body(pair.old, old), body(pair.new, new));
            found.extend(pair.compare(Direction::Request, &format!("{name}: the body"), was, is));
        }
        _ => {}
    }
}

fn response(pair: &Documents<'_>, at: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    let (old, new) = (resolve(pair.old, old), resolve(pair.new, new));
    for (header, _) in object(old, "/headers") {
        if new["headers"].get(header).is_none() {
            found.push(format!("{at} the header {header} is gone"));
        }
    }
    for (kind, was) in object(old, "/content") {
        match new["content"].get(kind) {
            None => found.push(format!("{at} the body is no longer {kind}")),
            Some(is) => {
                found.extend(pair.compare(Direction::Answer, &format!("{at} the body"), &was["schema"], &is["schema"]));
            }
        }
    }
}

/// The parameters of an operation, without references.
fn listed<'a>(document: &'a Value, operation: &'a Value) -> Vec<&'a Value> {
    operation["parameters"].as_array().into_iter().flatten().map(|one| resolve(document, one)).collect()
}

fn urls(document: &Value) -> impl Iterator<Item = &str> {
    document["servers"].as_array().into_iter().flatten().filter_map(|server| server["url"].as_str())
}

/// The members of the object at a pointer; none when there is no such object.
fn object<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    value.pointer(pointer).and_then(Value::as_object).into_iter().flat_map(Map::iter)
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A document with one operation of each kind.
    fn document() -> Value {
        json!({
            "servers": [{"url": "/v1"}],
            "paths": {"/things": {
                "get": {
                    "operationId": "thing.list", "x-required-scope": "thing:read",
                    "parameters": [{"name": "name", "in": "query", "required": false, "schema": {"type": "string"}}],
                    "responses": {
                        "200": {"headers": {"Link": {}}, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}},
                        "404": {"description": "Not there."},
                    },
                },
                "post": {
                    "operationId": "thing.create", "security": [],
                    "requestBody": {"required": false, "content": {"application/json": {"schema": {
                        "type": "object", "additionalProperties": false, "properties": {"name": {"type": "string"}}}}}},
                    "responses": {"201": {"description": "Made."}},
                },
            }},
            "webhooks": {"thing.created": {"post": {"requestBody": {"content": {"application/json": {
                "schema": {"$ref": "#/components/schemas/Thing"}}}}}}},
            "components": {"schemas": {"Thing": {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}}}}},
        })
    }

    /// What is found when the document is changed.
    fn after(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let mut new = document();
        change(&mut new);
        breaks(&document(), &new)
    }

    #[test]
    fn a_document_does_not_break_itself() {
        assert_eq!(after(|_| {}), [""; 0]);
    }

    #[test]
    fn what_is_added_breaks_nobody() {
        let found = after(|new| {
            new["paths"]["/others"] = json!({"get": {}});
            new["servers"].as_array_mut().unwrap().push(json!({"url": "/v2"}));
            new["webhooks"]["thing.deleted"] = json!({});
            let get = &mut new["paths"]["/things"]["get"];
            get["parameters"].as_array_mut().unwrap().push(json!({"name": "size", "in": "query", "required": false}));
            get["responses"]["200"]["headers"]["ETag"] = json!({});
            get["responses"]["409"] = json!({"description": "No."});
            new["components"]["schemas"]["Thing"]["properties"]["name"] = json!({"type": "string"});
        });
        assert_eq!(found, [""; 0]);
    }

    #[test]
    fn paths_operations_servers_and_events_that_are_gone_are_found() {
        assert_eq!(after(|new| new["paths"] = json!({})), ["/things is gone"]);
        let no_post = after(|new| drop(new["paths"]["/things"].as_object_mut().unwrap().remove("post")));
        assert_eq!(no_post, ["POST /things is gone"]);
        assert_eq!(after(|new| new["servers"] = json!([])), ["the server /v1 is gone"]);
        assert_eq!(after(|new| new["webhooks"] = json!({})), ["the event thing.created is gone"]);
    }

    #[test]
    fn parameters_that_are_gone_narrowed_or_required_are_found() {
        let parameters = |parameters: Value| after(|new| new["paths"]["/things"]["get"]["parameters"] = parameters);
        assert_eq!(parameters(json!([])), ["GET /things: the query parameter name is gone"]);
        assert_eq!(
            parameters(
                json!([{"name": "name", "in": "query", "required": true, "schema": {"type": "string", "maxLength": 3}}])
            ),
            [
                "GET /things: the query parameter name is narrowed: maxLength 3",
                "GET /things: the query parameter name is now required"
            ]
        );
    }

    #[test]
    fn bodies_that_are_needed_or_narrowed_are_found() {
        let found = after(|new| {
            let body = &mut new["paths"]["/things"]["post"]["requestBody"];
            body["required"] = json!(true);
            body["content"]["application/json"]["schema"]["required"] = json!(["name"]);
        });
        assert_eq!(found, ["POST /things now needs a body", "POST /things: the body/name is now required"]);
    }

    #[test]
    fn what_answers_and_events_lose_is_found() {
        let found = after(|new| {
            new["components"]["schemas"]["Thing"]["properties"] = json!({});
            new["paths"]["/things"]["get"]["responses"]["200"]["headers"] = json!({});
            new["paths"]["/things"]["post"]["responses"] = json!({"200": {"description": "Made."}});
        });
        assert_eq!(
            found,
            [
                "GET /things 200: the header Link is gone",
                "GET /things 200: the body/id is gone",
                "POST /things: it no longer answers 201",
                "the event thing.created:/id is gone",
            ]
        );
    }

    #[test]
    fn who_may_call_is_part_of_the_promise() {
        let found = after(|new| {
            new["paths"]["/things"]["get"]["x-required-scope"] = json!("thing:write");
            new["paths"]["/things"]["post"].as_object_mut().unwrap().remove("security");
        });
        assert_eq!(
            found,
            [
                "GET /things: x-required-scope was \"thing:read\", is \"thing:write\"",
                "POST /things now needs a credential"
            ]
        );
    }

    #[test]
    fn an_admitted_break_says_why() {
        let one = "[[break]]\ndocument = \"platform\"\nwhat = \"/things is gone\"\n";
        assert!(admitted(one).unwrap_err().to_string().contains("reason"));
        let one = admitted(&format!("{one}reason = \"Nobody has called it yet.\"\n")).unwrap();
        assert_eq!(one, [Admitted { document: "platform".to_owned(), what: "/things is gone".to_owned() }]);
        assert_eq!(admitted("").unwrap(), []);
    }

    #[test]
    fn one_entry_can_admit_what_many_operations_share() {
        assert!(fits("GET /things is gone", "GET /things is gone"));
        assert!(fits("*: the header parameter Prefer *", "GET /things: the header parameter Prefer is gone"));
        assert!(fits("GET /a*", "GET /a"));
        assert!(!fits("* is gone", "GET /things 200: the body/id is gone now"));
        assert!(!fits("GET /things", "GET /things is gone"));
    }

    /// The committed documents, as they are, are compared without a finding.
    #[test]
    fn our_own_documents_do_not_break_themselves() {
        for (name, text) in nephos_http::openapi::files() {
            let document: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(breaks(&document, &document.clone()), [""; 0], "{name}");
        }
    }
}
