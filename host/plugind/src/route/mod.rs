//! The table that requests read, and who owns which route or socket.

pub mod sockets;
pub mod owners;
#[cfg(feature = "runtime")]
pub mod table;
