//! Compiled code: what its maker (`plugind-compile`) and its user (`plugind`) must agree upon.
//!
//! Three things: how the engine is configured, how a compiled file is named and sealed, and how one is asked for.

pub mod candidate;
pub mod hex;
pub mod kind;
#[cfg(feature = "engine")]
pub mod engine;
#[cfg(feature = "engine")]
pub mod entry;
pub mod protocol;
