//! The calls that wait for the workers of a pool: a lane for each core, so that a call stays on the core where it came.
//!
//! A call goes to its own core's lane if a worker of that core is available, otherwise to a core with one that is. A
//! worker takes from its own lane first, then from lanes without an available worker.
//!
//! No call is lost: a caller adds its call and then looks for a worker, and a worker becomes available and looks at the
//! lanes afterwards, so one of the two notices the other.

use crate::{
    base::atomic::{AtomicUsize, Mutex, MutexGuard, Ordering::SeqCst},
    pool::{
        call::{BusyCause, Call, ReplySender},
        in_flight::InFlight,
        worker_handle::WorkerHandle,
    },
};
use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError},
};

/// A call on its way to a worker.
pub(crate) struct QueuedCall {
    /// The work.
    pub(crate) call: Call,
    /// Where the reply goes.
    pub(crate) reply: ReplySender,
    /// Where the call is.
    pub(crate) in_flight: Arc<InFlight>,
}

/// The calls that wait.
pub(crate) struct CallQueue {
    lanes: Box<[Lane]>,
    /// The most calls, approximately.
    max: usize,
}

/// The calls that wait at one core, apart from those of other cores in memory, too.
#[derive(Default)]
#[repr(align(128))]
struct Lane {
    state: Mutex<LaneState>,
    /// The lengths of the two lists, to be read without the lock.
    queued: AtomicUsize,
    available: AtomicUsize,
}

#[derive(Default)]
struct LaneState {
    calls: VecDeque<QueuedCall>,
    /// The workers of this core that can take a call.
    available: Vec<Arc<WorkerHandle>>,
    closed: bool,
}

/// Which worker a call went to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// There was an available worker at the core where it came.
    OwnCore,
    /// There was one at another core only.
    OtherCore,
    /// There was none.
    NoWorker,
}

/// Why a call was not added.
pub(crate) enum PushError {
    /// Too many wait, for this cause.
    Full(BusyCause),
    /// None is taken any more.
    Closed(QueuedCall),
}

impl CallQueue {
    /// One without calls, of so many lanes.
    pub(crate) fn new(lanes: usize, max: usize) -> Self {
        Self { lanes: (0..lanes.max(1)).map(|_| Lane::default()).collect(), max }
    }

    /// Returns the number of calls that wait.
    pub(crate) fn len(&self) -> usize {
        self.lanes.iter().map(|lane| lane.queued.load(SeqCst)).sum()
    }

    /// Returns the number of workers that can take a call.
    pub(crate) fn available(&self) -> usize {
        self.lanes.iter().map(|lane| lane.available.load(SeqCst)).sum()
    }

    /// Adds a call that came on a core, and wakes a worker for it if there is one.
    pub(crate) fn push(&self, core: usize, call: QueuedCall) -> Result<Pushed, PushError> {
        let own = self.lane(core);
        let lane = self.lane_with_worker(core).unwrap_or(own);
        // As long as no lane has more than its share, no other one has to be looked at.
        if lane.queued.load(SeqCst) >= self.max / self.lanes.len() && self.len() >= self.max {
            return Err(PushError::Full(BusyCause::Instances));
        }
        let worker = {
            let mut state = lane.state();
            if state.closed {
                return Err(PushError::Closed(call));
            }
            state.calls.push_back(call);
            lane.queued.store(state.calls.len(), SeqCst);
            state.next_worker()
        };
        if let Some(worker) = worker {
            worker.wake_to_work();
            return Ok(if std::ptr::eq(lane, own) { Pushed::OwnCore } else { Pushed::OtherCore });
        }
        Ok(if self.wake_available(core) { Pushed::OtherCore } else { Pushed::NoWorker })
    }

    /// Wakes an available worker if there is one; one of `core` before others.
    pub(crate) fn wake_available(&self, core: usize) -> bool {
        let Some(lane) = self.lane_with_worker(core) else { return false };
        let worker = lane.state().next_worker();
        worker.is_some_and(|worker| {
            worker.wake_to_work();
            true
        })
    }

    /// Takes a call for a worker of a core.
    pub(crate) fn pop(&self, core: usize) -> Option<QueuedCall> {
        let own = self.lane(core);
        own.pop().or_else(|| {
            let others = self.lanes.iter().filter(|lane| !std::ptr::eq(*lane, own));
            others.filter(|lane| lane.waits_for_others()).find_map(Lane::pop)
        })
    }

    /// Lists a worker as available, or no longer. True if it should look for a call again.
    pub(crate) fn set_available(&self, worker: &Arc<WorkerHandle>, available: bool) -> bool {
        let lane = self.lane(worker.core);
        {
            let mut state = lane.state();
            state.available.retain(|other| !Arc::ptr_eq(other, worker));
            if available {
                state.available.push(worker.clone());
            }
            lane.available.store(state.available.len(), SeqCst);
        }
        available && (lane.queued.load(SeqCst) > 0 || self.lanes.iter().any(Lane::waits_for_others))
    }

    /// Takes no more calls, and returns those that wait.
    pub(crate) fn close(&self) -> Vec<QueuedCall> {
        let close = |lane: &Lane| {
            let mut state = lane.state();
            state.closed = true;
            lane.queued.store(0, SeqCst);
            std::mem::take(&mut state.calls)
        };
        self.lanes.iter().flat_map(close).collect()
    }

    fn lane(&self, core: usize) -> &Lane {
        &self.lanes[core % self.lanes.len()]
    }

    /// The lane of `core` if it has an available worker, or else another one that has.
    fn lane_with_worker(&self, core: usize) -> Option<&Lane> {
        let has_worker = |lane: &&Lane| lane.available.load(SeqCst) > 0;
        let own = self.lane(core);
        Some(own).filter(has_worker).or_else(|| self.lanes.iter().find(has_worker))
    }
}

impl Lane {
    fn state(&self) -> MutexGuard<'_, LaneState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pop(&self) -> Option<QueuedCall> {
        if self.queued.load(SeqCst) == 0 {
            return None;
        }
        let mut state = self.state();
        let call = state.calls.pop_front();
        self.queued.store(state.calls.len(), SeqCst);
        call
    }

    /// Whether calls wait in it, and none of its own workers can take one.
    fn waits_for_others(&self) -> bool {
        self.queued.load(SeqCst) > 0 && self.available.load(SeqCst) == 0
    }
}

impl LaneState {
    /// An available worker: one that was not woken yet, if there is one.
    fn next_worker(&self) -> Option<Arc<WorkerHandle>> {
        let idle = self.available.iter().find(|worker| !worker.is_woken());
        idle.or(self.available.first()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{client_address::ClientAddress, received_datagram::ReceivedDatagram};
    use crate::{
        pool::{deadline_sweeper::DeadlineSweeper, request_failures::RequestFailures},
        world::heartbeat::Heartbeat,
    };
    use std::time::Duration;

    fn worker(core: usize) -> Arc<WorkerHandle> {
        WorkerHandle::new(
            0,
            core,
            Heartbeat::new(1),
            RequestFailures::new("test".parse().unwrap(), 1),
            Arc::default(),
        )
    }

    fn call(sweeper: &DeadlineSweeper, core: usize) -> QueuedCall {
        let socket = "clock".parse().unwrap();
        let client = ClientAddress::Unix(None);
        let datagram = ReceivedDatagram { socket, client, bytes: Vec::new() };
        let call = Call::Datagram(Box::new(datagram));
        let (reply, _) = call.channel();
        QueuedCall { call, reply, in_flight: sweeper.begin(core, Duration::ZERO) }
    }

    fn sweeper() -> Arc<DeadlineSweeper> {
        DeadlineSweeper::start(Duration::from_secs(60), None, 2)
    }

    #[tokio::test]
    async fn a_call_stays_on_its_core_while_a_worker_there_is_available() {
        let (queue, sweeper) = (CallQueue::new(2, 9), sweeper());
        let workers = [worker(0), worker(1)];
        assert!(workers.iter().all(|worker| !queue.set_available(worker, true)));
        for core in [0, 1] {
            assert!(matches!(queue.push(core, call(&sweeper, core)), Ok(Pushed::OwnCore)));
            assert!(workers[core].is_woken() && queue.pop(1 - core).is_none());
            assert!(queue.pop(core).is_some());
        }
    }

    #[tokio::test]
    async fn a_call_is_given_away_when_its_core_has_no_available_worker() {
        let (queue, sweeper) = (CallQueue::new(2, 9), sweeper());
        let other = worker(1);
        queue.set_available(&other, true);
        assert!(matches!(queue.push(0, call(&sweeper, 0)), Ok(Pushed::OtherCore)));
        assert!(other.is_woken() && queue.pop(1).is_some());
        // Also one that was added when no worker was available.
        queue.set_available(&other, false);
        assert!(matches!(queue.push(0, call(&sweeper, 0)), Ok(Pushed::NoWorker)));
        assert!(queue.set_available(&other, true), "it should look again");
        assert!(queue.pop(1).is_some() && queue.pop(0).is_none());
    }

    #[tokio::test]
    async fn what_waits_when_the_queue_is_closed_is_returned_and_no_more_is_taken() {
        let (queue, sweeper) = (CallQueue::new(2, 2), sweeper());
        for core in [0, 1] {
            assert!(queue.push(core, call(&sweeper, core)).is_ok());
        }
        assert!(matches!(queue.push(0, call(&sweeper, 0)), Err(PushError::Full(_))));
        assert_eq!(queue.close().len(), 2);
        assert_eq!(queue.len(), 0);
        assert!(matches!(queue.push(1, call(&sweeper, 1)), Err(PushError::Closed(_))));
    }
}
