//! The signals that the daemon obeys.

use crate::supervisor::summary::Summary;
use rustix::process::Signal as ProcessSignal;
use std::io;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

/// The event that ended the wait.
pub(super) enum DaemonEvent {
    Terminate,
    Rescan,
    /// systemd waits for the end of the reload that `ExecReload=` has requested.
    ReloadRequested,
    Changed,
    Lost,
}

/// The signals that the daemon obeys.
pub(super) struct Signals {
    terminate: Signal,
    pub(super) interrupt: Signal,
    hang_up: Signal,
    reload: Signal,
    /// Caught, so that a write beyond `LimitFSIZE=` is an error and does not end the daemon.
    _file_size: Signal,
}

impl Signals {
    /// Catches them from now on.
    pub(super) fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            reload: signal(SignalKind::user_defined1())?,
            _file_size: signal(SignalKind::from_raw(ProcessSignal::XFSZ.as_raw()))?,
        })
    }

    /// Waits for the next event: a signal, or a change of the summary.
    pub(super) async fn event(&mut self, summary: &mut watch::Receiver<Summary>) -> DaemonEvent {
        tokio::select! {
            _ = self.terminate.recv() => DaemonEvent::Terminate,
            _ = self.interrupt.recv() => DaemonEvent::Terminate,
            _ = self.hang_up.recv() => DaemonEvent::Rescan,
            _ = self.reload.recv() => DaemonEvent::ReloadRequested,
            changed = summary.changed() => changed.map_or(DaemonEvent::Lost, |()| DaemonEvent::Changed),
        }
    }
}
