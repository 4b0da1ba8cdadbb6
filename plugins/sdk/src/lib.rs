//! The interfaces of `plugind:plugin` for plugins written in Rust.
//!
//! A plugin implements [`Lifecycle`], hands it to [`export!`], and calls [`journal`], [`notify`], [`identity`],
//! [`credentials`] and [`config`]. Only what is called becomes an import of the component, and only what is exported
//! an export: a plugin that merely writes to the journal has no lifecycle.
//!
//! ```ignore
//! use plugind_sdk::{Lifecycle, StartError, config, journal};
//!
//! struct Hello;
//!
//! impl Lifecycle for Hello {
//!     async fn start() -> Result<(), StartError> {
//!         let Ok(Some(greeting)) = config::get("greeting") else {
//!             return Err(StartError::Configuration("no greeting".into()));
//!         };
//!         journal::info("greets", &[("greeting", &greeting)]);
//!         Ok(())
//!     }
//! }
//!
//! plugind_sdk::export!(Hello);
//! ```
//!
//! A plugin whose next version should know what this one knows implements [`Handover`] as well, and hands it to
//! [`export_handover!`].
//!
//! What each item means is written in the project's directory `wit/`; its text stands here too.
//! What serves HTTP is not here: use the crates `wasip3` and `wasip2`.
//! Build for `wasm32-wasip2`, as a `cdylib`.

#[doc(hidden)]
pub mod bindings;
pub mod config;
pub mod handover;
pub mod journal;
pub mod lifecycle;

pub use bindings::export;
pub use bindings::plugind::plugin::{credentials, identity, notify};
pub use handover::{Handover, bindings::export_handover};
pub use lifecycle::{Condition, Lifecycle, StartError, StopReason};
