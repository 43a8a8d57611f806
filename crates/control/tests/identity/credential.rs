//! Credentials and budgets, as each request meets them.

use std::sync::Arc;
use std::time::Duration;

use nephos_control::api_key::NewApiKey;
use nephos_control::auth::{FAILURES_MAX, FAILURES_WINDOW, KNOWN_FOR};
use nephos_control::budget::{Class, SurfaceBudget};
use nephos_control::caller::ApiKeyWrite;
use nephos_model::key::Secret;
use nephos_model::page::Page;
use nephos_model::role::Role;
use nephos_model::scope::Scopes;
use nephos_model::tenant::Mode;
use nephos_model::{Clock, Code, Fault, Timestamp};
use nephos_store::Engine;
use nephos_testkit::Durations;

use crate::{HERE, causes, commit, installed, live, member, mint, new_key};

on_both! {
    a_credential_works_where_it_should
    what_is_no_key_needs_no_look_up
    a_key_is_narrowed_by_time_and_address
    failed_credentials_are_limited_and_valid_ones_never
    a_key_follows_its_member
    another_process_sees_a_revocation_within_a_second
    a_spent_budget_says_which
    the_last_use_of_a_key_is_kept_to_the_minute
}

async fn a_credential_works_where_it_should(engine: Engine) {
    let (world, made) = installed(engine).await;
    let ask = |text: String, mode| {
        let world = &world;
        async move { world.cloud.authenticate(&text, mode, HERE).await }
    };
    let (live_key, test_key) = (made.live_key.expose().to_owned(), made.test_key.expose().to_owned());
    let live_caller = ask(live_key.clone(), Mode::Live).await.unwrap();
    let test_caller = ask(test_key.clone(), Mode::Test).await.unwrap();
    assert_ne!(live_caller.tenant, test_caller.tenant);
    assert!(
        Arc::ptr_eq(&live_caller, &ask(live_key.clone(), Mode::Live).await.unwrap()),
        "a busy key is not read again"
    );

    let on_live = ask(test_key, Mode::Live).await.unwrap_err();
    assert_eq!(causes(&on_live), (401, vec!["wrong_base_url"]));
    assert!(on_live.message.contains("/sandbox/v1"), "{on_live}");
    let on_sandbox = ask(live_key.clone(), Mode::Test).await.unwrap_err();
    assert!(on_sandbox.message.contains("/v1 or /api/v1"), "{on_sandbox}");

    let never_made = Secret::generate(Mode::Live, &nephos_testkit::SeededEntropy::new(99)).expose().to_owned();
    let mistyped = format!("{}0", &live_key[..live_key.len() - 1]);
    for bad in [never_made, mistyped, String::new(), "sk_live_".to_owned(), "é".repeat(30)] {
        assert_eq!(causes(&ask(bad, Mode::Live).await.unwrap_err()), (401, vec!["invalid_credential"]));
    }
    let seen = world.cloud.api_keys(&world.grant(&test_caller), None, &Page::default()).await.unwrap();
    assert!(seen.items.iter().all(|key| key.mode == Mode::Test), "test keys see test keys");
    let live_id = live_caller.key_id.unwrap();
    assert_eq!(
        world.cloud.api_key(&world.grant(&test_caller), live_id).await.unwrap_err().code,
        Code::ResourceNotFound
    );
}

async fn what_is_no_key_needs_no_look_up(engine: Engine) {
    let (world, made) = installed(engine).await;
    let live_key = made.live_key.expose().to_owned();
    // Whatever is looked up from now on is an error.
    world.database.store().close().await;
    let ask = |text: String| {
        let world = &world;
        async move { world.cloud.authenticate(&text, Mode::Live, HERE).await.unwrap_err().code }
    };
    assert_ne!(ask(live_key.clone()).await, Code::Unauthorized, "a key that could exist is looked up");
    for at in 0..live_key.len() {
        let mut changed = live_key.clone().into_bytes();
        changed[at] = if changed[at] == b'a' { b'b' } else { b'a' };
        assert_eq!(ask(String::from_utf8(changed).unwrap()).await, Code::Unauthorized, "{at}");
    }
    assert_eq!(ask(made.test_key.expose().to_owned()).await, Code::Unauthorized, "nor is one of the other mode");
}

async fn a_key_is_narrowed_by_time_and_address(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let wrong = NewApiKey {
        allowed_ips: vec!["10.0.0.0/8".to_owned(), "10.0.0.1/8".to_owned(), "home".to_owned()],
        expires_at: Some(world.clock.now()),
        scopes: Some(Scopes::default()),
        ..new_key("wrong")
    };
    let fault = mint(&world, &owner, wrong).await.unwrap_err();
    assert_eq!(causes(&fault), (400, vec!["invalid_value", "invalid_value", "out_of_range", "too_short"]));

    let soon = world.clock.now().plus(1.hours());
    let new = NewApiKey {
        allowed_ips: vec!["10.1.2.3".to_owned(), "2001:db8::/32".to_owned()],
        expires_at: Some(soon),
        ..new_key("narrow")
    };
    let narrow = mint(&world, &owner, new).await.unwrap();
    assert_eq!(narrow.key.allowed_ips, ["10.1.2.3/32", "2001:db8::/32"]);
    let from = |address: &'static str| {
        let (world, secret) = (&world, &narrow.secret);
        async move { world.cloud.authenticate(secret.expose(), Mode::Live, address.parse().unwrap()).await }
    };
    for good in ["10.1.2.3", "::ffff:10.1.2.3", "2001:db8:5::1"] {
        from(good).await.unwrap();
    }
    for bad in ["10.1.2.4", "2001:db9::1", "127.0.0.1"] {
        let fault = from(bad).await.unwrap_err();
        assert_eq!(causes(&fault), (401, vec!["address_not_allowed"]));
        assert!(fault.message.contains(bad), "{fault}");
    }
    world.clock.advance(1.hours()).await;
    assert_eq!(causes(&from("10.1.2.3").await.unwrap_err()), (401, vec!["expired_credential"]));
}

async fn failed_credentials_are_limited_and_valid_ones_never(engine: Engine) {
    let (world, made) = installed(engine).await;
    let fail = |address: &'static str| {
        let cloud = &world.cloud;
        async move { cloud.authenticate("sk_live_nothing", Mode::Live, address.parse().unwrap()).await.unwrap_err() }
    };
    for _ in 0..FAILURES_MAX {
        assert_eq!(fail("203.0.113.7").await.code, Code::Unauthorized);
    }
    world.clock.advance(10.seconds()).await;
    let limited = fail("::ffff:203.0.113.7").await;
    assert_eq!((limited.code, limited.retry_after_s), (Code::TooManyRequests, Some(50)));
    assert_eq!(fail("203.0.113.8").await.code, Code::Unauthorized, "another address");
    live(&world, &made.live_key).await.expect("a valid credential is never refused by it");
    let by_hand = world.cloud.refuse_credential(HERE, Fault::new(Code::Unauthorized, "none"));
    assert_eq!(by_hand.code, Code::TooManyRequests);
    world.clock.advance(FAILURES_WINDOW).await;
    assert_eq!(fail("203.0.113.7").await.code, Code::Unauthorized);
    for i in 0..=FAILURES_MAX {
        let code = fail(if i % 2 == 0 { "2001:db8:0:1::1" } else { "2001:db8:0:1:ffff::2" }).await.code;
        assert_eq!(code, if i < FAILURES_MAX { Code::Unauthorized } else { Code::TooManyRequests }, "{i}");
    }
    assert_eq!(fail("2001:db8:0:2::1").await.code, Code::Unauthorized, "another /64");
}

async fn a_key_follows_its_member(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let (member, secret) = member(&world, &owner, Role::Admin).await;
    assert_eq!(live(&world, &secret).await.unwrap().role, Role::Admin);
    // As another process does it, which can't tell this one.
    let demote = nephos_store::member::set_role(owner.workspace_id, &member, Role::Member, world.clock.now());
    world.database.store().write(demote.into_iter().collect()).await.unwrap();
    world.clock.advance(KNOWN_FOR).await;
    assert_eq!(live(&world, &secret).await.unwrap().role, Role::Member);
}

async fn another_process_sees_a_revocation_within_a_second(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let spare = mint(&world, &owner, new_key("spare")).await.unwrap();
    let replica = world.replica(8);
    let there = || replica.authenticate(spare.secret.expose(), Mode::Live, HERE);
    there().await.unwrap();
    let grant = world.grant::<ApiKeyWrite>(&owner);
    commit(&world, world.cloud.revoke_api_key(&grant, spare.key.clone()).unwrap()).await.unwrap();
    assert_eq!(
        causes(&live(&world, &spare.secret).await.unwrap_err()),
        (401, vec!["revoked_credential"]),
        "here at once"
    );
    world.clock.advance(KNOWN_FOR).await;
    assert_eq!(there().await.unwrap_err().code, Code::Unauthorized);
}

async fn a_spent_budget_says_which(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    for _ in 0..5 {
        let verdict = world.cloud.admit(&owner, SurfaceBudget::Strettch, Class::Write);
        assert!(verdict.refused.is_none());
    }
    let verdict = world.cloud.admit(&owner, SurfaceBudget::Strettch, Class::Write);
    let refused = verdict.refused.unwrap();
    assert_eq!((refused.code, refused.retry_after_s), (Code::TooManyRequests, Some(1)));
    assert_eq!(refused.details[0].budget, Some("writes"));
    assert!(refused.message.contains("the operator of this installation"), "{refused}");
    assert_eq!(verdict.budgets.iter().map(|b| b.reset_at_s).collect::<Vec<_>>(), [world.clock.now().secs() + 1]);
    for _ in 0..120 {
        assert!(world.cloud.admit(&owner, SurfaceBudget::Platform, Class::Write).refused.is_none());
    }
    let refused = world.cloud.admit(&owner, SurfaceBudget::Platform, Class::Read).refused.unwrap();
    assert_eq!((refused.retry_after_s, refused.details[0].budget), (Some(60), Some("key")));
    world.clock.advance(60.seconds()).await;
    assert!(world.cloud.admit(&owner, SurfaceBudget::Platform, Class::Read).refused.is_none());
}

async fn the_last_use_of_a_key_is_kept_to_the_minute(engine: Engine) {
    let (world, made) = installed(engine).await;
    world.clock.advance(Duration::from_millis(90_500)).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let minute = Timestamp::from_secs(world.clock.now().secs() / 60 * 60);
    let id = owner.key_id.unwrap();
    let stored =
        || async { world.database.store().api_key(owner.workspace_id, Mode::Live, id).await.unwrap().unwrap() };
    assert_eq!(stored().await.last_used_at, None, "no request writes it");
    assert_eq!(world.cloud.api_key(&world.grant(&owner), id).await.unwrap().last_used_at, Some(minute));
    world.cloud.flush().await.unwrap();
    let row = stored().await;
    assert_eq!((row.last_used_at, row.version), (Some(minute), 1));
    let writes = world.database.store().counts();
    live(&world, &made.live_key).await.unwrap();
    world.cloud.flush().await.unwrap();
    assert_eq!(world.database.store().counts(), writes, "the same minute is not written again");
}
