//! Prices: versions of a list, installed by the operator, each valid from a second to come.
//!
//! A version can only begin in the future and never changes, so no price of the past ever does: what was metered is charged
//! as the list of its second says, whenever it is asked for. Deliberately not here: the file (see the binary's `admin`).

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use nephos_model::event::Actor;
use nephos_model::fault::Detail;
use nephos_model::id::{AuditId, Id, RequestId};
use nephos_model::price::{PriceBook, PriceList, SizePrice};
use nephos_model::size::Size;
use nephos_model::tenant::TenantId;
use nephos_model::{Fault, Timestamp};
use nephos_store as store;
use nephos_store::StoreError;
use nephos_store::audit::NewAudit;
use serde_json::json;

use crate::plan::After;
use crate::{Cloud, fault};

/// How long before its first second a version must be installed: until then every replica has read it.
pub const NOTICE_S: i64 = 60;
/// Versions at most.
const LISTS_MAX: usize = 1_000;
/// Price of one hour at most: a million units.
pub const MICROUNITS_MAX: i64 = 1_000_000_000_000;

/// A version that is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPrices {
    /// The currency that its prices are in; it must be the installation's.
    pub currency: String,
    /// Its first second.
    pub valid_from: Timestamp,
    /// Prices by the name of the size.
    pub sizes: BTreeMap<String, SizePrice>,
}

/// The versions as they were last read.
#[derive(Debug, Default)]
pub(crate) struct Prices(RwLock<Arc<PriceBook>>);

impl Cloud {
    /// Whether a version could be installed now; what is wrong with it is told all at once.
    pub fn check_prices(&self, new: &NewPrices) -> Result<(), Fault> {
        let mut details = Vec::new();
        let mut wrong = |field: &str, message: String| details.push(Detail::at(field, "invalid_value", message));
        let currency = &self.settings().currency;
        if new.currency != *currency {
            wrong("/currency", format!("currency: prices are in {currency} here, and these are in {}", new.currency));
        }
        let earliest = Timestamp::from_secs(self.clock().now().secs() + NOTICE_S);
        if new.valid_from < earliest {
            let why = "the past is never priced again, and every replica needs a minute to hear of it";
            wrong("/valid_from", format!("valid_from: must be {earliest} or later: {why}"));
        }
        if new.valid_from.micros() % 1_000_000 != 0 {
            wrong("/valid_from", "valid_from: must be a whole second".to_owned());
        }
        for size in &self.settings().sizes {
            if !new.sizes.contains_key(&size.name) {
                wrong("/sizes", format!("sizes: the size {} has no price", size.name));
            }
        }
        for (name, price) in &new.sizes {
            if self.size(name).is_none() {
                wrong("/sizes", format!("sizes: there is no size {name}"));
            }
            for (field, value) in [
                ("running_microunits_per_hour", price.running_microunits_per_hour),
                ("stopped_microunits_per_hour", price.stopped_microunits_per_hour),
            ] {
                if !(0..=MICROUNITS_MAX).contains(&value) {
                    wrong("/sizes", format!("sizes.{name}.{field}: must be from 0 to {MICROUNITS_MAX}"));
                }
            }
        }
        if details.is_empty() { Ok(()) } else { Err(Fault::invalid(details)) }
    }

    /// Installs a version, with its row of the audit log.
    pub async fn install_prices(&self, new: NewPrices) -> Result<PriceList, Fault> {
        self.check_prices(&new)?;
        let book = self.store().price_book().await.map_err(fault::store)?;
        if book.lists().len() >= LISTS_MAX {
            return Err(Fault::conflict(Detail::new(
                "too_many",
                format!("There are {LISTS_MAX} price lists already."),
            )));
        }
        let now = self.clock().now();
        let list = PriceList {
            version: book.lists().last().map_or(1, |last| last.version + 1),
            valid_from_s: new.valid_from.secs(),
            installed_at: now,
            sizes: new.sizes,
        };
        let told = json!({"version": list.version, "valid_from": new.valid_from.to_string(), "currency": new.currency});
        let row = NewAudit {
            id: self.id::<AuditId>(),
            action: "prices.install",
            resource_id: None,
            project_id: None,
            actor: Actor::Operator,
            member_id: None,
            address: None,
            client_request_id: None,
            request_id: self.id::<RequestId>().raw().to_uuid(),
            before: None,
            after: Some(told.to_string()),
            status: 201,
            created_at: now,
        };
        let batch = store::price::install(&list).with(store::audit::insert(TenantId::INSTALLATION, row));
        self.store().write(batch).await.map_err(|error| match error {
            StoreError::Missed { .. } => {
                let message = "Another price list was installed at the same time; look at it, and try again.";
                Fault::conflict(Detail::new("overtaken", message))
            }
            error => fault::store(error),
        })?;
        self.wake(&After::default());
        self.read_prices().await.map_err(fault::store)?;
        Ok(list)
    }

    /// Every version, in the order of their numbers.
    pub async fn price_lists(&self) -> Result<PriceBook, Fault> {
        self.store().price_book().await.map_err(fault::store)
    }

    /// Reads what another process may have installed.
    pub(crate) async fn read_prices(&self) -> Result<(), StoreError> {
        let book = Arc::new(self.store().price_book().await?);
        *self.0.prices.0.write().unwrap_or_else(PoisonError::into_inner) = book;
        Ok(())
    }

    /// What a size costs now.
    pub(crate) fn price_of(&self, size: &Size) -> SizePrice {
        let book = Arc::clone(&self.0.prices.0.read().unwrap_or_else(PoisonError::into_inner));
        book.price(&size.name, self.clock().now().secs()).unwrap_or(SizePrice {
            running_microunits_per_hour: size.running_microunits_per_hour,
            stopped_microunits_per_hour: size.stopped_microunits_per_hour,
        })
    }
}
