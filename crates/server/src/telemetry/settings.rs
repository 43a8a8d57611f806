//! Where traces go: the configuration, and where that says nothing, the variables that OpenTelemetry has standardized.

use std::time::Duration;

/// Milliseconds that the receiver has to answer when nothing says otherwise.
const TIMEOUT_MS_DEFAULT: u64 = 10_000;
/// Milliseconds that it has at most.
const TIMEOUT_MS_MAX: u64 = 60_000;
/// Headers and attributes at most.
const PAIRS_MAX: usize = 32;

/// Where traces go, and as whose.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// The whole URL that takes spans.
    pub url: String,
    /// Headers of each request; they may hold a secret.
    pub headers: Vec<(String, String)>,
    /// Attributes of everything that is sent.
    pub resource: Vec<(String, String)>,
    /// How long the receiver has to answer.
    pub timeout: Duration,
    /// Of the traces that begin here, so many of a hundred are recorded.
    pub sample_percent: u32,
    /// What was asked for and is done otherwise, for the log.
    pub notes: Vec<String>,
}

/// Headers are never shown.
impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("url", &self.url).field("resource", &self.resource).finish_non_exhaustive()
    }
}

impl Settings {
    /// The settings; `None` when neither the configuration nor a variable names a receiver.
    pub fn read(
        endpoint: Option<&str>,
        sample_percent: u32,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Option<Self> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        if endpoint.is_none() && variable("OTEL_SDK_DISABLED").is_some_and(|v| v.eq_ignore_ascii_case("true")) {
            return None;
        }
        let below = |base: &str| format!("{}/v1/traces", base.trim_end_matches('/'));
        let url = endpoint
            .map(below)
            .or_else(|| variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))
            .or_else(|| variable("OTEL_EXPORTER_OTLP_ENDPOINT").map(|base| below(&base)))?;
        let either = |name: &str| {
            variable(&format!("OTEL_EXPORTER_OTLP_TRACES_{name}"))
                .or_else(|| variable(&format!("OTEL_EXPORTER_OTLP_{name}")))
        };
        let mut notes = Vec::new();
        if let Some(protocol) = either("PROTOCOL").filter(|protocol| protocol != "http/json") {
            notes.push(format!("OTLP is sent as http/json; {protocol} was asked for"));
        }
        if either("COMPRESSION").is_some_and(|compression| compression != "none") {
            notes.push("OTLP is sent without compression".to_owned());
        }
        let timeout_ms = either("TIMEOUT").and_then(|ms| ms.parse().ok()).unwrap_or(TIMEOUT_MS_DEFAULT);
        let mut resource = pairs(&variable("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default());
        let named = variable("OTEL_SERVICE_NAME");
        if named.is_some() || resource.iter().all(|(key, _)| key != "service.name") {
            resource.retain(|(key, _)| key != "service.name");
            resource.insert(0, ("service.name".to_owned(), named.unwrap_or_else(|| "nephos".to_owned())));
        }
        resource.retain(|(key, _)| key != "service.version");
        resource.push(("service.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()));
        Some(Self {
            url,
            headers: pairs(&either("HEADERS").unwrap_or_default()),
            resource,
            timeout: Duration::from_millis(timeout_ms.clamp(1, TIMEOUT_MS_MAX)),
            sample_percent,
            notes,
        })
    }
}

/// `key=value,key=value`, values percent-encoded as in a W3C baggage header; what is no pair is left out.
fn pairs(text: &str) -> Vec<(String, String)> {
    let pair = |entry: &str| {
        let (key, value) = entry.split_once('=')?;
        let key = key.trim();
        (!key.is_empty()).then(|| (key.to_owned(), decoded(value.trim())))
    };
    text.split(',').filter_map(pair).take(PAIRS_MAX).collect()
}

fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let byte = match (first, after) {
            (b'%', [a, b, ..]) => std::str::from_utf8(&[*a, *b]).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok()),
            _ => None,
        };
        out.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(endpoint: Option<&str>, variables: &[(&str, &str)]) -> Option<Settings> {
        Settings::read(endpoint, 100, |name| {
            variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn off_unless_somebody_names_a_receiver() {
        assert_eq!(read(None, &[("OTEL_SERVICE_NAME", "x")]), None);
        let base = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318/")];
        assert_eq!(read(None, &base).unwrap().url, "http://127.0.0.1:4318/v1/traces");
        assert_eq!(read(Some("http://own:1"), &base).unwrap().url, "http://own:1/v1/traces");
        let whole = [("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t/x"), base[0]];
        assert_eq!(read(None, &whole).unwrap().url, "http://t/x");
        assert_eq!(read(None, &[base[0], ("OTEL_SDK_DISABLED", "true")]), None);
    }

    #[test]
    fn the_standard_variables_are_honoured() {
        let settings = read(
            Some("http://127.0.0.1:4318"),
            &[
                ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20abc, x-a = 1 ,nothing"),
                ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
                ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a,deployment.environment=lab"),
                ("OTEL_SERVICE_NAME", "cloud"),
            ],
        )
        .unwrap();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(settings.headers, [pair("authorization", "Bearer abc"), pair("x-a", "1")]);
        assert_eq!(settings.timeout, Duration::from_millis(2_500));
        assert_eq!(settings.notes, ["OTLP is sent as http/json; grpc was asked for"]);
        assert_eq!(settings.resource[..2], [pair("service.name", "cloud"), pair("deployment.environment", "lab")]);
        assert!(!format!("{settings:?}").contains("abc"), "headers may hold a secret");
    }
}
