//! The removal of the data that is kept for a plugin, and its outcome.

use crate::{
    base::{name::PluginName, quantity::Span},
    supervisor::problem::Stopping,
};
use tokio::sync::oneshot;

/// The parts of the kept data of a plugin that are to be removed.
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
    /// Tells it from others.
    pub(super) nth: u64,
    pub(super) name: PluginName,
    /// None if the client got an answer, because the removal took too long.
    pub(super) reply: Option<CleanReply>,
}

impl CleaningInProgress {
    /// Answers the client of this removal, if it still waits. False if it does not, or waits for another removal.
    pub(super) fn answer_late(&mut self, nth: u64, waited: Span) -> bool {
        let Some(reply) = self.reply.take_if(|_| self.nth == nth) else { return false };
        // The client may have disconnected.
        reply.send(Err(CleanError::Slow(waited))).ok();
        true
    }
}

/// Why the removal was refused, failed or has not ended.
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
    /// The removal continues.
    #[error(
        "its files have not been removed after {0}; the disk of the state directory may not answer; the plugin does \
         not start before they are removed"
    )]
    Slow(Span),
    /// All plugins stop.
    #[error(transparent)]
    Stopping(#[from] Stopping),
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_client_of_a_removal_that_takes_too_long_is_answered_once() {
        let (reply, mut answer) = oneshot::channel();
        let name = "a".parse().unwrap();
        let mut cleaning = CleaningInProgress { nth: 2, name, reply: Some(reply) };
        let waited = Span(Duration::from_secs(60));
        assert!(!cleaning.answer_late(1, waited), "that was another removal");
        assert!(cleaning.answer_late(2, waited));
        assert!(matches!(answer.try_recv(), Ok(Err(CleanError::Slow(_)))));
        assert!(!cleaning.answer_late(2, waited));
    }
}
