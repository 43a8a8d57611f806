//! Names that people give.

use std::fmt;
use std::str::FromStr;

/// Characters in a hostname label at most (RFC 1123).
pub const LABEL_CHARS_MAX: usize = 63;
/// Characters in a title at most.
pub const TITLE_CHARS_MAX: usize = 100;

/// Why a text is not a name; the sentence says the way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameError(pub &'static str);

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for NameError {}

/// A hostname label: 1 to 63 lower-case letters, digits and hyphens, no hyphen at either end (RFC 1123).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hostname(String);

impl Hostname {
    /// What it takes, as a regular expression; its length apart.
    pub const PATTERN: &str = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$";

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Hostname {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let body = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if text.is_empty() || text.len() > LABEL_CHARS_MAX {
            return Err(NameError("must have 1 to 63 characters"));
        }
        if !text.bytes().all(body) {
            return Err(NameError("may hold only lower-case letters, digits and hyphens"));
        }
        if text.starts_with('-') || text.ends_with('-') {
            return Err(NameError("must not start or end with a hyphen"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name for people: 1 to 100 printable Unicode characters, no space at either end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Title(String);

impl Title {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Title {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        if !(1..=TITLE_CHARS_MAX).contains(&text.chars().count()) {
            return Err(NameError("must have 1 to 100 characters"));
        }
        if text.trim() != text {
            return Err(NameError("must not start or end with white space"));
        }
        if text.chars().any(|c| !printable(c)) {
            return Err(NameError("must not hold control, formatting or unassigned characters"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Title {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What [`Title`] takes, as a regular expression of the kind that JSON Schema has. It says nothing of the planes beyond the
/// first, whose characters not every engine can write in a class; the few that are refused there are told as the first's are.
pub fn title_pattern() -> String {
    use std::fmt::Write as _;
    // Writing into memory can't fail.
    let class = |fine: &dyn Fn(char) -> bool| {
        let mut out = String::from("[^");
        let mut from = None;
        for code in 0..=0x1_0000_u32 {
            // Surrogates are no characters, and halves of those of other planes.
            let refused = code <= 0xffff && char::from_u32(code).is_some_and(|c| !fine(c));
            match (from, refused) {
                (None, true) => from = Some(code),
                (Some(first), false) => {
                    let _ = write!(out, "\\u{first:04x}");
                    if first + 1 < code {
                        let _ = write!(out, "-\\u{:04x}", code - 1);
                    }
                    from = None;
                }
                _ => {}
            }
        }
        out.push(']');
        out
    };
    let edge = class(&|c| printable(c) && !c.is_whitespace());
    let inner = class(&printable);
    format!("^{edge}({inner}*{edge})?$")
}

/// Refuses what hides or reorders text: controls, line separators, direction marks, surrogates' neighbours, noncharacters.
fn printable(c: char) -> bool {
    !c.is_control()
        && !matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{e000}'..='\u{f8ff}' | '\u{fdd0}'..='\u{fdef}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{10ffff}')
        && (c as u32) & 0xfffe != 0xfffe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostnames() {
        for good in ["a", "web-1", "0", &"a".repeat(63)] {
            assert_eq!(good.parse::<Hostname>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", "é", "a b", &"a".repeat(64)] {
            assert!(bad.parse::<Hostname>().is_err(), "{bad}");
        }
    }

    #[test]
    fn titles() {
        for good in ["alpha", "Größe 東京 🚀", &"é".repeat(100)] {
            assert_eq!(good.parse::<Title>().unwrap().as_str(), good);
        }
        for bad in ["", " a", "a ", "a\nb", "a\u{202e}b", "\u{200b}", "a\0", &"é".repeat(101)] {
            assert!(bad.parse::<Title>().is_err(), "{bad:?}");
        }
    }
}
