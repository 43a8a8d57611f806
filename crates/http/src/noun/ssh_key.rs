//! SSH public keys that a workspace keeps for its computes.

use nephos_control::caller::{SshKeyRead, SshKeyWrite};
use nephos_control::plan::CommitError;
use nephos_control::view::SshKeyView;
use nephos_model::ssh_key::PublicKey;
use nephos_model::{Code, Fault};

use crate::call::{Answer, Call, DeletedView};
use crate::endpoint::{Endpoint, Need, Success, schema_of};
use crate::fields::{Field, Kind};
use crate::query::{AFTER, DRY_RUN, LIMIT, PAGE, Parameter};
use crate::reply::Reply;

const ALL: &str = "/ssh-keys";
const ONE: &str = "/ssh-keys/{id}";
const NEW: &[Field] = &[
    Field::required("name", Kind::Title, "Its name, unique in the workspace."),
    Field::required("public_key", Kind::PublicKey, "The line of a .pub file; its comment is left out."),
];

/// The operations.
pub const OPERATIONS: &[Endpoint] = &[
    Endpoint::new("ssh_key.list", "GET", ALL, Success::Listed, schema_of::<SshKeyView>, |c| Box::pin(list(c)))
        .needs(Need::of::<SshKeyRead>())
        .told("List SSH keys", "The workspace's SSH public keys, the newest first.", "SSH keys listed.")
        .query(&[PAGE, LIMIT, AFTER, Parameter::new("name", Kind::Title, "Only the key with this name.")]),
    Endpoint::new("ssh_key.create", "POST", ALL, Success::Created, schema_of::<SshKeyView>, |c| Box::pin(create(c)))
        .needs(Need::of::<SshKeyWrite>())
        .told("Add an SSH key", "Keeps a public key, so that computes can be made with its name.", "SSH key added.")
        .query(&[DRY_RUN])
        .body(NEW, r#"{"name":"laptop","public_key":"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"}"#)
        .faults(&[Code::Conflict, Code::QuotaExceeded]),
    Endpoint::new("ssh_key.get", "GET", ONE, Success::Found, schema_of::<SshKeyView>, |c| Box::pin(get(c)))
        .needs(Need::of::<SshKeyRead>())
        .told("Read an SSH key", "One SSH public key.", "SSH key found."),
    Endpoint::new("ssh_key.delete", "DELETE", ONE, Success::Deleted, schema_of::<DeletedView>, |c| Box::pin(delete(c)))
        .needs(Need::of::<SshKeyWrite>())
        .told("Delete an SSH key", "Forgets a public key; computes that it was put on keep it.", "SSH key deleted."),
];

async fn list(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<SshKeyRead>()?;
    let page = call.query.page("ssh")?;
    let listed = call.cloud().ssh_keys(&grant, call.query.text("name"), &page).await?;
    call.read(Reply::listed(&listed, &page, |k| k.id.to_string(), |k| SshKeyView::from(k)))
}

async fn create(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<SshKeyWrite>()?;
    let name = call.body.parsed("name")?;
    // The field table has parsed it once.
    let key = PublicKey::parse(call.body.required("public_key")).map_err(Fault::internal)?;
    let plan = call.cloud().create_ssh_key(&grant, &name, &key).await?;
    call.commit(plan, |k| Reply::created(&SshKeyView::from(k), format!("/ssh-keys/{}", k.id)).version(k.version)).await
}

async fn get(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<SshKeyRead>()?;
    let key = call.cloud().ssh_key(&grant, call.id("SSH key")?).await?;
    call.read(Reply::found(&SshKeyView::from(&key)).version(key.version))
}

async fn delete(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<SshKeyWrite>()?;
    let key = call.cloud().ssh_key_to_delete(&grant, call.id("SSH key")?).await?;
    call.must_match(key.version)?;
    let plan = call.cloud().delete_ssh_key(&grant, &key);
    call.commit(plan, |k| Reply::deleted(k.id)).await
}
