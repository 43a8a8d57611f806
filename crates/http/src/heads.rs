//! The heads of requests as they were sent, for what the parser hides or lets pass: of a request with both `Content-Length`
//! and `Transfer-Encoding` it leaves one. Such a request may be two to a proxy in front, so it is refused.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use http::request::Parts;
use http::{Version, header};

use crate::order::BadHead;

/// Bytes kept of what was read since the last answer, at most. A head that is longer is over the limit of headers.
const KEPT_BYTES_MAX: usize = 64 * 1024;
/// Bytes whose room an idle connection keeps, at most.
const IDLE_BYTES_MAX: usize = 4 * 1024;

/// What one connection read since its last answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heads(Arc<Mutex<Vec<u8>>>, Arc<AtomicBool>);

impl Heads {
    /// More was read.
    pub(crate) fn read(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = KEPT_BYTES_MAX - kept.len();
        kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// The connection speaks another protocol from now on: what passes is no request and no answer.
    pub(crate) fn end(&self) {
        self.1.store(true, Ordering::Release);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Vec::new();
    }

    /// Whether it does.
    pub(crate) fn are_over(&self) -> bool {
        self.1.load(Ordering::Acquire)
    }

    /// Something was answered: what comes is the next request.
    pub(crate) fn answered(&self) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clear();
        kept.shrink_to(IDLE_BYTES_MAX);
    }

    /// What is wrong with a head.
    pub(crate) fn judge(&self, parts: &Parts) -> Option<BadHead> {
        if parts.version != Version::HTTP_11 {
            return None;
        }
        let mut codings = parts.headers.get_all(header::TRANSFER_ENCODING).iter();
        if self.tell_two_lengths(parts) {
            Some(BadHead::TwoLengths)
        } else if codings.next().is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
            || codings.next().is_some()
        {
            Some(BadHead::Coding)
        } else if parts.headers.get_all(header::HOST).iter().count() != 1 {
            Some(BadHead::Host)
        } else {
            None
        }
    }

    /// Whether a request that came in chunks told a length as well. When its head can't be found again, because requests
    /// were sent ahead of the answers, nobody can tell: then it counts as if.
    pub(crate) fn tell_two_lengths(&self, parts: &Parts) -> bool {
        if parts.version != Version::HTTP_11 || !parts.headers.contains_key(header::TRANSFER_ENCODING) {
            return false;
        }
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = format!("{} {} HTTP/1.1\r\n", parts.method, parts.uri);
        let found = kept.windows(line.len()).rposition(|window| window == line.as_bytes());
        let Some(head) = found.map(|at| &kept[at + line.len()..]) else { return true };
        let mut lines = head.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        lines.by_ref().take_while(|line| !line.is_empty()).any(|line| {
            let name = line.split(|b| *b == b':').next().unwrap_or_default();
            name.eq_ignore_ascii_case(b"content-length")
        })
    }
}

/// Whether bytes that arrive in two pieces are taken for the head of a chunked `POST` to this target that tells a length as
/// well: for those who try it with hostile bytes.
pub fn try_two_lengths(pieces: [&[u8]; 2], target: &str) -> bool {
    let heads = Heads::default();
    for piece in pieces {
        heads.read(piece);
    }
    let request = http::Request::post(target).header(header::TRANSFER_ENCODING, "chunked").body(());
    request.is_ok_and(|request| heads.tell_two_lengths(&request.into_parts().0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tells(sent: &str, method: &str, target: &str) -> bool {
        let heads = Heads::default();
        heads.read(sent.as_bytes());
        let request = http::Request::builder().method(method).uri(target).header("transfer-encoding", "chunked");
        heads.tell_two_lengths(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn two_lengths_in_one_head_are_found() {
        let chunked = "POST /v1/a?b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n";
        assert!(!tells(&format!("{chunked}\r\ncontent-length: 3\r\n"), "POST", "/v1/a?b"), "that is the body");
        assert!(tells(&format!("{chunked}Content-Length: 3\r\n\r\n"), "POST", "/v1/a?b"));
        assert!(tells(
            "POST /v1/a HTTP/1.1\r\ncontent-length:3\r\ntransfer-encoding: chunked\r\n\r\n",
            "POST",
            "/v1/a"
        ));
        assert!(tells("GET / HTTP/1.1\r\n\r\n", "POST", "/v1/a"), "its head is not there");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let heads = Heads::default();
        heads.read(&vec![b'x'; KEPT_BYTES_MAX]);
        heads.read(b"y");
        assert_eq!(heads.0.lock().unwrap().len(), KEPT_BYTES_MAX);
        heads.answered();
        assert!(heads.0.lock().unwrap().capacity() <= IDLE_BYTES_MAX);
    }
}
