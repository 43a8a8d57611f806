//! Labels: `key: value` pairs that people put on resources and filter by.

use crate::name::NameError;

/// Labels on one resource at most.
pub const LABELS_MAX: usize = 64;
/// Characters in a key or a value at most.
pub const LABEL_CHARS_MAX: usize = 63;

/// What [`key`] takes, as a regular expression.
pub const KEY_PATTERN: &str = "^[A-Za-z0-9]([A-Za-z0-9_./-]{0,61}[A-Za-z0-9])?$";
/// What [`value`] takes, as a regular expression.
pub const VALUE_PATTERN: &str = "^([A-Za-z0-9]([A-Za-z0-9_./-]{0,61}[A-Za-z0-9])?)?$";

/// A key, a colon and a value, as a regular expression.
pub fn pair_pattern() -> String {
    format!("{}:{}", KEY_PATTERN.trim_end_matches('$'), VALUE_PATTERN.trim_start_matches('^'))
}

/// Checks a key: 1 to 63 ASCII letters, digits, `-`, `_`, `.` or `/`, beginning and ending with a letter or digit.
pub fn key(text: &str) -> Result<(), NameError> {
    if text.is_empty() || text.len() > LABEL_CHARS_MAX {
        return Err(NameError("a label's key must have 1 to 63 characters"));
    }
    if !shaped(text) {
        return Err(NameError(
            "a label's key may hold ASCII letters, digits, '-', '_', '.' and '/', and must start and end with a letter or digit",
        ));
    }
    Ok(())
}

/// Checks a value: empty, or the same characters as a key.
pub fn value(text: &str) -> Result<(), NameError> {
    if text.len() > LABEL_CHARS_MAX {
        return Err(NameError("a label's value must have at most 63 characters"));
    }
    if !text.is_empty() && !shaped(text) {
        return Err(NameError(
            "a label's value may hold ASCII letters, digits, '-', '_', '.' and '/', and must start and end with a letter or digit",
        ));
    }
    Ok(())
}

fn shaped(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(b))
}

#[cfg(test)]
mod tests {
    #[test]
    fn shapes() {
        assert!(super::key("app.kubernetes.io/name").is_ok());
        assert!(super::value("").is_ok());
        for bad in ["", "-a", "a:b", "a b", &"a".repeat(64)] {
            assert!(super::key(bad).is_err(), "{bad}");
        }
        assert!(super::value("a:b").is_err());
    }
}
