//! Connections to servers that the daemon uses. They are made in the background, and made again after an outage.

pub mod availability;
pub mod error;
pub mod nats;
pub mod valkey;
