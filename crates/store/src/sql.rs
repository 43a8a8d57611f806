//! Every statement of the program, declared with [`sql!`](crate::sql!) and listed by [`Sql::all`].
//!
//! One text runs on both engines. What that asks of a text:
//! - placeholders are `$1`, `$2`, …; a number may be used twice and in any order, and none may be left out;
//! - `SUM(…)` is `NUMERIC` on PostgreSQL: write `CAST(SUM(…) AS BIGINT)`;
//! - `NULL` sorts first on `SQLite` and last on PostgreSQL: write `NULLS FIRST` or `NULLS LAST`;
//! - a parameter whose type nothing tells (`$1 IS NULL`) needs `CAST($1 AS TEXT)`;
//! - one statement a text, without a closing semicolon.
//!
//! A test prepares all of them on both engines, and looks at the query plan of those marked `indexed`.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use crate::batch::{Expect, Statement};
use crate::value::Value;

/// Highest placeholder number a statement may use.
pub const PARAMETERS_MAX: usize = 999;

/// One statement's text with its name. Only ever a `static` made by [`sql!`](crate::sql!).
pub struct Sql {
    /// The static's own name; errors and logs use it, so that no text with values is ever shown.
    pub name: &'static str,
    /// The statement, in the dialect both engines understand.
    pub text: &'static str,
    /// True when the plan must search an index: no full scan and no sort step on either engine.
    pub indexed: bool,
    shape: OnceLock<Shape>,
    place: OnceLock<usize>,
    heavy: AtomicU8,
}

/// What the scanner found in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Placeholder numbers in the order of their first use: the order in which `SQLite` numbers its parameters.
    pub(crate) order: Vec<usize>,
    /// How many values must be bound: the highest placeholder number.
    pub(crate) parameters: usize,
    /// The statement answers rows of its own.
    pub(crate) returns: bool,
    /// The statement names a table that is written once for all batches of a transaction.
    pub(crate) names_shared: bool,
}

#[doc(hidden)]
#[allow(unsafe_code, reason = "the registry is a linker section; the statics in it are ordinary")]
#[linkme::distributed_slice]
pub static REGISTRY: [&'static Sql];

impl Sql {
    #[doc(hidden)]
    pub const fn declared(name: &'static str, text: &'static str, indexed: bool) -> Self {
        Self { name, text, indexed, shape: OnceLock::new(), place: OnceLock::new(), heavy: AtomicU8::new(0) }
    }

    /// Every statement linked into this program.
    pub fn all() -> impl Iterator<Item = &'static Sql> {
        REGISTRY.iter().copied()
    }

    /// The statement with its parameters, `$1` first.
    pub fn bind(&'static self, params: impl Into<Vec<Value>>) -> Statement {
        Statement { sql: self, params: params.into(), expect: Expect::Any, miss: crate::batch::Miss(""), shared: None }
    }

    /// How many values must be bound: the highest placeholder number.
    pub(crate) fn parameters(&self) -> usize {
        self.shape().parameters
    }

    /// A small number of its own, counted from 0 in the order of first use: where a table of statements has it.
    pub(crate) fn place(&self) -> usize {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        *self.place.get_or_init(|| NEXT.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn shape(&self) -> &Shape {
        self.shape.get_or_init(|| Shape::of(self.text))
    }

    /// Whether the keyword stands anywhere in the text, outside of quotes and comments.
    #[cfg(feature = "testing")]
    pub(crate) fn has_word(&self, keyword: &str) -> bool {
        Tokens::new(self.text).any(|token| matches!(token, Token::Word(word) if word.eq_ignore_ascii_case(keyword)))
    }

    /// The statement lately needed more steps than a caller's thread should spend; counts down with each question.
    pub(crate) fn is_heavy(&self) -> bool {
        self.heavy.load(Ordering::Relaxed) > 0
            && self.heavy.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    /// Sends the next `runs` runs of the statement straight to a reader thread.
    pub(crate) fn mark_heavy(&self, runs: u8) {
        self.heavy.store(runs, Ordering::Relaxed);
    }
}

impl fmt::Debug for Sql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sql").field("name", &self.name).field("indexed", &self.indexed).finish_non_exhaustive()
    }
}

/// Declares statements: each becomes a `static` [`Sql`](crate::Sql) and a member of [`Sql::all`](crate::Sql::all).
///
/// ```
/// nephos_store::sql! {
///     /// One project of a tenant.
///     pub PROJECT_GET = "SELECT id, name FROM projects WHERE tenant = $1 AND id = $2";
///     /// A page of projects; the plan must use an index.
///     indexed pub PROJECT_LIST = "SELECT id, name FROM projects WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT $3";
/// }
/// assert_eq!(PROJECT_GET.name, "PROJECT_GET");
/// assert!(PROJECT_LIST.indexed);
/// ```
#[macro_export]
macro_rules! sql {
    () => {};
    ($(#[$meta:meta])* indexed $vis:vis $name:ident = $text:expr; $($rest:tt)*) => {
        $crate::sql!(@declare [$(#[$meta])*] [$vis] $name, $text, true);
        $crate::sql!($($rest)*);
    };
    ($(#[$meta:meta])* $vis:vis $name:ident = $text:expr; $($rest:tt)*) => {
        $crate::sql!(@declare [$(#[$meta])*] [$vis] $name, $text, false);
        $crate::sql!($($rest)*);
    };
    (@declare [$($meta:tt)*] [$vis:vis] $name:ident, $text:expr, $indexed:expr) => {
        $($meta)*
        $vis static $name: $crate::Sql = $crate::Sql::declared(stringify!($name), $text, $indexed);
        // A registered element is placed in a section of its own, which the lint counts as unsafe code.
        #[allow(unsafe_code)]
        const _: () = {
            #[$crate::linkme::distributed_slice($crate::sql::REGISTRY)]
            #[linkme(crate = $crate::linkme)]
            static REGISTERED: &'static $crate::Sql = &$name;
        };
    };
}

/// A vector of parameters out of anything that converts into [`Value`](crate::Value).
#[macro_export]
macro_rules! params {
    ($($value:expr),* $(,)?) => {
        ::std::vec![$($crate::Value::from($value)),*]
    };
}

impl Shape {
    fn of(text: &str) -> Self {
        let mut order = Vec::new();
        let mut words = Vec::new();
        for token in Tokens::new(text) {
            match token {
                Token::Placeholder(number) if !order.contains(&number) => order.push(number),
                Token::Word(word) => words.push(word),
                _ => {}
            }
        }
        let reads = words
            .first()
            .is_some_and(|word| ["SELECT", "VALUES", "EXPLAIN"].iter().any(|known| word.eq_ignore_ascii_case(known)));
        let writes = words.iter().any(|word| is_write(word));
        let returning = words.iter().any(|word| word.eq_ignore_ascii_case("RETURNING"));
        let names_shared = words.iter().any(|word| SHARED.iter().any(|table| word.eq_ignore_ascii_case(table)));
        let parameters = order.iter().copied().max().unwrap_or(0);
        Self { parameters, returns: reads || returning || !writes, names_shared, order }
    }
}

/// Tables that [`crate::batch::Shared`] is about.
const SHARED: [&str; 4] = ["counters", "events", "audit_log", "sequences"];

fn is_write(word: &str) -> bool {
    ["INSERT", "UPDATE", "DELETE"].iter().any(|known| word.eq_ignore_ascii_case(known))
}

/// A piece of an SQL text, as far as the engines need to tell pieces apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// A bare word or number: keyword, name, literal number.
    Word(&'a str),
    /// `$n`.
    Placeholder(usize),
    /// A quoted string or name, with its quotes.
    Quoted(&'a str),
    /// White space or a comment.
    Space(&'a str),
    /// Any other single character.
    Mark(&'a str),
}

impl<'a> Token<'a> {
    /// The token's own text, for a translator that passes it through.
    pub(crate) fn text(&self) -> Option<&'a str> {
        match self {
            Token::Word(text) | Token::Quoted(text) | Token::Space(text) | Token::Mark(text) => Some(text),
            Token::Placeholder(_) => None,
        }
    }
}

/// Cuts an SQL text into [`Token`]s. Never fails: an unclosed quote or comment runs to the end.
pub(crate) struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Tokens<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { rest: text }
    }

    fn take(&mut self, len: usize) -> &'a str {
        let (token, rest) = self.rest.split_at(len);
        self.rest = rest;
        token
    }
}

/// Length of the longest start of `text` whose characters all satisfy `accept`.
fn run(text: &str, accept: impl Fn(char) -> bool) -> usize {
    text.find(|c| !accept(c)).unwrap_or(text.len())
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let first = self.rest.chars().next()?;
        Some(match first {
            '\'' | '"' => {
                // A doubled quote inside is two quoted tokens in a row, which reads the same to every user of this.
                let len = self.rest[1..].find(first).map_or(self.rest.len(), |end| end + 2);
                Token::Quoted(self.take(len))
            }
            '-' if self.rest.starts_with("--") => {
                let len = self.rest.find('\n').map_or(self.rest.len(), |end| end + 1);
                Token::Space(self.take(len))
            }
            '/' if self.rest.starts_with("/*") => {
                let len = self.rest.find("*/").map_or(self.rest.len(), |end| end + 2);
                Token::Space(self.take(len))
            }
            '$' if self.rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                let digits = run(&self.rest[1..], |c| c.is_ascii_digit());
                let text = self.take(digits + 1);
                // A number too large for usize cannot be bound either way: it reads as beyond the limit.
                Token::Placeholder(text[1..].parse().unwrap_or(usize::MAX))
            }
            c if c.is_whitespace() => Token::Space(self.take(run(self.rest, char::is_whitespace))),
            c if is_word(c) => Token::Word(self.take(run(self.rest, is_word))),
            c => Token::Mark(self.take(c.len_utf8())),
        })
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::sql! {
        /// Looks like a query.
        pub(crate) PLAIN = "SELECT 1";
        indexed PRIVATE = "SELECT 2";
    }

    #[test]
    fn declared_statements_are_listed_once() {
        for wanted in [&PLAIN, &PRIVATE] {
            assert_eq!(Sql::all().filter(|sql| std::ptr::eq(*sql, wanted)).count(), 1, "{}", wanted.name);
        }
        assert!(PRIVATE.indexed && !PLAIN.indexed);
    }

    #[test]
    fn shape_sees_placeholders_outside_of_quotes_and_comments() {
        let shape =
            Shape::of("UPDATE t SET a = $10, b = '$3' -- $4\n WHERE c = $2 /* $5 */ AND d = $10 AND \"e$6\" = $1");
        assert_eq!(shape, Shape { order: vec![10, 2, 1], parameters: 10, returns: false, names_shared: false });
        assert!(Shape::of("SELECT value FROM Counters").names_shared);
    }

    #[test]
    fn shape_knows_which_statements_answer_rows() {
        for text in
            ["SELECT 1", "insert into t values (1) returning a", "WITH a AS (SELECT 1) SELECT * FROM a", "VALUES (1)"]
        {
            assert!(Shape::of(text).returns, "{text}");
        }
        for text in
            ["INSERT INTO t VALUES ('RETURNING')", "WITH a AS (SELECT 1) DELETE FROM t", "UPDATE t SET returning_x = 1"]
        {
            assert!(!Shape::of(text).returns, "{text}");
        }
    }
}
