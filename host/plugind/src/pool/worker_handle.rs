//! A worker as it is seen from outside: its heartbeat, what it has in flight, and that it should end.

use crate::{
    base::{
        atomic::{
            AtomicBool, AtomicU8, AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
        },
        figures::CoreFigures,
        request_identity::RequestIdentity,
    },
    pool::request_failures::RequestFailures,
    world::{heartbeat::Heartbeat, passing::PassedCounts},
};
use futures::task::AtomicWaker;
use std::{
    sync::{Arc, OnceLock},
    task::{Wake, Waker},
};

/// The instance has something to do.
const WOKEN: u8 = 1;
/// The instance is being polled. What wakes it meanwhile need not wake the task, which looks at [`WOKEN`] after the poll.
const POLLED: u8 = 2;

/// One worker, seen from outside.
pub(crate) struct WorkerHandle {
    /// Which of its generation's workers it is.
    pub(crate) number: u32,
    /// The core that it belongs to.
    pub(crate) core: usize,
    /// Its heartbeat.
    pub(crate) heartbeat: Arc<Heartbeat>,
    /// The failed requests of its generation.
    pub(crate) failures: Arc<RequestFailures>,
    /// The figures of its plugin, as its core counts them.
    pub(crate) figures: Arc<CoreFigures>,
    in_flight: AtomicUsize,
    /// Calls on which its guest still works, whose callers have been gone for long.
    lingering: AtomicUsize,
    /// A caller left before it had its whole reply, and the guest may have a task for it.
    has_abandoned_calls: AtomicBool,
    /// The requests that its guest has passed on.
    pub(crate) passed: Arc<PassedCounts>,
    /// Grows when a call begins or ends in it.
    activity: AtomicUsize,
    /// It is to end if it has no work.
    idle: AtomicBool,
    retiring: AtomicBool,
    /// The request that took too long, if one did.
    late: OnceLock<RequestIdentity>,
    full: AtomicBool,
    killed: AtomicBool,
    failed: AtomicBool,
    /// [`WOKEN`] and [`POLLED`].
    turn: AtomicU8,
    /// The part that serves has to look at its calls, their queue, and its other work.
    serving_is_due: AtomicBool,
    /// The part that serves has looked at them in the last poll. Only its own task notes and reads that.
    serving_was_reached: AtomicBool,
    /// It could take a call, by what it saw last, and whether the queue knows.
    is_available: AtomicBool,
    /// It could take a call if the replies on their way had reached their callers.
    delivers: AtomicBool,
    /// Its guest yielded in the middle of a computation, and continues with the next turn.
    resumes: AtomicBool,
    is_listed: AtomicBool,
    waker: AtomicWaker,
}

impl WorkerHandle {
    /// A worker that has nothing in flight.
    pub(crate) fn new(
        number: u32,
        core: usize,
        heartbeat: Heartbeat,
        failures: Arc<RequestFailures>,
        figures: Arc<CoreFigures>,
    ) -> Arc<Self> {
        Arc::new(Self {
            number,
            core,
            heartbeat: Arc::new(heartbeat),
            failures,
            figures,
            in_flight: AtomicUsize::new(0),
            lingering: AtomicUsize::new(0),
            has_abandoned_calls: AtomicBool::new(false),
            passed: Arc::default(),
            activity: AtomicUsize::new(0),
            idle: AtomicBool::new(false),
            retiring: AtomicBool::new(false),
            late: OnceLock::new(),
            full: AtomicBool::new(false),
            killed: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            turn: AtomicU8::new(0),
            serving_is_due: AtomicBool::new(false),
            serving_was_reached: AtomicBool::new(false),
            is_available: AtomicBool::new(false),
            delivers: AtomicBool::new(false),
            resumes: AtomicBool::new(false),
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
        // Set the flag first, then check: a call that ends in between sees the flag.
        self.full.store(true, SeqCst);
        let full = self.in_flight.load(SeqCst) >= max;
        if !full {
            self.full.store(false, Release);
        }
        full
    }

    pub(crate) fn add_lingering(&self) {
        self.lingering.fetch_add(1, AcqRel);
        self.waker.wake();
    }

    pub(crate) fn remove_lingering(&self) {
        self.lingering.fetch_sub(1, AcqRel);
    }

    /// Returns the number of calls on which its guest still works, whose callers have been gone for long.
    pub(crate) fn lingering(&self) -> usize {
        self.lingering.load(Acquire)
    }

    /// A caller left before it had its whole reply.
    pub(crate) fn note_abandoned_call(&self) {
        self.has_abandoned_calls.store(true, Release);
    }

    /// Whether its guest may have tasks for callers that are gone.
    pub(crate) fn has_abandoned_calls(&self) -> bool {
        self.has_abandoned_calls.load(Acquire)
    }

    /// Its guest has no task for a caller that is gone.
    pub(crate) fn forget_abandoned_calls(&self) {
        self.has_abandoned_calls.store(false, Release);
    }

    /// Returns the number of calls in flight in it.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(SeqCst)
    }

    /// A call begins or ends in it. Only its own task notes that.
    pub(crate) fn note_activity(&self) {
        self.activity.store(self.activity.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// A counter that changes whenever a call begins or ends.
    pub(crate) fn activity(&self) -> usize {
        self.activity.load(Relaxed)
    }

    /// Asks it to end if it has no work.
    pub(crate) fn ask_to_end_idle(&self) {
        self.idle.store(true, Release);
        self.waker.wake();
    }

    /// Whether it was asked to end if it has no work.
    pub(crate) fn is_asked_to_end_idle(&self) -> bool {
        self.idle.load(Acquire)
    }

    /// It has work, and so continues.
    pub(crate) fn continue_busy(&self) {
        self.note_activity();
        self.idle.store(false, Release);
    }

    /// The request that took too long, if one did.
    pub(crate) fn late(&self) -> Option<RequestIdentity> {
        self.late.get().copied()
    }

    /// It takes no more calls, and ends when the calls in flight in it have ended.
    pub(crate) fn retire(&self, late: Option<RequestIdentity>) {
        if let Some(late) = late {
            // The first one is the reason.
            self.late.set(late).ok();
        }
        // In one order with `leave`, so that one of the two sees the other on every processor.
        self.retiring.store(true, SeqCst);
        self.waker.wake();
    }

    /// Whether it was asked to end.
    pub(crate) fn is_retiring(&self) -> bool {
        self.retiring.load(SeqCst)
    }

    /// It ends at once, with all that is in it.
    pub(crate) fn kill(&self) {
        self.killed.store(true, Release);
        self.waker.wake();
    }

    /// Notes whether it could take a call.
    pub(crate) fn offer(&self, is_available: bool) {
        self.is_available.store(is_available, Relaxed);
    }

    /// Whether it could take a call, by what it noted last.
    pub(crate) fn is_offered(&self) -> bool {
        self.is_available.load(Relaxed)
    }

    /// Its guest yielded in the middle of a computation.
    pub(crate) fn note_yield(&self) {
        self.resumes.store(true, Relaxed);
    }

    /// Whether its guest continues a computation with the next turn, once for each time that it yielded.
    pub(crate) fn take_resumes(&self) -> bool {
        self.resumes.load(Relaxed) && self.resumes.swap(false, Relaxed)
    }

    /// Notes whether it could take a call, but for replies on their way to their callers.
    pub(crate) fn note_delivering(&self, delivers: bool) {
        self.delivers.store(delivers, Relaxed);
    }

    /// Whether [`Self::note_delivering`] was last called with true, and not before the last call of this function. A
    /// reply stays on its way only if its client is slow.
    pub(crate) fn take_delivering(&self) -> bool {
        self.delivers.load(Relaxed) && self.delivers.swap(false, Relaxed)
    }

    /// Returns whether it could take a call, if the queue does not know yet and must be informed.
    pub(crate) fn take_news(&self) -> Option<bool> {
        let is_available = self.is_available.load(Relaxed);
        if is_available == self.is_listed.load(Relaxed) {
            return None;
        }
        self.is_listed.store(is_available, Relaxed);
        Some(is_available)
    }

    /// There is a call for it.
    pub(crate) fn wake_to_work(&self) {
        if self.turn.fetch_or(WOKEN, AcqRel) & POLLED == 0 {
            self.waker.wake();
        }
    }

    /// There is something for the part that serves.
    fn wake_to_serve(&self) {
        self.serving_is_due.store(true, Release);
        self.wake_to_work();
    }

    /// Whether the part that serves has to look at its work: once in each poll of the instance, and when something woke it.
    pub(crate) fn take_serving_due(&self) -> bool {
        let is_due = self.serving_is_due.load(Relaxed) && self.serving_is_due.swap(false, AcqRel);
        if is_due {
            self.serving_was_reached.store(true, Relaxed);
        }
        is_due
    }

    /// Whether the last poll of the instance reached the part that serves. A guest that computes, or waits in a call that
    /// blocks its whole instance, keeps it from that.
    pub(crate) fn was_serving_reached(&self) -> bool {
        self.serving_was_reached.load(Relaxed)
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

    /// Whether it has failed: its output may be cut off.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Acquire)
    }

    /// A poll of its instance begins, and is to find everything that woke the instance before.
    pub(crate) fn begin_poll(&self) {
        self.turn.swap(POLLED, AcqRel);
        self.serving_is_due.store(true, Relaxed);
        self.serving_was_reached.store(false, Relaxed);
    }

    /// The poll has ended. True if something woke the instance meanwhile: then it must be polled again, or its task woken.
    pub(crate) fn end_poll(&self) -> bool {
        self.turn.fetch_and(!POLLED, AcqRel) & WOKEN != 0
    }

    /// Whether anything woke its instance since [`WorkerHandle::begin_poll`].
    pub(crate) fn is_woken(&self) -> bool {
        self.turn.load(Acquire) & WOKEN != 0
    }

    pub(crate) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }
}

/// Wakes the instance of a worker: notes that the instance has something to do, and wakes the worker's task.
impl Wake for WorkerHandle {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_to_work();
    }
}

/// Wakes the part of a worker that serves.
pub(crate) struct ServingWaker(pub(crate) Arc<WorkerHandle>);

impl Wake for ServingWaker {
    fn wake(self: Arc<Self>) {
        self.0.wake_to_serve();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.wake_to_serve();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::task::{ArcWake, waker};

    /// A task that counts how often it is woken.
    #[derive(Default)]
    struct CountsWakes(AtomicUsize);

    impl ArcWake for CountsWakes {
        fn wake_by_ref(task: &Arc<Self>) {
            task.0.fetch_add(1, SeqCst);
        }
    }

    fn worker() -> Arc<WorkerHandle> {
        let failures = RequestFailures::new("test".parse().unwrap(), 1);
        WorkerHandle::new(0, 0, Heartbeat::new(1), failures, Arc::default())
    }

    #[test]
    fn what_wakes_an_instance_in_a_poll_wakes_no_task_and_is_found_after_the_poll() {
        let (worker, task) = (worker(), Arc::new(CountsWakes::default()));
        let instance = Waker::from(worker.clone());
        let woken = || task.0.load(SeqCst);
        worker.register(&waker(task.clone()));
        worker.begin_poll();
        instance.wake_by_ref();
        assert!(worker.end_poll() && worker.is_woken());
        assert_eq!(woken(), 0);
        instance.wake_by_ref();
        assert_eq!(woken(), 1);
        worker.begin_poll();
        assert!(!worker.end_poll() && !worker.is_woken());
    }

    #[test]
    fn the_part_that_serves_looks_once_in_a_poll_and_when_it_is_woken() {
        let worker = worker();
        let serving = Waker::from(Arc::new(ServingWaker(worker.clone())));
        worker.begin_poll();
        assert!(worker.take_serving_due() && !worker.take_serving_due());
        Waker::from(worker.clone()).wake_by_ref();
        assert!(!worker.take_serving_due(), "that concerns the guest");
        serving.wake_by_ref();
        assert!(worker.take_serving_due() && worker.end_poll());
    }
}
