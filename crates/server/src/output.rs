//! What the command line prints: plain lines, JSON and tables. Text that came from elsewhere is escaped, so that nothing
//! a tenant or a guest wrote can drive the reader's terminal.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::OnceLock;

use serde_json::Value;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// The first reason why something could not be printed on the standard output.
static LOST: OnceLock<io::Error> = OnceLock::new();

/// Why a part of the output was lost, such as a full disk behind it.
pub fn lost() -> Option<&'static io::Error> {
    LOST.get()
}

/// Remembers a failure. A reader that went away is none: what it wanted it has.
fn note(printed: io::Result<()>) {
    if let Err(error) = printed
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        // The first one is told; those after it follow from it.
        _ = LOST.set(error);
    }
}

/// Prints a line on the standard output; a failure is kept for [`lost`].
pub fn line(text: &str) {
    note(writeln!(io::stdout().lock(), "{text}"));
}

/// Prints text on the standard output as it is; a failure is kept for [`lost`].
pub fn raw(text: &str) {
    let mut out = io::stdout().lock();
    note(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

/// Prints a value as JSON.
pub fn json(value: &Value) {
    line(&serde_json::to_string_pretty(value).unwrap_or_default());
}

/// Tells a person something on the standard error.
pub fn say(text: &str) {
    _ = writeln!(io::stderr().lock(), "{text}");
}

/// A line of progress on the standard error: on a terminal it replaces the one before, elsewhere each change is a line.
#[derive(Debug, Default)]
pub struct Progress {
    last: String,
}

impl Progress {
    /// Shows how far it is; `seconds` since the start are shown on a terminal only.
    pub fn show(&mut self, text: &str, seconds: u64) {
        let mut err = io::stderr().lock();
        if err.is_terminal() {
            _ = write!(err, "\r\x1b[K{text} ({seconds} s)").and_then(|()| err.flush());
        } else if self.last != text {
            _ = writeln!(err, "{text}");
        }
        text.clone_into(&mut self.last);
    }

    /// Ends the line.
    pub fn end(&mut self) {
        let mut err = io::stderr().lock();
        if !self.last.is_empty() && err.is_terminal() {
            _ = write!(err, "\r\x1b[K").and_then(|()| err.flush());
        }
        self.last.clear();
    }
}

/// An error and its causes in one line; a cause that the text before tells already is left out.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}

/// The text with everything that is not printable replaced by its code.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        let hidden = c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        if hidden {
            // Writing to a String can't fail.
            _ = write!(safe, "\\u{{{:x}}}", u32::from(c));
        } else {
            safe.push(c);
        }
    }
    safe
}

/// Console text: as [`escape`], but line breaks and tabs stay.
pub fn escape_lines(text: &str) -> String {
    let lines: Vec<String> = text
        .split('\n')
        .map(|line| line.trim_end_matches('\r').split('\t').map(escape).collect::<Vec<_>>().join("\t"))
        .collect();
    lines.join("\n")
}

/// One value of a cell.
pub fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => escape(text),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Array(items) if items.iter().all(|i| !i.is_object() && !i.is_array()) => {
            if items.is_empty() {
                "-".to_owned()
            } else {
                items.iter().map(cell).collect::<Vec<_>>().join(",")
            }
        }
        Value::Object(fields) if fields.values().all(|v| !v.is_object() && !v.is_array()) => {
            if fields.is_empty() {
                return "-".to_owned();
            }
            fields.iter().map(|(k, v)| format!("{}={}", escape(k), cell(v))).collect::<Vec<_>>().join(",")
        }
        other => escape(&other.to_string()),
    }
}

/// A table of the rows' `fields`, each the header's lower-case name; nested ones as `outer.inner`.
pub fn table(rows: &[Value], fields: &[&str]) -> String {
    let header: Vec<String> = fields.iter().map(|f| f.rsplit('.').next().unwrap_or(f).to_uppercase()).collect();
    let pick = |row: &Value, field: &str| {
        let found = field.split('.').try_fold(row, |value, part| value.get(part));
        found.map_or_else(|| "-".to_owned(), cell)
    };
    let body: Vec<Vec<String>> = rows.iter().map(|row| fields.iter().map(|f| pick(row, f)).collect()).collect();
    let widths: Vec<usize> = (0..fields.len())
        .map(|i| body.iter().chain([&header]).map(|row| row[i].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in [&header].into_iter().chain(&body) {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// One resource, a field a line.
pub fn record(resource: &Value) -> String {
    let Value::Object(fields) = resource else { return format!("{}\n", cell(resource)) };
    let width = fields.keys().map(|k| k.chars().count()).max().unwrap_or(0);
    fields.iter().fold(String::new(), |mut text, (key, value)| {
        // Writing to a String can't fail.
        _ = writeln!(text, "{:width$}  {}", escape(key), cell(value));
        text
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_that_came_from_elsewhere_drives_the_terminal() {
        assert_eq!(escape("a\x1b[2Jb\u{202e}c\u{9b}"), "a\\u{1b}[2Jb\\u{202e}c\\u{9b}");
        assert_eq!(escape_lines("ok\r\n\tx\x07"), "ok\n\tx\\u{7}");
        assert_eq!(table(&[json!({"name": "a\nb"})], &["name"]), "NAME\na\\u{a}b\n");
    }

    #[test]
    fn a_cause_is_told_once() {
        let error = anyhow::anyhow!("b").context("a: b").context("c");
        assert_eq!(chain(error.as_ref()), "c: a: b");
    }

    #[test]
    fn columns_line_up() {
        let rows = [json!({"id": "x", "a": {"b": 1}}), json!({"id": "longer", "labels": {}})];
        assert_eq!(table(&rows, &["id", "a.b", "labels"]), "ID      B  LABELS\nx       1  -\nlonger  -  -\n");
    }

    #[test]
    fn records_have_a_field_a_line() {
        assert_eq!(record(&json!({"id": "x", "labels": {"k": "v"}})), "id      x\nlabels  k=v\n");
    }
}
