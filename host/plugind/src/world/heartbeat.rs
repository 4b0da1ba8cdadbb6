//! The sign of life of one instance, seen from outside of its store.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// Counts the turns of an instance's event loop, so that a guest that lets nothing else run is found out, and keeps
/// what it asks of whoever watches it.
#[derive(Debug, Default)]
pub struct Heartbeat {
    turns: AtomicU64,
    slices_max: u32,
    asked_until: Mutex<Option<Instant>>,
}

impl Heartbeat {
    /// A pulse that may stand still for so many slices of processor time.
    #[must_use]
    pub fn new(slices_max: u32) -> Self {
        Self { slices_max, ..Self::default() }
    }

    /// To be called whenever the event loop turns.
    pub fn beat(&self) {
        self.turns.fetch_add(1, Relaxed);
    }

    /// How often the event loop turned.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.turns.load(Relaxed)
    }

    pub(super) fn slices_max(&self) -> u32 {
        self.slices_max
    }

    /// The guest wants more time for what it is at: so much from now.
    pub(super) fn ask_for(&self, time: Duration) {
        let until = Instant::now().checked_add(time);
        *self.asked_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    /// Until when the guest wants time, if it asked since it was looked at last.
    #[must_use]
    pub fn asked_until(&self) -> Option<Instant> {
        self.asked_until.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
