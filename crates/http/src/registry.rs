//! Which versions and operations there are, and how long: what is active, deprecated since when and until when, or gone.
//!
//! A deprecation is an entry with two dates, so one build goes through the whole life by the clock alone: announced,
//! deprecated, gone. What was taken out of the code leaves a [`Removed`], so that its callers read 410 and not 404.
//! Deliberately not here: who called what, and who is told; see `nephos_control::deprecation`.

use std::collections::HashMap;
use std::fmt::Write as _;

use http::HeaderValue;
use jiff::ToSpan as _;
use jiff::civil::Date;
use nephos_control::deprecation::Notice;
use nephos_control::mail::letter::{Deprecated, Letter};
use nephos_control::view::{DeprecationView, VersionView, json};
use nephos_model::{Code, Detail, Fault, Timestamp};

use crate::endpoint::{self, Endpoint, Router};
use crate::mount::{Mount, PLATFORM, SANDBOX, STRETTCH};

/// Months between a deprecation and its sunset at least.
pub const SUNSET_MONTHS_MIN: i32 = 6;

/// How far something is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It is there to stay.
    Active,
    /// It works, and will not for ever.
    Deprecated,
    /// It no longer works: 410.
    Gone,
}

impl Stage {
    /// Its name in the changelog.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Deprecated => "deprecated",
            Self::Gone => "gone",
        }
    }
}

/// The end of a version's or an operation's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deprecation {
    /// The day from whose beginning (UTC) it is deprecated.
    pub since: Date,
    /// The day from whose beginning (UTC) it is gone; at least [`SUNSET_MONTHS_MIN`] months later.
    pub sunset: Date,
    /// What to use instead: a path under the base URL, or for a version another base URL. `None` when nothing replaces it.
    pub successor: Option<&'static str>,
    /// Why, and what to do: sentences for people.
    pub note: &'static str,
}

fn instant(day: Date) -> Timestamp {
    // A day out of jiff's range of times is centuries away and refused by `check`.
    day.to_zoned(jiff::tz::TimeZone::UTC)
        .map_or(Timestamp::default(), |zoned| Timestamp::from_micros(zoned.timestamp().as_microsecond()))
}

impl Deprecation {
    /// When it begins to be deprecated.
    pub fn since_at(&self) -> Timestamp {
        instant(self.since)
    }

    /// When it is gone.
    pub fn sunset_at(&self) -> Timestamp {
        instant(self.sunset)
    }

    /// How far it is.
    pub fn stage(&self, now: Timestamp) -> Stage {
        if now >= self.sunset_at() {
            Stage::Gone
        } else if now >= self.since_at() {
            Stage::Deprecated
        } else {
            Stage::Active
        }
    }

    fn problem(&self, what: &str) -> Option<String> {
        let earliest = self.since.checked_add(SUNSET_MONTHS_MIN.months());
        match earliest {
            Ok(earliest) if self.sunset >= earliest => None,
            Ok(earliest) => Some(format!(
                "{what} is deprecated on {} and ends on {}: the end is at least {SUNSET_MONTHS_MIN} months later, on {earliest}",
                self.since, self.sunset
            )),
            Err(_) => {
                Some(format!("{what} is deprecated on {}, which is no day that can be reckoned with", self.since))
            }
        }
    }
}

/// A version: a base URL.
#[derive(Debug, Clone, Copy)]
pub struct Version {
    /// Its path, such as `/v1`.
    pub base: &'static str,
    /// The day on which it appeared; `None` when it was there from the beginning.
    pub released: Option<Date>,
    /// Its end, once that is known.
    pub deprecation: Option<Deprecation>,
}

/// An operation that is no longer in the code.
#[derive(Debug, Clone, Copy)]
pub struct Removed {
    /// The id that it had.
    pub id: &'static str,
    /// Its method.
    pub method: &'static str,
    /// Its path under the base URL, at most one `{id}`.
    pub path: &'static str,
    /// Its end, which has come.
    pub deprecation: Deprecation,
}

/// What a registry has wrong; the start fails with all of it.
#[derive(Debug, PartialEq, Eq)]
pub struct RegistryError(pub Vec<String>);

impl std::fmt::Display for RegistryError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the registry of versions is wrong: {}", self.0.join("; "))
    }
}

impl std::error::Error for RegistryError {}

/// Every version and operation with its life.
#[derive(Debug)]
pub struct Registry {
    versions: Vec<Version>,
    operations: Vec<&'static Endpoint>,
    deprecations: HashMap<&'static str, Deprecation>,
    removed: Vec<Removed>,
}

/// The versions of this build.
const VERSIONS: [Version; 3] = [
    Version { base: PLATFORM.base, released: None, deprecation: None },
    Version { base: SANDBOX.base, released: None, deprecation: None },
    Version { base: STRETTCH.base, released: None, deprecation: None },
];

/// The operations of this build whose end is known, by their ids.
const DEPRECATIONS: [(&str, Deprecation); 0] = [];

/// The operations that earlier builds had.
const REMOVED: [Removed; 0] = [];

impl Default for Registry {
    fn default() -> Self {
        Self {
            versions: VERSIONS.to_vec(),
            operations: endpoint::all().collect(),
            deprecations: DEPRECATIONS.into_iter().collect(),
            removed: REMOVED.to_vec(),
        }
    }
}

impl Registry {
    /// More operations than the build has: for tests of what only an operation with a certain life shows.
    #[must_use]
    pub fn with_operations(mut self, table: &'static [Endpoint]) -> Self {
        self.operations.extend(table);
        self
    }

    /// An operation comes to its end.
    #[must_use]
    pub fn deprecating(mut self, operation: &'static str, deprecation: Deprecation) -> Self {
        self.deprecations.insert(operation, deprecation);
        self
    }

    /// A version comes to its end.
    #[must_use]
    pub fn deprecating_version(mut self, base: &'static str, deprecation: Deprecation) -> Self {
        for version in self.versions.iter_mut().filter(|v| v.base == base) {
            version.deprecation = Some(deprecation);
        }
        self
    }

    /// An operation that is no longer there.
    #[must_use]
    pub fn without(mut self, removed: Removed) -> Self {
        self.removed.push(removed);
        self
    }

    /// Every operation, in the order of the reference.
    pub fn operations(&self) -> impl Iterator<Item = &'static Endpoint> {
        self.operations.iter().copied()
    }

    /// Whether an operation's end is known.
    pub fn deprecation(&self, operation: &str) -> Option<&Deprecation> {
        self.deprecations.get(operation)
    }

    /// What is wrong: a sunset too soon, an end of something that there is not, an id that is there twice.
    ///
    /// # Errors
    /// All of it.
    pub fn check(&self) -> Result<(), RegistryError> {
        let mut wrong = Vec::new();
        for version in &self.versions {
            wrong.extend(version.deprecation.and_then(|d| d.problem(&format!("the version {}", version.base))));
        }
        for (id, deprecation) in &self.deprecations {
            if !self.operations.iter().any(|e| e.id == *id) {
                wrong.push(format!("{id} is deprecated, and there is no such operation"));
            }
            wrong.extend(deprecation.problem(&format!("the operation {id}")));
        }
        for removed in &self.removed {
            if self
                .operations
                .iter()
                .any(|e| e.id == removed.id || (e.path, e.method) == (removed.path, removed.method))
            {
                wrong.push(format!("{} is removed, and still there", removed.id));
            }
            wrong.extend(removed.deprecation.problem(&format!("the operation {}", removed.id)));
        }
        let mut ids: Vec<_> = self.operations.iter().map(|e| e.id).collect();
        ids.sort_unstable();
        wrong.extend(ids.windows(2).filter(|two| two[0] == two[1]).map(|two| format!("{} is there twice", two[0])));
        wrong.sort();
        if wrong.is_empty() { Ok(()) } else { Err(RegistryError(wrong)) }
    }

    /// The versions of a mount's surface and mode that work now, for people: `/v1`, or several with commas.
    pub fn versions_of(&self, mount: Mount, now: Timestamp) -> String {
        let stem = |base: &str| base.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let mut out = String::new();
        for version in &self.versions {
            let is_same = version.base[..stem(version.base)] == mount.base[..stem(mount.base)];
            if is_same && version.deprecation.is_none_or(|d| d.stage(now) != Stage::Gone) {
                // Writing to a String can't fail.
                let _ = write!(out, "{}{}", if out.is_empty() { "" } else { ", " }, version.base);
            }
        }
        if out.is_empty() { "none".to_owned() } else { out }
    }

    /// Whether everything is there to stay, so that no request needs to be looked at.
    pub fn is_plain(&self) -> bool {
        self.deprecations.is_empty() && self.removed.is_empty() && self.versions.iter().all(|v| v.deprecation.is_none())
    }

    /// What a request asks for that is deprecated or gone now, whatever becomes of the request.
    pub(crate) fn ending(
        &self,
        router: &Router,
        mount: Mount,
        path: &str,
        method: &str,
        now: Timestamp,
    ) -> Option<Ending> {
        if self.is_plain() {
            return None;
        }
        let version = self.versions.iter().find(|v| v.base == mount.base).and_then(|v| v.deprecation);
        let version = version.map(|deprecation| Ending { what: What::Version(mount), deprecation });
        let operation =
            router.find(path, mount.mode).and_then(|(resource, _)| resource.method(method)).and_then(|endpoint| {
                let deprecation = *self.deprecations.get(endpoint.id)?;
                Some(Ending { what: What::Operation(mount, endpoint.id), deprecation })
            });
        let removed = || {
            let method = if method == "HEAD" { "GET" } else { method };
            let found = self.removed.iter().find(|r| r.method == method && is_at(r.path, path))?;
            Some(Ending { what: What::Operation(mount, found.id), deprecation: found.deprecation })
        };
        // What is gone first is what matters to the caller.
        let endings = [operation.or_else(removed), version];
        let over = endings.into_iter().flatten().filter(|ending| ending.stage(now) != Stage::Active);
        over.min_by_key(|ending| ending.deprecation.sunset)
    }

    /// What every workspace that was there before is to be told, and from when on.
    pub fn notices(&self) -> Vec<Notice> {
        let versions = self.versions.iter().filter_map(|version| {
            let deprecation = version.deprecation?;
            Some(notice("api.version_deprecated", "version", version.base, &deprecation))
        });
        let released = self.versions.iter().filter_map(|version| {
            let day = version.released?;
            Some(Notice {
                subject: format!("version {} released {day}", version.base),
                event: "api.version_released",
                resource_id: version.base.to_owned(),
                at: instant(day),
                data: json(&VersionView::new(version.base, instant(day))),
                letter: Letter::VersionReleased { version: version.base.to_owned() },
            })
        });
        let operations = self.operations.iter().filter_map(|endpoint| {
            let deprecation = self.deprecations.get(endpoint.id)?;
            Some(notice("api.operation_deprecated", "operation", endpoint.id, deprecation))
        });
        released.chain(versions).chain(operations).collect()
    }

    pub(crate) fn versions(&self) -> &[Version] {
        &self.versions
    }

    pub(crate) fn removed(&self) -> &[Removed] {
        &self.removed
    }
}

fn notice(event: &'static str, noun: &str, name: &str, deprecation: &Deprecation) -> Notice {
    let life = (deprecation.since_at(), deprecation.sunset_at());
    let data = json(&DeprecationView::new(noun, name, life, deprecation.successor, deprecation.note));
    Notice {
        subject: format!("{noun} {name} deprecated {}", deprecation.since),
        event,
        resource_id: name.to_owned(),
        at: deprecation.since_at(),
        data,
        letter: Letter::Deprecated(Deprecated {
            noun: noun.to_owned(),
            name: name.to_owned(),
            sunset_at: deprecation.sunset_at(),
            successor: deprecation.successor.map(str::to_owned),
            note: deprecation.note.to_owned(),
        }),
    }
}

/// Whether `path` is at a pattern with at most one `{id}`.
fn is_at(pattern: &str, path: &str) -> bool {
    let (mut wanted, mut given) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some("{id}"), Some(segment)) if !segment.is_empty() => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum What {
    Version(Mount),
    Operation(Mount, &'static str),
}

/// Something deprecated or gone that a request asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ending {
    what: What,
    deprecation: Deprecation,
}

impl Ending {
    pub(crate) fn stage(&self, now: Timestamp) -> Stage {
        self.deprecation.stage(now)
    }

    /// The operation's id, unless it is the whole version that ends.
    pub(crate) fn operation(&self) -> Option<&'static str> {
        match self.what {
            What::Operation(_, id) => Some(id),
            What::Version(_) => None,
        }
    }

    /// `Deprecation` (RFC 9745), `Sunset` (RFC 8594) and the links that belong to them.
    pub(crate) fn headers(&self, origin: &str) -> [(&'static str, Option<HeaderValue>); 3] {
        let mut link = format!("<{origin}/docs/changelog.json>; rel=\"deprecation\"; type=\"application/feed+json\"");
        if let Some(successor) = self.deprecation.successor {
            let base = match self.what {
                What::Operation(mount, _) => mount.base,
                What::Version(_) => "",
            };
            // Writing to a String can't fail.
            let _ = write!(link, ", <{origin}{base}{successor}>; rel=\"successor-version\"");
        }
        let since = format!("@{}", self.deprecation.since_at().secs());
        let sunset = http_date(self.deprecation.sunset);
        let value = |text: String| HeaderValue::try_from(text).ok();
        [("deprecation", value(since)), ("sunset", value(sunset)), ("link", value(link))]
    }

    /// The 410 of step 6.
    pub(crate) fn fault(&self) -> Fault {
        let (code, what) = match self.what {
            What::Version(mount) => ("version_gone", format!("The version {} of this API", mount.base)),
            What::Operation(_, id) => ("operation_gone", format!("The operation {id}")),
        };
        let mut message = format!("{what} ended on {}.", self.deprecation.sunset);
        if let Some(successor) = self.deprecation.successor {
            let _ = write!(message, " Use {successor} instead.");
        }
        Fault { details: vec![Detail::new(code, message.clone())], ..Fault::new(Code::Gone, message) }
    }
}

/// Midnight (UTC) of a day as HTTP writes it (RFC 9110, IMF-fixdate).
fn http_date(day: Date) -> String {
    day.strftime("%a, %d %b %Y 00:00:00 GMT").to_string()
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    const END: Deprecation = Deprecation {
        since: date(2027, 1, 15),
        sunset: date(2027, 7, 15),
        successor: Some("/computes"),
        note: "Because.",
    };

    #[test]
    fn this_builds_registry_is_right() {
        Registry::default().check().unwrap();
    }

    #[test]
    fn a_sunset_too_soon_is_refused_and_so_is_an_end_of_nothing() {
        let soon = Deprecation { sunset: date(2027, 7, 14), ..END };
        let registry = Registry::default()
            .deprecating("compute.list", soon)
            .deprecating("compute.nothing", END)
            .deprecating_version("/v1", soon)
            .without(Removed { id: "project.list", method: "GET", path: "/old", deprecation: END });
        let told = registry.check().unwrap_err().0;
        assert_eq!(told.len(), 4, "{told:?}");
        assert!(told.iter().any(|t| t.contains("the operation compute.list") && t.contains("2027-07-15")), "{told:?}");
        Registry::default().deprecating("compute.list", END).check().unwrap();
    }

    #[test]
    fn a_life_goes_by_the_clock() {
        let at = |day: Date| instant(day);
        let before = Timestamp::from_micros(at(END.since).micros() - 1);
        assert_eq!(END.stage(before), Stage::Active);
        assert_eq!(END.stage(at(END.since)), Stage::Deprecated);
        assert_eq!(END.stage(Timestamp::from_micros(at(END.sunset).micros() - 1)), Stage::Deprecated);
        assert_eq!(END.stage(at(END.sunset)), Stage::Gone);
    }

    #[test]
    fn headers_are_as_their_standards_have_them() {
        let ending = Ending { what: What::Operation(PLATFORM, "x.y"), deprecation: END };
        let [(_, since), (_, sunset), (_, link)] = ending.headers("https://cloud.example");
        assert_eq!(since.unwrap(), "@1799971200");
        assert_eq!(sunset.unwrap(), "Thu, 15 Jul 2027 00:00:00 GMT");
        assert_eq!(
            link.unwrap(),
            "<https://cloud.example/docs/changelog.json>; rel=\"deprecation\"; type=\"application/feed+json\", \
             <https://cloud.example/v1/computes>; rel=\"successor-version\""
        );
        assert!(is_at("/a/{id}/b", "/a/x/b") && !is_at("/a/{id}/b", "/a//b") && !is_at("/a", "/a/b"));
    }

    #[test]
    fn versions_that_are_gone_are_not_offered() {
        let registry = Registry::default().deprecating_version("/v1", END);
        assert_eq!(registry.versions_of(PLATFORM, instant(END.since)), "/v1");
        assert_eq!(registry.versions_of(PLATFORM, instant(END.sunset)), "none");
        assert_eq!(registry.versions_of(SANDBOX, instant(END.sunset)), "/sandbox/v1");
    }
}
