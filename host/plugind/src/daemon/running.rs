//! The time between start and stop: obeys signals and reports reloads.

use crate::{
    daemon::{
        Daemon, DaemonError, ReloadNotices,
        idle_exit::{Ending, IdleExit},
        signals::DaemonEvent,
        status::{EXTEND_BY, EXTEND_EVERY, StatusReport},
    },
    supervisor::{handle::SupervisorHandle, reloads::ReloadNotice},
    systemd::notify::Notice,
};
use tokio::time::interval;

impl Daemon {
    /// Obeys signals until one of them, the failure of a plugin, or idleness ends the daemon, and reports
    /// to systemd how all plugins are, if that is not what was `reported` last.
    pub(super) async fn keep_running(
        &mut self,
        supervisor: &SupervisorHandle,
        reloads: &mut ReloadNotices,
        mut idle: IdleExit,
        reported: String,
    ) -> Result<Ending, DaemonError> {
        let mut summary = supervisor.summary();
        let mut extend = interval(EXTEND_EVERY);
        let mut status = StatusReport::of(reported);
        let mut phase = self.phase.subscribe();
        loop {
            let is_reloading = {
                let now = summary.borrow();
                let fatal: Vec<_> =
                    now.failed.iter().filter(|failed| failed.exit).cloned().collect();
                if !fatal.is_empty() {
                    return Err(DaemonError::Failed(fatal));
                }
                now.reloading
            };
            let daemon_phase = *self.phase.borrow();
            tokio::select! {
                event = self.signals.event(&mut summary) => match event {
                    DaemonEvent::Terminate => return Ok(Ending::Asked),
                    DaemonEvent::Rescan => supervisor.rescan(),
                    DaemonEvent::ReloadRequested => {
                        self.notifier.notify(Notice::Reloading);
                        // If a reload is in progress, its end is reported as the end of this one, too.
                        if !is_reloading {
                            let line = self.line(supervisor);
                            self.notifier.notify(Notice::Ready { status: &line });
                            status.reported = line;
                        }
                    }
                    DaemonEvent::Changed => status.changed(),
                    DaemonEvent::Lost => return Err(DaemonError::Supervisor { was_ready: true }),
                },
                Some(event) = reloads.recv() => match event {
                    // Each notice has its own time: systemd waits for one that is later than its request.
                    ReloadNotice::Begun => self.notifier.notify(Notice::Reloading),
                    ReloadNotice::Ended => {
                        let line = self.line(supervisor);
                        self.notifier.notify(Notice::Ready { status: &line });
                        status.reported = line;
                    }
                },
                // Draining has begun or ended. The channel cannot be closed, because `self` has the sender.
                _ = phase.changed() => status.changed(),
                () = idle.due(daemon_phase) => return Ok(Ending::Idle),
                () = status.due() => {
                    let line = self.line(supervisor);
                    self.report(line, &mut status);
                }
                _ = extend.tick(), if is_reloading => {
                    self.notifier.notify(Notice::ExtendTimeout(EXTEND_BY));
                }
            }
        }
    }
}
