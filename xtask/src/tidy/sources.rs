//! Rust sources: headers, sizes, markers of unfinished work, and what may be named only in one place.

use std::path::Path;

use super::{Finding, Tree};

/// Lines before tests from which a file is a smell.
const LINES_SMELL: usize = 500;
/// Lines before tests that a file has at most.
const LINES_MAX: usize = 800;
/// Files that are longer, with the reason.
const LONG: &[(&str, &str)] = &[];

/// Markers of work that is not finished. In pieces, so that this file does not hold them.
const MARKERS: &[(&str, &str)] = &[
    (concat!("to", "do!("), "unfinished work does not land"),
    (concat!("unimplem", "ented!("), "unfinished work does not land"),
    (concat!("TO", "DO"), "unfinished work does not land"),
    (concat!("FIX", "ME"), "unfinished work does not land"),
    (concat!("#[ign", "ore"), "a test runs or is not there"),
    (concat!("dbg", "!("), "debugging stays at home"),
];

/// What only some files may name, and why the others may not. Tests are exempt from the rules that say so.
struct Reserved {
    names: &'static [&'static str],
    why: &'static str,
    /// Beginnings of paths that may, each with its reason.
    homes: &'static [(&'static str, &'static str)],
    tests_may: bool,
}

const RESERVED: &[Reserved] = &[
    Reserved {
        names: &[
            "SystemTime::now",
            "Instant::now",
            "thread::sleep",
            "time::sleep(",
            "time::sleep_until(",
            "getrandom::fill",
        ],
        why: "time and randomness are arguments: take a Clock or an Entropy",
        homes: &[
            ("crates/server/src/", "the composition root makes the real clock and the real entropy"),
            ("crates/driver/src/qemu", "times a guest's instructions and waits for real processes"),
            ("bench/", "measures real time"),
            ("xtask/", "a chore, not the product"),
        ],
        tests_may: true,
    },
    Reserved {
        names: &["rusqlite", "tokio_postgres"],
        why: "only the store knows its engines",
        homes: &[
            ("crates/store/", "the store"),
            ("bench/", "measures the engines themselves"),
            ("xtask/", "names them in its rules"),
        ],
        tests_may: false,
    },
];

/// Beginnings of SQL statements; looked for at the beginning of string literals, in capitals as the store writes them.
const SQL: &[&str] = &[
    "SELECT ",
    "INSERT INTO ",
    "UPDATE ",
    "DELETE FROM ",
    "CREATE TABLE ",
    "CREATE INDEX ",
    "CREATE UNIQUE ",
    "ALTER TABLE ",
    "DROP TABLE ",
    "WITH ",
    "PRAGMA ",
];
/// Beside the store: measurements, this, and a test that reads rows as no use-case does.
const SQL_HOMES: &[&str] = &["crates/store/", "bench/", "xtask/", "crates/control/tests/numbers.rs"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in
        tree.texts().filter(|(path, _)| Path::new(path).extension().is_some_and(|extension| extension == "rs"))
    {
        findings.extend(header(path, text));
        findings.extend(size(path, text));
        findings.extend(markers(path, text));
        findings.extend(reserved(path, text));
        findings.extend(sql(path, text));
    }
    for (path, _) in LONG {
        let lines = tree.text(path).map_or(0, product_lines);
        if lines <= LINES_MAX {
            findings.push(Finding::error(path, 0, "is listed as long in xtask's sources, and is not: remove it there"));
        }
    }
    findings
}

/// A file named `tests.rs` says by its name what it is.
fn header(path: &str, text: &str) -> Option<Finding> {
    if path.ends_with("/tests.rs") {
        return None;
    }
    let first = text.lines().find(|line| !line.trim().is_empty());
    let headed = first.is_some_and(|line| line.starts_with("//! "));
    (!headed).then(|| Finding::error(path, 1, "starts with no module header: a line `//! ` that says what it owns"))
}

fn size(path: &str, text: &str) -> Option<Finding> {
    if is_test(path) || LONG.iter().any(|(long, _)| *long == path) {
        return None;
    }
    match product_lines(text) {
        lines if lines > LINES_MAX => Some(Finding::error(
            path,
            0,
            format!(
                "has {lines} lines before its tests, {LINES_MAX} at most: split it, or list it in xtask with a reason"
            ),
        )),
        lines if lines > LINES_SMELL => Some(Finding::warning(
            path,
            0,
            format!("has {lines} lines before its tests; about {LINES_SMELL} read well"),
        )),
        _ => None,
    }
}

fn markers(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for (marker, why) in MARKERS {
            if has_word(line, marker) {
                findings.push(Finding::error(path, number + 1, format!("holds `{marker}`: {why}")));
            }
        }
    }
    findings
}

fn reserved(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let product = product_lines(text);
    for rule in RESERVED {
        if rule.homes.iter().any(|(home, _)| path.starts_with(home)) || (rule.tests_may && is_test(path)) {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            if is_comment(line) || (rule.tests_may && number >= product) {
                continue;
            }
            if let Some(name) = rule.names.iter().find(|name| has_word(line, name)) {
                findings.push(Finding::error(path, number + 1, format!("names {name}: {}", rule.why)));
            }
        }
    }
    findings
}

fn sql(path: &str, text: &str) -> Vec<Finding> {
    if SQL_HOMES.iter().any(|home| path.starts_with(home)) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (at, _) in text.match_indices('"') {
        let inside = text[at + 1..].trim_start_matches([' ', '\n', '\\']);
        if let Some(word) = SQL.iter().find(|word| inside.starts_with(**word)) {
            let number = text[..at].matches('\n').count() + 1;
            findings.push(Finding::error(
                path,
                number,
                format!("a text starts with {}: SQL lives in the store", word.trim()),
            ));
        }
    }
    findings
}

/// Lines before the tests at the end of the file.
fn product_lines(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines.windows(2).position(|pair| {
        pair[0] == "#[cfg(test)]"
            && (pair[1].starts_with("mod ") || pair[1].starts_with("pub(crate) mod "))
            && pair[1].ends_with('{')
    });
    tests.unwrap_or(lines.len())
}

/// Tests, benchmarks and examples: nothing of them is in a released binary.
fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs") || path.contains("/benches/") || path.contains("/examples/")
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

/// Whether `word` is in `line` and no longer word ends with it.
fn has_word(line: &str, word: &str) -> bool {
    let part_of_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let opens = word.starts_with(part_of_word);
    let closes = word.ends_with(part_of_word);
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back().is_some_and(part_of_word);
        let after = line[at + word.len()..].chars().next().is_some_and(part_of_word);
        !(opens && before || closes && after)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(path: &str, text: &str) -> Vec<String> {
        check(&Tree::of(&[(path, text)])).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_module_says_what_it_owns() {
        assert_eq!(texts("crates/model/src/a.rs", "//! A noun.\n"), <[String; 0]>::default());
        assert_eq!(
            texts("crates/model/src/a.rs", "\nuse std::fmt;\n"),
            ["error: crates/model/src/a.rs:1: starts with no module header: a line `//! ` that says what it owns"]
        );
    }

    #[test]
    fn long_files_are_a_smell_and_then_an_error() {
        let long = |lines: usize| format!("//! Long.\n{}", "fn f() {}\n".repeat(lines - 1));
        assert_eq!(texts("a.rs", &long(500)), <[String; 0]>::default());
        assert_eq!(texts("a.rs", &long(501)), ["warning: a.rs: has 501 lines before its tests; about 500 read well"]);
        assert_eq!(
            texts("a.rs", &long(801)),
            ["error: a.rs: has 801 lines before its tests, 800 at most: split it, or list it in xtask with a reason"]
        );
        assert_eq!(texts("crates/a/tests/b.rs", &long(801)), <[String; 0]>::default());
        let tests = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", long(400), "fn f() {}\n".repeat(900));
        assert_eq!(texts("a.rs", &tests), <[String; 0]>::default());
    }

    #[test]
    fn unfinished_work_is_found() {
        for (marker, why) in MARKERS {
            let findings = texts("a.rs", &format!("//! A.\n    {marker}\n"));
            assert_eq!(findings, [format!("error: a.rs:2: holds `{marker}`: {why}")]);
        }
        assert_eq!(texts("a.rs", concat!("//! A.\nmasto", "do", "ns, MASTO", "DO", "NS\n")), <[String; 0]>::default());
    }

    #[test]
    fn time_is_an_argument_except_at_home_and_in_tests() {
        let text = "//! A.\nlet now = SystemTime::now();\n";
        assert_eq!(
            texts("crates/control/src/a.rs", text),
            [
                "error: crates/control/src/a.rs:2: names SystemTime::now: time and randomness are arguments: take a Clock or an Entropy"
            ]
        );
        assert_eq!(texts("crates/server/src/clock.rs", text), <[String; 0]>::default());
        assert_eq!(texts("crates/control/tests/a.rs", text), <[String; 0]>::default());
        let tested =
            "//! A.\n// Instead of SystemTime::now.\n#[cfg(test)]\nmod tests {\n    let now = Instant::now();\n}\n";
        assert_eq!(texts("crates/control/src/a.rs", tested), <[String; 0]>::default());
    }

    #[test]
    fn engines_and_sql_live_in_the_store() {
        let text = "//! A.\nuse rusqlite::Row;\nlet q = \"\n    SELECT id FROM projects\";\nlet w = \"SELECTED\";\n";
        assert_eq!(texts("crates/store/src/a.rs", text), <[String; 0]>::default());
        assert_eq!(
            texts("crates/control/src/a.rs", text),
            [
                "error: crates/control/src/a.rs:2: names rusqlite: only the store knows its engines",
                "error: crates/control/src/a.rs:3: a text starts with SELECT: SQL lives in the store"
            ]
        );
    }
}
