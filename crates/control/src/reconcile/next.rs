//! What a reconciler does next: a pure function of what is wished and what is seen.
//!
//! ```text
//!              seen   absent   fresh   shut down      died            running, older boot   running
//! wished running      boot     boot    *              *               stop                  settle
//!        stopped      settle   settle  settle         settle          stop                  stop
//!
//! A compute that is resized or rebuilt is stopped first; then its disk is altered, whatever it is wished to be; from then
//! on the table holds.
//!
//! * on the way up: boot (a died one at most BOOTS_MAX times, then fail);
//!   while it counted as running: a shut-down is the guest's own wish, a death is settled by the restart policy.
//! ```
//! Busy machines are looked at again when their driver says; a stop that takes longer than its deadline is forced.

use nephos_driver::{Goal, Halt, Seen, Stop};
use nephos_model::Timestamp;
use nephos_model::compute::{RestartPolicy, Wish};

/// How often a machine is booted in a row when it dies.
pub const BOOTS_MAX: u32 = 3;

/// What is wished, with what the decision needs to know of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wished {
    /// Running or stopped; what is gone has no machine to decide about.
    pub wish: Wish,
    /// The boot that is wished.
    pub boot: i64,
    /// Whether it counted as running when it was last looked at, with no operation under way.
    pub was_running: bool,
    /// What happens when it stops by itself.
    pub policy: RestartPolicy,
    /// How often it died in a row.
    pub deaths: u32,
    /// When a stop that is under way is forced.
    pub force_at: Timestamp,
    /// Whether its disk is to be altered, which takes a machine that does not run.
    pub alters: bool,
}

/// The next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Ask the driver for one move.
    Converge(Goal),
    /// It died on the way up or its policy restarts it: count that, then ask for one move.
    Restart(Goal),
    /// Alter the disk of a machine that does not run.
    Alter,
    /// Look again then.
    Look(Timestamp),
    /// It is as wished.
    Settle,
    /// It stopped by its guest's own wish: from now on it is wished stopped.
    Stopped,
    /// It failed; the text says why, for people.
    Fail(String),
}

/// Decides.
pub fn next(wished: &Wished, seen: &Seen, now: Timestamp) -> Step {
    let boot = Goal::Running { boot: wished.boot };
    let stop = Goal::Stopped { how: if now >= wished.force_at { Stop::Forced } else { Stop::Graceful } };
    match (wished.wish, seen) {
        (Wish::Running, Seen::Running { boot, .. }) if *boot >= wished.boot && !wished.alters => Step::Settle,
        (_, Seen::Running { .. }) => Step::Converge(stop),
        (_, Seen::Busy { .. }) if now >= wished.force_at => Step::Converge(stop),
        (_, Seen::Busy { again_at, .. }) => Step::Look((*again_at).min(wished.force_at)),
        (Wish::Running | Wish::Stopped, Seen::Absent | Seen::Stopped { .. }) if wished.alters => Step::Alter,
        (Wish::Stopped | Wish::Gone, Seen::Absent | Seen::Stopped { .. }) => Step::Settle,
        (Wish::Running, Seen::Absent) if wished.was_running => died(wished, "the machine is gone from its host", boot),
        (Wish::Running, Seen::Absent | Seen::Stopped { why: Halt::Fresh }) => Step::Converge(boot),
        (Wish::Running, Seen::Stopped { why: Halt::ShutDown }) => {
            if wished.was_running {
                Step::Stopped
            } else {
                Step::Converge(boot)
            }
        }
        (Wish::Running, Seen::Stopped { why: Halt::Died(why) }) => died(wished, why, boot),
    }
}

fn died(wished: &Wished, why: &str, boot: Goal) -> Step {
    let again = !wished.was_running || wished.policy == RestartPolicy::OnFailure;
    if again && wished.deaths < BOOTS_MAX {
        Step::Restart(boot)
    } else if again {
        Step::Fail(format!(
            "It stopped by itself {} times in a row, the last time because: {why}. Look at its console, mend it and start it again.",
            wished.deaths + 1
        ))
    } else {
        Step::Fail(format!(
            "It stopped by itself: {why}. Look at its console and start it again; with the restart policy on_failure that happens by itself."
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nephos_model::compute::Address;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::from_secs(1_000);

    fn seen() -> impl Strategy<Value = Seen> {
        let address = Address { ssh_host: "127.0.0.1".into(), ssh_port: 22, private_ip: None };
        prop_oneof![
            Just(Seen::Absent),
            (990_i64..1_010).prop_map(|s| Seen::Busy { doing: "waiting".into(), again_at: Timestamp::from_secs(s) }),
            Just(Seen::Stopped { why: Halt::Fresh }),
            Just(Seen::Stopped { why: Halt::ShutDown }),
            Just(Seen::Stopped { why: Halt::Died("a reason".into()) }),
            (1_i64..4).prop_map(move |boot| Seen::Running { boot, address: address.clone(), ssh_host_key: None }),
        ]
    }

    fn wished() -> impl Strategy<Value = Wished> {
        let wish = prop_oneof![Just(Wish::Running), Just(Wish::Stopped)];
        let policy = prop_oneof![Just(RestartPolicy::Never), Just(RestartPolicy::OnFailure)];
        let force =
            prop_oneof![Just(Timestamp::from_micros(i64::MAX)), (990_i64..1_010).prop_map(Timestamp::from_secs)];
        (wish, 1_i64..4, any::<bool>(), policy, 0_u32..5, force, any::<bool>()).prop_map(
            |(wish, boot, was_running, policy, deaths, force_at, alters)| Wished {
                wish,
                boot,
                was_running,
                policy,
                deaths,
                force_at,
                alters,
            },
        )
    }

    proptest! {
        #[test]
        fn it_settles_only_on_what_is_wished(w in wished(), s in seen()) {
            let settled = next(&w, &s, NOW) == Step::Settle;
            let as_wished = match (w.wish, &s) {
                (Wish::Running, Seen::Running { boot, .. }) => *boot >= w.boot,
                (Wish::Stopped, Seen::Stopped { .. } | Seen::Absent) => true,
                _ => false,
            };
            prop_assert_eq!(settled, as_wished && !w.alters);
        }

        #[test]
        fn a_disk_is_altered_only_while_nothing_runs(w in wished(), s in seen()) {
            let idle = matches!(s, Seen::Absent | Seen::Stopped { .. });
            prop_assert_eq!(next(&w, &s, NOW) == Step::Alter, w.alters && idle);
        }

        #[test]
        fn nothing_is_booted_that_is_wished_stopped(w in wished(), s in seen()) {
            let boots = matches!(next(&w, &s, NOW), Step::Converge(Goal::Running { .. }) | Step::Restart(_));
            prop_assert!(!boots || w.wish == Wish::Running);
        }

        #[test]
        fn power_is_cut_only_after_the_deadline(w in wished(), s in seen()) {
            let forced = next(&w, &s, NOW) == Step::Converge(Goal::Stopped { how: Stop::Forced });
            prop_assert!(!forced || NOW >= w.force_at);
        }

        #[test]
        fn a_machine_that_keeps_dying_is_given_up(w in wished(), why in "[a-z]{1,8}") {
            let s = Seen::Stopped { why: Halt::Died(why) };
            let w = Wished { wish: Wish::Running, deaths: BOOTS_MAX, alters: false, ..w };
            prop_assert!(matches!(next(&w, &s, NOW), Step::Fail(_)));
        }

        #[test]
        fn a_wait_is_never_longer_than_the_deadline(w in wished(), s in seen()) {
            if let Step::Look(at) = next(&w, &s, NOW) {
                prop_assert!(at <= w.force_at);
            }
        }
    }
}
