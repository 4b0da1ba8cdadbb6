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
    changing: Mutex<()>,
}

impl Resting {
    /// A pool that has had no call yet.
    pub(crate) fn new() -> Self {
        Self { calls: AtomicU64::new(0), rests: AtomicBool::new(true), changing: Mutex::new(()) }
    }

    /// Returns the number of calls so far.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(SeqCst)
    }

    /// A call begins; `report` is called if it ends the rest.
    pub(crate) fn wake(&self, report: impl FnOnce()) {
        // First the number, then the look, so that either this call or the one that begins the rest sees the other.
        self.calls.fetch_add(1, SeqCst);
        if self.rests.load(SeqCst) {
            let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
            if self.rests.swap(false, SeqCst) {
                report();
            }
        }
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
}
