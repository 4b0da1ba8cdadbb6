//! Hosts WebAssembly components as if each were a small systemd service.
//!
//! Folders are layers, declared in their order: a layer uses only those that are declared before it. Without the
//! feature `runtime` the library has no engine: it reads and validates configuration.

pub mod base;
pub mod api;
pub mod config;
pub mod systemd;
#[cfg(feature = "runtime")]
pub mod runtime;
pub mod journal;
#[cfg(feature = "runtime")]
pub mod remote;
pub mod plugin;
#[cfg(feature = "runtime")]
pub mod world;
#[cfg(feature = "runtime")]
pub mod pool;
pub mod route;
#[cfg(feature = "runtime")]
pub mod supervisor;
pub mod listen;
#[cfg(feature = "runtime")]
pub mod metrics;
#[cfg(feature = "runtime")]
pub mod control;
#[cfg(feature = "runtime")]
pub mod daemon;
pub mod cli;
pub mod check;
#[cfg(feature = "runtime")]
pub mod link_check;
