//! Server-sent events: the events of a workspace as they come, for as long as the credential holds.
//!
//! A stream holds no events. Who reads slowly is read for slowly, and who comes back with `Last-Event-ID` goes on where
//! it was: events are followed by their numbers, which have no gaps.

use std::convert::Infallible;
use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use nephos_control::caller::{Caller, EventRead, Permission as _};
use nephos_control::event::Follower;
use nephos_control::view::{EventView, json};
use nephos_model::tenant::Mode;
use tokio::sync::watch;

use crate::app::App;
use crate::held::Hold;

/// The media type.
pub const EVENT_STREAM: &str = "text/event-stream";
/// Milliseconds after which a client that lost its connection comes back.
const RECONNECT_MS: u32 = 1_000;
/// How long it is taken for granted that a credential holds.
const TRUSTED: Duration = Duration::from_secs(1);

type Frames = Pin<Box<dyn Stream<Item = Bytes> + Send>>;

/// The body of a response: whole, or as it comes.
pub enum ResponseBody {
    /// All of it is there.
    Whole(Full<Bytes>),
    /// It comes in pieces, and ends when it likes.
    Live(Frames),
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Whole(_) => "Whole",
            Self::Live(_) => "Live",
        })
    }
}

impl From<Bytes> for ResponseBody {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(Full::new(bytes))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Whole(body) => Pin::new(body).poll_frame(cx),
            Self::Live(frames) => frames.as_mut().poll_next(cx).map(|next| next.map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Live(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Live(_) => SizeHint::default(),
        }
    }
}

/// Who follows.
pub(crate) struct Listener {
    pub app: Arc<App>,
    pub follower: Follower,
    /// The credential, which is asked about again and again.
    pub bearer: String,
    pub mode: Mode,
    pub address: IpAddr,
    pub caller: Arc<Caller>,
    pub hold: Hold,
}

struct Live {
    listener: Listener,
    draining: watch::Receiver<bool>,
    checked_at: Duration,
    is_first: bool,
}

impl Listener {
    /// The body that the listener gets.
    pub(crate) fn body(self) -> ResponseBody {
        let draining = self.app.draining();
        let checked_at = self.app.cloud.clock().monotonic();
        let live = Live { listener: self, draining, checked_at, is_first: true };
        ResponseBody::Live(Box::pin(futures_util::stream::unfold(live, |mut live| async move {
            let bytes = live.next().await?;
            Some((bytes, live))
        })))
    }
}

impl Live {
    /// What is sent next; `None` at the end: the server stops, or the credential does not hold any more.
    async fn next(&mut self) -> Option<Bytes> {
        if std::mem::take(&mut self.is_first) {
            // At once, so that whoever waits for the response's head has it.
            return Some(Bytes::from(format!(": connected\nretry: {RECONNECT_MS}\n\n")));
        }
        let events = tokio::select! {
            events = self.listener.follower.next() => events,
            _ = self.draining.wait_for(|draining| *draining) => return None,
        };
        let events = match events {
            Ok(events) => events,
            Err(fault) => {
                tracing::warn!(%fault, "a stream of events ends, because they can't be read");
                return None;
            }
        };
        if !self.holds().await {
            return None;
        }
        if events.is_empty() {
            return Some(Bytes::from_static(b": still here\n\n"));
        }
        let mut out = String::with_capacity(1024 * events.len());
        for event in &events {
            // Neither ids, types nor JSON hold a line break.
            let data = json(&EventView::from(event));
            for part in ["id: ", &event.id.to_string(), "\nevent: ", &event.kind, "\ndata: ", &data, "\n\n"] {
                out.push_str(part);
            }
        }
        Some(Bytes::from(out))
    }

    /// Whether the credential still is what it was when the stream began.
    async fn holds(&mut self) -> bool {
        let listener = &self.listener;
        let now = listener.app.cloud.clock().monotonic();
        if now.saturating_sub(self.checked_at) < TRUSTED {
            return true;
        }
        self.checked_at = now;
        let found = listener.app.cloud.authenticate(&listener.bearer, listener.mode, listener.address).await;
        found.is_ok_and(|caller| {
            caller.tenant == listener.caller.tenant
                && caller.check(EventRead::SCOPE, EventRead::ROLE, EventRead::REACH).is_ok()
        })
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("hold", &self.hold).finish_non_exhaustive()
    }
}
