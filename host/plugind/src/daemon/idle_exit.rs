//! The end of a daemon that has had nothing to do for long: the sockets start it again.

use crate::{
    listen::listeners::Listeners,
    supervisor::{handle::SupervisorHandle, phase::DaemonPhase, summary::Summary},
};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use tracing::warn;

/// The longest interval between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// With a shorter time, systemd could find that the service is started too often.
const SHORT: Duration = Duration::from_secs(5);

/// Why a daemon that did not fail ends.
pub(super) enum Ending {
    /// It was asked to.
    Asked,
    /// It has had nothing to do for long.
    Idle,
}

/// The work of the daemon at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct DaemonWork {
    /// Something is in progress.
    is_in_progress: bool,
    /// If this differs from the count of the previous look, something was in progress meanwhile.
    count: u64,
    /// The time at which the last request ended on a connection that is open.
    last: Instant,
}

/// Since when there has been nothing to do, as a pure value.
#[derive(Debug)]
struct Idleness {
    timeout: Duration,
    since: Instant,
    count: u64,
}

impl Idleness {
    fn new(timeout: Duration, now: Instant) -> Self {
        Self { timeout, since: now, count: 0 }
    }

    /// Notes a look. True if there has been nothing to do for long enough.
    fn look(&mut self, work: DaemonWork, now: Instant) -> bool {
        if work.is_in_progress || work.count != self.count {
            (self.since, self.count) = (now, work.count);
            return false;
        }
        self.since = self.since.max(work.last);
        now.saturating_duration_since(self.since) >= self.timeout
    }
}

/// The time to use; none if the daemon would not be started again. `is_activated`: systemd has passed a socket on which
/// plugins are reached.
pub(super) fn usable(timeout: Option<Duration>, is_activated: bool) -> Option<Duration> {
    if timeout.is_some() && !is_activated {
        let remedy = "start the daemon by a socket unit, or remove exit-on-idle-sec";
        warn!(remedy, "exit-on-idle-sec ignored without sockets of systemd");
    }
    timeout.filter(|_| is_activated)
}

/// Checks at intervals whether the daemon is idle.
pub(super) struct IdleExit {
    idleness: Option<(Idleness, Interval)>,
    supervisor: SupervisorHandle,
    listeners: Arc<Listeners>,
}

impl IdleExit {
    /// Looks from now on, if a time is set.
    pub(super) fn new(
        timeout: Option<Duration>,
        supervisor: SupervisorHandle,
        listeners: Arc<Listeners>,
    ) -> Self {
        if let Some(timeout) = timeout.filter(|timeout| *timeout < SHORT) {
            let remedy = "exit-on-idle-sec = \"5s\", or StartLimitIntervalSec=0 in the unit";
            let time = humantime::format_duration(timeout);
            warn!(exit_on_idle_sec = %time, remedy, "start limit of the unit may be hit");
        }
        let idleness = timeout.map(|timeout| {
            let mut looks = interval((timeout / 4).min(LOOK_EVERY));
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            (Idleness::new(timeout, Instant::now()), looks)
        });
        Self { idleness, supervisor, listeners }
    }

    /// Waits until there has been nothing to do for long enough. Can be dropped and called again.
    pub(super) async fn due(&mut self, phase: DaemonPhase) {
        let Some((idleness, looks)) = &mut self.idleness else {
            return std::future::pending().await;
        };
        loop {
            looks.tick().await;
            let now = Instant::now();
            let work = work(&self.supervisor, &self.listeners, phase, idleness.since);
            if idleness.look(work, now) {
                return;
            }
        }
    }
}

/// The work at this moment. `since` is the beginning of the time without work that the last check found.
fn work(
    supervisor: &SupervisorHandle,
    listeners: &Listeners,
    phase: DaemonPhase,
    since: Instant,
) -> DaemonWork {
    let idle_since = listeners.idle_since(since);
    let is_kept = is_kept(&supervisor.summary().borrow());
    let plugins = supervisor.board().plugins();
    let gauges = plugins.iter().map(|plugin| plugin.gauges);
    let has_calls = gauges.into_iter().any(|it| it.in_flight + it.queued + it.connections > 0);
    // Connections that were closed meanwhile, and calls that came by other ways.
    let admitted = listeners.usage().iter().map(|usage| usage.admitted).sum::<u64>();
    let served = plugins.iter().map(|plugin| {
        let totals = plugin.figures.totals();
        totals.responses.iter().sum::<u64>() + totals.connections + totals.datagrams
    });
    DaemonWork {
        // One that an operator drained would be in service again when it is started again.
        is_in_progress: is_kept
            || has_calls
            || idle_since.is_none()
            || phase != DaemonPhase::Running,
        count: admitted.wrapping_add(served.sum()),
        last: idle_since.unwrap_or(since),
    }
}

/// Whether the daemon must stay: plugins do something without being asked, their next start would undo the request of
/// an operator, or a reload is in progress.
fn is_kept(summary: &Summary) -> bool {
    summary.at_work > 0 || summary.operated > 0 || summary.reloading
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    fn nothing(last: Instant) -> DaemonWork {
        DaemonWork { is_in_progress: false, count: 0, last }
    }

    #[test]
    fn a_daemon_ends_when_there_was_nothing_to_do_for_the_whole_time() {
        let start = Instant::now();
        let mut idleness = Idleness::new(TIMEOUT, start);
        assert!(!idleness.look(nothing(start), at(start, 9)));
        assert!(idleness.look(nothing(start), at(start, 10)));
    }

    #[test]
    fn work_at_a_look_or_between_two_looks_begins_the_time_again() {
        let start = Instant::now();
        let mut idleness = Idleness::new(TIMEOUT, start);
        let busy = DaemonWork { is_in_progress: true, ..nothing(start) };
        assert!(!idleness.look(busy, at(start, 100)));
        assert!(!idleness.look(nothing(start), at(start, 109)));
        let counted = DaemonWork { count: 1, ..nothing(start) };
        assert!(!idleness.look(counted, at(start, 110)), "something came and went");
        assert!(!idleness.look(counted, at(start, 119)));
        let request = DaemonWork { last: at(start, 115), ..counted };
        assert!(!idleness.look(request, at(start, 124)), "a request ended on an open connection");
        assert!(idleness.look(request, at(start, 125)));
    }

    #[test]
    fn plugins_that_work_alone_or_that_an_operator_changed_keep_the_daemon_running() {
        let idle = Summary { plugins: 3, ready: 3, ..Summary::default() };
        assert!(!is_kept(&idle));
        assert!(is_kept(&Summary { at_work: 1, ..idle.clone() }));
        assert!(is_kept(&Summary { operated: 1, ..idle.clone() }));
        assert!(is_kept(&Summary { reloading: true, ..idle }));
    }

    #[test]
    fn a_daemon_that_no_socket_starts_again_does_not_end_when_idle() {
        assert_eq!(usable(Some(TIMEOUT), true), Some(TIMEOUT));
        assert_eq!(usable(Some(TIMEOUT), false), None);
        assert_eq!(usable(None, true), None);
    }

    proptest! {
        #[test]
        fn it_never_ends_within_the_time_after_work(
            steps in prop::collection::vec((0..20_u64, any::<bool>(), any::<bool>()), 1..100),
        ) {
            let start = Instant::now();
            let (mut now, mut last, mut count) = (start, start, 0);
            let mut idleness = Idleness::new(TIMEOUT, start);
            for (seconds, is_in_progress, is_counted) in steps {
                now += Duration::from_secs(seconds);
                count += u64::from(is_counted);
                if is_in_progress || is_counted {
                    last = now;
                }
                let ends = idleness.look(DaemonWork { is_in_progress, count, last: start }, now);
                prop_assert_eq!(ends, now - last >= TIMEOUT);
            }
        }
    }
}
