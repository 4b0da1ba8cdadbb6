//! `wasi:clocks` for tests of plugins: clocks that can be moved, with the timers that depend on them.
//!
//! A daemon has them only with `--movable-clock`. Otherwise guests have the library's clocks, and nothing of this is linked.

use crate::world::host_state::HostState;
use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::{sync::watch, task::yield_now, time::timeout};
use wasmtime::{
    Result,
    component::{Accessor, Linker, Resource, ResourceTable},
};
use wasmtime_wasi::{
    HostMonotonicClock, HostWallClock, WasiCtxBuilder, WasiView,
    p2::{DynPollable, Pollable, subscribe},
};

/// The interface of both versions, as the library links it.
const MONOTONIC: [&str; 2] =
    ["wasi:clocks/monotonic-clock@0.2.12", "wasi:clocks/monotonic-clock@0.3.0"];

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
    #[error("the clocks can be advanced by 100 years in all")]
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
    fn mark(&self) -> u64 {
        let now = self.start.elapsed().saturating_add(self.moved.borrow().monotonic);
        u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
    }

    async fn wait_until(&self, due: u64) {
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

/// A timer of 0.2.
struct Timer {
    clock: MovableClock,
    due: u64,
    /// A timer that was due from the beginning lets the event loop run once, for guests that poll again and again.
    must_yield: bool,
}

#[wasmtime_wasi::async_trait]
impl Pollable for Timer {
    async fn ready(&mut self) {
        if std::mem::take(&mut self.must_yield) {
            yield_now().await;
        }
        self.clock.wait_until(self.due).await;
    }
}

fn timer(
    table: &mut ResourceTable,
    clock: MovableClock,
    due: u64,
) -> Result<(Resource<DynPollable>,)> {
    let must_yield = due <= clock.mark();
    let timer = table.push(Timer { clock, due, must_yield })?;
    Ok((subscribe(table, timer)?,))
}

/// Replaces the timers that the library linked.
///
/// # Errors
/// When it linked nothing that could be replaced.
pub fn link(to: &mut Linker<HostState>, clock: &MovableClock) -> Result<()> {
    to.allow_shadowing(true);
    let linked = link_02(to, clock).and_then(|()| link_03(to, clock));
    to.allow_shadowing(false);
    linked
}

fn link_02(to: &mut Linker<HostState>, clock: &MovableClock) -> Result<()> {
    let mut interface = to.instance(MONOTONIC[0])?;
    let of = clock.clone();
    interface.func_wrap("subscribe-instant", move |mut store, (due,): (u64,)| {
        timer(store.data_mut().ctx().table, of.clone(), due)
    })?;
    let of = clock.clone();
    interface.func_wrap("subscribe-duration", move |mut store, (duration,): (u64,)| {
        let due = of.mark().saturating_add(duration);
        timer(store.data_mut().ctx().table, of.clone(), due)
    })
}

fn link_03(to: &mut Linker<HostState>, clock: &MovableClock) -> Result<()> {
    let mut interface = to.instance(MONOTONIC[1])?;
    let of = clock.clone();
    interface.func_wrap_concurrent(
        "wait-until",
        move |_: &Accessor<HostState>, (due,): (u64,)| {
            let clock = of.clone();
            Box::pin(async move {
                clock.wait_until(due).await;
                Ok(())
            })
        },
    )?;
    let of = clock.clone();
    interface.func_wrap_concurrent(
        "wait-for",
        move |_: &Accessor<HostState>, (duration,): (u64,)| {
            let (clock, due) = (of.clone(), of.mark().saturating_add(duration));
            Box::pin(async move {
                clock.wait_until(due).await;
                Ok(())
            })
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{runtime::engine, world::interfaces::linker};
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

    #[tokio::test]
    async fn a_timer_of_0_2_fires_when_the_clock_is_moved_past_it() {
        let clock = MovableClock::default();
        let due = in_an_hour(&clock);
        let mut timer = Timer { clock: clock.clone(), due, must_yield: false };
        assert!(poll!(timer.ready()).is_pending());
        clock.move_by(HOUR, None).unwrap();
        timer.ready().await;
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

    #[test]
    fn what_is_replaced_is_what_the_library_links() {
        let engine = engine::plain(engine::EngineKind::Native).unwrap();
        let mut linker = linker(&engine).unwrap();
        let has = |linker: &mut Linker<HostState>, name: &str, function: &str| {
            let mut interface = linker.instance(name).unwrap();
            interface.func_wrap(function, |_, (): ()| Ok(())).is_err()
        };
        for function in ["subscribe-instant", "subscribe-duration"] {
            assert!(has(&mut linker, MONOTONIC[0], function), "{function}");
        }
        for function in ["wait-until", "wait-for"] {
            assert!(has(&mut linker, MONOTONIC[1], function), "{function}");
        }
        link(&mut linker, &MovableClock::default()).unwrap();
    }
}
