//! Regions and sizes: what is on offer.

use std::sync::Arc;

use nephos_driver::{Availability, Driver};
use nephos_model::region::{Capacity, Region};
use nephos_model::size::Size;
use nephos_model::tenant::Mode;

use crate::Cloud;
use crate::caller::{Grant, RegionRead, SizeRead};
use crate::view::{RegionView, SizeView};

impl Cloud {
    /// The regions that the credential's mode sees; a configured handful.
    pub fn list_regions(&self, grant: &Grant<RegionRead>) -> Vec<RegionView> {
        self.regions_of(grant.caller().mode)
            .map(|(region, driver)| RegionView::of(&region.name, &region.driver, driver.host().availability))
            .collect()
    }

    /// The sizes on offer; a configured handful.
    pub fn list_sizes(&self, _: &Grant<SizeRead>) -> Vec<SizeView> {
        let settings = self.settings();
        settings.sizes.iter().map(|size| SizeView::of(size, self.price_of(size), &settings.currency)).collect()
    }

    /// The names of the live regions, which anybody may know.
    pub fn region_names(&self) -> Vec<String> {
        self.regions_of(Mode::Live).map(|(region, _)| region.name.clone()).collect()
    }

    pub(crate) fn regions_of(&self, mode: Mode) -> impl Iterator<Item = &(Region, Arc<dyn Driver>)> {
        self.regions().iter().filter(move |(region, _)| region.mode == mode)
    }

    /// The driver of a region.
    pub(crate) fn driver(&self, mode: Mode, region: &str) -> Option<&Arc<dyn Driver>> {
        self.regions_of(mode).find(|(r, _)| r.name == region).map(|(_, driver)| driver)
    }

    pub(crate) fn size(&self, name: &str) -> Option<&Size> {
        self.settings().sizes.iter().find(|s| s.name == name)
    }

    /// What may be promised of a host: its capacity times the configured ratios.
    pub(crate) fn promised(&self, driver: &dyn Driver) -> Capacity {
        let settings = self.settings();
        let Capacity { vcpus, memory_mib, disk_gib } = driver.host().capacity;
        let percent = |of: u64, percent: u32| of.saturating_mul(u64::from(percent)) / 100;
        Capacity {
            vcpus: percent(vcpus, settings.vcpu_percent),
            memory_mib: percent(memory_mib, settings.memory_percent),
            disk_gib: percent(disk_gib, settings.disk_percent),
        }
    }
}

/// Whether a driver can run computes, as its region tells it.
pub(crate) fn unavailable(driver: &dyn Driver) -> Option<String> {
    match driver.host().availability {
        Availability::Available => None,
        Availability::Unavailable(reason) => Some(reason),
    }
}
