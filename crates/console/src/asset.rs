//! What the console's pages load beside the documentation's style and fonts.

use std::fmt::Write as _;
use std::sync::LazyLock;

use bytes::Bytes;
use sha2::{Digest, Sha256};

const ASSETS: &[(&str, &str, &[u8])] = &[
    ("console.css", "text/css; charset=utf-8", include_bytes!("../assets/console.css")),
    ("invoice.css", "text/css; charset=utf-8", include_bytes!("../assets/invoice.css")),
    ("console.js", "text/javascript; charset=utf-8", include_bytes!("../assets/console.js")),
];

/// Names what all assets hold, so that a changed one has another address.
pub(crate) static EDITION: LazyLock<String> = LazyLock::new(|| {
    let mut hasher = Sha256::new();
    for (_, _, bytes) in ASSETS {
        hasher.update(bytes);
    }
    hasher.finalize().iter().take(6).fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
});

/// The media type and bytes of the asset at `EDITION/NAME`, and how it may be kept: for a year, since its address changes
/// with it. One of another edition is what a page that is still open asks for: it gets today's, unkept.
pub fn asset(path: &str) -> Option<(&'static str, Bytes, &'static str)> {
    let (edition, name) = path.split_once('/')?;
    let (_, kind, bytes) = ASSETS.iter().find(|(known, ..)| *known == name)?;
    let cache = if edition == EDITION.as_str() { "public, max-age=31536000, immutable" } else { "no-cache" };
    Some((kind, Bytes::from_static(bytes), cache))
}
