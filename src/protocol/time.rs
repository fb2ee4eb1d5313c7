use std::fmt;
use std::time::{Duration, SystemTime};

/// A moment in UTC, to the millisecond, written as RFC 3339: `2026-11-21T19:06:00.123Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    millis: u64,
}

impl Time {
    /// The last moment that RFC 3339's four digits for a year can write.
    const LAST: u64 = 253_402_300_799_999;

    /// Milliseconds since 1970.
    pub fn millis(self) -> u64 {
        self.millis
    }

    /// The reverse; what lies after 9999 becomes the last moment before that.
    pub fn from_millis(millis: u64) -> Time {
        Time { millis: millis.min(Time::LAST) }
    }

    /// Reads a moment as the server writes it.
    pub fn parse(field: &str) -> Option<Time> {
        let time = Time::from(humantime::parse_rfc3339(field).ok()?);
        (time.to_string() == field).then_some(time)
    }
}

/// Cut to the millisecond; what lies before 1970 or after 9999 becomes the nearest moment in it.
impl From<SystemTime> for Time {
    fn from(time: SystemTime) -> Time {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Time { millis: u64::try_from(since.as_millis()).unwrap_or(Time::LAST).min(Time::LAST) }
    }
}

impl From<Time> for SystemTime {
    fn from(time: Time) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(time.millis)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_millis((*self).into()).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_back_as_they_are_written() {
        for millis in [0, 123, 1_795_287_960_123, Time::LAST] {
            let time = Time { millis };
            assert_eq!(Time::parse(&time.to_string()), Some(time));
        }
        assert_eq!(Time { millis: 1_795_287_960_123 }.to_string(), "2026-11-21T19:06:00.123Z");
        assert_eq!(Time::parse("2026-11-21T19:06:00Z"), None);
    }

    #[test]
    fn a_clock_gone_wild_is_brought_into_range() {
        let past = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(Time::from(past).to_string(), "1970-01-01T00:00:00.000Z");
        let future = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 50);
        assert_eq!(Time::from(future).to_string(), "9999-12-31T23:59:59.999Z");
    }
}
