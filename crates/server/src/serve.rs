//! `nephos serve`: from the configuration to a listening server, and to its end.
//!
//! Everything that can be known to be wrong stops the start, before anything is changed: the folder, the lock, the
//! addresses, the database, the master key. On SIGTERM or SIGINT no further connection is accepted, requests under way
//! are answered within a bound, and computes run on; a second signal ends at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nephos_model::metric::Metric;
use nephos_model::{Clock, Entropy};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::admin;
use crate::cli::local_url;
use crate::config::{Config, ForwardedHeader, Loaded};
use crate::data_dir::{DataDir, Lock, Locked};
use crate::installation::{Installation, Purpose};
use crate::listen::{self, Listeners};
use crate::metrics::{self, Report};
use crate::telemetry::Exporter;

/// How long a start waits for a command that holds the folder: those take moments.
const LOCK_DEADLINE: Duration = Duration::from_secs(3);
/// Pause between tries to take the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(50);
/// Time to close the database after the last request.
const CLOSE_DEADLINE: Duration = Duration::from_secs(10);

/// Runs until a signal ends it.
pub async fn run(
    loaded: Loaded,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    exporter: Option<Arc<Exporter>>,
) -> Result<()> {
    let started = clock.monotonic();
    let config = Arc::new(loaded.config);
    let mut signals = Signals::listen()?;
    let dir = DataDir::open_or_create(&config.data_dir)?;
    let _lock = take_lock(&dir, &*clock).await?;
    let Listeners { api, admin: details } = listen::bind(&config)?;
    let address = api.local_addr().context("the address of the listener can't be read")?;
    let details_address = details.as_ref().and_then(|l| l.local_addr().ok());
    let url = config.origin.as_ref().map_or_else(|| local_url(address), |origin| origin.0.clone());
    if let Some(file) = &loaded.file {
        tracing::info!(file = %file.display(), "configuration read");
    }
    if config.insecure && !config.listen.ip().is_loopback() {
        tracing::warn!(%address, "listening without TLS where others reach: API keys cross the network in the clear");
    }

    let purpose = Purpose::Serve { origin: url.clone() };
    let installation = Installation::open(&config, &dir, Arc::clone(&clock), entropy, purpose).await?;
    let mut background = installation.cloud.start().await.map_err(|fault| anyhow::anyhow!("{fault}"))?;
    let registry = nephos_http::Registry::default();
    background.announce(registry.notices());
    let app = nephos_http::App::new(installation.cloud.clone(), http_config(&config, &url), registry)?;
    let (stop, stopped) = watch::channel(false);

    let socket = admin::socket::bind(dir.path()).context("the admin socket can't be made in the data folder")?;
    let (operated, told) = (installation.clone(), Told { address, url: url.clone(), details: details_address });
    let operator = tokio::spawn(admin::socket::serve(socket, stopped.clone(), move |request| {
        let (operated, told) = (operated.clone(), told.clone());
        async move {
            let is_status = matches!(request, admin::Request::Status);
            let mut value = admin::perform::perform(&operated, request).await?;
            if is_status {
                value["url"] = json!(local_url(told.address));
                value["origin"] = json!(told.url);
                value["admin_listen"] = json!(told.details);
            }
            Ok(value)
        }
    }));

    let draining = Arc::new(AtomicBool::new(false));
    if let Some(listener) = details {
        let listener = tokio::net::TcpListener::from_std(listener).context("the admin listener can't be used")?;
        let (reported, clock) = (
            Reported {
                installation: installation.clone(),
                app: Arc::clone(&app),
                exporter: exporter.clone(),
                draining: Arc::clone(&draining),
            },
            Arc::clone(&clock),
        );
        tokio::spawn(metrics::serve(listener, stopped.clone(), move || {
            let (reported, clock) = (reported.clone(), Arc::clone(&clock));
            async move { reported.report(clock.monotonic().saturating_sub(started)).await }
        }));
    }

    let listener = tokio::net::TcpListener::from_std(api).context("the listener can't be used")?;
    let mut told_to_stop = stopped.clone();
    let mut requests = tokio::spawn(nephos_http::serve(listener, Arc::clone(&app), async move {
        // A sender that is gone stops it as well.
        _ = told_to_stop.wait_for(|stop| *stop).await;
    }));
    let took_ms = u64::try_from(clock.monotonic().saturating_sub(started).as_millis()).unwrap_or(u64::MAX);
    tracing::info!(url = %local_url(address), admin = details_address.map(tracing::field::display), pid = std::process::id(), took_ms, "ready");

    let broken = tokio::select! {
        name = signals.end() => {
            tracing::info!(signal = name, "stopping: requests under way are finished, computes run on");
            None
        }
        () = background.broken() => Some("a part of the control plane ended by a defect; see the log"),
        _ = &mut requests => Some("the listener ended by a defect; see the log"),
    };
    draining.store(true, Ordering::Relaxed);
    app.drain();
    // Whoever holds the other ends has ended already.
    _ = stop.send(true);
    let deadline = Duration::from_secs(config.drain_deadline_s.0.into());
    let drained = async {
        if broken.is_none() {
            _ = requests.await;
        }
        _ = operator.await;
    };
    tokio::select! {
        () = drained => {}
        () = clock.sleep(deadline) => tracing::warn!(seconds = deadline.as_secs(), "requests were still under way at the deadline and are broken off"),
        name = signals.end() => bail!("a second signal ({name}): ended at once"),
    }
    background.stop().await;
    tokio::select! {
        () = installation.close() => {}
        () = clock.sleep(CLOSE_DEADLINE) => tracing::warn!("the database did not close in time; nothing committed is lost"),
    }
    admin::socket::remove(dir.path());
    if let Some(why) = broken {
        bail!(why);
    }
    tracing::info!("stopped");
    if let Some(exporter) = exporter {
        // Bounded, and nothing else is left to be done.
        exporter.flush();
    }
    Ok(())
}

/// What the server tells about itself.
#[derive(Clone)]
struct Told {
    address: SocketAddr,
    url: String,
    details: Option<SocketAddr>,
}

/// The lock, or who has it. A command of the operator is waited for; a server is not.
async fn take_lock(dir: &DataDir, clock: &dyn Clock) -> Result<Lock> {
    let start = clock.monotonic();
    loop {
        let pid = match dir.lock()? {
            Locked::Ours(lock) => return Ok(lock),
            Locked::Theirs(pid) => pid,
        };
        let is_server = admin::socket::ask(dir.path(), &admin::Request::Status).await.is_ok();
        if is_server || clock.monotonic().saturating_sub(start) > LOCK_DEADLINE {
            let who = pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
            bail!(
                "{who} already runs on {}; stop it (`kill {}`), or choose another folder with --data-dir",
                dir.path().display(),
                pid.map_or_else(|| "PID".to_owned(), |pid| pid.to_string())
            );
        }
        clock.sleep(LOCK_PAUSE).await;
    }
}

fn http_config(config: &Config, origin: &str) -> nephos_http::Config {
    nephos_http::Config {
        origin: origin.to_owned(),
        sandbox_hosts: config.sandbox_hosts.0.iter().map(|host| host.0.clone()).collect(),
        cors_origins: config.cors_origins.0.iter().map(|origin| origin.0.clone()).collect(),
        trusted_proxies: config.trusted_proxies.0.iter().map(|network| network.0).collect(),
        forwarded_header: match config.forwarded_header {
            ForwardedHeader::XForwardedFor => nephos_http::ForwardedHeader::XForwardedFor,
            ForwardedHeader::Forwarded => nephos_http::ForwardedHeader::Forwarded,
        },
        body_bytes_max: usize::try_from(config.body_bytes_max.0).unwrap_or(usize::MAX),
    }
}

/// What metrics and readiness details tell of.
#[derive(Clone)]
struct Reported {
    installation: Installation,
    app: Arc<nephos_http::App>,
    exporter: Option<Arc<Exporter>>,
    draining: Arc<AtomicBool>,
}

impl Reported {
    async fn report(&self, up: Duration) -> Report {
        let cloud = &self.installation.cloud;
        let database = cloud.store().ping().await;
        let is_draining = self.draining.load(Ordering::Relaxed);
        let is_ready = database.is_ok() && !is_draining;
        let gauge = |name, help, value| Metric::gauge(name, help, &[], value);
        let mut metrics = vec![
            gauge("nephos_ready", "1 when requests can be answered.", u64::from(is_ready)),
            gauge("nephos_up_seconds", "Time since the start.", up.as_secs()),
            gauge("process_resident_memory_bytes", "Memory of the process in RAM.", metrics::resident_bytes()),
            gauge("process_open_fds", "Open file descriptors.", metrics::descriptors()),
        ];
        metrics.extend(cloud.metrics());
        metrics.extend(self.app.metrics());
        metrics.extend(self.exporter.iter().flat_map(|exporter| exporter.metrics()));
        let details = json!({
            "ready": is_ready,
            "draining": is_draining,
            "database": {"engine": self.installation.database, "answers": database.is_ok(),
                "error": database.err().map(|e| e.to_string())},
        });
        Report { metrics, is_ready, details }
    }
}

/// The signals that matter.
struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        let take = |kind| signal(kind).context("signals can't be listened for");
        Ok(Self {
            term: take(SignalKind::terminate())?,
            int: take(SignalKind::interrupt())?,
            hup: take(SignalKind::hangup())?,
        })
    }

    /// Ends at a signal to stop, and names it. The configuration is read at the start only, and a hang-up says so.
    async fn end(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.term.recv() => return "SIGTERM",
                _ = self.int.recv() => return "SIGINT",
                _ = self.hup.recv() => tracing::info!("SIGHUP: nothing to do; a restart reads the configuration anew, and computes run on"),
            }
        }
    }
}
