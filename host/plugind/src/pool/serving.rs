//! The part of a worker's life in which it serves: it takes calls until there is a reason to take no more, and the calls
//! that it took have ended.

mod begin_call;

use crate::{
    base::request_identity::RequestIdentity,
    pool::{
        abandoned_tasks::AbandonedTasks,
        back_pressure::BackPressure,
        decision::{LeaveReason, WorkerDecision, WorkerView},
        health::Health,
        http::accepts_call,
        in_flight::InFlight,
        queue::QueuedCall,
        state_transfer::{Done, InstanceTransfer, TransferLimits},
        worker_context::WorkerContext,
        worker_event::{Retirement, WorkerEvent},
        worker_handle::ServingWaker,
        workers::worker_slot::WorkerSlot,
    },
    world::{HostState, examine, link::Exports},
};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, Waker},
};
use tokio::time::{Sleep, sleep};
use tracing::warn;
use wasmtime::{AsContextMut, component::Accessor};

/// Number of calls after which the resources of an instance are examined.
const CALLS_PER_EXAMINATION: u32 = 64;
/// Number of calls after which the replacement of an instance whose state could not be saved is tried again.
const CALLS_UNTIL_RETRY: u32 = 1000;

/// A worker while it serves.
pub(super) struct Serving<'a> {
    worker: &'a WorkerContext<'a>,
    accessor: &'a Accessor<HostState>,
    exports: &'a Exports,
    calls: FuturesUnordered<BoxFuture<'a, wasmtime::Result<()>>>,
    taken: u32,
    /// Number of calls taken when the instance was examined last.
    examined_at: u32,
    /// The request that the instance has, if it has no other call.
    request: Option<RequestIdentity>,
    leaving: Option<LeaveReason>,
    /// Why the instance cannot be used any further.
    broken: Option<wasmtime::Error>,
    /// Its slot in the set, if it takes calls from the queue.
    slot: Option<WorkerSlot>,
    /// Until it is as old as an instance may be.
    age: Option<Pin<Box<Sleep>>>,
    is_aged: bool,
    is_near_limit: bool,
    /// It keeps a state that was not saved for the instance that replaces it.
    is_unsaved: bool,
    recycle_not_before: u32,
    /// At the last look, only replies that were being delivered kept it from taking a call.
    was_delivering: bool,
    back_pressure: BackPressure,
    abandoned_tasks: AbandonedTasks<'a>,
    /// Memory that the instance used when it began to serve.
    memory_at_start: usize,
    health: Health<'a>,
    transfer: InstanceTransfer<'a>,
}

impl<'a> Serving<'a> {
    pub(super) fn new(
        worker: &'a WorkerContext<'a>,
        accessor: &'a Accessor<HostState>,
        exports: &'a Exports,
        slot: Option<WorkerSlot>,
    ) -> Self {
        let (set, number) = (worker.set, worker.handle.number);
        let limits = TransferLimits::of(&set.linked.release.manifest);
        let deadline = &worker.transfer_deadline;
        Self {
            worker,
            accessor,
            exports,
            calls: FuturesUnordered::new(),
            taken: 0,
            examined_at: 0,
            request: None,
            leaving: None,
            broken: None,
            slot,
            age: set.config.recycle_age.map(|age| Box::pin(sleep(age))),
            is_aged: false,
            is_near_limit: false,
            is_unsaved: exports.handover.is_some(),
            recycle_not_before: 0,
            was_delivering: false,
            back_pressure: BackPressure::new(set.config.watchdog),
            abandoned_tasks: AbandonedTasks::new(worker.handle),
            memory_at_start: accessor.with(|mut store| store.get().memory_used()),
            health: Health::new(
                &set.linked.release.name,
                number,
                set.config.watchdog,
                exports,
                &set.shared.notify,
            ),
            transfer: InstanceTransfer::new(
                exports.handover.as_ref(),
                &set.transfer,
                limits,
                deadline,
            ),
        }
    }

    /// Serves until it should not any more. A worker that was made for one call serves that.
    pub(super) async fn run(&mut self, own: Option<QueuedCall>) -> wasmtime::Result<LeaveReason> {
        if let Some(call) = own {
            self.begin(call);
            self.leaving = Some(LeaveReason::Recycled);
        }
        let handle = self.worker.handle;
        let waker = Waker::from(Arc::new(ServingWaker(handle.clone())));
        // The runtime polls this before each step of the instance, and most of them concern nothing here.
        poll_fn(|_| {
            handle.heartbeat.beat();
            match handle.take_serving_due() {
                true => self.poll(&mut Context::from_waker(&waker)),
                false => Poll::Pending,
            }
        })
        .await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<wasmtime::Result<LeaveReason>> {
        loop {
            self.poll_calls(cx)?;
            self.abandoned_tasks.forget_if_ended(self.accessor, cx);
            if self.request.is_some() && self.worker.handle.in_flight() == 0 {
                self.set_request(None);
            }
            self.poll_health(cx)?;
            self.poll_transfer(cx)?;
            self.is_aged |= !self.is_aged
                && self.age.as_mut().is_some_and(|age| age.as_mut().poll(cx).is_ready());
            let view = self.view();
            match view.decide() {
                WorkerDecision::Transfer => self.transfer.begin(self.accessor),
                WorkerDecision::SaveForNext => self.transfer.begin_for_next(self.accessor),
                WorkerDecision::Leave(why) => self.leave(why),
                WorkerDecision::Take if self.take(cx) => (),
                WorkerDecision::Take => break,
                WorkerDecision::Wait => {
                    let delivers = view.only_delivers();
                    // Noted when that begins, not as long as it lasts.
                    self.worker.handle.note_delivering(delivers && !self.was_delivering);
                    self.was_delivering = delivers;
                    self.set_available(false);
                    break;
                }
            }
        }
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Err(error));
        }
        let ended = self.leaving.is_some() && self.has_ended(cx);
        match self.leaving.take_if(|_| ended) {
            Some(why) => Poll::Ready(Ok(why)),
            None => Poll::Pending,
        }
    }

    /// Whether nothing is left of its calls. Other tasks of a guest with a lifecycle are for its `stop` to end.
    fn has_ended(&mut self, cx: &mut Context<'_>) -> bool {
        // A guest that does not notice that its callers are gone is not waited for.
        let lingering = self.worker.handle.lingering();
        self.calls.len() <= lingering
            && !self.transfer.is_under_way()
            && match self.exports.lifecycle {
                Some(_) => !self.worker.handle.is_full(1),
                None => {
                    lingering > 0 || self.abandoned_tasks.poll_end(self.accessor, cx).is_ready()
                }
            }
    }

    /// Returns the facts on which it decides.
    fn view(&self) -> WorkerView {
        let (set, handle) = (self.worker.set, self.worker.handle);
        let transfer_due = self.transfer.is_due();
        // An instance that serves one request at a time is promised to have no other.
        let passes_on = set.config.concurrency > 1;
        let mut view = WorkerView {
            leaving: self.leaving.is_some(),
            retiring: handle.is_retiring(),
            draining: set.draining(),
            idle: false,
            aged: self.is_aged,
            near_limit: self.is_near_limit,
            calls: self.calls.len().saturating_sub(handle.lingering()),
            lingering: handle.lingering(),
            passed: if passes_on { handle.passed.at_work() } else { 0 },
            full: false,
            taken: self.taken,
            since_rest: self.worker.since_rest.load(Relaxed),
            computes: self.worker.computes.load(Relaxed),
            concurrency: set.config.concurrency,
            recycle_after: set.config.recycle_after,
            recycle_not_before: self.recycle_not_before,
            unsaved: self.is_unsaved,
            transferring: self.transfer.is_under_way(),
            transfer_due,
            held: !self.transfer.allows_calls() || self.health.is_due(),
        };
        // A transfer waits for every call in flight, and is due seldom.
        let is_alone = transfer_due || (view.unsaved && view.is_recyclable());
        let passed = if passes_on { handle.passed.in_flight() } else { 0 };
        let max = if is_alone { 1 } else { set.config.concurrency.saturating_add(passed) };
        view.full = handle.is_full(max);
        view.idle = self.is_idle();
        view
    }

    /// Whether it is to end because it has no work. If it has some, it continues.
    fn is_idle(&self) -> bool {
        let (set, handle) = (self.worker.set, self.worker.handle);
        if !handle.is_asked_to_end_idle() {
            return false;
        }
        let is_idle = self.calls.is_empty() && handle.in_flight() == 0 && set.queue.len() == 0;
        if !is_idle {
            handle.continue_busy();
        }
        is_idle
    }

    /// Takes a call from the queue. False if there is none, or the guest accepts none.
    fn take(&mut self, cx: &mut Context<'_>) -> bool {
        if self.slot.is_none() || !accepts_call(self.accessor, self.exports, cx) {
            self.set_available(false);
            let lingering = self.worker.handle.lingering();
            if self.slot.is_some() && lingering > 0 && self.calls.len() <= lingering {
                // It accepts no call because of those whose callers are gone, so another instance has to.
                self.leave(LeaveReason::Recycled);
            }
            self.check_back_pressure(cx);
            return false;
        }
        self.back_pressure.end();
        self.set_available(true);
        self.was_delivering = false;
        let Some(call) = self.worker.set.queue.pop(self.worker.handle.core) else { return false };
        if call.in_flight.take(self.worker.handle) {
            self.count_wait(&call.in_flight);
            self.begin(call);
        }
        true
    }

    /// The guest accepts no call. The worker leaves if that has lasted too long while the guest has no call
    /// and some wait.
    fn check_back_pressure(&mut self, cx: &mut Context<'_>) {
        let calls_wait = self.worker.set.queue.len() > 0;
        if self.slot.is_none() || !self.calls.is_empty() {
            self.back_pressure.end();
        } else if self.back_pressure.poll(calls_wait, cx) {
            self.leave(LeaveReason::Refusing);
        }
    }

    /// Counts how long a call waited in the queue.
    fn count_wait(&self, in_flight: &InFlight) {
        self.worker.handle.figures.waited(in_flight.begun().elapsed());
    }

    fn set_request(&mut self, request: Option<RequestIdentity>) {
        if self.request != request {
            self.request = request;
            self.accessor.with(|mut store| store.get().set_request(request));
        }
    }

    /// Takes no more calls.
    fn leave(&mut self, why: LeaveReason) {
        let set = self.worker.set;
        // The next one need not wait for this one's end, nor for a call.
        if why == LeaveReason::Recycled
            && !set.config.serve_one()
            && let Some(slot) = &mut self.slot
        {
            slot.leave();
            let worker = self.worker.handle.number;
            set.report(WorkerEvent::Retired { worker, cause: Retirement::Recycled });
        }
        if why == LeaveReason::Idle
            && let Some(slot) = &mut self.slot
        {
            slot.leave();
            // It may have been ordered a moment ago, and nobody else can answer.
            set.answer_save();
        }
        self.leaving.get_or_insert(why);
    }

    /// Says whether it could take a call. A worker that takes no more calls leaves its slot for another one, unless
    /// each worker serves one call: then the slot is needed until it has ended.
    fn set_available(&mut self, available: bool) {
        let ends = self.leaving.is_some() || self.worker.handle.is_retiring();
        let Some(slot) = &mut self.slot else { return };
        if ends && !self.worker.set.config.serve_one() {
            slot.leave();
        } else {
            slot.set_available(available);
        }
    }

    fn poll_calls(&mut self, cx: &mut Context<'_>) -> wasmtime::Result<()> {
        while let Poll::Ready(Some(ended)) = self.calls.poll_next_unpin(cx) {
            ended?;
            self.worker.handle.note_activity();
            if self.taken - self.examined_at >= CALLS_PER_EXAMINATION {
                self.examined_at = self.taken;
                self.examine();
            }
        }
        Ok(())
    }

    /// Sees whether the instance is near one of its limits, so that it is replaced before it reaches it.
    fn examine(&mut self) {
        let at_start = self.memory_at_start;
        self.is_near_limit |= self.accessor.with(|mut store| {
            let resources = examine(store.as_context_mut());
            store.get().is_near_limit(at_start, resources)
        });
    }

    /// Whether the instance can serve no other call before the current one has returned.
    fn is_occupied(&self) -> bool {
        !self.calls.is_empty() && self.worker.set.linked.release.inspection.is_occupied_by_a_call()
    }

    fn poll_health(&mut self, cx: &mut Context<'_>) -> wasmtime::Result<()> {
        let (deadline, is_occupied) = (&self.worker.deadline, self.is_occupied());
        let asked = self.health.poll(self.accessor, self.exports, deadline, is_occupied, cx)?;
        if self.health.take_changed() {
            self.worker.set.report(WorkerEvent::Degraded);
        }
        if let Some(why) = asked
            && self.leaving.is_none()
        {
            self.leave(LeaveReason::Unhealthy(why));
        }
        Ok(())
    }

    fn poll_transfer(&mut self, cx: &mut Context<'_>) -> wasmtime::Result<()> {
        let worker = self.worker.handle.number;
        match self.transfer.poll(cx)? {
            Some(Done::Saved(save, outcome)) => {
                self.worker.set.report(WorkerEvent::Saved { worker, save, outcome });
            }
            Some(Done::SavedForNext(Ok(state))) => {
                self.worker.set.transfer.set_initial_state(state);
                self.is_unsaved = false;
            }
            Some(Done::SavedForNext(Err(error))) => {
                let plugin = &self.worker.set.linked.release.name;
                warn!(%plugin, worker, %error, "state not saved, instance not replaced");
                self.recycle_not_before = self.taken.saturating_add(CALLS_UNTIL_RETRY);
                self.worker.handle.continue_busy();
            }
            Some(Done::Restored(outcome)) => {
                self.worker.set.report(WorkerEvent::Restored { worker, outcome });
                self.is_unsaved = true;
            }
            None => (),
        }
        Ok(())
    }
}
