//! Spans as OTLP has them in JSON: ids in hexadecimal, 64-bit numbers as texts.

use serde_json::{Value as Json, json};

use super::{Span, Value};

/// The body of one request.
pub(super) fn request(resource: &[(String, String)], spans: &[Box<Span>]) -> String {
    let resource: Vec<_> =
        resource.iter().map(|(key, value)| json!({"key": key, "value": {"stringValue": value}})).collect();
    let spans: Vec<_> = spans.iter().map(|span| encoded(span)).collect();
    json!({"resourceSpans": [{
        "resource": {"attributes": resource},
        "scopeSpans": [{"scope": {"name": "nephos", "version": env!("CARGO_PKG_VERSION")}, "spans": spans}],
    }]})
    .to_string()
}

fn encoded(span: &Span) -> Json {
    let nanos = |at: nephos_model::Timestamp| (i128::from(at.micros()) * 1_000).to_string();
    let attributes: Vec<_> = span
        .attributes
        .iter()
        .map(|(key, value)| {
            let value = match value {
                Value::Text(text) => json!({"stringValue": text}),
                Value::Integer(number) => json!({"intValue": number.to_string()}),
                Value::Flag(flag) => json!({"boolValue": flag}),
            };
            json!({"key": key, "value": value})
        })
        .collect();
    let mut out = json!({
        "traceId": format!("{:032x}", span.trace_id),
        "spanId": format!("{:016x}", span.span_id),
        "name": span.name,
        "kind": span.kind as i32,
        "startTimeUnixNano": nanos(span.began),
        "endTimeUnixNano": nanos(span.ended),
        "attributes": attributes,
        "status": if span.is_error { json!({"code": 2}) } else { json!({}) },
    });
    if let Some(parent) = span.parent_id {
        out["parentSpanId"] = json!(format!("{parent:016x}"));
    }
    if !span.state.is_empty() {
        out["traceState"] = json!(span.state);
    }
    out
}
