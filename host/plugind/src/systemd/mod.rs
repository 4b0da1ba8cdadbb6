//! What systemd hands over and wants to hear: sockets, readiness, the watchdog. Without systemd all of it is absent.

pub mod environment;
pub mod notify;
pub mod sockets;
pub mod watchdog;
