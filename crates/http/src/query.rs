//! Query strings: percent-decoding, and a table of the parameters that an operation takes.
//!
//! Strict: an unknown parameter, one that is sent twice, and a value outside its range are a 400 that names them all.

use std::str::FromStr;

use nephos_control::compute::LABELS_MAX;
use nephos_model::page::{LIMIT_DEFAULT, LIMIT_MAX, Page, Start};
use nephos_model::{Detail, Fault, Timestamp, label};
use serde_json::Value;

use crate::fields::{Kind, is_id, parse_time};
use crate::json::brief;

/// The greatest page number.
pub const PAGE_MAX: u32 = u32::MAX;

/// One query parameter.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What it may hold.
    pub kind: Kind,
    /// A sentence for the reference.
    pub summary: &'static str,
}

impl Parameter {
    /// A parameter; it may be sent once.
    pub const fn new(name: &'static str, kind: Kind, summary: &'static str) -> Self {
        Self { name, kind, summary }
    }

    /// The JSON Schema (2020-12) of the parameter.
    pub fn schema(&self) -> Value {
        let mut schema = self.kind.schema();
        if self.name == "limit" {
            schema["default"] = LIMIT_DEFAULT.into();
        }
        if self.name == "page" {
            schema["default"] = 1.into();
        }
        if self.name == LABEL.name {
            schema["pattern"] = label::pair_pattern().into();
        }
        schema
    }
}

/// `page`: see [`page`].
pub const PAGE: Parameter = Parameter::new(
    "page",
    Kind::Integer { min: 1, max: PAGE_MAX as i64 },
    "The page, from 1. Not together with `after`.",
);
/// `limit`: see [`page`].
pub const LIMIT: Parameter =
    Parameter::new("limit", Kind::Integer { min: 1, max: LIMIT_MAX as i64 }, "Items in the page at most.");
/// `after`: see [`page`].
pub const AFTER: Parameter = Parameter::new(
    "after",
    Kind::Reference("the item before the page"),
    "The id that the page comes after: constant cost at any depth, and it works when its resource is gone.",
);
/// `label`: a filter.
pub const LABEL: Parameter = Parameter::new(
    "label",
    Kind::Text { bytes_max: 2 * label::LABEL_CHARS_MAX + 1 },
    "Only resources with this label, as `key:value`. Sent several times (at most 4), all must match.",
);
/// `dry_run`: everything is checked, nothing is done.
pub const DRY_RUN: Parameter =
    Parameter::new("dry_run", Kind::Bool, "Checks everything and tells the price, and does nothing.");

/// A query that its table has passed.
#[derive(Debug, Default)]
pub struct Query {
    pairs: Vec<(&'static str, String)>,
}

impl Query {
    /// Reads the text after the `?` against the table.
    ///
    /// # Errors
    /// Every problem of every parameter.
    pub fn parse(raw: Option<&str>, table: &[Parameter]) -> Result<Self, Vec<Detail>> {
        let mut query = Self::default();
        let Some(raw) = raw.filter(|raw| !raw.is_empty()) else { return Ok(query) };
        let mut problems = Vec::new();
        for part in raw.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (Some(name), Some(value)) = (decode(name), decode(value)) else {
                problems.push(Detail::parameter(
                    brief(name),
                    "invalid_encoding",
                    format!("The parameter \"{}\" is not percent-encoded UTF-8.", brief(name)),
                ));
                continue;
            };
            match table.iter().find(|p| p.name == name) {
                None => problems.push(Detail::parameter(brief(&name), "unknown_parameter", unknown(&name, table))),
                Some(parameter) => query.take(parameter, value, &mut problems),
            }
        }
        if query.has("page") && query.has("after") {
            problems.push(Detail::parameter(
                "after",
                "contradiction",
                "\"page\" and \"after\" exclude each other; send one of them.",
            ));
        }
        if problems.is_empty() { Ok(query) } else { Err(problems) }
    }

    fn take(&mut self, parameter: &Parameter, value: String, problems: &mut Vec<Detail>) {
        let name = parameter.name;
        if name == LABEL.name {
            if self.all(name).count() == LABELS_MAX {
                let message = format!("The parameter \"{name}\" is sent more than {LABELS_MAX} times.");
                problems.push(Detail::parameter(name, "too_many", message));
                return;
            }
            if self.all(name).any(|known| known == value) {
                return;
            }
        } else if self.has(name) {
            problems.push(Detail::parameter(
                name,
                "repeated",
                format!("The parameter \"{name}\" is sent more than once."),
            ));
            return;
        }
        let wrong = match parameter.kind {
            Kind::Bool => (!matches!(value.as_str(), "true" | "false"))
                .then(|| ("invalid_value", "must be true or false".to_owned())),
            Kind::Integer { min, max } => {
                let number = value.bytes().all(|b| b.is_ascii_digit()).then(|| value.parse::<i64>().ok()).flatten();
                (!number.is_some_and(|n| (min..=max).contains(&n)))
                    .then(|| ("out_of_range", format!("must be a whole number from {min} to {max}")))
            }
            kind => kind.wrong(&value),
        };
        if let Some((code, why)) = wrong {
            problems.push(Detail::parameter(name, code, format!("The parameter \"{name}\" {why}.")));
        }
        if name == "label" && !is_label(&value) {
            problems.push(Detail::parameter(
                name,
                "invalid_value",
                "The parameter \"label\" must be a label's key, a colon and its value, such as tier:web.",
            ));
        }
        self.pairs.push((name, value));
    }

    /// Whether a parameter was sent.
    pub fn has(&self, name: &str) -> bool {
        self.text(name).is_some()
    }

    /// The text of a parameter.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str())
    }

    /// Whether a parameter says `true`.
    pub fn flag(&self, name: &str) -> bool {
        self.text(name) == Some("true")
    }

    /// The number of a parameter.
    pub fn integer(&self, name: &str) -> Option<i64> {
        self.text(name)?.parse().ok()
    }

    /// A parameter in the type that its kind has checked already.
    pub fn parsed<T: FromStr>(&self, name: &str) -> Option<T> {
        self.text(name)?.parse().ok()
    }

    /// The time of a parameter, which its kind has checked already.
    pub fn time(&self, name: &str) -> Option<Timestamp> {
        parse_time(self.text(name)?)
    }

    /// Every value of a parameter.
    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.pairs.iter().filter(move |(n, _)| *n == name).map(|(_, value)| value.as_str())
    }

    /// Keys and values of the `label` parameters.
    pub fn labels(&self) -> Vec<(String, String)> {
        let pairs = self.all(LABEL.name).filter_map(|text| text.split_once(':'));
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    /// The page that is asked for; `prefix` is that of the listed ids.
    ///
    /// # Errors
    /// A 400 when `after` is no id of that kind.
    pub fn page(&self, prefix: &str) -> Result<Page, Fault> {
        let start = match self.text("after") {
            Some(id) if is_id(prefix, id) => Start::After(id.to_owned()),
            Some(_) => {
                return Err(Fault::bad(Detail::parameter(
                    "after",
                    "invalid_id",
                    format!(
                        "The parameter \"after\" must be an id that starts with \"{prefix}_\" followed by 26 characters."
                    ),
                )));
            }
            None => self.number(),
        };
        Ok(Page { start, limit: self.limit() })
    }

    /// The page of a list whose items have no ids: `after` is a name.
    pub fn page_by_name(&self) -> Page {
        let start = self.text("after").map_or_else(|| self.number(), |name| Start::After(name.to_owned()));
        Page { start, limit: self.limit() }
    }

    fn number(&self) -> Start {
        Start::Number(self.integer("page").and_then(|n| u32::try_from(n).ok()).unwrap_or(1))
    }

    fn limit(&self) -> u32 {
        self.integer("limit").and_then(|n| u32::try_from(n).ok()).unwrap_or(LIMIT_DEFAULT)
    }

    /// The query without `page`, `after` and `limit`, encoded again, each part followed by `&`: for `Link`.
    pub fn filters(&self) -> String {
        let mut out = String::new();
        for (name, value) in self.pairs.iter().filter(|(name, _)| !matches!(*name, "page" | "after" | "limit")) {
            out.push_str(name);
            out.push('=');
            encode(&mut out, value);
            out.push('&');
        }
        out
    }

    /// A text that is equal for equal queries: sorted, and encoded in one way.
    pub fn canonical(&self) -> String {
        let mut sorted: Vec<_> = self.pairs.iter().collect();
        sorted.sort();
        let mut out = String::new();
        for (name, value) in sorted {
            out.push_str(name);
            out.push('=');
            encode(&mut out, value);
            out.push('&');
        }
        out
    }
}

fn is_label(text: &str) -> bool {
    text.split_once(':').is_some_and(|(key, value)| label::key(key).is_ok() && label::value(value).is_ok())
}

fn unknown(name: &str, table: &[Parameter]) -> String {
    let name = brief(name);
    if table.is_empty() {
        return format!("There is no parameter \"{name}\" here; this operation takes none.");
    }
    let known: Vec<_> = table.iter().map(|p| p.name).collect();
    format!("There is no parameter \"{name}\" here; the parameters are {}.", known.join(", "))
}

/// Undoes percent-encoding, and `+` for a space, as forms write it.
fn decode(text: &str) -> Option<String> {
    if !text.bytes().any(|b| matches!(b, b'%' | b'+')) {
        return Some(text.to_owned());
    }
    let hex = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => (hex(bytes.next()?)? << 4) | hex(bytes.next()?)?,
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(out).ok()
}

/// Percent-encodes what is not unreserved (RFC 3986).
fn encode(out: &mut String, text: &str) {
    use std::fmt::Write as _;
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TABLE: &[Parameter] = &[
        PAGE,
        LIMIT,
        AFTER,
        LABEL,
        DRY_RUN,
        Parameter::new("status", Kind::OneOf(&["running", "stopped"]), "A status."),
        Parameter::new("name", Kind::Title, "A name."),
    ];

    fn refusals(raw: &str) -> String {
        let problems = Query::parse(Some(raw), TABLE).unwrap_err();
        problems.iter().map(|d| format!("{:?} {}: {}", d.place, d.code, d.message)).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn parameters_are_decoded() {
        let query = Query::parse(Some("name=a%20b%C3%A9+c&label=tier:web&limit=5&page=2&dry_run=true"), TABLE).unwrap();
        assert_eq!(query.text("name"), Some("a bé c"));
        assert_eq!(query.labels(), [("tier".to_owned(), "web".to_owned())]);
        assert_eq!(query.page("prj").unwrap(), Page { start: Start::Number(2), limit: 5 });
        assert!(query.flag("dry_run"));
        assert_eq!(query.filters(), "name=a%20b%C3%A9%20c&label=tier:web&dry_run=true&");
        assert_eq!(Query::parse(None, TABLE).unwrap().page("prj").unwrap(), Page::default());
    }

    #[test]
    fn every_problem_is_told_at_once() {
        insta::assert_snapshot!(refusals(
            "page=0&limit=101&status=flying&nme=x&dry_run=1&label=x&name=%zz&name=a&name=b&after=%ff&%=1"
        ));
        insta::assert_snapshot!(refusals("page=+1&limit=abc&after=x"));
        let query = Query::parse(Some("after=cmp_1"), TABLE).unwrap();
        assert_eq!(query.page("prj").unwrap_err().details[0].code, "invalid_id");
    }

    #[test]
    fn order_and_spelling_do_not_change_the_canonical_form() {
        let one = Query::parse(Some("name=a%62&dry_run=true"), TABLE).unwrap();
        let two = Query::parse(Some("&dry_run=true&name=ab&"), TABLE).unwrap();
        assert_eq!(one.canonical(), two.canonical());
    }

    proptest! {
        #[test]
        fn never_panics(raw in "\\PC{0,40}") {
            let _ = Query::parse(Some(&raw), TABLE);
        }

        #[test]
        fn encoding_round_trips(text in "\\PC{0,40}") {
            let mut out = String::new();
            encode(&mut out, &text);
            prop_assert_eq!(decode(&out), Some(text));
        }
    }
}
