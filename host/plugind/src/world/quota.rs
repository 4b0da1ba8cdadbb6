//! The processor time of all instances of a plugin together.
//!
//! The time that their tasks run on a processor is charged, hence not the time that they wait.

use crate::base::quantity::Percent;
use rustix::time::{ClockId, clock_gettime};
use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::time::{Sleep, sleep_until};

/// After so long there is a new share, as with systemd's `CPUQuotaPeriodSec=`.
const PERIOD: Duration = Duration::from_millis(100);

/// A generation's share of the processor.
#[derive(Debug)]
pub struct Shared {
    /// Time that may be used in a period.
    share: Duration,
    used: Mutex<Used>,
}

/// Time used in the period that began at `since`. It may exceed a share; then the excess counts in the next periods.
#[derive(Debug)]
struct Used {
    since: Instant,
    time: Duration,
}

impl Shared {
    /// So much of one processor, from now on.
    #[must_use]
    pub fn new(Percent(percent): Percent, now: Instant) -> Self {
        let used = Mutex::new(Used { since: now, time: Duration::ZERO });
        Self { share: PERIOD * percent / 100, used }
    }

    /// Until when nothing may run, if all is used up.
    fn used_up_until(&self, now: Instant) -> Option<Instant> {
        let mut used = self.used();
        let periods = now.saturating_duration_since(used.since).as_nanos() / PERIOD.as_nanos();
        let periods = u32::try_from(periods).unwrap_or(u32::MAX);
        used.since += PERIOD * periods;
        used.time = used.time.saturating_sub(self.share.saturating_mul(periods));
        // Nothing may run for as many periods as shares are used up, this one included.
        let over = used.time.as_nanos() / self.share.as_nanos();
        (over > 0).then(|| used.since + PERIOD * u32::try_from(over).unwrap_or(u32::MAX))
    }

    fn charge(&self, time: Duration) {
        let mut used = self.used();
        used.time = used.time.saturating_add(time);
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets one task run for as long as there is something left of a share, and charges what it runs.
pub struct QuotaGate {
    shared: Arc<Shared>,
    closed: Option<Pin<Box<Sleep>>>,
}

impl QuotaGate {
    /// A gate that is open as long as there is something left of this share.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, closed: None }
    }

    /// Ready when the task may run.
    pub fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(closed) = &mut self.closed {
                ready!(closed.as_mut().poll(cx));
                self.closed = None;
            }
            match self.shared.used_up_until(Instant::now()) {
                None => return Poll::Ready(()),
                Some(until) => self.closed = Some(Box::pin(sleep_until(until.into()))),
            }
        }
    }

    /// Runs a part of the task, and charges it.
    pub fn charged<T>(&self, run: impl FnOnce() -> T) -> T {
        let before = time_of_thread();
        let result = run();
        self.shared.charge(time_of_thread().saturating_sub(before));
        result
    }
}

/// Returns the time that this thread has run on a processor.
#[must_use]
pub fn time_of_thread() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // It began with zero and goes forward.
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_guest_that_has_used_its_share_waits_for_the_next_period() {
        let start = Instant::now();
        let shared = Shared::new(Percent(50), start);
        assert_eq!(shared.used_up_until(start), None);
        shared.charge(ms(49));
        assert_eq!(shared.used_up_until(start + ms(90)), None);
        shared.charge(ms(1));
        assert_eq!(shared.used_up_until(start + ms(95)), Some(start + ms(100)));
        assert_eq!(shared.used_up_until(start + ms(100)), None);
    }

    #[test]
    fn a_guest_that_used_more_than_its_share_pays_it_back() {
        let start = Instant::now();
        let shared = Shared::new(Percent(1), start);
        shared.charge(ms(5));
        assert_eq!(shared.used_up_until(start + ms(10)), Some(start + ms(500)));
        assert_eq!(shared.used_up_until(start + ms(499)), Some(start + ms(500)));
        assert_eq!(shared.used_up_until(start + ms(500)), None);
    }

    #[test]
    fn what_was_not_used_is_not_saved_up() {
        let start = Instant::now();
        let shared = Shared::new(Percent(200), start);
        let later = start + Duration::from_secs(1 << 20);
        assert_eq!(shared.used_up_until(later), None);
        shared.charge(ms(200));
        assert!(shared.used_up_until(later).is_some_and(|until| until - later <= PERIOD));
    }
}
