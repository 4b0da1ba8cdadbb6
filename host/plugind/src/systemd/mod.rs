//! What systemd hands over and wants to hear: sockets, readiness, the watchdog, what plugins keep. Without systemd all of it is absent.

#[cfg(feature = "runtime")]
pub mod certificates;
pub mod cgroup;
pub mod directories;
pub mod environment;
pub mod notify;
pub mod process;
pub mod sockets;
pub mod storage;
pub mod store;
pub mod watchdog;
