//! The numbers that a busy cloud tells: their labels are of fixed sets, whatever clients send.

#![allow(clippy::unwrap_used)]

mod api;

use std::collections::HashSet;

use api::Api;
use nephos_http::endpoint;
use nephos_http::metrics::{CLASSES, METHODS, NO_ROUTE, SURFACES};
use nephos_model::metric::{Metric, Reading};
use nephos_model::operation::Kind;

/// The sum over the series of a name that have these labels.
fn value(metrics: &[Metric], name: &str, labels: &[(&str, &str)]) -> u64 {
    let has = |m: &Metric, label: &(&str, &str)| m.labels.iter().any(|known| known == label);
    let found = metrics.iter().filter(|m| m.name == name && labels.iter().all(|label| has(m, label)));
    found
        .map(|m| match &m.reading {
            Reading::Counter(value) | Reading::Gauge(value) => *value,
            Reading::Durations(told) | Reading::Sizes(told) => told.count,
        })
        .sum()
}

#[tokio::test]
async fn labels_are_of_fixed_sets_and_never_a_tenants() {
    let api = Api::started().await;
    let project = api.make("/v1/projects", r#"{"name":"shown nowhere"}"#).await;
    let paths = ["/v1/projects", "/api/v1/projects", "/v1/nowhere/at/all", "/else", "/v1/projects?name=secret-label"];
    for path in paths {
        api.get(path).await;
    }
    api.get(&format!("/v1/projects/{project}")).await;
    api.send("BREW", "/v1/projects", &[], "").await;
    api.send("GET", "/sandbox/v1/projects", &[("authorization", "Bearer test")], "").await;
    api.make("/v1/computes", r#"{"name":"web","labels":{"team":"blue"}}"#).await;
    api.world
        .until(|| async {
            // The number follows the commit that tells of it.
            let ended = [("kind", "compute.create"), ("outcome", "succeeded")];
            (value(&api.world.cloud.metrics(), "nephos_operations_total", &ended) == 1).then_some(())
        })
        .await;
    let mut metrics = api.app.metrics();
    metrics.extend(api.world.cloud.metrics());

    let mut fixed: HashSet<&str> = endpoint::all().map(|e| e.path).collect();
    fixed.extend(SURFACES.iter().chain(&CLASSES).chain(&METHODS).chain(&[NO_ROUTE]));
    fixed.extend(Kind::ALL.iter().map(|kind| kind.as_str()));
    fixed.extend(["succeeded", "failed", "cancelled", "done", "refused", "no_capacity", "read", "write"]);
    fixed.insert("taken");
    fixed.extend(["qemu", "simulator", "other", "observe", "converge", "grow", "wipe", "discard"]);
    for metric in &metrics {
        for (name, value) in &metric.labels {
            assert!(fixed.contains(value), "{} has the label {name}={value}", metric.name);
        }
    }
    let most = SURFACES.len() * (endpoint::all().count() + METHODS.len()) * (CLASSES.len() + 1) + 100;
    assert!(metrics.len() < most, "{} series", metrics.len());

    let requests = |labels: &[(&str, &str)]| value(&metrics, "nephos_http_requests_total", labels);
    assert_eq!(requests(&[("surface", "platform"), ("route", "/projects/{id}"), ("status", "2xx")]), 1);
    assert_eq!(requests(&[("surface", "strettch"), ("route", "/projects")]), 1);
    assert_eq!(requests(&[("method", "other"), ("status", "4xx")]), 1);
    assert_eq!(requests(&[("surface", "none")]), 1);
    let created = [("kind", "compute.create"), ("outcome", "succeeded")];
    assert_eq!(value(&metrics, "nephos_operations_total", &created), 1);
    assert!(value(&metrics, "nephos_driver_steps_total", &[("driver", "simulator"), ("step", "converge")]) > 0);
    assert!(value(&metrics, "nephos_driver_step_seconds", &[("step", "observe")]) > 0);
    assert!(value(&metrics, "nephos_reconcile_lag_seconds", &[]) > 0);
    assert!(value(&metrics, "nephos_store_group_size", &[]) > 0);
    assert!(metrics.iter().any(|m| m.name == "nephos_store_queue_depth"));
}

#[tokio::test]
async fn a_trace_goes_on_in_what_a_request_leaves() {
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let api = Api::started().await;
    let traced = [("traceparent", PARENT), ("tracestate", "vendor=x")];
    let made = api.with("POST", "/v1/computes", r#"{"name":"web"}"#, &traced).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let id = made.json()["id"].as_str().unwrap().parse().unwrap();
    let tenant = api.world.cloud.store().tenants(nephos_model::tenant::TenantId(0), 1).await.unwrap()[0].id;
    let store = api.world.cloud.store();
    let (request, trace) = store.operation_under_way(tenant, id).await.unwrap().unwrap();
    assert_eq!(request, made.header("x-request-id"));
    let trace = trace.unwrap();
    assert_eq!(format!("{:032x}", trace.trace_id()), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_ne!(trace.span_id(), 0x00f0_67aa_0ba9_02b7, "what follows is under this request's own span");
    assert_eq!((trace.state(), trace.is_sampled()), ("vendor=x", true));

    let broken = [("traceparent", "00-nothing-01")];
    let other = api.with("POST", "/v1/computes", r#"{"name":"other"}"#, &broken).await;
    let id = other.json()["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(store.operation_under_way(tenant, id).await.unwrap().unwrap().1, None, "an invalid one is ignored");
}
