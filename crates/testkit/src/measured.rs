//! A driver whose machines are simulated and yet measured: what they have counted is what a test says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use nephos_driver::simulator::Simulator;
use nephos_driver::terminal::{Terminal, TerminalError};
use nephos_driver::{Driver, DriverError, Goal, Host, Machine, Report};
use nephos_model::id::ComputeId;
use nephos_model::telemetry::Counters;

/// The region in which a world's computes are measured, and its driver.
pub const MEASURED: &str = "measured";

/// The driver. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    simulator: Arc<Simulator>,
    counters: Arc<Mutex<BTreeMap<ComputeId, Counters>>>,
}

impl Measured {
    /// What a machine has counted from now on; `None`: it does not answer.
    pub fn set(&self, id: ComputeId, counters: Option<Counters>) {
        let mut all = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        match counters {
            Some(counters) => drop(all.insert(id, counters)),
            None => drop(all.remove(&id)),
        }
    }
}

#[async_trait::async_trait]
impl Driver for Measured {
    fn name(&self) -> &'static str {
        MEASURED
    }

    fn host(&self) -> Host {
        self.simulator.host()
    }

    async fn observe(&self, machine: &Machine) -> Result<Report, DriverError> {
        self.simulator.observe(machine).await
    }

    async fn converge(&self, machine: &Machine, goal: Goal) -> Result<Report, DriverError> {
        self.simulator.converge(machine, goal).await
    }

    async fn discard(&self, id: ComputeId) -> Result<(), DriverError> {
        self.simulator.discard(id).await
    }

    async fn grow(&self, machine: &Machine) -> Result<Report, DriverError> {
        self.simulator.grow(machine).await
    }

    async fn wipe(&self, machine: &Machine) -> Result<Report, DriverError> {
        self.simulator.wipe(machine).await
    }

    async fn machines(&self) -> Result<Vec<ComputeId>, DriverError> {
        self.simulator.machines().await
    }

    async fn console(&self, machine: &Machine, bytes_max: usize) -> Result<Vec<u8>, DriverError> {
        self.simulator.console(machine, bytes_max).await
    }

    async fn terminal(&self, machine: &Machine, bytes_max: usize) -> Result<Terminal, TerminalError> {
        self.simulator.terminal(machine, bytes_max).await
    }

    async fn measure(&self) -> Result<Vec<(ComputeId, Counters)>, DriverError> {
        let all = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(all.iter().map(|(id, counters)| (*id, *counters)).collect())
    }

    async fn changed(&self) -> ComputeId {
        self.simulator.changed().await
    }
}
