//! Credentials, API keys, workspaces, budgets and usage, on both engines, with a clock that the test moves.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use nephos_control::api_key::{KeyWithSecret, NewApiKey};
use nephos_control::caller::{ApiKeyRead, ApiKeyWrite, Caller, ProjectDelete, ProjectWrite};
use nephos_control::install::Installed;
use nephos_control::plan::{CommitError, Plan};
use nephos_control::project::Force;
use nephos_model::api_key::ApiKey;
use nephos_model::id::ProjectId;
use nephos_model::key::Secret;
use nephos_model::page::Page;
use nephos_model::role::Role;
use nephos_model::tenant::Mode;
use nephos_model::workspace::Member;
use nephos_model::{Clock, Fault};
use nephos_store::{Batch, Engine};
use nephos_testkit::World;

/// Runs a test on both engines.
macro_rules! on_both {
    ($($name:ident)*) => {
        mod sqlite { $(#[tokio::test] async fn $name() { super::$name(nephos_store::Engine::Sqlite).await; })* }
        mod postgres { $(#[tokio::test] async fn $name() { super::$name(nephos_store::Engine::Postgres).await; })* }
    };
}

mod credential;
mod escalation;
mod install;
mod key;
mod mail;
mod member;
mod token;
mod usage;
mod walk;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));

async fn installed(engine: Engine) -> (World, Installed) {
    let world = World::new(engine).await;
    let made = world.cloud.init("acme", "Ada@Example.com", "standard").await.unwrap();
    (world, made)
}

async fn live(world: &World, secret: &Secret) -> Result<Arc<Caller>, Fault> {
    world.cloud.authenticate(secret.expose(), Mode::Live, HERE).await
}

async fn commit<T>(world: &World, plan: Plan<T>) -> Result<T, Fault> {
    world.cloud.commit(plan, None).await.map_err(|error| match error {
        CommitError::Fault(fault) => fault,
        CommitError::Again => Fault::internal("nobody else is there to run into"),
    })
}

fn new_key(name: &str) -> NewApiKey {
    NewApiKey {
        name: name.parse().unwrap(),
        scopes: None,
        project_id: None,
        environment_id: None,
        allowed_ips: Vec::new(),
        expires_at: None,
    }
}

async fn mint(world: &World, caller: &Arc<Caller>, new: NewApiKey) -> Result<KeyWithSecret, Fault> {
    let plan = world.cloud.create_api_key(&world.grant::<ApiKeyWrite>(caller), new).await?;
    commit(world, plan).await
}

async fn project(world: &World, caller: &Arc<Caller>, name: &str) -> ProjectId {
    let plan = world.cloud.create_project(&world.grant::<ProjectWrite>(caller), &name.parse().unwrap()).await.unwrap();
    commit(world, plan).await.unwrap().id
}

async fn delete(world: &World, caller: &Arc<Caller>, id: ProjectId) {
    let grant = world.grant::<ProjectDelete>(caller);
    let project = world.cloud.project_to_delete(&grant, id).await.unwrap();
    let plan = world.cloud.delete_project(&grant, project, Force::No).await.unwrap();
    commit(world, plan).await.unwrap();
}

async fn keys(world: &World, caller: &Arc<Caller>) -> Vec<String> {
    let listed = world.cloud.api_keys(&world.grant::<ApiKeyRead>(caller), None, &Page::default()).await.unwrap();
    assert_eq!(usize::try_from(listed.total).unwrap(), listed.items.len(), "the total is the true one");
    listed.items.into_iter().map(|key| key.name).collect()
}

fn causes(fault: &Fault) -> (u16, Vec<&'static str>) {
    (fault.code.status(), fault.details.iter().map(|detail| detail.code).collect())
}

/// A member of the installation's first workspace, and a live key of theirs.
async fn member(world: &World, owner: &Arc<Caller>, role: Role) -> (Member, Secret) {
    let now = world.clock.now();
    let secret = Secret::generate(Mode::Live, world.cloud.entropy());
    let member = Member {
        id: world.cloud.id(),
        user_id: world.cloud.id(),
        email: format!("{role}@example.com"),
        role,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    let key = ApiKey {
        id: world.cloud.id(),
        member_id: member.id,
        name: format!("key of {role}"),
        hint: secret.hint().to_owned(),
        mode: Mode::Live,
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
    let mut batch = Batch::new();
    batch.push(nephos_store::member::insert_user(member.user_id, &member.email, now));
    batch.extend(nephos_store::member::insert(owner.workspace_id, &member));
    batch.extend(nephos_store::api_key::insert(owner.tenant, owner.workspace_id, &key, secret.hash(), 1_000));
    world.database.store().write(batch).await.unwrap();
    (member, secret)
}
