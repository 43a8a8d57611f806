//! Search: one small index, which a browser reads when the field is first used, and the server reads without one.

use nephos_model::Code;
use serde_json::{Value, json};

use crate::reference::Reference;
use crate::{error, site};

/// Hits of a search at most.
const HITS_MAX: usize = 30;

/// A page that can be found.
#[derive(Debug)]
pub struct Entry {
    /// What kind of page.
    pub kind: &'static str,
    /// Its title.
    pub title: String,
    /// Its address.
    pub url: String,
    /// A sentence.
    pub about: String,
    /// Further words that find it.
    words: String,
}

/// Everything that can be found.
pub fn entries(reference: &Reference) -> Vec<Entry> {
    let mut all = Vec::new();
    for section in site::SECTIONS {
        for guide in section.guides {
            let headings: Vec<&str> = guide.text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
            all.push(Entry {
                kind: section.title,
                title: guide.title().to_owned(),
                url: guide.path.to_owned(),
                about: guide.about(),
                words: headings.join(" "),
            });
        }
    }
    for operation in &reference.operations {
        all.push(Entry {
            kind: "Reference",
            title: operation.summary.clone(),
            url: operation.address(),
            about: format!("{} {}", operation.method, operation.path),
            words: format!("{} {}", operation.id.replace(['.', '_'], " "), operation.scope.clone().unwrap_or_default()),
        });
    }
    for code in Code::ALL {
        all.push(Entry {
            kind: "Errors",
            title: code.snake().to_owned(),
            url: site::error_path(*code),
            about: error::about(*code).meaning.to_owned(),
            words: format!("{} {}", code.status(), code.screaming()),
        });
    }
    all
}

/// The index as a browser reads it.
pub fn index(reference: &Reference) -> Value {
    entries(reference)
        .into_iter()
        .map(|entry| json!({"k": entry.kind, "t": entry.title, "u": entry.url, "a": entry.about, "w": entry.words}))
        .collect()
}

/// The pages that hold every word of the query, the likeliest first.
pub fn search(reference: &Reference, query: &str) -> Vec<Entry> {
    let query = query.to_lowercase();
    let words: Vec<&str> = query.split_whitespace().collect();
    if words.is_empty() {
        return Vec::new();
    }
    let mut hits: Vec<(usize, Entry)> = entries(reference)
        .into_iter()
        .filter_map(|entry| {
            let score: Option<usize> = words.iter().map(|word| score(&entry, word)).sum();
            score.map(|score| (score, entry))
        })
        .collect();
    hits.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.title.cmp(&b.1.title)));
    hits.into_iter().take(HITS_MAX).map(|(_, entry)| entry).collect()
}

/// How well a word fits; `None` when it does not occur.
fn score(entry: &Entry, word: &str) -> Option<usize> {
    let title = entry.title.to_lowercase();
    if title.starts_with(word) {
        return Some(8);
    }
    if title.contains(word) {
        return Some(5);
    }
    if entry.words.to_lowercase().contains(word) {
        return Some(3);
    }
    entry.about.to_lowercase().contains(word).then_some(1)
}
