//! The slots of a set, of which each worker that takes calls has one: their number is limited, and each is of a core.

use crate::pool::{worker_event::WorkerEvent, worker_handle::WorkerHandle, workers::WorkerSet};
use std::{
    cmp::Reverse,
    sync::{
        Arc,
        atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst},
    },
};

impl WorkerSet {
    /// A slot for another worker, if there may be one.
    pub(crate) fn reserve(self: &Arc<Self>) -> Option<WorkerSlot> {
        if self.starts_none() {
            return None;
        }
        let one_more = |active| (active < self.config.workers).then_some(active + 1);
        let before = self.active.try_update(SeqCst, SeqCst, one_more).ok()?;
        if self.config.on_demand && before == 0 {
            self.report(WorkerEvent::Waking);
        }
        let core = self.core_for_worker();
        self.cores[core].active.fetch_add(1, AcqRel);
        Some(WorkerSlot { set: self.clone(), core, handle: None, active: true })
    }

    /// The core that gets the next worker: one with the fewest, and of these the one that gave away most calls.
    pub(crate) fn core_for_worker(&self) -> usize {
        let cores = self.cores.len();
        // Plugins begin on different cores.
        let first = usize::try_from(self.shared.identity.generation).unwrap_or(0) % cores;
        let order = (0..cores).map(|core| (first + core) % cores);
        let load = |core: &usize| {
            let core = &self.cores[*core];
            (core.active.load(Acquire), Reverse(core.given_away.load(Relaxed)))
        };
        order.min_by_key(load).unwrap_or(0)
    }
}

/// A worker's slot in the set, which it leaves at the latest when this is dropped.
pub(crate) struct WorkerSlot {
    set: Arc<WorkerSet>,
    /// Its core.
    pub(crate) core: usize,
    /// The worker, once there is one.
    handle: Option<Arc<WorkerHandle>>,
    active: bool,
}

impl WorkerSlot {
    /// The worker is there.
    pub(crate) fn assign(&mut self, handle: &Arc<WorkerHandle>) {
        self.handle = Some(handle.clone());
    }

    /// Says whether it could take a call now. That is known to others after its turn, since it often changes within one.
    pub(crate) fn set_available(&mut self, available: bool) {
        if let Some(handle) = &self.handle {
            handle.offer(available);
        }
    }

    /// Takes no more calls; its slot is free for another worker.
    pub(crate) fn leave(&mut self) {
        let was_active = std::mem::take(&mut self.active);
        if was_active {
            self.set.cores[self.core].active.fetch_sub(1, AcqRel);
            self.set.active.fetch_sub(1, SeqCst);
        }
        if let Some(handle) = &self.handle {
            handle.offer(false);
            self.set.publish(handle);
        }
        if was_active {
            // One that was not available may have left the last slot that waiting calls could get.
            self.set.check_shortage();
        }
    }
}

impl Drop for WorkerSlot {
    fn drop(&mut self) {
        self.leave();
        self.set.check_shortage();
    }
}
