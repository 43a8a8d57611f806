//! Traces as a receiver gets them, and numbers as Prometheus does: from a client's own span to a driver's step.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::program::{Place, get};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CLIENT_SPAN: &str = "00f067aa0ba902b7";

/// Takes what is sent to it and answers that it is fine.
fn receiver() -> (String, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, bodies) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, sender) = (stream.unwrap(), sender.clone());
            std::thread::spawn(move || {
                while let Some(body) = body(&mut stream) {
                    // A test that has heard enough listens no more.
                    _ = sender.send(body);
                }
            });
        }
    });
    (url, bodies)
}

fn body(stream: &mut TcpStream) -> Option<Value> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    assert!(head.starts_with("post /v1/traces "), "{head}");
    let length = head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").ok()?;
    Some(serde_json::from_slice(&body).unwrap())
}

#[test]
fn a_trace_goes_from_the_client_to_the_drivers_step() {
    let place = Place::new();
    let key = place.init()["test_key"].as_str().unwrap().to_owned();
    let (url, bodies) = receiver();
    let variables = [("NEPHOS_TELEMETRY_OTLP_ENDPOINT", url.as_str()), ("NEPHOS_ACCESS_LOG", "true")];
    let server = place.serve_with(&[], &variables);
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let made = agent
        .post(format!("{}/sandbox/v1/computes", server.url))
        .header("authorization", format!("Bearer {key}"))
        .header("traceparent", format!("00-{TRACE}-{CLIENT_SPAN}-01"))
        .send_json(json!({"name": "traced"}))
        .unwrap();
    let status = made.status().as_u16();
    let request_id = made.headers()["x-request-id"].to_str().unwrap().to_owned();
    assert!(matches!(status, 201 | 422), "{status}");

    let mut spans: Vec<Value> = Vec::new();
    let named = |spans: &[Value], name: &str| spans.iter().find(|span| span["name"] == name).cloned();
    let last = if status == 201 { "driver.observe" } else { "POST /sandbox/v1/computes" };
    while named(&spans, last).is_none() {
        let body = bodies.recv_timeout(Duration::from_secs(30)).unwrap();
        let told = body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone();
        spans.extend(told.into_iter().filter(|span| span["traceId"] == TRACE));
    }
    let request = named(&spans, "POST /sandbox/v1/computes").unwrap();
    assert_eq!(request["parentSpanId"], CLIENT_SPAN);
    assert!(request.to_string().contains(&request_id));
    let use_case = named(&spans, "compute.create").unwrap();
    assert_eq!(use_case["parentSpanId"], request["spanId"]);
    assert!(spans.iter().any(|span| span["name"] == "sql.read" && span["parentSpanId"] == use_case["spanId"]));
    if status == 201 {
        let look = named(&spans, "reconcile.look");
        let observed = named(&spans, "driver.observe").unwrap();
        if let Some(look) = look {
            assert_eq!(look["parentSpanId"], request["spanId"]);
            assert_eq!(observed["parentSpanId"], look["spanId"]);
        }
    }

    let (_, metrics) = get(&format!("http://{}", server.details.clone().unwrap()), "/metrics", None);
    for line in [
        "# TYPE nephos_http_request_seconds histogram",
        "nephos_http_requests_total{surface=\"platform\",method=\"POST\",route=\"/computes\"",
        "nephos_store_group_size_bucket{le=\"1\"}",
        "nephos_spans_total{outcome=\"dropped\"} 0",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    let log = server.stop();
    let access = log.lines().find(|line| line.contains("nephos::access") && line.contains("compute.create")).unwrap();
    assert!(access.contains(&request_id) && !access.contains(&key), "{access}");
    assert!(!log.contains(&key));
}

#[test]
fn a_receiver_that_is_not_there_holds_nobody_up() {
    let place = Place::new();
    place.init();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = place.serve_with(&[], &[("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{gone}"))]);
    assert_eq!(server.get("/v1/projects", None).0, 401);
    let log = server.stop();
    assert!(log.contains("traces are sent"), "{log}");
}
