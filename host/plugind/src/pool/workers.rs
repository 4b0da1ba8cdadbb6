//! What the workers of one generation have in common: what they are made from, the work that waits, and how many
//! of them there are.

use crate::{
    pool::{
        failure::Failure,
        in_flight::{DeadlineSweeper, GivenBack, InFlight, Outcome},
        state_transfer::StateTransfer,
        worker_handle::WorkerHandle,
    },
    world::{self, bindings::exports::plugind::plugin::lifecycle::StopReason, link::Linked},
};
use futures::channel::oneshot;
use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{
        AtomicBool, AtomicU32, AtomicUsize,
        Ordering::{AcqRel, Acquire, Relaxed, SeqCst},
    },
};
use std::time::Duration;
use tokio::sync::Notify;
use wasmtime_wasi_http::WasiBody;

/// A request on its way to a worker.
pub struct Job {
    /// What the client wants.
    pub request: http::Request<WasiBody>,
    /// Where the response goes.
    pub reply: oneshot::Sender<Outcome>,
    /// What became of it.
    pub exchange: Arc<InFlight>,
}

/// What workers are used for, with every default settled.
#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// The most workers at a time.
    pub workers: usize,
    /// The most calls at a time in one worker.
    pub concurrency: usize,
    /// After so many calls a worker is replaced.
    pub recycle_after: Option<u32>,
    /// A worker of this age is replaced.
    pub recycle_age: Option<Duration>,
    /// Every request has a worker of its own, which is made when it comes.
    pub on_demand: bool,
    /// It is a program: it serves nothing, and is not asked how it is.
    pub program: bool,
    /// Its one worker has a state that is handed over.
    pub hands_over: bool,
    /// Until an instance is ready.
    pub timeout_start: Duration,
    /// Until an instance is gone.
    pub timeout_stop: Duration,
    /// How often an instance is asked how it is; zero: never.
    pub watchdog: Duration,
    /// Slices of processor time without a sign of life.
    pub slices_max: u32,
}

impl PoolConfig {
    /// Whether a worker is there for one request. Then the next one is started ahead of its request.
    #[must_use]
    pub fn serve_one(&self) -> bool {
        self.recycle_after == Some(1) && self.concurrency == 1
    }
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
        /// It had taken a request.
        served: bool,
    },
}

/// An event of one worker, for the supervisor.
#[derive(Debug)]
pub enum WorkerEvent {
    /// It started and takes work.
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
    /// A request in it was not answered in time; it took no more work and ended.
    Retired {
        /// Which worker.
        worker: u32,
    },
    /// It has its age, takes no more work, and ends when it has done what it has.
    Aged,
    /// What a worker keeps was saved, as [`Pool::save`](crate::pool::instances::Pool::save) wanted it; or it was not.
    Saved {
        /// Which worker.
        worker: u32,
        /// Which save: what ordering it returned.
        save: u64,
        /// The state, if there is any.
        outcome: Result<Option<Arc<[u8]>>, Failure>,
    },
    /// A worker has taken over a state, as [`Pool::restore`](crate::pool::instances::Pool::restore) wanted it; or it has not.
    Restored {
        /// Which worker.
        worker: u32,
        /// Whether it has.
        outcome: Result<(), Failure>,
    },
    /// The program returned ok.
    Returned,
    /// The last worker of a crew that was dismissed is gone.
    Gone,
}

/// The workers of one generation.
pub struct WorkerSet {
    /// What they are made from.
    pub linked: Linked,
    /// What their instances have in common.
    pub shared: world::Shared,
    /// What they are used for.
    pub terms: PoolConfig,
    /// Requests that wait for a worker. Closed when the crew is dismissed.
    pub(crate) queue: async_channel::Receiver<Job>,
    pub(crate) watch: Arc<DeadlineSweeper>,
    /// What is wanted of its worker, where that hands over.
    pub(crate) orders: StateTransfer,
    /// Told when work waits and nobody is there for it.
    pub(crate) shortage: Notify,
    tell: Box<dyn Fn(WorkerEvent) + Send + Sync>,
    next: AtomicU32,
    /// Workers that wait for work.
    available: AtomicUsize,
    /// Workers that take work, or will.
    employed: AtomicUsize,
    /// Workers that exist.
    present: AtomicUsize,
    /// Failed workers are not replaced until the keeper says so.
    held: AtomicBool,
    dismissed: OnceLock<StopReason>,
    /// Those that take work from the queue.
    roster: Mutex<Vec<Arc<WorkerHandle>>>,
}

impl WorkerSet {
    pub(crate) fn new(
        linked: Linked,
        shared: world::Shared,
        terms: PoolConfig,
        queue: async_channel::Receiver<Job>,
        watch: Arc<DeadlineSweeper>,
        tell: Box<dyn Fn(WorkerEvent) + Send + Sync>,
    ) -> Arc<Self> {
        Arc::new(Self {
            linked,
            shared,
            terms,
            queue,
            watch,
            orders: StateTransfer::default(),
            shortage: Notify::new(),
            tell,
            next: AtomicU32::new(0),
            available: AtomicUsize::new(0),
            employed: AtomicUsize::new(0),
            present: AtomicUsize::new(0),
            held: AtomicBool::new(false),
            dismissed: OnceLock::new(),
            roster: Mutex::default(),
        })
    }

    pub(crate) fn tell(&self, news: WorkerEvent) {
        (self.tell)(news);
    }

    pub(crate) fn number(&self) -> u32 {
        self.next.fetch_add(1, Relaxed)
    }

    /// Why the crew is to go, once it is.
    pub(crate) fn dismissed(&self) -> Option<StopReason> {
        self.dismissed.get().copied()
    }

    /// Dismisses the crew; the first reason counts.
    pub(crate) fn dismiss(&self, reason: StopReason) {
        // A second reason comes too late to be told.
        self.dismissed.set(reason).ok();
        self.queue.close();
        // What nobody has taken yet is for the next generation.
        while let Ok(Job { request, reply, .. }) = self.queue.try_recv() {
            // Nobody waits for it if the client is gone.
            reply.send(Err(GivenBack(Mutex::new(request)).into())).ok();
        }
        self.shortage.notify_one();
        if self.terms.program {
            self.kill_all();
        }
        // A worker whose work is held does not look at the queue.
        self.wake();
        // It may have been told before: a crew is dismissed when its plugin fails, and again when that is to go.
        if self.present.load(SeqCst) == 0 {
            self.tell(WorkerEvent::Gone);
        }
    }

    pub(crate) fn hold(&self, held: bool) {
        self.held.store(held, SeqCst);
    }

    /// Whether work is held, and as much waits as may.
    pub(crate) fn is_held_full(&self) -> bool {
        let most = || usize::try_from(self.linked.manifest.handover.held_max).unwrap_or(usize::MAX);
        self.orders.is_held() && self.queue.len() >= most()
    }

    /// Asks for another worker if nobody is there for work that waits, or will come, and there may be another.
    pub(crate) fn mind_shortage(&self) {
        let wanted =
            || !self.queue.is_empty() || (self.terms.serve_one() && self.dismissed().is_none());
        if self.available.load(Acquire) == 0
            && self.employed.load(Relaxed) < self.terms.workers
            && wanted()
        {
            self.shortage.notify_one();
        }
    }

    /// A place for another worker, if there may be one.
    pub(crate) fn employ(self: &Arc<Self>) -> Option<WorkerSlot> {
        if self.held.load(SeqCst) || self.dismissed().is_some() {
            return None;
        }
        let one_more = |employed| (employed < self.terms.workers).then_some(employed + 1);
        self.employed.try_update(AcqRel, Acquire, one_more).ok()?;
        Some(WorkerSlot { crew: self.clone(), employed: true, available: false })
    }

    /// How many workers take work, or will.
    #[must_use]
    pub fn employed(&self) -> usize {
        self.employed.load(Acquire)
    }

    pub(crate) fn enter(self: &Arc<Self>) -> WorkerGuard {
        self.present.fetch_add(1, SeqCst);
        WorkerGuard { crew: self.clone(), vitals: None }
    }

    /// Ends every worker, with all that is in it.
    pub(crate) fn kill_all(&self) {
        self.watch.kill_all();
        for vitals in self.roster().iter() {
            vitals.kill();
        }
    }

    /// Has every worker look at what is wanted of it.
    pub(crate) fn wake(&self) {
        for vitals in self.roster().iter() {
            vitals.wake();
        }
    }

    fn roster(&self) -> MutexGuard<'_, Vec<Arc<WorkerHandle>>> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A worker's place in the crew, which it leaves at the latest when this is dropped.
pub(crate) struct WorkerSlot {
    crew: Arc<WorkerSet>,
    employed: bool,
    available: bool,
}

impl WorkerSlot {
    /// Says whether it could take work now.
    pub(crate) fn set_available(&mut self, available: bool) {
        if self.available == available {
            return;
        }
        self.available = available;
        if available {
            self.crew.available.fetch_add(1, AcqRel);
        } else {
            // First the number, then the look at the queue: whoever puts work there does it the other way round, so
            // that one of the two notices that nobody is left for it.
            self.crew.available.fetch_sub(1, AcqRel);
            self.crew.mind_shortage();
        }
    }

    /// Takes no more work; its place is free for another one.
    pub(crate) fn leave(&mut self) {
        if std::mem::take(&mut self.employed) {
            self.crew.employed.fetch_sub(1, AcqRel);
        }
        self.set_available(false);
    }
}

impl Drop for WorkerSlot {
    fn drop(&mut self) {
        self.leave();
        self.crew.mind_shortage();
    }
}

/// A worker's being there, up to its very end.
pub(crate) struct WorkerGuard {
    crew: Arc<WorkerSet>,
    vitals: Option<Arc<WorkerHandle>>,
}

impl WorkerGuard {
    /// The worker can be reached from outside by these.
    pub(crate) fn enlist(&mut self, vitals: &Arc<WorkerHandle>) {
        self.crew.roster().push(vitals.clone());
        self.vitals = Some(vitals.clone());
    }
}

impl Drop for WorkerGuard {
    fn drop(&mut self) {
        if let Some(vitals) = &self.vitals {
            self.crew.roster().retain(|other| !Arc::ptr_eq(other, vitals));
        }
        let before = self.crew.present.fetch_sub(1, SeqCst);
        if before == 1 && self.crew.dismissed().is_some() {
            self.crew.tell(WorkerEvent::Gone);
        }
    }
}
