//! Requests that were not answered as they should be: the log has their cause, the status how many there were.

use crate::{
    base::{name::PluginName, request_identity::RequestIdentity},
    journal::messages::REQUESTS_FAILED,
    pool::call::NotServed,
};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{runtime::Handle, time::sleep};
use tracing::warn;

/// Interval at which a plugin's failed requests are logged, after the first one.
const EVERY: Duration = Duration::from_secs(60);
/// Length of each slot of the last minute, and the number of slots.
const SLOT: Duration = Duration::from_secs(5);
const SLOTS: usize = 12;
/// The longest cause that is logged, in bytes: a guest may have said it.
const CAUSE_MAX: usize = 512;

/// The way in which a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestFailure {
    /// No instance had room for it: 503.
    Busy,
    /// No response began in time: 504.
    TimedOut,
    /// The guest failed: 502, or a body that ends too early.
    Failed,
}

/// The number of failed requests, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FailureCounts {
    /// No instance had room for them.
    pub busy: u32,
    /// No response began in time.
    pub timed_out: u32,
    /// The guest failed, or the body of its response ended too early.
    pub failed: u32,
}

impl FailureCounts {
    fn add(&mut self, failure: RequestFailure) {
        let count = match failure {
            RequestFailure::Busy => &mut self.busy,
            RequestFailure::TimedOut => &mut self.timed_out,
            RequestFailure::Failed => &mut self.failed,
        };
        *count = count.saturating_add(1);
    }

    fn sum(self, other: Self) -> Self {
        Self {
            busy: self.busy.saturating_add(other.busy),
            timed_out: self.timed_out.saturating_add(other.timed_out),
            failed: self.failed.saturating_add(other.failed),
        }
    }
}

/// The failed requests of one generation.
pub(crate) struct RequestFailures {
    plugin: PluginName,
    generation: u64,
    tally: Mutex<FailureTally>,
}

/// The failures so far, as a pure value.
struct FailureTally {
    start: Instant,
    /// The number of each slot, from the start, and what happened in it.
    slots: [(u64, FailureCounts); SLOTS],
    /// The number of requests that the guest failed.
    failed: u64,
    /// Whether one was logged so lately that others have to wait.
    is_quiet: bool,
    /// Those that were not logged yet, and the cause of the last one.
    unreported: u64,
    cause: String,
    request: Option<RequestIdentity>,
}

/// Those that were not logged yet: how many, and the last one.
#[derive(Debug, PartialEq, Eq)]
struct Unreported {
    count: u64,
    cause: String,
    request: Option<RequestIdentity>,
}

impl FailureTally {
    fn new(start: Instant) -> Self {
        Self {
            start,
            slots: Default::default(),
            failed: 0,
            is_quiet: false,
            unreported: 0,
            cause: String::new(),
            request: None,
        }
    }

    fn slot(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_secs() / SLOT.as_secs()
    }

    /// Notes one. True if it is to be logged now.
    fn note(
        &mut self,
        failure: RequestFailure,
        cause: &str,
        request: Option<RequestIdentity>,
        now: Instant,
    ) -> bool {
        let number = self.slot(now);
        let place = usize::try_from(number % SLOTS as u64).unwrap_or_default();
        let slot = &mut self.slots[place];
        if slot.0 != number {
            *slot = (number, FailureCounts::default());
        }
        slot.1.add(failure);
        self.failed += u64::from(failure == RequestFailure::Failed);
        self.unreported += 1;
        self.request = request;
        self.cause.clear();
        self.cause.push_str(&cause[..cause.floor_char_boundary(CAUSE_MAX)]);
        !std::mem::replace(&mut self.is_quiet, true)
    }

    /// Those that were not logged yet, if there are any.
    fn take_unreported(&mut self) -> Option<Unreported> {
        let count = std::mem::take(&mut self.unreported);
        (count > 0).then(|| Unreported {
            count,
            cause: std::mem::take(&mut self.cause),
            request: self.request.take(),
        })
    }

    /// Returns the failures of about the last minute.
    fn last_minute(&self, now: Instant) -> FailureCounts {
        let oldest = (self.slot(now) + 1).saturating_sub(SLOTS as u64);
        let recent = self.slots.iter().filter(|(number, _)| *number >= oldest);
        recent.fold(FailureCounts::default(), |sum, (_, counts)| sum.sum(*counts))
    }
}

impl RequestFailures {
    pub(crate) fn new(plugin: PluginName, generation: u64) -> Arc<Self> {
        Arc::new(Self { plugin, generation, tally: Mutex::new(FailureTally::new(Instant::now())) })
    }

    /// Notes why a call was not served. A call that another generation serves is not a failure.
    pub(crate) fn note_not_served(
        self: &Arc<Self>,
        not_served: &NotServed,
        request: Option<RequestIdentity>,
    ) {
        match not_served {
            NotServed::Draining(_) => (),
            NotServed::Busy(cause) => {
                self.note(RequestFailure::Busy, &cause.to_string(), request);
            }
            NotServed::TimedOut => {
                let cause = "no response began within limits.request-timeout";
                self.note(RequestFailure::TimedOut, cause, request);
            }
            NotServed::Failed(failure) => {
                self.note(RequestFailure::Failed, &failure.to_string(), request);
            }
        }
    }

    /// Notes a failure. The first one is logged at once, and the others of the next minute at its end.
    pub(crate) fn note(
        self: &Arc<Self>,
        failure: RequestFailure,
        cause: &str,
        request: Option<RequestIdentity>,
    ) {
        if !self.tally().note(failure, cause, request, Instant::now()) {
            return;
        }
        self.report();
        // Without a runtime the daemon has ended.
        let Ok(runtime) = Handle::try_current() else { return };
        let this = Arc::downgrade(self);
        runtime.spawn(async move {
            loop {
                sleep(EVERY).await;
                let Some(this) = this.upgrade() else { return };
                if !this.report() {
                    // The next one is logged at once, unless it came just now.
                    let mut tally = this.tally();
                    if tally.unreported == 0 {
                        tally.is_quiet = false;
                        return;
                    }
                }
            }
        });
    }

    /// Returns the failures of about the last minute.
    pub(crate) fn last_minute(&self) -> FailureCounts {
        self.tally().last_minute(Instant::now())
    }

    /// Returns the number of requests that the guest has failed so far.
    pub(crate) fn failed(&self) -> u64 {
        self.tally().failed
    }

    /// Logs those that were not logged yet. False if there are none.
    pub(crate) fn report(&self) -> bool {
        let Some(unreported) = self.tally().take_unreported() else { return false };
        let Unreported { count, cause, request } = unreported;
        warn!(
            message_id = REQUESTS_FAILED,
            plugin = %self.plugin,
            generation = self.generation,
            count,
            cause,
            request_id = request.map(|request| display(request.request_id())),
            trace_id = request.map(|request| display(request.trace_id())),
            "requests failed"
        );
        true
    }

    fn tally(&self) -> MutexGuard<'_, FailureTally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_logged_at_once_and_the_others_are_counted() {
        let start = Instant::now();
        let mut tally = FailureTally::new(start);
        assert_eq!(tally.take_unreported(), None);
        let [first, second, third] = std::array::from_fn(|_| Some(RequestIdentity::new()));
        let unreported =
            |count, cause: &str, request| Some(Unreported { count, cause: cause.into(), request });
        assert!(tally.note(RequestFailure::Busy, "busy", first, start));
        assert_eq!(tally.take_unreported(), unreported(1, "busy", first));
        assert!(!tally.note(RequestFailure::Busy, "busy", second, start));
        assert!(!tally.note(RequestFailure::Failed, "trap", third, start));
        assert_eq!(tally.take_unreported(), unreported(2, "trap", third));
        assert_eq!(tally.take_unreported(), None);
    }

    #[test]
    fn a_failure_counts_for_a_minute() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut tally = FailureTally::new(start);
        tally.note(RequestFailure::Busy, "", None, at(1));
        tally.note(RequestFailure::TimedOut, "", None, at(31));
        tally.note(RequestFailure::TimedOut, "", None, at(58));
        let counts = |busy, timed_out| FailureCounts { busy, timed_out, failed: 0 };
        assert_eq!(tally.last_minute(at(58)), counts(1, 2));
        assert_eq!(tally.last_minute(at(61)), counts(0, 2));
        assert_eq!(tally.last_minute(at(91)), counts(0, 1));
        tally.note(RequestFailure::Busy, "", None, at(1000));
        assert_eq!(tally.last_minute(at(1000)), counts(1, 0));
        assert_eq!(tally.failed, 0);
        tally.note(RequestFailure::Failed, "", None, at(1000));
        tally.note(RequestFailure::Failed, "", None, at(2000));
        assert_eq!(tally.failed, 2);
    }

    #[test]
    fn a_cause_is_cut_at_the_end_of_a_character() {
        let mut tally = FailureTally::new(Instant::now());
        tally.note(RequestFailure::Failed, &"ü".repeat(CAUSE_MAX), None, Instant::now());
        assert_eq!(tally.take_unreported().unwrap().cause.len(), CAUSE_MAX);
    }
}
