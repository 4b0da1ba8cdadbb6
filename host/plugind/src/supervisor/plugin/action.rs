//! The actions to which the events of a plugin lead.

use crate::{
    pool::post_mortem::PostMortem,
    supervisor::{
        plugin::event::HandoverTicket,
        problem::{PluginProblem, RestartError},
        rollout::SavedState,
        summary::Failed,
    },
    world::bindings::exports::plugind::plugin::lifecycle::StopReason,
};
use std::time::{Duration, Instant};

/// The action to take.
#[derive(Debug)]
pub enum Action {
    /// The routes are to be published.
    Publish,
    /// The version that served last is to be read. The answer is [`PluginEvent::FallBack`] or
    /// [`PluginEvent::NoFallback`].
    ReadLastGood,
    /// A pool is to be made for a generation.
    Create {
        /// The generation.
        generation: u64,
        /// The source from which its instances are made.
        source: Source,
        /// The state that its instances take over when they start.
        inherited: Option<SavedState>,
    },
    /// An instance of this generation is to be started.
    StartWorker(u64),
    /// An instance of this generation is to be made and dropped. Until [`Action::Release`], none is started for work.
    TryInstance(u64),
    /// This generation is to start no more instances for now.
    Hold(u64),
    /// This generation may start instances when they are needed.
    Release(u64),
    /// This generation is to finish what it has, and stop its instances.
    Drain(u64, StopReason),
    /// The rest of this generation is to be ended.
    Kill(u64),
    /// [`PluginEvent::Due`] is wanted at this moment.
    WakeAt(u64, Instant),
    /// This generation is to hold its work and save its state.
    Save {
        /// The generation.
        generation: u64,
        /// The ticket to pass in [`PluginEvent::HandoverDue`].
        ticket: HandoverTicket,
        /// The time after which that event is wanted.
        timeout: Duration,
    },
    /// This generation is to take work again.
    Resume(u64),
    /// This generation is to take over this state.
    Restore(u64, SavedState),
    /// Instances of this generation take this over when they start.
    Inherit(u64, Option<SavedState>),
    /// This is to be kept for the next daemon, and nothing else.
    Keep(Option<SavedState>),
    /// Something is to be reported.
    Report(Fact),
}

/// The source from which the instances of a generation are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The result of this preparation.
    Preparation(u64),
    /// The same as those of this generation.
    Generation(u64),
}

/// A fact to report: in the log, and to those who wait.
#[derive(Debug)]
pub enum Fact {
    /// A worker ended that should not have.
    WorkerEnded {
        /// Its generation.
        generation: u64,
        /// Its number.
        worker: u32,
        /// The result, as systemd would name it.
        result: &'static str,
        /// The reason.
        error: String,
        /// Further facts about it.
        post_mortem: PostMortem,
    },
    /// A new version serves.
    Ready {
        /// Its number.
        generation: u64,
        /// The one before, which finishes what it has.
        previous: Option<u64>,
    },
    /// The version that served last serves in the place of the newest one, which failed.
    FellBack(Box<PluginProblem>),
    /// The last instance of a plugin that starts on demand was stopped, since it had no work.
    Idle {
        /// Its generation.
        generation: u64,
    },
    /// A request or connection has started a plugin that starts on demand.
    StartedOnDemand {
        /// Its generation.
        generation: u64,
    },
    /// A program returned ok.
    Returned {
        /// Its generation.
        generation: u64,
    },
    /// The newest version cannot be used.
    Failed(Box<PluginProblem>),
    /// The version that served cannot serve any more, and another one is on its way.
    FailedFollowed(Box<PluginProblem>),
    /// The newest version did not start, and is tried again.
    Retried(Failed),
    /// An operator stopped it.
    Stopped,
    /// It was removed.
    Removed {
        /// The generation that served.
        serving: Option<u64>,
    },
    /// Nothing is left of a generation.
    Gone {
        /// Its number.
        generation: u64,
    },
    /// Its state was not saved before the daemon ends.
    NotSaved {
        /// The result, as systemd would name it.
        result: &'static str,
        /// The reason.
        error: String,
    },
    /// New instances were not started, or a version was given up. Those that wait for it are answered.
    NotRestarted(RestartError),
}
