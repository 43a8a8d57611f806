//! The committed OpenAPI documents: `openapi/platform.json` and `openapi/strettch.json`.
//!
//! They are what the program serves, committed so that a change of the API is seen in review.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../openapi")
}

/// Writes both documents.
pub fn write() -> Result<()> {
    std::fs::create_dir_all(folder()).context("making openapi/")?;
    for (name, text) in nephos_http::openapi::files() {
        let path = folder().join(format!("{name}.json"));
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Fails when a committed document is not what the program serves.
pub fn check() -> Result<()> {
    for (name, text) in nephos_http::openapi::files() {
        let path = folder().join(format!("{name}.json"));
        let committed = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        if committed != text {
            bail!("openapi/{name}.json is not what the program serves; run `cargo xtask openapi` and commit it");
        }
    }
    Ok(())
}
