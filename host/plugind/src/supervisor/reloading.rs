//! The directories are read, and what differs from what there is is set going.

use crate::supervisor::{Supervisor, transitions::ERROR_MAX};
use crate::{
    base::{error_chain::ErrorChain, name::PluginName, text::cut},
    journal::messages,
    plugin::{scan::Masked, verify::Verified},
    route::owners::RouteRequest,
    route::sockets::SocketPlan,
    supervisor::{
        compare::{Change, compare, found},
        generation::Generation,
        handle::{Message, RestartError},
        lifecycle::StartPolicy,
        plugin::{ManagedPlugin, PluginProblem, Preparing},
        prepare::{Deps, DirectoriesError, JudgedPlugin, PrepareError, ScanReport, prepare, read},
        reload::{ReloadOptions, ReloadState},
        reloads::{Finished, Next, ReloadReply},
        rollout::{HoldPoint, SavedState},
        summary::FailedStage,
    },
    world::{bindings::exports::plugind::plugin::lifecycle::StopReason, link::Linked},
};
use futures::future::OptionFuture;
use std::{path::Path, sync::Arc, time::Instant};
use tracing::{error, info, warn};

/// How many ignored files a reload reports; the log has all of them.
const IGNORED_MAX: usize = 50;

impl Supervisor {
    /// Takes a request to read the directories again.
    pub(super) fn request_reload(&mut self, options: ReloadOptions, reply: Option<ReloadReply>) {
        // The first reading is the start, which has its own messages.
        if self.reloads.has_started() {
            info!(message_id = messages::RELOADING, "reloading");
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
        let serving = self.plugins.values().filter_map(ManagedPlugin::serving);
        let directories = serving.filter_map(|serving| serving.pool.linked().path.parent());
        let expected = directories.map(Path::to_owned).collect();
        let search_path = self.means.search_path.clone().expecting(expected);
        let (inbox, sockets) = (self.inbox.clone(), self.means.sockets.clone());
        tokio::spawn(async move {
            let read = tokio::task::spawn_blocking(move || read(&search_path, &sockets)).await;
            let outcome =
                read.unwrap_or_else(|panic| Err(DirectoriesError::Host(panic.to_string())));
            // Nobody is there to hear it only when the daemon is ending.
            inbox.send(Message::Read(outcome)).ok();
        });
    }

    pub(super) fn keep_last_good_set(&mut self, error: &DirectoriesError) {
        let error = cut(&ErrorChain(error).to_string(), ERROR_MAX).into_owned();
        error!(message_id = messages::UNREADABLE, stage = %FailedStage::Scan, error, "directories not read");
        let next = self.reloads.not_read(&error);
        self.read_if(next);
    }

    /// Sets going what was found to differ from what there is.
    pub(super) fn apply(&mut self, report: ScanReport, plan: SocketPlan) {
        for ignored in &report.strays {
            warn!(stage = %FailedStage::Scan, error = %ignored, "file ignored");
        }
        let ignored = report.strays.iter().take(IGNORED_MAX);
        self.ignored = ignored.map(ToString::to_string).collect();
        for Masked { name, by } in &report.masked {
            info!(plugin = %name, by = %by.display(), "plugin masked");
        }
        let is_first = self.reloads.read(found(&report.plugins));
        let ignored = self.ignored.clone();
        self.reloads.note(|reload| reload.ignored = ignored);
        if is_first {
            self.remove_orphaned_states();
        }
        if !self.is_refused_already() {
            self.apply_changes(report.plugins, plan);
        }
        let next = self.reloads.compared();
        self.read_if(next);
    }

    fn apply_changes(&mut self, plugins: Vec<JudgedPlugin>, plan: SocketPlan) {
        let options = self.reloads.options();
        let changes = compare(plugins, &self.plugins, Some(&plan), options);
        if options.all_or_nothing && self.is_refused(&changes) {
            return;
        }
        self.means.plan.send_if_modified(|current| {
            let is_new = *current != plan;
            *current = plan;
            is_new
        });
        for (name, change) in changes {
            if !self.plugins.contains_key(&name) {
                self.reloads.add(&name);
            }
            self.plugins.entry(name.clone()).or_default().removed = false;
            self.apply_change(&name, change);
        }
        let missing = self.plugins.keys().filter(|name| !self.reloads.has_found(name)).cloned();
        let missing = missing.collect();
        let (removed, forgotten) = self.reloads.not_found(missing);
        for name in removed {
            self.remove(&name, StopReason::Removed);
        }
        for name in forgotten {
            self.want_nothing_else(&name);
            self.forget(&name);
        }
        self.publish();
    }

    fn apply_change(&mut self, name: &PluginName, change: Change) {
        match change {
            Change::Same => {
                self.reloads.note(|reload| reload.unchanged += 1);
                self.leave_as_it_is(name);
            }
            Change::OnItsOwnWay => self.reloads.note(|reload| reload.unchanged += 1),
            Change::OnItsWay => self.reloads.note(|reload| reload.await_plugin(name)),
            Change::KnownToFail(problem) => {
                self.want_nothing_else(name);
                self.reloads.note(|reload| reload.failed(problem.failed(name)));
            }
            Change::Changed { verified, wishes } => {
                self.reloads.note(|reload| reload.await_plugin(name));
                let gate = self.reloads.hold_point();
                self.take_up(verified, wishes, gate);
            }
            Change::Bad(problem) => self.problem(name, problem),
        }
    }

    /// Notes how far the new versions are that the current reload waits for.
    pub(super) fn note_steps(&self) {
        self.reloads.note_if(|reload| {
            let pending: Vec<_> = reload.pending().map(|(name, _)| name.clone()).collect();
            let mut is_new = false;
            for name in pending {
                let step = self.plugins.get(&name).and_then(ManagedPlugin::step);
                is_new |= step.is_some_and(|step| reload.came_to(&name, step));
            }
            is_new
        });
    }

    pub(super) fn finish_reload(&mut self) {
        let Some(finished) = self.reloads.finish() else { return };
        let Finished { state, is_watched, was_requested, next } = finished;
        for name in state.failed.keys() {
            let problem = self.plugins.get_mut(name).and_then(|kept| kept.problem.as_mut());
            if let Some(problem) = problem {
                problem.reported |= is_watched;
            }
        }
        if was_requested && state.unreadable.is_none() {
            let ReloadState { changed, failed, removed, unchanged, .. } = &state;
            info!(
                message_id = messages::RELOADED,
                changed = changed.len(),
                failed = failed.len(),
                removed = removed.len(),
                unchanged,
                "reloaded"
            );
        }
        self.read_if(next);
    }

    /// What there is is what is wanted.
    fn leave_as_it_is(&mut self, name: &PluginName) {
        if let Some(kept) = self.plugins.get_mut(name) {
            kept.problem = None;
        }
        self.want_nothing_else(name);
    }

    /// Whatever was to follow is not wanted any more.
    pub(super) fn want_nothing_else(&mut self, name: &PluginName) {
        if let Some(kept) = self.plugins.get_mut(name) {
            kept.preparing = None;
        }
        self.dismiss_candidate(name);
        self.restarted(name, &Err(RestartError::TakenBack));
    }

    /// Has a version that was found compiled and linked, when it is its turn.
    fn take_up(&mut self, verified: Box<Verified>, wishes: Vec<RouteRequest>, gate: HoldPoint) {
        let name = verified.name().clone();
        let Some(kept) = self.plugins.get_mut(&name) else { return };
        self.tickets += 1;
        let (digest, manifest) = (*verified.digest(), verified.manifest().clone());
        let (ticket, queued, wanted) = (self.tickets, Some(verified), Arc::default());
        kept.preparing = Some(Preparing { ticket, digest, manifest, wishes, gate, queued, wanted });
        self.dismiss_candidate(&name);
    }

    /// Sets those going that wait for their turn, as many as may be in work at a time. The start is not held up by
    /// that: there some plugins may wait for others, and nothing is there twice.
    pub(super) fn start_queued(&mut self) {
        let mut at_work = self.plugins.values().filter(|kept| kept.is_at_work()).count();
        let most = if self.settled { self.means.reload_concurrency } else { usize::MAX };
        for kept in self.plugins.values_mut() {
            if at_work >= most {
                return;
            }
            let Some(preparing) = &mut kept.preparing else { continue };
            let Some(verified) = preparing.queued.take() else { continue };
            at_work += 1;
            let (name, ticket) = (verified.name().clone(), preparing.ticket);
            let store = &self.means.store;
            let is_heir = verified.offers().handover
                && kept.generations.saved().is_none()
                && store.handed_back().contains(&name);
            let legacy = is_heir.then(|| store.read(&name, verified.manifest().handover.state_max));
            let (means, linker) = (self.means.clone(), self.linker.clone());
            let (cores, inbox) = (self.cores.clone(), self.inbox.clone());
            let wanted = Arc::downgrade(&preparing.wanted);
            tokio::spawn(async move {
                // It is never closed.
                let _permit = cores.acquire_owned().await;
                if wanted.strong_count() == 0 {
                    // Something newer was found meanwhile, which need not wait for this.
                    return;
                }
                let prepared = tokio::task::spawn_blocking(move || {
                    let Deps { engine, cache, compiler, places, .. } = &means;
                    prepare(*verified, engine, cache, compiler, places, &linker)
                })
                .await;
                let outcome = prepared.unwrap_or_else(|panic| {
                    let error = format!("the host failed: {panic}");
                    Err(PrepareError { stage: FailedStage::Link, error, configuration: true })
                });
                let legacy = OptionFuture::from(legacy).await.flatten();
                let outcome = Box::new(outcome);
                inbox.send(Message::Prepared { name, ticket, outcome, legacy }).ok();
            });
        }
    }

    pub(super) fn prepared(
        &mut self,
        name: &PluginName,
        ticket: u64,
        outcome: Result<Linked, PrepareError>,
        legacy: Option<SavedState>,
    ) {
        let Some(kept) = self.plugins.get_mut(name) else { return };
        // Otherwise something newer was found meanwhile, or nothing any more.
        let Some(preparing) = kept.preparing.take_if(|preparing| preparing.ticket == ticket) else {
            return;
        };
        let linked = match outcome {
            Ok(linked) => linked,
            Err(PrepareError { stage, error, configuration }) => {
                let required = preparing.manifest.required;
                let problem = PluginProblem {
                    result: if configuration { "configuration" } else { "resources" },
                    content: Some((preparing.digest, preparing.manifest)),
                    generation: None,
                    reported: false,
                    stage,
                    error,
                    configuration,
                    required,
                    wishes: preparing.wishes,
                };
                self.problem(name, problem);
                self.publish();
                return;
            }
        };
        if legacy.is_some() && kept.generations.saved().is_none() {
            kept.generations.inherit(legacy);
        }
        // Only the daemon's start waits for what is not there yet, and has a deadline for that.
        let is_to_follow = kept.serving().is_some() || preparing.gate != HoldPoint::Open;
        let policy = match (is_to_follow, linked.manifest.required && !self.settled) {
            (true, _) => StartPolicy::Candidate,
            (false, true) => StartPolicy::Required,
            (false, false) => StartPolicy::BestEffort,
        };
        self.try_out(name, linked, policy, preparing.gate);
    }

    /// Starts a generation that takes over when it is ready, and may.
    pub(super) fn try_out(
        &mut self,
        name: &PluginName,
        linked: Linked,
        policy: StartPolicy,
        gate: HoldPoint,
    ) {
        let Some(kept) = self.plugins.get_mut(name) else { return };
        self.generations += 1;
        let (number, inbox, sender) = (self.generations, self.inbox.clone(), name.clone());
        let notify = move |event| {
            inbox.send(Message::Worker { name: sender.clone(), generation: number, event }).ok();
        };
        let (journal, executors) = (self.means.journal.clone(), self.means.executors.clone());
        let generation = Generation::new(number, linked, policy, journal, executors, notify);
        generation.pool.set_inheritance(kept.generations.inheritance());
        let orders = kept.generations.try_out(generation, gate, Instant::now());
        self.carry_out(name, orders);
    }
}
