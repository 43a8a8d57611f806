//! The SSH host key that a guest presents: made here before its first boot, so that clients can pin it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nephos_model::Entropy;
use ring::signature::{Ed25519KeyPair, KeyPair};

const ALGORITHM: &[u8] = b"ssh-ed25519";
/// Characters of a line in the private form.
const LINE_CHARS: usize = 70;

/// An ed25519 key pair. Whoever holds the seed holds the key.
#[derive(Clone, PartialEq, Eq)]
pub struct HostKey {
    seed: [u8; 32],
    public: [u8; 32],
}

impl std::fmt::Debug for HostKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HostKey({})", self.public_line())
    }
}

impl HostKey {
    /// A fresh key.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut seed = [0; 32];
        entropy.fill(&mut seed);
        Self::from_seed(seed)
    }

    /// The key of a seed.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let mut public = [0; 32];
        // 32 bytes are a valid seed, and the public half has 32: neither can fail.
        if let Ok(pair) = Ed25519KeyPair::from_seed_unchecked(&seed) {
            public.copy_from_slice(pair.public_key().as_ref());
        }
        Self { seed, public }
    }

    /// The seed in hexadecimal, for the compute's state file.
    pub fn to_hex(&self) -> String {
        self.seed.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    }

    /// The key of a seed in hexadecimal.
    pub fn from_hex(text: &str) -> Option<Self> {
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        let mut seed = [0; 32];
        for (i, slot) in seed.iter_mut().enumerate() {
            *slot = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
        }
        Some(Self::from_seed(seed))
    }

    /// The public half as one OpenSSH line, without a comment.
    pub fn public_line(&self) -> String {
        format!("ssh-ed25519 {}", STANDARD.encode(self.public_blob()))
    }

    /// The private half in OpenSSH's unencrypted form, version 1.
    pub fn private_pem(&self) -> String {
        let mut secret = Vec::new();
        // Two equal check words; their value is for the encrypted form only.
        secret.extend([0x6e, 0x65, 0x70, 0x68].repeat(2));
        string(&mut secret, ALGORITHM);
        string(&mut secret, &self.public);
        string(&mut secret, &[self.seed, self.public].concat());
        string(&mut secret, b"");
        for pad in 1..=8u8 {
            if secret.len() % 8 == 0 {
                break;
            }
            secret.push(pad);
        }
        let mut out = b"openssh-key-v1\0".to_vec();
        string(&mut out, b"none");
        string(&mut out, b"none");
        string(&mut out, b"");
        out.extend(1u32.to_be_bytes());
        string(&mut out, &self.public_blob());
        string(&mut out, &secret);
        let mut text = "-----BEGIN OPENSSH PRIVATE KEY-----\n".to_owned();
        let encoded = STANDARD.encode(out);
        let mut rest = encoded.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(LINE_CHARS));
            text.push_str(line);
            text.push('\n');
            rest = after;
        }
        text + "-----END OPENSSH PRIVATE KEY-----\n"
    }

    fn public_blob(&self) -> Vec<u8> {
        let mut blob = Vec::new();
        string(&mut blob, ALGORITHM);
        string(&mut blob, &self.public);
        blob
    }
}

fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first test vector of RFC 8032, section 7.1.
    #[test]
    fn the_public_half_is_the_standards() {
        let key = HostKey::from_hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60").unwrap();
        let public = key.public.iter().fold(String::new(), |t, b| format!("{t}{b:02x}"));
        assert_eq!(public, "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
        assert_eq!(HostKey::from_hex(&key.to_hex()), Some(key.clone()));
        assert!(nephos_model::ssh_key::PublicKey::parse(&key.public_line()).is_ok());
    }

    #[test]
    fn what_is_no_seed_is_refused() {
        for bad in ["", "zz", &"g".repeat(64), &"é".repeat(32)] {
            assert_eq!(HostKey::from_hex(bad), None, "{bad}");
        }
    }
}
