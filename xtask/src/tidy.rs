//! `cargo xtask tidy`: what the compiler and clippy do not check about the house.
//!
//! Each check is a pure function from the tree's files to findings, so that its tests need no files. An error fails the
//! run; a warning is a smell to look at. A check whose rule has exceptions lists them with their reasons.

mod layers;
mod markdown;
mod sources;
mod texts;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

/// The repository's files by path, with `/` between folders; only those that are UTF-8 have a text.
#[derive(Debug, Default)]
pub struct Tree {
    files: BTreeMap<String, Option<String>>,
}

impl Tree {
    /// Every file that git tracks or would track.
    fn read(root: &Path) -> anyhow::Result<Self> {
        let listed = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(root)
            .output()
            .context("list the files with git: is it installed?")?;
        if !listed.status.success() {
            bail!("git ls-files failed in {}: {}", root.display(), String::from_utf8_lossy(&listed.stderr).trim());
        }
        let names = String::from_utf8(listed.stdout).context("a file's name is not UTF-8")?;
        let mut tree = Self::default();
        for name in names.split('\0').filter(|name| !name.is_empty()) {
            let path = root.join(name);
            // Listed but gone: deleted in the work tree and not yet committed. A link's target is checked under its own name.
            if !path.is_file() || path.is_symlink() {
                continue;
            }
            let bytes = std::fs::read(&path).with_context(|| format!("read {name}"))?;
            tree.files.insert(name.to_owned(), String::from_utf8(bytes).ok());
        }
        Ok(tree)
    }

    /// A tree for tests.
    #[cfg(test)]
    fn of(files: &[(&str, &str)]) -> Self {
        Self { files: files.iter().map(|(path, text)| ((*path).to_owned(), Some((*text).to_owned()))).collect() }
    }

    /// Path and text of every text file.
    fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter_map(|(path, text)| Some((path.as_str(), text.as_deref()?)))
    }

    /// The text of one file.
    fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.as_deref()
    }

    /// Whether there is such a file or folder.
    fn has(&self, path: &str) -> bool {
        self.files.contains_key(path)
            || self.files.keys().any(|p| p.strip_prefix(path).is_some_and(|r| r.starts_with('/')))
    }
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// Fails the run.
    Error,
    /// A smell to look at.
    Warning,
}

/// Something that a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    weight: Weight,
    path: String,
    /// From 1; 0 stands for the whole file.
    line: usize,
    text: String,
}

impl Finding {
    fn error(path: &str, line: usize, text: impl Into<String>) -> Self {
        Self { weight: Weight::Error, path: path.to_owned(), line, text: text.into() }
    }

    fn warning(path: &str, line: usize, text: impl Into<String>) -> Self {
        Self { weight: Weight::Warning, ..Self::error(path, line, text) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weight = match self.weight {
            Weight::Error => "error",
            Weight::Warning => "warning",
        };
        match self.line {
            0 => write!(f, "{weight}: {}: {}", self.path, self.text),
            line => write!(f, "{weight}: {}:{line}: {}", self.path, self.text),
        }
    }
}

fn check(tree: &Tree) -> Vec<Finding> {
    [layers::check(tree), sources::check(tree), texts::check(tree), markdown::check(tree)].concat()
}

/// Runs every check on the repository.
pub fn run() -> anyhow::Result<()> {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let findings = check(&Tree::read(&root)?);
    for finding in &findings {
        eprintln!("{finding}");
    }
    match findings.iter().filter(|f| f.weight == Weight::Error).count() {
        0 => Ok(()),
        errors => bail!("tidy found {errors} error{}", if errors == 1 { "" } else { "s" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_there_when_a_file_is_in_them() {
        let tree = Tree::of(&[("docs/tour/start.md", "")]);
        for there in ["docs", "docs/tour", "docs/tour/start.md"] {
            assert!(tree.has(there), "{there}");
        }
        for missing in ["doc", "docs/t", "docs/tour/start"] {
            assert!(!tree.has(missing), "{missing}");
        }
    }

    #[test]
    fn findings_name_the_place() {
        assert_eq!(Finding::error("a.rs", 3, "too wide").to_string(), "error: a.rs:3: too wide");
        assert_eq!(Finding::warning("a.rs", 0, "long").to_string(), "warning: a.rs: long");
    }
}
