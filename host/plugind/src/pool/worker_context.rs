//! The data that the parts of one worker share: the part inside its instance's event loop, and the deadlines' part.

use crate::pool::{
    deadline::{Deadline, GuestCall},
    shares::InstancePlace,
    worker_event::{InstanceStage, WorkerEvent},
    worker_handle::WorkerHandle,
    workers::WorkerSet,
};
use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::Instant,
};

/// One worker, as its inside and its outside share it.
pub(super) struct WorkerContext<'a> {
    pub(super) set: &'a Arc<WorkerSet>,
    pub(super) handle: &'a Arc<WorkerHandle>,
    pub(super) deadline: Deadline,
    /// The deadline of a transfer of the state. Health checks, which continue meanwhile, have the other.
    pub(super) transfer_deadline: Deadline,
    /// When it was ready.
    pub(super) ready: OnceLock<Instant>,
    /// It has taken a call.
    pub(super) served: AtomicBool,
    /// Its start restores the state that was saved last.
    pub(super) restoring: AtomicBool,
    /// The program's `run` was called.
    pub(super) running: AtomicBool,
    /// The deadline of its stop has begun, since its generation drains.
    pub(super) stop_timed: AtomicBool,
    /// Its place in the instance pool, which it has until its store is gone.
    pub(super) place: OnceLock<InstancePlace>,
    /// Number of calls that the inside took since its event loop was last at rest.
    pub(super) since_rest: AtomicU32,
    /// Its guest used up a slice of processor time, and its event loop has not been at rest since.
    pub(super) computes: AtomicBool,
}

impl<'a> WorkerContext<'a> {
    pub(super) fn new(set: &'a Arc<WorkerSet>, handle: &'a Arc<WorkerHandle>) -> Self {
        Self {
            set,
            handle,
            deadline: Deadline::of(handle.heartbeat.clone()),
            transfer_deadline: Deadline::default(),
            ready: OnceLock::new(),
            served: AtomicBool::new(false),
            restoring: AtomicBool::new(false),
            running: AtomicBool::new(false),
            stop_timed: AtomicBool::new(false),
            place: OnceLock::new(),
            since_rest: AtomicU32::new(0),
            computes: AtomicBool::new(false),
        }
    }

    /// Whether it has been ready.
    pub(super) fn is_ready(&self) -> bool {
        self.ready.get().is_some()
    }

    /// Marks it ready, and reports that the first time.
    pub(super) fn report_ready(&self) {
        self.deadline.end(GuestCall::Start);
        if self.ready.set(Instant::now()).is_ok() {
            self.set.report(WorkerEvent::Ready { worker: self.handle.number });
            self.set.fill();
        }
    }

    /// Returns the stage that the instance has reached.
    pub(super) fn stage(&self) -> InstanceStage {
        match self.ready.get() {
            None if self.restoring.load(Relaxed) => InstanceStage::Restoring,
            None => InstanceStage::Starting,
            Some(since) => {
                InstanceStage::Ready { uptime: since.elapsed(), served: self.served.load(Relaxed) }
            }
        }
    }
}
