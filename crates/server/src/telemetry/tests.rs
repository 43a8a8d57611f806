//! Spans from the program's own marks to the receiver's bytes.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use nephos_testkit::{SeededEntropy, WorldClock};
use serde_json::Value as Json;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;

use super::*;

/// A receiver that takes one request, answers it, and hands over its head and body.
fn receiver() -> (String, std::thread::JoinHandle<(String, Json)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut text = Vec::new();
        let mut some = [0; 4096];
        loop {
            let head = text.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
            let length = head.and_then(|head| {
                let told = String::from_utf8_lossy(&text[..head]).to_lowercase();
                told.split("content-length: ").nth(1)?.split("\r\n").next()?.parse::<usize>().ok()
            });
            if let (Some(head), Some(length)) = (head, length)
                && text.len() >= head + length
            {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").unwrap();
                let body = serde_json::from_slice(&text[head..head + length]).unwrap();
                return (String::from_utf8_lossy(&text[..head]).into_owned(), body);
            }
            let count = stream.read(&mut some).unwrap();
            assert!(count > 0, "the request is whole");
            text.extend_from_slice(&some[..count]);
        }
    });
    (url, thread)
}

#[test]
fn spans_arrive_with_their_parents_and_attributes() {
    let (url, receiving) = receiver();
    let settings = Settings {
        url,
        headers: vec![("x-team".to_owned(), "lab".to_owned())],
        resource: vec![("service.name".to_owned(), "nephos".to_owned())],
        timeout: Duration::from_secs(10),
        sample_percent: 100,
        notes: Vec::new(),
    };
    let clock = Arc::new(WorldClock::new());
    let (exporter, spans) = Exporter::start(settings, clock, &SeededEntropy::new(1)).unwrap();
    let subscriber = tracing_subscriber::registry().with(spans.with_filter(filter_fn(is_span)));
    tracing::subscriber::with_default(subscriber, || {
        let request = tracing::info_span!(
            target: "otel", "request", otel.kind = "server", otel.name = tracing::field::Empty, trace_id = 0xabc_u128,
            parent_id = 7_u64, span_id = 9_u64, sampled = true, trace_state = "v=1", otel.status = tracing::field::Empty,
        );
        let inside = request.enter();
        drop(tracing::info_span!(target: "otel", "sql", otel.kind = "client", db.operation.batch.size = 2_u64));
        drop(tracing::info_span!("another target's is none of ours"));
        drop(inside);
        request.record("otel.name", "GET /v1/projects");
        request.record("otel.status", "error");
        drop(request);
        // Not sampled by whoever began it: neither it nor what is below.
        let quiet = tracing::info_span!(target: "otel", "request", trace_id = 5_u128, sampled = false);
        let _inside = quiet.enter();
        drop(tracing::info_span!(target: "otel", "sql"));
    });
    exporter.flush();
    let (head, body) = receiving.join().unwrap();
    assert!(head.starts_with("POST /v1/traces ") && head.contains("x-team: lab"), "{head}");
    let told = body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap();
    assert_eq!(told.len(), 2, "{body}");
    let (sql, request) = (&told[0], &told[1]);
    assert_eq!(request["name"], "GET /v1/projects");
    assert_eq!((&request["kind"], &request["status"]["code"]), (&2.into(), &2.into()));
    assert_eq!(request["traceId"], "00000000000000000000000000000abc");
    assert_eq!(
        (&request["spanId"], &request["parentSpanId"]),
        (&"0000000000000009".into(), &"0000000000000007".into())
    );
    assert_eq!(request["traceState"], "v=1");
    assert_eq!((&sql["parentSpanId"], &sql["traceId"]), (&request["spanId"], &request["traceId"]));
    assert_eq!(sql["attributes"][0]["value"]["intValue"], "2");
    assert_eq!(exporter.metrics()[0].reading, nephos_model::metric::Reading::Counter(2));
}

#[test]
fn what_finds_the_queue_full_is_dropped_and_counted() {
    let (queue, _waiting) = sync_channel(1);
    let counts = Arc::new(Counts::default());
    let spans = Spans::new(Arc::new(WorldClock::new()), &SeededEntropy::new(1), 100, queue, Arc::clone(&counts));
    let subscriber = tracing_subscriber::registry().with(spans.with_filter(filter_fn(is_span)));
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..3 {
            drop(tracing::info_span!(target: "otel", "request", trace_id = 5_u128, sampled = true));
        }
    });
    assert_eq!(counts.dropped.get(), 2);
}

#[test]
fn a_share_of_the_traces_that_begin_here() {
    let (queue, _waiting) = sync_channel(1);
    let spans = |percent| {
        Spans::new(Arc::new(WorldClock::new()), &SeededEntropy::new(1), percent, queue.clone(), Arc::default())
    };
    let sampled = |spans: &Spans| (0..10_000).filter(|_| spans.samples(spans.span_id().into())).count();
    assert_eq!((sampled(&spans(0)), sampled(&spans(100))), (0, 10_000));
    assert!((2_200..2_800).contains(&sampled(&spans(25))));
}
