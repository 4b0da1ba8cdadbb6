//! The outside of a worker: it polls the inside, keeps its deadlines, and ends it where it cannot end by itself.

use crate::{
    pool::{
        deadline::{GuestCall, Timer},
        failure::{End, Failure},
        worker::occupied::OccupiedTimer,
        worker_context::WorkerContext,
    },
    runtime::file_threads::FileThreads,
    world::quota::QuotaGate,
};
use std::{
    future::poll_fn,
    pin::Pin,
    sync::atomic::Ordering::Relaxed,
    task::{Context, Poll, Waker},
};
use tokio::{
    task::coop,
    time::{Sleep, sleep},
};

/// Number of times that a worker polls its instance in one turn of its own, if each poll leaves more to do.
const POLLS_PER_TURN: u32 = 32;

/// The result of the inside: the end of the instance, an error of the guest, or a panic of the host.
type Ended = std::thread::Result<wasmtime::Result<End>>;

impl WorkerContext<'_> {
    /// Polls the inside and keeps its deadlines.
    pub(super) async fn outside(&self, mut inside: Pin<&mut impl Future<Output = Ended>>) -> Ended {
        let (mut timer, mut transfer_timer) = (Timer::default(), Timer::default());
        let mut gate = self.set.shared.quota.clone().map(QuotaGate::new);
        let waker = Waker::from(self.handle.clone());
        let (mut proving, mut occupied) = (None, OccupiedTimer::default());
        poll_fn(|cx| {
            self.handle.register(cx.waker());
            let ended = self.poll_inside(inside.as_mut(), gate.as_mut(), &waker, cx);
            occupied.poll(self.handle, cx);
            if self.handle.take_delivering() {
                // The callers have a turn before the calls that wait are given to other cores.
                cx.waker().wake_by_ref();
            } else {
                self.set.publish(self.handle);
            }
            if ended.is_ready() {
                return ended;
            }
            if let Some(end) = self.ended_from_outside() {
                return Poll::Ready(Ok(Ok(end)));
            }
            self.time_stop();
            self.poll_proof(&mut proving, cx);
            self.deadline.extend_if_asked(&self.handle.heartbeat);
            let failure = match timer.poll(&self.deadline, cx) {
                Poll::Pending => transfer_timer.poll(&self.transfer_deadline, cx),
                failure => failure,
            };
            failure.map(|failure| Ok(Ok(End::Failed(failure))))
        })
        .await
    }

    /// Polls the inside until its event loop is at rest and it does not want another call, or for a turn.
    fn poll_inside(
        &self,
        mut inside: Pin<&mut impl Future<Output = Ended>>,
        mut gate: Option<&mut QuotaGate>,
        waker: &Waker,
        cx: &mut Context<'_>,
    ) -> Poll<Ended> {
        let (mut polls, mut is_woken) = (0, false);
        let file_threads = self.set.shared.file_threads.as_ref();
        // The inside does not run while the gate is closed, but a request to end the worker is still noticed.
        while gate.as_mut().is_none_or(|gate| gate.poll_open(cx).is_ready()) {
            let mut inner = Context::from_waker(waker);
            self.handle.begin_poll();
            let mut poll = || FileThreads::poll(file_threads, || inside.as_mut().poll(&mut inner));
            let polled = match &gate {
                None => poll(),
                Some(gate) => gate.charged(poll),
            };
            is_woken = self.handle.end_poll();
            if polled.is_ready() {
                return polled;
            }
            polls += 1;
            // A guest that computes is not at rest, and is woken when others have had their turn. One that waits, as in a
            // synchronous call, lets others run.
            if !self.handle.heartbeat.has_yielded() {
                self.handle.heartbeat.beat();
            }
            if self.handle.heartbeat.take_yielded() {
                self.handle.note_yield();
                self.computes.store(true, Relaxed);
                break;
            }
            let turn_has_ended = polls >= POLLS_PER_TURN || !coop::has_budget_remaining();
            if is_woken {
                // There is more to do, so its event loop is not at rest.
                if turn_has_ended {
                    break;
                }
            } else if self.note_rest() {
                break;
            } else if turn_has_ended {
                cx.waker().wake_by_ref();
                break;
            }
        }
        if is_woken {
            // Others, such as those that read responses, have their turn before.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// The event loop is at rest. True if the inside knows that already, so that it need not look for calls again.
    fn note_rest(&self) -> bool {
        let computed = self.computes.load(Relaxed) && self.computes.swap(false, Relaxed);
        self.since_rest.swap(0, Relaxed) == 0 && !computed
    }

    /// Begins the deadline of the stop when the generation drains, however much of the time its calls take: here, since a
    /// guest that spins keeps the inside from being reached.
    fn time_stop(&self) {
        let is_serving = self.is_ready() && !self.set.config.worker_per_call;
        if is_serving && self.set.draining().is_some() && !self.stop_timed.swap(true, Relaxed) {
            self.deadline.begin(GuestCall::Stop, self.set.config.timeout_stop);
        }
    }

    /// Reports a program ready when it has run for a moment: here, since a program that computes keeps the inside from
    /// being reached.
    fn poll_proof(&self, proving: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) {
        if self.running.load(Relaxed) && !self.is_ready() {
            let ready_after = self.set.linked.release.manifest.service.ready;
            let proving = proving.get_or_insert_with(|| Box::pin(sleep(ready_after)));
            if proving.as_mut().poll(cx).is_ready() {
                self.report_ready();
            }
        }
    }

    /// Returns its end, if it is to be ended from outside and nothing prevents that.
    fn ended_from_outside(&self) -> Option<End> {
        if self.handle.is_killed() {
            // That is how programs are stopped, and versions given up that never served.
            let is_no_failure =
                self.set.config.program || (self.set.draining().is_some() && !self.is_ready());
            return Some(match is_no_failure {
                true => End::Finished,
                false => End::Failed(Failure::Timeout(
                    "its remaining work took too long; raise service.timeout-stop-sec",
                )),
            });
        }
        if self.handle.in_flight() > 0 {
            return None;
        }
        if self.handle.is_retiring() {
            return Some(End::Retired);
        }
        self.is_occupied_by_abandoned_call().then_some(End::Abandoned)
    }

    /// Whether the instance can be called for nothing else before the guest returns from a call whose caller has been gone
    /// for long. The inside is not reached meanwhile, so it cannot leave by itself.
    fn is_occupied_by_abandoned_call(&self) -> bool {
        self.handle.lingering() > 0 && self.set.linked.release.inspection.is_occupied_by_a_call()
    }
}
