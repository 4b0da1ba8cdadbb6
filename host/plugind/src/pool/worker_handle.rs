//! What is known of a worker outside of it: whether it lives, what it has in hand, and that it should go.

use crate::world::heartbeat::Heartbeat;
use futures::task::AtomicWaker;
use std::sync::{
    Arc,
    atomic::{
        AtomicBool, AtomicUsize,
        Ordering::{AcqRel, Acquire, Release, SeqCst},
    },
};
use std::task::{Wake, Waker};

/// One worker, seen from outside.
pub struct WorkerHandle {
    /// Which of its generation's workers it is.
    pub number: u32,
    /// Its sign of life.
    pub pulse: Arc<Heartbeat>,
    under_way: AtomicUsize,
    retiring: AtomicBool,
    full: AtomicBool,
    killed: AtomicBool,
    failed: AtomicBool,
    woken: AtomicBool,
    waker: AtomicWaker,
}

impl WorkerHandle {
    /// A worker that has nothing in hand.
    #[must_use]
    pub fn new(number: u32, pulse: Heartbeat) -> Arc<Self> {
        Arc::new(Self {
            number,
            pulse: Arc::new(pulse),
            under_way: AtomicUsize::new(0),
            retiring: AtomicBool::new(false),
            full: AtomicBool::new(false),
            killed: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            woken: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        })
    }

    pub(crate) fn enter(&self) {
        self.under_way.fetch_add(1, AcqRel);
    }

    pub(crate) fn leave(&self) {
        let before = self.under_way.fetch_sub(1, SeqCst);
        if self.full.load(SeqCst) || (before == 1 && self.is_retiring()) {
            self.waker.wake();
        }
    }

    /// Whether so many are under way that it takes no more; it is woken when that changes.
    pub(crate) fn is_full(&self, most: usize) -> bool {
        // First the flag, then the look, so that one that ends in between is noticed.
        self.full.store(true, SeqCst);
        let full = self.under_way.load(SeqCst) >= most;
        if !full {
            self.full.store(false, Release);
        }
        full
    }

    /// How many exchanges are under way in it.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.under_way.load(Acquire)
    }

    /// It takes no more work and goes when what is under way in it is over.
    pub fn retire(&self) {
        self.retiring.store(true, Release);
        self.waker.wake();
    }

    /// Whether it was told to go.
    #[must_use]
    pub fn is_retiring(&self) -> bool {
        self.retiring.load(Acquire)
    }

    /// It goes at once, with all that is in it.
    pub fn kill(&self) {
        self.killed.store(true, Release);
        self.waker.wake();
    }

    /// Something is wanted of it.
    pub(crate) fn wake(&self) {
        self.waker.wake();
    }

    /// Whether it was told to go at once.
    #[must_use]
    pub fn is_killed(&self) -> bool {
        self.killed.load(Acquire)
    }

    /// It has failed, and what is in it goes with it.
    pub(crate) fn fail(&self) {
        self.failed.store(true, Release);
    }

    /// Whether it has failed: what comes out of it may end where it should not.
    #[must_use]
    pub fn has_failed(&self) -> bool {
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
        self.woken.store(true, Release);
        self.waker.wake();
    }
}
