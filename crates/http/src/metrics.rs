//! What the surfaces count: requests by route and class of status, and how long they took.
//!
//! A route is a template of the endpoint table, never a path that a client sent; what has no route is counted by its method
//! alone. Deliberately not here: how numbers are exported.

use std::collections::HashMap;
use std::time::Duration;

use http::Method;
use nephos_model::metric::{Counter, Histogram, Metric};

use crate::endpoint::Endpoint;

/// Bounds of how long a request took, in microseconds: 50 µs to 30 s.
const TOOK_US: [u64; 12] = [50, 100, 250, 500, 1_000, 2_500, 10_000, 50_000, 250_000, 1_000_000, 5_000_000, 30_000_000];
/// Surfaces, and what is under none.
pub const SURFACES: [&str; 3] = ["platform", "strettch", "none"];
/// Classes of a status.
pub const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// Methods; one that is not here is counted as the last.
pub const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"];
/// The route of what has none.
pub const NO_ROUTE: &str = "none";

#[derive(Debug)]
struct Series {
    method: &'static str,
    route: &'static str,
    classes: [Counter; CLASSES.len()],
    took: Histogram<12>,
}

impl Series {
    fn new(method: &'static str, route: &'static str) -> Self {
        Self { method, route, classes: Default::default(), took: Histogram::new(&TOOK_US) }
    }
}

/// The numbers of one listener.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// For each surface: those without a route by method, then those of each operation.
    series: [Vec<Series>; SURFACES.len()],
    operations: HashMap<&'static str, usize>,
}

impl Metrics {
    pub(crate) fn new(operations: impl Iterator<Item = &'static Endpoint>) -> Self {
        let operations: Vec<_> = operations.collect();
        let series = SURFACES.map(|_| {
            let none = METHODS.iter().map(|method| Series::new(method, NO_ROUTE));
            none.chain(operations.iter().map(|e| Series::new(e.method, e.path))).collect()
        });
        let operations = operations.iter().enumerate().map(|(at, e)| (e.id, METHODS.len() + at)).collect();
        Self { series, operations }
    }

    /// Counts a request that was answered with `status`.
    pub(crate) fn answered(
        &self,
        surface: &str,
        endpoint: Option<&Endpoint>,
        method: &Method,
        status: u16,
        took: Duration,
    ) {
        let surface = SURFACES.iter().position(|s| *s == surface).unwrap_or(SURFACES.len() - 1);
        let at = endpoint
            .and_then(|e| self.operations.get(e.id).copied())
            .unwrap_or_else(|| METHODS.iter().position(|m| *m == method.as_str()).unwrap_or(METHODS.len() - 1));
        let Some(series) = self.series[surface].get(at) else { return };
        series.classes[usize::from(status / 100).clamp(1, CLASSES.len()) - 1].one();
        series.took.record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// The numbers of what there was at least one of.
    pub(crate) fn read(&self) -> Vec<Metric> {
        let every =
            || SURFACES.iter().zip(&self.series).flat_map(|(surface, all)| all.iter().map(move |s| (*surface, s)));
        let mut out = Vec::new();
        for (surface, series) in every() {
            for (class, counter) in CLASSES.iter().zip(&series.classes).filter(|(_, counter)| counter.get() > 0) {
                let labels =
                    [("surface", surface), ("method", series.method), ("route", series.route), ("status", *class)];
                out.push(Metric::counter("nephos_http_requests_total", "Requests answered.", &labels, counter.get()));
            }
        }
        for (surface, series) in every() {
            let took = series.took.read();
            if took.count > 0 {
                let labels = [("surface", surface), ("method", series.method), ("route", series.route)];
                out.push(Metric::durations("nephos_http_request_seconds", "How long answers took.", &labels, took));
            }
        }
        out
    }
}
