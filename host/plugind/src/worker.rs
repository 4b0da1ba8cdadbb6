//! One worker: a store with one instance in it, and the task that keeps both until they end.
//!
//! Inside, the instance's event loop runs: it starts, takes work, answers for its health and stops. Outside, in the
//! same task, deadlines are kept: a guest that spins or blocks keeps the inside from being reached, never the outside.

use crate::{
    crew::{Crew, Employed, Failure, Job, News},
    exchange::Exchange,
    link::Exports,
    vitals::Vitals,
    world::{
        self, Hung, State,
        bindings::exports::plugind::plugin::lifecycle::{Condition, StartError, StopReason},
        pulse::Pulse,
    },
};
use futures::{
    FutureExt,
    future::{BoxFuture, pending},
    stream::{FuturesUnordered, Stream, StreamExt},
};
use std::{
    future::poll_fn,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::time::{Interval, MissedTickBehavior, Sleep};
use tracing::{debug, warn};
use wasmtime::{AsContextMut, Store, Trap, WasmBacktrace, component::Accessor};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi_http::{WasiHttpView, handler::Prepared};

/// However often a guest asks for more time, it gets no more than this for one start or stop.
const EXTENSION_MAX: Duration = Duration::from_secs(300);

/// How a worker ended.
enum End {
    /// As it should: it was dismissed, or had done its share.
    Finished,
    /// The program returned ok.
    Returned,
    /// As it should not.
    Failed(Failure),
}

/// What comes out of the inside: how it ended, or an error of the guest, or a panic of the host.
type Ended = std::thread::Result<wasmtime::Result<End>>;

/// Makes a worker for the work that waits in the crew's queue.
pub(crate) fn hire(crew: &Arc<Crew>, place: Employed) {
    let mut presence = crew.enter();
    let crew = crew.clone();
    let vitals = Vitals::new(crew.number(), Pulse::new(crew.terms.slices_max));
    presence.enlist(&vitals);
    tokio::spawn(async move {
        let worker = Worker {
            crew: &crew,
            vitals: &vitals,
            clock: Clock::default(),
            place: Mutex::new(Some(place)),
        };
        let (end, was_ready) = worker.live(None).await;
        drop(worker);
        match end {
            End::Finished => (),
            End::Returned => crew.tell(News::Returned),
            End::Failed(failure) => {
                crew.tell(News::Failed { worker: vitals.number, failure, starting: !was_ready });
            }
        }
        drop(presence);
    });
}

/// Makes a worker for one request alone. `permit` is given back when it is gone.
pub(crate) fn hire_for(crew: &Arc<Crew>, job: Job, permit: impl Send + 'static) {
    let presence = crew.enter();
    let crew = crew.clone();
    tokio::spawn(async move {
        let exchange = OwnExchange(job.exchange.clone());
        let vitals = Vitals::new(crew.number(), Pulse::new(crew.terms.slices_max));
        if job.exchange.take(&vitals) {
            let worker = Worker {
                crew: &crew,
                vitals: &vitals,
                clock: Clock::default(),
                place: Mutex::new(None),
            };
            if let (End::Failed(failure), _) = worker.live(Some(job)).await
                && crew.shared.journal.admit(&crew.linked.name, Instant::now())
            {
                // It served one request, which was answered accordingly; nothing is to be restarted.
                warn!(
                    plugin = %crew.linked.name, generation = crew.shared.generation, worker = vitals.number,
                    result = failure.result(), error = %failure, "worker ended"
                );
            }
        }
        drop((exchange, permit, presence));
    });
}

/// The exchange that a worker was made for, watched over until the worker is gone.
struct OwnExchange(Arc<Exchange>);

impl Drop for OwnExchange {
    fn drop(&mut self) {
        self.0.worker_ended();
    }
}

struct Worker<'a> {
    crew: &'a Arc<Crew>,
    vitals: &'a Arc<Vitals>,
    clock: Clock,
    /// Its place in the crew, if it takes work from the queue.
    place: Mutex<Option<Employed>>,
}

/// What the inside is at, and until when it may be: set inside, kept outside.
#[derive(Default)]
struct Clock {
    phase: Mutex<Option<Phase>>,
    changed: AtomicBool,
    ready: AtomicBool,
    /// The inside was idle since it took its last request, so it may take another one.
    settled: AtomicBool,
}

#[derive(Clone, Copy)]
struct Phase {
    what: &'static str,
    deadline: Instant,
    ceiling: Instant,
}

impl Clock {
    fn begin(&self, what: &'static str, time: Duration) {
        let deadline = Instant::now() + time;
        let phase = Phase { what, deadline, ceiling: deadline.max(Instant::now() + EXTENSION_MAX) };
        self.set(Some(phase));
    }

    fn end(&self) {
        self.set(None);
    }

    fn set(&self, phase: Option<Phase>) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
        self.changed.store(true, Relaxed);
    }

    fn phase(&self) -> Option<Phase> {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Worker<'_> {
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
            Ok(Err(error)) => self.end_of(&error, store.data().memory_was_refused()),
            Err(panic) => End::Failed(Failure::Panic(panic_message(&*panic))),
        };
        (end, self.clock.ready.load(Relaxed))
    }

    /// Polls the inside and keeps its deadlines.
    async fn outside(&self, mut inside: Pin<&mut impl Future<Output = Ended>>) -> Ended {
        let mut alarm: Option<Pin<Box<Sleep>>> = None;
        poll_fn(|cx| {
            self.vitals.register(cx.waker());
            loop {
                if let Poll::Ready(end) = inside.as_mut().poll(cx) {
                    return Poll::Ready(end);
                }
                // It is idle or waits for something, so it may be asked once more whether it takes more work.
                if self.clock.settled.swap(true, Relaxed) {
                    break;
                }
            }
            if self.vitals.is_killed() {
                let end = match self.crew.terms.program {
                    // That is how programs are stopped.
                    true => End::Finished,
                    false => End::Failed(Failure::Timeout("what was left to do")),
                };
                return Poll::Ready(Ok(Ok(end)));
            }
            if self.vitals.is_retiring() && self.vitals.under_way() == 0 {
                return Poll::Ready(Ok(Ok(End::Failed(Failure::Timeout("a request")))));
            }
            self.poll_alarm(&mut alarm, cx).map(|failure| Ok(Ok(End::Failed(failure))))
        })
        .await
    }

    fn poll_alarm(
        &self,
        alarm: &mut Option<Pin<Box<Sleep>>>,
        cx: &mut Context<'_>,
    ) -> Poll<Failure> {
        if self.clock.changed.swap(false, Relaxed) {
            *alarm = self
                .clock
                .phase()
                .map(|phase| Box::pin(tokio::time::sleep_until(phase.deadline.into())));
        }
        let Some(sleep) = alarm else { return Poll::Pending };
        let Some(mut phase) = self.clock.phase() else { return Poll::Pending };
        if let Some(until) = self.vitals.pulse.asked_until()
            && phase.what != HEALTH
        {
            phase.deadline = phase.deadline.max(until.min(phase.ceiling));
            *self.clock.phase.lock().unwrap_or_else(PoisonError::into_inner) = Some(phase);
            sleep.as_mut().reset(phase.deadline.into());
        }
        sleep.as_mut().poll(cx).map(|()| match phase.what {
            HEALTH => Failure::Watchdog("it did not answer for its health in time".to_owned()),
            what => Failure::Timeout(what),
        })
    }

    async fn inside(&self, store: &mut Store<State>, first: Option<Job>) -> wasmtime::Result<End> {
        let (linked, terms) = (&self.crew.linked, &self.crew.terms);
        if first.is_none() {
            self.clock.begin("its start", terms.timeout_start);
        }
        let exports = match linked.instantiate(store).await {
            Ok(exports) => exports,
            Err(error) if error.is::<wasmtime::PoolConcurrencyLimitError>() => {
                return Ok(End::Failed(Failure::Resources(format!(
                    "there is no room for another instance: {error:#}"
                ))));
            }
            Err(error) => return Err(error),
        };
        store
            .run_concurrent(async |accessor| self.inside_loop(accessor, &exports, first).await)
            .await?
    }

    async fn inside_loop(
        &self,
        accessor: &Accessor<State>,
        exports: &Exports,
        first: Option<Job>,
    ) -> wasmtime::Result<End> {
        let on_demand = first.is_some();
        if let Some(lifecycle) = &exports.lifecycle {
            match lifecycle.call_start(accessor).await? {
                Ok(()) => (),
                Err(StartError::Configuration(why)) => {
                    return Ok(End::Failed(Failure::Configuration(why)));
                }
                Err(StartError::Unavailable(why)) => {
                    return Ok(End::Failed(Failure::Unavailable(why)));
                }
            }
        }
        self.clock.ready.store(true, Relaxed);
        if !on_demand {
            self.clock.end();
            self.crew.tell(News::Ready { worker: self.vitals.number });
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
            if self.clock.phase().is_none() {
                self.clock.begin(STOP, self.crew.terms.timeout_stop);
            }
            lifecycle.call_stop(accessor, reason).await?;
        }
        Ok(end)
    }

    /// Takes work until there is a reason to take no more, and what was taken is done.
    async fn serve(
        &self,
        accessor: &Accessor<State>,
        exports: &Exports,
        first: Option<Job>,
    ) -> wasmtime::Result<Why> {
        let terms = &self.crew.terms;
        let mut calls = FuturesUnordered::new();
        let mut taken = 0_u32;
        let mut leaving: Option<Why> = None;
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut queue = pin!(self.crew.queue.clone());
        let mut health = Health::new(terms.watchdog, exports);

        let take = |job: Job, taken: &mut u32| {
            // A guest at work takes the processor first of all, so others should take the next request.
            self.clock.settled.store(false, Relaxed);
            *taken += 1;
            let handler = exports.http.as_ref()?;
            let prepared = accessor.with(|mut store| {
                Prepared::new(store.as_context_mut(), handler, job.request, State::http, job.reply)
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
                if let Some(why) = health.poll(accessor, exports, self, cx)? {
                    leaving.get_or_insert(Why::Unhealthy(why));
                }
                if leaving.is_none() && terms.recycle_after.is_some_and(|most| taken >= most) {
                    leaving = Some(Why::Recycled);
                }
                let room = leaving.is_none()
                    && !self.vitals.is_retiring()
                    && calls.len() < terms.concurrency
                    && !self.vitals.is_full(terms.concurrency)
                    && (calls.is_empty() || self.clock.settled.load(Relaxed))
                    && is_ready_for_call(accessor, exports, cx);
                if let Some(place) = &mut place {
                    if leaving.is_some() || self.vitals.is_retiring() {
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
                    Poll::Ready(None) => {
                        let reason = self.crew.dismissed().unwrap_or(StopReason::Stop);
                        leaving = Some(Why::Dismissed(reason));
                        self.clock.begin(STOP, terms.timeout_stop);
                    }
                    Poll::Pending => break,
                }
            }
            if leaving.is_none()
                || !calls.is_empty()
                || accessor.poll_no_interesting_tasks(cx).is_pending()
            {
                return Poll::Pending;
            }
            Poll::Ready(Ok(leaving.take().expect("it is checked above")))
        })
        .await
    }

    fn end_of(&self, error: &wasmtime::Error, memory_was_refused: bool) -> End {
        if let Some(I32Exit(code)) = error.downcast_ref() {
            return match code {
                0 => End::Returned,
                code => End::Failed(Failure::ExitCode(*code)),
            };
        }
        if let Some(hung) = error.downcast_ref::<Hung>() {
            return End::Failed(Failure::Watchdog(hung.to_string()));
        }
        let place = error
            .downcast_ref::<WasmBacktrace>()
            .and_then(|trace| trace.frames().first()?.func_name().map(str::to_owned));
        let mut why = match error.downcast_ref::<Trap>() {
            Some(trap) => trap.to_string(),
            None => error.root_cause().to_string(),
        };
        if let Some(place) = place {
            why = format!("{why} in {place}");
        }
        End::Failed(match memory_was_refused {
            true => Failure::OutOfMemory(format!(
                "it was refused memory beyond its limit, and then failed: {why}"
            )),
            false => Failure::Trap(why),
        })
    }
}

const HEALTH: &str = "its health";
const STOP: &str = "its stop";

/// Why a worker takes no more work.
enum Why {
    Dismissed(StopReason),
    Recycled,
    Unhealthy(String),
}

/// Asking an instance, now and then, how it is.
struct Health<'a> {
    interval: Option<Interval>,
    asked: Option<BoxFuture<'a, wasmtime::Result<Condition>>>,
    degraded: Option<String>,
}

impl<'a> Health<'a> {
    fn new(every: Duration, exports: &Exports) -> Self {
        let interval = (exports.lifecycle.is_some() && !every.is_zero()).then(|| {
            let mut interval = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        });
        Self { interval, asked: None, degraded: None }
    }

    /// Says why the instance is not able to serve, once it says so.
    fn poll(
        &mut self,
        accessor: &'a Accessor<State>,
        exports: &'a Exports,
        worker: &Worker<'_>,
        cx: &mut Context<'_>,
    ) -> wasmtime::Result<Option<String>> {
        let (Some(interval), Some(lifecycle)) = (&mut self.interval, &exports.lifecycle) else {
            return Ok(None);
        };
        if self.asked.is_none()
            && interval.poll_tick(cx).is_ready()
            && worker.clock.phase().is_none()
        {
            worker.clock.begin(HEALTH, interval.period());
            self.asked = Some(lifecycle.call_health(accessor).boxed());
        }
        let Some(asked) = &mut self.asked else { return Ok(None) };
        let Poll::Ready(condition) = asked.poll_unpin(cx) else { return Ok(None) };
        self.asked = None;
        worker.clock.end();
        // The next one is waited for.
        let _: Poll<_> = interval.poll_tick(cx);
        let said = match condition? {
            Condition::Unhealthy(why) => return Ok(Some(why)),
            Condition::Degraded(why) => Some(why),
            Condition::Healthy => None,
        };
        if said != self.degraded {
            let plugin = &worker.crew.linked.name;
            match &said {
                Some(why) => warn!(%plugin, worker = worker.vitals.number, why, "plugin degraded"),
                None => {
                    tracing::info!(%plugin, worker = worker.vitals.number, "plugin healthy again")
                }
            }
            self.degraded = said;
        }
        Ok(None)
    }
}

/// Whether the instance's handler can be called now: a guest may refuse further calls for a while.
fn is_ready_for_call(accessor: &Accessor<State>, exports: &Exports, cx: &mut Context<'_>) -> bool {
    use wasmtime_wasi_http::handler::Proxy;
    let handler = match &exports.http {
        None => return true,
        Some(Proxy::P3(guest)) => *guest.wasi_http_handler().func_handle().func(),
        Some(Proxy::P2(guest)) => *guest.wasi_http_incoming_handler().func_handle().func(),
    };
    accessor.poll_ready_for_concurrent_call(handler, cx).is_ready()
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    format!("the host panicked: {}", text.unwrap_or("it does not say why"))
}
