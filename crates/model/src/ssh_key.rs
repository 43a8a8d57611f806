//! SSH public keys in the one-line form of OpenSSH (`ssh-ed25519 AAAA… comment`).

use std::fmt;

use crate::clock::Timestamp;
use crate::id::SshKeyId;
use crate::name::NameError;

/// A public key that a workspace keeps for its computes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshKey {
    /// Its id.
    pub id: SshKeyId,
    /// Its name, unique in the workspace.
    pub name: String,
    /// Algorithm and base64.
    pub public_key: String,
    /// As OpenSSH prints it.
    pub fingerprint: String,
    /// Changes with every write of the row.
    pub version: i64,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Characters in a public key at most: an RSA key of 16,384 bits has under 3,000.
pub const PUBLIC_KEY_CHARS_MAX: usize = 8_192;
const ALGORITHMS: &[&str] = &[
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// Bytes of a key beyond its algorithm's name and the length of that, at least.
const KEY_BYTES_MIN: usize = 36;

/// What [`PublicKey::parse`] takes, as a regular expression; its length apart.
pub fn pattern() -> String {
    const DIGIT: &str = "[A-Za-z0-9+/]";
    let one = |algorithm: &&str| {
        let length = u32::try_from(algorithm.len()).unwrap_or_default().to_be_bytes();
        let start = [&length[..], algorithm.as_bytes()].concat();
        let mut base64: String = encode_base64(&start[..start.len() / 3 * 3]);
        // The last one or two bytes of what is known fix a part of the digit after theirs.
        let rest = &start[start.len() / 3 * 3..];
        let known = encode_base64(rest);
        let mut free = 0;
        if let [.., last] = known.as_bytes() {
            base64.push_str(&known[..known.len() - 1]);
            let first = BASE64.iter().position(|digit| digit == last).unwrap_or_default();
            let width = if rest.len() == 1 { 16 } else { 4 };
            let digits = &BASE64[first..first + width];
            base64 = format!("{base64}[{}]", String::from_utf8_lossy(digits));
            free = 3 - rest.len();
        }
        // Whole groups of four digits, then what ends it.
        base64.push_str(&DIGIT.repeat(free));
        let groups = (start.len() + KEY_BYTES_MIN).div_ceil(3) - start.len().div_ceil(3);
        let algorithm = algorithm.replace('.', "\\.");
        format!("{algorithm} +{base64}({DIGIT}{{4}}){{{groups},}}({DIGIT}{{2}}==|{DIGIT}{{3}}=)?")
    };
    let all: Vec<String> = ALGORITHMS.iter().map(one).collect();
    format!("^ *({})( [^\\u0000-\\u001f\\u007f-\\u009f]*)?$", all.join("|"))
}

/// A public key: algorithm and blob, checked to agree; the comment is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    line: String,
    blob: Vec<u8>,
}

impl PublicKey {
    /// Parses one line. Options before the algorithm, private keys and several lines are refused.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let text = text.trim();
        if text.len() > PUBLIC_KEY_CHARS_MAX {
            return Err(NameError("must have at most 8,192 characters"));
        }
        if text.contains("PRIVATE KEY") {
            return Err(NameError("is a private key: keep it to yourself and send the line of the .pub file"));
        }
        if text.chars().any(char::is_control) {
            return Err(NameError("must be one line, as in a .pub file"));
        }
        let mut words = text.split(' ').filter(|w| !w.is_empty());
        let (Some(algorithm), Some(base64)) = (words.next(), words.next()) else {
            return Err(NameError("must have an algorithm and a key, as in a .pub file"));
        };
        if !ALGORITHMS.contains(&algorithm) {
            return Err(NameError("must start with a key algorithm such as ssh-ed25519 or ssh-rsa"));
        }
        let blob = decode_base64(base64).ok_or(NameError("does not hold valid base64"))?;
        let inner = blob.get(4..4 + algorithm.len());
        let length = blob.get(..4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
        if length != u32::try_from(algorithm.len()).ok()
            || inner != Some(algorithm.as_bytes())
            || blob.len() < algorithm.len() + 4 + KEY_BYTES_MIN
        {
            return Err(NameError("does not hold a key of the algorithm it names"));
        }
        Ok(Self { line: format!("{algorithm} {base64}"), blob })
    }

    /// Algorithm and base64, without a comment.
    pub fn as_str(&self) -> &str {
        &self.line
    }

    /// The fingerprint as OpenSSH prints it: `SHA256:` and base64 without padding.
    pub fn fingerprint(&self) -> String {
        use sha2::Digest;
        format!("SHA256:{}", encode_base64(&sha2::Sha256::digest(&self.blob)))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let body = text.trim_end_matches('=');
    if !text.len().is_multiple_of(4) || text.len() - body.len() > 2 {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0u32, 0u32);
    for byte in body.bytes() {
        let digit = BASE64.iter().position(|b| *b == byte)?;
        bits = (bits << 6) | u32::try_from(digit).ok()?;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from((bits >> held) & 0xff).ok()?);
        }
    }
    Some(out)
}

fn encode_base64(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |w, b| (w << 8) | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..=chunk.len() {
            out.push(char::from(BASE64[((word >> (18 - 6 * i)) & 63) as usize]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

    #[test]
    fn a_public_key_and_its_fingerprint() {
        let key = PublicKey::parse(&format!("  {KEY} me@host \n")).unwrap();
        assert_eq!(key.as_str(), KEY);
        assert_eq!(key.fingerprint(), "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU");
    }

    #[test]
    fn what_is_not_a_public_key() {
        for bad in [
            "",
            "ssh-ed25519",
            "ssh-ed25519 AAAA",
            "ssh-dss AAAAB3NzaC1kc3M=",
            "-----BEGIN OPENSSH PRIVATE KEY-----",
            &KEY.replace("ssh-ed25519 ", "ssh-rsa "),
            &format!("{KEY}\n{KEY}"),
            &format!("command=\"rm\" {KEY}"),
            &KEY.replace("AAAAC3", "AAAA!3"),
        ] {
            assert!(PublicKey::parse(bad).is_err(), "{bad}");
        }
    }
}
