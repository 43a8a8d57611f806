//! The changelog as feeds, for whoever has no credential: releases, and the lives of versions and operations.
//!
//! `/docs/changelog.json` is a JSON Feed 1.1, `/docs/changelog.atom` an Atom feed (RFC 4287). Deliberately not here: the
//! texts, which are those of the registry and of `CHANGELOG.md`.

use std::fmt::Write as _;

use bytes::Bytes;
use nephos_model::Timestamp;
use serde_json::{Value, json};

use crate::registry::{Deprecation, Registry, Stage};

/// What people write about releases.
const CHANGELOG: &str = include_str!("../../../CHANGELOG.md");
/// Entries of a feed at most, the newest.
const ENTRIES_MAX: usize = 200;

/// One entry.
#[derive(Debug)]
struct Entry {
    /// Unique and the same for ever, after `urn:nephos:`.
    id: String,
    title: String,
    text: String,
    at: Timestamp,
    /// What machines read of it.
    facts: Value,
}

/// The feed with this file name.
pub(crate) fn feed(name: &str, registry: &Registry, origin: &str, now: Timestamp) -> Option<(&'static str, Bytes)> {
    match name {
        "changelog.json" => Some(("application/feed+json", Bytes::from(json_feed(&entries(registry, now), origin)))),
        "changelog.atom" => {
            Some(("application/atom+xml; charset=utf-8", Bytes::from(atom(&entries(registry, now), origin))))
        }
        _ => None,
    }
}

fn entries(registry: &Registry, now: Timestamp) -> Vec<Entry> {
    let mut out = releases(CHANGELOG);
    for version in registry.versions() {
        if let Some(day) = version.released {
            out.push(Entry {
                id: format!("version:{}:released", version.base),
                title: format!("Version {} is there", version.base),
                text: format!("The API has the version {}.", version.base),
                at: at_midnight(day),
                facts: json!({"kind": "version_released", "version": version.base}),
            });
        }
        if let Some(deprecation) = &version.deprecation {
            out.extend(life("version", version.base, deprecation, now));
        }
    }
    for endpoint in registry.operations() {
        if let Some(deprecation) = registry.deprecation(endpoint.id) {
            out.extend(life("operation", endpoint.id, deprecation, now));
        }
    }
    for removed in registry.removed() {
        out.extend(life("operation", removed.id, &removed.deprecation, now));
    }
    out.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| a.id.cmp(&b.id)));
    out.truncate(ENTRIES_MAX);
    out
}

fn at_midnight(day: jiff::civil::Date) -> Timestamp {
    day.to_zoned(jiff::tz::TimeZone::UTC)
        .map_or(Timestamp::default(), |zoned| Timestamp::from_micros(zoned.timestamp().as_microsecond()))
}

/// A deprecation is an entry from the beginning, also one that is yet to come; its end is one when it has come.
fn life(noun: &str, name: &str, deprecation: &Deprecation, now: Timestamp) -> Vec<Entry> {
    let facts = |kind: &str| {
        json!({
            "kind": format!("{noun}_{kind}"), noun: name, "stage": deprecation.stage(now).as_str(),
            "deprecated_at": deprecation.since_at().to_string(), "sunset_at": deprecation.sunset_at().to_string(),
            "successor": deprecation.successor,
        })
    };
    let instead = deprecation.successor.map(|successor| format!(" Use {successor} instead.")).unwrap_or_default();
    let mut out = vec![Entry {
        id: format!("{noun}:{name}:deprecated"),
        title: format!("The {noun} {name} is deprecated from {}", deprecation.since),
        text: format!(
            "It works until {}, and answers 410 from then on.{instead} {}",
            deprecation.sunset, deprecation.note
        ),
        at: deprecation.since_at(),
        facts: facts("deprecated"),
    }];
    if deprecation.stage(now) == Stage::Gone {
        out.push(Entry {
            id: format!("{noun}:{name}:gone"),
            title: format!("The {noun} {name} is gone"),
            text: format!("It answers 410.{instead} {}", deprecation.note),
            at: deprecation.sunset_at(),
            facts: facts("gone"),
        });
    }
    out
}

/// The releases in a changelog of the form that Keep a Changelog describes: `## [1.2.3] - 2027-01-31` and what follows.
fn releases(text: &str) -> Vec<Entry> {
    let mut out: Vec<Entry> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            let release = release(heading);
            inside = release.is_some();
            out.extend(release.map(|(name, at)| Entry {
                id: format!("release:{name}"),
                title: format!("nephos {name}"),
                text: String::new(),
                at,
                facts: json!({"kind": "release", "release": name}),
            }));
        } else if let (true, Some(entry)) = (inside, out.last_mut()) {
            entry.text.push_str(line);
            entry.text.push('\n');
        }
    }
    for entry in &mut out {
        entry.text = entry.text.trim().to_owned();
    }
    out
}

/// Name and day of a release's heading; `None` of what is not released.
fn release(heading: &str) -> Option<(String, Timestamp)> {
    let (name, day) = heading.strip_prefix('[')?.split_once("] - ")?;
    let day: jiff::civil::Date = day.trim().parse().ok()?;
    Some((name.to_owned(), at_midnight(day)))
}

fn json_feed(entries: &[Entry], origin: &str) -> String {
    let items: Vec<_> = entries
        .iter()
        .map(|e| {
            json!({
                "id": format!("urn:nephos:{}", e.id), "title": e.title, "content_text": e.text,
                "date_published": e.at.to_string(), "_nephos": e.facts,
            })
        })
        .collect();
    json!({
        "version": "https://jsonfeed.org/version/1.1",
        "title": "nephos: changes of the API",
        "feed_url": format!("{origin}/docs/changelog.json"),
        "items": items,
    })
    .to_string()
}

fn atom(entries: &[Entry], origin: &str) -> String {
    let updated = entries.first().map_or(Timestamp::default(), |newest| newest.at);
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<feed xmlns=\"http://www.w3.org/2005/Atom\">\n\
         <id>urn:nephos:changelog</id>\n<title>nephos: changes of the API</title>\n<updated>{updated}</updated>\n\
         <author><name>nephos</name></author>\n<link rel=\"self\" href=\"{}/docs/changelog.atom\"/>\n",
        escaped(origin)
    );
    for entry in entries {
        // Writing to a String can't fail.
        let _ = write!(
            out,
            "<entry>\n<id>urn:nephos:{}</id>\n<title>{}</title>\n<updated>{}</updated>\n<content type=\"text\">{}</content>\n</entry>\n",
            escaped(&entry.id),
            escaped(&entry.title),
            entry.at,
            escaped(&entry.text)
        );
    }
    out.push_str("</feed>\n");
    out
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_and_what_is_unreleased_is_not() {
        let text = "# Changelog\n\n## [Unreleased]\n\n- soon\n\n## [0.2.0] - 2027-01-31\n\n### Added\n\n- a <b>\n\n## [0.1.0] - 2026-12-01\n";
        let told = releases(text);
        assert_eq!(told.len(), 2);
        assert_eq!((told[0].title.as_str(), told[0].text.as_str()), ("nephos 0.2.0", "### Added\n\n- a <b>"));
        assert_eq!(told[0].at.to_string(), "2027-01-31T00:00:00Z");
        let xml = atom(&told, "https://cloud.example");
        assert!(xml.contains("a &lt;b&gt;") && xml.contains("<updated>2027-01-31T00:00:00Z</updated>"), "{xml}");
        assert!(releases(CHANGELOG).iter().all(|release| release.at > Timestamp::default()));
    }
}
