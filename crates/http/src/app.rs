//! What every request shares: the control plane, the configuration of the listener, the router.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use http::HeaderMap;
use nephos_control::Cloud;
use nephos_control::address::Range;
use nephos_docs::Docs;
use nephos_model::metric::Metric;
use tokio::sync::watch;

use crate::client_address::{self, ForwardedHeader};
use crate::endpoint::Router;
use crate::held::Held;
use crate::metrics::Metrics;
use crate::openapi::Documents;
use crate::registry::{Registry, RegistryError};

/// Bytes of a body at most when the operator says nothing: 1 MiB.
pub const BODY_BYTES_MAX_DEFAULT: usize = 1024 * 1024;

/// What the operator decided about HTTP.
#[derive(Debug, Clone)]
pub struct Config {
    /// Scheme and authority under which clients reach the installation, without a slash at the end.
    pub origin: String,
    /// Host names whose `/v1` is the sandbox.
    pub sandbox_hosts: Vec<String>,
    /// Origins whose scripts may call the API; `*` is any. None by default.
    pub cors_origins: Vec<String>,
    /// The proxies whose word on the client's address is taken. None by default.
    pub trusted_proxies: Vec<Range>,
    /// The header in which they give it.
    pub forwarded_header: ForwardedHeader,
    /// Bytes of a body at most.
    pub body_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            origin: String::new(),
            sandbox_hosts: Vec::new(),
            cors_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            forwarded_header: ForwardedHeader::default(),
            body_bytes_max: BODY_BYTES_MAX_DEFAULT,
        }
    }
}

/// Who sent a request.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// The address of the other end of the connection.
    pub address: IpAddr,
}

/// An open terminal, which a drain waits for.
#[derive(Debug)]
pub(crate) struct CountedTerminal(Arc<App>);

impl Drop for CountedTerminal {
    fn drop(&mut self) {
        self.0.terminals.send_modify(|open| *open -= 1);
    }
}

/// The application that answers requests.
#[derive(Debug)]
pub struct App {
    pub(crate) cloud: Cloud,
    pub(crate) config: Config,
    pub(crate) registry: Registry,
    pub(crate) metrics: Metrics,
    pub(crate) router: Router,
    pub(crate) documents: Documents,
    docs: OnceLock<Docs>,
    pub(crate) held: Held,
    /// How many terminals are open.
    terminals: watch::Sender<usize>,
    draining: watch::Sender<bool>,
}

impl App {
    /// An application over a control plane, with the versions and operations of a registry.
    ///
    /// # Errors
    /// When the registry is wrong, such as a sunset that comes too soon after its deprecation.
    pub fn new(cloud: Cloud, config: Config, registry: Registry) -> Result<Arc<Self>, RegistryError> {
        registry.check()?;
        let documents = Documents::new(&config.origin, &registry);
        Ok(Arc::new(Self {
            cloud,
            config,
            router: Router::new(registry.operations()),
            metrics: Metrics::new(registry.operations()),
            registry,
            documents,
            docs: OnceLock::new(),
            held: Held::default(),
            terminals: watch::Sender::new(0),
            draining: watch::Sender::new(false),
        }))
    }

    /// The numbers of requests and their answers.
    pub fn metrics(&self) -> Vec<Metric> {
        let open = u64::try_from(*self.terminals.borrow()).unwrap_or(u64::MAX);
        let mut metrics = self.metrics.read();
        metrics.push(Metric::gauge("nephos_terminals", "Open terminals on consoles.", &[], open));
        metrics
    }

    /// Its versions and operations.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Makes `/readyz` answer 503 from now on, and ends streams.
    pub fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Tells when no more is begun, so that what would never end does.
    pub(crate) fn draining(&self) -> watch::Receiver<bool> {
        self.draining.subscribe()
    }

    /// Counts a terminal for as long as what is returned is kept.
    pub(crate) fn terminal_opened(self: &Arc<Self>) -> CountedTerminal {
        self.terminals.send_modify(|open| *open += 1);
        CountedTerminal(Arc::clone(self))
    }

    /// Waits until no terminal is open; a drain closes them.
    pub(crate) async fn terminals_closed(&self) {
        // The sender lives as long as we do.
        let _ = self.terminals.subscribe().wait_for(|open| *open == 0).await;
    }

    /// The documentation.
    pub(crate) fn docs(&self) -> &Docs {
        self.docs.get_or_init(|| crate::docs::docs(&self.config.origin, &self.registry))
    }

    /// Whether requests can be answered now.
    pub(crate) async fn is_ready(&self) -> bool {
        !*self.draining.borrow() && self.cloud.store().ping().await.is_ok()
    }

    /// Whether the `Host` is one of the sandbox's.
    pub(crate) fn is_sandbox_host(&self, headers: &HeaderMap, uri: &http::Uri) -> bool {
        if self.config.sandbox_hosts.is_empty() {
            return false;
        }
        let host = uri.host().or_else(|| headers.get(http::header::HOST)?.to_str().ok()).unwrap_or_default();
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        self.config.sandbox_hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    /// The client's address: the connection's, unless that is a trusted proxy's.
    pub(crate) fn address(&self, peer: Peer, headers: &HeaderMap) -> IpAddr {
        client_address::client(peer.address, headers, &self.config.trusted_proxies, self.config.forwarded_header)
    }

    /// The origin of a request, when scripts from there may call the API.
    pub(crate) fn allowed_origin<'a>(&self, headers: &'a HeaderMap) -> Option<&'a http::HeaderValue> {
        let origin = headers.get(http::header::ORIGIN)?;
        let known = self.config.cors_origins.iter().any(|o| o == "*" || o.as_bytes() == origin.as_bytes());
        known.then_some(origin)
    }
}
