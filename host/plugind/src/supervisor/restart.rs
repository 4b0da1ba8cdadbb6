//! When an instance that failed is started anew: systemd's Restart=, RestartSec=, RestartSteps= and StartLimit…=.
//!
//! No clock and no I/O: the time is an argument.

use crate::plugin::manifest::{RestartPolicy, Service};
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// The restarts of one plugin so far, and what they are allowed to be.
#[derive(Clone, Debug)]
pub struct Restarts {
    restart: RestartPolicy,
    first: Duration,
    steps: u32,
    most: Duration,
    burst: usize,
    interval: Duration,
    recent: VecDeque<Instant>,
}

/// What is to be done about an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Start anew after this time.
    After(Duration),
    /// Leave it: so the manifest says.
    Leave,
    /// Leave it: it was started too often in too short a time.
    LimitHit,
}

impl Restarts {
    /// None so far.
    #[must_use]
    pub fn new(service: &Service) -> Self {
        Self {
            restart: service.restart,
            first: service.restart_sec,
            steps: service.restart_steps,
            most: service.restart_max_delay,
            burst: usize::try_from(service.start_limit_burst).unwrap_or(usize::MAX),
            interval: service.start_limit_interval,
            recent: VecDeque::new(),
        }
    }

    /// An instance failed at `now`.
    pub fn failed(&mut self, now: Instant) -> Decision {
        match self.restart {
            RestartPolicy::No => Decision::Leave,
            RestartPolicy::OnFailure | RestartPolicy::Always => self.again(now),
        }
    }

    /// A program returned ok at `now`.
    pub fn returned(&mut self, now: Instant) -> Decision {
        match self.restart {
            RestartPolicy::No | RestartPolicy::OnFailure => Decision::Leave,
            RestartPolicy::Always => self.again(now),
        }
    }

    /// The longest time between two tries.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.most.max(self.first)
    }

    fn again(&mut self, now: Instant) -> Decision {
        while self
            .recent
            .front()
            .is_some_and(|then| now.saturating_duration_since(*then) >= self.interval)
        {
            self.recent.pop_front();
        }
        if self.recent.len() >= self.burst {
            return Decision::LimitHit;
        }
        let delay = self.delay(self.recent.len());
        self.recent.push_back(now);
        Decision::After(delay)
    }

    /// From the first delay to the longest in so many steps, each longer by the same factor.
    fn delay(&self, nth: usize) -> Duration {
        if self.steps == 0 || self.most <= self.first || self.first.is_zero() {
            return self.first;
        }
        let factor = self.most.as_secs_f64() / self.first.as_secs_f64();
        let step = u32::try_from(nth).unwrap_or(u32::MAX).min(self.steps);
        let delay = self.first.as_secs_f64() * factor.powf(f64::from(step) / f64::from(self.steps));
        Duration::from_secs_f64(delay).min(self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::manifest::Manifest;

    fn restarts(change: impl FnOnce(&mut Service)) -> Restarts {
        let mut service = Manifest::default().service;
        change(&mut service);
        Restarts::new(&service)
    }

    #[test]
    fn delays_grow_from_the_first_to_the_longest() {
        let mut restarts = restarts(|service| service.start_limit_burst = 100);
        let now = Instant::now();
        let delays: Vec<_> = (0..8)
            .map(|_| match restarts.failed(now) {
                Decision::After(delay) => delay.as_millis(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(delays, [100, 258, 669, 1732, 4481, 11594, 30000, 30000]);
    }

    #[test]
    fn too_many_in_too_short_a_time_are_too_many_until_the_time_has_passed() {
        let mut restarts = restarts(|_| ());
        let start = Instant::now();
        for second in 0..5 {
            assert!(matches!(
                restarts.failed(start + Duration::from_secs(second)),
                Decision::After(_)
            ));
        }
        assert_eq!(restarts.failed(start + Duration::from_secs(59)), Decision::LimitHit);
        assert!(matches!(restarts.failed(start + Duration::from_secs(61)), Decision::After(_)));
    }

    #[test]
    fn the_manifest_says_after_what_to_start_anew() {
        let now = Instant::now();
        let again = |decision| matches!(decision, Decision::After(_));
        for (restart, after_failure, after_success) in [
            (RestartPolicy::No, false, false),
            (RestartPolicy::OnFailure, true, false),
            (RestartPolicy::Always, true, true),
        ] {
            let mut restarts = restarts(|service| service.restart = restart);
            assert_eq!(again(restarts.failed(now)), after_failure, "{restart:?}");
            assert_eq!(again(restarts.returned(now)), after_success, "{restart:?}");
        }
    }
}
