//! Scopes: what a narrowed credential may do, as `noun:read` or `noun:write`.

use std::fmt;
use std::str::FromStr;

macro_rules! nouns {
    ($($name:ident = $text:literal,)*) => {
        /// The noun of a scope.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs)]
        pub enum Noun { $($name,)* }

        impl Noun {
            /// Every noun.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
            /// The wire form.
            pub const fn as_str(self) -> &'static str { match self { $(Self::$name => $text,)* } }
        }
    };
}

nouns! {
    Project = "project", Environment = "environment", Compute = "compute", Volume = "volume", Snapshot = "snapshot",
    Image = "image", Size = "size", Region = "region", SshKey = "ssh_key", Firewall = "firewall", Operation = "operation",
    Event = "event", Webhook = "webhook", Usage = "usage", Invoice = "invoice", Telemetry = "telemetry", Status = "status",
    ApiKey = "api_key", Member = "member", Workspace = "workspace", AuditLog = "audit_log", Limit = "limit", Sandbox = "sandbox",
    Invitation = "invitation", BudgetAlert = "budget_alert",
}

/// Reading or changing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// GET and HEAD.
    Read,
    /// Everything else.
    Write,
}

/// One permission of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    /// On what.
    pub noun: Noun,
    /// What.
    pub verb: Verb,
}

impl Scope {
    /// `noun:read`.
    pub const fn read(noun: Noun) -> Self {
        Self { noun, verb: Verb::Read }
    }

    /// `noun:write`.
    pub const fn write(noun: Noun) -> Self {
        Self { noun, verb: Verb::Write }
    }

    const fn bit(self) -> u64 {
        1 << (self.noun as u32 * 2 + self.verb as u32)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.noun.as_str())?;
        f.write_str(match self.verb {
            Verb::Read => ":read",
            Verb::Write => ":write",
        })
    }
}

impl FromStr for Scope {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (noun, verb) = text.split_once(':').ok_or(())?;
        let noun = Noun::ALL.iter().copied().find(|n| n.as_str() == noun).ok_or(())?;
        match verb {
            "read" => Ok(Self::read(noun)),
            "write" => Ok(Self::write(noun)),
            _ => Err(()),
        }
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u64);

impl Scopes {
    /// Every scope: what a key has that was not narrowed.
    pub const EVERY: Self = Self((1 << (Noun::ALL.len() * 2)) - 1);

    /// Whether `scope` is in the set. `noun:write` does not imply `noun:read`.
    pub const fn has(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// Whether every scope of `other` is in this set.
    pub const fn contains(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// The set with `scope`.
    #[must_use]
    pub const fn with(self, scope: Scope) -> Self {
        Self(self.0 | scope.bit())
    }

    /// The scopes in both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The scopes, ordered by noun.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Noun::ALL.iter().flat_map(|n| [Scope::read(*n), Scope::write(*n)]).filter(move |s| self.has(*s))
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        scopes.into_iter().fold(Self::default(), Self::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scope_round_trips() {
        for scope in Scopes::EVERY.iter() {
            assert_eq!(scope.to_string().parse(), Ok(scope));
        }
        assert_eq!(Scopes::EVERY.iter().collect::<Scopes>(), Scopes::EVERY);
        assert_eq!(Scopes::EVERY.iter().count(), Noun::ALL.len() * 2);
        for bad in ["compute", "compute:", "compute:admin", "computes:read", ":read", "compute:read "] {
            assert_eq!(bad.parse::<Scope>(), Err(()), "{bad}");
        }
    }
}
