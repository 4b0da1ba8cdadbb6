//! Configuration in TOML files: where they lie, how they are read as one, and how every mistake is told with its place.

mod complaint;
mod document;
#[cfg(test)]
mod laws;
mod search;
mod table;

pub use complaint::{Complaint, Origin, Place};
pub use document::{Document, Setting};
pub use search::{ListError, Listing, SearchPath, is_mask, list_drop_ins};
pub use table::Table;
