//! API keys. Nothing here gives a credential more than the one that asks has itself.

use std::time::Duration;

use nephos_model::api_key::{ALLOWED_IPS_MAX, ApiKey, GRACE_S_MAX};
use nephos_model::fault::{Code, Detail};
use nephos_model::id::{EnvironmentId, KeyId, MemberId, ProjectId};
use nephos_model::key::Secret;
use nephos_model::name::Title;
use nephos_model::page::{LIMIT_MAX, Listed, Page, Start};
use nephos_model::role::Role;
use nephos_model::scope::Scopes;
use nephos_model::tenant::Mode;
use nephos_model::{Fault, Timestamp};
use nephos_store as store;
use nephos_store::Statement;

use crate::address::Range;
use crate::caller::{ApiKeyRead, ApiKeyWrite, Caller, Grant};
use crate::plan::{Change, Plan};
use crate::plan_limits::quota;
use crate::view::{ApiKeyView, json};
use crate::{Cloud, fault};

/// API keys of one member at most, live and test ones together: a removal revokes them in one transaction.
pub const KEYS_PER_MEMBER_MAX: u32 = 1_000;

/// What a new key shall be. What is absent is as wide as the credential that makes it.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    /// Its name.
    pub name: Title,
    /// The scopes it is narrowed to.
    pub scopes: Option<Scopes>,
    /// The project it is narrowed to.
    pub project_id: Option<ProjectId>,
    /// The environment it is narrowed to.
    pub environment_id: Option<EnvironmentId>,
    /// The addresses or ranges (CIDR) it is narrowed to; empty: as the credential that makes it.
    pub allowed_ips: Vec<String>,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
}

/// A key with its secret, which is shown this once.
#[derive(Debug, Clone)]
pub struct KeyWithSecret {
    /// The key.
    pub key: ApiKey,
    /// Its secret.
    pub secret: Secret,
}

/// What a credential is narrowed to, and so what it may give away at most.
#[derive(Debug, Clone)]
struct Bounds {
    scopes: Scopes,
    project_id: Option<ProjectId>,
    environment_id: Option<EnvironmentId>,
    expires_at: Option<Timestamp>,
    ranges: Vec<Range>,
}

impl Cloud {
    /// One key, or 404. Live keys see live ones, test keys test ones.
    pub async fn api_key(&self, grant: &Grant<ApiKeyRead>, id: KeyId) -> Result<ApiKey, Fault> {
        Ok(self.with_last_use(self.visible_api_key(grant, id).await?))
    }

    /// One key that is to be changed, rotated or revoked, or 404.
    pub async fn api_key_to_change(&self, grant: &Grant<ApiKeyWrite>, id: KeyId) -> Result<ApiKey, Fault> {
        Ok(self.with_last_use(self.visible_api_key(grant, id).await?))
    }

    async fn visible_api_key<P>(&self, grant: &Grant<P>, id: KeyId) -> Result<ApiKey, Fault> {
        let caller = grant.caller();
        let found = self.store().api_key(caller.workspace_id, caller.mode, id).await.map_err(fault::store)?;
        found.filter(|key| sees(caller, key)).ok_or_else(|| Fault::not_found("API key"))
    }

    /// A page of the keys that the credential sees.
    pub async fn api_keys(
        &self,
        grant: &Grant<ApiKeyRead>,
        name: Option<&str>,
        page: &Page,
    ) -> Result<Listed<ApiKey>, Fault> {
        let caller = grant.caller();
        let only = caller.project_id.map(|project| (project, caller.environment_id));
        let listed = self.store().api_keys(caller.tenant, caller.workspace_id, caller.mode, only, name, page).await;
        let listed = listed.map_err(fault::store)?;
        let items = listed.items.into_iter().map(|key| self.with_last_use(key)).collect();
        Ok(Listed { items, ..listed })
    }

    /// The key with a last use that is not written yet.
    pub(crate) fn with_last_use(&self, mut key: ApiKey) -> ApiKey {
        key.last_used_at = key.last_used_at.max(self.0.credentials.last_used(key.id));
        key
    }

    /// A new key of the caller's member.
    ///
    /// Faults: 400 for a wrong range or time, 404 for an unknown project or environment, 403 for what is beyond the credential itself.
    pub async fn create_api_key(
        &self,
        grant: &Grant<ApiKeyWrite>,
        new: NewApiKey,
    ) -> Result<Plan<KeyWithSecret>, Fault> {
        let caller = grant.caller();
        let now = self.clock().now();
        let own = self.own_key(caller).await?;
        self.must_have_few_keys(caller.member_id).await?;
        let bounds = Bounds::of(caller, own.as_ref());
        let home = self.narrowed_home(grant, &new).await;
        let ((project_id, environment_id), ranges) = match (home, parsed_ranges(&new, now)) {
            (Ok(home), Ok(ranges)) => (home, ranges),
            (home, ranges) => return Err(fault::together([home.err(), ranges.err()].into_iter().flatten().collect())),
        };
        let KeyWithSecret { key, secret } = self.new_key(caller.member_id, caller.mode, new.name.as_str(), now);
        let inherited = || bounds.ranges.iter().map(ToString::to_string).collect();
        let key = ApiKey {
            // A credential that has every scope gives whatever there is, also scopes of later versions.
            scopes: new.scopes.or((bounds.scopes != Scopes::EVERY).then_some(bounds.scopes)),
            project_id,
            environment_id,
            allowed_ips: if ranges.is_empty() { inherited() } else { ranges.iter().map(ToString::to_string).collect() },
            expires_at: new.expires_at.or(bounds.expires_at),
            ..key
        };
        bounds.must_cover(&key)?;
        let mut plan = Plan::new(KeyWithSecret { key, secret });
        let key = &plan.value.key;
        let mut writes = held(caller, own.as_ref());
        writes.extend(project_id.map(|id| store::project::hold(caller.tenant, id)));
        writes.extend(environment_id.map(|id| store::environment::hold(caller.tenant, id)));
        let limit = quota(caller.limits.api_keys);
        let hash = plan.value.secret.hash();
        writes.extend(store::api_key::insert(caller.tenant, caller.workspace_id, key, hash, limit));
        let change = change("api_key.created", "api_key.create", None, Some(key), 201);
        plan.project_id = project_id;
        plan.environment_id = environment_id;
        plan.counts(caller.tenant, "quota.api_keys", 1, limit);
        plan.write(writes);
        self.journal(&mut plan, grant, now, change);
        Ok(plan)
    }

    /// 422 when a member has as many keys as can be revoked at once when the member is removed. Few at the same time may
    /// still slip in, for which there is room.
    async fn must_have_few_keys(&self, member: MemberId) -> Result<(), Fault> {
        let count = self.store().api_keys_of_count(member, KEYS_PER_MEMBER_MAX).await.map_err(fault::store)?;
        if count < i64::from(KEYS_PER_MEMBER_MAX) {
            return Ok(());
        }
        let message = format!("A member has at most {KEYS_PER_MEMBER_MAX} API keys; revoke some of them first.");
        let detail = Detail::new("keys_of_member", message.clone());
        Err(Fault { details: vec![detail], ..Fault::new(Code::QuotaExceeded, message) })
    }

    /// The project and environment of a new key: those asked for, else those of the credential.
    async fn narrowed_home(
        &self,
        grant: &Grant<ApiKeyWrite>,
        new: &NewApiKey,
    ) -> Result<(Option<ProjectId>, Option<EnvironmentId>), Fault> {
        let caller = grant.caller();
        let environment_id = new.environment_id.or(caller.environment_id);
        let project_id = new.project_id.or(caller.project_id);
        if let Some(id) = environment_id {
            let found = self.store().environment(caller.tenant, id).await.map_err(fault::store)?;
            let found = found.filter(|e| caller.sees(e.project_id, e.id));
            let environment =
                found.ok_or_else(|| fault::of_body(Fault::not_found("environment"), "/environment_id"))?;
            if let Some(project) = project_id.filter(|project| *project != environment.project_id) {
                let message = format!("must be the id of an environment of the project {project}");
                return Err(Fault::bad(Detail::field("/environment_id", "unknown_environment", message)));
            }
            return Ok((Some(environment.project_id), Some(id)));
        }
        if let Some(id) = project_id {
            self.visible_project(grant, id).await.map_err(|fault| fault::of_body(fault, "/project_id"))?;
        }
        Ok((project_id, None))
    }

    /// A key of a member that is not narrowed in any way.
    pub(crate) fn new_key(&self, member_id: MemberId, mode: Mode, name: &str, now: Timestamp) -> KeyWithSecret {
        let secret = Secret::generate(mode, self.entropy());
        let key = ApiKey {
            id: self.id(),
            member_id,
            name: name.to_owned(),
            hint: secret.hint().to_owned(),
            mode,
            scopes: None,
            project_id: None,
            environment_id: None,
            allowed_ips: Vec::new(),
            expires_at: None,
            previous_until_at: None,
            revoked_at: None,
            last_used_at: None,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        KeyWithSecret { key, secret }
    }

    /// The key of the credential itself as it is now; 401 when it was revoked meanwhile.
    pub(crate) async fn own_key(&self, caller: &Caller) -> Result<Option<ApiKey>, Fault> {
        let Some(id) = caller.key_id else { return Ok(None) };
        let found = self.store().api_key(caller.workspace_id, caller.mode, id).await.map_err(fault::store)?;
        let gone = || Fault::new(Code::Unauthorized, "This key was revoked. Make another one.");
        found.ok_or_else(gone).map(Some)
    }

    /// A key with another name. Only its member renames it.
    pub fn rename_api_key(
        &self,
        grant: &Grant<ApiKeyWrite>,
        key: ApiKey,
        name: Option<&Title>,
    ) -> Result<Plan<ApiKey>, Fault> {
        only_own(grant.caller(), &key, "rename")?;
        let now = self.clock().now();
        let (project, environment) = (key.project_id, key.environment_id);
        let mut renamed = key.clone();
        if let Some(name) = name {
            name.as_str().clone_into(&mut renamed.name);
        }
        if renamed == key {
            return Ok(Plan { project_id: project, environment_id: environment, ..Plan::new(key) });
        }
        renamed.version += 1;
        renamed.updated_at = now;
        let mut plan = Plan { project_id: project, environment_id: environment, ..Plan::new(renamed) };
        plan.write([store::api_key::rename(&key, &plan.value.name, now)]);
        let change = change("api_key.updated", "api_key.update", Some(&key), Some(&plan.value), 200);
        self.journal(&mut plan, grant, now, change);
        Ok(plan)
    }

    /// A key with another secret; the present one works for `grace_s` more seconds, at most [`GRACE_S_MAX`]. Only its
    /// member rotates it, with a credential that is not narrower than the key.
    pub async fn rotate_api_key(
        &self,
        grant: &Grant<ApiKeyWrite>,
        key: ApiKey,
        grace_s: i64,
    ) -> Result<Plan<KeyWithSecret>, Fault> {
        let caller = grant.caller();
        only_own(caller, &key, "rotate")?;
        if !(0..=GRACE_S_MAX).contains(&grace_s) {
            let message = format!("must be from 0 to {GRACE_S_MAX}");
            return Err(Fault::bad(Detail::field("/grace_seconds", "out_of_range", message)));
        }
        let own = self.own_key(caller).await?;
        Bounds::of(caller, own.as_ref()).must_cover(&key)?;
        let now = self.clock().now();
        if let Some(until) = key.previous_until_at.filter(|until| grace_s > 0 && *until > now) {
            let message = format!(
                "The secret before the last rotation works until {until}, and a key has two secrets at most. Rotate \
                 again after that, or with `grace_seconds` 0 to end both earlier secrets now."
            );
            return Err(Fault::conflict(Detail::new("grace_running", message).resource(key.id)));
        }
        let secret = Secret::generate(key.mode, self.entropy());
        let mut rotated = key.clone();
        secret.hint().clone_into(&mut rotated.hint);
        let grace = Duration::from_secs(u64::try_from(grace_s).unwrap_or(0));
        rotated.previous_until_at = (grace_s > 0).then(|| now.plus(grace));
        rotated.version += 1;
        rotated.updated_at = now;
        let mut plan = Plan::new(KeyWithSecret { key: rotated, secret });
        plan.project_id = key.project_id;
        plan.environment_id = key.environment_id;
        let rotated = &plan.value.key;
        let hash = plan.value.secret.hash();
        let rotate = store::api_key::rotate(&key, hash, &rotated.hint, rotated.previous_until_at, now);
        let change = change("api_key.rotated", "api_key.rotate", Some(&key), Some(rotated), 200);
        plan.write(held(caller, own.as_ref().filter(|own| own.id != key.id)));
        plan.write([rotate]);
        plan.after.credentials = true;
        self.journal(&mut plan, grant, now, change);
        Ok(plan)
    }

    /// No more key. Another member's key is revoked by an Admin; a key that would revoke itself is 409.
    pub fn revoke_api_key(&self, grant: &Grant<ApiKeyWrite>, key: ApiKey) -> Result<Plan<ApiKey>, Fault> {
        let caller = grant.caller();
        if caller.key_id == Some(key.id) {
            let message = "A key can't delete itself; use another key.";
            return Err(Fault::conflict(Detail::new("own_key", message).resource(key.id)));
        }
        if caller.member_id != key.member_id && caller.role < Role::Admin {
            return Err(Fault::missing_role(Role::Admin));
        }
        let now = self.clock().now();
        let change = change("api_key.deleted", "api_key.delete", Some(&key), None, 200);
        let mut plan = Plan::new(key);
        plan.project_id = plan.value.project_id;
        plan.environment_id = plan.value.environment_id;
        plan.write(store::api_key::revoke(caller.tenant, &plan.value, now));
        plan.after.credentials = true;
        self.journal(&mut plan, grant, now, change);
        Ok(plan)
    }

    /// Tells of the keys that [`Cloud::revoke_narrowed`] revokes.
    pub(crate) async fn announce_revoked<T, P>(
        &self,
        plan: &mut Plan<T>,
        grant: &Grant<P>,
        project: ProjectId,
        environment: Option<EnvironmentId>,
    ) -> Result<(), Fault> {
        let caller = grant.caller();
        let now = self.clock().now();
        let mut page = Page { limit: LIMIT_MAX, ..Page::default() };
        loop {
            let only = Some((project, environment));
            let keys = self.store().api_keys(caller.tenant, caller.workspace_id, caller.mode, only, None, &page).await;
            let keys = keys.map_err(fault::store)?;
            for key in &keys.items {
                let change = change("api_key.deleted", "api_key.delete", Some(key), None, 200);
                self.announce(plan, grant, now, &change);
            }
            match keys.items.last() {
                Some(last) if keys.more => page.start = Start::After(last.id.to_string()),
                _ => return Ok(()),
            }
        }
    }

    /// The keys narrowed to a project, or to one environment of it, stop working with it. Credentials do not live by the
    /// sandbox's clock.
    pub(crate) fn revoke_narrowed(
        &self,
        caller: &Caller,
        project: ProjectId,
        environment: Option<EnvironmentId>,
    ) -> [Statement; 2] {
        let now = self.clock().now();
        store::api_key::revoke_narrowed(caller.tenant, caller.workspace_id, caller.mode, project, environment, now)
    }
}

/// The parsed ranges of a new key, or every field that can't be.
fn parsed_ranges(new: &NewApiKey, now: Timestamp) -> Result<Vec<Range>, Fault> {
    let mut details = Vec::new();
    let mut ranges = Vec::new();
    for (i, text) in new.allowed_ips.iter().enumerate() {
        match text.parse() {
            Ok(range) if ranges.contains(&range) => {}
            Ok(range) => ranges.push(range),
            Err(why) => {
                let why: crate::address::RangeError = why;
                details.push(Detail::field(&format!("/allowed_ips/{i}"), "invalid_value", why));
            }
        }
    }
    if new.allowed_ips.len() > ALLOWED_IPS_MAX {
        let message = format!("must have at most {ALLOWED_IPS_MAX} items");
        details.push(Detail::field("/allowed_ips", "too_long", message));
    }
    if new.expires_at.is_some_and(|at| at <= now) {
        details.push(Detail::field("/expires_at", "out_of_range", "must be in the future"));
    }
    if new.scopes.is_some_and(|scopes| scopes == Scopes::default()) {
        details.push(Detail::field("/scopes", "too_short", "must name at least one scope, or be left out"));
    }
    if details.is_empty() { Ok(ranges) } else { Err(Fault::invalid(details)) }
}

/// What gives a key its rights is still there when it is made: the member, and the key that made it.
fn held(caller: &Caller, own: Option<&ApiKey>) -> Vec<Statement> {
    let mut held = vec![store::member::hold(caller.workspace_id, caller.member_id)];
    held.extend(own.map(store::api_key::hold));
    held
}

fn sees(caller: &Caller, key: &ApiKey) -> bool {
    caller.project_id.is_none_or(|only| key.project_id == Some(only))
        && caller.environment_id.is_none_or(|only| key.environment_id == Some(only))
}

fn only_own(caller: &Caller, key: &ApiKey, what: &str) -> Result<(), Fault> {
    if caller.member_id == key.member_id {
        return Ok(());
    }
    let message =
        format!("Only the member that an API key belongs to can {what} it; others' keys can only be revoked.");
    let detail = Detail::new("other_member", message.clone()).resource(key.id);
    Err(Fault { details: vec![detail], ..Fault::new(Code::Forbidden, message) })
}

impl Bounds {
    fn of(caller: &Caller, own: Option<&ApiKey>) -> Self {
        Self {
            scopes: caller.scopes,
            project_id: caller.project_id,
            environment_id: caller.environment_id,
            // A token or a rotated secret ends before its key does.
            expires_at: own.and_then(|key| key.expires_at).into_iter().chain(caller.proof.until).min(),
            ranges: own
                .map(|key| key.allowed_ips.iter().filter_map(|text| text.parse().ok()).collect())
                .unwrap_or_default(),
        }
    }

    /// 403 that names everything in which a key would be wider.
    fn must_cover(&self, key: &ApiKey) -> Result<(), Fault> {
        let mut details = Vec::new();
        let mut beyond = |pointer: &str, message: &str| details.push(Detail::at(pointer, "beyond_own", message));
        if self.project_id.is_some_and(|only| key.project_id != Some(only)) {
            beyond("/project_id", "The credential is narrowed to another project.");
        }
        if self.environment_id.is_some_and(|only| key.environment_id != Some(only)) {
            beyond("/environment_id", "The credential is narrowed to another environment.");
        }
        if let Some(own) = self.expires_at
            && key.expires_at.is_none_or(|at| at > own)
        {
            beyond("/expires_at", &format!("The credential itself expires at {own}."));
        }
        let inside = |text: &String| {
            let range: Option<Range> = text.parse().ok();
            range.is_some_and(|range| self.ranges.iter().any(|own| own.covers(&range)))
        };
        if !self.ranges.is_empty() && (key.allowed_ips.is_empty() || !key.allowed_ips.iter().all(inside)) {
            beyond("/allowed_ips", "The credential itself may be used from fewer addresses.");
        }
        let wanted = key.scopes.unwrap_or(Scopes::EVERY);
        for scope in wanted.iter().filter(|scope| !self.scopes.has(*scope)) {
            details.push(Detail {
                required_scope: Some(scope),
                ..Detail::at("/scopes", "missing_scope", format!("The credential does not have the scope {scope}."))
            });
        }
        if details.is_empty() {
            return Ok(());
        }
        let message = "A key can give or rotate nothing beyond what it may itself; `details` lists what is beyond.";
        Err(Fault { details, ..Fault::new(Code::Forbidden, message) })
    }
}

pub(crate) fn change(
    event: &'static str,
    action: &'static str,
    before: Option<&ApiKey>,
    after: Option<&ApiKey>,
    status: u16,
) -> Change {
    let text = |k: &ApiKey| json(&ApiKeyView::from(k));
    let any = after.or(before);
    Change {
        event,
        action,
        resource_id: any.map(|k| k.id.to_string()).unwrap_or_default(),
        project_id: any.and_then(|k| k.project_id),
        environment_id: any.and_then(|k| k.environment_id),
        before: before.map(text),
        after: after.map(text),
        status,
    }
}
