//! Keys that sign tokens, as rows. What their seeds are sealed with is not known here.

use nephos_model::Timestamp;

use crate::batch::{Miss, Statement};
use crate::convert::Model;
use crate::error::Result;
use crate::value::Row;
use crate::{Store, params, sql};

/// Another process made the key of this place in the order.
pub const TAKEN: Miss = Miss("signing_key_taken");

sql! {
    /// All signing keys, the oldest first: a new one is made when the one before it is in use, so they are few.
    pub SIGNING_KEYS = "SELECT seq, id, public_key, sealed_seed, signs_from_at, created_at FROM signing_keys
        ORDER BY seq LIMIT 100";
    /// A new key, unless another process was faster.
    pub SIGNING_KEY_INSERT = "INSERT INTO signing_keys (seq, id, public_key, sealed_seed, signs_from_at, created_at)
        VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (seq) DO NOTHING";
    /// No more of the keys before one.
    pub SIGNING_KEYS_DELETE = "DELETE FROM signing_keys WHERE seq < $1";
}

/// A key that signs tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningKey {
    /// Its place in the order, from 1.
    pub seq: i64,
    /// What tokens name it by, `kid`.
    pub id: String,
    /// The public key: 32 bytes of Ed25519.
    pub public_key: Vec<u8>,
    /// The seed of the private key, sealed.
    pub sealed_seed: Vec<u8>,
    /// From when on it signs, until the next one does.
    pub signs_from: Timestamp,
    /// Since when it is published.
    pub created_at: Timestamp,
}

fn decode(row: &Row) -> Result<SigningKey> {
    Ok(SigningKey {
        seq: row.int(0)?,
        id: row.string(1)?,
        public_key: row.blob(2)?.to_vec(),
        sealed_seed: row.blob(3)?.to_vec(),
        signs_from: row.time(4)?,
        created_at: row.time(5)?,
    })
}

/// Adds a key, or misses with [`TAKEN`].
pub fn insert(key: &SigningKey) -> Statement {
    let SigningKey { seq, id, public_key, sealed_seed, signs_from, created_at } = key;
    SIGNING_KEY_INSERT
        .bind(params![*seq, id, public_key.clone(), sealed_seed.clone(), *signs_from, *created_at])
        .must(1, TAKEN)
}

/// Removes the keys before the one at `seq`.
pub fn delete_before(seq: i64) -> Statement {
    SIGNING_KEYS_DELETE.bind(params![seq])
}

impl Store {
    /// All signing keys, the oldest first.
    pub async fn signing_keys(&self) -> Result<Vec<SigningKey>> {
        self.all(SIGNING_KEYS.bind(params![]), decode).await
    }
}
