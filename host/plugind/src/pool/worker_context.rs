//! What the parts of one worker share: the part inside its instance's event loop, and the one that keeps deadlines.

use crate::pool::{deadline::Deadline, worker_handle::WorkerHandle, workers::WorkerSet};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32},
};

/// One worker, as its inside and its outside share it.
pub(super) struct WorkerContext<'a> {
    pub(super) set: &'a Arc<WorkerSet>,
    pub(super) handle: &'a Arc<WorkerHandle>,
    pub(super) deadline: Deadline,
    /// The deadline of a transfer of the state; it answers for its health meanwhile.
    pub(super) transfer_deadline: Deadline,
    /// It has been ready.
    pub(super) ready: AtomicBool,
    /// The deadline of its stop has begun, since its generation drains.
    pub(super) stop_timed: AtomicBool,
    /// How many calls the inside took since its event loop was last at rest.
    pub(super) since_rest: AtomicU32,
}

impl<'a> WorkerContext<'a> {
    pub(super) fn new(set: &'a Arc<WorkerSet>, handle: &'a Arc<WorkerHandle>) -> Self {
        let (ready, stop_timed, since_rest) = Default::default();
        let (deadline, transfer_deadline) = Default::default();
        Self { set, handle, deadline, transfer_deadline, ready, stop_timed, since_rest }
    }
}
