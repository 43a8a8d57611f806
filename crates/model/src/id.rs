//! Prefixed, sortable, never reused identifiers: `TypeID`s over `UUIDv7` (RFC 9562).
//!
//! An identifier is parsed once, at the edge; inside the program it is a type of its own. The text form is the prefix,
//! an underscore and 26 characters of Crockford base32 (lower case), as the `TypeID` specification 0.3 has it.

use std::fmt;
use std::str::FromStr;
use std::sync::Mutex;

use crate::clock::Clock;
use crate::entropy::Entropy;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const SUFFIX_CHARS: usize = 26;
/// Random bits of a `UUIDv7` below its 48-bit time: 12 in `rand_a` and 62 in `rand_b`.
const TAIL_BITS: u32 = 74;

/// Why a text is not an identifier of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdError {
    /// The prefix that was wanted, without the underscore.
    pub wanted: &'static str,
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected an id that starts with \"{}_\" followed by 26 characters", self.wanted)
    }
}

impl std::error::Error for IdError {}

/// The 128 bits under every identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Raw(u128);

impl Raw {
    /// A value from the 16 bytes of a UUID in network order.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// The 16 bytes of the UUID in network order.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// Milliseconds since the Unix epoch at which a `UUIDv7` was made.
    #[allow(clippy::cast_possible_truncation)] // 48 bits remain after the shift
    pub const fn unix_ms(self) -> u64 {
        (self.0 >> 80) as u64
    }

    /// The last 64 bits; in a `UUIDv7` all but the first two of them are random.
    #[allow(clippy::cast_possible_truncation)] // what is wanted
    pub const fn low(self) -> u64 {
        self.0 as u64
    }

    /// The hyphenated UUID text (RFC 9562), lower case.
    pub fn to_uuid(self) -> String {
        const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
        let mut text = String::with_capacity(36);
        for (at, byte) in self.to_bytes().into_iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                text.push('-');
            }
            text.push(HEX[usize::from(byte >> 4)]);
            text.push(HEX[usize::from(byte & 15)]);
        }
        text
    }

    /// What [`Raw::to_uuid`] wrote.
    pub fn from_uuid(text: &str) -> Option<Self> {
        let is_uuid = text.len() == 36
            && text.bytes().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            });
        if is_uuid { u128::from_str_radix(&text.replace('-', ""), 16).ok().map(Self) } else { None }
    }

    fn encode(self) -> [u8; SUFFIX_CHARS] {
        let mut out = [0u8; SUFFIX_CHARS];
        for (i, slot) in out.iter_mut().rev().enumerate() {
            *slot = ALPHABET[((self.0 >> (5 * i)) & 31) as usize];
        }
        out
    }

    fn decode(text: &[u8]) -> Option<Self> {
        if text.len() != SUFFIX_CHARS || text[0] > b'7' {
            return None;
        }
        text.iter()
            .try_fold(0u128, |sum, byte| {
                let digit = DIGITS[usize::from(*byte)];
                (digit != NO_DIGIT).then_some((sum << 5) | u128::from(digit))
            })
            .map(Self)
    }
}

/// What a character of the alphabet stands for; lists decode many of them.
const DIGITS: [u8; 256] = {
    let mut digits = [NO_DIGIT; 256];
    let (mut at, mut digit) = (0, 0);
    while at < ALPHABET.len() {
        digits[ALPHABET[at] as usize] = digit;
        (at, digit) = (at + 1, digit + 1);
    }
    digits
};
const NO_DIGIT: u8 = u8::MAX;

/// Makes identifiers that rise strictly within one process, also when the clock steps back.
pub struct IdMint<'a> {
    last: &'a Mutex<u128>,
    clock: &'a dyn Clock,
    entropy: &'a dyn Entropy,
}

impl<'a> IdMint<'a> {
    /// A mint over the last value given out, a clock and a source of randomness.
    pub fn new(last: &'a Mutex<u128>, clock: &'a dyn Clock, entropy: &'a dyn Entropy) -> Self {
        Self { last, clock, entropy }
    }

    /// The next value: a `UUIDv7` greater than every one before it.
    pub fn next(&self) -> Raw {
        let ms = u128::try_from(self.clock.now().micros() / 1_000).unwrap_or(0) & ((1 << 48) - 1);
        let tail = self.entropy.u128() & ((1 << TAIL_BITS) - 1);
        let step = 1 + u128::from(self.entropy.u32());
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let fresh = (ms << TAIL_BITS) | tail;
        let next = if fresh > *last { fresh } else { *last + step };
        *last = next;
        drop(last);
        Self::shape(next)
    }

    /// Puts version 7 and the variant between the 48 bits of time and the 74 random bits.
    fn shape(value: u128) -> Raw {
        let ms = value >> TAIL_BITS;
        let rand_a = (value >> 62) & 0xfff;
        let rand_b = value & ((1 << 62) - 1);
        Raw((ms << 80) | (7 << 76) | (rand_a << 64) | (2 << 62) | rand_b)
    }

    /// Makes every later value greater than `raw`: called at start with the largest stored identifier.
    pub fn advance_past(last: &Mutex<u128>, raw: Raw) {
        let value = ((raw.0 >> 80) << TAIL_BITS) | (((raw.0 >> 64) & 0xfff) << 62) | (raw.0 & ((1 << 62) - 1));
        let mut last = last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *last = (*last).max(value);
    }
}

/// A kind of identifier.
pub trait Id:
    Copy + Eq + Ord + std::hash::Hash + fmt::Display + FromStr<Err = IdError> + Send + Sync + 'static
{
    /// The prefix, without the underscore.
    const PREFIX: &'static str;
    /// Wraps raw bits.
    fn from_raw(raw: Raw) -> Self;
    /// The raw bits.
    fn raw(self) -> Raw;
    /// What `to_string` gives, with less work.
    fn text(self) -> String {
        let mut text = String::with_capacity(Self::PREFIX.len() + 1 + SUFFIX_CHARS);
        text.push_str(Self::PREFIX);
        text.push('_');
        // The alphabet is ASCII, so the bytes are UTF-8.
        text.push_str(std::str::from_utf8(&self.raw().encode()).unwrap_or_default());
        text
    }
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Raw);

        impl Id for $name {
            const PREFIX: &'static str = $prefix;
            fn from_raw(raw: Raw) -> Self { Self(raw) }
            fn raw(self) -> Raw { self.0 }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!($prefix, "_"))?;
                let text = self.0.encode();
                // The alphabet is ASCII, so the bytes are UTF-8.
                f.write_str(std::str::from_utf8(&text).unwrap_or_default())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { fmt::Display::fmt(self, f) }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                text.strip_prefix(concat!($prefix, "_"))
                    .and_then(|rest| Raw::decode(rest.as_bytes()))
                    .map(Self)
                    .ok_or(IdError { wanted: $prefix })
            }
        }
    )*};
}

ids! {
    /// A workspace: the boundary of tenancy.
    WorkspaceId = "ws";
    /// A person, one per installation.
    UserId = "usr";
    /// A user's place in a workspace, with a role.
    MemberId = "mem";
    /// An invitation into a workspace.
    InvitationId = "ivt";
    /// An API key.
    KeyId = "key";
    /// A project.
    ProjectId = "prj";
    /// An environment of a project.
    EnvironmentId = "env";
    /// A compute instance.
    ComputeId = "cmp";
    /// A durable operation.
    OperationId = "op";
    /// An event.
    EventId = "evt";
    /// An image that computes boot from.
    ImageId = "img";
    /// An SSH public key.
    SshKeyId = "ssh";
    /// A volume.
    VolumeId = "vol";
    /// A snapshot.
    SnapshotId = "snp";
    /// A firewall.
    FirewallId = "fwl";
    /// A webhook endpoint.
    WebhookId = "whk";
    /// A delivery of an event to a webhook endpoint.
    DeliveryId = "dlv";
    /// A budget alert.
    BudgetAlertId = "bud";
    /// An invoice.
    InvoiceId = "inv";
    /// A row of the audit log.
    AuditId = "aud";
    /// Trouble that the operator tells about.
    IncidentId = "inc";
    /// A letter.
    MailId = "mail";
    /// A person's session in the console.
    SessionId = "ses";
    /// A request. Its wire form is the UUID, not the prefixed text.
    RequestId = "req";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::entropy::testing::Counting;
    use std::time::Duration;

    struct Fixed(i64);
    impl Clock for Fixed {
        fn now(&self) -> Timestamp {
            Timestamp::from_micros(self.0)
        }
        fn monotonic(&self) -> Duration {
            Duration::ZERO
        }
        fn sleep_until(&self, _: Timestamp) -> crate::clock::Sleep {
            Box::pin(std::future::ready(()))
        }
        fn sleep(&self, _: Duration) -> crate::clock::Sleep {
            Box::pin(std::future::ready(()))
        }
    }

    #[test]
    fn the_specification_examples_round_trip() {
        let raw = Raw(0x0188_bac7_4afa_78aa_bc3b_bd1e_ef28_d881);
        assert_eq!(UserId::from_raw(raw).to_string(), "usr_01h2xcejqtf2nbrexx3vqjhp41");
        assert_eq!(UserId::from_raw(raw).text(), "usr_01h2xcejqtf2nbrexx3vqjhp41");
        assert_eq!("usr_01h2xcejqtf2nbrexx3vqjhp41".parse::<UserId>().unwrap().raw(), raw);
        assert_eq!(raw.to_uuid(), "0188bac7-4afa-78aa-bc3b-bd1eef28d881");
    }

    #[test]
    fn foreign_prefixes_wrong_lengths_and_overflow_are_refused() {
        for bad in [
            "",
            "usr_",
            "prj_01h2xcejqtf2nbrexx3vqjhp41",
            "usr_01h2xcejqtf2nbrexx3vqjhp4",
            "usr_81h2xcejqtf2nbrexx3vqjhp41",
            "usr_01H2XCEJQTF2NBREXX3VQJHP41",
            "usr_01h2xcejqtf2nbrexx3vqjhp4u",
            "usr_01h2xcejqtf2nbrexx3vqjhp41 ",
        ] {
            assert!(bad.parse::<UserId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn values_rise_while_the_clock_stands_still_or_steps_back() {
        let last = Mutex::new(0);
        let entropy = Counting::default();
        let mut before = Raw(0);
        for micros in [1_000_000, 1_000_000, 1_000_000, 500_000, 0, 2_000_000] {
            let clock = Fixed(micros);
            let next = IdMint::new(&last, &clock, &entropy).next();
            assert!(next > before);
            assert_eq!((next.0 >> 76) & 15, 7);
            assert_eq!((next.0 >> 62) & 3, 2);
            before = next;
        }
        assert_eq!(before.unix_ms(), 2_000);
    }

    #[test]
    fn values_rise_past_the_largest_stored() {
        let last = Mutex::new(0);
        let stored: ProjectId = "prj_7zzzzzzzzwftzaz7zzzzzzzzza".parse().unwrap();
        IdMint::advance_past(&last, stored.raw());
        assert!(IdMint::new(&last, &Fixed(1), &Counting::default()).next() > stored.raw());
    }
}
