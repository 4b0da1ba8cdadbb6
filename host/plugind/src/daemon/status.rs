//! The status that the daemon reports to systemd while plugins start or change.

use crate::{daemon::Daemon, supervisor::handle::SupervisorHandle, systemd::notify::Notice};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Interval and amount of the extra time asked of systemd while plugins start, are replaced, or stop: enough for a
/// daemon that is held up for a moment, too little for one that is gone to go unnoticed.
pub(super) const EXTEND_EVERY: Duration = Duration::from_secs(5);
pub(super) const EXTEND_BY: Duration = Duration::from_secs(30);
/// Shortest interval between two STATUS= messages: while a thousand plugins start, it changes a thousand
/// times.
const STATUS_EVERY: Duration = Duration::from_millis(100);

/// When STATUS= is sent next: at once after a change, and no more often than somebody can read it.
#[derive(Default)]
pub(super) struct StatusReport {
    /// The line that was reported last.
    pub(super) reported: String,
    /// The time of the next report, if there is something to report.
    due: Option<Instant>,
    /// The earliest time of the next report.
    next: Option<Instant>,
}

impl StatusReport {
    /// This line was reported last. It is compared at once with the present one, which may be another since.
    pub(super) fn of(reported: String) -> Self {
        Self { reported, due: Some(Instant::now()), next: None }
    }

    /// There is something to report.
    pub(super) fn changed(&mut self) {
        let now = Instant::now();
        self.due.get_or_insert(self.next.map_or(now, |next| next.max(now)));
    }

    /// Waits until it is to be reported.
    pub(super) async fn due(&self) {
        match self.due {
            Some(due) => sleep_until(due).await,
            None => std::future::pending().await,
        }
    }
}

impl Daemon {
    /// The status of the daemon in one line.
    pub(super) fn line(&self, supervisor: &SupervisorHandle) -> String {
        self.phase.borrow().line(&supervisor.summary().borrow())
    }

    /// Reports to systemd how the daemon is, unless that was reported last.
    pub(super) fn report(&self, line: String, status: &mut StatusReport) {
        status.due = None;
        if line != status.reported {
            self.notifier.notify(Notice::Status(&line));
            status.reported = line;
            status.next = Some(Instant::now() + STATUS_EVERY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    #[tokio::test(start_paused = true)]
    async fn a_change_that_nobody_waited_for_yet_is_reported() {
        let status = StatusReport::of("1 of 2 plugins ready".to_owned());
        assert!(timeout(STATUS_EVERY, status.due()).await.is_ok());
        let waiting = StatusReport::default();
        assert!(timeout(STATUS_EVERY, waiting.due()).await.is_err());
    }
}
