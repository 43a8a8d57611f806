//! A price list as a file: TOML that the operator writes and keeps under version control.
//!
//! ```toml
//! currency = "EUR"
//! valid_from = "2027-01-01T00:00:00Z"
//! [sizes.small]
//! running_microunits_per_hour = 6000
//! stopped_microunits_per_hour = 1200
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use nephos_control::price::NewPrices;
use nephos_model::Timestamp;
use nephos_model::price::SizePrice;
use serde::{Deserialize, Serialize};

/// Bytes of a file at most.
const BYTES_MAX: u64 = 1024 * 1024;

/// What is in the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    currency: String,
    /// RFC 3339.
    valid_from: String,
    sizes: BTreeMap<String, Hour>,
}

/// What an hour of a size costs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hour {
    running_microunits_per_hour: i64,
    stopped_microunits_per_hour: i64,
}

impl List {
    /// Reads a file.
    pub fn of_file(path: &Path) -> Result<Self> {
        let shown = path.display();
        let length = std::fs::metadata(path).with_context(|| format!("{shown} can't be read"))?.len();
        if length > BYTES_MAX {
            bail!("{shown} has {length} bytes; a price list has at most {BYTES_MAX}");
        }
        let text = std::fs::read_to_string(path).with_context(|| format!("{shown} can't be read"))?;
        let list: Self = toml::from_str(&text).with_context(|| format!("{shown} is no price list"))?;
        if let Err(why) = list.read() {
            bail!("{shown}: {why}");
        }
        Ok(list)
    }

    /// What it asks for.
    pub fn read(&self) -> Result<NewPrices, String> {
        let valid_from: jiff::Timestamp = self.valid_from.parse().map_err(|_| {
            format!("valid_from is {:?}, and must be a time such as 2027-01-01T00:00:00Z", self.valid_from)
        })?;
        let price = |hour: &Hour| SizePrice {
            running_microunits_per_hour: hour.running_microunits_per_hour,
            stopped_microunits_per_hour: hour.stopped_microunits_per_hour,
        };
        Ok(NewPrices {
            currency: self.currency.clone(),
            valid_from: Timestamp::from_micros(valid_from.as_microsecond()),
            sizes: self.sizes.iter().map(|(name, hour)| (name.clone(), price(hour))).collect(),
        })
    }
}
