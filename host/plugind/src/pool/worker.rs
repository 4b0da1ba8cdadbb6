//! One worker: a store with one instance in it, and the task that keeps both until they end.
//!
//! Inside, the instance's event loop runs: it starts, takes calls, answers health checks and stops. Outside, in the
//! same task, deadlines are kept: a guest that spins or blocks keeps the inside from being reached, never the outside.

mod inside;
mod occupied;
mod outside;

use crate::{
    pool::{
        failure::{End, Failure},
        in_flight::InFlight,
        post_mortem::PostMortem,
        queue::QueuedCall,
        reply::OwnInstance,
        room::Permit,
        shares::InstancePlace,
        worker_context::WorkerContext,
        worker_event::{InstanceStage, Retirement, WorkerEvent},
        worker_handle::WorkerHandle,
        worker_task::WorkerTask,
        workers::{WorkerSet, core_set::CoreSet, worker_slot::WorkerSlot},
    },
    world::{self, HostState, heartbeat::Heartbeat},
};
use futures::FutureExt;
use std::{
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
    time::Instant,
};
use tracing::warn;
use wasmtime::Store;

/// Size in bytes from which the memory of an instance is freed in the background.
const LARGE_STORE: usize = 16 << 20;

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
        // The store is gone when this returns, so the first call has the room that the probe took.
        let ended = WorkerContext::new(&set, &handle).run(Purpose::Probe).await;
        let InstanceEnd { end, stage, post_mortem } = ended;
        let worker = handle.number;
        match (end, stage) {
            (End::Failed(failure), _) => {
                set.report(WorkerEvent::Failed { worker, failure, stage, post_mortem });
            }
            // The generation was given up meanwhile.
            (_, InstanceStage::Starting | InstanceStage::Restoring) => (),
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
            if stage.is_start()
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

impl WorkerContext<'_> {
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
}
