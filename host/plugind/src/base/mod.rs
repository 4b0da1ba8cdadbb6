//! Types that every layer shares: names, networks, quantities, endpoints, text, error chains, signals. Nothing here
//! imports another layer.

#[cfg(feature = "runtime")]
pub(crate) mod atomic;
pub mod budget;
pub mod descriptors;
pub mod directory;
pub mod endpoint;
pub mod error_chain;
pub mod limits;
pub mod name;
pub mod panics;
pub mod network;
pub mod priority;
pub mod quantity;
pub mod request_identity;
pub mod subject;
pub mod suggest;
pub mod text;
pub mod file;
#[cfg(test)]
pub mod fixtures;
pub mod interrupt;
pub mod figures;
