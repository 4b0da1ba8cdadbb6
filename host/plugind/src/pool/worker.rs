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
        workers::{Job, WorkerEvent, WorkerSet, WorkerSlot},
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
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Instant,
};
use tokio::{task::coop, time::sleep};
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
        let (end, was_ready) = worker.live(None).await;
        drop(worker);
        match end {
            End::Finished => (),
            End::Retired => crew.tell(WorkerEvent::Retired { worker: vitals.number }),
            End::Returned => crew.tell(WorkerEvent::Returned),
            End::Failed(failure) => {
                crew.tell(WorkerEvent::Failed {
                    worker: vitals.number,
                    failure,
                    starting: !was_ready,
                });
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
        let (end, was_ready) = worker.live(None).await;
        let number = vitals.number;
        match end {
            End::Failed(failure) => {
                crew.tell(WorkerEvent::Failed { worker: number, failure, starting: true });
            }
            _ if was_ready => crew.tell(WorkerEvent::Ready { worker: number }),
            // The generation was dismissed meanwhile.
            _ => (),
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
                (End::Failed(failure), false) if !matches!(failure, Failure::Resources(_)) => {
                    let worker = vitals.number;
                    crew.tell(WorkerEvent::Failed { worker, failure, starting: true });
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
    /// It has been ready.
    ready: AtomicBool,
    /// How many calls the inside took since its event loop was last at rest.
    since_rest: AtomicU32,
    /// Its place in the crew, if it takes work from the queue.
    place: Mutex<Option<WorkerSlot>>,
}

impl<'a> Worker<'a> {
    fn new(
        crew: &'a Arc<WorkerSet>,
        vitals: &'a Arc<WorkerHandle>,
        place: Option<WorkerSlot>,
    ) -> Self {
        let (ready, since_rest) = (AtomicBool::new(false), AtomicU32::new(0));
        let (clock, handing_over) = Default::default();
        let place = Mutex::new(place);
        Self { crew, vitals, clock, handing_over, is_trial: false, ready, since_rest, place }
    }

    /// Lives its life; also says whether it had been ready.
    async fn live(&self, first: Option<Job>) -> (End, bool) {
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
            Ok(Err(error)) => End::of_error(&error, store.data().memory_was_refused()),
            Err(panic) => End::of_panic(&*panic),
        };
        if matches!(end, End::Failed(_)) {
            // Before the store is dropped, which ends what streams from it as if that were all.
            self.vitals.fail();
        }
        (end, self.ready.load(Relaxed))
    }

    /// Polls the inside and keeps its deadlines.
    async fn outside(&self, mut inside: Pin<&mut impl Future<Output = Ended>>) -> Ended {
        let (mut alarm, mut handover_alarm) = (Timer::default(), Timer::default());
        let mut gate = self.crew.shared.quota.clone().map(QuotaGate::new);
        let waker = Waker::from(self.vitals.clone());
        poll_fn(|cx| {
            self.vitals.register(cx.waker());
            // Behind a closed gate the inside stands still, and a request to end the worker is heard all the same.
            let mut polls = 0;
            while gate.as_mut().is_none_or(|gate| gate.poll_open(cx).is_ready()) {
                let mut inner = Context::from_waker(&waker);
                self.vitals.clear_woken();
                let polled = match &gate {
                    None => inside.as_mut().poll(&mut inner),
                    Some(gate) => gate.charged(|| inside.as_mut().poll(&mut inner)),
                };
                if polled.is_ready() {
                    return polled;
                }
                polls += 1;
                if self.vitals.is_woken() {
                    // There is more to do, so its event loop is not at rest. This task is on its way to its next turn
                    // already: others, such as those that read responses, have theirs before.
                    if polls == POLLS_PER_TURN || !coop::has_budget_remaining() {
                        break;
                    }
                } else if self.since_rest.swap(0, Relaxed) == 0 {
                    break;
                }
            }
            if self.vitals.is_killed() {
                // That is how programs are stopped, and versions given up that never served.
                let is_no_failure = self.crew.terms.program
                    || (self.crew.dismissed().is_some() && !self.ready.load(Relaxed));
                let end = match is_no_failure {
                    true => End::Finished,
                    false => End::Failed(Failure::Timeout("what was left to do")),
                };
                return Poll::Ready(Ok(Ok(end)));
            }
            if self.vitals.is_retiring() && self.vitals.under_way() == 0 {
                return Poll::Ready(Ok(Ok(End::Retired)));
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
            self.clock.end(GuestCall::Start);
            self.ready.store(true, Relaxed);
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
        self.ready.store(true, Relaxed);
        if !on_demand {
            self.clock.end(GuestCall::Start);
            self.crew.tell(WorkerEvent::Ready { worker: self.vitals.number });
        }
        let why = match &exports.run {
            // Nothing tells a program to stop: when it should, the worker is ended from outside, where it is.
            Some(run) => {
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
            self.since_rest.fetch_add(1, Relaxed);
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
                    && may_take(calls.len(), self.since_rest.load(Relaxed))
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

/// How often a worker polls its instance in one turn of its own, where that has more to do each time.
const POLLS_PER_TURN: u32 = 32;

/// The most calls that a worker takes before the event loop of its instance comes to rest.
///
/// A call can be answered before the guest's own tasks for it have ended, such as the one that closes the body's
/// stream. They have their turn when the loop comes to rest, so a queue that is never empty must not keep it from that:
/// their handles would pile up until the instance reaches its limit.
const CALLS_BETWEEN_RESTS: u32 = 8;

/// Whether a worker with so many calls in progress may take another one, as far as its event loop is concerned: when
/// the loop is at rest, all calls in progress wait for something; when there is none, no other worker is kept waiting.
fn may_take(in_progress: usize, since_rest: u32) -> bool {
    since_rest == 0 || (in_progress == 0 && since_rest < CALLS_BETWEEN_RESTS)
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
