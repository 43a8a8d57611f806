//! The driver's contract, on the simulator.

use std::sync::Arc;

use async_trait::async_trait;
use nephos_driver::conformance::{self, Fixture};
use nephos_driver::simulator::Simulator;
use nephos_driver::{Driver, Machine};
use nephos_model::Timestamp;
use nephos_model::id::{ComputeId, EnvironmentId, Id, ImageId, Raw};
use nephos_model::image::{Boot, Image};

/// Time passes when the suite waits, and then exactly as long as it asked for.
#[derive(Default)]
struct Sandbox {
    machines: u8,
}

#[async_trait]
impl Fixture for Sandbox {
    async fn start(&mut self, _: Option<Arc<dyn Driver>>) -> Arc<dyn Driver> {
        Arc::new(Simulator::new())
    }

    async fn machine(&mut self) -> Machine {
        self.machines += 1;
        let now = Timestamp::from_secs(1_780_000_000);
        let mut id = [7; 16];
        id[15] = self.machines;
        Machine {
            id: ComputeId::from_raw(Raw::from_bytes(id)),
            environment_id: EnvironmentId::from_raw(Raw::from_bytes([1; 16])),
            hostname: format!("web-{}", self.machines),
            vcpus: 1,
            memory_mib: 128,
            disk_gib: 1,
            image: Image {
                id: ImageId::from_raw(Raw::from_bytes([2; 16])),
                name: "small".to_owned(),
                description: "A small guest".to_owned(),
                checksum: "0".repeat(64),
                size_bytes: 5_000_000,
                min_memory_mib: 64,
                min_disk_gib: 1,
                login_user: "root".to_owned(),
                boot: Boot::Disk,
                created_at: now,
            },
            ssh_keys: Vec::new(),
            user_data: None,
            labels: Vec::new(),
            notes: None,
            has_run: false,
            now,
        }
    }

    async fn wait(&mut self, machine: &mut Machine, at: Timestamp) {
        assert!(at > machine.now, "a simulated machine knows when looking again is worth it: {at:?}");
        machine.now = at;
    }

    fn keeps_traces(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn the_simulator_keeps_the_contract() {
    conformance::run(&mut Sandbox::default()).await;
}
