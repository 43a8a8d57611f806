//! Queries and forms: `application/x-www-form-urlencoded`, as the WHATWG URL standard has it.

use form_urlencoded::{Serializer, parse};

/// Pairs that one query or form has at most; more are left out.
const PAIRS_MAX: usize = 200;

/// The pairs of a query or form, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pairs(Vec<(String, String)>);

impl Pairs {
    /// Reads them; what is no UTF-8 is replaced.
    pub fn parse(bytes: &[u8]) -> Self {
        Self(parse(bytes).take(PAIRS_MAX).map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    /// The first value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The first value of a name without spaces at its ends, or nothing.
    pub fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default().trim()
    }

    /// Every value of a name that is not empty.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(known, value)| known == name && !value.is_empty()).map(|(_, value)| &**value).collect()
    }

    /// The pairs of these names that have a value, as a query without `?`.
    pub fn query(&self, names: &[&str]) -> String {
        let kept = self.0.iter().filter(|(name, value)| names.contains(&&**name) && !value.is_empty());
        Serializer::new(String::new()).extend_pairs(kept).finish()
    }
}

/// A query of these pairs, without `?`; pairs without a value are left out.
pub fn query(pairs: &[(&str, &str)]) -> String {
    Serializer::new(String::new()).extend_pairs(pairs.iter().filter(|(_, value)| !value.is_empty())).finish()
}

/// A text as one segment of a path: what is not an identifier's character becomes what no identifier has.
pub fn segment(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '~' }).collect()
}
