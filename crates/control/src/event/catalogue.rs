//! Every type of event: what it tells, the schema of what it carries, and that schema's version.
//!
//! The reference, the `webhooks` of the OpenAPI documents and the filters of webhook endpoints derive from this table; a
//! debug build refuses to write an event that is not in it or does not match it. A version rises when a field goes or
//! changes its meaning; new fields may come at any time.

use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::view::{
    ApiKeyView, BudgetNoticeView, ComputeView, DeliveryView, DeprecationView, EnvironmentView, InvitationView,
    InvoiceNoticeView, MemberView, OperationView, ProjectView, SandboxClockView, SandboxView, SshKeyView, VersionView,
    WebhookView, WorkspaceView,
};

/// One type of event.
#[derive(Debug, Clone, Copy)]
pub struct EventType {
    /// `noun.change`.
    pub kind: &'static str,
    /// Version of the schema of its data, from 1.
    pub version: u32,
    /// When it is written, as a sentence.
    pub summary: &'static str,
    /// Whether the resource was there before, so that `previous_attributes` tells what changed.
    pub has_previous: bool,
    /// The schema of its data: the resource as the API shows it.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
}

impl EventType {
    /// What the event is about: the part before the full stop.
    pub fn noun(&self) -> &'static str {
        self.kind.split('.').next().unwrap_or(self.kind)
    }
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

const fn told<T: JsonSchema>(kind: &'static str, summary: &'static str) -> EventType {
    EventType { kind, version: 1, summary, has_previous: false, schema: of::<T> }
}

const fn changed<T: JsonSchema>(kind: &'static str, summary: &'static str) -> EventType {
    EventType { kind, version: 1, summary, has_previous: true, schema: of::<T> }
}

/// Every type, in the order of the reference.
pub const TYPES: &[EventType] = &[
    told::<WorkspaceView>("workspace.created", "A workspace was made."),
    changed::<WorkspaceView>("workspace.updated", "The workspace has another name or plan."),
    changed::<WorkspaceView>("workspace.suspended", "The operator suspended the workspace."),
    changed::<WorkspaceView>("workspace.resumed", "The operator ended the suspension of the workspace."),
    told::<WorkspaceView>("workspace.deleted", "The workspace was deleted, with everything in it."),
    told::<MemberView>("member.created", "A person became a member."),
    changed::<MemberView>("member.updated", "A member has another role."),
    told::<MemberView>("member.deleted", "A member was removed, or left."),
    told::<InvitationView>("invitation.created", "A person was invited."),
    told::<InvitationView>("invitation.accepted", "An invitation was accepted."),
    told::<InvitationView>("invitation.revoked", "An invitation was revoked."),
    told::<InvitationView>("invitation.expired", "Nobody accepted an invitation in time."),
    told::<ProjectView>("project.created", "A project was made."),
    changed::<ProjectView>("project.updated", "A project changed."),
    told::<ProjectView>("project.deleted", "A project was deleted."),
    told::<EnvironmentView>("environment.created", "An environment was made."),
    changed::<EnvironmentView>("environment.updated", "An environment changed."),
    told::<EnvironmentView>("environment.deleted", "An environment was deleted."),
    told::<ComputeView>("compute.created", "A compute was made and is being brought up."),
    changed::<ComputeView>("compute.updated", "A compute's name, labels or protection changed."),
    changed::<ComputeView>("compute.starting", "A compute is being started."),
    changed::<ComputeView>("compute.stopping", "A compute is being stopped."),
    changed::<ComputeView>("compute.rebooting", "A compute is being rebooted."),
    changed::<ComputeView>("compute.resizing", "A compute is getting another size."),
    changed::<ComputeView>("compute.resized", "A compute has another size, and costs what that costs from now on."),
    changed::<ComputeView>(
        "compute.rebuilding",
        "A compute is getting a fresh root disk; the one it has is thrown away.",
    ),
    changed::<ComputeView>("compute.running", "A compute runs."),
    changed::<ComputeView>("compute.stopped", "A compute has stopped."),
    changed::<ComputeView>("compute.failed", "A compute could not be brought into the state that was wished."),
    told::<ComputeView>("compute.deleted", "A compute was deleted."),
    changed::<OperationView>("operation.updated", "An operation went on."),
    changed::<OperationView>("operation.succeeded", "An operation ended well."),
    changed::<OperationView>("operation.failed", "An operation failed; its error says why."),
    changed::<OperationView>("operation.cancelled", "An operation was cancelled, or overtaken by another."),
    told::<SshKeyView>("ssh_key.created", "An SSH key was added."),
    told::<SshKeyView>("ssh_key.deleted", "An SSH key was deleted."),
    told::<ApiKeyView>("api_key.created", "An API key was made."),
    changed::<ApiKeyView>("api_key.updated", "An API key has another name."),
    changed::<ApiKeyView>("api_key.rotated", "An API key has a new secret."),
    told::<ApiKeyView>("api_key.deleted", "An API key was revoked."),
    told::<WebhookView>("webhook.created", "A webhook was made."),
    changed::<WebhookView>("webhook.updated", "A webhook's URL, description or filters changed."),
    changed::<WebhookView>("webhook.enabled", "A webhook was enabled again."),
    changed::<WebhookView>("webhook.disabled", "A webhook was disabled; its `disabled_reason` says why."),
    changed::<WebhookView>("webhook.secret_rotated", "A webhook has a new secret."),
    told::<WebhookView>("webhook.recovered", "Events that a webhook did not take are sent to it again."),
    told::<WebhookView>("webhook.test", "A sample, sent to one webhook because somebody asked for it."),
    told::<WebhookView>("webhook.deleted", "A webhook was deleted."),
    told::<DeliveryView>("delivery.retried", "Somebody asked for a delivery to be tried again."),
    told::<DeliveryView>("delivery.exhausted", "A delivery was tried for 24 hours, and is not tried any more."),
    told::<BudgetNoticeView>("budget_alert.created", "A budget alert was made."),
    told::<BudgetNoticeView>("budget_alert.updated", "A budget alert has another name, budget or other thresholds."),
    told::<BudgetNoticeView>("budget_alert.deleted", "A budget alert was deleted."),
    told::<BudgetNoticeView>("budget_alert.reached", "A threshold of a budget is reached; told once a month."),
    told::<InvoiceNoticeView>("invoice.created", "A month was closed and has an invoice."),
    told::<DeprecationView>(
        "api.operation_deprecated",
        "An operation of the API is deprecated; told once to each workspace.",
    ),
    told::<DeprecationView>(
        "api.version_deprecated",
        "A version of the API is deprecated; told once to each workspace.",
    ),
    told::<VersionView>("api.version_released", "The API has a new version; told once to each workspace."),
    told::<SandboxView>("sandbox.reset", "The sandbox began anew."),
    changed::<SandboxClockView>("sandbox.clock_advanced", "The sandbox's clock went forwards."),
];

/// The type of this name.
pub fn find(kind: &str) -> Option<&'static EventType> {
    TYPES.iter().find(|known| known.kind == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_there_once_and_told() {
        for (place, known) in TYPES.iter().enumerate() {
            assert!(TYPES[..place].iter().all(|other| other.kind != known.kind), "{} is there twice", known.kind);
            assert!(known.kind.split_once('.').is_some_and(|(noun, change)| !noun.is_empty() && !change.is_empty()));
            assert!(known.summary.ends_with('.') && known.version >= 1, "{}", known.kind);
        }
    }
}
