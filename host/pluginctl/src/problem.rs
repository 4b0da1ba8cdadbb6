//! Why a command failed, and its exit status.

use crate::client::{CallRefused, ClientError};
use std::{
    future::Future,
    io::{self, ErrorKind},
};
use tokio::signal::unix::{SignalKind, signal};

/// The exit status after a signal is this plus the signal's number, as in a shell.
pub(crate) const INTERRUPTED: u8 = 128;
/// The exit status for a plugin of which the newest version does not serve, and for a daemon that does not run, as
/// systemctl(1) has it for a unit that is not active.
pub(crate) const NOT_ACTIVE: u8 = 3;
/// The exit status of `status` for a plugin that does not exist, as systemctl(1) has it.
pub(crate) const NOT_THERE: u8 = 4;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The daemon does not run, and this command does not start it.
    #[error(transparent)]
    Down(Box<dyn std::error::Error>),
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
    #[error("cannot wait for plugind: {0}")]
    Wait(io::Error),
    /// A command has an error of its own.
    #[error(transparent)]
    Failed(Box<dyn std::error::Error>),
    /// Mistakes of an author, one a line.
    #[error("{}", .0.join("; "))]
    Mistakes(Vec<String>),
    #[error("interrupted; plugind continues")]
    Interrupted { signal: u8 },
}

impl Problem {
    /// A command failed with an error of its own.
    pub(crate) fn failed(error: impl std::error::Error + 'static) -> Self {
        Self::Failed(Box::new(error))
    }

    /// The message, or each of several.
    pub(crate) fn lines(&self) -> Vec<String> {
        match self {
            Self::Mistakes(lines) => lines.clone(),
            other => vec![other.to_string()],
        }
    }

    /// The exit status.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::Interrupted { signal } => INTERRUPTED + signal,
            Self::Down(_) => NOT_ACTIVE,
            _ => 1,
        }
    }

    /// Whether the problem is printed: a closed pipe needs no message.
    pub(crate) fn is_printed(&self) -> bool {
        !matches!(self, Self::Print(error) if error.kind() == ErrorKind::BrokenPipe)
    }

    /// Whether the daemon answered that this cannot be done.
    pub(crate) fn is_refusal(&self) -> bool {
        use CallRefused::{
            CleanFailed, NoSuchPlugin, PinFailed, PluginNotReloaded, RestartFailed, RollbackFailed,
            StartFailed, StartedMeanwhile,
        };
        let Self::Client(ClientError::Refused(refused)) = self else { return false };
        matches!(
            refused,
            NoSuchPlugin { .. }
                | PinFailed { .. }
                | CleanFailed { .. }
                | PluginNotReloaded { .. }
                | RestartFailed { .. }
                | RollbackFailed { .. }
                | StartFailed { .. }
                | StartedMeanwhile { .. }
        )
    }

    /// Whether there is no plugin of that name.
    pub(crate) fn is_no_such_plugin(&self) -> bool {
        matches!(self, Self::Client(ClientError::Refused(CallRefused::NoSuchPlugin { .. })))
    }
}

/// Runs asynchronous work to its end, in this thread.
pub(crate) fn wait_for<T>(work: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(Problem::Wait)?.block_on(work)
}

/// Runs a request that the daemon continues when the client no longer waits.
pub(crate) async fn unless_interrupted<T>(
    work: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Problem::Wait)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Problem::Wait)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(Problem::Wait)?;
    let kind = tokio::select! {
        biased;
        _ = interrupt.recv() => SignalKind::interrupt(),
        _ = terminate.recv() => SignalKind::terminate(),
        _ = hang_up.recv() => SignalKind::hangup(),
        done = work => return done,
    };
    // All have small numbers.
    let signal = u8::try_from(kind.as_raw_value()).unwrap_or_default();
    Err(Problem::Interrupted { signal })
}
