//! Sockets, and what is served on them.

pub mod sockets;
#[cfg(feature = "runtime")]
mod given_back;
#[cfg(feature = "runtime")]
pub mod stream;
#[cfg(feature = "runtime")]
pub mod accept;
#[cfg(feature = "runtime")]
pub mod datagram_socket;
#[cfg(feature = "runtime")]
pub mod datagrams;
#[cfg(feature = "runtime")]
mod message_delivery;
#[cfg(feature = "runtime")]
mod message_room;
#[cfg(feature = "runtime")]
mod lost_messages;
#[cfg(feature = "runtime")]
mod waiting_messages;
#[cfg(feature = "runtime")]
mod repeated_warning;
#[cfg(feature = "runtime")]
mod subscription;
#[cfg(feature = "runtime")]
mod stream_subscription;
#[cfg(feature = "runtime")]
pub mod subscriptions;
#[cfg(feature = "runtime")]
pub mod work_sources;
#[cfg(feature = "runtime")]
pub mod proxy_protocol;
#[cfg(feature = "runtime")]
pub mod opening;
#[cfg(feature = "runtime")]
pub mod socket_service;
#[cfg(feature = "runtime")]
pub mod listeners;
#[cfg(feature = "runtime")]
pub mod draining;
#[cfg(feature = "runtime")]
pub mod activity;
#[cfg(feature = "runtime")]
pub mod places;
#[cfg(feature = "runtime")]
pub mod request_body;
#[cfg(feature = "runtime")]
pub mod admission;
#[cfg(feature = "runtime")]
pub mod client_certificate;
#[cfg(feature = "runtime")]
pub mod forwarded;
#[cfg(feature = "runtime")]
pub mod health;
#[cfg(feature = "runtime")]
mod trace_context;
#[cfg(feature = "runtime")]
pub mod access_log;
#[cfg(feature = "runtime")]
pub mod spans;
#[cfg(feature = "runtime")]
mod otlp;
#[cfg(feature = "runtime")]
pub mod span_exporter;
#[cfg(feature = "runtime")]
pub mod request_record;
#[cfg(feature = "runtime")]
pub mod upgrade;
#[cfg(feature = "runtime")]
pub mod streams;
#[cfg(feature = "runtime")]
pub mod websocket;
#[cfg(feature = "runtime")]
mod middleware;
#[cfg(feature = "runtime")]
pub mod response;
#[cfg(feature = "runtime")]
pub mod http_endpoint;
#[cfg(feature = "runtime")]
mod route_prefix;
#[cfg(feature = "runtime")]
mod websocket_request;
#[cfg(feature = "runtime")]
pub mod http;
#[cfg(feature = "runtime")]
pub mod plugin_calls;
#[cfg(feature = "runtime")]
mod unread;
#[cfg(feature = "runtime")]
pub mod connection;
