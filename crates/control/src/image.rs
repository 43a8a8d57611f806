//! Images.

use nephos_model::Fault;
use nephos_model::id::ImageId;
use nephos_model::image::Image;
use nephos_model::page::{Listed, Page};
use nephos_store as store;

use crate::caller::{Grant, ImageRead};
use crate::{Cloud, fault};

impl Cloud {
    /// One image, or 404.
    pub async fn image(&self, _: &Grant<ImageRead>, id: ImageId) -> Result<Image, Fault> {
        self.store().image(id).await.map_err(fault::store)?.ok_or_else(|| Fault::not_found("image"))
    }

    /// A page of images.
    pub async fn images(&self, _: &Grant<ImageRead>, name: Option<&str>, page: &Page) -> Result<Listed<Image>, Fault> {
        self.store().images(name, page).await.map_err(fault::store)
    }

    /// The operator adds an image whose files lie in the data directory already; 409 when the name is taken.
    pub async fn add_image(&self, image: &Image) -> Result<(), Fault> {
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

    /// An image by id or name, for whoever makes a compute; the oldest one when none is named.
    pub(crate) async fn find_image(&self, wanted: Option<&str>) -> Result<Option<Image>, Fault> {
        let found = match wanted.map(|w| (w, w.parse::<ImageId>())) {
            None => self.store().image_first().await,
            Some((_, Ok(id))) => self.store().image(id).await,
            Some((name, Err(_))) => self.store().image_named(name).await,
        };
        found.map_err(fault::store)
    }
}
