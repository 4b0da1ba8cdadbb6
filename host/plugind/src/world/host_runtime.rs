//! The engine of all plugins with the linker of the host's interfaces, which a thread of its own makes while the daemon
//! reads its plugins: the instance pool needs a system call for each stack, together half the time of a start.

use crate::{
    base::limits::ComponentLimits,
    config::settings::PoolSettings,
    runtime::engine::{self, EngineError, EngineKind},
    world::{clock_timers, host_state::HostState, interfaces, movable_clock::MovableClock},
};
use futures::{FutureExt, channel::oneshot, future::Shared};
use std::{fmt, io, sync::Arc, thread};
use wasmtime::{Engine, component::Linker};

/// Why plugins cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum HostRuntimeError {
    /// There is no engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The engine does not take the host's interfaces.
    #[error("cannot link the host's own interfaces: {0}")]
    Linker(String),
    /// There is no thread that makes it.
    #[error(
        "cannot start a thread; raise TasksMax= of the unit or the limit of processes (ulimit -u)"
    )]
    Thread(#[source] io::Error),
    /// The thread ended before it was done.
    #[error(
        "the thread that makes the engine ended unexpectedly; this is a bug in plugind, please report it"
    )]
    Ended,
}

/// The engine, and everything that a guest may import.
pub struct HostRuntime {
    /// The engine.
    pub engine: Engine,
    /// Everything that a guest may import.
    pub linker: Linker<HostState>,
}

impl HostRuntime {
    fn new(
        kind: EngineKind,
        pool: &PoolSettings,
        clock: Option<&MovableClock>,
    ) -> Result<Self, HostRuntimeError> {
        let mut runtime = Self::of(engine::start(kind, pool)?)?;
        if let Some(clock) = clock {
            clock_timers::link(&mut runtime.linker, clock)
                .map_err(|error| HostRuntimeError::Linker(format!("{error:#}")))?;
        }
        Ok(runtime)
    }

    /// One that links and never runs anything.
    ///
    /// # Errors
    /// When the engine cannot be made, or does not take the host's interfaces.
    pub fn for_checks(
        kind: EngineKind,
        component: ComponentLimits,
    ) -> Result<Self, HostRuntimeError> {
        Self::of(engine::for_checks(kind, component)?)
    }

    fn of(engine: Engine) -> Result<Self, HostRuntimeError> {
        let linker = interfaces::linker(&engine)
            .map_err(|error| HostRuntimeError::Linker(format!("{error:#}")))?;
        Ok(Self { engine, linker })
    }
}

type Made = Result<Arc<HostRuntime>, Arc<HostRuntimeError>>;

/// A runtime that is being made.
#[derive(Clone)]
pub struct PendingHostRuntime(Shared<oneshot::Receiver<Made>>);

impl PendingHostRuntime {
    /// One that cannot be made.
    #[cfg(test)]
    pub(crate) fn failed() -> Self {
        Self(oneshot::channel().1.shared())
    }

    /// Begins to make it. Guests have the clocks of the system, unless there is a `clock` that can be moved.
    ///
    /// # Errors
    /// When there is no thread for that.
    pub fn start(
        kind: EngineKind,
        pool: PoolSettings,
        clock: Option<MovableClock>,
    ) -> Result<Self, HostRuntimeError> {
        let (sender, receiver) = oneshot::channel();
        let make = move || {
            // There is no receiver only if the daemon is ending.
            sender
                .send(HostRuntime::new(kind, &pool, clock.as_ref()).map(Arc::new).map_err(Arc::new))
                .ok();
        };
        thread::Builder::new()
            .name("engine".to_owned())
            .spawn(make)
            .map_err(HostRuntimeError::Thread)?;
        Ok(Self(receiver.shared()))
    }

    /// Returns it if it is there already.
    #[must_use]
    pub fn made(&self) -> Option<Arc<HostRuntime>> {
        self.0.peek()?.as_ref().ok()?.as_ref().ok().cloned()
    }

    /// Returns it as soon as it is there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn ready(&self) -> Made {
        self.0.clone().await.unwrap_or_else(|_| Err(Arc::new(HostRuntimeError::Ended)))
    }
}

impl fmt::Debug for PendingHostRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PendingHostRuntime")
    }
}
