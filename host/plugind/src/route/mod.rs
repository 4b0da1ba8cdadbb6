//! The table that requests read, and who owns which route.

pub mod sockets;
pub mod table;
pub mod owners;
