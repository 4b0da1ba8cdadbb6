//! Whether a pool whose workers are made for one call each has had no call for long.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
};

/// The calls of such a pool, and whether it rests. Both changes are reported in the order in which they happen.
#[derive(Debug)]
pub(crate) struct Resting {
    calls: AtomicU64,
    rests: AtomicBool,
    /// A call has ended the rest, and no instance has started since.
    wakes: AtomicBool,
    changing: Mutex<()>,
}

impl Resting {
    /// A pool that has had no call yet.
    pub(crate) fn new() -> Self {
        Self {
            calls: AtomicU64::new(0),
            rests: AtomicBool::new(true),
            wakes: AtomicBool::new(false),
            changing: Mutex::new(()),
        }
    }

    /// Returns the number of calls so far.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(SeqCst)
    }

    /// A call begins; `report` is called if it ends the rest.
    pub(crate) fn wake(&self, report: impl FnOnce()) {
        // Count first, then check: either this call sees the rest, or the task that begins the rest sees the call.
        self.calls.fetch_add(1, SeqCst);
        if self.rests.load(SeqCst) {
            let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
            if self.rests.swap(false, SeqCst) {
                report();
                self.wakes.store(true, SeqCst);
            }
        }
    }

    /// The instance of a call has started; `report` is called if it is the first one since the rest.
    pub(crate) fn started(&self, report: impl FnOnce()) {
        if self.wakes.load(SeqCst) && self.wakes.swap(false, SeqCst) {
            report();
        }
    }

    /// It does not rest from now on, as after a call: an instance is made although there is none.
    pub(crate) fn end(&self) {
        self.calls.fetch_add(1, SeqCst);
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.rests.store(false, SeqCst);
    }

    /// It rests from now on, if there were no more than so many calls; `report` is called if it did not rest before.
    pub(crate) fn rest(&self, calls: u64, report: impl FnOnce()) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.rests.swap(true, SeqCst) {
            return;
        }
        match self.calls() == calls {
            true => report(),
            false => self.rests.store(false, SeqCst),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn a_rest_begins_after_the_last_call_and_ends_with_the_next_one() {
        let (resting, reports) = (Resting::new(), Cell::new(0));
        let report = || reports.set(reports.get() + 1);
        resting.wake(report);
        assert_eq!(reports.get(), 1, "it rested until its first call");
        resting.wake(report);
        resting.rest(1, report);
        assert_eq!(reports.get(), 1, "there was a call meanwhile");
        resting.wake(report);
        assert_eq!(reports.get(), 1, "it does not rest");
        resting.rest(3, report);
        resting.rest(3, report);
        assert_eq!(reports.get(), 2);
        resting.wake(report);
        assert_eq!((reports.get(), resting.calls()), (3, 4));
    }

    #[test]
    fn the_first_instance_that_starts_after_a_rest_is_reported_and_no_other() {
        let (resting, reports) = (Resting::new(), Cell::new(0));
        let report = || reports.set(reports.get() + 1);
        resting.wake(|| ());
        assert_eq!(reports.get(), 0, "its instance may fail to start");
        resting.wake(|| ());
        resting.started(report);
        resting.started(report);
        assert_eq!(reports.get(), 1);
        resting.rest(2, || ());
        resting.wake(|| ());
        resting.started(report);
        assert_eq!(reports.get(), 2);
    }

    #[test]
    fn an_instance_without_a_call_ends_the_rest_until_there_was_no_call_for_long() {
        let (resting, reports) = (Resting::new(), Cell::new(0));
        let report = || reports.set(reports.get() + 1);
        resting.end();
        resting.rest(0, report);
        assert_eq!(reports.get(), 0, "it was made meanwhile");
        resting.wake(report);
        resting.started(report);
        assert_eq!(reports.get(), 0, "its own event reports it");
        resting.rest(2, report);
        assert_eq!(reports.get(), 1);
    }
}
