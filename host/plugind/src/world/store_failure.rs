//! The failure of the last use of a store on a server. The first of several failures in a row is logged.

use crate::{
    remote::availability::Availability,
    world::{keyvalue_error::KeyValueError, store_limits::FAILURE_REMEMBERED},
};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};
use tracing::warn;

/// The failure of the last use of a store, if that failed.
#[derive(Debug)]
pub(super) struct StoreFailures {
    store: String,
    last: Mutex<Option<LastFailure>>,
}

#[derive(Debug)]
struct LastFailure {
    error: String,
    at: Instant,
}

impl StoreFailures {
    /// No failure so far of the store with this name.
    pub(super) fn new(store: String) -> Self {
        Self { store, last: Mutex::default() }
    }

    /// Remembers an outcome, except for an outage of the server, which `Availability` knows.
    pub(super) fn note<T>(&self, outcome: &Result<T, KeyValueError>) {
        let error = match outcome {
            Err(KeyValueError::Unreachable(_)) => return,
            Err(KeyValueError::Storage(error)) => Some(error.clone()),
            Ok(_) | Err(_) => None,
        };
        let mut last = self.last();
        if let (None, Some(error)) = (&*last, &error) {
            warn!(store = self.store, error, "key-value server failed");
        }
        *last = error.map(|error| LastFailure { error, at: Instant::now() });
    }

    /// Why the store cannot be used at present, as far as that is known. A failure from before the present connection
    /// to the server says nothing about it.
    pub(super) fn current(&self, server: &Availability) -> Option<String> {
        let unreachable = server.failure().map(|unreachable| unreachable.to_string());
        let error = unreachable.or_else(|| {
            let since = server.reachable_since();
            let last = self.last();
            let last = last.as_ref().filter(|last| since.is_none_or(|since| last.at >= since))?;
            Some(last.error.clone())
        })?;
        Some(format!("its key-value store {} cannot be used: {error}", self.store))
    }

    /// Whether the last use failed so long before `now` that another one may succeed.
    pub(super) fn is_to_be_tried(&self, server: &Availability, now: Instant) -> bool {
        let is_old =
            |last: &LastFailure| now.saturating_duration_since(last.at) >= FAILURE_REMEMBERED;
        server.failure().is_none() && self.last().as_ref().is_some_and(is_old)
    }

    fn last(&self) -> MutexGuard<'_, Option<LastFailure>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> (Availability, StoreFailures) {
        let server = Availability::new(&"nats://a:1");
        server.report_reachable();
        (server, StoreFailures::new("a".to_owned()))
    }

    #[test]
    fn a_failure_is_not_shown_after_a_new_connection_to_the_server() {
        let (server, failures) = server();
        failures.note::<()>(&Err(KeyValueError::timed_out()));
        let current = || failures.current(&server).unwrap_or_default();
        assert!(current().contains("the server does not answer in time"), "{}", current());
        server.report_unreachable("refused");
        assert!(current().contains("cannot be reached: refused"), "{}", current());
        server.report_reachable();
        assert_eq!(failures.current(&server), None);
        failures.note::<()>(&Err(KeyValueError::timed_out()));
        assert!(failures.current(&server).is_some());
        failures.note(&Ok(()));
        assert_eq!(failures.current(&server), None);
    }

    #[test]
    fn a_store_is_tried_again_a_minute_after_its_last_failure_and_not_in_an_outage() {
        let (server, failures) = server();
        let later = || Instant::now() + FAILURE_REMEMBERED;
        assert!(!failures.is_to_be_tried(&server, later()), "it has not failed");
        failures.note::<()>(&Err(KeyValueError::timed_out()));
        assert!(failures.is_to_be_tried(&server, later()));
        assert!(!failures.is_to_be_tried(&server, later() - FAILURE_REMEMBERED / 2));
        server.report_unreachable("refused");
        assert!(!failures.is_to_be_tried(&server, later()));
    }
}
