//! What the master key seals: secrets that rows hold. Each purpose has a key of its own, and each sealed text belongs to
//! one row, so that none can be put in the place of another.

use std::fmt;

use nephos_model::Entropy;
use ring::{aead, hkdf};

/// Bytes of the name that is derived from the master key.
const NAME_BYTES: usize = 16;

/// The installation's master key, equal on all replicas. It never appears in a debug text.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey([u8; 32]);

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

/// How many bytes to derive.
struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl MasterKey {
    /// A master key of these bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    fn extract(&self) -> hkdf::Prk {
        hkdf::Salt::new(hkdf::HKDF_SHA256, b"nephos master key v1").extract(&self.0)
    }

    /// The key of a purpose (HKDF-SHA256, RFC 5869).
    fn key(&self, purpose: &str) -> Option<aead::LessSafeKey> {
        let prk = self.extract();
        let info = [purpose.as_bytes()];
        let derived = prk.expand(&info, &aead::CHACHA20_POLY1305).ok()?;
        Some(aead::LessSafeKey::new(aead::UnboundKey::from(derived)))
    }

    /// What the installation is called where a name must be the same on all replicas and after every restart: 32
    /// hexadecimal digits, from which nothing of the key can be learnt.
    pub(crate) fn name(&self) -> String {
        let mut bytes = [0; NAME_BYTES];
        // Far below the 255 times 32 bytes that HKDF can give, the only way to fail.
        if let Ok(derived) = self.extract().expand(&[b"installation name"], Length(NAME_BYTES)) {
            _ = derived.fill(&mut bytes);
        }
        format!("{:032x}", u128::from_be_bytes(bytes))
    }

    /// Seals a secret of `owner`, the row that holds it (ChaCha20-Poly1305, RFC 8439; the nonce before the ciphertext).
    /// `None` only for a secret of more than 256 GiB.
    pub(crate) fn seal(&self, purpose: &str, owner: &str, clear: &[u8], entropy: &dyn Entropy) -> Option<Vec<u8>> {
        let mut nonce = [0; aead::NONCE_LEN];
        entropy.fill(&mut nonce);
        let mut body = clear.to_vec();
        let (unique, owner) = (aead::Nonce::assume_unique_for_key(nonce), aead::Aad::from(owner.as_bytes()));
        self.key(purpose)?.seal_in_place_append_tag(unique, owner, &mut body).ok()?;
        let mut sealed = nonce.to_vec();
        sealed.append(&mut body);
        Some(sealed)
    }

    /// What [`MasterKey::seal`] sealed for the same purpose and owner.
    pub(crate) fn open(&self, purpose: &str, owner: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, body) = sealed.split_at_checked(aead::NONCE_LEN)?;
        let nonce = aead::Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut body = body.to_vec();
        let length = self.key(purpose)?.open_in_place(nonce, aead::Aad::from(owner.as_bytes()), &mut body).ok()?.len();
        body.truncate(length);
        Some(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fives;
    impl Entropy for Fives {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(5);
        }
    }

    #[test]
    fn only_the_same_key_purpose_and_owner_open_what_was_sealed() {
        let key = MasterKey::new([1; 32]);
        let sealed = key.seal("tokens", "row-1", b"secret", &Fives).unwrap();
        assert_eq!(key.open("tokens", "row-1", &sealed).as_deref(), Some(&b"secret"[..]));
        assert_eq!(key.open("tokens", "row-2", &sealed), None);
        assert_eq!(key.open("webhooks", "row-1", &sealed), None);
        assert_eq!(MasterKey::new([2; 32]).open("tokens", "row-1", &sealed), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(key.open("tokens", "row-1", &changed), None, "{at}");
            assert_eq!(key.open("tokens", "row-1", &sealed[..at]), None, "{at}");
        }
        assert!(!format!("{key:?}").contains('1'));
        assert_eq!(key.name().len(), 32);
        assert_ne!(key.name(), MasterKey::new([2; 32]).name());
    }
}
