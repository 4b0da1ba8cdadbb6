//! The table that requests read, and who owns which route.

pub mod owners;
#[cfg(feature = "runtime")]
pub mod table;
