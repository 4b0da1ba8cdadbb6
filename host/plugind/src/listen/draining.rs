//! Draining: an operator takes the daemon out of service without stopping it. Load balancers learn of it at once, and
//! after a delay no more connections are accepted.

use crate::{
    listen::{listeners::Listeners, sockets::ListenError},
    supervisor::phase::DaemonPhase,
};
use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use tracing::info;

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
    /// Waits for the delay.
    closing: Mutex<Option<AbortOnDropHandle<()>>>,
}

/// Why draining did not begin or end.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    /// It starts or stops.
    #[error("the daemon does not serve yet, or is about to end")]
    NotServing,
    /// A socket cannot be used again.
    #[error("cannot accept connections again")]
    Listen(#[source] ListenError),
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
        match self.0.change_phase(DaemonPhase::Running, DaemonPhase::Draining) {
            Ok(()) => (),
            Err(DaemonPhase::Draining) => return Ok(()),
            Err(_) => return Err(DrainError::NotServing),
        }
        info!("draining");
        let (state, delay) = (Arc::downgrade(&self.0), self.0.delay);
        let closing = tokio::spawn(async move {
            sleep(delay).await;
            if let Some(state) = state.upgrade()
                && let Some(listeners) = state.listeners.upgrade()
            {
                listeners.pause();
                state.is_closed.send_replace(true);
            }
        });
        self.0.set_closing(Some(AbortOnDropHandle::new(closing)));
        Ok(())
    }

    /// Waits until no connections are accepted and those that there are have ended, or draining has, but not for long.
    /// Returns the number of connections that are left.
    pub async fn drained(&self) -> usize {
        let (mut is_closed, mut phase) = (self.0.is_closed.subscribe(), self.0.phase.subscribe());
        let drained = async {
            // The senders are as long there as this.
            is_closed.wait_for(|is_closed| *is_closed).await.ok();
            if let Some(listeners) = self.0.listeners.upgrade() {
                timeout(DRAIN_DEADLINE, listeners.paused_drained()).await.ok();
            }
        };
        tokio::select! {
            () = drained => (),
            _ = phase.wait_for(|phase| *phase != DaemonPhase::Draining) => (),
        }
        self.0.listeners.upgrade().map_or(0, |listeners| listeners.paused_connections())
    }

    /// Accepts connections again, if it drains. To be called within the runtime.
    ///
    /// # Errors
    /// When a socket cannot be used.
    pub fn end(&self) -> Result<(), DrainError> {
        match self.0.change_phase(DaemonPhase::Draining, DaemonPhase::Running) {
            Ok(()) => (),
            Err(DaemonPhase::Running) => return Ok(()),
            Err(_) => return Err(DrainError::NotServing),
        }
        self.0.set_closing(None);
        self.0.is_closed.send_replace(false);
        info!("draining ended");
        let Some(listeners) = self.0.listeners.upgrade() else { return Ok(()) };
        listeners.resume().map_err(DrainError::Listen)
    }
}

impl DrainState {
    /// Changes one phase into another; the error is the phase that it is instead.
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

    fn set_closing(&self, closing: Option<AbortOnDropHandle<()>>) {
        *self.closing.lock().unwrap_or_else(PoisonError::into_inner) = closing;
    }
}
