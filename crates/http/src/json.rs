//! Request bodies: a strict JSON reader (RFC 8259) and the canonical form that fingerprints are made of.
//!
//! Stricter than most: duplicate keys, a byte order mark, lone surrogates and numbers beyond a double are refused, and
//! nesting is bounded. Every refusal says where, by line and column or by a JSON Pointer (RFC 6901).

use std::fmt::Write as _;

use nephos_model::{Detail, Fault};

/// Arrays and objects inside each other at most.
pub const DEPTH_MAX: u32 = 32;

/// A JSON value. Objects keep the order in which their members were written.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number without a fraction that fits 64 bits, `1.0` and `1e3` included.
    Integer(i64),
    /// Any other number; always finite.
    Float(f64),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Json>),
    /// An object; its keys are unique.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Reads one whole document.
    ///
    /// # Errors
    /// A 400 that says where, when `bytes` is not UTF-8, not JSON, nested too deeply, or names a key twice.
    pub fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let text = std::str::from_utf8(bytes).map_err(|e| {
            let (line, column) = place(bytes, e.valid_up_to());
            Fault::bad(Detail::new(
                "invalid_utf8",
                format!("The body is not UTF-8: line {line}, column {column} holds a byte that can't stand there."),
            ))
        })?;
        let mut reader = Reader { text, at: 0, path: Vec::new() };
        let value = reader.document().map_err(|problem| problem.fault(bytes))?;
        Ok(value)
    }

    /// What it is, for error messages.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Integer(_) | Self::Float(_) => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }

    /// A text that is equal for equal values: keys sorted, no white space, numbers and escapes in one spelling.
    pub fn canonical(&self) -> String {
        let mut out = String::new();
        self.write_canonical(&mut out);
        out
    }

    fn write_canonical(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(true) => out.push_str("true"),
            Self::Bool(false) => out.push_str("false"),
            Self::Integer(n) => {
                let _ = write!(out, "{n}");
            }
            Self::Float(n) => {
                let _ = write!(out, "{n:e}");
            }
            Self::String(text) => write_string(out, text),
            Self::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    item.write_canonical(out);
                }
                out.push(']');
            }
            Self::Object(members) => {
                let mut sorted: Vec<_> = members.iter().collect();
                sorted.sort_by(|a, b| a.0.cmp(&b.0));
                out.push('{');
                for (i, (key, value)) in sorted.into_iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    write_string(out, key);
                    out.push(':');
                    value.write_canonical(out);
                }
                out.push('}');
            }
        }
    }
}

/// Appends `text` as a JSON string with its quotes.
pub fn write_string(out: &mut String, text: &str) {
    out.push('"');
    let mut plain = 0;
    for (i, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.push_str(&text[plain..i]);
        plain = i + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            other => {
                let _ = write!(out, "\\u{other:04x}");
            }
        }
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

/// One step of a JSON Pointer: `~` and `/` escaped.
pub fn pointer_step(out: &mut String, step: &str) {
    out.push('/');
    for c in step.chars() {
        match c {
            '~' => out.push_str("~0"),
            '/' => out.push_str("~1"),
            c => out.push(c),
        }
    }
}

/// Line and column, both from 1, of the byte at `offset`; columns count characters.
fn place(bytes: &[u8], offset: usize) -> (usize, usize) {
    let before = &bytes[..offset.min(bytes.len())];
    #[allow(clippy::naive_bytecount)] // once for a refused body
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
    // Bytes of the form 10xxxxxx continue a character.
    let column = before[start..].iter().filter(|b| **b & 0xc0 != 0x80).count() + 1;
    (line, column)
}

enum Problem {
    Syntax { at: usize, what: &'static str },
    Duplicate { pointer: String, key: String },
}

impl Problem {
    fn fault(self, bytes: &[u8]) -> Fault {
        match self {
            Self::Syntax { at, what } => {
                let (line, column) = place(bytes, at);
                Fault::bad(Detail::new(
                    "invalid_json",
                    format!("The body is not valid JSON at line {line}, column {column}: {what}."),
                ))
            }
            Self::Duplicate { pointer, key } => Fault::bad(Detail::at(
                pointer,
                "duplicate_key",
                format!("The key \"{}\" appears twice in one object; send it once.", brief(&key)),
            )),
        }
    }
}

/// At most 64 characters of what a client sent, for error messages.
pub fn brief(text: &str) -> String {
    const CHARS_MAX: usize = 64;
    match text.char_indices().nth(CHARS_MAX) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}

enum Step {
    Key(String),
    Index(usize),
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    path: Vec<Step>,
}

impl Reader<'_> {
    fn document(&mut self) -> Result<Json, Problem> {
        self.space();
        if self.peek().is_none() {
            return self.fail("it is empty");
        }
        if self.text.starts_with('\u{feff}') {
            return self.fail("it starts with a byte order mark; leave it out");
        }
        let value = self.value()?;
        self.space();
        match self.peek() {
            None => Ok(value),
            Some(_) => self.fail("something follows the end of the value"),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn fail<T>(&self, what: &'static str) -> Result<T, Problem> {
        Err(Problem::Syntax { at: self.at, what })
    }

    fn value(&mut self) -> Result<Json, Problem> {
        match self.peek() {
            Some(b'{') => self.object(),
            Some(b'[') => self.array(),
            Some(b'"') => self.string().map(Json::String),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Json::Bool(true)),
            Some(b'f') => self.word("false", Json::Bool(false)),
            Some(b'n') => self.word("null", Json::Null),
            None => self.fail("it ends where a value must follow"),
            Some(_) => self.fail("expected a value: an object, an array, a string, a number, true, false or null"),
        }
    }

    fn word(&mut self, word: &str, value: Json) -> Result<Json, Problem> {
        if !self.text[self.at..].starts_with(word) {
            return self.fail("expected true, false or null");
        }
        self.at += word.len();
        Ok(value)
    }

    fn deeper(&self) -> Result<(), Problem> {
        if self.path.len() >= DEPTH_MAX as usize {
            return self.fail("it is nested more than 32 levels deep");
        }
        Ok(())
    }

    fn array(&mut self) -> Result<Json, Problem> {
        self.deeper()?;
        self.at += 1;
        let mut items = Vec::new();
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Json::Array(items));
        }
        loop {
            self.space();
            self.path.push(Step::Index(items.len()));
            items.push(self.value()?);
            self.path.pop();
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Json::Array(items));
                }
                _ => return self.fail("expected a comma or the end of the array"),
            }
        }
    }

    fn object(&mut self) -> Result<Json, Problem> {
        /// Up to this many members a scan for duplicates is cheaper than a set.
        const SCAN_MAX: usize = 16;
        self.deeper()?;
        self.at += 1;
        let mut members: Vec<(String, Json)> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Json::Object(members));
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return self.fail("expected a key in double quotes");
            }
            let key = self.string()?;
            let twice = if members.len() < SCAN_MAX {
                members.iter().any(|(k, _)| *k == key)
            } else {
                if seen.is_empty() {
                    seen.extend(members.iter().map(|(k, _)| k.clone()));
                }
                !seen.insert(key.clone())
            };
            if twice {
                return Err(Problem::Duplicate { pointer: self.pointer(&key), key });
            }
            self.space();
            if self.peek() != Some(b':') {
                return self.fail("expected a colon after the key");
            }
            self.at += 1;
            self.space();
            self.path.push(Step::Key(key));
            let value = self.value()?;
            if let Some(Step::Key(key)) = self.path.pop() {
                members.push((key, value));
            }
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Json::Object(members));
                }
                _ => return self.fail("expected a comma or the end of the object"),
            }
        }
    }

    fn pointer(&self, key: &str) -> String {
        let mut out = String::new();
        for step in &self.path {
            match step {
                Step::Key(key) => pointer_step(&mut out, key),
                Step::Index(i) => {
                    let _ = write!(out, "/{i}");
                }
            }
        }
        pointer_step(&mut out, &brief(key));
        out
    }

    fn string(&mut self) -> Result<String, Problem> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let rest = &self.text[self.at..];
            let Some(stop) = rest.bytes().position(|b| b == b'"' || b == b'\\' || b < 0x20) else {
                self.at = self.text.len();
                return self.fail("a string has no closing quote");
            };
            out.push_str(&rest[..stop]);
            self.at += stop;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => out.push(self.escape()?),
                _ => return self.fail("a control character must be escaped in a string"),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Problem> {
        self.at += 1;
        let plain = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => return self.fail("this is not an escape that JSON knows"),
        };
        self.at += 1;
        Ok(plain)
    }

    fn unicode(&mut self) -> Result<char, Problem> {
        self.at += 1;
        let first = self.hex4()?;
        let code = if (0xd800..0xdc00).contains(&first) && self.text[self.at..].starts_with("\\u") {
            self.at += 2;
            let second = self.hex4()?;
            if !(0xdc00..0xe000).contains(&second) {
                return self.fail("a surrogate escape has no partner");
            }
            0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)
        } else {
            first
        };
        match char::from_u32(code) {
            Some(c) => Ok(c),
            None => self.fail("a surrogate escape has no partner"),
        }
    }

    fn hex4(&mut self) -> Result<u32, Problem> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4).unwrap_or_default();
        if digits.len() < 4 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return self.fail("\\u needs four hexadecimal digits");
        }
        let value = digits.iter().fold(0, |sum, b| (sum << 4) | char::from(*b).to_digit(16).unwrap_or(0));
        self.at += 4;
        Ok(value)
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at - start
    }

    fn number(&mut self) -> Result<Json, Problem> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let zero = self.peek() == Some(b'0');
        let whole = self.digits();
        if whole == 0 || (zero && whole > 1) {
            return self.fail("this is not a number: no leading zeros, and a digit after a minus sign");
        }
        let mut integer = true;
        if self.peek() == Some(b'.') {
            integer = false;
            self.at += 1;
            if self.digits() == 0 {
                return self.fail("a digit must follow the decimal point");
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            integer = false;
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if self.digits() == 0 {
                return self.fail("a digit must follow the exponent sign");
            }
        }
        let text = &self.text[start..self.at];
        if integer && let Ok(n) = text.parse() {
            return Ok(Json::Integer(n));
        }
        let Ok(float) = text.parse::<f64>() else { return self.fail("this is not a number") };
        if !float.is_finite() {
            self.at = start;
            return self.fail("the number is too large");
        }
        Ok(whole_number(float).map_or(Json::Float(float), Json::Integer))
    }
}

/// The integer that `float` is, when doubles hold it exactly.
#[allow(clippy::cast_possible_truncation)] // checked: integral and within 53 bits
fn whole_number(float: f64) -> Option<i64> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    (float.fract() == 0.0 && float.abs() <= EXACT_MAX).then_some(float as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refusal(text: &[u8]) -> String {
        let fault = Json::parse(text).unwrap_err();
        let detail = &fault.details[0];
        format!("{} {:?} {}", detail.code, detail.place, fault.message)
    }

    #[test]
    fn what_json_is() {
        let value =
            Json::parse("{\"a\":[1,-2.5,true,null,\"\\u00e9\\ud83d\\ude80\\n\"],\"b\":{}} ".as_bytes()).unwrap();
        assert_eq!(value.canonical(), "{\"a\":[1,-2.5e0,true,null,\"é🚀\\n\"],\"b\":{}}");
    }

    #[test]
    fn spellings_of_the_same_value_have_one_canonical_form() {
        let forms =
            ["{\"b\":1,\"a\":\"x/\"}", " { \"a\" : \"\\u0078\\/\" , \"b\" : 1.0 }", "{\"a\":\"x/\",\"b\":10e-1}"];
        for form in forms {
            assert_eq!(Json::parse(form.as_bytes()).unwrap().canonical(), "{\"a\":\"x/\",\"b\":1}");
        }
    }

    #[test]
    fn refusals_say_where() {
        insta::assert_snapshot!(
            [
                &b""[..],
                b" \n",
                b"{",
                b"{\"a\":1,}",
                b"{a:1}",
                b"{\"a\" 1}",
                b"{\n  \"name\": gamma\n}",
                b"[1 2]",
                b"01",
                b"-",
                b"1.",
                b"1e",
                b"1e999",
                b"\"a",
                b"\"a\nb\"",
                b"\"\\x\"",
                b"\"\\ud800\"",
                b"\"\\ud800\\u0041\"",
                b"\"\\u12g4\"",
                b"{} {}",
                b"nul",
                b"{\"a\":{\"b/c\":[{\"d\":1,\"d\":2}]}}",
                b"\"\xff\"",
                b"\xef\xbb\xbf{}",
                "{\"é\" x".as_bytes(),
                &[b'['; 40],
            ]
            .iter()
            .map(|bad| format!("{:<40} {}", String::from_utf8_lossy(bad).escape_debug(), refusal(bad)))
            .collect::<Vec<_>>()
            .join("\n")
        );
    }

    #[test]
    fn many_members_are_checked_for_duplicates_too() {
        let many = |last: &str| {
            let members: Vec<_> = (0..100).map(|i| format!("\"k{i}\":0")).chain([format!("\"{last}\":0")]).collect();
            Json::parse(format!("{{{}}}", members.join(",")).as_bytes())
        };
        assert!(many("k100").is_ok());
        assert!(many("k42").is_err());
    }

    proptest! {
        #[test]
        fn agrees_with_another_reader(text in "[\\[\\]{}\",:0-9.eE+\\-a-c \\\\untrfalse]{0,24}") {
            let theirs = serde_json::from_str::<serde_json::Value>(&text);
            match Json::parse(text.as_bytes()) {
                Ok(ours) => {
                    let again: serde_json::Value = serde_json::from_str(&ours.canonical()).unwrap();
                    prop_assert!(theirs.is_ok(), "{text}: {again}");
                }
                // Duplicate keys are the only thing that the other reader takes and this one refuses here.
                Err(fault) => prop_assert!(theirs.is_err() || fault.details[0].code == "duplicate_key", "{text}"),
            }
        }

        #[test]
        fn canonical_is_a_fixed_point(text in "\\PC{0,20}") {
            let mut out = String::new();
            write_string(&mut out, &text);
            prop_assert_eq!(Json::parse(out.as_bytes()).unwrap(), Json::String(text));
        }
    }
}
