//! One request and its response, as seen by those who have a part in it: the client's side, a worker, and the watch
//! over deadlines.
//!
//! An exchange is *under way* in its worker from when it is taken until its response has been delivered, its client
//! has gone, or its time is up, whichever comes first. That is what a worker waits for before it goes.

use crate::pool::worker_handle::WorkerHandle;
use bytes::Bytes;
use futures::{channel::oneshot, task::AtomicWaker};
use http_body::{Body, Frame, SizeHint};
use slab::Slab;
use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{
            AtomicBool, AtomicU8,
            Ordering::{AcqRel, Acquire, SeqCst},
        },
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::sync::Notify;
use wasmtime_wasi_http::WasiBody;

/// A worker has it.
const TAKEN: u8 = 1;
/// The guest has answered, or failed to.
const ANSWERED: u8 = 2;
/// It is not under way any more.
const OVER: u8 = 4;
/// Its time was up before it was answered.
const EXPIRED: u8 = 8;
/// Nobody watches over it any more.
const FORGOTTEN: u8 = 16;

/// What a worker says of a request: a response, or what went wrong.
pub type Outcome = Result<http::Response<WasiBody>, wasmtime::Error>;

/// One request and its response.
pub struct InFlight {
    state: AtomicU8,
    deadline: Instant,
    over_since: OnceLock<Instant>,
    place: usize,
    watch: Arc<DeadlineSweeper>,
    worker: OnceLock<Arc<WorkerHandle>>,
    client: AtomicWaker,
}

/// Why an instance could not be made for a request: all that there may be are at work.
#[derive(Debug, thiserror::Error)]
#[error("there is no room for another instance")]
pub struct NoRoom;

/// A request that was not taken, on its way back: its generation is going, and the next one can have it.
#[derive(Debug, thiserror::Error)]
#[error("its generation is going")]
pub struct GivenBack(pub Mutex<http::Request<WasiBody>>);

/// Why there is no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// No instance took it in time.
    NotTaken,
    /// The guest did not answer in time.
    Expired,
    /// The guest failed.
    Failed,
}

impl InFlight {
    /// Gives it to a worker. False if its time is up already, or its client gone.
    pub(crate) fn take(&self, worker: &Arc<WorkerHandle>) -> bool {
        worker.enter();
        // Before the flag, so that whoever sees the flag sees the worker.
        let first = self.worker.set(worker.clone()).is_ok();
        debug_assert!(first, "an exchange is offered once");
        let take = |state| (state & (OVER | EXPIRED) == 0).then_some(state | TAKEN);
        let wanted = self.state.try_update(AcqRel, Acquire, take).is_ok();
        if !wanted {
            worker.leave();
        }
        wanted
    }

    /// The worker is done with it, however it ended; where the worker is its own, so is the watch over it.
    pub(crate) fn answered(&self) {
        let before = self.state.fetch_or(ANSWERED, AcqRel);
        let own_worker = self.watch.linger.is_some() && before & TAKEN != 0;
        if !own_worker {
            self.forget();
        }
    }

    /// Its worker has ended, which was made for it alone.
    pub(crate) fn worker_ended(&self) {
        self.state.fetch_or(ANSWERED, AcqRel);
        self.forget();
    }

    fn forget(&self) {
        if self.state.fetch_or(FORGOTTEN, AcqRel) & FORGOTTEN == 0 {
            self.watch.forget(self.place);
        }
    }

    fn over(&self) {
        if self.watch.linger.is_some() {
            // Set once; who comes second knows less.
            self.over_since.set(Instant::now()).ok();
        }
        let before = self.state.fetch_or(OVER, AcqRel);
        match self.worker.get() {
            Some(worker) if before & (TAKEN | OVER) == TAKEN => worker.leave(),
            // Nobody will take it now.
            _ if before & TAKEN == 0 => self.forget(),
            _ => (),
        }
    }

    fn expire(&self) {
        let expire = |state| (state & ANSWERED == 0).then_some(state | EXPIRED);
        let Ok(before) = self.state.try_update(AcqRel, Acquire, expire) else { return };
        if before & TAKEN != 0
            && let Some(worker) = self.worker.get()
        {
            worker.retire();
        }
        self.over();
        if self.watch.linger.is_none() {
            self.forget();
        }
        self.client.wake();
    }

    /// What is due at `now`: nothing, its end, or the end of the worker that stayed behind.
    fn attend(&self, now: Instant) {
        let state = self.state.load(Acquire);
        if state & (ANSWERED | EXPIRED) == 0 && now >= self.deadline {
            self.expire();
        }
        if let (Some(linger), Some(since)) = (self.watch.linger, self.over_since.get())
            && now.saturating_duration_since(*since) >= linger
            && let Some(worker) = self.worker.get()
        {
            worker.kill();
        }
    }

    fn why(&self) -> Unanswered {
        let state = self.state.load(Acquire);
        match (state & TAKEN != 0, state & EXPIRED != 0) {
            (false, _) => Unanswered::NotTaken,
            (true, true) => Unanswered::Expired,
            (true, false) => Unanswered::Failed,
        }
    }
}

/// The client's side of an exchange: what is waited for. Dropping it is the client going away.
pub struct Answer {
    exchange: Option<Arc<InFlight>>,
    outcome: oneshot::Receiver<Outcome>,
}

impl Answer {
    pub(crate) fn new(exchange: Arc<InFlight>, outcome: oneshot::Receiver<Outcome>) -> Self {
        Self { exchange: Some(exchange), outcome }
    }
}

impl Future for Answer {
    type Output = Result<http::Response<Delivery>, (Unanswered, Option<wasmtime::Error>)>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let exchange = this.exchange.as_ref().expect("it is not polled after it was ready");
        exchange.client.register(cx.waker());
        let outcome = match Pin::new(&mut this.outcome).poll(cx) {
            Poll::Pending if exchange.state.load(Acquire) & EXPIRED != 0 => {
                Err((exchange.why(), None))
            }
            outcome => match ready!(outcome) {
                Ok(Ok(response)) => Ok(response),
                Ok(Err(error)) if error.is::<NoRoom>() => Err((Unanswered::NotTaken, None)),
                // A worker that was ended because of the deadline fails to answer, too.
                Ok(Err(error)) => Err((exchange.why(), Some(error))),
                // The worker is gone, with all that was in it.
                Err(oneshot::Canceled) => Err((exchange.why(), None)),
            },
        };
        exchange.answered();
        Poll::Ready(match outcome {
            Err(unanswered) => Err(unanswered),
            Ok(response) => {
                let exchange = this.exchange.take();
                Ok(response.map(|body| Delivery { body, exchange }))
            }
        })
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(exchange) = &self.exchange {
            exchange.over();
        }
    }
}

/// A response's body on its way to the client. When it is dropped the exchange is over.
pub struct Delivery {
    body: WasiBody,
    exchange: Option<Arc<InFlight>>,
}

impl Body for Delivery {
    type Data = Bytes;
    type Error = wasmtime_wasi_http::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            None if self.is_cut_off() => {
                Poll::Ready(Some(Err(Self::Error::HttpResponseIncomplete)))
            }
            frame => Poll::Ready(frame),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() && !self.is_cut_off()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Delivery {
    /// Whether the end of the body may be that of its instance: the client is to see the difference, as far as it has
    /// one. A body that was whole just then is taken for one that is not.
    fn is_cut_off(&self) -> bool {
        let worker = self.exchange.as_ref().and_then(|exchange| exchange.worker.get());
        worker.is_some_and(|worker| worker.has_failed())
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(exchange) = &self.exchange {
            exchange.over();
        }
    }
}

/// Watches over the deadlines of a pool's exchanges, without a timer for each.
pub struct DeadlineSweeper {
    exchanges: Mutex<Slab<Arc<InFlight>>>,
    /// How long a guest may take until its response begins.
    patience: Duration,
    /// How long a worker that was made for one exchange may go on after it; none where workers are for many.
    linger: Option<Duration>,
    asleep: AtomicBool,
    wake: Notify,
}

impl DeadlineSweeper {
    /// Begins to watch. It goes on until the last exchange and the pool are gone.
    #[must_use]
    pub fn start(patience: Duration, linger: Option<Duration>) -> Arc<Self> {
        let watch = Arc::new(Self {
            exchanges: Mutex::default(),
            patience,
            linger,
            asleep: AtomicBool::new(false),
            wake: Notify::new(),
        });
        // A twentieth late is soon enough, and looking four times a second is cheap.
        let beat = (patience / 20).clamp(Duration::from_millis(5), Duration::from_millis(250));
        tokio::spawn(attend(Arc::downgrade(&watch), beat));
        watch
    }

    /// An exchange that begins now.
    pub(crate) fn exchange(self: &Arc<Self>) -> Arc<InFlight> {
        let deadline = Instant::now() + self.patience;
        let mut exchanges = self.exchanges();
        let place = exchanges.vacant_entry();
        let exchange = Arc::new(InFlight {
            state: AtomicU8::new(0),
            deadline,
            over_since: OnceLock::new(),
            place: place.key(),
            watch: self.clone(),
            worker: OnceLock::new(),
            client: AtomicWaker::new(),
        });
        place.insert(exchange.clone());
        drop(exchanges);
        if self.asleep.swap(false, SeqCst) {
            self.wake.notify_one();
        }
        exchange
    }

    /// Ends every worker that has an exchange.
    pub(crate) fn kill_all(&self) {
        let exchanges: Vec<_> =
            self.exchanges().iter().map(|(_, exchange)| exchange.clone()).collect();
        for worker in exchanges.iter().filter_map(|exchange| exchange.worker.get()) {
            worker.kill();
        }
    }

    fn forget(&self, place: usize) {
        // Out of the lock before it is dropped: dropping may wake somebody.
        let forgotten = self.exchanges().try_remove(place);
        drop(forgotten);
    }

    fn exchanges(&self) -> MutexGuard<'_, Slab<Arc<InFlight>>> {
        self.exchanges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn attend(watch: std::sync::Weak<DeadlineSweeper>, beat: Duration) {
    loop {
        tokio::time::sleep(beat).await;
        let Some(watch) = watch.upgrade() else { return };
        // First the flag, then the look, so that one that comes in between wakes it.
        watch.asleep.store(true, SeqCst);
        let exchanges: Vec<_> =
            watch.exchanges().iter().map(|(_, exchange)| exchange.clone()).collect();
        let now = Instant::now();
        for exchange in &exchanges {
            exchange.attend(now);
        }
        if exchanges.is_empty() {
            // The next exchange wakes it, but no more than one in a beat has to. Not for ever: a pool that is gone has
            // nobody to wake it.
            let wake = watch.wake.notified();
            tokio::time::timeout(Duration::from_secs(60), wake).await.ok();
        }
        watch.asleep.store(false, SeqCst);
    }
}
