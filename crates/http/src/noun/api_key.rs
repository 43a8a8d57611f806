//! API keys.

use nephos_control::api_key::NewApiKey;
use nephos_control::caller::{ApiKeyRead, ApiKeyWrite};
use nephos_control::plan::CommitError;
use nephos_control::view::{ApiKeyDetailsView, ApiKeyView, ApiKeyWithSecretView};
use nephos_model::Code;
use nephos_model::api_key::{ALLOWED_IPS_MAX, GRACE_S_MAX};
use nephos_model::scope::{Noun, Scope};

use crate::call::{Answer, Call, DeletedView};
use crate::endpoint::{Endpoint, Need, Success, schema_of};
use crate::fields::{Field, Kind, parse_time};
use crate::query::{AFTER, DRY_RUN, LIMIT, PAGE, Parameter};
use crate::reply::Reply;

const ALL: &str = "/api-keys";
const ONE: &str = "/api-keys/{id}";
const ROTATE: &str = "/api-keys/{id}/rotate";
/// As many as there are scopes: one to read and one to write each noun.
const SCOPES_MAX: usize = Noun::ALL.len() * 2;

const NEW: &[Field] = &[
    Field::required("name", Kind::Title, "Its name, by which people tell their keys apart."),
    Field::nullable(
        "scopes",
        Kind::List { of: &Kind::Scope, items_max: SCOPES_MAX },
        "The scopes it is narrowed to; without, all of the credential that makes it.",
    ),
    Field::nullable("project_id", Kind::Id("prj"), "The project it is narrowed to."),
    Field::nullable("environment_id", Kind::Id("env"), "The environment it is narrowed to."),
    Field::nullable("expires_at", Kind::Time, "When it stops working."),
    Field::nullable(
        "allowed_ips",
        Kind::List { of: &Kind::Network, items_max: ALLOWED_IPS_MAX },
        "The addresses and networks (CIDR) that it works from; without, any.",
    ),
];
const CHANGE: &[Field] = &[Field::optional("name", Kind::Title, "Its new name.")];
const GRACE: &[Field] = &[Field::optional(
    "grace_seconds",
    Kind::Integer { min: 0, max: GRACE_S_MAX },
    "Seconds for which the old secret goes on working; by default 0.",
)];

/// The operations.
pub const OPERATIONS: &[Endpoint] = &[
    Endpoint::new("api_key.list", "GET", ALL, Success::Listed, schema_of::<ApiKeyView>, |c| Box::pin(list(c)))
        .needs(Need::of::<ApiKeyRead>())
        .told("List API keys", "The keys that work, the newest first; never their secrets.", "API keys listed.")
        .query(&[PAGE, LIMIT, AFTER, Parameter::new("name", Kind::Title, "Only keys with this name.")]),
    Endpoint::new("api_key.create", "POST", ALL, Success::Created, schema_of::<ApiKeyWithSecretView>, |c| {
        Box::pin(create(c))
    })
    .needs(Need::of::<ApiKeyWrite>())
    .told(
        "Make an API key",
        "Makes a key of the same member and mode, with at most what this credential may do. Its secret is shown this once.",
        "API key made; its secret is not shown again.",
    )
    .query(&[DRY_RUN])
    .body(NEW, r#"{"name":"ci","scopes":["compute:read","compute:write"]}"#)
    .faults(&[Code::QuotaExceeded]),
    Endpoint::new("api_key.get", "GET", ONE, Success::Found, schema_of::<ApiKeyDetailsView>, |c| Box::pin(get(c)))
        .needs(Need::of::<ApiKeyRead>())
        .told("Read an API key", "One key, and which deprecated operations it called; never its secret.", "API key found."),
    Endpoint::new("api_key.update", "PATCH", ONE, Success::Updated, schema_of::<ApiKeyView>, |c| Box::pin(update(c)))
        .needs(Need::of::<ApiKeyWrite>())
        .told("Rename an API key", "Changes what is sent and leaves the rest. Only its own member may.", "API key updated.")
        .body(CHANGE, r#"{"name":"ci"}"#),
    Endpoint::new("api_key.rotate", "POST", ROTATE, Success::Updated, schema_of::<ApiKeyWithSecretView>, |c| {
        Box::pin(rotate(c))
    })
    .needs(Need::of::<ApiKeyWrite>())
    .told(
        "Rotate an API key",
        "Gives the key a new secret, shown this once; the old one works until the grace ends. Only its own member may.",
        "API key rotated; its secret is not shown again.",
    )
    .body(GRACE, r#"{"grace_seconds":3600}"#),
    Endpoint::new("api_key.revoke", "DELETE", ONE, Success::Deleted, schema_of::<DeletedView>, |c| Box::pin(revoke(c)))
        .needs(Need::of::<ApiKeyWrite>())
        .told(
            "Revoke an API key",
            "The key stops working at once. Others' keys need the role admin; a key can't revoke itself.",
            "API key revoked.",
        )
        .faults(&[Code::Conflict]),
];

async fn list(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<ApiKeyRead>()?;
    let page = call.query.page("key")?;
    let listed = call.cloud().api_keys(&grant, call.query.text("name"), &page).await?;
    call.read(Reply::listed(&listed, &page, |k| k.id.to_string(), |k| ApiKeyView::from(k)))
}

async fn create(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<ApiKeyWrite>()?;
    let body = &call.body;
    // The field table has checked each of them.
    let scopes = body.texts("scopes").map(|scopes| scopes.iter().filter_map(|s| s.parse::<Scope>().ok()).collect());
    let new = NewApiKey {
        name: body.parsed("name")?,
        scopes,
        project_id: body.maybe_parsed("project_id")?,
        environment_id: body.maybe_parsed("environment_id")?,
        allowed_ips: body.texts("allowed_ips").unwrap_or_default(),
        expires_at: body.text("expires_at").and_then(parse_time),
    };
    let plan = call.cloud().create_api_key(&grant, new).await?;
    call.commit(plan, |made| {
        Reply::created(&ApiKeyWithSecretView::from(made), format!("/api-keys/{}", made.key.id))
            .version(made.key.version)
            .secret()
    })
    .await
}

async fn get(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<ApiKeyRead>()?;
    let key = call.cloud().api_key(&grant, call.id("API key")?).await?;
    let calls = call.cloud().deprecated_calls(&grant, key.id).await?;
    // What it was used for is not part of its state: the entity tag stays.
    call.read(Reply::found(&ApiKeyDetailsView::new(&key, &calls)).version(key.version).of(key.project_id))
}

async fn update(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<ApiKeyWrite>()?;
    let key = call.cloud().api_key_to_change(&grant, call.id("API key")?).await?;
    call.must_match(key.version)?;
    let name = call.body.maybe_parsed("name")?;
    let plan = call.cloud().rename_api_key(&grant, key, name.as_ref())?;
    call.commit(plan, |k| Reply::updated(&ApiKeyView::from(k)).version(k.version)).await
}

async fn rotate(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<ApiKeyWrite>()?;
    let key = call.cloud().api_key_to_change(&grant, call.id("API key")?).await?;
    let grace_s = call.body.integer("grace_seconds").unwrap_or(0);
    let plan = call.cloud().rotate_api_key(&grant, key, grace_s).await?;
    call.commit(plan, |made| Reply::updated(&ApiKeyWithSecretView::from(made)).version(made.key.version).secret()).await
}

async fn revoke(call: &Call) -> Result<Answer, CommitError> {
    let grant = call.grant::<ApiKeyWrite>()?;
    let key = call.cloud().api_key_to_change(&grant, call.id("API key")?).await?;
    call.must_match(key.version)?;
    let plan = call.cloud().revoke_api_key(&grant, key)?;
    call.commit(plan, |k| Reply::deleted(k.id)).await
}
