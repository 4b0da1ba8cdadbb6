//! One worker: a store with one instance in it, and the task that keeps both until they end.
//!
//! Inside, the instance's event loop runs: it starts, takes work, answers for its health and stops. Outside, in the
//! same task, deadlines are kept: a guest that spins or blocks keeps the inside from being reached, never the outside.

use crate::{
    base::text::one_line,
    pool::{
        deadline::{Deadline, GuestCall, Timer},
        failure::{End, Failure},
        health::Health,
        in_flight::{InFlight, NoRoom},
        state_transfer::{Done, TransferLimits, TransferRequest, restore},
        worker_handle::WorkerHandle,
        workers::{InstanceStage, Job, WorkerEvent, WorkerSet, WorkerSlot},
    },
    world::{
        self, HostState,
        bindings::exports::plugind::plugin::lifecycle::{StartError, StopReason},
        heartbeat::Heartbeat,
        link::Exports,
        memory::Refused,
        notify::STATUS_MAX,
        quota::QuotaGate,
    },
};
use futures::{
    FutureExt,
    future::{OptionFuture, pending},
    stream::{FuturesUnordered, Stream, StreamExt},
};
use std::{
    future::poll_fn,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Instant,
};
use tokio::time::sleep;
use tracing::{debug, warn};
use wasmtime::{AsContextMut, PoolConcurrencyLimitError, Store, component::Accessor};
use wasmtime_wasi_http::{WasiHttpView, handler::Prepared};

/// What comes out of the inside: how it ended, or an error of the guest, or a panic of the host.
type Ended = std::thread::Result<wasmtime::Result<End>>;

/// Makes a worker for the work that waits in the crew's queue.
pub(crate) fn hire(crew: &Arc<WorkerSet>, place: WorkerSlot) {
    let mut presence = crew.enter();
    let crew = crew.clone();
    let vitals = WorkerHandle::new(crew.number(), Heartbeat::new(crew.terms.slices_max));
    presence.enlist(&vitals);
    tokio::spawn(async move {
        let worker = Worker::new(&crew, &vitals, Some(place));
        let (end, stage) = worker.live(None).await;
        drop(worker);
        match end {
            End::Finished => (),
            End::Retired => crew.tell(WorkerEvent::Retired { worker: vitals.number }),
            End::Returned => crew.tell(WorkerEvent::Returned),
            End::Failed(failure) => {
                crew.tell(WorkerEvent::Failed { worker: vitals.number, failure, stage });
            }
        }
        drop(presence);
    });
}

/// Makes one instance and drops it, where every request has an instance of its own: the plugin is ready only after an
/// instance existed.
pub(crate) fn try_instance(crew: &Arc<WorkerSet>) {
    if crew.dismissed().is_some() {
        return;
    }
    let mut presence = crew.enter();
    let crew = crew.clone();
    let vitals = WorkerHandle::new(crew.number(), Heartbeat::new(crew.terms.slices_max));
    presence.enlist(&vitals);
    tokio::spawn(async move {
        let worker = Worker { is_trial: true, ..Worker::new(&crew, &vitals, None) };
        // The store is gone when this returns, so the first request has the room that the trial took.
        let (end, stage) = worker.live(None).await;
        let worker = vitals.number;
        match (end, stage) {
            (End::Failed(failure), _) => crew.tell(WorkerEvent::Failed { worker, failure, stage }),
            // The generation was dismissed meanwhile.
            (_, InstanceStage::Starting) => (),
            (_, InstanceStage::Ready { .. }) => crew.tell(WorkerEvent::Ready { worker }),
        }
        drop(presence);
    });
}

/// Makes a worker for one request alone. `permit` is given back when it is gone.
pub(crate) fn hire_for(crew: &Arc<WorkerSet>, job: Job, permit: impl Send + 'static) {
    let presence = crew.enter();
    let crew = crew.clone();
    tokio::spawn(async move {
        let exchange = OwnExchange(job.exchange.clone());
        let vitals = WorkerHandle::new(crew.number(), Heartbeat::new(crew.terms.slices_max));
        if job.exchange.take(&vitals) {
            let worker = Worker::new(&crew, &vitals, None);
            match worker.live(Some(job)).await {
                // No request had a part in that: the plugin cannot be instantiated. A lack of room is no fault of it.
                (End::Failed(failure), stage @ InstanceStage::Starting)
                    if !matches!(failure, Failure::Resources(_)) =>
                {
                    let worker = vitals.number;
                    crew.tell(WorkerEvent::Failed { worker, failure, stage });
                }
                // The failure concerns one request, which was answered accordingly; nothing is to be restarted.
                (End::Failed(failure), _) if crew.shared.journal.admit(Instant::now()) => warn!(
                    plugin = %crew.linked.name, generation = crew.shared.identity.generation, worker = vitals.number,
                    result = failure.result(), error = %failure, "worker ended"
                ),
                _ => (),
            }
        }
        drop((exchange, permit, presence));
    });
}

/// The exchange that a worker was made for, watched over until the worker is gone.
struct OwnExchange(Arc<InFlight>);

impl Drop for OwnExchange {
    fn drop(&mut self) {
        self.0.worker_ended();
    }
}

struct Worker<'a> {
    crew: &'a Arc<WorkerSet>,
    vitals: &'a Arc<WorkerHandle>,
    clock: Deadline,
    /// What it keeps is on its way out of it or into it; it answers for its health meanwhile.
    handing_over: Deadline,
    /// It is made to see whether an instance can be made, and ends when one was.
    is_trial: bool,
    /// When it was ready.
    ready: OnceLock<Instant>,
    /// It has taken a request.
    served: AtomicBool,
    /// The program's `run` was called.
    running: AtomicBool,
    /// The inside was idle since it took its last request, so it may take another one.
    settled: AtomicBool,
    /// Its place in the crew, if it takes work from the queue.
    place: Mutex<Option<WorkerSlot>>,
}

impl<'a> Worker<'a> {
    fn new(
        crew: &'a Arc<WorkerSet>,
        vitals: &'a Arc<WorkerHandle>,
        place: Option<WorkerSlot>,
    ) -> Self {
        Self {
            crew,
            vitals,
            clock: Deadline::default(),
            handing_over: Deadline::default(),
            is_trial: false,
            ready: OnceLock::new(),
            served: AtomicBool::new(false),
            running: AtomicBool::new(false),
            settled: AtomicBool::new(false),
            place: Mutex::new(place),
        }
    }

    /// Marks it ready, and reports that the first time.
    fn report_ready(&self) {
        self.clock.end(GuestCall::Start);
        if self.ready.set(Instant::now()).is_ok() {
            self.crew.tell(WorkerEvent::Ready { worker: self.vitals.number });
        }
    }

    fn stage(&self) -> InstanceStage {
        match self.ready.get() {
            None => InstanceStage::Starting,
            Some(since) => {
                InstanceStage::Ready { uptime: since.elapsed(), served: self.served.load(Relaxed) }
            }
        }
    }

    /// Runs the instance to its end; also returns how far it came.
    async fn live(&self, first: Option<Job>) -> (End, InstanceStage) {
        let mut store = world::store(
            self.crew.linked.engine(),
            &self.crew.shared,
            self.vitals.number,
            self.vitals.pulse.clone(),
        );
        let end = {
            let inside = pin!(AssertUnwindSafe(self.inside(&mut store, first)).catch_unwind());
            self.outside(inside).await
        };
        let end = match end {
            Ok(Ok(end)) => end,
            Ok(Err(error)) => {
                let refused = store.data().memory_was_refused();
                End::of_error(&error, refused, self.running.load(Relaxed))
            }
            Err(panic) => End::of_panic(&*panic),
        };
        if matches!(end, End::Failed(_)) {
            // Before the store is dropped, which ends what streams from it as if that were all.
            self.vitals.fail();
        }
        (end, self.stage())
    }

    /// Polls the inside and keeps its deadlines.
    async fn outside(&self, mut inside: Pin<&mut impl Future<Output = Ended>>) -> Ended {
        let (mut alarm, mut handover_alarm) = (Timer::default(), Timer::default());
        let mut gate = self.crew.shared.quota.clone().map(QuotaGate::new);
        let mut proving = None;
        poll_fn(|cx| {
            self.vitals.register(cx.waker());
            // Behind a closed gate the inside stands still, and whoever wants the worker gone is heard all the same.
            while gate.as_mut().is_none_or(|gate| gate.poll_open(cx).is_ready()) {
                let polled = match &gate {
                    None => inside.as_mut().poll(cx),
                    Some(gate) => gate.charged(|| inside.as_mut().poll(cx)),
                };
                if polled.is_ready() {
                    return polled;
                }
                // It is idle or waits for something, so it may be asked once more whether it takes more work.
                if self.settled.swap(true, Relaxed) {
                    break;
                }
            }
            if self.vitals.is_killed() {
                // That is how programs are stopped, and versions given up that never served.
                let is_no_failure = self.crew.terms.program
                    || (self.crew.dismissed().is_some() && self.ready.get().is_none());
                let end = match is_no_failure {
                    true => End::Finished,
                    false => End::Failed(Failure::Timeout("what was left to do")),
                };
                return Poll::Ready(Ok(Ok(end)));
            }
            if self.vitals.is_retiring() && self.vitals.under_way() == 0 {
                return Poll::Ready(Ok(Ok(End::Retired)));
            }
            // Outside, since a program that computes keeps the inside from being reached.
            if self.running.load(Relaxed) && self.ready.get().is_none() {
                let ready_after = self.crew.linked.manifest.service.ready;
                let proving = proving.get_or_insert_with(|| Box::pin(sleep(ready_after)));
                if proving.as_mut().poll(cx).is_ready() {
                    self.report_ready();
                }
            }
            self.clock.heed(&self.vitals.pulse);
            let failure = match alarm.poll(&self.clock, cx) {
                Poll::Pending => handover_alarm.poll(&self.handing_over, cx),
                failure => failure,
            };
            failure.map(|failure| Ok(Ok(End::Failed(failure))))
        })
        .await
    }

    async fn inside(
        &self,
        store: &mut Store<HostState>,
        first: Option<Job>,
    ) -> wasmtime::Result<End> {
        let (linked, terms) = (&self.crew.linked, &self.crew.terms);
        if first.is_none() {
            self.clock.begin(GuestCall::Start, terms.timeout_start);
        }
        let exports = match linked.instantiate(store).await {
            Ok(exports) => exports,
            Err(error) => {
                let no_room = error.is::<PoolConcurrencyLimitError>()
                    || store.data().memory_was_refused() == Some(Refused::Plugin);
                if !no_room {
                    return Err(error);
                }
                if let Some(job) = first {
                    // Nobody waits for it if the client is gone.
                    job.reply.send(Err(NoRoom.into())).ok();
                }
                let why = format!("there is no room for another instance: {}", error.root_cause());
                return Ok(End::Failed(Failure::Resources(why)));
            }
        };
        if self.is_trial {
            // Reported when its store is gone.
            self.ready.get_or_init(Instant::now);
            return Ok(End::Finished);
        }
        store
            .run_concurrent(async |accessor| self.inside_loop(accessor, &exports, first).await)
            .await?
    }

    async fn inside_loop(
        &self,
        accessor: &Accessor<HostState>,
        exports: &Exports,
        first: Option<Job>,
    ) -> wasmtime::Result<End> {
        let on_demand = first.is_some();
        if let Some(lifecycle) = &exports.lifecycle {
            match lifecycle.call_start(accessor).await? {
                Ok(()) => (),
                Err(StartError::Configuration(why)) => {
                    return Ok(End::Failed(Failure::Configuration(one_line(&why, STATUS_MAX))));
                }
                Err(StartError::Unavailable(why)) => {
                    return Ok(End::Failed(Failure::Unavailable(one_line(&why, STATUS_MAX))));
                }
            }
        }
        if let Some(handover) = &exports.handover
            && let Some(state) = self.crew.orders.inheritance()
        {
            self.clock.end(GuestCall::Start);
            self.handing_over.begin(GuestCall::Restore, self.crew.linked.manifest.handover.timeout);
            if let Err(failure) = restore(accessor, handover, &state).await? {
                return Ok(End::Failed(failure));
            }
            self.handing_over.end(GuestCall::Restore);
        }
        if on_demand {
            self.ready.get_or_init(Instant::now);
        } else if exports.run.is_none() || exports.lifecycle.is_some() {
            self.report_ready();
        }
        let why = match &exports.run {
            // Nothing tells a program to stop: when it should, the worker is ended from outside, where it is.
            Some(run) => {
                // What it does from here on is its work, for which there is no deadline.
                self.clock.end(GuestCall::Start);
                self.running.store(true, Relaxed);
                let mut run = pin!(run.call_concurrent(accessor, ()));
                let returned = poll_fn(|cx| {
                    self.vitals.pulse.beat();
                    run.as_mut().poll(cx)
                });
                return Ok(match returned.await?.0 {
                    Ok(()) => End::Returned,
                    Err(()) => End::Failed(Failure::ExitCode(1)),
                });
            }
            None => self.serve(accessor, exports, first).await?,
        };
        let (reason, end) = match why {
            Why::Dismissed(reason) => (reason, End::Finished),
            Why::Recycled => (StopReason::Recycle, End::Finished),
            Why::Unhealthy(why) => (StopReason::Restart, End::Failed(Failure::Unhealthy(why))),
        };
        if let Some(lifecycle) = &exports.lifecycle {
            if !self.clock.is_running() {
                self.clock.begin(GuestCall::Stop, self.crew.terms.timeout_stop);
            }
            lifecycle.call_stop(accessor, reason).await?;
        }
        Ok(end)
    }

    /// Takes work until there is a reason to take no more, and what was taken is done.
    async fn serve(
        &self,
        accessor: &Accessor<HostState>,
        exports: &Exports,
        first: Option<Job>,
    ) -> wasmtime::Result<Why> {
        let terms = &self.crew.terms;
        let mut calls = FuturesUnordered::new();
        let mut taken = 0_u32;
        let mut leaving: Option<Why> = None;
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut queue = pin!(self.crew.queue.clone());
        let mut age = pin!(OptionFuture::from(terms.recycle_age.map(sleep)));
        let mut health =
            Health::new(&self.crew.linked.name, self.vitals.number, terms.watchdog, exports);
        let limits = TransferLimits::of(&self.crew.linked.manifest);
        let mut errand = TransferRequest::new(
            exports.handover.as_ref(),
            &self.crew.orders,
            limits,
            &self.handing_over,
        );

        let take = |job: Job, taken: &mut u32| {
            // A guest at work takes the processor first of all, so others should take the next request.
            self.settled.store(false, Relaxed);
            self.served.store(true, Relaxed);
            *taken += 1;
            let handler = exports.http.as_ref()?;
            let prepared = accessor.with(|mut store| {
                Prepared::new(
                    store.as_context_mut(),
                    handler,
                    job.request,
                    HostState::http,
                    job.reply,
                )
            });
            let prepared = match prepared {
                Ok(prepared) => prepared,
                Err(error) => {
                    // It concerns this request alone, and dropping it has answered it.
                    debug!(plugin = %self.crew.linked.name, error = %format!("{error:#}"), "request not passed on");
                    job.exchange.answered();
                    return None;
                }
            };
            Some(async move {
                let called = prepared.run(accessor, pending()).await;
                job.exchange.answered();
                called
            })
        };
        if let Some(job) = first {
            calls.extend(take(job, &mut taken));
            leaving = Some(Why::Recycled);
        }

        poll_fn(|cx| {
            self.vitals.pulse.beat();
            loop {
                match calls.poll_next_unpin(cx) {
                    Poll::Ready(Some(Ok(_))) => continue,
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                    Poll::Ready(None) | Poll::Pending => (),
                }
                if let Some(why) = health.poll(accessor, exports, &self.clock, cx)? {
                    leaving.get_or_insert(Why::Unhealthy(why));
                }
                if let Some(done) = errand.poll(cx)? {
                    self.crew.tell(self.told(done));
                }
                if errand.is_due()
                    && leaving.is_none()
                    && !self.vitals.is_retiring()
                    && calls.is_empty()
                    && !self.vitals.is_full(1)
                {
                    errand.begin(accessor);
                    continue;
                }
                // Whatever waits is for the next generation then. This one has its time from now on, however much of
                // it is taken up by what is under way.
                if leaving.is_none()
                    && let Some(reason) = self.crew.dismissed()
                {
                    leaving = Some(Why::Dismissed(reason));
                    self.clock.begin(GuestCall::Stop, terms.timeout_stop);
                }
                if leaving.is_none() && terms.recycle_after.is_some_and(|most| taken >= most) {
                    leaving = Some(Why::Recycled);
                }
                if leaving.is_none() && age.as_mut().poll(cx) == Poll::Ready(Some(())) {
                    leaving = Some(Why::Recycled);
                    // The next one need not wait for this one's end, nor for work.
                    if let Some(place) = &mut place {
                        place.leave();
                        self.crew.tell(WorkerEvent::Aged);
                    }
                }
                let room = leaving.is_none()
                    && !self.vitals.is_retiring()
                    && errand.lets_work()
                    && calls.len() < terms.concurrency
                    && !self.vitals.is_full(terms.concurrency)
                    && (calls.is_empty() || self.settled.load(Relaxed))
                    && is_ready_for_call(accessor, exports, cx);
                if let Some(place) = &mut place {
                    // One that serves one request keeps its place to the end: there are as many as there may be.
                    if (leaving.is_some() || self.vitals.is_retiring()) && !terms.serve_one() {
                        place.leave();
                    } else {
                        place.set_available(room);
                    }
                }
                if !room {
                    break;
                }
                match queue.as_mut().poll_next(cx) {
                    Poll::Ready(Some(job)) => {
                        if job.exchange.take(self.vitals) {
                            calls.extend(take(job, &mut taken));
                        }
                    }
                    // It was dismissed just now.
                    Poll::Ready(None) => (),
                    Poll::Pending => break,
                }
            }
            if leaving.is_none()
                || !calls.is_empty()
                || errand.is_under_way()
                || accessor.poll_no_interesting_tasks(cx).is_pending()
            {
                return Poll::Pending;
            }
            Poll::Ready(Ok(leaving.take().expect("it is checked above")))
        })
        .await
    }
}

impl Worker<'_> {
    fn told(&self, done: Done) -> WorkerEvent {
        let worker = self.vitals.number;
        match done {
            Done::Saved(save, outcome) => WorkerEvent::Saved { worker, save, outcome },
            Done::Restored(outcome) => WorkerEvent::Restored { worker, outcome },
        }
    }
}

/// Why a worker takes no more work.
enum Why {
    Dismissed(StopReason),
    Recycled,
    Unhealthy(String),
}

/// Whether the instance's handler can be called now: a guest may refuse further calls for a while.
fn is_ready_for_call(
    accessor: &Accessor<HostState>,
    exports: &Exports,
    cx: &mut Context<'_>,
) -> bool {
    use wasmtime_wasi_http::handler::Proxy;
    let handler = match &exports.http {
        None => return true,
        Some(Proxy::P3(guest)) => *guest.wasi_http_handler().func_handle().func(),
        Some(Proxy::P2(guest)) => *guest.wasi_http_incoming_handler().func_handle().func(),
    };
    accessor.poll_ready_for_concurrent_call(handler, cx).is_ready()
}
