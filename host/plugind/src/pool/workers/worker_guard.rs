//! The presence of a worker in its set: each is counted from when it is made up to its very end.

use crate::pool::{
    room::Permit,
    worker_event::WorkerEvent,
    worker_handle::WorkerHandle,
    workers::{WorkerSet, core_set::CoreSet},
};
use std::sync::{Arc, atomic::Ordering::SeqCst};

impl WorkerSet {
    /// Counts a worker that is made now, and can be reached from outside.
    pub(crate) fn enter(self: &Arc<Self>, handle: &Arc<WorkerHandle>) -> WorkerGuard {
        let set = CoreSet::new(self.clone());
        let mut guard = Self::enter_for_call(&set, handle.core, None);
        self.handles().push(handle.clone());
        guard.handle = Some(handle.clone());
        guard
    }

    /// Counts a worker that is made now for a call that came on a core, and has this room.
    pub(crate) fn enter_for_call(
        set: &CoreSet,
        core: usize,
        permit: Option<Permit>,
    ) -> WorkerGuard {
        let core = core % set.cores.len();
        set.cores[core].present.fetch_add(1, SeqCst);
        WorkerGuard { set: set.clone(), core, handle: None, permit }
    }
}

/// A worker's presence in the set, up to its very end.
pub(crate) struct WorkerGuard {
    pub(crate) set: CoreSet,
    core: usize,
    handle: Option<Arc<WorkerHandle>>,
    permit: Option<Permit>,
}

impl Drop for WorkerGuard {
    fn drop(&mut self) {
        if let Some(handle) = &self.handle {
            self.set.handles().retain(|other| !Arc::ptr_eq(other, handle));
        }
        if let Some(permit) = self.permit.take() {
            self.set.room.leave(permit);
        }
        self.set.cores[self.core].present.fetch_sub(1, SeqCst);
        if self.set.draining().is_some() && self.set.is_empty() {
            self.set.report(WorkerEvent::Gone);
        }
    }
}
