use proptest::prelude::*;

use super::*;

fn look(at_ms: u64, minute: i64, life: i64, age_ms: i64, cpu_ms: i64) -> Look {
    let counters = Counters { life, age_ms, cpu_ms, ..Counters::default() };
    Look { at: Duration::from_millis(at_ms), minute_s: 60 * minute, counters }
}

#[test]
fn a_minute_is_the_difference_of_two_looks_in_a_row() {
    let first = look(60_000, 1, 7, 900_000, 5_000);
    assert_eq!(added(None, first, 2), None, "it ran long before anybody looked");
    let reading = added(Some(first), look(120_100, 2, 7, 960_100, 35_000), 2).unwrap();
    assert_eq!((reading.measured_ms, reading.vcpu_ms, reading.cpu_ms), (60_100, 120_200, 30_000));
    assert_eq!(added(Some(first), look(180_000, 3, 7, 1_020_000, 35_000), 2), None, "a look was missed");
    assert_eq!(added(Some(first), look(160_000, 2, 7, 1_000_000, 35_000), 2), None, "it came much too late");
    assert_eq!(added(Some(first), look(120_000, 2, 8, 400_000, 1), 2), None, "it began anew and nobody saw");
    let fresh = added(Some(first), look(120_000, 2, 8, 20_000, 12_000), 2).unwrap();
    assert_eq!((fresh.measured_ms, fresh.cpu_ms), (20_000, 12_000), "it was started in this minute");
}

proptest! {
    /// However a machine is started anew and looked at, no minute tells of more time than there was.
    #[test]
    fn no_minute_is_longer_than_it_is(gaps_ms in proptest::collection::vec(50_000_u64..130_000, 1..12), restart in 0_usize..12) {
        let (mut at, mut before, mut life, mut began) = (1_000_000_u64, None, 1_i64, 0_u64);
        for (n, gap) in gaps_ms.iter().enumerate() {
            at += gap;
            if n == restart {
                (life, began) = (life + 1, at - 30_000);
            }
            let age = i64::try_from(at - began).unwrap();
            let minute = i64::try_from(at / 60_000).unwrap();
            let now = look(at, minute, life, age, age / 2);
            if let Some(reading) = added(before, now, 1) {
                prop_assert!(reading.measured_ms <= APART_MS_MAX && reading.cpu_ms <= reading.measured_ms);
            }
            before = Some(now);
        }
    }
}
