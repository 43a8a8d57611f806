//! What a simulated machine seems to use: a base load, a wave of a day and one of about an hour, drawn from its id.
//!
//! All of it follows from the integral of that load over time, which has a closed form: any two times give the same
//! difference whoever asks and whenever.

use std::f64::consts::TAU;

use nephos_model::Timestamp;
use nephos_model::id::ComputeId;
use nephos_model::telemetry::{Counters, Traffic};

use super::face;
use crate::Shape;

const DAY_S: f64 = 86_400.0;
const MIB: f64 = 1_048_576.0;
/// What a fresh disk takes, in MiB.
const DISK_FRESH_MIB: f64 = 900.0;

/// The load of one virtual processor: a share of it, always between 0 and 1.
struct Load {
    base: f64,
    waves: [Wave; 2],
}

struct Wave {
    height: f64,
    period_s: f64,
    /// In radians.
    phase: f64,
}

impl Load {
    fn of(id: ComputeId) -> Self {
        let [base, day, hour, a, b, period, ..] = face::draw(&format!("{id} load")).to_be_bytes();
        let share = |byte: u8| f64::from(byte) / 255.0;
        let base = 0.04 + 0.3 * share(base);
        let wave =
            |height: f64, period_s: f64, phase: u8| Wave { height: base * height, period_s, phase: TAU * share(phase) };
        // The heights together are less than the base, so the load is never below zero.
        let day = wave(0.2 + 0.4 * share(day), DAY_S, a);
        Self { base, waves: [day, wave(0.1 + 0.2 * share(hour), 2_400.0 + 2_400.0 * share(period), b)] }
    }

    fn at(&self, s: f64) -> f64 {
        self.base + self.waves.iter().map(|w| w.height * (TAU * s / w.period_s + w.phase).sin()).sum::<f64>()
    }

    /// Processor seconds of one virtual processor from `from_s` until `to_s`.
    fn between(&self, from_s: f64, to_s: f64) -> f64 {
        let wave = |w: &Wave| {
            let angle = |s: f64| TAU * s / w.period_s + w.phase;
            w.height * w.period_s / TAU * (angle(from_s).cos() - angle(to_s).cos())
        };
        self.base * (to_s - from_s) + self.waves.iter().map(wave).sum::<f64>()
    }
}

/// What a machine has counted at `at` since it was started at `began_at`; times before that are that.
pub(super) fn counters(id: ComputeId, shape: Shape, began_at: Timestamp, at: Timestamp) -> Counters {
    let load = Load::of(id);
    let at = at.max(began_at);
    let [from_s, to_s] = [began_at, at].map(seconds);
    let one = load.between(from_s, to_s);
    let cpu_s = one * f64::from(shape.vcpus);
    let [reads, writes, inwards, outwards, ..] = face::draw(&format!("{id} rates")).to_be_bytes().map(f64::from);
    // What a second of a processor brings with it.
    let per_cpu_s = |least: f64, step: f64, drawn: f64| whole(cpu_s * (least + step * drawn));
    let memory = f64::from(shape.memory_mib) * MIB;
    let disk = f64::from(shape.disk_gib) * 1_024.0 * MIB;
    let written = cpu_s * (4_000.0 + 400.0 * writes);
    Counters {
        life: began_at.micros(),
        age_ms: whole((to_s - from_s) * 1_000.0),
        cpu_ms: whole(cpu_s * 1_000.0),
        // A system takes its share, and what works takes more.
        memory_bytes: whole(memory * (0.22 + load.at(to_s)).min(0.97)),
        disk_bytes: whole((DISK_FRESH_MIB * MIB + written / 50.0).min(disk)),
        disk_read_bytes: per_cpu_s(2_000.0, 200.0, reads),
        disk_written_bytes: whole(written),
        disk_reads: per_cpu_s(0.2, 0.01, reads),
        disk_writes: per_cpu_s(0.4, 0.02, writes),
        network: Some(traffic(cpu_s, inwards, outwards)),
        private: Some(traffic(cpu_s, outwards / 4.0, inwards / 4.0)),
    }
}

fn traffic(cpu_s: f64, inwards: f64, outwards: f64) -> Traffic {
    let (received, sent) = (cpu_s * (3_000.0 + 900.0 * inwards), cpu_s * (5_000.0 + 1_500.0 * outwards));
    Traffic {
        received_bytes: whole(received),
        sent_bytes: whole(sent),
        received_packets: whole(received / 620.0),
        sent_packets: whole(sent / 810.0),
    }
}

#[allow(clippy::cast_precision_loss)] // microseconds since 1970 lose none below a millisecond for ages
fn seconds(at: Timestamp) -> f64 {
    at.micros() as f64 / 1e6
}

#[allow(clippy::cast_possible_truncation)] // rounded down; what is too large stays the largest
fn whole(number: f64) -> i64 {
    number.max(0.0).floor() as i64
}

#[cfg(test)]
mod tests {
    use nephos_model::telemetry::Reading;
    use proptest::prelude::*;

    use super::*;

    const SHAPE: Shape = Shape { vcpus: 2, memory_mib: 2_048, disk_gib: 20 };

    fn id() -> ComputeId {
        "cmp_01h2xcejqtf2nbrexx3vqjhp41".parse().unwrap()
    }

    proptest! {
        #[test]
        fn a_machine_uses_no_more_than_it_has_and_never_less_than_before(
            raw in any::<u128>(), began in 0_i64..4_000_000_000, first in 0_i64..10_000_000, more in 1_i64..100_000,
        ) {
            let id = nephos_model::id::Id::from_raw(nephos_model::id::Raw::from_bytes(raw.to_be_bytes()));
            let at = |after: i64| counters(id, SHAPE, Timestamp::from_secs(began), Timestamp::from_secs(began + after));
            let (a, b) = (at(first), at(first + more));
            prop_assert_eq!(b, at(first + more), "it follows from the arguments");
            let reading = Reading::between(Some(&a), &b, 1_000 * more, SHAPE.vcpus).unwrap();
            prop_assert!(reading.cpu_ms <= reading.vcpu_ms);
            prop_assert!(b.memory_bytes <= 2_048 << 20 && b.disk_bytes <= 20 << 30);
        }
    }

    #[test]
    fn a_start_is_at_zero() {
        let now = Timestamp::from_secs(1_700_000_000);
        let fresh = counters(id(), SHAPE, now, now);
        assert_eq!((fresh.age_ms, fresh.cpu_ms, fresh.disk_writes), (0, 0, 0));
        assert_eq!(counters(id(), SHAPE, now, now.minus(std::time::Duration::from_secs(9))), fresh);
    }
}
