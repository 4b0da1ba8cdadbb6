//! The metrics of the daemon and its plugins, as collectors get them.

pub mod snapshot;
pub mod state_sizes;
pub mod metric;
pub mod table;
pub mod exposition;
pub mod server;
