use nephos_model::id::{EnvironmentId, Id, Raw};
use proptest::prelude::*;

use nephos_model::Timestamp;
use nephos_model::price::{PriceList, SizePrice};

use super::*;

/// Seconds that ran and amounts, by project.
fn figures(meter: &Metered<'_>) -> Vec<(i64, i128)> {
    let mut of: BTreeMap<ProjectId, (i64, i128)> = BTreeMap::new();
    meter.each(|line| {
        let of = of.entry(line.kind.project_id).or_default();
        *of = (of.0 + line.compute_seconds(), of.1 + line.amount);
    });
    of.into_values().collect()
}

fn none() -> PriceBook {
    PriceBook::default()
}

fn interval(project: u8, resource: &str, from_s: i64, to_s: Option<i64>, price: i64) -> Interval {
    Interval {
        resource_id: resource.to_owned(),
        from_s,
        to_s,
        project_id: ProjectId::from_raw(Raw::from_bytes([project; 16])),
        environment_id: EnvironmentId::from_raw(Raw::from_bytes([0; 16])),
        item: RUNNING.to_owned(),
        size: "small".to_owned(),
        region: "local".to_owned(),
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
    let book = none();
    let mut meter = Metered::new(1_000, 5_000, &book);
    meter.add(&interval(1, "a", 0, Some(2_000), 3_600));
    meter.add(&interval(1, "b", 4_000, None, 3_600));
    meter.add(&interval(2, "c", 5_000, None, 3_600));
    meter.add(&interval(2, "d", 0, Some(1_000), 3_600));
    assert_eq!(figures(&meter), [(2_000, 2_000)], "what has no second in it has no line");
}

#[test]
fn a_stopped_compute_is_charged_and_does_not_run() {
    let book = none();
    let mut meter = Metered::new(0, 10_000, &book);
    meter.add(&Interval { item: "compute.stopped".to_owned(), ..interval(1, "a", 0, Some(3_600), 100) });
    assert_eq!(figures(&meter), [(0, 100)]);
}

#[test]
fn the_parts_of_one_day_are_rounded_as_a_whole() {
    let book = none();
    let mut meter = Metered::new(0, 10 * SECONDS_PER_DAY, &book);
    for second in 0..3_600 {
        meter.add(&interval(1, "a", second, Some(second + 1), 1));
    }
    // Two resources of less than half a unit each are nothing each.
    meter.add(&interval(1, "b", 0, Some(1_700), 1));
    meter.add(&interval(1, "c", 0, Some(1_700), 1));
    assert_eq!(figures(&meter), [(7_000, 1)]);
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
        let book = none();
    let mut whole = Metered::new(50_000, 500_000, &book);
        whole.add(&interval(1, "a", from, Some(to), price));
        #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
        let mut places: Vec<i64> = cuts.iter().map(|c| from + (c * length as f64) as i64).collect();
        places.extend([from, to]);
        places.sort_unstable();
        let book = none();
    let mut cut = Metered::new(50_000, 500_000, &book);
        for pair in places.windows(2) {
            cut.add(&interval(1, "a", pair[0], Some(pair[1]), price));
        }
        prop_assert_eq!(figures(&whole), figures(&cut));
    }
}

fn list(version: i64, valid_from_s: i64, price: i64) -> PriceList {
    let price = SizePrice { running_microunits_per_hour: price, stopped_microunits_per_hour: price / 2 };
    let sizes = BTreeMap::from([("small".to_owned(), price)]);
    PriceList { version, valid_from_s, installed_at: Timestamp::default(), sizes }
}

#[test]
fn a_price_changes_in_its_second_and_nothing_before_it() {
    let day = SECONDS_PER_DAY;
    let book = PriceBook::new(vec![list(1, 7_200, 20), list(2, day + 3_600, 30)]);
    let mut meter = Metered::new(0, 10 * day, &book);
    meter.add(&interval(1, "a", 0, Some(day + 7_200), 10));
    let mut lines = Vec::new();
    meter.each(|line| lines.push((line.day, line.seconds, line.amount)));
    assert_eq!(lines, [(0, 7_200, 20), (0, day - 7_200, 22 * 20), (1, 3_600, 20), (1, 3_600, 30)]);
    // A size that no list names keeps the price that was written with it.
    let mut meter = Metered::new(0, 10 * day, &book);
    meter.add(&Interval { size: "old".to_owned(), ..interval(1, "b", day, Some(day + 3_600), 7) });
    assert_eq!(figures(&meter), [(3_600, 7)]);
}

#[test]
fn sizes_of_one_price_share_what_is_rounded_once() {
    let book = none();
    let mut meter = Metered::new(0, SECONDS_PER_DAY, &book);
    meter.add(&interval(1, "a", 0, Some(1_000), 1));
    meter.add(&Interval { size: "large".to_owned(), ..interval(1, "a", 1_000, Some(2_000), 1) });
    let mut lines = Vec::new();
    meter.each(|line| lines.push((line.kind.size.clone(), line.amount)));
    assert_eq!(lines, [("large".to_owned(), 0), ("small".to_owned(), 1)]);
    assert_eq!(figures(&meter), [(2_000, 1)]);
}

proptest! {
    /// Whatever happened and whenever prices changed: the months, however time is cut into ranges of whole days, sum to
    /// the whole, and so do the lines by anything.
    #[test]
    fn ranges_of_days_sum_to_the_whole(
        spans in prop::collection::vec((0_i64..50 * SECONDS_PER_DAY, 1_i64..30 * SECONDS_PER_DAY, 0_u8..3, 0_i64..90_000), 1..20),
        changes in prop::collection::vec((0_i64..60 * SECONDS_PER_DAY, 0_i64..90_000), 0..4),
        cuts in prop::collection::btree_set(1_i64..80, 0..10),
    ) {
        let lists = changes.iter().zip(1..).map(|((from, price), version)| list(version, *from, *price));
        let book = PriceBook::new(lists.collect());
        let intervals: Vec<Interval> = spans.iter().enumerate().map(|(n, (from, length, project, price))| {
            interval(*project, &format!("r{n}"), *from, Some(from + length), *price)
        }).collect();
        let sum = |from_s, to_s| {
            let mut meter = Metered::new(from_s, to_s, &book);
            for interval in &intervals {
                meter.add(interval);
            }
            let mut sum = (0, 0);
            meter.each(|line| sum = (sum.0 + line.seconds, sum.1 + line.amount));
            sum
        };
        let mut days = vec![0];
        days.extend(&cuts);
        days.push(80);
        let parts = days.windows(2).map(|d| sum(d[0] * SECONDS_PER_DAY, d[1] * SECONDS_PER_DAY));
        let parts = parts.fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        prop_assert_eq!(parts, sum(0, 80 * SECONDS_PER_DAY));
        prop_assert_eq!(parts.0, spans.iter().map(|s| s.1).sum::<i64>());
    }
}
