//! The figures of the messages of one plugin.

use crate::base::figures::per_core::Count;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The counts of the messages of a plugin.
#[derive(Debug, Default)]
pub struct MessageFigures {
    /// Messages that were handled.
    pub delivered: Count,
    /// Deliveries that were not handled: the guest failed, took too long or had no room.
    pub failed: Count,
    /// Deliveries of a message that was delivered before.
    pub redelivered: Count,
    /// Messages without a stream that were dropped, since too many waited.
    pub dropped: Count,
    /// Messages that were sent.
    pub published: Count,
    in_flight: AtomicU64,
}

/// A message in progress, until this is dropped.
pub struct MessageInFlight<'a>(&'a MessageFigures);

/// The counts of messages so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageTotals {
    /// Messages that were handled.
    pub delivered: u64,
    /// Deliveries that were not handled.
    pub failed: u64,
    /// Deliveries of a message that was delivered before.
    pub redelivered: u64,
    /// Messages that were dropped.
    pub dropped: u64,
    /// Messages that were sent.
    pub published: u64,
    /// The number of messages in progress.
    pub in_flight: u64,
}

impl MessageFigures {
    /// A message is in progress as long as the value is kept.
    pub fn begin(&self) -> MessageInFlight<'_> {
        self.in_flight.fetch_add(1, Relaxed);
        MessageInFlight(self)
    }

    /// Returns the totals so far.
    #[must_use]
    pub fn totals(&self) -> MessageTotals {
        MessageTotals {
            delivered: self.delivered.get(),
            failed: self.failed.get(),
            redelivered: self.redelivered.get(),
            dropped: self.dropped.get(),
            published: self.published.get(),
            in_flight: self.in_flight.load(Relaxed),
        }
    }
}

impl Drop for MessageInFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}
