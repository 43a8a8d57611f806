//! Who calls and what they may do. A permission is a value that a use-case demands and only [`Caller::permit`] makes.

use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use nephos_model::event::Actor;
use nephos_model::id::{EnvironmentId, KeyId, MemberId, ProjectId, RequestId, WorkspaceId};
use nephos_model::role::Role;
use nephos_model::scope::{Noun, Scope, Scopes};
use nephos_model::tenant::{Mode, TenantId};
use nephos_model::trace::TraceContext;
use nephos_model::{Code, Detail, Fault, Timestamp};

use crate::plan_limits::Limits;

/// What a request showed to prove who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// An API key.
    #[default]
    Key,
    /// A token that a key was exchanged for.
    Token,
}

/// Which secret of a key is meant, without telling the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SecretTag(pub(crate) u64);

impl fmt::Display for SecretTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for SecretTag {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let plain = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if plain { u64::from_str_radix(text, 16).map(Self).map_err(|_| ()) } else { Err(()) }
    }
}

/// How the caller proved who calls, and for how long that proof goes on working.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Proof {
    /// What was shown.
    pub kind: Kind,
    /// The secret behind it.
    pub secret: SecretTag,
    /// When it stops working by itself: the key's expiry, the end of a rotated secret, the token's own end. Nothing that
    /// is made with it lives longer.
    pub until: Option<Timestamp>,
}

/// An authenticated credential, as it is now.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Its workspace.
    pub workspace_id: WorkspaceId,
    /// Live or sandbox.
    pub mode: Mode,
    /// The tenant of workspace, mode and current epoch.
    pub tenant: TenantId,
    /// How far the sandbox's clock is ahead of the wall's; zero when live.
    pub clock_ahead: Duration,
    /// The member behind the credential.
    pub member_id: MemberId,
    /// The member's role now.
    pub role: Role,
    /// The API key, unless the console acts.
    pub key_id: Option<KeyId>,
    /// What was shown of the key.
    pub proof: Proof,
    /// What the credential is narrowed to.
    pub scopes: Scopes,
    /// The project it is narrowed to.
    pub project_id: Option<ProjectId>,
    /// The environment it is narrowed to.
    pub environment_id: Option<EnvironmentId>,
    /// Budgets and quotas of the workspace's plan.
    pub limits: Arc<Limits>,
}

/// What is known of a request beside its credential.
#[derive(Debug, Clone)]
pub struct Request {
    /// Our id of it.
    pub id: RequestId,
    /// The client's own id of it: visible ASCII, at most 128 characters, untrusted.
    pub client_request_id: Option<String>,
    /// The client's address.
    pub address: IpAddr,
    /// The trace that it continues, under the request's own span; `None` when it began one.
    pub trace: Option<TraceContext>,
}

/// What an operation is about, and so which credentials are too narrow for it whatever their scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Things that a project has, or that everybody sees: a narrowed credential sees its part of them.
    Part,
    /// The workspace as a whole: not for a credential that is narrowed to a project or environment.
    Whole,
    /// Who belongs to the workspace, and the workspace itself: not for a test key either, since it would reach what is live.
    WholeLive,
}

/// A permission: the scope and the least role that an operation needs, and how far it reaches.
pub trait Permission: Send + Sync + 'static {
    /// The scope.
    const SCOPE: Scope;
    /// The least role.
    const ROLE: Role;
    /// How far it reaches.
    const REACH: Reach;
}

macro_rules! permissions {
    (@reach) => { Reach::Part };
    (@reach $reach:ident) => { Reach::$reach };
    ($($(#[$doc:meta])* $name:ident = $verb:ident $noun:ident, $role:ident $(, $reach:ident)?;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name;
        impl Permission for $name {
            const SCOPE: Scope = Scope::$verb(Noun::$noun);
            const ROLE: Role = Role::$role;
            const REACH: Reach = permissions!(@reach $($reach)?);
        }
    )*};
}

permissions! {
    /// See projects.
    ProjectRead = read Project, Member;
    /// Make and rename projects.
    ProjectWrite = write Project, Member;
    /// Delete projects.
    ProjectDelete = write Project, Admin;
    /// See environments.
    EnvironmentRead = read Environment, Member;
    /// Make and rename environments.
    EnvironmentWrite = write Environment, Member;
    /// Delete environments.
    EnvironmentDelete = write Environment, Admin;
    /// See computes and their consoles.
    ComputeRead = read Compute, Member;
    /// Make, change, act on and delete computes.
    ComputeWrite = write Compute, Member;
    /// See images.
    ImageRead = read Image, Member;
    /// See sizes.
    SizeRead = read Size, Member;
    /// See regions.
    RegionRead = read Region, Member;
    /// See SSH keys.
    SshKeyRead = read SshKey, Member;
    /// Add and delete SSH keys.
    SshKeyWrite = write SshKey, Member;
    /// See operations.
    OperationRead = read Operation, Member;
    /// Cancel operations.
    OperationWrite = write Operation, Member;
    /// See events.
    EventRead = read Event, Member;
    /// See webhook endpoints and their log.
    WebhookRead = read Webhook, Member;
    /// Make, change, test and delete webhook endpoints, and send again.
    WebhookWrite = write Webhook, Admin;
    /// See how the installation is doing.
    StatusRead = read Status, Member;
    /// See usage.
    UsageRead = read Usage, Member;
    /// See what computes used and what requests were like.
    TelemetryRead = read Telemetry, Member;
    /// See API keys.
    ApiKeyRead = read ApiKey, Member;
    /// Make, change, rotate and revoke API keys.
    ApiKeyWrite = write ApiKey, Member;
    /// See the credential itself.
    MeRead = read Workspace, Member;
    /// See the workspace.
    WorkspaceRead = read Workspace, Member, Whole;
    /// Rename and delete the workspace.
    WorkspaceWrite = write Workspace, Owner, WholeLive;
    /// See members.
    MemberRead = read Member, Member, Whole;
    /// Change members' roles.
    MemberWrite = write Member, Owner, WholeLive;
    /// Remove members, or leave.
    MemberRemove = write Member, Member, WholeLive;
    /// See invitations.
    InvitationRead = read Invitation, Member, Whole;
    /// Invite people, and take invitations back.
    InvitationWrite = write Invitation, Admin, WholeLive;
    /// Read the audit log.
    AuditLogRead = read AuditLog, Admin, Whole;
    /// See invoices.
    InvoiceRead = read Invoice, Owner, Whole;
    /// See budget alerts.
    BudgetAlertRead = read BudgetAlert, Owner, Whole;
    /// Make, change and delete budget alerts.
    BudgetAlertWrite = write BudgetAlert, Owner, Whole;
    /// See budgets and quotas.
    LimitRead = read Limit, Member;
    /// Read the sandbox's clock.
    SandboxRead = read Sandbox, Member;
    /// Move the sandbox's clock.
    SandboxWrite = write Sandbox, Member;
    /// Reset the sandbox: its projects are deleted and keys of others revoked.
    SandboxReset = write Sandbox, Admin;
}

/// Proof that the caller of a request may do `P`.
#[derive(Debug)]
pub struct Grant<P> {
    caller: Arc<Caller>,
    request: Arc<Request>,
    permission: PhantomData<fn() -> P>,
}

impl<P> Clone for Grant<P> {
    fn clone(&self) -> Self {
        Self { caller: self.caller.clone(), request: self.request.clone(), permission: PhantomData }
    }
}

impl Caller {
    /// The grant of `P`, or the 403 that names what is missing.
    pub fn permit<P: Permission>(self: &Arc<Self>, request: &Arc<Request>) -> Result<Grant<P>, Fault> {
        self.check(P::SCOPE, P::ROLE, P::REACH)?;
        Ok(Grant { caller: self.clone(), request: request.clone(), permission: PhantomData })
    }

    /// Whether the caller has a scope and a role and reaches far enough, or the 403 that names what is missing.
    pub fn check(&self, scope: Scope, role: Role, reach: Reach) -> Result<(), Fault> {
        if !self.scopes.has(scope) {
            return Err(Fault::missing_scope(scope));
        }
        if self.role < role {
            return Err(Fault::missing_role(role));
        }
        if reach != Reach::Part {
            self.must_reach_whole()?;
        }
        if reach == Reach::WholeLive && self.mode == Mode::Test {
            let message =
                "This is a test key. It may read who belongs to the workspace, and only a live key changes it.";
            return Err(forbidden(Detail::new("test_credential", message)));
        }
        Ok(())
    }

    fn must_reach_whole(&self) -> Result<(), Fault> {
        let (what, id) = match (self.environment_id, self.project_id) {
            (Some(id), _) => ("environment", id.to_string()),
            (None, Some(id)) => ("project", id.to_string()),
            (None, None) => return Ok(()),
        };
        let message = format!(
            "This is about the whole workspace, and this credential is narrowed to the {what} {id}; use one that is not \
             narrowed."
        );
        Err(forbidden(Detail::new("narrowed_credential", message).resource(id)))
    }

    /// Who is written down as the cause of a change.
    pub fn actor(&self) -> Actor {
        self.key_id.map_or(Actor::Member(self.member_id), Actor::Key)
    }

    /// Whether something of a project is visible.
    pub fn sees_project(&self, project: ProjectId) -> bool {
        self.project_id.is_none_or(|only| only == project)
    }

    /// Whether something of an environment is visible.
    pub fn sees(&self, project: ProjectId, environment: EnvironmentId) -> bool {
        self.sees_project(project) && self.environment_id.is_none_or(|only| only == environment)
    }

    /// Whether something of a project, and perhaps of one of its environments, is visible.
    pub fn sees_within(&self, project: ProjectId, environment: Option<EnvironmentId>) -> bool {
        match environment {
            Some(environment) => self.sees(project, environment),
            None => self.sees_project(project) && self.environment_id.is_none(),
        }
    }

    /// Whether the credential is narrowed to a project or environment.
    pub fn is_narrowed(&self) -> bool {
        self.project_id.is_some() || self.environment_id.is_some()
    }
}

fn forbidden(detail: Detail) -> Fault {
    Fault { message: detail.message.clone(), details: vec![detail], ..Fault::new(Code::Forbidden, "") }
}

impl<P> Grant<P> {
    /// Who calls.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The request.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// The same permission where the caller is in the workspace's other mode, for what takes both along.
    pub(crate) fn of_caller(&self, caller: Caller) -> Self {
        Self { caller: Arc::new(caller), request: self.request.clone(), permission: PhantomData }
    }

    /// Whose rows.
    pub fn tenant(&self) -> TenantId {
        self.caller.tenant
    }
}
