//! Tokens: what they may do, how they end, and the keys that sign them.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use nephos_control::Cloud;
use nephos_control::api_key::NewApiKey;
use nephos_control::auth::KNOWN_FOR;
use nephos_control::budget::{Class, SurfaceBudget};
use nephos_control::caller::{ApiKeyWrite, Caller, Kind, Reach, Request};
use nephos_control::signing::{Earlier, PUBLISHED_BEFORE, SIGNS_FOR};
use nephos_control::token::{NewToken, TOKEN_S_MAX, Token};
use nephos_model::role::Role;
use nephos_model::scope::{Noun, Scope, Scopes};
use nephos_model::tenant::Mode;
use nephos_model::{Clock, Code, Fault, Timestamp};
use nephos_store::Engine;
use nephos_testkit::{Durations, World};
use serde_json::Value;

use crate::{HERE, causes, commit, delete, installed, live, member, mint, new_key, project};

on_both! {
    a_token_may_what_its_key_may_and_never_more
    a_token_says_what_the_standard_asks_for
    a_token_ends_with_the_secret_the_key_and_the_rights_behind_it
    a_token_works_where_its_key_does
    a_changed_or_foreign_token_is_refused
    a_token_shares_the_budgets_of_its_key
    signing_keys_roll_over_without_refusing_a_token
    withdrawn_signing_keys_take_their_tokens_along
    two_processes_make_one_signing_key
    another_process_takes_a_token_and_sees_its_end_within_a_second
}

const WHOLE: NewToken = NewToken { scopes: None, expires_in_s: TOKEN_S_MAX };

async fn exchange(world: &World, caller: &Arc<Caller>, new: NewToken) -> Result<Token, Fault> {
    let request = Request { id: world.cloud.id(), client_request_id: None, address: HERE, trace: None };
    commit(world, world.cloud.exchange_token(caller, &request, new).await?).await
}

async fn with(cloud: &Cloud, token: &Token) -> Result<Arc<Caller>, Fault> {
    cloud.authenticate(&token.text, Mode::Live, HERE).await
}

fn part(token: &Token, index: usize) -> Value {
    let part = token.text.split('.').nth(index).unwrap();
    serde_json::from_slice(&BASE64URL.decode(part).unwrap()).unwrap()
}

async fn kids(world: &World) -> Vec<String> {
    let set: Value = serde_json::from_str(&world.cloud.jwks().await.unwrap()).unwrap();
    set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

async fn a_token_may_what_its_key_may_and_never_more(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let whole = exchange(&world, &owner, WHOLE).await.unwrap();
    let caller = with(&world.cloud, &whole).await.unwrap();
    assert_eq!(
        (caller.key_id, caller.role, caller.scopes, caller.tenant),
        (owner.key_id, Role::Owner, Scopes::EVERY, owner.tenant)
    );
    assert_eq!(
        (caller.proof.kind, caller.proof.until),
        (Kind::Token, Some(Timestamp::from_secs(world.clock.now().secs() + 900)))
    );

    let few: Scopes = [Scope::read(Noun::Compute), Scope::write(Noun::ApiKey)].into_iter().collect();
    let narrow = exchange(&world, &owner, NewToken { scopes: Some(few), expires_in_s: 60 }).await.unwrap();
    assert_eq!((narrow.scope().as_str(), narrow.expires_in_s), ("compute:read api_key:write", 60));
    let caller = with(&world.cloud, &narrow).await.unwrap();
    assert_eq!(caller.scopes, few);
    assert_eq!(caller.check(Scope::write(Noun::Compute), Role::Member, Reach::Part).unwrap_err().code, Code::Forbidden);

    // It can't be exchanged, and gives away nothing that lasts longer than itself.
    assert_eq!(causes(&exchange(&world, &caller, WHOLE).await.unwrap_err()), (403, vec!["not_a_key"]));
    let heir = mint(&world, &caller, new_key("heir")).await.unwrap().key;
    assert_eq!((heir.scopes, heir.expires_at), (Some(few), caller.proof.until));
    let longer = NewApiKey { expires_at: caller.proof.until.map(|at| at.plus(1.seconds())), ..new_key("longer") };
    assert_eq!(causes(&mint(&world, &caller, longer).await.unwrap_err()), (403, vec!["beyond_own"]));
    let grant = world.grant::<ApiKeyWrite>(&caller);
    let own = world.cloud.api_key_to_change(&grant, owner.key_id.unwrap()).await.unwrap();
    assert_eq!(world.cloud.rotate_api_key(&grant, own.clone(), 0).await.unwrap_err().code, Code::Forbidden);
    assert_eq!(causes(&world.cloud.revoke_api_key(&grant, own).unwrap_err()), (409, vec!["own_key"]));

    let narrow_key = mint(&world, &owner, NewApiKey { scopes: Some(few), ..new_key("narrow") }).await.unwrap();
    let narrow_key = live(&world, &narrow_key.secret).await.unwrap();
    let more = few.with(Scope::read(Noun::Project)).with(Scope::read(Noun::Event));
    let fault = exchange(&world, &narrow_key, NewToken { scopes: Some(more), ..WHOLE }).await.unwrap_err();
    assert_eq!(causes(&fault), (403, vec!["missing_scope", "missing_scope"]));
    assert_eq!(fault.details[0].required_scope, Some(Scope::read(Noun::Project)));
    let none = NewToken { scopes: Some(Scopes::default()), ..WHOLE };
    assert_eq!(causes(&exchange(&world, &narrow_key, none).await.unwrap_err()), (400, vec!["too_short"]));
    for expires_in_s in [0, 901] {
        let new = NewToken { expires_in_s, ..WHOLE };
        assert_eq!(causes(&exchange(&world, &narrow_key, new).await.unwrap_err()), (400, vec!["out_of_range"]));
    }
}

async fn a_token_says_what_the_standard_asks_for(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let token = exchange(&world, &owner, NewToken { expires_in_s: 300, ..WHOLE }).await.unwrap();
    let (header, claims) = (part(&token, 0), part(&token, 1));
    assert_eq!((&header["alg"], &header["typ"]), (&Value::from("EdDSA"), &Value::from("at+jwt")));
    assert_eq!(header["kid"].as_str(), Some(kids(&world).await[0].as_str()));
    assert!(world.cloud.issuer().starts_with("urn:nephos:"));
    assert_eq!(
        (claims["iss"].as_str(), claims["aud"].as_str()),
        (Some(world.cloud.issuer()), Some(world.cloud.issuer()))
    );
    assert_eq!(claims["sub"].as_str(), Some(owner.member_id.to_string().as_str()));
    assert_eq!(claims["client_id"].as_str(), Some(owner.key_id.unwrap().to_string().as_str()));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 300);
    assert_eq!((claims["mode"].as_str(), claims["jti"].as_str().unwrap().len()), (Some("live"), 36));
    assert!(!token.text.contains(made.live_key.expose()));
    // Whoever has only the published keys can verify it.
    let set: Value = serde_json::from_str(&world.cloud.jwks().await.unwrap()).unwrap();
    let key = &set["keys"][0];
    assert_eq!(
        (key["kty"].as_str(), key["crv"].as_str(), key["alg"].as_str()),
        (Some("OKP"), Some("Ed25519"), Some("EdDSA"))
    );
    assert!(key.get("d").is_none(), "no private part");
    let public = BASE64URL.decode(key["x"].as_str().unwrap()).unwrap();
    let (signed, signature) = token.text.rsplit_once('.').unwrap();
    let public = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, public);
    public.verify(signed.as_bytes(), &BASE64URL.decode(signature).unwrap()).unwrap();
}

async fn a_token_ends_with_the_secret_the_key_and_the_rights_behind_it(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let ends = async |token: &Token, code: &'static str| {
        assert_eq!(causes(&with(&world.cloud, token).await.unwrap_err()), (401, vec![code]));
    };
    // Its own time.
    let short = exchange(&world, &owner, NewToken { expires_in_s: 2, ..WHOLE }).await.unwrap();
    with(&world.cloud, &short).await.unwrap();
    world.clock.advance(2.seconds()).await;
    ends(&short, "expired_credential").await;
    // The key's expiry.
    let soon = world.clock.now().plus(5.seconds());
    let brief = mint(&world, &owner, NewApiKey { expires_at: Some(soon), ..new_key("brief") }).await.unwrap();
    let token = exchange(&world, &live(&world, &brief.secret).await.unwrap(), WHOLE).await.unwrap();
    assert_eq!(token.expires_in_s, 5, "no longer than its key");
    // Revocation, on the next request.
    let spare = mint(&world, &owner, new_key("spare")).await.unwrap();
    let token = exchange(&world, &live(&world, &spare.secret).await.unwrap(), WHOLE).await.unwrap();
    with(&world.cloud, &token).await.unwrap();
    let grant = world.grant::<ApiKeyWrite>(&owner);
    commit(&world, world.cloud.revoke_api_key(&grant, spare.key).unwrap()).await.unwrap();
    ends(&token, "revoked_credential").await;
    // A rotated secret takes its tokens along, at once or when its grace ends; those of the new one stay.
    let turning = mint(&world, &owner, new_key("turning")).await.unwrap();
    let old = exchange(&world, &live(&world, &turning.secret).await.unwrap(), WHOLE).await.unwrap();
    let turned = commit(&world, world.cloud.rotate_api_key(&grant, turning.key, 60).await.unwrap()).await.unwrap();
    with(&world.cloud, &old).await.unwrap();
    let in_grace = live(&world, &turning.secret).await.unwrap();
    assert_eq!(exchange(&world, &in_grace, WHOLE).await.unwrap().expires_in_s, 60);
    let new = exchange(&world, &live(&world, &turned.secret).await.unwrap(), WHOLE).await.unwrap();
    world.clock.advance(60.seconds()).await;
    ends(&old, "rotated_credential").await;
    with(&world.cloud, &new).await.unwrap();
    commit(&world, world.cloud.rotate_api_key(&grant, turned.key, 0).await.unwrap()).await.unwrap();
    ends(&new, "rotated_credential").await;
    // The member's role.
    let (of_admin, secret) = member(&world, &owner, Role::Admin).await;
    let token = exchange(&world, &live(&world, &secret).await.unwrap(), WHOLE).await.unwrap();
    assert_eq!(with(&world.cloud, &token).await.unwrap().role, Role::Admin);
    let demote = nephos_store::member::set_role(owner.workspace_id, &of_admin, Role::Member, world.clock.now());
    world.database.store().write(demote.into()).await.unwrap();
    world.clock.advance(KNOWN_FOR).await;
    assert_eq!(with(&world.cloud, &token).await.unwrap().role, Role::Member);
    // The workspace's suspension.
    world.cloud.suspend_workspace("acme").await.unwrap();
    assert_eq!(with(&world.cloud, &token).await.unwrap_err().code, Code::Forbidden);
}

async fn a_token_works_where_its_key_does(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let home = project(&world, &owner, "home").await;
    let new = NewApiKey { allowed_ips: vec!["203.0.113.0/24".to_owned()], project_id: Some(home), ..new_key("narrow") };
    let key = mint(&world, &owner, new).await.unwrap();
    let token = exchange(&world, &live(&world, &key.secret).await.unwrap(), WHOLE).await.unwrap();
    let caller = with(&world.cloud, &token).await.unwrap();
    assert_eq!(caller.project_id, Some(home));
    let ask = |mode, address: &str| world.cloud.authenticate(&token.text, mode, address.parse().unwrap());
    assert_eq!(causes(&ask(Mode::Live, "198.51.100.1").await.unwrap_err()), (401, vec!["address_not_allowed"]));
    ask(Mode::Live, "::ffff:203.0.113.9").await.unwrap();
    for _ in 0..2 {
        let fault = ask(Mode::Test, "203.0.113.7").await.unwrap_err();
        assert_eq!(causes(&fault), (401, vec!["wrong_base_url"]));
        assert!(fault.message.contains("live token") && fault.message.contains("/v1 or /api/v1"), "{fault}");
    }
    delete(&world, &owner, home).await;
    assert_eq!(causes(&with(&world.cloud, &token).await.unwrap_err()), (401, vec!["revoked_credential"]));
}

async fn a_changed_or_foreign_token_is_refused(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let token = exchange(
        &world,
        &owner,
        NewToken { scopes: Some(Scopes::default().with(Scope::read(Noun::Compute))), ..WHOLE },
    )
    .await
    .unwrap();
    let refused = async |text: String| {
        let fault = world.cloud.authenticate(&text, Mode::Live, HERE).await.unwrap_err();
        assert_eq!(causes(&fault), (401, vec!["invalid_credential"]), "{text}");
    };
    let text = &token.text;
    for at in 0..text.len() {
        let mut changed = text.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        refused(String::from_utf8(changed).unwrap()).await;
    }
    let parts: Vec<&str> = text.split('.').collect();
    let kid = kids(&world).await[0].clone();
    let other = ring::signature::Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap();
    let claims = String::from_utf8(BASE64URL.decode(parts[1]).unwrap()).unwrap();
    for header in [
        format!("{{\"alg\":\"EdDSA\",\"typ\":\"at+jwt\",\"kid\":\"{kid}\"}}"),
        format!("{{\"alg\":\"EdDSA\",\"typ\":\"JWT\",\"kid\":\"{kid}\"}}"),
        format!("{{\"typ\":\"at+jwt\",\"alg\":\"EdDSA\",\"kid\":\"{kid}\"}}"),
        format!("{{\"alg\":\"none\",\"typ\":\"at+jwt\",\"kid\":\"{kid}\"}}"),
        format!("{{\"alg\":\"HS256\",\"typ\":\"at+jwt\",\"kid\":\"{kid}\"}}"),
        format!("{{\"alg\":\"EdDSA\",\"typ\":\"at+jwt\",\"kid\":\"{kid}\",\"jku\":\"https://evil.example/\"}}"),
        format!("{{\"alg\":\"EdDSA\",\"typ\":\"at+jwt\",\"kid\":\"{}\"}}", "A".repeat(43)),
    ] {
        let signed = format!("{}.{}", BASE64URL.encode(header), BASE64URL.encode(&claims));
        let signature = BASE64URL.encode(other.sign(signed.as_bytes()));
        refused(format!("{signed}.{signature}")).await;
        refused(format!("{signed}.")).await;
        let with_the_true_signature = format!("{signed}.{}", parts[2]);
        if with_the_true_signature != *text {
            refused(with_the_true_signature).await;
        }
    }
    for bad in [
        format!("{text}="),
        format!("{text}."),
        format!("{}.{}", parts[0], parts[1]),
        "..".to_owned(),
        "a.b.c".repeat(2_000),
    ] {
        refused(bad).await;
    }
    with(&world.cloud, &token).await.unwrap();
}

async fn a_token_shares_the_budgets_of_its_key(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let token = exchange(&world, &owner, WHOLE).await.unwrap();
    let caller = with(&world.cloud, &token).await.unwrap();
    for i in 0..120 {
        let of = if i % 2 == 0 { &owner } else { &caller };
        assert!(world.cloud.admit(of, SurfaceBudget::Platform, Class::Read).refused.is_none(), "{i}");
    }
    for of in [&owner, &caller] {
        let refused = world.cloud.admit(of, SurfaceBudget::Platform, Class::Read).refused.unwrap();
        assert_eq!(refused.details[0].budget, Some("key"));
    }
}

async fn signing_keys_roll_over_without_refusing_a_token(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let kid = |token: &Token| part(token, 0)["kid"].as_str().unwrap().to_owned();
    let first = exchange(&world, &owner, WHOLE).await.unwrap();
    // A minute before the key's time the next one is published, and does not sign yet.
    world.clock.advance(SIGNS_FOR.saturating_sub(60.seconds())).await;
    world.cloud.roll_signing_keys().await.unwrap();
    assert_eq!(kids(&world).await.len(), 2);
    let last = exchange(&world, &owner, WHOLE).await.unwrap();
    assert_eq!(kid(&last), kid(&first));
    // That one came late, so it has its time to be known first.
    world.clock.advance(PUBLISHED_BEFORE.saturating_sub(1.seconds())).await;
    assert_eq!(kid(&exchange(&world, &owner, WHOLE).await.unwrap()), kid(&first));
    world.clock.advance(1.seconds()).await;
    let next = exchange(&world, &owner, WHOLE).await.unwrap();
    assert_eq!(vec![kid(&first), kid(&next)], kids(&world).await);
    world.cloud.roll_signing_keys().await.unwrap();
    with(&world.cloud, &last).await.expect("a token of the key before works to its end");
    with(&world.cloud, &next).await.unwrap();
    world.clock.advance(Duration::from_secs(2 * u64::from(TOKEN_S_MAX))).await;
    world.cloud.roll_signing_keys().await.unwrap();
    assert_eq!(kids(&world).await, [kid(&next)]);
    // The operator makes the next one, once.
    let keys = world.cloud.rotate_signing_keys(Earlier::Stay).await.unwrap();
    assert_eq!(keys.iter().map(|key| key.state).collect::<Vec<_>>(), ["next", "signs"]);
    assert_eq!(
        causes(&world.cloud.rotate_signing_keys(Earlier::Stay).await.unwrap_err()),
        (409, vec!["already_rolling"])
    );
    world.clock.advance(PUBLISHED_BEFORE).await;
    assert_eq!(kid(&exchange(&world, &owner, WHOLE).await.unwrap()), keys[0].id);
}

async fn withdrawn_signing_keys_take_their_tokens_along(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let stolen = exchange(&world, &owner, WHOLE).await.unwrap();
    with(&world.cloud, &stolen).await.unwrap();
    let replica = world.replica(8);
    with(&replica, &stolen).await.unwrap();
    let keys = world.cloud.rotate_signing_keys(Earlier::Go).await.unwrap();
    assert_eq!((keys.len(), keys[0].state), (1, "signs"));
    assert_eq!(with(&world.cloud, &stolen).await.unwrap_err().code, Code::Unauthorized, "here at once");
    let fresh = exchange(&world, &owner, WHOLE).await.unwrap();
    world.clock.advance(Duration::from_millis(100)).await;
    with(&replica, &fresh).await.expect("a key that is not known is looked for");
    world.clock.advance(KNOWN_FOR).await;
    assert_eq!(with(&replica, &stolen).await.unwrap_err().code, Code::Unauthorized);
}

async fn two_processes_make_one_signing_key(engine: Engine) {
    let (world, _) = installed(engine).await;
    let replicas = [8, 9, 10].map(|seed| world.replica(seed));
    let [a, b, c] = &replicas;
    let (a, b, c) = tokio::join!(a.roll_signing_keys(), b.roll_signing_keys(), c.roll_signing_keys());
    a.and(b).and(c).unwrap();
    assert_eq!(kids(&world).await.len(), 1);
}

async fn another_process_takes_a_token_and_sees_its_end_within_a_second(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let spare = mint(&world, &owner, new_key("spare")).await.unwrap();
    let token = exchange(&world, &live(&world, &spare.secret).await.unwrap(), WHOLE).await.unwrap();
    let replica = world.replica(8);
    with(&replica, &token).await.unwrap();
    let grant = world.grant::<ApiKeyWrite>(&owner);
    commit(&world, world.cloud.revoke_api_key(&grant, spare.key).unwrap()).await.unwrap();
    assert_eq!(with(&world.cloud, &token).await.unwrap_err().code, Code::Unauthorized, "here at once");
    world.clock.advance(KNOWN_FOR).await;
    assert_eq!(causes(&with(&replica, &token).await.unwrap_err()), (401, vec!["revoked_credential"]));
}
