//! Log entries with a message and fields, one function for each priority.
//!
//! ```ignore
//! journal::info("order accepted", &[("order-id", "4711")]);
//! ```
//!
//! `journalctl PLUGIN=NAME PLUGIN_ORDER_ID=4711` finds this entry. Keep the message constant and put what varies into
//! fields.

pub use crate::bindings::plugind::plugin::journal::{Priority, enabled, send};

/// Logs that the plugin cannot continue.
pub fn critical(message: &str, fields: &[(&str, &str)]) {
    send(Priority::Critical, message, fields);
}

/// Logs that a request or a task failed.
pub fn error(message: &str, fields: &[(&str, &str)]) {
    send(Priority::Error, message, fields);
}

/// Logs that something is likely to fail soon, or failed and was recovered from.
pub fn warning(message: &str, fields: &[(&str, &str)]) {
    send(Priority::Warning, message, fields);
}

/// Logs something normal that is worth the operator's attention.
pub fn notice(message: &str, fields: &[(&str, &str)]) {
    send(Priority::Notice, message, fields);
}

/// Logs normal operation.
pub fn info(message: &str, fields: &[(&str, &str)]) {
    send(Priority::Info, message, fields);
}

/// Logs details for the author. Not recorded by default: call [`enabled`] before expensive preparations.
pub fn debug(message: &str, fields: &[(&str, &str)]) {
    send(Priority::Debug, message, fields);
}
