//! How much memory an instance has, and all instances of a plugin together.
//!
//! The runtime's own limits are for each single memory; components made from Python or JavaScript have several.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};
use wasmtime::ResourceLimiter;

/// What one element of a table takes.
const ELEMENT: usize = size_of::<usize>();

/// What all instances of a generation use together.
#[derive(Debug)]
pub struct Shared {
    used: AtomicUsize,
    max: usize,
    instance_max: usize,
}

impl Shared {
    /// Nothing is used yet, and at most so many bytes may be: by all, and by one of them.
    #[must_use]
    pub fn new(max: usize, instance_max: usize) -> Self {
        Self { used: AtomicUsize::new(0), max, instance_max }
    }

    /// How many bytes are used.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let add = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.max);
        self.used.try_update(Relaxed, Relaxed, add).is_ok()
    }
}

/// Whose limit kept an instance from getting memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Its own.
    Instance,
    /// That of all instances of the plugin together.
    Plugin,
}

/// What one instance uses. Gives it back when dropped.
pub(super) struct Guest {
    shared: Arc<Shared>,
    used: usize,
    refused: Option<Refused>,
}

impl Guest {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, used: 0, refused: None }
    }

    pub(super) fn refused(&self) -> Option<Refused> {
        self.refused
    }

    /// How many bytes the instance uses.
    pub(super) fn instance_used(&self) -> usize {
        self.used
    }

    /// Whether the instance has grown to three quarters of what it may use. One that had nearly as much `at_start` has
    /// not grown.
    pub(super) fn is_near_memory_limit(&self, at_start: usize) -> bool {
        let max = self.shared.instance_max;
        self.used >= max / 4 * 3 && self.used >= at_start.saturating_add(max / 8)
    }

    fn grow(&mut self, bytes: usize) -> bool {
        let used = self.used.saturating_add(bytes);
        if used > self.shared.instance_max {
            self.refused = Some(Refused::Instance);
        } else if !self.shared.take(bytes) {
            self.refused = Some(Refused::Plugin);
        } else {
            self.used = used;
            return true;
        }
        false
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.shared.used.fetch_sub(self.used, Relaxed);
    }
}

impl ResourceLimiter for Guest {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow(desired.saturating_sub(current)))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow(desired.saturating_sub(current).saturating_mul(ELEMENT)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_use_together_is_bounded() {
        let shared = Shared::new(100, 100);
        assert!(shared.take(60));
        assert!(!shared.take(60));
        assert!(shared.take(40));
        assert!(!shared.take(usize::MAX));
        assert_eq!(shared.used(), 100);
    }

    #[test]
    fn an_instance_is_worn_when_it_has_grown_to_near_its_limit() {
        let mut guest = Guest::new(Arc::new(Shared::new(1000, 800)));
        assert!(guest.grow(600) && guest.is_near_memory_limit(100));
        assert!(!guest.is_near_memory_limit(550), "it needs that much from the beginning");
    }

    #[test]
    fn whose_limit_it_was_is_known_and_all_is_given_back() {
        let shared = Arc::new(Shared::new(100, 60));
        let (mut one, mut other) = (Guest::new(shared.clone()), Guest::new(shared.clone()));
        assert!(one.grow(60) && one.refused().is_none());
        assert!(!one.grow(1) && one.refused() == Some(Refused::Instance));
        assert!(!other.grow(50) && other.refused() == Some(Refused::Plugin));
        drop((one, other));
        assert_eq!(shared.used(), 0);
    }
}
