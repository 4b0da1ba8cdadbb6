//! All log entries, of the host and of plugins: to journald, or as readable lines on standard error.
//!
//! One thread writes; no caller ever waits for it. Entries that do not fit into the queue are dropped and counted, and one
//! entry says how many there were.

mod access;
mod lines;
pub mod messages;
mod native;
mod queue;
mod record;

#[cfg(test)]
pub(crate) use self::queue::stalled;
pub use self::{
    access::AccessEntry,
    queue::{Journal, Writer, start},
    record::LogEntry,
};
