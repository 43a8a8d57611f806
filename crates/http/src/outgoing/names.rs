//! The addresses of names, from the name servers and hosts that the machine is configured for.
//!
//! Asked here and not through the C library: there each question takes a thread until it is answered, and a name whose
//! servers are silent would take it long after whoever asked has given up. Names are taken as absolute, so none of a
//! tenant's is completed with a domain of the machine. Not here: which addresses may be dialled (`address`).

use std::fs;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hickory_resolver::config::{LookupIpStrategy, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::Name;
use hickory_resolver::{TokioResolver, system_conf};

use super::connect::{Lookup, Resolve};

/// Files that say who is asked, and what is known without asking.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];
/// Answers that are kept at most.
const CACHED_MAX: u64 = 4_096;
/// How long an answer is taken for true at most, whatever its owner says.
const KEPT: Duration = Duration::from_secs(60);
/// The same of the answer that there is no such name.
const MISSING_KEPT: Duration = Duration::from_secs(5);
/// How long one name server is waited for at most.
const SERVER_DEADLINE: Duration = Duration::from_secs(5);
/// Questions to a name server at most, before the next.
const ATTEMPTS_MAX: usize = 2;

/// What the files were when they were read.
type Stamps = [Option<SystemTime>; 2];

/// The machine's own configuration, read again when its files change.
#[derive(Default)]
pub(super) struct System(Mutex<Option<(Stamps, Arc<TokioResolver>)>>);

impl System {
    fn resolver(&self) -> io::Result<Arc<TokioResolver>> {
        let stamps = FILES.map(|file| fs::metadata(file).and_then(|found| found.modified()).ok());
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, resolver)) = kept.as_ref().filter(|(read, _)| *read == stamps) {
            return Ok(resolver.clone());
        }
        let resolver = Arc::new(read().map_err(io::Error::other)?);
        *kept = Some((stamps, resolver.clone()));
        Ok(resolver)
    }
}

/// Without name servers the hosts are known all the same.
fn read() -> Result<TokioResolver, NetError> {
    let found = fs::read(FILES[0]).map_err(NetError::from).and_then(system_conf::parse_resolv_conf);
    let (config, mut options) = found.unwrap_or_else(|error| {
        tracing::warn!(file = FILES[0], %error, "no name server is known: only the hosts of this machine are found by name");
        (ResolverConfig::from_parts(None, Vec::new(), Vec::new()), ResolverOpts::default())
    });
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.cache_size = CACHED_MAX;
    options.positive_max_ttl = Some(KEPT);
    options.negative_max_ttl = Some(MISSING_KEPT);
    options.timeout = options.timeout.min(SERVER_DEADLINE);
    options.attempts = options.attempts.min(ATTEMPTS_MAX);
    let config = ResolverConfig::from_parts(None, Vec::new(), config.name_servers().to_vec());
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options).build()
}

impl Resolve for System {
    fn resolve(&self, host: String) -> Lookup {
        let resolver = self.resolver();
        Box::pin(async move {
            let mut name = Name::from_utf8(&host).map_err(io::Error::other)?;
            name.set_fqdn(true);
            let found = resolver?.lookup_ip(name).await.map_err(io::Error::other)?;
            Ok(found.iter().collect::<Vec<IpAddr>>())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_machines_hosts_are_known() {
        let found = System::default().resolve("localhost".to_owned()).await.unwrap();
        assert!(!found.is_empty() && found.iter().all(IpAddr::is_loopback), "{found:?}");
    }

    #[tokio::test]
    async fn what_is_no_name_is_an_error() {
        let long = "a".repeat(64);
        assert!(System::default().resolve(format!("{long}.example")).await.is_err());
    }
}
