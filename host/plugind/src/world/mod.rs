//! The world as one guest sees it: a file for each interface, and the table of them.
//!
//! Everything that comes from a guest is data. It is bounded here, where it enters.

pub mod bindings;
pub mod calls;
pub mod config;
mod config_draft;
pub mod client_address;
pub mod received_datagram;
pub mod byte_stream;
pub mod client_connection;
pub mod connections;
pub mod client_websocket;
pub mod websockets;
pub mod credentials;
pub mod files;
pub mod identity;
pub mod journal;
mod store_limits;
pub mod keyvalue_error;
mod store_change;
pub mod keyvalue;
mod logging;
pub mod broker;
pub mod messaging;
pub mod messaging_client;
pub mod guest_message;
pub mod subscriptions;
mod middleware;
pub mod middleware_way;
pub mod movable_clock;
pub mod clock_timers;
pub mod passed_requests;
pub mod passing;
mod limited_files;
mod limited_stream;
mod limited_writes_02;
mod limited_writes_03;
mod open_at;
mod open_files;
pub mod state_limit;
mod open_sockets;
mod socket_denials;
mod tcp_sockets;
mod udp_sockets;
pub mod memory;
mod lookups;
mod network_access;
pub mod network;
mod name_lookup;
pub mod heartbeat;
pub mod notify;
pub mod outgoing;
pub mod output;
pub mod profile;
mod replacing;
mod request_tasks;
pub mod quota;
pub mod stores;
mod store_failure;
pub mod nats_store;
pub mod valkey_store;
pub mod buckets;
pub mod granted;
mod holdings;
mod wasi_context;
mod shared;
mod host_state;
pub mod interfaces;
pub mod host_runtime;
pub mod link;

pub use self::{
    heartbeat::Hung,
    host_state::{HostState, examine, set_transfer_max, store},
    shared::{HostServices, Shared},
};
