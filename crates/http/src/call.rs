//! One request on its way through a handler: what was parsed of it, and how its answer is made durable.

use std::sync::Arc;

use bytes::Bytes;
use nephos_control::Cloud;
use nephos_control::caller::{Caller, ComputeWrite, Grant, Permission, Request};
use nephos_control::compute::Begun;
use nephos_control::idempotency::{Recording, Ticket};
use nephos_control::plan::{CommitError, Plan};
use nephos_model::id::{Id, OperationId, ProjectId};
use nephos_model::price::SizePrice;
use nephos_model::region::Capacity;
use nephos_model::{Code, Detail, Fault};
use schemars::JsonSchema;
use serde::Serialize;

use crate::app::App;
use crate::endpoint::{Endpoint, Need};
use crate::fields::Body;
use crate::headers::Tags;
use crate::mount::Mount;
use crate::query::Query;
use crate::reply::{Reply, Shape, etag};
use crate::surface::Stamp;

/// `Preference-Applied` of an envelope that was asked for.
pub const ENVELOPE_APPLIED: &str = "envelope=always";

/// One request, parsed.
#[derive(Debug)]
pub struct Call {
    pub(crate) app: Arc<App>,
    /// Who calls; nobody does an open operation.
    pub(crate) caller: Option<Arc<Caller>>,
    pub(crate) request: Arc<Request>,
    pub(crate) request_uuid: String,
    pub(crate) mount: Mount,
    pub(crate) endpoint: &'static Endpoint,
    /// What the request needs of its credential.
    pub(crate) need: Option<Need>,
    /// The path under the base URL.
    pub(crate) path: String,
    /// The `{id}` of the path.
    pub(crate) segment: String,
    /// The media type in which the client wants the answer.
    pub(crate) form: &'static str,
    pub(crate) query: Query,
    pub(crate) body: Body,
    pub(crate) if_match: Option<Tags>,
    pub(crate) if_none_match: Option<Tags>,
    pub(crate) envelope: bool,
    /// Seconds for which the client prefers to wait for the end of what it begins.
    pub(crate) wait_s: Option<u32>,
    /// The last event that the client has of a stream.
    pub(crate) last_event_id: Option<String>,
    pub(crate) ticket: Option<Ticket>,
}

/// What a handler leaves.
#[derive(Debug)]
pub enum Answer {
    /// Something was read: the reply is yet to be rendered.
    Read(Reply),
    /// Something was written, together with this answer.
    Written(Rendered),
}

/// A reply as a surface says it.
#[derive(Debug)]
pub struct Rendered {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Bytes,
    /// `ETag`.
    pub etag: Option<String>,
    /// `Location`.
    pub location: Option<String>,
    /// `Preference-Applied`.
    pub preference_applied: Option<String>,
    /// `Operation-Id`.
    pub operation_id: Option<OperationId>,
    /// `Link`.
    pub link: Option<String>,
    /// The project whose object it is about.
    pub project_id: Option<ProjectId>,
    /// Whether the body holds a secret.
    pub secret: bool,
    /// The body's media type.
    pub form: &'static str,
}

/// A resource that was removed.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Deleted")]
pub struct DeletedView {
    /// Always true.
    pub deleted: bool,
    /// The id of what was removed.
    pub id: String,
}

/// What a dry run found.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "DryRun")]
pub struct DryRunView {
    /// Always true.
    pub dry_run: bool,
    /// What it would cost; null when it costs nothing.
    pub price: Option<PriceView>,
    /// What it would take of a region, which has room for it; null when it takes nothing.
    pub capacity: Option<CapacityView>,
}

/// What a compute takes of its region.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Capacity")]
pub struct CapacityView {
    /// The region.
    pub region: String,
    /// Virtual processors.
    pub vcpus: u64,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Disk in GiB.
    pub disk_gib: u64,
}

/// A price by the hour.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Price")]
pub struct PriceView {
    /// ISO 4217.
    pub currency: String,
    /// Millionths of the currency for an hour in which it runs.
    pub running_microunits_per_hour: i64,
    /// Millionths of the currency for an hour in which it is stopped.
    pub stopped_microunits_per_hour: i64,
}

impl Call {
    /// The control plane.
    pub fn cloud(&self) -> &Cloud {
        &self.app.cloud
    }

    /// The typed permission of the operation, which step 7 has checked already.
    ///
    /// # Errors
    /// A 500 when the table names another permission than the handler: a defect that the authorization test finds.
    pub fn grant<P: Permission>(&self) -> Result<Grant<P>, Fault> {
        if self.need != Some(Need::of::<P>()) {
            return Err(Fault::internal(format!("{} checks another permission than its handler", self.endpoint.id)));
        }
        self.caller()?.permit::<P>(&self.request)
    }

    /// Who calls.
    ///
    /// # Errors
    /// A 500 for an open operation, which nobody calls: a defect.
    pub(crate) fn caller(&self) -> Result<&Arc<Caller>, Fault> {
        self.caller.as_ref().ok_or_else(|| Fault::internal(format!("nobody calls {}", self.endpoint.id)))
    }

    /// The `{id}` of the path; a malformed one is the same 404 as an unknown one.
    ///
    /// # Errors
    /// That 404.
    pub fn id<T: Id>(&self, noun: &str) -> Result<T, Fault> {
        self.segment.parse().map_err(|_| Fault::not_found(noun))
    }

    /// Refuses a change of a resource whose state is not the one that `If-Match` names.
    ///
    /// # Errors
    /// That 412.
    pub fn must_match(&self, version: i64) -> Result<(), Fault> {
        let current = etag(version);
        match &self.if_match {
            Some(tags) if !tags.matches_strongly(&current) => {
                let detail = Detail::header("if-match", "changed", format!("The entity tag is {current} now."));
                let message = "The resource has changed since it was read; read it again and decide anew.";
                Err(Fault { details: vec![detail], ..Fault::new(Code::PreconditionFailed, message) })
            }
            _ => Ok(()),
        }
    }

    /// Answers something that was read.
    ///
    /// # Errors
    /// None; handlers end with this.
    pub fn read(&self, reply: Reply) -> Result<Answer, CommitError> {
        Ok(Answer::Read(reply))
    }

    /// Makes a plan durable together with its answer. With `dry_run` the plan is dropped and its price told.
    ///
    /// # Errors
    /// When a guard of the plan does not hold, or the store can't write.
    pub async fn commit<T>(&self, plan: Plan<T>, reply: impl FnOnce(&T) -> Reply) -> Result<Answer, CommitError> {
        if self.query.flag("dry_run") {
            self.cloud().rehearse(self.caller()?.tenant, &plan).await?;
            return self.read(Reply::report(&self.dry_run(plan.price, plan.capacity)));
        }
        let rendered = self.render(&reply(&plan.value).of(plan.project_id));
        let record = self.ticket.as_ref().map(|ticket| (ticket, rendered.recording()));
        self.cloud().commit(plan, record).await?;
        Ok(Answer::Written(rendered))
    }

    /// As [`Call::commit`], for what goes on after the answer: when the client prefers to wait, the answer is what there is
    /// at the end of it, and so is what its idempotency key replays.
    ///
    /// # Errors
    /// As [`Call::commit`].
    pub async fn commit_begun(
        &self,
        grant: &Grant<ComputeWrite>,
        plan: Plan<Begun>,
        reply: impl Fn(&Begun) -> Reply,
    ) -> Result<Answer, CommitError> {
        let (begun, project_id) = (plan.value.clone(), plan.project_id);
        let answer = self.commit(plan, &reply).await?;
        let (Answer::Written(first), Some(wait_s)) = (&answer, self.wait_s) else { return Ok(answer) };
        let Some(then) = self.cloud().await_begun(grant, &begun, wait_s).await else { return Ok(answer) };
        let rendered = Rendered { location: first.location.clone(), ..self.render(&reply(&then).of(project_id)) };
        match &self.ticket {
            // What is replayed must be what was answered: when that can't be written, the first answer stands.
            Some(ticket) if self.cloud().idempotency_amend(ticket, rendered.recording()).await.is_err() => Ok(answer),
            _ => Ok(Answer::Written(rendered)),
        }
    }

    fn dry_run(&self, price: Option<SizePrice>, capacity: Option<(String, Capacity)>) -> DryRunView {
        let price = price.map(|price| PriceView {
            currency: self.cloud().settings().currency.clone(),
            running_microunits_per_hour: price.running_microunits_per_hour,
            stopped_microunits_per_hour: price.stopped_microunits_per_hour,
        });
        let capacity = capacity.map(|(region, taken)| CapacityView {
            region,
            vcpus: taken.vcpus,
            memory_mib: taken.memory_mib,
            disk_gib: taken.disk_gib,
        });
        DryRunView { dry_run: true, price, capacity }
    }

    /// Gives a reply the form of the surface.
    pub(crate) fn render(&self, reply: &Reply) -> Rendered {
        let surface = self.mount.surface;
        let envelope = self.envelope && surface.knows_envelope();
        let stamp = Stamp {
            request_id: &self.request_uuid,
            now: self.cloud().clock().now(),
            origin: &self.app.config.origin,
            message: self.endpoint.done,
            envelope,
        };
        Rendered {
            status: reply.shape.status(),
            body: Bytes::from(surface.reply(reply, &stamp)),
            etag: reply.etag.clone(),
            location: reply.location.as_ref().map(|path| format!("{}{path}", self.mount.base)),
            preference_applied: self.preference_applied(envelope && reply.shape.has_envelope()),
            operation_id: reply.operation_id,
            link: self.link(&reply.shape),
            project_id: reply.project_id,
            secret: reply.secret,
            form: match reply.shape {
                Shape::Text { form, .. } => form,
                _ => crate::headers::JSON,
            },
        }
    }

    /// The preferences that were followed (RFC 7240).
    fn preference_applied(&self, envelope: bool) -> Option<String> {
        let wait = self.wait_s.map(|seconds| format!("wait={seconds}"));
        let applied: Vec<_> = envelope.then(|| ENVELOPE_APPLIED.to_owned()).into_iter().chain(wait).collect();
        (!applied.is_empty()).then(|| applied.join(", "))
    }

    /// `Link` of a list (RFC 8288), with paths that resolve against the request's own URL.
    fn link(&self, shape: &Shape) -> Option<String> {
        let (Shape::Listed(meta) | Shape::Text { meta: Some(meta), .. }) = shape else { return None };
        let filters = self.query.filters();
        let limit = meta.limit;
        let link = |rest: String, rel: &str| {
            format!("<{}{}?{filters}{rest}limit={limit}>; rel=\"{rel}\"", self.mount.base, self.path)
        };
        let mut links = vec![link(String::new(), "first")];
        if let Some(page) = meta.page {
            if page > 1 {
                // From past the end, the page before is the last one that holds something.
                let last = meta.total.max(1).unsigned_abs().div_ceil(u64::from(limit));
                links.push(link(format!("page={}&", u64::from(page - 1).min(last)), "prev"));
            }
            if meta.next.is_some() {
                links.push(link(format!("page={}&", u64::from(page) + 1), "next"));
            }
        } else if let Some(next) = &meta.next {
            links.push(link(format!("after={next}&"), "next"));
        }
        Some(links.join(", "))
    }
}

impl Rendered {
    fn recording(&self) -> Recording {
        Recording {
            status: self.status,
            body: self.body.to_vec(),
            location: self.location.clone(),
            etag: self.etag.clone(),
            preference_applied: self.preference_applied.clone(),
            is_secret: self.secret,
        }
    }
}
