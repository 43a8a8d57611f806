//! `nephos restore`: puts a copy of the database back. The copy is proved to be one of this program before the database
//! there is is touched, and that one stays in `backups/`.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use nephos_control::install::{MasterKeyError, opens_canary};
use nephos_model::{Clock, Entropy};
use nephos_store::{SqliteOptions, Store};
use serde_json::{Value, json};

use crate::config::Config;
use crate::data_dir::{DataDir, Locked, MASTER_KEY_BYTES};
use crate::installation::{self, Installation, Purpose};
use crate::output;

/// What SQLite keeps beside a database.
const COMPANIONS: &[&str] = &["-wal", "-shm"];

/// Restores `file`. With `force` a database that is there is replaced.
pub async fn restore(
    config: &Config,
    file: &Path,
    force: bool,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
) -> Result<Value> {
    if config.database.is_some() {
        bail!("the database is on a PostgreSQL server: restore it there, with pg_restore");
    }
    if !file.is_file() {
        bail!("there is no file {}", file.display());
    }
    let dir = DataDir::open_or_create(&config.data_dir)?;
    let _lock = match dir.lock()? {
        Locked::Ours(lock) => lock,
        Locked::Theirs(pid) => {
            let pid = pid.map_or_else(|| "a process".to_owned(), |pid| format!("the process {pid}"));
            bail!("{pid} runs on {}; stop it first: a database can't be replaced under a server", dir.path().display());
        }
    };
    let database = installation::database_file(&dir);
    if database.exists() && !force {
        bail!(
            "there is a database already; --force replaces it, and a copy of it stays in {}",
            dir.path().join("backups").display()
        );
    }
    let (trial, candidate) = (with_ending(&database, ".trial"), with_ending(&database, ".restoring"));
    remove_with_companions(&trial)?;
    remove_with_companions(&candidate)?;
    // Before anything is put in place: without its key the database would be of no use.
    let key = dir.master_key(config.master_key_file.as_deref())?;
    let proved = prove(file, &trial, &candidate, &dir, key, &*clock).await;
    remove_with_companions(&trial)?;
    if proved.is_err() {
        remove_with_companions(&candidate)?;
    }
    let version = proved?;
    let kept = if database.exists() { Some(put_aside(&dir, &database, &*clock)?) } else { None };
    std::fs::rename(&candidate, &database).with_context(|| format!("{} can't be written", database.display()))?;
    File::open(dir.path()).and_then(|folder| folder.sync_all()).context("the data folder can't be synced")?;
    // Says now, not at the next start, when anything else is wrong.
    let opened = Installation::open(config, &dir, clock, entropy, Purpose::Administer).await;
    match opened {
        Ok(installation) => installation.close().await,
        Err(e) => bail!("the database is restored, and can't be opened: {}", output::chain(e.as_ref())),
    }
    Ok(json!({"restored": file, "schema_version": version, "replaced_copy": kept}))
}

/// Opens a trial copy of the file: it must be whole, ours, not newer than this program, and sealed with the master key
/// that is there. What is put in place is a fresh copy of that one, a single file, because an open database has more
/// than one.
async fn prove(
    file: &Path,
    trial: &Path,
    candidate: &Path,
    dir: &DataDir,
    key: Option<[u8; MASTER_KEY_BYTES]>,
    clock: &dyn Clock,
) -> Result<i64> {
    std::fs::copy(file, trial).with_context(|| format!("{} can't be copied to {}", file.display(), trial.display()))?;
    let ours = || format!("{} is no copy of a nephos database", file.display());
    let store = Store::open_sqlite(trial, SqliteOptions::default()).await.with_context(ours)?;
    let migrated = store.migrate(nephos_store::MIGRATIONS, clock.now().micros()).await.with_context(ours);
    let copied = match migrated {
        Ok(migrated) if migrated.from > 0 => match unsealed(&store, dir, key).await {
            Ok(()) => store.backup_to(candidate).await.map(|()| migrated.to).map_err(Into::into),
            Err(e) => Err(e),
        },
        Ok(_) => Err(anyhow::anyhow!("{}: it has no schema of this program", ours())),
        Err(e) => Err(e),
    };
    store.close().await;
    copied
}

/// Whether the master key that is there belongs to a database.
async fn unsealed(store: &Store, dir: &DataDir, key: Option<[u8; MASTER_KEY_BYTES]>) -> Result<()> {
    match (store.canary().await?, key) {
        (None, _) => Ok(()),
        (Some(_), None) => bail!(installation::lost_master_key(dir)),
        (Some(canary), Some(key)) if opens_canary(&key, &canary) => Ok(()),
        (Some(_), Some(_)) => bail!(MasterKeyError::Other),
    }
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

fn remove_with_companions(path: &Path) -> Result<()> {
    for ending in ["", "-wal", "-shm"] {
        let path = with_ending(path, ending);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(e).with_context(|| format!("{} can't be removed", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Moves the database that is replaced, with what belongs to it, to `backups/`.
fn put_aside(dir: &DataDir, database: &Path, clock: &dyn Clock) -> Result<PathBuf> {
    let name = format!("replaced-{}.db", clock.now().to_string().replace(':', ""));
    let kept = dir.path().join("backups").join(name);
    if kept.exists() {
        bail!("{} is there already; try again in a second", kept.display());
    }
    for ending in COMPANIONS.iter().chain(&[""]) {
        let (from, to) = (with_ending(database, ending), with_ending(&kept, ending));
        match std::fs::rename(&from, &to) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(e).with_context(|| format!("{} can't be moved to {}", from.display(), to.display()));
            }
            _ => {}
        }
    }
    Ok(kept)
}
