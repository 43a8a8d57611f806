//! Invitations into a workspace, and the tokens by which they are accepted.
//!
//! A token has the make of an API key's secret: a prefix, 43 characters of base62 (32 random bytes) and 6 characters of
//! base62 (a CRC-32), so that one that was cut short on its way is refused without a look-up. Only its SHA-256 is stored.

use std::fmt;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::clock::Timestamp;
use crate::entropy::Entropy;
use crate::id::{InvitationId, MemberId};
use crate::key::{BODY_CHARS, CHECK_CHARS, generate, recognize};
use crate::role::Role;

const PREFIX: &str = "invite_";
/// Characters in a whole token.
pub const TOKEN_CHARS: usize = PREFIX.len() + BODY_CHARS + CHECK_CHARS;

/// How long an invitation can be accepted: 7 days.
pub const LIFE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// An invitation that was neither accepted nor revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// Its id.
    pub id: InvitationId,
    /// The e-mail address of the person, lower case.
    pub email: String,
    /// The role that the person will have.
    pub role: Role,
    /// The member who invites.
    pub invited_by: MemberId,
    /// From when on it can't be accepted.
    pub expires_at: Timestamp,
    /// Changes with every write of the row.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
}

/// The token of an invitation: whoever has it accepts. It never appears in a debug text.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A fresh token.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        Self(generate(PREFIX, entropy))
    }

    /// The stored hash of a token, without keeping it; `None` when shape or checksum is wrong.
    pub fn recognize(text: &str) -> Option<[u8; 32]> {
        recognize(PREFIX, text)
    }

    /// What is stored.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }

    /// The whole text, for the one response that shows it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::testing::Counting;

    #[test]
    fn tokens_are_known_and_every_changed_character_is_noticed() {
        let token = Token::generate(&Counting::default());
        let text = token.expose();
        assert_eq!((text.len(), Token::recognize(text)), (56, Some(token.hash())));
        for at in 0..text.len() {
            let mut bytes = text.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'x' { b'y' } else { b'x' };
            assert_eq!(Token::recognize(std::str::from_utf8(&bytes).unwrap()), None, "{at}");
        }
        for bad in ["", "invite_", "é", &"é".repeat(28), &text[1..], &format!("{text} ")] {
            assert_eq!(Token::recognize(bad), None, "{bad}");
        }
        assert_eq!(format!("{token:?}"), "invite_…");
    }
}
