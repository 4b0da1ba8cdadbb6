//! `wasi:clocks` for tests of plugins: clocks that can be moved.
//!
//! A daemon has them only with `--movable-clock`. Otherwise guests have the library's clocks.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::{sync::watch, time::timeout};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtxBuilder};

/// The most by which the monotonic clock can be moved in all: about a century.
const MOVED_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
/// The last time of day that can be set: the end of the year 9999.
const TIME_MAX: Duration = Duration::from_secs(253_402_300_799);

/// The clocks of all plugins. Clones are the same clocks.
#[derive(Clone, Debug)]
pub struct MovableClock {
    /// The zero of the monotonic clock.
    start: Instant,
    moved: Arc<watch::Sender<Moved>>,
}

/// The differences from the clocks of the system.
#[derive(Clone, Copy, Debug, Default)]
struct Moved {
    /// The monotonic clock is ahead by this much.
    monotonic: Duration,
    /// The time of day is ahead by as many nanoseconds.
    wall: i128,
}

/// Why the clocks are not moved.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ClockError {
    /// They would be too far ahead.
    #[error("the clocks can be advanced by at most 100 years in total")]
    Advance,
    /// No such time can be set.
    #[error("the time must be before the year 10000")]
    Time,
}

impl Default for MovableClock {
    fn default() -> Self {
        Self { start: Instant::now(), moved: Arc::new(watch::Sender::new(Moved::default())) }
    }
}

impl MovableClock {
    /// Sets the time of day, if there is a `time` since 1970, and then moves both clocks forward. Timers that have become
    /// due fire.
    ///
    /// # Errors
    /// When a clock would be out of its range. Then none is moved.
    pub fn move_by(&self, advance: Duration, time: Option<Duration>) -> Result<(), ClockError> {
        if time.is_some_and(|time| time > TIME_MAX) {
            return Err(ClockError::Time);
        }
        let mut outcome = Err(ClockError::Advance);
        self.moved.send_if_modified(|moved| {
            let sum = moved.monotonic.checked_add(advance).filter(|sum| *sum <= MOVED_MAX);
            let Some(monotonic) = sum else { return false };
            let wall = time.map_or(moved.wall, |time| nanoseconds(time) - nanoseconds(of_day()));
            *moved = Moved { monotonic, wall: wall + nanoseconds(advance) };
            outcome = Ok(());
            true
        });
        outcome
    }

    /// Gives these clocks to a guest.
    pub(super) fn give_to(&self, context: &mut WasiCtxBuilder) {
        context.monotonic_clock(self.clone()).wall_clock(self.clone());
    }

    /// The monotonic clock, in nanoseconds.
    pub(super) fn mark(&self) -> u64 {
        let now = self.start.elapsed().saturating_add(self.moved.borrow().monotonic);
        u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Waits until the monotonic clock has come this far, by itself or by being moved.
    pub(super) async fn wait_until(&self, due: u64) {
        let mut moved = self.moved.subscribe();
        loop {
            moved.mark_unchanged();
            let left = due.saturating_sub(self.mark());
            if left == 0 {
                return;
            }
            // It is either time to look again, or the clock was moved.
            timeout(Duration::from_nanos(left), moved.changed()).await.ok();
        }
    }
}

fn nanoseconds(time: Duration) -> i128 {
    i128::try_from(time.as_nanos()).unwrap_or(i128::MAX)
}

/// The time of day of the system, since 1970.
fn of_day() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

impl HostMonotonicClock for MovableClock {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        self.mark()
    }
}

impl HostWallClock for MovableClock {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        let now = nanoseconds(of_day()).saturating_add(self.moved.borrow().wall);
        Duration::from_nanos_u128(u128::try_from(now).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::poll;
    use std::pin::pin;

    const HOUR: Duration = Duration::from_secs(3600);

    fn in_an_hour(clock: &MovableClock) -> u64 {
        clock.mark() + u64::try_from(HOUR.as_nanos()).unwrap()
    }

    #[tokio::test]
    async fn a_timer_fires_when_the_clock_is_moved_past_it() {
        let clock = MovableClock::default();
        let due = in_an_hour(&clock);
        let mut waiting = pin!(clock.wait_until(due));
        assert!(poll!(waiting.as_mut()).is_pending());
        clock.move_by(HOUR / 2, None).unwrap();
        assert!(poll!(waiting.as_mut()).is_pending());
        clock.move_by(HOUR / 2, None).unwrap();
        waiting.await;
        clock.wait_until(due).await;
    }

    #[test]
    fn the_time_of_day_is_set_and_moves_with_the_monotonic_clock() {
        let clock = MovableClock::default();
        let now = || HostWallClock::now(&clock);
        let millennium = Duration::from_secs(946_684_800);
        clock.move_by(HOUR, Some(millennium)).unwrap();
        assert!(now() >= millennium + HOUR && now() < millennium + 2 * HOUR);
        clock.move_by(HOUR, None).unwrap();
        assert!(now() >= millennium + 2 * HOUR && now() < millennium + 3 * HOUR);
        clock.move_by(Duration::ZERO, Some(Duration::ZERO)).unwrap();
        assert!(now() < HOUR);
    }

    #[test]
    fn a_clock_that_would_leave_its_range_is_not_moved() {
        let clock = MovableClock::default();
        let time = Some(TIME_MAX + HOUR);
        assert_eq!(clock.move_by(HOUR, time), Err(ClockError::Time));
        assert_eq!(clock.move_by(MOVED_MAX, Some(Duration::ZERO)), Ok(()));
        assert_eq!(clock.move_by(HOUR, None), Err(ClockError::Advance));
        assert_eq!(clock.move_by(Duration::MAX, None), Err(ClockError::Advance));
        assert!(HostWallClock::now(&clock) < MOVED_MAX + HOUR);
    }
}
