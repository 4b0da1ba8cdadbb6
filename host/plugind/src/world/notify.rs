//! `plugind:plugin/notify`: the status that an instance reports while it runs.

use crate::base::text::one_line;
use crate::world::{bindings::plugind::plugin::notify::Host, heartbeat::Heartbeat, identity};
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tracing::debug;
use wasmtime::component::HasData;

/// The longest status, in bytes: what fits one line of `systemctl status`.
pub const STATUS_MAX: usize = 256;

/// A generation's status. The last one said by any of its instances counts.
#[derive(Debug, Default)]
pub struct Shared {
    status: Mutex<String>,
    /// Instances that report to be degraded, each with the reason.
    degraded: Mutex<BTreeMap<u32, String>>,
}

impl Shared {
    /// The status: one line, or nothing.
    #[must_use]
    pub fn status(&self) -> String {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Shared {
    /// Sets the health that an instance reports: the reason that it is degraded, if it is.
    pub fn set_degraded(&self, worker: u32, why: Option<String>) {
        let mut degraded = self.degraded.lock().unwrap_or_else(PoisonError::into_inner);
        match why {
            Some(why) => drop(degraded.insert(worker, why)),
            None => drop(degraded.remove(&worker)),
        }
    }

    /// Why one of the instances is degraded, if one is.
    #[must_use]
    pub fn degraded(&self) -> Option<String> {
        let degraded = self.degraded.lock().unwrap_or_else(PoisonError::into_inner);
        degraded.values().next().cloned()
    }
}

impl HasData for Shared {
    type Data<'a> = Guest<'a>;
}

/// One instance's part in it.
pub struct Guest<'a> {
    pub(super) shared: &'a Shared,
    pub(super) identity: &'a identity::Shared,
    pub(super) worker: u32,
    pub(super) heartbeat: &'a Heartbeat,
}

impl Host for Guest<'_> {
    fn status(&mut self, text: String) {
        let kept = &text[..text.floor_char_boundary(STATUS_MAX)];
        debug!(plugin = %self.identity.plugin, worker = self.worker, text = kept, "status");
        let text = one_line(&text, STATUS_MAX);
        *self.shared.status.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    fn extend_timeout(&mut self, microseconds: u64) {
        self.heartbeat.ask_for(Duration::from_micros(microseconds));
    }
}
