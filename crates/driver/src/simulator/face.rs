//! What a simulated machine shows: its address, its host key and its serial console, all drawn from its id.

use std::net::Ipv4Addr;
use std::time::Duration;

use base64::Engine;
use nephos_model::Timestamp;
use nephos_model::compute::Address;
use nephos_model::id::{ComputeId, EnvironmentId};
use sha2::{Digest, Sha256};

use super::script::Boot;
use crate::{Machine, Stop};

/// The networks that RFC 5737 keeps for documentation: no packet to them goes anywhere.
const NETWORKS: [[u8; 3]; 3] = [[192, 0, 2], [198, 51, 100], [203, 0, 113]];
/// A line on the console of a machine that runs, so that the log grows.
const MARK_EVERY: Duration = Duration::from_secs(20 * 60);
/// Marks shown at most, the last ones.
const MARKS_MAX: u64 = 200;

/// 64 bits drawn from a text.
pub(super) fn draw(seed: &str) -> u64 {
    Sha256::digest(seed.as_bytes()).iter().take(8).fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

/// Where the machine seems to be. Two machines may seem to be at the same place: there are 762 in all.
pub(super) fn address(id: ComputeId, environment: EnvironmentId) -> Address {
    let outside = draw(&format!("{id} address")).to_be_bytes();
    let inside = draw(&format!("{id} private")).to_be_bytes();
    let network = draw(&format!("{environment} network")).to_be_bytes();
    let [a, b, c] = NETWORKS[usize::from(outside[0]) % NETWORKS.len()];
    Address {
        ssh_host: Ipv4Addr::new(a, b, c, 1 + outside[1] % 254).to_string(),
        ssh_port: 22,
        private_ip: Some(Ipv4Addr::new(10, network[0], network[1], 2 + inside[0] % 253).to_string()),
    }
}

/// An ed25519 host key as OpenSSH writes it. It is well formed and nobody's: 32 bytes of a hash.
pub(super) fn host_key(id: ComputeId) -> String {
    let mut blob = Vec::new();
    for part in [b"ssh-ed25519".as_slice(), &Sha256::digest(format!("{id} host key").as_bytes())] {
        // Both parts have less than 256 bytes.
        blob.extend_from_slice(&u32::try_from(part.len()).unwrap_or_default().to_be_bytes());
        blob.extend_from_slice(part);
    }
    format!("ssh-ed25519 {}", base64::engine::general_purpose::STANDARD.encode(blob))
}

/// The last `bytes_max` bytes of what the last boot wrote until now; nothing before the first.
pub(super) fn console(machine: &Machine, boot: Option<Boot>, bytes_max: usize) -> Vec<u8> {
    let Some(boot) = boot else { return Vec::new() };
    let mut out = String::new();
    let until = boot.halt.map_or(machine.now, |halt| halt.began_at.min(machine.now));
    boot_lines(&mut out, machine, &boot, until);
    mark_lines(&mut out, &boot, until);
    if let Some(halt) = boot.halt.filter(|halt| halt.how == Stop::Graceful) {
        shut_down_lines(&mut out, boot.began_at, halt.began_at, halt.off_at, machine.now);
    }
    let bytes = out.into_bytes();
    let from = bytes.len().saturating_sub(bytes_max);
    bytes[from..].to_vec()
}

/// The lines of a boot, each at its share of the way (in thousandths) from power on to the first user process.
fn boot_lines(out: &mut String, machine: &Machine, boot: &Boot, until: Timestamp) {
    let host = &machine.hostname;
    let private = address(machine.id, machine.environment_id).private_ip.unwrap_or_default();
    let lines: [(u16, String); 10] = [
        (0, "nephos simulator: power on".to_owned()),
        (40, format!("image {}: kernel loaded", machine.image.name)),
        (120, format!("memory: {} MiB available", machine.memory_mib)),
        (180, format!("processors: {} brought up", machine.vcpus)),
        (320, format!("vda: {} GiB, 1 partition", machine.disk_gib)),
        (450, "root file system mounted".to_owned()),
        (600, format!("eth0: link up, address {private}")),
        (720, format!("host name set to {host}")),
        (860, format!("authorized keys: {} written", machine.ssh_keys.len())),
        (950, "ssh server listens on port 22".to_owned()),
    ];
    let whole = boot.ready_at.since(boot.began_at);
    for (thousandths, text) in lines {
        let after = whole * u32::from(thousandths) / 1_000;
        if boot.began_at.plus(after) <= until {
            line(out, after, &text);
        }
    }
    if boot.ready_at <= until {
        out.push_str("\r\n");
        out.push_str(host);
        out.push_str(" login: \r\n");
    }
}

fn mark_lines(out: &mut String, boot: &Boot, until: Timestamp) {
    let marks = until.since(boot.ready_at).as_secs() / MARK_EVERY.as_secs();
    for mark in (marks.saturating_sub(MARKS_MAX) + 1)..=marks {
        let after = boot.ready_at.since(boot.began_at) + Duration::from_secs(mark * MARK_EVERY.as_secs());
        line(out, after, "still running");
    }
}

fn shut_down_lines(out: &mut String, began_at: Timestamp, from: Timestamp, to: Timestamp, now: Timestamp) {
    let whole = to.since(from);
    for (share, text) in
        [(0, "power button pressed"), (1, "stopping services"), (2, "file systems unmounted"), (3, "power off")]
    {
        let at = from.plus(whole * share / 3);
        if at <= now {
            line(out, at.since(began_at), text);
        }
    }
}

fn line(out: &mut String, after: Duration, text: &str) {
    use std::fmt::Write;
    // Writing to a String does not fail.
    let _ = write!(out, "[{:5}.{:06}] {text}\r\n", after.as_secs(), after.subsec_micros());
}
