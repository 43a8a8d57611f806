//! Images of the installation.

use nephos_model::id::ImageId;
use nephos_model::image::{Boot, Image};
use nephos_model::page::{Listed, Page};

use crate::batch::{Miss, Statement};
use crate::convert::Model;
use crate::error::Result;
use crate::list::rows_max;
use crate::value::Row;
use crate::{Store, params, sql};

/// The name is taken.
pub const NAME_TAKEN: Miss = Miss("image_name_taken");

macro_rules! columns {
    () => {
        "id, name, description, checksum, size_bytes, min_memory_mib, min_disk_gib, login_user, kernel, initrd, \
         command_line, created_at"
    };
}

sql! {
    /// A new image, unless the name is taken.
    pub IMAGE_INSERT = "INSERT INTO images (id, name, description, checksum, size_bytes, min_memory_mib, min_disk_gib,
        login_user, kernel, initrd, command_line, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
        ON CONFLICT (name) DO NOTHING";
    /// One image.
    indexed pub IMAGE_GET = concat!("SELECT ", columns!(), " FROM images WHERE id = $1");
    /// One image by name.
    indexed pub IMAGE_NAMED = concat!("SELECT ", columns!(), " FROM images WHERE name = $1");
    /// The oldest image: the default.
    pub IMAGE_FIRST = concat!("SELECT ", columns!(), " FROM images ORDER BY id LIMIT 1");
    /// A page of images.
    indexed pub IMAGE_LIST = concat!("SELECT ", columns!(), " FROM images WHERE id < $1 ORDER BY id DESC LIMIT $2 OFFSET $3");
    /// A page of at most one: those with a name.
    indexed pub IMAGE_LIST_NAMED = concat!("SELECT ", columns!(),
        " FROM images WHERE name = $4 AND id < $1 ORDER BY id DESC LIMIT $2 OFFSET $3");
    /// Whether there is one with a name.
    indexed pub IMAGE_COUNT_NAMED = "SELECT COUNT(*) FROM images WHERE name = $1";
    /// How many there are: an operator's handful.
    pub IMAGE_COUNT = "SELECT COUNT(*) FROM images";
    /// No more image.
    pub IMAGE_DELETE = "DELETE FROM images WHERE id = $1";
}

fn decode(row: &Row) -> Result<Image> {
    let boot = match (row.opt_string(8)?, row.opt_string(9)?, row.opt_string(10)?) {
        (Some(kernel), Some(initrd), Some(command_line)) => Boot::Kernel { kernel, initrd, command_line },
        _ => Boot::Disk,
    };
    Ok(Image {
        id: row.id(0)?,
        name: row.string(1)?,
        description: row.string(2)?,
        checksum: row.string(3)?,
        size_bytes: u64::try_from(row.int(4)?).map_err(|_| row.unexpected(4, "a size"))?,
        min_memory_mib: row.u32(5)?,
        min_disk_gib: row.u32(6)?,
        login_user: row.string(7)?,
        boot,
        created_at: row.time(11)?,
    })
}

/// Adds an image, or misses with [`NAME_TAKEN`].
pub fn insert(i: &Image) -> Statement {
    let (kernel, initrd, command_line) = match &i.boot {
        Boot::Disk => (None, None, None),
        Boot::Kernel { kernel, initrd, command_line } => (Some(&**kernel), Some(&**initrd), Some(&**command_line)),
    };
    let size = i64::try_from(i.size_bytes).unwrap_or(i64::MAX);
    IMAGE_INSERT
        .bind(params![
            i.id,
            &i.name,
            &i.description,
            &i.checksum,
            size,
            i.min_memory_mib,
            i.min_disk_gib,
            &i.login_user,
            kernel,
            initrd,
            command_line,
            i.created_at
        ])
        .must(1, NAME_TAKEN)
}

/// Removes an image; computes made from it keep their disks.
pub fn delete(id: ImageId) -> Statement {
    IMAGE_DELETE.bind(params![id])
}

impl Store {
    /// One image.
    pub async fn image(&self, id: ImageId) -> Result<Option<Image>> {
        self.one(IMAGE_GET.bind(params![id]), decode).await
    }

    /// One image by its name.
    pub async fn image_named(&self, name: &str) -> Result<Option<Image>> {
        self.one(IMAGE_NAMED.bind(params![name]), decode).await
    }

    /// The oldest image, which is the default.
    pub async fn image_first(&self) -> Result<Option<Image>> {
        self.one(IMAGE_FIRST.bind(params![]), decode).await
    }

    /// A page of images, newest first.
    pub async fn images(&self, name: Option<&str>, page: &Page) -> Result<Listed<Image>> {
        let mut values = params![page.before(), rows_max(page), page.offset()];
        let (rows, total) = match name {
            None => (IMAGE_LIST.bind(values), IMAGE_COUNT.bind(params![])),
            Some(name) => {
                values.extend(params![name]);
                (IMAGE_LIST_NAMED.bind(values), IMAGE_COUNT_NAMED.bind(params![name]))
            }
        };
        self.page(rows, total, page, decode).await
    }
}
