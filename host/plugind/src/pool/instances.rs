//! The instances of one generation of a plugin, as the other layers see them: calls go in, replies come out.

use crate::{
    base::name::PluginName,
    journal::Journal,
    pool::{
        call::{Call, NotServed, ReplyReceiver},
        config::PoolConfig,
        deadline::EXTENSION_MAX,
        deadline_sweeper::DeadlineSweeper,
        in_flight::InFlight,
        queue::{PushError, QueuedCall},
        reply::{OwnInstance, PendingReply, Reply},
        scaling::PoolStats,
        worker,
        workers::{WorkerEvent, WorkerSet},
    },
    runtime::executors::Executors,
    world::{self, bindings::exports::plugind::plugin::lifecycle::StopReason, link::Linked},
};
use std::{sync::Arc, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The instances of one generation of a plugin.
pub struct Pool {
    set: Arc<WorkerSet>,
    /// Room for workers that are made for one call.
    room: Arc<Semaphore>,
}

impl Pool {
    /// A pool without any instance yet; `report` is called with the events of each of its workers.
    #[must_use]
    pub fn new(
        linked: Linked,
        generation: u64,
        journal: Journal,
        executors: Executors,
        report: impl Fn(WorkerEvent) + Send + Sync + 'static,
    ) -> Arc<Self> {
        let config = PoolConfig::of(&linked);
        let granted = linked.granted.clone();
        let shared =
            world::Shared::new(&linked.name, generation, &linked.manifest, granted, journal);
        let grace = config.on_demand.then_some(config.timeout_stop);
        let timeout = linked.manifest.limits.request_timeout;
        let sweeper = DeadlineSweeper::start(timeout, grace, executors.cores());
        let room = Arc::new(Semaphore::new(config.workers));
        let set =
            WorkerSet::new(linked, Arc::new(shared), config, executors, sweeper, Box::new(report));
        tokio::spawn(start_where_short(set.clone()));
        Arc::new(Self { set, room })
    }

    /// The plugin's name.
    #[must_use]
    pub fn name(&self) -> &PluginName {
        &self.set.linked.name
    }

    /// What its instances are made from.
    #[must_use]
    pub fn linked(&self) -> &Linked {
        &self.set.linked
    }

    /// What its instances have in common.
    #[must_use]
    pub fn shared(&self) -> &world::Shared {
        &self.set.shared
    }

    /// Starts a worker, if there may be one more. Its news say what becomes of it.
    pub fn start_worker(&self) {
        self.set.pause(false);
        if self.set.config.on_demand {
            worker::spawn_probe(&self.set);
        } else if let Some(slot) = self.set.reserve() {
            worker::spawn(&self.set, slot);
        }
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

    /// Whether what its one instance keeps is handed over to the next generation.
    #[must_use]
    pub fn hands_over(&self) -> bool {
        self.set.config.hands_over
    }

    /// Holds work, finishes what is under way, and has the instance save what it keeps; [`WorkerEvent::Saved`] says what came
    /// of it, with the number that is returned. Work is held until [`Pool::resume`] or [`Pool::dismiss`].
    ///
    /// Meant for a pool that [hands over](Pool::hands_over). The number is one of this pool alone.
    pub fn save(&self) -> u64 {
        let save = self.set.transfer.save();
        self.set.wake();
        save
    }

    /// Whether the save that was ordered last has been begun: nothing is under way then but it.
    #[must_use]
    pub fn has_begun_to_save(&self) -> bool {
        !self.set.transfer.is_pending()
    }

    /// Takes work again, those first that waited. A save that was begun goes on, and no news of it come.
    pub fn resume(&self) {
        self.set.transfer.resume();
        self.set.wake();
    }

    /// Has the instance take over `state`, when it is ready and has no work; [`WorkerEvent::Restored`] says what came of it.
    ///
    /// An instance that replaces this one takes over what is [inherited](Pool::set_inheritance), and nothing else.
    pub fn restore(&self, state: Arc<[u8]>) {
        self.set.transfer.restore(state);
        self.set.wake();
    }

    /// What instances take over that are started from now on, before they are ready. One that cannot has not started.
    pub fn set_initial_state(&self, state: Option<Arc<[u8]>>) {
        self.set.transfer.set_initial_state(state);
    }

    /// How many workers take work, or will.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.set.stats().active
    }

    /// Takes no more requests, finishes those it has, stops its instances. [`WorkerEvent::Gone`] says when all are gone.
    pub fn shut_down(&self, reason: StopReason) {
        self.set.drain(reason);
        self.room.close();
    }

    /// After what time nothing should be left of it, once it is dismissed.
    #[must_use]
    pub fn wait_max(&self) -> Duration {
        let config = &self.set.config;
        match config.on_demand {
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

    /// Has a call served by an instance.
    ///
    /// # Errors
    /// When no instance takes calls or has room, or the guest fails or does not reply in time.
    pub async fn call(&self, call: Call) -> Result<Reply, NotServed> {
        if self.set.is_held_full() {
            return Err(NotServed::Busy);
        }
        let core = Executors::this_core().unwrap_or(0);
        if self.set.config.on_demand {
            let Some(permit) = self.room().await else {
                return Err(match self.room.is_closed() {
                    true => NotServed::Draining(call),
                    false => NotServed::Busy,
                });
            };
            let (queued, in_flight, receiver) = self.begin(core, call);
            let instance = worker::own(&self.set, core, queued, permit);
            return PendingReply::new(in_flight, receiver, instance).await;
        }
        let (queued, in_flight, receiver) = self.begin(core, call);
        let reply = PendingReply::new(in_flight, receiver, OwnInstance::default());
        match self.set.enqueue(core, queued) {
            Ok(()) => (),
            Err(PushError::Full) => return Err(NotServed::Busy),
            Err(PushError::Closed(queued)) => return Err(NotServed::Draining(queued.call)),
        }
        reply.await
    }

    /// A call that begins now on a core.
    fn begin(&self, core: usize, call: Call) -> (QueuedCall, Arc<InFlight>, ReplyReceiver) {
        let (reply, receiver) = call.channel();
        let in_flight = self.set.sweeper.begin(core);
        (QueuedCall { call, reply, in_flight: in_flight.clone() }, in_flight, receiver)
    }

    /// Room for an instance of a call's own, as soon as there is some; none, if there is none in time or will be none.
    async fn room(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = self.room.clone().try_acquire_owned() {
            return Some(permit);
        }
        let timeout = self.set.linked.manifest.limits.request_timeout;
        tokio::time::timeout(timeout, self.room.clone().acquire_owned()).await.ok()?.ok()
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
