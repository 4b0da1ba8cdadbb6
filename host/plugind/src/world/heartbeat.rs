//! The heartbeat of one instance, seen from outside of its store, and the watch that ends an instance without one.

use crate::runtime::engine::SLICE;
use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// Counts the turns of an instance's event loop, so that a guest that lets nothing else run is detected, and keeps the
/// time that the guest requests from its watchdog.
#[derive(Debug, Default)]
pub struct Heartbeat {
    turns: AtomicU64,
    /// It has yielded in the middle of a computation.
    has_yielded: AtomicBool,
    slices_max: u32,
    /// Its start is in progress, which has a deadline of its own.
    is_starting: AtomicBool,
    asked_until: Mutex<Option<Instant>>,
}

impl Heartbeat {
    /// A heartbeat that may stand still for so many slices of processor time.
    #[must_use]
    pub fn new(slices_max: u32) -> Self {
        Self { slices_max, ..Self::default() }
    }

    /// To be called whenever the event loop turns, the guest waits, or bytes are transferred for it.
    pub fn beat(&self) {
        self.turns.fetch_add(1, Relaxed);
    }

    /// Returns the number of turns of the event loop.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.turns.load(Relaxed)
    }

    /// It used a slice of processor time and yields, in the middle of a computation.
    pub(super) fn note_yield(&self) {
        self.has_yielded.store(true, Relaxed);
    }

    /// Whether it has yielded in the middle of a computation since the last [`Self::take_yielded`].
    #[must_use]
    pub fn has_yielded(&self) -> bool {
        self.has_yielded.load(Relaxed)
    }

    /// Whether it has yielded in the middle of a computation since this was asked last.
    #[must_use]
    pub fn take_yielded(&self) -> bool {
        self.has_yielded.load(Relaxed) && self.has_yielded.swap(false, Relaxed)
    }

    /// Notes whether its start is in progress, which may compute for as long as it may take.
    pub fn set_starting(&self, is_starting: bool) {
        self.is_starting.store(is_starting, Relaxed);
    }

    /// Notes that the guest asks for this much time from now.
    pub(super) fn ask_for(&self, time: Duration) {
        let until = Instant::now().checked_add(time);
        *self.asked_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    /// Returns the time until which the guest wants to continue, if it asked since the last call.
    #[must_use]
    pub fn asked_until(&self) -> Option<Instant> {
        self.asked_until.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The heartbeat of the instance that serves a connection or WebSocket, once one does.
#[derive(Debug, Default)]
pub(super) struct ServerHeartbeat(OnceLock<Arc<Heartbeat>>);

impl ServerHeartbeat {
    /// It is served by the instance with this heartbeat.
    pub(super) fn set(&self, heartbeat: &Arc<Heartbeat>) {
        // One instance serves it.
        self.0.set(heartbeat.clone()).ok();
    }

    /// Something was transferred.
    pub(super) fn beat(&self) {
        if let Some(heartbeat) = self.0.get() {
            heartbeat.beat();
        }
    }
}

/// Why a guest was interrupted: it used its processor time without its event loop turning.
#[derive(Debug, thiserror::Error)]
#[error(
    "it used {} of processor time without returning to its event loop, and service.watchdog-sec allows no more",
    humantime::format_duration(*.0)
)]
pub struct Hung(Duration);

/// Looks at a heartbeat whenever the guest has used a slice of processor time.
pub(super) struct Watch {
    pub(super) heartbeat: Arc<Heartbeat>,
    /// The turns of the event loop when it was looked at last, and how often they were the same since.
    seen: u64,
    stuck: u32,
}

impl Watch {
    pub(super) fn new(heartbeat: Arc<Heartbeat>) -> Self {
        Self { heartbeat, seen: 0, stuck: 0 }
    }

    /// One more slice was used.
    pub(super) fn slice(&mut self) -> Result<(), Hung> {
        self.heartbeat.note_yield();
        let turns = self.heartbeat.turns();
        if turns == self.seen && !self.heartbeat.is_starting.load(Relaxed) {
            self.stuck += 1;
        } else {
            (self.seen, self.stuck) = (turns, 0);
        }
        match self.stuck < self.heartbeat.slices_max {
            true => Ok(()),
            false => Err(Hung(SLICE * self.stuck)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_hung_after_so_many_slices_without_a_turn_of_its_event_loop() {
        let heartbeat = Arc::new(Heartbeat::new(3));
        let mut watch = Watch::new(heartbeat.clone());
        assert!(watch.slice().is_ok() && watch.slice().is_ok());
        heartbeat.beat();
        assert!((0..3).all(|_| watch.slice().is_ok()));
        let hung = watch.slice().unwrap_err().to_string();
        assert!(hung.contains("15ms of processor time") && hung.contains("watchdog-sec"), "{hung}");
    }

    #[test]
    fn a_guest_that_starts_may_compute_until_its_start_must_have_ended() {
        let heartbeat = Arc::new(Heartbeat::new(3));
        heartbeat.set_starting(true);
        let mut watch = Watch::new(heartbeat.clone());
        assert!((0..100).all(|_| watch.slice().is_ok()));
        heartbeat.set_starting(false);
        assert!((0..2).all(|_| watch.slice().is_ok()));
        assert!(watch.slice().is_err());
    }
}
