//! The timed probe of KVM. A `/dev/kvm` that opens and makes virtual machines proves nothing: there are hosts where
//! each guest instruction traps, and emulation is a hundred times faster. So a few thousand guest instructions are run
//! and timed.

#![allow(unsafe_code)] // handing memory to a virtual machine is unsafe; see the one block below

use std::sync::Arc;
use std::time::Duration;

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{Kvm, VcpuExit};
use nephos_model::Clock;

/// Millions of instructions a second from which KVM is chosen. Emulation runs some hundreds of millions; hardware,
/// also nested, some thousands; trapping instruction by instruction a few.
pub const MIPS_MIN: u64 = 100;
/// Milliseconds after which the probe is given up.
const DEADLINE_MS: u64 = 1_000;
/// Milliseconds of guest time that are measured at most.
const MEASURE_MS: u64 = 40;
/// Runs between two exits of the guest that are measured at most.
const ROUNDS_MAX: u64 = 200;
/// Passes of the guest's loop between two exits.
const PASSES: u16 = 10_000;
/// Guest-physical address of the page with the code.
const CODE_ADDRESS: u64 = 0x1000;

/// What the probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Guests run at this many million instructions a second, at least [`MIPS_MIN`].
    Fast(u64),
    /// Guests run, but at this many million instructions a second only.
    Slow(u64),
    /// No guest runs; the text says why.
    Unusable(String),
}

#[repr(align(4096))]
struct Page([u8; 4096]);

/// Runs guest instructions for at most a second and says how fast they went.
pub async fn probe(clock: Arc<dyn Clock>) -> Verdict {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let for_thread = Arc::clone(&clock);
    // A thread of its own: a guest that hangs in the kernel can't be called back, only left alone.
    let thread = std::thread::Builder::new().name("kvm-probe".into()).spawn(move || {
        let _ = sender.send(measure(&*for_thread).unwrap_or_else(Verdict::Unusable));
    });
    if let Err(e) = thread {
        return Verdict::Unusable(format!("no thread could be started: {e}"));
    }
    tokio::select! {
        verdict = receiver => verdict.unwrap_or_else(|_| Verdict::Unusable("the probe broke off".into())),
        () = clock.sleep(Duration::from_millis(DEADLINE_MS)) =>
            Verdict::Unusable(format!("a guest of a few thousand instructions did not end within {DEADLINE_MS} ms")),
    }
}

fn measure(clock: &dyn Clock) -> Result<Verdict, String> {
    let said = |what: &'static str| move |e: kvm_ioctls::Error| format!("{what}: {}", std::io::Error::from(e));
    let kvm = Kvm::new().map_err(said("/dev/kvm does not open"))?;
    let vm = kvm.create_vm().map_err(said("it makes no virtual machine"))?;
    // Real mode: load cx, count it down to zero, leave by a port, again.
    let [low, high] = PASSES.to_le_bytes();
    let code = [0xb9, low, high, 0x49, 0x75, 0xfd, 0xe6, 0x10, 0xeb, 0xf6];
    let mut page = Box::new(Page([0; 4096]));
    page.0[..code.len()].copy_from_slice(&code);
    // Leaked on purpose (one page, once a probe): it must outlive a guest that never comes back.
    let page = Box::leak(page);
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: CODE_ADDRESS,
        memory_size: 4096,
        userspace_addr: std::ptr::from_mut(page) as u64,
    };
    // SAFETY: the page is aligned, as long as said, never freed, and touched by nobody else from here on.
    unsafe { vm.set_user_memory_region(region) }.map_err(said("it takes no memory"))?;
    let mut vcpu = vm.create_vcpu(0).map_err(said("it makes no processor"))?;
    let mut segments = vcpu.get_sregs().map_err(said("it shows no registers"))?;
    segments.cs.base = 0;
    segments.cs.selector = 0;
    vcpu.set_sregs(&segments).map_err(said("it takes no registers"))?;
    let mut registers = vcpu.get_regs().map_err(said("it shows no registers"))?;
    registers.rip = CODE_ADDRESS;
    registers.rflags = 2;
    vcpu.set_regs(&registers).map_err(said("it takes no registers"))?;

    let start = clock.monotonic();
    let (mut rounds, mut elapsed) = (0, Duration::ZERO);
    while rounds < ROUNDS_MAX && elapsed < Duration::from_millis(MEASURE_MS) {
        match vcpu.run() {
            Ok(VcpuExit::IoOut(0x10, _)) => rounds += 1,
            Ok(other) => return Err(format!("the guest stopped unexpectedly ({other:?})")),
            Err(e) => return Err(format!("the guest does not run: {}", std::io::Error::from(e))),
        }
        elapsed = clock.monotonic().saturating_sub(start);
    }
    Ok(judge(rounds, elapsed))
}

/// Two instructions a pass; the few around the loop do not count.
fn judge(rounds: u64, elapsed: Duration) -> Verdict {
    let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX).max(1);
    let mips = rounds * u64::from(PASSES) * 2 / micros;
    if mips >= MIPS_MIN { Verdict::Fast(mips) } else { Verdict::Slow(mips) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_decides() {
        assert_eq!(judge(200, Duration::from_millis(4)), Verdict::Fast(1_000));
        assert_eq!(judge(4, Duration::from_millis(40)), Verdict::Slow(2));
        assert_eq!(judge(0, Duration::ZERO), Verdict::Slow(0));
    }
}
