//! The simulator: runs the computes of the sandbox without a hypervisor.
//!
//! It goes through the same states as a real machine, in believable time. Everything it knows about a machine is in
//! [`Machine::notes`]; what there is of it is a pure function of those notes and [`Machine::now`]. So it needs no memory,
//! no host and no adoption after a restart, several replicas may share it, and a tenant's clock moves it as far as it likes.
//! Deliberately not here: guests. Nothing listens at a simulated address. Terminals that are open are the one thing that is
//! held in memory (`echo`): they end with the process, and nothing that they say changes a machine.
//!
//! The label `simulate` makes a machine misbehave, see [`Simulate`].

mod echo;
mod face;
mod load;
mod script;

use std::time::Duration;

use async_trait::async_trait;
use nephos_model::Timestamp;
use nephos_model::id::ComputeId;
use nephos_model::region::Capacity;
use nephos_model::telemetry::Counters;

use self::echo::Lines;
use self::script::Script;
use crate::terminal::{Terminal, TerminalError};
use crate::{Availability, Driver, DriverError, Goal, Halt, Host, Machine, Report, Seen, Shape, Stop};

/// The label that makes a machine misbehave.
pub const SIMULATE_LABEL: &str = "simulate";

/// Making the disk from the image.
const PREPARE_MS: u64 = 2_000;
/// From power on to the first user process.
const BOOT_MS: u64 = 4_000;
/// The same with `simulate: slow_boot`.
const SLOW_BOOT_MS: u64 = 120_000;
/// Making the disk larger.
const GROW_MS: u64 = 1_500;
/// From the power button to power off.
const SHUT_DOWN_MS: u64 = 3_000;
/// From the cut to power off.
const CUT_MS: u64 = 200;
/// Every delay is shorter or longer by at most this share, fixed by the machine's id and the step.
const JITTER_PERCENT: u64 = 20;

/// What the label `simulate` asks for. Without the label, or with an empty value, nothing goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Simulate {
    /// Nothing goes wrong.
    Nothing,
    /// `provision_failure`: making the disk takes its time and then fails for good.
    ProvisionFailure,
    /// `capacity`: there is no room for the machine.
    Capacity,
    /// `slow_boot`: booting takes two minutes.
    SlowBoot,
}

impl Simulate {
    /// Reads the label. A value that is not known is refused, so that a misspelt one is not taken for a success.
    pub fn of(labels: &[(String, String)]) -> Result<Self, DriverError> {
        match labels.iter().find(|(key, _)| key == SIMULATE_LABEL).map(|(_, value)| value.as_str()) {
            None | Some("") => Ok(Self::Nothing),
            Some("provision_failure") => Ok(Self::ProvisionFailure),
            Some("capacity") => Ok(Self::Capacity),
            Some("slow_boot") => Ok(Self::SlowBoot),
            Some(other) => Err(DriverError::Refused(format!(
                "The sandbox does not know the value \"{other}\" of the label \"{SIMULATE_LABEL}\". \
                 Use \"provision_failure\", \"capacity\" or \"slow_boot\", or leave the label out."
            ))),
        }
    }
}

/// The driver of the sandbox. Holds nothing but open terminals.
#[derive(Debug, Default)]
pub struct Simulator {
    lines: Lines,
}

impl Simulator {
    /// The simulator; all of them are alike.
    pub const fn new() -> Self {
        Self { lines: Lines::new() }
    }

    /// What there is; terminals on what has stopped end with that.
    fn noticed(&self, script: &Script, machine: &Machine) -> Seen {
        let seen = seen(script, machine);
        if matches!(seen, Seen::Stopped { .. } | Seen::Absent) {
            self.lines.close(machine.id);
        }
        seen
    }
}

#[async_trait]
impl Driver for Simulator {
    fn name(&self) -> &'static str {
        "simulator"
    }

    fn host(&self) -> Host {
        let capacity = Capacity { vcpus: u64::MAX, memory_mib: u64::MAX, disk_gib: u64::MAX };
        Host { availability: Availability::Available, capacity }
    }

    fn is_simulated(&self) -> bool {
        true
    }

    fn check_labels(&self, labels: &[(String, String)]) -> Result<(), DriverError> {
        match Simulate::of(labels)? {
            Simulate::Capacity => Err(no_room()),
            Simulate::Nothing | Simulate::ProvisionFailure | Simulate::SlowBoot => Ok(()),
        }
    }

    async fn observe(&self, machine: &Machine) -> Result<Report, DriverError> {
        let script = Script::read(machine)?;
        Ok(Report { seen: self.noticed(&script, machine), notes: None })
    }

    async fn converge(&self, machine: &Machine, goal: Goal) -> Result<Report, DriverError> {
        let mut script = Script::read(machine)?;
        let now = machine.now;
        let moved = match (seen(&script, machine), goal) {
            (Seen::Absent, _) => {
                prepare(&mut script, machine)?;
                true
            }
            (Seen::Stopped { .. }, Goal::Running { boot }) => {
                let slow = Simulate::of(&machine.labels)? == Simulate::SlowBoot;
                let took = delay(machine.id, Step::Boot(boot), if slow { SLOW_BOOT_MS } else { BOOT_MS });
                script.boot(boot, now, took);
                true
            }
            // A boot under way is stopped as a boot that is over.
            (_, Goal::Stopped { how }) => {
                let (step, took_ms) = match how {
                    Stop::Graceful => (Step::ShutDown(script.boot_number()), SHUT_DOWN_MS),
                    Stop::Forced => (Step::Cut(script.boot_number()), CUT_MS),
                };
                script.stop(how, now, delay(machine.id, step, took_ms))
            }
            (Seen::Busy { .. } | Seen::Running { .. }, Goal::Running { .. }) => false,
        };
        let notes = if moved { Some(script.write()?) } else { None };
        Ok(Report { seen: self.noticed(&script, machine), notes })
    }

    async fn discard(&self, id: ComputeId) -> Result<(), DriverError> {
        self.lines.close(id);
        Ok(())
    }

    async fn grow(&self, machine: &Machine) -> Result<Report, DriverError> {
        let mut script = Script::read(machine)?;
        let grown = match seen(&script, machine) {
            // One that is growing already is asked again when it has grown.
            Seen::Absent => false,
            Seen::Busy { .. } if script.growing(machine.now).is_some() => false,
            Seen::Stopped { .. } => {
                let took = delay(machine.id, Step::Grow(machine.disk_gib), GROW_MS);
                script.grow(machine.disk_gib, machine.now, took)
            }
            Seen::Busy { doing, .. } => return Err(passing(format!("grow {}: it is {doing}", machine.id))),
            Seen::Running { .. } => return Err(passing(format!("grow {}: it is running", machine.id))),
        };
        let notes = if grown { Some(script.write()?) } else { None };
        Ok(Report { seen: seen(&script, machine), notes })
    }

    async fn wipe(&self, machine: &Machine) -> Result<Report, DriverError> {
        match seen(&Script::read(machine)?, machine) {
            Seen::Absent | Seen::Stopped { .. } => {
                Ok(Report { seen: Seen::Absent, notes: Some(Script::default().write()?) })
            }
            Seen::Busy { doing, .. } => Err(passing(format!("wipe {}: it is {doing}", machine.id))),
            Seen::Running { .. } => Err(passing(format!("wipe {}: it is running", machine.id))),
        }
    }

    async fn machines(&self) -> Result<Vec<ComputeId>, DriverError> {
        Ok(Vec::new())
    }

    async fn console(&self, machine: &Machine, bytes_max: usize) -> Result<Vec<u8>, DriverError> {
        let script = Script::read(machine)?;
        Ok(face::console(machine, script.last_boot(), bytes_max))
    }

    async fn measure(&self) -> Result<Vec<(ComputeId, Counters)>, DriverError> {
        Ok(Vec::new())
    }

    fn imagined(&self, id: ComputeId, shape: Shape, began_at: Timestamp, at: Timestamp) -> Option<Counters> {
        Some(load::counters(id, shape, began_at, at))
    }

    async fn terminal(&self, machine: &Machine, bytes_max: usize) -> Result<Terminal, TerminalError> {
        let script = Script::read(machine)?;
        match seen(&script, machine) {
            Seen::Running { .. } => self.lines.attach(machine, face::console(machine, script.last_boot(), bytes_max)),
            _ => Err(TerminalError::NotRunning),
        }
    }

    async fn changed(&self) -> ComputeId {
        // A simulated machine changes at times that are known beforehand, and never by itself.
        std::future::pending().await
    }
}

/// Begins to make the disk.
fn prepare(script: &mut Script, machine: &Machine) -> Result<(), DriverError> {
    let simulate = Simulate::of(&machine.labels)?;
    if simulate == Simulate::Capacity {
        return Err(no_room());
    }
    let fails = simulate == Simulate::ProvisionFailure;
    if fails && script.failed(machine.now) {
        return Err(DriverError::Refused(format!(
            "The disk could not be made: the label \"{SIMULATE_LABEL}: provision_failure\" asks the sandbox to fail here. \
             Remove the label and create the compute again."
        )));
    }
    script.prepare(machine.now, delay(machine.id, Step::Prepare, PREPARE_MS), fails);
    Ok(())
}

fn no_room() -> DriverError {
    DriverError::NoCapacity(format!(
        "The region has no room for this compute: the label \"{SIMULATE_LABEL}: capacity\" asks the sandbox to say so. \
         Remove the label and try again."
    ))
}

/// What there is, by the notes and the time alone.
fn seen(script: &Script, machine: &Machine) -> Seen {
    let now = machine.now;
    let busy = |doing: &str, again_at: Timestamp| Seen::Busy { doing: doing.to_owned(), again_at };
    let Some(disk) = script.disk() else { return Seen::Absent };
    if now < disk.ready_at {
        return busy("making the disk", disk.ready_at);
    }
    if disk.fails {
        return Seen::Absent;
    }
    if let Some(grown) = script.growing(now) {
        return busy("resizing the disk", grown);
    }
    let Some(boot) = script.last_boot() else { return Seen::Stopped { why: Halt::Fresh } };
    match boot.halt {
        Some(halt) if now >= halt.off_at => Seen::Stopped { why: Halt::ShutDown },
        Some(halt) => busy("shutting down", halt.off_at),
        None if now < boot.ready_at => busy("booting", boot.ready_at),
        None => Seen::Running {
            boot: boot.number,
            address: face::address(machine.id, machine.environment_id),
            ssh_host_key: Some(face::host_key(machine.id)),
        },
    }
}

/// What takes time.
#[derive(Debug, Clone, Copy)]
enum Step {
    Prepare,
    Boot(i64),
    ShutDown(i64),
    Cut(i64),
    Grow(u32),
}

/// `mean_ms` and a jitter that is the same whenever the same step of the same machine is asked for.
fn delay(id: ComputeId, step: Step, mean_ms: u64) -> Duration {
    let (name, number) = match step {
        Step::Prepare => ("prepare", 0),
        Step::Boot(number) => ("boot", number),
        Step::ShutDown(number) => ("shut-down", number),
        Step::Cut(number) => ("cut", number),
        Step::Grow(gib) => ("grow", i64::from(gib)),
    };
    let spread_ms = mean_ms * JITTER_PERCENT / 100;
    let offset_ms = face::draw(&format!("{id} {name} {number}")) % (2 * spread_ms + 1);
    Duration::from_millis(mean_ms - spread_ms + offset_ms)
}

fn passing(context: String) -> DriverError {
    DriverError::Passing { context, source: None }
}

#[cfg(test)]
mod tests;
