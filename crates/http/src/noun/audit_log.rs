//! The audit log.

use nephos_control::audit_log::{EXPORT_ENTRIES_MAX, Filter, Order, Part};
use nephos_control::caller::AuditLogRead;
use nephos_control::plan::CommitError;
use nephos_control::view::AuditEntryView;
use nephos_model::page::{LIMIT_MAX, Page, Start};

use crate::call::{Answer, Call};
use crate::endpoint::{Endpoint, Need, Success, schema_of};
use crate::fields::Kind;
use crate::query::{AFTER, LIMIT, PAGE, Parameter};
use crate::reply::{LINES, Reply};

const FILTERS: &[Parameter] = &[
    PAGE,
    LIMIT,
    AFTER,
    Parameter::new("action", Kind::Reference("an action"), "Only rows of this action, such as compute.delete."),
    Parameter::new("resource_id", Kind::Reference("a resource"), "Only rows about this resource."),
    Parameter::new("actor_id", Kind::Reference("an actor"), "Only rows of this API key or member."),
    Parameter::new("from", Kind::Time, "Only rows from this time on."),
    Parameter::new("to", Kind::Time, "Only rows before this time."),
    Parameter::new(
        "order",
        Kind::OneOf(&["newest", "oldest"]),
        "Which rows come first; `newest` by default, `oldest` for JSON lines. With `oldest` a full page never changes.",
    ),
];

/// The operations.
pub const OPERATIONS: &[Endpoint] = &[Endpoint::new(
    "audit_log.list",
    "GET",
    "/audit-log",
    Success::Listed,
    schema_of::<AuditEntryView>,
    |c| Box::pin(list(c)),
)
.needs(Need::of::<AuditLogRead>())
.told(
    "Read the audit log",
    "Every change and every request that was refused, in the order of their numbers. With `Accept: application/x-ndjson` \
     it is an export: a row a line, the oldest first, up to 1000 at once; go on with the `after` of the `Link` header.",
    "Audit log read.",
)
.query(FILTERS)
.forms(&[LINES])];

async fn list(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<AuditLogRead>()?;
    let page = call.query.page("aud")?;
    let is_export = call.form == LINES;
    let order = match (call.query.text("order"), is_export) {
        (Some("oldest"), _) | (None, true) => Order::Oldest,
        _ => Order::Newest,
    };
    let text = |name| call.query.text(name).map(str::to_owned);
    let filter = Filter {
        action: text("action"),
        resource_id: text("resource_id"),
        actor_id: text("actor_id"),
        from: call.query.time("from"),
        to: call.query.time("to"),
    };
    let limit = if is_export && !call.query.has("limit") { EXPORT_ENTRIES_MAX } else { page.limit.min(LIMIT_MAX) };
    let page = Page { limit, ..page };
    let after = match &page.start {
        Start::After(id) => id.parse().ok(),
        Start::Number(_) => None,
    };
    let part = Part { order, after, offset: page.offset(), limit };
    let listed = call.cloud().audit_log(&grant, &filter, &part).await?;
    call.read(if is_export {
        Reply::lines(&listed, limit, |e| e.id.to_string(), |e| AuditEntryView::from(e))
    } else {
        Reply::listed(&listed, &page, |e| e.id.to_string(), |e| AuditEntryView::from(e))
    })
}
