//! The stop, in the opposite order of the start.

use crate::{
    config::settings::Protocol,
    daemon::Daemon,
    listen::work_sources::WorkSources,
    plugin::compiler::Compiler,
    route::sockets::SocketUse,
    supervisor::{handle::SupervisorHandle, phase::DaemonPhase, versions::Versions},
    systemd::notify::Notice,
};
use futures::FutureExt as _;
use std::{pin::pin, time::Duration};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

/// Time that plugins have to finish when the daemon stops before it was ready.
const UNREADY_STOP_DEADLINE: Duration = Duration::from_millis(900);
/// Part of [`STOP_DEADLINE`] for connections to finish; plugins have the rest.
const DRAIN_DEADLINE: Duration = Duration::from_secs(20);
/// Time that messages which have arrived have to be given to their plugins.
const RECEIVE_DEADLINE: Duration = Duration::from_secs(10);
/// Time that closed connections have to deliver what plugins wrote last.
const CLOSE_DEADLINE: Duration = Duration::from_secs(3);
/// Time that connections and plugins have to finish when the daemon stops.
const STOP_DEADLINE: Duration = Duration::from_secs(30);
/// Time that a stop waits for requests on their way to idle connections: longer than those linger.
const LAST_REQUESTS: Duration = Duration::from_millis(1500);

impl Daemon {
    /// Stops before the daemon was ready; `is_asked`: it was asked to, and did not fail.
    pub(super) async fn stop_unready(
        &self,
        supervisor: &SupervisorHandle,
        compiler: &Compiler,
        is_asked: bool,
    ) {
        if is_asked {
            self.phase.send_replace(DaemonPhase::Stopping);
            self.notifier.notify(Notice::Stopping { status: &self.line(supervisor) });
        }
        // Plugins that are already ready receive `stop`, and have little time for it.
        let stopped = timeout(UNREADY_STOP_DEADLINE, supervisor.stop()).await;
        compiler.end();
        if stopped.is_err() {
            warn!("stop timeout exceeded");
        }
        info!("stopped");
    }

    /// Stops after the daemon was ready. Load balancers have `leave_for` to learn of it.
    pub(super) async fn stop(
        &mut self,
        supervisor: &SupervisorHandle,
        sources: WorkSources<'_>,
        versions: &Versions,
        leave_for: Duration,
    ) {
        let WorkSources { listeners, subscriptions } = sources;
        let before = self.phase.send_replace(DaemonPhase::Stopping);
        self.notifier.notify(Notice::Stopping { status: &self.line(supervisor) });
        info!("stopping");
        // They have learned of it already when the daemon was drained.
        let is_drained = before == DaemonPhase::Draining && listeners.is_paused();
        let leave_for = if is_drained { Duration::ZERO } else { leave_for };
        let close = async {
            // Load balancers learn of it before the sockets close.
            sleep(leave_for).await;
            // Listeners close first, then the layers behind. A plugin's own time to stop begins when no more requests
            // come, and not when all of them are answered: one that never answers has no more time than that.
            subscriptions.close();
            let closed = listeners.close(SocketUse::Plugin);
            // A connection that was just accepted is given to its plugin first.
            // So is a message that was on its way.
            let settled = timeout(LAST_REQUESTS, listeners.settled());
            tokio::join!(settled.map(drop), subscriptions.received(RECEIVE_DEADLINE));
            let mut drain = pin!(listeners.drain(Protocol::Http, DRAIN_DEADLINE));
            let drained = timeout(LAST_REQUESTS, &mut drain).await.ok();
            let drained = async {
                match drained {
                    Some(drained) => drained,
                    None => drain.await,
                }
            };
            let (drained, (), ()) =
                tokio::join!(drained, supervisor.stop(), subscriptions.drained(DRAIN_DEADLINE));
            if !drained {
                warn!("connections closed after timeout");
            }
            // Their plugins have ended; their last output is in transit.
            closed.drained(CLOSE_DEADLINE).await;
            tokio::join!(self.store.settled(), versions.settled());
        };
        tokio::select! {
            () = close => (),
            () = sleep(STOP_DEADLINE) => warn!("stop timeout exceeded"),
            // A second request stops without waiting.
            _ = self.signals.interrupt.recv() => warn!("stopped without waiting"),
        }
    }
}
