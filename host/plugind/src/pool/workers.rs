//! The data that the workers of one generation share: their component and settings, the calls that wait, and how many
//! there are.

pub(super) mod core_set;
pub(super) mod worker_guard;
pub(super) mod worker_slot;

use crate::{
    base::figures::PluginFigures,
    pool::{
        call::BusyCause,
        config::PoolConfig,
        deadline_sweeper::DeadlineSweeper,
        queue::{CallQueue, PushError, Pushed, QueuedCall},
        request_failures::RequestFailures,
        resting::Resting,
        room::Room,
        scaling::{self, PoolStats},
        shares::{InstancePlace, Share},
        state_transfer::StateTransfer,
        worker_event::WorkerEvent,
        worker_handle::WorkerHandle,
    },
    runtime::executors::Executors,
    world::{self, bindings::exports::plugind::plugin::lifecycle::StopReason, link::Linked},
};
use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{
        AtomicBool, AtomicU32, AtomicUsize,
        Ordering::{Acquire, Relaxed, SeqCst},
    },
};
use std::time::Duration;
use tokio::{sync::Notify, time::timeout};

/// Time that a first worker waits for a place in the instance pool.
const PLACE_WAIT: Duration = Duration::from_secs(5);

/// The most calls of one plugin that wait for a worker.
const QUEUE: usize = 1024;
/// The number of further calls that begin in the background after a guest of the plugin has computed.
const COMPUTING: u32 = 64;

/// The workers of one core.
#[derive(Default)]
#[repr(align(128))] // Data that each call writes must not share a cache line with that of another core.
struct CoreWorkers {
    /// Those that exist.
    present: AtomicUsize,
    /// Those that take calls, or will.
    active: AtomicUsize,
    /// Calls that came on this core, and went to another one.
    given_away: AtomicU32,
}

/// The workers of one generation.
///
/// Each worker is in it from [`WorkerSet::enter`] until its guard is dropped, and *active* from
/// [`WorkerSet::reserve`] until it leaves its slot. At most [`PoolConfig::workers`] are active. Workers that are
/// *available* are listed in the queue. When the set drains and the last one has left, [`WorkerEvent::Gone`] is
/// reported.
pub(crate) struct WorkerSet {
    /// The linked component from which they are made.
    pub(crate) linked: Arc<Linked>,
    /// The data that their instances share.
    pub(crate) shared: Arc<world::Shared>,
    /// Their share in the instance pool.
    pub(crate) share: Arc<Share>,
    /// Their use.
    pub(crate) config: PoolConfig,
    /// The runtime on which they run.
    pub(crate) executors: Executors,
    /// Calls that wait for a worker. Closed when the set drains.
    pub(crate) queue: CallQueue,
    /// Room for workers that are made for one call.
    pub(crate) room: Room,
    /// The deadlines of the calls.
    pub(crate) sweeper: Arc<DeadlineSweeper>,
    /// The requests that were not answered as they should be.
    pub(crate) failures: Arc<RequestFailures>,
    /// The figures of its plugin.
    pub(crate) figures: Arc<PluginFigures>,
    /// The orders for its worker, where that hands over its state.
    pub(crate) transfer: StateTransfer,
    /// Whether it has had no call for long, where each call has a worker of its own.
    pub(crate) resting: Resting,
    /// Notified when calls wait and no worker is available.
    pub(crate) shortage: Notify,
    report: Box<dyn Fn(WorkerEvent) + Send + Sync>,
    next: AtomicU32,
    /// Workers that take calls, or will.
    active: AtomicUsize,
    /// Those of each core.
    cores: Box<[CoreWorkers]>,
    /// Number of further calls whose plugin is assumed to compute.
    computing: AtomicU32,
    /// No worker is started until the supervisor says so.
    paused: AtomicBool,
    draining: OnceLock<StopReason>,
    /// Those that can be reached from outside.
    handles: Mutex<Vec<Arc<WorkerHandle>>>,
}

impl WorkerSet {
    pub(crate) fn new(
        linked: Arc<Linked>,
        shared: Arc<world::Shared>,
        share: Arc<Share>,
        config: PoolConfig,
        executors: Executors,
        sweeper: Arc<DeadlineSweeper>,
        report: Box<dyn Fn(WorkerEvent) + Send + Sync>,
    ) -> Arc<Self> {
        let cores = (0..executors.cores()).map(|_| CoreWorkers::default()).collect();
        let failures =
            RequestFailures::new(linked.release.name.clone(), shared.identity.generation);
        Arc::new(Self {
            linked,
            figures: shared.figures.clone(),
            shared,
            room: Room::new(config.workers, executors.cores()),
            share,
            failures,
            config,
            queue: CallQueue::new(executors.cores(), QUEUE),
            executors,
            sweeper,
            transfer: StateTransfer::default(),
            resting: Resting::new(),
            shortage: Notify::new(),
            report,
            next: AtomicU32::new(0),
            active: AtomicUsize::new(0),
            cores,
            computing: AtomicU32::new(0),
            paused: AtomicBool::new(false),
            draining: OnceLock::new(),
            handles: Mutex::default(),
        })
    }

    pub(crate) fn report(&self, event: WorkerEvent) {
        (self.report)(event);
    }

    /// A number for another worker.
    pub(crate) fn number(&self) -> u32 {
        self.next.fetch_add(1, Relaxed)
    }

    /// Why the set drains, once it does.
    pub(crate) fn draining(&self) -> Option<StopReason> {
        self.draining.get().copied()
    }

    /// Drains the set; the first reason counts.
    pub(crate) fn drain(&self, reason: StopReason) {
        // A second reason comes too late: workers may have the first one.
        self.draining.set(reason).ok();
        // A call that no worker has taken yet is for the next generation.
        for QueuedCall { call, in_flight, .. } in self.queue.close() {
            in_flight.give_back(call);
        }
        self.shortage.notify_one();
        if self.config.program {
            self.kill_all();
        }
        // A worker whose calls are held does not look at the queue.
        self.wake();
        // It may have been reported before: a set drains when its plugin fails, and again when that is removed.
        if self.is_empty() {
            self.report(WorkerEvent::Gone);
        }
    }

    /// Keeps further workers from being started, or lets them.
    pub(crate) fn pause(&self, paused: bool) {
        self.paused.store(paused, SeqCst);
    }

    /// Whether as many calls wait as may while calls are held.
    fn is_held_full(&self) -> bool {
        let max = self.linked.release.manifest.handover.held_max;
        self.queue.len() >= usize::try_from(max).unwrap_or(usize::MAX)
    }

    /// Its figures.
    pub(crate) fn stats(&self) -> PoolStats {
        PoolStats {
            active: self.active.load(Acquire),
            available: self.queue.available(),
            queued: self.queue.len(),
        }
    }

    /// Adds a call that came on a core to the queue, and has a worker take it.
    pub(crate) fn enqueue(&self, core: usize, call: QueuedCall) -> Result<(), PushError> {
        // Held calls are counted and added one at a time, whatever core they come on.
        let held = self.transfer.is_held().then(|| self.handles());
        if held.is_some() && self.is_held_full() {
            return Err(PushError::Full(BusyCause::Held));
        }
        let pushed = self.queue.push(core, call)?;
        drop(held);
        match pushed {
            // The ordinary case costs no more than this.
            Pushed::OwnCore => (),
            Pushed::OtherCore => self.note_given_away(core),
            Pushed::NoWorker => self.check_shortage(),
        }
        Ok(())
    }

    /// A call went to another core. If that is the rule, this core is to have a worker of its own.
    fn note_given_away(&self, core: usize) {
        let own = &self.cores[core % self.cores.len()];
        let given_away = own.given_away.fetch_add(1, Relaxed) + 1;
        let (active, own_active) = (self.active.load(Acquire), own.active.load(Acquire));
        if scaling::wants_own(given_away, own_active, active, self.config.workers) {
            own.given_away.store(0, Relaxed);
            self.shortage.notify_one();
        }
    }

    /// Notes a turn of a worker's guest: whether it `computed`, and whether that was the end of its work.
    pub(crate) fn note_turn(&self, computed: bool, ended: bool) {
        if computed {
            self.computing.store(COMPUTING, Relaxed);
        } else if ended && self.is_computing() {
            self.computing.try_update(Relaxed, Relaxed, |left| left.checked_sub(1)).ok();
        }
    }

    /// Whether its guests are known to compute: then a worker does not begin on a core.
    pub(crate) fn is_computing(&self) -> bool {
        self.computing.load(Relaxed) > 0
    }

    /// Asks for another worker if there should be one more.
    pub(crate) fn check_shortage(&self) {
        let config = &self.config;
        if self.queue.available() > 0 {
            return;
        }
        let ahead = config.serve_one() && !config.on_demand && self.draining().is_none();
        let stats = self.stats();
        if scaling::desired(stats, config.workers, ahead) > stats.active {
            self.shortage.notify_one();
        }
    }

    /// Asks for another worker if there are fewer than the least number, which are started one after the other.
    pub(crate) fn fill(&self) {
        if scaling::is_below(self.stats().active, self.config.min) {
            self.shortage.notify_one();
        }
    }

    /// Whether there is no worker, and the next call starts one.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.config.on_demand && self.active.load(SeqCst) == 0 && self.draining().is_none()
    }

    /// Reports the state that was saved last as the outcome of a save, if one was ordered and there is no worker that
    /// could follow the order: no call has changed the state since.
    pub(crate) fn answer_save(&self) {
        if self.is_at_rest()
            && let Some(save) = self.transfer.take_save()
        {
            let outcome = Ok(self.transfer.initial_state());
            self.report(WorkerEvent::Saved { worker: 0, save, outcome });
        }
    }

    /// The workers that exist.
    pub(crate) fn snapshot(&self) -> Vec<Arc<WorkerHandle>> {
        self.handles().clone()
    }

    /// Informs the queue whether a worker could take a call, if that has changed.
    pub(crate) fn publish(&self, worker: &Arc<WorkerHandle>) {
        match worker.take_news() {
            None => (),
            Some(true) if self.queue.set_available(worker, true) => worker.wake_to_work(),
            Some(true) => (),
            Some(false) => {
                self.queue.set_available(worker, false);
                // First the list, then the look at the queue: a caller does it the other way round, so one of the two
                // notices that no worker is left for the call.
                if self.queue.len() > 0 {
                    self.queue.wake_available(worker.core);
                }
                self.check_shortage();
            }
        }
    }

    /// Whether no worker is started: the supervisor or a handover prevents it, or the set drains.
    fn starts_none(&self) -> bool {
        // Calls are held for the next generation, and a worker here could not take them.
        let is_held = self.config.on_demand && self.transfer.is_held();
        self.paused.load(SeqCst) || self.draining().is_some() || is_held
    }

    /// Whether calls wait that a worker will take: one that is there, or one that is started for them.
    pub(crate) fn serves_queue(&self) -> bool {
        scaling::serves_queue(self.stats(), self.config.on_demand && !self.starts_none())
    }

    /// A place in the instance pool for another worker; none, if there is none in time. A worker beside others that take
    /// calls does not wait for it.
    pub(crate) async fn place(&self) -> Option<InstancePlace> {
        let first = self.stats().active <= 1;
        match self.share.try_take(first) {
            None if first => timeout(PLACE_WAIT, self.share.take(first)).await.ok(),
            place => place,
        }
    }

    /// Whether no worker exists.
    fn is_empty(&self) -> bool {
        self.cores.iter().all(|core| core.present.load(SeqCst) == 0)
    }

    /// Returns the number of workers.
    pub(crate) fn present(&self) -> usize {
        self.cores.iter().map(|core| core.present.load(SeqCst)).sum()
    }

    /// Returns the number of calls that workers have.
    pub(crate) fn in_flight(&self) -> usize {
        match self.config.worker_per_call {
            // Each was made for one call.
            true => self.present(),
            false => self.handles().iter().map(|handle| handle.in_flight()).sum(),
        }
    }

    /// Ends every worker, with all that is in it.
    pub(crate) fn kill_all(&self) {
        self.sweeper.kill_all();
        for handle in self.handles().iter() {
            handle.kill();
        }
    }

    /// Wakes every worker to check its orders.
    pub(crate) fn wake(&self) {
        for handle in self.handles().iter() {
            handle.wake_task();
        }
    }

    fn handles(&self) -> MutexGuard<'_, Vec<Arc<WorkerHandle>>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
