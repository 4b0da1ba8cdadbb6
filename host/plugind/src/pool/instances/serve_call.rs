//! How a pool serves a call: it finds a worker for it or room for one of its own, and counts the outcome.

use crate::{
    base::request_identity::RequestIdentity,
    pool::{
        call::{BusyCause, Call, NotServed, ReplyReceiver},
        in_flight::InFlight,
        instances::Pool,
        queue::{PushError, QueuedCall},
        reply::{OwnInstance, PendingReply, Reply},
        room::{Entered, Permit},
        shares::InstancePlace,
        worker,
        worker_event::WorkerEvent,
    },
    runtime::executors::Executors,
};
use futures::FutureExt;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use wasmtime_wasi_http::WasiBody;

impl Pool {
    /// Serves a call that is not a request.
    ///
    /// # Errors
    /// When no instance takes calls or has room, or the guest fails or does not reply in time.
    pub async fn call(&self, call: Call) -> Result<Reply, NotServed> {
        self.call_of(call, None, Duration::ZERO).await
    }

    /// Serves a request.
    ///
    /// # Errors
    /// When no instance takes calls or has room, or the guest fails or does not reply in time.
    pub async fn request(
        &self,
        request: Box<http::Request<WasiBody>>,
        identity: RequestIdentity,
    ) -> Result<Reply, NotServed> {
        self.request_within(request, identity, Duration::ZERO).await
    }

    /// The same for a request in which other plugins take part; their time, `others`, is added.
    ///
    /// # Errors
    /// As above.
    pub async fn request_within(
        &self,
        request: Box<http::Request<WasiBody>>,
        identity: RequestIdentity,
        others: Duration,
    ) -> Result<Reply, NotServed> {
        self.call_of(Call::Http(request), Some(identity), others).await
    }

    async fn call_of(
        &self,
        call: Call,
        identity: Option<RequestIdentity>,
        others: Duration,
    ) -> Result<Reply, NotServed> {
        let core = Executors::this_core().unwrap_or(0);
        let (figures, begun) = (self.set.figures.core(core), Instant::now());
        let is_http = matches!(call, Call::Http(_));
        let mut served = self.serve(core, call, identity, begun, others).await;
        if let Ok(Reply::Http(response)) = &mut served {
            let limits = &self.linked().release.manifest.limits;
            response.body_mut().limit_pauses(limits.idle_timeout);
        }
        if let Err(not_served) = &served {
            self.set.failures.note_not_served(not_served, identity);
        }
        if is_http && let Some(status) = status_of(&served) {
            figures.response(status, begun.elapsed());
        }
        served
    }

    async fn serve(
        &self,
        core: usize,
        call: Call,
        identity: Option<RequestIdentity>,
        begun: Instant,
        others: Duration,
    ) -> Result<Reply, NotServed> {
        if self.set.config.worker_per_call {
            if self.set.config.on_demand {
                self.set.resting.wake(|| self.set.report(WorkerEvent::Waking));
            }
            let (permit, place) = match self.room(core).await {
                Ok(room) => room,
                Err(_) if self.set.room.is_closed() => return Err(NotServed::Draining(call)),
                Err(cause) => return Err(NotServed::Busy(cause)),
            };
            self.set.figures.core(core).waited(begun.elapsed());
            let (queued, in_flight, receiver) = self.begin(core, call, identity, others);
            let core_set = &self.core_sets[core % self.core_sets.len()];
            let instance = worker::own(core_set, core, queued, place, permit);
            return PendingReply::new(in_flight, receiver, instance).await;
        }
        let (queued, in_flight, receiver) = self.begin(core, call, identity, others);
        let reply = PendingReply::new(in_flight, receiver, OwnInstance::default());
        match self.set.enqueue(core, queued) {
            Ok(()) => (),
            Err(PushError::Full(cause)) => return Err(NotServed::Busy(cause)),
            Err(PushError::Closed(queued)) => return Err(NotServed::Draining(queued.call)),
        }
        reply.await
    }

    /// A call that begins now on a core.
    fn begin(
        &self,
        core: usize,
        call: Call,
        identity: Option<RequestIdentity>,
        others: Duration,
    ) -> (QueuedCall, Arc<InFlight>, ReplyReceiver) {
        let (reply, receiver) = call.channel();
        let in_flight = self.set.sweeper.begin(core, others);
        if let Some(identity) = identity {
            in_flight.identify(identity);
        }
        (QueuedCall { call, reply, in_flight: in_flight.clone() }, in_flight, receiver)
    }

    /// Waits for room for an instance of the call's own.
    ///
    /// # Errors
    /// When there is none in time, with what was missing, or the pool drains.
    async fn room(&self, core: usize) -> Result<(Permit, InstancePlace), BusyCause> {
        let set = &self.set;
        let has_permit = AtomicBool::new(false);
        let missing = || match has_permit.load(Relaxed) {
            true => BusyCause::NoRoom,
            false => BusyCause::Instances,
        };
        // The timer is for those that wait.
        if let Some(entered) = set.room.enter(core).now_or_never() {
            let entered = Entered::new(&set.room, entered.ok_or_else(missing)?);
            if let Some(place) = set.share.try_take(false) {
                return entered.stay().map(|permit| (permit, place)).ok_or_else(missing);
            }
        }
        // In this order, so that calls beyond the maximum of their plugin take no place in the pool from others.
        let room = async {
            let entered = Entered::new(&set.room, set.room.enter(core).await?);
            has_permit.store(true, Relaxed);
            let place = set.share.take(false).await;
            // It may have begun to drain meanwhile.
            let permit = if set.room.is_closed() { None } else { entered.stay() };
            permit.map(|permit| (permit, place))
        };
        let timeout = set.linked.release.manifest.limits.request_timeout;
        tokio::time::timeout(timeout, room).await.ok().flatten().ok_or_else(missing)
    }
}

/// The status of the response that the client of a request gets; none, if the next generation answers it.
fn status_of(served: &Result<Reply, NotServed>) -> Option<u16> {
    match served {
        Ok(Reply::Http(response)) => Some(response.status().as_u16()),
        Ok(Reply::Stream | Reply::WebSocket | Reply::Datagram(_) | Reply::Message)
        | Err(NotServed::Failed(_)) => Some(502),
        Err(NotServed::Draining(_)) => None,
        Err(NotServed::Busy(_)) => Some(503),
        Err(NotServed::TimedOut) => Some(504),
    }
}
