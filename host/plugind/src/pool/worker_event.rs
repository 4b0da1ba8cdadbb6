//! What happens to a worker, as the supervisor learns it.

use crate::{
    base::request_identity::RequestIdentity,
    pool::{failure::Failure, post_mortem::PostMortem},
};
use std::{sync::Arc, time::Duration};

/// The stage of an instance when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceStage {
    /// It was not ready yet.
    Starting,
    /// It was not ready yet either, and was restoring the state that was saved last.
    Restoring,
    /// It was ready.
    Ready {
        /// The time since it was ready.
        uptime: Duration,
        /// It had taken a call.
        served: bool,
    },
}

impl InstanceStage {
    /// Whether it was not ready yet.
    #[must_use]
    pub fn is_start(self) -> bool {
        matches!(self, Self::Starting | Self::Restoring)
    }
}

/// Why a worker takes no more calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retirement {
    /// A call in it was not answered in time. It has ended.
    CallTimedOut(Option<RequestIdentity>),
    /// It has served for long enough, and ends when its calls have ended; or it has ended, because a call without a
    /// caller occupied it.
    Recycled,
}

/// An event of one worker, for the supervisor.
#[derive(Debug)]
pub enum WorkerEvent {
    /// It started and takes calls.
    Ready {
        /// Which worker.
        worker: u32,
    },
    /// No worker is left, since there has been no work for long, or an instance was tried and there is no work yet. The
    /// next call starts one. Only of a plugin that starts on demand.
    Idle {
        /// The state that the last worker has saved, which the next one takes over.
        state: Option<Arc<[u8]>>,
    },
    /// A worker is started although there was none. Only of a plugin that starts on demand.
    Waking,
    /// It ended, and should not have.
    Failed {
        /// Which worker.
        worker: u32,
        /// The failure.
        failure: Failure,
        /// The stage that it had reached.
        stage: InstanceStage,
        /// Facts about the failure.
        post_mortem: PostMortem,
    },
    /// It takes no more calls, and is to be replaced; it did not fail.
    Retired {
        /// Which worker.
        worker: u32,
        /// The reason.
        cause: Retirement,
    },
    /// The state of a worker was saved, as [`Pool::save`](crate::pool::instances::Pool::save) ordered; or it was not.
    Saved {
        /// Which worker.
        worker: u32,
        /// The number of the save, as returned when it was ordered.
        save: u64,
        /// The state, if there is any.
        outcome: Result<Option<Arc<[u8]>>, Failure>,
    },
    /// A worker has taken over a state, as [`Pool::restore`](crate::pool::instances::Pool::restore) ordered; or it has
    /// not.
    Restored {
        /// Which worker.
        worker: u32,
        /// Whether it has.
        outcome: Result<(), Failure>,
    },
    /// Whether the plugin is degraded, or why, may have changed.
    Degraded,
    /// The program returned ok.
    Returned,
    /// The last worker of a set that drains has ended.
    Gone,
}
