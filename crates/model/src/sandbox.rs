//! The sandbox: when it is reset, and how far its clock may go.

use std::fmt;
use std::str::FromStr;

use crate::Timestamp;

/// Seconds by which one request may move a sandbox's clock, at most: 366 days.
pub const ADVANCE_S_MAX: i64 = 366 * 86_400;
/// Seconds by which a sandbox's clock may be ahead of the wall's, at most: 3,660 days, ten years.
pub const AHEAD_S_MAX: i64 = 3_660 * 86_400;

const MICROS_PER_MINUTE: i64 = 60_000_000;
const MICROS_PER_DAY: i64 = 24 * 60 * MICROS_PER_MINUTE;

/// The time of day, UTC, at which sandboxes are reset: `HH:MM`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResetTime {
    /// Minutes since midnight, below 1,440.
    minute: u16,
}

impl ResetTime {
    /// When nobody says otherwise: 03:00.
    pub const DEFAULT: Self = Self { minute: 180 };

    /// The last reset that was due at `now`.
    pub fn last(self, now: Timestamp) -> Timestamp {
        let at = i64::from(self.minute) * MICROS_PER_MINUTE;
        Timestamp::from_micros((now.micros() - at).div_euclid(MICROS_PER_DAY) * MICROS_PER_DAY + at)
    }

    /// The first reset after `now`.
    pub fn next(self, now: Timestamp) -> Timestamp {
        Timestamp::from_micros(self.last(now).micros() + MICROS_PER_DAY)
    }
}

impl fmt::Display for ResetTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.minute / 60, self.minute % 60)
    }
}

impl FromStr for ResetTime {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (hours, minutes) = text.split_once(':').ok_or(())?;
        let two = |part: &str, below: u16| {
            let digits = part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
            part.parse::<u16>().ok().filter(|n| digits && *n < below).ok_or(())
        };
        Ok(Self { minute: two(hours, 24)? * 60 + two(minutes, 60)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_day() {
        for text in ["00:00", "03:00", "23:59"] {
            assert_eq!(text.parse::<ResetTime>().unwrap().to_string(), text);
        }
        for bad in ["", "3:00", "24:00", "03:60", "03:0", "+3:00", "03-00", "03:00:00", "03:00Z"] {
            assert_eq!(bad.parse::<ResetTime>(), Err(()), "{bad}");
        }
        let at = Timestamp::from_secs(1_768_478_400); // 2026-01-15T12:00:00Z
        let noon: ResetTime = "12:00".parse().unwrap();
        assert_eq!((noon.last(at), noon.next(at).to_string()), (at, "2026-01-16T12:00:00Z".to_owned()));
        assert_eq!(ResetTime::DEFAULT.next(at).to_string(), "2026-01-16T03:00:00Z");
    }

    #[test]
    fn a_reset_comes_every_day() {
        for minute in [0, 1, 180, 1_439] {
            let time = ResetTime { minute };
            for i in 0..2_000 {
                let now = Timestamp::from_micros(i * 1_999_999_999_999);
                let (last, next) = (time.last(now), time.next(now));
                assert!(last <= now && now < next, "{time} {now}");
                assert_eq!(next.micros() - last.micros(), MICROS_PER_DAY);
                assert_eq!(time.last(next), next);
                assert!(next.to_string().ends_with(&format!("T{time}:00Z")));
            }
        }
    }
}
