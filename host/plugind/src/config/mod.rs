//! Configuration in TOML files: where they are, how they are merged, and how every mistake is reported at its place.

mod diagnostic;
mod document;
mod known_directories;
#[cfg(test)]
mod proptests;
mod search;
pub mod settings;
mod table;
pub mod traces;

pub use diagnostic::{Diagnostic, Origin, Position};
pub use document::{Document, Setting};
pub use known_directories::KnownDirectories;
pub use search::{ListError, Listing, SearchPath, is_mask, list_drop_ins};
pub use table::Table;
