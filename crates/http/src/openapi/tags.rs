//! What the documents say of each noun.

use serde_json::{Value, json};

use crate::endpoint;
use crate::mount::Mount;

/// Each noun and what it is, in the order of the alphabet.
const NOUNS: &[(&str, &str)] = &[
    ("api", "Versions of this API, and what is deprecated in them."),
    ("api_key", "Credentials of programs, each no more powerful than the member it belongs to."),
    ("audit_log", "Who did what, in a chain that shows when something was taken out."),
    ("budget_alert", "Budgets of a month, and telling how much of them is spent."),
    ("compute", "Virtual machines."),
    ("delivery", "Attempts to tell an endpoint of an event."),
    ("environment", "Deployment contexts of a project, each with a private network of its own."),
    ("event", "Every change of a resource, in order."),
    ("firewall", "What may reach a compute."),
    ("image", "Disks that computes begin with."),
    ("invitation", "Ways for people to become members."),
    ("invoice", "What each closed month came to."),
    ("limit", "Budgets, quotas, and what is used of them."),
    ("member", "People of the workspace and their roles."),
    ("openapi", "This document."),
    ("operation", "Work that goes on after its request was answered."),
    ("project", "What resources are grouped by."),
    ("region", "Places where computes run."),
    ("sandbox", "The clock and the reset of the sandbox."),
    ("size", "How large a compute can be, and its price."),
    ("snapshot", "Copies of disks at a point in time."),
    ("ssh_key", "Public keys that computes let in."),
    ("status", "How the installation is, and has been."),
    ("telemetry", "What the workspace's requests and computes were like."),
    ("token", "Short-lived credentials that a key is exchanged for."),
    ("usage", "What was used in a month, and its price."),
    ("volume", "Disks that outlive computes."),
    ("webhook", "Addresses that are told of events."),
    ("workspace", "What all else belongs to, and the credential that asks."),
];

/// The tags of a surface's operations.
pub(super) fn all(mount: Mount) -> Value {
    let is_there = |noun: &str| {
        let mut all = endpoint::all().filter(|endpoint| super::is_documented(mount, endpoint));
        all.any(|endpoint| endpoint.noun() == noun)
            || nephos_control::event::catalogue::TYPES.iter().any(|kind| kind.noun() == noun)
    };
    let there = NOUNS.iter().filter(|(noun, _)| is_there(noun));
    there.map(|(noun, about)| json!({"name": noun, "description": about})).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_noun_is_told_of_in_order() {
        assert!(NOUNS.is_sorted(), "sort them: readers look for them by the alphabet");
        for endpoint in endpoint::all() {
            let noun = endpoint.noun();
            assert!(NOUNS.iter().any(|(told, _)| *told == noun), "say here what {noun} is");
        }
    }
}
