//! What was measured of the installation, and the incidents that its operator tells about.

use nephos_model::Timestamp;
use nephos_model::id::IncidentId;

use crate::batch::{Miss, Statement};
use crate::convert::Model;
use crate::error::Result;
use crate::value::Row;
use crate::{Store, params, sql};

/// The place that is the installation itself; others are regions by name.
pub const ITSELF: &str = "";
/// The incident changed meanwhile.
pub const STALE: Miss = Miss("the incident changed meanwhile");
/// The end of an incident that is not over.
pub const NOT_OVER: Timestamp = Timestamp::from_micros(i64::MAX);
/// Incidents that are shown at most.
const SHOWN_MAX: i64 = 100;

sql! {
    /// A place worked in these minutes of an hour.
    pub MINUTES_MARK = "INSERT INTO measured_hours (hour, place, minutes) VALUES ($1, $2, $3)
        ON CONFLICT (hour, place) DO UPDATE SET minutes = measured_hours.minutes | excluded.minutes";
    /// The hours since one.
    indexed pub HOURS_SINCE = "SELECT hour, place, minutes FROM measured_hours WHERE hour >= $1 ORDER BY hour, place";
    /// The first hour in which anything was measured.
    indexed pub HOUR_FIRST = "SELECT hour, minutes FROM measured_hours WHERE hour > 0 AND place = '' ORDER BY hour LIMIT 1";
    /// Forgets hours before one, but the first.
    pub HOURS_EXPIRE = "DELETE FROM measured_hours WHERE hour < $1 AND hour > (SELECT MIN(hour) FROM measured_hours)";
    /// Adds to how long answers took.
    pub LATENCY_ADD = "INSERT INTO measured_latencies (hour, bucket, requests, total_us) VALUES ($1, $2, $3, $4)
        ON CONFLICT (hour, bucket) DO UPDATE SET requests = measured_latencies.requests + excluded.requests,
        total_us = measured_latencies.total_us + excluded.total_us";
    /// How long answers took since an hour.
    pub LATENCY_SINCE = "SELECT bucket, CAST(SUM(requests) AS BIGINT), CAST(SUM(total_us) AS BIGINT)
        FROM measured_latencies WHERE hour >= $1 GROUP BY bucket";
    /// Forgets hours before one.
    pub LATENCY_EXPIRE = "DELETE FROM measured_latencies WHERE hour < $1";
    /// A new incident.
    pub INCIDENT_INSERT = "INSERT INTO incidents (id, version, title, impact, status, regions, updates, created_at,
        resolved_at) VALUES ($1, 1, $2, $3, $4, $5, $6, $7, $8)";
    /// A change of one; compare-and-set.
    pub INCIDENT_UPDATE = "UPDATE incidents SET version = version + 1, status = $3, updates = $4, resolved_at = $5
        WHERE id = $1 AND version = $2";
    /// One incident.
    indexed pub INCIDENT_GET = "SELECT id, version, title, impact, status, regions, updates, created_at, resolved_at
        FROM incidents WHERE id = $1";
    /// Those that are not over, and those that were over since a time, the latest first.
    indexed pub INCIDENTS_SINCE = "SELECT id, version, title, impact, status, regions, updates, created_at, resolved_at
        FROM incidents WHERE resolved_at >= $1 ORDER BY resolved_at DESC LIMIT $2";
}

/// The minutes of one hour in which a place worked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeasuredHour {
    /// Hours since 1970.
    pub hour: i64,
    /// [`ITSELF`], or a region's name.
    pub place: String,
    /// A bit for each of 60 minutes.
    pub minutes: i64,
}

/// How long answers took that fell into a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeasuredLatency {
    /// The range's number.
    pub bucket: i64,
    /// How many.
    pub requests: i64,
    /// Their sum, in microseconds.
    pub total_us: i64,
}

/// Trouble that the operator tells about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    /// Its id.
    pub id: IncidentId,
    /// Its version.
    pub version: i64,
    /// A sentence.
    pub title: String,
    /// How bad it is.
    pub impact: String,
    /// How far it is.
    pub status: String,
    /// The regions' names, as a JSON list.
    pub regions: String,
    /// What was told, as a JSON list.
    pub updates: String,
    /// When it was told first.
    pub created_at: Timestamp,
    /// When it was over; [`NOT_OVER`] before.
    pub resolved_at: Timestamp,
}

fn decode(row: &Row) -> Result<Incident> {
    Ok(Incident {
        id: row.id(0)?,
        version: row.int(1)?,
        title: row.string(2)?,
        impact: row.string(3)?,
        status: row.string(4)?,
        regions: row.string(5)?,
        updates: row.string(6)?,
        created_at: row.time(7)?,
        resolved_at: row.time(8)?,
    })
}

/// A place worked in these minutes of an hour.
pub fn mark(hour: i64, place: &str, minutes: i64) -> Statement {
    MINUTES_MARK.bind(params![hour, place, minutes])
}

/// Adds to how long answers took.
pub fn add_latency(hour: i64, latency: MeasuredLatency) -> Statement {
    LATENCY_ADD.bind(params![hour, latency.bucket, latency.requests, latency.total_us])
}

/// Forgets what was measured before an hour. When measuring began is kept.
pub fn expire(hour: i64) -> [Statement; 2] {
    [HOURS_EXPIRE.bind(params![hour]), LATENCY_EXPIRE.bind(params![hour])]
}

/// A new incident.
pub fn insert(i: &Incident) -> Statement {
    INCIDENT_INSERT.bind(params![
        i.id,
        i.title.as_str(),
        i.impact.as_str(),
        i.status.as_str(),
        i.regions.as_str(),
        i.updates.as_str(),
        i.created_at,
        i.resolved_at
    ])
}

/// A change of an incident that was read at its version.
pub fn update(i: &Incident) -> Statement {
    INCIDENT_UPDATE.bind(params![i.id, i.version, i.status.as_str(), i.updates.as_str(), i.resolved_at]).must(1, STALE)
}

impl Store {
    /// The hours since one; bounded by the retention.
    pub async fn measured_hours(&self, since: i64) -> Result<Vec<MeasuredHour>> {
        self.all(HOURS_SINCE.bind(params![since]), |row| {
            Ok(MeasuredHour { hour: row.int(0)?, place: row.string(1)?, minutes: row.int(2)? })
        })
        .await
    }

    /// The first minute in which anything was measured, since 1970.
    pub async fn measured_first(&self) -> Result<Option<i64>> {
        self.one(HOUR_FIRST.bind(params![]), |row| Ok(row.int(0)? * 60 + i64::from(row.int(1)?.trailing_zeros() % 60)))
            .await
    }

    /// How long answers took since an hour, by range.
    pub async fn measured_latencies(&self, since: i64) -> Result<Vec<MeasuredLatency>> {
        self.all(LATENCY_SINCE.bind(params![since]), |row| {
            Ok(MeasuredLatency { bucket: row.int(0)?, requests: row.int(1)?, total_us: row.int(2)? })
        })
        .await
    }

    /// One incident.
    pub async fn incident(&self, id: IncidentId) -> Result<Option<Incident>> {
        self.one(INCIDENT_GET.bind(params![id]), decode).await
    }

    /// Incidents that are not over or were over since a time, at most 100, the latest first.
    pub async fn incidents(&self, since: Timestamp) -> Result<Vec<Incident>> {
        self.all(INCIDENTS_SINCE.bind(params![since, SHOWN_MAX]), decode).await
    }
}
