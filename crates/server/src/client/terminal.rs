//! A terminal on a compute's serial console: this process between the user's terminal and a WebSocket of the API.
//!
//! What the guest writes goes to the user's terminal as it is, control sequences included, as `ssh` passes on what a remote
//! program writes: whoever attaches to a guest trusts it that far. Messages of this program go to the standard error. The
//! terminal is in raw mode meanwhile, and put back however this ends: by a key, an error, a panic or a signal (but SIGKILL).

use std::io::{self, Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use nephos_http::websocket;
use nephos_model::Clock;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcsetattr};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use super::api::{Api, Failure};
use crate::output::{escape, say};

/// The key that leaves: Ctrl-].
const LEAVE: u8 = 0x1d;
/// Bytes of input that are read at once; the API takes 64 KiB.
const INPUT_BYTES: usize = 4 * 1024;
/// Pieces of input that wait to be sent at most.
const INPUT_CHUNKS_MAX: usize = 4;
/// Bytes of one message of the server at most.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of a refusal at most.
const REFUSAL_BYTES_MAX: usize = 1024 * 1024;
/// Time to connect and to be answered.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// Time for the server to answer that we leave.
const CLOSE_MAX: Duration = Duration::from_secs(1);
/// Without output, after which a terminal is left whose input has ended.
const QUIET_MAX: Duration = Duration::from_secs(2);

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// A connection, in the clear or not.
trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// Attaches to the console at `path` below the base URL, until somebody leaves.
pub fn attach(api: &Api<'_>, path: &str, clock: &dyn Clock) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| Failure::Local(format!("the terminal can't be used: {e}")))?.block_on(async {
        let socket = tokio::select! {
            socket = open(api, path) => socket?,
            () = clock.sleep(ANSWER_MAX) => return Err(unreachable(api, "it does not answer")),
        };
        let is_terminal = isatty(io::stdin());
        if is_terminal {
            say("attached; Ctrl-] leaves");
        }
        let raw = if is_terminal { Some(Raw::enter()?) } else { None };
        let left = converse(socket, is_terminal, clock).await;
        drop(raw);
        match left {
            Left::ByUs => Ok(()),
            Left::ByServer(frame) => closed(frame),
            Left::Broken(why) => Err(Failure::Unreachable(format!("the connection broke: {why}"))),
            Left::Local(why) => Err(Failure::Local(why)),
        }
    })
}

/// Why it is over.
enum Left {
    ByUs,
    ByServer(Option<CloseFrame>),
    Broken(String),
    Local(String),
}

fn closed(frame: Option<CloseFrame>) -> Result<(), Failure> {
    let Some(frame) = frame else { return Ok(()) };
    let why = format!("the server closed the terminal: {} ({})", escape(&frame.reason), frame.code);
    match frame.code {
        CloseCode::Normal => {
            say(&why);
            Ok(())
        }
        CloseCode::Policy => Err(Failure::Credential(why)),
        _ => Err(Failure::Unreachable(why)),
    }
}

fn unreachable(api: &Api<'_>, why: impl std::fmt::Display) -> Failure {
    Failure::Unreachable(format!("{} can't be reached: {why}", api.base()))
}

/// The user's terminal in raw mode; dropping it puts the terminal back.
struct Raw(Termios);

impl Raw {
    fn enter() -> Result<Self, Failure> {
        let fail = |e: rustix::io::Errno| Failure::Local(format!("the terminal can't be set: {e}"));
        let before = tcgetattr(io::stdin()).map_err(fail)?;
        let mut raw = before.clone();
        raw.make_raw();
        let guard = Self(before);
        tcsetattr(io::stdin(), OptionalActions::Drain, &raw).map_err(fail)?;
        Ok(guard)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no putting back.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// Connects, and asks for a WebSocket. Goes to the server itself: no proxy is asked.
async fn open(api: &Api<'_>, path: &str) -> Result<Socket, Failure> {
    let uri: Uri = format!("{}{path}", api.base()).parse().map_err(|e| unreachable(api, e))?;
    let host = uri.host().unwrap_or_default();
    let is_secure = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((name, port)).await.map_err(|e| unreachable(api, e))?;
    // Keys are small and wanted at once.
    let _ = stream.set_nodelay(true);
    let stream: Box<dyn Connection> =
        if is_secure { Box::new(secured(api, stream, name).await?) } else { Box::new(stream) };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| unreachable(api, e))?;
    tokio::spawn(connection.with_upgrades());
    let key = websocket::new_key(api.random());
    let request = Request::get(uri.path())
        .header(header::HOST, uri.authority().map_or(host, |authority| authority.as_str()))
        .header(header::AUTHORIZATION, api.authorization())
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, concat!("nephos-cli/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, websocket::VERSION)
        .header(header::SEC_WEBSOCKET_KEY, &key)
        .body(Empty::<Bytes>::new());
    let request = request.map_err(|e| unreachable(api, e))?;
    let mut response = sender.send_request(request).await.map_err(|e| unreachable(api, e))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, REFUSAL_BYTES_MAX).collect().await;
        let body = body.map_err(|e| unreachable(api, e))?.to_bytes();
        if parts.status.is_success() {
            return Err(unreachable(api, "it, or a proxy before it, does not speak WebSocket"));
        }
        return Err(Failure::Refused(api.refusal(&parts, &body)));
    }
    let accepted = response.headers().get(header::SEC_WEBSOCKET_ACCEPT);
    if accepted.is_none_or(|accepted| accepted.as_bytes() != websocket::accept(&key).as_bytes()) {
        return Err(unreachable(api, "what answers there does not speak WebSocket"));
    }
    let upgraded = hyper::upgrade::on(&mut response).await.map_err(|e| unreachable(api, e))?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX))
        .write_buffer_size(0);
    Ok(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, Some(config)).await)
}

/// TLS, with the roots that the other commands trust.
async fn secured(api: &Api<'_>, stream: TcpStream, name: &str) -> Result<impl Connection + use<>, Failure> {
    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|e| unreachable(api, e))?.with_root_certificates(roots).with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from(name.to_owned()).map_err(|e| unreachable(api, e))?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await.map_err(|e| unreachable(api, e))
}

/// What is read of the standard input, piece by piece; ends with it. On a thread of its own, which ends with the process.
fn input() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(INPUT_CHUNKS_MAX);
    std::thread::spawn(move || {
        let mut buffer = [0; INPUT_BYTES];
        let mut input = io::stdin().lock();
        loop {
            match input.read(&mut buffer) {
                Ok(length) if length > 0 => {
                    if sender.blocking_send(buffer[..length].to_vec()).is_err() {
                        return;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                _ => return,
            }
        }
    });
    receiver
}

/// What is typed before the key that leaves, and whether it was pressed.
fn until_leave(bytes: &[u8]) -> (&[u8], bool) {
    match bytes.iter().position(|byte| *byte == LEAVE) {
        Some(at) => (&bytes[..at], true),
        None => (bytes, false),
    }
}

/// What happened.
enum Happened {
    Typed(Option<Vec<u8>>),
    Shown(Option<Result<Message, tokio_tungstenite::tungstenite::Error>>),
    Sent(Result<(), tokio_tungstenite::tungstenite::Error>),
    Quiet,
    Signal,
}

/// Passes bytes on both ways, neither waiting for the other, until one side has enough.
async fn converse(socket: Socket, is_terminal: bool, clock: &dyn Clock) -> Left {
    let (mut sink, mut stream) = socket.split();
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::hangup()), signal(SignalKind::interrupt()));
    let (Ok(mut terminated), Ok(mut hung_up), Ok(mut interrupted)) = signals else {
        return Left::Local("signals can't be listened for".to_owned());
    };
    let mut typed = input();
    let (mut is_sending, mut leaves, mut input_ended) = (false, false, false);
    loop {
        if leaves && !is_sending {
            break;
        }
        let happened = tokio::select! {
            bytes = typed.recv(), if !is_sending && !input_ended => Happened::Typed(bytes),
            message = stream.next() => Happened::Shown(message),
            sent = sink.flush(), if is_sending => Happened::Sent(sent),
            () = clock.sleep(QUIET_MAX), if input_ended && !is_sending => Happened::Quiet,
            _ = terminated.recv() => Happened::Signal,
            _ = hung_up.recv() => Happened::Signal,
            _ = interrupted.recv() => Happened::Signal,
        };
        match happened {
            Happened::Typed(None) if is_terminal => break,
            Happened::Typed(None) => input_ended = true,
            Happened::Typed(Some(bytes)) => {
                let (bytes, left) = if is_terminal { until_leave(&bytes) } else { (&*bytes, false) };
                leaves = left;
                if !bytes.is_empty() {
                    if let Err(e) = sink.feed(Message::binary(bytes.to_vec())).await {
                        return Left::Broken(e.to_string());
                    }
                    is_sending = true;
                }
            }
            Happened::Shown(Some(Ok(Message::Binary(bytes)))) => {
                let mut out = io::stdout().lock();
                if let Err(e) = out.write_all(&bytes).and_then(|()| out.flush()) {
                    return Left::Local(format!("the output can't be written: {e}"));
                }
            }
            Happened::Shown(Some(Ok(Message::Text(notice)))) => tell(&notice, is_terminal),
            Happened::Shown(Some(Ok(Message::Close(frame)))) => return Left::ByServer(frame),
            Happened::Shown(Some(Ok(_))) => {}
            Happened::Sent(Ok(())) => is_sending = false,
            Happened::Shown(Some(Err(e))) | Happened::Sent(Err(e)) => return Left::Broken(e.to_string()),
            Happened::Shown(None) => return Left::Broken("the server hung up".to_owned()),
            Happened::Quiet | Happened::Signal => break,
        }
    }
    let farewell = async {
        let told = sink.send(Message::Close(None)).await;
        while told.is_ok() && matches!(stream.next().await, Some(Ok(_))) {}
    };
    tokio::select! {
        () = farewell => {}
        () = clock.sleep(CLOSE_MAX) => {}
    }
    Left::ByUs
}

/// A notice of the server, beside the guest's output.
fn tell(notice: &str, is_terminal: bool) {
    let lost =
        serde_json::from_str::<serde_json::Value>(notice).ok().and_then(|notice| notice.get("lost_bytes")?.as_u64());
    if let Some(bytes) = lost {
        let end = if is_terminal { "\r" } else { "" };
        say(&format!("{end}nephos: {bytes} bytes of output came faster than they were read, and are lost{end}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_leaves() {
        assert_eq!(until_leave(b"ls\r"), (&b"ls\r"[..], false));
        assert_eq!(until_leave(b"ls\x1dmore"), (&b"ls"[..], true));
    }

    #[test]
    fn a_close_of_the_server_has_a_status() {
        let of = |code, reason: &'static str| closed(Some(CloseFrame { code, reason: reason.into() }));
        assert!(closed(None).is_ok() && of(CloseCode::Normal, "the compute has stopped").is_ok());
        assert_eq!(of(CloseCode::Policy, "x").unwrap_err().exit_status(), 3);
        assert_eq!(
            of(CloseCode::Away, "x\u{1b}").unwrap_err().to_string(),
            "the server closed the terminal: x\\u{1b} (1001)"
        );
    }
}
