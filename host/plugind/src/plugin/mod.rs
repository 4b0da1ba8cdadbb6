//! From a directory to code that can be run, one stage after the other, each a type of its own.
//!
//! ```text
//! directories ─scan→ Found ─verify→ Verified ─compile→ Compiled
//!                                                └─ cache ─┘
//! ```

pub mod interfaces;
pub mod compiler;
pub mod unkept_code;
pub mod compiled_files;
#[cfg(feature = "runtime")]
pub mod compile;
#[cfg(feature = "runtime")]
pub mod core_dumps;
pub mod call_cycles;
pub mod middleware;
pub mod middleware_links;
mod middleware_use;
mod mismatch;
mod contents;
pub mod credentials;
pub mod export_types;
pub mod footprint;
pub mod directories;
pub mod grants;
pub mod handover;
pub mod imports;
pub mod manifest;
mod interface_types;
mod nesting;
mod other_versions;
pub mod inspect_error;
pub mod inspection;
pub mod proposals;
pub mod release;
pub mod scan;
pub mod serve;
pub mod state_files;
pub mod state_removal;
pub mod subscribe;
pub mod unused_exports;
pub mod validated;
pub mod verify;
pub mod verify_error;
pub mod archive;
