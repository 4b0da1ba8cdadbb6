//! The figures of what one plugin asks of the host.

use crate::base::figures::per_core::Count;

/// Counts the uses of a host interface, and those that failed.
#[derive(Debug, Default)]
pub struct UseFigures {
    begun: Count,
    failed: Count,
}

/// The counts of the uses of a host interface so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UseTotals {
    /// Uses that were begun.
    pub begun: u64,
    /// Uses that failed.
    pub failed: u64,
}

impl UseFigures {
    /// Counts a use that begins.
    pub fn begin(&self) -> &Self {
        self.begun.add(1);
        self
    }

    /// Counts the failure of a use that was begun.
    pub fn fail(&self) {
        self.failed.add(1);
    }

    /// Counts the end of a use that was begun, if that is a failure.
    ///
    /// # Errors
    /// Returns the outcome as it is.
    pub fn end<T, E>(&self, outcome: Result<T, E>) -> Result<T, E> {
        outcome.inspect_err(|_| self.fail())
    }

    /// Returns the totals so far.
    #[must_use]
    pub fn totals(&self) -> UseTotals {
        UseTotals { begun: self.begun.get(), failed: self.failed.get() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_is_counted_when_it_begins_and_again_if_it_fails() {
        let figures = UseFigures::default();
        figures.begin().end(Ok::<_, ()>(())).unwrap();
        figures.begin().end(Err::<(), _>(())).unwrap_err();
        figures.begin();
        assert_eq!(figures.totals(), UseTotals { begun: 3, failed: 1 });
    }
}
