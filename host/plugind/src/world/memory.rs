//! How much memory an instance has, and all instances of a plugin together.
//!
//! The runtime's own limits are for each single memory; components made from Python or JavaScript have several.

use super::Shared as Generation;
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
    most: usize,
}

impl Shared {
    /// Nothing is used yet, and at most so many bytes may be.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { used: AtomicUsize::new(0), most }
    }

    /// How many bytes are used.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let add = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.most);
        self.used.try_update(Relaxed, Relaxed, add).is_ok()
    }
}

/// What one instance uses. Gives it back when dropped.
pub(super) struct Guest {
    generation: Arc<Generation>,
    used: usize,
    /// It asked for more than it may have; when it then fails, that is why.
    refused: bool,
}

impl Guest {
    pub(super) fn new(generation: &Arc<Generation>) -> Self {
        Self { generation: generation.clone(), used: 0, refused: false }
    }

    pub(super) fn refused(&self) -> bool {
        self.refused
    }

    fn grow(&mut self, bytes: usize) -> bool {
        let fits = self
            .used
            .checked_add(bytes)
            .filter(|used| *used <= self.generation.instance_memory_max);
        match fits {
            Some(used) if self.generation.memory.take(bytes) => {
                self.used = used;
                true
            }
            _ => {
                self.refused = true;
                false
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.generation.memory.used.fetch_sub(self.used, Relaxed);
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
        let shared = Shared::new(100);
        assert!(shared.take(60));
        assert!(!shared.take(60));
        assert!(shared.take(40));
        assert!(!shared.take(usize::MAX));
        assert_eq!(shared.used(), 100);
    }
}
