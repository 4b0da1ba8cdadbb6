//! The daemon as it is shipped: the real programs serve real components, and each test is a sentence about them.
#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod service;
mod serving;
mod conformance;
mod fronts;
mod http2;
mod tls;
mod sockets;
mod environment;
mod isolation;
mod memory;
mod middleware;
mod workers;
mod load;
mod languages;
mod streaming;
mod stores;
mod stores_on_servers;
mod streams;
mod websockets;
mod extending;
mod lifecycle;
mod readiness;
mod ready_made;
mod requests;
mod post_mortem;
mod traces;
mod grants;
mod rescan;
mod resolving;
mod transaction;
mod last_good;
mod install;
mod handover;
mod harness;
mod compiler;
mod descriptors;
mod directories;
mod storage;
mod cache;
mod calls;
mod candidates;
mod many;
mod messaging;
mod metrics;
mod nats;
mod health;
mod mapping;
mod text;
mod inputs;
mod arguments;
mod client;
mod completion;
mod control;
mod top;
mod authors;
mod sdk;
mod stopping;
mod operating;
mod pinning;
mod binaries;
mod varlink_client;

/// The part of a manifest by which a plugin that fails is started again at once, however often; more of `[service]`
/// may follow.
const RESTARTS: &str = "[service]\nrestart-sec = \"1ms\"\nrestart-max-delay-sec = \"1ms\"\nstart-limit-interval-sec = \"1ms\"\n";
