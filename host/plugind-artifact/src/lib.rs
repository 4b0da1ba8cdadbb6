//! The agreements between the compiler (`plugind-compile`) and the daemon (`plugind`) about compiled code: the
//! configuration of the engine, the name and the seal of a compiled file, and the protocol to request one.

pub mod candidate;
pub mod hex;
pub mod kind;
#[cfg(feature = "engine")]
pub mod engine;
#[cfg(feature = "engine")]
pub mod entry;
pub mod protocol;
