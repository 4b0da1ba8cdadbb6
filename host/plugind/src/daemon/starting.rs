//! The start: waits for the required plugins.

use crate::{
    daemon::{
        Daemon, DaemonError, ReloadNotices,
        signals::DaemonEvent,
        status::{EXTEND_BY, EXTEND_EVERY, StatusReport},
    },
    supervisor::{handle::SupervisorHandle, phase::DaemonPhase, summary::Summary},
    systemd::notify::Notice,
};
use std::time::Duration;
use tokio::time::{Instant, interval, sleep_until};

impl Daemon {
    /// Waits until every required plugin is ready. False when asked to end meanwhile.
    pub(super) async fn become_ready(
        &mut self,
        supervisor: &SupervisorHandle,
        reloads: &mut ReloadNotices,
        start_deadline: Duration,
    ) -> Result<bool, DaemonError> {
        let mut summary = supervisor.summary();
        let deadline = Instant::now() + start_deadline;
        let mut extend = interval(EXTEND_EVERY);
        let mut status = StatusReport::default();
        status.changed();
        loop {
            if let Some(outcome) = start_outcome(&summary.borrow()) {
                return outcome.map(|()| true);
            }
            tokio::select! {
                event = self.signals.event(&mut summary) => match event {
                    DaemonEvent::Terminate => return Ok(false),
                    DaemonEvent::Rescan => supervisor.rescan(),
                    // systemd learns of its end by READY=1.
                    DaemonEvent::ReloadRequested => (),
                    DaemonEvent::Changed => status.changed(),
                    DaemonEvent::Lost => return Err(DaemonError::Supervisor { was_ready: false }),
                },
                // systemd learns of them by READY=1.
                _ = reloads.recv() => (),
                () = status.due() => {
                    let line = DaemonPhase::Starting.line(&summary.borrow());
                    self.report(line, &mut status);
                }
                _ = extend.tick() => {
                    // A little longer than the deadline, so that it is the daemon that says what it waited for.
                    let left = deadline.saturating_duration_since(Instant::now()) + EXTEND_EVERY;
                    self.notifier.notify(Notice::ExtendTimeout(left.min(EXTEND_BY)));
                }
                () = sleep_until(deadline) => {
                    let now = summary.borrow();
                    let retried = now.retried.iter().filter(|failed| failed.required);
                    return Err(DaemonError::Deadline {
                        deadline: start_deadline,
                        awaited: now.awaited.iter().map(ToString::to_string).collect(),
                        failed: now.required_failed().chain(retried).cloned().collect(),
                    });
                }
            }
        }
    }
}

/// The result of the daemon's start, once it has ended.
fn start_outcome(summary: &Summary) -> Option<Result<(), DaemonError>> {
    if let Some(why) = &summary.unreadable {
        return Some(Err(DaemonError::Directories(why.clone())));
    }
    if !summary.is_settled() {
        return None;
    }
    let failed: Vec<_> = summary.required_failed().cloned().collect();
    Some(if failed.is_empty() { Ok(()) } else { Err(DaemonError::Required(failed)) })
}
