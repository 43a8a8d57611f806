//! Resizing and rebuilding computes: what is asked for, and what it takes of quotas and region. Doing it is the
//! reconciler's work.
//!
//! From the request until the disk is altered the compute is what it was, and holds the larger of what it has and what it
//! will have of each quota and of its region's capacity.

use nephos_model::compute::{Alteration, Compute, Status, Wish};
use nephos_model::fault::Detail;
use nephos_model::operation::Kind;
use nephos_model::region::Capacity;
use nephos_model::size::Size;
use nephos_model::tenant::{Mode, TenantId};
use nephos_model::{Fault, Timestamp};
use nephos_store as store;

use crate::caller::{ComputeWrite, Grant};
use crate::compute::{Begun, change, size_of};
use crate::plan::Plan;
use crate::{Cloud, fault};

/// What another size takes more, and what it takes less, of each kind of capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Taken with the request, returned when it fails.
    pub more: Capacity,
    /// Returned once the compute has its new size.
    pub less: Capacity,
}

impl Difference {
    /// Between what a compute has and what it will have.
    pub(crate) fn of(compute: &Compute, alteration: &Alteration) -> Self {
        let has = size_of(compute);
        let will = match alteration {
            Alteration::Size { vcpus, memory_mib, disk_gib, .. } => Capacity {
                vcpus: u64::from(*vcpus),
                memory_mib: u64::from(*memory_mib),
                disk_gib: u64::from(*disk_gib),
            },
            Alteration::Image { .. } => has,
        };
        let beyond = |a: Capacity, b: Capacity| Capacity {
            vcpus: a.vcpus.saturating_sub(b.vcpus),
            memory_mib: a.memory_mib.saturating_sub(b.memory_mib),
            disk_gib: a.disk_gib.saturating_sub(b.disk_gib),
        };
        Self { more: beyond(will, has), less: beyond(has, will) }
    }
}

/// What a compute holds of quotas and capacity.
pub(crate) struct Holding {
    pub vcpus: u32,
    pub memory_mib: u32,
    pub disk_gib: u32,
    /// Whether it is being resized or rebuilt.
    pub is_altered: bool,
}

impl Cloud {
    /// What a compute holds: of two sizes the larger of each.
    pub(crate) async fn held_by(&self, tenant: TenantId, compute: &Compute) -> Result<Holding, Fault> {
        let Compute { vcpus, memory_mib, disk_gib, status, .. } = *compute;
        let has = Holding { vcpus, memory_mib, disk_gib, is_altered: false };
        if !matches!(status, Status::Resizing | Status::Rebuilding) {
            return Ok(has);
        }
        Ok(match self.store().alteration(tenant, compute.id).await.map_err(fault::store)? {
            Some(Alteration::Size { vcpus, memory_mib, disk_gib, .. }) => Holding {
                vcpus: has.vcpus.max(vcpus),
                memory_mib: has.memory_mib.max(memory_mib),
                disk_gib: has.disk_gib.max(disk_gib),
                is_altered: true,
            },
            found => Holding { is_altered: found.is_some(), ..has },
        })
    }

    /// Gives a compute another size. One that runs is shut down for it and booted again; its disk only grows.
    pub async fn resize_compute(
        &self,
        grant: &Grant<ComputeWrite>,
        compute: Compute,
        size: &str,
    ) -> Result<Plan<Begun>, Fault> {
        let Some(size) = self.size(size) else {
            let known: Vec<_> = self.settings().sizes.iter().map(|s| &*s.name).collect();
            let message = format!("is no size on offer; there are: {}", known.join(", "));
            return Err(Fault::bad(Detail::field("/size", "unknown_size", message)));
        };
        self.may_begin(grant, &compute, Kind::ComputeResize)?;
        let image = self.image_of(&compute).await?;
        let refuse =
            |code, message: String| Err(Fault::conflict(Detail::at("/size", code, message).resource(compute.id)));
        if size.name == compute.size && size_of(&compute) == capacity_of(size) {
            return refuse("same_size", format!("The compute has the size \"{}\" already.", size.name));
        }
        if size.disk_gib < compute.disk_gib {
            return refuse(
                "disk_would_shrink",
                format!(
                    "A disk can grow but not shrink: the size \"{}\" has {} GiB, and the compute {} GiB. Choose a size with \
                     at least as much disk, or create another compute.",
                    size.name, size.disk_gib, compute.disk_gib
                ),
            );
        }
        if size.memory_mib < image.min_memory_mib {
            let message = format!(
                "The image \"{}\" needs {} MiB of memory; choose a larger size.",
                image.name, image.min_memory_mib
            );
            return refuse("size_too_small", message);
        }
        let alteration = Alteration::Size {
            name: size.name.clone(),
            vcpus: size.vcpus,
            memory_mib: size.memory_mib,
            disk_gib: size.disk_gib,
        };
        let more = Difference::of(&compute, &alteration).more;
        let region = compute.region.clone();
        let promised = self.driver(grant.caller().mode, &region).map(|driver| self.promised(&**driver));
        let was_running = compute.status == Status::Running;
        let mut plan = self.alter(grant, &compute, Kind::ComputeResize, &alteration, was_running);
        plan.price = Some(self.price_of(size));
        plan.capacity = Some((region.clone(), capacity_of(size)));
        let (tenant, limits) = (grant.tenant(), &grant.caller().limits);
        for (noun, by, limit) in [
            ("quota.vcpus", more.vcpus, limits.vcpus),
            ("quota.memory_mib", more.memory_mib, limits.memory_mib),
            ("quota.disk_gib", more.disk_gib, limits.disk_gib),
        ] {
            if by > 0 {
                plan.take(tenant, noun, i64::try_from(by).unwrap_or(i64::MAX / 4), limit);
            }
        }
        let takes = more != Capacity { vcpus: 0, memory_mib: 0, disk_gib: 0 };
        if let (Mode::Live, Some(limit), true) = (grant.caller().mode, promised, takes) {
            // Of what it takes no more of, there need be no room.
            let only = |by: u64, limit: u64| if by > 0 { limit } else { u64::MAX };
            let limit = Capacity {
                vcpus: only(more.vcpus, limit.vcpus),
                memory_mib: only(more.memory_mib, limit.memory_mib),
                disk_gib: only(more.disk_gib, limit.disk_gib),
            };
            plan.admit(region, more, limit);
        }
        Ok(plan)
    }

    /// Throws a compute's disk away and boots it from a fresh one, made from another image or its own.
    pub async fn rebuild_compute(
        &self,
        grant: &Grant<ComputeWrite>,
        compute: Compute,
        image: Option<&str>,
    ) -> Result<Plan<Begun>, Fault> {
        let driver = self.driver(grant.caller().mode, &compute.region).cloned();
        let own = compute.image_id.to_string();
        let found = self.find_image(Some(image.unwrap_or(&own)), driver.as_deref()).await?;
        let Some(image) = found else {
            return Err(if image.is_some() {
                let message = "must be the id or name of an image; GET /images lists them";
                Fault::bad(Detail::field("/image", "unknown_image", message))
            } else {
                let message = format!(
                    "The compute's image \"{}\" is not offered any more; name another one. GET /images lists them.",
                    compute.image
                );
                Fault::conflict(Detail::at("/image", "image_gone", message).resource(compute.id))
            });
        };
        self.may_begin(grant, &compute, Kind::ComputeRebuild)?;
        if compute.protected {
            let message = format!(
                "The compute \"{}\" is protected, and rebuilding it would throw its disk away; set `protected` to false first.",
                compute.name
            );
            return Err(Fault::conflict(Detail::new("protected", message).resource(compute.id)));
        }
        if compute.memory_mib < image.min_memory_mib || compute.disk_gib < image.min_disk_gib {
            let message = format!(
                "The image \"{}\" needs {} MiB of memory and {} GiB of disk, and the compute has {} MiB and {} GiB; resize it first.",
                image.name, image.min_memory_mib, image.min_disk_gib, compute.memory_mib, compute.disk_gib
            );
            return Err(Fault::conflict(Detail::at("/image", "size_too_small", message).resource(compute.id)));
        }
        let alteration = Alteration::Image { id: image.id, name: image.name };
        let (region, size) = (compute.region.clone(), compute.size.clone());
        let mut plan = self.alter(grant, &compute, Kind::ComputeRebuild, &alteration, true);
        plan.price = self.size(&size).map(|size| self.price_of(size));
        plan.capacity = Some((region, size_of(&plan.value.compute)));
        Ok(plan)
    }

    /// The plan of an alteration, after which the compute is to run or to be stopped.
    fn alter(
        &self,
        grant: &Grant<ComputeWrite>,
        compute: &Compute,
        kind: Kind,
        alteration: &Alteration,
        then_runs: bool,
    ) -> Plan<Begun> {
        let (tenant, now): (_, Timestamp) = (grant.tenant(), self.now(grant.caller()));
        let mut changed = compute.clone();
        changed.status = Status::during(kind);
        changed.reason = None;
        changed.updated_at = now;
        changed.restarts = 0;
        changed.wish = if then_runs { Wish::Running } else { Wish::Stopped };
        changed.boots += i64::from(then_runs);
        let mut operation = self.new_operation(grant, kind, compute, now);
        // What is not to be done is no step of it.
        let was_running = compute.status == Status::Running;
        operation.steps.retain(|step| match step.name.as_str() {
            "shut_down" => was_running,
            "boot" => then_runs,
            _ => true,
        });
        changed.operation_id = Some(operation.id);
        let mut plan =
            Plan::new(Begun { compute: changed, operation }).of(compute.project_id, Some(compute.environment_id));
        plan.write(store::compute::update(tenant, &plan.value.compute, compute.status));
        plan.write([store::alteration::insert(tenant, compute.id, alteration)]);
        plan.value.compute.version += 1;
        self.begin(&mut plan, grant);
        let (event, action) = match kind {
            Kind::ComputeRebuild => ("compute.rebuilding", "compute.rebuild"),
            _ => ("compute.resizing", "compute.resize"),
        };
        let change = change(event, action, Some(compute), Some(&plan.value.compute), 202);
        self.journal(&mut plan, grant, now, change);
        plan
    }
}

fn capacity_of(size: &Size) -> Capacity {
    Capacity { vcpus: size.vcpus.into(), memory_mib: size.memory_mib.into(), disk_gib: size.disk_gib.into() }
}
