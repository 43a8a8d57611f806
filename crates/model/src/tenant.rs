//! Tenants: whose rows these are.

use std::fmt;
use std::str::FromStr;

/// The integer that leads every tenant-owned index: one (workspace, mode, epoch).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(pub i64);

impl TenantId {
    /// Nobody's: what concerns the installation as a whole. No workspace ever has it.
    pub const INSTALLATION: Self = Self(0);
}

/// Live or sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Real resources, billed.
    Live,
    /// The sandbox: simulated resources, never billed, reset daily.
    Test,
}

impl Mode {
    /// The wire and stored form.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Mode {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "live" => Ok(Self::Live),
            "test" => Ok(Self::Test),
            _ => Err(()),
        }
    }
}
