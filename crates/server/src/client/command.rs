//! What can be typed about the API's resources.

#![allow(clippy::doc_markdown)] // these texts are printed by --help, where Markdown would be noise

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::output::Output;

/// Seconds that a command waits for an operation when `--timeout` is not given.
pub const TIMEOUT_S_DEFAULT: u64 = 600;

/// Which server, and how to print.
#[derive(Debug, Args, Clone)]
pub struct Server {
    /// The server.
    #[arg(long, value_name = "URL", env = "NEPHOS_URL", default_value = "http://127.0.0.1:7600")]
    pub url: String,
    /// The API key; better given by the variable, which other users of the machine can't see.
    #[arg(long = "api-key", value_name = "KEY", env = "CLOUD_API_KEY", hide_env_values = true)]
    pub key: Option<String>,
    /// How to print the result.
    #[arg(long, value_enum, default_value = "table")]
    pub output: Output,
}

/// Whether to wait for an operation.
#[derive(Debug, Args, Clone, Copy)]
pub struct Waiting {
    /// Do not wait for the operation.
    #[arg(long)]
    pub no_wait: bool,
    /// Wait for at most so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = TIMEOUT_S_DEFAULT, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,
}

/// Which project and environment.
#[derive(Debug, Args, Clone, Default)]
pub struct Within {
    /// Name or id of the project.
    #[arg(long, value_name = "PROJECT")]
    pub project: Option<String>,
    /// Name or id of the environment.
    #[arg(long, value_name = "ENVIRONMENT")]
    pub env: Option<String>,
}

/// How much of a list.
#[derive(Debug, Args, Clone, Copy)]
pub struct Length {
    /// Print at most so many, the newest first.
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
}

/// One thing.
#[derive(Debug, Args)]
pub struct One {
    /// Its name or id.
    pub name: String,
    #[command(flatten)]
    pub within: Within,
    #[command(flatten)]
    pub server: Server,
}

/// Something to do to one compute.
#[derive(Debug, Args)]
pub struct Act {
    /// Its name or id.
    pub name: String,
    #[command(flatten)]
    pub within: Within,
    #[command(flatten)]
    pub waiting: Waiting,
    #[command(flatten)]
    pub server: Server,
}

/// A list.
#[derive(Debug, Args)]
pub struct All {
    #[command(flatten)]
    pub within: Within,
    #[command(flatten)]
    pub length: Length,
    #[command(flatten)]
    pub server: Server,
}

/// `nephos projects`
#[derive(Debug, Subcommand)]
#[allow(missing_docs)]
pub enum Projects {
    /// List them.
    List(Plain),
    /// Look at one.
    Get(One),
    /// Make one.
    Create(Create),
    /// Rename one.
    Update(Update),
    /// Delete one.
    Delete(Delete),
}

/// `nephos environments`
#[derive(Debug, Subcommand)]
#[allow(missing_docs)]
pub enum Environments {
    /// List those of a project.
    List(All),
    /// Look at one.
    Get(One),
    /// Make one in a project.
    Create(Create),
    /// Rename one.
    Update(Update),
    /// Delete one.
    Delete(Delete),
}

/// A list of the whole workspace.
#[derive(Debug, Args)]
pub struct Plain {
    #[command(flatten)]
    pub length: Length,
    #[command(flatten)]
    pub server: Server,
}

/// A new thing that has only a name.
#[derive(Debug, Args)]
pub struct Create {
    /// Its name.
    pub name: String,
    /// Name or id of the project it belongs to, for environments.
    #[arg(long, value_name = "PROJECT")]
    pub project: Option<String>,
    #[command(flatten)]
    pub server: Server,
}

/// A new name.
#[derive(Debug, Args)]
pub struct Update {
    /// Its name or id.
    pub name: String,
    /// The new name.
    #[arg(long = "name", value_name = "NAME")]
    pub new_name: String,
    #[command(flatten)]
    pub within: Within,
    #[command(flatten)]
    pub server: Server,
}

/// A removal.
#[derive(Debug, Args)]
pub struct Delete {
    /// Its name or id.
    pub name: String,
    /// Delete what it holds, too.
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub within: Within,
    #[command(flatten)]
    pub waiting: Waiting,
    #[command(flatten)]
    pub server: Server,
}

/// `nephos computes`
#[derive(Debug, Subcommand)]
#[allow(missing_docs)]
pub enum Computes {
    /// List them.
    List(ComputeList),
    /// Look at one.
    Get(One),
    /// Make one and wait until it runs.
    Create(Box<ComputeCreate>),
    /// Change name, labels or protection.
    Update(ComputeUpdate),
    /// Delete one, with its disk.
    Delete(Act),
    /// Boot it.
    Start(Act),
    /// Shut it down; its disk stays.
    Stop(Act),
    /// Shut it down and boot it again.
    Reboot(Act),
    /// Give it another size; one that runs is shut down for it.
    Resize(Resize),
    /// Throw its disk away and boot it from a fresh one.
    Rebuild(Rebuild),
    /// Print the last output of its serial console, or use it.
    Console(Console),
    /// What it used over time.
    Metrics(Metrics),
    /// Log in, or run a command there. The host key is the one the API names.
    Ssh(Ssh),
}

/// A serial console.
#[derive(Debug, Args)]
pub struct Console {
    /// Name or id of the compute.
    pub name: String,
    /// Use it: what you type goes to the guest and what the guest writes to your terminal, as it is. Ctrl-] leaves. What is
    /// not a terminal is sent as it comes, and two seconds after its end without output the command is done.
    #[arg(long)]
    pub attach: bool,
    #[command(flatten)]
    pub within: Within,
    #[command(flatten)]
    pub server: Server,
}

/// Another size.
#[derive(Debug, Args)]
pub struct Resize {
    /// Name or id of the compute.
    pub name: String,
    /// The size: a name of `nephos sizes list`, with at least as much disk.
    #[arg(long, value_name = "SIZE")]
    pub size: String,
    /// Check everything, say the price, change nothing.
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub within: Within,
    #[command(flatten)]
    pub waiting: Waiting,
    #[command(flatten)]
    pub server: Server,
}

/// A fresh disk.
#[derive(Debug, Args)]
pub struct Rebuild {
    /// Name or id of the compute; everything on its disk is lost.
    pub name: String,
    /// Another image [default: the one it has].
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// Check everything, change nothing.
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub within: Within,
    #[command(flatten)]
    pub waiting: Waiting,
    #[command(flatten)]
    pub server: Server,
}

/// Which computes.
#[derive(Debug, Args)]
pub struct ComputeList {
    /// Only those in this status.
    #[arg(long, value_name = "STATUS")]
    pub status: Option<String>,
    /// Only those in this region.
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,
    /// Only those with this label.
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    pub label: Option<(String, String)>,
    #[command(flatten)]
    pub all: All,
}

/// A new compute.
#[derive(Debug, Args)]
pub struct ComputeCreate {
    /// Its name: lower-case letters, digits and hyphens.
    pub name: String,
    #[command(flatten)]
    pub within: Within,
    /// Its size [default: the first of `nephos sizes list`].
    #[arg(long, value_name = "SIZE")]
    pub size: Option<String>,
    /// Its image.
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// Its region.
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,
    /// An SSH key that may log in: name or id of `nephos ssh-keys list`, or a whole public key. May be repeated.
    #[arg(long = "ssh-key", value_name = "KEY")]
    pub ssh_keys: Vec<String>,
    /// File of cloud-init user data.
    #[arg(long, value_name = "FILE")]
    pub user_data: Option<PathBuf>,
    /// A label. May be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// Refuse to delete or rebuild it until it is unprotected.
    #[arg(long)]
    pub protected: bool,
    /// What happens when it stops by itself: never or on_failure.
    #[arg(long, value_name = "POLICY")]
    pub restart_policy: Option<String>,
    /// Check everything, say the price, make nothing.
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub waiting: Waiting,
    #[command(flatten)]
    pub server: Server,
}

/// Changes of a compute.
#[derive(Debug, Args)]
pub struct ComputeUpdate {
    /// Its name or id.
    pub name: String,
    /// A new name.
    #[arg(long = "name", value_name = "NAME")]
    pub new_name: Option<String>,
    /// A label; all labels together replace those there are. May be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// Take all labels away.
    #[arg(long, conflicts_with = "labels")]
    pub no_labels: bool,
    /// Whether deleting and rebuilding it are refused.
    #[arg(long, value_name = "true|false")]
    pub protected: Option<bool>,
    /// What happens when it stops by itself: never or on_failure.
    #[arg(long, value_name = "POLICY")]
    pub restart_policy: Option<String>,
    #[command(flatten)]
    pub within: Within,
    #[command(flatten)]
    pub server: Server,
}

/// A login.
#[derive(Debug, Args)]
pub struct Ssh {
    /// Name or id of the compute.
    pub name: String,
    /// The private key to log in with [default: those of ssh itself].
    #[arg(long, short, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// The user to log in as [default: the image's].
    #[arg(long, value_name = "USER")]
    pub login: Option<String>,
    /// Print the command instead of running it.
    #[arg(long)]
    pub print: bool,
    /// A command to run there.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
    #[command(flatten)]
    pub within: Within,
    #[command(flatten)]
    pub server: Server,
}

/// `nephos operations`
#[derive(Debug, Subcommand)]
#[allow(missing_docs)]
pub enum Operations {
    /// List them.
    List(Plain),
    /// Look at one.
    Get(One),
    /// Cancel one that has not begun to change anything.
    Cancel(One),
    /// Wait until one ends.
    Wait(Act),
}

/// `nephos keys`
#[derive(Debug, Subcommand)]
#[allow(missing_docs)]
pub enum Keys {
    /// List them.
    List(Plain),
    /// Look at one.
    Get(One),
    /// Make one; its secret is printed once.
    Create(KeyCreate),
    /// Give one a new secret.
    Rotate(KeyRotate),
    /// Revoke one at once.
    #[command(alias = "revoke")]
    Delete(One),
}

/// A new API key.
#[derive(Debug, Args)]
pub struct KeyCreate {
    /// Its name, for people.
    pub name: String,
    /// A scope such as compute:read; without any it has all of its member's. May be repeated.
    #[arg(long = "scope", value_name = "SCOPE")]
    pub scopes: Vec<String>,
    /// Narrow it to this project (name or id).
    #[arg(long, value_name = "PROJECT")]
    pub project: Option<String>,
    /// Narrow it to this environment (name or id).
    #[arg(long, value_name = "ENVIRONMENT")]
    pub env: Option<String>,
    /// When it ends, such as 2027-01-01T00:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub expires_at: Option<String>,
    /// An address range it may be used from, such as 192.0.2.0/24. May be repeated.
    #[arg(long = "allowed-ip", value_name = "CIDR")]
    pub allowed_ips: Vec<String>,
    #[command(flatten)]
    pub server: Server,
}

/// A new secret.
#[derive(Debug, Args)]
pub struct KeyRotate {
    /// Name or id of the key.
    pub name: String,
    /// For so many seconds the old secret works, too.
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=2_592_000))]
    pub grace_seconds: u32,
    #[command(flatten)]
    pub server: Server,
}

/// `nephos members`
#[derive(Debug, Subcommand)]
#[allow(missing_docs)]
pub enum Members {
    /// List them.
    List(Plain),
    /// Look at one.
    Get(Person),
    /// Give one another role.
    Update(MemberUpdate),
    /// Remove one, with the keys and open invitations; yourself, to leave.
    #[command(alias = "remove")]
    Delete(Person),
}

/// One member or invitation.
#[derive(Debug, Args)]
pub struct Person {
    /// The e-mail address or id.
    pub email: String,
    #[command(flatten)]
    pub server: Server,
}

/// Another role.
#[derive(Debug, Args)]
pub struct MemberUpdate {
    /// The e-mail address or id of the member.
    pub email: String,
    /// The new role: owner, admin or member.
    #[arg(long, value_name = "ROLE")]
    pub role: String,
    #[command(flatten)]
    pub server: Server,
}

/// `nephos invitations`
#[derive(Debug, Subcommand)]
#[allow(missing_docs)]
pub enum Invitations {
    /// List those that can be accepted.
    List(Plain),
    /// Look at one.
    Get(Person),
    /// Invite a person; the link is printed once.
    Create(InvitationCreate),
    /// Revoke one.
    #[command(alias = "revoke")]
    Delete(Person),
    /// Accept one: become a member and get the first API keys. Needs no API key.
    Accept(InvitationAccept),
}

/// A new invitation.
#[derive(Debug, Args)]
pub struct InvitationCreate {
    /// The person's e-mail address.
    pub email: String,
    /// The role that the person will have: owner, admin or member.
    #[arg(long, value_name = "ROLE", default_value = "member")]
    pub role: String,
    #[command(flatten)]
    pub server: Server,
}

/// An invitation to accept.
#[derive(Debug, Args)]
pub struct InvitationAccept {
    /// The link, or the token that is behind its #.
    pub link: String,
    /// The server, when only the token is given.
    #[arg(long, value_name = "URL", env = "NEPHOS_URL", default_value = "http://127.0.0.1:7600")]
    pub url: String,
    /// How to print the result.
    #[arg(long, value_enum, default_value = "table")]
    pub output: Output,
}

/// `nephos tokens`
#[derive(Debug, Subcommand)]
#[allow(missing_docs)]
pub enum Tokens {
    /// Exchange the API key for one; it is printed once.
    Create(TokenCreate),
}

/// A new token.
#[derive(Debug, Args)]
pub struct TokenCreate {
    /// A scope such as compute:read; without any it has all of its key's. May be repeated.
    #[arg(long = "scope", value_name = "SCOPE")]
    pub scopes: Vec<String>,
    /// Seconds that it works.
    #[arg(long, value_name = "SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u32).range(1..=900))]
    pub expires_in: u32,
    #[command(flatten)]
    pub server: Server,
}

/// `nephos ssh-keys`
#[derive(Debug, Subcommand)]
#[allow(missing_docs)]
pub enum SshKeys {
    /// List them.
    List(Plain),
    /// Look at one.
    Get(One),
    /// Add one.
    Create(SshKeyCreate),
    /// Remove one.
    Delete(One),
}

/// A new SSH key.
#[derive(Debug, Args)]
pub struct SshKeyCreate {
    /// Its name.
    pub name: String,
    /// The file of the public key, such as ~/.ssh/id_ed25519.pub.
    #[arg(long, value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    pub server: Server,
}

/// What the installation offers.
#[derive(Debug, Subcommand)]
#[allow(missing_docs)]
pub enum Catalogue {
    /// List them.
    List(Plain),
    /// Look at one.
    Get(One),
}

pub use super::budget_alert::BudgetAlerts;
pub use super::invoice::Invoices;
pub use super::telemetry::{Metrics, Telemetry};
pub use super::webhook::{Events, Webhooks};

/// Rows of the audit log.
#[derive(Debug, Args)]
pub struct AuditList {
    /// Only rows of this action, such as compute.delete.
    #[arg(long, value_name = "ACTION")]
    pub action: Option<String>,
    /// Only rows about this resource, by its id.
    #[arg(long, value_name = "ID")]
    pub resource: Option<String>,
    /// Only rows of this API key or member, by its id.
    #[arg(long, value_name = "ID")]
    pub actor: Option<String>,
    #[command(flatten)]
    pub length: Length,
    #[command(flatten)]
    pub server: Server,
}

/// A month's use.
#[derive(Debug, Args)]
pub struct Usage {
    /// The month, such as 2026-03 [default: this one].
    #[arg(long, value_name = "YYYY-MM")]
    pub month: Option<String>,
    #[command(flatten)]
    pub server: Server,
}

/// `nephos sandbox`
#[derive(Debug, Subcommand)]
#[allow(missing_docs)]
pub enum Sandbox {
    /// Begin it anew: one default project and nothing else.
    Reset(Me),
    /// Look at its clock.
    Clock(Me),
    /// Move its clock forwards; what becomes due is done at once.
    Advance(SandboxAdvance),
}

/// How far.
#[derive(Debug, Args)]
#[group(id = "distance", required = true, args = ["by", "to"])]
pub struct SandboxAdvance {
    /// By how much: 90s, 15m, 36h or 7d.
    #[arg(value_name = "DURATION", value_parser = duration_s)]
    pub by: Option<i64>,
    /// To this time, such as 2027-01-01T00:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
    #[command(flatten)]
    pub server: Server,
}

/// The credential.
#[derive(Debug, Args)]
pub struct Me {
    #[command(flatten)]
    pub server: Server,
}

/// Seconds of a number with a unit.
fn duration_s(text: &str) -> Result<i64, String> {
    let wrong = || "write a whole number and its unit: 90s, 15m, 36h or 7d".to_owned();
    let unit = text.char_indices().next_back().ok_or_else(wrong)?;
    let seconds = match unit.1 {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let count: i64 = text[..unit.0].parse().map_err(|_| wrong())?;
    count.checked_mul(seconds).filter(|seconds| *seconds > 0).ok_or_else(wrong)
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a label has the form KEY=VALUE")?;
    if key.is_empty() { Err("a label's key is not empty".to_owned()) } else { Ok((key.to_owned(), value.to_owned())) }
}
