//! The number of workers that a pool should have, as a pure function of its figures.

/// The figures of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Workers that take calls, or will.
    pub active: usize,
    /// Workers that wait for calls.
    pub available: usize,
    /// Calls that wait for a worker.
    pub queued: usize,
}

/// Returns the desired number of workers, at most `max`. `ahead`: each is used up by one call, so one more is started
/// before a call asks for it.
#[must_use]
pub(super) fn desired(stats: PoolStats, max: usize, ahead: bool) -> usize {
    let is_short = stats.available == 0 && (stats.queued > 0 || ahead);
    (stats.active + usize::from(is_short)).min(max.max(stats.active))
}

/// Number of a core's calls that another core serves before the core gets a worker of its own.
const GIVEN_AWAY_MAX: u32 = 256;

/// Whether a core that gave away so many calls should have a worker of its own, where `active` of at most `max` exist.
#[must_use]
pub(super) fn wants_own(given_away: u32, own_active: usize, active: usize, max: usize) -> bool {
    given_away >= GIVEN_AWAY_MAX && own_active == 0 && active < max
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_worker_is_added_where_calls_wait_and_none_is_available() {
        let stats = |active, available, queued| PoolStats { active, available, queued };
        assert_eq!(desired(stats(0, 0, 0), 4, false), 0);
        assert_eq!(desired(stats(0, 0, 1), 4, false), 1);
        assert_eq!(desired(stats(1, 1, 1), 4, false), 1);
        assert_eq!(desired(stats(4, 0, 9), 4, false), 4);
        assert_eq!(desired(stats(1, 0, 0), 4, true), 2);
    }

    #[test]
    fn a_core_whose_calls_are_served_elsewhere_gets_a_worker_if_there_may_be_one_more() {
        assert!(wants_own(GIVEN_AWAY_MAX, 0, 1, 2));
        assert!(!wants_own(GIVEN_AWAY_MAX - 1, 0, 1, 2), "now and then is no reason");
        assert!(!wants_own(GIVEN_AWAY_MAX, 1, 1, 2), "it has one");
        assert!(!wants_own(GIVEN_AWAY_MAX, 0, 2, 2), "there are as many as there may be");
    }

    proptest! {
        #[test]
        fn workers_are_added_one_at_a_time_and_never_beyond_the_most(
            active in 0..9_usize, available in 0..9_usize, queued in 0..99_usize, max in 1..9_usize, ahead: bool,
        ) {
            let desired = desired(PoolStats { active, available, queued }, max, ahead);
            prop_assert!(desired == active || (desired == active + 1 && desired <= max));
        }
    }
}
