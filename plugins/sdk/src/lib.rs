//! The interfaces of `plugind:plugin` for plugins written in Rust.
//!
//! A plugin implements [`Lifecycle`], passes the type to [`export!`], and calls [`journal`], [`notify`], [`identity`],
//! [`credentials`], [`config`] and [`keyvalue`]. Only the interfaces that are called become imports of the component, and only the
//! ones that are exported become exports: a plugin that only writes to the journal has no lifecycle.
//!
//! ```no_run
//! use plugind_sdk::{Lifecycle, StartError, config, info};
//!
//! struct Hello;
//!
//! impl Lifecycle for Hello {
//!     async fn start() -> Result<(), StartError> {
//!         let Ok(Some(greeting)) = config::get("greeting") else {
//!             return Err(StartError::Configuration("[config] has no greeting".into()));
//!         };
//!         info!(greeting, "greeting loaded");
//!         Ok(())
//!     }
//! }
//!
//! plugind_sdk::export!(Hello);
//! # fn main() {}
//! ```
//!
//! A plugin that hands its state to its next version also implements [`Handover`], and passes the type to
//! [`export_handover!`].
//!
//! A plugin that serves the connections of a stream socket implements [`ConnectionHandler`] and passes the type to
//! [`export_connections!`]; one that answers datagrams implements [`DatagramHandler`] and uses [`export_datagrams!`]; one
//! that serves WebSockets implements [`WebsocketHandler`] and uses [`export_websockets!`].
//!
//! A plugin that receives messages implements [`MessageHandler`] and uses [`export_messages!`].
//!
//! The files in the project's directory `wit/` define each interface; the bindings have the same text.
//! With the feature `http`, [`http::Handler`] answers requests with the types of the crate `http`. Without it, and for
//! bodies that are streamed, use the crates `wasip3` and `wasip2`. [`middleware`] is for plugins that stand before others.
//!
//! | feature | adds |
//! | --- | --- |
//! | `http` | [`http`], with the types of the crate `http` and a client, and [`middleware`] |
//! | `serde` | [`config::read`], which reads `[config]` as a type of your own |
//! | `tasks` | [`tasks`]: background tasks and timers, and ways to end them when the instance must stop |
//! | `varlink` | [`varlink`], which answers the calls of systemd and its tools on a unix socket |
//!
//! Build for the target `wasm32-wasip2`: a plugin with a handler with the crate type `cdylib`, and a background
//! program as an ordinary binary with `main`.

/// The examples of the handbook, which are compiled with those of this crate.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Handbook;

#[doc(hidden)]
pub mod bindings;
pub mod config;
pub mod connections;
pub mod datagrams;
pub mod handover;
#[cfg(feature = "http")]
pub mod http;
pub mod journal;
pub mod keyvalue;
pub mod lifecycle;
pub mod messaging;
#[cfg(feature = "http")]
pub mod middleware;
#[cfg(feature = "tasks")]
pub mod tasks;
#[cfg(feature = "varlink")]
pub mod varlink;
pub mod websockets;

pub use bindings::export;
pub use bindings::plugind::plugin::{credentials, identity, notify};
pub use connections::{ConnectionHandler, bindings::export_connections};
pub use datagrams::{DatagramHandler, bindings::export_datagrams};
pub use handover::{Handover, bindings::export_handover};
pub use lifecycle::{Condition, Lifecycle, StartError, StopReason};
pub use messaging::{MessageHandler, bindings::export_messages};
pub use websockets::{WebsocketHandler, bindings::export_websockets};
