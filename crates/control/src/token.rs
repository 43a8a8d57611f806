//! Signed bearer tokens (RFC 9068): a key's rights, or fewer, for some minutes, in a text that proves itself.
//!
//! A token names the key and the secret that it was exchanged for. It does nothing that the key can't do now, and ends with
//! the secret, with the key, and with its own time. The compact form is read without a parser for what is not ours: the
//! header is compared as a whole, the claims are read only once the signature holds.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use nephos_model::fault::{Code, Detail};
use nephos_model::id::{AuditId, Id, KeyId, MemberId, WorkspaceId};
use nephos_model::scope::{Scope, Scopes};
use nephos_model::tenant::Mode;
use nephos_model::{Fault, Timestamp};
use nephos_store::audit::NewAudit;
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::Cloud;
use crate::caller::{Caller, Kind, Request, SecretTag};
use crate::plan::Plan;
use crate::signing::Known;

/// Seconds that a token lives at most, and when nothing else is asked for.
pub const TOKEN_S_MAX: u32 = 15 * 60;
/// Seconds that a token lives at least.
pub const TOKEN_S_MIN: u32 = 1;
/// Characters of a token at most; one with every scope has less than half as many.
pub const TOKEN_CHARS_MAX: usize = 4_096;
/// What the standard calls an access token.
pub const ISSUED_TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:access_token";

/// What a new token shall be.
#[derive(Debug, Clone, Copy)]
pub struct NewToken {
    /// Its scopes; `None`: those of the key.
    pub scopes: Option<Scopes>,
    /// Seconds that it lives, [`TOKEN_S_MIN`] to [`TOKEN_S_MAX`].
    pub expires_in_s: u32,
}

/// A token with its text, which is shown this once.
#[derive(Clone)]
pub struct Token {
    /// The text for `Authorization: Bearer`.
    pub text: String,
    /// Seconds that it lives.
    pub expires_in_s: u32,
    /// Its scopes.
    pub scopes: Scopes,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("expires_in_s", &self.expires_in_s).finish_non_exhaustive()
    }
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    client_id: String,
    iat: i64,
    exp: i64,
    jti: String,
    scope: String,
    workspace_id: String,
    mode: String,
    secret_tag: String,
}

/// What a token whose signature holds says, read.
#[derive(Debug, Clone)]
pub(crate) struct Verified {
    /// The key it was exchanged for.
    pub key_id: KeyId,
    /// The member that the key belonged to then.
    pub member_id: MemberId,
    /// The workspace.
    pub workspace_id: WorkspaceId,
    /// Live or sandbox.
    pub mode: Mode,
    /// Its scopes.
    pub scopes: Scopes,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Which secret of the key it was exchanged for.
    pub secret: SecretTag,
}

/// The three parts of a compact token, if a text has them.
pub fn split(text: &str) -> Option<[&str; 3]> {
    if text.len() > TOKEN_CHARS_MAX {
        return None;
    }
    let mut parts = text.split('.');
    let split = [parts.next()?, parts.next()?, parts.next()?];
    (parts.next().is_none() && split.iter().all(|part| !part.is_empty())).then_some(split)
}

/// The scopes in a text in which they are separated by single spaces.
fn scopes(text: &str) -> Option<Scopes> {
    text.split(' ').map(|word| word.parse::<Scope>().ok()).collect()
}

fn words(scopes: Scopes) -> String {
    scopes.iter().map(|scope| scope.to_string()).collect::<Vec<_>>().join(" ")
}

impl Token {
    /// The scopes, separated by spaces.
    pub fn scope(&self) -> String {
        words(self.scopes)
    }
}

impl Cloud {
    /// Who issues tokens: the installation's web address, or where it has none a name that all replicas share.
    pub fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// Exchanges the key of a request for a token.
    ///
    /// Faults: 400 for no scope, 403 for a token, and for a scope that the key does not have.
    pub async fn exchange_token(
        &self,
        caller: &Caller,
        request: &Request,
        new: NewToken,
    ) -> Result<Plan<Token>, Fault> {
        let key_id = caller.key_id.filter(|_| caller.proof.kind == Kind::Key).ok_or_else(|| {
            let message = "Only an API key can be exchanged for a token; a token can't be exchanged again.";
            let detail = Detail::header("authorization", "not_a_key", message);
            Fault { details: vec![detail], ..Fault::new(Code::Forbidden, message) }
        })?;
        if new.scopes == Some(Scopes::default()) {
            let why = "must name at least one scope, or be left out";
            return Err(Fault::bad(Detail::field("/scopes", "too_short", why)));
        }
        if !(TOKEN_S_MIN..=TOKEN_S_MAX).contains(&new.expires_in_s) {
            let why = format!("must be from {TOKEN_S_MIN} to {TOKEN_S_MAX}");
            return Err(Fault::bad(Detail::field("/expires_in", "out_of_range", why)));
        }
        let scopes = new.scopes.unwrap_or(caller.scopes);
        let beyond: Vec<Detail> = scopes
            .iter()
            .filter(|scope| !caller.scopes.has(*scope))
            .map(|scope| Detail {
                required_scope: Some(scope),
                ..Detail::at("/scopes", "missing_scope", format!("The key does not have the scope {scope}."))
            })
            .collect();
        if !beyond.is_empty() {
            let message = "A token can't have a scope that its key does not have; `details` lists those.";
            return Err(Fault { details: beyond, ..Fault::new(Code::Forbidden, message) });
        }
        let now = self.clock().now();
        // In whole seconds, rounded so that no token outlives what it was exchanged for.
        let wanted = now.secs() + i64::from(new.expires_in_s);
        let exp = caller.proof.until.map_or(wanted, |until| until.secs().min(wanted));
        let claims = Claims {
            iss: self.issuer().to_owned(),
            aud: self.issuer().to_owned(),
            sub: caller.member_id.to_string(),
            client_id: key_id.to_string(),
            iat: now.secs(),
            exp,
            jti: request.id.raw().to_uuid(),
            scope: words(scopes),
            workspace_id: caller.workspace_id.to_string(),
            mode: caller.mode.as_str().to_owned(),
            secret_tag: caller.proof.secret.to_string(),
        };
        // A struct of texts and numbers: serializing it into memory can't fail.
        let text = self.sign(&serde_json::to_string(&claims).unwrap_or_default()).await?;
        let expires_in_s = u32::try_from(exp - now.secs()).unwrap_or(0);
        let mut plan = Plan::new(Token { text, expires_in_s, scopes });
        plan.project_id = caller.project_id;
        plan.environment_id = caller.environment_id;
        plan.write([self.token_audit(caller, request, &claims)]);
        Ok(plan)
    }

    /// The audit row of an exchange: a token is no resource that changes, so there is no event.
    fn token_audit(&self, caller: &Caller, request: &Request, claims: &Claims) -> nephos_store::Statement {
        let told = serde_json::json!({"jti": claims.jti, "scope": claims.scope,
            "expires_at": Timestamp::from_secs(claims.exp).to_string()});
        nephos_store::audit::insert(
            caller.tenant,
            NewAudit {
                id: self.id::<AuditId>(),
                action: "token.create",
                resource_id: Some(claims.client_id.clone()),
                project_id: caller.project_id,
                actor: caller.actor(),
                member_id: Some(caller.member_id),
                address: Some(request.address.to_string()),
                client_request_id: request.client_request_id.clone(),
                request_id: request.id.raw().to_uuid(),
                before: None,
                after: Some(told.to_string()),
                status: 200,
                created_at: self.clock().now(),
            },
        )
    }

    /// What a token says, if one of our keys signed it for us. Whether it has expired is not looked at.
    pub(crate) async fn verify_token(&self, [header, claims, signature]: [&str; 3]) -> Result<Option<Verified>, Fault> {
        let named =
            |keys: &[std::sync::Arc<crate::signing::Key>]| keys.iter().find(|key| key.header() == header).cloned();
        let mut key = named(&self.signing_keys(Known::Recently).await?);
        if key.is_none() && looks_like_ours(header) {
            key = named(&self.signing_keys(Known::JustNow).await?);
        }
        let Some(key) = key else { return Ok(None) };
        let Ok(signature) = BASE64URL.decode(signature) else { return Ok(None) };
        let signed = format!("{header}.{claims}");
        if UnparsedPublicKey::new(&ED25519, key.public()).verify(signed.as_bytes(), &signature).is_err() {
            return Ok(None);
        }
        Ok(read_claims(claims, self.issuer()))
    }
}

/// What the second part of a token says, when it is for this issuer.
fn read_claims(part: &str, issuer: &str) -> Option<Verified> {
    let claims: Claims = serde_json::from_slice(&BASE64URL.decode(part).ok()?).ok()?;
    if claims.iss != issuer || claims.aud != issuer {
        return None;
    }
    Some(Verified {
        key_id: claims.client_id.parse().ok()?,
        member_id: claims.sub.parse().ok()?,
        workspace_id: claims.workspace_id.parse().ok()?,
        mode: claims.mode.parse().ok()?,
        scopes: scopes(&claims.scope)?,
        expires_at: Timestamp::from_secs(claims.exp),
        secret: claims.secret_tag.parse().ok()?,
    })
}

/// Whether a text has the form of a token of this issuer, whoever signed it: everything of the reading but the signature,
/// for those who try it with hostile bytes.
pub fn has_form(text: &str, issuer: &str) -> bool {
    split(text).is_some_and(|[header, claims, _]| looks_like_ours(header) && read_claims(claims, issuer).is_some())
}

/// Whether a header is one that a key of ours could have: only then is it worth a look at the rows.
fn looks_like_ours(header: &str) -> bool {
    const BEFORE: &[u8] = br#"{"alg":"EdDSA","typ":"at+jwt","kid":""#;
    /// 32 bytes in base64url.
    const KID_CHARS: usize = 43;
    let Ok(bytes) = BASE64URL.decode(header) else { return false };
    let kid = bytes.strip_prefix(BEFORE).and_then(|rest| rest.strip_suffix(b"\"}"));
    kid.is_some_and(|kid| kid.len() == KID_CHARS)
}

/// What a secret is known by in tokens: eight bytes of a hash of its hash, from which neither can be learnt.
pub(crate) fn secret_tag(hash: &[u8]) -> SecretTag {
    let digest = Sha256::new().chain_update(b"nephos secret tag v1").chain_update(hash).finalize();
    let mut tag = [0; 8];
    tag.copy_from_slice(&digest[..8]);
    SecretTag(u64::from_be_bytes(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_three_whole_parts_are_a_token() {
        assert_eq!(split("a.b.c"), Some(["a", "b", "c"]));
        for bad in
            ["", "a", "a.b", "a.b.", ".b.c", "a..c", "a.b.c.d", &"a.".repeat(3), &"a".repeat(TOKEN_CHARS_MAX + 1)]
        {
            assert_eq!(split(bad), None, "{bad}");
        }
    }

    #[test]
    fn scopes_round_trip() {
        assert_eq!(scopes(&words(Scopes::EVERY)), Some(Scopes::EVERY));
        for bad in ["", " ", "compute:read ", "compute:read  project:read", "x"] {
            assert_eq!(scopes(bad), None, "{bad}");
        }
    }
}
