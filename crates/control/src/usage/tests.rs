use nephos_model::id::{Id, Raw};

use super::*;

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

#[test]
fn groups_have_names() {
    for (by, name) in GroupBy::ALL.into_iter().zip(GroupBy::NAMES) {
        assert_eq!((GroupBy::named(name), by.as_str()), (Some(by), name));
    }
    assert_eq!([date(0), date(20_512)], ["1970-01-01", "2026-02-28"]);
}
