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
        prepare::{Deps, DirectoriesError, PrepareError, ScanReport, VerifyResult, prepare, read},
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
        let search_path = self.deps.search_path.clone().expecting(expected);
        let (inbox, sockets) = (self.inbox.clone(), self.deps.sockets.clone());
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
        for ignored in &report.ignored {
            warn!(stage = %FailedStage::Scan, error = %ignored, "file ignored");
        }
        let ignored = report.ignored.iter().take(IGNORED_MAX);
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

    fn apply_changes(&mut self, plugins: Vec<VerifyResult>, plan: SocketPlan) {
        let options = self.reloads.options();
        let changes = compare(plugins, &self.plugins, Some(&plan), options);
        if options.all_or_nothing && self.is_refused(&changes) {
            return;
        }
        self.deps.plan.send_if_modified(|current| {
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
            self.cancel_pending(&name);
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
            Change::Recovering => self.reloads.note(|reload| reload.unchanged += 1),
            Change::InProgress => self.reloads.note(|reload| reload.await_plugin(name)),
            Change::KnownToFail(problem) => {
                self.cancel_pending(name);
                self.reloads.note(|reload| reload.failed(problem.failed(name)));
            }
            Change::Changed { verified, route_requests } => {
                self.reloads.note(|reload| reload.await_plugin(name));
                let hold_point = self.reloads.hold_point();
                self.begin_preparing(verified, route_requests, hold_point);
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
                is_new |= step.is_some_and(|step| reload.enter_step(&name, step));
            }
            is_new
        });
    }

    pub(super) fn finish_reload(&mut self) {
        let Some(finished) = self.reloads.finish() else { return };
        let Finished { state, is_watched, was_requested, next } = finished;
        for name in state.failed.keys() {
            let problem = self.plugins.get_mut(name).and_then(|managed| managed.problem.as_mut());
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
        if let Some(managed) = self.plugins.get_mut(name) {
            managed.problem = None;
        }
        self.cancel_pending(name);
    }

    /// Whatever was to follow is not wanted any more.
    pub(super) fn cancel_pending(&mut self, name: &PluginName) {
        if let Some(managed) = self.plugins.get_mut(name) {
            managed.preparing = None;
        }
        self.shut_down_candidate(name);
        self.restarted(name, &Err(RestartError::TakenBack));
    }

    /// Has a version that was found compiled and linked, when it is its turn.
    fn begin_preparing(
        &mut self,
        verified: Box<Verified>,
        route_requests: Vec<RouteRequest>,
        hold_point: HoldPoint,
    ) {
        let name = verified.name().clone();
        let Some(managed) = self.plugins.get_mut(&name) else { return };
        self.tickets += 1;
        let (digest, manifest) = (*verified.digest(), verified.manifest().clone());
        let (ticket, queued, wanted) = (self.tickets, Some(verified), Arc::default());
        managed.preparing = Some(Preparing {
            ticket,
            digest,
            manifest,
            route_requests,
            hold_point,
            queued,
            wanted,
        });
        self.shut_down_candidate(&name);
    }

    /// Sets those going that wait for their turn, as many as may be in work at a time. The start is not held up by
    /// that: there some plugins may wait for others, and nothing is there twice.
    pub(super) fn start_queued(&mut self) {
        let mut at_work = self.plugins.values().filter(|managed| managed.is_at_work()).count();
        let max = if self.settled { self.deps.reload_concurrency } else { usize::MAX };
        for managed in self.plugins.values_mut() {
            if at_work >= max {
                return;
            }
            let Some(preparing) = &mut managed.preparing else { continue };
            let Some(verified) = preparing.queued.take() else { continue };
            at_work += 1;
            let (name, ticket) = (verified.name().clone(), preparing.ticket);
            let store = &self.deps.store;
            let takes_over = verified.inspection().handover
                && managed.generations.saved().is_none()
                && store.handed_back().contains(&name);
            let saved_state =
                takes_over.then(|| store.read(&name, verified.manifest().handover.state_max));
            let (deps, linker) = (self.deps.clone(), self.linker.clone());
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
                    let Deps { engine, cache, compiler, places, .. } = &deps;
                    prepare(*verified, engine, cache, compiler, places, &linker)
                })
                .await;
                let outcome = prepared.unwrap_or_else(|panic| {
                    let error = format!("the host failed: {panic}");
                    Err(PrepareError { stage: FailedStage::Link, error, configuration: true })
                });
                let saved_state = OptionFuture::from(saved_state).await.flatten();
                let outcome = Box::new(outcome);
                inbox.send(Message::Prepared { name, ticket, outcome, saved_state }).ok();
            });
        }
    }

    pub(super) fn prepared(
        &mut self,
        name: &PluginName,
        ticket: u64,
        outcome: Result<Linked, PrepareError>,
        saved_state: Option<SavedState>,
    ) {
        let Some(managed) = self.plugins.get_mut(name) else { return };
        // Otherwise something newer was found meanwhile, or nothing any more.
        let Some(preparing) = managed.preparing.take_if(|preparing| preparing.ticket == ticket)
        else {
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
                    route_requests: preparing.route_requests,
                };
                self.problem(name, problem);
                self.publish();
                return;
            }
        };
        if saved_state.is_some() && managed.generations.saved().is_none() {
            managed.generations.set_saved(saved_state);
        }
        // Only the daemon's start waits for what is not there yet, and has a deadline for that.
        let is_to_follow = managed.serving().is_some() || preparing.hold_point != HoldPoint::Open;
        let policy = match (is_to_follow, linked.manifest.required && !self.settled) {
            (true, _) => StartPolicy::Candidate,
            (false, true) => StartPolicy::Required,
            (false, false) => StartPolicy::BestEffort,
        };
        self.start_candidate(name, linked, policy, preparing.hold_point);
    }

    /// Starts a generation that takes over when it is ready, and may.
    pub(super) fn start_candidate(
        &mut self,
        name: &PluginName,
        linked: Linked,
        policy: StartPolicy,
        hold_point: HoldPoint,
    ) {
        let Some(managed) = self.plugins.get_mut(name) else { return };
        self.generations += 1;
        let (number, inbox, sender) = (self.generations, self.inbox.clone(), name.clone());
        let notify = move |event| {
            inbox.send(Message::Worker { name: sender.clone(), generation: number, event }).ok();
        };
        let (journal, executors) = (self.deps.journal.clone(), self.deps.executors.clone());
        let generation = Generation::new(number, linked, policy, journal, executors, notify);
        generation.pool.set_initial_state(managed.generations.initial_state());
        let actions = managed.generations.start_candidate(generation, hold_point, Instant::now());
        self.carry_out(name, actions);
    }
}
