//! Reads the directories, and starts the changes.

use crate::{
    api::FailedStage,
    base::{
        error_chain::ErrorChain,
        figures::ReloadOutcome,
        name::{PluginName, SocketName},
        text::cut,
    },
    journal::messages,
    plugin::{
        archive::LastGood,
        directories::{ScanReport, VerifiedBefore, VerifyResult, autostart_of, name_of},
        scan::Masked,
        verify::Verified,
    },
    route::owners::Route,
    route::sockets::SocketPlan,
    supervisor::{
        Supervisor,
        compare::{Change, compare, found},
        handle::Message,
        held::HeldVersions,
        own_task::spawn_and_send,
        own_thread::{on_own_thread, within},
        plugin::{ERROR_MAX, ManagedPlugin, PluginEvent},
        prepare::{DirectoriesError, read},
        reload::{ReloadOptions, ReloadState},
        reloads::{Finished, Next, ReloadReply},
        versions::PinnedVersions,
    },
    world::bindings::exports::plugind::plugin::lifecycle::StopReason,
};
use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::timeout,
};
use tracing::{error, info, warn};

/// Limit of ignored files that a reload reports; the log has all of them.
const IGNORED_MAX: usize = 50;
/// Time to read and verify all plugins: far more than that takes, unless a file system does not answer.
const SCAN_DEADLINE: Duration = Duration::from_secs(120);

impl Supervisor {
    /// Takes a request to read the directories again.
    pub(super) fn request_reload(&mut self, options: ReloadOptions, reply: Option<ReloadReply>) {
        // The first reading is the start, which has its own messages.
        if self.reloads.has_started() {
            info!(message_id = messages::RELOAD_STARTED, "reload started");
        }
        let next = self.reloads.request(options, reply);
        self.read_if(next);
    }

    fn read_if(&self, next: Next) {
        if next == Next::Read {
            self.read();
        }
    }

    fn read(&self) {
        self.read_and(None, Message::Read);
    }

    /// Reads the directories, and sends what was found in this message. The files of `changed` are used even if it was
    /// rolled back.
    pub(super) fn read_and(
        &self,
        changed: Option<&PluginName>,
        message: impl Fn(Result<(ScanReport, SocketPlan), DirectoriesError>) -> Message
        + Clone
        + Send
        + 'static,
    ) {
        let serving = self.plugins.values().filter_map(ManagedPlugin::serving);
        // A version that was read from the archive is not expected in the plugin directories.
        let found = serving.filter(|serving| !self.deps.versions.contains(&serving.release.path));
        let directories = found.filter_map(|serving| serving.release.path.parent());
        let directories: BTreeSet<&Path> = directories.collect();
        let expected = directories.into_iter().map(Path::to_owned).collect();
        let search_path = self.deps.search_path.clone().expecting(expected);
        let (inbox, sockets) = (self.inbox.clone(), self.deps.sockets.clone());
        let credentials = self.deps.places.credentials.clone();
        let verified = self.verified.clone();
        let held = self.held_versions(changed);
        let pinned = (!self.pins.is_empty()).then(|| self.deps.versions.pinned());
        let work = move |held: HeldVersions, mut before: OwnedMutexGuard<VerifiedBefore>| {
            read(&search_path, &sockets, credentials.as_deref(), &held, &mut before)
        };
        let of_panic = message.clone();
        let reading = async move {
            let outcome = match turn(verified, SCAN_DEADLINE).await {
                Ok(before) => {
                    let pinned = match pinned {
                        // Without an answer, the plugins that do not serve fail.
                        Some(pinned) => timeout(SCAN_DEADLINE, pinned).await.unwrap_or_default(),
                        None => PinnedVersions::new(),
                    };
                    let held = held.with_archived(pinned);
                    let read = on_own_thread("scan", move || work(held, before));
                    within(SCAN_DEADLINE, read).await.unwrap_or_else(|error| {
                        Err(DirectoriesError::Host(ErrorChain(&error).to_string()))
                    })
                }
                Err(unfinished) => Err(unfinished),
            };
            Some(message(outcome))
        };
        let failed = move |why| of_panic(Err(DirectoriesError::Host(why)));
        spawn_and_send(inbox, reading, failed);
    }

    pub(super) fn keep_last_good_set(&mut self, error: &DirectoriesError) {
        let error = cut(&ErrorChain(error).to_string(), ERROR_MAX).into_owned();
        error!(message_id = messages::CONFIGURATION_UNREADABLE, stage = %FailedStage::Scan, error, "cannot read configuration");
        let next = self.reloads.not_read(&error);
        self.read_if(next);
    }

    /// Starts the changes that were found.
    pub(super) fn apply(&mut self, mut report: ScanReport, plan: SocketPlan) {
        self.hold_pinned(&mut report);
        for ignored in &report.ignored {
            warn!(stage = %FailedStage::Scan, error = %ignored, "file ignored");
        }
        let ignored = report.ignored.iter().take(IGNORED_MAX);
        self.ignored = ignored.map(ToString::to_string).collect();
        self.missing_directory = report.missing_directory.take();
        for Masked { name, by } in &report.masked {
            info!(plugin = %name, by = %by.display(), "plugin masked");
        }
        let is_first = self.reloads.read(found(&report.plugins));
        let ignored = self.ignored.clone();
        let pinned = report.held.iter().filter(|name| self.pins.contains_key(*name));
        let pinned: BTreeSet<_> = pinned.cloned().collect();
        self.reloads.note(|reload| (reload.ignored, reload.pinned) = (ignored, pinned));
        if is_first {
            let found = report.plugins.iter().map(|found| name_of(found).clone());
            self.remove_orphaned(found.collect());
        }
        if !self.is_refused_already() {
            self.apply_changes(report.plugins, &report.held, plan);
        }
        let next = self.reloads.compared();
        self.read_if(next);
    }

    fn apply_changes(
        &mut self,
        plugins: Vec<VerifyResult>,
        held: &BTreeSet<PluginName>,
        plan: SocketPlan,
    ) {
        let options = self.reloads.options();
        // No version of these plugins starts by itself.
        let resting = plugins.iter().filter(|found| !autostart_of(found));
        let resting: BTreeSet<_> = resting.map(|found| name_of(found).clone()).collect();
        let changes = compare(plugins, &self.plugins, Some(&plan), options);
        if options.all_or_nothing && self.is_refused(&changes) {
            return;
        }
        for (name, change) in changes {
            if !self.plugins.contains_key(&name) {
                self.reloads.add(&name);
            }
            let may_fall_back =
                self.deps.serve_previous && !self.settled && !resting.contains(&name);
            let last_good = match may_fall_back {
                true => self.deps.versions.last_good(&name),
                false => LastGood::Nothing,
            };
            let new = || ManagedPlugin::new(name.clone()).with_last_good(last_good);
            self.plugins.entry(name.clone()).or_insert_with(new).removed = false;
            // Its files are those of the version that serves, or of a third one.
            if let Change::Same | Change::Changed { .. } = &change
                && !held.contains(&name)
                && let Some(plugin) = self.plugins.get_mut(&name)
            {
                plugin.end_rollback();
            }
            self.apply_change(&name, change);
        }
        let missing = self.plugins.keys().filter(|name| !self.reloads.has_found(name)).cloned();
        let missing = missing.collect();
        let (removed, forgotten) = self.reloads.not_found(missing);
        for name in removed {
            self.decide(&name, PluginEvent::Remove(StopReason::Removed));
        }
        for name in forgotten {
            self.decide(&name, PluginEvent::Forget);
        }
        // Before anything is published, which happens with the settings of the plan.
        let (has_http, whole) = self.socket_routes();
        let mut plan = plan.with_routes(has_http, whole);
        self.deps.plan.update(|current| {
            plan.served.clone_from(&current.served);
            let is_new = *current != plan;
            *current = plan;
            is_new
        });
        self.execute();
        self.publish();
    }

    /// What plugins serve, or ask for: whether one has a route of HTTP, and the sockets that they serve as a whole.
    pub(super) fn socket_routes(&self) -> (bool, BTreeSet<SocketName>) {
        let plugins = self.plugins.values().filter(|managed| !managed.removed);
        let routes = plugins.flat_map(|managed| managed.routes().0.iter().chain(managed.wanted()));
        let (mut has_http, mut whole) = (false, BTreeSet::new());
        for (route, _) in routes {
            match route {
                Route::Socket(socket) => drop(whole.insert(socket.clone())),
                Route::Http(_) => has_http = true,
            }
        }
        (has_http, whole)
    }

    fn apply_change(&mut self, name: &PluginName, change: Change) {
        match change {
            Change::Same => {
                self.reloads.note(|reload| reload.unchanged += 1);
                self.decide(name, PluginEvent::Unchanged);
            }
            Change::Recovering | Change::Stopped | Change::RolledBack => {
                self.reloads.note(|reload| reload.unchanged += 1);
            }
            Change::InProgress => {
                self.reloads.note(|reload| reload.await_plugin(name));
                // Its progress has to be noted.
                self.touched.insert(name.clone());
            }
            Change::KnownToFail(problem) => {
                self.decide(name, PluginEvent::NotWanted);
                self.reloads.note(|reload| reload.failed(problem.failed(name)));
            }
            Change::Changed { verified, requests } if self.is_to_rest(name, &verified) => {
                self.reloads.note(|reload| reload.unchanged += 1);
                if !self.has_failed_as(name, &verified) {
                    self.decide(name, PluginEvent::Rest { requests });
                }
            }
            Change::Changed { verified, requests } => {
                self.reloads.note(|reload| reload.await_plugin(name));
                let hold_point = self.reloads.hold_point();
                let ticket = self.queue_ticket(name);
                self.decide(name, PluginEvent::Found { ticket, verified, requests, hold_point });
            }
            Change::Withdrawn(problem) => self.decide(name, PluginEvent::Withdraw(problem)),
            Change::Bad(problem) => self.decide(name, PluginEvent::Unusable(problem)),
        }
    }

    /// Whether a version is not to be started by a reload: nothing of the plugin runs, and it does not start by itself.
    pub(super) fn is_to_rest(&self, name: &PluginName, verified: &Verified) -> bool {
        let plugin = self.plugins.get(name);
        let runs =
            plugin.is_some_and(|plugin| plugin.serving().is_some() || plugin.is_in_progress());
        !runs && !verified.manifest().service.autostart
    }

    /// Whether this version was started and failed, which stays known until the files change.
    fn has_failed_as(&self, name: &PluginName, verified: &Verified) -> bool {
        let problem = self.plugins.get(name).and_then(|plugin| plugin.problem.as_ref());
        let failed = problem.and_then(|problem| problem.release.as_ref());
        failed.is_some_and(|failed| failed.is_same(verified.release()))
    }

    /// Notes how far the new versions are that the current reload waits for.
    pub(super) fn note_steps(&self) {
        self.reloads.note_if(|reload| {
            let mut is_new = false;
            for name in &self.touched {
                let step = self.plugins.get(name).and_then(ManagedPlugin::step);
                is_new |= step.is_some_and(|step| reload.enter_step(name, step));
            }
            is_new
        });
    }

    pub(super) fn finish_reload(&mut self) {
        let Some(finished) = self.reloads.finish() else { return };
        let Finished { state, is_watched, was_requested, next } = finished;
        for name in state.failed.keys().filter(|_| is_watched) {
            self.plugins.get_mut(name).into_iter().for_each(ManagedPlugin::note_reported);
        }
        if was_requested {
            self.deps.commons.figures.reloaded(match &state {
                state if state.unreadable.is_some() => ReloadOutcome::Unreadable,
                state if !state.failed.is_empty() => ReloadOutcome::Failed,
                _ => ReloadOutcome::Success,
            });
        }
        if was_requested && state.unreadable.is_none() {
            let ReloadState { changed, failed, removed, unchanged, .. } = &state;
            info!(
                message_id = messages::RELOAD_FINISHED,
                changed = changed.len(),
                failed = failed.len(),
                removed = removed.len(),
                unchanged,
                "reload finished"
            );
        }
        self.read_if(next);
    }

    /// Removes what a daemon before this one left for plugins that are not there any more: states, pins and versions.
    fn remove_orphaned(&mut self, found: BTreeSet<PluginName>) {
        let (store, versions) = (&self.deps.store, &self.deps.versions);
        let states = store.handed_back().iter();
        if found.is_empty() {
            // The directory of the plugins may not be mounted yet. The next start that finds one removes the rest.
            let missing: BTreeSet<_> =
                states.chain(versions.plugins()).map(PluginName::as_str).collect();
            if !missing.is_empty() {
                let missing = Vec::from_iter(missing).join(", ");
                warn!(missing = &*cut(&missing, ERROR_MAX), "no plugin found, stored data kept");
            }
            return;
        }
        states.filter(|name| !found.contains(*name)).for_each(|name| store.remove(name));
        self.retain_pins(|name| found.contains(name));
        self.deps.versions.retain(found);
    }
}

/// Waits until no other reading is in progress. One that was given up may still wait for its file system.
async fn turn(
    verified: Arc<Mutex<VerifiedBefore>>,
    wait_max: Duration,
) -> Result<OwnedMutexGuard<VerifiedBefore>, DirectoriesError> {
    timeout(wait_max, verified.lock_owned()).await.map_err(|_| DirectoriesError::Unfinished)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::ComponentLimits;
    use std::pin::pin;

    #[tokio::test]
    async fn a_reading_waits_for_another_one_and_gives_up_if_that_does_not_end() {
        let verified = Arc::new(Mutex::new(VerifiedBefore::new(
            "/nonexistent".into(),
            ComponentLimits::DEFAULT,
        )));
        let first = turn(verified.clone(), Duration::ZERO).await.unwrap();
        let error = turn(verified.clone(), Duration::ZERO).await.map(drop).unwrap_err();
        assert!(matches!(error, DirectoriesError::Unfinished), "{error}");
        let mut second = pin!(turn(verified, SCAN_DEADLINE));
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        assert!(second.await.is_ok());
    }
}
