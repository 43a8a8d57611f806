//! Computes and the actions on them.

use nephos_control::caller::{ComputeRead, ComputeWrite, Grant};
use nephos_control::compute::{Begun, CONSOLE_BYTES_MAX, Choice, ComputePatch, Filter, NewCompute};
use nephos_control::plan::{CommitError, Plan};
use nephos_control::terminal::Opened;
use nephos_control::view::{ComputeView, OperationView};
use nephos_model::compute::{RestartPolicy, SSH_KEYS_MAX, USER_DATA_BYTES_MAX};
use nephos_model::id::{ComputeId, ProjectId};
use nephos_model::operation::Kind as Action;
use nephos_model::{Code, Detail, Fault};
use schemars::JsonSchema;
use serde::Serialize;

use crate::call::{Answer, Call, DeletedView};
use crate::endpoint::{Endpoint, Need, Outcome, Success, schema_of};
use crate::fields::{Body, Field, Kind};
use crate::query::{AFTER, DRY_RUN, LABEL, LIMIT, PAGE, Parameter};
use crate::reply::Reply;

const ALL: &str = "/computes";
const ONE: &str = "/computes/{id}";
const STATUSES: &[&str] =
    &["provisioning", "running", "stopping", "stopped", "starting", "rebooting", "resizing", "rebuilding", "failed"];
const POLICIES: &[&str] = &["never", "on_failure"];
/// A whole public key has at most this many characters, and a name or id fewer.
const KEY: Kind = Kind::Text { bytes_max: nephos_model::ssh_key::PUBLIC_KEY_CHARS_MAX };

const FILTERS: &[Parameter] = &[
    PAGE,
    LIMIT,
    AFTER,
    Parameter::new("status", Kind::OneOf(STATUSES), "Only computes in this status."),
    Parameter::new("region", Kind::Hostname, "Only computes in this region."),
    Parameter::new("project_id", Kind::Id("prj"), "Only computes of this project."),
    Parameter::new("environment_id", Kind::Id("env"), "Only computes of this environment."),
    Parameter::new("name", Kind::Hostname, "Only computes with this name."),
    LABEL,
];

const NEW: &[Field] = &[
    Field::required("name", Kind::Hostname, "Its name, a hostname label unique in its environment."),
    Field::nullable(
        "project_id",
        Kind::Id("prj"),
        "Its project; by default the credential's, else the workspace's first.",
    ),
    Field::nullable("environment", Kind::Reference("an environment"), "Its environment's name or id; by default dev."),
    Field::nullable("region", Kind::Hostname, "Its region's name; by default the first."),
    Field::nullable("size", Kind::Hostname, "Its size's name; by default the first that holds the image."),
    Field::nullable("image", Kind::Reference("an image"), "Its image's name or id; by default the first."),
    Field::optional(
        "ssh_keys",
        Kind::List { of: &KEY, items_max: SSH_KEYS_MAX },
        "Names or ids of the workspace's SSH keys, or whole public keys, that may log in.",
    ),
    Field::nullable("user_data", Kind::Text { bytes_max: USER_DATA_BYTES_MAX }, "cloud-init user data."),
    Field::optional("labels", Kind::Labels, "Its labels."),
    Field::optional("protected", Kind::Bool, "Whether deleting and rebuilding it are refused; by default false."),
    Field::optional("restart_policy", Kind::OneOf(POLICIES), "What happens when it stops by itself; by default never."),
];

const CHANGE: &[Field] = &[
    Field::optional("name", Kind::Hostname, "Its new name; the guest learns of it when it is rebuilt."),
    Field::nullable("labels", Kind::Labels, "All of its labels; null removes them."),
    Field::optional("protected", Kind::Bool, "Whether deleting and rebuilding it are refused."),
    Field::optional("restart_policy", Kind::OneOf(POLICIES), "What happens when it stops by itself."),
];

const RESIZE: &[Field] = &[Field::required("size", Kind::Hostname, "The name of the size that it gets.")];

const REBUILD: &[Field] =
    &[Field::nullable("image", Kind::Reference("an image"), "The image's name or id; by default the one it has.")];

/// The operations.
pub const OPERATIONS: &[Endpoint] = &[
    Endpoint::new("compute.list", "GET", ALL, Success::Listed, schema_of::<ComputeView>, |c| Box::pin(list(c)))
        .needs(Need::of::<ComputeRead>())
        .told("List computes", "The computes that the credential sees, the newest first.", "Computes listed.")
        .query(FILTERS),
    Endpoint::new("compute.create", "POST", ALL, Success::Created, schema_of::<ComputeView>, |c| Box::pin(create(c)))
        .needs(Need::of::<ComputeWrite>())
        .told(
            "Create a compute",
            "Makes a compute instance and starts it. The answer comes at once; the operation that `operation_id` names tells \
             how far it is. With `Prefer: wait=N` the answer comes when it has ended, or N seconds later.",
            "Compute created; it is being provisioned.",
        )
        .query(&[DRY_RUN])
        .body(NEW, r#"{"name":"web-2","size":"micro","image":"small","labels":{"tier":"web"}}"#)
        .looks_up(|c| Box::pin(look_up(c)))
        .waits()
        .faults(&[Code::Conflict, Code::QuotaExceeded, Code::CapacityUnavailable]),
    Endpoint::new("compute.get", "GET", ONE, Success::Found, schema_of::<ComputeView>, |c| Box::pin(get(c)))
        .needs(Need::of::<ComputeRead>())
        .told("Read a compute", "One compute.", "Compute found."),
    Endpoint::new("compute.update", "PATCH", ONE, Success::Updated, schema_of::<ComputeView>, |c| Box::pin(update(c)))
        .needs(Need::of::<ComputeWrite>())
        .told("Change a compute", "Changes what is sent and leaves the rest.", "Compute updated.")
        .body(CHANGE, r#"{"protected":true}"#)
        .faults(&[Code::Conflict]),
    Endpoint::new("compute.delete", "DELETE", ONE, Success::Deleted, schema_of::<DeletedView>, |c| Box::pin(delete(c)))
        .needs(Need::of::<ComputeWrite>())
        .told(
            "Delete a compute",
            "From the answer on the compute is gone, unlisted and unbilled. The header Operation-Id names the clean-up, whose \
             end returns quota and capacity. Refused while it is protected.",
            "Compute deleted.",
        )
        .faults(&[Code::Conflict]),
    action("compute.start", "/computes/{id}/start", |c| Box::pin(act(c, Action::ComputeStart)))
        .told("Start a compute", "Boots a compute that is stopped or failed.", "Compute is starting."),
    action("compute.stop", "/computes/{id}/stop", |c| Box::pin(act(c, Action::ComputeStop)))
        .told(
            "Stop a compute",
            "Asks the guest to shut down, and cuts its power when it does not in time. Its disk is kept.",
            "Compute is stopping.",
        ),
    action("compute.reboot", "/computes/{id}/reboot", |c| Box::pin(act(c, Action::ComputeReboot)))
        .told("Reboot a compute", "Shuts the guest down and boots it again.", "Compute is rebooting."),
    action("compute.resize", "/computes/{id}/resize", |c| Box::pin(resize(c)))
        .told(
            "Resize a compute",
            "Gives a compute another size. One that runs is shut down for it and booted again, one that is stopped stays \
             stopped. The disk grows with the size and never shrinks. Quota and room for what the size adds are taken at \
             once; the compute has its new size, and costs what that costs, from the second at which its disk is ready.",
            "Compute is being resized.",
        )
        .body(RESIZE, r#"{"size":"medium"}"#)
        .faults(&[Code::Conflict, Code::CapacityUnavailable, Code::QuotaExceeded]),
    action("compute.rebuild", "/computes/{id}/rebuild", |c| Box::pin(rebuild(c)))
        .told(
            "Rebuild a compute",
            "Throws the root disk away and boots the compute from a fresh one, made from another image or its own. Everything \
             on the disk is lost. Id, name, address, SSH keys and the pinned SSH host key stay, and the user data run again. \
             Refused while it is protected.",
            "Compute is being rebuilt.",
        )
        .body(REBUILD, "{}"),
    Endpoint::new("compute.console", "GET", "/computes/{id}/console", Success::Found, schema_of::<ConsoleView>, |c| {
        Box::pin(console(c))
    })
    .needs(Need::of::<ComputeRead>())
    .told(
        "Read the serial console, or open a terminal on it",
        "The last output of the serial console. A client that asks for a WebSocket (RFC 6455, over HTTP/1.1) gets an \
         interactive terminal instead, with status 101: binary messages are bytes of the console both ways, a text message of \
         the client is typed as UTF-8, and one of the server is a notice in JSON, `{\"lost_bytes\":N}` after output that came \
         faster than it was read. This needs the scope `compute:write`, since it types, and a compute that is running, else 409. \
         It spends one read, and a key holds 20 connections at once; a compute has 8 terminals at most and a workspace 32, \
         else 429. The credential is read from the header alone: browsers can't set it, and cookies are ignored.",
        "Console output read.",
    )
    .faults(&[Code::Conflict])
    .upgrades(Need::of::<ComputeWrite>(), |c| Box::pin(open_terminal(c))),
];

const fn action(id: &'static str, path: &'static str, handler: fn(&Call) -> Outcome<'_>) -> Endpoint {
    Endpoint::new(id, "POST", path, Success::Accepted, schema_of::<OperationView>, handler)
        .needs(Need::of::<ComputeWrite>())
        .query(&[DRY_RUN])
        .waits()
        .faults(&[Code::Conflict, Code::CapacityUnavailable])
}

/// The last output of a serial console.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Console")]
struct ConsoleView {
    /// The compute.
    compute_id: String,
    /// The output; what is not text is escaped.
    output: String,
    /// Bytes of output that one answer holds at most.
    output_bytes_max: usize,
}

async fn list(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<ComputeRead>()?;
    let page = call.query.page("cmp")?;
    let text = |name| call.query.text(name).map(str::to_owned);
    let filter = Filter {
        status: text("status"),
        region: text("region"),
        project_id: call.query.parsed("project_id"),
        environment_id: call.query.parsed("environment_id"),
        name: text("name"),
        labels: call.query.labels(),
    };
    let listed = call.cloud().computes(&grant, filter, &page).await?;
    call.read(
        Reply::listed_texts(&listed, &page, |c| c.id.to_string(), |c| c.text.clone())
            .of(call.query.parsed::<ProjectId>("project_id")),
    )
}

fn choice(body: &Body) -> Result<Choice, Fault> {
    let text = |name| body.text(name).map(str::to_owned);
    Ok(Choice {
        project_id: body.maybe_parsed("project_id")?,
        environment: text("environment"),
        region: text("region"),
        size: text("size"),
        image: text("image"),
        ssh_keys: body.texts("ssh_keys").unwrap_or_default(),
    })
}

async fn look_up(call: &Call) -> Vec<Detail> {
    // The permission was checked before the body was read, and the fields that are left are right.
    match (call.grant::<ComputeWrite>(), choice(&call.body)) {
        (Ok(grant), Ok(choice)) => call.cloud().wrong_choice(&grant, &choice).await,
        _ => Vec::new(),
    }
}

async fn create(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<ComputeWrite>()?;
    let body = &call.body;
    let text = |name| body.text(name).map(str::to_owned);
    let new = NewCompute {
        name: body.parsed("name")?,
        choice: choice(body)?,
        user_data: text("user_data"),
        labels: body.labels("labels").unwrap_or_default(),
        protected: body.flag("protected").unwrap_or(false),
        restart_policy: body.maybe_parsed("restart_policy")?.unwrap_or(RestartPolicy::Never),
    };
    let plan = call.cloud().create_compute(&grant, new).await?;
    call.commit_begun(&grant, plan, |begun| {
        let compute = &begun.compute;
        Reply::created(&ComputeView::from(compute), path(compute.id))
            .version(compute.version)
            .operation(Some(begun.operation.id))
    })
    .await
}

fn path(id: ComputeId) -> String {
    format!("/computes/{id}")
}

async fn get(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<ComputeRead>()?;
    let compute = call.cloud().compute(&grant, call.id("compute")?).await?;
    call.read(Reply::found(&ComputeView::from(&compute)).version(compute.version).of(compute.project_id))
}

async fn update(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<ComputeWrite>()?;
    let compute = call.cloud().compute_to_change(&grant, call.id("compute")?).await?;
    call.must_match(compute.version)?;
    let body = &call.body;
    let patch = ComputePatch {
        name: body.maybe_parsed("name")?,
        labels: body.has("labels").then(|| body.labels("labels").unwrap_or_default()),
        protected: body.flag("protected"),
        restart_policy: body.maybe_parsed("restart_policy")?,
    };
    let plan = call.cloud().change_compute(&grant, compute, patch).await?;
    call.commit(plan, |c| Reply::updated(&ComputeView::from(c)).version(c.version)).await
}

async fn delete(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<ComputeWrite>()?;
    let compute = call.cloud().compute_to_change(&grant, call.id("compute")?).await?;
    call.must_match(compute.version)?;
    let plan = call.cloud().delete_compute(&grant, compute).await?;
    call.commit(plan, |begun| Reply::deleted(begun.compute.id).operation(Some(begun.operation.id))).await
}

async fn act(call: &Call, action: Action) -> Result<Answer, CommitError> {
    let grant = call.grant::<ComputeWrite>()?;
    let compute = call.cloud().compute_to_change(&grant, call.id("compute")?).await?;
    let plan = call.cloud().act_on_compute(&grant, compute, action).await?;
    accept(call, &grant, plan).await
}

async fn resize(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<ComputeWrite>()?;
    let compute = call.cloud().compute_to_change(&grant, call.id("compute")?).await?;
    let plan = call.cloud().resize_compute(&grant, compute, call.body.required("size")).await?;
    accept(call, &grant, plan).await
}

async fn rebuild(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<ComputeWrite>()?;
    let compute = call.cloud().compute_to_change(&grant, call.id("compute")?).await?;
    let plan = call.cloud().rebuild_compute(&grant, compute, call.body.text("image")).await?;
    accept(call, &grant, plan).await
}

/// Answers with the operation that an action begins.
async fn accept(call: &Call, grant: &Grant<ComputeWrite>, plan: Plan<Begun>) -> Result<Answer, CommitError> {
    call.commit_begun(grant, plan, |begun| Reply::accepted(&OperationView::from(&begun.operation), begun.operation.id))
        .await
}

async fn open_terminal(call: &Call) -> Result<Opened, Fault> {
    let grant = call.grant::<ComputeWrite>()?;
    call.cloud().open_terminal(&grant, call.id("compute")?).await
}

async fn console(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<ComputeRead>()?;
    let id: ComputeId = call.id("compute")?;
    let output = call.cloud().console(&grant, id).await?;
    let view = ConsoleView { compute_id: id.to_string(), output, output_bytes_max: CONSOLE_BYTES_MAX };
    call.read(Reply::found(&view))
}
