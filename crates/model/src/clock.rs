//! Time as an argument. Wall-clock times are microseconds since the Unix epoch, UTC.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// A point in time: microseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From microseconds since the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// From seconds since the Unix epoch.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs * 1_000_000)
    }

    /// Microseconds since the Unix epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn secs(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// This time and `duration` later; saturates.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// This time and `duration` earlier; saturates.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The calendar month of this time, UTC.
    pub fn month(self) -> Month {
        let date = self.civil();
        Month { year: date.year(), month: date.month() }
    }

    /// Days since 1970-01-01, UTC.
    pub const fn day(self) -> i64 {
        self.0.div_euclid(86_400 * 1_000_000)
    }

    fn civil(self) -> jiff::civil::Date {
        jiff::Timestamp::from_microsecond(self.0)
            .map_or(jiff::civil::date(1970, 1, 1), |t| t.to_zoned(jiff::tz::TimeZone::UTC).date())
    }
}

/// RFC 3339, UTC, `Z`, whole seconds (rounded down).
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Nearly every time that is shown, and lists show many.
        if let Ok(secs) = u64::try_from(self.secs())
            && secs < SHOWN_S_END
        {
            let text = shown(secs);
            // Digits and punctuation are ASCII, so the bytes are UTF-8.
            return f.write_str(std::str::from_utf8(&text).unwrap_or_default());
        }
        // A century away from jiff's bounds (years -9999 to 9999), which microseconds in an i64 exceed.
        match jiff::Timestamp::from_second(self.secs()) {
            Ok(t) => write!(f, "{t}"),
            Err(_) => f.write_str("9999-12-31T23:59:59Z"),
        }
    }
}

/// Seconds of the year 10000 since 1970: from there on a year has more than four digits.
const SHOWN_S_END: u64 = 253_402_300_800;

/// A time of the years 1970 to 9999. Days become a date by counting from a first of March, so that the leap day comes last:
/// 146,097 days are 400 years, and five months from March on have 153 days.
fn shown(secs: u64) -> [u8; 20] {
    let (days, second) = (secs / 86_400, secs % 86_400);
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + next;
    let mut text = *b"0000-00-00T00:00:00Z";
    let parts = [
        (0, year / 100),
        (2, year % 100),
        (5, month),
        (8, day),
        (11, second / 3_600),
        (14, second / 60 % 60),
        (17, second % 60),
    ];
    for (at, part) in parts {
        // Each part is below 100, so that a digit is below 10.
        text[at] += u8::try_from(part / 10).unwrap_or(0);
        text[at + 1] += u8::try_from(part % 10).unwrap_or(0);
    }
    text
}

/// A calendar month in UTC; as a range half open: from its first instant to before the next one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month {
    year: i16,
    month: i8,
}

impl Month {
    /// What [`Month::parse`] takes, as a regular expression.
    pub const PATTERN: &str = "^(19[7-9][0-9]|[2-8][0-9]{3}|9([0-8][0-9]{2}|9([0-8][0-9]|9[0-8])))-(0[1-9]|1[0-2])$";

    /// Parses `YYYY-MM`, years 1970 to 9998.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() != 7 || bytes[4] != b'-' || !bytes.iter().enumerate().all(|(i, b)| i == 4 || b.is_ascii_digit())
        {
            return None;
        }
        let year = text[..4].parse().ok()?;
        let month = text[5..].parse().ok()?;
        ((1970..9999).contains(&year) && (1..=12).contains(&month)).then_some(Self { year, month })
    }

    /// The first instant of the month.
    pub fn start(self) -> Timestamp {
        let date = jiff::civil::date(self.year, self.month, 1);
        date.to_zoned(jiff::tz::TimeZone::UTC)
            .map_or(Timestamp::default(), |z| Timestamp(z.timestamp().as_microsecond()))
    }

    /// The month after this one.
    #[must_use]
    pub fn next(self) -> Self {
        if self.month == 12 {
            Self { year: self.year + 1, month: 1 }
        } else {
            Self { year: self.year, month: self.month + 1 }
        }
    }

    /// The first instant after the month.
    pub fn end(self) -> Timestamp {
        self.next().start()
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

/// A wait that a [`Clock`] ends.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The program's only source of time.
pub trait Clock: Send + Sync {
    /// The wall clock.
    fn now(&self) -> Timestamp;
    /// Time since an arbitrary start; never steps back.
    fn monotonic(&self) -> Duration;
    /// Ends when [`Clock::now`] has reached `at`.
    fn sleep_until(&self, at: Timestamp) -> Sleep;
    /// Ends when [`Clock::monotonic`] has advanced by `duration`.
    fn sleep(&self, duration: Duration) -> Sleep;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_whole_seconds_in_utc() {
        assert_eq!(Timestamp::from_micros(1_773_829_329_999_999).to_string(), "2026-03-18T10:22:09Z");
        assert_eq!(Timestamp::from_micros(-1).to_string(), "1969-12-31T23:59:59Z");
    }

    #[test]
    fn every_day_is_shown_as_the_library_shows_it() {
        // The library ends two hours before the last day but one of the year 9999 does.
        for day in 0..2_932_895_i64 {
            let secs = day * 86_400 + day * 7_919 % 86_400;
            assert_eq!(Timestamp::from_secs(secs).to_string(), jiff::Timestamp::from_second(secs).unwrap().to_string());
        }
        assert_eq!(Timestamp::from_secs(253_402_300_800 - 1).to_string(), "9999-12-31T23:59:59Z");
        assert_eq!(Timestamp::from_secs(253_402_300_800).to_string(), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn months_are_half_open() {
        let month = Month::parse("2028-02").unwrap();
        assert_eq!(month.end().since(month.start()), Duration::from_secs(29 * 86_400));
        assert_eq!(month.end().minus(Duration::from_micros(1)).month(), month);
        assert_eq!(month.end().month().to_string(), "2028-03");
        for bad in ["2028-13", "2028-00", "2028-1", "28-01", "2028/01", "+028-01", "1969-12"] {
            assert_eq!(Month::parse(bad), None, "{bad}");
        }
    }
}
