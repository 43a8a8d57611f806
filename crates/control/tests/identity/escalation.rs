//! Whatever keys do to each other, nobody gets more than who gave it had at that moment, and what is taken is gone on the
//! next request.

use std::sync::Arc;
use std::time::Duration;

use nephos_control::api_key::NewApiKey;
use nephos_control::caller::{ApiKeyWrite, Caller};
use nephos_model::id::{EnvironmentId, KeyId, MemberId, ProjectId};
use nephos_model::key::Secret;
use nephos_model::role::Role;
use nephos_model::scope::{Noun, Scope, Scopes};
use nephos_model::tenant::Mode;
use nephos_model::{Clock, Timestamp};
use nephos_store::Engine;
use nephos_testkit::World;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::member::{accept, invite, remove, request, set_role};
use crate::{HERE, commit, installed, live, project};

/// Something that one of the credentials there are tries.
#[derive(Debug, Clone)]
enum Step {
    /// Makes a key: which scopes are left out, and narrowed to which project, by how many hours, to an address.
    Mint { by: Index, without: Option<u8>, project: Option<bool>, hours: Option<u8>, address: bool },
    /// Gives a key a new secret.
    Rotate { by: Index, key: Index },
    /// Revokes a key.
    Revoke { by: Index, key: Index },
    /// Invites somebody, who accepts.
    Invite { by: Index, role: Role },
    /// Changes a member's role.
    Role { by: Index, of: Index, role: Role },
    /// Removes a member.
    Remove { by: Index, of: Index },
    /// Half an hour passes.
    Wait,
}

fn roles() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Member), Just(Role::Admin), Just(Role::Owner)]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let index = any::<Index>;
    let mint = (index(), any::<Option<u8>>(), any::<Option<bool>>(), prop::option::of(1..4u8), any::<bool>())
        .prop_map(|(by, without, project, hours, address)| Step::Mint { by, without, project, hours, address });
    let step = prop_oneof![
        4 => mint,
        2 => (index(), index()).prop_map(|(by, key)| Step::Rotate { by, key }),
        1 => (index(), index()).prop_map(|(by, key)| Step::Revoke { by, key }),
        3 => (index(), roles()).prop_map(|(by, role)| Step::Invite { by, role }),
        3 => (index(), index(), roles()).prop_map(|(by, of, role)| Step::Role { by, of, role }),
        1 => (index(), index()).prop_map(|(by, of)| Step::Remove { by, of }),
        1 => Just(Step::Wait),
    ];
    prop::collection::vec(step, 1..40)
}

/// What a credential can do, as the next request would find it.
#[derive(Debug, Clone, PartialEq)]
struct Power {
    role: Role,
    scopes: Scopes,
    project: Option<ProjectId>,
    environment: Option<EnvironmentId>,
    expires_at: Option<Timestamp>,
    addresses: Vec<String>,
}

impl Power {
    fn within(&self, other: &Self) -> bool {
        self.role <= other.role
            && other.scopes.contains(self.scopes)
            && other.project.is_none_or(|only| self.project == Some(only))
            && other.environment.is_none_or(|only| self.environment == Some(only))
            && other.expires_at.is_none_or(|end| self.expires_at.is_some_and(|own| own <= end))
            && (other.addresses.is_empty()
                || (!self.addresses.is_empty() && self.addresses.iter().all(|a| other.addresses.contains(a))))
    }
}

struct Held {
    key: KeyId,
    member: MemberId,
    secret: Secret,
}

struct Play {
    world: World,
    held: Vec<Held>,
    projects: [ProjectId; 2],
}

impl Play {
    async fn new() -> Self {
        let (world, made) = installed(Engine::Sqlite).await;
        let owner = live(&world, &made.live_key).await.unwrap();
        let projects = [project(&world, &owner, "one").await, project(&world, &owner, "two").await];
        let first = Held { key: owner.key_id.unwrap(), member: owner.member_id, secret: made.live_key };
        Self { world, held: vec![first], projects }
    }

    /// Who calls with a credential, and what that can do; nobody when it does not work any more.
    async fn power(&self, secret: &Secret) -> Option<(Arc<Caller>, Power)> {
        let caller = live(&self.world, secret).await.ok()?;
        let store = self.world.database.store();
        let key = store.api_key(caller.workspace_id, Mode::Live, caller.key_id?).await.unwrap()?;
        let power = Power {
            role: caller.role,
            scopes: caller.scopes,
            project: caller.project_id,
            environment: caller.environment_id,
            expires_at: key.expires_at,
            addresses: key.allowed_ips,
        };
        Some((caller, power))
    }

    /// A new credential can do at most what its giver could.
    async fn gained(&mut self, key: KeyId, secret: Secret, giver: &Power) {
        let (caller, power) = self.power(&secret).await.expect("what was just given works");
        assert!(power.within(giver), "{power:?} is more than {giver:?}");
        self.held.retain(|held| held.key != key);
        self.held.push(Held { key, member: caller.member_id, secret });
    }

    /// What each credential can do now, in the order in which they are held.
    async fn powers(&self) -> Vec<(KeyId, MemberId, Option<Power>)> {
        let mut out = Vec::new();
        for held in &self.held {
            out.push((held.key, held.member, self.power(&held.secret).await.map(|(_, power)| power)));
        }
        out
    }

    async fn play(&mut self, step: &Step) {
        if let Step::Wait = step {
            self.world.clock.advance(Duration::from_secs(1_800)).await;
            return;
        }
        let (Step::Mint { by, .. }
        | Step::Rotate { by, .. }
        | Step::Revoke { by, .. }
        | Step::Invite { by, .. }
        | Step::Role { by, .. }
        | Step::Remove { by, .. }) = step
        else {
            return;
        };
        let by = by.get(&self.held).secret.clone();
        let Some((caller, giver)) = self.power(&by).await else { return };
        let before = self.powers().await;
        match step {
            Step::Mint { without, project, hours, address, .. } => {
                self.mint(&caller, &giver, *without, *project, *hours, *address).await;
            }
            Step::Rotate { key, .. } => {
                let key = key.get(&self.held).key;
                let Ok(grant) = caller.permit::<ApiKeyWrite>(&request(&self.world)) else { return };
                let Ok(key) = self.world.cloud.api_key_to_change(&grant, key).await else { return };
                let Ok(plan) = self.world.cloud.rotate_api_key(&grant, key, 0).await else { return };
                let made = commit(&self.world, plan).await.unwrap();
                let is_over = made.key.expires_at.is_some_and(|end| end <= self.world.clock.now());
                if is_over {
                    assert!(self.power(&made.secret).await.is_none(), "another secret gives no more time");
                    return;
                }
                self.gained(made.key.id, made.secret, &giver).await;
            }
            Step::Revoke { key, .. } => {
                let key = key.get(&self.held).key;
                let Ok(grant) = caller.permit::<ApiKeyWrite>(&request(&self.world)) else { return };
                let Ok(found) = self.world.cloud.api_key_to_change(&grant, key).await else { return };
                let Ok(plan) = self.world.cloud.revoke_api_key(&grant, found) else { return };
                commit(&self.world, plan).await.unwrap();
                let gone = self.held.iter().find(|held| held.key == key).unwrap();
                assert!(self.power(&gone.secret).await.is_none(), "a revoked key works");
            }
            Step::Invite { role, .. } => {
                let email = format!("{}@example.com", self.world.cloud.id::<KeyId>());
                let Ok(made) = invite(&self.world, &caller, &email, *role).await else { return };
                let joined = accept(&self.world, made.token.expose()).await.unwrap();
                self.gained(joined.live_key.key.id, joined.live_key.secret, &giver).await;
            }
            Step::Role { of, role, .. } => {
                let of = of.get(&self.held).member;
                if set_role(&self.world, &caller, of, *role).await.is_ok() {
                    self.after_role(&before, of, *role, &giver).await;
                }
            }
            Step::Remove { of, .. } => {
                let of = of.get(&self.held).member;
                if remove(&self.world, &caller, of).await.is_ok() {
                    for (_, member, power) in self.powers().await {
                        assert!(member != of || power.is_none(), "a removed member's key works");
                    }
                }
            }
            Step::Wait => {}
        }
        // Whoever was not given anything has not more than before.
        let touched = match step {
            Step::Role { of, .. } if !self.held.is_empty() => Some(of.get(&self.held).member),
            _ => None,
        };
        for (key, member, power) in self.powers().await {
            let earlier = before.iter().find(|(k, ..)| *k == key).and_then(|(.., power)| power.clone());
            if let (Some(earlier), Some(power), false) = (earlier, power, touched == Some(member)) {
                assert!(power.within(&earlier), "{key} had {earlier:?} and has {power:?}");
            }
        }
        self.held.truncate(24);
    }

    async fn after_role(&self, before: &[(KeyId, MemberId, Option<Power>)], of: MemberId, role: Role, giver: &Power) {
        for (key, member, power) in self.powers().await {
            let Some(power) = power.filter(|_| member == of) else { continue };
            assert_eq!(power.role, role, "the role counts from the next request on");
            let earlier = before.iter().find(|(k, ..)| *k == key).and_then(|(.., power)| power.clone());
            let raised = earlier.is_some_and(|earlier| !power.within(&earlier));
            assert!(!raised || power.within(giver), "{power:?} was given by {giver:?}");
        }
    }

    async fn mint(
        &mut self,
        caller: &Arc<Caller>,
        giver: &Power,
        without: Option<u8>,
        project: Option<bool>,
        hours: Option<u8>,
        address: bool,
    ) {
        let Ok(grant) = caller.permit::<ApiKeyWrite>(&request(&self.world)) else { return };
        let every: Vec<Scope> = Scopes::EVERY.iter().collect();
        let scopes = without.map(|n| {
            let left_out = every[usize::from(n) % every.len()];
            every.iter().copied().filter(|scope| *scope != left_out && scope.noun != Noun::Sandbox).collect()
        });
        let new = NewApiKey {
            name: "heir".parse().unwrap(),
            scopes,
            project_id: project.map(|second| self.projects[usize::from(second)]),
            environment_id: None,
            allowed_ips: if address { vec![format!("{HERE}/32")] } else { Vec::new() },
            expires_at: hours.map(|h| self.world.clock.now().plus(Duration::from_secs(u64::from(h) * 3_600))),
        };
        let Ok(plan) = self.world.cloud.create_api_key(&grant, new).await else { return };
        let made = commit(&self.world, plan).await.unwrap();
        self.gained(made.key.id, made.secret, giver).await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn nobody_gets_more_than_who_gave_it_had(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut play = Play::new().await;
            for step in &steps {
                play.play(step).await;
            }
            let until = play.world.clock.now().plus(Duration::from_secs(86_400));
            let broken = nephos_store::testing::broken(play.world.database.store(), until).await;
            assert!(broken.is_empty(), "{}", broken.join("\n"));
        });
    }
}
