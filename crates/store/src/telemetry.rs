//! What computes used and what clients asked for, in periods that are over or go on.
//!
//! Rows of a period are added to as it goes on, so a longer period holds the sum of the shorter ones in it.

use nephos_model::Timestamp;
use nephos_model::id::{ComputeId, EnvironmentId, KeyId, ProjectId};
use nephos_model::telemetry::{Counters, Reading, Traffic};
use nephos_model::tenant::TenantId;

use crate::batch::{Miss, Statement};
use crate::convert::Model;
use crate::error::{Result, StoreError};
use crate::usage::{Interval, decode_open};
use crate::value::{Row, Value};
use crate::{Store, params, sql};

/// Seconds of the shortest period, kept for a day.
pub const MINUTE_S: i64 = 60;
/// Seconds of the longest period, kept for 90 days.
pub const HOUR_S: i64 = 3_600;
/// The minute of a compute was written already.
pub const MEASURED: Miss = Miss("the minute is measured already");
/// Computes that are looked up at once.
const COMPUTES_AT_ONCE: usize = 256;
/// Intervals of one compute that are read at most, the latest.
const INTERVALS_MAX: i64 = 10_000;

macro_rules! numbers {
    () => {
        "measured_ms, vcpu_ms, cpu_ms, memory_kib_s, disk_kib_s, disk_read_bytes, disk_written_bytes, disk_reads,
         disk_writes, network_ms, received_bytes, sent_bytes, received_packets, sent_packets, private_ms,
         private_received_bytes, private_sent_bytes, private_received_packets, private_sent_packets"
    };
}

sql! {
    /// What a compute used in a minute, once.
    pub TELEMETRY_MINUTE = concat!("INSERT INTO compute_telemetry (tenant, compute_id, period_s, at_s,
         ", numbers!(), ") VALUES ($1, $2, 60, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22) ON CONFLICT DO NOTHING");
    /// Adds to what it used in an hour.
    pub TELEMETRY_HOUR = concat!("INSERT INTO compute_telemetry (tenant, compute_id, period_s, at_s,
         ", numbers!(), ") VALUES ($1, $2, 3600, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22) ON CONFLICT (tenant, compute_id, period_s, at_s) DO UPDATE SET
         measured_ms = compute_telemetry.measured_ms + excluded.measured_ms, vcpu_ms = compute_telemetry.vcpu_ms +
         excluded.vcpu_ms, cpu_ms = compute_telemetry.cpu_ms + excluded.cpu_ms, memory_kib_s =
         compute_telemetry.memory_kib_s + excluded.memory_kib_s, disk_kib_s = compute_telemetry.disk_kib_s +
         excluded.disk_kib_s, disk_read_bytes = compute_telemetry.disk_read_bytes + excluded.disk_read_bytes,
         disk_written_bytes = compute_telemetry.disk_written_bytes + excluded.disk_written_bytes, disk_reads =
         compute_telemetry.disk_reads + excluded.disk_reads, disk_writes = compute_telemetry.disk_writes +
         excluded.disk_writes, network_ms = compute_telemetry.network_ms + excluded.network_ms, received_bytes =
         compute_telemetry.received_bytes + excluded.received_bytes, sent_bytes = compute_telemetry.sent_bytes +
         excluded.sent_bytes, received_packets = compute_telemetry.received_packets + excluded.received_packets,
         sent_packets = compute_telemetry.sent_packets + excluded.sent_packets, private_ms =
         compute_telemetry.private_ms + excluded.private_ms, private_received_bytes =
         compute_telemetry.private_received_bytes + excluded.private_received_bytes, private_sent_bytes =
         compute_telemetry.private_sent_bytes + excluded.private_sent_bytes, private_received_packets =
         compute_telemetry.private_received_packets + excluded.private_received_packets, private_sent_packets =
         compute_telemetry.private_sent_packets + excluded.private_sent_packets");
    /// Adds to what the computes of an environment in a region used in a period.
    pub TELEMETRY_GROUP = concat!("INSERT INTO group_telemetry (tenant, project_id, environment_id, region, period_s, at_s,
         ", numbers!(), ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25) ON CONFLICT (tenant, period_s, at_s, environment_id,
         region) DO UPDATE SET measured_ms = group_telemetry.measured_ms + excluded.measured_ms, vcpu_ms = group_telemetry.vcpu_ms +
         excluded.vcpu_ms, cpu_ms = group_telemetry.cpu_ms + excluded.cpu_ms, memory_kib_s =
         group_telemetry.memory_kib_s + excluded.memory_kib_s, disk_kib_s = group_telemetry.disk_kib_s +
         excluded.disk_kib_s, disk_read_bytes = group_telemetry.disk_read_bytes + excluded.disk_read_bytes,
         disk_written_bytes = group_telemetry.disk_written_bytes + excluded.disk_written_bytes, disk_reads =
         group_telemetry.disk_reads + excluded.disk_reads, disk_writes = group_telemetry.disk_writes +
         excluded.disk_writes, network_ms = group_telemetry.network_ms + excluded.network_ms, received_bytes =
         group_telemetry.received_bytes + excluded.received_bytes, sent_bytes = group_telemetry.sent_bytes +
         excluded.sent_bytes, received_packets = group_telemetry.received_packets + excluded.received_packets,
         sent_packets = group_telemetry.sent_packets + excluded.sent_packets, private_ms = group_telemetry.private_ms
         + excluded.private_ms, private_received_bytes = group_telemetry.private_received_bytes +
         excluded.private_received_bytes, private_sent_bytes = group_telemetry.private_sent_bytes +
         excluded.private_sent_bytes, private_received_packets = group_telemetry.private_received_packets +
         excluded.private_received_packets, private_sent_packets = group_telemetry.private_sent_packets +
         excluded.private_sent_packets");
    /// What a compute had counted when it was looked at.
    pub TELEMETRY_COUNTERS = "INSERT INTO compute_counters (tenant, compute_id, counted_at, counters) VALUES ($1, $2, $3, $4)
        ON CONFLICT (tenant, compute_id) DO UPDATE SET counted_at = excluded.counted_at, counters = excluded.counters";
    /// A compute's periods of one length from a second until before another.
    indexed pub TELEMETRY_OF_COMPUTE = concat!("SELECT at_s, ", numbers!(), " FROM compute_telemetry
        WHERE tenant = $1 AND compute_id = $2 AND period_s = $3 AND at_s >= $4 AND at_s < $5 ORDER BY at_s");
    /// The same of all groups of a tenant, added up by environment and region over steps of some seconds.
    pub TELEMETRY_OF_GROUPS = "SELECT project_id, environment_id, region, at_s - at_s % $5 AS step_s,
         CAST(SUM(measured_ms) AS BIGINT), CAST(SUM(vcpu_ms) AS BIGINT), CAST(SUM(cpu_ms) AS BIGINT),
         CAST(SUM(memory_kib_s) AS BIGINT), CAST(SUM(disk_kib_s) AS BIGINT), CAST(SUM(disk_read_bytes) AS BIGINT),
         CAST(SUM(disk_written_bytes) AS BIGINT), CAST(SUM(disk_reads) AS BIGINT), CAST(SUM(disk_writes) AS BIGINT),
         CAST(SUM(network_ms) AS BIGINT), CAST(SUM(received_bytes) AS BIGINT), CAST(SUM(sent_bytes) AS BIGINT),
         CAST(SUM(received_packets) AS BIGINT), CAST(SUM(sent_packets) AS BIGINT), CAST(SUM(private_ms) AS BIGINT),
         CAST(SUM(private_received_bytes) AS BIGINT), CAST(SUM(private_sent_bytes) AS BIGINT),
         CAST(SUM(private_received_packets) AS BIGINT), CAST(SUM(private_sent_packets) AS BIGINT)
         FROM group_telemetry WHERE tenant = $1 AND period_s = $2 AND at_s >= $3 AND at_s < $4
         GROUP BY project_id, environment_id, region, at_s - at_s % $5";
    /// What a tenant's computes had counted since a time.
    indexed pub TELEMETRY_COUNTED = "SELECT k.compute_id, k.counters, c.name, c.project_id, c.environment_id, c.region, c.size,
        c.vcpus, c.memory_mib, k.counted_at FROM compute_counters k
        JOIN computes c ON c.tenant = k.tenant AND c.id = k.compute_id WHERE k.tenant = $1 AND k.counted_at >= $2";
    /// A tenant's computes that run, by their open intervals.
    indexed pub TELEMETRY_RUNNING = "SELECT c.id, m.from_s, c.name, c.project_id, c.environment_id, c.region, c.size, c.vcpus,
        c.memory_mib FROM meters m JOIN computes c ON c.tenant = m.tenant AND c.id = m.resource_id
        WHERE m.tenant = $1 AND m.item = 'compute.running'";
    /// Whose a compute on a host is, and where.
    indexed pub TELEMETRY_PLACE = "SELECT w.tenant, c.project_id, c.environment_id, c.region, c.vcpus FROM work w
        JOIN computes c ON c.tenant = w.tenant AND c.id = w.compute_id WHERE w.compute_id = $1";
    /// Closed intervals of one resource that reach into a time, the latest first.
    pub LEDGER_OF_RESOURCE = "SELECT resource_id, from_s, project_id, environment_id, item, microunits_per_hour, size, region, to_s
        FROM ledger WHERE tenant = $1 AND resource_id = $2 AND to_s > $3 AND from_s < $4 ORDER BY from_s DESC LIMIT $5";
    /// The open interval of one resource.
    indexed pub METER_OF_RESOURCE = "SELECT resource_id, from_s, project_id, environment_id, item, microunits_per_hour, size, region
        FROM meters WHERE tenant = $1 AND resource_id = $2";
    /// Forgets periods of one length before a second.
    pub TELEMETRY_EXPIRE = "DELETE FROM compute_telemetry WHERE period_s = $1 AND at_s < $2";
    /// The same of groups.
    pub TELEMETRY_GROUP_EXPIRE = "DELETE FROM group_telemetry WHERE period_s = $1 AND at_s < $2";
    /// Forgets what was counted before a time: the compute does not run any more.
    pub TELEMETRY_COUNTERS_EXPIRE = "DELETE FROM compute_counters WHERE counted_at < $1";
    /// Adds to the requests of an hour, unless the tenant's epoch is over.
    pub TELEMETRY_REQUESTS_ADD = "INSERT INTO request_telemetry (tenant, at_s, operation, key_id, latency_range, requests,
        client_errors, server_errors, rate_limited, total_us)
        SELECT t.id, CAST($2 AS BIGINT), CAST($3 AS TEXT), CAST($4 AS TEXT), CAST($5 AS BIGINT), CAST($6 AS BIGINT),
        CAST($7 AS BIGINT), CAST($8 AS BIGINT), CAST($9 AS BIGINT), CAST($10 AS BIGINT)
        FROM tenants t WHERE t.id = $1 AND t.is_current = 1
        ON CONFLICT (tenant, at_s, operation, key_id, latency_range) DO UPDATE SET
        requests = request_telemetry.requests + excluded.requests,
        client_errors = request_telemetry.client_errors + excluded.client_errors,
        server_errors = request_telemetry.server_errors + excluded.server_errors,
        rate_limited = request_telemetry.rate_limited + excluded.rate_limited,
        total_us = request_telemetry.total_us + excluded.total_us";
    /// Requests of some hours by operation, key and range of durations; of one key or all, of one operation or all.
    pub TELEMETRY_REQUESTS = "SELECT operation, key_id, latency_range, CAST(SUM(requests) AS BIGINT),
        CAST(SUM(client_errors) AS BIGINT), CAST(SUM(server_errors) AS BIGINT), CAST(SUM(rate_limited) AS BIGINT),
        CAST(SUM(total_us) AS BIGINT) FROM request_telemetry WHERE tenant = $1 AND at_s >= $2 AND at_s < $3
        AND (CAST($4 AS TEXT) IS NULL OR key_id = $4) AND (CAST($5 AS TEXT) IS NULL OR operation = $5)
        GROUP BY operation, key_id, latency_range";
    /// Forgets requests before a second.
    pub TELEMETRY_REQUESTS_EXPIRE = "DELETE FROM request_telemetry WHERE at_s < $1";
}

/// Whose a compute is, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its tenant.
    pub tenant: TenantId,
    /// Its project.
    pub project_id: ProjectId,
    /// Its environment.
    pub environment_id: EnvironmentId,
    /// Its region.
    pub region: String,
    /// Its virtual processors.
    pub vcpus: u32,
}

/// What the computes of an environment in a region used in one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupReading {
    /// The project.
    pub project_id: ProjectId,
    /// The environment.
    pub environment_id: EnvironmentId,
    /// The region.
    pub region: String,
    /// The first second of the step, since 1970.
    pub at_s: i64,
    /// What was used.
    pub reading: Reading,
}

/// What a compute had counted, and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// The compute.
    pub compute_id: ComputeId,
    /// Its name.
    pub name: String,
    /// Its project.
    pub project_id: ProjectId,
    /// Its environment.
    pub environment_id: EnvironmentId,
    /// Its region.
    pub region: String,
    /// Its size.
    pub size: String,
    /// Its virtual processors.
    pub vcpus: u32,
    /// Its memory in MiB.
    pub memory_mib: u32,
    /// When it was looked at.
    pub at: Timestamp,
    /// What it had counted.
    pub counters: Counters,
}

/// What is counted of requests, each of these by hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestKind {
    /// Of whom.
    pub tenant: TenantId,
    /// The first second of the hour, since 1970.
    pub at_s: i64,
    /// The operation's id.
    pub operation: &'static str,
    /// The API key; `None` is a person in the console.
    pub key_id: Option<KeyId>,
    /// The number of the range that the duration is in.
    pub latency_range: i64,
}

/// How many requests there were, and how they ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequestCounts {
    /// All.
    pub requests: i64,
    /// Those with a status from 400 to 499, those of the next field left out.
    pub client_errors: i64,
    /// Those with a status from 500 on.
    pub server_errors: i64,
    /// Those that a budget refused: 429.
    pub rate_limited: i64,
    /// Microseconds that all took together.
    pub total_us: i64,
}

impl RequestCounts {
    /// Adds others `times` times; -1 takes them off.
    pub fn add(&mut self, other: &Self, times: i64) {
        self.requests += times * other.requests;
        self.client_errors += times * other.client_errors;
        self.server_errors += times * other.server_errors;
        self.rate_limited += times * other.rate_limited;
        self.total_us += times * other.total_us;
    }
}

/// Requests of some hours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestRow {
    /// The operation's id.
    pub operation: String,
    /// The API key.
    pub key_id: Option<KeyId>,
    /// The number of the range that their durations are in.
    pub latency_range: i64,
    /// How many.
    pub counts: RequestCounts,
}

fn with(mut first: Vec<Value>, reading: &Reading) -> Vec<Value> {
    first.extend(reading.numbers().into_iter().map(Value::from));
    first
}

fn reading(row: &Row, from: usize) -> Result<Reading> {
    let numbers = (from..from + Reading::NAMES.len()).map(|i| row.int(i)).collect::<Result<Vec<_>>>()?;
    Ok(Reading::from_numbers(&numbers))
}

/// What a compute used in the minute that begins with the second `at_s`: into its row of the minute, which must not be there
/// yet, and its hour's.
pub fn measured(tenant: TenantId, id: ComputeId, at_s: i64, reading: &Reading) -> [Statement; 2] {
    let hour_s = at_s - at_s.rem_euclid(HOUR_S);
    [
        TELEMETRY_MINUTE.bind(with(params![tenant, id, at_s], reading)).must(1, MEASURED),
        TELEMETRY_HOUR.bind(with(params![tenant, id, hour_s], reading)),
    ]
}

/// What computes of an environment in a region used in the minute that begins with the second `at_s`.
pub fn group_measured(place: &Place, at_s: i64, reading: &Reading) -> [Statement; 2] {
    let Place { tenant, project_id, environment_id, region, .. } = place;
    let add = |period_s: i64| {
        let first = at_s - at_s.rem_euclid(period_s);
        let keys = params![*tenant, *project_id, *environment_id, region, period_s, first];
        TELEMETRY_GROUP.bind(with(keys, reading))
    };
    [add(MINUTE_S), add(HOUR_S)]
}

/// What a compute had counted when it was looked at.
pub fn counted(tenant: TenantId, id: ComputeId, at: Timestamp, counters: &Counters) -> Statement {
    TELEMETRY_COUNTERS.bind(params![tenant, id, at, encode(counters)])
}

/// Adds to the requests of an hour.
pub fn add_requests(kind: &RequestKind, counts: &RequestCounts) -> Statement {
    let key = kind.key_id.map(|key| key.to_string()).unwrap_or_default();
    TELEMETRY_REQUESTS_ADD.bind(params![
        kind.tenant,
        kind.at_s,
        kind.operation,
        key,
        kind.latency_range,
        counts.requests,
        counts.client_errors,
        counts.server_errors,
        counts.rate_limited,
        counts.total_us
    ])
}

/// Forgets minutes, hours and requests before these seconds, and what was counted before a time.
pub fn expire(minutes_s: i64, hours_s: i64, requests_s: i64, counted: Timestamp) -> Vec<Statement> {
    let mut statements = Vec::new();
    for (period_s, before_s) in [(MINUTE_S, minutes_s), (HOUR_S, hours_s)] {
        statements.push(TELEMETRY_EXPIRE.bind(params![period_s, before_s]));
        statements.push(TELEMETRY_GROUP_EXPIRE.bind(params![period_s, before_s]));
    }
    statements.push(TELEMETRY_REQUESTS_EXPIRE.bind(params![requests_s]));
    statements.push(TELEMETRY_COUNTERS_EXPIRE.bind(params![counted]));
    statements
}

/// Counters as a row keeps them: numbers with commas; what nobody counts is empty.
fn encode(c: &Counters) -> String {
    let traffic = |traffic: Option<Traffic>| match traffic {
        Some(t) => [t.received_bytes, t.sent_bytes, t.received_packets, t.sent_packets].map(|n| n.to_string()),
        None => Default::default(),
    };
    let own = [
        c.life,
        c.age_ms,
        c.cpu_ms,
        c.memory_bytes,
        c.disk_bytes,
        c.disk_read_bytes,
        c.disk_written_bytes,
        c.disk_reads,
        c.disk_writes,
    ];
    let numbers = own.map(|n| n.to_string()).into_iter().chain(traffic(c.network)).chain(traffic(c.private));
    numbers.collect::<Vec<_>>().join(",")
}

fn decode(text: &str) -> Option<Counters> {
    let numbers: Vec<Option<i64>> = text.split(',').map(|n| n.parse().ok()).collect();
    let number = |i: usize| numbers.get(i).copied().flatten();
    let traffic = |i: usize| {
        Some(Traffic {
            received_bytes: number(i)?,
            sent_bytes: number(i + 1)?,
            received_packets: number(i + 2)?,
            sent_packets: number(i + 3)?,
        })
    };
    Some(Counters {
        life: number(0)?,
        age_ms: number(1)?,
        cpu_ms: number(2)?,
        memory_bytes: number(3)?,
        disk_bytes: number(4)?,
        disk_read_bytes: number(5)?,
        disk_written_bytes: number(6)?,
        disk_reads: number(7)?,
        disk_writes: number(8)?,
        network: traffic(9),
        private: traffic(13),
    })
}

impl Store {
    /// Whose these computes are, in their order; `None` for one that nobody has any more.
    pub async fn telemetry_places(&self, ids: &[ComputeId]) -> Result<Vec<Option<Place>>> {
        let mut places = Vec::with_capacity(ids.len());
        for some in ids.chunks(COMPUTES_AT_ONCE) {
            let asked = some.iter().map(|id| TELEMETRY_PLACE.bind(params![*id])).collect();
            for rows in self.read_all(asked).await? {
                let place = rows.first().map(|row| {
                    Ok::<_, StoreError>(Place {
                        tenant: TenantId(row.int(0)?),
                        project_id: row.id(1)?,
                        environment_id: row.id(2)?,
                        region: row.string(3)?,
                        vcpus: row.u32(4)?,
                    })
                });
                places.push(place.transpose()?);
            }
        }
        Ok(places)
    }

    /// A compute's periods of one length whose first second is in a range, with that second, in their order.
    pub async fn telemetry_of_compute(
        &self,
        tenant: TenantId,
        id: ComputeId,
        period_s: i64,
        range_s: std::ops::Range<i64>,
    ) -> Result<Vec<(i64, Reading)>> {
        let asked = TELEMETRY_OF_COMPUTE.bind(params![tenant, id, period_s, range_s.start, range_s.end]);
        self.all(asked, |row| Ok((row.int(0)?, reading(row, 1)?))).await
    }

    /// Periods of one length of all environments and regions of a tenant, added up over steps of `step_s`; in no order.
    pub async fn telemetry_of_groups(
        &self,
        tenant: TenantId,
        period_s: i64,
        range_s: std::ops::Range<i64>,
        step_s: i64,
    ) -> Result<Vec<GroupReading>> {
        let asked = TELEMETRY_OF_GROUPS.bind(params![tenant, period_s, range_s.start, range_s.end, step_s]);
        self.all(asked, |row| {
            Ok(GroupReading {
                project_id: row.id(0)?,
                environment_id: row.id(1)?,
                region: row.string(2)?,
                at_s: row.int(3)?,
                reading: reading(row, 4)?,
            })
        })
        .await
    }

    /// What a tenant's computes had counted that were looked at since a time, in no order.
    pub async fn telemetry_counted(&self, tenant: TenantId, since: Timestamp) -> Result<Vec<Counted>> {
        let rows = self.all(TELEMETRY_COUNTED.bind(params![tenant, since]), |row| {
            let counters = decode(row.text(1)?);
            Ok(counters.map(|counters| {
                Ok::<_, StoreError>(Counted {
                    compute_id: row.id(0)?,
                    counters,
                    name: row.string(2)?,
                    project_id: row.id(3)?,
                    environment_id: row.id(4)?,
                    region: row.string(5)?,
                    size: row.string(6)?,
                    vcpus: row.u32(7)?,
                    memory_mib: row.u32(8)?,
                    at: row.time(9)?,
                })
            }))
        });
        rows.await?.into_iter().flatten().collect()
    }

    /// A tenant's computes that run, as counted nothing at the start of their open interval; in no order.
    pub async fn telemetry_running(&self, tenant: TenantId) -> Result<Vec<Counted>> {
        self.all(TELEMETRY_RUNNING.bind(params![tenant]), |row| {
            Ok(Counted {
                compute_id: row.id(0)?,
                at: Timestamp::from_secs(row.int(1)?),
                counters: Counters::default(),
                name: row.string(2)?,
                project_id: row.id(3)?,
                environment_id: row.id(4)?,
                region: row.string(5)?,
                size: row.string(6)?,
                vcpus: row.u32(7)?,
                memory_mib: row.u32(8)?,
            })
        })
        .await
    }

    /// The intervals of one compute that reach into a range of seconds, closed and open, the latest first.
    pub async fn intervals_of(
        &self,
        tenant: TenantId,
        id: ComputeId,
        range_s: std::ops::Range<i64>,
    ) -> Result<Vec<Interval>> {
        let closed = LEDGER_OF_RESOURCE.bind(params![tenant, id, range_s.start, range_s.end, INTERVALS_MAX]);
        let answers = self.read_all(vec![METER_OF_RESOURCE.bind(params![tenant, id]), closed]).await?;
        let mut intervals = Vec::new();
        if let [open, closed] = &answers[..] {
            for row in open {
                intervals.push(decode_open(row)?);
            }
            for row in closed {
                intervals.push(Interval { to_s: Some(row.int(8)?), ..decode_open(row)? });
            }
        }
        Ok(intervals)
    }

    /// Requests of the hours whose first second is in a range, by operation, key and range of durations, in no order; of one
    /// key or all, of one operation or all.
    pub async fn telemetry_requests(
        &self,
        tenant: TenantId,
        range_s: std::ops::Range<i64>,
        key: Option<KeyId>,
        operation: Option<&str>,
    ) -> Result<Vec<RequestRow>> {
        let operation = operation.map(ToOwned::to_owned);
        let asked = TELEMETRY_REQUESTS.bind(params![tenant, range_s.start, range_s.end, key, operation]);
        self.all(asked, |row| {
            Ok(RequestRow {
                operation: row.string(0)?,
                key_id: if row.text(1)?.is_empty() { None } else { Some(row.id(1)?) },
                latency_range: row.int(2)?,
                counts: RequestCounts {
                    requests: row.int(3)?,
                    client_errors: row.int(4)?,
                    server_errors: row.int(5)?,
                    rate_limited: row.int(6)?,
                    total_us: row.int(7)?,
                },
            })
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_kept_as_they_were() {
        let traffic = Traffic { received_bytes: 1, sent_bytes: 2, received_packets: 3, sent_packets: 4 };
        for network in [None, Some(traffic)] {
            let counters =
                Counters { life: 9, cpu_ms: 8, disk_writes: 7, network, private: Some(traffic), ..Counters::default() };
            assert_eq!(decode(&encode(&counters)), Some(counters));
        }
        assert_eq!(decode("1,2,3"), None);
    }
}
