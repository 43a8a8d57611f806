//! What pages load beside themselves: the style, the script, the fonts, the mark.

use std::fmt::Write as _;
use std::sync::LazyLock;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::Answer;

/// Kept for a year: the address changes with the content.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

struct Asset {
    name: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

const ASSETS: &[Asset] = &[
    Asset { name: "docs.css", content_type: "text/css; charset=utf-8", bytes: include_bytes!("../assets/docs.css") },
    Asset {
        name: "docs.js",
        content_type: "text/javascript; charset=utf-8",
        bytes: include_bytes!("../assets/docs.js"),
    },
    Asset {
        name: "invitation.js",
        content_type: "text/javascript; charset=utf-8",
        bytes: include_bytes!("../assets/invitation.js"),
    },
    Asset { name: "figtree.woff2", content_type: "font/woff2", bytes: include_bytes!("../assets/figtree.woff2") },
    Asset { name: "geist-mono.woff2", content_type: "font/woff2", bytes: include_bytes!("../assets/geist-mono.woff2") },
];

/// Names what all assets hold, so that a changed one has another address.
pub static EDITION: LazyLock<String> = LazyLock::new(|| {
    let mut hasher = Sha256::new();
    for asset in ASSETS {
        hasher.update(asset.bytes);
    }
    hasher.finalize().iter().take(6).fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
});

/// The asset at `EDITION/NAME`.
pub fn find(path: &str) -> Option<Answer> {
    let (edition, name) = path.split_once('/')?;
    let asset = ASSETS.iter().find(|asset| asset.name == name)?;
    // One of another edition is what a page that is still open asks for: it gets today's, unkept.
    let cache = if edition == EDITION.as_str() { FOR_EVER } else { "no-cache" };
    Some(Answer { cache, body: Bytes::from_static(asset.bytes), ..Answer::text(asset.content_type, String::new()) })
}

pub fn favicon() -> Answer {
    let bytes: &'static [u8] = include_bytes!("../assets/favicon.svg");
    Answer {
        cache: "public, max-age=86400",
        body: Bytes::from_static(bytes),
        ..Answer::text("image/svg+xml", String::new())
    }
}
