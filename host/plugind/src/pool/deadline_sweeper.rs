//! Keeps the deadlines of a pool's calls, without a timer for each.

use crate::pool::in_flight::InFlight;
use slab::Slab;
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// Looks after the deadlines of a pool's calls.
pub(crate) struct DeadlineSweeper {
    calls: Mutex<Slab<Arc<InFlight>>>,
    /// How long a guest may take until its reply begins.
    timeout: Duration,
    /// How long a worker that was made for one call may outlive it; none where workers are for many.
    grace: Option<Duration>,
    asleep: AtomicBool,
    wake: Notify,
}

impl DeadlineSweeper {
    /// Begins to sweep, until the last call and the pool are gone.
    pub(crate) fn start(timeout: Duration, grace: Option<Duration>) -> Arc<Self> {
        let sweeper = Arc::new(Self {
            calls: Mutex::default(),
            timeout,
            grace,
            asleep: AtomicBool::new(false),
            wake: Notify::new(),
        });
        // A twentieth late is soon enough, and looking four times a second is cheap.
        let interval = (timeout / 20).clamp(Duration::from_millis(5), Duration::from_millis(250));
        tokio::spawn(sweep(Arc::downgrade(&sweeper), interval));
        sweeper
    }

    /// How long a worker that was made for one call may outlive it.
    pub(crate) fn grace(&self) -> Option<Duration> {
        self.grace
    }

    /// A call that begins now.
    pub(crate) fn begin(self: &Arc<Self>) -> Arc<InFlight> {
        let deadline = Instant::now() + self.timeout;
        let mut calls = self.calls();
        let entry = calls.vacant_entry();
        let call = InFlight::new(self.clone(), entry.key(), deadline);
        entry.insert(call.clone());
        drop(calls);
        if self.asleep.load(SeqCst) && self.asleep.swap(false, SeqCst) {
            self.wake.notify_one();
        }
        call
    }

    /// Ends every worker that has a call.
    pub(crate) fn kill_all(&self) {
        for call in self.snapshot() {
            if let Some(worker) = call.worker() {
                worker.kill();
            }
        }
    }

    /// Sweeps the call with this key no more.
    pub(crate) fn remove(&self, key: usize) {
        // Out of the lock before it is dropped: dropping may wake somebody.
        let removed = self.calls().try_remove(key);
        drop(removed);
    }

    fn snapshot(&self) -> Vec<Arc<InFlight>> {
        self.calls().iter().map(|(_, call)| call.clone()).collect()
    }

    fn calls(&self) -> MutexGuard<'_, Slab<Arc<InFlight>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn sweep(sweeper: Weak<DeadlineSweeper>, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let Some(sweeper) = sweeper.upgrade() else { return };
        // First the flag, then the look, so that a call that begins in between wakes it.
        sweeper.asleep.store(true, SeqCst);
        let calls = sweeper.snapshot();
        let now = Instant::now();
        for call in &calls {
            call.attend(now);
        }
        if calls.is_empty() {
            // The next call wakes it, but no more than one in an interval has to. Not for ever: a pool that is gone has
            // nothing that wakes it.
            let wake = sweeper.wake.notified();
            tokio::time::timeout(Duration::from_secs(60), wake).await.ok();
        }
        sweeper.asleep.store(false, SeqCst);
    }
}
