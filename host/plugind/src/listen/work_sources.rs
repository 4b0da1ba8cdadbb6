//! The sources of work for plugins, which end first when the daemon stops.

use crate::listen::{listeners::Listeners, subscriptions::Subscriptions};

/// The sources of work for plugins.
#[derive(Clone, Copy)]
pub struct WorkSources<'a> {
    /// The sockets.
    pub listeners: &'a Listeners,
    /// The subscriptions.
    pub subscriptions: &'a Subscriptions,
}
