//! Events: how a change becomes one, and how readers list, read and follow them.
//!
//! What there is to be told is in [`catalogue`]. Deliberately not here: numbering (see `sequence`) and deliveries (see
//! `delivery`).

pub mod catalogue;
mod check;

use std::time::Duration;

use nephos_model::event::{Actor, Event};
use nephos_model::fault::Detail;
use nephos_model::id::EventId;
use nephos_model::page::{Listed, Page};
use nephos_model::tenant::TenantId;
use nephos_model::{Fault, Timestamp};
use nephos_store as store;
pub use nephos_store::event::Filter;
use nephos_store::event::NewEvent;
use nephos_store::{Engine, Statement};
use serde_json::{Map, Value};
use tokio::sync::watch;

use crate::caller::{Caller, EventRead, Grant};
use crate::plan::Change;
use crate::{Cloud, fault};

/// Events that a follower reads at once, at most.
pub const FOLLOWED_AT_ONCE: u32 = 64;
/// How often a follower looks by itself where other processes number events too.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often a follower hears that it is still connected, and whether its credential still holds.
pub const HEARTBEAT: Duration = Duration::from_secs(15);

impl Cloud {
    /// The row of a change's event. In a debug build, which tests are, one that the catalogue does not describe panics.
    pub(crate) fn event_of(
        &self,
        tenant: TenantId,
        change: &Change,
        actor: Actor,
        request_id: Option<String>,
        now: Timestamp,
    ) -> Statement {
        Self::event_as(self.id(), tenant, change, actor, request_id, now)
    }

    /// The same with an id that is known already.
    pub(crate) fn event_as(
        id: EventId,
        tenant: TenantId,
        change: &Change,
        actor: Actor,
        request_id: Option<String>,
        now: Timestamp,
    ) -> Statement {
        let data = change.after.clone().or_else(|| change.before.clone()).unwrap_or_else(|| "null".to_owned());
        let previous = match (&change.before, &change.after) {
            (Some(before), Some(after)) => differences(before, after),
            _ => None,
        };
        let version = catalogue::find(change.event).map_or(1, |known| known.version);
        #[cfg(debug_assertions)]
        if let Err(why) = check::check(change.event, &data, previous.as_deref()) {
            panic!("{why}");
        }
        store::event::insert(
            tenant,
            NewEvent {
                id,
                kind: change.event,
                resource_id: change.resource_id.clone(),
                project_id: change.project_id,
                environment_id: change.environment_id,
                version,
                data,
                previous,
                actor,
                request_id,
                created_at: now,
            },
        )
    }

    /// A page of the events that the credential sees.
    pub async fn events(
        &self,
        grant: &Grant<EventRead>,
        filter: store::event::Filter,
        page: &Page,
    ) -> Result<Listed<Event>, Fault> {
        let Some(filter) = narrow(grant.caller(), filter) else {
            return Ok(Listed { items: Vec::new(), total: 0, more: false });
        };
        self.store().events(grant.tenant(), &filter, page).await.map_err(fault::store)
    }

    /// One event, or 404.
    pub async fn event(&self, grant: &Grant<EventRead>, id: EventId) -> Result<Event, Fault> {
        let found = self.store().event(grant.tenant(), id).await.map_err(fault::store)?;
        found.filter(|event| sees(grant.caller(), event)).ok_or_else(|| Fault::not_found("event"))
    }

    /// Follows events from after the one with the id `after`, or from now on.
    ///
    /// Faults: 400 when that event is not, or no longer, there: what came after it can't be told without a gap.
    pub async fn follow_events(
        &self,
        grant: &Grant<EventRead>,
        filter: store::event::Filter,
        after: Option<EventId>,
    ) -> Result<Follower, Fault> {
        let tenant = grant.tenant();
        let seq = match after {
            None => self.store().event_seq(tenant).await.map_err(fault::store)?,
            Some(id) => {
                let found = self.store().event(tenant, id).await.map_err(fault::store)?;
                let found = found.filter(|event| sees(grant.caller(), event)).ok_or_else(|| {
                    Fault::bad(Detail::header(
                        "last-event-id",
                        "unknown_event",
                        "The event in Last-Event-ID is not, or no longer, kept. List what there is with GET /events, and \
                         follow again without the header.",
                    ))
                })?;
                found.seq
            }
        };
        Ok(Follower {
            cloud: self.clone(),
            tenant,
            filter: narrow(grant.caller(), filter),
            seq,
            numbered: self.0.numbered.subscribe(),
        })
    }

    /// Tells readers that there are events with new numbers. Only a hint: whoever numbers events calls it afterwards.
    pub(crate) fn tell_numbered(&self) {
        self.0.numbered.send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// Somebody who reads events in their order as they come. It holds no events: who is slow reads later.
#[derive(Debug)]
pub struct Follower {
    cloud: Cloud,
    tenant: TenantId,
    /// `None`: a filter that nothing can pass.
    filter: Option<Filter>,
    seq: i64,
    numbered: watch::Receiver<u64>,
}

impl Follower {
    /// The next events, at most [`FOLLOWED_AT_ONCE`], once there are some; or none after [`HEARTBEAT`].
    pub async fn next(&mut self) -> Result<Vec<Event>, Fault> {
        let quiet = self.cloud.clock().sleep(HEARTBEAT);
        tokio::pin!(quiet);
        loop {
            // Marked as seen before the rows are read, so that what comes in between is not missed.
            self.numbered.borrow_and_update();
            let read = self.cloud.store().events_after(self.tenant, self.seq, FOLLOWED_AT_ONCE).await;
            let read = read.map_err(fault::store)?;
            if let Some(last) = read.last() {
                self.seq = last.seq;
                let passed: Vec<Event> = read.into_iter().filter(|event| self.passes(event)).collect();
                if !passed.is_empty() {
                    return Ok(passed);
                }
                continue;
            }
            // With one process every number is given here, and told.
            let alone = self.cloud.store().engine() == Engine::Sqlite;
            let look = self.cloud.clock().sleep(if alone { HEARTBEAT } else { LOOK_EVERY });
            tokio::select! {
                _ = self.numbered.changed() => {}
                () = look, if !alone => {}
                () = &mut quiet => return Ok(Vec::new()),
            }
        }
    }

    fn passes(&self, event: &Event) -> bool {
        self.filter.as_ref().is_some_and(|filter| {
            filter.kind.as_ref().is_none_or(|kind| *kind == event.kind)
                && filter.resource_id.as_ref().is_none_or(|id| *id == event.resource_id)
                && filter.project_id.is_none_or(|id| event.project_id == Some(id))
                && filter.environment_id.is_none_or(|id| event.environment_id == Some(id))
        })
    }
}

/// The filter of what a narrowed credential sees of it; `None` when that is nothing.
fn narrow(caller: &Caller, mut filter: Filter) -> Option<Filter> {
    let foreign = filter.project_id.is_some_and(|p| !caller.sees_project(p))
        || filter.environment_id.is_some_and(|e| caller.environment_id.is_some_and(|only| only != e));
    filter.project_id = filter.project_id.or(caller.project_id);
    filter.environment_id = filter.environment_id.or(caller.environment_id);
    (!foreign).then_some(filter)
}

fn sees(caller: &Caller, event: &Event) -> bool {
    caller.project_id.is_none_or(|only| event.project_id == Some(only))
        && caller.environment_id.is_none_or(|only| event.environment_id == Some(only))
}

/// The members of the JSON object `before` that `after` has not, or has otherwise.
fn differences(before: &str, after: &str) -> Option<String> {
    let object = |text: &str| serde_json::from_str::<Map<String, Value>>(text).ok();
    let (before, after) = (object(before)?, object(after)?);
    let changed: Map<String, Value> = before.into_iter().filter(|(key, value)| after.get(key) != Some(value)).collect();
    Some(Value::Object(changed).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_told_as_it_was() {
        let told =
            differences(r#"{"a":1,"b":null,"c":{"x":1},"d":"same"}"#, r#"{"a":2,"b":"x","c":{"x":2},"d":"same"}"#);
        assert_eq!(told.as_deref(), Some(r#"{"a":1,"b":null,"c":{"x":1}}"#));
        assert_eq!(differences("{}", "{}").as_deref(), Some("{}"));
        assert_eq!(differences("null", "{}"), None);
    }
}
