//! What the store says, as a [`Fault`].

use nephos_model::budget_alert::ALERTS_MAX;
use nephos_model::fault::{Code, Detail};
use nephos_model::{Fault, fault};
use nephos_store::StoreError;

use crate::environment::ENVIRONMENTS_MAX;

/// Seconds after which a client may retry when the store can't answer.
pub const STORE_RETRY_AFTER_S: u32 = 1;

/// A store's error that has no meaning of its own to the client.
pub fn store(error: StoreError) -> Fault {
    match error {
        StoreError::Unavailable { .. } | StoreError::TooBusy { .. } | StoreError::Full { .. } => {
            Fault::unavailable(STORE_RETRY_AFTER_S, error)
        }
        other => Fault::internal(other),
    }
}

/// A 404 of what a body names, with the field: an id there is as unknown as one in a path.
pub(crate) fn of_body(fault: Fault, pointer: &'static str) -> Fault {
    if fault.code != Code::ResourceNotFound {
        return fault;
    }
    let detail = Detail::at(pointer, "resource_not_found", fault.message.clone());
    Fault { details: vec![detail], ..fault }
}

/// What several checks found, as one answer: everything that is wrong with the request itself, else what came first.
pub(crate) fn together(faults: Vec<Fault>) -> Fault {
    let (wrong, mut other): (Vec<_>, Vec<_>) = faults.into_iter().partition(|fault| fault.code == Code::BadRequest);
    if wrong.is_empty() && !other.is_empty() {
        return other.swap_remove(0);
    }
    Fault::invalid(wrong.into_iter().flat_map(|fault| fault.details).collect())
}

/// A quota that has no room, with its name, its size and what is used of it.
pub(crate) fn over_quota(noun: &str, used: i64, by: i64, limit: i64) -> Detail {
    let name = noun.strip_prefix("quota.").unwrap_or(noun);
    let message = format!("The plan's quota of {name} is {limit}; {used} are used, and this needs {by} more.");
    Detail::new("quota_exceeded", message)
}

/// 422 for quotas that have no room; without one it was full a moment ago.
pub(crate) fn quota_exceeded(mut over: Vec<Detail>) -> Fault {
    if over.is_empty() {
        over.push(Detail::new("quota_exceeded", "A quota of the plan was used up just now; GET /limits shows each."));
    }
    let message = match over.as_slice() {
        [one] => format!("{} Delete what is not needed, or ask for a larger plan.", one.message),
        _ => {
            "Quotas of the workspace's plan are used up; `details` lists each. Delete what is not needed, or ask for a \
              larger plan."
                .to_owned()
        }
    };
    Fault { details: over, ..Fault::new(Code::QuotaExceeded, message) }
}

/// The sandbox was reset while a request was on its way: nothing was done.
pub(crate) fn epoch_over() -> Fault {
    let message = "The sandbox was reset while the request ran, and nothing was done. Send it again.";
    Fault {
        retry_after_s: Some(STORE_RETRY_AFTER_S),
        details: vec![Detail::new("sandbox_reset", message)],
        ..Fault::new(Code::ServiceUnavailable, message)
    }
}

/// A missed guard as the fault that it means. `Stale` and `Duplicate` are not here: the request is run again.
pub(crate) fn missed(miss: nephos_store::Miss) -> Option<Fault> {
    use nephos_store as s;
    let conflict = |pointer: &str, code, message: &str| Fault::conflict(fault::Detail::at(pointer, code, message));
    Some(match miss {
        s::counter::QUOTA => quota_exceeded(Vec::new()),
        s::environment::FULL => {
            let message = format!("A project has at most {ENVIRONMENTS_MAX} environments, and this one has as many.");
            quota_exceeded(vec![Detail::new("quota_exceeded", message)])
        }
        s::budget_alert::FULL => {
            let message = format!("A workspace has at most {ALERTS_MAX} budget alerts, and this one has as many.");
            quota_exceeded(vec![Detail::new("quota_exceeded", message)])
        }
        s::capacity::FULL => Fault::new(
            Code::CapacityUnavailable,
            "The region has no room for a compute of this size now. Choose a smaller size or another region.",
        ),
        s::compute::NAME_TAKEN => {
            conflict("/name", "name_taken", "The environment has a compute of this name already.")
        }
        s::environment::NAME_TAKEN => {
            conflict("/name", "name_taken", "The project has an environment of this name already.")
        }
        s::ssh_key::TAKEN => {
            conflict("/name", "ssh_key_taken", "The workspace has this key, or a key of this name, already.")
        }
        s::image::NAME_TAKEN => conflict("/name", "name_taken", "There is an image of this name already."),
        s::workspace::LAST_OWNER => Fault::conflict(Detail::new(
            "last_owner",
            "A workspace keeps at least one Owner. Make another member an Owner first, or delete the workspace.",
        )),
        s::project::NOT_EMPTY => Fault::conflict(Detail::new(
            "not_empty",
            "Something was created in it just now. List its computes and try again.",
        )),
        _ => return None,
    })
}
