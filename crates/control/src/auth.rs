//! Credentials: from the text after `Bearer` to a [`Caller`], with what the rows say now.
//!
//! What is known of a key is kept for at most a second, so a busy key costs one read a second, and is forgotten at once
//! when this process changes what credentials may do. A change by another replica, or one whose caller did not stay to hear
//! that it was made, is seen within that second.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use nephos_model::fault::{Code, Detail};
use nephos_model::id::KeyId;
use nephos_model::key::Secret;
use nephos_model::scope::Scopes;
use nephos_model::tenant::Mode;
use nephos_model::{Fault, Timestamp};
use nephos_store as store;
use nephos_store::api_key::Credential;
use nephos_store::{Batch, StoreError};
use sha2::{Digest, Sha256};
use tracing::warn;

use crate::address::Range;
use crate::budget::Present;
use crate::caller::{Caller, Kind, Proof};
use crate::plan_limits::Limits;
use crate::token::{self, Verified};
use crate::{Cloud, fault};

/// How long what is known of a credential is kept at most.
pub const KNOWN_FOR: Duration = Duration::from_secs(1);
/// Failed credentials of one IPv4 address or IPv6 /64 in one window.
pub const FAILURES_MAX: u32 = 1_200;
/// The window in which failed credentials are counted; it begins with the first.
pub const FAILURES_WINDOW: Duration = Duration::from_secs(60);

/// Locks over what is known of credentials.
const SHARDS: usize = 16;
/// Credentials that are known in one shard at most.
const KNOWN_PER_SHARD_MAX: usize = 4_096;
/// Addresses whose failures are counted at most; those of more are refused without being counted.
const FAILING_MAX: usize = 65_536;
/// Keys whose last use waits to be written, at most; it is written again with their next use.
const USED_MAX: usize = 65_536;
/// Statements of one batch of last uses.
const USED_AT_ONCE: usize = 1_024;

/// The base paths that take live keys, as texts for people.
const LIVE_BASES: &str = "/v1 or /api/v1";
/// The base path that takes test keys.
const TEST_BASE: &str = "/sandbox/v1";

/// What is known of a key, and until when.
#[derive(Debug)]
struct Known {
    caller: Arc<Caller>,
    key_id: KeyId,
    expires_at: Option<Timestamp>,
    /// Until when the secret works: only one that was rotated has such a time.
    secret_until: Option<Timestamp>,
    /// When the token ends, if it is one.
    token_until: Option<Timestamp>,
    is_revoked: bool,
    is_suspended: bool,
    ranges: Vec<Range>,
    generation: u64,
    read_at: Duration,
    /// The minute of the last use that is written or waits to be written.
    used_minute: AtomicI64,
}

/// What is asked of a credential: where it is used, from where, and when.
#[derive(Debug, Clone, Copy)]
struct Asked {
    wanted: Mode,
    address: IpAddr,
    now: Present,
}

/// What was shown of a key, as the rows or the token say it.
#[derive(Debug)]
enum Shown {
    /// The secret that works now.
    Present,
    /// The secret before the last rotation.
    Previous,
    /// A token.
    Token(Verified),
}

/// The first bytes of a SHA-256 are as good as any hash of it, and only keys that exist are kept.
#[derive(Debug, Default)]
struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }
    fn write_usize(&mut self, _: usize) {}
}

type Shard = RwLock<HashMap<[u8; 32], Known, BuildHasherDefault<FirstBytes>>>;

/// What is known of credentials in this process.
pub(crate) struct Credentials {
    shards: [Shard; SHARDS],
    generation: AtomicU64,
    failures: Mutex<Failures>,
    used: Mutex<HashMap<KeyId, Timestamp>>,
}

impl Default for Credentials {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| Shard::default()),
            generation: AtomicU64::new(0),
            failures: Mutex::default(),
            used: Mutex::default(),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Failures {
    of: HashMap<IpAddr, Failing>,
    searched_at: Duration,
}

#[derive(Debug)]
struct Failing {
    since: Duration,
    count: u32,
}

impl Credentials {
    /// What is known may be wrong from now on.
    pub(crate) fn forget(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    fn shard(&self, hash: &[u8; 32]) -> &Shard {
        // Not a byte that the map's own hash begins with.
        &self.shards[usize::from(hash[31]) % SHARDS]
    }

    /// Decides with `decide` over what is known of a credential, if that is fresh.
    fn with<T>(&self, hash: &[u8; 32], monotonic: Duration, decide: impl FnOnce(&Known) -> T) -> Option<T> {
        let shard = self.shard(hash).read().unwrap_or_else(PoisonError::into_inner);
        let known = shard.get(hash)?;
        self.is_fresh(known, monotonic).then(|| decide(known))
    }

    fn is_fresh(&self, known: &Known, monotonic: Duration) -> bool {
        known.generation == self.generation.load(Ordering::Acquire)
            && monotonic.saturating_sub(known.read_at) < KNOWN_FOR
    }

    fn keep(&self, hash: [u8; 32], known: Known, monotonic: Duration) {
        let mut shard = self.shard(&hash).write().unwrap_or_else(PoisonError::into_inner);
        if shard.len() >= KNOWN_PER_SHARD_MAX && !shard.contains_key(&hash) {
            shard.retain(|_, known| self.is_fresh(known, monotonic));
            if shard.len() >= KNOWN_PER_SHARD_MAX
                && let Some(any) = shard.keys().next().copied()
            {
                shard.remove(&any);
            }
        }
        shard.insert(hash, known);
    }

    fn note_use(&self, known: &Known, now: Timestamp) {
        let minute = now.secs().div_euclid(60);
        if known.used_minute.load(Ordering::Relaxed) < minute
            && known.used_minute.fetch_max(minute, Ordering::Relaxed) < minute
        {
            let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
            if used.len() < USED_MAX || used.contains_key(&known.key_id) {
                used.insert(known.key_id, Timestamp::from_secs(minute * 60));
            }
        }
    }

    /// When a key was last used, as far as that waits to be written.
    pub(crate) fn last_used(&self, id: KeyId) -> Option<Timestamp> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied()
    }

    /// Counts a failure; seconds until the window ends when there were too many in it.
    fn count_failure(&self, address: IpAddr, now: Duration) -> Option<u32> {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let network = network(address);
        let is_over = |failing: &Failing| now.saturating_sub(failing.since) >= FAILURES_WINDOW;
        if !failures.of.contains_key(&network) && failures.of.len() >= FAILING_MAX {
            // Once a second at most, since it looks at all of them.
            if now.saturating_sub(failures.searched_at) < Duration::from_secs(1) {
                return None;
            }
            failures.searched_at = now;
            failures.of.retain(|_, failing| !is_over(failing));
            if failures.of.len() >= FAILING_MAX {
                return None;
            }
        }
        let failing = failures.of.entry(network).or_insert(Failing { since: now, count: 0 });
        if is_over(failing) {
            *failing = Failing { since: now, count: 0 };
        }
        failing.count = failing.count.saturating_add(1);
        if failing.count <= FAILURES_MAX {
            return None;
        }
        let left = FAILURES_WINDOW.saturating_sub(now.saturating_sub(failing.since));
        Some(u32::try_from(left.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX).max(1))
    }
}

/// What failures are counted by: an IPv4 address, or the /64 of an IPv6 address.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

fn unauthorized(code: &'static str, message: impl Into<String>) -> Fault {
    let message = message.into();
    Fault {
        details: vec![Detail::header("authorization", code, message.clone())],
        ..Fault::new(Code::Unauthorized, message)
    }
}

fn wrong_mode(kind: Kind, mode: Mode) -> Fault {
    let what = match kind {
        Kind::Key => "key",
        Kind::Token => "token",
    };
    unauthorized(
        "wrong_base_url",
        match mode {
            Mode::Test => format!(
                "This is a test {what}, and this base URL takes live {what}s only. Test {what}s work under {TEST_BASE}."
            ),
            Mode::Live => format!(
                "This is a live {what}, and the sandbox takes test {what}s only. Live {what}s work under {LIVE_BASES}."
            ),
        },
    )
}

fn expired_token(at: Timestamp) -> Fault {
    unauthorized(
        "expired_credential",
        format!("This token expired at {at}. Exchange the key for another one at POST /tokens."),
    )
}

fn unknown_key() -> Fault {
    unauthorized(
        "invalid_credential",
        "This credential is not, or no longer, valid. Check that the key or token is whole.",
    )
}

impl Cloud {
    /// Who calls with a credential under a base URL of mode `wanted`.
    ///
    /// Faults: 401 that names the cause, 429 after too many failures of one network, 403 while the workspace is
    /// suspended, 503 when the store can't be asked.
    pub async fn authenticate(&self, bearer: &str, wanted: Mode, address: IpAddr) -> Result<Arc<Caller>, Fault> {
        let now = Present { wall: self.clock().now(), monotonic: self.clock().monotonic() };
        let asked = Asked { wanted, address, now };
        let decided = match Secret::recognize(bearer) {
            Some((mode, _)) if mode != wanted => Err(wrong_mode(Kind::Key, mode)),
            Some((_, hash)) => match self.0.credentials.with(&hash, now.monotonic, |known| self.accept(known, asked)) {
                Some(decided) => decided,
                None => self.look_up(hash, asked).await,
            },
            None => match token::split(bearer) {
                Some(parts) => self.authenticate_token(bearer, parts, asked).await,
                None => Err(unknown_key()),
            },
        };
        decided.map_err(|fault| match fault.code {
            Code::Unauthorized => self.refuse_credential(address, fault),
            _ => fault,
        })
    }

    async fn authenticate_token(&self, bearer: &str, parts: [&str; 3], asked: Asked) -> Result<Arc<Caller>, Fault> {
        let credentials = &self.0.credentials;
        let hash: [u8; 32] = Sha256::digest(bearer.as_bytes()).into();
        if let Some(decided) = credentials.with(&hash, asked.now.monotonic, |known| self.accept(known, asked)) {
            return decided;
        }
        let generation = credentials.generation.load(Ordering::Acquire);
        let verified = self.verify_token(parts).await?.ok_or_else(unknown_key)?;
        if verified.expires_at <= asked.now.wall {
            return Err(expired_token(verified.expires_at));
        }
        if verified.mode != asked.wanted {
            return Err(wrong_mode(Kind::Token, verified.mode));
        }
        let found = self.store().credential_of_key(verified.key_id).await.map_err(fault::store)?;
        // What the token says of its key is still so; a key never changes hands.
        let found = found.filter(|found| {
            let key = &found.key;
            (found.workspace_id, key.member_id, key.mode) == (verified.workspace_id, verified.member_id, verified.mode)
        });
        let known = self.known(found.ok_or_else(unknown_key)?, Shown::Token(verified), generation, asked.now.monotonic);
        let decided = self.accept(&known, asked);
        credentials.keep(hash, known, asked.now.monotonic);
        decided
    }

    /// Counts a credential that failed, and hands back its fault, or 429 when too many of its network failed.
    pub fn refuse_credential(&self, address: IpAddr, fault: Fault) -> Fault {
        let Some(retry_after_s) = self.0.credentials.count_failure(address, self.clock().monotonic()) else {
            return fault;
        };
        let message = format!(
            "Too many requests without a valid credential came from this network; retry after {retry_after_s} s, or \
             with a valid credential at once."
        );
        let detail = Detail { budget: Some("failed_credentials"), ..Detail::new("budget_spent", message.clone()) };
        Fault {
            retry_after_s: Some(retry_after_s),
            details: vec![detail],
            ..Fault::new(Code::TooManyRequests, message)
        }
    }

    async fn look_up(&self, hash: [u8; 32], asked: Asked) -> Result<Arc<Caller>, Fault> {
        let credentials = &self.0.credentials;
        // Before the look-up: what is forgotten during it is not what was read.
        let generation = credentials.generation.load(Ordering::Acquire);
        let found = self.store().credential(hash).await.map_err(fault::store)?.ok_or_else(unknown_key)?;
        let shown = if found.is_previous { Shown::Previous } else { Shown::Present };
        let known = self.known(found, shown, generation, asked.now.monotonic);
        let decided = self.accept(&known, asked);
        credentials.keep(hash, known, asked.now.monotonic);
        decided
    }

    fn known(&self, found: Credential, shown: Shown, generation: u64, read_at: Duration) -> Known {
        let Credential { key, workspace_id, role, plan, suspended_at, tenant, clock_ahead_us, .. } = found;
        let limits = self.settings().plan(&plan).unwrap_or_else(|| {
            warn!(%workspace_id, plan, "the workspace's plan is not configured; it has the standard plan's limits");
            Limits { plan, ..Limits::standard() }
        });
        let ranges: Option<Vec<Range>> = key.allowed_ips.iter().map(|text| text.parse().ok()).collect();
        let present = token::secret_tag(&found.hash);
        let previous = found.previous_hash.as_deref().map(token::secret_tag);
        // A secret that was replaced works until its grace ends; without one it ended at the beginning of time.
        let replaced = Some(key.previous_until_at.unwrap_or_default());
        let (secret, secret_until) = match &shown {
            Shown::Present => (present, None),
            Shown::Previous => (previous.unwrap_or_default(), replaced),
            Shown::Token(token) if token.secret == present => (present, None),
            Shown::Token(token) if Some(token.secret) == previous => (token.secret, replaced),
            Shown::Token(token) => (token.secret, Some(Timestamp::default())),
        };
        let own_scopes = key.scopes.unwrap_or(Scopes::EVERY);
        let (kind, token_until, scopes) = match shown {
            Shown::Present | Shown::Previous => (Kind::Key, None, own_scopes),
            Shown::Token(token) => (Kind::Token, Some(token.expires_at), own_scopes.and(token.scopes)),
        };
        let until = [key.expires_at, secret_until, token_until].into_iter().flatten().min();
        Known {
            key_id: key.id,
            expires_at: key.expires_at,
            secret_until,
            token_until,
            // A range that can't be read is never taken for "any address".
            is_revoked: key.revoked_at.is_some() || ranges.is_none(),
            is_suspended: suspended_at.is_some(),
            ranges: ranges.unwrap_or_default(),
            generation,
            read_at,
            used_minute: AtomicI64::new(key.last_used_at.map_or(i64::MIN, |at| at.secs().div_euclid(60))),
            caller: Arc::new(Caller {
                workspace_id,
                mode: key.mode,
                tenant,
                clock_ahead: Duration::from_micros(u64::try_from(clock_ahead_us).unwrap_or(0)),
                member_id: key.member_id,
                role,
                key_id: Some(key.id),
                proof: Proof { kind, secret, until },
                scopes,
                project_id: key.project_id,
                environment_id: key.environment_id,
                limits: Arc::new(limits),
            }),
        }
    }

    /// Whether a known key may be used as it is asked now.
    fn accept(&self, known: &Known, asked: Asked) -> Result<Arc<Caller>, Fault> {
        let Asked { wanted, address, now } = asked;
        let now = now.wall;
        if known.caller.mode != wanted {
            return Err(wrong_mode(known.caller.proof.kind, known.caller.mode));
        }
        if known.is_revoked {
            return Err(unauthorized("revoked_credential", "This key was revoked. Make another one."));
        }
        if known.secret_until.is_some_and(|until| until <= now) {
            return Err(unauthorized(
                "rotated_credential",
                "This key was rotated, and its earlier secret no longer works. Use the new secret.",
            ));
        }
        if let Some(at) = known.token_until.filter(|at| *at <= now) {
            return Err(expired_token(at));
        }
        if let Some(at) = known.expires_at.filter(|at| *at <= now) {
            return Err(unauthorized("expired_credential", format!("This key expired at {at}. Make another one.")));
        }
        if !known.ranges.is_empty() && !known.ranges.iter().any(|range| range.holds(address)) {
            let address = address.to_canonical();
            return Err(unauthorized(
                "address_not_allowed",
                format!(
                    "This key may not be used from the address {address}; `allowed_ips` of the key lists those that may."
                ),
            ));
        }
        if known.is_suspended {
            return Err(self.suspended());
        }
        self.0.credentials.note_use(known, now);
        Ok(known.caller.clone())
    }

    pub(crate) fn suspended(&self) -> Fault {
        let contact = &self.settings().support_contact;
        let message = format!("The workspace is suspended. Contact {contact}.");
        let details = vec![Detail::new("workspace_suspended", message.clone())];
        Fault { details, ..Fault::new(Code::Forbidden, message) }
    }

    /// Writes when keys were last used.
    pub(crate) async fn flush_used(&self) -> Result<(), StoreError> {
        let credentials = &self.0.credentials;
        let used: Vec<(KeyId, Timestamp)> = {
            let used = credentials.used.lock().unwrap_or_else(PoisonError::into_inner);
            used.iter().map(|(id, at)| (*id, *at)).collect()
        };
        for some in used.chunks(USED_AT_ONCE) {
            self.store().write(some.iter().map(|(id, at)| store::api_key::used(*id, *at)).collect::<Batch>()).await?;
            let mut used = credentials.used.lock().unwrap_or_else(PoisonError::into_inner);
            for (id, at) in some {
                // A later use came meanwhile: it is written with the next batch.
                if used.get(id) == Some(at) {
                    used.remove(id);
                }
            }
        }
        Ok(())
    }
}
