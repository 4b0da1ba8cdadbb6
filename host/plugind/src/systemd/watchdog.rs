//! The watchdog of systemd: WATCHDOG=1, and the threads that must be alive for it to be sent.

use crate::{
    base::figures::Figures,
    systemd::notify::{Notice, Notifier},
};
use std::time::Duration;
use tokio::runtime::{Handle, RuntimeMetrics};

/// A watchdog that only the loop it guards resets.
pub struct Watchdog {
    notifier: Notifier,
    every: Duration,
    runtimes: Vec<Executor>,
    figures: Figures,
}

impl Watchdog {
    /// A watchdog that must be notified twice within `wait_max`. It guards these runtimes, and the one that calls it.
    #[must_use]
    pub fn new<'a>(
        notifier: Notifier,
        wait_max: Duration,
        runtimes: impl Iterator<Item = &'a Handle>,
        figures: Figures,
    ) -> Self {
        figures.watched(wait_max);
        let metrics = runtimes.map(Handle::metrics).chain([Handle::current().metrics()]);
        let runtimes = metrics.map(Executor::new).collect();
        Self { notifier, every: wait_max / 2, runtimes, figures }
    }

    /// The interval at which it must be reset.
    #[must_use]
    pub fn every(&self) -> Duration {
        self.every
    }

    /// Says that the daemon lives, provided that every thread of the runtimes does.
    pub fn notify(&mut self) {
        // Each is looked at, so that the next look compares with this one.
        let answered = self.runtimes.iter_mut().map(Executor::answered);
        if answered.fold(true, |all, answered| all & answered) {
            self.notifier.notify_now(Notice::Watchdog);
            self.figures.notified();
        }
    }
}

/// The threads that run tasks.
struct Executor {
    metrics: RuntimeMetrics,
    /// The progress of each thread at the last check.
    last: Vec<Option<LoopProgress>>,
}

/// The progress of a thread. It grows with every turn of the thread's loop, but not while the thread sleeps.
#[derive(Clone, Copy, PartialEq, Eq)]
struct LoopProgress {
    busy: Duration,
    parked: u64,
}

impl Executor {
    fn new(metrics: RuntimeMetrics) -> Self {
        let last = vec![None; metrics.num_workers()];
        Self { metrics, last }
    }

    /// Whether each thread has made progress since the last check, or waits for work. One that is held up in a
    /// task has done neither.
    fn answered(&mut self) -> bool {
        let mut all = true;
        for (thread, last) in self.last.iter_mut().enumerate() {
            let now = LoopProgress {
                busy: self.metrics.worker_total_busy_duration(thread),
                parked: self.metrics.worker_park_unpark_count(thread),
            };
            // An odd count is that of a thread which sleeps.
            let sleeps = now.parked % 2 == 1;
            all &= last.replace(now) != Some(now) || sleeps;
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Barrier};

    #[test]
    fn one_blocked_thread_is_noticed_although_the_others_make_progress() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let mut executor = Executor::new(runtime.metrics());
        assert!(executor.answered(), "nobody has anything to do");

        let (begun, over) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
        let (began, ends) = (begun.clone(), over.clone());
        runtime.spawn(async move {
            began.wait();
            ends.wait();
        });
        begun.wait();
        // Its progress before it was held up counts once.
        executor.answered();
        assert!(!executor.answered());
        let other_thread = runtime.spawn(tokio::task::yield_now());
        runtime.block_on(other_thread).unwrap();
        assert!(!executor.answered());

        over.wait();
        while !executor.answered() {
            std::thread::yield_now();
        }
        assert!(executor.answered());
    }
}
