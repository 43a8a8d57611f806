//! E-mail addresses of people, in the one spelling by which a person is known.

use std::fmt;
use std::str::FromStr;

/// Characters of an e-mail address at most (RFC 5321).
pub const EMAIL_CHARS_MAX: usize = 254;

/// An e-mail address, in lower case, without anything that would have to be quoted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Email(String);

/// A text is no e-mail address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmailError;

impl fmt::Display for EmailError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be an e-mail address, such as ada@example.com")
    }
}

impl std::error::Error for EmailError {}

impl Email {
    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Email {
    type Err = EmailError;

    /// One part before and a domain after the only `@`. Spaces around it and capital letters do not count.
    fn from_str(text: &str) -> Result<Self, EmailError> {
        let text = text.trim().to_lowercase();
        let plain =
            |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '<' | '>' | '"' | ',' | ';' | '(' | ')');
        let (local, domain) = text.rsplit_once('@').ok_or(EmailError)?;
        let fine = text.chars().count() <= EMAIL_CHARS_MAX
            && text.chars().all(plain)
            && !local.is_empty()
            && !local.contains('@')
            && !domain.is_empty()
            && !domain.starts_with(['.', '-'])
            && !domain.ends_with(['.', '-']);
        if fine { Ok(Self(text)) } else { Err(EmailError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_and_nothing_to_be_quoted() {
        for (good, same) in
            [("Ada@Example.com ", "ada@example.com"), ("a+b@c", "a+b@c"), ("é@bücher.example", "é@bücher.example")]
        {
            assert_eq!(good.parse::<Email>().unwrap().as_str(), same);
        }
        let long = format!("{}@example.com", "a".repeat(EMAIL_CHARS_MAX));
        for bad in
            ["", "ada", "@example.com", "ada@", "a b@c", "a@b@c", "<a@b>", "a@.b", "a@b.", "a@-b", "a\0@b", &long]
        {
            assert_eq!(bad.parse::<Email>(), Err(EmailError), "{bad}");
        }
    }
}
