use super::*;

#[test]
fn groups_have_names() {
    for (by, name) in GroupBy::ALL.into_iter().zip(GroupBy::NAMES) {
        assert_eq!((GroupBy::named(name), by.as_str()), (Some(by), name));
    }
    assert_eq!([date(0), date(20_512)], ["1970-01-01", "2026-02-28"]);
}
