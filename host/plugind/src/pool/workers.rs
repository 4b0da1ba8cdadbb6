//! What the workers of one generation have in common: what they are made from, the calls that wait, and how many of them
//! there are.

use crate::{
    pool::{
        config::PoolConfig,
        deadline_sweeper::DeadlineSweeper,
        failure::Failure,
        queue::{CallQueue, PushError, Pushed, QueuedCall},
        scaling::{self, PoolStats},
        state_transfer::StateTransfer,
        worker_handle::WorkerHandle,
    },
    runtime::executors::Executors,
    world::{self, bindings::exports::plugind::plugin::lifecycle::StopReason, link::Linked},
};
use std::cmp::Reverse;
use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{
        AtomicBool, AtomicU32, AtomicUsize,
        Ordering::{AcqRel, Acquire, Relaxed, SeqCst},
    },
};
use std::time::Duration;
use tokio::sync::Notify;

/// The most calls of one plugin that wait for a worker.
const QUEUE: usize = 1024;
/// So many calls of a plugin whose guest computed begin in the background.
const COMPUTING: u32 = 64;

/// How far an instance was when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceStage {
    /// It was not ready yet.
    Starting,
    /// It was ready.
    Ready {
        /// For how long.
        uptime: Duration,
        /// It had taken a call.
        served: bool,
    },
}

/// What happened to one worker, for the supervisor.
#[derive(Debug)]
pub enum WorkerEvent {
    /// It started and takes calls.
    Ready {
        /// Which worker.
        worker: u32,
    },
    /// It ended, and should not have.
    Failed {
        /// Which worker.
        worker: u32,
        /// How.
        failure: Failure,
        /// How far it was.
        stage: InstanceStage,
    },
    /// A call in it was not answered in time; it took no more calls and ended.
    Retired {
        /// Which worker.
        worker: u32,
    },
    /// It takes no more calls since it has served for long enough, and ends when its calls have ended.
    Aged,
    /// The state of a worker was saved, as [`Pool::save`](crate::pool::instances::Pool::save) ordered; or it was not.
    Saved {
        /// Which worker.
        worker: u32,
        /// Which save: what ordering it returned.
        save: u64,
        /// The state, if there is any.
        outcome: Result<Option<Arc<[u8]>>, Failure>,
    },
    /// A worker has taken over a state, as [`Pool::restore`](crate::pool::instances::Pool::restore) ordered; or it has
    /// not.
    Restored {
        /// Which worker.
        worker: u32,
        /// Whether it has.
        outcome: Result<(), Failure>,
    },
    /// The program returned ok.
    Returned,
    /// The last worker of a set that drains has ended.
    Gone,
}

/// The workers of one core.
#[derive(Default)]
struct CoreWorkers {
    /// Those that take calls, or will.
    active: AtomicUsize,
    /// Calls that came on this core, and went to another one.
    given_away: AtomicU32,
}

/// The workers of one generation.
///
/// Each worker is in it from [`WorkerSet::enter`] until its guard is dropped, and *active* from
/// [`WorkerSet::reserve`] until it leaves its slot: `active <= present`, and `active` is at most [`PoolConfig::workers`].
/// Workers that are *available* are listed in the queue. When the set drains and `present` reaches zero, [`WorkerEvent::Gone`] is reported.
pub(crate) struct WorkerSet {
    /// What they are made from.
    pub(crate) linked: Linked,
    /// What their instances have in common.
    pub(crate) shared: Arc<world::Shared>,
    /// What they are used for.
    pub(crate) config: PoolConfig,
    /// What runs them.
    pub(crate) executors: Executors,
    /// Calls that wait for a worker. Closed when the set drains.
    pub(crate) queue: CallQueue,
    /// The deadlines of the calls.
    pub(crate) sweeper: Arc<DeadlineSweeper>,
    /// What is wanted of its worker, where that hands over its state.
    pub(crate) transfer: StateTransfer,
    /// Notified when calls wait and no worker is available.
    pub(crate) shortage: Notify,
    report: Box<dyn Fn(WorkerEvent) + Send + Sync>,
    next: AtomicU32,
    /// Workers that take calls, or will.
    active: AtomicUsize,
    /// Those of each core.
    cores: Box<[CoreWorkers]>,
    /// How many more calls are taken to come from a plugin that computes.
    computing: AtomicU32,
    /// Workers that exist.
    present: AtomicUsize,
    /// Failed workers are not replaced until the supervisor says so.
    paused: AtomicBool,
    draining: OnceLock<StopReason>,
    /// Those that can be reached from outside.
    handles: Mutex<Vec<Arc<WorkerHandle>>>,
}

impl WorkerSet {
    pub(crate) fn new(
        linked: Linked,
        shared: Arc<world::Shared>,
        config: PoolConfig,
        executors: Executors,
        sweeper: Arc<DeadlineSweeper>,
        report: Box<dyn Fn(WorkerEvent) + Send + Sync>,
    ) -> Arc<Self> {
        let cores = (0..executors.cores()).map(|_| CoreWorkers::default()).collect();
        Arc::new(Self {
            linked,
            shared,
            config,
            queue: CallQueue::new(executors.cores(), QUEUE),
            executors,
            sweeper,
            transfer: StateTransfer::default(),
            shortage: Notify::new(),
            report,
            next: AtomicU32::new(0),
            active: AtomicUsize::new(0),
            cores,
            computing: AtomicU32::new(0),
            present: AtomicUsize::new(0),
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
        if self.present.load(SeqCst) == 0 {
            self.report(WorkerEvent::Gone);
        }
    }

    /// Keeps further workers from being started, or lets them.
    pub(crate) fn pause(&self, paused: bool) {
        self.paused.store(paused, SeqCst);
    }

    /// Whether calls are held, and as many wait as may.
    pub(crate) fn is_held_full(&self) -> bool {
        let max = || usize::try_from(self.linked.manifest.handover.held_max).unwrap_or(usize::MAX);
        self.transfer.is_held() && self.queue.len() >= max()
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
        match self.queue.push(core, call)? {
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
        if self.queue.available() > 0 {
            return;
        }
        let ahead = self.config.serve_one() && self.draining().is_none();
        let stats = self.stats();
        if scaling::desired(stats, self.config.workers, ahead) > stats.active {
            self.shortage.notify_one();
        }
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

    /// A slot for another worker, if there may be one.
    pub(crate) fn reserve(self: &Arc<Self>) -> Option<WorkerSlot> {
        if self.paused.load(SeqCst) || self.draining().is_some() {
            return None;
        }
        let one_more = |active| (active < self.config.workers).then_some(active + 1);
        self.active.try_update(AcqRel, Acquire, one_more).ok()?;
        let core = self.core_for_worker();
        self.cores[core].active.fetch_add(1, AcqRel);
        Some(WorkerSlot { set: self.clone(), core, handle: None, active: true })
    }

    /// The core that gets the next worker: one with the fewest, and of these the one that gave away most calls.
    pub(crate) fn core_for_worker(&self) -> usize {
        let cores = self.cores.len();
        // Plugins begin on different cores.
        let first = usize::try_from(self.shared.identity.generation).unwrap_or(0) % cores;
        let order = (0..cores).map(|core| (first + core) % cores);
        let load = |core: &usize| {
            let core = &self.cores[*core];
            (core.active.load(Acquire), Reverse(core.given_away.load(Relaxed)))
        };
        order.min_by_key(load).unwrap_or(0)
    }

    /// Counts a worker that is made now.
    pub(crate) fn enter(self: &Arc<Self>) -> WorkerGuard {
        self.present.fetch_add(1, SeqCst);
        WorkerGuard { set: self.clone(), handle: None }
    }

    /// Ends every worker, with all that is in it.
    pub(crate) fn kill_all(&self) {
        self.sweeper.kill_all();
        for handle in self.handles().iter() {
            handle.kill();
        }
    }

    /// Has every worker look at what is wanted of it.
    pub(crate) fn wake(&self) {
        for handle in self.handles().iter() {
            handle.wake_task();
        }
    }

    fn handles(&self) -> MutexGuard<'_, Vec<Arc<WorkerHandle>>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A worker's slot in the set, which it leaves at the latest when this is dropped.
pub(crate) struct WorkerSlot {
    set: Arc<WorkerSet>,
    /// Its core.
    pub(crate) core: usize,
    /// The worker, once there is one.
    handle: Option<Arc<WorkerHandle>>,
    active: bool,
}

impl WorkerSlot {
    /// The worker is there.
    pub(crate) fn assign(&mut self, handle: &Arc<WorkerHandle>) {
        self.handle = Some(handle.clone());
    }

    /// Says whether it could take a call now. That is known to others after its turn, since it often changes within one.
    pub(crate) fn set_available(&mut self, available: bool) {
        if let Some(handle) = &self.handle {
            handle.offer(available);
        }
    }

    /// Takes no more calls; its slot is free for another worker.
    pub(crate) fn leave(&mut self) {
        let was_active = std::mem::take(&mut self.active);
        if was_active {
            self.set.cores[self.core].active.fetch_sub(1, AcqRel);
            self.set.active.fetch_sub(1, AcqRel);
        }
        if let Some(handle) = &self.handle {
            handle.offer(false);
            self.set.publish(handle);
        }
        if was_active {
            // One that was not available may have left the last slot that waiting calls could get.
            self.set.check_shortage();
        }
    }
}

impl Drop for WorkerSlot {
    fn drop(&mut self) {
        self.leave();
        self.set.check_shortage();
    }
}

/// A worker's presence in the set, up to its very end.
pub(crate) struct WorkerGuard {
    pub(crate) set: Arc<WorkerSet>,
    handle: Option<Arc<WorkerHandle>>,
}

impl WorkerGuard {
    /// The worker can be reached from outside by this.
    pub(crate) fn register(&mut self, handle: &Arc<WorkerHandle>) {
        self.set.handles().push(handle.clone());
        self.handle = Some(handle.clone());
    }
}

impl Drop for WorkerGuard {
    fn drop(&mut self) {
        if let Some(handle) = &self.handle {
            self.set.handles().retain(|other| !Arc::ptr_eq(other, handle));
        }
        let before = self.set.present.fetch_sub(1, SeqCst);
        if before == 1 && self.set.draining().is_some() {
            self.set.report(WorkerEvent::Gone);
        }
    }
}
