//! Pins: an operator has a plugin keep the version that serves, over reloads and restarts, whatever its files are.

use crate::{
    base::{error_chain::ErrorChain, name::PluginName, quantity::Span},
    plugin::{archive::ArchiveError, directories::ScanReport, release::Release},
    supervisor::{
        Supervisor,
        falling_back::LOAD_DEADLINE,
        handle::Message,
        held::HeldVersions,
        own_task::spawn_and_send,
        pin_outcome::{PinChange, PinInProgress, PinOutcome, PinReply},
        plugin::ManagedPlugin,
        problem::PinError,
    },
};
use std::sync::Arc;
use tokio::time::timeout;
use tracing::info;

impl Supervisor {
    /// Pins the version of a plugin that serves. The reply follows when the pin is written.
    pub(super) fn pin(&mut self, name: PluginName, reply: PinReply) {
        let release = match self.pinnable(&name) {
            Ok(release) => release.clone(),
            // The client may have disconnected.
            Err(why) => return drop(reply.send(Err(why))),
        };
        let pinned = release.digests();
        // At once, so that no reload in progress takes over another version.
        let before = self.pins.insert(name.clone(), pinned);
        let written = self.deps.versions.pin(release);
        self.await_pin(name, PinChange::Pin { pinned, before }, written, reply);
    }

    /// Ends the pin of a plugin. Its files are used from the next reload on.
    pub(super) fn unpin(&mut self, name: PluginName, reply: PinReply) {
        let unpinnable = match self.plugins.contains_key(&name) {
            true => self.check_pin_is_free(&name),
            false => Err(PinError::NoSuchPlugin),
        };
        if let Err(why) = unpinnable {
            return drop(reply.send(Err(why)));
        }
        let written = self.deps.versions.unpin(&name);
        self.await_pin(name, PinChange::Unpin, written, reply);
    }

    fn pinnable(&self, name: &PluginName) -> Result<&Arc<Release>, PinError> {
        let plugin = self.plugins.get(name).ok_or(PinError::NoSuchPlugin)?;
        self.check_pin_is_free(name)?;
        if plugin.is_in_progress() {
            return Err(PinError::InProgress);
        }
        plugin.serving().map(|serving| &serving.release).ok_or(PinError::NotServing)
    }

    /// One change of a pin at a time: the outcome of an earlier one would not fit the later one.
    fn check_pin_is_free(&self, name: &PluginName) -> Result<(), PinError> {
        match self.pins_in_progress.contains_key(name) {
            true => Err(PinError::BeingChanged),
            false => Ok(()),
        }
    }

    fn await_pin(
        &mut self,
        name: PluginName,
        change: PinChange,
        written: impl Future<Output = Option<Result<(), ArchiveError>>> + Send + 'static,
        reply: PinReply,
    ) {
        self.pins_in_progress.insert(name.clone(), PinInProgress { change, reply });
        let plugin = name.clone();
        let writing = async move {
            let outcome = match timeout(LOAD_DEADLINE, written).await {
                Ok(Some(written)) => written.map_err(|error| ErrorChain(&error).to_string()),
                Ok(None) => Err("this daemon keeps no versions of plugins".to_owned()),
                Err(_) => Err(format!(
                    "nothing was written within {}; the disk of the state directory may not answer",
                    Span(LOAD_DEADLINE)
                )),
            };
            let outcome = outcome.map_err(PinError::NotKept);
            Some(Message::PinWritten(PinOutcome { name, outcome }))
        };
        let failed = move |why| {
            let outcome = Err(PinError::NotKept(format!("the host failed: {why}")));
            Message::PinWritten(PinOutcome { name: plugin, outcome })
        };
        spawn_and_send(self.inbox.clone(), writing, failed);
    }

    /// A pin was written or removed, or could not be.
    pub(super) fn pin_written(&mut self, written: PinOutcome) {
        let PinOutcome { name, outcome } = written;
        let Some(PinInProgress { change, reply }) = self.pins_in_progress.remove(&name) else {
            return;
        };
        match (change, &outcome) {
            (PinChange::Pin { .. }, Ok(())) => info!(plugin = %name, "plugin pinned"),
            (PinChange::Unpin, Ok(())) => {
                if self.pins.remove(&name).is_some() {
                    info!(plugin = %name, "plugin unpinned");
                }
            }
            // The plugin may have been removed.
            (PinChange::Pin { pinned, before }, Err(_))
                if self.pins.get(&name) == Some(&pinned) =>
            {
                match before {
                    Some(before) => self.pins.insert(name.clone(), before),
                    None => self.pins.remove(&name),
                };
            }
            (_, Err(_)) => (),
        }
        self.touched.insert(name);
        // The client may have disconnected.
        reply.send(outcome).ok();
    }

    /// The versions that serve in the place of files. The files of `changed` are used even if it was rolled back.
    pub(super) fn held_versions(&self, changed: Option<&PluginName>) -> HeldVersions {
        let mut held = HeldVersions::default();
        for (name, plugin) in &self.plugins {
            let serving = plugin.serving().map(|serving| &serving.release);
            if let (Some(from), Some(serving)) = (plugin.rolled_back_from(), serving)
                && changed != Some(name)
            {
                held.roll_back(name, from, serving);
            }
        }
        for (name, pinned) in &self.pins {
            let serving = self.plugins.get(name).and_then(ManagedPlugin::serving);
            held.pin(name, *pinned, serving.map(|serving| &serving.release));
        }
        held
    }

    /// Holds the versions of plugins that were pinned while the directories were read.
    pub(super) fn hold_pinned(&self, report: &mut ScanReport) {
        let mut held = HeldVersions::default();
        let serving = |name: &PluginName| self.plugins.get(name)?.serving();
        let pins = self.pins.iter().filter(|(name, _)| !report.held.contains(*name));
        for (name, pinned) in pins {
            if let Some(serving) = serving(name) {
                held.pin(name, *pinned, Some(&serving.release));
            }
        }
        report.held.extend(held.hold(&mut report.plugins));
    }

    /// Forgets the pins of plugins that are not there any more.
    pub(super) fn retain_pins(&mut self, is_there: impl Fn(&PluginName) -> bool) {
        let is_gone = |(name, _): (&PluginName, &_)| (!is_there(name)).then(|| name.clone());
        for name in self.pins.iter().filter_map(is_gone).collect::<Vec<_>>() {
            self.forget_pin(&name);
        }
    }

    /// Ends the pin of a plugin that was removed.
    pub(super) fn forget_pin(&mut self, name: &PluginName) {
        if self.pins.remove(name).is_some() {
            info!(plugin = %name, "plugin unpinned");
        }
    }
}
