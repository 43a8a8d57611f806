//! From sockets to [`handle`]: HTTP/1.1 and HTTP/2 on one listener, bounded connections, a drain that drops nothing.
//!
//! What the HTTP parser refuses never becomes a request; its bare answers are replaced on their way out (see `Answering`),
//! so that they have the error body and a request id too.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{Either, select};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use nephos_model::id::{Id, RequestId};
use nephos_model::{Code, Fault};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::app::{App, Peer};
use crate::handle::{fault_body, handle};
use crate::heads::Heads;
use crate::mount::PLATFORM;
use crate::order::{HEADER_BYTES_MAX, HEADERS_MAX};

/// Connections at once at most; more wait in the kernel's queue.
pub const CONNECTIONS_MAX: usize = 10_000;
/// Requests at once on one HTTP/2 connection at most.
pub const STREAMS_MAX: u32 = 128;
/// Seconds in which a request's headers must have arrived.
pub const HEADER_DEADLINE_S: u64 = 15;
/// Seconds that a drain waits for requests under way.
pub const DRAIN_DEADLINE_S: u64 = 60;
/// Milliseconds to wait after the system refused to accept, such as for want of file descriptors.
const ACCEPT_PAUSE_MS: u64 = 50;

/// Serves until `shutdown` ends, then finishes what was accepted.
pub async fn serve(listener: TcpListener, app: Arc<App>, shutdown: impl Future<Output = ()> + Send) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(HEADER_DEADLINE_S))
        .max_headers(HEADERS_MAX)
        // Room for headers over the limit, so that they are refused by us and not by the parser.
        .max_buf_size(4 * HEADER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        // As above; what is larger still, the protocol's own layer resets.
        .max_header_list_size(u32::try_from(4 * HEADER_BYTES_MAX).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(30));
    let builder = Arc::new(builder);
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut shutdown = pin!(shutdown);
    loop {
        let accepting = pin!(async {
            // The semaphore is never closed.
            let permit = room.clone().acquire_owned().await.ok();
            (permit, listener.accept().await)
        });
        let (permit, accepted) = match select(accepting, shutdown.as_mut()).await {
            Either::Left((accepted, _)) => accepted,
            Either::Right(_) => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                app.cloud.clock().sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                continue;
            }
        };
        // Answers are small and whole: waiting to fill a segment only delays them.
        let _ = stream.set_nodelay(true);
        let peer = Peer { address: peer.ip().to_canonical() };
        let served = app.clone();
        let heads = Heads::default();
        let io = TokioIo::new(Answering { stream, app: app.clone(), heads: heads.clone() });
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let (app, heads) = (served.clone(), heads.clone());
            let (mut parts, body) = request.into_parts();
            if let Some(bad) = heads.judge(&parts) {
                parts.extensions.insert(bad);
            }
            // Boxed, because it is some kilobytes that hyper would move about and keep within each connection's own state:
            // the next request, of whatever connection, finds this memory still in the processor's cache.
            Box::pin(async move {
                let response = handle(&app, hyper::Request::from_parts(parts, body), peer).await;
                if response.status() == http::StatusCode::SWITCHING_PROTOCOLS {
                    heads.end();
                }
                Ok::<_, Infallible>(response)
            })
        });
        let watcher = graceful.watcher();
        let builder = builder.clone();
        tokio::spawn(async move {
            let connection = builder.serve_connection_with_upgrades(io, service);
            if let Err(error) = watcher.watch(connection).await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(permit);
        });
    }
    drop(listener);
    app.drain();
    let deadline = app.cloud.clock().sleep(Duration::from_secs(DRAIN_DEADLINE_S));
    let drained = async {
        graceful.shutdown().await;
        // What was a connection and became a terminal is closed by itself.
        app.terminals_closed().await;
    };
    if let Either::Right(_) = select(pin!(drained), deadline).await {
        tracing::warn!("requests were still under way at the end of the drain");
    }
}

/// A stream on whose way out the parser's bare refusals get a body and a request id.
///
/// Every response of ours carries `x-request-id` in its head. A write that begins with the status line of a refusal and
/// has a head without it is the parser's own, which closes the connection after it.
struct Answering<S> {
    stream: S,
    app: Arc<App>,
    heads: Heads,
}

impl<S> Answering<S> {
    fn replacement(&self, written: &[u8]) -> Option<Vec<u8>> {
        let head = written.strip_prefix(b"HTTP/1.1 4")?;
        let end = written.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let is_ours = written[..end].windows(12).any(|twelve| twelve.eq_ignore_ascii_case(b"x-request-id"));
        // The whole of a bare refusal is its head.
        if is_ours || end != written.len() {
            return None;
        }
        let fault = match head.get(..2)? {
            b"31" => Fault::new(Code::HeadersTooLarge, "The headers are too many, or larger than the limit."),
            b"14" => Fault::new(Code::HeadersTooLarge, "The path and query are longer than the limit."),
            b"08" => Fault::new(Code::RequestTimeout, "The request took too long to arrive. It may be tried again."),
            _ => Fault::new(Code::BadRequest, "This is not an HTTP request that this server can read."),
        };
        let id: RequestId = self.app.cloud.id();
        let uuid = id.raw().to_uuid();
        let body = fault_body(&self.app, PLATFORM, &uuid, &fault, self.app.cloud.clock().now());
        let status = fault.code.status();
        let reason = http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or_default();
        let mut out = format!(
            "HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\nx-request-id: {uuid}\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n",
            body.len()
        )
        .into_bytes();
        out.extend_from_slice(&body);
        Some(out)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Answering<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        if self.heads.are_over() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.heads.read(&buf.filled()[before..]);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Answering<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        if self.heads.are_over() {
            return Pin::new(&mut self.stream).poll_write(cx, buf);
        }
        self.heads.answered();
        let Some(replaced) = self.replacement(buf) else { return Pin::new(&mut self.stream).poll_write(cx, buf) };
        // A few hundred bytes as the last thing on a connection: they fit the socket's buffer, or the client reads nothing.
        let written = std::task::ready!(Pin::new(&mut self.stream).poll_write(cx, &replaced))?;
        if written < replaced.len() {
            return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
        }
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        if let [one] = bufs {
            return self.poll_write(cx, one);
        }
        if !self.heads.are_over() {
            self.heads.answered();
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
