//! Sockets, and what is served on them.

pub mod sockets;
pub mod stream;
pub mod accept;
pub mod listeners;
pub mod activity;
pub mod request_body;
pub mod http;
pub mod connection;
