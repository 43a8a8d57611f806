//! Terminals on serial consoles: who may open one, how many there are, and for how long one may stay open.
//!
//! Opening one is written down before a byte goes through it: who, when, on which compute. What is typed and shown is
//! written down nowhere by us. Deliberately not here: how bytes are carried to a client (`http`), and to a guest (the driver).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

pub use nephos_driver::terminal::{Gone, Keyboard, Screen, Shown};
use nephos_driver::terminal::{TERMINALS_MAX, TerminalError};
use nephos_model::Fault;
use nephos_model::compute::{Compute, Status};
use nephos_model::fault::{Code, Detail};
use nephos_model::id::{ComputeId, WorkspaceId};
use nephos_model::tenant::{Mode, TenantId};

use crate::caller::{ComputeWrite, Grant, Permission as _};
use crate::plan::{Change, CommitError, Plan};
use crate::{Cloud, fault};

/// Open terminals of one workspace, in this process, at most.
pub const OF_WORKSPACE_MAX: u32 = 32;
/// Open terminals of everybody, in this process, at most.
pub const OF_PROCESS_MAX: u32 = 512;
/// Bytes of earlier output that a terminal begins with, at most.
pub const BACKLOG_BYTES_MAX: usize = 8 * 1024;
/// Seconds after which one that is refused for want of room may try again.
const RETRY_AFTER_S: u32 = 5;

/// How many terminals are open.
#[derive(Debug, Default)]
pub(crate) struct Places(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: u32,
    of: HashMap<WorkspaceId, u32>,
}

impl Places {
    fn with<T>(&self, what: impl FnOnce(&mut Counts) -> T) -> T {
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A terminal's place among those that may be open; dropping it makes room.
#[derive(Debug)]
struct Place {
    places: Arc<Places>,
    workspace_id: WorkspaceId,
}

impl Place {
    fn take(places: &Arc<Places>, workspace_id: WorkspaceId) -> Result<Self, Fault> {
        places.with(|counts| {
            let own = counts.of.get(&workspace_id).copied().unwrap_or(0);
            if own >= OF_WORKSPACE_MAX {
                return Err(too_many(format!("The workspace has {own} open terminals, as many as it may at once.")));
            }
            if counts.all >= OF_PROCESS_MAX {
                return Err(Fault::unavailable(RETRY_AFTER_S, "as many terminals are open as this server holds"));
            }
            counts.all += 1;
            counts.of.insert(workspace_id, own + 1);
            Ok(())
        })?;
        Ok(Self { places: Arc::clone(places), workspace_id })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.with(|counts| {
            counts.all -= 1;
            if let Some(own) = counts.of.get_mut(&self.workspace_id) {
                *own -= 1;
                if *own == 0 {
                    counts.of.remove(&self.workspace_id);
                }
            }
        });
    }
}

/// An open terminal. It is over when its screen ends, or when [`Cloud::keeps_terminal`] says so.
#[derive(Debug)]
pub struct Opened {
    /// What the guest writes: hostile bytes, for a terminal to interpret.
    pub screen: Screen,
    /// What is typed.
    pub keyboard: Keyboard,
    /// What keeps it open.
    pub kept: Kept,
}

/// What a terminal was opened on, and by whom.
#[derive(Debug)]
pub struct Kept {
    compute_id: ComputeId,
    /// Which run of the compute.
    boots: i64,
    tenant: TenantId,
    _place: Place,
}

/// Why a terminal may not stay open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// The compute does not run any more, or in another run than this terminal's.
    Stopped,
    /// The credential does not hold any more, or may not do this any more.
    Revoked,
    /// Nobody can tell for the moment.
    Unknown,
}

impl Cloud {
    /// Opens a terminal on the serial console of a compute that runs. 409 names the state of one that does not.
    pub async fn open_terminal(&self, grant: &Grant<ComputeWrite>, id: ComputeId) -> Result<Opened, Fault> {
        let compute = self.compute_to_change(grant, id).await?;
        if compute.status != Status::Running {
            return Err(not_running(id, compute.status.as_str()));
        }
        let caller = grant.caller();
        let Some(driver) = self.driver(caller.mode, &compute.region).cloned() else {
            return Err(not_running(id, "in a region that is not configured any more"));
        };
        let place = Place::take(&self.0.terminals, caller.workspace_id)?;
        let machine = crate::reconcile::machine(&compute, self.image_of(&compute).await?, self.now(caller));
        let terminal = driver.terminal(&machine, BACKLOG_BYTES_MAX).await.map_err(|error| match error {
            TerminalError::NotRunning => not_running(id, "on its way to another state"),
            TerminalError::Full => {
                too_many(format!("The compute has {TERMINALS_MAX} open terminals, as many as may be."))
            }
            TerminalError::Driver(error) => Fault::unavailable(1, error),
        })?;
        self.note_terminal(grant, &compute).await?;
        let kept = Kept { compute_id: id, boots: compute.boots, tenant: caller.tenant, _place: place };
        Ok(Opened { screen: terminal.screen, keyboard: terminal.keyboard, kept })
    }

    /// Writes down that a terminal is opened: an audit row, and no event, since nothing changes.
    async fn note_terminal(&self, grant: &Grant<ComputeWrite>, compute: &Compute) -> Result<(), Fault> {
        let change = Change {
            // There is none: nothing changes.
            event: "",
            action: "compute.terminal",
            resource_id: compute.id.to_string(),
            project_id: Some(compute.project_id),
            environment_id: Some(compute.environment_id),
            before: None,
            after: None,
            status: 101,
        };
        let mut plan = Plan::new(()).of(compute.project_id, Some(compute.environment_id));
        self.journal_read(&mut plan, grant, change);
        self.commit(plan, None).await.map_err(|error| match error {
            CommitError::Fault(fault) => fault,
            CommitError::Again => Fault::unavailable(1, "the audit row of a terminal lost a race"),
        })
    }

    /// Whether a terminal may stay open, by its credential and its compute as they are now.
    pub async fn keeps_terminal(&self, kept: &Kept, bearer: &str, mode: Mode, address: IpAddr) -> Result<(), Over> {
        let now = self.authenticate(bearer, mode, address).await.map_err(|fault| over(&fault))?;
        let may = now.check(ComputeWrite::SCOPE, ComputeWrite::ROLE, ComputeWrite::REACH).is_ok();
        if now.tenant != kept.tenant || !may {
            return Err(Over::Revoked);
        }
        let found = self.store().compute(now.tenant, kept.compute_id).await.map_err(|e| over(&fault::store(e)))?;
        let compute = found.ok_or(Over::Stopped)?;
        if !now.sees(compute.project_id, compute.environment_id) {
            return Err(Over::Revoked);
        }
        let runs = match compute.status {
            // Until the machine has stopped, its console has something to say.
            Status::Stopping | Status::Rebooting | Status::Resizing | Status::Rebuilding => true,
            Status::Running => compute.boots == kept.boots,
            Status::Provisioning | Status::Stopped | Status::Starting | Status::Failed => false,
        };
        if runs { Ok(()) } else { Err(Over::Stopped) }
    }
}

fn over(fault: &Fault) -> Over {
    match fault.code {
        Code::Unauthorized | Code::Forbidden => Over::Revoked,
        _ => Over::Unknown,
    }
}

fn not_running(id: ComputeId, state: &str) -> Fault {
    let message = format!("The compute is {state}; a terminal needs one that is running.");
    Fault::conflict(Detail::new("state_forbids", message).resource(id))
}

fn too_many(message: String) -> Fault {
    let detail = Detail { budget: Some("terminals"), ..Detail::new("too_many_terminals", message.clone()) };
    Fault { retry_after_s: Some(RETRY_AFTER_S), details: vec![detail], ..Fault::new(Code::TooManyRequests, message) }
}

#[cfg(test)]
mod tests {
    use nephos_model::id::{Id as _, Raw};

    use super::*;

    #[test]
    fn a_workspace_and_the_process_have_bounds() {
        let places = Arc::new(Places::default());
        let workspace = |number: u8| WorkspaceId::from_raw(Raw::from_bytes([number; 16]));
        let refused = |number| Place::take(&places, workspace(number)).unwrap_err();
        let mut taken = Vec::new();
        for number in 1..=16 {
            taken.extend((0..OF_WORKSPACE_MAX).map(|_| Place::take(&places, workspace(number)).unwrap()));
            let fault = refused(number);
            assert_eq!((fault.code, fault.details[0].budget), (Code::TooManyRequests, Some("terminals")));
        }
        assert_eq!(taken.len(), OF_PROCESS_MAX as usize);
        let fault = refused(17);
        assert_eq!((fault.code, fault.retry_after_s), (Code::ServiceUnavailable, Some(RETRY_AFTER_S)));
        taken.pop();
        assert_eq!(refused(1).code, Code::TooManyRequests);
        taken.push(Place::take(&places, workspace(17)).unwrap());
        taken.clear();
        places.with(|counts| assert_eq!((counts.all, counts.of.len()), (0, 0)));
    }
}
