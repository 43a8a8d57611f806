use nephos_model::id::{EnvironmentId, Id, Raw};
use proptest::prelude::*;

use super::*;

fn interval(project: u8, resource: &str, from_s: i64, to_s: Option<i64>, price: i64) -> Interval {
    Interval {
        resource_id: resource.to_owned(),
        from_s,
        to_s,
        project_id: ProjectId::from_raw(Raw::from_bytes([project; 16])),
        environment_id: EnvironmentId::from_raw(Raw::from_bytes([0; 16])),
        item: RUNNING.to_owned(),
        microunits_per_hour: price,
    }
}

#[test]
fn amounts_are_rounded_half_to_even() {
    for (seconds, price, wanted) in [
        (3_600, 7, 7),
        (1, 3_599, 1),
        (1, 1_799, 0),
        (1, 1_800, 0),
        (1, 1_801, 1),
        (3, 1_800, 2),
        (5, 1_800, 2),
        (7, 1_800, 4),
        (86_400, i64::MAX, i128::from(i64::MAX) * 24),
        (0, 5, 0),
    ] {
        assert_eq!(amount(seconds, price), wanted, "{seconds} s at {price}");
    }
}

#[test]
fn intervals_are_clipped_to_the_month_and_open_ones_to_now() {
    let mut meter = Metered::new(1_000, 5_000);
    meter.add(&interval(1, "a", 0, Some(2_000), 3_600));
    meter.add(&interval(1, "b", 4_000, None, 3_600));
    meter.add(&interval(2, "c", 5_000, None, 3_600));
    meter.add(&interval(2, "d", 0, Some(1_000), 3_600));
    let figures = meter.figures();
    let of: Vec<_> = figures.values().map(|f| (f.compute_seconds, f.amount)).collect();
    assert_eq!(of, [(2_000, 2_000)], "what has no second in it has no row");
}

#[test]
fn a_stopped_compute_is_charged_and_does_not_run() {
    let mut meter = Metered::new(0, 10_000);
    meter.add(&Interval { item: "compute.stopped".to_owned(), ..interval(1, "a", 0, Some(3_600), 100) });
    let figures = meter.figures();
    assert_eq!(figures.values().map(|f| (f.compute_seconds, f.amount)).collect::<Vec<_>>(), [(0, 100)]);
}

#[test]
fn the_parts_of_one_day_are_rounded_as_a_whole() {
    let mut meter = Metered::new(0, 10 * SECONDS_PER_DAY);
    for second in 0..3_600 {
        meter.add(&interval(1, "a", second, Some(second + 1), 1));
    }
    // Two resources of less than half a unit each are nothing each.
    meter.add(&interval(1, "b", 0, Some(1_700), 1));
    meter.add(&interval(1, "c", 0, Some(1_700), 1));
    assert_eq!(meter.figures().values().map(|f| f.amount).collect::<Vec<_>>(), [1]);
}

proptest! {
    #[test]
    fn however_time_is_cut_the_report_is_the_same(
        from in 0_i64..200_000,
        length in 1_i64..400_000,
        cuts in prop::collection::vec(0.0_f64..1.0, 0..20),
        price in 0_i64..100_000_000,
    ) {
        let to = from + length;
        let mut whole = Metered::new(50_000, 500_000);
        whole.add(&interval(1, "a", from, Some(to), price));
        #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
        let mut places: Vec<i64> = cuts.iter().map(|c| from + (c * length as f64) as i64).collect();
        places.extend([from, to]);
        places.sort_unstable();
        let mut cut = Metered::new(50_000, 500_000);
        for pair in places.windows(2) {
            cut.add(&interval(1, "a", pair[0], Some(pair[1]), price));
        }
        prop_assert_eq!(whole.figures(), cut.figures());
    }
}

#[test]
fn counts_are_bounded_and_none_is_lost() {
    let requests = Requests::default();
    let project = |n: u32| ProjectId::from_raw(Raw::from_bytes([n.to_be_bytes(); 4].concat().try_into().unwrap()));
    for n in 0..20_000 {
        let surface = SurfaceBudget::Platform;
        requests.add(Counted { tenant: TenantId(1), day: 1, project: Some(project(n)), key: None, surface });
    }
    let waiting = requests.waiting();
    assert_eq!(waiting.len(), COUNTS_PER_SHARD_MAX + 1);
    assert_eq!(waiting.iter().map(|(_, _, requests)| requests).sum::<i64>(), 20_000);
    requests.written(&waiting);
    assert!(requests.waiting().is_empty());
}
