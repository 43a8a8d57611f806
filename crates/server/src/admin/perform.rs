//! What the operator's requests do to an installation. One function, whoever calls it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::str::FromStr as _;

use nephos_control::audit_log::{Checked, EXPORT_ENTRIES_MAX, Order, Part};
use nephos_control::install::Installed;
use nephos_control::plan_limits::Limits;
use nephos_control::signing::{Earlier, PublishedKey};
use nephos_control::view::{AuditEntryView, IncidentView, WorkspaceView, hex};
use nephos_driver::qemu::Format;
use nephos_model::audit;
use nephos_model::id::ImageId;
use nephos_model::image::{Boot, Image};
use nephos_model::name::Hostname;
use nephos_model::page::{Page, Start};
use nephos_model::price::PriceList;
use nephos_model::tenant::Mode;
use nephos_model::workspace::Workspace;
use nephos_model::{Fault, Timestamp};
use nephos_store::mail::Told;
use serde_json::{Value, json};

use super::{NewImage, Refusal, Request};
use crate::config::named_limits;
use crate::installation::{Installation, partial_copy};
use crate::output::chain;

/// Items of a page when everything is listed.
const PAGE_ITEMS: u32 = 100;
/// Characters of a user's name at most, as Linux has it.
const LOGIN_CHARS_MAX: usize = 32;
/// Characters of a kernel's command line at most.
const COMMAND_LINE_CHARS_MAX: usize = 1_024;
/// Characters of a description at most.
const DESCRIPTION_CHARS_MAX: usize = 200;

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        let mut message = fault.message.clone();
        for detail in fault.details.iter().filter(|d| d.message != fault.message) {
            message.push_str(if message.ends_with('.') { " " } else { "; " });
            message.push_str(&detail.message);
        }
        // The operator is the one who reads the log: the cause is told here as well.
        if let Some(cause) = &fault.cause {
            message = format!("{message} ({cause})");
        }
        Self::new(fault.code.snake(), message)
    }
}

impl From<nephos_store::StoreError> for Refusal {
    fn from(error: nephos_store::StoreError) -> Self {
        Self::new("service_unavailable", error.to_string())
    }
}

/// Does what is asked.
pub async fn perform(on: &Installation, request: Request) -> Result<Value, Refusal> {
    let cloud = &on.cloud;
    match request {
        Request::Init { workspace, owner, plan } => {
            let made = cloud.init(&workspace, &owner, &plan).await?;
            Ok(keys_of(&made))
        }
        Request::WorkspaceCreate { workspace, owner, plan } => {
            let made = cloud.create_workspace(&workspace, &owner, &plan).await?;
            Ok(keys_of(&made))
        }
        Request::WorkspaceSuspend { workspace } => Ok(shown_workspace(&cloud.suspend_workspace(&workspace).await?)),
        Request::WorkspaceResume { workspace } => Ok(shown_workspace(&cloud.resume_workspace(&workspace).await?)),
        Request::WorkspacePlan { workspace, plan } => Ok(shown_workspace(&cloud.set_plan(&workspace, &plan).await?)),
        Request::WorkspaceList => Ok(Value::Array(all_workspaces(on).await?.iter().map(shown_workspace).collect())),
        Request::PlanList => {
            let settings = cloud.settings();
            let names = settings.plan_names();
            Ok(Value::Array(names.iter().filter_map(|name| settings.plan(name)).map(|p| shown_plan(&p)).collect()))
        }
        Request::PlanShow { plan } => {
            let settings = cloud.settings();
            let unknown = || {
                let known = settings.plan_names().join(", ");
                Refusal::new("resource_not_found", format!("there is no plan {plan:?}; there are: {known}"))
            };
            settings.plan(&plan).map(|plan| shown_plan(&plan)).ok_or_else(unknown)
        }
        Request::ConsoleLink { email } => {
            let link = cloud.operator_sign_in_link(&email).await?;
            Ok(json!({"console_url": link.url, "expires_at": link.expires_at.to_string()}))
        }
        Request::SigningKeyList => Ok(shown_signing_keys(&cloud.published_keys().await?)),
        Request::SigningKeyRotate { withdraw } => {
            let earlier = if withdraw { Earlier::Go } else { Earlier::Stay };
            Ok(shown_signing_keys(&cloud.rotate_signing_keys(earlier).await?))
        }
        Request::ImageAdd(new) => add_image(on, new).await,
        Request::ImageList => Ok(Value::Array(all_images(on).await?.iter().map(shown).collect())),
        Request::ImageRemove { image } => remove_image(on, &image).await,
        Request::IncidentOpen { title, impact, regions, message } => {
            Ok(told(&cloud.open_incident(&title, &impact, &regions, &message).await?))
        }
        Request::IncidentUpdate { incident, status, message } => {
            Ok(told(&cloud.update_incident(&incident, &status, &message).await?))
        }
        Request::IncidentList => Ok(Value::Array(cloud.incidents().await?.iter().map(told).collect())),
        Request::MailList { limit } => Ok(Value::Array(cloud.mails(limit).await?.iter().map(shown_mail).collect())),
        Request::AuditVerify { workspace } => {
            let checked = cloud.verify_audit_logs(workspace.as_deref()).await?;
            Ok(Value::Array(checked.iter().map(shown_check).collect()))
        }
        Request::AuditRead { workspace, sandbox, after } => {
            let mode = if sandbox { Mode::Test } else { Mode::Live };
            let after = after.as_deref().and_then(|id| id.parse().ok());
            let part = Part { order: Order::Oldest, after, offset: 0, limit: EXPORT_ENTRIES_MAX };
            let listed = cloud.audit_log_of(workspace.as_deref(), mode, &part).await?;
            let rows = listed.items.iter().map(|entry| serde_json::to_value(AuditEntryView::from(entry)));
            Ok(json!({"entries": rows.filter_map(Result::ok).collect::<Vec<_>>(), "more": listed.more}))
        }
        Request::PricesCheck(list) => {
            let new = list.read().map_err(|why| Refusal::new("bad_request", why))?;
            cloud.check_prices(&new)?;
            Ok(json!({"valid_from": new.valid_from.to_string(), "sizes": new.sizes.len(), "is_fine": true}))
        }
        Request::PricesInstall(list) => {
            let new = list.read().map_err(|why| Refusal::new("bad_request", why))?;
            Ok(shown_prices(&cloud.install_prices(new).await?))
        }
        Request::PricesList => Ok(Value::Array(cloud.price_lists().await?.lists().iter().map(shown_prices).collect())),
        Request::Backup { file } => backup(on, &file).await,
        Request::Status => {
            let ready = cloud.store().ping().await.is_ok();
            let page = Page { start: Start::Number(1), limit: 1 };
            let images = if ready { cloud.store().images(None, &page).await?.total } else { 0 };
            Ok(json!({"pid": std::process::id(), "version": env!("CARGO_PKG_VERSION"), "ready": ready,
                "database": on.database, "images": images}))
        }
    }
}

fn told(incident: &IncidentView) -> Value {
    // Texts and lists of texts, which always serialize.
    serde_json::to_value(incident).unwrap_or_default()
}

fn shown_prices(list: &PriceList) -> Value {
    let sizes = list.sizes.iter().map(|(name, price)| {
        let (running, stopped) = (price.running_microunits_per_hour, price.stopped_microunits_per_hour);
        (name.clone(), json!({"running_microunits_per_hour": running, "stopped_microunits_per_hour": stopped}))
    });
    json!({"version": list.version, "valid_from": Timestamp::from_secs(list.valid_from_s).to_string(),
        "installed_at": list.installed_at.to_string(), "sizes": Value::Object(sizes.collect())})
}

fn shown_check(checked: &Checked) -> Value {
    let verdict = &checked.verdict;
    let problem = verdict.fault.map(|fault| match fault {
        audit::Fault::Missing { seq } => format!("row {seq} is missing"),
        audit::Fault::Altered { seq } => format!("row {seq} is not the one that was written"),
    });
    json!({"workspace": checked.workspace, "mode": checked.mode.map(Mode::as_str), "rows": verdict.rows,
        "first_seq": verdict.first_seq, "last_seq": verdict.last_seq, "head": hex(&verdict.head),
        "is_whole": problem.is_none(), "problem": problem})
}

fn shown_plan(plan: &Limits) -> Value {
    let limits = named_limits(plan).into_iter().map(|(name, limit)| (name.to_owned(), json!(limit)));
    Value::Object(std::iter::once(("name".to_owned(), json!(plan.plan))).chain(limits).collect())
}

fn shown_signing_keys(keys: &[PublishedKey]) -> Value {
    let shown = |key: &PublishedKey| {
        json!({"id": key.id, "state": key.state, "signs_from": key.signs_from.to_string(),
            "created_at": key.created_at.to_string()})
    };
    Value::Array(keys.iter().map(shown).collect())
}

fn keys_of(made: &Installed) -> Value {
    json!({"workspace_id": made.workspace_id.to_string(), "live_key": made.live_key.expose(),
        "test_key": made.test_key.expose(), "console_url": made.console_url})
}

fn shown(image: &Image) -> Value {
    json!({"id": image.id.to_string(), "name": image.name, "description": image.description, "checksum": image.checksum,
        "size_bytes": image.size_bytes, "min_memory_mib": image.min_memory_mib, "min_disk_gib": image.min_disk_gib,
        "login_user": image.login_user, "boot": match image.boot { Boot::Disk => "disk", Boot::Kernel { .. } => "kernel" },
        "created_at": image.created_at.to_string()})
}

/// The page after an item, or the first.
fn page_after(last: Option<String>) -> Page {
    Page { start: last.map_or(Start::Number(1), Start::After), limit: PAGE_ITEMS }
}

async fn all_images(on: &Installation) -> Result<Vec<Image>, Refusal> {
    let mut images: Vec<Image> = Vec::new();
    loop {
        let page = page_after(images.last().map(|image| image.id.to_string()));
        let listed = on.cloud.store().images(None, &page).await?;
        let is_last = !listed.more || listed.items.is_empty();
        images.extend(listed.items);
        if is_last {
            return Ok(images);
        }
    }
}

async fn all_workspaces(on: &Installation) -> Result<Vec<Workspace>, Refusal> {
    let mut workspaces: Vec<Workspace> = Vec::new();
    loop {
        let page = page_after(workspaces.last().map(|workspace| workspace.id.to_string()));
        let listed = on.cloud.list_workspaces(&page).await?;
        let is_last = !listed.more || listed.items.is_empty();
        workspaces.extend(listed.items);
        if is_last {
            return Ok(workspaces);
        }
    }
}

fn shown_mail(letter: &Told) -> Value {
    let status = match (letter.ended_at, &letter.last_error) {
        (None, _) => "waiting",
        (Some(_), None) => "sent",
        (Some(_), Some(_)) => "failed",
    };
    json!({
        "id": letter.id,
        "recipient": letter.recipient,
        "kind": letter.kind,
        "status": status,
        "attempts": letter.attempts,
        "created_at": letter.created_at.to_string(),
        "ended_at": letter.ended_at.map(|at| at.to_string()),
        "tried_again_at": letter.ended_at.is_none().then(|| letter.due_at.to_string()),
        "last_error": letter.last_error,
    })
}

fn shown_workspace(workspace: &Workspace) -> Value {
    serde_json::to_value(WorkspaceView::from(workspace)).unwrap_or_default()
}

fn check(new: &NewImage) -> Result<(), Refusal> {
    let bad = |what: String| Err(Refusal::new("bad_request", what));
    if let Err(e) = Hostname::from_str(&new.name) {
        return bad(format!("the image's name {:?} {e}; choose one with --name", new.name));
    }
    let login = &new.login_user;
    let is_login = !login.is_empty()
        && login.len() <= LOGIN_CHARS_MAX
        && !login.starts_with('-')
        && login.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
    if !is_login {
        return bad(format!("{login:?} is no name of a user; give one with --login-user"));
    }
    let printable = |text: &str, max: usize| text.chars().count() <= max && !text.chars().any(char::is_control);
    if !printable(&new.description, DESCRIPTION_CHARS_MAX) {
        return bad(format!("the description must be one line of at most {DESCRIPTION_CHARS_MAX} characters"));
    }
    if new.kernel.as_ref().is_some_and(|k| !printable(&k.command_line, COMMAND_LINE_CHARS_MAX)) {
        return bad(format!(
            "the kernel's command line must be one line of at most {COMMAND_LINE_CHARS_MAX} characters"
        ));
    }
    if new.min_memory_mib == 0 {
        return bad("the least memory must be at least 1 MiB".to_owned());
    }
    Ok(())
}

fn same_checksum(file: &Path, expected: Option<&str>, found: &str) -> Result<(), Refusal> {
    match expected {
        Some(expected) if !expected.eq_ignore_ascii_case(found) => Err(Refusal::new(
            "bad_request",
            format!(
                "{} has the checksum {found}, not {expected}: it is damaged or another file; fetch or make it anew",
                file.display()
            ),
        )),
        _ => Ok(()),
    }
}

async fn add_image(on: &Installation, new: NewImage) -> Result<Value, Refusal> {
    check(&new)?;
    if on.cloud.store().image_named(&new.name).await?.is_some() {
        let message =
            format!("there is an image {} already; remove it first, or choose another name with --name", new.name);
        return Err(Refusal::new("conflict", message));
    }
    // Files first, the row last: a row never names a file that is not there.
    let mut stored = Vec::new();
    let result = store_files(on, &new, &mut stored).await;
    if result.is_err() {
        forget_unused(on, &stored).await?;
    }
    result
}

async fn store_files(on: &Installation, new: &NewImage, stored: &mut Vec<String>) -> Result<Value, Refusal> {
    let refused = |e: nephos_driver::qemu::images::ImageError| Refusal::new("bad_request", chain(&e));
    let (clock, entropy) = (on.cloud.clock(), on.cloud.entropy());
    let facts = on.images.add_disk(&new.file, Format::Qcow2, clock, entropy).await.map_err(refused)?;
    stored.push(facts.checksum.clone());
    same_checksum(&new.file, new.checksum.as_deref(), &facts.checksum)?;
    if new.min_disk_gib.is_some_and(|gib| gib < facts.min_disk_gib) {
        return Err(Refusal::new(
            "bad_request",
            format!(
                "{} needs a root disk of at least {} GiB; --min-disk-gib can't be less",
                new.file.display(),
                facts.min_disk_gib
            ),
        ));
    }
    let boot = match &new.kernel {
        None => Boot::Disk,
        Some(files) => {
            let kernel = on.images.add_boot_file(&files.file, entropy).await.map_err(refused)?;
            stored.push(kernel.clone());
            same_checksum(&files.file, files.checksum.as_deref(), &kernel)?;
            let initrd = on.images.add_boot_file(&files.initrd, entropy).await.map_err(refused)?;
            stored.push(initrd.clone());
            same_checksum(&files.initrd, files.initrd_checksum.as_deref(), &initrd)?;
            Boot::Kernel { kernel, initrd, command_line: files.command_line.clone() }
        }
    };
    let image = Image {
        id: on.cloud.id::<ImageId>(),
        name: new.name.clone(),
        description: new.description.clone(),
        checksum: facts.checksum,
        size_bytes: facts.size_bytes,
        min_memory_mib: new.min_memory_mib,
        min_disk_gib: new.min_disk_gib.unwrap_or(facts.min_disk_gib),
        login_user: new.login_user.clone(),
        boot,
        created_at: clock.now(),
    };
    on.cloud.add_image(&image).await?;
    Ok(shown(&image))
}

/// Removes stored files that no image names. Images of equal content share theirs.
async fn forget_unused(on: &Installation, checksums: &[String]) -> Result<(), Refusal> {
    let images = all_images(on).await?;
    let names = |image: &Image, checksum: &str| {
        image.checksum == checksum
            || matches!(&image.boot, Boot::Kernel { kernel, initrd, .. } if kernel == checksum || initrd == checksum)
    };
    for checksum in checksums {
        if !images.iter().any(|image| names(image, checksum))
            && let Err(e) = on.images.remove(checksum)
        {
            tracing::warn!(checksum, error = %e, "a file that no image uses could not be removed");
        }
    }
    Ok(())
}

async fn remove_image(on: &Installation, wanted: &str) -> Result<Value, Refusal> {
    let store = on.cloud.store();
    let found = match wanted.parse::<ImageId>() {
        Ok(id) => store.image(id).await?,
        Err(_) => store.image_named(wanted).await?,
    };
    let Some(image) = found else {
        return Err(Refusal::new(
            "resource_not_found",
            format!("there is no image {wanted}; `nephos image list` shows those there are"),
        ));
    };
    on.cloud.remove_image(image.id).await?;
    let mut checksums = vec![image.checksum.clone()];
    if let Boot::Kernel { kernel, initrd, .. } = &image.boot {
        checksums.extend([kernel.clone(), initrd.clone()]);
    }
    forget_unused(on, &checksums).await?;
    Ok(json!({"deleted": true, "id": image.id.to_string()}))
}

/// Copies the database. The copy is made where nobody else looks, and leaves as a file for its owner only.
async fn backup(on: &Installation, file: &Path) -> Result<Value, Refusal> {
    if file.exists() {
        let message = format!("{} is there already; choose another name, or remove it first", file.display());
        return Err(Refusal::new("conflict", message));
    }
    let partial = partial_copy(&on.backups_dir, on.cloud.entropy());
    let copied = on.cloud.store().backup_to(&partial).await.map_err(|e| Refusal::new("bad_request", chain(&e)));
    let (from, to) = (partial.clone(), file.to_owned());
    let handed = match copied {
        Err(refusal) => Err(refusal),
        Ok(()) => match tokio::task::spawn_blocking(move || hand_over(&from, &to)).await {
            Ok(Ok(bytes)) => Ok(json!({"file": file, "size_bytes": bytes})),
            Ok(Err(e)) => Err(Refusal::new("bad_request", format!("{} can't be written: {e}", file.display()))),
            Err(e) => Err(Refusal::new("internal_server_error", e.to_string())),
        },
    };
    // Not there is as good; the folder is private in any case.
    _ = std::fs::remove_file(&partial);
    handed
}

fn hand_over(from: &Path, to: &Path) -> io::Result<u64> {
    let mut source = File::open(from)?;
    let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let copied = io::copy(&mut source, &mut target).and_then(|bytes| target.sync_all().map(|()| bytes));
    if copied.is_err() {
        // Half a copy would look like one.
        _ = std::fs::remove_file(to);
    }
    copied
}
