//! Markdown: links between files lead somewhere, headings that links name exist, and the changelog has its place for what is new.

use std::path::Path;

use super::{Finding, Tree};

const CHANGELOG: &str = "CHANGELOG.md";
const UNRELEASED: &str = "## [Unreleased]";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts().filter(|(path, _)| is_markdown(path)) {
        for (line, target) in links(text) {
            findings.extend(follow(tree, path, line, &target));
        }
    }
    match tree.text(CHANGELOG) {
        None => findings.push(Finding::error(CHANGELOG, 0, "is missing")),
        Some(text) if !text.lines().any(|line| line.trim_end() == UNRELEASED) => {
            findings.push(Finding::error(CHANGELOG, 0, format!("has no section \"{UNRELEASED}\"")));
        }
        Some(_) => {}
    }
    findings
}

/// Where the pages are that are served.
const SERVED: &str = "crates/docs/pages/";

fn is_markdown(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "md")
}

fn follow(tree: &Tree, path: &str, line: usize, target: &str) -> Option<Finding> {
    // Something with a scheme leads out of the repository; that is not looked up here.
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    // Pages that are served link to each other by address; the documentation's own tests follow those.
    if path.starts_with(SERVED) && target.starts_with("/docs") {
        return None;
    }
    let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
    let wanted = if file.is_empty() { Some(path.to_owned()) } else { resolve(path, file) };
    let Some(wanted) = wanted.filter(|wanted| wanted.is_empty() || tree.has(wanted)) else {
        return Some(Finding::error(path, line, format!("links to {target}, and there is no such file")));
    };
    let anchor = anchor?;
    let known = tree.text(&wanted).is_some_and(|text| headings(text).any(|heading| heading == anchor));
    (!known && is_markdown(&wanted))
        .then(|| Finding::error(path, line, format!("links to {target}, and {wanted} has no such heading")))
}

/// The path that `link` in the file `from` means; `None` when it leads out of the repository.
fn resolve(from: &str, link: &str) -> Option<String> {
    let mut parts: Vec<&str> = match link.strip_prefix('/') {
        Some(_) => Vec::new(),
        None => from.split('/').rev().skip(1).collect::<Vec<_>>().into_iter().rev().collect(),
    };
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// Line and target of each inline link outside of code.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        // What stands between backquotes is code.
        let outside: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        for (at, _) in outside.match_indices("](") {
            let rest = &outside[at + 2..];
            let target = rest.split([')', ' ']).next().unwrap_or_default().trim_matches(['<', '>']);
            if !target.is_empty() {
                found.push((number, target.to_owned()));
            }
        }
    }
    found
}

/// The anchors of the headings: lower case, spaces as hyphens, other punctuation left out.
fn headings(text: &str) -> impl Iterator<Item = String> {
    prose(text).filter_map(|(_, line)| {
        let heading = line.trim_start_matches('#');
        (line.starts_with('#') && heading.starts_with(' ')).then(|| anchor(heading.trim()))
    })
}

fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    heading.to_lowercase().chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The lines outside of fenced code, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(number, line)| {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            return None;
        }
        (!fenced).then_some((number + 1, line))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: (&str, &str) = (CHANGELOG, "# Changelog\n\n## [Unreleased]\n");

    fn texts(files: &[(&str, &str)]) -> Vec<String> {
        check(&Tree::of(&[files, &[LOG]].concat())).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn links_lead_somewhere() {
        let files = [
            (
                "README.md",
                "See [the tour](docs/tour.md#first-steps), [code](crates/model) and [the web](https://example.com/x).\n",
            ),
            ("docs/tour.md", "# Tour\n\n## First steps\n\n[back](../README.md) [here](#tour) [log](/CHANGELOG.md)\n"),
            ("crates/model/Cargo.toml", ""),
        ];
        assert_eq!(texts(&files), <[String; 0]>::default());
    }

    #[test]
    fn broken_links_are_named() {
        let files = [(
            "docs/a.md",
            "[x](b.md)\n[y](#nowhere)\n[z](../../out.md)\n[w](a.md#a)\n```\n[code](no.md)\n```\n`[code](no.md)`\n",
        )];
        assert_eq!(
            texts(&files),
            [
                "error: docs/a.md:1: links to b.md, and there is no such file",
                "error: docs/a.md:2: links to #nowhere, and docs/a.md has no such heading",
                "error: docs/a.md:3: links to ../../out.md, and there is no such file",
                "error: docs/a.md:4: links to a.md#a, and docs/a.md has no such heading",
            ]
        );
    }

    #[test]
    fn anchors_are_as_code_hosts_make_them() {
        assert_eq!(anchor("What `nephos serve` does, and why"), "what-nephos-serve-does-and-why");
        assert_eq!(anchor("[Unreleased]"), "unreleased");
    }

    #[test]
    fn the_changelog_has_a_place_for_what_is_new() {
        let missing: Vec<String> = check(&Tree::of(&[])).iter().map(ToString::to_string).collect();
        assert_eq!(missing, ["error: CHANGELOG.md: is missing"]);
        let bare: Vec<String> =
            check(&Tree::of(&[(CHANGELOG, "# Changelog\n")])).iter().map(ToString::to_string).collect();
        assert_eq!(bare, ["error: CHANGELOG.md: has no section \"## [Unreleased]\""]);
    }
}
