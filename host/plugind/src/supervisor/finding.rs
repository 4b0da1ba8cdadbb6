//! The directories are read, and what differs from what there is is set going.

use super::{Supervisor, life::ERROR_MAX};
use crate::{
    chain::Chain,
    claims::Wish,
    compare::{Verdict, compare},
    generation::Generation,
    journal::messages,
    keeper::{Message, RestartError},
    kept::{Kept, Preparing, Problem},
    lifecycle::{Event, Trial},
    link::Linked,
    name::PluginName,
    plugin::{scan::Masked, verify::Verified},
    prepare::{Findings, Means, PrepareError, ReadError, prepare, read},
    reload::Reload,
    summary::Stage,
    text::cut,
    world::bindings::exports::plugind::plugin::lifecycle::StopReason,
};
use std::{
    collections::BTreeSet,
    mem::{replace, take},
    path::Path,
};
use tokio::sync::{oneshot, watch};
use tracing::{error, info, warn};

impl Supervisor {
    /// Has the directories read anew. Who asks while that is under way shares what comes of it.
    pub(super) fn begin_reload(
        &mut self,
        again: bool,
        reply: Option<oneshot::Sender<watch::Receiver<Reload>>>,
    ) {
        let was_asked_for = self.reloads_over < self.reloads_begun;
        // The first reading is the start, which has words of its own.
        if self.begun {
            self.reloads_begun += 1;
            info!(message_id = messages::RELOADING, "reloading");
        }
        self.begun = true;
        let is_being_read =
            self.reload.as_ref().is_some_and(|reload| !reload.borrow().is_compared());
        match &self.reload {
            Some(reload) if was_asked_for => {
                reload.send_modify(|reload| *reload = reload.anew(again))
            }
            // What the start brought is nothing that changed.
            Some(reload) => drop(reload.send_replace(Reload::new(again))),
            None => self.reload = Some(watch::Sender::new(Reload::new(again))),
        }
        if let (Some(reply), Some(reload)) = (reply, &self.reload) {
            // Whoever asked may have gone away.
            reply.send(reload.subscribe()).ok();
        }
        if is_being_read {
            // It may have been read already what has changed since.
            self.read_again = true;
        } else {
            self.read();
        }
    }

    fn read(&self) {
        let serving = self.plugins.values().filter_map(Kept::serving);
        let directories = serving.filter_map(|serving| serving.pool.linked().path.parent());
        let expected = directories.map(Path::to_owned).collect();
        let search_path = self.means.search_path.clone().expecting(expected);
        let inbox = self.inbox.clone();
        tokio::spawn(async move {
            let read = tokio::task::spawn_blocking(move || read(&search_path)).await;
            let outcome = read.unwrap_or_else(|panic| Err(ReadError::Host(panic.to_string())));
            // Nobody is there to hear it only when the daemon is ending.
            inbox.send(Message::Read(outcome)).ok();
        });
    }

    /// Notes what came of something that the reload under way may wait for.
    pub(super) fn note(&self, change: impl FnOnce(&mut Reload)) {
        if let Some(reload) = &self.reload {
            reload.send_modify(change);
        }
    }

    pub(super) fn keep_last_good_set(&mut self, error: &ReadError) {
        let told = cut(&Chain(error).to_string(), ERROR_MAX).into_owned();
        error!(message_id = messages::UNREADABLE, stage = %Stage::Scan, error = told, "directories not read");
        self.note(|reload| reload.unreadable = Some(told.clone()));
        self.unreadable = Some(told);
        self.compared();
    }

    /// Sets going what was found to differ from what there is.
    pub(super) fn take_stock(&mut self, findings: Findings) {
        for stray in &findings.strays {
            warn!(stage = %Stage::Scan, error = %stray, "not a plugin");
        }
        for Masked { name, by } in &findings.masked {
            info!(plugin = %name, by = %by.display(), "plugin masked");
        }
        (self.scanned, self.unreadable) = (true, None);
        let mut found = BTreeSet::new();
        let again = self.reload.as_ref().is_none_or(|reload| reload.borrow().again);
        for (name, verdict) in compare(findings.plugins, &self.plugins, again) {
            self.plugins.entry(name.clone()).or_default().removed = false;
            match verdict {
                Verdict::Same => {
                    self.note(|reload| reload.unchanged += 1);
                    self.leave_as_it_is(&name);
                }
                Verdict::OnItsWay => self.note(|reload| reload.await_plugin(&name)),
                Verdict::KnownToFail(problem) => {
                    self.want_nothing_else(&name);
                    self.note(|reload| reload.failed(problem.failed(&name)));
                }
                Verdict::Changed { verified, wishes } => {
                    self.note(|reload| reload.await_plugin(&name));
                    self.take_up(*verified, wishes);
                }
                Verdict::Bad(problem) => self.problem(&name, problem),
            }
            found.insert(name);
        }
        let vanished = self.plugins.keys().filter(|name| !found.contains(*name)).cloned();
        for name in vanished.collect::<Vec<_>>() {
            self.remove(&name, StopReason::Removed);
        }
        self.publish();
        self.compared();
    }

    fn compared(&mut self) {
        if take(&mut self.read_again) {
            self.note(|reload| *reload = reload.anew(false));
            self.read();
        } else {
            self.note(Reload::compared);
        }
    }

    pub(super) fn finish_reload(&mut self) {
        let Some(reload) = self.reload.take_if(|reload| reload.borrow().is_over()) else { return };
        // By letting go of it those who watch it see that it is over.
        let Reload { changed, failed, removed, unchanged, unreadable, .. } = &*reload.borrow();
        for name in failed.keys() {
            let problem = self.plugins.get_mut(name).and_then(|kept| kept.problem.as_mut());
            if let Some(problem) = problem {
                problem.told |= reload.receiver_count() > 0;
            }
        }
        let was_asked_for =
            replace(&mut self.reloads_over, self.reloads_begun) < self.reloads_begun;
        if was_asked_for && unreadable.is_none() {
            let (changed, failed, removed) = (changed.len(), failed.len(), removed.len());
            info!(message_id = messages::RELOADED, changed, failed, removed, unchanged, "reloaded");
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
    fn want_nothing_else(&mut self, name: &PluginName) {
        if let Some(kept) = self.plugins.get_mut(name) {
            kept.preparing = None;
        }
        self.dismiss_candidate(name);
        self.restarted(name, &Err(RestartError::TakenBack));
    }

    /// Has a version that was found compiled and linked.
    fn take_up(&mut self, verified: Verified, wishes: Vec<Wish>) {
        let name = verified.name().clone();
        let Some(kept) = self.plugins.get_mut(&name) else { return };
        self.tickets += 1;
        let ticket = self.tickets;
        let (digest, manifest) = (*verified.digest(), verified.manifest().clone());
        kept.preparing = Some(Preparing { ticket, digest, manifest, wishes });
        self.dismiss_candidate(&name);

        let (means, linker) = (self.means.clone(), self.linker.clone());
        let (at_work, inbox) = (self.at_work.clone(), self.inbox.clone());
        tokio::spawn(async move {
            // It is never closed.
            let _permit = at_work.acquire_owned().await;
            let prepared = tokio::task::spawn_blocking(move || {
                let Means { engine, cache, compiler, places, .. } = &means;
                prepare(verified, engine, cache, compiler, places, &linker)
            })
            .await;
            let outcome = prepared.unwrap_or_else(|panic| {
                let error = format!("the host failed: {panic}");
                Err(PrepareError { stage: Stage::Link, error, configuration: true })
            });
            inbox.send(Message::Prepared { name, ticket, outcome: Box::new(outcome) }).ok();
        });
    }

    pub(super) fn prepared(
        &mut self,
        name: &PluginName,
        ticket: u64,
        outcome: Result<Linked, PrepareError>,
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
                let problem = Problem {
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
        // Only the daemon's start waits for what is not there yet, and has a deadline for that.
        let trial = match (kept.serving().is_some(), linked.manifest.required && !self.settled) {
            (true, _) => Trial::Candidate,
            (false, true) => Trial::Required,
            (false, false) => Trial::BestEffort,
        };
        self.try_out(name, linked, trial);
    }

    /// Starts a generation that takes over when it is ready.
    pub(super) fn try_out(&mut self, name: &PluginName, linked: Linked, trial: Trial) {
        let Some(kept) = self.plugins.get_mut(name) else { return };
        self.generations += 1;
        let (number, inbox, sender) = (self.generations, self.inbox.clone(), name.clone());
        let tell = move |news| {
            inbox.send(Message::Worker { name: sender.clone(), generation: number, news }).ok();
        };
        kept.candidate =
            Some(Generation::new(number, linked, trial, self.means.journal.clone(), tell));
        self.event(name, number, Event::Start);
    }
}
