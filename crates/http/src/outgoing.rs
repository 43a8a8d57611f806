//! Requests to hosts that a tenant named: only to public addresses, decided where the connection is made and for the very
//! address that it is made to. No redirects, no proxy, bounded answers.
//!
//! Deliberately not here: what is sent, when, and for how long it is waited for.

mod address;
mod connect;
mod names;

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use nephos_control::courier::{Carrying, Courier, Parcel, Receipt, RetryAfter, Trouble};
use nephos_model::webhook::{ANSWER_BYTES_KEPT, URL_CHARS_MAX};
use nephos_model::{Clock, Timestamp};

pub use address::is_public;
use connect::Connector;
pub use connect::{Lookup, NotConnected, Resolve};

/// Bytes of an answer at most. More than [`ANSWER_BYTES_KEPT`] are read, to know that the answer ends, and let go.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of an answer's headers at most.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Connections to one host that are kept for later, at most.
const IDLE_PER_HOST_MAX: usize = 256;
/// For how long they are kept.
const IDLE_FOR: Duration = Duration::from_secs(20);
/// From so many open connections on none is kept.
const OPEN_MAX: usize = 512;

/// What the operator decided about outgoing requests.
#[derive(Clone, Default)]
pub struct Options {
    /// Whether private addresses are allowed too, and plain HTTP.
    pub allow_private: bool,
    /// Certificates of authorities that are trusted beside the public ones, in DER.
    pub more_roots: Vec<Vec<u8>>,
    /// What finds the addresses of a name; `None` is the system.
    pub lookup: Option<Arc<dyn Resolve>>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("allow_private", &self.allow_private).finish_non_exhaustive()
    }
}

/// Sends requests.
#[derive(Clone)]
pub struct Outgoing {
    client: Client<Connector, Full<Bytes>>,
    connector: Connector,
    allow_private: bool,
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("allow_private", &self.allow_private).finish_non_exhaustive()
    }
}

impl Outgoing {
    /// What sends requests as the operator decided.
    ///
    /// # Errors
    /// When a certificate of [`Options::more_roots`] can't be read.
    pub fn new(options: Options, clock: Arc<dyn Clock>) -> Result<Self, Box<dyn StdError + Send + Sync>> {
        let allow_private = options.allow_private;
        let connector = Connector::new(options, clock)?;
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_FOR)
            .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
            .http1_max_buf_size(HEAD_BYTES_MAX)
            .build(connector.clone());
        Ok(Self { client, connector, allow_private })
    }

    fn request(&self, parcel: &Parcel) -> Option<Request<Full<Bytes>>> {
        let mut request = Request::post(parcel.url.parse::<Uri>().ok()?);
        let headers = request.headers_mut()?;
        let mut set = |name: &'static str, value: &str| Some(headers.insert(name, HeaderValue::from_str(value).ok()?));
        set("webhook-id", &parcel.id)?;
        set("webhook-timestamp", &parcel.timestamp_s.to_string())?;
        set("webhook-signature", &parcel.signature)?;
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("nephos/", env!("CARGO_PKG_VERSION"))));
        if self.connector.open() > OPEN_MAX {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        request.body(Full::new(Bytes::from_owner(parcel.body.clone()))).ok()
    }
}

impl Courier for Outgoing {
    fn carry(&self, parcel: Parcel) -> Carrying {
        let failed = |trouble| Receipt { trouble: Some(trouble), ..Receipt::default() };
        let Some(request) = self.request(&parcel) else {
            return Box::pin(std::future::ready(failed(Trouble::Connect)));
        };
        let asking = self.client.request(request);
        Box::pin(async move {
            let response = match asking.await {
                Ok(response) => response,
                Err(error) => return failed(trouble_of(&error)),
            };
            let (head, mut body) = response.into_parts();
            let mut receipt = Receipt {
                status: Some(head.status.as_u16()),
                retry_after: retry_after(&head.headers),
                ..Receipt::default()
            };
            let mut bytes = 0;
            while let Some(frame) = body.frame().await {
                let Ok(frame) = frame else {
                    receipt.trouble = Some(Trouble::Broken);
                    break;
                };
                let Some(data) = frame.data_ref() else { continue };
                bytes += data.len();
                let room = ANSWER_BYTES_KEPT.saturating_sub(receipt.answer.len());
                receipt.answer.extend_from_slice(&data[..data.len().min(room)]);
                if bytes > ANSWER_BYTES_MAX {
                    receipt.trouble = Some(Trouble::TooLarge);
                    break;
                }
            }
            receipt
        })
    }

    fn refuses(&self, url: &str) -> Option<String> {
        let uri: Uri = url.parse().ok()?;
        if self.allow_private {
            return None;
        }
        if uri.scheme_str() != Some("https") {
            return Some("must begin with https://".to_owned());
        }
        let host = uri.host().unwrap_or_default();
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
        (!is_public(literal)).then(|| "must not lead to a private, local or otherwise reserved address".to_owned())
    }
}

/// What went wrong before there was an answer.
fn trouble_of(error: &(dyn StdError + 'static)) -> Trouble {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(why) = error.downcast_ref::<NotConnected>() {
            return why.trouble();
        }
        cause = error.source();
    }
    Trouble::Broken
}

/// `Retry-After`: seconds, or a date as HTTP has it.
fn retry_after(headers: &HeaderMap) -> Option<RetryAfter> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(RetryAfter::In(Duration::from_secs(seconds.into())));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(RetryAfter::At(Timestamp::from_secs(date.as_second())))
}

/// What a pattern can say of a URL that [`wrong_url`] takes: the scheme, no user, nothing behind `#`.
pub(crate) const URL_PATTERN: &str = "^[Hh][Tt][Tt][Pp][Ss]?://[!$-.0->A-~]+([/?][!\"$-~]*)?$";

/// Why a text is no web address that something can be sent to: the end of a sentence without its full stop.
pub(crate) fn wrong_url(text: &str) -> Option<String> {
    let told = |why: &str| Some(why.to_owned());
    if text.len() > URL_CHARS_MAX {
        return Some(format!("must have at most {URL_CHARS_MAX} characters"));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return told("must be a web address in ASCII, with other characters encoded");
    }
    let Ok(uri) = text.parse::<Uri>() else { return told("must be a web address such as https://hooks.example/in") };
    let Some(authority) = uri.authority().filter(|_| matches!(uri.scheme_str(), Some("https" | "http"))) else {
        return told("must be a web address that begins with https://");
    };
    if authority.as_str().contains('@') {
        return told("must not hold a user name or password");
    }
    if text.contains('#') {
        return told("must not have a part after #, which is never sent");
    }
    if uri.host().is_none_or(str::is_empty) {
        return told("must name a host");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn web_addresses() {
        for good in
            ["https://a.example", "http://a.example:8080/in?x=1", "https://[2606:4700::1]/", "https://1.2.3.4/%20"]
        {
            assert_eq!(wrong_url(good), None, "{good}");
        }
        let long = format!("https://a.example/{}", "x".repeat(URL_CHARS_MAX));
        for bad in [
            "",
            "a.example",
            "/in",
            "ftp://a.example",
            "https://",
            "https:///in",
            "https://u:p@a.example/",
            "https://a.example/#x",
            "https://a.example/ x",
            "https://é.example/",
            "https://a.example\n/",
            "file:///etc/passwd",
            "gopher://a/",
            &long,
        ] {
            assert!(wrong_url(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn wishes_to_be_left_alone() {
        let read = |text: &str| {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_str(text).unwrap())]);
            retry_after(&headers)
        };
        assert_eq!(read("120"), Some(RetryAfter::In(Duration::from_secs(120))));
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(read(date), Some(RetryAfter::At(Timestamp::from_secs(784_111_777))));
        for bad in ["", "-1", "soon", "99999999999"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
