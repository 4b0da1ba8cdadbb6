//! Sockets, and what is served on them.

pub mod sockets;
#[cfg(feature = "runtime")]
pub mod request_body;
#[cfg(feature = "runtime")]
pub mod http;
#[cfg(feature = "runtime")]
pub mod listener;
