//! Regions and sizes: configured lists, which have names instead of ids.

use std::future::ready;

use nephos_control::caller::{RegionRead, SizeRead};
use nephos_control::plan::CommitError;
use nephos_control::view::{RegionView, SizeView};
use nephos_model::page::{Listed, Page, Start};

use crate::call::{Answer, Call};
use crate::endpoint::{Endpoint, Need, Success, schema_of};
use crate::query::{AFTER, LIMIT, PAGE};
use crate::reply::Reply;

/// The operations.
pub const OPERATIONS: &[Endpoint] = &[
    Endpoint::new("region.list", "GET", "/regions", Success::Listed, schema_of::<RegionView>, |c| Box::pin(ready(regions(c))))
        .needs(Need::of::<RegionRead>())
        .told(
            "List regions",
            "Where computes can run, in the operator's order, and whether each can take computes now. `after` is a name here.",
            "Regions listed.",
        )
        .query(&[PAGE, LIMIT, AFTER]),
    Endpoint::new("size.list", "GET", "/sizes", Success::Listed, schema_of::<SizeView>, |c| Box::pin(ready(sizes(c))))
        .needs(Need::of::<SizeRead>())
        .told(
            "List sizes",
            "What a compute can be, and what it costs, in the operator's order. `after` is a name here.",
            "Sizes listed.",
        )
        .query(&[PAGE, LIMIT, AFTER]),
];

fn regions(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<RegionRead>()?;
    let page = call.query.page_by_name();
    let listed = cut(call.cloud().list_regions(&grant), &page, |r| &r.name);
    call.read(Reply::listed(&listed, &page, |r| r.name.clone(), Clone::clone))
}

fn sizes(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<SizeRead>()?;
    let page = call.query.page_by_name();
    let listed = cut(call.cloud().list_sizes(&grant), &page, |s| &s.name);
    call.read(Reply::listed(&listed, &page, |s| s.name.clone(), Clone::clone))
}

/// One page of a list that is in memory.
fn cut<T>(items: Vec<T>, page: &Page, name: impl Fn(&T) -> &str) -> Listed<T> {
    let total = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let skip = match &page.start {
        Start::Number(_) => usize::try_from(page.offset()).unwrap_or(usize::MAX),
        Start::After(after) => items.iter().position(|item| name(item) == after).map_or(usize::MAX, |at| at + 1),
    };
    let limit = page.limit as usize;
    let more = items.len() > skip.saturating_add(limit);
    Listed { items: items.into_iter().skip(skip).take(limit).collect(), total, more }
}
