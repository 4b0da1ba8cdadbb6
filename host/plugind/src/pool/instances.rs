//! The instances of one generation of a plugin, as the other layers see them: calls go in, replies come out.

use crate::{
    base::{
        figures::{CoreFigures, Figures, PluginFigures},
        name::PluginName,
        request_identity::RequestIdentity,
    },
    journal::Journal,
    plugin::{core_dumps::CoreDumps, grants::Grants},
    pool::{
        call::{Call, NotServed, ReplyReceiver},
        config::PoolConfig,
        deadline::EXTENSION_MAX,
        deadline_sweeper::DeadlineSweeper,
        idle::{EndingInstances, PoolActivity, stop_idle_workers},
        in_flight::InFlight,
        queue::{PushError, QueuedCall},
        reply::{OwnInstance, PendingReply, Reply},
        request_failures::FailureCounts,
        room::{Entered, Permit},
        scaling::PoolStats,
        shares::{InstancePlace, InstancePool},
        worker,
        worker_event::WorkerEvent,
        workers::{WorkerSet, core_set::CoreSet},
    },
    runtime::{
        executors::Executors,
        file_threads::{AllFileThreads, FileThreads},
    },
    world::{
        self, HostServices, bindings::exports::plugind::plugin::lifecycle::StopReason,
        calls::RequestDispatch, link::Linked, memory::Budget, movable_clock::MovableClock,
    },
};
use futures::FutureExt;
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
use tracing::warn;
use wasmtime_wasi_http::WasiBody;

/// Interval at which a pool that is to stop checks whether its queue is empty.
const QUEUE_LOOK: Duration = Duration::from_millis(20);

/// The resources that all plugins share.
#[derive(Clone)]
pub struct Commons {
    /// The runtime on which they run.
    pub executors: Executors,
    /// The journal to which they write.
    pub journal: Journal,
    /// The memory that they use together.
    pub memory: Arc<Budget>,
    /// The instance pool.
    pub places: Arc<InstancePool>,
    /// Where they are counted.
    pub figures: Figures,
    /// Sends the requests of one plugin to another.
    pub dispatch: Arc<dyn RequestDispatch>,
    /// Where core dumps are written.
    pub core_dumps: Arc<CoreDumps>,
    /// The clocks of all plugins, if these can be moved.
    pub clock: Option<MovableClock>,
    /// The threads on which calls for files block.
    pub file_threads: AllFileThreads,
}

impl Commons {
    /// The file threads of a plugin, if it is granted files.
    fn file_threads(&self, plugin: &PluginName, grants: &Grants) -> Option<FileThreads> {
        if grants.read.is_empty() && !grants.state {
            return None;
        }
        let threads = self.file_threads.of(plugin);
        if let Err(error) = &threads {
            warn!(%plugin, %error, "cannot start threads for files");
        }
        threads.ok()
    }
}

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

    /// Keeps further workers from being started, until the next [`Pool::start_worker`].
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

    /// Is cancelled when it begins to drain: what lasts in it has to end in its time to stop.
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

    /// Reports that something outside of its instances has changed for which it is degraded.
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

    /// Serves a call that is not a request.
    ///
    /// # Errors
    /// When no instance takes calls or has room, or the guest fails or does not reply in time.
    pub async fn call(&self, call: Call) -> Result<Reply, NotServed> {
        self.call_of(call, None, Duration::ZERO).await
    }

    /// Serves a request.
    ///
    /// # Errors
    /// When no instance takes calls or has room, or the guest fails or does not reply in time.
    pub async fn request(
        &self,
        request: Box<http::Request<WasiBody>>,
        identity: RequestIdentity,
    ) -> Result<Reply, NotServed> {
        self.request_within(request, identity, Duration::ZERO).await
    }

    /// The same for a request in which other plugins take part; their time, `others`, is added.
    ///
    /// # Errors
    /// As above.
    pub async fn request_within(
        &self,
        request: Box<http::Request<WasiBody>>,
        identity: RequestIdentity,
        others: Duration,
    ) -> Result<Reply, NotServed> {
        self.call_of(Call::Http(request), Some(identity), others).await
    }

    async fn call_of(
        &self,
        call: Call,
        identity: Option<RequestIdentity>,
        others: Duration,
    ) -> Result<Reply, NotServed> {
        let core = Executors::this_core().unwrap_or(0);
        let (figures, begun) = (self.set.figures.core(core), Instant::now());
        let is_http = count_begun(figures, &call);
        let mut served = self.serve(core, call, identity, begun, others).await;
        if let Ok(Reply::Http(response)) = &mut served {
            let limits = &self.linked().release.manifest.limits;
            response.body_mut().limit_pauses(limits.idle_timeout);
        }
        if let Err(not_served) = &served {
            self.set.failures.note_not_served(not_served, identity);
        }
        if is_http && let Some(status) = status_of(&served) {
            figures.response(status, begun.elapsed());
        }
        served
    }

    async fn serve(
        &self,
        core: usize,
        call: Call,
        identity: Option<RequestIdentity>,
        begun: Instant,
        others: Duration,
    ) -> Result<Reply, NotServed> {
        if self.set.config.worker_per_call {
            if self.set.config.on_demand {
                self.set.resting.wake(|| self.set.report(WorkerEvent::Waking));
            }
            let Some((permit, place)) = self.room(core).await else {
                return Err(match self.set.room.is_closed() {
                    true => NotServed::Draining(call),
                    false => NotServed::Busy,
                });
            };
            self.set.figures.core(core).waited(begun.elapsed());
            let (queued, in_flight, receiver) = self.begin(core, call, identity, others);
            let core_set = &self.core_sets[core % self.core_sets.len()];
            let instance = worker::own(core_set, core, queued, place, permit);
            return PendingReply::new(in_flight, receiver, instance).await;
        }
        let (queued, in_flight, receiver) = self.begin(core, call, identity, others);
        let reply = PendingReply::new(in_flight, receiver, OwnInstance::default());
        match self.set.enqueue(core, queued) {
            Ok(()) => (),
            Err(PushError::Full) => return Err(NotServed::Busy),
            Err(PushError::Closed(queued)) => return Err(NotServed::Draining(queued.call)),
        }
        reply.await
    }

    /// A call that begins now on a core.
    fn begin(
        &self,
        core: usize,
        call: Call,
        identity: Option<RequestIdentity>,
        others: Duration,
    ) -> (QueuedCall, Arc<InFlight>, ReplyReceiver) {
        let (reply, receiver) = call.channel();
        let in_flight = self.set.sweeper.begin(core, others);
        if let Some(identity) = identity {
            in_flight.identify(identity);
        }
        (QueuedCall { call, reply, in_flight: in_flight.clone() }, in_flight, receiver)
    }

    /// Waits for room for an instance of the call's own. None if there is none in time, or the pool drains.
    async fn room(&self, core: usize) -> Option<(Permit, InstancePlace)> {
        let set = &self.set;
        // The timer is for those that wait.
        if let Some(entered) = set.room.enter(core).now_or_never() {
            let entered = Entered::new(&set.room, entered?);
            if let Some(place) = set.share.try_take(false) {
                return entered.stay().map(|permit| (permit, place));
            }
        }
        // In this order, so that calls beyond the most of their plugin keep no place from others.
        let room = async {
            let entered = Entered::new(&set.room, set.room.enter(core).await?);
            let place = set.share.take(false).await;
            // It may have begun to drain meanwhile.
            let permit = if set.room.is_closed() { None } else { entered.stay() };
            permit.map(|permit| (permit, place))
        };
        let timeout = set.linked.release.manifest.limits.request_timeout;
        tokio::time::timeout(timeout, room).await.ok()?
    }
}

/// The state of a pool at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolGauges {
    /// The number of instances.
    pub instances: usize,
    /// The number of calls that they have.
    pub in_flight: usize,
    /// The number of calls that wait for an instance.
    pub queued: usize,
    /// The time that the oldest of them has waited.
    pub waited: Duration,
    /// The memory that its instances use, in bytes.
    pub memory: usize,
    /// The most memory that they have used, in bytes.
    pub memory_peak: usize,
    /// The most memory that they may use, in bytes.
    pub memory_max: usize,
    /// The number of their connections.
    pub connections: usize,
}

impl PoolGauges {
    /// Those of a plugin, two of whose generations have instances. Limits are those of the later one.
    #[must_use]
    pub fn beside(self, later: Self) -> Self {
        let memory = self.memory.saturating_add(later.memory);
        Self {
            instances: self.instances + later.instances,
            in_flight: self.in_flight + later.in_flight,
            queued: self.queued + later.queued,
            waited: self.waited.max(later.waited),
            memory,
            // What they use together is more than either has used alone.
            memory_peak: self.memory_peak.max(later.memory_peak).max(memory),
            memory_max: later.memory_max,
            connections: self.connections + later.connections,
        }
    }
}

/// Counts a call that begins. True if it is a request.
fn count_begun(figures: &Arc<CoreFigures>, call: &Call) -> bool {
    match call {
        Call::Http(_) => return true,
        Call::Stream(connection) => {
            connection.count_in(figures);
            figures.connections.add(1);
        }
        Call::WebSocket(websocket) => {
            websocket.count_in(figures);
            figures.connections.add(1);
        }
        Call::Datagram(_) => figures.datagrams.add(1),
        // Its subscription counts it.
        Call::Message(_) => (),
    }
    false
}

/// The status of the response that the client of a request gets; none, if the next generation answers it.
fn status_of(served: &Result<Reply, NotServed>) -> Option<u16> {
    match served {
        Ok(Reply::Http(response)) => Some(response.status().as_u16()),
        Ok(Reply::Stream | Reply::WebSocket | Reply::Datagram(_) | Reply::Message)
        | Err(NotServed::Failed(_)) => Some(502),
        Err(NotServed::Draining(_)) => None,
        Err(NotServed::Busy) => Some(503),
        Err(NotServed::TimedOut) => Some(504),
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
