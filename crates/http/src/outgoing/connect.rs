//! The one place where a connection to a host that a tenant named is made: its addresses are looked up, each is judged,
//! and the one that is dialled is one that was judged. A literal address in a URL goes the same way.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{Either, select};
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use nephos_control::courier::Trouble;
use nephos_model::Clock;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::names::System;
use super::{Options, is_public};

/// Addresses of one host that are tried at most.
const ADDRESSES_MAX: usize = 4;
/// How long one of several addresses is tried before the next.
const DIAL: Duration = Duration::from_secs(3);
/// Names that are looked up at the same time at most: as many as requests are under way for a silent name server each.
const LOOKUPS_MAX: usize = 512;

/// Addresses of a name, on their way.
pub type Lookup = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// What finds the addresses of a name.
pub trait Resolve: Send + Sync {
    /// The addresses of a name.
    fn resolve(&self, host: String) -> Lookup;
}

/// Why there is no connection.
#[derive(Debug)]
pub enum NotConnected {
    /// The name leads nowhere.
    Dns(io::Error),
    /// It leads only to addresses to which nothing may be sent.
    Refused,
    /// No address answered.
    Dial(io::Error),
    /// It could not be secured.
    Tls(io::Error),
}

impl NotConnected {
    pub(super) const fn trouble(&self) -> Trouble {
        match self {
            Self::Dns(_) => Trouble::Dns,
            Self::Refused => Trouble::RefusedAddress,
            Self::Dial(_) => Trouble::Connect,
            Self::Tls(_) => Trouble::Tls,
        }
    }
}

impl fmt::Display for NotConnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.trouble().told())
    }
}

impl std::error::Error for NotConnected {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Dns(error) | Self::Dial(error) | Self::Tls(error) => Some(error),
            Self::Refused => None,
        }
    }
}

/// Makes connections.
#[derive(Clone)]
pub(super) struct Connector(Arc<Inner>);

struct Inner {
    allow_private: bool,
    lookup: Arc<dyn Resolve>,
    lookups: Semaphore,
    tls: TlsConnector,
    clock: Arc<dyn Clock>,
    open: Arc<AtomicUsize>,
}

impl Connector {
    pub(super) fn new(
        options: Options,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for root in options.more_roots {
            roots.add(CertificateDer::from(root))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(Inner {
            allow_private: options.allow_private,
            lookup: options.lookup.unwrap_or_else(|| Arc::<System>::default()),
            lookups: Semaphore::new(LOOKUPS_MAX),
            tls: TlsConnector::from(Arc::new(config)),
            clock,
            open: Arc::default(),
        })))
    }

    /// Connections that are open.
    pub(super) fn open(&self) -> usize {
        self.0.open.load(Ordering::Relaxed)
    }
}

impl Inner {
    async fn connect(&self, uri: &Uri) -> Result<Stream, NotConnected> {
        let is_tls = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let host = uri.host().unwrap_or_default();
        let plain = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let found = match plain.parse::<IpAddr>() {
            Ok(literal) => vec![literal],
            Err(_) => self.addresses(plain).await?,
        };
        let judged = found.into_iter().filter(|address| self.allow_private || is_public(*address));
        let allowed: Vec<SocketAddr> =
            judged.take(ADDRESSES_MAX).map(|address| SocketAddr::new(address, port)).collect();
        let tcp = self.dial(&allowed).await?;
        let held = Held::new(&self.open);
        if !is_tls {
            return Ok(Stream { io: Io::Plain(TokioIo::new(tcp)), _held: held });
        }
        let name = ServerName::try_from(plain.to_owned());
        let name = name.map_err(|error| NotConnected::Tls(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let tls = self.tls.connect(name, tcp).await.map_err(NotConnected::Tls)?;
        Ok(Stream { io: Io::Tls(Box::new(TokioIo::new(tls))), _held: held })
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, NotConnected> {
        // Closed never: it lives as long as the connector.
        let _place = self.lookups.acquire().await.ok();
        let found = self.lookup.resolve(host.to_owned()).await.map_err(NotConnected::Dns)?;
        if found.is_empty() {
            return Err(NotConnected::Dns(io::ErrorKind::NotFound.into()));
        }
        Ok(found)
    }

    async fn dial(&self, addresses: &[SocketAddr]) -> Result<TcpStream, NotConnected> {
        let mut last = NotConnected::Refused;
        for (place, address) in addresses.iter().enumerate() {
            let dialling = Box::pin(TcpStream::connect(address));
            let dialled = if place + 1 == addresses.len() {
                dialling.await
            } else {
                match select(dialling, self.clock.sleep(DIAL)).await {
                    Either::Left((dialled, _)) => dialled,
                    Either::Right(_) => Err(io::ErrorKind::TimedOut.into()),
                }
            };
            match dialled {
                Ok(stream) => {
                    // Requests are small and whole: waiting to fill a segment only delays them.
                    _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Err(error) => last = NotConnected::Dial(error),
            }
        }
        Err(last)
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = Stream;
    type Error = NotConnected;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, NotConnected>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NotConnected>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let inner = self.0.clone();
        Box::pin(async move { inner.connect(&uri).await })
    }
}

/// Counts a connection for as long as it is open.
struct Held(Arc<AtomicUsize>);

impl Held {
    fn new(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self(open.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection.
pub(super) struct Stream {
    io: Io,
    _held: Held,
}

enum Io {
    Plain(TokioIo<TcpStream>),
    Tls(Box<TokioIo<TlsStream<TcpStream>>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Io::Tls(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Io::Tls(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_flush(cx),
            Io::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Io::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(io) => io.is_write_vectored(),
            Io::Tls(io) => io.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Io::Tls(io) => Pin::new(io).poll_write_vectored(cx, bufs),
        }
    }
}
