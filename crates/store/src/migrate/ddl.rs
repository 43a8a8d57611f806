//! What each engine needs changed in a migration's text.
//!
//! | written | `SQLite` | PostgreSQL |
//! |---|---|---|
//! | column `TEXT` | as it is | `TEXT COLLATE "C"`: compared byte by byte |
//! | column `BIGINT` | `INTEGER` | as it is |
//! | column `BLOB` | as it is | `BYTEA` |
//! | `… PRIMARY KEY` at a column | with `NOT NULL`, which `SQLite` would not take from it | as it is |
//! | end of `CREATE TABLE` | `STRICT`: a value of another type is refused, as on PostgreSQL | without `WITHOUT ROWID` |
//!
//! Types are recognised in capital letters. `DEFERRABLE` constraints are refused: they fail at the commit, which on
//! `SQLite` would undo other callers' batches too.

use crate::error::{Result, StoreError};
use crate::sql::{Token, Tokens};

/// The statements of a text, each translated with `translate`.
pub(super) fn statements(text: &str, translate: fn(&str) -> String) -> Result<Vec<String>> {
    let mut statements = Vec::new();
    let mut start = 0;
    let mut end = 0;
    let mut has_words = false;
    for token in Tokens::new(text) {
        let len = match token {
            Token::Placeholder(_) => return Err(refused("a placeholder")),
            Token::Word("DEFERRABLE" | "DEFERRED" | "deferrable" | "deferred") => {
                return Err(refused("a deferred constraint"));
            }
            other => other.text().map_or(0, str::len),
        };
        has_words |= matches!(token, Token::Word(_));
        end += len;
        if token == Token::Mark(";") {
            if has_words {
                statements.push(translate(&text[start..end - len]));
            }
            (start, has_words) = (end, false);
        }
    }
    if has_words {
        statements.push(translate(&text[start..end]));
    }
    Ok(statements)
}

fn refused(what: &str) -> StoreError {
    StoreError::Migration(format!("a migration cannot hold {what}"), None)
}

/// Calls `change` for each word with the word before it, and joins what it answers.
fn rewrite(text: &str, mut change: impl FnMut(&str, &str, &mut String)) -> String {
    let mut out = String::with_capacity(text.len() + 64);
    let mut before = "";
    for token in Tokens::new(text) {
        if let Token::Word(word) = token {
            change(before, word, &mut out);
            before = word;
        } else if let Some(text) = token.text() {
            // A comma ends a column: what follows is not about its type.
            if matches!(token, Token::Mark(_)) {
                before = "";
            }
            out.push_str(text);
        }
    }
    out
}

fn creates_table(text: &str) -> bool {
    let mut words = Tokens::new(text).filter_map(|token| if let Token::Word(word) = token { Some(word) } else { None });
    words.next().is_some_and(|word| word.eq_ignore_ascii_case("CREATE"))
        && words.next().is_some_and(|word| word.eq_ignore_ascii_case("TABLE"))
}

pub(super) fn sqlite(text: &str) -> String {
    let mut without_rowid = false;
    let mut out = rewrite(text, |before, word, out| match word {
        "BIGINT" => out.push_str("INTEGER"),
        "PRIMARY" if matches!(before, "TEXT" | "BIGINT" | "BLOB") => out.push_str("NOT NULL PRIMARY"),
        "STRICT" => {}
        _ => {
            without_rowid |= before == "WITHOUT" && word == "ROWID";
            out.push_str(word);
        }
    });
    if creates_table(text) {
        out.push_str(if without_rowid { ", STRICT" } else { " STRICT" });
    }
    out
}

pub(super) fn postgres(text: &str) -> String {
    rewrite(text, |before, word, out| match word {
        // A cast names a type too, and takes no collation.
        "TEXT" if before != "AS" => out.push_str("TEXT COLLATE \"C\""),
        "BLOB" => out.push_str("BYTEA"),
        "STRICT" | "WITHOUT" | "ROWID" => {}
        _ => out.push_str(word),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "-- A table; of things.
CREATE TABLE a (id TEXT PRIMARY KEY, n BIGINT NOT NULL DEFAULT 0, b BLOB, t TEXT NOT NULL DEFAULT ';');
CREATE INDEX a_n ON a (n);
CREATE TABLE w (k BIGINT NOT NULL, o BIGINT, PRIMARY KEY (k)) WITHOUT ROWID;
UPDATE a SET t = CAST(n AS TEXT) WHERE t <> 'BIGINT';
";

    #[test]
    fn for_sqlite() {
        let translated = statements(TEXT, sqlite).unwrap();
        let trimmed: Vec<&str> = translated.iter().map(|text| text.trim()).collect();
        assert_eq!(
            trimmed,
            [
                "-- A table; of things.\nCREATE TABLE a (id TEXT NOT NULL PRIMARY KEY, n INTEGER NOT NULL DEFAULT 0, b BLOB, \
                 t TEXT NOT NULL DEFAULT ';') STRICT",
                "CREATE INDEX a_n ON a (n)",
                "CREATE TABLE w (k INTEGER NOT NULL, o INTEGER, PRIMARY KEY (k)) WITHOUT ROWID, STRICT",
                "UPDATE a SET t = CAST(n AS TEXT) WHERE t <> 'BIGINT'",
            ]
        );
    }

    #[test]
    fn for_postgres() {
        let translated = statements(TEXT, postgres).unwrap();
        let trimmed: Vec<&str> = translated.iter().map(|text| text.trim()).collect();
        assert_eq!(
            trimmed,
            [
                "-- A table; of things.\nCREATE TABLE a (id TEXT COLLATE \"C\" PRIMARY KEY, n BIGINT NOT NULL DEFAULT 0, \
                 b BYTEA, t TEXT COLLATE \"C\" NOT NULL DEFAULT ';')",
                "CREATE INDEX a_n ON a (n)",
                "CREATE TABLE w (k BIGINT NOT NULL, o BIGINT, PRIMARY KEY (k))",
                "UPDATE a SET t = CAST(n AS TEXT) WHERE t <> 'BIGINT'",
            ]
        );
    }

    #[test]
    fn deferred_constraints_are_refused() {
        assert!(statements("CREATE TABLE a (b TEXT REFERENCES c DEFERRABLE INITIALLY DEFERRED)", sqlite).is_err());
    }
}
