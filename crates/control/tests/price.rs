//! Prices that change, and the ledger under a history of changes, on both engines.

#![allow(clippy::unwrap_used)] // a test may

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nephos_control::budget_alert::{BudgetAlertChange, NewBudgetAlert};
use nephos_control::caller::{BudgetAlertRead, BudgetAlertWrite, Caller, EventRead, InvoiceRead, UsageRead};
use nephos_control::invoice::SETTLED_AFTER;
use nephos_control::plan::CommitError;
use nephos_control::price::NewPrices;
use nephos_control::usage::GroupBy;
use nephos_control::view::{InvoiceLineView, UsageGroupView, UsageView, json};
use nephos_model::clock::Month;
use nephos_model::id::{ComputeId, EnvironmentId, Id as _, OperationId, ProjectId};
use nephos_model::page::Page;
use nephos_model::price::SizePrice;
use nephos_model::role::Role;
use nephos_model::tenant::Mode;
use nephos_model::{Clock as _, Code, Entropy as _, Timestamp};
use nephos_store::Engine;
use nephos_store::meter::Meter;
use nephos_testkit::{Durations as _, SeededEntropy, World};

macro_rules! on_both {
    ($($name:ident)*) => {
        mod sqlite { $(#[tokio::test] async fn $name() { super::$name(nephos_store::Engine::Sqlite).await; })* }
        mod postgres { $(#[tokio::test] async fn $name() { super::$name(nephos_store::Engine::Postgres).await; })* }
    };
}

on_both! {
    a_new_price_is_valid_from_its_second_and_changes_nothing_before
    any_history_sums_to_the_same_however_it_is_cut
    a_month_is_closed_once
    a_clock_that_steps_back_changes_no_closed_month
    a_budget_tells_each_threshold_once_a_month
}

/// A history of changes, metered as the reconciler meters them.
struct History<'a> {
    world: &'a World,
    caller: &'a Arc<Caller>,
    entry: u64,
}

impl History<'_> {
    fn now_s(&self) -> i64 {
        self.world.clock.now().secs()
    }

    async fn turn(&mut self, id: ComputeId, project: ProjectId, item: &'static str, size: &str, price: i64, at_s: i64) {
        self.entry += 1;
        let meter = Meter {
            resource_id: id,
            project_id: project,
            environment_id: EnvironmentId::from_raw(project.raw()),
            item,
            size,
            region: "local",
            microunits_per_hour: price,
        };
        let turn = nephos_store::meter::turn(self.caller.tenant, &meter, at_s, &format!("v{}", self.entry));
        self.world.database.store().write(turn.into_iter().collect()).await.unwrap();
    }

    async fn stop(&self, id: ComputeId, at_s: i64) {
        let operation = self.world.cloud.id::<OperationId>();
        let stop = nephos_store::meter::stop(self.caller.tenant, id, at_s, operation);
        self.world.database.store().write(stop.into_iter().collect()).await.unwrap();
    }

    async fn usage(&self, month: &str, by: Option<GroupBy>) -> UsageView {
        let grant = self.world.grant::<UsageRead>(self.caller);
        self.world.cloud.usage(&grant, Month::parse(month), by).await.unwrap()
    }
}

fn prices(world: &World, valid_from: Timestamp, factor: i64) -> NewPrices {
    let of = |n: i64| SizePrice { running_microunits_per_hour: n * factor, stopped_microunits_per_hour: factor };
    let sizes = world.cloud.settings().sizes.iter().zip(1..).map(|(size, n)| (size.name.clone(), of(n * 3_600)));
    NewPrices { currency: "EUR".to_owned(), valid_from, sizes: sizes.collect() }
}

async fn a_new_price_is_valid_from_its_second_and_changes_nothing_before(engine: Engine) {
    let world = World::new(engine).await;
    let caller = world.caller(Role::Owner, Mode::Live).await;
    let mut history = History { world: &world, caller: &caller, entry: 0 };
    let project = world.cloud.id();
    let start = history.now_s();
    history.turn(world.cloud.id(), project, "compute.running", "nano", 3_600, start).await;

    let soon = |seconds: i64| Timestamp::from_secs(start + seconds);
    let wrong = NewPrices { currency: "USD".to_owned(), sizes: BTreeMap::new(), ..prices(&world, soon(59), 2) };
    let refused = world.cloud.install_prices(wrong).await.unwrap_err();
    let sizes = world.cloud.settings().sizes.len();
    assert_eq!((refused.code, refused.details.len()), (Code::BadRequest, 2 + sizes), "{refused:?}");
    assert!(world.cloud.price_lists().await.unwrap().lists().is_empty());

    let first = world.cloud.install_prices(prices(&world, soon(3_600), 2)).await.unwrap();
    assert_eq!((first.version, first.valid_from_s), (1, start + 3_600));
    world.clock.advance(1.hours()).await;
    let before = history.usage("2026-01", None).await;
    assert_eq!(before.amount_microunits, Some(3_600), "an hour as it was written");
    world.clock.advance(1.hours()).await;
    assert_eq!(history.usage("2026-01", None).await.amount_microunits, Some(3_600 + 7_200));

    // The past is as it was, whatever comes now, and a list that begins earlier is valid instead of one installed before it.
    let late = world.cloud.install_prices(prices(&world, soon(1_000_000), 90)).await.unwrap();
    let early = world.cloud.install_prices(prices(&world, soon(2 * 3_600 + 60), 3)).await.unwrap();
    assert_eq!((late.version, early.version), (2, 3));
    assert_eq!(history.usage("2026-01", None).await.amount_microunits, Some(3_600 + 7_200));
    world.clock.advance(1.hours()).await;
    assert_eq!(history.usage("2026-01", None).await.amount_microunits, Some(10_800 + 120 + 3 * 3_540));
    let shown = world.cloud.list_sizes(&world.grant(&caller));
    assert_eq!((shown[0].running_microunits_per_hour, shown[0].stopped_microunits_per_hour), (10_800, 3));

    // Another process has read them by then.
    let other = world.replica(7);
    let background = other.start().await.unwrap();
    assert_eq!(other.list_sizes(&world.grant(&caller))[0].running_microunits_per_hour, 10_800);
    background.stop().await;
}

/// The clock steps back over the end of a month that has an invoice, and things stop, begin and end there.
async fn a_clock_that_steps_back_changes_no_closed_month(engine: Engine) {
    let world = World::new(engine).await;
    let caller = world.caller(Role::Owner, Mode::Live).await;
    let mut history = History { world: &world, caller: &caller, entry: 0 };
    let project = world.cloud.id();
    let (old, new) = (world.cloud.id(), world.cloud.id());
    history.turn(old, project, "compute.running", "nano", 3_600, history.now_s()).await;
    let end = world.clock.now().month().end();
    world.clock.advance(end.since(world.clock.now()) + SETTLED_AFTER).await;
    world.cloud.close_months().await.unwrap();
    let listed = world.cloud.invoices(&world.grant::<InvoiceRead>(&caller), None, &Page::default()).await.unwrap();
    let billed = listed.items[0].amount_microunits;
    assert!(billed > 0);

    let end_s = end.secs();
    history.turn(new, project, "compute.running", "nano", 3_600, end_s - 7_200).await;
    history.turn(old, project, "compute.stopped", "nano", 0, end_s - 3_600).await;
    history.stop(new, end_s - 60).await;
    history.stop(old, end_s - 30).await;
    assert_eq!(history.usage("2026-01", None).await.amount_microunits, Some(billed));
    assert_eq!(history.usage("2026-02", None).await.amount_microunits, Some(0), "nothing ran there");
}

/// Random histories over the ends of months, a leap day included: starts, stops, resizes and deletions, some of them within
/// one second, prices that change, and a clock that steps back.
async fn any_history_sums_to_the_same_however_it_is_cut(engine: Engine) {
    for (seed, first, begins_in_days) in [(1, "2026-01", 0), (2, "2026-01", 0), (3, "2028-02", 2 * 365 + 25)] {
        let world = World::new(engine).await;
        let caller = world.caller(Role::Owner, Mode::Live).await;
        world.clock.advance(begins_in_days.days()).await;
        let ran = live_through(&world, &caller, &SeededEntropy::new(seed)).await;

        let history = History { world: &world, caller: &caller, entry: 0 };
        let (mut month, last) = (Month::parse(first).unwrap(), world.clock.now().month());
        let mut whole = 0;
        assert!(month < last, "the history passes into another month");
        while month <= last {
            let name = month.to_string();
            let report = history.usage(&name, None).await;
            whole += report.compute_seconds;
            for by in GroupBy::ALL {
                let groups = history.usage(&name, Some(by)).await.groups.unwrap();
                let sum = |of: fn(&UsageGroupView) -> i64| groups.iter().map(of).sum::<i64>();
                assert_eq!(sum(|g| g.compute_seconds), report.compute_seconds, "{name} {by:?}");
                assert_eq!(Some(sum(|g| g.amount_microunits.unwrap())), report.amount_microunits, "{name} {by:?}");
            }
            month = month.next();
        }
        assert_eq!(whole, ran, "seed {seed}");

        // And what each month's invoice says is what its report says, when it is closed and after.
        let until = last.end().plus(SETTLED_AFTER);
        world.clock.advance(until.since(world.clock.now())).await;
        world.cloud.close_months().await.unwrap();
        let grant = world.grant::<InvoiceRead>(&caller);
        let mut month = Month::parse(first).unwrap();
        while month <= last {
            let report = history.usage(&month.to_string(), None).await;
            let found = world.cloud.invoices(&grant, Some(month), &Page::default()).await.unwrap().items;
            let invoice = world.cloud.invoice(&grant, found[0].id).await.unwrap();
            let sum = |of: fn(&InvoiceLineView) -> i64| invoice.lines.iter().map(of).sum::<i64>();
            assert_eq!(Some(sum(|l| l.amount_microunits)), report.amount_microunits, "{month}");
            assert_eq!(invoice.invoice.amount_microunits, sum(|l| l.amount_microunits), "{month}");
            let ran = |l: &InvoiceLineView| if l.item == "compute.running" { l.seconds } else { 0 };
            assert_eq!(invoice.lines.iter().map(ran).sum::<i64>(), report.compute_seconds, "{month}");
            assert_eq!(invoice.invoice.compute_seconds, report.compute_seconds, "{month}");
            month = month.next();
        }
    }
}

/// By one of two processes at once; and what was written then stays, whatever comes.
async fn a_month_is_closed_once(engine: Engine) {
    let world = World::new(engine).await;
    let made = world.workspace("mine", "standard").await;
    let caller = world.caller_of(&made.live_key).await;
    let mut history = History { world: &world, caller: &caller, entry: 0 };
    let (id, project) = (world.cloud.id(), world.cloud.id());
    let (month, start) = (world.clock.now().month(), history.now_s());
    history.turn(id, project, "compute.running", "nano", 3_600, start).await;
    let other = world.replica(9);
    let grant = world.grant::<InvoiceRead>(&caller);
    let all = async || world.cloud.invoices(&grant, None, &Page::default()).await.unwrap();

    let settled = month.end().plus(SETTLED_AFTER);
    world.clock.advance(settled.minus(1.seconds()).since(world.clock.now())).await;
    world.cloud.close_months().await.unwrap();
    assert_eq!(all().await.total, 0, "not before an hour has passed");
    world.clock.advance(1.seconds()).await;
    let (one, two) = tokio::join!(world.cloud.close_months(), other.close_months());
    one.unwrap();
    two.unwrap();
    let listed = all().await;
    assert_eq!((listed.total, listed.items.len()), (1, 1));
    let first = &listed.items[0];
    let seconds = month.end().secs() - start;
    assert_eq!((first.number, first.month.as_str(), first.compute_seconds), (1, "2026-01", seconds));
    let whole = world.cloud.invoice(&grant, first.id).await.unwrap();
    assert_eq!((whole.lines.len(), whole.lines[0].computes, whole.lines[0].seconds), (1, 1, seconds));
    assert_eq!(whole.invoice.amount_microunits, seconds, "3,600 an hour");
    assert_eq!(whole.workspace_name, "mine");

    // Two months that ended while nobody looked, in the second of which nothing was metered.
    history.stop(id, history.now_s()).await;
    world.clock.advance(62.days()).await;
    other.close_months().await.unwrap();
    world.cloud.close_months().await.unwrap();
    let listed = all().await;
    let told: Vec<_> = listed.items.iter().map(|i| (i.number, i.month.as_str(), i.compute_seconds)).collect();
    assert_eq!(told, [(2, "2026-02", 3_600), (1, "2026-01", seconds)]);
    let again = world.cloud.invoice(&grant, listed.items[1].id).await.unwrap();
    assert_eq!(json(&again), json(&whole));

    while !world.database.store().numbers_at_once() && world.cloud.sequence_some().await.unwrap() > 0 {}
    let filter = nephos_store::event::Filter { kind: Some("invoice.created".to_owned()), ..Default::default() };
    let told = world.cloud.events(&world.grant::<EventRead>(&caller), filter, &Page::default()).await.unwrap();
    assert_eq!(told.total, 2);
    assert!(told.items.iter().all(|event| !event.data.contains("amount")), "not everybody who reads events sees money");
    let letters = world.database.store().mails(10).await.unwrap();
    assert_eq!(letters.iter().filter(|letter| letter.kind == "invoice").count(), 2);
}

/// Sixty changes at random; answers for how many seconds something ran, counted without the ledger.
async fn live_through(world: &World, caller: &Arc<Caller>, entropy: &SeededEntropy) -> i64 {
    let random = |below: u64| u64::try_from(entropy.u128() % u128::from(below)).unwrap();
    let signed = |below: u64| i64::try_from(random(below)).unwrap();
    let mut history = History { world, caller, entry: 0 };
    let mut computes: Vec<(ComputeId, ProjectId)> = (0..5).map(|_| (world.cloud.id(), world.cloud.id())).collect();
    // Since when each is metered, and whether it runs. A clock that is behind takes nothing back.
    let mut known: BTreeMap<ComputeId, (i64, bool)> = BTreeMap::new();
    let mut ran = 0;
    for _ in 0..60 {
        if random(3) > 0 {
            world.clock.advance(Duration::from_secs(random(200_000))).await;
        }
        let at = history.now_s() - if random(8) == 0 { signed(4_000) } else { 0 };
        let which = usize::try_from(random(5)).unwrap();
        let (id, project) = computes[which];
        let before = known.remove(&id);
        if let Some((since, true)) = before {
            ran += (at - since).max(0);
        }
        if random(6) == 0 {
            history.stop(id, at).await;
            computes[which].0 = world.cloud.id();
        } else {
            let (item, runs) =
                [("compute.running", true), ("compute.stopped", false)][usize::try_from(random(2)).unwrap()];
            let size = ["nano", "small"][usize::try_from(random(2)).unwrap()];
            history.turn(id, project, item, size, 1_000 + signed(5) * 777, at).await;
            known.insert(id, (before.map_or(at, |(since, _)| since.max(at)), runs));
        }
        if random(20) == 0 {
            let valid_from = Timestamp::from_secs(history.now_s() + 60 + signed(500_000));
            world.cloud.install_prices(prices(world, valid_from, 1 + signed(50))).await.unwrap();
        }
    }
    let now_s = history.now_s();
    ran + known.values().filter(|(_, runs)| *runs).map(|(since, _)| (now_s - since).max(0)).sum::<i64>()
}

async fn a_budget_tells_each_threshold_once_a_month(engine: Engine) {
    let world = World::new(engine).await;
    let made = world.workspace("mine", "standard").await;
    let caller = world.caller_of(&made.live_key).await;
    let (read, write) = (world.grant::<BudgetAlertRead>(&caller), world.grant::<BudgetAlertWrite>(&caller));
    let new = |name: &str, project_id| NewBudgetAlert {
        name: name.parse().unwrap(),
        project_id,
        amount_microunits: 10_000,
        thresholds_percent: vec![100, 50],
    };
    let plan = world.cloud.create_budget_alert(&write, new("all", None)).await.unwrap();
    let all = world.cloud.commit(plan, None).await.unwrap().alert.id;
    let unknown = world.cloud.create_budget_alert(&write, new("none", Some(world.cloud.id()))).await.unwrap_err();
    assert_eq!((unknown.code, unknown.details[0].code), (Code::BadRequest, "unknown_project"));
    let reached = async || world.cloud.budget_alert(&read, all).await.unwrap().reached;

    // A millionth each second.
    let mut history = History { world: &world, caller: &caller, entry: 0 };
    let (id, project, start) = (world.cloud.id(), world.cloud.id(), history.now_s());
    history.turn(id, project, "compute.running", "nano", 3_600, start).await;
    let other = world.replica(9);
    let watch = async |seconds: u64| {
        world.clock.advance(Duration::from_secs(seconds)).await;
        let (one, two) = tokio::join!(world.cloud.watch_budgets(), other.watch_budgets());
        one.unwrap();
        two.unwrap();
    };
    watch(4_999).await;
    assert_eq!(reached().await, [0_i64; 0]);
    watch(1).await;
    assert_eq!(reached().await, [50]);
    watch(20_000).await;
    watch(300).await;
    assert_eq!(reached().await, [50, 100]);
    // A larger budget tells nothing again, and what another month costs is told anew.
    let before = world.cloud.budget_alert_to_change(&write, all).await.unwrap();
    let asked = BudgetAlertChange { amount_microunits: Some(20_000), ..BudgetAlertChange::default() };
    world.cloud.commit(world.cloud.update_budget_alert(&write, &before, asked), None).await.unwrap();
    watch(300).await;
    let next = world.clock.now().month().end().since(world.clock.now());
    watch(next.as_secs() + 10_000).await;
    assert_eq!(reached().await, [50]);

    while !world.database.store().numbers_at_once() && world.cloud.sequence_some().await.unwrap() > 0 {}
    let filter = nephos_store::event::Filter { kind: Some("budget_alert.reached".to_owned()), ..Default::default() };
    let told = world.cloud.events(&world.grant::<EventRead>(&caller), filter, &Page::default()).await.unwrap();
    assert_eq!(told.total, 3);
    assert!(told.items.iter().all(|event| !event.data.contains("amount")), "not everybody who reads events sees money");
    let letters = world.database.store().mails(10).await.unwrap();
    assert_eq!(letters.iter().filter(|letter| letter.kind == "budget_reached").count(), 3);

    for number in 1..20 {
        let plan = world.cloud.create_budget_alert(&write, new(&format!("number {number}"), None)).await.unwrap();
        world.cloud.commit(plan, None).await.unwrap();
    }
    let plan = world.cloud.create_budget_alert(&write, new("one too many", None)).await.unwrap();
    let refused = world.cloud.commit(plan, None).await.unwrap_err();
    assert!(matches!(refused, CommitError::Fault(fault) if fault.code == Code::QuotaExceeded));
    let before = world.cloud.budget_alert_to_change(&write, all).await.unwrap();
    world.cloud.commit(world.cloud.delete_budget_alert(&write, &before), None).await.unwrap();
    assert_eq!(world.cloud.budget_alerts(&read, &Page::default()).await.unwrap().total, 19);
}
