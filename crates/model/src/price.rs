//! Price lists: what an hour costs, and from when on.
//!
//! Deliberately not here: where lists come from and where they are kept. What was metered before the first list has the
//! price that was written with it.

use std::collections::BTreeMap;

use crate::clock::Timestamp;

/// What an hour of one size costs, in millionths of the currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizePrice {
    /// While it runs.
    pub running_microunits_per_hour: i64,
    /// While it is stopped.
    pub stopped_microunits_per_hour: i64,
}

/// A version of the price list. It never changes: another price is another version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceList {
    /// Its number, from 1.
    pub version: i64,
    /// The second, since 1970, from which on it is valid.
    pub valid_from_s: i64,
    /// When it was installed.
    pub installed_at: Timestamp,
    /// Prices by the name of the size.
    pub sizes: BTreeMap<String, SizePrice>,
}

/// Every version that there is. From its beginning on a version is valid instead of all that were installed before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PriceBook {
    /// In the order of their numbers.
    lists: Vec<PriceList>,
}

impl PriceBook {
    /// A book of versions in any order.
    pub fn new(mut lists: Vec<PriceList>) -> Self {
        lists.sort_by_key(|list| list.version);
        Self { lists }
    }

    /// The versions, in the order of their numbers.
    pub fn lists(&self) -> &[PriceList] {
        &self.lists
    }

    /// The version that is valid in a second.
    pub fn valid(&self, at_s: i64) -> Option<&PriceList> {
        self.lists.iter().rev().find(|list| list.valid_from_s <= at_s)
    }

    /// What a size costs in a second; `None` before the first version, and of a size that the version does not name.
    pub fn price(&self, size: &str, at_s: i64) -> Option<SizePrice> {
        self.valid(at_s)?.sizes.get(size).copied()
    }

    /// The first second after `at_s` from which on another version may be valid.
    pub fn next_change(&self, at_s: i64) -> Option<i64> {
        self.lists.iter().map(|list| list.valid_from_s).filter(|from| *from > at_s).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(version: i64, valid_from_s: i64, running: i64) -> PriceList {
        let price = SizePrice { running_microunits_per_hour: running, stopped_microunits_per_hour: 1 };
        let sizes = BTreeMap::from([("small".to_owned(), price)]);
        PriceList { version, valid_from_s, installed_at: Timestamp::default(), sizes }
    }

    #[test]
    fn a_version_is_valid_instead_of_all_before_it() {
        let book = PriceBook::new(vec![list(3, 200, 30), list(1, 100, 10), list(2, 300, 20)]);
        let running = |at| book.price("small", at).map(|price| price.running_microunits_per_hour);
        assert_eq!(
            [99, 100, 199, 200, 299, 300].map(running),
            [None, Some(10), Some(10), Some(30), Some(30), Some(30)]
        );
        assert_eq!([0, 100, 200, 300].map(|at| book.next_change(at)), [Some(100), Some(200), Some(300), None]);
        assert_eq!(book.price("huge", 500), None);
    }
}
