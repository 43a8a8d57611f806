//! Small charts of what a compute used: lines with gaps where nothing was measured.

use std::fmt::Write as _;

use serde_json::Value;

/// Width and height of a chart in its own units.
const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 64.0;

/// The ranges that are shown: their names in the API, and words for people.
pub(crate) const RANGES: [(&str, &str); 3] = [("1h", "hour"), ("24h", "24 hours"), ("7d", "7 days")];

/// One chart.
#[derive(Debug)]
pub(crate) struct Chart {
    pub title: &'static str,
    /// Each line: its name and its path.
    pub lines: Vec<(&'static str, String)>,
    /// The last value of each line that is known, and the largest there is, in words.
    pub told: String,
    /// Whether anything was measured.
    pub is_known: bool,
}

/// How a number is told.
#[derive(Debug, Clone, Copy)]
enum Unit {
    Percent,
    Bytes,
    BytesPerSecond,
}

impl Unit {
    fn tell(self, value: f64) -> String {
        if matches!(self, Self::Percent) {
            return format!("{value:.1} %");
        }
        let (mut value, mut unit) = (value, "B");
        for next in ["KiB", "MiB", "GiB", "TiB"] {
            if value < 1_024.0 {
                break;
            }
            (value, unit) = (value / 1_024.0, next);
        }
        let digits = usize::from(unit != "B" && value < 100.0);
        let per = if matches!(self, Self::BytesPerSecond) { "/s" } else { "" };
        format!("{value:.digits$} {unit}{per}")
    }
}

/// The charts of a compute's metrics.
pub(crate) fn of(metrics: &Value) -> Vec<Chart> {
    let points: &[Value] = metrics["points"].as_array().map_or(&[], Vec::as_slice);
    let chart = |title, unit, lines: &[(&'static str, &str)]| {
        let lines: Vec<(&'static str, Vec<Option<f64>>)> =
            lines.iter().map(|(name, field)| (*name, points.iter().map(|p| value(p, field, unit)).collect())).collect();
        draw(title, unit, &lines)
    };
    vec![
        chart("Processor", Unit::Percent, &[("used", "cpu_percent")]),
        chart("Memory", Unit::Bytes, &[("held", "memory_bytes")]),
        chart("Disk", Unit::BytesPerSecond, &[("read", "disk_read_bytes"), ("written", "disk_written_bytes")]),
        chart(
            "Network",
            Unit::BytesPerSecond,
            &[("received", "network_received_bytes"), ("sent", "network_sent_bytes")],
        ),
    ]
}

fn value(point: &Value, field: &str, unit: Unit) -> Option<f64> {
    let value = point[field].as_f64()?;
    let seconds = point["measured_seconds"].as_f64().filter(|seconds| *seconds > 0.0)?;
    Some(if matches!(unit, Unit::BytesPerSecond) { value / seconds } else { value })
}

fn draw(title: &'static str, unit: Unit, lines: &[(&'static str, Vec<Option<f64>>)]) -> Chart {
    let most = lines.iter().flat_map(|(_, values)| values.iter().flatten()).fold(0.0_f64, |most, v| most.max(*v));
    let is_known = lines.iter().any(|(_, values)| values.iter().any(Option::is_some));
    let mut told = Vec::new();
    for (name, values) in lines {
        if let Some(last) = values.iter().rev().flatten().next() {
            told.push(format!("{name} {}", unit.tell(*last)));
        }
    }
    told.push(format!("at most {}", unit.tell(most)));
    Chart {
        title,
        lines: lines.iter().map(|(name, values)| (*name, path(values, most))).collect(),
        told: told.join(", "),
        is_known,
    }
}

/// The path of one line: a gap begins a new part, and a point between gaps is a dot.
#[allow(clippy::cast_precision_loss)] // there are at most some hundred points
fn path(values: &[Option<f64>], most: f64) -> String {
    let step = WIDTH / (values.len().max(2) - 1) as f64;
    let mut out = String::new();
    let mut is_down = false;
    for (i, value) in values.iter().enumerate() {
        let Some(value) = value else {
            is_down = false;
            continue;
        };
        let (x, y) = (i as f64 * step, HEIGHT - 2.0 - (HEIGHT - 4.0) * if most > 0.0 { value / most } else { 0.0 });
        let next_is_gap = values.get(i + 1).is_none_or(Option::is_none);
        let _ = write!(out, "{}{x:.1} {y:.1}", if is_down { "L" } else { "M" });
        if !is_down && next_is_gap {
            out.push_str("h.1");
        }
        is_down = true;
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn gaps_stay_gaps_and_numbers_are_told() {
        let point = |cpu: Value, read: Value| {
            let seconds = if cpu.is_null() { 0.0 } else { 60.0 };
            json!({"measured_seconds": seconds, "cpu_percent": cpu, "disk_read_bytes": read, "disk_written_bytes": null})
        };
        let metrics = json!({"points": [
            point(json!(10.0), json!(61_440)), point(json!(20.0), json!(0)), point(Value::Null, Value::Null),
            point(json!(5.0), json!(0)), point(Value::Null, Value::Null),
        ]});
        let charts = of(&metrics);
        let cpu = &charts[0];
        assert_eq!(cpu.lines[0].1, "M0.0 32.0L80.0 2.0M240.0 47.0h.1");
        assert_eq!(cpu.told, "used 5.0 %, at most 20.0 %");
        assert_eq!(charts[2].told, "read 0 B/s, at most 1.0 KiB/s");
        assert!(cpu.is_known && !charts[1].is_known && charts[2].lines[1].1.is_empty());
        assert!(of(&Value::Null).iter().all(|chart| !chart.is_known));
    }
}
