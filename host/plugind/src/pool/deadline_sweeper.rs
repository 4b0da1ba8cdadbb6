//! Keeps the deadlines of a pool's calls, without a timer for each.

use crate::pool::{call_state::State, in_flight::InFlight, registry::Registry};
use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// Looks after the deadlines of a pool's calls.
pub(crate) struct DeadlineSweeper {
    /// The calls that came on each core.
    calls: Box<[Arc<Registry<InFlight>>]>,
    /// Time that a guest may take until its reply begins.
    timeout: Duration,
    /// Time that a worker made for one call may outlive it; none where workers are for many.
    grace: Option<Duration>,
    rest: Arc<Rest>,
}

/// Whether the sweeper waits for a call, and what wakes it.
#[derive(Default)]
struct Rest {
    asleep: AtomicBool,
    wake: Notify,
}

impl DeadlineSweeper {
    /// Begins to sweep, until the last call and the pool are gone.
    pub(crate) fn start(timeout: Duration, grace: Option<Duration>, cores: usize) -> Arc<Self> {
        let calls: Box<[_]> = (0..cores.max(1)).map(|_| Registry::new()).collect();
        let (weak, rest) = (calls.iter().map(Arc::downgrade).collect(), Arc::<Rest>::default());
        // A twentieth late is soon enough, and looking four times a second is cheap.
        let interval = (timeout / 20).clamp(Duration::from_millis(5), Duration::from_millis(250));
        tokio::spawn(sweep(weak, rest.clone(), interval));
        Arc::new(Self { calls, timeout, grace, rest })
    }

    /// A call that begins now on a core, and has the time of `others` in addition.
    pub(crate) fn begin(&self, core: usize, others: Duration) -> Arc<InFlight> {
        let begun = Instant::now();
        let deadline = begun + self.timeout;
        let deadline = deadline.checked_add(others).unwrap_or(deadline);
        let calls = &self.calls[core % self.calls.len()];
        let call = |key| InFlight::new(calls.clone(), key, begun, deadline, self.grace);
        let call = calls.insert(call);
        if self.rest.asleep.load(SeqCst) && self.rest.asleep.swap(false, SeqCst) {
            self.rest.wake.notify_one();
        }
        call
    }

    /// Returns the number of calls that wait for a worker, and the time that the oldest of them has waited.
    pub(crate) fn waiting(&self, now: Instant) -> (usize, Duration) {
        let calls = self.calls.iter().flat_map(|calls| calls.snapshot());
        let waiting = calls.filter(|call| call.state() == State::Queued);
        let begun: Vec<_> = waiting.map(|call| call.begun()).collect();
        let oldest = begun.iter().min();
        let waited = oldest.map(|oldest| now.saturating_duration_since(*oldest));
        (begun.len(), waited.unwrap_or_default())
    }

    /// Ends every worker that has a call.
    pub(crate) fn kill_all(&self) {
        for call in self.calls.iter().flat_map(|calls| calls.snapshot()) {
            if let Some(worker) = call.worker() {
                worker.kill();
            }
        }
    }
}

/// The calls keep their registries, so that their deadlines are kept even where the pool is gone.
async fn sweep(registries: Vec<Weak<Registry<InFlight>>>, rest: Arc<Rest>, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let registries: Vec<_> = registries.iter().filter_map(Weak::upgrade).collect();
        if registries.is_empty() {
            return;
        }
        // First the flag, then the look, so that a call that begins in between wakes it.
        rest.asleep.store(true, SeqCst);
        let calls: Vec<_> = registries.iter().flat_map(|registry| registry.snapshot()).collect();
        drop(registries);
        let now = Instant::now();
        for call in &calls {
            call.check_deadline(now);
        }
        if calls.is_empty() {
            // The next call wakes it, but no more than one in an interval has to. Not for ever: a pool that is gone has
            // nothing that wakes it.
            let wake = rest.wake.notified();
            tokio::time::timeout(Duration::from_secs(60), wake).await.ok();
        }
        rest.asleep.store(false, SeqCst);
    }
}
