//! Something to be billed.

use nephos_control::invoice::SETTLED_AFTER;
use nephos_model::Clock as _;
use nephos_model::id::{ComputeId, EnvironmentId, Id as _, ProjectId};
use nephos_model::tenant::TenantId;
use nephos_store::Batch;
use nephos_store::meter::{Meter, turn};

use crate::World;

impl World {
    /// Something runs in a project, and a process whose clock stands in the next month closes this one.
    ///
    /// # Panics
    /// When the rows can't be written.
    pub async fn bill(&self, tenant: TenantId, project: ProjectId) {
        self.meter(tenant, self.cloud.id(), (project, EnvironmentId::from_raw(project.raw()))).await;
        let later = self.replica_at(77, self.clock.now().month().end().plus(SETTLED_AFTER));
        later.close_months().await.expect("the month is closed");
    }

    /// A compute is metered as running from now on, without anything that runs it.
    ///
    /// # Panics
    /// When the rows can't be written.
    pub async fn meter(&self, tenant: TenantId, id: ComputeId, home: (ProjectId, EnvironmentId)) {
        let meter = Meter {
            resource_id: id,
            project_id: home.0,
            environment_id: home.1,
            item: "compute.running",
            size: "nano",
            region: "local",
            microunits_per_hour: 3_000,
        };
        let rows: Batch = turn(tenant, &meter, self.clock.now().secs(), "v1").into_iter().collect();
        self.database.store().write(rows).await.expect("the meter's rows");
    }
}
