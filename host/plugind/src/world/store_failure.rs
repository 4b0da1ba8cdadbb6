//! Why a store on a server could not be used when it was last used. It is logged when that begins.

use crate::{remote::availability::Availability, world::stores::KeyValueError};
use std::sync::{Mutex, PoisonError};
use tracing::warn;

/// Why a store could not be used, if that was so when it was last used.
#[derive(Debug)]
pub(super) struct StoreFailures {
    store: String,
    last: Mutex<Option<String>>,
}

impl StoreFailures {
    /// Those of a store, which is called `store`.
    pub(super) fn new(store: String) -> Self {
        Self { store, last: Mutex::default() }
    }

    /// Remembers an outcome. An outage of the server is known without it.
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
