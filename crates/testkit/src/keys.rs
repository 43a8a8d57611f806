//! Credentials of every kind for a world.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use nephos_control::caller::Caller;
use nephos_control::install::Installed;
use nephos_model::Clock;
use nephos_model::api_key::ApiKey;
use nephos_model::key::Secret;
use nephos_model::role::Role;
use nephos_model::workspace::Member;
use nephos_store::Batch;

use crate::World;

/// Keys of one tenant at most; far more than a test makes.
const KEYS_MAX: i64 = 1_000;

impl World {
    /// A workspace with an Owner's keys, as the operator makes it.
    ///
    /// # Panics
    /// When it can't be made.
    pub async fn workspace(&self, name: &str, plan: &str) -> Installed {
        let email = format!("owner@{name}.example");
        self.cloud.create_workspace(name, &email, plan).await.expect("a workspace")
    }

    /// The caller behind a key.
    ///
    /// # Panics
    /// When the key does not work.
    pub async fn caller_of(&self, key: &Secret) -> Arc<Caller> {
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        self.cloud.authenticate(key.expose(), key.mode(), here).await.expect("the key works")
    }

    /// A key of a new member with `role`, in the workspace and mode of `beside`, changed by `narrow`.
    ///
    /// # Panics
    /// When the rows can't be written.
    pub async fn key(&self, beside: &Secret, role: Role, narrow: impl FnOnce(&mut ApiKey)) -> Secret {
        let caller = self.caller_of(beside).await;
        let now = self.clock.now();
        let secret = Secret::generate(beside.mode(), self.cloud.entropy());
        let member = Member {
            id: self.cloud.id(),
            user_id: self.cloud.id(),
            email: String::new(),
            role,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        let mut key = ApiKey {
            id: self.cloud.id(),
            member_id: member.id,
            name: role.to_string(),
            hint: secret.hint().to_owned(),
            mode: secret.mode(),
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
        narrow(&mut key);
        let email = format!("{}@people.example", member.user_id);
        let mut batch = Batch::from(nephos_store::member::insert_user(member.user_id, &email, now));
        batch.extend(nephos_store::member::insert(caller.workspace_id, &member));
        batch.extend(nephos_store::api_key::insert(caller.tenant, caller.workspace_id, &key, secret.hash(), KEYS_MAX));
        self.database.store().write(batch).await.expect("a key's rows");
        secret
    }
}
