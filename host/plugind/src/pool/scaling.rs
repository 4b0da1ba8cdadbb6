//! The number of workers that a pool should have, as pure functions of its figures: it grows while calls wait, and
//! shrinks to its least number while workers have no work.

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

/// Whether a pool that stops should wait for the calls in its queue, since a worker will take them. `starts`: it starts a
/// worker for them if it has none.
#[must_use]
pub(super) fn serves_queue(stats: PoolStats, starts: bool) -> bool {
    stats.queued > 0 && (stats.active > 0 || starts)
}

/// Whether a pool should have one more worker although none is needed. Its first one is started by the supervisor.
#[must_use]
pub(super) fn is_below(active: usize, min: usize) -> bool {
    active > 0 && active < min
}

/// The number of looks at a worker without work after which it may be stopped.
pub(super) const QUIET_LOOKS: u32 = 4;

/// What the looks at a worker have found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QuietWorker {
    /// Its number.
    pub(super) number: u32,
    /// The number of looks, one after the other, at which it had no work.
    pub(super) looks: u32,
    /// It was asked to end for this reason already.
    pub(super) is_asked: bool,
}

/// Returns the workers to stop because they have no work, those that have had none for longest first. At least `min` of
/// the `active` workers are left.
#[must_use]
pub(super) fn surplus(workers: &[QuietWorker], active: usize, min: usize) -> Vec<u32> {
    let asked = workers.iter().filter(|worker| worker.is_asked).count();
    let spare = active.saturating_sub(min).saturating_sub(asked);
    let mut quiet: Vec<_> =
        workers.iter().filter(|worker| !worker.is_asked && worker.looks >= QUIET_LOOKS).collect();
    quiet.sort_by_key(|worker| (std::cmp::Reverse(worker.looks), worker.number));
    quiet.into_iter().take(spare).map(|worker| worker.number).collect()
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
    fn a_pool_below_its_least_number_of_workers_gets_one_more_although_none_is_needed() {
        assert!(!is_below(0, 3), "the first one is started by the supervisor");
        assert!(is_below(1, 3) && is_below(2, 3));
        assert!(!is_below(3, 3) && !is_below(4, 3));
        assert!(!is_below(1, 1) && !is_below(1, 0));
    }

    fn quiet(number: u32, looks: u32) -> QuietWorker {
        QuietWorker { number, looks, is_asked: false }
    }

    #[test]
    fn the_workers_without_work_for_longest_are_stopped_until_the_least_number_is_left() {
        let workers = [quiet(1, QUIET_LOOKS), quiet(2, 9), quiet(3, QUIET_LOOKS - 1), quiet(4, 7)];
        assert_eq!(surplus(&workers, 4, 0), [2, 4, 1]);
        assert_eq!(surplus(&workers, 4, 1), [2, 4, 1]);
        assert_eq!(surplus(&workers, 4, 2), [2, 4]);
        assert_eq!(surplus(&workers, 4, 4), [0; 0]);
        let asked = QuietWorker { is_asked: true, ..quiet(2, 9) };
        assert_eq!(surplus(&[asked, quiet(4, 7)], 2, 1), [0; 0], "one is about to end already");
        assert_eq!(surplus(&[asked, quiet(4, 7)], 2, 0), [4]);
    }

    #[test]
    fn one_worker_whose_work_has_ended_is_stopped_only_on_demand() {
        assert_eq!(surplus(&[quiet(7, 100)], 1, 1), [0; 0]);
        assert_eq!(surplus(&[quiet(7, 100)], 1, 0), [7]);
    }

    #[test]
    fn a_pool_that_stops_waits_for_its_calls_if_a_worker_takes_them() {
        let stats = |active, queued| PoolStats { active, queued, ..PoolStats::default() };
        assert!(serves_queue(stats(1, 1), false));
        assert!(serves_queue(stats(0, 1), true), "a worker is about to be started");
        assert!(!serves_queue(stats(0, 1), false), "there will be none");
        assert!(!serves_queue(stats(1, 0), true), "no call waits");
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

        #[test]
        fn shrinking_leaves_the_least_number_and_all_workers_with_work(
            workers in prop::collection::vec((0..9_u32, any::<bool>()), 0..12), beside in 0..3_usize,
            min in 0..9_usize,
        ) {
            let workers: Vec<_> = (0..)
                .zip(workers)
                .map(|(number, (looks, is_asked))| QuietWorker { number, looks, is_asked })
                .collect();
            let active = workers.len() + beside;
            let stopped = surplus(&workers, active, min);
            let asked = workers.iter().filter(|worker| worker.is_asked).count();
            prop_assert!(stopped.is_empty() || active - asked - stopped.len() >= min);
            for number in &stopped {
                let worker = workers.iter().find(|worker| worker.number == *number).unwrap();
                prop_assert!(worker.looks >= QUIET_LOOKS && !worker.is_asked);
            }
            // Nothing shrinks twice: those that were asked and are there still count as gone.
            let after: Vec<_> = workers
                .iter()
                .map(|worker| QuietWorker {
                    is_asked: worker.is_asked || stopped.contains(&worker.number), ..*worker
                })
                .collect();
            prop_assert!(surplus(&after, active, min).is_empty());
        }

        #[test]
        fn a_pool_grows_to_its_most_under_load_and_shrinks_to_its_least_without(
            min in 0..5_usize, more in 0..5_usize,
        ) {
            let max = (min + more).max(1);
            let mut active = 0;
            for _ in 0..20 {
                active = desired(PoolStats { active, available: 0, queued: 9 }, max, false);
            }
            prop_assert_eq!(active, max);
            let workers: Vec<_> = (0..).take(active).map(|number| quiet(number, QUIET_LOOKS)).collect();
            active -= surplus(&workers, active, min).len();
            prop_assert_eq!(active, min);
        }
    }
}
