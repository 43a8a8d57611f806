//! Base URLs: which surface and mode a path belongs to.

use std::borrow::Cow;

use nephos_model::tenant::Mode;

use crate::surface::{Platform, Strettch, Surface};

/// A base URL.
#[derive(Clone, Copy)]
pub struct Mount {
    /// Its path, such as `/v1`.
    pub base: &'static str,
    /// The convention that is spoken there.
    pub surface: &'static dyn Surface,
    /// Live or sandbox.
    pub mode: Mode,
}

impl std::fmt::Debug for Mount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} {})", self.base, self.surface.name(), self.mode)
    }
}

/// The Platform API.
pub const PLATFORM: Mount = Mount { base: "/v1", surface: &Platform, mode: Mode::Live };
/// The Platform API's sandbox.
pub const SANDBOX: Mount = Mount { base: "/sandbox/v1", surface: &Platform, mode: Mode::Test };
/// The Platform API's sandbox on a host of its own.
pub const SANDBOX_HOST: Mount = Mount { base: "/v1", surface: &Platform, mode: Mode::Test };
/// The Strettch API.
pub const STRETTCH: Mount = Mount { base: "/api/v1", surface: &Strettch, mode: Mode::Live };

/// What a path is under.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    /// A base URL, and the path under it: empty, or it begins with a slash.
    Under(Mount, &'a str),
    /// A version that there is not, where there are others.
    NoVersion(Mount),
    /// No base URL; the mount has the convention that the path's prefix suggests.
    Nowhere(Mount),
}

/// A path with its unreserved characters in their plain form (RFC 3986, 6.2.2.2): `%70` and `p` are the same path. Every
/// path of ours has only such characters, so what stays encoded is a path that there is not, and nothing is decoded twice.
pub fn plain(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let hex = after.get(..2).filter(|two| two.bytes().all(|b| b.is_ascii_hexdigit()));
        let byte = hex.and_then(|two| u8::from_str_radix(two, 16).ok());
        let unreserved = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
        if let Some(byte) = byte.filter(unreserved) {
            out.push(char::from(byte));
            rest = &after[2..];
        } else {
            out.push('%');
            rest = after;
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Finds the base URL that `path` is under.
pub fn find(path: &str, is_sandbox_host: bool) -> Place<'_> {
    let platform = if is_sandbox_host { SANDBOX_HOST } else { PLATFORM };
    let mounts = [platform, SANDBOX, STRETTCH];
    for mount in mounts {
        if let Some(rest) = path.strip_prefix(mount.base)
            && (rest.is_empty() || rest.starts_with('/'))
        {
            return Place::Under(mount, rest);
        }
    }
    for mount in [STRETTCH, SANDBOX, platform] {
        // Every base ends in "v1".
        let stem = &mount.base[..mount.base.len() - 2];
        if path.strip_prefix(stem).is_some_and(begins_with_version) {
            return Place::NoVersion(mount);
        }
    }
    let api = path == "/api" || path.starts_with("/api/");
    Place::Nowhere(if api { STRETTCH } else { platform })
}

/// Whether the first segment is `v` and digits.
fn begins_with_version(rest: &str) -> bool {
    let segment = rest.split('/').next().unwrap_or_default();
    segment.strip_prefix('v').is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreserved_characters_are_decoded_once() {
        for (path, same) in [
            ("/v1/projects", "/v1/projects"),
            ("/v1/%70rojects", "/v1/projects"),
            ("/%76%31/%7E", "/v1/~"),
            ("/v1/%2570", "/v1/%2570"),
            ("/v1%2Fprojects", "/v1%2Fprojects"),
            ("/v1/%zz%7", "/v1/%zz%7"),
            ("/v1/%C3%A9%", "/v1/%C3%A9%"),
        ] {
            assert_eq!(plain(path), same);
        }
    }

    #[test]
    fn paths() {
        let told = |path| format!("{:?}", find(path, false));
        assert_eq!(told("/v1/projects"), "Under(/v1 (platform live), \"/projects\")");
        assert_eq!(told("/v1"), "Under(/v1 (platform live), \"\")");
        assert_eq!(told("/sandbox/v1/projects"), "Under(/sandbox/v1 (platform test), \"/projects\")");
        assert_eq!(told("/api/v1/"), "Under(/api/v1 (strettch live), \"/\")");
        assert_eq!(told("/v2/projects"), "NoVersion(/v1 (platform live))");
        assert_eq!(told("/v10"), "NoVersion(/v1 (platform live))");
        assert_eq!(told("/api/v2"), "NoVersion(/api/v1 (strettch live))");
        assert_eq!(told("/sandbox/v2/x"), "NoVersion(/sandbox/v1 (platform test))");
        assert_eq!(told("/api/projects"), "Nowhere(/api/v1 (strettch live))");
        assert_eq!(told("/apiary"), "Nowhere(/v1 (platform live))");
        assert_eq!(told("/v1x"), "Nowhere(/v1 (platform live))");
        assert_eq!(told("/"), "Nowhere(/v1 (platform live))");
        assert_eq!(format!("{:?}", find("/v1/me", true)), "Under(/v1 (platform test), \"/me\")");
    }
}
