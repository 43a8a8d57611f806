//! Plans: a use-case reads and decides, and hands back what it would write. Committing is one atomic batch that holds
//! the change, its events, its audit row, its ledger rows and the idempotency record; dropping a plan is `dry_run`.

use nephos_model::Fault;
use nephos_model::Timestamp;
use nephos_model::event::Actor;
use nephos_model::fault::Detail;
use nephos_model::id::{AuditId, EnvironmentId, EventId, Id as _, MemberId, OperationId, ProjectId, RequestId};
use nephos_model::operation::{Kind, Status};
use nephos_model::price::SizePrice;
use nephos_model::region::Capacity;
use nephos_model::tenant::{Mode, TenantId};
use nephos_store::audit::NewAudit;
use nephos_store::{Batch, Statement, StoreError};

use crate::caller::{Grant, Request};
use crate::idempotency::{Recording, Ticket};
use crate::{Cloud, fault};

/// How often a request is run again because it lost a race, before it is a conflict.
pub const ATTEMPTS_MAX: u32 = 8;

/// What a use-case would write, and the value it would answer.
#[derive(Debug)]
pub struct Plan<T> {
    /// What the change leaves.
    pub value: T,
    /// The price of it, for `dry_run`.
    pub price: Option<SizePrice>,
    /// The region and what of it is taken, for `dry_run`.
    pub capacity: Option<(String, Capacity)>,
    /// The project that the changed object belongs to.
    pub project_id: Option<ProjectId>,
    /// The environment that the changed object belongs to.
    pub environment_id: Option<EnvironmentId>,
    pub(crate) batch: Batch,
    pub(crate) after: After,
    pub(crate) checks: Vec<crate::rehearse::Check>,
    /// Where the answer to the idempotency key is kept too: the tenant that a repetition will find itself in.
    pub(crate) kept_in: Option<TenantId>,
}

/// What is to be done once the batch is durable; only ever a hint, since the rows say it too.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools)] // hints, each with a name of its own
pub(crate) struct After {
    /// Reconcilers have something to do.
    pub work: bool,
    /// What credentials may do changed.
    pub credentials: bool,
    /// An operation changed.
    pub operation: Option<OperationId>,
    /// Operations that ended, and how.
    pub ended: Vec<(Kind, Status)>,
    /// Letters are to be sent.
    pub mail: bool,
    /// A tenant's rows are to be removed.
    pub epoch_over: bool,
    /// Deliveries to webhook endpoints are due, or endpoints changed.
    pub deliveries: bool,
    /// Much is due of a sandbox at once, and is done before the answer.
    pub settle: Option<TenantId>,
}

/// Why a plan was not committed.
#[derive(Debug)]
pub enum CommitError {
    /// The rows changed since they were read, or another request with the same idempotency key was faster: run the
    /// request again from its idempotency key on.
    Again,
    /// It can't be.
    Fault(Fault),
}

impl From<Fault> for CommitError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl<T> Plan<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            value,
            price: None,
            capacity: None,
            project_id: None,
            environment_id: None,
            batch: Batch::new(),
            after: After::default(),
            checks: Vec::new(),
            kept_in: None,
        }
    }

    pub(crate) fn of(mut self, project: ProjectId, environment: Option<EnvironmentId>) -> Self {
        self.project_id = Some(project);
        self.environment_id = environment;
        self
    }

    /// Adds a letter, which is sent once the plan is durable.
    pub(crate) fn mail(&mut self, letter: impl IntoIterator<Item = Statement>) {
        self.batch.extend(letter);
        self.after.mail = true;
    }

    pub(crate) fn write(&mut self, statements: impl IntoIterator<Item = Statement>) {
        self.batch.extend(statements);
    }
}

/// A change as the event and the audit row tell it.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    /// The event's kind, `noun.change`.
    pub event: &'static str,
    /// The audit row's action, `noun.verb`.
    pub action: &'static str,
    /// The resource.
    pub resource_id: String,
    /// Its project.
    pub project_id: Option<ProjectId>,
    /// Its environment.
    pub environment_id: Option<EnvironmentId>,
    /// The resource before, as JSON text.
    pub before: Option<String>,
    /// The resource after, as JSON text.
    pub after: Option<String>,
    /// The status of the answer.
    pub status: u16,
}

/// On whose account a change is written down.
#[derive(Debug, Clone)]
pub(crate) struct Author {
    /// Whose events and audit log.
    pub tenant: TenantId,
    /// Who did it.
    pub actor: Actor,
    /// The member behind the actor.
    pub member_id: Option<MemberId>,
    /// The client's address.
    pub address: Option<String>,
    /// The client's own id of the request.
    pub client_request_id: Option<String>,
    /// Our id of the request, as a UUID.
    pub request_id: String,
}

impl Author {
    /// The caller of a request.
    pub fn of<P>(grant: &Grant<P>) -> Self {
        let caller = grant.caller();
        Self {
            tenant: caller.tenant,
            actor: caller.actor(),
            member_id: Some(caller.member_id),
            ..Self::somebody(grant.request(), caller.tenant)
        }
    }

    /// The system itself, under an id of its own in place of a request's.
    pub fn system(tenant: TenantId, request: RequestId) -> Self {
        Self {
            tenant,
            actor: Actor::System,
            member_id: None,
            address: None,
            client_request_id: None,
            request_id: request.raw().to_uuid(),
        }
    }

    /// Whoever sent a request, of whom nothing is known but that.
    pub fn somebody(request: &Request, tenant: TenantId) -> Self {
        Self {
            tenant,
            actor: Actor::System,
            member_id: None,
            address: Some(request.address.to_string()),
            client_request_id: request.client_request_id.clone(),
            request_id: request.id.raw().to_uuid(),
        }
    }

    /// The same in another tenant's events and audit log.
    pub fn within(&self, tenant: TenantId) -> Self {
        Self { tenant, ..self.clone() }
    }
}

impl Cloud {
    /// Adds a change's event and audit row to the plan.
    pub(crate) fn journal<T, P>(&self, plan: &mut Plan<T>, grant: &Grant<P>, now: Timestamp, change: Change) {
        // A reset that comes between fails the whole: nothing is written into an epoch that is over.
        if grant.caller().mode == Mode::Test {
            plan.batch.push_first(nephos_store::tenant::hold_epoch(grant.tenant()));
        }
        self.tell(&mut plan.batch, &Author::of(grant), now, change);
    }

    /// The same with an event whose id is known already.
    pub(crate) fn journal_as<T, P>(
        &self,
        plan: &mut Plan<T>,
        grant: &Grant<P>,
        now: Timestamp,
        change: Change,
        event: EventId,
    ) {
        if grant.caller().mode == Mode::Test {
            plan.batch.push_first(nephos_store::tenant::hold_epoch(grant.tenant()));
        }
        let author = Author::of(grant);
        let request_id = Some(author.request_id.clone());
        plan.batch.push(Self::event_as(event, author.tenant, &change, author.actor.clone(), request_id, now));
        self.tell_audit(&mut plan.batch, &author, change);
    }

    /// Adds an audit row to the plan of what changes nothing and is worth one all the same.
    pub(crate) fn journal_read<T, P>(&self, plan: &mut Plan<T>, grant: &Grant<P>, read: Change) {
        if grant.caller().mode == Mode::Test {
            plan.batch.push_first(nephos_store::tenant::hold_epoch(grant.tenant()));
        }
        self.tell_audit(&mut plan.batch, &Author::of(grant), read);
    }

    /// Adds a change's event to the plan: for what changes along with the resource whose audit row tells of it.
    pub(crate) fn announce<T, P>(&self, plan: &mut Plan<T>, grant: &Grant<P>, now: Timestamp, change: &Change) {
        self.tell_event(&mut plan.batch, &Author::of(grant), now, change);
    }

    /// Adds a change's event and audit row to a batch.
    pub(crate) fn tell(&self, batch: &mut Batch, author: &Author, now: Timestamp, change: Change) {
        self.tell_event(batch, author, now, &change);
        self.tell_audit(batch, author, change);
    }

    fn tell_audit(&self, batch: &mut Batch, author: &Author, change: Change) {
        batch.push(nephos_store::audit::insert(
            author.tenant,
            NewAudit {
                id: self.id::<AuditId>(),
                action: change.action,
                resource_id: Some(change.resource_id),
                project_id: change.project_id,
                actor: author.actor.clone(),
                member_id: author.member_id,
                address: author.address.clone(),
                client_request_id: author.client_request_id.clone(),
                request_id: author.request_id.clone(),
                before: change.before,
                after: change.after,
                status: change.status,
                created_at: self.clock().now(),
            },
        ));
    }

    fn tell_event(&self, batch: &mut Batch, author: &Author, now: Timestamp, change: &Change) {
        let request_id = Some(author.request_id.clone());
        batch.push(self.event_of(author.tenant, change, author.actor.clone(), request_id, now));
    }

    /// Makes a plan durable, with the answer to its idempotency key if it has one, and hands back its value.
    pub async fn commit<T>(&self, plan: Plan<T>, record: Option<(&Ticket, Recording)>) -> Result<T, CommitError> {
        let Plan { value, mut batch, after, project_id, environment_id, checks, kept_in, .. } = plan;
        if let Some((ticket, recording)) = record {
            let record =
                |recording, tenant| self.idempotency_record(ticket, recording, project_id, environment_id, tenant);
            if kept_in.is_some() {
                batch.push(record(recording.clone(), kept_in));
            }
            batch.push_first(record(recording, None));
        }
        let settling = after.settle.map(|tenant| self.0.settling.begin(tenant));
        match self.store().write(batch).await {
            Ok(_) => {
                self.wake(&after);
                if let Some(tenant) = after.settle {
                    self.settle(tenant).await;
                }
                drop(settling);
                Ok(value)
            }
            Err(StoreError::Missed { miss, .. }) if miss == nephos_store::tenant::EPOCH_OVER => {
                self.0.credentials.forget();
                Err(CommitError::Fault(fault::epoch_over()))
            }
            // Another process took the number of a new tenant.
            Err(StoreError::Unique { constraint, .. }) if constraint.contains("tenants") => Err(CommitError::Again),
            Err(StoreError::Missed { miss, .. })
                if miss == nephos_store::project::STALE || miss == nephos_store::idempotency::DUPLICATE =>
            {
                Err(CommitError::Again)
            }
            Err(StoreError::Missed { miss, .. }) if miss == nephos_store::counter::QUOTA && !checks.is_empty() => {
                Err(CommitError::Fault(self.over_quota(&checks).await))
            }
            Err(StoreError::Missed { miss, .. }) if fault::missed(miss).is_some() => {
                Err(fault::missed(miss).map_or(CommitError::Again, CommitError::Fault))
            }
            Err(StoreError::Unique { constraint, .. })
                if ["environments", "computes", "workspaces"].iter().any(|table| constraint.contains(table)) =>
            {
                let detail = Detail::at("/name", "name_taken", "The name is taken.");
                Err(CommitError::Fault(Fault::conflict(detail)))
            }
            Err(error) => Err(CommitError::Fault(fault::store(error))),
        }
    }
}
