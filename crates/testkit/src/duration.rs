//! Durations that read as prose: `24.hours()`, `5.minutes()`, `30.seconds()`.

use std::time::Duration;

/// Numbers that make durations.
pub trait Durations {
    /// So many days of 24 hours.
    fn days(self) -> Duration;
    /// So many hours.
    fn hours(self) -> Duration;
    /// So many minutes.
    fn minutes(self) -> Duration;
    /// So many seconds.
    fn seconds(self) -> Duration;
    /// So many milliseconds.
    fn millis(self) -> Duration;
}

impl Durations for u64 {
    fn days(self) -> Duration {
        Duration::from_secs(self * 86_400)
    }

    fn hours(self) -> Duration {
        Duration::from_secs(self * 3_600)
    }

    fn minutes(self) -> Duration {
        Duration::from_secs(self * 60)
    }

    fn seconds(self) -> Duration {
        Duration::from_secs(self)
    }

    fn millis(self) -> Duration {
        Duration::from_millis(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_read_as_prose() {
        assert_eq!(1.days(), 24.hours());
        assert_eq!(2.hours(), 120.minutes());
        assert_eq!(5.minutes(), 300.seconds());
        assert_eq!(30.seconds(), 30_000.millis());
    }
}
