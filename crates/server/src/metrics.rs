//! Metrics and readiness details, on an address of their own: they say more than outsiders should know.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::{TokioIo, TokioTimer};
use nephos_model::metric::{Distribution, Label, Metric, Reading};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

/// Connections served at once; more wait.
const CONNECTIONS_MAX: usize = 32;
/// Time for a request's head to arrive.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);

/// What there is to tell.
#[derive(Debug)]
pub struct Report {
    /// The numbers, those of one name side by side.
    pub metrics: Vec<Metric>,
    /// Whether requests can be answered now.
    pub is_ready: bool,
    /// Each part and how it is.
    pub details: Value,
}

/// The numbers in the text form of Prometheus. Those of one name stand side by side.
pub fn text(metrics: &[Metric]) -> String {
    let mut out = String::new();
    let mut last = "";
    for m in metrics {
        let kind = match m.reading {
            Reading::Counter(_) => "counter",
            Reading::Gauge(_) => "gauge",
            Reading::Durations(_) | Reading::Sizes(_) => "histogram",
        };
        // Writing to a String can't fail.
        if m.name != last {
            _ = writeln!(out, "# HELP {} {}\n# TYPE {} {kind}", m.name, m.help, m.name);
            last = m.name;
        }
        match &m.reading {
            Reading::Counter(value) | Reading::Gauge(value) => {
                _ = writeln!(out, "{}{} {value}", m.name, labels(&m.labels, None));
            }
            Reading::Durations(distribution) => histogram(&mut out, m, distribution, seconds),
            Reading::Sizes(distribution) => histogram(&mut out, m, distribution, |size| size.to_string()),
        }
    }
    out
}

fn histogram(out: &mut String, m: &Metric, told: &Distribution, shown: fn(u64) -> String) {
    for (bound, count) in &told.buckets {
        _ = writeln!(out, "{}_bucket{} {count}", m.name, labels(&m.labels, Some(&shown(*bound))));
    }
    _ = writeln!(out, "{}_bucket{} {}", m.name, labels(&m.labels, Some("+Inf")), told.count);
    let labels = labels(&m.labels, None);
    _ = writeln!(out, "{}_sum{labels} {}\n{}_count{labels} {}", m.name, shown(told.sum), m.name, told.count);
}

/// Microseconds as seconds, exactly.
fn seconds(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn labels(labels: &[Label], bound: Option<&str>) -> String {
    let pairs = labels.iter().copied().chain(bound.map(|bound| ("le", bound)));
    let escaped = |v: &str| v.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<_> = pairs.map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) }
}

/// Memory of this process that is in RAM, in bytes.
pub fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line.and_then(|text| text.trim().split(' ').next()?.parse().ok()).unwrap_or(0);
    kib * 1024
}

/// Open file descriptors of this process.
pub fn descriptors() -> u64 {
    std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64)
}

/// Answers until `stop` turns true.
pub async fn serve<F, A>(listener: TcpListener, mut stop: watch::Receiver<bool>, report: F)
where
    F: Fn() -> A + Send + Sync + 'static,
    A: Future<Output = Report> + Send + 'static,
{
    let report = Arc::new(report);
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // Never closed.
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let Ok((stream, _)) = accepted else {
            tokio::task::yield_now().await;
            continue;
        };
        let report = Arc::clone(&report);
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let report = Arc::clone(&report);
                async move { Ok::<_, Infallible>(answer(&request, report.as_ref()).await) }
            });
            let mut server = hyper::server::conn::http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE).keep_alive(false);
            // Who hangs up early misses something; nobody else does.
            _ = server.serve_connection(TokioIo::new(stream), service).await;
            drop(slot);
        });
    }
}

async fn answer<F, A>(request: &http::Request<hyper::body::Incoming>, report: &F) -> http::Response<Full<Bytes>>
where
    F: Fn() -> A,
    A: Future<Output = Report>,
{
    let respond = |status: u16, kind: &'static str, body: String| {
        let mut response = http::Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
        response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
        response
    };
    if !matches!(*request.method(), http::Method::GET | http::Method::HEAD) {
        return respond(405, "text/plain", "only GET\n".to_owned());
    }
    match request.uri().path() {
        "/healthz" => respond(200, "text/plain", "alive\n".to_owned()),
        "/metrics" => respond(200, "text/plain; version=0.0.4; charset=utf-8", text(&report().await.metrics)),
        "/readyz" => {
            let report = report().await;
            respond(if report.is_ready { 200 } else { 503 }, "application/json", format!("{}\n", report.details))
        }
        _ => respond(404, "text/plain", "here are /metrics, /readyz and /healthz\n".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use nephos_model::metric::Histogram;

    use super::*;

    #[test]
    fn names_are_told_once_and_histograms_add_up() {
        let histogram = Histogram::new(&[1_000, 2_500_000]);
        histogram.record(900);
        histogram.record(3_000_000);
        let metrics = [
            Metric::counter("nephos_x_total", "Things.", &[("a", "b\"\n")], 1),
            Metric::counter("nephos_x_total", "Things.", &[], 2),
            Metric::durations("nephos_y_seconds", "Times.", &[("a", "c")], histogram.read()),
        ];
        let expected = "# HELP nephos_x_total Things.\n# TYPE nephos_x_total counter\nnephos_x_total{a=\"b\\\"\\n\"} 1\n\
            nephos_x_total 2\n# HELP nephos_y_seconds Times.\n# TYPE nephos_y_seconds histogram\n\
            nephos_y_seconds_bucket{a=\"c\",le=\"0.001\"} 1\nnephos_y_seconds_bucket{a=\"c\",le=\"2.5\"} 1\n\
            nephos_y_seconds_bucket{a=\"c\",le=\"+Inf\"} 2\nnephos_y_seconds_sum{a=\"c\"} 3.0009\n\
            nephos_y_seconds_count{a=\"c\"} 2\n";
        assert_eq!(text(&metrics), expected);
        assert!(resident_bytes() > 0 && descriptors() > 0);
    }
}
