//! The way to the supervisor, for those who want something of it and for the news that come back to it.

use crate::{
    crew::News,
    link::Linked,
    name::PluginName,
    plugin::scan::ScanError,
    prepare::{Findings, PrepareError},
    summary::Summary,
};
use tokio::sync::{mpsc, oneshot, watch};

/// The way to the supervisor.
pub struct Keeper {
    inbox: mpsc::UnboundedSender<Message>,
    summary: watch::Receiver<Summary>,
}

impl Keeper {
    pub(crate) fn new(
        inbox: mpsc::UnboundedSender<Message>,
        summary: watch::Receiver<Summary>,
    ) -> Self {
        Self { inbox, summary }
    }

    /// Has the directories read anew, and what changed in them taken over.
    pub fn rescan(&self) {
        self.send(Message::Rescan);
    }

    /// How all plugins are, now and from now on.
    #[must_use]
    pub fn summary(&self) -> watch::Receiver<Summary> {
        self.summary.clone()
    }

    /// Stops every plugin, and waits until they are gone.
    pub async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        self.send(Message::Stop(done));
        // An error means that the supervisor is gone, and everything with it.
        stopped.await.ok();
    }

    fn send(&self, message: Message) {
        // It is gone only when the daemon is on its way out, and then nobody needs it.
        self.inbox.send(message).ok();
    }
}

/// What the supervisor hears.
pub(crate) enum Message {
    Rescan,
    Read(Result<Findings, ScanError>),
    Prepared { name: PluginName, ticket: u64, outcome: Box<Result<Linked, PrepareError>> },
    Worker { name: PluginName, generation: u64, news: News },
    Due { name: PluginName, generation: u64 },
    TimedOut { name: PluginName, generation: u64 },
    Stop(oneshot::Sender<()>),
}
