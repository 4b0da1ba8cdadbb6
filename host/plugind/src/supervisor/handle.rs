//! The handle of the supervisor, for requests and for the events of work that it started.

use crate::{
    api,
    base::name::PluginName,
    plugin::{directories::ScanReport, release::ReleaseDigests, verify::Verified},
    pool::worker_event::WorkerEvent,
    route::sockets::SocketPlan,
    supervisor::{
        board::Board,
        change_requests::ChangeReply,
        clean_outcome::{CleanError, CleanParts, CleanReply},
        pin_outcome::{PinOutcome, PinReply},
        plugin::{HandoverTicket, PluginEvent},
        prepare::{DirectoriesError, PrepareError},
        problem::{PinError, RestartError, StopError, Stopping},
        reload::{ReloadOptions, ReloadState},
        reloads::ReloadReply,
        rollout::SavedState,
        summary::Summary,
    },
    world::link::Linked,
};
use std::{sync::Arc, time::Duration};
use tokio::sync::{mpsc, oneshot, watch};

/// The way to the supervisor. Cheap to clone.
#[derive(Clone)]
pub struct SupervisorHandle {
    inbox: mpsc::UnboundedSender<Message>,
    summary: watch::Receiver<Summary>,
    board: Board,
}

impl SupervisorHandle {
    pub(crate) fn new(
        inbox: mpsc::UnboundedSender<Message>,
        summary: watch::Receiver<Summary>,
        board: Board,
    ) -> Self {
        Self { inbox, summary, board }
    }

    /// Reads the directories again and applies what changed in them. What is known to fail is not tried again.
    pub fn rescan(&self) {
        self.send(Message::Reload { options: ReloadOptions::default(), reply: None });
    }

    /// Reads the directories again and applies what changed in them. What failed is tried again. The state can be
    /// watched until the reload is finished and nothing drains; its sender goes before that only if the daemon is
    /// about to end.
    ///
    /// # Errors
    /// When the daemon is about to end.
    pub async fn reload(
        &self,
        all_or_nothing: bool,
    ) -> Result<watch::Receiver<ReloadState>, Stopping> {
        let options = ReloadOptions { again: true, all_or_nothing };
        self.ask(|reply| Message::Reload { options, reply: Some(reply) }).await
    }

    /// Replaces all instances of a plugin with new ones, and returns the number of their generation once they serve.
    ///
    /// # Errors
    /// When there is no such plugin, or its new instances do not become ready.
    pub async fn restart(&self, name: PluginName) -> Result<u64, RestartError> {
        self.ask(|reply| Message::Restart { name, reply }).await?
    }

    /// Starts a plugin that is stopped or has failed, from its files, and returns the number of its generation once it
    /// serves. One that serves stays as it is.
    ///
    /// # Errors
    /// When there is no such plugin, or it cannot be started.
    pub async fn start_plugin(&self, name: PluginName) -> Result<u64, RestartError> {
        self.ask(|reply| Message::StartPlugin { name, reply }).await?
    }

    /// Takes over the files of one plugin and of no other, and returns the number of the generation that serves then.
    ///
    /// # Errors
    /// When there is no such plugin, it is stopped or pinned to another version, or its new version cannot be used.
    pub async fn reload_plugin(&self, name: PluginName) -> Result<u64, RestartError> {
        self.ask(|reply| Message::ReloadPlugin { name, reply }).await?
    }

    /// Makes the previous version of a plugin serve again, and returns the number of its generation.
    ///
    /// # Errors
    /// When there is no such plugin or version, the plugin is stopped, pinned or being changed, or the version cannot
    /// be used.
    pub async fn rollback(&self, name: PluginName) -> Result<u64, RestartError> {
        self.ask(|reply| Message::Rollback { name, reply }).await?
    }

    /// Has a plugin keep the version that serves, over reloads and restarts of the daemon.
    ///
    /// # Errors
    /// When there is no such plugin, no version of it serves, or the pin cannot be written.
    pub async fn pin(&self, name: PluginName) -> Result<(), PinError> {
        self.ask(|reply| Message::Pin { name, reply }).await?
    }

    /// Ends the pin of a plugin, if it has one. Its files are used from the next reload on.
    ///
    /// # Errors
    /// When there is no such plugin, or its pin cannot be removed.
    pub async fn unpin(&self, name: PluginName) -> Result<(), PinError> {
        self.ask(|reply| Message::Unpin { name, reply }).await?
    }

    /// Removes what is kept for a plugin that has no instances.
    ///
    /// # Errors
    /// When nothing is known of it, it is in use, or something cannot be removed.
    pub async fn clean(&self, name: PluginName, parts: CleanParts) -> Result<(), CleanError> {
        self.ask(|reply| Message::Clean { name, parts, reply }).await?
    }

    /// Stops a plugin, and waits until its instances have ended. It stays stopped until it is started.
    ///
    /// # Errors
    /// When there is no such plugin, or it was started meanwhile.
    pub async fn stop_plugin(&self, name: PluginName) -> Result<(), StopError> {
        self.ask(|reply| Message::StopPlugin { name, reply }).await?
    }

    /// All plugins, in the order of their names.
    ///
    /// # Errors
    /// When the daemon is about to end.
    pub async fn list(&self) -> Result<Vec<api::Plugin>, Stopping> {
        self.ask(Message::List).await
    }

    /// One plugin, if it is there.
    ///
    /// # Errors
    /// When the daemon is about to end.
    pub async fn describe(&self, name: PluginName) -> Result<Option<api::Description>, Stopping> {
        self.ask(|reply| Message::Describe { name, reply }).await
    }

    /// Returns the published state of the plugins, which can be read without waiting for the supervisor.
    #[must_use]
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Returns the summary of all plugins, which is updated from now on.
    #[must_use]
    pub fn summary(&self) -> watch::Receiver<Summary> {
        self.summary.clone()
    }

    /// The longest time to stop of a version of which instances may be left.
    ///
    /// # Errors
    /// When the daemon is about to end.
    pub async fn longest_stop(&self) -> Result<Duration, Stopping> {
        self.ask(Message::LongestStop).await
    }

    /// Stops every plugin, and waits until they are gone.
    pub async fn stop(&self) {
        // An error means that the supervisor is gone, and everything with it.
        self.ask(Message::Stop).await.ok();
    }

    async fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<T>) -> Message,
    ) -> Result<T, Stopping> {
        let (reply, answer) = oneshot::channel();
        self.send(message(reply));
        answer.await.map_err(|_| Stopping)
    }

    fn send(&self, message: Message) {
        // It is gone only when the daemon is on its way out, and then nobody needs it.
        self.inbox.send(message).ok();
    }
}

/// A message to the supervisor.
pub(crate) enum Message {
    Reload {
        options: ReloadOptions,
        reply: Option<ReloadReply>,
    },
    Restart {
        name: PluginName,
        reply: ChangeReply,
    },
    StartPlugin {
        name: PluginName,
        reply: ChangeReply,
    },
    ReloadPlugin {
        name: PluginName,
        reply: ChangeReply,
    },
    Rollback {
        name: PluginName,
        reply: ChangeReply,
    },
    Previous {
        name: PluginName,
        /// The number of the request.
        nth: u64,
        /// The version that served when it was asked for.
        serving: ReleaseDigests,
        /// The version before, or why there is none.
        outcome: Result<Verified, String>,
    },
    Pin {
        name: PluginName,
        reply: PinReply,
    },
    Unpin {
        name: PluginName,
        reply: PinReply,
    },
    PinWritten(PinOutcome),
    Clean {
        name: PluginName,
        parts: CleanParts,
        reply: CleanReply,
    },
    /// Files were removed, or could not be. False if there was nothing to remove.
    Cleaned(Result<bool, CleanError>),
    /// The time has passed for which a client waits for this removal.
    CleaningDue {
        nth: u64,
    },
    /// A plugin that is to be restarted was linked again.
    Relinked {
        name: PluginName,
        /// The number of the request.
        nth: u64,
        outcome: Result<Arc<Linked>, String>,
    },
    StopPlugin {
        name: PluginName,
        reply: oneshot::Sender<Result<(), StopError>>,
    },
    /// The directories were read for one plugin.
    ReadOne {
        name: PluginName,
        /// The number of the request.
        nth: u64,
        /// It is to run, although it does not start by itself or has ended.
        starts: bool,
        outcome: Result<(ScanReport, SocketPlan), DirectoriesError>,
    },
    List(oneshot::Sender<Vec<api::Plugin>>),
    Describe {
        name: PluginName,
        reply: oneshot::Sender<Option<api::Description>>,
    },
    Read(Result<(ScanReport, SocketPlan), DirectoriesError>),
    Prepared {
        name: PluginName,
        ticket: u64,
        outcome: Result<Arc<Linked>, PrepareError>,
        /// The state that an earlier daemon saved for it.
        saved: Option<SavedState>,
    },
    LastGood {
        name: PluginName,
        /// The version that served last, or why there is none.
        outcome: Result<Verified, String>,
    },
    Worker {
        name: PluginName,
        generation: u64,
        event: WorkerEvent,
    },
    HandoverDue {
        name: PluginName,
        generation: u64,
        ticket: HandoverTicket,
    },
    Plugin {
        name: PluginName,
        event: PluginEvent,
    },
    LongestStop(oneshot::Sender<Duration>),
    Stop(oneshot::Sender<()>),
}
