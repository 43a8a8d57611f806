//! The audit log as it is read: its order, its filters, what was refused, its chain and its retention, on both engines.

#![allow(clippy::unwrap_used)] // a test may

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use nephos_control::audit_log::{Filter, Order, Part};
use nephos_control::caller::{AuditLogRead, Caller, ProjectWrite};
use nephos_control::refusal::Noted;
use nephos_model::audit::{Entry, Fault};
use nephos_model::page::Listed;
use nephos_model::role::Role;
use nephos_model::tenant::{Mode, TenantId};
use nephos_store::testing::tamper;
use nephos_store::{Batch, Engine};
use nephos_testkit::World;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));

macro_rules! on_both {
    ($($name:ident)*) => {
        mod sqlite { $(#[tokio::test] async fn $name() { super::$name(nephos_store::Engine::Sqlite).await; })* }
        mod postgres { $(#[tokio::test] async fn $name() { super::$name(nephos_store::Engine::Postgres).await; })* }
    };
}

on_both! {
    rows_are_listed_in_the_order_of_their_numbers
    what_was_refused_is_told_without_a_write_per_request
    whoever_alters_removes_or_moves_a_row_is_found
    the_chain_holds_over_the_cut_of_what_is_too_old
}

async fn project(world: &World, caller: &Arc<Caller>, name: &str) {
    let grant = world.grant::<ProjectWrite>(caller);
    let plan = world.cloud.create_project(&grant, &name.parse().unwrap()).await.unwrap();
    world.cloud.commit(plan, None).await.unwrap();
    numbered(world).await;
}

async fn numbered(world: &World) {
    while world.cloud.sequence_some().await.unwrap() > 0 {}
}

async fn log(world: &World, caller: &Arc<Caller>, filter: Filter, part: Part) -> Listed<Entry> {
    world.cloud.audit_log(&world.grant::<AuditLogRead>(caller), &filter, &part).await.unwrap()
}

fn newest(limit: u32) -> Part {
    Part { order: Order::Newest, after: None, offset: 0, limit }
}

fn seqs(listed: &Listed<Entry>) -> Vec<i64> {
    listed.items.iter().map(|entry| entry.seq).collect()
}

async fn rows_are_listed_in_the_order_of_their_numbers(engine: Engine) {
    let world = World::new(engine).await;
    let caller = world.caller(Role::Admin, Mode::Live).await;
    for n in 0..6 {
        project(&world, &caller, &format!("project {n}")).await;
        world.clock.advance(Duration::from_secs(60)).await;
    }
    let all = log(&world, &caller, Filter::default(), newest(100)).await;
    assert_eq!((seqs(&all), all.total, all.more), (vec![6, 5, 4, 3, 2, 1], 6, false));
    let first = &all.items[5];
    assert_eq!((first.action.as_str(), first.status, first.before.is_none()), ("project.create", 201, true));
    assert_eq!((first.actor_id.clone(), first.address.as_deref()), (caller.actor().id(), Some("127.0.0.1")));

    // What comes after a row never changes, whatever is written meanwhile.
    let page = log(&world, &caller, Filter::default(), newest(2)).await;
    assert_eq!((seqs(&page), page.more), (vec![6, 5], true));
    let next = Part { after: Some(page.items[1].id), ..newest(2) };
    assert_eq!(seqs(&log(&world, &caller, Filter::default(), next.clone()).await), [4, 3]);
    project(&world, &caller, "late").await;
    assert_eq!(seqs(&log(&world, &caller, Filter::default(), next).await), [4, 3]);
    let oldest = Part { order: Order::Oldest, offset: 2, ..newest(2) };
    assert_eq!(seqs(&log(&world, &caller, Filter::default(), oldest).await), [3, 4]);
    let after = Part { order: Order::Oldest, after: Some(first.id), ..newest(2) };
    assert_eq!(seqs(&log(&world, &caller, Filter::default(), after).await), [2, 3]);

    let of = |filter: Filter| log(&world, &caller, filter, newest(100));
    let resource = Filter { resource_id: first.resource_id.clone(), ..Filter::default() };
    assert_eq!(seqs(&of(resource).await), [1]);
    let action = Filter { action: Some("project.delete".to_owned()), ..Filter::default() };
    assert_eq!(of(action).await.total, 0);
    let actor =
        Filter { actor_id: caller.actor().id(), action: Some("project.create".to_owned()), ..Filter::default() };
    assert_eq!(of(actor).await.total, 7);
    let time = Filter { from: Some(all.items[3].created_at), to: Some(all.items[1].created_at), ..Filter::default() };
    let between = of(time).await;
    assert_eq!((seqs(&between), between.total), (vec![4, 3], 2));
    let never = Filter { to: Some(first.created_at), ..Filter::default() };
    assert_eq!(of(never).await.total, 0);

    let elsewhere = world.caller(Role::Owner, Mode::Live).await;
    assert_eq!(log(&world, &elsewhere, Filter::default(), newest(10)).await.total, 0);
}

fn refused(status: u16, action: Option<&'static str>) -> Noted<'static> {
    Noted {
        action,
        resource_id: Some("prj_x".to_owned()),
        project_id: None,
        address: HERE,
        client_request_id: Some("mine"),
        request_id: "0188bac7-4afa-78aa-bc3b-bd1eef28d881",
        status,
    }
}

async fn what_was_refused_is_told_without_a_write_per_request(engine: Engine) {
    let world = World::new(engine).await;
    let caller = world.caller(Role::Owner, Mode::Live).await;
    world.cloud.note_refusal(Some(&caller), &refused(403, Some("member.update")));
    for _ in 0..3 {
        world.cloud.note_refusal(Some(&caller), &refused(429, None));
        world.cloud.note_refusal(None, &refused(401, None));
    }
    for _ in 0..500 {
        world.cloud.note_refusal(Some(&caller), &refused(404, Some("project.get")));
    }
    assert_eq!(log(&world, &caller, Filter::default(), newest(1)).await.total, 0, "nothing is written on the way");
    world.cloud.flush().await.unwrap();
    numbered(&world).await;
    let rows = log(&world, &caller, Filter::default(), newest(100)).await;
    assert_eq!(rows.total, 120, "one 403 and 119 of 404; the minute is not over");
    let first =
        log(&world, &caller, Filter { action: Some("member.update".to_owned()), ..Filter::default() }, newest(9)).await;
    let row = &first.items[0];
    assert_eq!((row.status, row.resource_id.as_deref(), row.before.is_some()), (403, Some("prj_x"), false));
    assert_eq!((row.address.as_deref(), row.client_request_id.as_deref()), (Some("203.0.113.7"), Some("mine")));

    world.clock.advance(Duration::from_secs(61)).await;
    world.cloud.flush().await.unwrap();
    numbered(&world).await;
    let counts = Filter { action: Some("request.refused".to_owned()), ..Filter::default() };
    let counts = log(&world, &caller, counts, newest(100)).await;
    let told: Vec<_> = counts.items.iter().map(|e| (e.status, e.after.clone().unwrap())).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    let of =
        |status: u16| serde_json::from_str::<serde_json::Value>(&told.iter().find(|(s, _)| *s == status).unwrap().1);
    assert_eq!(of(429).unwrap()["requests"], 3);
    assert_eq!(
        (of(404).unwrap()["requests"].clone(), of(404).unwrap()["code"].clone()),
        (381.into(), "resource_not_found".into())
    );

    // Of whom nothing is known is told to the operator only.
    let part = Part { order: Order::Oldest, ..newest(10) };
    let own = world.cloud.audit_log_of(None, Mode::Live, &part).await.unwrap();
    assert_eq!((own.total, own.items[0].status, own.items[0].actor_id.clone()), (1, 401, None));
    let checked = world.cloud.verify_audit_logs(None).await.unwrap();
    assert!(checked.iter().all(|c| c.verdict.fault.is_none()), "{checked:?}");
    assert_eq!(checked.iter().map(|c| c.verdict.rows).sum::<i64>(), 123);
}

async fn verdict(world: &World, tenant: TenantId) -> Option<Fault> {
    world.database.store().verify_audit_log(tenant).await.unwrap().fault
}

async fn whoever_alters_removes_or_moves_a_row_is_found(engine: Engine) {
    let world = World::new(engine).await;
    let store = world.database.store();
    let mut callers = Vec::new();
    for _ in 0..5 {
        let caller = world.caller(Role::Owner, Mode::Live).await;
        for n in 0..5 {
            project(&world, &caller, &format!("project {n}")).await;
        }
        assert_eq!(verdict(&world, caller.tenant).await, None);
        callers.push(caller.tenant);
    }
    let [altered, removed, moved, last, relinked] = callers[..] else { unreachable!() };
    let write = |statements: Vec<_>| store.write(Batch::from(statements));
    write(vec![tamper::alter(altered, 3)]).await.unwrap();
    assert_eq!(verdict(&world, altered).await, Some(Fault::Altered { seq: 3 }));
    write(vec![tamper::remove(removed, 2)]).await.unwrap();
    assert_eq!(verdict(&world, removed).await, Some(Fault::Missing { seq: 2 }));
    write(vec![tamper::shift(moved, 2, 99), tamper::shift(moved, 3, 2), tamper::shift(moved, 99, 3)]).await.unwrap();
    assert_eq!(verdict(&world, moved).await, Some(Fault::Altered { seq: 2 }));
    write(vec![tamper::remove(last, 5)]).await.unwrap();
    assert_eq!(verdict(&world, last).await, Some(Fault::Missing { seq: 5 }));
    write(vec![tamper::link(relinked, 5, 4)]).await.unwrap();
    assert_eq!(verdict(&world, relinked).await, Some(Fault::Altered { seq: 5 }));
    let wrong = world.cloud.verify_audit_logs(None).await.unwrap();
    assert_eq!(wrong.iter().filter(|checked| checked.verdict.fault.is_some()).count(), 5);
}

async fn the_chain_holds_over_the_cut_of_what_is_too_old(engine: Engine) {
    let world = World::new(engine).await;
    let caller = world.caller(Role::Owner, Mode::Live).await;
    for n in 0..3 {
        project(&world, &caller, &format!("old {n}")).await;
    }
    let old = log(&world, &caller, Filter::default(), newest(1)).await.items[0].id;
    world.clock.advance(399 * DAY).await;
    project(&world, &caller, "new").await;
    world.cloud.expire_some().await.unwrap();
    assert_eq!(log(&world, &caller, Filter::default(), newest(9)).await.total, 4);
    world.clock.advance(2 * DAY).await;
    world.cloud.expire_some().await.unwrap();
    project(&world, &caller, "newer").await;
    let left = log(&world, &caller, Filter::default(), newest(9)).await;
    assert_eq!((seqs(&left), left.total), (vec![5, 4], 2));
    let after = Part { after: Some(old), ..newest(9) };
    assert_eq!(log(&world, &caller, Filter::default(), after.clone()).await.items.len(), 0);
    let on = Part { order: Order::Oldest, ..after };
    assert_eq!(seqs(&log(&world, &caller, Filter::default(), on).await), [4, 5], "an export goes on where it was");
    let verdict = world.database.store().verify_audit_log(caller.tenant).await.unwrap();
    assert_eq!((verdict.fault, verdict.rows, verdict.first_seq, verdict.last_seq), (None, 2, 4, 5));
}
