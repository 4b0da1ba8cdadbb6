//! The removal of the data kept for a plugin, which must have no instances and does not start meanwhile.

use crate::{
    base::{error_chain::ErrorChain, name::PluginName, quantity::Span},
    plugin::state_removal::{DetachedState, detach},
    supervisor::{
        Supervisor,
        clean_outcome::{CleanError, CleanParts, CleanReply, CleaningInProgress},
        execute::send_later,
        handle::Message,
        own_task::spawn_and_send,
        own_thread::on_own_thread,
        plugin::ManagedPlugin,
    },
};
use std::time::Duration;
use tracing::{info, warn};

/// Time for which a client waits until files are removed.
const REPLY_DEADLINE: Duration = Duration::from_secs(60);

impl Supervisor {
    /// Removes these parts of what is kept for a plugin. The reply follows when they are removed.
    pub(super) fn clean(&mut self, name: PluginName, parts: CleanParts, reply: CleanReply) {
        let refused = match (&self.cleaning, self.plugins.get(&name)) {
            (Some(cleaning), _) => Some(CleanError::Busy(cleaning.name.clone())),
            (None, Some(plugin)) if !plugin.is_idle() => Some(CleanError::InUse(name.clone())),
            _ => None,
        };
        if let Some(refused) = refused {
            // The client may have disconnected.
            return drop(reply.send(Err(refused)));
        }
        let had_saved = parts.saved && self.remove_saved(&name);
        if !parts.state {
            return self.report_cleaned(&name, Ok(had_saved), Some(reply));
        }
        let (state, plugin) = (self.deps.places.state.clone(), name.clone());
        self.tickets += 1;
        let nth = self.tickets;
        self.cleaning = Some(CleaningInProgress { nth, name, reply: Some(reply) });
        let remove = move || {
            let detached = detach(&state, &plugin)?;
            let had_files = detached.is_some();
            detached.map_or(Ok(()), DetachedState::delete).map(|()| had_files)
        };
        // It has no deadline, since the plugin must not start before its files are gone. Its client has one.
        send_later(self.inbox.clone(), REPLY_DEADLINE, Message::CleaningDue { nth });
        let removed = async move {
            let removed = on_own_thread("clean", remove).await;
            let outcome = match removed {
                Ok(Ok(had_files)) => Ok(had_files || had_saved),
                Ok(Err(error)) => Err(CleanError::Failed(error.to_string())),
                Err(error) => Err(CleanError::Failed(ErrorChain(&error).to_string())),
            };
            Some(Message::Cleaned(outcome))
        };
        let failed = |reason| Message::Cleaned(Err(CleanError::Failed(reason)));
        spawn_and_send(self.inbox.clone(), removed, failed);
    }

    /// Files were removed, or could not be. The plugin may start again.
    pub(super) fn cleaned(&mut self, outcome: Result<bool, CleanError>) {
        if let Some(CleaningInProgress { name, reply, .. }) = self.cleaning.take() {
            self.report_cleaned(&name, outcome, reply);
        }
    }

    /// The client of a removal has waited long enough.
    pub(super) fn cleaning_due(&mut self, nth: u64) {
        let Some(cleaning) = &mut self.cleaning else { return };
        if cleaning.answer_late(nth, Span(REPLY_DEADLINE)) {
            let seconds = REPLY_DEADLINE.as_secs();
            warn!(plugin = %cleaning.name, seconds, "state not removed yet");
        }
    }

    fn report_cleaned(
        &self,
        name: &PluginName,
        outcome: Result<bool, CleanError>,
        reply: Option<CleanReply>,
    ) {
        let is_known = self.plugins.contains_key(name);
        let outcome = match outcome {
            Ok(had_something) if had_something || is_known => {
                info!(plugin = %name, "plugin cleaned");
                Ok(())
            }
            Ok(_) => Err(CleanError::NoSuchPlugin),
            Err(error) => Err(error),
        };
        match (reply, outcome) {
            // The client may have disconnected.
            (Some(reply), outcome) => drop(reply.send(outcome)),
            (None, Err(error)) => warn!(plugin = %name, %error, "state not removed"),
            (None, Ok(())) => (),
        }
    }

    /// Removes the state that a plugin saved. False if none is known.
    fn remove_saved(&mut self, name: &PluginName) -> bool {
        let plugin = self.plugins.get_mut(name);
        let was_saved = plugin.is_some_and(ManagedPlugin::forget_saved);
        self.deps.store.remove(name);
        was_saved || self.deps.store.handed_back().contains(name)
    }
}
