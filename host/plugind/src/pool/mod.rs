//! The instances of one generation of a plugin: calls go in, replies come out.

pub mod failure;
pub mod worker_handle;
mod deadline;
mod health;
mod state_transfer;
pub mod in_flight;
pub mod workers;
mod worker;
pub mod instances;
