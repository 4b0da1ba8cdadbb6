//! The timers of clocks that can be moved, in the place of those that the library links.

use crate::world::{host_state::HostState, movable_clock::MovableClock, replacing::replace};
use tokio::task::yield_now;
use wasmtime::{
    Result,
    component::{Accessor, Linker, Resource, ResourceTable},
};
use wasmtime_wasi::{
    WasiView,
    p2::{DynPollable, Pollable, subscribe},
};

/// The interface of both versions, as the library links it.
const MONOTONIC: [&str; 2] =
    ["wasi:clocks/monotonic-clock@0.2.12", "wasi:clocks/monotonic-clock@0.3.0"];

/// A timer of 0.2.
struct ClockTimer {
    clock: MovableClock,
    due: u64,
    /// A timer that was due from the beginning lets the event loop run once, for guests that poll again and again.
    must_yield: bool,
}

#[wasmtime_wasi::async_trait]
impl Pollable for ClockTimer {
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
    let timer = table.push(ClockTimer { clock, due, must_yield })?;
    Ok((subscribe(table, timer)?,))
}

/// Replaces the timers that the library linked.
///
/// # Errors
/// When it linked nothing that could be replaced.
pub fn link(to: &mut Linker<HostState>, clock: &MovableClock) -> Result<()> {
    replace(to, |to| link_02(to, clock).and_then(|()| link_03(to, clock)))
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
    use std::time::Duration;

    #[tokio::test]
    async fn a_timer_of_0_2_fires_when_the_clock_is_moved_past_it() {
        let clock = MovableClock::default();
        let due = clock.mark() + 3_600_000_000_000;
        let mut timer = ClockTimer { clock: clock.clone(), due, must_yield: false };
        assert!(poll!(timer.ready()).is_pending());
        clock.move_by(Duration::from_secs(3600), None).unwrap();
        timer.ready().await;
    }

    #[test]
    fn the_replaced_timers_are_those_that_the_library_links() {
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
