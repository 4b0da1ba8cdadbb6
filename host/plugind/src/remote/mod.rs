//! Connections to servers that the daemon uses. They are made in the background, and made again after an outage.

mod certificate;
pub mod availability;
mod dropped_messages;
pub mod error;
pub mod nats;
pub mod refusals;
pub mod valkey;
