//! API keys: what they may give, and to whom.

use std::sync::Arc;

use nephos_control::api_key::NewApiKey;
use nephos_control::caller::{ApiKeyWrite, EnvironmentDelete, LimitRead, MemberRead};
use nephos_control::plan::CommitError;
use nephos_model::page::Page;
use nephos_model::role::Role;
use nephos_model::scope::{Noun, Scope, Scopes};
use nephos_model::{Clock, Code};
use nephos_store::Engine;
use nephos_testkit::Durations;

use crate::{causes, commit, delete, installed, keys, live, member, mint, new_key, project};

on_both! {
    a_key_is_made_listed_renamed_and_revoked
    a_rotated_secret_works_inside_its_grace
    a_key_gives_nothing_that_it_does_not_have
    a_key_narrowed_to_a_project_sees_and_dies_with_it
    members_and_admins_differ
    the_quota_of_keys_holds
}

async fn a_key_is_made_listed_renamed_and_revoked(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let made = mint(&world, &owner, new_key("ci")).await.unwrap();
    assert_eq!(made.key.hint, made.secret.hint());
    let grant = world.grant::<ApiKeyWrite>(&owner);
    assert_eq!(world.cloud.api_key(&world.grant(&owner), made.key.id).await.unwrap(), made.key);
    assert_eq!(keys(&world, &owner).await, ["ci", "First key"]);

    let same = world.cloud.rename_api_key(&grant, made.key.clone(), None).unwrap();
    assert_eq!(commit(&world, same).await.unwrap(), made.key);
    let renamed = world.cloud.rename_api_key(&grant, made.key.clone(), Some(&"cd".parse().unwrap())).unwrap();
    let renamed = commit(&world, renamed).await.unwrap();
    assert_eq!(world.cloud.api_key(&world.grant(&owner), made.key.id).await.unwrap(), renamed);
    let stale = world.cloud.revoke_api_key(&grant, made.key.clone()).unwrap();
    assert!(matches!(world.cloud.commit(stale, None).await, Err(CommitError::Again)), "it changed meanwhile");

    let caller = live(&world, &made.secret).await.unwrap();
    let own = world.cloud.revoke_api_key(&world.grant(&caller), renamed.clone()).unwrap_err();
    assert_eq!(causes(&own), (409, vec!["own_key"]));
    commit(&world, world.cloud.revoke_api_key(&grant, renamed.clone()).unwrap()).await.unwrap();
    assert_eq!(causes(&live(&world, &made.secret).await.unwrap_err()), (401, vec!["revoked_credential"]));
    let gone = world.cloud.api_key_to_change(&grant, renamed.id).await.unwrap_err();
    assert_eq!(gone.code, Code::ResourceNotFound);
    assert_eq!(keys(&world, &owner).await, ["First key"]);
    // The revoked key was let in before: what it still asks for finds no rights.
    assert_eq!(mint(&world, &caller, new_key("late")).await.unwrap_err().code, Code::Unauthorized);
}

async fn a_rotated_secret_works_inside_its_grace(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let grant = world.grant::<ApiKeyWrite>(&owner);
    let first = mint(&world, &owner, new_key("ci")).await.unwrap();
    for bad in [-1, 2_592_001, i64::MAX] {
        let fault = world.cloud.rotate_api_key(&grant, first.key.clone(), bad).await.unwrap_err();
        assert_eq!(causes(&fault), (400, vec!["out_of_range"]));
    }
    let plan = world.cloud.rotate_api_key(&grant, first.key.clone(), 60).await.unwrap();
    let second = commit(&world, plan).await.unwrap();
    assert_eq!(second.key.id, first.key.id);
    assert_eq!(world.cloud.api_key(&world.grant(&owner), first.key.id).await.unwrap(), second.key);
    live(&world, &first.secret).await.expect("the earlier secret works");
    live(&world, &second.secret).await.expect("so does the new one");
    world.clock.advance(60.seconds()).await;
    assert_eq!(causes(&live(&world, &first.secret).await.unwrap_err()), (401, vec!["rotated_credential"]));
    live(&world, &second.secret).await.unwrap();

    let plan = world.cloud.rotate_api_key(&grant, second.key.clone(), 0).await.unwrap();
    let third = commit(&world, plan).await.unwrap();
    assert_eq!(live(&world, &second.secret).await.unwrap_err().code, Code::Unauthorized);
    live(&world, &third.secret).await.unwrap();

    // A key rotates itself.
    let own = live(&world, &made.live_key).await.unwrap();
    let key = world.cloud.api_key_to_change(&world.grant(&own), own.key_id.unwrap()).await.unwrap();
    let plan = world.cloud.rotate_api_key(&world.grant(&own), key, 0).await.unwrap();
    let fresh = commit(&world, plan).await.unwrap();
    assert_eq!(live(&world, &made.live_key).await.unwrap_err().code, Code::Unauthorized);
    live(&world, &fresh.secret).await.unwrap();
}

async fn a_key_gives_nothing_that_it_does_not_have(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let (mine, other) = (project(&world, &owner, "mine").await, project(&world, &owner, "other").await);
    let scopes: Scopes =
        [Scope::write(Noun::ApiKey), Scope::read(Noun::ApiKey), Scope::read(Noun::Compute)].into_iter().collect();
    let soon = world.clock.now().plus(1.hours());
    let new = NewApiKey {
        scopes: Some(scopes),
        project_id: Some(mine),
        allowed_ips: vec!["203.0.113.0/24".to_owned()],
        expires_at: Some(soon),
        ..new_key("narrow")
    };
    let narrow = mint(&world, &owner, new).await.unwrap();
    let caller = live(&world, &narrow.secret).await.unwrap();
    assert_eq!((caller.scopes, caller.project_id), (scopes, Some(mine)));

    let heir = mint(&world, &caller, new_key("heir")).await.unwrap().key;
    assert_eq!(
        (heir.scopes, heir.project_id, heir.expires_at, heir.allowed_ips),
        (Some(scopes), Some(mine), Some(soon), vec!["203.0.113.0/24".to_owned()]),
        "what is not asked for is the credential's own"
    );
    let wide = NewApiKey {
        scopes: Some(scopes.with(Scope::write(Noun::Compute))),
        allowed_ips: vec!["203.0.113.7".to_owned(), "203.0.114.0/24".to_owned()],
        expires_at: Some(soon.plus(1.seconds())),
        ..new_key("wide")
    };
    let fault = mint(&world, &caller, wide).await.unwrap_err();
    assert_eq!(causes(&fault), (403, vec!["beyond_own", "beyond_own", "missing_scope"]));
    let elsewhere = NewApiKey { project_id: Some(other), ..new_key("elsewhere") };
    assert_eq!(causes(&mint(&world, &caller, elsewhere).await.unwrap_err()), (404, vec!["resource_not_found"]));

    // A wider key of the same member is not rotated into the hands of a narrower one.
    let same_project = NewApiKey { project_id: Some(mine), ..new_key("same project, every scope") };
    let wider = mint(&world, &owner, same_project).await.unwrap();
    let seen = world.cloud.api_key_to_change(&world.grant(&caller), wider.key.id).await.unwrap();
    let fault = world.cloud.rotate_api_key(&world.grant(&caller), seen, 0).await.unwrap_err();
    assert_eq!(fault.code, Code::Forbidden);
    let unseen = world.cloud.api_key_to_change(&world.grant(&caller), owner.key_id.unwrap()).await.unwrap_err();
    assert_eq!(unseen.code, Code::ResourceNotFound);
}

async fn a_key_narrowed_to_a_project_sees_and_dies_with_it(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let doomed = project(&world, &owner, "doomed").await;
    let environments =
        world.cloud.environments(&world.grant(&owner), doomed, None, &Page::default()).await.unwrap().items;
    let narrowed = mint(&world, &owner, NewApiKey { project_id: Some(doomed), ..new_key("project") }).await.unwrap();
    let deeper = NewApiKey { environment_id: Some(environments[0].id), ..new_key("environment") };
    let deeper = mint(&world, &owner, deeper).await.unwrap();
    assert_eq!(deeper.key.project_id, Some(doomed), "an environment names its project");
    let wrong = NewApiKey { project_id: Some(doomed), environment_id: Some(world.cloud.id()), ..new_key("wrong") };
    assert_eq!(causes(&mint(&world, &owner, wrong).await.unwrap_err()), (404, vec!["resource_not_found"]));

    let caller = live(&world, &narrowed.secret).await.unwrap();
    assert_eq!(keys(&world, &caller).await, ["environment", "project"]);
    let deep_caller = live(&world, &deeper.secret).await.unwrap();
    assert_eq!(keys(&world, &deep_caller).await, ["environment"]);
    assert_eq!(keys(&world, &owner).await, ["environment", "project", "First key"]);

    let grant = world.grant::<EnvironmentDelete>(&owner);
    let environment = world.cloud.environment_to_delete(&grant, environments[0].id).await.unwrap();
    let plan = world.cloud.delete_environment(&grant, environment).await.unwrap();
    commit(&world, plan).await.unwrap();
    assert_eq!(live(&world, &deeper.secret).await.unwrap_err().code, Code::Unauthorized);
    live(&world, &narrowed.secret).await.expect("only the environment is gone");
    delete(&world, &owner, doomed).await;
    assert_eq!(live(&world, &narrowed.secret).await.unwrap_err().code, Code::Unauthorized);
    assert_eq!(keys(&world, &owner).await, ["First key"], "and they are given back to the quota");
}

async fn members_and_admins_differ(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let (_, member_secret) = member(&world, &owner, Role::Member).await;
    let (_, admin_secret) = member(&world, &owner, Role::Admin).await;
    let (member, admin) = (live(&world, &member_secret).await.unwrap(), live(&world, &admin_secret).await.unwrap());
    let listed = world.cloud.members(&world.grant::<MemberRead>(&member), &Page::default()).await.unwrap();
    assert_eq!(listed.items.iter().map(|m| m.role).collect::<Vec<_>>(), [Role::Admin, Role::Member, Role::Owner]);
    assert_eq!(world.cloud.member(&world.grant(&member), listed.items[2].id).await.unwrap(), listed.items[2]);

    let spare = mint(&world, &owner, new_key("spare")).await.unwrap().key;
    let refused = world.cloud.revoke_api_key(&world.grant(&member), spare.clone()).unwrap_err();
    assert_eq!(causes(&refused), (403, vec!["missing_role"]));
    for of in [&member, &admin] {
        let renamed = world.cloud.rename_api_key(&world.grant(of), spare.clone(), None).unwrap_err();
        assert_eq!(causes(&renamed), (403, vec!["other_member"]));
        let rotated = world.cloud.rotate_api_key(&world.grant(of), spare.clone(), 0).await.unwrap_err();
        assert_eq!(causes(&rotated), (403, vec!["other_member"]));
    }
    commit(&world, world.cloud.revoke_api_key(&world.grant(&admin), spare).unwrap()).await.unwrap();
}

async fn the_quota_of_keys_holds(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let mut few = (*owner).clone();
    let limits = nephos_control::plan_limits::Limits { api_keys: Some(2), ..(*few.limits).clone() };
    few.limits = Arc::new(limits);
    let few = Arc::new(few);
    let spare = mint(&world, &few, new_key("second")).await.unwrap();
    let full = mint(&world, &few, new_key("third")).await.unwrap_err();
    assert_eq!(full.code, Code::QuotaExceeded);
    assert_eq!(full.details[0].message, "The plan's quota of api_keys is 2; 2 are used, and this needs 1 more.");
    commit(&world, world.cloud.revoke_api_key(&world.grant(&few), spare.key).unwrap()).await.unwrap();
    mint(&world, &few, new_key("third")).await.expect("a revoked key makes room");

    let limits = world.cloud.limits(&world.grant::<LimitRead>(&few)).await.unwrap();
    let quotas: Vec<_> = limits.quotas.iter().map(|q| (q.name.as_str(), q.limit, q.used)).collect();
    assert_eq!(quotas[0], ("projects", Some(100), Some(1)));
    assert_eq!(quotas[5], ("api_keys", Some(2), Some(2)));
    assert_eq!(quotas[7], ("webhooks", Some(50), Some(0)));
    assert_eq!(quotas[8], ("members", Some(100), Some(1)));
    let budgets: Vec<_> = limits.budgets.iter().map(|b| (b.name.as_str(), b.limit, b.window_s)).collect();
    assert_eq!(
        budgets,
        [("key", Some(120), 60), ("workspace", Some(600), 600), ("reads", Some(30), 1), ("writes", Some(5), 1)]
    );
}
