//! The stop, in the opposite order of the start.

use crate::{
    config::settings::Protocol,
    daemon::{
        Daemon,
        status::{EXTEND_BY, EXTEND_EVERY},
    },
    listen::work_sources::WorkSources,
    plugin::compiler::Compiler,
    route::sockets::SocketUse,
    supervisor::{handle::SupervisorHandle, phase::DaemonPhase, versions::Versions},
    systemd::notify::{Notice, Notifier},
};
use futures::FutureExt as _;
use std::{convert::Infallible, pin::pin, time::Duration};
use tokio::time::{Instant, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Time that plugins have to finish when the daemon stops before it was ready.
const UNREADY_STOP_DEADLINE: Duration = Duration::from_millis(900);
/// The least time that connections have to finish. While plugins still work, their clients wait for them.
const DRAIN_DEADLINE: Duration = Duration::from_secs(20);
/// Time within which messages that have arrived are given to their plugins.
const RECEIVE_DEADLINE: Duration = Duration::from_secs(10);
/// Time that closed connections have to deliver what plugins wrote last.
const CLOSE_DEADLINE: Duration = Duration::from_secs(3);
/// The shortest time limit of a whole stop, to which the delay for load balancers is added.
const STOP_DEADLINE: Duration = Duration::from_secs(30);
/// Time that a stop has in addition to the longest time to stop of a plugin: [`RECEIVE_DEADLINE`] before it,
/// [`CLOSE_DEADLINE`] after it, and some for a busy machine.
const STOP_MARGIN: Duration = Duration::from_secs(20);
/// Time that a stop waits for requests on their way to idle connections: longer than those of HTTP/1 linger.
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

    /// Stops after the daemon was ready. Load balancers have `stop_delay` to learn of it.
    pub(super) async fn stop(
        &mut self,
        supervisor: &SupervisorHandle,
        sources: WorkSources<'_>,
        versions: &Versions,
        stop_delay: Duration,
    ) {
        let WorkSources { listeners, subscriptions } = sources;
        let before = self.phase.send_replace(DaemonPhase::Stopping);
        self.notifier.notify(Notice::Stopping { status: &self.line(supervisor) });
        info!("stopping");
        // They have learned of it already when the daemon was drained.
        let is_drained = before == DaemonPhase::Draining && listeners.is_paused();
        let stop_delay = if is_drained { Duration::ZERO } else { stop_delay };
        let longest = timeout(LAST_REQUESTS, supervisor.longest_stop()).await;
        let deadline = stop_deadline(stop_delay, longest.ok().and_then(Result::ok));
        let close = async {
            // Load balancers learn of it before the sockets close.
            sleep(stop_delay).await;
            // Listeners close first, then the layers behind. A plugin's own time to stop begins when no more requests
            // come, and not when all of them are answered: one that never answers has no more time than that.
            subscriptions.close();
            let closed = listeners.close(SocketUse::Plugin);
            // A connection that was just accepted is given to its plugin first.
            // So is a message that was on its way.
            let settled = timeout(LAST_REQUESTS, listeners.settled());
            tokio::join!(settled.map(drop), subscriptions.received(RECEIVE_DEADLINE));
            let sources = WorkSources { listeners, subscriptions };
            if !finish(supervisor, sources, deadline).await {
                warn!("connections closed after timeout");
            }
            // Their plugins have ended; their last output is in transit.
            closed.drained(CLOSE_DEADLINE).await;
            tokio::join!(self.store.settled(), versions.settled());
        };
        tokio::select! {
            () = close => (),
            () = sleep(deadline) => warn!("stop timeout exceeded"),
            never = extend_until(&self.notifier, Instant::now() + deadline) => match never {},
            // SIGINT during the stop ends it without waiting.
            _ = self.signals.interrupt.recv() => warn!("stopped without waiting"),
        }
    }
}

/// Asks systemd for the time until `end` and a little longer, so that it is the daemon that says what it waited for.
async fn extend_until(notifier: &Notifier, end: Instant) -> Infallible {
    let mut extend = interval(EXTEND_EVERY);
    loop {
        extend.tick().await;
        let left = end.saturating_duration_since(Instant::now()) + EXTEND_EVERY;
        notifier.notify(Notice::ExtendTimeout(left.min(EXTEND_BY)));
    }
}

/// The time limit of a stop. Load balancers have `stop_delay` of it to learn of the stop; `longest` is the longest
/// `timeout-stop-sec` of a plugin.
fn stop_deadline(stop_delay: Duration, longest: Option<Duration>) -> Duration {
    let longest = longest.unwrap_or_default().saturating_add(STOP_MARGIN);
    stop_delay.saturating_add(longest.max(STOP_DEADLINE))
}

/// Lets the work in progress finish, and stops the plugins meanwhile. Clients are waited for as long as plugins are, and
/// for [`DRAIN_DEADLINE`] at least. False if connections are left.
async fn finish(
    supervisor: &SupervisorHandle,
    sources: WorkSources<'_>,
    deadline: Duration,
) -> bool {
    let WorkSources { listeners, subscriptions } = sources;
    let mut connections = pin!(listeners.drain(Protocol::Http, deadline));
    // Requests that are on their way to idle connections are taken before plugins stop.
    let drained = timeout(LAST_REQUESTS, &mut connections).await.ok();
    let connections = async {
        match drained {
            Some(drained) => drained,
            None => connections.await,
        }
    };
    let ended = CancellationToken::new();
    let stop_timeout = || async {
        // Clients receive what plugins wrote last.
        let plugins = ended.cancelled().then(|()| sleep(CLOSE_DEADLINE));
        tokio::join!(sleep(DRAIN_DEADLINE), plugins);
    };
    let connections = async {
        tokio::select! {
            drained = connections => drained,
            () = stop_timeout() => false,
        }
    };
    let messages = async {
        tokio::select! {
            () = subscriptions.drained() => (),
            () = stop_timeout() => subscriptions.abandon().await,
        }
    };
    let plugins = supervisor.stop().map(|()| ended.cancel());
    let (drained, (), ()) = tokio::join!(connections, messages, plugins);
    drained
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_has_more_time_than_any_plugin_and_load_balancers_theirs_in_addition() {
        let seconds = Duration::from_secs;
        for (stop_delay, longest, expected) in [
            (0, None, 30),
            (0, Some(1), 30),
            (0, Some(10), 30),
            (10, Some(10), 40),
            (0, Some(120), 140),
            (5, Some(120), 145),
        ] {
            let deadline = stop_deadline(seconds(stop_delay), longest.map(seconds));
            assert_eq!(deadline, seconds(expected), "{stop_delay} {longest:?}");
        }
        assert_eq!(stop_deadline(seconds(1), Some(Duration::MAX)), Duration::MAX);
    }
}
