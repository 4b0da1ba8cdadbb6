//! The table that requests read, and who owns which route.

pub mod table;
pub mod owners;
