//! Terminals over WebSockets: bytes of a serial console both ways, for as long as credential and compute hold.
//!
//! ```text
//!  client ──binary or text──▶ keyboard      binary: output
//!         ◀─binary, text──── screen         text:   a notice in JSON, of output that was lost
//! ```
//! What a guest writes is passed on as it is: it is for a terminal, and does to it what the guest likes, as with any remote
//! login. The credential is in a header, which no page of a browser can set for a WebSocket, and cookies are ignored: so no
//! page can open one with somebody else's sign-in. No line of a log holds what goes through: libraries' begin at `warn`.
//! Deliberately not here: who may open one (`control`).

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use nephos_control::scope;
use nephos_control::terminal::{Gone, Kept, Keyboard, Opened, Over, Screen, Shown};
use nephos_model::tenant::Mode;
use nephos_model::{Clock, Fault};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::app::{App, CountedTerminal};
use crate::call::Call;
use crate::endpoint::Upgrade;
use crate::headers;
use crate::held::Hold;
use crate::order::{Decided, Trail, no_credential};
use crate::websocket::Handshaken;

/// Bytes of one message of a client at most.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Bytes that wait for a client on our side at most: a piece of output, and what the protocol answers.
const UNSENT_BYTES_MAX: usize = 64 * 1024;
/// Bytes that are read of a client at once.
const READ_BYTES: usize = 4 * 1024;
/// Between two signs of life that a client is asked for.
const PING_EVERY: Duration = Duration::from_secs(30);
/// Without anything of a client, its answer to a ping included, after which it is taken for gone.
const SILENT_MAX: Duration = Duration::from_secs(60);
/// Without input and output, after which a terminal is closed.
const IDLE_MAX: Duration = Duration::from_secs(60 * 60);
/// Between two looks at the credential and the compute of a terminal where nothing happens.
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// How long it is taken for granted that the credential holds, where something happens.
const TRUSTED: Duration = Duration::from_secs(1);
/// For a connection to become a WebSocket, once that was answered.
const UPGRADE_MAX: Duration = Duration::from_secs(10);
/// For a client to answer that a terminal is closed.
const CLOSE_MAX: Duration = Duration::from_secs(2);

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Opens a terminal: it spent one read, and holds a connection until it ends.
///
/// # Errors
/// When it may not be opened, or there is nothing to open it on.
pub(crate) async fn attach(
    trail: &mut Trail,
    call: Call,
    upgrade: Upgrade,
    handshaken: Handshaken,
    hold: Hold,
    headers: &HeaderMap,
) -> Result<Decided, Fault> {
    let opened = (upgrade.open)(&call).await?;
    let bearer = headers::bearer(headers).map_err(no_credential)?.to_owned();
    let (mode, address) = (call.mount.mode, call.request.address);
    // Counted from here on: a drain that begins now must not miss it.
    let counted = call.app.terminal_opened();
    let session = Session { app: call.app, opened, bearer, mode, address, hold, counted };
    tokio::spawn(scope::of(trail.id, session.run(handshaken.socket)));
    trail.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    trail.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    trail.headers.insert(header::SEC_WEBSOCKET_ACCEPT, handshaken.accept);
    Ok(Decided::empty(StatusCode::SWITCHING_PROTOCOLS))
}

/// A terminal that was opened, and who opened it.
struct Session {
    app: Arc<App>,
    opened: Opened,
    /// The credential, which is asked about again and again.
    bearer: String,
    mode: Mode,
    address: IpAddr,
    hold: Hold,
    counted: CountedTerminal,
}

/// Why a terminal is closed.
#[derive(Debug)]
enum End {
    /// The client closed it, or the connection broke.
    Left,
    /// We close it, and say why.
    Closed(CloseCode, Cow<'static, str>),
}

impl End {
    const fn closed(code: CloseCode, why: &'static str) -> Self {
        Self::Closed(code, Cow::Borrowed(why))
    }
}

impl From<Over> for End {
    fn from(over: Over) -> Self {
        match over {
            Over::Stopped => stopped(),
            Over::Revoked => Self::closed(CloseCode::Policy, "the credential may not do this any more"),
            Over::Unknown => Self::closed(CloseCode::Error, "the credential can't be checked now; connect again"),
        }
    }
}

const fn stopped() -> End {
    End::closed(CloseCode::Normal, "the compute has stopped")
}

impl Session {
    /// Serves it until it ends.
    async fn run(self, upgrade: OnUpgrade) {
        let upgraded = tokio::select! {
            upgraded = upgrade => upgraded,
            () = self.app.cloud.clock().sleep(UPGRADE_MAX) => return,
        };
        let upgraded = match upgraded {
            Ok(upgraded) => TokioIo::new(upgraded),
            Err(error) => {
                tracing::debug!(%error, "a connection did not become a WebSocket");
                return;
            }
        };
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX))
            .read_buffer_size(READ_BYTES)
            .write_buffer_size(0)
            .max_write_buffer_size(UNSENT_BYTES_MAX);
        let (sink, stream) = WebSocketStream::from_raw_socket(upgraded, Role::Server, Some(config)).await.split();
        let Self { app, opened: Opened { screen, keyboard, kept }, bearer, mode, address, hold, counted } = self;
        let now = app.cloud.clock().monotonic();
        let credential = Credential { kept, bearer, mode, address, checked_at: now };
        let mut wire = Wire { app: app.clone(), sink, stream, screen, keyboard, credential, typed: Vec::new() };
        let end = wire.talk(now).await;
        tracing::debug!(?end, "a terminal is closed");
        wire.part(end).await;
        drop((wire, hold, counted));
    }
}

/// What lets a terminal stay open.
struct Credential {
    kept: Kept,
    bearer: String,
    mode: Mode,
    address: IpAddr,
    checked_at: Duration,
}

impl Credential {
    /// Whether it still holds, by what is known for no longer than `trusted`.
    async fn holds(&mut self, app: &App, trusted: Duration) -> Result<(), Over> {
        let now = app.cloud.clock().monotonic();
        if now.saturating_sub(self.checked_at) < trusted {
            return Ok(());
        }
        self.checked_at = now;
        app.cloud.keeps_terminal(&self.kept, &self.bearer, self.mode, self.address).await
    }
}

struct Wire {
    app: Arc<App>,
    sink: SplitSink<Socket, Message>,
    stream: SplitStream<Socket>,
    screen: Screen,
    keyboard: Keyboard,
    credential: Credential,
    /// A message of the client that waits for the guest to take it; no other is read meanwhile.
    typed: Vec<u8>,
}

/// What happened.
enum Happened {
    Read(Option<Result<Message, Error>>),
    Pressed(Result<(), Gone>),
    Shown(Shown),
    Sent(Result<(), Error>),
    Draining,
    Due,
}

impl Wire {
    /// Passes bytes on both ways. Output and input wait for nobody's: a client that reads slowly loses output and is told so,
    /// a guest that takes no input makes the client's wait.
    async fn talk(&mut self, begun: Duration) -> End {
        let app = self.app.clone();
        let clock: &dyn Clock = app.cloud.clock();
        let mut draining = app.draining();
        let (mut heard_at, mut pinged_at, mut active_at) = (begun, begun, begun);
        let mut is_sending = false;
        loop {
            let waits_for_guest = !self.typed.is_empty();
            // Whoever is not read can't be heard.
            let silent_at = heard_at + if waits_for_guest { IDLE_MAX } else { SILENT_MAX };
            let due_at = (pinged_at + PING_EVERY)
                .min(silent_at)
                .min(active_at + IDLE_MAX)
                .min(self.credential.checked_at + CHECK_EVERY);
            let happened = tokio::select! {
                read = self.stream.next(), if !waits_for_guest => Happened::Read(read),
                pressed = self.keyboard.press(&mut self.typed), if waits_for_guest => Happened::Pressed(pressed),
                shown = self.screen.next(), if !is_sending => Happened::Shown(shown),
                sent = self.sink.flush(), if is_sending => Happened::Sent(sent),
                _ = draining.wait_for(|draining| *draining) => Happened::Draining,
                () = clock.sleep(due_at.saturating_sub(clock.monotonic())) => Happened::Due,
            };
            let now = clock.monotonic();
            match happened {
                Happened::Read(read) => {
                    heard_at = now;
                    match typed(read) {
                        Ok(bytes) if bytes.is_empty() => {}
                        Ok(bytes) => {
                            active_at = now;
                            if let Err(over) = self.credential.holds(&app, TRUSTED).await {
                                return over.into();
                            }
                            self.typed = bytes;
                        }
                        Err(end) => return end,
                    }
                }
                Happened::Pressed(Ok(())) => heard_at = now,
                Happened::Pressed(Err(Gone)) | Happened::Shown(Shown::Ended) => return stopped(),
                Happened::Shown(shown) => {
                    active_at = now;
                    if let Err(over) = self.credential.holds(&app, TRUSTED).await {
                        return over.into();
                    }
                    if self.sink.feed(message(shown)).await.is_err() {
                        return End::Left;
                    }
                    is_sending = true;
                }
                Happened::Sent(Ok(())) => is_sending = false,
                Happened::Sent(Err(_)) => return End::Left,
                Happened::Draining => return End::closed(CloseCode::Away, "the server stops; connect again"),
                Happened::Due => {
                    if now >= active_at + IDLE_MAX {
                        return End::closed(CloseCode::Normal, "nothing was typed or shown for an hour");
                    }
                    if now >= silent_at {
                        return End::closed(CloseCode::Policy, "nothing was heard for 60 seconds, no pong either");
                    }
                    if let Err(over) = self.credential.holds(&app, CHECK_EVERY).await {
                        return over.into();
                    }
                    if now >= pinged_at + PING_EVERY {
                        pinged_at = now;
                        // Behind output that the client has not taken a ping would say no more.
                        if !is_sending {
                            if self.sink.feed(Message::Ping(Bytes::new())).await.is_err() {
                                return End::Left;
                            }
                            is_sending = true;
                        }
                    }
                }
            }
        }
    }

    /// Says why it ends, and waits a moment for the client to have heard it.
    async fn part(&mut self, end: End) {
        let (sink, stream) = (&mut self.sink, &mut self.stream);
        let farewell = async {
            let told = match end {
                // The answer to the client's own close.
                End::Left => sink.flush().await,
                End::Closed(code, why) => {
                    sink.send(Message::Close(Some(CloseFrame { code, reason: (&*why).into() }))).await
                }
            };
            while told.is_ok() && matches!(stream.next().await, Some(Ok(_))) {}
        };
        tokio::select! {
            () = farewell => {}
            () = self.app.cloud.clock().sleep(CLOSE_MAX) => {}
        }
    }
}

/// What a message types; empty when it is not about that.
fn typed(read: Option<Result<Message, Error>>) -> Result<Vec<u8>, End> {
    match read {
        Some(Ok(Message::Binary(bytes))) => Ok(bytes.into()),
        Some(Ok(Message::Text(text))) => Ok(text.as_str().as_bytes().to_vec()),
        Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(Vec::new()),
        Some(Err(Error::Capacity(_))) => Err(End::closed(CloseCode::Size, "a message has 65536 bytes at most")),
        Some(Err(Error::Utf8(_))) => Err(End::closed(CloseCode::Invalid, "a text message is UTF-8")),
        Some(Err(Error::Protocol(_))) => Err(End::closed(CloseCode::Protocol, "this is not the WebSocket protocol")),
        None | Some(Ok(Message::Close(_)) | Err(_)) => Err(End::Left),
    }
}

/// What is sent of what a screen shows.
fn message(shown: Shown) -> Message {
    match shown {
        Shown::Bytes(bytes) => Message::Binary(Bytes::from_owner(bytes)),
        Shown::Lost { bytes } => Message::text(format!("{{\"lost_bytes\":{bytes}}}")),
        // Whoever asks has looked for the end before.
        Shown::Ended => Message::Binary(Bytes::new()),
    }
}
