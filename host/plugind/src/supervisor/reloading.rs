//! The directories are read, and what differs from what there is is set going.

use crate::supervisor::{Queued, Reply, Supervisor, transitions::ERROR_MAX};
use crate::{
    base::{error_chain::ErrorChain, name::PluginName, text::cut},
    journal::messages,
    plugin::{scan::Masked, verify::Verified},
    route::owners::RouteRequest,
    supervisor::{
        compare::{Change, compare, found},
        generation::Generation,
        handle::{Message, RestartError},
        lifecycle::StartPolicy,
        plugin::{ManagedPlugin, PluginProblem, Preparing},
        prepare::{Deps, DirectoriesError, PrepareError, ScanReport, prepare, read},
        reload::{ReloadOptions, ReloadState},
        rollout::{HoldPoint, SavedState},
        summary::FailedStage,
    },
    world::{bindings::exports::plugind::plugin::lifecycle::StopReason, link::Linked},
};
use futures::future::OptionFuture;
use std::{
    mem::{replace, take},
    path::Path,
    sync::Arc,
    time::Instant,
};
use tokio::sync::watch;
use tracing::{error, info, warn};

/// How many ignored files a reload reports; the log has all of them.
const IGNORED_MAX: usize = 50;

impl Supervisor {
    /// Has the directories read anew. Who asks while that is under way shares what comes of it; only a reload of
    /// another kind waits for it.
    pub(super) fn ask_for_reload(&mut self, terms: ReloadOptions, reply: Option<Reply>) {
        // The first reading is the start, which has words of its own.
        if !replace(&mut self.begun, true) {
            self.reload = Some(watch::Sender::new(ReloadState::new(terms)));
            self.read();
            return;
        }
        self.reloads_begun += 1;
        info!(message_id = messages::RELOADING, "reloading");
        let under_way = self.reload.as_ref().map(|reload| reload.borrow().terms.all_or_nothing);
        if under_way.is_some_and(|all_or_nothing| all_or_nothing != terms.all_or_nothing) {
            self.queue(terms, reply);
        } else {
            self.begin_reload(terms, reply, 1);
        }
    }

    /// Lets a reload wait until the one is over that is under way.
    fn queue(&mut self, terms: ReloadOptions, reply: Option<Reply>) {
        let is_of_its_kind =
            |queued: &&mut Queued| queued.terms.all_or_nothing == terms.all_or_nothing;
        match self.queued.iter_mut().find(is_of_its_kind) {
            Some(queued) => {
                queued.terms.again |= terms.again;
                queued.replies.extend(reply);
                queued.times += 1;
            }
            None => {
                self.queued.push(Queued { terms, replies: reply.into_iter().collect(), times: 1 });
            }
        }
    }

    /// Begins a reload that was asked for so many `times`, or has the one that is under way begin anew.
    fn begin_reload(
        &mut self,
        terms: ReloadOptions,
        replies: impl IntoIterator<Item = Reply>,
        times: u64,
    ) {
        let waiting: u64 = self.queued.iter().map(|queued| queued.times).sum();
        let was_asked_for = self.reloads_over + times + waiting < self.reloads_begun;
        let is_being_read =
            self.reload.as_ref().is_some_and(|reload| !reload.borrow().is_compared());
        match &self.reload {
            Some(reload) if was_asked_for => {
                reload.send_modify(|reload| *reload = reload.anew(terms.again));
            }
            // What the start brought is nothing that changed.
            Some(reload) => drop(reload.send_replace(ReloadState::new(terms))),
            None => self.reload = Some(watch::Sender::new(ReloadState::new(terms))),
        }
        if let Some(reload) = &self.reload {
            for reply in replies {
                // Whoever asked may have gone away.
                reply.send(reload.subscribe()).ok();
            }
        }
        if is_being_read {
            // It may have been read already what has changed since.
            self.read_again = true;
        } else {
            self.read();
        }
    }

    fn read(&self) {
        let serving = self.plugins.values().filter_map(ManagedPlugin::serving);
        let directories = serving.filter_map(|serving| serving.pool.linked().path.parent());
        let expected = directories.map(Path::to_owned).collect();
        let search_path = self.means.search_path.clone().expecting(expected);
        let inbox = self.inbox.clone();
        tokio::spawn(async move {
            let read = tokio::task::spawn_blocking(move || read(&search_path)).await;
            let outcome =
                read.unwrap_or_else(|panic| Err(DirectoriesError::Host(panic.to_string())));
            // Nobody is there to hear it only when the daemon is ending.
            inbox.send(Message::Read(outcome)).ok();
        });
    }

    /// Notes what came of something that the reload under way may wait for.
    pub(super) fn note(&self, change: impl FnOnce(&mut ReloadState)) {
        if let Some(reload) = &self.reload {
            reload.send_modify(change);
        }
    }

    pub(super) fn keep_last_good_set(&mut self, error: &DirectoriesError) {
        let told = cut(&ErrorChain(error).to_string(), ERROR_MAX).into_owned();
        error!(message_id = messages::UNREADABLE, stage = %FailedStage::Scan, error = told, "directories not read");
        self.note(|reload| reload.unreadable = Some(told.clone()));
        self.unreadable = Some(told);
        self.compared();
    }

    /// Sets going what was found to differ from what there is.
    pub(super) fn take_stock(&mut self, findings: ScanReport) {
        for ignored in &findings.strays {
            warn!(stage = %FailedStage::Scan, error = %ignored, "file ignored");
        }
        let ignored = findings.strays.iter().take(IGNORED_MAX);
        self.ignored = ignored.map(ToString::to_string).collect();
        for Masked { name, by } in &findings.masked {
            info!(plugin = %name, by = %by.display(), "plugin masked");
        }
        self.found = found(&findings.plugins);
        self.unreadable = None;
        let ignored = self.ignored.clone();
        self.note(|reload| {
            reload.judge_anew();
            reload.ignored = ignored;
        });
        if !replace(&mut self.scanned, true) {
            self.let_go_of_strangers();
        }
        let terms = self.reload.as_ref().map(|reload| reload.borrow().terms).unwrap_or_default();
        if self.is_refused_already(terms) {
            return self.compared();
        }
        let verdicts = compare(findings.plugins, &self.plugins, terms);
        if terms.all_or_nothing && self.is_refused(&verdicts) {
            return self.compared();
        }
        self.vanished.clear();
        let gate = if terms.all_or_nothing { HoldPoint::Closed } else { HoldPoint::Open };
        for (name, verdict) in verdicts {
            if terms.all_or_nothing && !self.plugins.contains_key(&name) {
                self.newcomers.insert(name.clone());
            }
            self.plugins.entry(name.clone()).or_default().removed = false;
            match verdict {
                Change::Same => {
                    self.note(|reload| reload.unchanged += 1);
                    self.leave_as_it_is(&name);
                }
                Change::OnItsOwnWay => self.note(|reload| reload.unchanged += 1),
                Change::OnItsWay => self.note(|reload| reload.await_plugin(&name)),
                Change::KnownToFail(problem) => {
                    self.want_nothing_else(&name);
                    self.note(|reload| reload.failed(problem.failed(&name)));
                }
                Change::Changed { verified, wishes } => {
                    self.note(|reload| reload.await_plugin(&name));
                    self.take_up(verified, wishes, gate);
                }
                Change::Bad(problem) => self.problem(&name, problem),
            }
        }
        if !terms.all_or_nothing {
            self.newcomers.clear();
        }
        let vanished = self.plugins.keys().filter(|name| !self.found.contains_key(*name)).cloned();
        let vanished: Vec<_> = vanished.collect();
        if terms.all_or_nothing {
            // What was not there before is not there again, and nothing that is removed.
            let (newcomers, vanished): (Vec<_>, _) =
                vanished.into_iter().partition(|name| self.newcomers.remove(name));
            self.vanished = vanished;
            for name in newcomers {
                self.want_nothing_else(&name);
                self.forget(&name);
            }
        } else {
            for name in vanished {
                self.remove(&name, StopReason::Removed);
            }
        }
        self.publish();
        self.compared();
    }

    fn compared(&mut self) {
        if take(&mut self.read_again) {
            self.note(|reload| *reload = reload.anew(false));
            self.read();
        } else {
            self.note(ReloadState::compared);
        }
    }

    /// Notes how far the new versions are that the reload under way waits for.
    pub(super) fn note_steps(&self) {
        let Some(reload) = &self.reload else { return };
        reload.send_if_modified(|reload| {
            let pending: Vec<_> = reload.pending().map(|(name, _)| name.clone()).collect();
            let mut is_news = false;
            for name in pending {
                let step = self.plugins.get(&name).and_then(ManagedPlugin::step);
                is_news |= step.is_some_and(|step| reload.came_to(&name, step));
            }
            is_news
        });
    }

    pub(super) fn finish_reload(&mut self) {
        let Some(reload) = self.reload.take_if(|reload| reload.borrow().is_settled()) else {
            return;
        };
        // Those who watch it are told of its end by this, and of what drains later.
        reload.send_modify(ReloadState::finish);
        let waiting: u64 = self.queued.iter().map(|queued| queued.times).sum();
        let over = self.reloads_begun - waiting;
        let was_asked_for = replace(&mut self.reloads_over, over) < over;
        {
            let ReloadState { changed, failed, removed, unchanged, unreadable, .. } =
                &*reload.borrow();
            for name in failed.keys() {
                let problem = self.plugins.get_mut(name).and_then(|kept| kept.problem.as_mut());
                if let Some(problem) = problem {
                    problem.told |= reload.receiver_count() > 0;
                }
            }
            if was_asked_for && unreadable.is_none() {
                let (changed, failed, removed) = (changed.len(), failed.len(), removed.len());
                info!(
                    message_id = messages::RELOADED,
                    changed, failed, removed, unchanged, "reloaded"
                );
            }
        }
        if !reload.borrow().is_drained() {
            self.draining.push(reload);
        }
        if !self.queued.is_empty() {
            let Queued { terms, replies, times } = self.queued.remove(0);
            self.begin_reload(terms, replies, times);
        }
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
                    told: false,
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
        let trial = match (is_to_follow, linked.manifest.required && !self.settled) {
            (true, _) => StartPolicy::Candidate,
            (false, true) => StartPolicy::Required,
            (false, false) => StartPolicy::BestEffort,
        };
        self.try_out(name, linked, trial, preparing.gate);
    }

    /// Starts a generation that takes over when it is ready, and may.
    pub(super) fn try_out(
        &mut self,
        name: &PluginName,
        linked: Linked,
        trial: StartPolicy,
        gate: HoldPoint,
    ) {
        let Some(kept) = self.plugins.get_mut(name) else { return };
        self.generations += 1;
        let (number, inbox, sender) = (self.generations, self.inbox.clone(), name.clone());
        let tell = move |news| {
            inbox.send(Message::Worker { name: sender.clone(), generation: number, news }).ok();
        };
        let generation = Generation::new(number, linked, trial, self.means.journal.clone(), tell);
        generation.pool.set_inheritance(kept.generations.inheritance());
        let orders = kept.generations.try_out(generation, gate, Instant::now());
        self.carry_out(name, orders);
    }
}
