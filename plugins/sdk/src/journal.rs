//! Log entries with a message and fields: a macro and a function for each priority.
//!
//! ```no_run
//! use plugind_sdk::{info, journal};
//!
//! let order = 4711;
//! info!(order, "order accepted");
//! // The same by a function, with values that are text.
//! journal::info("order accepted", &[("order", "4711")]);
//! ```
//!
//! `journalctl PLUGIN=NAME PLUGIN_ORDER=4711` finds this entry. Keep the message constant and put what varies into
//! fields.
//!
//! The macros are [`critical!`](crate::critical), [`error!`](crate::error), [`warning!`](crate::warning),
//! [`notice!`](crate::notice), [`info!`](crate::info) and [`debug!`](crate::debug). A field is `name = value` with
//! anything that can be displayed, `name = ?value` for its debug form, or a variable by its name alone. An entry that is
//! not recorded costs one call to the host, and its values are not formatted.
//!
//! ```no_run
//! use plugind_sdk::{debug, warning};
//!
//! # let (user, error) = ("ada", std::fmt::Error);
//! warning!(user, attempt = 3, cause = ?error, "log-in failed");
//! debug!("order-id" = 4711, "the price of {} is known", "tea");
//! ```

use std::fmt::{Arguments, Display};

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

/// Logs through the macros.
#[doc(hidden)]
pub fn write(priority: Priority, message: Arguments<'_>, fields: &[(&str, &dyn Display)]) {
    if !enabled(priority) {
        return;
    }
    let values: Vec<_> = fields.iter().map(|(_, value)| value.to_string()).collect();
    let named = fields.iter().zip(&values).map(|((name, _), value)| (*name, value.as_str()));
    let fields: Vec<_> = named.collect();
    match message.as_str() {
        Some(constant) => send(priority, constant, &fields),
        None => send(priority, &message.to_string(), &fields),
    }
}

/// One entry: the fields before the message become a list, one at each step.
#[doc(hidden)]
#[macro_export]
macro_rules! journal_entry {
    ($priority:ident, [$($fields:tt)*] $name:ident = ?$value:expr, $($rest:tt)+) => {
        $crate::journal_entry!($priority, [$($fields)* (::core::stringify!($name), ::core::format_args!("{:?}", $value))] $($rest)+)
    };
    ($priority:ident, [$($fields:tt)*] $name:ident = $value:expr, $($rest:tt)+) => {
        $crate::journal_entry!($priority, [$($fields)* (::core::stringify!($name), $value)] $($rest)+)
    };
    ($priority:ident, [$($fields:tt)*] $name:literal = ?$value:expr, $($rest:tt)+) => {
        $crate::journal_entry!($priority, [$($fields)* ($name, ::core::format_args!("{:?}", $value))] $($rest)+)
    };
    ($priority:ident, [$($fields:tt)*] $name:literal = $value:expr, $($rest:tt)+) => {
        $crate::journal_entry!($priority, [$($fields)* ($name, $value)] $($rest)+)
    };
    ($priority:ident, [$($fields:tt)*] ?$name:ident, $($rest:tt)+) => {
        $crate::journal_entry!($priority, [$($fields)* (::core::stringify!($name), ::core::format_args!("{:?}", $name))] $($rest)+)
    };
    ($priority:ident, [$($fields:tt)*] $name:ident, $($rest:tt)+) => {
        $crate::journal_entry!($priority, [$($fields)* (::core::stringify!($name), $name)] $($rest)+)
    };
    ($priority:ident, [$(($name:expr, $value:expr))*] $($message:tt)+) => {
        $crate::journal::write(
            $crate::journal::Priority::$priority,
            ::core::format_args!($($message)+),
            &[$(($name, &$value as &dyn ::core::fmt::Display)),*],
        )
    };
}

/// Logs that the plugin cannot continue. Fields come before the message; see [`journal`](crate::journal).
#[macro_export]
macro_rules! critical {
    ($($entry:tt)+) => {
        $crate::journal_entry!(Critical, [] $($entry)+)
    };
}

/// Logs that a request or a task failed. Fields come before the message; see [`journal`](crate::journal).
#[macro_export]
macro_rules! error {
    ($($entry:tt)+) => {
        $crate::journal_entry!(Error, [] $($entry)+)
    };
}

/// Logs that something is likely to fail soon, or failed and was recovered from. Fields come before the message; see [`journal`](crate::journal).
#[macro_export]
macro_rules! warning {
    ($($entry:tt)+) => {
        $crate::journal_entry!(Warning, [] $($entry)+)
    };
}

/// Logs something normal that is worth the operator's attention. Fields come before the message; see [`journal`](crate::journal).
#[macro_export]
macro_rules! notice {
    ($($entry:tt)+) => {
        $crate::journal_entry!(Notice, [] $($entry)+)
    };
}

/// Logs normal operation. Fields come before the message; see [`journal`](crate::journal).
#[macro_export]
macro_rules! info {
    ($($entry:tt)+) => {
        $crate::journal_entry!(Info, [] $($entry)+)
    };
}

/// Logs details for the author, which are not recorded by default. Fields come before the message; see [`journal`](crate::journal).
#[macro_export]
macro_rules! debug {
    ($($entry:tt)+) => {
        $crate::journal_entry!(Debug, [] $($entry)+)
    };
}
