//! The instances of one generation of a plugin, as the other layers see them: calls go in, replies come out.

mod serve_call;

use crate::{
    base::{figures::PluginFigures, name::PluginName},
    pool::{
        commons::Commons,
        config::PoolConfig,
        deadline::EXTENSION_MAX,
        deadline_sweeper::DeadlineSweeper,
        gauges::PoolGauges,
        idle::{EndingInstances, PoolActivity, stop_idle_workers},
        request_failures::FailureCounts,
        scaling::PoolStats,
        worker,
        worker_event::WorkerEvent,
        workers::{WorkerSet, core_set::CoreSet},
    },
    world::{
        self, HostServices, bindings::exports::plugind::plugin::lifecycle::StopReason, link::Linked,
    },
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

/// Interval at which a pool that is to stop checks whether its queue is empty.
const QUEUE_LOOK: Duration = Duration::from_millis(20);

/// The instances of one generation of a plugin.
pub struct Pool {
    set: Arc<WorkerSet>,
    /// The same, as each core has it.
    core_sets: Box<[CoreSet]>,
    /// Room for connections.
    connections: Arc<Semaphore>,
    /// Cancelled when it begins to drain.
    draining: CancellationToken,
    /// The sources of its calls that must end before it drains.
    sources: TaskTracker,
}

/// A source of calls to a pool. The pool of a plugin that is stopped or removed drains after all its sources have
/// ended.
pub struct PoolSource {
    pool: Arc<Pool>,
    _source: TaskTrackerToken,
}

impl PoolSource {
    /// The pool.
    #[must_use]
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }
}

impl Pool {
    /// A pool without any instance yet; `report` is called with the events of each of its workers.
    #[must_use]
    pub fn new(
        linked: Arc<Linked>,
        generation: u64,
        commons: &Commons,
        report: impl Fn(WorkerEvent) + Send + Sync + 'static,
    ) -> Arc<Self> {
        let executors = commons.executors.clone();
        let config = PoolConfig::of(&linked, executors.cores());
        let granted = linked.granted.clone();
        let release = linked.release.clone();
        let services = HostServices {
            journal: commons.journal.clone(),
            memory: commons.memory.clone(),
            figures: commons.figures.of(&release.name),
            dispatch: commons.dispatch.clone(),
            core_dumps: commons.core_dumps.clone(),
            clock: commons.clock.clone(),
            file_threads: commons.file_threads(&release.name, &release.manifest.grants),
        };
        let shared =
            world::Shared::new(&release.name, generation, &release.manifest, granted, services);
        // While one is replaced, there is one more.
        let max = config.workers.saturating_add(usize::from(!config.worker_per_call));
        let share = commons.places.share(&release.inspection.footprint, max);
        share.warn_if_less(&release.name, release.manifest.instances.max);
        let grace = config.worker_per_call.then_some(config.timeout_stop);
        let timeout = linked.release.manifest.limits.request_timeout;
        let sweeper = DeadlineSweeper::start(timeout, grace, executors.cores());
        let max = linked.release.manifest.limits.connections_max;
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let connections = Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS)));
        let set = WorkerSet::new(
            linked,
            Arc::new(shared),
            share,
            config,
            executors,
            sweeper,
            Box::new(report),
        );
        tokio::spawn(start_where_short(set.clone()));
        if set.config.shrinks() {
            tokio::spawn(stop_idle_workers(Arc::downgrade(&set), set.config.idle_timeout));
        }
        let core_sets = (0..set.executors.cores()).map(|_| CoreSet::new(set.clone())).collect();
        let (draining, sources) = (CancellationToken::new(), TaskTracker::new());
        Arc::new(Self { set, core_sets, connections, draining, sources })
    }

    /// The same pool for a source of calls.
    #[must_use]
    pub fn source(self: &Arc<Self>) -> PoolSource {
        PoolSource { pool: self.clone(), _source: self.sources.token() }
    }

    /// The plugin's name.
    #[must_use]
    pub fn name(&self) -> &PluginName {
        &self.set.linked.release.name
    }

    /// The source from which its instances are made.
    #[must_use]
    pub fn linked(&self) -> &Arc<Linked> {
        &self.set.linked
    }

    /// Returns the data that its instances share.
    #[must_use]
    pub fn shared(&self) -> &world::Shared {
        &self.set.shared
    }

    /// Starts a worker, if there may be one more. Its events report the outcome.
    pub fn start_worker(&self) {
        self.set.pause(false);
        if self.set.config.worker_per_call {
            self.set.resting.end();
            worker::spawn_probe(&self.set, |worker| WorkerEvent::Ready { worker });
        } else if let Some(slot) = self.set.reserve() {
            worker::spawn(&self.set, slot);
        }
    }

    /// Makes one instance and drops it, for a plugin that starts on demand. Its event reports the outcome. Calls start no
    /// worker until [`Pool::release`].
    pub fn try_instance(&self) {
        self.set.pause(true);
        worker::spawn_probe(&self.set, |_| WorkerEvent::Idle { state: None });
    }

    /// Keeps further workers from being started, until [`Pool::release`] or the next [`Pool::start_worker`].
    pub fn hold(&self) {
        self.set.pause(true);
    }

    /// Lets further workers be started when they are needed.
    pub fn release(&self) {
        self.set.pause(false);
        self.set.check_shortage();
    }

    /// Whether the state of its one instance is handed over to the next generation.
    #[must_use]
    pub fn hands_over(&self) -> bool {
        self.set.config.hands_over
    }

    /// Holds work, finishes current calls, and calls `save` of the instance; [`WorkerEvent::Saved`] reports the
    /// result, with the number that is returned. Work is held until [`Pool::resume`] or [`Pool::shut_down`].
    ///
    /// Meant for a pool that [hands over](Pool::hands_over). The number is one of this pool alone.
    pub fn save(&self) -> u64 {
        let save = self.set.transfer.save();
        self.set.wake();
        self.set.answer_save();
        save
    }

    /// Whether the save that was ordered last has begun: nothing else is in progress then.
    #[must_use]
    pub fn has_begun_to_save(&self) -> bool {
        !self.set.transfer.is_pending()
    }

    /// Takes work again, waiting calls first. A `save` that was started continues, and its result is not reported.
    pub fn resume(&self) {
        self.set.transfer.resume();
        self.set.wake();
        self.set.check_shortage();
    }

    /// Has the instance take over `state`, when it is ready and has no work; [`WorkerEvent::Restored`] reports the result.
    ///
    /// An instance that replaces this one starts with the [initial state](Pool::set_initial_state), and nothing else.
    pub fn restore(&self, state: Arc<[u8]>) {
        self.set.transfer.restore(state);
        self.set.wake();
    }

    /// Sets the state that new instances take over before they are ready. An instance that cannot has not started.
    pub fn set_initial_state(&self, state: Option<Arc<[u8]>>) {
        self.set.transfer.set_initial_state(state);
    }

    /// Returns the number of workers that take work, or will.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.set.stats().active
    }

    /// Takes no more requests, finishes those it has, stops its instances. [`WorkerEvent::Gone`] says when all are gone.
    pub fn shut_down(&self, reason: StopReason) {
        let (set, draining) = (self.set.clone(), self.draining.clone());
        // Otherwise there is a next generation, which takes the calls of the sources.
        let is_last = matches!(reason, StopReason::Stop | StopReason::Removed);
        let has_sources = is_last && !self.sources.is_empty();
        if !has_sources && (reason != StopReason::Stop || !set.serves_queue()) {
            set.drain(reason);
            set.room.close();
            draining.cancel();
            return;
        }
        let sources = self.sources.clone();
        sources.close();
        // No next generation takes the calls that wait.
        tokio::spawn(async move {
            let emptied = async {
                if has_sources {
                    sources.wait().await;
                }
                while set.serves_queue() {
                    sleep(QUEUE_LOOK).await;
                }
            };
            timeout(set.config.timeout_stop, emptied).await.ok();
            set.drain(reason);
            set.room.close();
            draining.cancel();
        });
    }

    /// The time in which all workers should have ended, once it is shut down.
    #[must_use]
    pub fn wait_max(&self) -> Duration {
        let config = &self.set.config;
        match config.worker_per_call {
            true => config.timeout_stop,
            // These keep the time themselves, and may ask for more of it.
            false => config.timeout_stop + EXTENSION_MAX,
        }
    }

    /// Ends every instance, with all that is under way in it.
    pub fn kill(&self) {
        self.set.kill_all();
    }

    /// Its figures.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        self.set.stats()
    }

    /// Is cancelled when it begins to drain: connections and WebSockets in it must end within its time to stop.
    #[must_use]
    pub fn draining(&self) -> &CancellationToken {
        &self.draining
    }

    /// The place of a connection, for as long as it lasts; none, if there are as many as may be.
    #[must_use]
    pub fn connection_place(&self) -> Option<OwnedSemaphorePermit> {
        self.connections.clone().try_acquire_owned().ok()
    }

    /// The most calls that its instances take at a time.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.set.config.workers.saturating_mul(self.set.config.concurrency)
    }

    /// The activity of its instances at this moment.
    #[must_use]
    pub fn activity(&self) -> PoolActivity {
        PoolActivity::of(&self.set)
    }

    /// Asks instances to end that have had no work since `before`, however long that is, and are not needed.
    #[must_use]
    pub fn end_idle(&self, before: &PoolActivity) -> EndingInstances {
        EndingInstances::ask(&self.set, before)
    }

    /// Reports that a reason outside of its instances for which it is degraded has appeared, changed or gone.
    pub fn report_degraded(&self) {
        self.set.report(WorkerEvent::Degraded);
    }

    /// Returns the number of calls that wait for an instance, and the time that the oldest of them has waited.
    #[must_use]
    pub fn waiting(&self) -> (usize, Duration) {
        self.set.sweeper.waiting(Instant::now())
    }

    /// Returns the numbers of requests that failed in about the last minute.
    #[must_use]
    pub fn failures(&self) -> FailureCounts {
        self.set.failures.last_minute()
    }

    /// Returns the number of requests that the guest has failed so far.
    #[must_use]
    pub fn failed_requests(&self) -> u64 {
        self.set.failures.failed()
    }

    /// Returns the figures of its plugin.
    #[must_use]
    pub fn figures(&self) -> &Arc<PluginFigures> {
        &self.set.figures
    }

    /// Returns its state at this moment.
    #[must_use]
    pub fn gauges(&self) -> PoolGauges {
        let ((queued, waited), memory) = (self.waiting(), self.set.shared.memory.budget());
        let max = self.set.linked.release.manifest.limits.connections_max;
        let max = usize::try_from(max).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        PoolGauges {
            instances: self.set.present(),
            in_flight: self.set.in_flight(),
            queued,
            waited,
            memory: memory.used(),
            memory_peak: memory.peak(),
            memory_max: memory.max(),
            connections: max.saturating_sub(self.connections.available_permits()),
        }
    }

    /// Logs pending dropped entries and failed requests now, since its last instance has ended.
    pub fn report_rest(&self) {
        self.set.shared.journal.report_dropped();
        self.set.failures.report();
    }
}

/// Starts workers where calls wait and no worker is available.
async fn start_where_short(set: Arc<WorkerSet>) {
    while set.draining().is_none() {
        set.shortage.notified().await;
        if let Some(slot) = set.reserve() {
            worker::spawn(&set, slot);
        }
    }
}
