//! The events of a plugin: what was found, asked for and reported.

use crate::{
    plugin::{release::Release, verify::Verified},
    pool::worker_event::WorkerEvent,
    route::owners::RouteRequest,
    supervisor::{
        prepare::PrepareError,
        problem::PluginProblem,
        rollout::{HoldPoint, SavedState},
    },
    world::bindings::exports::plugind::plugin::lifecycle::StopReason,
};
use std::sync::Arc;

/// An event of a plugin.
#[derive(Debug)]
pub enum PluginEvent {
    /// A version was found that is to be compiled, linked and started.
    Found {
        /// The number of the preparation.
        ticket: u64,
        /// The version that was found.
        verified: Verified,
        /// The routes it asks for, and gets.
        requests: Vec<RouteRequest>,
        /// The point at which it must wait, if any.
        hold_point: HoldPoint,
    },
    /// The version that served last was read, and is to be compiled, linked and started.
    FallBack {
        /// The number of the preparation.
        ticket: u64,
        /// The version that was read.
        verified: Verified,
        /// The routes it asks for, and gets.
        requests: Vec<RouteRequest>,
    },
    /// The version that served last cannot be used.
    NoFallback {
        /// Other plugins served last, so the start leaves this one out.
        left_out: bool,
    },
    /// A version was found that cannot be used.
    Unusable(Box<PluginProblem>),
    /// The version that serves must not continue, and there is no other version that can.
    Withdraw(Box<PluginProblem>),
    /// The version that was found serves already.
    Unchanged,
    /// The pending version is not wanted any more.
    NotWanted,
    /// A preparation has ended.
    Prepared {
        /// Its number.
        ticket: u64,
        /// The outcome.
        outcome: Result<Prepared, PrepareError>,
    },
    /// It is to have new instances, as the generation of this number.
    Restart {
        /// The number.
        generation: u64,
        /// The preparation by which it was linked again, and its version, if that was necessary.
        relinked: Option<(u64, Arc<Release>)>,
    },
    /// A worker reports.
    Worker {
        /// Its generation.
        generation: u64,
        /// The event.
        event: WorkerEvent,
        /// Whether others of its generation take work.
        others: bool,
    },
    /// The time to wait has passed.
    Due {
        /// For this generation.
        generation: u64,
    },
    /// The time to stop has passed.
    TimedOut {
        /// For this generation.
        generation: u64,
    },
    /// The time for a handover has passed.
    HandoverDue {
        /// Identifies the handover.
        ticket: HandoverTicket,
        /// The guest was asked to save.
        save_begun: bool,
    },
    /// Its new version may go further.
    Open(HoldPoint),
    /// An operator stops it.
    Stop,
    /// It is there, and is not to start before an operator or a unit starts it.
    Rest {
        /// The routes it asks for.
        requests: Vec<RouteRequest>,
    },
    /// It must end.
    Remove(StopReason),
    /// It must end because the daemon ends. Its state is saved before, if there is one.
    Shutdown,
    /// It was added by a reload that changes nothing, so it is removed again.
    Forget,
}

/// A version that was compiled and linked.
#[derive(Debug)]
pub struct Prepared {
    /// The number that its generation gets.
    pub generation: u64,
    /// The daemon's start has ended.
    pub after_start: bool,
    /// The state that an earlier daemon saved for it.
    pub saved: Option<SavedState>,
}

/// Identifies a handover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandoverTicket {
    /// The generation that saves.
    pub(super) generation: u64,
    /// Its number among the handovers of the plugin.
    pub(super) nth: u64,
}
