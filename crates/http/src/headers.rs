//! What request headers say: media types, credentials, preferences, entity tags.

use http::{HeaderMap, header};
use nephos_model::id::EventId;
use nephos_model::trace::TraceContext;
use nephos_model::{Detail, Fault};

/// Characters in a client's own request id at most.
pub const CLIENT_REQUEST_ID_CHARS_MAX: usize = 128;
/// Entity tags in one header at most.
pub const TAGS_MAX: usize = 32;

/// Why there is no credential in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoCredential {
    /// There is no `Authorization` header.
    Missing,
    /// There is one that is not `Bearer` and one token.
    Malformed,
}

/// The credential of `Authorization: Bearer …` (RFC 6750).
///
/// # Errors
/// When the header is missing, sent twice, of another scheme, or holds no token.
pub fn bearer(headers: &HeaderMap) -> Result<&str, NoCredential> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(NoCredential::Missing)?;
    if values.next().is_some() {
        return Err(NoCredential::Malformed);
    }
    let text = value.to_str().map_err(|_| NoCredential::Malformed)?;
    let (scheme, token) = text.split_once(' ').ok_or(NoCredential::Malformed)?;
    let token = token.trim_matches(' ');
    let fine =
        scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic());
    if fine { Ok(token) } else { Err(NoCredential::Malformed) }
}

/// The trace that a request continues; `None` when it names none, or not in the way of W3C Trace Context.
pub fn trace(headers: &HeaderMap) -> Option<TraceContext> {
    let mut parents = headers.get_all("traceparent").iter();
    let parent = parents.next()?.to_str().ok()?;
    if parents.next().is_some() {
        return None;
    }
    // A state that is no text is as an invalid one: left out alone.
    let states = headers.get_all("tracestate").iter().map(|value| value.to_str().unwrap_or("?"));
    TraceContext::read(parent, states)
}

/// The client's own id of the request, when it is one: 1 to 128 visible ASCII characters.
pub fn client_request_id(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get("x-request-id")?.to_str().ok()?;
    let fine = (1..=CLIENT_REQUEST_ID_CHARS_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    fine.then_some(text)
}

/// The media type of JSON.
pub const JSON: &str = "application/json";

/// Which of the media types in which there is an answer `Accept` (RFC 9110) asks for: JSON, or one of `forms`. Of two that
/// are wanted alike it is JSON, unless `by_default` is another; none is a 406.
pub fn chosen(headers: &HeaderMap, forms: &[&'static str], by_default: &'static str) -> Option<&'static str> {
    let mut best: Option<(&'static str, u16)> = None;
    for media in [by_default, JSON].into_iter().chain(forms.iter().copied()) {
        let weight = weight(headers, media);
        if weight > best.map_or(0, |(_, weight)| weight) {
            best = Some((media, weight));
        }
    }
    best.map(|(media, _)| media)
}

/// How much a media type is wanted, in thousandths; 0 is not at all. The most specific range that matches decides.
fn weight(headers: &HeaderMap, wanted: &str) -> u16 {
    let mut any = false;
    let mut best: Option<(u8, u16)> = None;
    let group = wanted.split('/').next().unwrap_or_default();
    for value in headers.get_all(header::ACCEPT) {
        let Ok(text) = value.to_str() else { return 0 };
        for range in text.split(',').map(str::trim).filter(|range| !range.is_empty()) {
            any = true;
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            let rank = match media {
                "*/*" => 1,
                m if m.strip_suffix("/*").is_some_and(|m| m.eq_ignore_ascii_case(group)) => 2,
                m if m.eq_ignore_ascii_case(wanted) => 3,
                _ => continue,
            };
            let weight = parts.find_map(|p| p.strip_prefix("q=").or_else(|| p.strip_prefix("Q=")));
            let weight = weight.map_or(1_000, thousandths);
            if best.is_none_or(|(r, _)| rank > r) {
                best = Some((rank, weight));
            }
        }
    }
    best.map_or(if any { 0 } else { 1_000 }, |(_, weight)| weight)
}

/// A weight such as `0.8`, with three decimals at most; what is none is no wish.
fn thousandths(text: &str) -> u16 {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let fits = matches!(whole, "0" | "1") && decimals.len() <= 3 && decimals.bytes().all(|b| b.is_ascii_digit());
    if !fits {
        return 0;
    }
    let decimals = format!("{decimals:0<3}").parse().unwrap_or(0);
    (if whole == "1" { 1_000 } else { decimals }).min(1_000)
}

/// The `Content-Type` of a form.
pub fn content_type(form: &'static str) -> header::HeaderValue {
    header::HeaderValue::from_static(match form {
        crate::reply::OPEN_METRICS => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        form => form,
    })
}

/// Whether `Accept` names server-sent events: a wildcard is not enough.
pub fn asks_for_events(headers: &HeaderMap) -> bool {
    let ranges = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    ranges.flat_map(|text| text.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_stream = parts.next().is_some_and(|media| media.eq_ignore_ascii_case("text/event-stream"));
        let weight = parts.find_map(|p| p.strip_prefix("q=").or_else(|| p.strip_prefix("Q=")));
        is_stream && weight.is_none_or(|q| q.parse::<f32>().is_ok_and(|q| q > 0.0))
    })
}

/// `Last-Event-ID`, which a client sends that goes on with a stream; empty is none.
pub fn last_event_id(headers: &HeaderMap) -> Result<Option<String>, Fault> {
    const NAME: &str = "last-event-id";
    let Some(value) = headers.get(NAME) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    if value.is_empty() {
        return Ok(None);
    }
    if text.parse::<EventId>().is_err() {
        let message = "The header Last-Event-ID must be the id of an event, evt_ and 26 characters.";
        return Err(Fault::bad(Detail::header(NAME, "invalid_value", message)));
    }
    Ok(Some(text.to_owned()))
}

/// Whether `Content-Type` is JSON in UTF-8.
pub fn sends_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let Ok(text) = value.to_str() else { return false };
    let mut parts = text.split(';').map(str::trim);
    let json = parts.next().is_some_and(|media| media.eq_ignore_ascii_case("application/json"));
    json && parts.filter(|p| !p.is_empty()).all(|p| {
        p.split_once('=').is_none_or(|(name, value)| {
            !name.eq_ignore_ascii_case("charset") || value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        })
    })
}

/// Whether the body is sent as it is, in no `Content-Encoding`.
pub fn sends_plain(headers: &HeaderMap) -> bool {
    headers.get_all(header::CONTENT_ENCODING).iter().all(|value| value.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// 415 for a compressed body.
pub fn unsupported_encoding() -> Fault {
    let detail = Detail::header("content-encoding", "unsupported", "Send the body without Content-Encoding.");
    Fault {
        details: vec![detail],
        ..Fault::new(nephos_model::Code::UnsupportedMediaType, "A body must be sent as it is, not compressed.")
    }
}

/// The first value of a preference (RFC 7240) that was sent; what can't be read is no preference.
fn preference<'a>(headers: &'a HeaderMap, wanted: &str) -> Option<&'a str> {
    let texts = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).find_map(|preference| {
        let plain = preference.split(';').next().unwrap_or_default();
        let (name, value) = plain.split_once('=').unwrap_or((plain, ""));
        name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim().trim_matches('"'))
    })
}

/// Whether the client prefers an envelope around everything: `Prefer: envelope=always`.
pub fn prefers_envelope(headers: &HeaderMap) -> bool {
    preference(headers, "envelope").is_some_and(|value| value.eq_ignore_ascii_case("always"))
}

/// Seconds for which the client prefers to wait for the end of what it asks: `Prefer: wait=N`, at most `max_s`.
pub fn prefers_wait(headers: &HeaderMap, max_s: u32) -> Option<u32> {
    let value = preference(headers, "wait")?;
    let is_number = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    // A number beyond 32 bits is longer than the longest wait as well.
    is_number.then(|| value.parse::<u32>().map_or(max_s, |seconds| seconds.min(max_s)))
}

/// What `If-Match` or `If-None-Match` say (RFC 9110).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tags {
    /// `*`: any state of the resource.
    Any,
    /// These states; weak ones are marked.
    These(Vec<Tag>),
}

/// One entity tag with its quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// The tag with its quotes.
    pub opaque: String,
    /// Whether it began with `W/`.
    pub weak: bool,
}

impl Tags {
    /// The tags of a header, if it was sent.
    ///
    /// # Errors
    /// When it is not a list of entity tags.
    pub fn read(headers: &HeaderMap, name: &'static str) -> Result<Option<Self>, Detail> {
        let mut tags = Vec::new();
        let mut any = false;
        for value in headers.get_all(name) {
            let text = value.to_str().map_err(|_| Self::malformed(name))?;
            if text.trim() == "*" {
                any = true;
                continue;
            }
            // No tag of ours holds a comma, so a list can be cut at commas.
            for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
                let (weak, opaque) = part.strip_prefix("W/").map_or((false, part), |rest| (true, rest));
                let inner = opaque.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
                if inner.is_none_or(|inner| inner.contains('"')) || tags.len() == TAGS_MAX {
                    return Err(Self::malformed(name));
                }
                tags.push(Tag { opaque: opaque.to_owned(), weak });
            }
        }
        // Whoever sends a condition without a tag has lost it, and must not be taken for one that set none.
        match (any, tags.is_empty()) {
            (true, _) => Ok(Some(Self::Any)),
            (false, false) => Ok(Some(Self::These(tags))),
            (false, true) if headers.contains_key(name) => Err(Self::malformed(name)),
            (false, true) => Ok(None),
        }
    }

    fn malformed(name: &'static str) -> Detail {
        Detail::header(
            name,
            "invalid_value",
            format!("The header {name} must be * or entity tags in double quotes, such as \"7\"."),
        )
    }

    /// Strong comparison, for `If-Match`.
    pub fn matches_strongly(&self, etag: &str) -> bool {
        match self {
            Self::Any => true,
            Self::These(tags) => tags.iter().any(|tag| !tag.weak && tag.opaque == etag),
        }
    }

    /// Weak comparison, for `If-None-Match`.
    pub fn matches_weakly(&self, etag: &str) -> bool {
        match self {
            Self::Any => true,
            Self::These(tags) => tags.iter().any(|tag| tag.opaque == etag),
        }
    }

    /// The versions that `If-Match` allows: those tags of it that can be one of ours.
    pub fn versions(&self) -> Option<Vec<i64>> {
        match self {
            Self::Any => None,
            Self::These(tags) => {
                let ours = tags.iter().filter(|tag| !tag.weak);
                Some(ours.filter_map(|tag| tag.opaque.trim_matches('"').parse().ok()).collect())
            }
        }
    }
}

/// 406.
pub fn not_acceptable() -> Fault {
    Fault {
        details: vec![Detail::header(
            "accept",
            "not_acceptable",
            "Send Accept: application/json, or leave the header out.",
        )],
        ..Fault::new(
            nephos_model::Code::NotAcceptable,
            "This operation answers in JSON only, which Accept does not allow.",
        )
    }
}

/// 415.
pub fn unsupported_media_type() -> Fault {
    Fault {
        details: vec![Detail::header("content-type", "unsupported", "Send Content-Type: application/json.")],
        ..Fault::new(
            nephos_model::Code::UnsupportedMediaType,
            "A body must be sent as JSON, with Content-Type: application/json.",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn headers(name: &'static str, values: &[&str]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for value in values {
            map.append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        map
    }

    #[test]
    fn credentials() {
        for good in ["Bearer abc", "bearer abc", "BEARER  abc "] {
            assert_eq!(bearer(&headers("authorization", &[good])), Ok("abc"), "{good}");
        }
        for bad in ["", "Bearer", "Bearer ", "Basic abc", "Bearer a b", "Bearer é", "Bearer\tabc"] {
            assert_eq!(bearer(&headers("authorization", &[bad])), Err(NoCredential::Malformed), "{bad}");
        }
        assert_eq!(bearer(&headers("authorization", &["Bearer a", "Bearer a"])), Err(NoCredential::Malformed));
        assert_eq!(bearer(&HeaderMap::new()), Err(NoCredential::Missing));
    }

    #[test]
    fn accept() {
        for good in [
            "*/*",
            "application/json",
            "application/*;q=0.1",
            "text/html, APPLICATION/JSON;q=0.5",
            "",
            "text/html,*/*;q=0.8",
        ] {
            assert_eq!(chosen(&headers("accept", &[good]), &[], JSON), Some(JSON), "{good}");
        }
        for bad in ["text/html", "application/json;q=0", "application/json;q=0, */*", "json", "text/event-stream"] {
            assert_eq!(chosen(&headers("accept", &[bad]), &[], JSON), None, "{bad}");
        }
        assert_eq!(chosen(&HeaderMap::new(), &["text/csv"], JSON), Some(JSON));
    }

    #[test]
    fn another_form_is_for_who_asks_for_it() {
        let of = |accept: &str| chosen(&headers("accept", &[accept]), &["text/csv", "text/html"], JSON);
        assert_eq!(of("text/csv"), Some("text/csv"));
        assert_eq!(of("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"), Some("text/html"));
        assert_eq!(of("text/csv;q=0.5, application/json"), Some(JSON));
        assert_eq!(of("text/csv;q=0.5, application/json;q=0.49"), Some("text/csv"));
        assert_eq!(of("*/*"), Some(JSON));
        assert_eq!(of("text/*"), Some("text/csv"));
        assert_eq!(of("text/csv;q=0, */*;q=0.1"), Some(JSON));
        assert_eq!(of("image/png"), None);
    }

    #[test]
    fn a_stream_is_asked_for_by_name() {
        for good in ["text/event-stream", "application/json, Text/Event-Stream;q=0.5"] {
            assert!(asks_for_events(&headers("accept", &[good])), "{good}");
        }
        for bad in ["*/*", "text/*", "application/json", "text/event-stream;q=0"] {
            assert!(!asks_for_events(&headers("accept", &[bad])), "{bad}");
        }
        let id = "evt_01kf0rdqg0fxvvh1fb3wvjkqxh";
        assert_eq!(last_event_id(&headers("last-event-id", &[id])).unwrap().as_deref(), Some(id));
        assert_eq!(last_event_id(&headers("last-event-id", &[""])).unwrap(), None);
        assert!(last_event_id(&headers("last-event-id", &["7"])).is_err());
    }

    #[test]
    fn content_type() {
        for good in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/json;charset=\"utf-8\"",
            "application/json; x=y",
        ] {
            assert!(sends_json(&headers("content-type", &[good])), "{good}");
        }
        for bad in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/json; charset=utf-16",
            "application/jsonx",
            "",
        ] {
            assert!(!sends_json(&headers("content-type", &[bad])), "{bad}");
        }
        assert!(!sends_json(&HeaderMap::new()));
    }

    #[test]
    fn preferences() {
        for good in ["envelope=always", "respond-async, Envelope=\"always\"; foo", "wait=10,envelope = always"] {
            assert!(prefers_envelope(&headers("prefer", &[good])), "{good}");
        }
        assert!(prefers_envelope(&headers("prefer", &["a", "envelope=always"])));
        for (text, seconds) in [("wait=5", Some(5)), ("a, WAIT = \"31\"", Some(30)), ("wait=0", Some(0))] {
            assert_eq!(prefers_wait(&headers("prefer", &[text]), 30), seconds, "{text}");
        }
        for (text, seconds) in [("wait=99999999999", Some(30)), ("wait", None), ("wait=-1", None), ("wait=1.5", None)] {
            assert_eq!(prefers_wait(&headers("prefer", &[text]), 30), seconds, "{text}");
        }
        for bad in ["envelope", "envelope=never", "envelopes=always"] {
            assert!(!prefers_envelope(&headers("prefer", &[bad])), "{bad}");
        }
    }

    #[test]
    fn entity_tags() {
        let read = |values: &[&str]| Tags::read(&headers("if-match", values), "if-match");
        let tags = read(&["\"1\", W/\"2\"", "\"x\""]).unwrap().unwrap();
        assert!(tags.matches_strongly("\"1\"") && !tags.matches_strongly("\"2\"") && tags.matches_weakly("\"2\""));
        assert_eq!(tags.versions(), Some(vec![1]));
        assert_eq!(read(&["*"]).unwrap(), Some(Tags::Any));
        assert_eq!(read(&[]).unwrap(), None);
        for bad in ["", " , ", "1", "\"1", "\"1\" \"2\"", "w/\"1\"", "W/1"] {
            assert!(read(&[bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn client_ids() {
        assert_eq!(client_request_id(&headers("x-request-id", &["abc-1"])), Some("abc-1"));
        for bad in ["", "a b", &"a".repeat(129), "é"] {
            assert_eq!(client_request_id(&headers("x-request-id", &[bad])), None, "{bad}");
        }
    }
}
