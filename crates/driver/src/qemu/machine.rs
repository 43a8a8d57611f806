//! One machine, step by step: what there is of it, making it, starting it, stopping it, removing it. Each step can be
//! repeated after a crash in the middle of it.

use std::collections::{HashMap, HashSet};
use std::process::Child;
use std::time::Duration;

use nephos_model::compute::Address;
use nephos_model::id::ComputeId;
use nephos_model::image::Boot;
use tokio::sync::watch;

use super::home::{Record, Started};
use super::host_key::HostKey;
use super::hub::Seat;
use super::launch::Launch;
use super::network::{self, Socket, Sockets};
use super::probe::Facts;
use super::process::{self, Process};
use super::sys::Identity;
use super::task::{self, Order, Shared, Status, Subject};
use super::{Inner, blocking, failed, lock};
use crate::{DriverError, Goal, Halt, Machine, Report, Seen, Stop};

/// Milliseconds a call waits for a machine that was just started, or found again, to say what it does.
const STATUS_WAIT_MS: u64 = 15_000;
/// Milliseconds a call waits for the task of a process that ended to write down how.
const END_WAIT_MS: u64 = 10_000;
/// Milliseconds for a killed process to go.
const KILL_DEADLINE_MS: u64 = 10_000;
/// Milliseconds after which it is worth looking again at a machine that is held or on its way.
const LOOK_AGAIN_MS: u64 = 1_000;
/// Looks at a port that is taken before another one is chosen.
const PORT_LOOKS_MAX: u32 = 40;
/// Milliseconds between them.
const PORT_LOOK_MS: u64 = 50;

impl Inner {
    pub(super) async fn observe(&self, machine: &Machine) -> Result<Report, DriverError> {
        Ok(report(self.see(machine.id).await?))
    }

    pub(super) async fn converge(&self, machine: &Machine, goal: Goal) -> Result<Report, DriverError> {
        let seen = self.see(machine.id).await?;
        let seen = match (goal, seen) {
            (Goal::Running { boot }, Seen::Absent) => {
                self.check_not_lost(machine)?;
                self.make(machine).await?;
                self.start(machine, boot).await?
            }
            (Goal::Stopped { .. }, Seen::Absent) => {
                self.check_not_lost(machine)?;
                self.make(machine).await?;
                self.see(machine.id).await?
            }
            (Goal::Running { boot }, Seen::Stopped { .. }) => self.start(machine, boot).await?,
            (Goal::Stopped { how }, Seen::Running { .. } | Seen::Busy { .. }) => self.stop(machine.id, how).await?,
            // A shutdown that was asked for earlier goes on, with its deadline.
            (Goal::Running { .. }, busy @ Seen::Busy { .. }) => match self.home(machine.id).started() {
                Ok(Some(started)) if self.stopping_since(machine.id, started.boot)?.is_some() => {
                    self.stop(machine.id, Stop::Graceful).await?
                }
                _ => busy,
            },
            (Goal::Running { .. }, seen @ Seen::Running { .. })
            | (Goal::Stopped { .. }, seen @ Seen::Stopped { .. }) => seen,
        };
        Ok(report(seen))
    }

    pub(super) async fn discard(&self, id: ComputeId) -> Result<(), DriverError> {
        let home = self.home(id);
        // A damaged record must not keep its machine from being removed: the process table knows the process, too.
        let recorded = home.started().ok().flatten().and_then(|started| started.process);
        let recorded = recorded.filter(|process| process.bears(&self.name_of(id)));
        for process in self.processes_of(id).await?.into_iter().chain(recorded) {
            self.kill(process).await?;
        }
        self.wait_end(id).await;
        lock(&self.links).remove(&id);
        let sockets = Sockets::new(&self.options.runtime_dir, id);
        let cgroups = self.facts().await.and_then(|facts| facts.cgroups.clone());
        blocking("what is left of a machine can't be removed", move || {
            sockets.remove()?;
            cgroups.map_or(Ok(()), |cgroups| cgroups.remove(id))?;
            home.remove()
        })
        .await?;
        lock(&self.records).remove(&id);
        Ok(())
    }

    /// What there is, from disk, the process table and, for what runs, its task.
    pub(super) async fn see(&self, id: ComputeId) -> Result<Seen, DriverError> {
        let home = self.home(id);
        let Some(record) = self.known(id)? else { return Ok(Seen::Absent) };
        if !home.has_disk() {
            return Ok(Seen::Absent);
        }
        let started = home.started().map_err(|e| failed("the start of a machine can't be read", e))?;
        if let Some(Started { boot, process: Some(process) }) = started
            && process.bears(&self.name_of(id))
            && let Some(status) = self.follow(id, &record, boot, process, Vec::new())?
        {
            return self.see_process(id, &record, boot, status).await;
        }
        self.see_halt(id).await
    }

    async fn see_process(
        &self,
        id: ComputeId,
        record: &Record,
        boot: i64,
        mut status: watch::Receiver<Status>,
    ) -> Result<Seen, DriverError> {
        let now = tokio::select! {
            settled = status.wait_for(|s| *s != Status::Starting) => settled.map_or(Status::Ended, |s| s.clone()),
            () = self.clock.sleep(Duration::from_millis(STATUS_WAIT_MS)) => Status::Starting,
        };
        match now {
            Status::Starting => Ok(self.busy("starting", LOOK_AGAIN_MS)),
            Status::Paused(why) => Ok(self.busy(&why, LOOK_AGAIN_MS)),
            Status::Ended => self.see_halt(id).await,
            Status::Running => match self.stopping_since(id, boot)? {
                Some(_) => Ok(self.busy("shutting down", task::PRESS_AGAIN_MS)),
                None => Ok(Seen::Running {
                    boot,
                    address: Address {
                        ssh_host: "127.0.0.1".to_owned(),
                        ssh_port: record.port,
                        private_ip: self.private_ip(id, record),
                    },
                    ssh_host_key: record.host_key().map(|key| key.public_line()),
                }),
            },
        }
    }

    /// How it ended, once its task has written that down.
    async fn see_halt(&self, id: ComputeId) -> Result<Seen, DriverError> {
        self.wait_end(id).await;
        lock(&self.links).remove(&id);
        let why = self.home(id).halt().map_err(|e| failed("the end of a machine can't be read", e))?;
        Ok(Seen::Stopped { why })
    }

    fn busy(&self, doing: &str, again_ms: u64) -> Seen {
        Seen::Busy { doing: doing.to_owned(), again_at: self.clock.now().plus(Duration::from_millis(again_ms)) }
    }

    /// The address in the private network of a machine that runs, when it was started with a card there.
    fn private_ip(&self, id: ComputeId, record: &Record) -> Option<String> {
        let socket = Sockets::new(&self.options.runtime_dir, id).path(Socket::Private);
        socket.exists().then(|| network::private_address(record.seat).to_string())
    }

    fn stopping_since(&self, id: ComputeId, boot: i64) -> Result<Option<nephos_model::Timestamp>, DriverError> {
        self.home(id).stopping_since(boot).map_err(|e| failed("the stop of a machine can't be read", e))
    }

    /// What was decided about a compute: from memory, else from its directory, where a damaged file is an error.
    pub(super) fn known(&self, id: ComputeId) -> Result<Option<Record>, DriverError> {
        match self.record(id) {
            Some(record) => Ok(Some(record)),
            None => self.home(id).record().map_err(|e| failed("what was known of a compute can't be read", e)),
        }
    }

    /// The name that a machine's process bears.
    fn name_of(&self, id: ComputeId) -> String {
        format!("{}{id}", self.prefix)
    }

    fn identity(&self, record: &Record, facts: &Facts) -> Option<Identity> {
        let is_root = rustix::process::geteuid().is_root();
        is_root.then(|| Identity {
            id: self.options.uid_base + record.slot,
            groups: facts.kvm_group.into_iter().collect(),
        })
    }

    pub(super) fn owner(&self, record: &Record) -> Option<u32> {
        rustix::process::geteuid().is_root().then(|| self.options.uid_base + record.slot)
    }

    /// The task of a running process, begun when there is none. `None` when the process ended meanwhile.
    fn follow(
        &self,
        id: ComputeId,
        record: &Record,
        boot: i64,
        process: Process,
        children: Vec<Child>,
    ) -> Result<Option<watch::Receiver<Status>>, DriverError> {
        let mut links = lock(&self.links);
        if let Some(link) = links.get(&id).filter(|link| link.process == process) {
            return Ok(Some(link.status.clone()));
        }
        let sockets = Sockets::new(&self.options.runtime_dir, id);
        let socket = sockets.path(Socket::Private);
        let seat = socket.exists().then(|| Seat {
            environment: record.environment.clone(),
            mac: network::private_mac(record.seat),
            socket,
        });
        let subject = Subject {
            id,
            boot,
            process,
            children,
            home: self.home(id),
            sockets,
            seat,
            console_bytes_max: self.options.console_bytes_max,
            owner: self.owner(record),
        };
        let shared =
            Shared { clock: self.clock.clone(), changes: self.changes.clone(), switches: self.switches.clone() };
        match task::start(subject, shared) {
            Ok(link) => {
                let status = link.status.clone();
                links.insert(id, link);
                Ok(Some(status))
            }
            Err(e) if process::is_gone(&e) => Ok(None),
            Err(e) => Err(failed("a running machine can't be followed", e)),
        }
    }

    /// Waits, within bounds, until the task of a machine whose process ended has finished its business.
    async fn wait_end(&self, id: ComputeId) {
        let Some(mut status) = lock(&self.links).get(&id).map(|link| link.status.clone()) else { return };
        tokio::select! {
            _ = status.wait_for(|s| *s == Status::Ended) => {}
            () = self.clock.sleep(Duration::from_millis(END_WAIT_MS)) => {
                tracing::warn!(compute = %id, "the task of a machine that ended does not end");
            }
        }
    }

    async fn processes_of(&self, id: ComputeId) -> Result<Vec<Process>, DriverError> {
        let prefix = self.prefix.clone();
        let all = blocking("the process table can't be read", move || process::scan(&prefix)).await?;
        Ok(all.into_iter().filter(|(other, _)| *other == id).map(|(_, process)| process).collect())
    }

    async fn kill(&self, process: Process) -> Result<(), DriverError> {
        let killed = process.kill(&*self.clock, KILL_DEADLINE_MS).await;
        killed.map_err(|e| failed("a machine's process can't be ended", e))
    }

    /// Stops a machine that is not stopped: one press of the power button, or the cut.
    async fn stop(&self, id: ComputeId, how: Stop) -> Result<Seen, DriverError> {
        let home = self.home(id);
        let started = home.started().map_err(|e| failed("the start of a machine can't be read", e))?;
        let Some(Started { boot, process: Some(process) }) = started else { return self.see(id).await };
        let now = self.clock.now();
        let deadline = Duration::from_millis(self.options.stop_deadline_ms);
        let asked = self.stopping_since(id, boot)?;
        if asked.is_none() {
            home.write_stopping(boot, now).map_err(|e| failed("the stop of a machine can't be written down", e))?;
        }
        let since = asked.unwrap_or(now);
        if how == Stop::Graceful && now < since.plus(deadline) {
            if let Some(link) = lock(&self.links).get(&id) {
                link.order(Order::PowerDown);
            }
            let press_again = now.plus(Duration::from_millis(task::PRESS_AGAIN_MS));
            let again_at = press_again.min(since.plus(deadline));
            return Ok(Seen::Busy { doing: "shutting down".to_owned(), again_at });
        }
        if how == Stop::Graceful {
            tracing::warn!(compute = %id, after_ms = self.options.stop_deadline_ms, "a guest did not shut down; its power is cut");
        }
        // Written first: a process that is gone without it died.
        home.write_halt(boot, &Halt::ShutDown).map_err(|e| failed("the stop of a machine can't be written down", e))?;
        self.kill(process).await?;
        self.see_halt(id).await
    }

    /// Refuses a machine whose disk was there and is not any more: an empty one in its place would hide the loss. One whose
    /// disk was thrown away by our own `wipe` keeps its record and nothing of its boots.
    fn check_not_lost(&self, machine: &Machine) -> Result<(), DriverError> {
        let home = self.home(machine.id);
        let unread = |e| failed("what is known of a compute can't be read", e);
        let is_known = home.record().map_err(unread)?.is_some();
        let was_made = home.boot_record().map_err(unread)?.is_some() && home.started().map_err(unread)?.is_some();
        if machine.has_run && (was_made || !is_known) {
            return Err(DriverError::Refused(
                "the disk of this compute is gone from its host: its operator can put it back; without it, rebuild the compute, which gives it a fresh disk, or delete it".to_owned(),
            ));
        }
        Ok(())
    }

    /// Decides slot, port, seat and host key of a compute, once, and writes them down.
    pub(super) async fn decide(&self, machine: &Machine) -> Result<Record, DriverError> {
        if let Some(record) = self.known(machine.id)? {
            lock(&self.records).insert(machine.id, record.clone());
            return Ok(record);
        }
        let environment = machine.environment_id.to_string();
        let record = {
            let mut records = lock(&self.records);
            let slot = lowest_free(records.values().map(|r| r.slot));
            if slot > super::SLOTS_MAX {
                return Err(DriverError::NoCapacity(format!("this host holds {} computes at most", super::SLOTS_MAX)));
            }
            let seat = lowest_free(records.values().filter(|r| r.environment == environment).map(|r| r.seat));
            let port = self.free_port(&records)?;
            let host_key = HostKey::generate(&*self.entropy).to_hex();
            let record = Record { slot, port, environment, seat, host_key };
            records.insert(machine.id, record.clone());
            record
        };
        let (home, owner, written) = (self.home(machine.id), self.owner(&record), record.clone());
        let result = blocking("what was decided about a compute can't be written down", move || {
            home.make(owner)?;
            home.write_record(&written)
        })
        .await;
        if let Err(e) = result {
            lock(&self.records).remove(&machine.id);
            return Err(e);
        }
        Ok(record)
    }

    fn free_port(&self, records: &HashMap<ComputeId, Record>) -> Result<u16, DriverError> {
        let used: HashSet<u16> = records.values().map(|r| r.port).collect();
        let mut range = self.options.port_range.clone();
        range.find(|port| !used.contains(port) && network::is_free(*port)).ok_or_else(|| {
            DriverError::NoCapacity(format!(
                "no port between {} and {} is free: the operator can choose a wider range",
                self.options.port_range.start(),
                self.options.port_range.end()
            ))
        })
    }

    /// The record with a port that can be had now: somebody else may have taken the one it had.
    async fn with_free_port(&self, id: ComputeId, record: Record) -> Result<Record, DriverError> {
        // passt goes a moment after the QEMU it served.
        for _ in 0..PORT_LOOKS_MAX {
            if network::is_free(record.port) {
                return Ok(record);
            }
            self.clock.sleep(Duration::from_millis(PORT_LOOK_MS)).await;
        }
        let record = {
            let mut records = lock(&self.records);
            let port = self.free_port(&records)?;
            let record = Record { port, ..record };
            records.insert(id, record.clone());
            record
        };
        let (home, written) = (self.home(id), record.clone());
        blocking("a compute's port can't be written down", move || home.write_record(&written)).await?;
        Ok(record)
    }

    /// Starts QEMU and waits, within bounds, until it says that the processors run.
    async fn start(&self, machine: &Machine, boot: i64) -> Result<Seen, DriverError> {
        let id = machine.id;
        let facts = self
            .facts()
            .await
            .ok_or(DriverError::Passing { context: "the host could not be looked at".to_owned(), source: None })?;
        if let Some(blocker) = facts.blocker() {
            return Err(DriverError::NoCapacity(blocker));
        }
        let Some(record) = self.known(id)? else { return Ok(Seen::Absent) };
        // One that no record leads to: the server died between its start and the first look at it.
        for stray in self.processes_of(id).await? {
            tracing::warn!(compute = %id, pid = stray.pid, "a machine's process that is on no record is ended");
            self.kill(stray).await?;
        }
        self.wait_end(id).await;
        lock(&self.links).remove(&id);
        let record = self.with_free_port(id, record).await?;
        // What the disk was made with counts: the image may be another one by now, or gone.
        let made = self.home(id).boot_record().map_err(|e| failed("how a machine boots can't be read", e))?;
        let command_line = made.map_or_else(|| command_line_of(&machine.image.boot), |made| made.command_line);
        let launch = Launch {
            name: self.name_of(id),
            home: self.home(id),
            sockets: Sockets::new(&self.options.runtime_dir, id),
            identity: self.identity(&record, &facts),
            network_identity: self.owner(&record).map(|id| Identity { id, groups: Vec::new() }),
            machine: machine.clone(),
            record: record.clone(),
            boot,
            command_line,
            facts,
        };
        let (process, children) = blocking("QEMU can't be started", move || launch.go()).await?;
        match self.follow(id, &record, boot, process, children)? {
            Some(status) => self.see_process(id, &record, boot, status).await,
            None => self.see_halt(id).await,
        }
    }
}

pub(super) fn report(seen: Seen) -> Report {
    Report { seen, notes: None }
}

/// The kernel's command line, for an image that comes with a kernel.
pub(super) fn command_line_of(boot: &Boot) -> Option<String> {
    match boot {
        Boot::Disk => None,
        Boot::Kernel { command_line, .. } => Some(command_line.clone()),
    }
}

/// The least number from 1 that is not among `used`.
fn lowest_free(used: impl Iterator<Item = u32>) -> u32 {
    let used: HashSet<u32> = used.collect();
    (1..=u32::MAX).find(|n| !used.contains(n)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_again() {
        assert_eq!(lowest_free([].into_iter()), 1);
        assert_eq!(lowest_free([1, 2, 4].into_iter()), 3);
    }
}
