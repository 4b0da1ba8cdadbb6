//! The outcome of a pin that was to be written or removed.

use crate::{
    base::name::PluginName, plugin::release::ReleaseDigests, supervisor::problem::PinError,
};
use tokio::sync::oneshot;

/// Where the outcome of a pin goes.
pub(crate) type PinReply = oneshot::Sender<Result<(), PinError>>;

/// A pin that was written or removed, or could not be.
pub(crate) struct PinOutcome {
    pub(super) name: PluginName,
    pub(super) outcome: Result<(), PinError>,
}

/// A pin that is being written or removed. It stays with the supervisor, so that its client gets an answer even if the
/// work fails in a way that was not foreseen.
pub(super) struct PinInProgress {
    pub(super) change: PinChange,
    pub(super) reply: PinReply,
}

#[derive(Clone, Copy)]
pub(super) enum PinChange {
    /// This version is pinned; `before` was, if any.
    Pin {
        pinned: ReleaseDigests,
        before: Option<ReleaseDigests>,
    },
    Unpin,
}
