//! Price lists: versions that are written once and never change.

use std::collections::BTreeMap;

use nephos_model::price::{PriceBook, PriceList, SizePrice};

use crate::batch::{Batch, Miss};
use crate::convert::Model;
use crate::error::Result;
use crate::{Store, params, sql};

/// Somebody else installed a list meanwhile.
pub const PRICES_MOVED: Miss = Miss("another price list was installed");

sql! {
    /// Writes a version, unless there is one of its number.
    pub PRICE_LIST_INSERT = "INSERT INTO price_lists (version, valid_from_s, installed_at) VALUES ($1, $2, $3)
        ON CONFLICT (version) DO NOTHING";
    /// Writes one price of a version.
    pub PRICE_INSERT = "INSERT INTO prices (version, size, running_microunits_per_hour, stopped_microunits_per_hour)
        VALUES ($1, $2, $3, $4)";
    /// Every version: an operator's handful.
    pub PRICE_LISTS = "SELECT version, valid_from_s, installed_at FROM price_lists ORDER BY version";
    /// Every price of every version.
    pub PRICES = "SELECT version, size, running_microunits_per_hour, stopped_microunits_per_hour FROM prices";
}

/// Writes a version; misses with [`PRICES_MOVED`] when there is one of its number.
pub fn install(list: &PriceList) -> Batch {
    let mut batch = Batch::new();
    let row = params![list.version, list.valid_from_s, list.installed_at];
    batch.push(PRICE_LIST_INSERT.bind(row).must(1, PRICES_MOVED));
    for (size, price) in &list.sizes {
        let (running, stopped) = (price.running_microunits_per_hour, price.stopped_microunits_per_hour);
        batch.push(PRICE_INSERT.bind(params![list.version, size.as_str(), running, stopped]));
    }
    batch
}

impl Store {
    /// Every price list that there is.
    pub async fn price_book(&self) -> Result<PriceBook> {
        // From one snapshot: a version has all of its prices.
        let mut answers = self.read_all(vec![PRICE_LISTS.bind(params![]), PRICES.bind(params![])]).await?.into_iter();
        let (lists, prices) = (answers.next().unwrap_or_default(), answers.next().unwrap_or_default());
        let mut sizes: BTreeMap<i64, BTreeMap<String, SizePrice>> = BTreeMap::new();
        for row in &prices {
            let price =
                SizePrice { running_microunits_per_hour: row.int(2)?, stopped_microunits_per_hour: row.int(3)? };
            sizes.entry(row.int(0)?).or_default().insert(row.string(1)?, price);
        }
        let mut book = Vec::with_capacity(lists.len());
        for row in &lists {
            let version = row.int(0)?;
            book.push(PriceList {
                version,
                valid_from_s: row.int(1)?,
                installed_at: row.time(2)?,
                sizes: sizes.remove(&version).unwrap_or_default(),
            });
        }
        Ok(PriceBook::new(book))
    }
}
