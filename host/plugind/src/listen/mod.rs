//! Sockets, and what is served on them.

pub mod sockets;
pub mod request_body;
pub mod http;
pub mod listener;
