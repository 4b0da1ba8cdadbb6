//! Whether a worker can no longer take the calls that it counts as available for: its guest keeps the part that serves
//! from being reached.

use crate::{pool::worker_handle::WorkerHandle, runtime::engine::SLICE};
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Sleep, sleep};

/// For how long a guest keeps the part that serves from being reached until another instance is worth starting: more than
/// an ordinary write to a disk takes.
const OCCUPIED: Duration = SLICE.saturating_mul(4);

/// Keeps a guest from computing, or from blocking its whole instance, for long while its worker counts as available.
/// Usually it costs nothing.
#[derive(Default)]
pub(super) struct OccupiedTimer(Option<Pin<Box<Sleep>>>);

impl OccupiedTimer {
    /// To be called after each turn: withdraws the offer of a worker whose guest has kept the part that serves from being
    /// reached for too long. One that computes or blocks for less is no reason for another instance.
    pub(super) fn poll(&mut self, worker: &WorkerHandle, cx: &mut Context<'_>) {
        if worker.was_serving_reached() || !worker.is_offered() {
            self.0 = None;
            return;
        }
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep(OCCUPIED)));
        if let Poll::Ready(()) = timer.as_mut().poll(cx) {
            worker.offer(false);
            self.0 = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{pool::request_failures::RequestFailures, world::heartbeat::Heartbeat};
    use std::{sync::Arc, task::Waker};
    use tokio::time::advance;

    /// A worker that counts as available.
    fn worker() -> Arc<WorkerHandle> {
        let failures = RequestFailures::new("test".parse().unwrap(), 1);
        let worker = WorkerHandle::new(0, 0, Heartbeat::new(1), failures, Arc::default());
        worker.offer(true);
        worker
    }

    /// A turn with one poll, in which the part that serves is reached or not.
    fn turn(worker: &WorkerHandle, timer: &mut OccupiedTimer, is_reached: bool) {
        worker.begin_poll();
        assert!(!is_reached || worker.take_serving_due());
        worker.end_poll();
        timer.poll(worker, &mut Context::from_waker(Waker::noop()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_whose_guest_is_occupied_for_a_moment_stays_available() {
        let (worker, mut timer) = (worker(), OccupiedTimer::default());
        for _ in 0..3 {
            turn(&worker, &mut timer, false);
            advance(OCCUPIED / 2).await;
            turn(&worker, &mut timer, false);
            assert!(worker.is_offered());
            turn(&worker, &mut timer, true);
            assert!(worker.is_offered());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_whose_guest_is_occupied_for_long_is_not_available() {
        let (worker, mut timer) = (worker(), OccupiedTimer::default());
        assert_eq!(worker.take_news(), Some(true));
        turn(&worker, &mut timer, false);
        advance(2 * OCCUPIED).await;
        turn(&worker, &mut timer, false);
        assert_eq!(worker.take_news(), Some(false));
        // The part that serves decides again when it is reached.
        worker.offer(true);
        turn(&worker, &mut timer, true);
        assert_eq!(worker.take_news(), Some(true));
    }
}
