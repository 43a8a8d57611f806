//! Letters: written with what causes them, sent once, tried again for a day, and forgotten.

use nephos_control::deprecation::Notice;
use nephos_control::mail::letter::{Deprecated, Letter};
use nephos_control::mail::{NotSent, RETRY_AFTER};
use nephos_model::Clock as _;
use nephos_model::role::Role;
use nephos_store::Engine;
use nephos_testkit::{Durations as _, World};

use crate::member::{accept, invite, join, set_role};
use crate::{installed, live, mint, new_key};
use nephos_control::api_key::NewApiKey;

on_both! {
    an_invited_person_gets_a_letter_with_the_link
    a_letter_is_tried_for_a_day
    a_letter_that_is_refused_for_good_is_given_up
    a_letter_that_nobody_needs_any_more_is_not_sent
    the_member_of_a_key_hears_of_its_end_once
    owners_hear_of_a_deprecation_and_are_reminded_while_they_call
    two_processes_send_a_letter_once
}

/// What was sent: to whom, and the subject.
fn sent(world: &World) -> Vec<(String, String)> {
    let mut sent: Vec<_> = world.mailbox.take().into_iter().map(|l| (l.to, l.text.subject)).collect();
    sent.sort();
    sent
}

fn down(is_final: bool) -> NotSent {
    NotSent { is_final, cause: "the server is out".to_owned() }
}

async fn an_invited_person_gets_a_letter_with_the_link(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let refused = invite(&world, &owner, "ada@example.com", Role::Member).await;
    assert!(refused.is_err(), "a member already");
    invite(&world, &owner, "bob@example.com", Role::Member).await.unwrap();
    assert_eq!(world.cloud.send_mails().await.unwrap(), 1, "what was refused is not told");

    let letters = world.mailbox.take();
    let text = &letters[0].text;
    assert_eq!(
        (letters[0].to.as_str(), text.subject.as_str()),
        ("bob@example.com", "You are invited to the workspace “acme”")
    );
    let token = text.plain.split_once("/invitations/accept#").unwrap().1.split_whitespace().next().unwrap();
    assert_eq!(accept(&world, token).await.unwrap().member.email, "bob@example.com");
    assert_eq!(world.cloud.send_mails().await.unwrap(), 0);
}

async fn a_letter_is_tried_for_a_day(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    world.mailbox.refuse(Some(down(false)));
    invite(&world, &owner, "bob@example.com", Role::Member).await.unwrap();
    let written = world.clock.now();
    assert_eq!(world.cloud.send_mails().await.unwrap(), 1);
    for after in RETRY_AFTER {
        let left = written.plus(after).since(world.clock.now());
        world.clock.advance(left.saturating_sub(1.millis())).await;
        assert_eq!(world.cloud.send_mails().await.unwrap(), 0, "not before {after:?}");
        world.clock.advance(1.millis()).await;
        assert_eq!(world.cloud.send_mails().await.unwrap(), 1, "{after:?}");
    }
    world.mailbox.refuse(None);
    world.clock.advance(2.days()).await;
    assert_eq!(world.cloud.send_mails().await.unwrap(), 0);
    assert_eq!(world.mailbox.refused(), 1 + RETRY_AFTER.len());
    let told = &world.cloud.store().mails(10).await.unwrap()[0];
    assert_eq!(told.ended_at, Some(written.plus(1.days())));
    assert_eq!(told.last_error.as_deref(), Some("the server is out"));

    // What happened to it is forgotten in time.
    world.clock.advance(30.days()).await;
    world.cloud.expire_some().await.unwrap();
    assert_eq!(world.cloud.store().mails(10).await.unwrap().len(), 0);
}

async fn a_letter_that_is_refused_for_good_is_given_up(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    world.mailbox.refuse(Some(down(true)));
    invite(&world, &owner, "bob@example.com", Role::Member).await.unwrap();
    assert_eq!(world.cloud.send_mails().await.unwrap(), 1);
    world.clock.advance(2.days()).await;
    assert_eq!(world.cloud.send_mails().await.unwrap(), 0);
}

async fn a_letter_that_nobody_needs_any_more_is_not_sent(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    invite(&world, &owner, "bob@example.com", Role::Member).await.unwrap();
    world.clock.advance(8.days()).await;
    assert_eq!(world.cloud.send_mails().await.unwrap(), 1);
    assert_eq!(sent(&world), []);
    assert_eq!(world.cloud.store().mails(10).await.unwrap()[0].last_error.as_deref(), Some("nobody needs it any more"));
}

async fn the_member_of_a_key_hears_of_its_end_once(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    let now = world.clock.now();
    for (name, days) in [("long", 30_u64), ("short", 10)] {
        let expires_at = Some(now.plus(days.days()));
        mint(&world, &owner, NewApiKey { expires_at, ..new_key(name) }).await.unwrap();
    }
    world.clock.advance(22.days()).await;
    world.cloud.expire_some().await.unwrap();
    world.cloud.send_mails().await.unwrap();
    assert_eq!(sent(&world), [], "neither the one that has eight days nor the one that was made for ten");
    world.clock.advance(1.days()).await;
    for _ in 0..2 {
        world.cloud.expire_some().await.unwrap();
        world.cloud.send_mails().await.unwrap();
    }
    assert_eq!(sent(&world), [("ada@example.com".to_owned(), "Your API key “long” stops working soon".to_owned())]);
}

async fn owners_hear_of_a_deprecation_and_are_reminded_while_they_call(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    join(&world, &owner, "bob@example.com", Role::Member).await;
    let second = join(&world, &owner, "eve@example.com", Role::Admin).await;
    set_role(&world, &owner, second.member.id, Role::Owner).await.unwrap();
    world.cloud.send_mails().await.unwrap();
    sent(&world);
    world.clock.advance(1.days()).await;
    let sunset_at = world.clock.now().plus(200.days());
    let letter = Letter::Deprecated(Deprecated {
        noun: "operation".to_owned(),
        name: "project.list".to_owned(),
        sunset_at,
        successor: None,
        note: "Lists of projects go another way.".to_owned(),
    });
    let notices = [Notice {
        subject: "operation project.list deprecated".to_owned(),
        event: "api.operation_deprecated",
        resource_id: "project.list".to_owned(),
        at: world.clock.now(),
        data: r#"{"kind":"operation","name":"project.list","deprecated_at":"2026-01-16T12:00:00Z",
            "sunset_at":"2026-08-04T12:00:00Z","successor":null,"note":"Lists of projects go another way."}"#
            .to_owned(),
        letter,
    }];
    let both = |subject: &str| ["ada@example.com", "eve@example.com"].map(|to| (to.to_owned(), subject.to_owned()));
    for _ in 0..2 {
        world.cloud.announce_due(&notices).await.unwrap();
        world.cloud.remind_of_deprecations(&notices).await.unwrap();
    }
    world.cloud.send_mails().await.unwrap();
    assert_eq!(sent(&world), both("Deprecated: the operation project.list"));

    let caller = live(&world, &made.live_key).await.unwrap();
    world.cloud.note_deprecated_call(&caller, "project.list");
    world.cloud.flush().await.unwrap();
    for month in 0..3 {
        for _ in 0..2 {
            world.cloud.remind_of_deprecations(&notices).await.unwrap();
        }
        world.cloud.send_mails().await.unwrap();
        // Called in the first month only.
        let told = if month == 0 {
            both("Your keys still call the deprecated operation project.list").to_vec()
        } else {
            Vec::new()
        };
        assert_eq!(sent(&world), told);
        world.clock.advance(30.days()).await;
    }
}

async fn two_processes_send_a_letter_once(engine: Engine) {
    let (world, made) = installed(engine).await;
    let owner = live(&world, &made.live_key).await.unwrap();
    for number in 0..20 {
        invite(&world, &owner, &format!("bob{number}@example.com"), Role::Member).await.unwrap();
    }
    let other = world.replica(8);
    let (one, two) = tokio::join!(world.cloud.send_mails(), other.send_mails());
    assert_eq!(one.unwrap() + two.unwrap(), 20);
    assert_eq!(sent(&world).len(), 20);
}
