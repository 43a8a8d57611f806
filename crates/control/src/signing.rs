//! The keys that sign tokens: made, published before they are used, kept until the last token they signed has expired.
//!
//! ```text
//!  key 1  signs ──────────────────────┐ verifies ─────┐ gone
//!  key 2              published ······│ signs ────────┼──────────┐ …
//!                     └─ PUBLISHED_BEFORE ─┘           │
//!                                     └── KEPT_AFTER ──┘
//! ```
//!
//! The seeds lie in the store, sealed with the master key. What the rows say is known for a second; a token whose key is
//! not known makes this process look again, a bounded number of times a second.

use std::fmt;
use std::fmt::Write as _;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use nephos_model::fault::Detail;
use nephos_model::{Fault, Timestamp};
use nephos_store as store;
use nephos_store::Batch;
use nephos_store::signing_key::SigningKey;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use sha2::{Digest, Sha256};

use crate::auth::KNOWN_FOR;
use crate::token::TOKEN_S_MAX;
use crate::{Cloud, fault};

/// How long a key signs before the next one does.
pub const SIGNS_FOR: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How long a key is published before it signs, so that whoever keeps the published keys has it in time.
pub const PUBLISHED_BEFORE: Duration = Duration::from_secs(10 * 60);
/// Seconds for which the published keys may be kept by others: less than [`PUBLISHED_BEFORE`].
pub const JWKS_MAX_AGE_S: u32 = 300;
/// How long a key is kept after the last token that it can have signed was made: the token's life, and as much again for
/// clocks that differ.
pub const KEPT_AFTER: Duration = Duration::from_secs(2 * TOKEN_S_MAX as u64);
/// How often it is looked whether a key is to be made or removed.
pub(crate) const ROLL_EVERY: Duration = Duration::from_secs(60);
/// How often the keys are read at most because tokens name one that is not known.
const UNKNOWN_EVERY: Duration = Duration::from_millis(100);
/// Tries to make the next key while other processes do the same.
const ATTEMPTS_MAX: u32 = 4;
/// What the seeds are sealed for.
const PURPOSE: &str = "signing keys";

/// One key, as this process has it.
pub(crate) struct Key {
    row: SigningKey,
    /// The first part of every token that it signs.
    header: String,
    pair: OnceLock<Option<Ed25519KeyPair>>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.row.id).finish_non_exhaustive()
    }
}

impl Key {
    fn new(row: SigningKey) -> Self {
        let header = format!("{{\"alg\":\"EdDSA\",\"typ\":\"at+jwt\",\"kid\":\"{}\"}}", row.id);
        Self { header: BASE64URL.encode(header), row, pair: OnceLock::new() }
    }

    /// The only header that a token of this key has, as it is in the token.
    pub(crate) fn header(&self) -> &str {
        &self.header
    }

    /// The public key.
    pub(crate) fn public(&self) -> &[u8] {
        &self.row.public_key
    }
}

/// The keys that this process knows.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    known: RwLock<Option<(Arc<[Arc<Key>]>, Duration)>>,
    /// One process reads the rows once, however many requests want them.
    reading: tokio::sync::Mutex<()>,
}

/// How old what is known may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// As old as what is known of any credential.
    Recently,
    /// Only just read: a token names a key that is not known.
    JustNow,
}

impl Known {
    const fn for_at_most(self) -> Duration {
        match self {
            Self::Recently => KNOWN_FOR,
            Self::JustNow => UNKNOWN_EVERY,
        }
    }
}

/// What is to be done with the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Roll {
    /// Make a key that signs from then on.
    make: Option<Timestamp>,
    /// Remove the keys before the one of this place.
    remove_before: Option<i64>,
}

/// Decides over the keys, of which the newest is the last: the place and the first time of each.
fn next_roll(keys: &[(i64, Timestamp)], now: Timestamp) -> Roll {
    let make = match keys.last() {
        None => Some(now),
        Some((_, signs_from)) => {
            let due = signs_from.plus(SIGNS_FOR);
            // Twice as long before, so that a tick that fails or comes late does not shorten the time it is published.
            let is_near = due.minus(2 * PUBLISHED_BEFORE) <= now;
            is_near.then(|| due.max(now.plus(PUBLISHED_BEFORE)))
        }
    };
    // The newest of those whose predecessors' last tokens have expired.
    let kept = keys.iter().rev().find(|(_, signs_from)| signs_from.plus(KEPT_AFTER) <= now);
    let remove_before = kept.map(|(seq, _)| *seq).filter(|seq| keys.first().is_some_and(|(first, _)| first < seq));
    Roll { make, remove_before }
}

/// Which of the keys signs now: the newest whose time has come.
fn signer<T>(keys: &[T], signs_from: impl Fn(&T) -> Timestamp, now: Timestamp) -> Option<&T> {
    keys.iter().rev().find(|key| signs_from(key) <= now)
}

/// The name of a public key: its thumbprint (RFC 7638, RFC 8037).
fn thumbprint(public: &[u8]) -> String {
    let x = BASE64URL.encode(public);
    BASE64URL.encode(Sha256::digest(format!("{{\"crv\":\"Ed25519\",\"kty\":\"OKP\",\"x\":\"{x}\"}}")))
}

/// Whether earlier keys stay until their tokens have expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Earlier {
    /// They stay: no valid token is refused.
    Stay,
    /// They go at once, and their tokens with them: for a key that others may know.
    Go,
}

/// What a published key is, for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedKey {
    /// `kid`.
    pub id: String,
    /// `next`, `signs` or `verifies`.
    pub state: &'static str,
    /// From when on it signs or signed.
    pub signs_from: Timestamp,
    /// Since when it is published.
    pub created_at: Timestamp,
}

impl Cloud {
    /// The keys, the oldest first.
    pub(crate) async fn signing_keys(&self, known: Known) -> Result<Arc<[Arc<Key>]>, Fault> {
        let ring = &self.0.signing;
        let fresh = || {
            let now = self.clock().monotonic();
            let guard = ring.known.read().unwrap_or_else(PoisonError::into_inner);
            guard.as_ref().filter(|(_, at)| now.saturating_sub(*at) < known.for_at_most()).map(|(keys, _)| keys.clone())
        };
        if let Some(keys) = fresh() {
            return Ok(keys);
        }
        let _reading = ring.reading.lock().await;
        if let Some(keys) = fresh() {
            return Ok(keys);
        }
        let read_at = self.clock().monotonic();
        let rows = self.store().signing_keys().await.map_err(fault::store)?;
        let mut guard = ring.known.write().unwrap_or_else(PoisonError::into_inner);
        let before = guard.take().map(|(keys, _)| keys).unwrap_or_default();
        let same = |row: &SigningKey| before.iter().find(|key| key.row == *row).cloned();
        let keys: Arc<[Arc<Key>]> =
            rows.into_iter().map(|row| same(&row).unwrap_or_else(|| Arc::new(Key::new(row)))).collect();
        *guard = Some((keys.clone(), read_at));
        Ok(keys)
    }

    /// What is known of the keys may be wrong from now on.
    fn forget_signing_keys(&self) {
        *self.0.signing.known.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Signs a token's claims: the whole token.
    pub(crate) async fn sign(&self, claims: &str) -> Result<String, Fault> {
        let now = self.clock().now();
        let mut keys = self.signing_keys(Known::Recently).await?;
        if signer(&keys, |key| key.row.signs_from, now).is_none() {
            self.roll_signing_keys().await?;
            keys = self.signing_keys(Known::Recently).await?;
        }
        let key = signer(&keys, |key| key.row.signs_from, now);
        let key = key.ok_or_else(|| Fault::internal("there is no key to sign tokens with"))?;
        let pair = key.pair.get_or_init(|| {
            let seed = self.0.master_key.open(PURPOSE, &key.row.id, &key.row.sealed_seed)?;
            Ed25519KeyPair::from_seed_and_public_key(&seed, &key.row.public_key).ok()
        });
        let pair = pair.as_ref().ok_or_else(|| Fault::internal("the key that signs tokens can't be opened"))?;
        let mut token = format!("{}.{}", key.header, BASE64URL.encode(claims));
        let signature = pair.sign(token.as_bytes());
        token.push('.');
        BASE64URL.encode_string(signature, &mut token);
        Ok(token)
    }

    /// Makes the next key and removes old ones, when it is time.
    pub async fn roll_signing_keys(&self) -> Result<(), Fault> {
        for _ in 0..ATTEMPTS_MAX {
            let rows = self.store().signing_keys().await.map_err(fault::store)?;
            let times: Vec<_> = rows.iter().map(|row| (row.seq, row.signs_from)).collect();
            let now = self.clock().now();
            let roll = next_roll(&times, now);
            let mut batch: Batch = roll.remove_before.map(store::signing_key::delete_before).into_iter().collect();
            if let Some(signs_from) = roll.make {
                let key = self.new_signing_key(rows.last(), signs_from, now)?;
                batch.push(store::signing_key::insert(&key));
            }
            if roll == (Roll { make: None, remove_before: None }) {
                return Ok(());
            }
            match self.store().write(batch).await {
                Ok(_) => {
                    self.forget_signing_keys();
                    return Ok(());
                }
                // Another process made it.
                Err(error) if error.missed() == Some(store::signing_key::TAKEN) => self.forget_signing_keys(),
                Err(error) => return Err(fault::store(error)),
            }
        }
        Ok(())
    }

    /// Makes the next key now. It signs after it has been published for [`PUBLISHED_BEFORE`]; when the earlier ones go,
    /// at once.
    ///
    /// Faults: 409 while a key is published that does not sign yet.
    pub async fn rotate_signing_keys(&self, earlier: Earlier) -> Result<Vec<PublishedKey>, Fault> {
        for _ in 0..ATTEMPTS_MAX {
            let rows = self.store().signing_keys().await.map_err(fault::store)?;
            let now = self.clock().now();
            let next = rows.last().filter(|row| row.signs_from > now);
            let signs_from = match (earlier, next) {
                (Earlier::Go, _) => now,
                (Earlier::Stay, None) if rows.is_empty() => now,
                (Earlier::Stay, None) => now.plus(PUBLISHED_BEFORE),
                (Earlier::Stay, Some(next)) => {
                    let message = format!(
                        "The next key is published already, and signs from {} on. With --withdraw a new key signs at once \
                         and all tokens that there are end.",
                        next.signs_from
                    );
                    return Err(Fault::conflict(Detail::new("already_rolling", message)));
                }
            };
            let key = self.new_signing_key(rows.last(), signs_from, now)?;
            let mut batch: Batch = store::signing_key::insert(&key).into();
            if earlier == Earlier::Go {
                batch.push(store::signing_key::delete_before(key.seq));
            }
            match self.store().write(batch).await {
                Ok(_) => {
                    self.forget_signing_keys();
                    // Tokens of keys that are gone are known no more.
                    self.0.credentials.forget();
                    tracing::info!(kid = key.id, signs_from = %key.signs_from, ?earlier, "the operator made a new key to sign tokens with");
                    return self.published_keys().await;
                }
                Err(error) if error.missed() == Some(store::signing_key::TAKEN) => {}
                Err(error) => return Err(fault::store(error)),
            }
        }
        Err(Fault::unavailable(fault::STORE_RETRY_AFTER_S, "signing keys are being made at the same time"))
    }

    fn new_signing_key(
        &self,
        newest: Option<&SigningKey>,
        signs_from: Timestamp,
        now: Timestamp,
    ) -> Result<SigningKey, Fault> {
        let mut seed = [0; 32];
        self.entropy().fill(&mut seed);
        let unusable = || Fault::internal("a key to sign tokens with can't be made");
        // A seed is any 32 bytes, and sealing those can't fail.
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| unusable())?;
        let public_key = pair.public_key().as_ref().to_vec();
        let id = thumbprint(&public_key);
        let sealed_seed = self.0.master_key.seal(PURPOSE, &id, &seed, self.entropy()).ok_or_else(unusable)?;
        let seq = newest.map_or(1, |row| row.seq + 1);
        Ok(SigningKey { seq, id, public_key, sealed_seed, signs_from, created_at: now })
    }

    /// The public keys, for the operator, the newest first.
    pub async fn published_keys(&self) -> Result<Vec<PublishedKey>, Fault> {
        let rows = self.store().signing_keys().await.map_err(fault::store)?;
        let now = self.clock().now();
        let signs = signer(&rows, |row| row.signs_from, now).map(|row| row.seq);
        let state = |row: &SigningKey| match signs {
            Some(seq) if seq == row.seq => "signs",
            Some(seq) if seq > row.seq => "verifies",
            _ => "next",
        };
        let shown = |row: &SigningKey| PublishedKey {
            id: row.id.clone(),
            state: state(row),
            signs_from: row.signs_from,
            created_at: row.created_at,
        };
        Ok(rows.iter().rev().map(shown).collect())
    }

    /// The public keys as a JWK Set (RFC 7517, RFC 8037).
    pub async fn jwks(&self) -> Result<String, Fault> {
        let keys = self.signing_keys(Known::Recently).await?;
        let mut out = String::from("{\"keys\":[");
        for (i, key) in keys.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            let (id, x) = (&key.row.id, BASE64URL.encode(&key.row.public_key));
            // Writing to a String can't fail.
            _ = write!(
                out,
                "{comma}{{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"use\":\"sig\",\"alg\":\"EdDSA\",\"kid\":\"{id}\",\"x\":\"{x}\"}}"
            );
        }
        out.push_str("]}");
        Ok(out)
    }

    /// Keeps the keys in order for as long as the process runs.
    pub(crate) async fn keep_signing_keys(self) {
        loop {
            self.clock().sleep(ROLL_EVERY).await;
            if let Err(error) = self.roll_signing_keys().await {
                tracing::warn!(%error, "the keys that sign tokens can't be looked after now");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a world without rows does with a decision.
    fn apply(keys: &mut Vec<(i64, Timestamp, Timestamp)>, now: Timestamp) {
        let times: Vec<_> = keys.iter().map(|(seq, from, _)| (*seq, *from)).collect();
        let roll = next_roll(&times, now);
        if let Some(from) = roll.make {
            let seq = keys.last().map_or(1, |(seq, ..)| seq + 1);
            keys.push((seq, from, now));
        }
        keys.retain(|(seq, ..)| roll.remove_before.is_none_or(|before| *seq >= before));
    }

    proptest::proptest! {
        /// Ticks come at any distance, also days too late after a stop: no token is refused before it expires, and a key
        /// signs only after it was published for long enough.
        #[test]
        fn keys_roll_over_without_refusing_a_token(gaps in proptest::collection::vec(1_u64..20_000, 1..300), stop in 0_usize..300) {
            let mut now = Timestamp::from_secs(1_768_478_400);
            let mut keys = Vec::new();
            apply(&mut keys, now);
            let first = keys[0].0;
            let mut tokens: Vec<(i64, Timestamp)> = Vec::new();
            for (i, gap) in gaps.into_iter().enumerate() {
                now = now.plus(Duration::from_secs(if i == stop { 50 * 24 * 60 * 60 } else { gap }));
                apply(&mut keys, now);
                proptest::prop_assert!(keys.len() <= 4, "{}", keys.len());
                let (seq, _, published) = *signer(&keys, |key| key.1, now).expect("one key signs");
                proptest::prop_assert!(seq == first || published.plus(PUBLISHED_BEFORE) <= now);
                let life = Duration::from_secs(TOKEN_S_MAX.into());
                tokens.push((seq, now.plus(life)));
                tokens.retain(|(_, until)| *until > now);
                for (seq, _) in &tokens {
                    proptest::prop_assert!(keys.iter().any(|key| key.0 == *seq), "the key of a valid token is there");
                }
            }
        }
    }

    #[test]
    fn keys_roll_over_each_month_and_few_are_kept() {
        let mut now = Timestamp::from_secs(1_768_478_400);
        let (mut keys, mut signers) = (Vec::new(), Vec::new());
        for _ in 0..(100 * 24 * 60) {
            apply(&mut keys, now);
            let seq = signer(&keys, |key| key.1, now).unwrap().0;
            if signers.last() != Some(&seq) {
                signers.push(seq);
            }
            assert!(keys.len() <= 2);
            now = now.plus(ROLL_EVERY);
        }
        assert_eq!(signers, [1, 2, 3, 4]);
    }

    #[test]
    fn a_thumbprint_is_that_of_the_standard() {
        // The example of RFC 8037, appendix A.3.
        let public = BASE64URL.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
        assert_eq!(thumbprint(&public), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }
}
