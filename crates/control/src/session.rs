//! People in the console: links that sign in once, sessions, and the [`Caller`] that a person is in a workspace.
//!
//! A person has no scopes and no key: in each workspace the role there decides, as it is at this request. Deliberately
//! not here: cookies and pages.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use nephos_model::email::Email;
use nephos_model::fault::{Code, Detail};
use nephos_model::id::{SessionId, UserId};
use nephos_model::scope::Scopes;
use nephos_model::session::{
    AGENT_CHARS_MAX, IDLE_LIFE, LIFE, MAILED_LINK_LIFE, Membership, OPERATOR_LINK_LIFE, Session, SessionSecret,
    SignInToken,
};
use nephos_model::tenant::Mode;
use nephos_model::{Fault, Timestamp};
use nephos_store as store;
use nephos_store::{Batch, Statement, StoreError};

use crate::caller::{Caller, Proof};
use crate::mail::letter::Letter;
use crate::plan::After;
use crate::plan_limits::Limits;
use crate::{Cloud, fault};

/// Links of one person that can be used at once, at most.
pub const LINKS_PER_USER_MAX: i64 = 5;
/// Sessions of one person that are listed, at most.
pub const SESSIONS_LISTED_MAX: u32 = 100;
/// Workspaces of one person that are listed, at most.
pub const MEMBERSHIPS_LISTED_MAX: u32 = 200;
/// Seconds between two notes of when a session was used.
const SEEN_EVERY: Duration = Duration::from_secs(60);

/// Where a link leads. Opening it changes nothing: what reads links in letters would use it up.
pub fn link(origin: &str, token: &SignInToken) -> String {
    format!("{origin}/console/sign-in?token={}", token.expose())
}

/// A link that signs a person in once.
#[derive(Debug, Clone)]
pub struct SignInLink {
    /// Where it leads. It is a credential.
    pub url: String,
    /// From when on it can't be used.
    pub expires_at: Timestamp,
}

/// A session with its secret, which the browser is told this once.
#[derive(Debug, Clone)]
pub struct Begun {
    /// The session.
    pub session: Session,
    /// Its secret.
    pub secret: SessionSecret,
}

impl Cloud {
    /// A link that the operator gives to a person, by e-mail address; 404 when nobody has that address.
    pub async fn operator_sign_in_link(&self, email: &str) -> Result<SignInLink, Fault> {
        let email: Email = email
            .parse()
            .map_err(|why| Fault::bad(Detail::at("/email", "invalid_value", format!("The address {why}."))))?;
        let user = self.store().user_by_email(email.as_str()).await.map_err(fault::store)?;
        let user = user.ok_or_else(|| Fault::not_found("person with that e-mail address"))?;
        let (link, row) = self.sign_in_link(user, OPERATOR_LINK_LIFE);
        self.store().write(row.into()).await.map_err(fault::store)?;
        Ok(link)
    }

    /// A fresh link with its row.
    pub(crate) fn sign_in_link(&self, user: UserId, life: Duration) -> (SignInLink, Statement) {
        let now = self.clock().now();
        let token = SignInToken::generate(self.entropy());
        let expires_at = now.plus(life);
        let row = store::session::insert_link(user, token.hash(), expires_at, now);
        (SignInLink { url: link(&self.settings().origin, &token), expires_at }, row)
    }

    /// Sends a person a link. What is answered tells nobody whether there is such a person.
    ///
    /// Faults: 400 for what is no e-mail address, 429 when a network asks too often, 503 when the store can't be asked.
    pub async fn mail_sign_in_link(&self, email: &str, address: IpAddr) -> Result<(), Fault> {
        let email: Email = email
            .parse()
            .map_err(|why| Fault::bad(Detail::at("/email", "invalid_value", format!("The address {why}."))))?;
        // Counted whether or not there is such a person, as a credential that failed.
        let counted = self.refuse_credential(address, Fault::new(Code::Unauthorized, ""));
        if counted.code == Code::TooManyRequests {
            return Err(counted);
        }
        let Some(user) = self.store().user_by_email(email.as_str()).await.map_err(fault::store)? else { return Ok(()) };
        let now = self.clock().now();
        if self.store().sign_in_links(user, now).await.map_err(fault::store)? >= LINKS_PER_USER_MAX {
            return Ok(());
        }
        let (link, row) = self.sign_in_link(user, MAILED_LINK_LIFE);
        let letter = Letter::SignIn { url: link.url, expires_at: link.expires_at, address: address.to_string() };
        let mut batch = Batch::from(row);
        batch.extend(self.mail_to(email.as_str(), None, &letter));
        self.store().write(batch).await.map_err(fault::store)?;
        self.wake(&After { mail: true, ..After::default() });
        Ok(())
    }

    /// Begins a session with a link, which is used up.
    ///
    /// Faults: 401 for a link that is not, or no longer, one, which counts as a failed credential.
    pub async fn sign_in(&self, token: &str, address: IpAddr, agent: &str) -> Result<Begun, Fault> {
        let refused = || {
            let message =
                "This link can't be used: it was used before, it is too old, or not whole. Ask for another one.";
            let details = vec![Detail::new("invalid_sign_in_link", message)];
            self.refuse_credential(address, Fault { details, ..Fault::new(Code::Unauthorized, message) })
        };
        let Some(hash) = SignInToken::recognize(token) else { return Err(refused()) };
        let now = self.clock().now();
        let user = self.store().sign_in_link(hash, now).await.map_err(fault::store)?;
        let user_id = user.ok_or_else(refused)?;
        let secret = SessionSecret::generate(self.entropy());
        let session = Session {
            id: self.id(),
            user_id,
            email: String::new(),
            address: address.to_string(),
            agent: agent.chars().filter(|c| !c.is_control()).take(AGENT_CHARS_MAX).collect(),
            seen_at: now,
            expires_at: now.plus(LIFE),
            created_at: now,
        };
        let begin: Batch = store::session::begin(hash, &session, secret.hash()).into_iter().collect();
        match self.store().write(begin).await {
            Ok(_) => Ok(Begun { session, secret }),
            // It was used in the same moment.
            Err(StoreError::Missed { .. }) => Err(refused()),
            Err(error) => Err(fault::store(error)),
        }
    }

    /// The session of a secret, if it lasts.
    pub async fn session(&self, secret: &str) -> Result<Option<Session>, Fault> {
        let Some(hash) = SessionSecret::recognize(secret) else { return Ok(None) };
        let now = self.clock().now();
        let found = self.store().session_by_hash(hash).await.map_err(fault::store)?;
        let Some(session) = found.filter(|session| session.lasts(now)) else { return Ok(None) };
        if now >= session.seen_at.plus(SEEN_EVERY) {
            // That it can't be written now ends no session: the next use writes it.
            let _ = self.store().write(store::session::seen(session.id, now).into()).await;
        }
        Ok(Some(session))
    }

    /// The workspaces of a person, the oldest place first.
    pub async fn memberships(&self, user: UserId) -> Result<Vec<Membership>, Fault> {
        self.store().memberships(user, MEMBERSHIPS_LISTED_MAX).await.map_err(fault::store)
    }

    /// Who a person is in a workspace, by the place that was read for this request.
    ///
    /// Faults: 403 while the workspace is suspended.
    pub async fn caller_of_session(
        &self,
        session: &Session,
        place: &Membership,
        mode: Mode,
    ) -> Result<Arc<Caller>, Fault> {
        if place.is_suspended {
            return Err(self.suspended());
        }
        let tenant = self.store().current_tenant(place.workspace_id, mode).await.map_err(fault::store)?;
        let tenant = tenant.ok_or_else(|| Fault::internal("a workspace without a tenant"))?;
        let limits = self.settings().plan(&place.plan).unwrap_or_else(Limits::standard);
        Ok(Arc::new(Caller {
            workspace_id: place.workspace_id,
            mode,
            tenant: tenant.id,
            clock_ahead: Duration::from_micros(u64::try_from(tenant.clock_ahead_us).unwrap_or(0)),
            member_id: place.member_id,
            role: place.role,
            key_id: None,
            proof: Proof { until: Some(session.expires_at), ..Proof::default() },
            scopes: Scopes::EVERY,
            project_id: None,
            environment_id: None,
            limits: Arc::new(limits),
        }))
    }

    /// A person's sessions that last, newest first.
    pub async fn sessions(&self, user: UserId) -> Result<Vec<Session>, Fault> {
        let now = self.clock().now();
        let found = self.store().sessions(user, SESSIONS_LISTED_MAX).await.map_err(fault::store)?;
        Ok(found.into_iter().filter(|session| session.lasts(now)).collect())
    }

    /// Ends a session of a person.
    pub async fn end_session(&self, user: UserId, id: SessionId) -> Result<(), Fault> {
        self.store().write(store::session::end(user, id).into()).await.map(|_| ()).map_err(fault::store)
    }

    /// Removes the rows of links and sessions that are over.
    pub(crate) fn expire_sessions(&self, batch: &mut Batch) {
        let now = self.clock().now();
        batch.extend(store::session::expire(now, now.minus(IDLE_LIFE)));
    }
}
