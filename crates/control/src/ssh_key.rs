//! SSH public keys.

use nephos_model::Fault;
use nephos_model::id::SshKeyId;
use nephos_model::name::Title;
use nephos_model::page::{Listed, Page};
use nephos_model::ssh_key::{PublicKey, SshKey};
use nephos_store as store;

use crate::caller::{Grant, SshKeyRead, SshKeyWrite};
use crate::plan::{Change, Plan};
use crate::rehearse::Check;
use crate::view::{SshKeyView, json};
use crate::{Cloud, fault};

impl Cloud {
    /// One key, or 404.
    pub async fn ssh_key(&self, grant: &Grant<SshKeyRead>, id: SshKeyId) -> Result<SshKey, Fault> {
        let found = self.store().ssh_key(grant.tenant(), id).await.map_err(fault::store)?;
        found.ok_or_else(|| Fault::not_found("SSH key"))
    }

    /// A page of keys.
    pub async fn ssh_keys(
        &self,
        grant: &Grant<SshKeyRead>,
        name: Option<&str>,
        page: &Page,
    ) -> Result<Listed<SshKey>, Fault> {
        self.store().ssh_keys(grant.tenant(), name, page).await.map_err(fault::store)
    }

    /// A new key; 409 when its name or the key itself is there.
    pub async fn create_ssh_key(
        &self,
        grant: &Grant<SshKeyWrite>,
        name: &Title,
        key: &PublicKey,
    ) -> Result<Plan<SshKey>, Fault> {
        let now = self.now(grant.caller());
        let key = SshKey {
            id: self.id(),
            name: name.as_str().to_owned(),
            public_key: key.as_str().to_owned(),
            fingerprint: key.fingerprint(),
            version: 1,
            created_at: now,
            updated_at: now,
        };
        let mut plan = Plan::new(key);
        plan.take(grant.tenant(), "quota.ssh_keys", 1, grant.caller().limits.ssh_keys);
        plan.checks.push(Check::SshKey { name: plan.value.name.clone(), fingerprint: plan.value.fingerprint.clone() });
        plan.write(store::ssh_key::insert(grant.tenant(), &plan.value));
        let change = change("ssh_key.created", "ssh_key.create", None, Some(&plan.value), 201);
        self.journal(&mut plan, grant, now, change);
        Ok(plan)
    }

    /// One key that is to be deleted, or 404.
    pub async fn ssh_key_to_delete(&self, grant: &Grant<SshKeyWrite>, id: SshKeyId) -> Result<SshKey, Fault> {
        let found = self.store().ssh_key(grant.tenant(), id).await.map_err(fault::store)?;
        found.ok_or_else(|| Fault::not_found("SSH key"))
    }

    /// No more key; computes that it was put on keep it.
    pub fn delete_ssh_key(&self, grant: &Grant<SshKeyWrite>, key: &SshKey) -> Plan<SshKey> {
        let now = self.now(grant.caller());
        let mut plan = Plan::new(key.clone());
        plan.write(store::ssh_key::delete(grant.tenant(), key));
        plan.write([store::counter::give_back(grant.tenant(), "quota.ssh_keys", 1)]);
        let change = change("ssh_key.deleted", "ssh_key.delete", Some(key), None, 200);
        self.journal(&mut plan, grant, now, change);
        plan
    }
}

fn change(
    event: &'static str,
    action: &'static str,
    before: Option<&SshKey>,
    after: Option<&SshKey>,
    status: u16,
) -> Change {
    let text = |k: &SshKey| json(&SshKeyView::from(k));
    Change {
        event,
        action,
        resource_id: after.or(before).map(|k| k.id.to_string()).unwrap_or_default(),
        project_id: None,
        environment_id: None,
        before: before.map(text),
        after: after.map(text),
        status,
    }
}
