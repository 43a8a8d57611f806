//! Traces on their way out: a layer that makes spans of what the program marks as such, and a thread that sends them over
//! OTLP/HTTP in JSON.
//!
//! Off by default, and then there is neither layer nor thread. Nothing ever waits for the receiver: a span that finds the
//! queue full is dropped and counted. Deliberately not here: what is a span; see `nephos_control::scope::SPANS`.

mod encode;
mod send;
mod settings;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};

use nephos_model::metric::{Counter, Metric};
use nephos_model::{Clock, Entropy, Timestamp};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Metadata, Subscriber};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

pub use send::Exporter;
pub use settings::Settings;

/// Spans that wait to be sent, at most.
pub const QUEUE_MAX: usize = 4_096;
/// Attributes of one span at most.
const ATTRIBUTES_MAX: usize = 32;
/// Characters of an attribute's text at most.
const TEXT_CHARS_MAX: usize = 512;

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Text(String),
    Integer(i64),
    Flag(bool),
}

/// A span, under way or ended.
#[derive(Debug, Clone)]
#[allow(clippy::struct_field_names)] // as the specification calls it
struct Span {
    trace_id: u128,
    span_id: u64,
    parent_id: Option<u64>,
    state: String,
    is_sampled: bool,
    name: String,
    kind: Kind,
    is_error: bool,
    began: Timestamp,
    ended: Timestamp,
    attributes: Vec<(&'static str, Value)>,
}

/// What a span is to the other side of a call, with its number in OTLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Internal = 1,
    Server = 2,
    Client = 3,
}

enum Message {
    Ended(Box<Span>),
    /// Send what waits, then say so.
    Flush(SyncSender<()>),
}

/// What became of spans.
#[derive(Debug, Default)]
struct Counts {
    sent: Counter,
    dropped: Counter,
    failed: Counter,
}

impl Counts {
    fn metrics(&self) -> Vec<Metric> {
        let outcomes = [("sent", &self.sent), ("dropped", &self.dropped), ("failed", &self.failed)];
        let metric = |(outcome, counter): (&'static str, &Counter)| {
            Metric::counter("nephos_spans_total", "Spans of traces.", &[("outcome", outcome)], counter.get())
        };
        outcomes.map(metric).to_vec()
    }
}

/// Makes spans of the program's own.
pub struct Spans {
    clock: Arc<dyn Clock>,
    /// Mixed into an id for each span below the request's.
    seed: u64,
    next: AtomicU64,
    sample_percent: u32,
    queue: SyncSender<Message>,
    counts: Arc<Counts>,
}

impl Spans {
    fn new(
        clock: Arc<dyn Clock>,
        entropy: &dyn Entropy,
        sample_percent: u32,
        queue: SyncSender<Message>,
        counts: Arc<Counts>,
    ) -> Self {
        let seed = (u64::from(entropy.u32()) << 32) | u64::from(entropy.u32());
        Self { clock, seed, next: AtomicU64::new(1), sample_percent, queue, counts }
    }

    /// An id that no other span has: a counter through a mixing bijection (SplitMix64), never zero.
    fn span_id(&self) -> u64 {
        let mut z =
            self.seed.wrapping_add(self.next.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).max(1)
    }

    /// Whether a trace that begins here is recorded: decided by its id, so that all of it is or nothing.
    fn samples(&self, trace_id: u128) -> bool {
        // The low bits of a UUIDv7 are random.
        (trace_id & 0xffff_ffff) * 100 < u128::from(self.sample_percent) << 32
    }
}

/// What the fields of a span say.
#[derive(Debug, Default)]
struct Said {
    trace_id: Option<u128>,
    span_id: Option<u64>,
    parent_id: Option<u64>,
    sampled: Option<bool>,
    state: Option<String>,
    name: Option<String>,
    kind: Option<Kind>,
    is_error: bool,
    attributes: Vec<(&'static str, Value)>,
}

impl Said {
    fn text(&mut self, field: &Field, text: String) {
        match field.name() {
            "otel.name" => self.name = Some(text),
            "otel.kind" => {
                self.kind = Some(match text.as_str() {
                    "server" => Kind::Server,
                    "client" => Kind::Client,
                    _ => Kind::Internal,
                });
            }
            "otel.status" => self.is_error = text == "error",
            "trace_state" => self.state = Some(text),
            name => self.attributes.push((name, Value::Text(text.chars().take(TEXT_CHARS_MAX).collect()))),
        }
    }
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.text(field, format!("{value:?}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "span_id" => self.span_id = Some(value),
            "parent_id" => self.parent_id = Some(value),
            name => self.attributes.push((name, Value::Integer(i64::try_from(value).unwrap_or(i64::MAX)))),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.attributes.push((field.name(), Value::Integer(value)));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        match field.name() {
            "trace_id" => self.trace_id = Some(value),
            _ => self.text(field, value.to_string()),
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        match field.name() {
            "sampled" => self.sampled = Some(value),
            name => self.attributes.push((name, Value::Flag(value))),
        }
    }
}

impl Span {
    fn take(&mut self, said: Said) {
        self.trace_id = said.trace_id.unwrap_or(self.trace_id);
        self.span_id = said.span_id.unwrap_or(self.span_id);
        self.parent_id = said.parent_id.or(self.parent_id);
        self.is_sampled = said.sampled.unwrap_or(self.is_sampled);
        self.kind = said.kind.unwrap_or(self.kind);
        self.is_error |= said.is_error;
        if let Some(state) = said.state {
            self.state = state;
        }
        if let Some(name) = said.name {
            self.name = name;
        }
        let room = ATTRIBUTES_MAX.saturating_sub(self.attributes.len());
        self.attributes.extend(said.attributes.into_iter().take(room));
    }
}

/// Whether something is a span of a trace.
pub fn is_span(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target() == nephos_control::scope::SPANS
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> tracing_subscriber::Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut said = Said::default();
        attributes.record(&mut said);
        let above = span.parent().and_then(|parent| {
            let extensions = parent.extensions();
            extensions.get::<Span>().map(|p| (p.trace_id, p.span_id, p.is_sampled, p.state.clone()))
        });
        let span_id = self.span_id();
        let began = self.clock.now();
        let (trace_id, parent_id, is_sampled, state) = if let Some((trace_id, parent_id, is_sampled, state)) = above {
            (trace_id, Some(parent_id), is_sampled, state)
        } else {
            // What belongs to no request has a trace of its own.
            let trace_id = (u128::from(self.seed ^ span_id) << 64) | u128::from(span_id);
            (trace_id, None, self.samples(said.trace_id.unwrap_or(trace_id)), String::new())
        };
        let mut made = Span {
            trace_id,
            span_id,
            parent_id,
            state,
            is_sampled,
            name: attributes.metadata().name().to_owned(),
            kind: Kind::Internal,
            is_error: false,
            began,
            ended: began,
            attributes: Vec::new(),
        };
        made.take(said);
        span.extensions_mut().insert(made);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut said = Said::default();
        values.record(&mut said);
        if said.trace_id.is_some() && said.sampled.is_none() {
            said.sampled = said.trace_id.map(|trace_id| self.samples(trace_id));
        }
        if let Some(known) = span.extensions_mut().get_mut::<Span>() {
            known.take(said);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let Some(mut ended) = span.extensions_mut().remove::<Span>() else { return };
        if !ended.is_sampled {
            return;
        }
        ended.ended = self.clock.now().max(ended.began);
        match self.queue.try_send(Message::Ended(Box::new(ended))) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.counts.dropped.one(),
        }
    }
}

#[cfg(test)]
mod tests;
