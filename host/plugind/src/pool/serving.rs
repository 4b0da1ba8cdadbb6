//! The part of a worker's life in which it serves: it takes calls until there is a reason to take no more, and the calls
//! that it took have ended.

use crate::{
    pool::{
        call::{Call, HttpSender, ReplySender},
        decision::{Why, WorkerDecision, WorkerView},
        failure::CallFailure,
        health::Health,
        http::{HttpCall, accepts_call},
        in_flight::InFlight,
        queue::QueuedCall,
        state_transfer::{Done, TransferLimits, TransferRequest},
        worker_context::WorkerContext,
        workers::{WorkerEvent, WorkerSlot},
    },
    world::{HostState, link::Exports},
};
use futures::{
    StreamExt,
    future::{BoxFuture, OptionFuture},
    stream::FuturesUnordered,
};
use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
};
use tokio::time::{Sleep, sleep};
use tracing::debug;
use wasmtime::{AsContextMut, component::Accessor};
use wasmtime_wasi_http::WasiBody;

/// After so many calls an instance is examined for what it uses.
const CALLS_PER_EXAMINATION: u32 = 64;

/// A worker while it serves.
pub(super) struct Serving<'a> {
    worker: &'a WorkerContext<'a>,
    accessor: &'a Accessor<HostState>,
    exports: &'a Exports,
    calls: FuturesUnordered<BoxFuture<'a, wasmtime::Result<()>>>,
    taken: u32,
    /// How many calls it had taken when the instance was examined last.
    examined_at: u32,
    leaving: Option<Why>,
    /// Its slot in the set, if it takes calls from the queue.
    slot: Option<WorkerSlot>,
    age: Pin<Box<OptionFuture<Sleep>>>,
    is_aged: bool,
    is_near_memory_limit: bool,
    /// What the instance used when it began to serve.
    memory_at_start: usize,
    health: Health<'a>,
    transfer: TransferRequest<'a>,
}

impl<'a> Serving<'a> {
    pub(super) fn new(
        worker: &'a WorkerContext<'a>,
        accessor: &'a Accessor<HostState>,
        exports: &'a Exports,
        slot: Option<WorkerSlot>,
    ) -> Self {
        let (set, number) = (worker.set, worker.handle.number);
        let limits = TransferLimits::of(&set.linked.manifest);
        let deadline = &worker.transfer_deadline;
        Self {
            worker,
            accessor,
            exports,
            calls: FuturesUnordered::new(),
            taken: 0,
            examined_at: 0,
            leaving: None,
            slot,
            age: Box::pin(OptionFuture::from(set.config.recycle_age.map(sleep))),
            is_aged: false,
            is_near_memory_limit: false,
            memory_at_start: accessor.with(|mut store| store.get().memory_used()),
            health: Health::new(&set.linked.name, number, set.config.watchdog, exports),
            transfer: TransferRequest::new(
                exports.handover.as_ref(),
                &set.transfer,
                limits,
                deadline,
            ),
        }
    }

    /// Serves until it should not any more. A worker that was made for one call serves that.
    pub(super) async fn run(&mut self, own: Option<QueuedCall>) -> wasmtime::Result<Why> {
        if let Some(call) = own {
            self.begin(call);
            self.leaving = Some(Why::Recycled);
        }
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<wasmtime::Result<Why>> {
        self.worker.handle.heartbeat.beat();
        loop {
            self.poll_calls(cx)?;
            self.poll_health(cx)?;
            self.poll_transfer(cx)?;
            self.is_aged |= self.age.as_mut().poll(cx) == Poll::Ready(Some(()));
            match self.view().decide() {
                WorkerDecision::Transfer => self.transfer.begin(self.accessor),
                WorkerDecision::Leave(why) => self.leave(why),
                WorkerDecision::Take if self.take(cx) => (),
                WorkerDecision::Take => break,
                WorkerDecision::Wait => {
                    self.set_available(false);
                    break;
                }
            }
        }
        let ended = self.leaving.is_some() && self.has_ended(cx);
        match self.leaving.take_if(|_| ended) {
            Some(why) => Poll::Ready(Ok(why)),
            None => Poll::Pending,
        }
    }

    /// Whether nothing is left of its calls. Other tasks of a guest with a lifecycle are for its `stop` to end.
    fn has_ended(&self, cx: &mut Context<'_>) -> bool {
        self.calls.is_empty()
            && !self.transfer.is_under_way()
            && match self.exports.lifecycle {
                Some(_) => !self.worker.handle.is_full(1),
                None => self.accessor.poll_no_interesting_tasks(cx).is_ready(),
            }
    }

    /// What it sees of itself.
    fn view(&self) -> WorkerView {
        let (set, handle) = (self.worker.set, self.worker.handle);
        let transfer_due = self.transfer.is_due();
        // A transfer waits for every call in flight, and is due seldom.
        let full = if transfer_due { 1 } else { set.config.concurrency };
        WorkerView {
            leaving: self.leaving.is_some(),
            retiring: handle.is_retiring(),
            draining: set.draining(),
            aged: self.is_aged,
            near_memory_limit: self.is_near_memory_limit,
            calls: self.calls.len(),
            full: handle.is_full(full),
            taken: self.taken,
            since_rest: self.worker.since_rest.load(Relaxed),
            concurrency: set.config.concurrency,
            recycle_after: set.config.recycle_after,
            transfer_due,
            held: !self.transfer.allows_calls(),
        }
    }

    /// Takes a call from the queue. False if there is none, or the guest accepts none.
    fn take(&mut self, cx: &mut Context<'_>) -> bool {
        if self.slot.is_none() || !accepts_call(self.accessor, self.exports, cx) {
            self.set_available(false);
            return false;
        }
        self.set_available(true);
        let Some(call) = self.worker.set.queue.pop(self.worker.handle.core) else { return false };
        if call.in_flight.take(self.worker.handle) {
            self.begin(call);
        }
        true
    }

    /// Has the guest begin with a call.
    fn begin(&mut self, call: QueuedCall) {
        // A guest at work takes the processor first of all, so others should take the next call.
        self.worker.since_rest.fetch_add(1, Relaxed);
        self.worker.served.store(true, Relaxed);
        self.taken = self.taken.saturating_add(1);
        let QueuedCall { call, reply, in_flight } = call;
        match (call, reply) {
            (Call::Http(request), ReplySender::Http(reply)) => {
                self.begin_http(*request, reply, in_flight);
            }
            // Nothing that a component exports serves these yet. A caller that has left does not need to know.
            (Call::Stream(_), ReplySender::Stream(reply)) => {
                reply.send(Err(CallFailure::NotExported)).ok();
            }
            (Call::Datagram(_), ReplySender::Datagram(reply)) => {
                reply.send(Err(CallFailure::NotExported)).ok();
            }
            (Call::Http(_) | Call::Stream(_) | Call::Datagram(_), _) => {
                in_flight.note(CallFailure::NotExported);
            }
        }
    }

    fn begin_http(
        &mut self,
        request: http::Request<WasiBody>,
        reply: HttpSender,
        in_flight: Arc<InFlight>,
    ) {
        match HttpCall::begin(self.accessor, self.exports, request, reply) {
            Ok(Some(call)) => {
                let accessor = self.accessor;
                self.calls.push(Box::pin(async move {
                    let ended = call.run(accessor).await;
                    in_flight.answer();
                    ended
                }));
            }
            Ok(None) => in_flight.note(CallFailure::NotExported),
            Err(error) => {
                // It concerns this request alone, and dropping it has answered it.
                let (plugin, error) = (&self.worker.set.linked.name, format!("{error:#}"));
                debug!(%plugin, %error, "request not passed on");
                in_flight.answer();
            }
        }
    }

    /// Takes no more calls.
    fn leave(&mut self, why: Why) {
        let set = self.worker.set;
        // The next one need not wait for this one's end, nor for a call.
        if why == Why::Recycled
            && !set.config.serve_one()
            && let Some(slot) = &mut self.slot
        {
            slot.leave();
            set.report(WorkerEvent::Aged);
        }
        self.leaving.get_or_insert(why);
    }

    /// Says whether it could take a call; one that takes no more leaves its slot, unless it serves one call: there are as
    /// many of these as there may be.
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
            if self.taken - self.examined_at >= CALLS_PER_EXAMINATION {
                self.examined_at = self.taken;
                self.examine();
            }
        }
        Ok(())
    }

    /// Sees whether the instance is near one of its limits, so that it is replaced before it reaches it.
    fn examine(&mut self) {
        if self.exports.handover.is_some() {
            return;
        }
        let at_start = self.memory_at_start;
        self.is_near_memory_limit |= self.accessor.with(|mut store| {
            let concurrent = store
                .as_context_mut()
                .concurrent_resource_table()
                .map_or(0, |table| table.iter_mut().count());
            store.get().is_near_memory_limit(at_start, concurrent)
        });
    }

    fn poll_health(&mut self, cx: &mut Context<'_>) -> wasmtime::Result<()> {
        let deadline = &self.worker.deadline;
        if let Some(why) = self.health.poll(self.accessor, self.exports, deadline, cx)?
            && self.leaving.is_none()
        {
            self.leave(Why::Unhealthy(why));
        }
        Ok(())
    }

    fn poll_transfer(&mut self, cx: &mut Context<'_>) -> wasmtime::Result<()> {
        let worker = self.worker.handle.number;
        match self.transfer.poll(cx)? {
            Some(Done::Saved(save, outcome)) => {
                self.worker.set.report(WorkerEvent::Saved { worker, save, outcome });
            }
            Some(Done::Restored(outcome)) => {
                self.worker.set.report(WorkerEvent::Restored { worker, outcome });
            }
            None => (),
        }
        Ok(())
    }
}
