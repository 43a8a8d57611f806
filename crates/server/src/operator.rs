//! The operator's commands: from what was typed to a [`Request`], to whoever may do it, to what is printed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nephos_model::{Clock, Entropy};
use serde_json::Value;

use crate::admin::{self, Kernel, NewImage, Request};
use crate::cli;
use crate::config::{Config, Loaded, Sources};
use crate::data_dir::{DataDir, Lock, Locked};
use crate::installation::{Installation, Purpose};
use crate::output::{self, Output};

/// How long a command waits for a server that starts or a command that ends.
const TURN_DEADLINE: Duration = Duration::from_secs(15);
/// Pause between looks.
const TURN_PAUSE: Duration = Duration::from_millis(50);

/// Reads the configuration for a command about the installation at `place`.
pub fn load(place: &cli::Place) -> Result<Loaded> {
    Ok(Loaded::read(&Sources::of_process(place.config.clone(), place.flags()))?)
}

/// Who does the work.
enum Turn {
    /// This process.
    Ours(Lock),
    /// The server answered.
    Answered(Result<Value, admin::Refusal>),
}

/// Does the request: by the server while one runs, else here.
pub async fn ask(
    config: &Config,
    dir: &DataDir,
    request: Request,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
) -> Result<Value> {
    let answer = match take_turn(dir, &request, &*clock).await? {
        Turn::Answered(answer) => answer,
        Turn::Ours(_lock) => {
            let installation = Installation::open(config, dir, clock, entropy, Purpose::Administer).await?;
            let answer = admin::perform::perform(&installation, request).await;
            installation.close().await;
            answer
        }
    };
    answer.map_err(|refusal| anyhow::anyhow!(refusal.message))
}

async fn take_turn(dir: &DataDir, request: &Request, clock: &dyn Clock) -> Result<Turn> {
    let start = clock.monotonic();
    loop {
        let pid = match dir.lock()? {
            Locked::Ours(lock) => return Ok(Turn::Ours(lock)),
            Locked::Theirs(pid) => pid,
        };
        let silent = match admin::socket::ask(dir.path(), request).await {
            Ok(answer) => return Ok(Turn::Answered(answer)),
            // Nobody listens yet: a server that starts, or another command.
            Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused) => e,
            Err(e) => {
                return Err(e).context(
                    "the server broke off; whether it did what was asked is not known: look before you ask again",
                );
            }
        };
        if clock.monotonic().saturating_sub(start) > TURN_DEADLINE {
            let pid = pid.map_or_else(|| "another process".to_owned(), |pid| format!("the process {pid}"));
            bail!("{pid} holds {} and does not answer ({silent}); wait for it, or end it", dir.path().display());
        }
        clock.sleep(TURN_PAUSE).await;
    }
}

/// The path as the server sees it, too.
fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{} is no path", path.display()))
}

/// The request for a new image: a manifest's values, those typed on top.
pub fn new_image(a: &cli::ImageAdd) -> Result<NewImage> {
    let file = absolute(&a.file)?;
    let mut new = if file.extension().is_some_and(|e| e == "toml") {
        admin::manifest::read(&file)?
    } else {
        let stem = file.file_stem().map(|s| s.to_string_lossy().to_lowercase()).unwrap_or_default();
        NewImage {
            file,
            name: stem,
            description: String::new(),
            checksum: None,
            min_memory_mib: 512,
            min_disk_gib: None,
            login_user: "root".to_owned(),
            kernel: None,
        }
    };
    if let Some(name) = &a.name {
        new.name.clone_from(name);
    }
    if let Some(description) = &a.description {
        new.description.clone_from(description);
    }
    if let Some(user) = &a.login_user {
        new.login_user.clone_from(user);
    }
    new.min_memory_mib = a.min_memory_mib.unwrap_or(new.min_memory_mib);
    new.min_disk_gib = a.min_disk_gib.or(new.min_disk_gib);
    new.checksum = a.checksum.clone().or(new.checksum);
    if let (Some(kernel), Some(initrd)) = (&a.kernel, &a.initrd) {
        new.kernel = Some(Kernel {
            file: absolute(kernel)?,
            checksum: None,
            initrd: absolute(initrd)?,
            initrd_checksum: None,
            command_line: a.command_line.clone(),
        });
    }
    Ok(new)
}

/// What an operator's command asks for: where, what, how to print.
pub fn request(command: &cli::Command) -> Result<Option<(cli::Place, Request, Output)>> {
    use cli::{Audit, Command, Console, Image, Incident, Mail, Plan, Prices, SigningKeys, Workspace};
    let named = |n: &cli::Init| (n.workspace.clone(), n.owner.clone(), n.plan.clone());
    Ok(Some(match command {
        Command::Init(a) => {
            let (workspace, owner, plan) = named(a);
            (a.place.clone(), Request::Init { workspace, owner, plan }, a.printed.output)
        }
        Command::Workspace(Workspace::Create(a)) => {
            let (workspace, owner, plan) = named(a);
            (a.place.clone(), Request::WorkspaceCreate { workspace, owner, plan }, a.printed.output)
        }
        Command::Workspace(Workspace::Suspend(a)) => {
            (a.place.clone(), Request::WorkspaceSuspend { workspace: a.workspace.clone() }, a.printed.output)
        }
        Command::Workspace(Workspace::Resume(a)) => {
            (a.place.clone(), Request::WorkspaceResume { workspace: a.workspace.clone() }, a.printed.output)
        }
        Command::Plan(Plan::List(a)) => (a.place.clone(), Request::PlanList, a.printed.output),
        Command::Plan(Plan::Show(a)) => (a.place.clone(), Request::PlanShow { plan: a.plan.clone() }, a.printed.output),
        Command::Plan(Plan::Set(a)) => {
            let (workspace, plan) = (a.workspace.clone(), a.plan.clone());
            (a.place.clone(), Request::WorkspacePlan { workspace, plan }, a.printed.output)
        }
        Command::SigningKeys(SigningKeys::List(a)) => (a.place.clone(), Request::SigningKeyList, a.printed.output),
        Command::SigningKeys(SigningKeys::Rotate(a)) => {
            (a.place.clone(), Request::SigningKeyRotate { withdraw: a.withdraw }, a.printed.output)
        }
        Command::Workspace(Workspace::List(a)) => (a.place.clone(), Request::WorkspaceList, a.printed.output),
        Command::Image(Image::Add(a)) => (a.place.clone(), Request::ImageAdd(new_image(a)?), a.printed.output),
        Command::Image(Image::List(a)) => (a.place.clone(), Request::ImageList, a.printed.output),
        Command::Image(Image::Remove(a)) => {
            (a.place.clone(), Request::ImageRemove { image: a.image.clone() }, a.printed.output)
        }
        Command::Incident(Incident::Open(a)) => {
            let (title, impact) = (a.title.clone(), a.impact.clone());
            let (regions, message) = (a.regions.clone(), a.message.clone());
            (a.place.clone(), Request::IncidentOpen { title, impact, regions, message }, a.printed.output)
        }
        Command::Incident(Incident::Update(a)) => {
            let (incident, status, message) = (a.incident.clone(), a.status.clone(), a.message.clone());
            (a.place.clone(), Request::IncidentUpdate { incident, status, message }, a.printed.output)
        }
        Command::Console(Console::Link(a)) => {
            (a.place.clone(), Request::ConsoleLink { email: a.email.clone() }, a.printed.output)
        }
        Command::Incident(Incident::List(a)) => (a.place.clone(), Request::IncidentList, a.printed.output),
        Command::Mail(Mail::List(a)) => (a.place.clone(), Request::MailList { limit: a.limit }, a.printed.output),
        Command::Audit(Audit::Verify(a)) => {
            (a.place.clone(), Request::AuditVerify { workspace: a.workspace.clone() }, a.printed.output)
        }
        Command::Audit(Audit::Export(a)) => {
            let (workspace, after) = (a.workspace.clone(), a.after.clone());
            (a.place.clone(), Request::AuditRead { workspace, sandbox: a.sandbox, after }, Output::Json)
        }
        Command::Prices(Prices::Check(a)) => {
            (a.place.clone(), Request::PricesCheck(admin::price::List::of_file(&a.file)?), a.printed.output)
        }
        Command::Prices(Prices::Install(a)) => {
            (a.place.clone(), Request::PricesInstall(admin::price::List::of_file(&a.file)?), a.printed.output)
        }
        Command::Prices(Prices::List(a)) => (a.place.clone(), Request::PricesList, a.printed.output),
        Command::Backup(a) => (a.place.clone(), Request::Backup { file: absolute(&a.file)? }, a.printed.output),
        _ => return Ok(None),
    }))
}

/// Does an operator's command and prints what came of it.
pub async fn run(
    place: &cli::Place,
    asked: Request,
    output: Output,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
) -> Result<()> {
    let loaded = load(place)?;
    let is_new = matches!(asked, Request::Init { .. } | Request::ImageAdd(_));
    let path = &loaded.config.data_dir;
    let dir = if is_new { DataDir::open_or_create(path)? } else { DataDir::open(path)? };
    let fields: &[&str] = match asked {
        Request::IncidentOpen { .. } | Request::IncidentUpdate { .. } | Request::IncidentList => {
            &["id", "title", "impact", "status", "created_at", "resolved_at"]
        }
        Request::AuditVerify { .. } => {
            &["workspace", "mode", "rows", "first_seq", "last_seq", "is_whole", "problem", "head"]
        }
        Request::MailList { .. } => {
            &["created_at", "recipient", "kind", "status", "attempts", "tried_again_at", "last_error"]
        }
        Request::PricesList => &["version", "valid_from", "installed_at"],
        Request::WorkspaceList => &["id", "name", "plan", "suspended_at", "created_at"],
        Request::PlanList => &[
            "name",
            "key_per_60_s",
            "workspace_per_600_s",
            "reads_per_second",
            "writes_per_second",
            "projects",
            "computes",
            "vcpus",
            "memory_mib",
            "disk_gib",
        ],
        Request::SigningKeyList | Request::SigningKeyRotate { .. } => &["id", "state", "signs_from", "created_at"],
        _ => &["id", "name", "boot", "min_memory_mib", "min_disk_gib", "login_user", "size_bytes"],
    };
    let after = match asked {
        Request::Init { .. } | Request::WorkspaceCreate { .. } => "Keep the keys: they are shown this once.",
        Request::Backup { .. } => {
            "Keep the master key (keys/master) with it, apart from this machine: without it sealed secrets can't be opened. Disks of computes and images are not in it."
        }
        _ => "",
    };
    if matches!(asked, Request::AuditRead { .. }) {
        return export(&loaded.config, &dir, asked, clock, entropy).await;
    }
    let value = ask(&loaded.config, &dir, asked, clock, entropy).await?;
    match (output, &value) {
        (Output::Json, value) => output::json(value),
        (Output::Table, Value::Array(rows)) => output::raw(&output::table(rows, fields)),
        (Output::Table, value) => output::raw(&output::record(value)),
    }
    if let Value::Array(rows) = &value
        && rows.iter().any(|row| row["is_whole"] == Value::Bool(false))
    {
        bail!("the audit log is not whole: what it should say is in the backup of before it was altered");
    }
    if output == Output::Table && !after.is_empty() {
        output::say(after);
    }
    Ok(())
}

/// Prints an audit log as JSON lines, part by part: what is printed is never held in memory as a whole.
async fn export(
    config: &Config,
    dir: &DataDir,
    mut asked: Request,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
) -> Result<()> {
    loop {
        let part = ask(config, dir, asked.clone(), Arc::clone(&clock), Arc::clone(&entropy)).await?;
        let entries = part["entries"].as_array().map(Vec::as_slice).unwrap_or_default();
        for entry in entries {
            output::line(&entry.to_string());
        }
        let last = entries.last().and_then(|entry| entry["id"].as_str()).map(str::to_owned);
        match (&mut asked, last) {
            (Request::AuditRead { after, .. }, Some(last)) if part["more"] == Value::Bool(true) => *after = Some(last),
            _ => return Ok(()),
        }
    }
}
