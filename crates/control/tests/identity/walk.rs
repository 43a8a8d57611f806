//! Whatever a credential does, nothing that comes of it may do more, or for longer, than it may itself.
//!
//! A walk: again and again one of all credentials there are makes a key, rotates one or exchanges itself, with wishes that
//! are sometimes within its rights and sometimes beyond them. What comes of it is held against what it came from.

use std::sync::Arc;

use nephos_control::address::Range;
use nephos_control::api_key::NewApiKey;
use nephos_control::caller::{ApiKeyRead, ApiKeyWrite, Caller, Kind, Request};
use nephos_control::token::NewToken;
use nephos_model::api_key::ApiKey;
use nephos_model::entropy::Entropy;
use nephos_model::id::{EnvironmentId, ProjectId};
use nephos_model::page::{LIMIT_MAX, Page};
use nephos_model::role::Role;
use nephos_model::scope::{Noun, Scope, Scopes};
use nephos_model::tenant::Mode;
use nephos_model::{Clock, Fault, Timestamp};
use nephos_store::Engine;
use nephos_testkit::{Durations, SeededEntropy, World};

use crate::{HERE, commit, installed, live, member, mint, project};

on_both! {
    no_credential_begets_more_than_itself
}

/// Steps of one walk.
const STEPS: usize = 120;

/// A credential that works from [`HERE`].
#[derive(Clone)]
struct Holder {
    text: String,
    ranges: Vec<Range>,
    how: &'static str,
}

struct Walk<'a> {
    world: &'a World,
    dice: SeededEntropy,
    projects: Vec<(ProjectId, EnvironmentId)>,
    holders: Vec<Holder>,
}

/// What a credential may do, and from where and until when.
#[derive(Debug, Clone)]
struct Powers {
    role: Role,
    scopes: Scopes,
    project: Option<ProjectId>,
    environment: Option<EnvironmentId>,
    until: Option<Timestamp>,
    ranges: Vec<Range>,
}

impl Powers {
    fn of(caller: &Caller, ranges: &[Range]) -> Self {
        Self {
            role: caller.role,
            scopes: caller.scopes,
            project: caller.project_id,
            environment: caller.environment_id,
            until: caller.proof.until,
            ranges: ranges.to_vec(),
        }
    }

    fn cover(&self, other: &Self) -> bool {
        let until = self.until.is_none_or(|own| other.until.is_some_and(|until| until <= own));
        let place = self.project.is_none_or(|own| other.project == Some(own))
            && self.environment.is_none_or(|own| other.environment == Some(own));
        let inside = |range: &Range| self.ranges.iter().any(|own| own.covers(range));
        let ranges = self.ranges.is_empty() || (!other.ranges.is_empty() && other.ranges.iter().all(inside));
        self.role >= other.role && self.scopes.contains(other.scopes) && until && place && ranges
    }
}

impl Walk<'_> {
    fn roll(&self, sides: u32) -> u32 {
        self.dice.u32() % sides
    }

    fn pick<'t, T>(&self, of: &'t [T]) -> &'t T {
        &of[self.roll(u32::try_from(of.len()).unwrap()) as usize]
    }

    fn scopes(&self) -> Option<Scopes> {
        let some = [Scope::read(Noun::ApiKey), Scope::write(Noun::ApiKey)].into_iter().collect::<Scopes>();
        let bits = Scopes::EVERY.iter().filter(|_| self.roll(3) > 0).fold(some, Scopes::with);
        (self.roll(3) > 0).then_some(bits)
    }

    fn wish(&self, now: Timestamp) -> NewApiKey {
        let (project, environment) = *self.pick(&self.projects);
        let place = self.roll(4);
        let ranges = ["203.0.113.0/24", "203.0.0.0/16", "203.0.113.7", "0.0.0.0/0", "203.0.113.0/28"];
        NewApiKey {
            name: "walk".parse().unwrap(),
            scopes: self.scopes(),
            project_id: (place > 1).then_some(project),
            environment_id: (place > 2).then_some(environment),
            allowed_ips: (0..self.roll(3)).map(|_| (*self.pick(&ranges)).to_owned()).collect(),
            expires_at: (self.roll(3) > 0).then(|| now.plus(u64::from(self.roll(3_000) + 60).seconds())),
        }
    }

    /// One thing that a credential does: what came of it, if anything.
    async fn step(&self, caller: &Arc<Caller>, ranges: &[Range]) -> Result<Holder, Fault> {
        let (cloud, now) = (&self.world.cloud, self.world.clock.now());
        let of_key = |key: &ApiKey| key.allowed_ips.iter().map(|text| text.parse().unwrap()).collect();
        match self.roll(5) {
            0 => {
                let request = Request { id: cloud.id(), client_request_id: None, address: HERE, trace: None };
                let new = NewToken { scopes: self.scopes(), expires_in_s: 1 + self.roll(900) };
                let token = commit(self.world, cloud.exchange_token(caller, &request, new).await?).await?;
                Ok(Holder { text: token.text, ranges: ranges.to_vec(), how: "token" })
            }
            1 => {
                let page = Page { limit: LIMIT_MAX, ..Page::default() };
                let keys = cloud.api_keys(&self.world.grant::<ApiKeyRead>(caller), None, &page).await?.items;
                let key = self.pick(&keys).clone();
                let grace = i64::from(self.roll(2) * 100);
                let plan = cloud.rotate_api_key(&self.world.grant::<ApiKeyWrite>(caller), key, grace).await?;
                let made = commit(self.world, plan).await?;
                Ok(Holder { text: made.secret.expose().to_owned(), ranges: of_key(&made.key), how: "rotated" })
            }
            _ => {
                let made = mint(self.world, caller, self.wish(now)).await?;
                Ok(Holder { text: made.secret.expose().to_owned(), ranges: of_key(&made.key), how: "minted" })
            }
        }
    }
}

async fn no_credential_begets_more_than_itself(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let mut projects = Vec::new();
    for name in ["one", "two"] {
        let id = project(&world, &owner, name).await;
        let page = Page::default();
        let environments = world.cloud.environments(&world.grant(&owner), id, None, &page).await.unwrap().items;
        projects.push((id, environments[0].id));
    }
    let (_, secret) = member(&world, &owner, Role::Member).await;
    let holders = [made.live_key.expose(), secret.expose()]
        .map(|text| Holder { text: text.to_owned(), ranges: Vec::new(), how: "first" })
        .to_vec();
    let mut walk = Walk { world: &world, dice: SeededEntropy::new(42), projects, holders };
    let (mut begotten, mut refused) = ([0_usize; 3], 0_usize);
    for step in 0..STEPS {
        let holder = walk.pick(&walk.holders).clone();
        let Ok(caller) = world.cloud.authenticate(&holder.text, Mode::Live, HERE).await else { continue };
        let powers = Powers::of(&caller, &holder.ranges);
        match walk.step(&caller, &holder.ranges).await {
            Ok(child) => {
                begotten[["token", "rotated", "minted"].iter().position(|how| *how == child.how).unwrap()] += 1;
                // One whose addresses leave us out may do nothing here.
                if let Ok(heir) = world.cloud.authenticate(&child.text, Mode::Live, HERE).await {
                    let theirs = Powers::of(&heir, &child.ranges);
                    assert!(powers.cover(&theirs), "step {step}, {}: {powers:?} begot {theirs:?}", child.how);
                    assert!(caller.proof.kind == Kind::Key || heir.proof.kind == Kind::Key, "a token begot a token");
                    walk.holders.push(child);
                }
            }
            Err(_) => refused += 1,
        }
        if walk.roll(10) == 0 {
            world.clock.advance(30.seconds()).await;
        }
    }
    assert!(begotten.iter().all(|count| *count > 3) && refused > 10, "the walk tried little: {begotten:?}, {refused}");
}
