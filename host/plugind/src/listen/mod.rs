//! Sockets, and what is served on them.

pub mod sockets;
#[cfg(feature = "runtime")]
pub mod stream;
#[cfg(feature = "runtime")]
pub mod accept;
#[cfg(feature = "runtime")]
pub mod listeners;
#[cfg(feature = "runtime")]
pub mod activity;
#[cfg(feature = "runtime")]
pub mod request_body;
#[cfg(feature = "runtime")]
pub mod http;
#[cfg(feature = "runtime")]
pub mod connection;
