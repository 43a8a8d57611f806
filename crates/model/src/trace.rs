//! Trace contexts as W3C Trace Context has them: which trace a request belongs to, and under which span.
//!
//! A trace that begins here needs no randomness of its own: its id is the request's, so that a request id finds its
//! trace. Deliberately not here: spans and where they are sent.

use std::fmt;
use std::fmt::Write as _;

use crate::id::{Id as _, RequestId};

/// Entries of `tracestate` at most.
pub const STATE_ENTRIES_MAX: usize = 32;
/// Characters of `tracestate` that are kept at most; the longest entries go first, then the last.
pub const STATE_CHARS_MAX: usize = 512;
/// Characters of an entry from which on it goes first.
const STATE_ENTRY_LONG_CHARS: usize = 128;

const SAMPLED: u8 = 1;

/// Which trace something belongs to, and the span that it is under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: u128,
    span_id: u64,
    is_sampled: bool,
    state: String,
}

impl TraceContext {
    /// A trace that begins with a request: the request's id is the trace's, its last 64 bits the span's.
    pub fn begun(request: RequestId) -> Self {
        let raw = request.raw();
        // The variant bits of a UUID are never all zero.
        let trace_id = u128::from_be_bytes(raw.to_bytes());
        Self { trace_id, span_id: raw.low(), is_sampled: true, state: String::new() }
    }

    /// What the headers `traceparent` and `tracestate` of a request carry; `None` when there is no valid `traceparent`.
    ///
    /// As the recommendation has it, one invalid part of `traceparent` makes all of it invalid and `tracestate` with it,
    /// and an invalid `tracestate` is left out alone. A higher version is read as version 00.
    pub fn read<'a>(traceparent: &str, tracestates: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let (version, rest) = traceparent.split_at_checked(2)?;
        let version = hex(version)?;
        let rest = rest.strip_prefix('-')?;
        let (trace, rest) = rest.split_at_checked(32)?;
        let (span, rest) = rest.strip_prefix('-')?.split_at_checked(16)?;
        let (flags, rest) = rest.strip_prefix('-')?.split_at_checked(2)?;
        let fits = if version == 0 { rest.is_empty() } else { rest.is_empty() || rest.starts_with('-') };
        let (trace_id, span_id, flags) =
            (hex(trace)?, u64::try_from(hex(span)?).ok()?, u8::try_from(hex(flags)?).ok()?);
        if version == 0xff || !fits || trace_id == 0 || span_id == 0 {
            return None;
        }
        let state = read_state(tracestates).unwrap_or_default();
        Some(Self { trace_id, span_id, is_sampled: flags & SAMPLED != 0, state })
    }

    /// What [`TraceContext::to_text`] wrote.
    pub fn from_text(text: &str) -> Option<Self> {
        let (parent, state) = text.split_once(' ').unwrap_or((text, ""));
        Self::read(parent, [state])
    }

    /// `traceparent`, and after a space `tracestate` when there is one.
    pub fn to_text(&self) -> String {
        let mut out = self.to_string();
        if !self.state.is_empty() {
            let _ = write!(out, " {}", self.state);
        }
        out
    }

    /// The same trace, under the span that stands for a request here.
    #[must_use]
    pub fn within(mut self, request: RequestId) -> Self {
        self.span_id = request.raw().low();
        self
    }

    /// The trace's id; never zero.
    pub fn trace_id(&self) -> u128 {
        self.trace_id
    }

    /// The span's id; never zero.
    pub fn span_id(&self) -> u64 {
        self.span_id
    }

    /// Whether whoever began the trace records it.
    pub fn is_sampled(&self) -> bool {
        self.is_sampled
    }

    /// What other systems wrote about the trace: the value of `tracestate`, at most [`STATE_CHARS_MAX`] characters.
    pub fn state(&self) -> &str {
        &self.state
    }
}

/// The value of `traceparent`.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.is_sampled))
    }
}

/// Lower-case hexadecimal digits only.
fn hex(text: &str) -> Option<u128> {
    let is_hex = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if is_hex { u128::from_str_radix(text, 16).ok() } else { None }
}

fn read_state<'a>(values: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut entries: Vec<(&str, &str)> = Vec::new();
    for entry in values.into_iter().flat_map(|value| value.split(',')) {
        let entry = entry.trim_matches([' ', '\t']);
        if entry.is_empty() {
            continue;
        }
        let (key, value) = entry.split_once('=')?;
        let is_twice = entries.iter().any(|(known, _)| *known == key);
        if !is_state_key(key) || !is_state_value(value) || is_twice || entries.len() == STATE_ENTRIES_MAX {
            return None;
        }
        entries.push((key, value));
    }
    let chars = |(key, value): &(&str, &str)| key.len() + 1 + value.len();
    let total = |entries: &[(&str, &str)]| entries.iter().map(chars).sum::<usize>() + entries.len().saturating_sub(1);
    while total(&entries) > STATE_CHARS_MAX {
        let long = entries.iter().rposition(|entry| chars(entry) > STATE_ENTRY_LONG_CHARS);
        entries.remove(long.unwrap_or(entries.len() - 1));
    }
    let texts: Vec<_> = entries.iter().map(|(key, value)| format!("{key}={value}")).collect();
    Some(texts.join(","))
}

fn is_state_key(key: &str) -> bool {
    let is_word = |text: &str, max: usize| {
        (1..=max).contains(&text.len())
            && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/'))
    };
    let begins = |text: &str, with_digit: bool| {
        text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || (with_digit && b.is_ascii_digit()))
    };
    match key.split_once('@') {
        None => is_word(key, 256) && begins(key, true),
        Some((tenant, system)) => {
            is_word(tenant, 241) && begins(tenant, true) && is_word(system, 14) && begins(system, false)
        }
    }
}

fn is_state_value(value: &str) -> bool {
    let is_in = |b: u8| (b' '..=b'~').contains(&b) && b != b',' && b != b'=';
    (1..=256).contains(&value.len()) && value.bytes().all(is_in) && !value.ends_with(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_valid_is_continued() {
        let read = TraceContext::read(PARENT, ["vendor=a:b, t1@sys=x", " other=1 "]).unwrap();
        assert_eq!(read.to_text(), format!("{PARENT} vendor=a:b,t1@sys=x,other=1"));
        assert_eq!(TraceContext::from_text(&read.to_text()).unwrap(), read);
        let unsampled = TraceContext::read(&PARENT.replace("-01", "-02"), []).unwrap();
        assert!(!unsampled.is_sampled() && unsampled.state().is_empty());
        // A version to come may say more, and what is known of it is read.
        for later in [PARENT.replacen("00", "01", 1), format!("{}-what", PARENT.replacen("00", "cc", 1))] {
            assert_eq!(TraceContext::read(&later, []).unwrap().trace_id(), read.trace_id(), "{later}");
        }
    }

    #[test]
    fn what_is_invalid_is_as_if_it_were_not_there() {
        let zeros = |from: &str| PARENT.replace(from, &"0".repeat(from.len()));
        for bad in [
            String::new(),
            "00".to_owned(),
            "é0-x".to_owned(),
            PARENT.to_uppercase(),
            PARENT.replacen("00", "ff", 1),
            PARENT.replacen("00", "0g", 1),
            format!("{PARENT}-more"),
            format!("{}more", PARENT.replacen("00", "01", 1)),
            zeros("4bf92f3577b34da6a3ce929d0e0e4736"),
            zeros("00f067aa0ba902b7"),
            PARENT.replace("-01", "-1"),
            PARENT.replace("-01", "-+1"),
            PARENT.replace('-', "_"),
            format!(" {PARENT}"),
        ] {
            assert_eq!(TraceContext::read(&bad, ["a=b"]), None, "{bad}");
        }
        for bad in ["a", "A=b", "a=b,a=c", "a=b=c", "a=", "@a=b", "a@1=b", "a=b\u{7f}"] {
            let read = TraceContext::read(PARENT, [bad]).unwrap();
            assert_eq!(read.state(), "", "{bad}");
        }
        let many = (0..=STATE_ENTRIES_MAX).map(|i| format!("k{i}=v")).collect::<Vec<_>>().join(",");
        assert_eq!(TraceContext::read(PARENT, [many.as_str()]).unwrap().state(), "");
    }

    #[test]
    fn a_long_state_loses_its_longest_entries_first() {
        let long = format!("long={}", "x".repeat(200));
        let short = (0..20).map(|i| format!("key{i}={}", "y".repeat(14))).collect::<Vec<_>>().join(",");
        let read = TraceContext::read(PARENT, [long.as_str(), &short]).unwrap();
        assert_eq!(read.state(), short);
        let read = TraceContext::read(
            PARENT,
            [short.as_str(), "more=1234567890123456789012345678901234567890", &short.replace("key", "sec")],
        );
        assert!(read.unwrap().state().len() <= STATE_CHARS_MAX);
    }

    #[test]
    fn a_trace_begins_with_its_request() {
        let id: RequestId = RequestId::from_raw(crate::id::Raw::from_bytes([0x81; 16]));
        let begun = TraceContext::begun(id);
        assert_eq!(begun.to_string(), format!("00-{}-{}-01", "81".repeat(16), "81".repeat(8)));
        let continued = TraceContext::read(PARENT, []).unwrap().within(id);
        assert_eq!((continued.trace_id() >> 124, continued.span_id()), (4, begun.span_id()));
    }
}
