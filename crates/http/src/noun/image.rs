//! Images.

use nephos_control::caller::ImageRead;
use nephos_control::plan::CommitError;
use nephos_control::view::ImageView;

use crate::call::{Answer, Call};
use crate::endpoint::{Endpoint, Need, Success, schema_of};
use crate::fields::Kind;
use crate::query::{AFTER, LIMIT, PAGE, Parameter};
use crate::reply::Reply;

/// The operations.
pub const OPERATIONS: &[Endpoint] = &[
    Endpoint::new("image.list", "GET", "/images", Success::Listed, schema_of::<ImageView>, |c| Box::pin(list(c)))
        .needs(Need::of::<ImageRead>())
        .told("List images", "What computes can boot from, the newest first.", "Images listed.")
        .query(&[PAGE, LIMIT, AFTER, Parameter::new("name", Kind::Title, "Only the image with this name.")]),
    Endpoint::new("image.get", "GET", "/images/{id}", Success::Found, schema_of::<ImageView>, |c| Box::pin(get(c)))
        .needs(Need::of::<ImageRead>())
        .told("Read an image", "One image.", "Image found."),
];

async fn list(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<ImageRead>()?;
    let page = call.query.page("img")?;
    let listed = call.cloud().images(&grant, call.query.text("name"), &page).await?;
    call.read(Reply::listed(&listed, &page, |i| i.id.to_string(), |i| ImageView::from(i)))
}

async fn get(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<ImageRead>()?;
    let image = call.cloud().image(&grant, call.id("image")?).await?;
    call.read(Reply::found(&ImageView::from(&image)))
}
