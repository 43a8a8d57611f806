//! Roles of members.

use std::fmt;
use std::str::FromStr;

/// What a member may do in a workspace; ordered, the highest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Uses the workspace's resources.
    Member,
    /// Also deletes projects, and manages members, keys and webhooks.
    Admin,
    /// Also sees money, and manages owners and the workspace itself.
    Owner,
}

impl Role {
    /// Every role, the lowest first.
    pub const ALL: &'static [Self] = &[Self::Member, Self::Admin, Self::Owner];

    /// The wire form, lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.iter().copied().find(|role| role.as_str() == text).ok_or(())
    }
}
