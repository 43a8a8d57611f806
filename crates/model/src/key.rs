//! API keys' secrets: `sk_live_` or `sk_test_`, 43 characters of base62 (32 random bytes) and 6 characters of base62 (a CRC-32).
//!
//! The checksum lets a mistyped or made-up key be refused without a look-up, and secret scanners be sure. Only the
//! SHA-256 of a secret is stored.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::entropy::Entropy;
use crate::tenant::Mode;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
pub(crate) const BODY_CHARS: usize = 43;
pub(crate) const CHECK_CHARS: usize = 6;
const PREFIX_CHARS: usize = 8;
/// Characters in a whole secret.
pub const SECRET_CHARS: usize = PREFIX_CHARS + BODY_CHARS + CHECK_CHARS;
/// Characters of the end of a secret that may be shown again.
pub const HINT_CHARS: usize = 4;

/// A key's secret. It never appears in a debug text.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    text: String,
    mode: Mode,
}

impl Secret {
    /// A fresh secret.
    pub fn generate(mode: Mode, entropy: &dyn Entropy) -> Self {
        let mut bytes = [0; 32];
        entropy.fill(&mut bytes);
        let mut text = prefix(mode).to_owned();
        text.push_str(&body(bytes));
        let sum = check(&text);
        text.extend(sum.iter().map(|b| char::from(*b)));
        Self { text, mode }
    }

    /// Parses a credential; `None` when its shape or checksum is wrong, so that no look-up is needed.
    pub fn parse(text: &str) -> Option<Self> {
        Some(Self { text: text.to_owned(), mode: shape(text)? })
    }

    /// The mode and the stored hash of a credential, without keeping it; `None` as for [`Secret::parse`].
    pub fn recognize(text: &str) -> Option<(Mode, [u8; 32])> {
        Some((shape(text)?, Sha256::digest(text.as_bytes()).into()))
    }

    /// Live or sandbox.
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// What is stored.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.text.as_bytes()).into()
    }

    /// The last characters, by which people tell their keys apart.
    pub fn hint(&self) -> &str {
        &self.text[SECRET_CHARS - HINT_CHARS..]
    }

    /// The whole text, for the one response that shows it.
    pub fn expose(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", prefix(self.mode))
    }
}

const fn prefix(mode: Mode) -> &'static str {
    match mode {
        Mode::Live => "sk_live_",
        Mode::Test => "sk_test_",
    }
}

/// The mode of a text that has the shape and checksum of a secret.
fn shape(text: &str) -> Option<Mode> {
    if text.len() != SECRET_CHARS || !text.is_ascii() {
        return None;
    }
    let mode = [Mode::Live, Mode::Test].into_iter().find(|mode| text.starts_with(prefix(*mode)))?;
    let (rest, sum) = text.split_at(SECRET_CHARS - CHECK_CHARS);
    let shaped = rest.bytes().skip(PREFIX_CHARS).all(|b| b.is_ascii_alphanumeric());
    (shaped && check(rest) == sum.as_bytes()).then_some(mode)
}

/// 32 bytes as base62.
pub(crate) fn body(mut bytes: [u8; 32]) -> String {
    let mut digits = [b'0'; BODY_CHARS];
    for slot in digits.iter_mut().rev() {
        // Long division of the 256-bit number by 62.
        let mut rest = 0u32;
        for byte in &mut bytes {
            let value = (rest << 8) | u32::from(*byte);
            *byte = u8::try_from(value / 62).unwrap_or(0); // below 256, because the rest is below 62
            rest = value % 62;
        }
        *slot = ALPHABET[rest as usize];
    }
    digits.iter().map(|b| char::from(*b)).collect()
}

/// The checksum of a text as base62.
pub(crate) fn check(text: &str) -> [u8; CHECK_CHARS] {
    let mut sum = crc32fast::hash(text.as_bytes());
    let mut digits = [b'0'; CHECK_CHARS];
    for slot in digits.iter_mut().rev() {
        *slot = ALPHABET[(sum % 62) as usize];
        sum /= 62;
    }
    digits
}

/// A fresh secret that begins with `prefix`: 43 characters of base62 (32 random bytes) and 6 of a CRC-32.
pub(crate) fn generate(prefix: &str, entropy: &dyn Entropy) -> String {
    let mut bytes = [0; 32];
    entropy.fill(&mut bytes);
    let mut text = prefix.to_owned();
    text.push_str(&body(bytes));
    let sum = check(&text);
    text.extend(sum.iter().map(|b| char::from(*b)));
    text
}

/// The SHA-256 of a secret that [`generate`] made with `prefix`; `None` when shape or checksum is wrong.
pub(crate) fn recognize(prefix: &str, text: &str) -> Option<[u8; 32]> {
    if text.len() != prefix.len() + BODY_CHARS + CHECK_CHARS || !text.is_ascii() || !text.starts_with(prefix) {
        return None;
    }
    let (rest, sum) = text.split_at(text.len() - CHECK_CHARS);
    let shaped = rest.bytes().skip(prefix.len()).all(|b| b.is_ascii_alphanumeric());
    (shaped && check(rest) == sum.as_bytes()).then(|| Sha256::digest(text.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::testing::Counting;

    #[test]
    fn secrets_round_trip_and_every_changed_character_is_noticed() {
        let entropy = Counting::default();
        for mode in [Mode::Live, Mode::Test] {
            let secret = Secret::generate(mode, &entropy);
            let text = secret.expose();
            assert_eq!(text.len(), 57);
            assert_eq!(Secret::parse(text).as_ref(), Some(&secret));
            assert_eq!(secret.mode(), mode);
            assert_eq!(Secret::recognize(text), Some((mode, secret.hash())));
            for at in 0..text.len() {
                let mut bytes = text.as_bytes().to_vec();
                bytes[at] = if bytes[at] == b'x' { b'y' } else { b'x' };
                assert_eq!(Secret::parse(std::str::from_utf8(&bytes).unwrap()), None, "{at}");
            }
            assert!(!format!("{secret:?}").contains(&text[8..]));
        }
    }

    #[test]
    fn the_body_holds_all_32_bytes() {
        assert_eq!(body([0; 32]), "0".repeat(43));
        assert_ne!(
            body([255; 32]),
            body({
                let mut b = [255; 32];
                b[31] = 254;
                b
            })
        );
        assert_eq!(
            body({
                let mut b = [0; 32];
                b[31] = 61;
                b
            })
            .trim_start_matches('0'),
            "z"
        );
    }

    #[test]
    fn hostile_texts_are_refused() {
        for bad in [
            "",
            "sk_live_",
            "é",
            &"sk_live_".repeat(8),
            &format!("sk_live_{}", "é".repeat(24)),
            &format!("sk_test_{}", " ".repeat(49)),
        ] {
            assert_eq!(Secret::parse(bad), None, "{bad}");
        }
    }
}
