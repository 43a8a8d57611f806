//! Computes: making, changing, acting on and deleting them. Making it so is the reconciler's work.

use std::collections::BTreeMap;

use nephos_driver::{Driver, DriverError};
use nephos_model::compute::{Compute, RestartPolicy, SSH_KEYS_MAX, Status, Wish};
use nephos_model::fault::{Code, Detail};
use nephos_model::id::{ComputeId, EnvironmentId, OperationId, ProjectId, SshKeyId};
use nephos_model::image::Image;
use nephos_model::name::Hostname;
use nephos_model::operation::{Kind, Operation, Status as OperationStatus};
use nephos_model::page::{Listed, Page};
use nephos_model::project::{Environment, Project};
use nephos_model::region::Capacity;
use nephos_model::size::Size;
use nephos_model::ssh_key::PublicKey;
use nephos_model::{Fault, Timestamp};
use nephos_store as store;
pub use nephos_store::compute::{Filter, LABELS_MAX};

use crate::caller::{Caller, ComputeRead, ComputeWrite, Grant};
use crate::operation::end;
use crate::plan::{Change, Plan};
use crate::region::unavailable;
use crate::rehearse::Check;
use crate::shown::ShownCompute;
use crate::view::{ComputeView, OperationView, json};
use crate::{Cloud, fault};

/// The environment of a compute when none is named.
pub const ENVIRONMENT_DEFAULT: &str = "dev";
/// Bytes of the serial console that one request answers, at most.
pub const CONSOLE_BYTES_MAX: usize = 64 * 1024;

/// A compute that is asked for. What is `None` has a default.
#[derive(Debug, Clone)]
pub struct NewCompute {
    /// Its name.
    pub name: Hostname,
    /// What it is made of and where.
    pub choice: Choice,
    /// cloud-init user data, within its bound.
    pub user_data: Option<String>,
    /// Labels, checked.
    pub labels: BTreeMap<String, String>,
    /// Whether deleting is refused.
    pub protected: bool,
    /// What happens when it stops by itself.
    pub restart_policy: RestartPolicy,
}

/// What a new compute names, all of which must be there.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// Its project; the default is the credential's, else the workspace's first.
    pub project_id: Option<ProjectId>,
    /// Its environment's id, or its name in the project.
    pub environment: Option<String>,
    /// Its region's name.
    pub region: Option<String>,
    /// Its size's name.
    pub size: Option<String>,
    /// Its image's id or name.
    pub image: Option<String>,
    /// Ids or names of the workspace's SSH keys, or whole public keys.
    pub ssh_keys: Vec<String>,
}

/// A change of a compute. What is `None` stays.
#[derive(Debug, Clone, Default)]
pub struct ComputePatch {
    /// Another name; the guest learns of it when it is rebuilt.
    pub name: Option<Hostname>,
    /// Other labels, checked.
    pub labels: Option<BTreeMap<String, String>>,
    /// Whether deleting is refused.
    pub protected: Option<bool>,
    /// What happens when it stops by itself.
    pub restart_policy: Option<RestartPolicy>,
}

/// A compute and the operation that was begun on it.
#[derive(Debug, Clone)]
pub struct Begun {
    /// The compute.
    pub compute: Compute,
    /// The operation.
    pub operation: Operation,
}

/// A compute's labels.
pub fn labels(compute: &Compute) -> BTreeMap<String, String> {
    // Written by this program only, as an object of texts.
    serde_json::from_str(&compute.labels).unwrap_or_default()
}

impl Cloud {
    /// One compute, or 404.
    pub async fn compute(&self, grant: &Grant<ComputeRead>, id: ComputeId) -> Result<Compute, Fault> {
        self.visible_compute(grant, id).await
    }

    /// One compute that is to be changed, or 404.
    pub async fn compute_to_change(&self, grant: &Grant<ComputeWrite>, id: ComputeId) -> Result<Compute, Fault> {
        self.visible_compute(grant, id).await
    }

    pub(crate) async fn visible_compute<P>(&self, grant: &Grant<P>, id: ComputeId) -> Result<Compute, Fault> {
        let found = self.store().compute(grant.tenant(), id).await.map_err(fault::store)?;
        found.filter(|c| grant.caller().sees(c.project_id, c.environment_id)).ok_or_else(|| Fault::not_found("compute"))
    }

    /// A page of the computes that the credential sees.
    pub async fn computes(
        &self,
        grant: &Grant<ComputeRead>,
        mut filter: store::compute::Filter,
        page: &Page,
    ) -> Result<Listed<ShownCompute>, Fault> {
        let caller = grant.caller();
        let hidden = filter.project_id.is_some_and(|p| !caller.sees_project(p))
            || filter.environment_id.is_some_and(|e| caller.environment_id.is_some_and(|only| only != e));
        if hidden {
            return Ok(Listed { items: Vec::new(), total: 0, more: false });
        }
        filter.project_id = filter.project_id.or(caller.project_id);
        filter.environment_id = filter.environment_id.or(caller.environment_id);
        let tenant = grant.tenant();
        // Most of a list did not change since it was last shown: then its rows are neither read nor rendered.
        let listed = self.store().compute_editions(tenant, &filter, page).await.map_err(fault::store)?;
        if let Some(items) = self.0.shown.all(&listed.items) {
            return Ok(Listed { items, total: listed.total, more: listed.more });
        }
        let listed = self.store().computes(tenant, &filter, page).await.map_err(fault::store)?;
        let items = listed.items.iter().map(|compute| self.0.shown.show(compute)).collect();
        Ok(Listed { items, total: listed.total, more: listed.more })
    }

    /// A new compute; it is provisioned from then on.
    pub async fn create_compute(&self, grant: &Grant<ComputeWrite>, new: NewCompute) -> Result<Plan<Begun>, Fault> {
        let tenant = grant.tenant();
        let now = self.now(grant.caller());
        let ((project, environment), ssh_keys, parts) = self.found(grant, &new.choice).await?;
        if let Some(driver) = self.driver(grant.caller().mode, &parts.region) {
            check_labels(&**driver, &new.labels, InBody::Yes)?;
        }
        let label_list: Vec<_> = new.labels.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        let mut compute = Compute {
            id: self.id(),
            name: new.name.as_str().to_owned(),
            project_id: project.id,
            environment_id: environment.id,
            region: parts.region,
            size: parts.size.name.clone(),
            vcpus: parts.size.vcpus,
            memory_mib: parts.size.memory_mib,
            disk_gib: parts.size.disk_gib,
            image_id: parts.image.id,
            image: parts.image.name,
            status: Status::Provisioning,
            reason: None,
            wish: Wish::Running,
            restart_policy: new.restart_policy,
            restarts: 0,
            protected: new.protected,
            labels: json(&new.labels),
            ssh_keys: ssh_keys.join("\n"),
            user_data: new.user_data,
            address: None,
            ssh_host_key: None,
            boots: 1,
            operation_id: None,
            notes: None,
            version: 1,
            created_at: now,
            updated_at: now,
            started_at: None,
        };
        let operation = self.new_operation(grant, Kind::ComputeCreate, &compute, now);
        compute.operation_id = Some(operation.id);
        let price = self.price_of(&parts.size);
        let mut plan = Plan::new(Begun { compute, operation }).of(project.id, Some(environment.id));
        plan.price = Some(price);
        plan.write([store::project::hold(tenant, project.id), store::environment::hold(tenant, environment.id)]);
        let wanted = size_of(&plan.value.compute);
        plan.capacity = Some((plan.value.compute.region.clone(), wanted));
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX / 4);
        let limits = &grant.caller().limits;
        plan.take(tenant, "quota.computes", 1, limits.computes);
        plan.write([store::workspace::lives(grant.caller().workspace_id)]);
        plan.take(tenant, "quota.vcpus", number(wanted.vcpus), limits.vcpus);
        plan.take(tenant, "quota.memory_mib", number(wanted.memory_mib), limits.memory_mib);
        plan.take(tenant, "quota.disk_gib", number(wanted.disk_gib), limits.disk_gib);
        if let Some(limit) = parts.promised {
            let region = plan.value.compute.region.clone();
            plan.admit(region, wanted, limit);
        }
        plan.checks.push(Check::ComputeName { environment: environment.id, name: plan.value.compute.name.clone() });
        plan.write(store::compute::insert(tenant, &plan.value.compute, &label_list));
        self.begin(&mut plan, grant);
        let change = change("compute.created", "compute.create", None, Some(&plan.value.compute), 201);
        self.journal(&mut plan, grant, now, change);
        Ok(plan)
    }

    /// What is wrong with what a new compute names: for a request that can't be made for other reasons as well.
    pub async fn wrong_choice(&self, grant: &Grant<ComputeWrite>, choice: &Choice) -> Vec<Detail> {
        match self.found(grant, choice).await {
            Err(fault) if fault.code == Code::BadRequest => fault.details,
            _ => Vec::new(),
        }
    }

    /// Everything that a new compute names, or all that is unknown of it in one fault.
    async fn found(&self, grant: &Grant<ComputeWrite>, choice: &Choice) -> Result<Found, Fault> {
        let home = self.home(grant, choice).await;
        let ssh_keys = self.authorized_keys(grant, &choice.ssh_keys).await;
        let parts = self.choose(grant.caller(), choice).await;
        match (home, ssh_keys, parts) {
            (Ok(home), Ok(ssh_keys), Ok(parts)) => Ok((home, ssh_keys, parts)),
            (home, ssh_keys, parts) => {
                Err(fault::together([home.err(), ssh_keys.err(), parts.err()].into_iter().flatten().collect()))
            }
        }
    }

    /// Project and environment of a new compute: 404 for a project that is not visible, 400 for an environment that is
    /// not the project's.
    async fn home(&self, grant: &Grant<ComputeWrite>, new: &Choice) -> Result<(Project, Environment), Fault> {
        let tenant = grant.tenant();
        let caller = grant.caller();
        let project = if let Some(id) = new.project_id.or(caller.project_id) {
            self.visible_project(grant, id).await.map_err(|fault| fault::of_body(fault, "/project_id"))?
        } else {
            let first = self.store().default_project(tenant).await.map_err(fault::store)?;
            first.ok_or_else(|| Fault::not_found("project"))?
        };
        let found = match (new.environment.as_deref(), caller.environment_id) {
            (None, Some(own)) => self.store().environment(tenant, own).await,
            (named, _) => {
                let named = named.unwrap_or(ENVIRONMENT_DEFAULT);
                match named.parse::<EnvironmentId>() {
                    Ok(id) => self.store().environment(tenant, id).await,
                    Err(_) => self.store().environment_named(tenant, project.id, named).await,
                }
            }
        };
        let environment =
            found.map_err(fault::store)?.filter(|e| e.project_id == project.id && caller.sees(project.id, e.id));
        let environment = environment.ok_or_else(|| {
            let message = format!("must be the id or name of an environment of the project {}", project.id);
            Fault::bad(Detail::field("/environment", "unknown_environment", message))
        })?;
        Ok((project, environment))
    }

    /// Region, size and image of a new compute: every unknown one is named in one 400.
    async fn choose(&self, caller: &Caller, new: &Choice) -> Result<Chosen, Fault> {
        let mut details = Vec::new();
        let unknown = |pointer, code, what: &str, known: Vec<&str>| {
            Detail::field(pointer, code, format!("is no {what} on offer; there are: {}", known.join(", ")))
        };
        let region = match &new.region {
            None => self.regions_of(caller.mode).next(),
            Some(name) => self.regions_of(caller.mode).find(|(r, _)| r.name == *name),
        };
        if region.is_none() {
            let known = self.regions_of(caller.mode).map(|(r, _)| &*r.name).collect();
            details.push(unknown("/region", "unknown_region", "region", known));
        }
        let size = match &new.size {
            None => self.settings().sizes.first(),
            Some(name) => self.size(name),
        };
        if size.is_none() {
            let known = self.settings().sizes.iter().map(|s| &*s.name).collect();
            details.push(unknown("/size", "unknown_size", "size", known));
        }
        let image = self.find_image(new.image.as_deref(), region.map(|(_, driver)| &**driver)).await?;
        if image.is_none() {
            details.push(if new.image.is_none() {
                let message = "The installation has no image yet; the operator adds one with `nephos image add`.";
                Detail::at("/image", "unknown_image", message)
            } else {
                Detail::field("/image", "unknown_image", "must be the id or name of an image; GET /images lists them")
            });
        }
        let (Some((region, driver)), Some(size), Some(image)) = (region, size, image) else {
            return Err(Fault::invalid(details));
        };
        if size.memory_mib < image.min_memory_mib || size.disk_gib < image.min_disk_gib {
            let message = format!(
                "is too small for the image \"{}\", which needs {} MiB of memory and {} GiB of disk",
                image.name, image.min_memory_mib, image.min_disk_gib
            );
            return Err(Fault::bad(Detail::field("/size", "size_too_small", message)));
        }
        if let Some(reason) = unavailable(&**driver) {
            let message = format!("The region \"{}\" can't run computes now: {reason}", region.name);
            let detail = Detail::at("/region", "region_unavailable", message.clone());
            return Err(Fault { details: vec![detail], ..Fault::new(Code::CapacityUnavailable, message) });
        }
        let promised = (caller.mode == nephos_model::tenant::Mode::Live).then(|| self.promised(&**driver));
        Ok(Chosen { region: region.name.clone(), promised, size: size.clone(), image })
    }

    /// The public keys behind ids, names and whole keys: every unknown one is named in one 400.
    async fn authorized_keys(&self, grant: &Grant<ComputeWrite>, wanted: &[String]) -> Result<Vec<String>, Fault> {
        let tenant = grant.tenant();
        let mut keys: Vec<String> = Vec::new();
        let mut details = Vec::new();
        if wanted.len() > SSH_KEYS_MAX {
            return Err(Fault::bad(Detail::field(
                "/ssh_keys",
                "too_many",
                format!("must hold at most {SSH_KEYS_MAX} keys"),
            )));
        }
        for (at, text) in wanted.iter().enumerate() {
            let pointer = format!("/ssh_keys/{at}");
            let found = if text.contains(' ') {
                match PublicKey::parse(text) {
                    Ok(key) => Some(key.as_str().to_owned()),
                    Err(error) => {
                        details.push(Detail::field(&pointer, "invalid_public_key", error.0));
                        continue;
                    }
                }
            } else {
                let found = match text.parse::<SshKeyId>() {
                    Ok(id) => self.store().ssh_key(tenant, id).await,
                    Err(_) => self.store().ssh_key_named(tenant, text).await,
                };
                found.map_err(fault::store)?.map(|k| k.public_key)
            };
            match found {
                Some(key) if keys.contains(&key) => {}
                Some(key) => keys.push(key),
                None => details.push(Detail::field(
                    &pointer,
                    "unknown_ssh_key",
                    "must be the id or name of an SSH key of the workspace, or a public key",
                )),
            }
        }
        if details.is_empty() { Ok(keys) } else { Err(Fault::invalid(details)) }
    }

    /// A compute with another name, labels, protection or restart policy.
    pub async fn change_compute(
        &self,
        grant: &Grant<ComputeWrite>,
        compute: Compute,
        patch: ComputePatch,
    ) -> Result<Plan<Compute>, Fault> {
        let tenant = grant.tenant();
        let now = self.now(grant.caller());
        let mut changed = compute.clone();
        if let Some(name) = &patch.name {
            name.as_str().clone_into(&mut changed.name);
        }
        if let Some(labels) = &patch.labels {
            changed.labels = json(labels);
            // No room is an answer to what asks for room: a compute may be given the label beforehand.
            let driver = self.driver(grant.caller().mode, &compute.region);
            if let Some(Err(fault)) = driver.map(|driver| check_labels(&**driver, labels, InBody::Yes))
                && fault.code == Code::BadRequest
            {
                return Err(fault);
            }
        }
        changed.protected = patch.protected.unwrap_or(changed.protected);
        changed.restart_policy = patch.restart_policy.unwrap_or(changed.restart_policy);
        if changed == compute {
            let (project, environment) = (compute.project_id, compute.environment_id);
            return Ok(Plan::new(compute).of(project, Some(environment)));
        }
        changed.updated_at = now;
        let mut plan = Plan::new(changed).of(compute.project_id, Some(compute.environment_id));
        plan.write(store::compute::update(tenant, &plan.value, compute.status));
        if let Some(labels) = &patch.labels {
            let labels: Vec<_> = labels.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
            plan.write(store::compute::relabel(tenant, compute.id, &labels));
        }
        plan.value.version += 1;
        let change = change("compute.updated", "compute.update", Some(&compute), Some(&plan.value), 200);
        self.journal(&mut plan, grant, now, change);
        Ok(plan)
    }

    /// Starts, stops or reboots a compute; 409 names the state that forbids it.
    pub async fn act_on_compute(
        &self,
        grant: &Grant<ComputeWrite>,
        compute: Compute,
        kind: Kind,
    ) -> Result<Plan<Begun>, Fault> {
        let tenant = grant.tenant();
        let now = self.now(grant.caller());
        self.may_begin(grant, &compute, kind)?;
        let mut changed = compute.clone();
        changed.status = Status::during(kind);
        changed.reason = None;
        changed.updated_at = now;
        changed.restarts = 0;
        if kind == Kind::ComputeStop {
            changed.wish = Wish::Stopped;
        } else {
            changed.wish = Wish::Running;
            changed.boots += 1;
        }
        let operation = self.new_operation(grant, kind, &compute, now);
        changed.operation_id = Some(operation.id);
        let mut plan =
            Plan::new(Begun { compute: changed, operation }).of(compute.project_id, Some(compute.environment_id));
        plan.price = self.size(&compute.size).map(|size| self.price_of(size));
        plan.capacity = Some((compute.region.clone(), size_of(&compute)));
        plan.write(store::compute::update(tenant, &plan.value.compute, compute.status));
        plan.value.compute.version += 1;
        self.begin(&mut plan, grant);
        let (event, action) = match kind {
            Kind::ComputeStart => ("compute.starting", "compute.start"),
            Kind::ComputeStop => ("compute.stopping", "compute.stop"),
            _ => ("compute.rebooting", "compute.reboot"),
        };
        let change = change(event, action, Some(&compute), Some(&plan.value.compute), 202);
        self.journal(&mut plan, grant, now, change);
        Ok(plan)
    }

    /// Refuses an action that the compute's state or its region does not allow now.
    pub(crate) fn may_begin(&self, grant: &Grant<ComputeWrite>, compute: &Compute, kind: Kind) -> Result<(), Fault> {
        if !compute.status.allows(kind) {
            let verb = kind.as_str().rsplit('.').next().unwrap_or_default();
            let message = format!("The compute is {}, which does not allow to {verb} it.", compute.status);
            return Err(Fault::conflict(Detail::new("state_forbids", message).resource(compute.id)));
        }
        let driver = self.driver(grant.caller().mode, &compute.region);
        if let Some(reason) =
            driver.map_or(Some("the region is not configured any more".to_owned()), |d| unavailable(&**d))
        {
            let message = format!("The region \"{}\" can't run computes now: {reason}", compute.region);
            return Err(Fault {
                details: vec![Detail::new("region_unavailable", message.clone())],
                ..Fault::new(Code::CapacityUnavailable, message)
            });
        }
        if let (Kind::ComputeStart | Kind::ComputeRebuild, Some(driver)) = (kind, driver) {
            check_labels(&**driver, &labels(compute), InBody::No)?;
        }
        Ok(())
    }

    /// Writes the operation of a plan and wakes a reconciler.
    pub(crate) fn begin<P>(&self, plan: &mut Plan<Begun>, grant: &Grant<P>) {
        let Begun { compute, operation } = &plan.value;
        let mut statements = store::operation::insert(grant.tenant(), operation);
        statements.push(store::work::want(grant.tenant(), compute.id, &compute.region, self.clock().now()));
        plan.write(statements);
        plan.after.work = true;
    }

    /// No more compute: gone from every list at once; its clean-up is the operation. 409 when it is protected.
    pub async fn delete_compute(&self, grant: &Grant<ComputeWrite>, compute: Compute) -> Result<Plan<Begun>, Fault> {
        let now = self.now(grant.caller());
        let operation = self.new_operation(grant, Kind::ComputeDelete, &compute, now);
        let begun = Begun { compute: compute.clone(), operation };
        let mut plan = Plan::new(begun).of(compute.project_id, Some(compute.environment_id));
        plan.write(store::operation::insert(grant.tenant(), &plan.value.operation));
        let operation = plan.value.operation.id;
        self.remove(&mut plan, grant, &compute, operation, now).await?;
        self.overtake(&mut plan, grant, &compute, now).await?;
        Ok(plan)
    }

    /// What was under way on a compute ends with it.
    async fn overtake<T, P>(
        &self,
        plan: &mut Plan<T>,
        grant: &Grant<P>,
        compute: &Compute,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let Some(id) = compute.operation_id else { return Ok(()) };
        let found = self.store().operation(grant.tenant(), id).await.map_err(fault::store)?;
        if let Some((mut under_way, version)) = found.filter(|(o, _)| !o.status.ended()) {
            let before = json(&OperationView::from(&under_way));
            end(&mut under_way, OperationStatus::Cancelled, None, now);
            plan.write([store::operation::update(grant.tenant(), &under_way, version)]);
            let change = crate::operation::change("operation.cancelled", "compute.delete", &under_way, 200);
            let change = Change { before: Some(before), ..change };
            self.announce(plan, grant, now, &change);
            plan.after.operation = Some(id);
            plan.after.ended.push((under_way.kind, OperationStatus::Cancelled));
        }
        Ok(())
    }

    /// Adds a compute's removal to the plan of whatever takes it along, whose operation is written by the caller.
    pub(crate) async fn remove_compute<T, P>(
        &self,
        plan: &mut Plan<T>,
        grant: &Grant<P>,
        compute: &Compute,
        operation: OperationId,
        now: Timestamp,
    ) -> Result<(), Fault> {
        self.remove(plan, grant, compute, operation, now).await?;
        self.overtake(plan, grant, compute, now).await
    }

    async fn remove<T, P>(
        &self,
        plan: &mut Plan<T>,
        grant: &Grant<P>,
        compute: &Compute,
        operation: OperationId,
        now: Timestamp,
    ) -> Result<(), Fault> {
        if compute.protected {
            let message = format!("The compute \"{}\" is protected; set `protected` to false first.", compute.name);
            return Err(Fault::conflict(Detail::new("protected", message).resource(compute.id)));
        }
        let tenant = grant.tenant();
        let held = self.held_by(tenant, compute).await?;
        let removal = store::compute::Removal {
            compute_id: compute.id,
            operation_id: operation,
            region: compute.region.clone(),
            machine: compute.notes.clone().unwrap_or_default(),
            vcpus: held.vcpus,
            memory_mib: held.memory_mib,
            disk_gib: held.disk_gib,
            requested_at: now,
        };
        if held.is_altered {
            plan.write([store::alteration::delete(tenant, compute.id)]);
        }
        plan.write(store::compute::delete(tenant, compute, &removal));
        plan.write(store::meter::stop(tenant, compute.id, now.secs(), operation));
        plan.write([store::work::want(tenant, compute.id, &compute.region, self.clock().now())]);
        plan.after.work = true;
        let change = change("compute.deleted", "compute.delete", Some(compute), None, 200);
        self.journal(plan, grant, now, change);
        Ok(())
    }

    /// The last output of a compute's serial console, with everything but printable text and line ends made visible.
    pub async fn console(&self, grant: &Grant<ComputeRead>, id: ComputeId) -> Result<String, Fault> {
        let compute = self.visible_compute(grant, id).await?;
        let Some(driver) = self.driver(grant.caller().mode, &compute.region) else { return Ok(String::new()) };
        let image = self.image_of(&compute).await?;
        let machine = crate::reconcile::machine(&compute, image, self.now(grant.caller()));
        let bytes = driver.console(&machine, CONSOLE_BYTES_MAX).await.map_err(|e| Fault::unavailable(1, e))?;
        Ok(inert(&bytes))
    }

    /// The image of a compute; one that was removed since leaves what its disk needs.
    pub(crate) async fn image_of(&self, compute: &Compute) -> Result<Image, Fault> {
        let found = self.store().image(compute.image_id).await.map_err(fault::store)?;
        Ok(found.unwrap_or_else(|| Image {
            id: compute.image_id,
            name: compute.image.clone(),
            ..crate::image::simulated_image()
        }))
    }
}

/// The home of a new compute, the keys that may log in, and what it is made of.
type Found = ((Project, Environment), Vec<String>, Chosen);

struct Chosen {
    region: String,
    promised: Option<Capacity>,
    size: Size,
    image: Image,
}

/// What a compute takes.
pub(crate) fn size_of(c: &Compute) -> Capacity {
    Capacity { vcpus: c.vcpus.into(), memory_mib: c.memory_mib.into(), disk_gib: c.disk_gib.into() }
}

/// Whether labels are those of the request's body, which a refusal then points into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InBody {
    Yes,
    No,
}

/// Refuses labels with which a driver would not take a compute: 422 when they ask for no room to be simulated, 400 when
/// they ask for what is not known.
fn check_labels(driver: &dyn Driver, labels: &BTreeMap<String, String>, in_body: InBody) -> Result<(), Fault> {
    let detail = |code, why: String| match in_body {
        InBody::Yes => Detail::at("/labels/simulate", code, why),
        InBody::No => Detail::new(code, why),
    };
    let list: Vec<_> = labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    match driver.check_labels(&list) {
        Ok(()) => Ok(()),
        Err(DriverError::NoCapacity(why)) => Err(Fault {
            details: vec![detail("capacity_simulated", why.clone())],
            ..Fault::new(Code::CapacityUnavailable, why)
        }),
        Err(error) => Err(Fault::bad(detail("unknown_simulation", error.to_string()))),
    }
}

/// Bytes of a guest as text that can do nothing to a terminal or a log: UTF-8, control characters as `\x1b`.
fn inert(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(bytes.len());
    for c in String::from_utf8_lossy(bytes).chars() {
        match c {
            '\n' | '\t' => out.push(c),
            '\r' => {}
            c if c.is_control() => {
                let _ = write!(out, "\\x{:02x}", u32::from(c)); // a String takes every write
            }
            c => out.push(c),
        }
    }
    out
}

pub(crate) fn change(
    event: &'static str,
    action: &'static str,
    before: Option<&Compute>,
    after: Option<&Compute>,
    status: u16,
) -> Change {
    let text = |c: &Compute| json(&ComputeView::from(c));
    let any = after.or(before);
    Change {
        event,
        action,
        resource_id: any.map(|c| c.id.to_string()).unwrap_or_default(),
        project_id: any.map(|c| c.project_id),
        environment_id: any.map(|c| c.environment_id),
        before: before.map(text),
        after: after.map(text),
        status,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn guests_can_write_nothing_that_acts() {
        assert_eq!(super::inert(b"a\r\nb\x1b[2J\x07\xff\tc\xc2\x9b"), "a\nb\\x1b[2J\\x07\u{fffd}\tc\\x9b");
    }
}
