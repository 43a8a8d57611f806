//! Connections that are held open: long polls, streams and terminals. A key may hold a bounded number at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use nephos_model::id::KeyId;
use nephos_model::{Code, Detail, Fault};

/// Connections that one key may hold at once.
pub const HELD_MAX: u32 = 20;
/// Seconds after which a refused one may try again.
const RETRY_AFTER_S: u32 = 1;

/// How many connections each key holds.
#[derive(Debug, Clone, Default)]
pub struct Held(Arc<Mutex<HashMap<KeyId, u32>>>);

/// One held connection; dropping it ends it.
#[derive(Debug)]
pub struct Hold {
    held: Held,
    key: Option<KeyId>,
}

impl Held {
    /// Counts one more held connection of a key.
    ///
    /// # Errors
    /// A 429 when the key holds as many as it may.
    pub fn hold(&self, key: Option<KeyId>) -> Result<Hold, Fault> {
        let Some(id) = key else { return Ok(Hold { held: self.clone(), key: None }) };
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(id).or_default();
        if *count >= HELD_MAX {
            let detail = Detail {
                budget: Some("held"),
                ..Detail::new("too_many_held", "20 requests of this key wait already.")
            };
            return Err(Fault {
                retry_after_s: Some(RETRY_AFTER_S),
                details: vec![detail],
                ..Fault::new(Code::TooManyRequests, "This key holds 20 waiting requests, as many as it may at once.")
            });
        }
        *count += 1;
        drop(counts);
        Ok(Hold { held: self.clone(), key })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut counts = self.held.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nephos_model::id::{Id, Raw};

    #[test]
    fn a_key_holds_twenty() {
        let held = Held::default();
        let key = Some(KeyId::from_raw(Raw::from_bytes([1; 16])));
        let mut holds: Vec<_> = (0..HELD_MAX).map(|_| held.hold(key).unwrap()).collect();
        assert_eq!(held.hold(key).unwrap_err().code, Code::TooManyRequests);
        assert!(held.hold(Some(KeyId::from_raw(Raw::from_bytes([2; 16])))).is_ok());
        holds.pop();
        assert!(held.hold(key).is_ok());
        holds.clear();
        assert!(held.0.lock().unwrap().is_empty());
    }
}
