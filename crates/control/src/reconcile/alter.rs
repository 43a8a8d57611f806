//! Altering the disk of a compute that does not run: growing it for another size, or throwing it away for a fresh one.
//!
//! The driver is asked first, the row says so after: a crash in between asks the driver again, which makes no difference to
//! a disk that is large enough or gone already. From that batch on the compute has its new size, with its price.

use nephos_driver::{Machine, Report, Seen};
use nephos_model::compute::{Alteration, Compute, Wish};
use nephos_model::event::Actor;
use nephos_model::fault::Code;
use nephos_model::operation::Kind;
use nephos_model::tenant::Mode;
use nephos_store as store;
use nephos_store::{Batch, Statement, StoreError};

use super::look::{Look, MaybeOperation, Was, Wrote, for_good};
use super::{LookError, machine};
use crate::alteration::Difference;
use crate::metrics::Asked;
use crate::operation::reach;
use crate::plan::Change;
use crate::view::{ComputeView, json};

/// What came of asking for another disk.
pub(super) enum Altered {
    /// What there is of the machine then.
    Seen(Report),
    /// Somebody else changed the compute meanwhile.
    Overtaken,
    /// It can't be; the reason is for people.
    Never(Code, String),
}

impl Look<'_> {
    /// Asks for the altered disk and, once it is there, writes what the compute has become.
    pub(super) async fn alter(
        &mut self,
        was: &mut Was,
        compute: &mut Compute,
        operation: &mut MaybeOperation,
    ) -> Result<Altered, LookError> {
        let Some(alteration) = self.alteration.clone() else { return Ok(Altered::Overtaken) };
        let now = self.now();
        let begun = operation.as_mut().is_some_and(|(operation, _)| {
            let step = if operation.kind == Kind::ComputeRebuild { "rebuild" } else { "resize" };
            reach(operation, step, now)
        });
        match self.write_progress(was.status, compute, operation, begun, Vec::new()).await? {
            Wrote::Done => was.status = compute.status,
            Wrote::Overtaken => return Ok(Altered::Overtaken),
        }
        let mut after = altered(compute, &alteration);
        let image = match &alteration {
            Alteration::Size { .. } => self.image.clone(),
            Alteration::Image { .. } => {
                self.cloud.image_of(&after).await.map_err(|fault| LookError::Other(fault.to_string()))?
            }
        };
        let wanted: Machine = machine(&after, image.clone(), now);
        let driver = &*self.driver;
        let asked = match &alteration {
            Alteration::Size { .. } => self.cloud.asked(driver, Asked::Grow, driver.grow(&wanted)).await,
            Alteration::Image { .. } => self.cloud.asked(driver, Asked::Wipe, driver.wipe(&wanted)).await,
        };
        let mut report = match asked {
            Ok(report) => report,
            Err(error) => {
                let (code, why) = for_good(error)?;
                return Ok(Altered::Never(code, why));
            }
        };
        if matches!(report.seen, Seen::Busy { .. }) {
            return Ok(Altered::Seen(report));
        }
        if let Some(notes) = report.notes.take() {
            after.notes = Some(notes.0);
        }
        after.updated_at = now;
        let mut batch = Batch::from(store::compute::update(self.tenant, &after, was.status));
        batch.push(store::alteration::delete(self.tenant, after.id));
        if let Alteration::Size { .. } = alteration {
            batch.extend(self.give_back(&after, Difference::of(compute, &alteration).less));
            batch.extend(self.meter(&after, after.wish == Wish::Running, now));
            let change = Change {
                event: "compute.resized",
                action: "compute.settle",
                resource_id: after.id.to_string(),
                project_id: Some(after.project_id),
                environment_id: Some(after.environment_id),
                before: Some(json(&ComputeView::from(&*compute))),
                after: Some(json(&ComputeView::from(&after))),
                status: 200,
            };
            let request_id = operation.as_ref().map(|(o, _)| o.request_id.clone());
            batch.push(self.cloud.event_of(self.tenant, &change, Actor::System, request_id, now));
        }
        match self.cloud.store().write(batch).await {
            Ok(_) => {
                after.version += 1;
                *compute = after;
                was.view = ComputeView::from(&*compute);
                self.alteration = None;
                self.image = image;
                Ok(Altered::Seen(report))
            }
            Err(StoreError::Missed { .. }) => Ok(Altered::Overtaken),
            Err(error) => Err(error.into()),
        }
    }

    /// What was to be made of a compute that failed will not be: what was taken for it returns.
    pub(super) fn abandon(&self, compute: &Compute) -> Vec<Statement> {
        let Some(alteration) = &self.alteration else { return Vec::new() };
        let mut batch = vec![store::alteration::delete(self.tenant, compute.id)];
        batch.extend(self.give_back(compute, Difference::of(compute, alteration).more));
        batch
    }

    fn give_back(&self, compute: &Compute, back: nephos_model::region::Capacity) -> Vec<Statement> {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX / 4);
        let mut batch: Vec<_> =
            [("quota.vcpus", back.vcpus), ("quota.memory_mib", back.memory_mib), ("quota.disk_gib", back.disk_gib)]
                .into_iter()
                .filter(|(_, by)| *by > 0)
                .map(|(noun, by)| store::counter::give_back(self.tenant, noun, number(by)))
                .collect();
        if self.mode == Mode::Live && !batch.is_empty() {
            batch.push(store::capacity::put_back(&compute.region, back));
        }
        batch
    }
}

/// The compute as it will be.
fn altered(compute: &Compute, alteration: &Alteration) -> Compute {
    let compute = compute.clone();
    match alteration.clone() {
        Alteration::Size { name, vcpus, memory_mib, disk_gib } => {
            Compute { size: name, vcpus, memory_mib, disk_gib, ..compute }
        }
        Alteration::Image { id, name } => Compute { image_id: id, image: name, ..compute },
    }
}
