//! Reading TOML so that every mistake is found at once and told with its place.

mod complaint;
mod table;

pub use complaint::Complaint;
pub use table::{Document, Table};
