//! Memory that several use together, up to a limit.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// An amount of memory that several use, up to a limit.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    /// The most that was used at a time.
    peak: AtomicUsize,
    max: usize,
}

impl Budget {
    /// Nothing is used yet, and at most so many bytes may be.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { used: AtomicUsize::new(0), peak: AtomicUsize::new(0), max }
    }

    /// Returns the number of bytes that are used.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// The most bytes that were used at a time.
    #[must_use]
    pub fn peak(&self) -> usize {
        self.peak.load(Relaxed)
    }

    /// The most bytes that may be used.
    #[must_use]
    pub fn max(&self) -> usize {
        self.max
    }

    /// Takes so many bytes, unless that would exceed the limit.
    pub fn take(&self, bytes: usize) -> bool {
        let add = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.max);
        let Ok(before) = self.used.try_update(Relaxed, Relaxed, add) else { return false };
        let used = before.saturating_add(bytes);
        // It is read more often than it is written.
        if used > self.peak() {
            self.peak.fetch_max(used, Relaxed);
        }
        true
    }

    /// Takes so many bytes, also beyond the limit.
    fn take_always(&self, bytes: usize) {
        let used = self.used.fetch_add(bytes, Relaxed).saturating_add(bytes);
        if used > self.peak() {
            self.peak.fetch_max(used, Relaxed);
        }
    }

    /// Gives so many bytes back that were taken.
    pub fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Relaxed);
    }
}

/// Memory of the host that counts as that of a plugin, and of all plugins together, until this is dropped.
#[derive(Debug)]
pub struct MemoryCharge {
    budgets: [Arc<Budget>; 2],
    bytes: usize,
}

impl MemoryCharge {
    /// Charges so many bytes, unless that would exceed one of the limits.
    #[must_use]
    pub fn new(budgets: [Arc<Budget>; 2], bytes: usize) -> Option<Self> {
        let [first, second] = &budgets;
        if !first.take(bytes) {
            return None;
        }
        if !second.take(bytes) {
            first.give_back(bytes);
            return None;
        }
        Some(Self { budgets, bytes })
    }

    /// Charges so many bytes, also beyond the limits: for what is bounded otherwise and must not be refused. While it
    /// exceeds a limit, nothing else is given to those who use the budget.
    #[must_use]
    pub fn always(budgets: [Arc<Budget>; 2], bytes: usize) -> Self {
        budgets.iter().for_each(|budget| budget.take_always(bytes));
        Self { budgets, bytes }
    }
}

impl Drop for MemoryCharge {
    fn drop(&mut self) {
        self.budgets.iter().for_each(|budget| budget.give_back(self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_never_exceeded() {
        let budget = Budget::new(100);
        assert!(budget.take(60));
        assert!(!budget.take(60));
        assert!(budget.take(40));
        assert!(!budget.take(usize::MAX));
        assert_eq!(budget.used(), 100);
    }

    #[test]
    fn a_charge_counts_in_both_budgets_or_in_none_and_only_as_long_as_it_is_kept() {
        let budgets = [Arc::new(Budget::new(100)), Arc::new(Budget::new(80))];
        let used = || [budgets[0].used(), budgets[1].used()];
        let first = MemoryCharge::new(budgets.clone(), 50).unwrap();
        assert!(MemoryCharge::new(budgets.clone(), 40).is_none(), "more than the second has");
        assert!(MemoryCharge::new(budgets.clone(), 51).is_none(), "more than the first has");
        assert_eq!(used(), [50, 50]);
        let beyond = MemoryCharge::always(budgets.clone(), 70);
        assert_eq!((used(), budgets[0].peak()), ([120, 120], 120));
        assert!(MemoryCharge::new(budgets.clone(), 0).is_none() && !budgets[0].take(1));
        drop(beyond);
        assert_eq!(used(), [50, 50]);
        drop(first);
        assert_eq!(used(), [0, 0]);
    }
}
