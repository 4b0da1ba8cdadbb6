//! Rollbacks: an operator makes the previous version of a plugin serve again.

use crate::{
    base::{error_chain::ErrorChain, name::PluginName, quantity::Span},
    plugin::{release::ReleaseDigests, verify::Verified},
    supervisor::{
        Supervisor,
        change_requests::ChangeReply,
        falling_back::LOAD_DEADLINE,
        handle::Message,
        own_task::spawn_and_send,
        own_thread::{on_own_thread, within},
        plugin::{ManagedPlugin, PluginEvent},
        problem::RestartError,
        rollout::HoldPoint,
    },
};
use tokio::time::timeout;

impl Supervisor {
    /// Reads the version that served before the current one. The reply follows when it serves, or when it cannot.
    pub(super) fn rollback(&mut self, name: PluginName, reply: ChangeReply) {
        let serving = match self.plugins.get(&name) {
            None => Err(RestartError::NoSuchPlugin),
            Some(plugin) if plugin.is_stopped() => Err(RestartError::Stopped),
            Some(_) if self.pins.contains_key(&name) => Err(RestartError::Pinned),
            Some(plugin) if plugin.is_in_progress() => Err(RestartError::InProgress),
            Some(plugin) => plugin.serving().map(|it| it.release.digests()).ok_or_else(|| {
                let why = "no version of it serves, so there is no previous one";
                RestartError::NoRollback(why.to_owned())
            }),
        };
        let serving = match serving {
            Ok(serving) => serving,
            // The client may have disconnected.
            Err(why) => return drop(reply.send(Err(why))),
        };
        let nth = self.requests.add(&name, reply);
        let previous = self.deps.versions.previous(&name, serving);
        let (inbox, credentials) = (self.inbox.clone(), self.deps.places.credentials.clone());
        let plugin = name.clone();
        let reading = async move {
            let outcome = match timeout(LOAD_DEADLINE, previous).await {
                Err(_) => Err(format!(
                    "its previous version was not found within {}; the disk of the state directory may not answer",
                    Span(LOAD_DEADLINE)
                )),
                Ok(None) => Err("no previous version of it is kept".to_owned()),
                Ok(Some(version)) => {
                    let work = move || {
                        version.load().map(|it| it.with_credentials(credentials.as_deref()))
                    };
                    match within(LOAD_DEADLINE, on_own_thread("versions", work)).await {
                        Ok(loaded) => loaded.map_err(|error| ErrorChain(&error).to_string()),
                        Err(error) => Err(ErrorChain(&error).to_string()),
                    }
                }
            };
            Some(Message::Previous { name, nth, serving, outcome })
        };
        let failed = move |why| Message::Previous { name: plugin, nth, serving, outcome: Err(why) };
        spawn_and_send(inbox, reading, failed);
    }

    /// The previous version of a plugin was read, or cannot be.
    pub(super) fn roll_back(
        &mut self,
        name: &PluginName,
        nth: u64,
        from: ReleaseDigests,
        outcome: Result<Verified, String>,
    ) {
        if !self.requests.is_waiting(nth) {
            // It was stopped or removed meanwhile.
            return;
        }
        let is_still = |plugin: &ManagedPlugin| {
            let serving = plugin.serving().map(|serving| serving.release.digests());
            serving == Some(from) && !plugin.is_in_progress()
        };
        let outcome = match self.plugins.get(name).is_some_and(is_still) {
            // An operator pinned it meanwhile.
            true if self.pins.contains_key(name) => Err(RestartError::Pinned),
            true => outcome
                .and_then(|verified| self.with_free_routes(name, verified))
                .map_err(RestartError::NoRollback),
            false => Err(RestartError::InProgress),
        };
        match outcome {
            Ok((verified, requests)) => {
                let to = verified.release().digests();
                if let Some(plugin) = self.plugins.get_mut(name) {
                    plugin.begin_rollback(from, to);
                }
                self.requests.begin(nth);
                let ticket = self.queue_ticket(name);
                let hold_point = HoldPoint::Open;
                self.decide(name, PluginEvent::Found { ticket, verified, requests, hold_point });
            }
            Err(error) => self.requests.answer(nth, &Err(error)),
        }
    }
}
