//! Who is who: workspaces, members, API keys, the credential itself, and what a plan allows.

use nephos_model::api_key::ApiKey;
use nephos_model::invitation::Invitation;
use nephos_model::workspace::{Member, Workspace};
use schemars::JsonSchema;
use serde::Serialize;

use super::{DeprecatedCallView, time};
use crate::caller::Kind;

/// An API key. Its secret is never shown again.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "ApiKey")]
pub struct ApiKeyView {
    /// Its id, `key_…`.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The last characters of its secret.
    pub hint: String,
    /// `live` or `test`.
    pub mode: String,
    /// The member it belongs to, whose role it never exceeds.
    pub member_id: String,
    /// The scopes it is narrowed to; null: whatever the member may do.
    pub scopes: Option<Vec<String>>,
    /// The project it is narrowed to.
    pub project_id: Option<String>,
    /// The environment it is narrowed to.
    pub environment_id: Option<String>,
    /// The address ranges it is narrowed to; empty: any.
    pub allowed_ips: Vec<String>,
    /// When it stops working.
    pub expires_at: Option<String>,
    /// Until when the secret before the last rotation works too.
    pub previous_secret_until: Option<String>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<String>,
    /// When it was made.
    pub created_at: String,
    /// When it last changed.
    pub updated_at: String,
}

impl From<&ApiKey> for ApiKeyView {
    fn from(k: &ApiKey) -> Self {
        Self {
            id: k.id.to_string(),
            name: k.name.clone(),
            hint: k.hint.clone(),
            mode: k.mode.to_string(),
            member_id: k.member_id.to_string(),
            scopes: k.scopes.map(|scopes| scopes.iter().map(|scope| scope.to_string()).collect()),
            project_id: k.project_id.map(|id| id.to_string()),
            environment_id: k.environment_id.map(|id| id.to_string()),
            allowed_ips: k.allowed_ips.clone(),
            expires_at: k.expires_at.map(time),
            previous_secret_until: k.previous_until_at.map(time),
            last_used_at: k.last_used_at.map(time),
            created_at: time(k.created_at),
            updated_at: time(k.updated_at),
        }
    }
}

/// An API key, and what it calls that will not be there for ever.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "ApiKeyDetails")]
pub struct ApiKeyDetailsView {
    /// The key.
    #[serde(flatten)]
    pub key: ApiKeyView,
    /// The deprecated operations that it called.
    pub deprecated_calls: Vec<DeprecatedCallView>,
}

impl ApiKeyDetailsView {
    /// A key with what it called.
    pub fn new(key: &ApiKey, calls: &[crate::deprecation::DeprecatedCall]) -> Self {
        let call = |c: &crate::deprecation::DeprecatedCall| DeprecatedCallView {
            operation: c.operation.clone(),
            last_called_at: time(c.last_called_at),
        };
        Self { key: ApiKeyView::from(key), deprecated_calls: calls.iter().map(call).collect() }
    }
}

/// An API key with its secret: shown once, when it is made or rotated.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "ApiKeyWithSecret")]
pub struct ApiKeyWithSecretView {
    /// The key.
    #[serde(flatten)]
    pub key: ApiKeyView,
    /// The secret, for `Authorization: Bearer`. It is not shown again.
    pub secret: String,
}

impl From<&crate::api_key::KeyWithSecret> for ApiKeyWithSecretView {
    fn from(made: &crate::api_key::KeyWithSecret) -> Self {
        Self { key: ApiKeyView::from(&made.key), secret: made.secret.expose().to_owned() }
    }
}

/// A token for an API key, in the form of RFC 8693.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Token")]
pub struct TokenView {
    /// The token, for `Authorization: Bearer`. It is not shown again.
    pub access_token: String,
    /// What it is: an access token.
    pub issued_token_type: String,
    /// How it is used: `Bearer`.
    pub token_type: String,
    /// Seconds that it works.
    pub expires_in: u32,
    /// Its scopes, separated by spaces.
    pub scope: String,
}

impl From<&crate::token::Token> for TokenView {
    fn from(token: &crate::token::Token) -> Self {
        Self {
            access_token: token.text.clone(),
            issued_token_type: crate::token::ISSUED_TOKEN_TYPE.to_owned(),
            token_type: "Bearer".to_owned(),
            expires_in: token.expires_in_s,
            scope: token.scope(),
        }
    }
}

/// A workspace.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Workspace")]
pub struct WorkspaceView {
    /// Its id, `ws_…`.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Name of its plan.
    pub plan: String,
    /// Since when the operator suspends it.
    pub suspended_at: Option<String>,
    /// When it was made.
    pub created_at: String,
    /// When it last changed.
    pub updated_at: String,
}

impl From<&Workspace> for WorkspaceView {
    fn from(w: &Workspace) -> Self {
        Self {
            id: w.id.to_string(),
            name: w.name.clone(),
            plan: w.plan.clone(),
            suspended_at: w.suspended_at.map(time),
            created_at: time(w.created_at),
            updated_at: time(w.updated_at),
        }
    }
}

/// A person's place in a workspace.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Member")]
pub struct MemberView {
    /// Its id, `mem_…`.
    pub id: String,
    /// The person, `usr_…`.
    pub user_id: String,
    /// The person's e-mail address.
    pub email: String,
    /// `owner`, `admin` or `member`.
    pub role: String,
    /// When it was made.
    pub created_at: String,
    /// When it last changed.
    pub updated_at: String,
}

impl From<&Member> for MemberView {
    fn from(m: &Member) -> Self {
        Self {
            id: m.id.to_string(),
            user_id: m.user_id.to_string(),
            email: m.email.clone(),
            role: m.role.to_string(),
            created_at: time(m.created_at),
            updated_at: time(m.updated_at),
        }
    }
}

/// An invitation that can be accepted. Its token is never shown again.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Invitation")]
pub struct InvitationView {
    /// Its id, `ivt_…`.
    pub id: String,
    /// The e-mail address of the person.
    pub email: String,
    /// The role that the person will have: `owner`, `admin` or `member`.
    pub role: String,
    /// The member who invites, `mem_…`.
    pub invited_by: String,
    /// From when on it can't be accepted.
    pub expires_at: String,
    /// When it was made.
    pub created_at: String,
}

impl From<&Invitation> for InvitationView {
    fn from(i: &Invitation) -> Self {
        Self {
            id: i.id.to_string(),
            email: i.email.clone(),
            role: i.role.to_string(),
            invited_by: i.invited_by.to_string(),
            expires_at: time(i.expires_at),
            created_at: time(i.created_at),
        }
    }
}

/// An invitation with its token: shown once, when it is made.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "InvitationWithToken")]
pub struct InvitationWithTokenView {
    /// The invitation.
    #[serde(flatten)]
    pub invitation: InvitationView,
    /// The token by which it is accepted. Whoever has it can accept; it is not shown again.
    pub token: String,
    /// The same as a link to send to the person. The token is behind the `#`, so no server's log has it.
    pub url: String,
}

impl InvitationWithTokenView {
    /// The view of an invitation of an installation that is reached at `origin`.
    pub fn new(made: &crate::invitation::InvitationWithToken, origin: &str) -> Self {
        let token = made.token.expose().to_owned();
        Self {
            invitation: InvitationView::from(&made.invitation),
            url: crate::invitation::link(origin, &made.token),
            token,
        }
    }
}

/// What an accepted invitation gives: a place in the workspace, and a first key of each mode.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "AcceptedInvitation")]
pub struct AcceptedInvitationView {
    /// The new member.
    #[serde(flatten)]
    pub member: MemberView,
    /// The workspace, `ws_…`.
    pub workspace_id: String,
    /// The workspace's name.
    pub workspace_name: String,
    /// The member's first live key; its secret is not shown again.
    pub live_key: ApiKeyWithSecretView,
    /// The member's first test key; its secret is not shown again.
    pub test_key: ApiKeyWithSecretView,
}

impl From<&crate::invitation::Accepted> for AcceptedInvitationView {
    fn from(accepted: &crate::invitation::Accepted) -> Self {
        Self {
            member: MemberView::from(&accepted.member),
            workspace_id: accepted.workspace.id.to_string(),
            workspace_name: accepted.workspace.name.clone(),
            live_key: ApiKeyWithSecretView::from(&accepted.live_key),
            test_key: ApiKeyWithSecretView::from(&accepted.test_key),
        }
    }
}

/// The credential of a request, and what it may do now.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Me")]
pub struct MeView {
    /// Its workspace.
    pub workspace: WorkspaceView,
    /// `live` or `test`.
    pub mode: String,
    /// The member behind it.
    pub member: MemberView,
    /// The member's role now: `owner`, `admin` or `member`.
    pub role: String,
    /// Every scope it has.
    pub scopes: Vec<String>,
    /// What was sent: `api_key`, or `token` that a key was exchanged for.
    pub kind: String,
    /// When the credential stops working by itself.
    pub expires_at: Option<String>,
    /// The API key, also of a token; null in the console.
    pub api_key: Option<ApiKeyView>,
}

impl From<&crate::workspace::Me> for MeView {
    fn from(me: &crate::workspace::Me) -> Self {
        Self {
            workspace: WorkspaceView::from(&me.workspace),
            mode: me.mode.to_string(),
            member: MemberView::from(&me.member),
            role: me.member.role.to_string(),
            scopes: me.scopes.iter().map(|scope| scope.to_string()).collect(),
            kind: match me.kind {
                Kind::Key => "api_key",
                Kind::Token => "token",
            }
            .to_owned(),
            expires_at: me.expires_at.map(time),
            api_key: me.key.as_ref().map(ApiKeyView::from),
        }
    }
}

/// What the plan allows and what is used of it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Limits")]
pub struct LimitsView {
    /// Name of the plan.
    pub plan: String,
    /// Budgets of requests.
    pub budgets: Vec<BudgetView>,
    /// Quotas of resources.
    pub quotas: Vec<QuotaView>,
}

/// A budget of requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Budget")]
pub struct BudgetView {
    /// Its name, as a 429 has it.
    pub name: String,
    /// The surface that it is of: `platform` or `strettch`.
    pub surface: String,
    /// Requests in one window; null: no budget.
    pub limit: Option<u32>,
    /// Requests that are left now, after this one.
    pub remaining: Option<u32>,
    /// Seconds in one window.
    pub window_s: u32,
    /// Seconds until there are more; 0 when nothing of a rolling window is spent.
    pub reset_s: Option<u32>,
}

/// A quota of resources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Quota")]
pub struct QuotaView {
    /// What is counted, such as `computes` or `memory_mib`.
    pub name: String,
    /// The most there may be; null: no quota.
    pub limit: Option<u32>,
    /// What is used; null for a credential that is narrowed to a project.
    pub used: Option<i64>,
}

/// What a month cost and took, in all and by project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Usage")]
pub struct UsageView {
    /// The month, `YYYY-MM`, UTC.
    pub month: String,
    /// Requests, whatever their answer but 401 and 429.
    pub requests: i64,
    /// Projects that exist now; of a past month, at its end.
    pub projects: i64,
    /// Seconds for which computes ran.
    pub compute_seconds: i64,
    /// The price of it in millionths of the currency; null below the role `owner`.
    pub amount_microunits: Option<i64>,
    /// ISO 4217.
    pub currency: String,
    /// By project; the rows sum to the totals.
    pub by_project: Vec<ProjectUsageView>,
    /// What `group_by` asked for; null without it.
    pub group_by: Option<String>,
    /// The same figures by what `group_by` asked for; the rows sum to the totals. Null without it.
    pub groups: Option<Vec<UsageGroupView>>,
}

/// What a project, environment, size, region or day cost and took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "UsageGroup")]
pub struct UsageGroupView {
    /// The project's or environment's id, the name of the size or region, or the day, `YYYY-MM-DD`. Null for requests of no
    /// project, and for all requests where they are not counted by it: in groups by environment, size and region.
    pub key: Option<String>,
    /// Requests.
    pub requests: i64,
    /// Seconds for which computes ran.
    pub compute_seconds: i64,
    /// The price of it in millionths of the currency; null below the role `owner`.
    pub amount_microunits: Option<i64>,
}

/// What a project cost and took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "ProjectUsage")]
pub struct ProjectUsageView {
    /// The project; null for requests of no project.
    pub project_id: Option<String>,
    /// Its name, also when it was deleted; null without a project.
    pub project_name: Option<String>,
    /// Requests.
    pub requests: i64,
    /// Seconds for which computes ran.
    pub compute_seconds: i64,
    /// The price of it in millionths of the currency; null below the role `owner`.
    pub amount_microunits: Option<i64>,
}
