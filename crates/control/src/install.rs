//! What only the operator does: the first start, workspaces and their plans. Nobody here holds a grant; whoever can open
//! the admin socket is the operator.

use nephos_model::email::Email;
use nephos_model::fault::{Code, Detail};
use nephos_model::id::{Id, IdMint, MemberId, RequestId, UserId, WorkspaceId};
use nephos_model::key::Secret;
use nephos_model::name::Title;
use nephos_model::page::{Listed, Page};
use nephos_model::project::DEFAULT_NAME;
use nephos_model::role::Role;
use nephos_model::session::OPERATOR_LINK_LIFE;
use nephos_model::tenant::{Mode, TenantId};
use nephos_model::workspace::{Member, Workspace};
use nephos_model::{Fault, Timestamp, event::Actor};
use nephos_store as store;
use nephos_store::tenant::Tenant;
use nephos_store::{Batch, StoreError};
use ring::aead;

use crate::api_key::KeyWithSecret;
use crate::plan::{ATTEMPTS_MAX, After, Author, Change};
use crate::plan_limits::{Limits, quota};
use crate::view::{ApiKeyView, ProjectView, WorkspaceView, json};
use crate::{Cloud, fault};

/// What the first key of a member is called.
pub(crate) const FIRST_KEY: &str = "First key";
/// What the master key seals, to be known again.
const CANARY: &[u8; 16] = b"nephos canary v1";

/// Why the master key is not taken.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// The database was made with another one.
    #[error(
        "the database was made with another master key: start with the keys/master (or the file of \
         NEPHOS_MASTER_KEY_FILE) that belongs to it"
    )]
    Other,
    /// The key can't seal, a defect.
    #[error("the master key can't be used to seal")]
    Unusable,
    /// The database can't be asked.
    #[error("the database can't say whether the master key is its own: {0}")]
    Store(#[from] StoreError),
}

/// A workspace that was made, with its first keys, which are shown this once.
#[derive(Debug, Clone)]
pub struct Installed {
    /// The workspace.
    pub workspace_id: WorkspaceId,
    /// A live key of the owner.
    pub live_key: Secret,
    /// A test key of the owner.
    pub test_key: Secret,
    /// Where the owner signs in once, within a day.
    pub console_url: String,
}

/// Which names a workspace is looked up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    /// The installation's first workspace.
    Yes,
    /// One more.
    No,
}

impl Cloud {
    /// Refuses a master key that is not the one of the first start, at which it is kept what it is known by.
    pub async fn check_master_key(&self, key: &[u8; 32]) -> Result<(), MasterKeyError> {
        let kept = if let Some(kept) = self.store().canary().await? {
            kept
        } else {
            let mut nonce = [0; aead::NONCE_LEN];
            self.entropy().fill(&mut nonce);
            let fresh = seal_canary(key, nonce).ok_or(MasterKeyError::Unusable)?;
            // Of two first starts at once, one keeps its own and both look at that.
            let kept = self.store().keep_canary(fresh, self.clock().now()).await?;
            kept.ok_or(MasterKeyError::Unusable)?
        };
        if opens_canary(key, &kept) { Ok(()) } else { Err(MasterKeyError::Other) }
    }

    /// Makes every identifier from now on greater than all that are stored.
    pub async fn advance_ids(&self) -> Result<(), Fault> {
        if let Some(newest) = self.store().newest_id().await.map_err(fault::store)? {
            IdMint::advance_past(&self.0.last_id, newest);
        }
        Ok(())
    }

    /// Makes the first workspace; 409 when there was an `init` already.
    pub async fn init(&self, name: &str, email: &str, plan: &str) -> Result<Installed, Fault> {
        self.make_workspace(name, email, plan, First::Yes).await
    }

    /// Makes one more workspace; 409 when its name is taken.
    pub async fn create_workspace(&self, name: &str, email: &str, plan: &str) -> Result<Installed, Fault> {
        self.make_workspace(name, email, plan, First::No).await
    }

    async fn make_workspace(&self, name: &str, email: &str, plan: &str, first: First) -> Result<Installed, Fault> {
        let (name, email, limits) = self.check_workspace(name, email, plan)?;
        self.advance_ids().await?;
        for _ in 0..ATTEMPTS_MAX {
            let owner = self.store().user_by_email(&email).await.map_err(fault::store)?;
            let tenant = self.store().next_tenant().await.map_err(fault::store)?;
            let (made, batch) = self.new_workspace(&name, &email, owner, &limits, tenant, first);
            match self.store().write(batch).await {
                Ok(_) => {
                    self.wake(&After::default());
                    return Ok(made);
                }
                // Another process took the tenant's number, or made the user.
                Err(StoreError::Unique { .. }) => {}
                Err(error) => return Err(refusal(error)),
            }
        }
        Err(Fault::unavailable(fault::STORE_RETRY_AFTER_S, "other workspaces are being made at the same time"))
    }

    fn check_workspace(&self, name: &str, email: &str, plan: &str) -> Result<(Title, String, Limits), Fault> {
        let mut details = Vec::new();
        let name = name.parse::<Title>().map_err(|why| {
            details.push(Detail::at("/workspace", "invalid_value", format!("The workspace's name {why}.")));
        });
        let email = email.parse::<Email>().map_err(|why| {
            details.push(Detail::at("/owner", "invalid_value", format!("The owner {why}.")));
        });
        let limits = self.plan_limits(plan).map_err(|detail| details.push(detail));
        match (name, email, limits) {
            (Ok(name), Ok(email), Ok(limits)) => Ok((name, email.as_str().to_owned(), limits)),
            _ => Err(Fault::invalid(details)),
        }
    }

    fn plan_limits(&self, plan: &str) -> Result<Limits, Detail> {
        self.settings().plan(plan).ok_or_else(|| {
            let known = self.settings().plan_names().join(", ");
            Detail::at("/plan", "unknown_plan", format!("There is no plan \"{plan}\"; there are: {known}."))
        })
    }

    fn new_workspace(
        &self,
        name: &Title,
        email: &str,
        owner: Option<UserId>,
        limits: &Limits,
        first_tenant: TenantId,
        first: First,
    ) -> (Installed, Batch) {
        let now = self.clock().now();
        let mut batch = Batch::new();
        if first == First::Yes {
            batch.extend(store::install::initialize(now));
        }
        let workspace = Workspace {
            id: self.id(),
            name: name.as_str().to_owned(),
            plan: limits.plan.clone(),
            suspended_at: None,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        batch.push(store::workspace::insert(&workspace));
        let user_id = owner.unwrap_or_else(|| {
            let id = self.id();
            batch.push(store::member::insert_user(id, email, now));
            id
        });
        let member = Member {
            id: self.id::<MemberId>(),
            user_id,
            email: email.to_owned(),
            role: Role::Owner,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        batch.extend(store::member::insert(workspace.id, &member));
        let request = self.id::<RequestId>();
        let mut home = |mode: Mode, id: TenantId| {
            let tenant = Tenant { id, workspace_id: workspace.id, mode, epoch: 1, is_current: true, clock_ahead_us: 0 };
            batch.extend(store::tenant::insert(&tenant, now));
            if mode == Mode::Live {
                let view = json(&WorkspaceView::from(&workspace));
                let id = workspace.id.to_string();
                let change = created("workspace.created", "workspace.create", id, view);
                self.operator_journal(&mut batch, tenant.id, request, now, change);
            }
            let (project, _, statements) = self.new_project(tenant.id, DEFAULT_NAME, true, now);
            batch.push(store::counter::take(tenant.id, "quota.projects", 1, quota(None)));
            batch.extend(statements);
            let view = json(&ProjectView::from(&project));
            let mut change = created("project.created", "project.create", project.id.to_string(), view);
            change.project_id = Some(project.id);
            self.operator_journal(&mut batch, tenant.id, request, now, change);
            self.first_key(&mut batch, &tenant, member.id, request, now)
        };
        let live_key = home(Mode::Live, first_tenant);
        let test_key = home(Mode::Test, TenantId(first_tenant.0 + 1));
        let (link, row) = self.sign_in_link(user_id, OPERATOR_LINK_LIFE);
        batch.push(row);
        (Installed { workspace_id: workspace.id, live_key, test_key, console_url: link.url }, batch)
    }

    fn first_key(
        &self,
        batch: &mut Batch,
        tenant: &Tenant,
        member: MemberId,
        request: RequestId,
        now: Timestamp,
    ) -> Secret {
        let KeyWithSecret { key, secret } = self.new_key(member, tenant.mode, FIRST_KEY, now);
        batch.extend(store::api_key::insert(tenant.id, tenant.workspace_id, &key, secret.hash(), quota(None)));
        let view = json(&ApiKeyView::from(&key));
        let change = created("api_key.created", "api_key.create", key.id.to_string(), view);
        self.operator_journal(batch, tenant.id, request, now, change);
        secret
    }

    /// A page of all workspaces, newest first.
    pub async fn list_workspaces(&self, page: &Page) -> Result<Listed<Workspace>, Fault> {
        self.store().workspaces(page).await.map_err(fault::store)
    }

    /// Refuses a workspace's requests from now on; its computes go on. One that is suspended stays so.
    pub async fn suspend_workspace(&self, workspace: &str) -> Result<Workspace, Fault> {
        self.change_workspace(workspace, "workspace.suspended", "workspace.suspend", |w, now| {
            w.suspended_at = w.suspended_at.or(Some(now));
        })
        .await
    }

    /// Ends a suspension. A workspace that is not suspended stays so.
    pub async fn resume_workspace(&self, workspace: &str) -> Result<Workspace, Fault> {
        self.change_workspace(workspace, "workspace.resumed", "workspace.resume", |w, _| w.suspended_at = None).await
    }

    /// Gives a workspace another plan; 400 when there is no such plan.
    pub async fn set_plan(&self, workspace: &str, plan: &str) -> Result<Workspace, Fault> {
        let limits = self.plan_limits(plan).map_err(Fault::bad)?;
        self.change_workspace(workspace, "workspace.updated", "workspace.set_plan", |w, _| {
            w.plan.clone_from(&limits.plan);
        })
        .await
    }

    /// The workspace of an id or a name, or 404.
    pub(crate) async fn workspace_of(&self, named: &str) -> Result<Workspace, Fault> {
        let found = match named.parse::<WorkspaceId>() {
            Ok(id) => self.store().workspace(id).await,
            Err(_) => self.store().workspace_named(named).await,
        };
        found.map_err(fault::store)?.ok_or_else(|| Fault::not_found("workspace"))
    }

    /// Changes a workspace, which is named by its id or its name.
    async fn change_workspace(
        &self,
        named: &str,
        event: &'static str,
        action: &'static str,
        change: impl Fn(&mut Workspace, Timestamp),
    ) -> Result<Workspace, Fault> {
        for _ in 0..ATTEMPTS_MAX {
            let before = self.workspace_of(named).await?;
            let now = self.clock().now();
            let mut after = before.clone();
            change(&mut after, now);
            if after == before {
                return Ok(before);
            }
            after.version += 1;
            after.updated_at = now;
            let live = self.store().current_tenant(before.id, Mode::Live).await.map_err(fault::store)?;
            let live = live.ok_or_else(|| Fault::internal("a workspace without a live tenant"))?;
            let mut batch: Batch = store::workspace::update(&before, &after.plan, after.suspended_at, now).into();
            let told = Change {
                before: Some(json(&WorkspaceView::from(&before))),
                status: 200,
                ..created(event, action, after.id.to_string(), json(&WorkspaceView::from(&after)))
            };
            self.operator_journal(&mut batch, live.id, self.id(), now, told);
            match self.store().write(batch).await {
                Ok(_) => {
                    self.wake(&After { credentials: true, ..After::default() });
                    return Ok(after);
                }
                Err(error) if error.missed() == Some(store::project::STALE) => {}
                Err(error) => return Err(refusal(error)),
            }
        }
        Err(Fault::unavailable(fault::STORE_RETRY_AFTER_S, "the workspace is being changed at the same time"))
    }

    /// Adds the event and the audit row of what the operator does.
    fn operator_journal(
        &self,
        batch: &mut Batch,
        tenant: TenantId,
        request: RequestId,
        now: Timestamp,
        change: Change,
    ) {
        let author = Author {
            tenant,
            actor: Actor::Operator,
            member_id: None,
            address: None,
            client_request_id: None,
            request_id: request.raw().to_uuid(),
        };
        self.tell(batch, &author, now, change);
    }
}

fn created(event: &'static str, action: &'static str, resource_id: String, view: String) -> Change {
    Change {
        event,
        action,
        resource_id,
        project_id: None,
        environment_id: None,
        before: None,
        after: Some(view),
        status: 201,
    }
}

const INITIALIZED: &str = "This installation was initialized already: its keys were printed then. `nephos workspace create` makes more workspaces.";

fn refusal(error: StoreError) -> Fault {
    let conflict = |pointer: &str, code, message| Fault::conflict(Detail::at(pointer, code, message));
    match error.missed() {
        Some(store::install::INITIALIZED) => {
            Fault { details: vec![Detail::new("initialized", INITIALIZED)], ..Fault::new(Code::Conflict, INITIALIZED) }
        }
        Some(store::workspace::NAME_TAKEN) => {
            conflict("/workspace", "name_taken", "There is a workspace of this name already.")
        }
        _ => fault::store(error),
    }
}

fn aead_key(key: &[u8; 32]) -> Option<aead::LessSafeKey> {
    aead::UnboundKey::new(&aead::CHACHA20_POLY1305, key).ok().map(aead::LessSafeKey::new)
}

/// ChaCha20-Poly1305 (RFC 8439), the nonce before the ciphertext.
fn seal_canary(key: &[u8; 32], nonce: [u8; aead::NONCE_LEN]) -> Option<Vec<u8>> {
    let mut body = CANARY.to_vec();
    let seal = aead::Nonce::assume_unique_for_key(nonce);
    aead_key(key)?.seal_in_place_append_tag(seal, aead::Aad::empty(), &mut body).ok()?;
    let mut out = nonce.to_vec();
    out.append(&mut body);
    Some(out)
}

/// Whether `key` is the master key that sealed a database's canary.
pub fn opens_canary(key: &[u8; 32], kept: &[u8]) -> bool {
    let Some((nonce, body)) = kept.split_at_checked(aead::NONCE_LEN) else { return false };
    let (Ok(nonce), Some(key)) = (aead::Nonce::try_assume_unique_for_key(nonce), aead_key(key)) else { return false };
    let mut body = body.to_vec();
    key.open_in_place(nonce, aead::Aad::empty(), &mut body).is_ok_and(|clear| clear == CANARY)
}
