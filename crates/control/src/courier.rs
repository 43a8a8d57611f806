//! How something is carried to an address that a tenant named. What carries it knows HTTP and where it may go; this is
//! what the control plane asks of it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use nephos_model::Timestamp;

/// One message.
#[derive(Debug, Clone)]
pub struct Parcel {
    /// Where it goes.
    pub url: Arc<str>,
    /// `webhook-id`.
    pub id: String,
    /// `webhook-timestamp`, Unix seconds.
    pub timestamp_s: i64,
    /// `webhook-signature`.
    pub signature: String,
    /// The body: JSON.
    pub body: Arc<[u8]>,
}

/// Why there was no whole answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The name of the host leads nowhere.
    Dns,
    /// It leads only to addresses to which nothing may be sent.
    RefusedAddress,
    /// No connection could be made.
    Connect,
    /// The connection could not be secured.
    Tls,
    /// The connection broke before the answer was whole.
    Broken,
    /// The answer was not whole in time.
    Timeout,
    /// The answer is larger than anybody reads.
    TooLarge,
}

impl Trouble {
    /// A word and a sentence.
    pub const fn told(self) -> &'static str {
        match self {
            Self::Dns => "dns: the name of the host leads nowhere",
            Self::RefusedAddress => "refused_address: the host is at no public address",
            Self::Connect => "connect: no connection could be made",
            Self::Tls => "tls: the connection could not be secured; its certificate is not valid for the host",
            Self::Broken => "broken: the connection ended before the answer was whole",
            Self::Timeout => "timeout: the answer was not whole within 10 seconds",
            Self::TooLarge => "too_large: the answer is larger than 8 MiB",
        }
    }
}

/// When the receiver wishes to be asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAfter {
    /// So much later.
    In(Duration),
    /// At this time.
    At(Timestamp),
}

/// What came back.
#[derive(Debug, Clone, Default)]
pub struct Receipt {
    /// The status of the answer.
    pub status: Option<u16>,
    /// Why there is none, or not the whole of it.
    pub trouble: Option<Trouble>,
    /// `Retry-After`.
    pub retry_after: Option<RetryAfter>,
    /// The first bytes of the answer's body.
    pub answer: Vec<u8>,
}

/// A message on its way.
pub type Carrying = Pin<Box<dyn Future<Output = Receipt> + Send>>;

/// What carries messages.
pub trait Courier: Send + Sync {
    /// Carries a message. Whoever drops the future breaks it off; it has no deadline of its own.
    fn carry(&self, parcel: Parcel) -> Carrying;

    /// Why nothing is ever sent to a URL, as the end of a sentence without its full stop: `must …`.
    fn refuses(&self, url: &str) -> Option<String>;
}
