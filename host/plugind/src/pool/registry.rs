//! Shared values, each under a key, for a reader of all of them.

use slab::Slab;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Values, each under the key by which it removes itself.
#[repr(align(128))] // Each core has its own, which must not share a cache line with another core's.
pub(crate) struct Registry<T>(Mutex<Slab<Arc<T>>>);

impl<T> Registry<T> {
    /// One without values.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::default()))
    }

    /// Adds the value that is made for a free key.
    pub(crate) fn insert(&self, make: impl FnOnce(usize) -> Arc<T>) -> Arc<T> {
        let mut values = self.values();
        let entry = values.vacant_entry();
        let value = make(entry.key());
        entry.insert(value).clone()
    }

    /// Removes the value with this key.
    pub(crate) fn remove(&self, key: usize) {
        // Out of the lock before it is dropped: dropping may wake a task.
        let removed = self.values().try_remove(key);
        drop(removed);
    }

    /// All values of this moment.
    pub(crate) fn snapshot(&self) -> Vec<Arc<T>> {
        self.values().iter().map(|(_, value)| value.clone()).collect()
    }

    fn values(&self) -> MutexGuard<'_, Slab<Arc<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
