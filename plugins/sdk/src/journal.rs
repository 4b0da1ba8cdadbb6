//! Entries for the journal, each with a message and fields.

pub use crate::bindings::plugind::plugin::journal::{Priority, enabled, send};

/// Says that the plugin cannot go on.
pub fn critical(message: &str, fields: &[(&str, &str)]) {
    send(Priority::Critical, message, fields);
}

/// Says that something that was asked for was not done.
pub fn error(message: &str, fields: &[(&str, &str)]) {
    send(Priority::Error, message, fields);
}

/// Says that something may go wrong soon, or went wrong and was helped.
pub fn warning(message: &str, fields: &[(&str, &str)]) {
    send(Priority::Warning, message, fields);
}

/// Says what is normal but worth knowing.
pub fn notice(message: &str, fields: &[(&str, &str)]) {
    send(Priority::Notice, message, fields);
}

/// Says what goes on.
pub fn info(message: &str, fields: &[(&str, &str)]) {
    send(Priority::Info, message, fields);
}

/// Says something for the author. Ask [`enabled`] before preparing much.
pub fn debug(message: &str, fields: &[(&str, &str)]) {
    send(Priority::Debug, message, fields);
}
