use std::sync::Arc;

use nephos_model::id::{KeyId, MemberId};
use nephos_model::role::Role;
use nephos_model::scope::Scopes;
use nephos_model::tenant::TenantId;
use proptest::prelude::*;

use super::*;
use crate::plan_limits::Limits;

fn raw(n: u8) -> Raw {
    Raw::from_bytes([n; 16])
}

pub(super) fn caller(workspace: u8, key: u8, limits: &Limits) -> Caller {
    Caller {
        workspace_id: WorkspaceId::from_raw(raw(workspace)),
        mode: Mode::Live,
        tenant: TenantId(1),
        clock_ahead: Duration::ZERO,
        member_id: MemberId::from_raw(raw(0)),
        role: Role::Member,
        key_id: Some(KeyId::from_raw(raw(key))),
        proof: crate::caller::Proof::default(),
        scopes: Scopes::EVERY,
        project_id: None,
        environment_id: None,
        limits: Arc::new(limits.clone()),
    }
}

fn at(monotonic: Duration) -> Present {
    Present { wall: Timestamp::from_secs(1_768_478_400).plus(monotonic), monotonic }
}

pub(super) fn platform(book: &BudgetBook, caller: &Caller, monotonic: Duration) -> (Budgets, Option<Budget>) {
    book.admit(caller, SurfaceBudget::Platform, Class::Read, at(monotonic)).unwrap()
}

const S: Duration = Duration::from_secs(1);

#[test]
fn a_key_has_120_in_any_60_seconds_and_reads_what_is_left() {
    let (book, caller) = (BudgetBook::default(), caller(1, 1, &Limits::standard()));
    for i in 0..120 {
        let (budgets, spent) = platform(&book, &caller, S / 4 * i);
        assert_eq!(spent, None, "{i}");
        assert_eq!(
            budgets.iter().map(|b| (b.name, b.limit, b.window_s)).collect::<Vec<_>>(),
            [("key", 120, 60), ("workspace", 600, 600)]
        );
        assert_eq!(budgets.iter().next().unwrap().remaining, 119 - i);
    }
    let (budgets, spent) = platform(&book, &caller, 30 * S);
    let spent = spent.unwrap();
    assert_eq!((spent.name, spent.remaining, spent.reset_s), ("key", 0, 30));
    assert_eq!(spent.reset_at_s, 1_768_478_400 + 60);
    // A refused request spends no other budget either.
    assert_eq!(budgets.iter().nth(1).unwrap().remaining, 480);
    assert!(platform(&book, &caller, Duration::from_nanos(59_999_999_999)).1.is_some());
    assert!(platform(&book, &caller, 60 * S).1.is_none(), "the first one left the window");
    assert!(platform(&book, &caller, 60 * S).1.is_some(), "and only that one");
}

#[test]
fn the_keys_of_a_workspace_share_600_in_any_600_seconds() {
    let book = BudgetBook::default();
    let limits = Limits::standard();
    for key in 0..5 {
        for _ in 0..120 {
            assert!(platform(&book, &caller(1, key, &limits), S).1.is_none());
        }
    }
    let (budgets, spent) = platform(&book, &caller(1, 9, &limits), 2 * S);
    assert_eq!(spent.map(|s| (s.name, s.reset_s)), Some(("workspace", 599)));
    assert_eq!(budgets.iter().next().unwrap().remaining, 120, "the key's own budget is not spent by a refused request");
    assert!(platform(&book, &caller(2, 9, &limits), 2 * S).1.is_none(), "another workspace has its own");
}

#[test]
fn a_sandbox_spends_none_of_the_live_budgets() {
    let book = BudgetBook::default();
    let few = Limits { workspace_per_600_s: Some(3), ..Limits::standard() };
    let live = caller(1, 1, &few);
    let sandbox = Caller { mode: Mode::Test, key_id: Some(KeyId::from_raw(raw(2))), ..live.clone() };
    for _ in 0..3 {
        assert!(platform(&book, &sandbox, S).1.is_none());
    }
    assert_eq!(platform(&book, &sandbox, S).1.map(|b| b.name), Some("workspace"));
    assert!(platform(&book, &live, S).1.is_none());
    let left = |caller| book.left(caller, at(2 * S)).workspace.map(|b| (b.remaining, b.reset_s));
    assert_eq!((left(&live), left(&sandbox)), (Some((2, 599)), Some((0, 599))));
}

#[test]
fn what_is_left_is_told_without_spending() {
    let (book, caller) = (BudgetBook::default(), caller(1, 1, &Limits::standard()));
    let left = |now| {
        let left = book.left(&caller, at(now));
        [left.key, left.workspace, left.reads, left.writes].map(|b| b.map(|b| (b.remaining, b.reset_s)))
    };
    assert_eq!(left(S), [Some((120, 0)), Some((600, 0)), Some((30, 1)), Some((5, 1))]);
    platform(&book, &caller, S);
    book.admit(&caller, SurfaceBudget::Strettch, Class::Write, at(S)).unwrap();
    for _ in 0..2 {
        assert_eq!(left(S), [Some((119, 60)), Some((599, 600)), Some((30, 1)), Some((4, 1))]);
    }
    assert_eq!(left(61 * S), [Some((120, 0)), Some((599, 540)), Some((30, 1)), Some((5, 1))]);
}

#[test]
fn calendar_seconds_count_reads_and_writes_apart() {
    let (book, caller) = (BudgetBook::default(), caller(1, 1, &Limits::standard()));
    let ask = |class, monotonic| book.admit(&caller, SurfaceBudget::Strettch, class, at(monotonic)).unwrap();
    for left in (0..30).rev() {
        let (budgets, spent) = ask(Class::Read, S / 2);
        assert_eq!(spent, None);
        let budget = *budgets.iter().next().unwrap();
        assert_eq!((budget.name, budget.remaining, budget.reset_at_s), ("reads", left, 1_768_478_401));
    }
    assert_eq!(ask(Class::Read, S / 2).1.unwrap().name, "reads");
    for _ in 0..5 {
        assert!(ask(Class::Write, S / 2).1.is_none());
    }
    assert_eq!(ask(Class::Write, Duration::from_micros(999_999)).1.unwrap().name, "writes");
    assert!(ask(Class::Write, S).1.is_none() && ask(Class::Read, S).1.is_none(), "the next second is another");
    assert!(platform(&book, &caller, S).1.is_none(), "the surfaces' budgets are separate");
}

#[test]
fn a_plan_without_budgets_has_none_and_keeps_nothing() {
    let (book, caller) = (BudgetBook::default(), caller(1, 1, &Limits::unlimited()));
    for _ in 0..1_000 {
        let (budgets, spent) = platform(&book, &caller, S);
        assert!(budgets.is_empty() && spent.is_none());
    }
    assert!(book.shards.iter().all(|shard| shard.lock().unwrap().workspaces.is_empty()));
}

#[test]
fn a_lowered_limit_holds_at_once() {
    let book = BudgetBook::default();
    let of = |limit| caller(1, 1, &Limits { key_per_60_s: Some(limit), ..Limits::standard() });
    for i in 0..10 {
        assert!(platform(&book, &of(10), S * i).1.is_none());
    }
    let (budgets, spent) = platform(&book, &of(4), 10 * S);
    // The seventh of the ten must leave, which came at 6 s.
    assert_eq!(spent.map(|s| s.reset_s), Some(56));
    assert_eq!(budgets.iter().next().unwrap().remaining, 0);
    assert!(platform(&book, &of(4), Duration::from_nanos(65_999_999_999)).1.is_some());
    assert!(platform(&book, &of(4), 66 * S).1.is_none());
}

#[test]
fn only_idle_entries_are_forgotten_and_memory_is_bounded() {
    let mut shard = Shard::default();
    let limits = Limits::standard();
    let mut used = 0;
    for i in 0..40_000_u32 {
        let id = |n: u32| Raw::from_bytes([n.to_be_bytes(); 4].concat().try_into().unwrap());
        let now = at(Duration::from_millis(u64::from(i)));
        match shard.open((WorkspaceId::from_raw(id(i)), Mode::Live), id(i), now) {
            Ok(workspace) => {
                workspace.platform(id(i), &limits, now);
                used += 1;
            }
            Err(retry_after_s) => assert_eq!(retry_after_s, 1),
        }
        assert!(shard.entries <= ACTIVE_PER_SHARD_MAX);
    }
    // The workspaces' windows are 600 s: nothing was idle yet.
    assert_eq!(used, ACTIVE_PER_SHARD_MAX / 2);
    let later = at(Duration::from_secs(700));
    shard.open((WorkspaceId::from_raw(raw(1)), Mode::Live), raw(1), later).unwrap();
    assert_eq!(shard.entries, 2);
    // 120 admissions of a key: 8 bytes each, in a buffer of the next power of two.
    let mut ring = Ring::default();
    ring.0.extend(0..120);
    assert!(ring.0.capacity() * 8 <= 1_024);
}

/// Gaps between requests that are likely to find a mistake: none, tiny, and around whole windows.
fn gap() -> impl Strategy<Value = u64> {
    let window = 60 * NANOS_PER_S;
    prop_oneof![
        3 => Just(0),
        3 => 0..NANOS_PER_S,
        2 => 0..window,
        1 => prop_oneof![Just(window - 1), Just(window), Just(window + 1), Just(10 * window - 1), Just(10 * window)],
    ]
}

proptest! {
    /// The documented numbers, whatever a client does: bursts, pauses around whole windows, several keys at once.
    #[test]
    fn no_60_seconds_admit_121_and_no_600_seconds_601(
        bursts in prop::collection::vec((gap(), 0_u8..4, 1_u32..200), 1..60),
    ) {
        let limits = Limits::standard();
        let callers: Vec<Caller> = (0..4).map(|key| caller(1, key, &limits)).collect();
        let book = BudgetBook::default();
        let mut now = 0;
        let mut admitted: Vec<(u64, u8)> = Vec::new();
        for (gap, key, count) in bursts {
            now += gap;
            for _ in 0..count {
                if platform(&book, &callers[usize::from(key)], Duration::from_nanos(now)).1.is_none() {
                    admitted.push((now, key));
                }
            }
        }
        // Every interval that begins with an admission: any other holds no more than one of these.
        for (i, (start, key)) in admitted.iter().enumerate() {
            let within = |window_s: u32| {
                let end = start + u64::from(window_s) * NANOS_PER_S;
                admitted[i..].iter().take_while(move |(at, _)| *at < end)
            };
            prop_assert!(within(KEY_WINDOW_S).filter(|(_, k)| k == key).count() <= 120);
            prop_assert!(within(WORKSPACE_WINDOW_S).count() <= 600);
        }
    }

    #[test]
    fn no_window_ever_admits_more_and_none_is_refused_without_need(
        arrivals in prop::collection::vec((gap(), 0_u8..3), 1..400),
        per_key in 1_u32..6,
        per_workspace in 1_u32..12,
    ) {
        let limits =
            Limits { key_per_60_s: Some(per_key), workspace_per_600_s: Some(per_workspace), ..Limits::standard() };
        let callers: Vec<Caller> = (0..3).map(|key| caller(1, key, &limits)).collect();
        let book = BudgetBook::default();
        let mut now = 0;
        let mut admitted: Vec<(u64, u8)> = Vec::new();
        for (gap, key) in arrivals {
            now += gap;
            let within = |window_s: u32, of: Option<u8>| {
                let window = u64::from(window_s) * NANOS_PER_S;
                let inside = |(at, k): &&(u64, u8)| now - at < window && of.is_none_or(|of| of == *k);
                u32::try_from(admitted.iter().filter(inside).count()).unwrap()
            };
            let (of_key, of_workspace) = (within(KEY_WINDOW_S, Some(key)), within(WORKSPACE_WINDOW_S, None));
            prop_assert!(of_key <= per_key && of_workspace <= per_workspace);
            let (budgets, spent) = platform(&book, &callers[usize::from(key)], Duration::from_nanos(now));
            prop_assert_eq!(spent.is_none(), of_key < per_key && of_workspace < per_workspace);
            let one = u32::from(spent.is_none());
            let left: Vec<u32> = budgets.iter().map(|b| b.remaining).collect();
            prop_assert_eq!(left, vec![per_key - of_key - one, per_workspace - of_workspace - one]);
            match spent {
                None => admitted.push((now, key)),
                Some(spent) => {
                    // After the time that is told, that budget lets one more in.
                    let later = now + u64::from(spent.reset_s) * NANOS_PER_S;
                    let (name, limit) = (spent.name, spent.limit);
                    let window = u64::from(spent.window_s) * NANOS_PER_S;
                    let left_in = admitted.iter().filter(|(at, k)| later - at < window && (name == "workspace" || *k == key));
                    prop_assert!(u32::try_from(left_in.count()).unwrap() < limit);
                }
            }
        }
    }
}
