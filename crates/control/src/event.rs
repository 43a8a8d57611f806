//! Events, as readers list them.

use nephos_model::Fault;
use nephos_model::event::Event;
use nephos_model::page::{Listed, Page};
use nephos_store as store;
pub use nephos_store::event::Filter;

use crate::caller::{EventRead, Grant};
use crate::{Cloud, fault};

impl Cloud {
    /// A page of the events that the credential sees.
    pub async fn events(
        &self,
        grant: &Grant<EventRead>,
        mut filter: store::event::Filter,
        page: &Page,
    ) -> Result<Listed<Event>, Fault> {
        let caller = grant.caller();
        if filter.project_id.is_some_and(|p| !caller.sees_project(p)) {
            return Ok(Listed { items: Vec::new(), total: 0, more: false });
        }
        filter.project_id = filter.project_id.or(caller.project_id);
        filter.environment_id = filter.environment_id.or(caller.environment_id);
        self.store().events(grant.tenant(), &filter, page).await.map_err(fault::store)
    }
}
