//! A warning that anyone's messages can cause repeatedly: it is logged at most once in a minute.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Interval at which it is logged.
const EVERY: Duration = Duration::from_secs(60);

/// A warning that may be repeated.
#[derive(Debug, Default)]
pub(super) struct RepeatedWarning(Mutex<WarningTally>);

#[derive(Debug, Default)]
struct WarningTally {
    logged: Option<Instant>,
    skipped: u64,
}

impl RepeatedWarning {
    /// Notes one. If it is to be logged now, the number of those that were not logged since the last one.
    pub(super) fn note(&self, now: Instant) -> Option<u64> {
        let mut tally = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tally.logged.is_some_and(|logged| now.duration_since(logged) < EVERY) {
            tally.skipped += 1;
            return None;
        }
        tally.logged = Some(now);
        Some(std::mem::take(&mut tally.skipped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_logged_at_once_and_then_at_most_once_in_a_minute() {
        let (start, warning) = (Instant::now(), RepeatedWarning::default());
        let at = |seconds| warning.note(start + Duration::from_secs(seconds));
        assert_eq!([at(0), at(1), at(59)], [Some(0), None, None]);
        assert_eq!([at(60), at(61), at(130)], [Some(2), None, Some(1)]);
    }
}
