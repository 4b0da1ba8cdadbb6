//! One worker: a store with one instance in it, and the task that keeps both until they end.
//!
//! Inside, the instance's event loop runs: it starts, takes calls, answers for its health and stops. Outside, in the same
//! task, deadlines are kept: a guest that spins or blocks keeps the inside from being reached, never the outside.

use crate::{
    base::text::one_line,
    pool::{
        abandoned_tasks::AbandonedTasks,
        deadline::{GuestCall, Timer},
        decision::LeaveReason,
        failure::{CallFailure, End, Failure},
        in_flight::InFlight,
        post_mortem::PostMortem,
        queue::QueuedCall,
        reply::OwnInstance,
        room::Permit,
        serving::Serving,
        shares::InstancePlace,
        state_transfer::restore,
        worker_context::WorkerContext,
        worker_event::{InstanceStage, Retirement, WorkerEvent},
        worker_handle::WorkerHandle,
        worker_task::WorkerTask,
        workers::{WorkerSet, core_set::CoreSet, worker_slot::WorkerSlot},
    },
    runtime::file_threads::FileThreads,
    world::{
        self, HostState,
        bindings::exports::plugind::plugin::lifecycle::{StartError, StopReason},
        heartbeat::Heartbeat,
        link::Exports,
        memory::Limit,
        notify::STATUS_MAX,
        quota::QuotaGate,
    },
};
use futures::FutureExt;
use std::{
    future::poll_fn,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
    task::{Context, Poll, Waker},
    time::Instant,
};
use tokio::{
    task::coop,
    time::{Sleep, sleep},
};
use tracing::warn;
use wasmtime::{PoolConcurrencyLimitError, Store, component::Accessor};

/// Number of times that a worker polls its instance in one turn of its own, if each poll leaves more to do.
const POLLS_PER_TURN: u32 = 32;
/// Size in bytes from which the memory of an instance is freed in the background.
const LARGE_STORE: usize = 16 << 20;

/// The result of the inside: the end of the instance, an error of the guest, or a panic of the host.
type Ended = std::thread::Result<wasmtime::Result<End>>;

/// The end of an instance, the stage that it had reached, and facts about a failure.
struct InstanceEnd {
    end: End,
    stage: InstanceStage,
    post_mortem: PostMortem,
}

/// The purpose for which a worker is made.
enum Purpose {
    /// Calls that wait in the queue; its slot in the set.
    Queue(WorkerSlot),
    /// One call alone.
    Call(QueuedCall),
    /// To see whether an instance can be made.
    Probe,
}

/// Makes a worker for the calls that wait in the queue.
pub(crate) fn spawn(set: &Arc<WorkerSet>, mut slot: WorkerSlot) {
    let handle = new_handle(set, slot.core);
    slot.assign(&handle);
    spawn_work(set, handle, async move |set, handle| {
        let ended = WorkerContext::new(&set, &handle).run(Purpose::Queue(slot)).await;
        let InstanceEnd { end, stage, post_mortem } = ended;
        match end {
            End::Finished if set.is_at_rest() => {
                set.report(WorkerEvent::Idle { state: set.transfer.initial_state() });
            }
            // It may have been degraded, and is so no more.
            End::Finished => set.report(WorkerEvent::Degraded),
            End::Retired => {
                let (worker, cause) = (handle.number, Retirement::CallTimedOut(handle.late()));
                set.report(WorkerEvent::Retired { worker, cause });
            }
            End::Abandoned => {
                let (worker, cause) = (handle.number, Retirement::Recycled);
                set.report(WorkerEvent::Retired { worker, cause });
            }
            End::Returned => set.report(WorkerEvent::Returned),
            End::Failed(failure) => {
                let worker = handle.number;
                set.report(WorkerEvent::Failed { worker, failure, stage, post_mortem });
            }
        }
    });
}

/// Has a task do the work of a worker that can be reached from outside.
fn spawn_work<Work>(
    set: &Arc<WorkerSet>,
    handle: Arc<WorkerHandle>,
    work: impl FnOnce(Arc<WorkerSet>, Arc<WorkerHandle>) -> Work,
) where
    Work: Future<Output = ()> + Send + 'static,
{
    let guard = set.enter(&handle);
    WorkerTask::new(work(set.clone(), handle.clone()).boxed(), handle, guard).spawn();
}

/// Makes one instance and drops it, where every call has an instance of its own, or a plugin starts on demand: the plugin
/// is ready only after an instance existed. `success` is the event that reports it, by the number of the worker.
pub(crate) fn spawn_probe(set: &Arc<WorkerSet>, success: fn(u32) -> WorkerEvent) {
    if set.draining().is_some() {
        return;
    }
    let handle = new_handle(set, set.core_for_worker());
    spawn_work(set, handle, async move |set, handle| {
        // The store is gone when this returns, so the first call has the room that the trial took.
        let ended = WorkerContext::new(&set, &handle).run(Purpose::Probe).await;
        let InstanceEnd { end, stage, post_mortem } = ended;
        let worker = handle.number;
        match (end, stage) {
            (End::Failed(failure), _) => {
                set.report(WorkerEvent::Failed { worker, failure, stage, post_mortem });
            }
            // The generation was given up meanwhile.
            (_, InstanceStage::Starting) => (),
            (_, InstanceStage::Ready { .. }) => set.report(success(worker)),
        }
    });
}

/// A worker for one call alone, as work to be done. `permit` is given back when it is gone.
pub(crate) fn own(
    set: &CoreSet,
    core: usize,
    call: QueuedCall,
    place: InstancePlace,
    permit: Permit,
) -> OwnInstance {
    let guard = WorkerSet::enter_for_call(set, core, Some(permit));
    let worker = new_handle(set, core);
    let (set, handle) = (set.clone(), worker.clone());
    let work = async move {
        let ended = NotifyEnd(call.in_flight.clone());
        if call.in_flight.take(&handle) {
            let ended = WorkerContext::new(&set, &handle).run(Purpose::Call(call)).await;
            own_ended(&set, &handle, ended);
        }
        drop((ended, place));
    };
    OwnInstance::new(WorkerTask::new(work.boxed(), worker, guard))
}

fn own_ended(set: &WorkerSet, handle: &WorkerHandle, ended: InstanceEnd) {
    let InstanceEnd { end, stage, post_mortem } = ended;
    let worker = handle.number;
    match end {
        // No call had a part in that: the plugin cannot be instantiated. A lack of room is no fault of it, nor is a caller
        // that left while it waited for its share of the processor.
        End::Failed(failure)
            if stage == InstanceStage::Starting
                && !matches!(failure, Failure::Resources(_))
                && !handle.is_killed() =>
        {
            set.report(WorkerEvent::Failed { worker, failure, stage, post_mortem });
        }
        // The failure concerns one call, which was answered accordingly; nothing is to be restarted.
        End::Failed(failure) => {
            set.figures.failed(failure.result());
            if set.shared.journal.admit(Instant::now()) {
                warn!(
                    plugin = %set.linked.release.name, generation = set.shared.identity.generation,
                    worker, result = failure.result(), error = %failure,
                    backtrace = post_mortem.backtrace,
                    core_dump = post_mortem.core_dump.as_deref().map(|it| display(it.display())),
                    request_id = post_mortem.request.map(|request| display(request.request_id())),
                    trace_id = post_mortem.request.map(|request| display(request.trace_id())),
                    "instance failed"
                );
            }
        }
        _ => (),
    }
}

fn new_handle(set: &WorkerSet, core: usize) -> Arc<WorkerHandle> {
    let heartbeat = Heartbeat::new(set.config.slices_max);
    let figures = set.figures.core(core).clone();
    WorkerHandle::new(set.number(), core, heartbeat, set.failures.clone(), figures)
}

/// Notifies the call for which a worker was made when the worker has ended.
struct NotifyEnd(Arc<InFlight>);

impl Drop for NotifyEnd {
    fn drop(&mut self) {
        self.0.worker_ended();
    }
}

impl<'a> WorkerContext<'a> {
    /// Runs until it ends.
    async fn run(&self, purpose: Purpose) -> InstanceEnd {
        let mut store = world::store(
            self.set.linked.engine(),
            &self.set.shared,
            self.handle.number,
            self.handle.heartbeat.clone(),
        );
        let purpose = Mutex::new(Some(purpose));
        let end = {
            let inside = pin!(AssertUnwindSafe(self.inside(&mut store, &purpose)).catch_unwind());
            self.outside(inside).await
        };
        let request = store.data().request();
        let mut post_mortem = PostMortem { request, ..PostMortem::default() };
        let mut core_dump = None;
        let end = match end {
            Ok(Ok(end)) => end,
            Ok(Err(error)) => {
                post_mortem = PostMortem::of_error(&error, request);
                let refused = store.data().memory_was_refused();
                let end = End::of_error(&error, refused, self.running.load(Relaxed));
                if matches!(end, End::Failed(_)) {
                    core_dump = self.pending_dump(error);
                }
                end
            }
            Err(panic) => End::of_panic(&*panic),
        };
        if matches!(end, End::Failed(_)) {
            // Before the store is dropped: that ends streaming bodies as if they were complete.
            self.handle.fail();
        }
        let stage = self.stage();
        match core_dump {
            Some(pending) => post_mortem.core_dump = self.dump(store, pending).await,
            None => self.drop_store(store).await,
        }
        InstanceEnd { end, stage, post_mortem }
    }

    /// Drops a store; a large one in the background, since giving back its memory takes long.
    async fn drop_store(&self, store: Store<HostState>) {
        if store.data().memory_used() < LARGE_STORE {
            drop(store);
        } else {
            let dropping = self.set.executors.background().spawn(async move { drop(store) });
            // It fails only when the daemon ends.
            dropping.await.ok();
        }
    }

    /// Polls the inside and keeps its deadlines.
    async fn outside(&self, mut inside: Pin<&mut impl Future<Output = Ended>>) -> Ended {
        let (mut timer, mut transfer_timer) = (Timer::default(), Timer::default());
        let mut hold_point = self.set.shared.quota.clone().map(QuotaGate::new);
        let waker = Waker::from(self.handle.clone());
        let mut proving = None;
        poll_fn(|cx| {
            self.handle.register(cx.waker());
            let ended = self.poll_inside(inside.as_mut(), hold_point.as_mut(), &waker, cx);
            if self.handle.take_delivering() {
                // The callers have a turn before the calls that wait are given to other cores.
                cx.waker().wake_by_ref();
            } else {
                self.set.publish(self.handle);
            }
            if ended.is_ready() {
                return ended;
            }
            if let Some(end) = self.ended_from_outside() {
                return Poll::Ready(Ok(Ok(end)));
            }
            self.time_stop();
            self.poll_proof(&mut proving, cx);
            self.deadline.extend_if_asked(&self.handle.heartbeat);
            let failure = match timer.poll(&self.deadline, cx) {
                Poll::Pending => transfer_timer.poll(&self.transfer_deadline, cx),
                failure => failure,
            };
            failure.map(|failure| Ok(Ok(End::Failed(failure))))
        })
        .await
    }

    /// Polls the inside until its event loop is at rest and it does not want another call, or for a turn.
    fn poll_inside(
        &self,
        mut inside: Pin<&mut impl Future<Output = Ended>>,
        mut hold_point: Option<&mut QuotaGate>,
        waker: &Waker,
        cx: &mut Context<'_>,
    ) -> Poll<Ended> {
        let mut polls = 0;
        let file_threads = self.set.shared.file_threads.as_ref();
        // The inside does not run while the gate is closed, but a request to end the worker is still noticed.
        while hold_point.as_mut().is_none_or(|hold_point| hold_point.poll_open(cx).is_ready()) {
            let mut inner = Context::from_waker(waker);
            self.handle.clear_woken();
            let mut poll = || FileThreads::poll(file_threads, || inside.as_mut().poll(&mut inner));
            let polled = match &hold_point {
                None => poll(),
                Some(hold_point) => hold_point.charged(poll),
            };
            if polled.is_ready() {
                return polled;
            }
            polls += 1;
            // A guest that computes is not at rest, and is woken when others have had their turn. One that waits, as in a
            // synchronous call, lets others run.
            if !self.handle.heartbeat.has_yielded() {
                self.handle.heartbeat.beat();
            }
            if self.handle.heartbeat.take_yielded() {
                self.handle.note_yield();
                self.computes.store(true, Relaxed);
                break;
            }
            let turn_has_ended = polls >= POLLS_PER_TURN || !coop::has_budget_remaining();
            if self.handle.is_woken() {
                // There is more to do, so its event loop is not at rest. This task is on its way to its next turn
                // already: others, such as those that read responses, have theirs before.
                if turn_has_ended {
                    break;
                }
            } else if self.note_rest() {
                break;
            } else if turn_has_ended {
                cx.waker().wake_by_ref();
                break;
            }
        }
        Poll::Pending
    }

    /// The event loop is at rest. True if the inside knows that already, so that it need not look for calls again.
    fn note_rest(&self) -> bool {
        let computed = self.computes.load(Relaxed) && self.computes.swap(false, Relaxed);
        self.since_rest.swap(0, Relaxed) == 0 && !computed
    }

    /// Begins the deadline of the stop when the generation drains, however much of the time its calls take: here, since a
    /// guest that spins keeps the inside from being reached.
    fn time_stop(&self) {
        let is_serving = self.is_ready() && !self.set.config.worker_per_call;
        if is_serving && self.set.draining().is_some() && !self.stop_timed.swap(true, Relaxed) {
            self.deadline.begin(GuestCall::Stop, self.set.config.timeout_stop);
        }
    }

    /// Reports a program ready when it has run for a moment: here, since a program that computes keeps the inside from
    /// being reached.
    fn poll_proof(&self, proving: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) {
        if self.running.load(Relaxed) && !self.is_ready() {
            let ready_after = self.set.linked.release.manifest.service.ready;
            let proving = proving.get_or_insert_with(|| Box::pin(sleep(ready_after)));
            if proving.as_mut().poll(cx).is_ready() {
                self.report_ready();
            }
        }
    }

    /// Returns its end, if it is to be ended from outside and nothing prevents that.
    fn ended_from_outside(&self) -> Option<End> {
        if self.handle.is_killed() {
            // That is how programs are stopped, and versions given up that never served.
            let is_no_failure =
                self.set.config.program || (self.set.draining().is_some() && !self.is_ready());
            return Some(match is_no_failure {
                true => End::Finished,
                false => End::Failed(Failure::Timeout("its remaining work")),
            });
        }
        if self.handle.in_flight() > 0 {
            return None;
        }
        if self.handle.is_retiring() {
            return Some(End::Retired);
        }
        self.is_occupied_by_abandoned_call().then_some(End::Abandoned)
    }

    /// Whether the instance can be called for nothing else before the guest returns from a call whose caller has been gone
    /// for long. The inside is not reached meanwhile, so it cannot leave by itself.
    fn is_occupied_by_abandoned_call(&self) -> bool {
        self.handle.lingering() > 0 && self.set.linked.release.inspection.is_occupied_by_a_call()
    }

    async fn inside(
        &self,
        store: &mut Store<HostState>,
        purpose: &Mutex<Option<Purpose>>,
    ) -> wasmtime::Result<End> {
        let purpose = || purpose.lock().unwrap_or_else(PoisonError::into_inner);
        let is_probe = matches!(*purpose(), Some(Purpose::Probe));
        let own_call = matches!(*purpose(), Some(Purpose::Call(_)));
        if !own_call {
            self.deadline.begin(GuestCall::Start, self.set.config.timeout_start);
        }
        if !own_call && !self.has_place().await {
            let why = format!("there is no room for another instance: {}", self.set.share.cost);
            return Ok(End::Failed(Failure::Resources(why)));
        }
        let exports = match self.set.linked.instantiate(store).await {
            Ok(exports) => exports,
            Err(error) => {
                let no_capacity = error.is::<PoolConcurrencyLimitError>()
                    || store
                        .data()
                        .memory_was_refused()
                        .is_some_and(|refused| refused.limit != Limit::Instance);
                if !no_capacity {
                    return Err(error);
                }
                if let Some(Purpose::Call(call)) = purpose().take() {
                    call.in_flight.note(CallFailure::NoCapacity);
                }
                let why = format!("there is no room for another instance: {}", error.root_cause());
                return Ok(End::Failed(Failure::Resources(why)));
            }
        };
        if is_probe {
            // Reported when its store is gone.
            self.ready.get_or_init(Instant::now);
            return Ok(End::Finished);
        }
        let purpose = purpose().take();
        store
            .run_concurrent(async |accessor| self.lifecycle(accessor, &exports, purpose).await)
            .await?
    }

    /// Takes a place in the instance pool. False if there is none.
    async fn has_place(&self) -> bool {
        let place = self.set.place().await;
        let has_place = place.is_some();
        place.map(|place| self.place.get_or_init(|| place));
        has_place
    }

    /// The life of an instance: start, serve, stop.
    async fn lifecycle(
        &self,
        accessor: &Accessor<HostState>,
        exports: &Exports,
        purpose: Option<Purpose>,
    ) -> wasmtime::Result<End> {
        let own_call = matches!(purpose, Some(Purpose::Call(_)));
        if let Some(failure) = self.start(accessor, exports).await? {
            return Ok(End::Failed(failure));
        }
        if own_call {
            self.ready.get_or_init(Instant::now);
            let worker = self.handle.number;
            self.set.resting.started(|| self.set.report(WorkerEvent::Ready { worker }));
        } else if exports.run.is_none() || exports.lifecycle.is_some() {
            self.report_ready();
        }
        if exports.run.is_some() {
            return self.run_program(accessor, exports).await;
        }
        let (slot, call) = match purpose {
            Some(Purpose::Queue(slot)) => (Some(slot), None),
            Some(Purpose::Call(call)) => (None, Some(call)),
            Some(Purpose::Probe) | None => (None, None),
        };
        let mut serving = Serving::new(self, accessor, exports, slot);
        let why = serving.run(call).await?;
        let (reason, end) = match why {
            LeaveReason::Draining(reason) => (reason, End::Finished),
            LeaveReason::Recycled => (StopReason::Recycle, End::Finished),
            LeaveReason::Idle => (StopReason::Idle, End::Finished),
            LeaveReason::Unhealthy(why) => {
                (StopReason::Restart, End::Failed(Failure::Unhealthy(why)))
            }
            LeaveReason::Refusing => {
                let failure = Failure::refuses_calls(self.set.config.watchdog);
                (StopReason::Restart, End::Failed(failure))
            }
        };
        if let Some(lifecycle) = &exports.lifecycle {
            if !self.deadline.is_running() {
                self.deadline.begin(GuestCall::Stop, self.set.config.timeout_stop);
            }
            lifecycle.call_stop(accessor, reason).await?;
            // The guest may use the remaining time for tasks other than its calls.
            let mut tasks = AbandonedTasks::new(self.handle);
            poll_fn(|cx| {
                self.handle.heartbeat.beat();
                tasks.poll_end(accessor, cx)
            })
            .await;
        }
        Ok(end)
    }

    /// Starts the guest, and gives it the state that it inherits.
    async fn start(
        &self,
        accessor: &Accessor<HostState>,
        exports: &Exports,
    ) -> wasmtime::Result<Option<Failure>> {
        if let Some(lifecycle) = &exports.lifecycle {
            let why = |why: &str| one_line(why, STATUS_MAX);
            match lifecycle.call_start(accessor).await? {
                Ok(()) => (),
                Err(StartError::Configuration(text)) => {
                    return Ok(Some(Failure::Configuration(why(&text))));
                }
                Err(StartError::Unavailable(text)) => {
                    return Ok(Some(Failure::Unavailable(why(&text))));
                }
            }
        }
        if let Some(handover) = &exports.handover
            && let Some(state) = self.set.transfer.initial_state()
        {
            self.deadline.end(GuestCall::Start);
            let timeout = self.set.linked.release.manifest.handover.timeout;
            self.transfer_deadline.begin(GuestCall::Restore, timeout);
            if let Err(failure) = restore(accessor, handover, &state).await? {
                return Ok(Some(failure));
            }
            self.transfer_deadline.end(GuestCall::Restore);
        }
        Ok(None)
    }

    /// Runs a program to its end. Nothing asks it to stop: when it should, the worker is ended from outside, where it
    /// is.
    async fn run_program(
        &self,
        accessor: &Accessor<HostState>,
        exports: &Exports,
    ) -> wasmtime::Result<End> {
        let Some(run) = &exports.run else { return Ok(End::Returned) };
        // From here on it does its own work, which has no deadline.
        self.deadline.end(GuestCall::Start);
        self.running.store(true, Relaxed);
        let mut run = pin!(run.call_concurrent(accessor, ()));
        let returned = poll_fn(|cx| {
            self.handle.heartbeat.beat();
            run.as_mut().poll(cx)
        });
        Ok(match returned.await?.0 {
            Ok(()) => End::Returned,
            Err(()) => End::Failed(Failure::ExitCode(1)),
        })
    }
}
