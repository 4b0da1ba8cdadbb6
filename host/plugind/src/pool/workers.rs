//! What the workers of one generation have in common: what they are made from, the calls that wait, and how many of them
//! there are.

use crate::{
    pool::{
        call::{Call, ReplySender},
        config::PoolConfig,
        deadline_sweeper::DeadlineSweeper,
        failure::Failure,
        in_flight::InFlight,
        scaling::{self, PoolStats},
        state_transfer::StateTransfer,
        worker_handle::WorkerHandle,
    },
    world::{self, bindings::exports::plugind::plugin::lifecycle::StopReason, link::Linked},
};
use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{
        AtomicBool, AtomicU32, AtomicUsize,
        Ordering::{AcqRel, Acquire, Relaxed, SeqCst},
    },
};
use std::time::Duration;
use tokio::sync::Notify;

/// A call on its way to a worker.
pub(crate) struct QueuedCall {
    /// The work.
    pub(crate) call: Call,
    /// Where the reply goes.
    pub(crate) reply: ReplySender,
    /// Where the call is.
    pub(crate) in_flight: Arc<InFlight>,
}

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

/// The workers of one generation.
///
/// Each worker is in it from [`WorkerSet::enter`] until its guard is dropped, and *active* from
/// [`WorkerSet::reserve`] until it leaves its slot: `available <= active <= present`, and `active` is at most
/// [`PoolConfig::workers`]. When the set drains and `present` reaches zero, [`WorkerEvent::Gone`] is reported.
pub(crate) struct WorkerSet {
    /// What they are made from.
    pub(crate) linked: Linked,
    /// What their instances have in common.
    pub(crate) shared: Arc<world::Shared>,
    /// What they are used for.
    pub(crate) config: PoolConfig,
    /// Calls that wait for a worker. Closed when the set drains.
    pub(crate) queue: async_channel::Receiver<QueuedCall>,
    /// The deadlines of the calls.
    pub(crate) sweeper: Arc<DeadlineSweeper>,
    /// What is wanted of its worker, where that hands over its state.
    pub(crate) transfer: StateTransfer,
    /// Notified when calls wait and no worker is available.
    pub(crate) shortage: Notify,
    report: Box<dyn Fn(WorkerEvent) + Send + Sync>,
    next: AtomicU32,
    /// Workers that wait for calls.
    available: AtomicUsize,
    /// Workers that take calls, or will.
    active: AtomicUsize,
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
        queue: async_channel::Receiver<QueuedCall>,
        sweeper: Arc<DeadlineSweeper>,
        report: Box<dyn Fn(WorkerEvent) + Send + Sync>,
    ) -> Arc<Self> {
        Arc::new(Self {
            linked,
            shared,
            config,
            queue,
            sweeper,
            transfer: StateTransfer::default(),
            shortage: Notify::new(),
            report,
            next: AtomicU32::new(0),
            available: AtomicUsize::new(0),
            active: AtomicUsize::new(0),
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
        self.queue.close();
        // A call that no worker has taken yet is for the next generation.
        while let Ok(QueuedCall { call, in_flight, .. }) = self.queue.try_recv() {
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
        let most = || usize::try_from(self.linked.manifest.handover.held_max).unwrap_or(usize::MAX);
        self.transfer.is_held() && self.queue.len() >= most()
    }

    /// Its figures.
    pub(crate) fn stats(&self) -> PoolStats {
        PoolStats {
            active: self.active.load(Acquire),
            available: self.available.load(Acquire),
            queued: self.queue.len(),
        }
    }

    /// Asks for another worker if there should be one more.
    pub(crate) fn check_shortage(&self) {
        // The ordinary case costs no more than this.
        if self.available.load(Acquire) > 0 {
            return;
        }
        let ahead = self.config.serve_one() && self.draining().is_none();
        let stats = self.stats();
        if scaling::desired(stats, self.config.workers, ahead) > stats.active {
            self.shortage.notify_one();
        }
    }

    /// A slot for another worker, if there may be one.
    pub(crate) fn reserve(self: &Arc<Self>) -> Option<WorkerSlot> {
        if self.paused.load(SeqCst) || self.draining().is_some() {
            return None;
        }
        let one_more = |active| (active < self.config.workers).then_some(active + 1);
        self.active.try_update(AcqRel, Acquire, one_more).ok()?;
        Some(WorkerSlot { set: self.clone(), active: true, available: false })
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
    active: bool,
    available: bool,
}

impl WorkerSlot {
    /// Says whether it could take a call now.
    pub(crate) fn set_available(&mut self, available: bool) {
        if self.available == available {
            return;
        }
        self.available = available;
        if available {
            self.set.available.fetch_add(1, AcqRel);
        } else {
            // First the number, then the look at the queue: a caller does it the other way round, so one of the two
            // notices that no worker is left for the call.
            self.set.available.fetch_sub(1, AcqRel);
            self.set.check_shortage();
        }
    }

    /// Takes no more calls; its slot is free for another worker.
    pub(crate) fn leave(&mut self) {
        let was_active = std::mem::take(&mut self.active);
        if was_active {
            self.set.active.fetch_sub(1, AcqRel);
        }
        self.set_available(false);
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
    set: Arc<WorkerSet>,
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
