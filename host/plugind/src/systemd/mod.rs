//! The contract with systemd: sockets, readiness, the watchdog, stored states. Without systemd all of it is absent.

#[cfg(feature = "runtime")]
pub mod address_families;
#[cfg(feature = "runtime")]
pub mod certificates;
#[cfg(feature = "runtime")]
pub mod credential_file;
pub mod cgroup;
pub mod directories;
pub mod directory_use;
pub mod environment;
#[cfg(feature = "runtime")]
pub mod memory_pressure;
pub mod notify;
pub mod process;
pub mod sockets;
pub mod state_lock;
pub mod storage;
pub mod saved_files;
pub mod store;
pub mod watchdog;
