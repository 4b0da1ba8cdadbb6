//! The state of a plugin that follows from an operator's requests.

use crate::{plugin::release::ReleaseDigests, route::owners::RouteRequest};

/// The facts that a stopped plugin keeps.
#[derive(Debug)]
pub struct StoppedPlugin {
    /// The routes that it had.
    pub requests: Vec<RouteRequest>,
    /// Whether the plugin is required.
    pub required: bool,
    /// Whether an operator stopped it. Otherwise it has not been started yet, since it does not start by itself.
    pub by_operator: bool,
}

/// The two versions of a rollback.
#[derive(Clone, Copy, Debug)]
pub struct Rollback {
    /// The version that the operator rolled back from.
    pub from: ReleaseDigests,
    /// The one that serves instead.
    pub to: ReleaseDigests,
}
