//! Times as systemctl(1) prints them: the age in the two largest units.

use std::time::{Duration, SystemTime};

/// The units by length, in seconds.
const UNITS: [(u64, &str, &str); 6] = [
    (365 * DAY, " year", " years"),
    (30 * DAY, " month", " months"),
    (DAY, " day", " days"),
    (60 * 60, "h", "h"),
    (60, "min", "min"),
    (1, "s", "s"),
];
const DAY: u64 = 24 * 60 * 60;

/// The time this many microseconds after the Unix epoch.
pub(crate) fn moment(micros: u64) -> SystemTime {
    // A time beyond the clock's range is a mistake. The beginning of 1970 shows that.
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_micros(micros))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Returns the time from `then` to `now`, as in `3min 2s ago`.
pub(crate) fn ago(then: SystemTime, now: SystemTime) -> String {
    // Clocks are set back at times.
    let seconds = now.duration_since(then).unwrap_or_default().as_secs();
    let Some(first) = UNITS.iter().position(|(length, ..)| seconds >= *length) else {
        return "now".to_owned();
    };
    let mut left = seconds;
    let mut reported = String::new();
    for (length, one, many) in &UNITS[first..UNITS.len().min(first + 2)] {
        let count = left / length;
        left %= length;
        if count > 0 {
            reported += &format!("{count}{} ", if count == 1 { one } else { many });
        }
    }
    reported + "ago"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_printed_in_its_two_largest_units() {
        for (seconds, reported) in [
            (0, "now"),
            (1, "1s ago"),
            (59, "59s ago"),
            (60, "1min ago"),
            (182, "3min 2s ago"),
            (3600 + 59, "1h ago"),
            (7200 + 61, "2h 1min ago"),
            (DAY, "1 day ago"),
            (2 * DAY + 3600, "2 days 1h ago"),
            (61 * DAY, "2 months 1 day ago"),
            (800 * DAY, "2 years 2 months ago"),
        ] {
            let now = moment(1_000_000) + Duration::from_secs(seconds);
            assert_eq!(ago(moment(1_000_000), now), reported);
        }
    }

    #[test]
    fn a_time_in_the_future_or_beyond_the_clocks_range_is_printed() {
        assert_eq!(ago(moment(2_000_000), moment(1_000_000)), "now");
        ago(moment(u64::MAX), SystemTime::now());
    }
}
