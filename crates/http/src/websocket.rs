//! The opening handshake of a WebSocket (RFC 6455) over HTTP/1.1: whether a request asks for one, and what it is answered.
//!
//! Deliberately not here: frames, which a library reads and writes, and what is said in them (`terminal`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Version, header};
use hyper::upgrade::OnUpgrade;
use nephos_model::{Detail, Fault};

/// The one version of the protocol that there is.
pub const VERSION: &str = "13";
/// What the protocol appends to a client's key.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Bytes of a client's key before they are encoded.
const KEY_BYTES: usize = 16;

/// Whether a request asks for a WebSocket. A request of another version of HTTP can't, nor one of another method: what its
/// `Upgrade` says is passed over, as HTTP has it.
pub(crate) fn is_asked_for(parts: &Parts) -> bool {
    parts.method == Method::GET
        && parts.version == Version::HTTP_11
        && has_token(&parts.headers, header::UPGRADE, "websocket")
}

/// The client's key, once everything else of its handshake is as it must be.
///
/// # Errors
/// A 400 that names every header that is not.
fn key(headers: &HeaderMap) -> Result<&str, Fault> {
    let mut problems = Vec::new();
    if !has_token(headers, header::CONNECTION, "upgrade") {
        let message = "A request for a WebSocket has the header Connection: Upgrade.";
        problems.push(Detail::header("connection", "required", message));
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != VERSION) {
        let message = "The header Sec-WebSocket-Version must be 13.";
        problems.push(Detail::header("sec-websocket-version", "invalid_value", message));
    }
    let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY).iter();
    let key = keys.next().and_then(|key| key.to_str().ok()).filter(|key| {
        // Longer than a key is encoded, it is none.
        key.len() <= 2 * KEY_BYTES && BASE64.decode(key).is_ok_and(|bytes| bytes.len() == KEY_BYTES)
    });
    match key.filter(|_| keys.next().is_none()) {
        Some(key) if problems.is_empty() => Ok(key),
        Some(_) => Err(Fault::invalid(problems)),
        None => {
            let message = "The header Sec-WebSocket-Key must be 16 bytes in base64, once.";
            problems.push(Detail::header("sec-websocket-key", "invalid_value", message));
            Err(Fault::invalid(problems))
        }
    }
}

/// A handshake that is in order.
pub(crate) struct Handshaken {
    /// What it is answered.
    pub accept: HeaderValue,
    /// The connection that is to become a WebSocket.
    pub socket: OnUpgrade,
}

/// Step 8 of a request for a WebSocket. `answer` are the headers of its response, whatever becomes of it.
///
/// # Errors
/// A 400 for a handshake that is not in order.
pub(crate) fn handshake(parts: &Parts, answer: &mut HeaderMap) -> Result<Handshaken, Fault> {
    let key = key(&parts.headers).inspect_err(|_| {
        // What a client of another version needs to know (RFC 6455, 4.4).
        answer.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION));
    })?;
    let accept = HeaderValue::try_from(accept(key)).map_err(Fault::internal)?;
    let socket = parts.extensions.get::<OnUpgrade>().cloned().ok_or_else(|| {
        Fault::bad(Detail::header("upgrade", "unsupported", "This connection can't become a WebSocket."))
    })?;
    Ok(Handshaken { accept, socket })
}

/// A client's key of random bytes.
pub fn new_key(random: [u8; KEY_BYTES]) -> String {
    BASE64.encode(random)
}

/// `Sec-WebSocket-Accept` for a client's key: proof that the other end speaks the protocol, and no secret.
pub fn accept(key: &str) -> String {
    let text = format!("{key}{GUID}");
    // The protocol names SHA-1; nothing rests on it.
    BASE64.encode(ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
}

/// Whether a header that is a list of words holds this one.
fn has_token(headers: &HeaderMap, name: header::HeaderName, word: &str) -> bool {
    let texts = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).any(|token| token.trim().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(version: Version, headers: &[(&'static str, &'static str)]) -> (bool, Result<String, Vec<String>>) {
        let mut request = http::Request::get("/").version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let named = |fault: Fault| fault.details.iter().map(|detail| format!("{:?}", detail.place)).collect();
        (is_asked_for(&parts), key(&parts.headers).map(str::to_owned).map_err(named))
    }

    #[test]
    fn the_example_of_the_standard_is_answered_as_there() {
        let headers = [
            ("upgrade", "WebSocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let (is_asked, key) = asked(Version::HTTP_11, &headers);
        assert!(is_asked && !asked(Version::HTTP_2, &headers).0 && !asked(Version::HTTP_11, &headers[1..]).0);
        assert_eq!(accept(&key.unwrap()), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn every_problem_of_a_handshake_is_named() {
        let (is_asked, key) = asked(Version::HTTP_11, &[("upgrade", "h2c, websocket"), ("sec-websocket-version", "8")]);
        let problems = key.unwrap_err();
        assert!(is_asked && problems.len() == 3, "{problems:?}");
        for wrong in ["", "AAAA", "not base64 at all!!!!!!!"] {
            let headers = [("connection", "upgrade"), ("sec-websocket-version", "13"), ("sec-websocket-key", wrong)];
            assert_eq!(asked(Version::HTTP_11, &headers).1.unwrap_err().len(), 1, "{wrong}");
        }
    }
}
