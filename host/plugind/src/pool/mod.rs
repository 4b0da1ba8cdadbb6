//! The instances of one generation of a plugin: calls go in, replies come out.

pub mod failure;
pub mod post_mortem;
mod core_dump;
pub(crate) mod worker_handle;
mod deadline;
mod back_pressure;
mod registry;
mod call_state;
mod in_flight;
mod abandoned_tasks;
mod queue;
mod room;
mod deadline_sweeper;
mod pauses;
mod reply;
pub mod call;
mod config;
pub mod shares;
pub mod commons;
mod decision;
mod scaling;
pub mod gauges;
mod resting;
mod health;
mod http;
mod messages;
mod progress;
mod streams;
mod websockets;
mod request_failures;
mod state_transfer;
pub mod worker_event;
mod workers;
mod worker_context;
mod serving;
mod worker_task;
mod worker;
pub mod idle;
pub mod instances;
#[cfg(all(test, feature = "loom"))]
mod models;

pub use reply::{Delivery, Reply};
pub use request_failures::FailureCounts;
