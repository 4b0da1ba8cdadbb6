//! Restarts of single plugins. A plugin with credentials is linked again first, so that its new instances get the
//! present ones.

use crate::{
    api::FailedStage,
    base::{error_chain::ErrorChain, name::PluginName},
    supervisor::{
        Supervisor,
        change_requests::ChangeReply,
        handle::Message,
        own_task::spawn_and_send,
        own_thread::{on_own_thread, within},
        plugin::{ManagedPlugin, PluginEvent},
        preparations::LINK_DEADLINE,
        problem::RestartError,
        summary::Failed,
    },
    world::link::Linked,
};
use std::sync::Arc;

impl Supervisor {
    /// Starts new instances of the version that there is, which take over when they are ready.
    pub(super) fn restart(&mut self, name: PluginName, reply: ChangeReply) {
        match self.plugins.get(&name) {
            // The client may have disconnected.
            None => return drop(reply.send(Err(RestartError::NoSuchPlugin))),
            Some(plugin) if plugin.is_stopped() => return self.start_plugin(name, reply),
            Some(_) => (),
        }
        let nth = self.requests.add(&name, reply);
        self.restart_now(&name, nth);
    }

    /// The same for a request that waits already.
    pub(super) fn restart_now(&mut self, name: &PluginName, nth: u64) {
        match self.has_credentials(name) {
            Some(linked) => self.relink(name.clone(), nth, linked),
            None => self.restart_from(name, nth, None),
        }
    }

    /// The linked version of which it gets new instances, if credentials are part of that.
    fn has_credentials(&self, name: &PluginName) -> Option<Arc<Linked>> {
        let from = self.plugins.get(name).and_then(ManagedPlugin::restarts_from)?;
        let linked = self.running.get(&from.number)?.pool.linked();
        let is_granted = !linked.release.manifest.grants.credentials.is_empty();
        is_granted.then(|| linked.clone())
    }

    fn relink(&self, name: PluginName, nth: u64, linked: Arc<Linked>) {
        let (host, places) = (self.deps.host.clone(), self.deps.places.clone());
        let (inbox, plugin) = (self.inbox.clone(), name.clone());
        let linking = async move {
            let host = host.ready().await.ok()?;
            let work = move || linked.with_present_credentials(&host.linker, &places);
            let outcome = match within(LINK_DEADLINE, on_own_thread("link", work)).await {
                Ok(outcome) => outcome.map_err(|error| ErrorChain(&error).to_string()),
                Err(error) => Err(ErrorChain(&error).to_string()),
            };
            Some(Message::Relinked { name, nth, outcome: outcome.map(Arc::new) })
        };
        let failed = move |why| Message::Relinked { name: plugin, nth, outcome: Err(why) };
        spawn_and_send(inbox, linking, failed);
    }

    /// A plugin was linked again, or cannot be.
    pub(super) fn relinked(
        &mut self,
        name: &PluginName,
        nth: u64,
        outcome: Result<Arc<Linked>, String>,
    ) {
        match outcome {
            // It was stopped or removed meanwhile.
            _ if !self.requests.is_waiting(nth) => (),
            Ok(linked) => self.restart_from(name, nth, Some(linked)),
            Err(error) => {
                let failed = Failed::of_change(name.clone(), FailedStage::Link, error);
                self.requests.answer(nth, &Err(RestartError::Failed(failed)));
            }
        }
    }

    fn restart_from(&mut self, name: &PluginName, nth: u64, linked: Option<Arc<Linked>>) {
        self.requests.begin(nth);
        let relinked = linked.map(|linked| {
            self.tickets += 1;
            let release = linked.release.clone();
            self.prepared.insert(self.tickets, linked);
            (self.tickets, release)
        });
        self.generations += 1;
        self.decide(name, PluginEvent::Restart { generation: self.generations, relinked });
    }
}
