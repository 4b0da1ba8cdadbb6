//! The current act of an instance and its deadline: set inside the instance, enforced outside, which no guest blocks.

use crate::{pool::failure::Failure, world::heartbeat::Heartbeat};
use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::time::{Sleep, sleep_until};

/// Limit of the time that a guest can get for one start or stop by asking for more, from its beginning.
pub(crate) const EXTENSION_MAX: Duration = Duration::from_secs(300);

/// An act of an instance that has a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GuestCall {
    Start,
    Health,
    Stop,
    Save,
    Restore,
}

/// The current call of a guest, and its deadline.
#[derive(Default)]
pub(crate) struct Deadline {
    running: Mutex<Option<Running>>,
    changed: AtomicBool,
    /// The heartbeat of the instance. During its start, the instance may compute until the deadline of the start.
    heartbeat: Option<Arc<Heartbeat>>,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    call: GuestCall,
    deadline: Instant,
    ceiling: Instant,
}

impl GuestCall {
    /// Whether the guest may ask for more time.
    fn may_take_longer(self) -> bool {
        matches!(self, Self::Start | Self::Stop)
    }
}

impl Deadline {
    /// The deadline of an instance with this heartbeat.
    pub(crate) fn of(heartbeat: Arc<Heartbeat>) -> Self {
        Self { heartbeat: Some(heartbeat), ..Self::default() }
    }

    /// A call begins, and replaces any other.
    pub(crate) fn begin(&self, call: GuestCall, time: Duration) {
        let now = Instant::now();
        let deadline = now + time;
        let ceiling = deadline.max(now + EXTENSION_MAX);
        *self.running() = Some(Running { call, deadline, ceiling });
        self.changed.store(true, Relaxed);
        self.note_limit();
    }

    /// A call ends, unless another one has replaced it.
    pub(crate) fn end(&self, call: GuestCall) {
        self.running().take_if(|running| running.call == call);
        self.changed.store(true, Relaxed);
        self.note_limit();
    }

    /// Notes whether the processor time of the guest is limited by the deadline of its start, and by nothing else.
    fn note_limit(&self) {
        if let Some(heartbeat) = &self.heartbeat {
            let starts = self.running().is_some_and(|running| running.call == GuestCall::Start);
            heartbeat.set_starting(starts);
        }
    }

    /// Whether a call is running.
    pub(crate) fn is_running(&self) -> bool {
        self.running().is_some()
    }

    /// Gives a start or a stop as much time as the guest asks for, within limits.
    pub(crate) fn extend_if_asked(&self, heartbeat: &Heartbeat) {
        if self.is_running()
            && let Some(until) = heartbeat.asked_until()
            && self.extend(until)
        {
            self.changed.store(true, Relaxed);
        }
    }

    /// True if that is more time than it had.
    fn extend(&self, until: Instant) -> bool {
        let mut running = self.running();
        let may_take_longer = |running: &&mut Running| running.call.may_take_longer();
        match running.as_mut().filter(may_take_longer) {
            None => false,
            Some(running) => {
                let before = running.deadline;
                running.deadline = before.max(until.min(running.ceiling));
                running.deadline > before
            }
        }
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Goes off when a call takes too long. Without calls it costs nothing.
#[derive(Default)]
pub(crate) struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Ready when the current call has exceeded its `deadline`.
    pub(crate) fn poll(&mut self, deadline: &Deadline, cx: &mut Context<'_>) -> Poll<Failure> {
        if deadline.changed.swap(false, Relaxed) {
            let running = *deadline.running();
            self.0 = running.map(|running| Box::pin(sleep_until(running.deadline.into())));
        }
        let Some(sleep) = &mut self.0 else { return Poll::Pending };
        let Some(running) = *deadline.running() else { return Poll::Pending };
        sleep.as_mut().poll(cx).map(|()| match running.call {
            GuestCall::Start => {
                Failure::Timeout("its start took too long; raise service.timeout-start-sec")
            }
            GuestCall::Health => {
                let why = "it did not answer a health check within service.watchdog-sec";
                Failure::Watchdog(why.to_owned())
            }
            GuestCall::Stop => {
                Failure::Timeout("its stop took too long; raise service.timeout-stop-sec")
            }
            GuestCall::Save => {
                Failure::Timeout("saving its state took too long; raise handover.timeout-sec")
            }
            GuestCall::Restore => {
                Failure::Timeout("restoring the state took too long; raise handover.timeout-sec")
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_gets_more_time_but_not_less_and_not_for_ever() {
        let deadline = Deadline::default();
        let now = Instant::now();
        assert!(!deadline.extend(now + Duration::from_secs(60)), "nothing is running");
        deadline.begin(GuestCall::Start, Duration::from_secs(30));
        assert!(!deadline.extend(now + Duration::from_secs(10)));
        assert!(deadline.extend(now + Duration::from_secs(60)));
        assert!(deadline.extend(now + Duration::from_secs(3600)));
        assert!(!deadline.extend(now + Duration::from_secs(7200)), "it has all it can get");
    }

    #[test]
    fn the_end_of_one_call_does_not_end_another() {
        let deadline = Deadline::default();
        deadline.begin(GuestCall::Health, Duration::from_secs(1));
        deadline.begin(GuestCall::Stop, Duration::from_secs(1));
        deadline.end(GuestCall::Health);
        assert!(deadline.is_running());
        deadline.end(GuestCall::Stop);
        assert!(!deadline.is_running());
    }
}
