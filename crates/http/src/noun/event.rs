//! Events.

use nephos_control::caller::EventRead;
use nephos_control::event::{Filter, Follower};
use nephos_control::plan::CommitError;
use nephos_control::view::EventView;
use nephos_model::Fault;
use nephos_model::id::{EventId, ProjectId};

use crate::call::{Answer, Call};
use crate::endpoint::{Endpoint, Need, Success, schema_of};
use crate::fields::Kind;
use crate::query::{AFTER, LIMIT, PAGE, Parameter};
use crate::reply::Reply;

const FILTERS: &[Parameter] = &[
    PAGE,
    LIMIT,
    AFTER,
    Parameter::new("type", Kind::Reference("a type of event"), "Only events of this type, such as compute.running."),
    Parameter::new("resource_id", Kind::Reference("a resource"), "Only events about this resource."),
    Parameter::new("project_id", Kind::Id("prj"), "Only events of this project."),
    Parameter::new("environment_id", Kind::Id("env"), "Only events of this environment."),
];

/// The operations.
pub const OPERATIONS: &[Endpoint] =
    &[Endpoint::new("event.list", "GET", "/events", Success::Listed, schema_of::<EventView>, |c| Box::pin(list(c)))
        .needs(Need::of::<EventRead>())
        .told(
            "List events",
            "Every change of a resource's state, the newest first, kept for 30 days. A client that accepts \
             text/event-stream gets them as they come, in the order of their numbers; with Last-Event-ID from after that \
             event on. A stream spends one read, and a key holds 20 at once.",
            "Events listed.",
        )
        .query(FILTERS)
        .streams(|c| Box::pin(follow(c)))];

fn filter(call: &Call) -> Filter {
    Filter {
        kind: call.query.text("type").map(str::to_owned),
        resource_id: call.query.text("resource_id").map(str::to_owned),
        project_id: call.query.parsed("project_id"),
        environment_id: call.query.parsed("environment_id"),
    }
}

async fn follow(call: &Call) -> Result<Follower, Fault> {
    let grant = call.grant::<EventRead>()?;
    let after = call.last_event_id.as_deref().and_then(|id| id.parse::<EventId>().ok());
    call.cloud().follow_events(&grant, filter(call), after).await
}

async fn list(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<EventRead>()?;
    let page = call.query.page("evt")?;
    let listed = call.cloud().events(&grant, filter(call), &page).await?;
    call.read(
        Reply::listed(&listed, &page, |e| e.id.to_string(), |e| EventView::from(e))
            .of(call.query.parsed::<ProjectId>("project_id")),
    )
}
