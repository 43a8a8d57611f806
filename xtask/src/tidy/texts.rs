//! Every text file: white space, line ends, and words that must not be in the repository.

use super::{Finding, Tree};

/// Ends of paths whose texts are made by machines or by others, word for word.
const NOT_OURS: &[&str] = &[".snap", "Cargo.lock", ".svg"];
/// Folders whose texts are others', kept word for word.
const NOT_OUR_FOLDERS: &[&str] = &["fuzz/corpus/", "/vendor/", "/vendored/"];
/// Ends of paths in which a tab at the beginning of a line means something.
const TABS: &[&str] = &["Makefile", ".tsv"];

/// A word that must not be there, why, and beginnings of paths that may have it. In pieces, so that this file does not hold them.
struct Forbidden {
    word: &'static str,
    why: &'static str,
    homes: &'static [&'static str],
}

const NO_HOMES: &[&str] = &[];
const REGISTRY: &str = "a registry's host belongs into the machine's configuration";
const FORBIDDEN: &[Forbidden] = &[
    Forbidden { word: concat!("/wo", "rk/"), why: "the path of one machine", homes: NO_HOMES },
    Forbidden {
        word: concat!("/ro", "ot/"),
        why: "the path of one machine",
        // The home of the guest's user.
        homes: &["image/", "scripts/image", "crates/driver/tests/qemu.rs"],
    },
    Forbidden { word: concat!("crates", ".io"), why: REGISTRY, homes: NO_HOMES },
    Forbidden { word: concat!("pypi", ".org"), why: REGISTRY, homes: NO_HOMES },
    Forbidden { word: concat!("npmjs", ".org"), why: REGISTRY, homes: NO_HOMES },
    Forbidden { word: concat!("npmjs", ".com"), why: REGISTRY, homes: NO_HOMES },
    Forbidden { word: concat!("deb.deb", "ian.org"), why: REGISTRY, homes: NO_HOMES },
    Forbidden { word: concat!("proxy.go", "lang.org"), why: REGISTRY, homes: NO_HOMES },
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    tree.texts().filter(|(path, _)| ours(path)).flat_map(|(path, text)| file(path, text)).collect()
}

fn ours(path: &str) -> bool {
    !NOT_OURS.iter().any(|end| path.ends_with(end)) && !NOT_OUR_FOLDERS.iter().any(|folder| path.contains(folder))
}

fn file(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in text.split('\n').enumerate() {
        let mut say = |what: String| findings.push(Finding::error(path, number + 1, what));
        if line.ends_with('\r') {
            say("ends with a carriage return: lines end with a line feed alone".to_owned());
        } else if line.ends_with([' ', '\t']) {
            say("ends with white space".to_owned());
        }
        let indent = &line[..line.len() - line.trim_start().len()];
        if indent.contains('\t') && !TABS.iter().any(|end| path.ends_with(end)) {
            say("is indented with a tab: use spaces".to_owned());
        }
        for Forbidden { word, why, homes } in FORBIDDEN {
            if holds(line, word) && !homes.iter().any(|home| path.starts_with(home)) {
                say(format!("holds {word}: {why}"));
            }
        }
    }
    if !text.is_empty() && (!text.ends_with('\n') || text.ends_with("\n\n")) {
        let last = text.lines().count();
        findings.push(Finding::error(path, last, "does not end with exactly one line feed"));
    }
    findings
}

/// Whether `word` is in `line`; an absolute path not as the end of a longer one.
fn holds(line: &str, word: &str) -> bool {
    let inside_path = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '}' | '*');
    line.match_indices(word)
        .any(|(at, _)| !(word.starts_with('/') && line[..at].chars().next_back().is_some_and(inside_path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(path: &str, text: &str) -> Vec<String> {
        check(&Tree::of(&[(path, text)])).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn white_space() {
        assert_eq!(texts("a.md", "A line.\n"), <[String; 0]>::default());
        assert_eq!(texts("empty", ""), <[String; 0]>::default());
        assert_eq!(
            texts("a.md", "one\r\ntwo \n\tthree\nfour"),
            [
                "error: a.md:1: ends with a carriage return: lines end with a line feed alone",
                "error: a.md:2: ends with white space",
                "error: a.md:3: is indented with a tab: use spaces",
                "error: a.md:4: does not end with exactly one line feed",
            ]
        );
        assert_eq!(texts("Makefile", "all:\n\techo\n"), <[String; 0]>::default());
        assert_eq!(texts("tests/a.snap", "one \n\n"), <[String; 0]>::default());
    }

    #[test]
    fn words_of_one_machine() {
        for Forbidden { word, why, .. } in FORBIDDEN {
            assert_eq!(texts("a.md", &format!("see {word}x\n")), [format!("error: a.md:1: holds {word}: {why}")]);
        }
        assert_eq!(texts("image/root/init", concat!("cd /ro", "ot/x\n")), <[String; 0]>::default());
        assert_eq!(texts("a.md", concat!("see image/ro", "ot/init\n")), <[String; 0]>::default());
    }
}
