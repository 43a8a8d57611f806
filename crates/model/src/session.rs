//! Sessions in the console: a link signs a person in once, and the session's secret is what the browser keeps.
//!
//! Both secrets have the make of an API key's, and only their SHA-256 is stored. They are a person's and never an API
//! key's: the API takes neither, and the console takes no key.

use std::fmt;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::clock::Timestamp;
use crate::entropy::Entropy;
use crate::id::{MemberId, SessionId, UserId, WorkspaceId};
use crate::key::{generate, recognize};
use crate::role::Role;

/// How long the operator's link signs in: 24 hours.
pub const OPERATOR_LINK_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a link that was sent by e-mail signs in: 15 minutes.
pub const MAILED_LINK_LIFE: Duration = Duration::from_secs(15 * 60);
/// How long a session lasts while nobody uses it: 12 hours.
pub const IDLE_LIFE: Duration = Duration::from_secs(12 * 60 * 60);
/// How long a session lasts at most: 7 days.
pub const LIFE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Characters of a browser's name that are kept.
pub const AGENT_CHARS_MAX: usize = 200;

macro_rules! secrets {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq)]
        pub struct $name(String);

        impl $name {
            /// A fresh one.
            pub fn generate(entropy: &dyn Entropy) -> Self {
                Self(generate($prefix, entropy))
            }

            /// The stored hash of a text, without keeping it; `None` when shape or checksum is wrong.
            pub fn recognize(text: &str) -> Option<[u8; 32]> {
                recognize($prefix, text)
            }

            /// What is stored.
            pub fn hash(&self) -> [u8; 32] {
                Sha256::digest(self.0.as_bytes()).into()
            }

            /// The whole text, for whoever it is for.
            pub fn expose(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!($prefix, "…"))
            }
        }
    )*};
}

secrets! {
    /// What a link signs in with, once.
    SignInToken = "signin_";
    /// What a browser keeps while its person is signed in.
    SessionSecret = "session_";
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// The person.
    pub user_id: UserId,
    /// The person's e-mail address.
    pub email: String,
    /// The address that signed in.
    pub address: String,
    /// What the browser called itself.
    pub agent: String,
    /// When it was used last, to the minute.
    pub seen_at: Timestamp,
    /// When it ends whatever happens.
    pub expires_at: Timestamp,
    /// When the person signed in.
    pub created_at: Timestamp,
}

impl Session {
    /// Whether it still lasts.
    pub fn lasts(&self, now: Timestamp) -> bool {
        now < self.expires_at && now < self.seen_at.plus(IDLE_LIFE)
    }
}

/// A person's place in one workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The workspace.
    pub workspace_id: WorkspaceId,
    /// Its name.
    pub workspace: String,
    /// Its plan.
    pub plan: String,
    /// Whether its requests are refused.
    pub is_suspended: bool,
    /// The place.
    pub member_id: MemberId,
    /// The role there.
    pub role: Role,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::testing::Counting;

    #[test]
    fn secrets_are_known_by_their_kind_only() {
        let entropy = Counting::default();
        let (link, session) = (SignInToken::generate(&entropy), SessionSecret::generate(&entropy));
        assert_eq!(SignInToken::recognize(link.expose()), Some(link.hash()));
        assert_eq!(SessionSecret::recognize(session.expose()), Some(session.hash()));
        assert_eq!(SignInToken::recognize(session.expose()), None);
        assert_eq!(SessionSecret::recognize(link.expose()), None);
        assert_eq!(SignInToken::recognize(&link.expose()[..link.expose().len() - 1]), None);
        assert_eq!(format!("{link:?} {session:?}"), "signin_… session_…");
    }

    #[test]
    fn a_session_ends_by_rest_and_by_age() {
        let begun = Timestamp::from_secs(1_000_000);
        let session = |seen: Timestamp| Session {
            id: crate::id::Id::from_raw(crate::id::Raw::from_bytes([0; 16])),
            user_id: crate::id::Id::from_raw(crate::id::Raw::from_bytes([0; 16])),
            email: String::new(),
            address: String::new(),
            agent: String::new(),
            seen_at: seen,
            expires_at: begun.plus(LIFE),
            created_at: begun,
        };
        assert!(session(begun).lasts(begun.plus(IDLE_LIFE.saturating_sub(Duration::from_secs(1)))));
        assert!(!session(begun).lasts(begun.plus(IDLE_LIFE)));
        let late = begun.plus(LIFE.saturating_sub(Duration::from_secs(1)));
        assert!(session(late).lasts(late));
        assert!(!session(late).lasts(begun.plus(LIFE)));
    }
}
