//! Which points are asked for: a range of time, and how long a step is.

use nephos_model::fault::Detail;
use nephos_model::{Fault, Timestamp};
use nephos_store::telemetry::{HOUR_S, MINUTE_S};

use super::{HOURS_KEPT_S, MINUTES_KEPT_S};

/// The steps there are: their names, and their lengths in seconds.
pub const STEPS: [(&str, i64); 6] =
    [("1m", MINUTE_S), ("5m", 300), ("15m", 900), ("1h", HOUR_S), ("6h", 21_600), ("1d", 86_400)];
/// Points in an answer at most: a day of minutes, and some more.
pub const POINTS_MAX: usize = 1_500;
/// Points in an answer when no step is asked for, at most.
const POINTS_BY_DEFAULT: i64 = 120;
/// The ranges that can be asked for by name: their names, and their lengths in seconds. The first is the default.
pub const RANGES: [(&str, i64); 6] = [
    ("1h", HOUR_S),
    ("6h", 6 * HOUR_S),
    ("24h", 24 * HOUR_S),
    ("7d", 7 * 24 * HOUR_S),
    ("30d", 30 * 24 * HOUR_S),
    ("90d", HOURS_KEPT_S),
];

/// What was asked for; all of it has defaults.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'a> {
    /// From when on.
    pub from: Option<Timestamp>,
    /// The name of a range before `to`, instead of `from`.
    pub range: Option<&'a str>,
    /// Until before when.
    pub to: Option<Timestamp>,
    /// The name of a step.
    pub step: Option<&'a str>,
}

/// Steps that lie next to each other; each begins at a multiple of its length since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first second of the first step.
    pub from_s: i64,
    /// The second after the last step.
    pub to_s: i64,
    /// Seconds of a step.
    pub step_s: i64,
}

impl Window {
    /// The steps that were asked for, or the 400 that says why there are none.
    pub fn of(asked: &Asked<'_>, now: Timestamp) -> Result<Self, Fault> {
        let now_s = now.secs();
        let to_s = asked.to.map_or(now_s, |to| to.secs().min(now_s));
        if asked.from.is_some() && asked.range.is_some() {
            let message = "\"from\" and \"range\" exclude each other; send one of them.";
            return Err(Fault::bad(Detail::parameter("range", "contradiction", message)));
        }
        let range = asked.range.and_then(|name| RANGES.iter().find(|(known, _)| *known == name)).unwrap_or(&RANGES[0]);
        let from_s = asked.from.map_or(to_s - range.1, Timestamp::secs);
        if from_s >= to_s {
            let message = "\"from\" must be before \"to\", and in the past.";
            return Err(Fault::bad(Detail::parameter("from", "out_of_range", message)));
        }
        if from_s < now_s - HOURS_KEPT_S {
            let oldest = Timestamp::from_secs(now_s - HOURS_KEPT_S);
            let message = format!("Points are kept for 90 days; the earliest \"from\" is {oldest}.");
            return Err(Fault::bad(Detail::parameter("from", "out_of_range", message)));
        }
        let has_minutes = from_s >= now_s - MINUTES_KEPT_S;
        let kept = |step_s: i64| step_s >= HOUR_S || has_minutes;
        let named = asked.step.and_then(|name| STEPS.iter().find(|(known, _)| *known == name));
        let step_s = match named {
            Some((_, step_s)) => *step_s,
            None => STEPS
                .iter()
                .map(|(_, step_s)| *step_s)
                .find(|step_s| kept(*step_s) && to_s - from_s <= step_s * POINTS_BY_DEFAULT)
                .unwrap_or(86_400),
        };
        if !kept(step_s) {
            let message =
                "Steps of less than an hour are kept for 24 hours; ask for \"1h\" or more, or a later \"from\".";
            return Err(Fault::bad(Detail::parameter("step", "not_kept", message)));
        }
        let window =
            Self { from_s: from_s - from_s.rem_euclid(step_s), to_s: to_s + (-to_s).rem_euclid(step_s), step_s };
        if window.points() > POINTS_MAX {
            let message = format!(
                "This would be {} points, and {POINTS_MAX} is the most; ask for a longer \"step\" or a shorter time.",
                window.points()
            );
            return Err(Fault::bad(Detail::parameter("step", "too_many_points", message)));
        }
        Ok(window)
    }

    /// How many steps there are.
    pub fn points(&self) -> usize {
        usize::try_from((self.to_s - self.from_s) / self.step_s).unwrap_or(usize::MAX)
    }

    /// The first second of each step.
    pub fn steps(&self) -> impl Iterator<Item = i64> + use<> {
        let Self { from_s, step_s, .. } = *self;
        (0_i64..).map(move |n| from_s + n * step_s).take(self.points())
    }

    /// The first second of the step that a second is in.
    pub fn step_of(&self, at_s: i64) -> i64 {
        at_s - at_s.rem_euclid(self.step_s)
    }

    /// The range of seconds of all steps.
    pub fn range_s(&self) -> std::ops::Range<i64> {
        self.from_s..self.to_s
    }

    /// The length of the periods that the steps are made of.
    pub fn period_s(&self) -> i64 {
        if self.step_s < HOUR_S { MINUTE_S } else { HOUR_S }
    }

    /// Milliseconds of a step that are over.
    pub fn elapsed_ms(&self, at_s: i64, now: Timestamp) -> i64 {
        1_000 * (now.secs() - at_s).clamp(0, self.step_s)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW_S: i64 = 1_788_000_123;

    fn of(from: Option<i64>, to: Option<i64>, step: Option<&str>) -> Result<Window, String> {
        let asked = Asked { from: from.map(Timestamp::from_secs), to: to.map(Timestamp::from_secs), step, range: None };
        Window::of(&asked, Timestamp::from_secs(NOW_S)).map_err(|fault| fault.details[0].message.clone())
    }

    #[test]
    fn the_last_hour_in_minutes_is_the_default() {
        let window = of(None, None, None).unwrap();
        assert_eq!((window.step_s, window.points()), (60, 61), "the first and the last step are there in part");
        assert_eq!(window.steps().count(), 61);
        assert_eq!(of(Some(NOW_S - 86_400), None, None).unwrap().step_s, 900);
        assert_eq!(of(Some(NOW_S - 30 * 86_400), None, None).unwrap().step_s, 21_600);
        assert_eq!(of(Some(NOW_S - 90 * 86_400), None, None).unwrap().step_s, 86_400);
        assert_eq!(of(Some(NOW_S - 86_400), None, Some("1m")).unwrap().points(), 1_441);
        let now = Timestamp::from_secs(NOW_S);
        for (name, seconds) in RANGES {
            let named = Window::of(&Asked { range: Some(name), ..Asked::default() }, now).unwrap();
            assert_eq!(named, of(Some(NOW_S - seconds), None, None).unwrap(), "{name}");
        }
        assert!(
            Window::of(
                &Asked {
                    range: Some("1h"),
                    from: Some(now.minus(std::time::Duration::from_secs(9))),
                    ..Asked::default()
                },
                now
            )
            .is_err()
        );
    }

    #[test]
    fn what_there_is_not_is_refused_with_the_way_out() {
        for (asked, told) in [
            (of(Some(NOW_S), None, None), "before"),
            (of(Some(NOW_S - 5), Some(NOW_S - 9), None), "before"),
            (of(Some(NOW_S - 91 * 86_400), None, None), "90 days"),
            (of(Some(NOW_S - 25 * 3_600), None, Some("5m")), "24 hours"),
            (of(Some(NOW_S - 80 * 86_400), None, Some("1h")), "longer \"step\""),
        ] {
            assert!(asked.as_ref().is_err_and(|message| message.contains(told)), "{asked:?}");
        }
    }

    proptest! {
        #[test]
        fn every_window_has_whole_steps_within_bounds(back in 1_i64..95 * 86_400, long in 1_i64..95 * 86_400, step in 0_usize..7) {
            let step = STEPS.get(step).map(|(name, _)| *name);
            if let Ok(w) = of(Some(NOW_S - back), Some(NOW_S - back + long), step) {
                prop_assert!((1..=POINTS_MAX).contains(&w.points()));
                prop_assert!(w.from_s <= NOW_S - back && w.from_s % w.step_s == 0 && w.to_s % w.step_s == 0);
                prop_assert!(w.steps().all(|s| w.step_of(s) == s && w.range_s().contains(&s)));
                prop_assert_eq!(w.step_s % w.period_s(), 0);
            }
        }
    }
}
