//! Messages that the client of a NATS server drops, because a subscription has as many as may wait for its reader.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The shortest time between two reports of dropped messages.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// The messages that were dropped since they were reported last.
#[derive(Debug, Default)]
pub(super) struct DroppedMessages(Mutex<DroppedSince>);

#[derive(Debug, Default)]
struct DroppedSince {
    count: u64,
    reported: Option<Instant>,
}

impl DroppedMessages {
    /// Counts a dropped message. Returns the number of messages to report, if a report is due.
    pub(super) fn add(&self, now: Instant) -> Option<u64> {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.count = since.count.saturating_add(1);
        if since.reported.is_some_and(|reported| now.duration_since(reported) < REPORT_EVERY) {
            return None;
        }
        since.reported = Some(now);
        Some(std::mem::take(&mut since.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_messages_are_reported_within_a_rate_and_all_of_them_count() {
        let (dropped, now) = (DroppedMessages::default(), Instant::now());
        assert_eq!(dropped.add(now), Some(1));
        for _ in 0..5 {
            assert_eq!(dropped.add(now + REPORT_EVERY / 2), None);
        }
        assert_eq!(dropped.add(now + REPORT_EVERY), Some(6));
    }
}
