//! `plugind:plugin/notify`: what an instance says of itself while it lives.

use super::{bindings::plugind::plugin::notify::Host, identity, pulse::Pulse};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tracing::debug;

/// The longest status, in bytes: what fits one line of `systemctl status`.
const STATUS_MAX: usize = 256;

/// A generation's status. The last one said by any of its instances counts.
#[derive(Debug, Default)]
pub struct Shared {
    status: Mutex<String>,
}

impl Shared {
    /// The status: one line, or nothing.
    #[must_use]
    pub fn status(&self) -> String {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One instance's part in it.
pub(super) struct Guest {
    pub(super) shared: Arc<Shared>,
    pub(super) identity: Arc<identity::Shared>,
    pub(super) worker: u32,
    pub(super) pulse: Arc<Pulse>,
}

impl Host for Guest {
    fn status(&mut self, text: String) {
        let kept = &text[..text.floor_char_boundary(STATUS_MAX)];
        debug!(plugin = %self.identity.plugin, worker = self.worker, text = kept, "status");
        let text = one_line(&text);
        *self.shared.status.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    fn extend_timeout(&mut self, microseconds: u64) {
        self.pulse.ask_for(Duration::from_micros(microseconds));
    }
}

/// At most [`STATUS_MAX`] bytes of `text`, with nothing in it that ends a line.
#[must_use]
pub fn one_line(text: &str) -> String {
    let mut line = String::new();
    for character in text.chars() {
        let length = line.len();
        match character.is_control() {
            true => line.extend(character.escape_unicode()),
            false => line.push(character),
        }
        if line.len() > STATUS_MAX {
            line.truncate(length);
            break;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_short_line() {
        assert_eq!(one_line("ready\nWATCHDOG=trigger"), "ready\\u{a}WATCHDOG=trigger");
        assert_eq!(one_line(&"ä".repeat(1000)).len(), STATUS_MAX);
        assert_eq!(one_line(&format!("{}\n", "a".repeat(254))), "a".repeat(254));
    }
}
