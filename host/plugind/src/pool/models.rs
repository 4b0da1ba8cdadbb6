//! Properties that must hold for every order in which threads run. The model checker tries all of them.
//!
//! It knows the types of `base/atomic.rs` only, and takes a sequentially consistent access for one that acquires and
//! releases. So what depends on one order of all accesses, or on tokio's `Notify`, is not here: how a full worker is
//! woken, how a call finds a worker of another core, and the room of fresh instances. Those have tests of their own.

use crate::{
    pool::{
        call::Call,
        in_flight::InFlight,
        queue::{CallQueue, QueuedCall},
        registry::Registry,
        request_failures::RequestFailures,
        worker_handle::WorkerHandle,
    },
    world::{
        client_address::ClientAddress, heartbeat::Heartbeat, received_datagram::ReceivedDatagram,
    },
};
use loom::{future::block_on, thread};
use std::{
    future::poll_fn,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

const MINUTE: Duration = Duration::from_secs(60);

fn worker(core: usize) -> Arc<WorkerHandle> {
    let failures = RequestFailures::new("test".parse().unwrap(), 1);
    WorkerHandle::new(0, core, Heartbeat::new(1), failures, Arc::default())
}

fn in_flight() -> Arc<InFlight> {
    let registry = Registry::new();
    let now = Instant::now();
    registry.insert(|key| InFlight::new(registry.clone(), key, now, now + MINUTE, None))
}

fn call() -> QueuedCall {
    let (socket, client) = ("clock".parse().unwrap(), ClientAddress::Unix(None));
    let datagram = ReceivedDatagram { socket, client, bytes: Vec::new() };
    let call = Call::Datagram(Box::new(datagram));
    let (reply, _) = call.channel();
    QueuedCall { call, reply, in_flight: in_flight() }
}

/// A worker that takes one call, and waits for it as long as there is none.
fn take_one(queue: &CallQueue, worker: &Arc<WorkerHandle>) -> QueuedCall {
    block_on(poll_fn(|context| {
        worker.register(context.waker());
        loop {
            worker.begin_poll();
            let call = queue.pop(worker.core);
            if let Some(call) = call {
                queue.set_available(worker, false);
                return Poll::Ready(call);
            }
            let is_woken = worker.end_poll();
            if !queue.set_available(worker, true) && !is_woken {
                return Poll::Pending;
            }
        }
    }))
}

#[test]
fn a_call_reaches_the_worker_that_waits_for_it() {
    loom::model(|| {
        let queue = Arc::new(CallQueue::new(1, 9));
        let caller = thread::spawn({
            let queue = queue.clone();
            move || assert!(queue.push(0, call()).is_ok())
        });
        take_one(&queue, &worker(0));
        caller.join().unwrap();
        assert_eq!(queue.len(), 0);
    });
}

#[test]
fn a_call_is_queued_or_refused_while_the_queue_is_closed() {
    loom::model(|| {
        let queue = Arc::new(CallQueue::new(1, 9));
        let caller = thread::spawn({
            let queue = queue.clone();
            move || queue.push(0, call()).is_ok()
        });
        let returned = queue.close().len();
        assert_eq!(caller.join().unwrap(), returned == 1);
        assert_eq!(queue.len(), 0);
    });
}

#[test]
fn a_worker_is_entered_and_left_once_when_a_caller_leaves() {
    loom::model(|| {
        let (worker, call) = (worker(0), in_flight());
        let caller = thread::spawn({
            let call = call.clone();
            move || call.leave()
        });
        if call.take(&worker) {
            let work = call.begin_work();
            call.answer();
            drop(work);
        }
        caller.join().unwrap();
        assert_eq!((worker.in_flight(), worker.lingering()), (0, 0), "{:?}", call.state());
    });
}

#[test]
fn a_worker_is_left_once_when_the_caller_leaves_at_the_deadline() {
    loom::model(|| {
        let (worker, call) = (worker(0), in_flight());
        let caller = thread::spawn({
            let call = call.clone();
            move || call.leave()
        });
        let sweeper = thread::spawn({
            let call = call.clone();
            move || call.check_deadline(Instant::now() + 2 * MINUTE)
        });
        call.take(&worker);
        caller.join().unwrap();
        sweeper.join().unwrap();
        assert_eq!(worker.in_flight(), 0, "{:?}", call.state());
    });
}

#[test]
fn a_worker_is_left_once_when_a_deadline_passes_as_its_guest_replies() {
    loom::model(|| {
        let (worker, call) = (worker(0), in_flight());
        assert!(call.take(&worker));
        let sweeper = thread::spawn({
            let call = call.clone();
            move || call.check_deadline(Instant::now() + 2 * MINUTE)
        });
        call.answer();
        call.deliver();
        sweeper.join().unwrap();
        assert_eq!(worker.in_flight(), 0, "{:?}", call.state());
        assert!(!call.state().has_deadline());
    });
}
