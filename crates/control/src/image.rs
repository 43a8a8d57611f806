//! Images: those of the installation and, where computes are simulated, one from which nothing is ever booted.

use nephos_driver::Driver;
use nephos_model::fault::Detail;
use nephos_model::id::{Id, ImageId, Raw};
use nephos_model::image::{Boot, Image};
use nephos_model::page::{Listed, Page, Start};
use nephos_model::tenant::Mode;
use nephos_model::{Fault, Timestamp};
use nephos_store as store;

use crate::caller::{Grant, ImageRead};
use crate::{Cloud, fault};

/// The name of the image of simulated computes.
pub const SIMULATED: &str = "simulated";

/// The image of simulated computes. Its id is older than that of any other, so that it comes last in lists.
pub(crate) fn simulated_image() -> Image {
    Image {
        id: ImageId::from_raw(Raw::from_bytes([0, 0, 0, 0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 1])),
        name: SIMULATED.to_owned(),
        description: "What simulated computes are made from: nothing is ever booted from it.".to_owned(),
        checksum: String::new(),
        size_bytes: 0,
        min_memory_mib: 0,
        min_disk_gib: 0,
        login_user: "root".to_owned(),
        boot: Boot::Disk,
        created_at: Timestamp::default(),
    }
}

impl Cloud {
    /// Whether some region of a mode simulates its computes.
    fn simulates(&self, mode: Mode) -> bool {
        self.regions_of(mode).any(|(_, driver)| driver.is_simulated())
    }

    /// One image, or 404.
    pub async fn image(&self, grant: &Grant<ImageRead>, id: ImageId) -> Result<Image, Fault> {
        if let Some(image) = self.store().image(id).await.map_err(fault::store)? {
            return Ok(image);
        }
        let simulated = Some(simulated_image()).filter(|image| image.id == id);
        simulated.filter(|_| self.simulates(grant.caller().mode)).ok_or_else(|| Fault::not_found("image"))
    }

    /// A page of images. The one of simulated computes is the oldest: it is the last one of the last page.
    pub async fn images(
        &self,
        grant: &Grant<ImageRead>,
        name: Option<&str>,
        page: &Page,
    ) -> Result<Listed<Image>, Fault> {
        let mut listed = self.store().images(name, page).await.map_err(fault::store)?;
        if self.simulates(grant.caller().mode) && name.is_none_or(|name| name == SIMULATED) {
            let simulated = simulated_image();
            let begins_before = match &page.start {
                Start::Number(_) => page.offset() <= listed.total,
                Start::After(id) => *id > simulated.id.to_string(),
            };
            if begins_before && !listed.more {
                if listed.items.len() < page.limit as usize {
                    listed.items.push(simulated);
                } else {
                    listed.more = true;
                }
            }
            listed.total += 1;
        }
        Ok(listed)
    }

    /// The operator adds an image whose files lie in the data directory already; 409 when the name is taken.
    pub async fn add_image(&self, image: &Image) -> Result<(), Fault> {
        if image.name == SIMULATED {
            let message = format!("The name \"{SIMULATED}\" is that of the image of simulated computes.");
            return Err(Fault::conflict(Detail::at("/name", "name_taken", message)));
        }
        match self.store().write(store::Batch::from(store::image::insert(image))).await {
            Ok(_) => Ok(()),
            Err(store::StoreError::Missed { miss, .. }) => {
                Err(fault::missed(miss).unwrap_or_else(|| Fault::internal("an image's guard has no meaning")))
            }
            Err(error) => Err(fault::store(error)),
        }
    }

    /// The operator removes an image; computes made from it keep their disks.
    pub async fn remove_image(&self, id: ImageId) -> Result<(), Fault> {
        self.store().write(store::Batch::from(store::image::delete(id))).await.map_err(fault::store)?;
        Ok(())
    }

    /// An image by id or name, for whoever makes a compute with `driver`; the installation's oldest one when none is
    /// named, and the simulated one where that would do and there is no other.
    pub(crate) async fn find_image(
        &self,
        wanted: Option<&str>,
        driver: Option<&dyn Driver>,
    ) -> Result<Option<Image>, Fault> {
        let found = match wanted.map(|w| (w, w.parse::<ImageId>())) {
            None => self.store().image_first().await,
            Some((_, Ok(id))) => self.store().image(id).await,
            Some((name, Err(_))) => self.store().image_named(name).await,
        };
        let simulated = || {
            let image = simulated_image();
            let is_wanted = wanted.is_none_or(|w| w == SIMULATED || w == image.id.to_string());
            Some(image).filter(|_| is_wanted && driver.is_some_and(Driver::is_simulated))
        };
        Ok(found.map_err(fault::store)?.or_else(simulated))
    }
}
