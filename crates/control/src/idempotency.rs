//! Idempotency: what was answered to a key is written with the effect, so a retry finds the whole of it or nothing.
//!
//! There is no row "in progress": within one server a running request is remembered in memory, and between servers the
//! record's primary key decides at commit, so a crash leaves nothing to clean up.
//!
//! Most keys are new, so a request is first run as if its key were ([`Cloud::idempotency_begin`]), and the record of an
//! earlier one is looked for ([`Cloud::idempotency_earlier`]) only when its commit meets that, or before it is refused.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nephos_model::Fault;
use nephos_model::fault::{Code, Detail};
use nephos_model::id::{EnvironmentId, Id as _, MemberId, ProjectId, Raw};
use nephos_model::tenant::TenantId;
use nephos_store::Statement;
use nephos_store::idempotency::{Record, Scope};
use ring::{aead, hkdf};
use sha2::{Digest, Sha256};

use crate::caller::Caller;
use crate::{Cloud, fault};

/// How long an answer is kept: 24 hours.
pub const KEPT_S: u64 = 24 * 60 * 60;
/// Where the answers to requests without a caller are kept: tenants are numbered from 1.
const NO_TENANT: TenantId = TenantId(0);
/// Seconds after which a duplicate of a running request may retry.
const RETRY_AFTER_S: u32 = 1;

/// What was answered the first time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recording {
    /// The status.
    pub status: u16,
    /// The body, byte for byte.
    pub body: Vec<u8>,
    /// `Location`.
    pub location: Option<String>,
    /// `ETag`.
    pub etag: Option<String>,
    /// `Preference-Applied`.
    pub preference_applied: Option<String>,
    /// Whether the body shows a secret and must be sealed.
    pub is_secret: bool,
}

/// The keys that requests run with now, in this process.
#[derive(Debug, Default)]
pub(crate) struct Running(Mutex<HashSet<Scope>>);

/// The right to run the request of a key. Dropping it lets a retry run.
pub struct Ticket {
    scope: Scope,
    fingerprint: [u8; 32],
    member: MemberId,
    key: String,
    running: Arc<Running>,
}

/// Without the key, which opens what is sealed.
impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl Ticket {
    /// The key that seals the answer.
    fn seal(&self) -> [u8; 32] {
        seal_key(&self.key, self.scope.tenant.0)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.running.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.scope);
    }
}

/// A request with an idempotency key.
#[derive(Debug, Clone)]
pub struct Keyed<'a> {
    /// `platform` or `strettch`.
    pub surface: &'static str,
    /// The HTTP method.
    pub method: &'static str,
    /// The concrete path under the base URL.
    pub path: &'a str,
    /// The key, checked for its form.
    pub key: &'a str,
    /// SHA-256 of the query and the canonical body.
    pub fingerprint: [u8; 32],
}

/// SHA-256 of where a key counts beside its tenant. What comes before the key has no line breaks.
fn key_hash(request: &Keyed<'_>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [request.surface, request.method, request.path] {
        hash.update(part);
        hash.update("\n");
    }
    hash.update(request.key);
    hash.finalize().into()
}

impl Cloud {
    /// Begins a request that has an idempotency key, or 409 while the first request with it still runs in this server.
    /// Whether there was one before is not known yet: [`Cloud::idempotency_earlier`] tells.
    pub fn idempotency_begin(&self, caller: &Caller, request: &Keyed<'_>) -> Result<Ticket, Fault> {
        self.take_ticket(caller.tenant, caller.member_id, request)
    }

    /// Begins a request that has an idempotency key and whose only credential is in its body. Such a key counts together
    /// with the body: who does not know all of that finds nothing, and a key that others use as well is no obstacle.
    pub fn idempotency_begin_open(&self, request: &Keyed<'_>) -> Result<Ticket, Fault> {
        let nobody = MemberId::from_raw(Raw::from_bytes([0; 16]));
        let key = format!("{}\n{:x?}", request.key, request.fingerprint);
        self.take_ticket(NO_TENANT, nobody, &Keyed { key: &key, ..request.clone() })
    }

    fn take_ticket(&self, tenant: TenantId, member: MemberId, request: &Keyed<'_>) -> Result<Ticket, Fault> {
        let scope = Scope { tenant, key_hash: key_hash(request) };
        let running = self.running().clone();
        if !running.0.lock().unwrap_or_else(PoisonError::into_inner).insert(scope) {
            return Err(Fault {
                retry_after_s: Some(RETRY_AFTER_S),
                details: vec![Detail::header(
                    "idempotency-key",
                    "in_progress",
                    "The first request with this key still runs.",
                )],
                ..Fault::new(
                    Code::IdempotencyInProgress,
                    "The first request with this idempotency key still runs; retry shortly.",
                )
            });
        }
        Ok(Ticket { scope, fingerprint: request.fingerprint, member, key: request.key.to_owned(), running })
    }

    /// What was answered to an earlier request with the key of `ticket`, if there was one. Nobody is the caller of an
    /// open operation.
    ///
    /// Faults: 422 when the key was used for another request, 403 when the answer holds a secret of another member, 404
    /// when the object is not visible to this credential.
    pub async fn idempotency_earlier(
        &self,
        caller: Option<&Caller>,
        ticket: &Ticket,
    ) -> Result<Option<Recording>, Fault> {
        let found = self.store().idempotency(&ticket.scope, self.clock().now()).await.map_err(fault::store)?;
        let is_visible = |record: &Record| {
            caller.is_none_or(|caller| {
                record.project_id.is_none_or(|p| caller.sees_project(p))
                    && record.environment_id.is_none_or(|e| caller.environment_id.is_none_or(|only| only == e))
            })
        };
        found.map(|record| replay(is_visible(&record), ticket, record)).transpose()
    }

    /// What is replayed from now on to a key whose request waited after its effect; nothing secret is recorded so.
    pub async fn idempotency_amend(&self, ticket: &Ticket, recording: Recording) -> Result<(), Fault> {
        let statement = nephos_store::idempotency::amend(
            &ticket.scope,
            recording.body,
            recording.etag,
            recording.preference_applied,
        );
        self.store().write(nephos_store::Batch::from(statement)).await.map(|_| ()).map_err(fault::store)
    }

    pub(crate) fn idempotency_record(
        &self,
        ticket: &Ticket,
        recording: Recording,
        project_id: Option<ProjectId>,
        environment_id: Option<EnvironmentId>,
        kept_in: Option<TenantId>,
    ) -> Statement {
        let now = self.clock().now();
        let body = if recording.is_secret { seal(&ticket.seal(), recording.body, self) } else { recording.body };
        let record = Record {
            fingerprint: ticket.fingerprint.to_vec(),
            member_id: ticket.member,
            project_id,
            environment_id,
            status: recording.status,
            body,
            is_sealed: recording.is_secret,
            location: recording.location,
            etag: recording.etag,
            preference_applied: recording.preference_applied,
        };
        let scope = Scope { tenant: kept_in.unwrap_or(ticket.scope.tenant), ..ticket.scope };
        nephos_store::idempotency::insert(&scope, record, now.plus(Duration::from_secs(KEPT_S)), now)
    }
}

fn replay(visible: bool, ticket: &Ticket, record: Record) -> Result<Recording, Fault> {
    if record.fingerprint != ticket.fingerprint {
        let detail =
            Detail::header("idempotency-key", "reused", "The key was used for a request with another query or body.");
        return Err(Fault {
            details: vec![detail],
            ..Fault::new(
                Code::IdempotencyKeyReused,
                "This idempotency key was used for another request; use a new key for a new request.",
            )
        });
    }
    if !visible {
        return Err(Fault::not_found("resource"));
    }
    let body = if record.is_sealed {
        if record.member_id != ticket.member {
            let detail =
                Detail::header("idempotency-key", "other_member", "The answer holds a secret of another member.");
            return Err(Fault {
                details: vec![detail],
                ..Fault::new(
                    Code::Forbidden,
                    "The answer to this idempotency key holds a secret and is replayed only to the member who asked first.",
                )
            });
        }
        unseal(&ticket.seal(), &record.body).ok_or_else(|| Fault::internal("a sealed answer can't be opened"))?
    } else {
        record.body
    };
    Ok(Recording {
        status: record.status,
        body,
        location: record.location,
        etag: record.etag,
        preference_applied: record.preference_applied,
        is_secret: record.is_sealed,
    })
}

/// The key that seals an answer (HKDF-SHA256, RFC 5869): only who knows the idempotency key can derive it.
fn seal_key(key: &str, tenant: i64) -> [u8; 32] {
    let mut out = [0; 32];
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, b"nephos idempotency seal v1").extract(key.as_bytes());
    let tenant = tenant.to_be_bytes();
    // 32 bytes is the hash's own length, far below the 255 times of it that HKDF can give.
    if let Ok(okm) = prk.expand(&[&tenant], hkdf::HKDF_SHA256) {
        let _ = okm.fill(&mut out);
    }
    out
}

fn aead_key(key: &[u8; 32]) -> Option<aead::LessSafeKey> {
    aead::UnboundKey::new(&aead::CHACHA20_POLY1305, key).ok().map(aead::LessSafeKey::new)
}

/// ChaCha20-Poly1305 (RFC 8439), the nonce before the ciphertext.
fn seal(key: &[u8; 32], mut body: Vec<u8>, cloud: &Cloud) -> Vec<u8> {
    let mut nonce = [0; aead::NONCE_LEN];
    cloud.entropy().fill(&mut nonce);
    let sealed = aead_key(key).and_then(|key| {
        key.seal_in_place_append_tag(aead::Nonce::assume_unique_for_key(nonce), aead::Aad::empty(), &mut body).ok()
    });
    // A body is at most a few KiB and the key has the right length, the only ways to fail; nothing is kept in clear.
    if sealed.is_none() {
        body.clear();
    }
    let mut out = nonce.to_vec();
    out.append(&mut body);
    out
}

fn unseal(key: &[u8; 32], sealed: &[u8]) -> Option<Vec<u8>> {
    let nonce = aead::Nonce::try_assume_unique_for_key(sealed.get(..aead::NONCE_LEN)?).ok()?;
    let mut body = sealed.get(aead::NONCE_LEN..)?.to_vec();
    let length = aead_key(key)?.open_in_place(nonce, aead::Aad::empty(), &mut body).ok()?.len();
    body.truncate(length);
    Some(body)
}
