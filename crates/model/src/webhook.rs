//! Webhook endpoints and the deliveries of events to them: what they are, and when a delivery is tried again.
//!
//! Deliberately not here: signatures, connections, and who sends.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::clock::Timestamp;
use crate::id::{DeliveryId, EnvironmentId, EventId, Id, ProjectId, Raw, WebhookId};

/// Characters of an endpoint's URL at most.
pub const URL_CHARS_MAX: usize = 2_048;
/// Characters of an endpoint's description at most.
pub const DESCRIPTION_CHARS_MAX: usize = 200;
/// Filters by type that one endpoint may have.
pub const EVENT_TYPES_MAX: usize = 100;
/// Endpoints of one tenant at most, whatever its plan: one event's deliveries are recorded in one transaction.
pub const WEBHOOKS_MAX: u32 = 1_000;
/// How long a rotated secret signs beside the new one: 24 hours.
pub const SECRET_GRACE: Duration = Duration::from_secs(24 * 60 * 60);
/// How long an endpoint may fail everything before it is disabled: 5 days.
pub const FAILING_MAX: Duration = Duration::from_secs(5 * 24 * 60 * 60);
/// Bytes of an answer that are kept.
pub const ANSWER_BYTES_KEPT: usize = 4 * 1024;

/// Why an endpoint gets nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Somebody asked for it.
    Asked,
    /// It answered 410.
    Gone,
    /// Everything failed for [`FAILING_MAX`].
    Failing,
}

/// Whether an endpoint gets events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It does.
    Enabled,
    /// It does not, and why.
    Disabled(Reason),
}

impl Status {
    /// The stored form.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled(Reason::Asked) => "disabled",
            Self::Disabled(Reason::Gone) => "disabled_gone",
            Self::Disabled(Reason::Failing) => "disabled_failing",
        }
    }

    /// The word on the wire, without the reason.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled(_) => "disabled",
        }
    }

    /// Why it is disabled, on the wire.
    pub const fn reason(self) -> Option<&'static str> {
        match self {
            Self::Enabled => None,
            Self::Disabled(Reason::Asked) => Some("asked"),
            Self::Disabled(Reason::Gone) => Some("gone"),
            Self::Disabled(Reason::Failing) => Some("failing"),
        }
    }
}

impl FromStr for Status {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let all = [Reason::Asked, Reason::Gone, Reason::Failing].map(Self::Disabled);
        [Self::Enabled].into_iter().chain(all).find(|status| status.as_str() == text).ok_or(())
    }
}

/// An endpoint: where events are sent, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Its id.
    pub id: WebhookId,
    /// Where events are sent.
    pub url: String,
    /// What people call it.
    pub description: Option<String>,
    /// Types of events it gets, `compute.running` or `compute.*`; empty: all.
    pub event_types: Vec<String>,
    /// It gets events of this project only.
    pub project_id: Option<ProjectId>,
    /// It gets events of this environment only.
    pub environment_id: Option<EnvironmentId>,
    /// Whether it gets events.
    pub status: Status,
    /// Until when the secret before the last rotation signs too.
    pub previous_until_at: Option<Timestamp>,
    /// Rises with each change.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// What an endpoint's filters look at.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// The event.
    pub id: EventId,
    /// Its type.
    pub kind: &'a str,
    /// The resource it is about.
    pub resource_id: &'a str,
    /// The resource's project.
    pub project_id: Option<ProjectId>,
    /// The resource's environment.
    pub environment_id: Option<EnvironmentId>,
}

/// The type of the sample that an endpoint is tested with.
pub const TEST_KIND: &str = "webhook.test";

impl Webhook {
    /// Whether the endpoint gets an event: one that its filters pass, that came after it was made, and that is not about
    /// itself. A sample is for its own endpoint, whatever its filters.
    pub fn takes(&self, told: &Told<'_>) -> bool {
        let is_own = told.resource_id == self.id.to_string();
        if told.kind == TEST_KIND {
            return is_own;
        }
        told.id.raw() > self.id.raw()
            && !is_own
            && self.project_id.is_none_or(|only| told.project_id == Some(only))
            && self.environment_id.is_none_or(|only| told.environment_id == Some(only))
            && (self.event_types.is_empty() || self.event_types.iter().any(|wanted| covers(wanted, told.kind)))
    }
}

/// Whether a filter, `noun.change` or `noun.*`, covers a type.
fn covers(wanted: &str, kind: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(noun) => kind.starts_with(noun),
        None => wanted == kind,
    }
}

/// The one delivery of an event to an endpoint. Whoever comes to deliver it, before or after a crash, gives it the same
/// id; and as the event's time leads it, ids are sorted by it.
pub fn delivery_id(event: EventId, webhook: WebhookId) -> DeliveryId {
    let mut hash = Sha256::new();
    hash.update(event.raw().to_bytes());
    hash.update(webhook.raw().to_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    let mut bytes = event.raw().to_bytes();
    // Version and variant stay what they are in a UUIDv7.
    bytes[6] = 0x70 | (digest[6] & 0x0f);
    bytes[7] = digest[7];
    bytes[8] = 0x80 | (digest[8] & 0x3f);
    bytes[9..].copy_from_slice(&digest[9..16]);
    DeliveryId::from_raw(Raw::from_bytes(bytes))
}

/// The smallest id of a delivery of an event that is made at `time` or later.
pub fn first_delivery_id(time: Timestamp) -> DeliveryId {
    first_id(time)
}

/// The smallest id of an event that is made at `time` or later.
pub fn first_event_id(time: Timestamp) -> EventId {
    first_id(time)
}

fn first_id<T: Id>(time: Timestamp) -> T {
    let ms = u64::try_from(time.micros() / 1_000).unwrap_or(0);
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&ms.to_be_bytes()[2..]);
    T::from_raw(Raw::from_bytes(bytes))
}

/// How far a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryStatus {
    /// It is tried again.
    Pending,
    /// The endpoint took it.
    Succeeded,
    /// It was tried to the end of its schedule.
    Exhausted,
}

impl DeliveryStatus {
    /// Every status.
    pub const ALL: [Self; 3] = [Self::Pending, Self::Succeeded, Self::Exhausted];

    /// The stored form, which is the wire's.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Succeeded => "succeeded",
            Self::Exhausted => "exhausted",
        }
    }
}

impl FromStr for DeliveryStatus {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(())
    }
}

impl fmt::Display for DeliveryStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One try of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Its number, from 1.
    pub number: i64,
    /// When it began.
    pub tried_at: Timestamp,
    /// The status of the answer, if there was one.
    pub http_status: Option<u16>,
    /// How long it took, in milliseconds.
    pub latency_ms: i64,
    /// What went wrong.
    pub error: Option<String>,
    /// The first [`ANSWER_BYTES_KEPT`] bytes of the answer's body.
    pub answer: Option<String>,
}

/// The delivery of one event to one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// The endpoint.
    pub webhook_id: WebhookId,
    /// The event.
    pub event_id: EventId,
    /// The event's place in the sequence.
    pub event_seq: i64,
    /// The event's type.
    pub event_type: String,
    /// How far it is.
    pub status: DeliveryStatus,
    /// When it is tried next, if it is.
    pub due_at: Option<Timestamp>,
    /// The place in the schedule that the next try has.
    pub step: usize,
    /// When the first try of the present schedule began.
    pub first_at: Option<Timestamp>,
    /// How many tries there were.
    pub attempts: i64,
    /// The last try.
    pub last: Option<Attempt>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// When a delivery is tried again, after its first try.
pub const SCHEDULE: [Duration; 9] = [
    Duration::from_secs(1),
    Duration::from_secs(60),
    Duration::from_secs(10 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(90 * 60),
    Duration::from_secs(3 * 60 * 60),
    Duration::from_secs(6 * 60 * 60),
    Duration::from_secs(12 * 60 * 60),
    Duration::from_secs(24 * 60 * 60),
];

/// The next try of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    /// Its place in the schedule.
    pub step: usize,
    /// When.
    pub at: Timestamp,
}

/// A try that failed, as the schedule looks at it.
#[derive(Debug, Clone, Copy)]
pub struct Failed {
    /// When the first try began.
    pub first_at: Timestamp,
    /// The place in the schedule that this try had: 0 for the first.
    pub step: usize,
    /// When this try began.
    pub began_at: Timestamp,
    /// Now.
    pub now: Timestamp,
    /// Until when the endpoint wishes to be left alone.
    pub not_before: Option<Timestamp>,
    /// Any number: the jitter.
    pub dice: u32,
}

/// The point of a place in the schedule: those between the first and the last are moved by up to a tenth either way.
fn point(first_at: Timestamp, step: usize, dice: u32) -> Option<Timestamp> {
    let nominal = *SCHEDULE.get(step.checked_sub(1)?)?;
    if step == 1 || step == SCHEDULE.len() {
        return Some(first_at.plus(nominal));
    }
    let tenth_us = nominal.as_micros() / 10;
    let shift_us = 2 * tenth_us * u128::from(dice) / u128::from(u32::MAX);
    let us = nominal.as_micros() - tenth_us + shift_us;
    Some(first_at.plus(Duration::from_micros(u64::try_from(us).unwrap_or(u64::MAX))))
}

/// When a delivery is tried next, after a try that failed; `None`: never, it is exhausted.
///
/// Points that passed while nobody tried are left out, so that a long pause is not followed by a burst. `Retry-After` puts
/// a try off, at most to the point after it.
pub fn next_try(failed: &Failed) -> Option<Next> {
    let elapsed = failed.began_at.since(failed.first_at);
    let mut step = failed.step + 1;
    // Less than the least that jitter makes of it: this try was not for that point.
    while SCHEDULE.get(step - 1).is_some_and(|nominal| step > 1 && *nominal * 9 / 10 <= elapsed) {
        step += 1;
    }
    let at = point(failed.first_at, step, failed.dice)?.max(failed.now);
    let Some(not_before) = failed.not_before else { return Some(Next { step, at }) };
    let after = SCHEDULE.get(step).or(SCHEDULE.last()).map_or(at, |nominal| failed.first_at.plus(*nominal));
    Some(Next { step, at: at.max(not_before.min(after)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_S: u64 = 86_400;

    fn webhook() -> Webhook {
        Webhook {
            id: id(5),
            url: "https://a.example".to_owned(),
            description: None,
            event_types: Vec::new(),
            project_id: None,
            environment_id: None,
            status: Status::Enabled,
            previous_until_at: None,
            version: 1,
            created_at: Timestamp::default(),
            updated_at: Timestamp::default(),
        }
    }

    fn id<T: Id>(n: u8) -> T {
        T::from_raw(Raw::from_bytes([n; 16]))
    }

    #[test]
    fn filters() {
        let told = Told {
            id: id(9),
            kind: "compute.running",
            resource_id: "cmp_1",
            project_id: Some(id(1)),
            environment_id: None,
        };
        let all = webhook();
        assert!(all.takes(&told));
        assert!(!all.takes(&Told { id: id(4), ..told }), "it came before");
        let own = id::<WebhookId>(5).to_string();
        assert!(!all.takes(&Told { resource_id: &own, kind: "webhook.updated", ..told }));
        assert!(all.takes(&Told { resource_id: &own, kind: TEST_KIND, ..told }));
        assert!(!all.takes(&Told { kind: TEST_KIND, ..told }), "another endpoint's sample");
        let some =
            |types: &[&str]| Webhook { event_types: types.iter().map(|t| (*t).to_owned()).collect(), ..webhook() };
        assert!(some(&["compute.*"]).takes(&told));
        assert!(some(&["project.created", "compute.running"]).takes(&told));
        assert!(!some(&["compute.run", "comp.*"]).takes(&told));
        assert!(Webhook { project_id: Some(id(1)), ..webhook() }.takes(&told));
        assert!(!Webhook { project_id: Some(id(2)), ..webhook() }.takes(&told));
        assert!(!Webhook { environment_id: Some(id(1)), ..webhook() }.takes(&told));
    }

    #[test]
    fn a_delivery_has_one_id_in_the_order_of_events() {
        let (first, second): (EventId, EventId) = (id(3), id(4));
        assert_eq!(delivery_id(first, id(7)), delivery_id(first, id(7)));
        assert_ne!(delivery_id(first, id(7)), delivery_id(first, id(8)));
        assert!(delivery_id(first, id(7)) < delivery_id(second, id(7)));
        assert_eq!(delivery_id(first, id(7)).raw().unix_ms(), first.raw().unix_ms());
        let at = Timestamp::from_micros(1_768_478_400_123_000);
        assert_eq!(first_delivery_id(at).raw().unix_ms(), 1_768_478_400_123);
    }

    /// The tries of an endpoint that always fails and takes `took` for it.
    fn walk(took: Duration, dice: u32) -> Vec<u64> {
        let first_at = Timestamp::from_secs(1_000_000);
        let (mut began_at, mut step, mut tries) = (first_at, 0, vec![0]);
        loop {
            let now = began_at.plus(took);
            let failed = Failed { first_at, step, began_at, now, not_before: None, dice };
            let Some(next) = next_try(&failed) else { return tries };
            assert!(next.at >= now && next.step > step);
            (began_at, step) = (next.at, next.step);
            tries.push(began_at.since(first_at).as_secs());
        }
    }

    #[test]
    fn ten_tries_in_a_day() {
        let nominal: Vec<u64> = std::iter::once(0).chain(SCHEDULE.map(|point| point.as_secs())).collect();
        let middle = u32::MAX / 2;
        for (walked, wanted) in walk(Duration::ZERO, middle).iter().zip(&nominal) {
            assert!(walked.abs_diff(*wanted) <= 1, "{walked} {wanted}");
        }
        for dice in [0, 1, middle, u32::MAX] {
            for took_s in [0, 10] {
                let walked = walk(Duration::from_secs(took_s), dice);
                assert_eq!(walked.len(), 10, "{dice} {took_s}: {walked:?}");
                assert_eq!(walked.last(), Some(&DAY_S));
                assert_eq!(walked[1], took_s.max(1), "the second try waits for the end of the first");
            }
        }
        assert_eq!(walk(Duration::ZERO, 0)[2], 54);
        assert_eq!(walk(Duration::ZERO, u32::MAX)[2], 66);
    }

    #[test]
    fn a_long_pause_is_not_followed_by_a_burst() {
        let first_at = Timestamp::from_secs(0);
        let began_at = Timestamp::from_secs(5 * 3_600);
        let failed = Failed { first_at, step: 1, began_at, now: began_at, not_before: None, dice: u32::MAX / 2 };
        assert_eq!(next_try(&failed).unwrap().step, 7);
        let late = Timestamp::from_secs(2 * 86_400);
        assert_eq!(next_try(&Failed { began_at: late, now: late, ..failed }), None);
    }

    #[test]
    fn the_endpoint_may_put_a_try_off_to_the_point_after_it() {
        let first_at = Timestamp::from_secs(0);
        let failed = |not_before_s| Failed {
            first_at,
            step: 0,
            began_at: first_at,
            now: first_at,
            not_before: Some(Timestamp::from_secs(not_before_s)),
            dice: 0,
        };
        for (asked_s, told_s) in [(0, 1), (5, 5), (60, 60), (3_600, 60), (i64::MAX / 2_000_000, 60)] {
            assert_eq!(
                next_try(&failed(asked_s)),
                Some(Next { step: 1, at: Timestamp::from_secs(told_s) }),
                "{asked_s}"
            );
        }
        let last = Failed {
            step: 8,
            began_at: Timestamp::from_secs(43_200),
            now: Timestamp::from_secs(43_200),
            ..failed(999_999)
        };
        assert_eq!(next_try(&last), Some(Next { step: 9, at: Timestamp::from_secs(86_400) }));
        // A try that was put off to the next point takes that point's place.
        let put_off = Failed {
            not_before: None,
            step: 1,
            began_at: Timestamp::from_secs(60),
            now: Timestamp::from_secs(60),
            ..failed(0)
        };
        assert_eq!(next_try(&put_off).unwrap().step, 3);
    }
}
