//! A sandbox machine's life, with its times.

use nephos_model::id::{EnvironmentId, Id, ImageId, Raw};
use nephos_model::image::{Boot, Image};
use nephos_model::ssh_key::PublicKey;

use super::*;
use crate::Notes;

const MICRO: Duration = Duration::from_micros(1);

fn machine(simulate: Option<&str>) -> Machine {
    let now = Timestamp::from_secs(1_780_000_000);
    Machine {
        id: ComputeId::from_raw(Raw::from_bytes([7; 16])),
        environment_id: EnvironmentId::from_raw(Raw::from_bytes([1; 16])),
        hostname: "web-1".to_owned(),
        vcpus: 2,
        memory_mib: 512,
        disk_gib: 10,
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
        labels: simulate.map(|value| (SIMULATE_LABEL.to_owned(), value.to_owned())).into_iter().collect(),
        notes: None,
        has_run: false,
        now,
    }
}

async fn look(machine: &Machine) -> Seen {
    Simulator::new().observe(machine).await.unwrap().seen
}

async fn converge(machine: &mut Machine, goal: Goal) -> Result<Seen, DriverError> {
    let report = Simulator::new().converge(machine, goal).await?;
    if let Some(notes) = report.notes {
        machine.notes = Some(notes);
    }
    Ok(report.seen)
}

/// Moves time to the instant at which looking again is worth it, and checks that no earlier one is.
async fn wait(machine: &mut Machine) -> (String, Duration) {
    let Seen::Busy { doing, again_at } = look(machine).await else { panic!("not busy") };
    let took = again_at.since(machine.now);
    machine.now = again_at.minus(MICRO);
    assert!(matches!(look(machine).await, Seen::Busy { .. }), "busy until the last microsecond");
    machine.now = again_at;
    assert!(!matches!(look(machine).await, Seen::Busy { .. }), "not busy from then on");
    (doing, took)
}

fn within(took: Duration, mean_ms: u64) -> bool {
    let ms = u64::try_from(took.as_millis()).unwrap();
    (mean_ms * 80 / 100..=mean_ms * 120 / 100).contains(&ms)
}

async fn run(machine: &mut Machine, boot: i64) {
    for _ in 0..3 {
        if let Seen::Running { .. } = converge(machine, Goal::Running { boot }).await.unwrap() {
            return;
        }
        wait(machine).await;
    }
}

#[tokio::test]
async fn a_life_takes_believable_time() {
    let mut web = machine(None);
    assert_eq!(look(&web).await, Seen::Absent);

    converge(&mut web, Goal::Running { boot: 1 }).await.unwrap();
    let (doing, took) = wait(&mut web).await;
    assert_eq!(doing, "making the disk");
    assert!(within(took, PREPARE_MS), "{took:?}");
    assert_eq!(look(&web).await, Seen::Stopped { why: Halt::Fresh });

    converge(&mut web, Goal::Running { boot: 1 }).await.unwrap();
    let (doing, took) = wait(&mut web).await;
    assert_eq!(doing, "booting");
    assert!(within(took, BOOT_MS), "{took:?}");
    let Seen::Running { boot: 1, address, ssh_host_key: Some(key) } = look(&web).await else { panic!("not running") };
    assert_eq!(address.ssh_host, "192.0.2.179");
    assert_eq!(address.ssh_port, 22);
    assert!(PublicKey::parse(&key).is_ok(), "{key}");

    // A machine left alone for a year runs on.
    web.now = web.now.plus(Duration::from_secs(365 * 86_400));
    assert!(matches!(look(&web).await, Seen::Running { boot: 1, .. }));

    converge(&mut web, Goal::Stopped { how: Stop::Graceful }).await.unwrap();
    let (doing, took) = wait(&mut web).await;
    assert_eq!(doing, "shutting down");
    assert!(within(took, SHUT_DOWN_MS), "{took:?}");

    run(&mut web, 2).await;
    converge(&mut web, Goal::Stopped { how: Stop::Graceful }).await.unwrap();
    converge(&mut web, Goal::Stopped { how: Stop::Forced }).await.unwrap();
    let (_, took) = wait(&mut web).await;
    assert!(within(took, CUT_MS), "{took:?}");
    assert_eq!(look(&web).await, Seen::Stopped { why: Halt::ShutDown });
}

#[tokio::test]
async fn what_there_is_follows_from_notes_and_time_alone() {
    let mut web = machine(None);
    converge(&mut web, Goal::Running { boot: 1 }).await.unwrap();
    let report = Simulator::new().observe(&web).await.unwrap();
    assert_eq!(report.notes, None, "looking writes nothing down");
    let begun = web.clone();
    wait(&mut web).await;
    // Time jumps over several delays: the move after it begins then.
    let mut late = begun;
    late.now = late.now.plus(Duration::from_secs(3_600));
    converge(&mut late, Goal::Running { boot: 1 }).await.unwrap();
    let (doing, took) = wait(&mut late).await;
    assert_eq!(doing, "booting");
    assert!(within(took, BOOT_MS), "{took:?}");
}

#[tokio::test]
async fn a_failing_disk_fails_after_its_time_and_says_what_to_do() {
    let mut web = machine(Some("provision_failure"));
    converge(&mut web, Goal::Running { boot: 1 }).await.unwrap();
    let (_, took) = wait(&mut web).await;
    assert!(within(took, PREPARE_MS), "{took:?}");
    assert_eq!(look(&web).await, Seen::Absent);
    for _ in 0..2 {
        let refused = converge(&mut web, Goal::Running { boot: 1 }).await.unwrap_err();
        assert!(matches!(refused, DriverError::Refused(_)));
        assert_eq!(
            refused.to_string(),
            "The disk could not be made: the label \"simulate: provision_failure\" asks the sandbox to fail here. \
             Remove the label and create the compute again."
        );
    }
    web.labels.clear();
    run(&mut web, 1).await;
    assert!(matches!(look(&web).await, Seen::Running { boot: 1, .. }));
}

#[tokio::test]
async fn no_room_and_unknown_values_are_said_at_once() {
    let mut web = machine(Some("capacity"));
    let told = Simulator::new().check_labels(&web.labels).unwrap_err();
    assert!(matches!(told, DriverError::NoCapacity(_)), "{told:?}");
    let full = converge(&mut web, Goal::Running { boot: 1 }).await.unwrap_err();
    assert!(matches!(full, DriverError::NoCapacity(_)), "{full:?}");
    assert_eq!((look(&web).await, &web.notes), (Seen::Absent, &None));

    let mut web = machine(Some("slowboot"));
    let refused = converge(&mut web, Goal::Running { boot: 1 }).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "The sandbox does not know the value \"slowboot\" of the label \"simulate\". \
         Use \"provision_failure\", \"capacity\" or \"slow_boot\", or leave the label out."
    );
    assert!(matches!(refused, DriverError::Refused(_)));
    assert!(matches!(Simulator::new().check_labels(&web.labels), Err(DriverError::Refused(_))));
    assert_eq!(Simulate::of(&machine(Some("")).labels).unwrap(), Simulate::Nothing);
    for fine in [None, Some("provision_failure"), Some("slow_boot")] {
        assert!(Simulator::new().check_labels(&machine(fine).labels).is_ok(), "{fine:?}");
    }
}

#[tokio::test]
async fn a_slow_boot_is_slow_and_can_be_stopped() {
    let mut web = machine(Some("slow_boot"));
    converge(&mut web, Goal::Running { boot: 1 }).await.unwrap();
    wait(&mut web).await;
    converge(&mut web, Goal::Running { boot: 1 }).await.unwrap();
    let booting = web.clone();
    let (_, took) = wait(&mut web).await;
    assert!(within(took, SLOW_BOOT_MS), "{took:?}");

    let mut web = booting;
    converge(&mut web, Goal::Stopped { how: Stop::Graceful }).await.unwrap();
    wait(&mut web).await;
    assert_eq!(look(&web).await, Seen::Stopped { why: Halt::ShutDown });
}

#[tokio::test]
async fn the_console_grows_with_time() {
    let simulator = Simulator::new();
    let mut web = machine(None);
    converge(&mut web, Goal::Running { boot: 1 }).await.unwrap();
    wait(&mut web).await;
    let mut lengths = vec![simulator.console(&web, usize::MAX).await.unwrap().len()];
    converge(&mut web, Goal::Running { boot: 1 }).await.unwrap();
    for seconds in [0, 1, 2, 3, 3_600] {
        web.now = web.now.plus(Duration::from_secs(seconds));
        lengths.push(simulator.console(&web, usize::MAX).await.unwrap().len());
    }
    converge(&mut web, Goal::Stopped { how: Stop::Graceful }).await.unwrap();
    wait(&mut web).await;
    let log = simulator.console(&web, usize::MAX).await.unwrap();
    lengths.push(log.len());
    assert!(lengths.is_sorted_by(|a, b| a < b), "{lengths:?}");
    assert_eq!(lengths[0], 0);

    let log = String::from_utf8(log).unwrap();
    assert!(log.starts_with("[    0.000000] nephos simulator: power on\r\n"), "{log}");
    assert!(log.contains("\r\nweb-1 login: \r\n"), "{log}");
    assert!(log.ends_with(" power off\r\n"), "{log}");

    // Years of running do not make it long.
    run(&mut web, 2).await;
    web.now = web.now.plus(Duration::from_secs(50 * 365 * 86_400));
    assert!(simulator.console(&web, usize::MAX).await.unwrap().len() < 16 * 1024);
}

#[tokio::test]
async fn notes_of_another_form_are_an_error_for_the_log() {
    for text in ["", "{}", "not json", r#"{"form":2}"#] {
        let mut web = machine(None);
        web.notes = Some(Notes(text.to_owned()));
        let error = Simulator::new().observe(&web).await.unwrap_err();
        assert!(matches!(error, DriverError::Passing { .. }), "{text}: {error:?}");
    }
}

#[test]
fn the_host_has_room_without_end() {
    let host = Simulator::new().host();
    assert_eq!(host.availability, Availability::Available);
    assert_eq!(host.capacity.vcpus, u64::MAX);
}
