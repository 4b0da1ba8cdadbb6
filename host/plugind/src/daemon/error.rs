//! Why the daemon ended by itself.

use crate::{
    base::quantity::Span, config::settings::SettingsError, listen::sockets::ListenError,
    remote::error::RemoteError, supervisor::summary::Failed,
    systemd::certificates::CertificatesError, world::host_runtime::HostRuntimeError,
};
use rustix::io::Errno;
use std::{io, sync::Arc, time::Duration};

/// Why the daemon ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// A signal could not be caught.
    #[error("cannot catch signals")]
    Signals(#[source] io::Error),
    /// The settings of `plugind.toml` are wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A socket cannot be used.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Certificates(#[from] CertificatesError),
    /// A server cannot be used as it is configured.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The thread that stores plugins' states with systemd cannot be started.
    #[error(
        "cannot start a thread; raise TasksMax= of the unit or the limit of processes (ulimit -u)"
    )]
    Store(#[source] io::Error),
    /// Plugins cannot be run.
    #[error(transparent)]
    Runtime(#[from] Arc<HostRuntimeError>),
    /// The plugin directories could not be read.
    #[error("{0}")]
    Directories(String),
    /// Required plugins cannot start.
    #[error("{}", reported(.0))]
    Required(Vec<Failed>),
    /// Plugins failed without which the daemon must not continue.
    #[error("{}", reported(.0))]
    Failed(Vec<Failed>),
    /// The supervisor ended unexpectedly.
    #[error(
        "the supervisor of the plugins ended unexpectedly; this is a bug in plugind, please report it"
    )]
    Supervisor {
        /// Whether the daemon was ready.
        was_ready: bool,
    },
    /// Required plugins did not become ready in time.
    #[error(
        "plugins did not become ready within {} (start-deadline-sec): {}{}",
        Span(*.deadline),
        .awaited.join(", "),
        and_failures(.failed)
    )]
    Deadline {
        /// The time that they had.
        deadline: Duration,
        /// The plugins that are not ready.
        awaited: Vec<String>,
        /// The plugins that failed, and those that are tried again, each with the cause.
        failed: Vec<Failed>,
    },
}

fn and_failures(failed: &[Failed]) -> String {
    if failed.is_empty() { String::new() } else { format!("; {}", reported(failed)) }
}

fn reported(failed: &[Failed]) -> String {
    let reported: Vec<_> = failed
        .iter()
        .map(|failed| {
            format!("plugin {} failed at {}: {}", failed.plugin, failed.stage, failed.error)
        })
        .collect();
    reported.join("; ")
}

impl DaemonError {
    /// Whether another start can succeed only after something was changed.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Listen(error) => error.is_configuration(),
            Self::Settings(_) | Self::Directories(_) | Self::Certificates(_) | Self::Remote(_) => {
                true
            }
            Self::Required(failed) | Self::Deadline { failed, .. } => {
                failed.iter().any(|failed| failed.configuration)
            }
            _ => false,
        }
    }

    /// Whether the daemon was ready before this error.
    #[must_use]
    pub fn was_ready(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Supervisor { was_ready: true })
    }

    /// The closest error number of errno(3), which systemd shows.
    pub(super) fn errno(&self) -> u32 {
        let errno = match self {
            _ if self.is_configuration() => Errno::INVAL,
            Self::Deadline { .. } => Errno::TIMEDOUT,
            _ => Errno::IO,
        };
        errno.raw_os_error().unsigned_abs()
    }
}
