//! The committed OpenAPI documents, `openapi/platform.json` and `openapi/strettch.json`, and the addresses of the
//! documentation, `crates/docs/addresses.txt`.
//!
//! The documents are what the program serves, committed so that a change of the API is seen in review. Of the addresses
//! none is ever taken away.

mod breaking;
mod schema;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../openapi")
}

/// Fails when the documents of now break clients of those that are committed at `base`.
pub fn breaking(base: &str) -> Result<()> {
    breaking::run(&folder().join(".."), base)
}

/// Writes both documents.
pub fn write() -> Result<()> {
    std::fs::create_dir_all(folder()).context("making openapi/")?;
    for (name, text) in nephos_http::openapi::files() {
        let path = folder().join(format!("{name}.json"));
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    let (path, mut known, missing) = addresses()?;
    for address in missing {
        known.push_str(&address);
        known.push('\n');
    }
    std::fs::write(&path, known).with_context(|| format!("writing {}", path.display()))
}

/// The file of the addresses, what is in it, and what is not but should be.
fn addresses() -> Result<(PathBuf, String, Vec<String>)> {
    let path = folder().join("../crates/docs/addresses.txt");
    let known = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let files = nephos_http::openapi::files();
    let documents = files.map(|(_, text)| serde_json::from_str(&text));
    let [platform, strettch] = documents;
    let mut all = nephos_docs::addresses(&platform?, &strettch?);
    all.retain(|address| !known.lines().any(|line| line == address));
    Ok((path, known, all))
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
    let (_, _, missing) = addresses()?;
    if !missing.is_empty() {
        bail!("crates/docs/addresses.txt lacks {}; run `cargo xtask openapi` and commit it", missing.join(", "));
    }
    Ok(())
}
