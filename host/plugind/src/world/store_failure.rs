//! The failure of the last use of a store on a server. The first of several failures in a row is logged.

use crate::{remote::availability::Availability, world::keyvalue_error::KeyValueError};
use std::sync::{Mutex, PoisonError};
use tracing::warn;

/// The failure of the last use of a store, if that failed.
#[derive(Debug)]
pub(super) struct StoreFailures {
    store: String,
    last: Mutex<Option<String>>,
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
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let (None, Some(error)) = (&*last, &error) {
            warn!(store = self.store, error, "key-value server failed");
        }
        *last = error;
    }

    /// Why the store cannot be used at present, as far as that is known.
    pub(super) fn current(&self, server: &Availability) -> Option<String> {
        let last = || self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let error = server.failure().map(|unreachable| unreachable.to_string()).or_else(last)?;
        Some(format!("its key-value store {} cannot be used: {error}", self.store))
    }
}
