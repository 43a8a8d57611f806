//! Log lines, on the standard error. A line that is about a request has its id, wherever in the program it comes from.

use std::fmt;

use nephos_model::id::Id as _;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry};

use crate::config::{LogFormat, LogLevel};
use crate::telemetry::{Spans, is_span};

/// What is logged, and how.
#[derive(Debug, Clone, Copy)]
pub struct Logging {
    /// How lines look.
    pub format: LogFormat,
    /// From which severity on there are lines. Those of libraries begin at `warn`.
    pub level: LogLevel,
    /// Whether each request leaves a line at any level.
    pub access: bool,
}

/// Sends log lines to the standard error from here on, and spans to `spans`.
pub fn start(logging: Logging, spans: Option<Spans>) {
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt::layer::<Registry>().with_writer(std::io::stderr);
    let lines = match logging.format {
        LogFormat::Text => {
            let format = OfRequest { format: Format::default().with_ansi(colours), is_json: false };
            lines.with_ansi(colours).event_format(format).with_filter(filter(logging)).boxed()
        }
        LogFormat::Json => {
            let format = Format::default().json().flatten_event(true).with_current_span(false).with_span_list(false);
            let fields = tracing_subscriber::fmt::format::JsonFields::new();
            let format = OfRequest { format, is_json: true };
            lines.fmt_fields(fields).event_format(format).with_filter(filter(logging)).boxed()
        }
    };
    let registry = tracing_subscriber::registry().with(lines);
    // Only a second call in the same process can fail, and then the first one's choice stays. An absent layer is left
    // out, since one that is there and is `None` would turn everything off.
    _ = match spans {
        Some(spans) => registry.with(spans.with_filter(filter_fn(is_span))).try_init(),
        None => registry.try_init(),
    };
}

fn filter(logging: Logging) -> EnvFilter {
    let own = ["nephos", "nephos_control", "nephos_driver", "nephos_http", "nephos_store"];
    let mut directives: Vec<String> = own.iter().map(|target| format!("{target}={}", logging.level.as_str())).collect();
    // Lines of requests are at debug. The target of spans is never a line's.
    if logging.access && !matches!(logging.level, LogLevel::Debug | LogLevel::Trace) {
        directives.push("nephos::access=debug".to_owned());
    }
    EnvFilter::new(format!("warn,{}", directives.join(",")))
}

/// Another format's line, with the id of the request that the work under way belongs to.
struct OfRequest<F> {
    format: F,
    is_json: bool,
}

impl<S, N, F> FormatEvent<S, N> for OfRequest<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let Some(id) = nephos_control::scope::request() else {
            return self.format.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.format.format_event(context, Writer::new(&mut line), event)?;
        writer.write_str(&with_request(line, self.is_json, &id.raw().to_uuid()))
    }
}

/// A line with the request's id at its end, unless it tells it already.
fn with_request(mut line: String, is_json: bool, id: &str) -> String {
    if event_tells(&line, id) {
        return line;
    }
    let end = line.trim_end().len();
    if is_json && line[..end].ends_with('}') {
        line.insert_str(end - 1, &format!(",\"request_id\":\"{id}\""));
    } else {
        line.insert_str(end, &format!(" request_id={id}"));
    }
    line
}

fn event_tells(line: &str, id: &str) -> bool {
    line.contains("request_id") && line.contains(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_its_request_once() {
        let text = |line: &str, is_json| with_request(line.to_owned(), is_json, "0188");
        assert_eq!(text("WARN x: y\n", false), "WARN x: y request_id=0188\n");
        assert_eq!(text("{\"a\":1}\n", true), "{\"a\":1,\"request_id\":\"0188\"}\n");
        assert_eq!(text("{\"request_id\":\"0188\"}\n", true), "{\"request_id\":\"0188\"}\n");
    }
}
