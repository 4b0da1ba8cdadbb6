//! The figures of the daemon and its plugins, as those get them who collect figures.

pub mod snapshot;
pub mod state_sizes;
pub mod table;
pub mod exposition;
pub mod server;
