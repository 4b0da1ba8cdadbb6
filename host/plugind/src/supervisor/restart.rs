//! When an instance that ended is replaced: systemd's `Restart=`, `RestartSec=`, `RestartSteps=` and `StartLimit…=`, as
//! one table. No clock and no I/O: the time is an argument.
//!
//! | the instance | pause before the next one | counts towards the start limit |
//! | --- | --- | --- |
//! | reported `configuration` | none: the plugin fails | |
//! | reported `unavailable`, or found no room | grows to `restart-max-delay-sec` | no: retried as long as the plugin is wanted |
//! | failed before it was ready | grows to `restart-max-delay-sec` | yes |
//! | failed within `start-limit-interval-sec` after it was ready, and had taken no request | grows to `restart-max-delay-sec` | yes |
//! | reported `unhealthy` within that time | grows to `restart-max-delay-sec` | yes, and by itself: `start-limit-burst` of them reach it, however much time is between them, unless an instance fails later (last row) |
//! | failed within that time, and had taken a request | grows to one second at most | no |
//! | failed later | none | no |
//!
//! An instance that has taken a request may have failed because of it. Such failures never count: otherwise one client
//! that finds a request that traps could take the route away for good. They cost the next requests a pause, which is
//! short, since requests wait for the next instance meanwhile. An instance that reports `unhealthy` was not stopped by a
//! request, and one that served for long shows that the plugin works.
//!
//! Failures during a pause belong to the failure that began it and count once.

use crate::{
    plugin::manifest::{RestartPolicy, Service},
    pool::{failure::Failure, worker_event::InstanceStage},
};
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// The shortest delay between two attempts of a plugin that waits for something.
const UNAVAILABLE_DELAY_MIN: Duration = Duration::from_millis(100);

/// The longest pause after the failure of an instance that had taken a request: requests wait for that time, and for
/// the start of the next instance.
const SERVED_DELAY_MAX: Duration = Duration::from_secs(1);

/// The kind of an instance's failure: its meaning for the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The configuration is wrong: every other instance fails, too.
    Configuration,
    /// Something it needs is not there yet.
    Unavailable,
    /// It failed before or shortly after it was ready.
    Early,
    /// It reported that it is unhealthy, shortly after it was ready.
    Unhealthy,
    /// It failed shortly after it was ready, and a request may be the cause.
    Served,
    /// It failed after it had been ready for long.
    Late,
}

impl FailureKind {
    /// Classifies the failure of an instance. One that was ready for `stable_after` was ready for long.
    #[must_use]
    pub fn of(failure: &Failure, stage: InstanceStage, stable_after: Duration) -> Self {
        match (failure, stage) {
            (Failure::Configuration(_), _) => Self::Configuration,
            (Failure::Unavailable(_) | Failure::Resources(_), _) => Self::Unavailable,
            (_, InstanceStage::Starting | InstanceStage::Restoring) => Self::Early,
            (_, InstanceStage::Ready { uptime, .. }) if uptime >= stable_after => Self::Late,
            (Failure::Unhealthy(_), _) => Self::Unhealthy,
            (_, InstanceStage::Ready { served: false, .. }) => Self::Early,
            (_, InstanceStage::Ready { served: true, .. }) => Self::Served,
        }
    }
}

/// The restarts of one plugin so far, and what they are allowed to be.
#[derive(Clone, Debug)]
pub struct Restarts {
    restart: RestartPolicy,
    first: Duration,
    steps: u32,
    max: Duration,
    burst: usize,
    interval: Duration,
    /// The restarts that count.
    recent: VecDeque<Instant>,
    /// Number of times in a row that it was unavailable.
    unavailable: usize,
    /// Number of instances that reported that they are unhealthy since one failed that had been ready for long.
    unhealthy: usize,
    /// Number of instances in a row that failed after they had taken a request, and the time of the last failure.
    served: (usize, Option<Instant>),
}

/// The decision about an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Start again after this time.
    After(Duration),
    /// Do not start again: the manifest says so.
    Leave,
    /// Do not start again: the configuration must be changed first.
    Final,
    /// Do not start again: it was started too often in too short a time.
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
            max: service.restart_max_delay,
            burst: usize::try_from(service.start_limit_burst).unwrap_or(usize::MAX),
            interval: service.start_limit_interval,
            recent: VecDeque::new(),
            unavailable: 0,
            unhealthy: 0,
            served: (0, None),
        }
    }

    /// An instance failed at `now`.
    pub fn failed(&mut self, kind: FailureKind, now: Instant) -> Decision {
        match (kind, self.restart) {
            (FailureKind::Configuration, _) => Decision::Final,
            (_, RestartPolicy::No) => Decision::Leave,
            (FailureKind::Unavailable, _) => Decision::After(self.unavailable()),
            (FailureKind::Early, _) => self.counted(now),
            (FailureKind::Unhealthy, _) => self.unhealthy(now),
            (FailureKind::Served, _) => Decision::After(self.served(now)),
            (FailureKind::Late, _) => {
                self.unhealthy = 0;
                Decision::After(Duration::ZERO)
            }
        }
    }

    /// A program returned ok at `now`.
    pub fn returned(&mut self, now: Instant) -> Decision {
        match self.restart {
            RestartPolicy::No | RestartPolicy::OnFailure => Decision::Leave,
            RestartPolicy::Always => self.counted(now),
        }
    }

    /// An instance is ready.
    pub fn ready(&mut self) {
        self.unavailable = 0;
    }

    /// The longest time between two tries.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.max.max(self.first)
    }

    fn counted(&mut self, now: Instant) -> Decision {
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

    /// An instance reported that it is unhealthy. Those that are healthy for some seconds first may never reach the
    /// limit by their rate, and are of no use, so those in a row are counted as well.
    fn unhealthy(&mut self, now: Instant) -> Decision {
        let nth = self.unhealthy;
        self.unhealthy = nth.saturating_add(1);
        match self.counted(now) {
            Decision::After(_) if nth < self.burst => Decision::After(self.delay(nth)),
            _ => Decision::LimitHit,
        }
    }

    fn unavailable(&mut self) -> Duration {
        let nth = self.unavailable;
        self.unavailable = nth.saturating_add(1);
        // These restarts are without end, so they must not follow each other at once.
        self.delay(nth).max(UNAVAILABLE_DELAY_MIN)
    }

    fn served(&mut self, now: Instant) -> Duration {
        let (times, last) = self.served;
        let is_in_a_row =
            last.is_some_and(|last| now.saturating_duration_since(last) < self.interval);
        let nth = if is_in_a_row { times } else { 0 };
        self.served = (nth.saturating_add(1), Some(now));
        self.delay(nth).min(SERVED_DELAY_MAX)
    }

    /// The delay before the `nth` restart in a row: from the first to the longest delay in `steps` steps, each longer
    /// by the same factor.
    fn delay(&self, nth: usize) -> Duration {
        if self.steps == 0 || self.max <= self.first || self.first.is_zero() {
            return self.first;
        }
        let factor = self.max.as_secs_f64() / self.first.as_secs_f64();
        let step = u32::try_from(nth).unwrap_or(u32::MAX).min(self.steps);
        let delay = self.first.as_secs_f64() * factor.powf(f64::from(step) / f64::from(self.steps));
        Duration::from_secs_f64(delay).min(self.max)
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
            .map(|_| match restarts.failed(FailureKind::Early, now) {
                Decision::After(delay) => delay.as_millis(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(delays, [100, 258, 669, 1732, 4481, 11594, 30000, 30000]);
    }

    #[test]
    fn the_start_limit_holds_until_its_interval_has_passed() {
        let mut restarts = restarts(|_| ());
        let start = Instant::now();
        for second in 0..5 {
            assert!(matches!(
                restarts.failed(FailureKind::Early, start + Duration::from_secs(second)),
                Decision::After(_)
            ));
        }
        assert_eq!(
            restarts.failed(FailureKind::Early, start + Duration::from_secs(59)),
            Decision::LimitHit
        );
        assert!(matches!(
            restarts.failed(FailureKind::Early, start + Duration::from_secs(61)),
            Decision::After(_)
        ));
    }

    #[test]
    fn the_manifest_says_after_what_to_start_again() {
        let now = Instant::now();
        let again = |decision| matches!(decision, Decision::After(_));
        for (restart, after_failure, after_success) in [
            (RestartPolicy::No, false, false),
            (RestartPolicy::OnFailure, true, false),
            (RestartPolicy::Always, true, true),
        ] {
            let mut restarts = restarts(|service| service.restart = restart);
            assert_eq!(
                again(restarts.failed(FailureKind::Early, now)),
                after_failure,
                "{restart:?}"
            );
            assert_eq!(again(restarts.returned(now)), after_success, "{restart:?}");
        }
    }

    fn of(failure: &Failure, uptime: Option<u64>, served: bool) -> FailureKind {
        let stage = uptime.map_or(InstanceStage::Starting, |uptime| InstanceStage::Ready {
            uptime: Duration::from_secs(uptime),
            served,
        });
        FailureKind::of(failure, stage, Duration::from_secs(60))
    }

    #[test]
    fn a_failure_counts_by_the_stage_that_the_instance_had_reached() {
        let text = || "why".to_owned();
        for failure in [Failure::Trap(text()), Failure::ExitCode(0), Failure::Watchdog(text())] {
            assert_eq!(of(&failure, None, false), FailureKind::Early, "{failure}");
            assert_eq!(of(&failure, Some(59), false), FailureKind::Early, "{failure}");
            assert_eq!(of(&failure, Some(0), true), FailureKind::Served, "{failure}");
            assert_eq!(of(&failure, Some(59), true), FailureKind::Served, "{failure}");
            assert_eq!(of(&failure, Some(60), true), FailureKind::Late, "{failure}");
            assert_eq!(of(&failure, Some(60), false), FailureKind::Late, "{failure}");
        }
        let unhealthy = Failure::Unhealthy(text());
        assert_eq!(of(&unhealthy, Some(10), true), FailureKind::Unhealthy);
        assert_eq!(of(&unhealthy, Some(60), true), FailureKind::Late);
        assert_eq!(of(&Failure::Unavailable(text()), None, false), FailureKind::Unavailable);
        assert_eq!(of(&Failure::Resources(text()), None, false), FailureKind::Unavailable);
        assert_eq!(of(&Failure::Configuration(text()), None, false), FailureKind::Configuration);
    }

    #[test]
    fn instances_that_are_healthy_for_a_moment_only_reach_the_limit() {
        let mut restarts = restarts(|_| ());
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        let mut fail = |kind| {
            now += Duration::from_secs(17);
            match restarts.failed(kind, now) {
                Decision::After(delay) => {
                    now += delay;
                    pauses.push(delay.as_millis());
                    true
                }
                decision => {
                    assert_eq!(decision, Decision::LimitHit);
                    false
                }
            }
        };
        for _ in 0..5 {
            assert!(fail(FailureKind::Unhealthy));
        }
        // One that served for long shows that the plugin works.
        assert!(fail(FailureKind::Late));
        for _ in 0..5 {
            assert!(fail(FailureKind::Unhealthy));
        }
        assert!(!fail(FailureKind::Unhealthy));
        assert_eq!(pauses[..6], [100, 258, 669, 1732, 4481, 0]);
    }

    #[test]
    fn an_unavailable_plugin_is_retried_without_end_with_growing_pauses() {
        let mut restarts = restarts(|_| ());
        let now = Instant::now();
        let pauses: Vec<_> = (0..1000)
            .map(|_| match restarts.failed(FailureKind::Unavailable, now) {
                Decision::After(delay) => delay.as_millis(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(pauses[..8], [100, 258, 669, 1732, 4481, 11594, 30000, 30000]);
        assert!(pauses[8..].iter().all(|pause| *pause == 30000));
        restarts.ready();
        let again = restarts.failed(FailureKind::Unavailable, now);
        assert_eq!(again, Decision::After(Duration::from_millis(100)));
    }

    #[test]
    fn no_number_of_failures_after_requests_hits_the_start_limit() {
        let mut restarts = restarts(|service| service.start_limit_burst = 1);
        let mut now = Instant::now();
        for _ in 0..1000 {
            match restarts.failed(FailureKind::Served, now) {
                Decision::After(delay) => {
                    assert!(delay <= SERVED_DELAY_MAX);
                    now += delay;
                }
                other => panic!("{other:?}"),
            }
            let late = restarts.failed(FailureKind::Late, now);
            assert_eq!(late, Decision::After(Duration::ZERO));
        }
        assert!(matches!(restarts.failed(FailureKind::Early, now), Decision::After(_)));
        assert_eq!(restarts.failed(FailureKind::Early, now), Decision::LimitHit);
    }

    #[test]
    fn a_wrong_configuration_is_not_tried_again() {
        for restart in [RestartPolicy::No, RestartPolicy::OnFailure, RestartPolicy::Always] {
            let mut restarts = restarts(|service| service.restart = restart);
            let decision = restarts.failed(FailureKind::Configuration, Instant::now());
            assert_eq!(decision, Decision::Final, "{restart:?}");
        }
    }
}
