//! The machine's clock and randomness: the only place of the program that reads them.

use std::cell::RefCell;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nephos_model::clock::Sleep;
use nephos_model::{Clock, Entropy, Timestamp};

/// A wait for the wall clock looks at it again after this long, so that a clock that was set is noticed.
const WALL_WAIT_MAX: Duration = Duration::from_secs(30);

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

#[allow(clippy::disallowed_methods)] // the one place where time comes from
impl SystemClock {
    /// A clock whose monotonic time starts now.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }
}

#[allow(clippy::disallowed_methods)] // the one place where time comes from
fn wall() -> Timestamp {
    // A clock before 1970 reads as 1970: ids stay ahead of it by their own rule.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

#[allow(clippy::disallowed_methods)] // the one place where waits come from
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        wall()
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep_until(&self, at: Timestamp) -> Sleep {
        Box::pin(async move {
            loop {
                let left = at.since(wall());
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.min(WALL_WAIT_MAX)).await;
            }
        })
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// Holds up this thread: for the command line, which has nothing else to do.
#[allow(clippy::disallowed_methods)] // the one place where waits come from
pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// Bytes of randomness that a thread takes from the system at once.
const TAKEN_BYTES: usize = 512;
/// Who asks for more bytes than this is given fresh ones: identifiers need less, secrets more.
const FROM_TAKEN_BYTES_MAX: usize = 16;

/// The operating system's randomness. Identifiers are made several a request, so what they need is taken in advance.
#[derive(Debug)]
pub struct SystemEntropy;

/// Random bytes of a thread; those before `used` were given away and are zero.
struct Taken {
    bytes: [u8; TAKEN_BYTES],
    used: usize,
}

thread_local! {
    static TAKEN: RefCell<Taken> = const { RefCell::new(Taken { bytes: [0; TAKEN_BYTES], used: TAKEN_BYTES }) };
}

#[allow(clippy::disallowed_methods)] // the one place where randomness comes from
fn fresh(bytes: &mut [u8]) {
    // The system call fails only on kernels that do not have it (before 3.17); there is nothing to continue with.
    getrandom::fill(bytes).expect("the operating system gives random bytes");
}

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        if bytes.len() > FROM_TAKEN_BYTES_MAX {
            return fresh(bytes);
        }
        TAKEN.with_borrow_mut(|taken| {
            if taken.used + bytes.len() > TAKEN_BYTES {
                fresh(&mut taken.bytes);
                taken.used = 0;
            }
            let given = &mut taken.bytes[taken.used..][..bytes.len()];
            bytes.copy_from_slice(given);
            given.fill(0);
            taken.used += bytes.len();
        });
    }
}

/// A random UUID (version 4) in its usual spelling.
pub fn uuid_v4(entropy: &dyn Entropy) -> String {
    let bits = (entropy.u128() & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Ones;
    impl Entropy for Ones {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0xff);
        }
    }

    #[test]
    fn no_randomness_is_given_twice() {
        let mut seen = std::collections::HashSet::new();
        for _ in 0..1_000 {
            assert!(seen.insert(SystemEntropy.u128()));
        }
        let (mut small, mut large) = ([0; 3], [0; 64]);
        SystemEntropy.fill(&mut small);
        SystemEntropy.fill(&mut large);
        assert!(large.iter().any(|byte| *byte != 0));
    }

    #[test]
    fn uuids_have_version_and_variant() {
        assert_eq!(uuid_v4(&Ones), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
