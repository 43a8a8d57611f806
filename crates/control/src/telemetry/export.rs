//! What computes have counted, in the text format of `OpenMetrics` 1.0 (<https://openmetrics.io>): for a tenant's own Prometheus.

use std::fmt::Write as _;

use nephos_driver::Shape;
use nephos_model::Fault;
use nephos_model::fault::Detail;
use nephos_model::telemetry::{Counters, Traffic};
use nephos_store::telemetry::Counted;

use super::COUNTED_KEPT;
use crate::caller::{Grant, TelemetryRead};
use crate::{Cloud, fault};

/// Computes that one answer tells of at most.
pub const COMPUTES_MAX: usize = 10_000;

/// The other label of a value, as it is written.
type More = &'static str;

/// A family of values: its name, `counter` or `gauge`, its unit, what it is, and its values of a compute.
struct Family {
    name: &'static str,
    kind: &'static str,
    unit: &'static str,
    help: &'static str,
    values: fn(&Counted) -> Vec<(More, Value)>,
}

enum Value {
    Whole(i64),
    Milliseconds(i64),
}

fn one(value: i64) -> Vec<(More, Value)> {
    vec![("", Value::Whole(value))]
}

fn cards(counters: &Counters, of: fn(&Traffic) -> i64) -> Vec<(More, Value)> {
    let cards = [(",network=\"outside\"", counters.network), (",network=\"private\"", counters.private)];
    cards.into_iter().filter_map(|(label, traffic)| Some((label, Value::Whole(of(&traffic?))))).collect()
}

const FAMILIES: &[Family] = &[
    Family {
        name: "nephos_compute_cpu_seconds",
        kind: "counter",
        unit: "seconds",
        help: "Processor time since the compute was started.",
        values: |c| vec![("", Value::Milliseconds(c.counters.cpu_ms))],
    },
    Family {
        name: "nephos_compute_vcpus",
        kind: "gauge",
        unit: "",
        help: "Virtual processors.",
        values: |c| one(i64::from(c.vcpus)),
    },
    Family {
        name: "nephos_compute_memory_size_bytes",
        kind: "gauge",
        unit: "bytes",
        help: "Memory of the guest.",
        values: |c| one(i64::from(c.memory_mib) << 20),
    },
    Family {
        name: "nephos_compute_memory_resident_bytes",
        kind: "gauge",
        unit: "bytes",
        help: "Memory of the host that the compute holds.",
        values: |c| one(c.counters.memory_bytes),
    },
    Family {
        name: "nephos_compute_disk_allocated_bytes",
        kind: "gauge",
        unit: "bytes",
        help: "Disk space of the host that the compute takes.",
        values: |c| one(c.counters.disk_bytes),
    },
    Family {
        name: "nephos_compute_disk_read_bytes",
        kind: "counter",
        unit: "bytes",
        help: "Bytes read from the disk since the compute was started.",
        values: |c| one(c.counters.disk_read_bytes),
    },
    Family {
        name: "nephos_compute_disk_written_bytes",
        kind: "counter",
        unit: "bytes",
        help: "Bytes written to the disk since the compute was started.",
        values: |c| one(c.counters.disk_written_bytes),
    },
    Family {
        name: "nephos_compute_disk_reads",
        kind: "counter",
        unit: "",
        help: "Reads from the disk since the compute was started.",
        values: |c| one(c.counters.disk_reads),
    },
    Family {
        name: "nephos_compute_disk_writes",
        kind: "counter",
        unit: "",
        help: "Writes to the disk since the compute was started.",
        values: |c| one(c.counters.disk_writes),
    },
    Family {
        name: "nephos_compute_network_received_bytes",
        kind: "counter",
        unit: "bytes",
        help: "Bytes received, by network.",
        values: |c| cards(&c.counters, |t| t.received_bytes),
    },
    Family {
        name: "nephos_compute_network_sent_bytes",
        kind: "counter",
        unit: "bytes",
        help: "Bytes sent, by network.",
        values: |c| cards(&c.counters, |t| t.sent_bytes),
    },
    Family {
        name: "nephos_compute_network_received_packets",
        kind: "counter",
        unit: "",
        help: "Frames received, by network.",
        values: |c| cards(&c.counters, |t| t.received_packets),
    },
    Family {
        name: "nephos_compute_network_sent_packets",
        kind: "counter",
        unit: "",
        help: "Frames sent, by network.",
        values: |c| cards(&c.counters, |t| t.sent_packets),
    },
];

impl Cloud {
    /// What the computes that run and that the credential sees have counted, as `OpenMetrics`; 400 when they are too many.
    pub async fn open_metrics(&self, grant: &Grant<TelemetryRead>) -> Result<String, Fault> {
        let caller = grant.caller();
        let now = self.now(caller);
        self.settle_sandbox(caller).await;
        let since = self.clock().now().minus(COUNTED_KEPT);
        let mut counted = self.store().telemetry_counted(caller.tenant, since).await.map_err(fault::store)?;
        if self.regions_of(caller.mode).any(|(_, driver)| driver.is_simulated()) {
            for running in self.store().telemetry_running(caller.tenant).await.map_err(fault::store)? {
                let Some(driver) = self.driver(caller.mode, &running.region) else { continue };
                let disk_gib = self.size(&running.size).map_or(0, |size| size.disk_gib);
                let shape = Shape { vcpus: running.vcpus, memory_mib: running.memory_mib, disk_gib };
                if let Some(counters) = driver.imagined(running.compute_id, shape, running.at, now) {
                    counted.push(Counted { counters, ..running });
                }
            }
        }
        counted.retain(|c| caller.sees(c.project_id, c.environment_id));
        if counted.len() > COMPUTES_MAX {
            let message = format!(
                "There are {} computes that run, and one answer tells of {COMPUTES_MAX} at most; use a key for each project.",
                counted.len()
            );
            return Err(Fault::bad(Detail::new("too_many_computes", message)));
        }
        counted.sort_unstable_by_key(|c| c.compute_id);
        Ok(text(&counted))
    }
}

fn text(counted: &[Counted]) -> String {
    // Nothing in a label needs an escape: ids, hostnames, and names from the configuration that are hostnames.
    let labels: Vec<String> = counted
        .iter()
        .map(|c| {
            format!(
                "compute=\"{}\",name=\"{}\",project=\"{}\",environment=\"{}\",region=\"{}\",size=\"{}\"",
                c.compute_id, c.name, c.project_id, c.environment_id, c.region, c.size
            )
        })
        .collect();
    let mut out = String::with_capacity(1_024 + counted.len() * 4_096);
    for family in FAMILIES {
        let Family { name, kind, unit, help, values } = family;
        let _ = writeln!(out, "# TYPE {name} {kind}");
        if !unit.is_empty() {
            let _ = writeln!(out, "# UNIT {name} {unit}");
        }
        let _ = writeln!(out, "# HELP {name} {help}");
        let suffix = if *kind == "counter" { "_total" } else { "" };
        for (c, labels) in counted.iter().zip(&labels) {
            for (more, value) in values(c) {
                let _ = match value {
                    Value::Whole(n) => writeln!(out, "{name}{suffix}{{{labels}{more}}} {n}"),
                    Value::Milliseconds(ms) => {
                        writeln!(out, "{name}{suffix}{{{labels}{more}}} {}.{:03}", ms / 1_000, ms % 1_000)
                    }
                };
            }
        }
    }
    out.push_str("# EOF\n");
    out
}
