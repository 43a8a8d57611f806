//! The composition: from a configuration and a locked data folder to a control plane over its store and drivers.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nephos_control::seal::MasterKey;
use nephos_control::settings::Settings;
use nephos_control::{Cloud, Parts};
use nephos_driver::Driver;
use nephos_driver::qemu::{Images, Options, Qemu};
use nephos_driver::simulator::Simulator;
use nephos_http::outgoing;
use nephos_model::region::Region;
use nephos_model::tenant::Mode;
use nephos_model::{Clock, Entropy};
use nephos_store::{PostgresOptions, SqliteOptions, Store};

use crate::cli::local_url;
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::mail;

/// The name of the embedded database in the data folder.
const DATABASE: &str = "nephos.db";
/// What the names of copies begin with that are not whole yet.
const PARTIAL: &str = "partial-";
/// The regions of every sandbox.
const SANDBOX_REGIONS: &[&str] = &["us-east", "eu-west", "ap-south"];

/// A control plane with what the operator's requests need beside it.
#[derive(Debug, Clone)]
pub struct Installation {
    /// The control plane.
    pub cloud: Cloud,
    /// The files of images.
    pub images: Images,
    /// The name of the database, without its password.
    pub database: String,
    /// Where copies of the database are made.
    pub backups_dir: PathBuf,
}

/// Whether machines are going to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// Yes: drivers are opened.
    Serve {
        /// The web address under which the installation is reached.
        origin: String,
    },
    /// No: one request of the operator is done.
    Administer,
}

/// The embedded database's file.
pub fn database_file(dir: &DataDir) -> PathBuf {
    dir.path().join(DATABASE)
}

/// The database, as people may read it.
pub fn database_name(config: &Config) -> String {
    config.database.as_ref().map_or_else(|| "SQLite".to_owned(), |url| format!("PostgreSQL at {url}"))
}

/// Opens the database as it is; its schema may be older, or missing.
pub async fn open_store(config: &Config, file: Option<&Path>, options: SqliteOptions) -> Result<Store> {
    match (&config.database, file) {
        (Some(url), _) => Store::open_postgres(url.expose(), PostgresOptions::default())
            .await
            .with_context(|| format!("the database {url} can't be used; --database or NEPHOS_DATABASE names another")),
        (None, Some(file)) => Store::open_sqlite(file, options).await.context("the database can't be opened"),
        (None, None) => anyhow::bail!("there is no data folder yet"),
    }
}

/// What the QEMU driver is told.
pub fn qemu_options(config: &Config, data_dir: &Path) -> Options {
    Options { stop_deadline_ms: u64::from(config.stop_deadline_s.0) * 1_000, ..Options::new(data_dir) }
}

/// A database was sealed with a key that is not there: another one could open nothing.
pub fn lost_master_key(dir: &DataDir) -> String {
    format!(
        "the database was sealed with a master key, and {} is not there: put the one that belongs to it there (mode \
         0600), or name its file with --master-key-file",
        dir.master_key_path().display()
    )
}

impl Installation {
    /// Opens everything. The caller holds the folder's lock for as long as this lives.
    pub async fn open(
        config: &Config,
        dir: &DataDir,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        purpose: Purpose,
    ) -> Result<Self> {
        let found_key = dir.master_key(config.master_key_file.as_deref())?;
        // The data folder's lock keeps every other process away.
        let options = SqliteOptions { alone: true, ..SqliteOptions::default() };
        let store = open_store(config, Some(&database_file(dir)), options).await?;
        let migrated = store
            .migrate(nephos_store::MIGRATIONS, clock.now().micros())
            .await
            .context("the database can't be used")?;
        if migrated.from != migrated.to {
            tracing::info!(from = migrated.from, to = migrated.to, backup = ?migrated.backup, "the database's schema is up to date");
        }
        let master_key = match found_key {
            Some(key) => key,
            None if store.canary().await?.is_some() => bail!(lost_master_key(dir)),
            None => dir.make_master_key(&*entropy)?,
        };
        let backups_dir = dir.path().join("backups");
        if matches!(purpose, Purpose::Serve { .. }) {
            remove_partial_copies(&backups_dir);
        }
        let options = qemu_options(config, dir.path());
        let images = Images::new(&options);
        let regions = match &purpose {
            Purpose::Serve { .. } => regions(config, &options, &clock, &entropy)?,
            Purpose::Administer => Vec::new(),
        };
        let is_serving = matches!(purpose, Purpose::Serve { .. });
        if config.private_targets && is_serving {
            tracing::warn!(
                "private_targets is set: webhooks may be sent to private addresses and without TLS; this is for development"
            );
        }
        let options = outgoing::Options { allow_private: config.private_targets, ..outgoing::Options::default() };
        let courier = outgoing::Outgoing::new(options, Arc::clone(&clock)).map_err(|error| anyhow::anyhow!(error))?;
        let mut settings = settings(config);
        if let Purpose::Serve { origin } = purpose {
            settings.origin = origin;
        }
        let mailer = mail::mailer(config, dir)?;
        let cloud = Cloud::new(Parts {
            store,
            clock,
            entropy,
            settings,
            master_key: MasterKey::new(master_key),
            regions,
            mailer,
            courier: Arc::new(courier),
        });
        cloud.check_master_key(&master_key).await?;
        cloud.advance_ids().await.map_err(|fault| anyhow::anyhow!("{fault}"))?;
        Ok(Self { cloud, images, database: database_name(config), backups_dir })
    }

    /// Closes the database. What was asked for is finished first.
    pub async fn close(&self) {
        self.cloud.store().close().await;
    }
}

/// The name of a copy of the database that is being made.
pub fn partial_copy(backups_dir: &Path, entropy: &dyn Entropy) -> PathBuf {
    backups_dir.join(format!("{PARTIAL}{:032x}.db", entropy.u128()))
}

/// Removes what a kill left. Failing to is no reason not to start.
fn remove_partial_copies(backups_dir: &Path) {
    for entry in std::fs::read_dir(backups_dir).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
            _ = std::fs::remove_file(entry.path());
        }
    }
}

fn settings(config: &Config) -> Settings {
    let default = Settings::default();
    Settings {
        sizes: config.sizes.0.clone(),
        currency: config.currency.0.clone(),
        vcpu_percent: config.vcpus_overcommit_percent.0,
        memory_percent: config.memory_overcommit_percent.0,
        disk_percent: config.disk_overcommit_percent.0,
        stop_deadline: Duration::from_secs(config.stop_deadline_s.0.into()),
        issuer: config.origin.as_ref().map(|origin| origin.0.clone()),
        origin: config.origin.as_ref().map_or_else(|| local_url(config.listen), |origin| origin.0.clone()),
        support_contact: config.support_contact.as_ref().map_or(default.support_contact, |line| line.0.clone()),
        plans: config.plans.0.clone(),
        sandbox_reset_at: config.sandbox_reset_at.0,
        audit_kept: Duration::from_secs(u64::from(config.audit_kept_days.0) * 86_400),
    }
}

type Placed = Vec<(Region, Arc<dyn Driver>)>;

fn regions(config: &Config, options: &Options, clock: &Arc<dyn Clock>, entropy: &Arc<dyn Entropy>) -> Result<Placed> {
    let simulator: Arc<dyn Driver> = Arc::new(Simulator::new());
    let mut drivers: HashMap<String, Arc<dyn Driver>> = HashMap::new();
    let mut placed: Placed = Vec::new();
    for region in &config.regions.0 {
        let driver = match (region.driver.as_str(), drivers.get(&region.driver)) {
            (_, Some(driver)) => Arc::clone(driver),
            ("qemu", None) => {
                let qemu = Qemu::open(options.clone(), Arc::clone(clock), Arc::clone(entropy));
                Arc::new(qemu.context("the QEMU driver can't be opened")?)
            }
            // The configuration knows no third one.
            (_, None) => Arc::clone(&simulator),
        };
        drivers.insert(region.driver.clone(), Arc::clone(&driver));
        placed.push((region.clone(), driver));
    }
    for name in SANDBOX_REGIONS {
        let region = Region { name: (*name).to_owned(), driver: "simulator".to_owned(), mode: Mode::Test };
        placed.push((region, Arc::clone(&simulator)));
    }
    Ok(placed)
}
