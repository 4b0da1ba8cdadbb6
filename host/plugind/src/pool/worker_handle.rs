//! A worker as it is seen from outside: its heartbeat, what it has in flight, and that it should end.

use crate::world::heartbeat::Heartbeat;
use futures::task::AtomicWaker;
use std::sync::{
    Arc,
    atomic::{
        AtomicBool, AtomicUsize,
        Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
    },
};
use std::task::{Wake, Waker};

/// One worker, seen from outside.
pub(crate) struct WorkerHandle {
    /// Which of its generation's workers it is.
    pub(crate) number: u32,
    /// The core that it belongs to.
    pub(crate) core: usize,
    /// Its heartbeat.
    pub(crate) heartbeat: Arc<Heartbeat>,
    in_flight: AtomicUsize,
    retiring: AtomicBool,
    full: AtomicBool,
    killed: AtomicBool,
    failed: AtomicBool,
    woken: AtomicBool,
    /// It could take a call, by what it saw last, and whether the queue knows.
    inspection: AtomicBool,
    is_listed: AtomicBool,
    waker: AtomicWaker,
}

impl WorkerHandle {
    /// A worker that has nothing in flight.
    pub(crate) fn new(number: u32, core: usize, heartbeat: Heartbeat) -> Arc<Self> {
        Arc::new(Self {
            number,
            core,
            heartbeat: Arc::new(heartbeat),
            in_flight: AtomicUsize::new(0),
            retiring: AtomicBool::new(false),
            full: AtomicBool::new(false),
            killed: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            woken: AtomicBool::new(false),
            inspection: AtomicBool::new(false),
            is_listed: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        })
    }

    pub(crate) fn enter(&self) {
        self.in_flight.fetch_add(1, AcqRel);
    }

    pub(crate) fn leave(&self) {
        let before = self.in_flight.fetch_sub(1, SeqCst);
        if self.full.load(SeqCst) || (before == 1 && self.is_retiring()) {
            self.waker.wake();
        }
    }

    /// Whether so many are in flight that it takes no more; it is woken when that changes.
    pub(crate) fn is_full(&self, max: usize) -> bool {
        // First the flag, then the look, so that one that ends in between is noticed.
        self.full.store(true, SeqCst);
        let full = self.in_flight.load(SeqCst) >= max;
        if !full {
            self.full.store(false, Release);
        }
        full
    }

    /// How many calls are in flight in it.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Acquire)
    }

    /// It takes no more calls, and ends when the calls in flight in it have ended.
    pub(crate) fn retire(&self) {
        self.retiring.store(true, Release);
        self.waker.wake();
    }

    /// Whether it was asked to end.
    pub(crate) fn is_retiring(&self) -> bool {
        self.retiring.load(Acquire)
    }

    /// It ends at once, with all that is in it.
    pub(crate) fn kill(&self) {
        self.killed.store(true, Release);
        self.waker.wake();
    }

    /// Notes whether it could take a call.
    pub(crate) fn offer(&self, inspection: bool) {
        self.inspection.store(inspection, Relaxed);
    }

    /// Whether it could take a call, if that is not what the queue knows; the queue is then to be informed.
    pub(crate) fn take_news(&self) -> Option<bool> {
        let inspection = self.inspection.load(Relaxed);
        if inspection == self.is_listed.load(Relaxed) {
            return None;
        }
        self.is_listed.store(inspection, Relaxed);
        Some(inspection)
    }

    /// There is a call for it.
    pub(crate) fn wake_to_work(&self) {
        self.woken.store(true, Release);
        self.waker.wake();
    }

    /// Something is wanted of it.
    pub(crate) fn wake_task(&self) {
        self.waker.wake();
    }

    /// Whether it was asked to end at once.
    pub(crate) fn is_killed(&self) -> bool {
        self.killed.load(Acquire)
    }

    /// It has failed, and what is in it goes with it.
    pub(crate) fn fail(&self) {
        self.failed.store(true, Release);
    }

    /// Whether it has failed: what comes out of it may end where it should not.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Acquire)
    }

    /// Forgets that it was woken.
    pub(crate) fn clear_woken(&self) {
        self.woken.store(false, Release);
    }

    /// Whether anything woke its instance since [`WorkerHandle::clear_woken`].
    pub(crate) fn is_woken(&self) -> bool {
        self.woken.load(Acquire)
    }

    pub(crate) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }
}

/// What wakes the instance of a worker: it notes that the instance has something to do, and wakes the worker's task.
impl Wake for WorkerHandle {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_to_work();
    }
}
