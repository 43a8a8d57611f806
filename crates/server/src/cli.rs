//! The command line: what can be typed. What it does is elsewhere: `serve`, `admin`, `client`, `doctor`.

#![allow(clippy::doc_markdown)] // these texts are printed by --help, where Markdown would be noise

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::client::command as api;
use crate::output::Output;

/// A self-hosted cloud in one program: the server, its administration, and a client of its API.
#[derive(Debug, Parser)]
#[command(name = "nephos", version, propagate_version = true, max_term_width = 110, arg_required_else_help = true)]
#[command(
    after_help = "Exit status: 0 done, 1 failed, 2 wrong usage or configuration (NEPHOS_URL); for API commands also \
3 credential (CLOUD_API_KEY missing or refused) or permission, 4 not found, 5 conflict, 6 quota, capacity or budget, 7 server not reachable, \
8 the operation failed, 9 still under way after --timeout."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server.
    Serve(Settings),
    /// Make the first workspace, once, and print its API keys.
    Init(Init),
    /// Administer workspaces (on the server's machine).
    #[command(subcommand)]
    Workspace(Workspace),
    /// Plans: what workspaces may do and have (on the server's machine).
    #[command(subcommand)]
    Plan(Plan),
    /// The keys that sign tokens (on the server's machine).
    #[command(subcommand)]
    SigningKeys(SigningKeys),
    /// Administer images (on the server's machine).
    #[command(subcommand)]
    Image(Image),
    /// The audit log: list it; on the server's machine, check that nobody altered it, or copy it out.
    #[command(subcommand)]
    Audit(Audit),
    /// Price lists: check, install and list them (on the server's machine).
    #[command(subcommand)]
    Prices(Prices),
    /// Tell users about trouble (on the server's machine).
    #[command(subcommand)]
    Incident(Incident),
    /// Letters to people: which were sent, wait or failed (on the server's machine).
    #[command(subcommand)]
    Mail(Mail),
    /// Let people into the console (on the server's machine).
    #[command(subcommand)]
    Console(Console),
    /// Look at the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Tell what this machine can do, and how to mend the rest.
    Doctor(Doctor),
    /// Copy the database to a file, also while the server runs.
    Backup(Backup),
    /// Put a copy of the database back, while no server runs.
    Restore(Restore),
    /// Projects.
    #[command(subcommand)]
    Projects(api::Projects),
    /// Environments of a project.
    #[command(subcommand)]
    Environments(api::Environments),
    /// Computes: make, look at, start, stop, log in.
    #[command(subcommand)]
    Computes(api::Computes),
    /// Operations: what is being done.
    #[command(subcommand)]
    Operations(api::Operations),
    /// API keys.
    #[command(subcommand)]
    Keys(api::Keys),
    /// Members of the workspace.
    #[command(subcommand)]
    Members(api::Members),
    /// Invitations into the workspace.
    #[command(subcommand)]
    Invitations(api::Invitations),
    /// Tokens: a key's rights for some minutes.
    #[command(subcommand)]
    Tokens(api::Tokens),
    /// SSH public keys.
    #[command(subcommand)]
    SshKeys(api::SshKeys),
    /// Images to boot from.
    #[command(subcommand)]
    Images(api::Catalogue),
    /// Sizes of computes.
    #[command(subcommand)]
    Sizes(api::Catalogue),
    /// Regions.
    #[command(subcommand)]
    Regions(api::Catalogue),
    /// Events: what changed, or what changes now (--follow).
    Events(Box<api::Events>),
    /// Webhooks: where events are sent, and how that went.
    #[command(subcommand)]
    Webhooks(api::Webhooks),
    /// Requests and compute time of a month.
    Usage(api::Usage),
    /// What computes used over time, and what requests were like.
    #[command(subcommand)]
    Telemetry(api::Telemetry),
    /// Invoices: what closed months came to.
    #[command(subcommand)]
    Invoices(api::Invoices),
    /// Budget alerts: who hears when a month costs much.
    #[command(subcommand)]
    BudgetAlerts(api::BudgetAlerts),
    /// Whom the API key belongs to and what it may do.
    Me(api::Me),
    /// Budgets and quotas of the plan, and what is left of them.
    Limits(api::Me),
    /// The sandbox of a test key: reset it, read and move its clock.
    #[command(subcommand)]
    Sandbox(api::Sandbox),
    /// Print completions of the command line for a shell.
    Completions(Completions),
}

/// Which installation is meant.
#[derive(Debug, Args, Clone, Default)]
pub struct Place {
    /// Configuration file (TOML) [default: DIR/nephos.toml or /etc/nephos/nephos.toml, when there is one].
    #[arg(long, value_name = "FILE", env = "NEPHOS_CONFIG")]
    pub config: Option<PathBuf>,
    /// Folder of database, keys, images and disks [default: /var/lib/nephos for root, else the user's data folder].
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// PostgreSQL address instead of the embedded SQLite.
    #[arg(long, value_name = "URL")]
    pub database: Option<String>,
    /// File of the master key [default: keys/master in the data folder].
    #[arg(long, value_name = "FILE")]
    pub master_key_file: Option<PathBuf>,
}

/// Everything that flags can set.
#[derive(Debug, Args, Clone, Default)]
pub struct Settings {
    /// Which installation.
    #[command(flatten)]
    pub place: Place,
    /// Address of the API [default: 127.0.0.1:7600].
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Address of metrics and readiness details, or off [default: loopback, one port above --listen].
    #[arg(long, value_name = "ADDR")]
    pub admin_listen: Option<String>,
    /// The address that clients use, such as https://cloud.example.com.
    #[arg(long, value_name = "URL")]
    pub origin: Option<String>,
    /// What runs the computes: auto, qemu or simulator.
    #[arg(long, value_name = "NAME")]
    pub driver: Option<String>,
    /// A proxy in front ends TLS.
    #[arg(long)]
    pub behind_proxy: bool,
    /// Allow a listener without TLS that others reach.
    #[arg(long)]
    pub insecure: bool,
    /// Let webhooks lead to private addresses and to http, for development.
    #[arg(long)]
    pub private_targets: bool,
    /// How log lines look: text or json.
    #[arg(long, value_name = "FORMAT")]
    pub log: Option<String>,
    /// From which severity on: error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
}

impl Place {
    /// The keys it sets.
    pub fn flags(&self) -> Vec<(&'static str, String)> {
        let path = |p: &Option<PathBuf>| p.as_ref().map(|p| p.to_string_lossy().into_owned());
        [
            ("data_dir", path(&self.data_dir)),
            ("database", self.database.clone()),
            ("master_key_file", path(&self.master_key_file)),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
        .collect()
    }
}

impl Settings {
    /// The keys it sets.
    pub fn flags(&self) -> Vec<(&'static str, String)> {
        let on = |flag: bool| flag.then(|| "true".to_owned());
        let mut flags = self.place.flags();
        flags.extend(
            [
                ("listen", self.listen.clone()),
                ("admin_listen", self.admin_listen.clone()),
                ("origin", self.origin.clone()),
                ("driver", self.driver.clone()),
                ("behind_proxy", on(self.behind_proxy)),
                ("insecure", on(self.insecure)),
                ("private_targets", on(self.private_targets)),
                ("log", self.log.clone()),
                ("log_level", self.log_level.clone()),
            ]
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?))),
        );
        flags
    }
}

/// How an administration command prints.
#[derive(Debug, Args, Clone, Copy, Default)]
pub struct Printed {
    /// How to print the result.
    #[arg(long, value_enum, default_value = "table")]
    pub output: Output,
}

/// The first workspace.
#[derive(Debug, Args)]
pub struct Init {
    #[command(flatten)]
    pub place: Place,
    /// Name of the workspace, for people.
    #[arg(long, value_name = "NAME")]
    pub workspace: String,
    /// E-mail address of its owner.
    #[arg(long, value_name = "EMAIL")]
    pub owner: String,
    /// Its plan: standard, partner or unlimited.
    #[arg(long, value_name = "PLAN", default_value = "standard")]
    pub plan: String,
    #[command(flatten)]
    pub printed: Printed,
}

/// Workspaces, as their operator sees them.
#[derive(Debug, Subcommand)]
pub enum Workspace {
    /// Make one more, and print its API keys.
    Create(Init),
    /// Refuse its requests and stop nothing else.
    Suspend(WorkspaceNamed),
    /// End its suspension.
    Resume(WorkspaceNamed),
    /// List them.
    List(WorkspaceList),
}

/// One workspace.
#[derive(Debug, Args)]
pub struct WorkspaceNamed {
    /// Its id or name.
    #[arg(value_name = "WORKSPACE")]
    pub workspace: String,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub printed: Printed,
}

/// Plans.
#[derive(Debug, Subcommand)]
pub enum Plan {
    /// List them.
    List(WorkspaceList),
    /// Look at one.
    Show(PlanNamed),
    /// Give a workspace another plan, from its next request on.
    Set(WorkspacePlan),
}

/// One plan.
#[derive(Debug, Args)]
pub struct PlanNamed {
    /// Its name.
    #[arg(value_name = "PLAN")]
    pub plan: String,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub printed: Printed,
}

/// Another plan.
#[derive(Debug, Args)]
pub struct WorkspacePlan {
    /// The workspace's id or name.
    #[arg(value_name = "WORKSPACE")]
    pub workspace: String,
    /// The plan: standard, partner, unlimited, or one of the configuration.
    #[arg(value_name = "PLAN")]
    pub plan: String,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub printed: Printed,
}

/// The audit log.
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// List it, the newest row first (with an API key).
    List(api::AuditList),
    /// Check row by row (on the server's machine) that nothing was altered, removed or moved. Fails when something was.
    Verify(AuditVerify),
    /// Print it as JSON lines, the oldest row first (on the server's machine).
    Export(AuditExport),
}

/// A check.
#[derive(Debug, Args)]
pub struct AuditVerify {
    /// Only the logs of this workspace, by its id or name.
    #[arg(long, value_name = "WORKSPACE")]
    pub workspace: Option<String>,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub printed: Printed,
}

/// A copy.
#[derive(Debug, Args)]
pub struct AuditExport {
    /// The workspace's id or name; without one it is the installation's own log, which counts requests of nobody.
    #[arg(long, value_name = "WORKSPACE")]
    pub workspace: Option<String>,
    /// The log of the workspace's sandbox.
    #[arg(long, requires = "workspace")]
    pub sandbox: bool,
    /// Only rows after this one, by its id: where the last copy ended.
    #[arg(long, value_name = "ID", value_parser = audit_id)]
    pub after: Option<String>,
    #[command(flatten)]
    pub place: Place,
}

fn audit_id(text: &str) -> Result<String, String> {
    let parsed: Result<nephos_model::id::AuditId, _> = text.parse();
    parsed.map(|id| id.to_string()).map_err(|error| error.to_string())
}

/// Price lists: versions, of which each is valid from a second to come. What was metered before it keeps its price.
#[derive(Debug, Subcommand)]
pub enum Prices {
    /// Tell whether a list could be installed, and what is wrong with it. Changes nothing.
    Check(PricesOf),
    /// Install a list. It can't be changed afterwards, only followed by another.
    Install(PricesOf),
    /// List the versions that there are.
    List(WorkspaceList),
}

/// A price list.
#[derive(Debug, Args)]
pub struct PricesOf {
    /// The file: TOML with currency, valid_from and a table for each size.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub printed: Printed,
}

/// The keys that sign tokens.
#[derive(Debug, Subcommand)]
pub enum SigningKeys {
    /// List them.
    List(WorkspaceList),
    /// Make the next one now; it signs after it has been published for ten minutes, and no valid token is refused.
    Rotate(SigningKeyRotate),
}

/// The next key.
#[derive(Debug, Args)]
pub struct SigningKeyRotate {
    /// Withdraw the earlier keys at once, and with them every token that there is: for a key that others may know.
    #[arg(long)]
    pub withdraw: bool,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub printed: Printed,
}

/// All workspaces.
#[derive(Debug, Args)]
pub struct WorkspaceList {
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub printed: Printed,
}

/// The console, as its operator sees it.
#[derive(Debug, Subcommand)]
pub enum Console {
    /// Make a link that signs a person in, once and within 24 hours.
    Link(ConsoleLink),
}

/// A link into the console.
#[derive(Debug, Args)]
pub struct ConsoleLink {
    /// The person's e-mail address.
    #[arg(value_name = "EMAIL")]
    pub email: String,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub printed: Printed,
}

/// Trouble that the operator tells about, at /status and in the documentation.
#[derive(Debug, Subcommand)]
pub enum Incident {
    /// Tell about trouble.
    Open(IncidentOpen),
    /// Tell more about it, or that it is over.
    Update(IncidentUpdate),
    /// List what is told now.
    List(IncidentList),
}

/// New trouble.
#[derive(Debug, Args)]
pub struct IncidentOpen {
    /// What it is, in a sentence.
    #[arg(value_name = "TITLE")]
    pub title: String,
    /// What is known, and what users can do.
    #[arg(long, value_name = "TEXT")]
    pub message: String,
    /// How bad it is.
    #[arg(long, value_name = "IMPACT", default_value = "minor", value_parser = nephos_control::status::IMPACTS)]
    pub impact: String,
    /// A region that it is about; without any it is about all. May be repeated.
    #[arg(long = "region", value_name = "REGION")]
    pub regions: Vec<String>,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub printed: Printed,
}

/// News of trouble.
#[derive(Debug, Args)]
pub struct IncidentUpdate {
    /// Its id.
    #[arg(value_name = "INCIDENT")]
    pub incident: String,
    /// How far it is; resolved ends it.
    #[arg(long, value_name = "STATUS", value_parser = nephos_control::status::STATES)]
    pub status: String,
    /// What is known.
    #[arg(long, value_name = "TEXT")]
    pub message: String,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub printed: Printed,
}

/// All trouble that is told of.
#[derive(Debug, Args)]
pub struct IncidentList {
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub printed: Printed,
}

/// Letters, as their operator sees them: never what they say.
#[derive(Debug, Subcommand)]
pub enum Mail {
    /// List the newest.
    List(MailList),
}

/// The newest letters.
#[derive(Debug, Args)]
pub struct MailList {
    /// How many at most.
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub limit: u32,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub printed: Printed,
}

/// Images, as their operator sees them.
#[derive(Debug, Subcommand)]
pub enum Image {
    /// Add a qcow2 file as an image; the file is copied.
    Add(ImageAdd),
    /// List them.
    List(WorkspaceList),
    /// Remove one; computes that were made from it keep their disks and boot as before.
    Remove(ImageRemove),
}

/// A new image.
#[derive(Debug, Args)]
pub struct ImageAdd {
    /// The disk, a qcow2 file without backing file; or a manifest (.toml) that scripts/image wrote, which says the rest.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The name by which it is asked for [default: the manifest's, or the file's without ending].
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// A sentence for people.
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    /// SHA-256 that the file must have, hexadecimal.
    #[arg(long, value_name = "SHA256")]
    pub checksum: Option<String>,
    /// Least memory to boot it, in MiB [default: the manifest's, or 512].
    #[arg(long, value_name = "MIB")]
    pub min_memory_mib: Option<u32>,
    /// Least root disk to hold it, in GiB [default: the disk's own size].
    #[arg(long, value_name = "GIB")]
    pub min_disk_gib: Option<u32>,
    /// The user to log in as [default: the manifest's, or root].
    #[arg(long, value_name = "USER")]
    pub login_user: Option<String>,
    /// A kernel that the hypervisor loads, instead of the disk's own boot loader.
    #[arg(long, value_name = "FILE", requires = "initrd")]
    pub kernel: Option<PathBuf>,
    /// The kernel's initial RAM disk.
    #[arg(long, value_name = "FILE", requires = "kernel")]
    pub initrd: Option<PathBuf>,
    /// The kernel's command line.
    #[arg(long, value_name = "TEXT", requires = "kernel", default_value = "", hide_default_value = true)]
    pub command_line: String,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub printed: Printed,
}

/// An image to remove.
#[derive(Debug, Args)]
pub struct ImageRemove {
    /// Its name or id.
    #[arg(value_name = "IMAGE")]
    pub image: String,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub printed: Printed,
}

/// The configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check it and print the effective values, secrets hidden, each with where it was set.
    Check(Box<Settings>),
    /// List every key, what it takes and what it is for.
    Keys,
}

/// What this machine can do.
#[derive(Debug, Args)]
pub struct Doctor {
    #[command(flatten)]
    pub settings: Settings,
    #[command(flatten)]
    pub printed: Printed,
}

/// A copy of the database.
#[derive(Debug, Args)]
pub struct Backup {
    /// The file to write; it must not be there yet.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub printed: Printed,
}

/// A copy to put back.
#[derive(Debug, Args)]
pub struct Restore {
    /// The file that `nephos backup` wrote.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Replace the database there is; a copy of it stays in backups/.
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub printed: Printed,
}

/// Completions.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell.
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// The URL of a server on this machine with this address.
pub fn local_url(address: SocketAddr) -> String {
    format!("http://{address}")
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_become_keys() {
        let line =
            ["nephos", "serve", "--data-dir", "/d", "--listen", "127.0.0.1:0", "--driver", "simulator", "--insecure"];
        let Command::Serve(settings) = Cli::try_parse_from(line).unwrap().command else { panic!("serve") };
        assert_eq!(
            settings.flags(),
            [
                ("data_dir", "/d".to_owned()),
                ("listen", "127.0.0.1:0".to_owned()),
                ("driver", "simulator".to_owned()),
                ("insecure", "true".to_owned()),
            ]
        );
    }

    #[test]
    fn what_scripts_rely_on_parses() {
        for line in [
            "nephos init --data-dir d --workspace Acme --owner a@example.com --plan unlimited --output json",
            "nephos workspace list --output json",
            "nephos image add f.qcow2 --name small --kernel k --initrd i --command-line console=ttyS0",
            "nephos config check --config x.toml",
            "nephos backup --data-dir d copy.db",
            "nephos restore copy.db --force",
            "nephos doctor --output json",
            "nephos computes create web-1 --env prod --project shop --size nano --label tier=web --no-wait --output json",
            "nephos computes ssh web-1 -- uname -a",
            "nephos keys rotate key_x --grace-seconds 60",
            "nephos ssh-keys create laptop --file k.pub",
            "nephos usage --month 2026-03",
            "nephos computes metrics web-1 --range 24h --step 15m --output json",
            "nephos telemetry requests --by api_key --operation compute.create --of-key key_x",
            "nephos telemetry computes --by region --from 2026-03-01T00:00:00Z",
            "nephos telemetry export",
            "nephos mail list --limit 10",
            "nephos me",
            "nephos limits --output json",
            "nephos tokens create --scope compute:read --expires-in 60",
            "nephos plan list",
            "nephos plan show standard",
            "nephos plan set acme partner",
            "nephos signing-keys list --output json",
            "nephos signing-keys rotate --withdraw",
        ] {
            Cli::try_parse_from(line.split(' ')).unwrap_or_else(|e| panic!("{line}: {e}"));
        }
        for line in ["nephos image add f --name x --kernel k", "nephos init --owner x", "nephos computs list"] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
