//! From a directory to code that can be run, one stage after the other, each a type of its own.
//!
//! ```text
//! directories ─scan→ Found ─verify→ Verified ─compile→ Compiled
//!                                                └─ cache ─┘
//! ```

pub mod interfaces;
pub mod compiler;
#[cfg(feature = "runtime")]
pub mod compile;
pub mod directories;
pub mod grants;
pub mod handover;
pub mod imports;
pub mod manifest;
mod nesting;
pub mod inspection;
pub mod scan;
pub mod serve;
pub mod verify;
