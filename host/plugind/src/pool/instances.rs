//! The instances of one generation of a plugin, as everybody else sees them: requests go in, responses come out.

use crate::{
    base::name::PluginName,
    journal::Journal,
    plugin::manifest::{Manifest, Mode},
    pool::{
        deadline::EXTENSION_MAX,
        in_flight::{Answer, DeadlineSweeper, Delivery, GivenBack, Unanswered},
        worker,
        workers::{Job, PoolConfig, WorkerEvent, WorkerSet},
    },
    runtime::engine::SLICE,
    world::{self, bindings::exports::plugind::plugin::lifecycle::StopReason, link::Linked},
};
use async_channel::TrySendError;
use futures::channel::oneshot;
use std::{
    sync::{Arc, PoisonError},
    thread::available_parallelism,
    time::Duration,
};
use tokio::sync::Semaphore;
use wasmtime_wasi_http::WasiBody;

/// The most workers of a shared plugin, unless its manifest says otherwise: more than cores are of no use.
const SHARED_MAX: usize = 4;
/// The most requests at a time in a shared worker.
const SHARED_CONCURRENCY: usize = 16;
/// The most instances at a time of a plugin whose instances serve one request.
const FRESH_MAX: usize = 128;
/// The most requests of one plugin that wait for a worker.
const QUEUE: usize = 1024;

/// The instances of one generation of a plugin.
pub struct Pool {
    crew: Arc<WorkerSet>,
    queue: async_channel::Sender<Job>,
    /// Room for workers that are made for one request.
    room: Arc<Semaphore>,
}

/// Why a request was not answered by the plugin.
#[derive(Debug)]
pub enum CallError {
    /// This generation is going; the request is given back for the next one.
    Going(Box<http::Request<WasiBody>>),
    /// Too many requests wait, or none of the instances had room in time.
    Busy,
    /// The guest did not answer in time.
    Deadline,
    /// The guest failed.
    Failed(Option<wasmtime::Error>),
}

impl Pool {
    /// A pool without any instance yet; `tell` hears of each of its workers.
    #[must_use]
    pub fn new(
        linked: Linked,
        generation: u64,
        journal: Journal,
        tell: impl Fn(WorkerEvent) + Send + Sync + 'static,
    ) -> Arc<Self> {
        let terms = PoolConfig::of(&linked);
        let granted = linked.granted.clone();
        let shared =
            world::Shared::new(&linked.name, generation, &linked.manifest, granted, journal);
        let watch = DeadlineSweeper::start(
            linked.manifest.limits.request_timeout,
            terms.serve_one().then_some(terms.timeout_stop),
        );
        let (sender, receiver) = async_channel::bounded(QUEUE);
        let room = Arc::new(Semaphore::new(terms.workers));
        let crew = WorkerSet::new(linked, Arc::new(shared), terms, receiver, watch, Box::new(tell));
        tokio::spawn(mind_shortage(crew.clone()));
        Arc::new(Self { crew, queue: sender, room })
    }

    /// The plugin's name.
    #[must_use]
    pub fn name(&self) -> &PluginName {
        &self.crew.linked.name
    }

    /// What its instances are made from.
    #[must_use]
    pub fn linked(&self) -> &Linked {
        &self.crew.linked
    }

    /// What its instances have in common.
    #[must_use]
    pub fn shared(&self) -> &world::Shared {
        &self.crew.shared
    }

    /// Starts a worker, if there may be one more. Its news say what becomes of it.
    pub fn start_worker(&self) {
        self.crew.hold(false);
        if self.crew.terms.on_demand {
            // Nothing of it is to be started before there is a request.
            self.crew.tell(WorkerEvent::Ready { worker: 0 });
        } else if let Some(place) = self.crew.employ() {
            worker::hire(&self.crew, place);
        }
    }

    /// Keeps further workers from being started, until the next [`Pool::start_worker`].
    pub fn hold(&self) {
        self.crew.hold(true);
    }

    /// Lets further workers be started when they are needed.
    pub fn release(&self) {
        self.crew.hold(false);
        self.crew.mind_shortage();
    }

    /// Whether what its one instance keeps is handed over to the next generation.
    #[must_use]
    pub fn hands_over(&self) -> bool {
        self.crew.terms.hands_over
    }

    /// Holds work, finishes what is under way, and has the instance save what it keeps; [`WorkerEvent::Saved`] says what came
    /// of it, with the number that is returned. Work is held until [`Pool::resume`] or [`Pool::dismiss`].
    ///
    /// Meant for a pool that [hands over](Pool::hands_over). The number is one of this pool alone.
    pub fn save(&self) -> u64 {
        let save = self.crew.orders.save();
        self.crew.wake();
        save
    }

    /// Whether the save that was ordered last has been begun: nothing is under way then but it.
    #[must_use]
    pub fn has_begun_to_save(&self) -> bool {
        !self.crew.orders.is_pending()
    }

    /// Takes work again, those first that waited. A save that was begun goes on, and no news of it come.
    pub fn resume(&self) {
        self.crew.orders.resume();
        self.crew.wake();
    }

    /// Has the instance take over `state`, when it is ready and has no work; [`WorkerEvent::Restored`] says what came of it.
    ///
    /// An instance that replaces this one takes over what is [inherited](Pool::set_inheritance), and nothing else.
    pub fn restore(&self, state: Arc<[u8]>) {
        self.crew.orders.restore(state);
        self.crew.wake();
    }

    /// What instances take over that are started from now on, before they are ready. One that cannot has not started.
    pub fn set_inheritance(&self, state: Option<Arc<[u8]>>) {
        self.crew.orders.inherit(state);
    }

    /// How many workers take work, or will.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.crew.employed()
    }

    /// Takes no more requests, finishes those it has, stops its instances. [`WorkerEvent::Gone`] says when all are gone.
    pub fn dismiss(&self, reason: StopReason) {
        self.crew.dismiss(reason);
        self.room.close();
    }

    /// After what time nothing should be left of it, once it is dismissed.
    #[must_use]
    pub fn patience(&self) -> Duration {
        let terms = &self.crew.terms;
        match terms.on_demand {
            true => terms.timeout_stop,
            // These keep the time themselves, and may ask for more of it.
            false => terms.timeout_stop + EXTENSION_MAX,
        }
    }

    /// Ends every instance, with all that is under way in it.
    pub fn kill(&self) {
        self.crew.kill_all();
    }

    /// Has a request answered by an instance.
    ///
    /// # Errors
    /// When none had room, or the guest failed or did not answer in time.
    pub async fn call(
        &self,
        request: http::Request<WasiBody>,
    ) -> Result<http::Response<Delivery>, CallError> {
        if self.crew.is_held_full() {
            return Err(CallError::Busy);
        }
        let (reply, outcome) = oneshot::channel();
        let exchange = self.crew.watch.exchange();
        let answer = Answer::new(exchange.clone(), outcome);
        let job = Job { request, reply, exchange };
        if self.crew.terms.on_demand {
            let permit = match self.room.clone().try_acquire_owned() {
                Ok(permit) => permit,
                Err(_) => match self.wait_for_room().await {
                    Some(permit) => permit,
                    None if self.room.is_closed() => {
                        return Err(CallError::Going(Box::new(job.request)));
                    }
                    None => return Err(CallError::Busy),
                },
            };
            worker::hire_for(&self.crew, job, permit);
        } else {
            match self.queue.try_send(job) {
                Ok(()) => self.crew.mind_shortage(),
                Err(TrySendError::Full(_)) => return Err(CallError::Busy),
                Err(TrySendError::Closed(job)) => {
                    return Err(CallError::Going(Box::new(job.request)));
                }
            }
        }
        answer.await.map_err(|(why, error)| match (why, error.map(|error| error.downcast())) {
            (_, Some(Ok(GivenBack(request)))) => CallError::Going(Box::new(
                request.into_inner().unwrap_or_else(PoisonError::into_inner),
            )),
            (Unanswered::NotTaken, _) => CallError::Busy,
            (Unanswered::Expired, _) => CallError::Deadline,
            (Unanswered::Failed, error) => CallError::Failed(error.and_then(Result::err)),
        })
    }

    async fn wait_for_room(&self) -> Option<tokio::sync::OwnedSemaphorePermit> {
        let patience = self.crew.linked.manifest.limits.request_timeout;
        tokio::time::timeout(patience, self.room.clone().acquire_owned()).await.ok()?.ok()
    }
}

impl PoolConfig {
    fn of(linked: &Linked) -> Self {
        let Manifest { service, instances, .. } = &linked.manifest;
        let (program, hands_over) = (linked.offers.is_program(), linked.offers.handover);
        let mode = instances.mode.unwrap_or_else(|| linked.offers.mode());
        let cores = available_parallelism().map_or(1, usize::from);
        let (workers, concurrency, recycle_after) = match mode {
            Mode::Shared => (cores.min(SHARED_MAX), SHARED_CONCURRENCY, None),
            Mode::Exclusive => (cores.min(SHARED_MAX), 1, None),
            Mode::Fresh => (FRESH_MAX, 1, Some(1)),
        };
        let number = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        // Without a handler there is no work that would need a second instance.
        let alone = linked.offers.http.is_none();
        Self {
            workers: if alone || hands_over { 1 } else { instances.max.map_or(workers, number) },
            concurrency: match mode {
                Mode::Shared => instances.concurrency.map_or(concurrency, number),
                Mode::Exclusive | Mode::Fresh => 1,
            },
            recycle_after: recycle_after.or(instances.recycle_after),
            recycle_age: instances.recycle_age,
            on_demand: mode == Mode::Fresh && !linked.has_lifecycle() && !alone,
            program,
            hands_over,
            timeout_start: service.timeout_start,
            timeout_stop: service.timeout_stop,
            watchdog: service.watchdog,
            slices_max: if program { u32::MAX } else { slices(service.watchdog) },
        }
    }
}

/// So much processor time in slices; none is no limit.
fn slices(time: Duration) -> u32 {
    match time.as_millis() / SLICE.as_millis() {
        0 => u32::MAX,
        slices => u32::try_from(slices).unwrap_or(u32::MAX),
    }
}

/// Starts workers where work waits and nobody is there for it.
async fn mind_shortage(crew: Arc<WorkerSet>) {
    while crew.dismissed().is_none() {
        crew.shortage.notified().await;
        if let Some(place) = crew.employ() {
            worker::hire(&crew, place);
        }
    }
}
