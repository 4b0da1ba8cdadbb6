//! Draining: an operator takes the daemon out of service without stopping it. Load balancers learn of it at once, and
//! after a delay no more connections are accepted.

use crate::{
    base::error_chain::ErrorChain,
    listen::{listeners::Listeners, sockets::ListenError},
    supervisor::phase::DaemonPhase,
};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{info, warn};

/// Time that connections have to end before the reply to a request to drain, after the delay.
const DRAIN_DEADLINE: Duration = Duration::from_secs(30);

/// Begins and ends the draining of the daemon. Cheap to clone.
#[derive(Clone)]
pub struct Draining(Arc<DrainState>);

struct DrainState {
    phase: watch::Sender<DaemonPhase>,
    /// Weak, because the listener of the control socket has this.
    listeners: Weak<Listeners>,
    /// Time between the first answer to a load balancer and the end of accepting.
    delay: Duration,
    /// Whether connections are not accepted any more.
    is_closed: watch::Sender<bool>,
    /// Keeps the task that waits for the delay from being ended. Locked while draining begins, closes the sockets or
    /// ends, so that only one of them happens at a time.
    closing: Mutex<Option<DropGuard>>,
}

/// Why draining did not begin or end.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    /// The daemon starts or stops.
    #[error("the daemon does not serve yet, or is about to end")]
    NotServing,
    /// A socket cannot be used again.
    #[error("cannot accept connections again")]
    Listen(#[source] ListenError),
    /// Another client ended it, or the daemon is about to end.
    #[error("draining ended before all connections were closed")]
    Ended,
}

impl Draining {
    /// For these listeners, which stay open for `delay` when draining has begun.
    #[must_use]
    pub fn new(
        phase: watch::Sender<DaemonPhase>,
        listeners: &Arc<Listeners>,
        delay: Duration,
    ) -> Self {
        Self(Arc::new(DrainState {
            phase,
            listeners: Arc::downgrade(listeners),
            delay,
            is_closed: watch::Sender::new(false),
            closing: Mutex::default(),
        }))
    }

    /// Begins to drain, unless that has begun. To be called within the runtime.
    ///
    /// # Errors
    /// When the daemon does not serve yet, or is about to end.
    pub fn begin(&self) -> Result<(), DrainError> {
        let mut closing = self.0.lock_closing();
        match self.0.change_phase(DaemonPhase::Running, DaemonPhase::Draining) {
            Ok(()) => (),
            Err(DaemonPhase::Draining) => return Ok(()),
            Err(_) => return Err(DrainError::NotServing),
        }
        info!("draining");
        let (state, delay) = (Arc::downgrade(&self.0), self.0.delay);
        let ended = CancellationToken::new();
        *closing = Some(ended.clone().drop_guard());
        tokio::spawn(async move {
            if ended.run_until_cancelled(sleep(delay)).await.is_some()
                && let Some(state) = state.upgrade()
            {
                state.close(&ended);
            }
        });
        Ok(())
    }

    /// Waits until no connections are accepted, and then at most `DRAIN_DEADLINE` for the open ones to end. Returns
    /// the number of connections that are left.
    ///
    /// # Errors
    /// When draining ends before that.
    pub async fn drained(&self) -> Result<usize, DrainError> {
        let (mut is_closed, mut phase) = (self.0.is_closed.subscribe(), self.0.phase.subscribe());
        let drained = async {
            // The sender exists as long as `self`, so this does not fail.
            is_closed.wait_for(|is_closed| *is_closed).await.ok();
            if let Some(listeners) = self.0.listeners.upgrade() {
                timeout(DRAIN_DEADLINE, listeners.paused_drained()).await.ok();
            }
        };
        tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase != DaemonPhase::Draining) => Err(DrainError::Ended),
            () = drained => {
                let listeners = self.0.listeners.upgrade();
                Ok(listeners.map_or(0, |listeners| listeners.paused_connections()))
            }
        }
    }

    /// Accepts connections again, if it drains. To be called within the runtime.
    ///
    /// # Errors
    /// When a socket cannot be used; then the daemon continues to drain.
    pub fn end(&self) -> Result<(), DrainError> {
        let mut closing = self.0.lock_closing();
        match *self.0.phase.borrow() {
            DaemonPhase::Draining => (),
            DaemonPhase::Running => return Ok(()),
            DaemonPhase::Starting | DaemonPhase::Stopping => return Err(DrainError::NotServing),
        }
        self.0.resume()?;
        *closing = None;
        let ended = self.0.change_phase(DaemonPhase::Draining, DaemonPhase::Running);
        ended.map_err(|_| DrainError::NotServing)?;
        info!("draining ended");
        Ok(())
    }
}

impl DrainState {
    /// The delay has passed: no connections are accepted, unless draining has ended.
    fn close(&self, ended: &CancellationToken) {
        let _closing = self.lock_closing();
        if ended.is_cancelled() || *self.phase.borrow() != DaemonPhase::Draining {
            return;
        }
        if let Some(listeners) = self.listeners.upgrade() {
            listeners.pause();
        }
        self.is_closed.send_replace(true);
    }

    /// Opens the sockets, if the delay has passed: all of them or none.
    fn resume(&self) -> Result<(), DrainError> {
        if !*self.is_closed.borrow() {
            return Ok(());
        }
        if let Some(listeners) = self.listeners.upgrade()
            && let Err(error) = listeners.resume()
        {
            listeners.pause();
            warn!(error = %ErrorChain(&error), "cannot end draining");
            return Err(DrainError::Listen(error));
        }
        self.is_closed.send_replace(false);
        Ok(())
    }

    /// Changes the phase `from` into the phase `to`. The error is the current phase, if it is not `from`.
    fn change_phase(&self, from: DaemonPhase, to: DaemonPhase) -> Result<(), DaemonPhase> {
        let mut found = from;
        let has_changed = self.phase.send_if_modified(|phase| {
            found = *phase;
            let is_from = *phase == from;
            if is_from {
                *phase = to;
            }
            is_from
        });
        if has_changed { Ok(()) } else { Err(found) }
    }

    fn lock_closing(&self) -> MutexGuard<'_, Option<DropGuard>> {
        self.closing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{
            Document,
            settings::{Protocol, Settings},
        },
        listen::{
            socket_service::Server,
            sockets::{Listen, ListenSockets},
        },
        route::sockets::SocketPlan,
        runtime::executors::Executors,
        systemd::sockets::PassedSockets,
    };
    use std::{io::ErrorKind, path::Path};
    use tempfile::TempDir;
    use tokio::{io::AsyncReadExt, net::UnixStream};

    /// A daemon of one socket, whose server closes every connection at once.
    struct Drainable {
        draining: Draining,
        phase: watch::Sender<DaemonPhase>,
        listeners: Arc<Listeners>,
        directory: TempDir,
    }

    impl Drainable {
        fn new(delay: Duration) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let address = directory.path().join("web").to_str().unwrap().parse().unwrap();
            let listen = Listen { name: "web".parse().unwrap(), address };
            let sockets = ListenSockets::collect(PassedSockets::default(), &[listen]).unwrap();
            let text = "[sockets.web]\nprotocol = \"http\"\n";
            let document = Document::new(Path::new("plugind.toml"), text);
            let settings = Settings::parse(&document).unwrap();
            let plan = SocketPlan::new(&sockets.kinds(), &settings.sockets).unwrap();
            let listeners = Arc::new(Listeners::new(sockets, Executors::of_this_runtime()));
            listeners.follow(&plan).unwrap();
            let server: Server = Arc::new(|accepted| Box::pin(async move { drop(accepted) }));
            listeners.serve(Protocol::Http, server).unwrap();
            let phase = watch::Sender::new(DaemonPhase::Running);
            let draining = Draining::new(phase.clone(), &listeners, delay);
            Self { draining, phase, listeners, directory }
        }

        fn phase(&self) -> DaemonPhase {
            *self.phase.borrow()
        }

        async fn is_served(&self) {
            assert_eq!(self.listeners.usage().len(), 1);
            let mut client = UnixStream::connect(self.directory.path().join("web")).await.unwrap();
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        }
    }

    #[tokio::test]
    async fn draining_that_ends_during_the_delay_closes_no_sockets() {
        let daemon = Drainable::new(Duration::MAX);
        daemon.draining.begin().unwrap();
        let ended = CancellationToken::new();
        let undrained = async { daemon.draining.end().unwrap() };
        let (drained, ()) = tokio::join!(daemon.draining.drained(), undrained);
        assert!(matches!(drained, Err(DrainError::Ended)), "{drained:?}");
        assert_eq!(daemon.phase(), DaemonPhase::Running);
        // Its delay ends at the same time.
        daemon.draining.0.close(&ended);
        assert!(!*daemon.draining.0.is_closed.borrow());
        daemon.is_served().await;
        // The delay of the draining before does not shorten that of the next one.
        ended.cancel();
        daemon.draining.begin().unwrap();
        daemon.draining.0.close(&ended);
        assert!(!*daemon.draining.0.is_closed.borrow());
        daemon.is_served().await;
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_accepted_after_the_delay_until_draining_ends() {
        let delay = Duration::from_secs(3600);
        let daemon = Drainable::new(delay);
        daemon.draining.begin().unwrap();
        assert_eq!(daemon.draining.drained().await.unwrap(), 0);
        let mut client = UnixStream::connect(daemon.directory.path().join("web")).await.unwrap();
        // The clock of this test advances only when no task has anything to do, so each has had its turns.
        for _ in 0..3 {
            sleep(delay).await;
        }
        let read = client.try_read(&mut [0]);
        assert_eq!(read.unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(daemon.phase(), DaemonPhase::Draining);
        daemon.draining.end().unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_daemon_that_stops_has_not_drained() {
        let daemon = Drainable::new(Duration::MAX);
        daemon.draining.begin().unwrap();
        let stop = async { daemon.phase.send_replace(DaemonPhase::Stopping) };
        let (drained, _) = tokio::join!(daemon.draining.drained(), stop);
        assert!(matches!(drained, Err(DrainError::Ended)), "{drained:?}");
        assert!(matches!(daemon.draining.end(), Err(DrainError::NotServing)));
    }
}
