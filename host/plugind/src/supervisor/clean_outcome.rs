//! The removal of what is kept for a plugin, and its outcome.

use crate::{base::name::PluginName, supervisor::problem::Stopping};
use tokio::sync::oneshot;

/// The parts of what the daemon keeps for a plugin that are to be removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CleanParts {
    /// Its files and its key-value store.
    pub state: bool,
    /// The state that it saved for a handover.
    pub saved: bool,
}

/// Where the outcome goes.
pub(crate) type CleanReply = oneshot::Sender<Result<(), CleanError>>;

/// A removal of files that has not ended. It stays with the supervisor, so that its client gets an answer even if the
/// work fails in a way that was not foreseen.
pub(super) struct CleaningInProgress {
    pub(super) name: PluginName,
    pub(super) reply: CleanReply,
}

/// Why nothing was removed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CleanError {
    /// No plugin has this name, and nothing is kept for it.
    #[error("there is no such plugin")]
    NoSuchPlugin,
    /// It has instances, or a version of it is on its way.
    #[error("it is in use; stop it first: `pluginctl stop {0}`")]
    InUse(PluginName),
    /// Another removal has not ended.
    #[error("the state of {0} is being removed; try again")]
    Busy(PluginName),
    /// The system refused it.
    #[error("{0}")]
    Failed(String),
    /// All plugins stop.
    #[error(transparent)]
    Stopping(#[from] Stopping),
}
