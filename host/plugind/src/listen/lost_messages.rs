//! The messages of a subscription that are lost: those without room are dropped, and those of a plugin that does not
//! serve any more have nowhere to go.

use crate::base::{name::PluginName, subject::SubjectPattern};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::sleep;
use tracing::warn;

/// Time in which further ones are reported together.
const REPORT_AFTER: Duration = Duration::from_secs(1);

/// Why a message is lost.
#[derive(Clone, Copy, Debug)]
pub(super) enum Loss {
    /// The limit of waiting messages was reached.
    NoRoom,
    /// No instance of the plugin took it: the plugin has stopped and its time to stop has passed, or one generation after
    /// another ended.
    NotServed,
}

/// The messages that were lost and not reported yet. They are reported at the latest when this is dropped.
#[derive(Debug)]
pub(super) struct LostMessages {
    plugin: PluginName,
    subject: SubjectPattern,
    no_room: AtomicU64,
    not_served: AtomicU64,
}

impl LostMessages {
    /// None was lost yet.
    pub(super) fn new(plugin: PluginName, subject: SubjectPattern) -> Arc<Self> {
        let (no_room, not_served) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { plugin, subject, no_room, not_served })
    }

    /// Adds lost messages to the next report.
    pub(super) fn add(&self, loss: Loss, messages: usize) {
        let messages = u64::try_from(messages).unwrap_or(u64::MAX);
        self.counter(loss).fetch_add(messages, Relaxed);
    }

    /// Notes one lost message. The first one starts a report after [`REPORT_AFTER`], which also has those until then.
    pub(super) fn note(self: &Arc<Self>, loss: Loss) {
        if self.counter(loss).fetch_add(1, Relaxed) == 0 {
            let this = self.clone();
            tokio::spawn(async move {
                sleep(REPORT_AFTER).await;
                this.report();
            });
        }
    }

    #[cfg(test)]
    pub(super) fn unreported(&self, loss: Loss) -> u64 {
        self.counter(loss).load(Relaxed)
    }

    fn counter(&self, loss: Loss) -> &AtomicU64 {
        match loss {
            Loss::NoRoom => &self.no_room,
            Loss::NotServed => &self.not_served,
        }
    }

    /// Logs those that were not reported yet.
    pub(super) fn report(&self) {
        let (plugin, subject) = (&self.plugin, &self.subject);
        let messages = self.counter(Loss::NoRoom).swap(0, Relaxed);
        if messages > 0 {
            warn!(%plugin, %subject, messages, "waiting messages dropped");
        }
        let messages = self.counter(Loss::NotServed).swap(0, Relaxed);
        if messages > 0 {
            warn!(%plugin, %subject, messages, "messages not handled");
        }
    }
}

impl Drop for LostMessages {
    fn drop(&mut self) {
        self.report();
    }
}
