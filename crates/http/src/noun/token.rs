//! Tokens: an API key, exchanged for a text that proves itself for some minutes.

use nephos_control::plan::CommitError;
use nephos_control::token::{NewToken, TOKEN_S_MAX, TOKEN_S_MIN};
use nephos_control::view::TokenView;
use nephos_model::Code;
use nephos_model::scope::{Noun, Scope};

use crate::call::{Answer, Call};
use crate::endpoint::{Endpoint, Success, schema_of};
use crate::fields::{Field, Kind};
use crate::reply::Reply;

const NEW: &[Field] = &[
    Field::nullable(
        "scopes",
        Kind::List { of: &Kind::Scope, items_max: Noun::ALL.len() * 2 },
        "The scopes it is narrowed to; without, those of the key.",
    ),
    Field::nullable(
        "expires_in",
        Kind::Integer { min: TOKEN_S_MIN as i64, max: TOKEN_S_MAX as i64 },
        "Seconds that it works; by default 900. It ends with its key in any case.",
    ),
];

/// The operations. Any key may be exchanged, since a token can do nothing that its key can't.
pub const OPERATIONS: &[Endpoint] =
    &[Endpoint::new("token.create", "POST", "/tokens", Success::Report, schema_of::<TokenView>, |c| Box::pin(create(c)))
        .told(
            "Exchange the key for a token",
            "Answers a JWT (RFC 9068) signed with EdDSA, in the form of RFC 8693. It may do what the key may, or less; shares \
             the key's budgets; and ends with the key. The keys to verify it are at /.well-known/jwks.json. A token can't be \
             exchanged. `Idempotency-Key` is ignored: each request answers another token.",
            "Token made; it is not shown again.",
        )
        .body(NEW, r#"{"scopes":["compute:read"]}"#)
        .faults(&[Code::Forbidden])
        .without_key()];

async fn create(call: &Call) -> Result<Answer, CommitError> {
    let body = &call.body;
    // The field table has checked each of them.
    let scopes = body.texts("scopes").map(|scopes| scopes.iter().filter_map(|s| s.parse::<Scope>().ok()).collect());
    let expires_in_s = body.integer("expires_in").and_then(|s| u32::try_from(s).ok()).unwrap_or(TOKEN_S_MAX);
    let plan = call.cloud().exchange_token(call.caller()?, &call.request, NewToken { scopes, expires_in_s }).await?;
    call.commit(plan, |token| Reply::report(&TokenView::from(token)).secret()).await
}
