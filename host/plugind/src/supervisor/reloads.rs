//! All reloads: the one in progress, those that wait for it, those that only drain, and the changes that an
//! all-or-nothing reload holds back. No clock and no I/O: what is to be done is returned.

use crate::{
    base::name::PluginName,
    supervisor::{
        compare::FoundContents,
        reload::{ReloadOptions, ReloadState},
        rollout::{HoldPoint, RolloutProgress},
        summary::{Failed, Summary},
    },
};
use std::{
    collections::BTreeSet,
    mem::{replace, take},
};
use tokio::sync::{oneshot, watch};

/// The channel by which a client that requested a reload receives the state of the reload that serves its request.
pub type ReloadReply = oneshot::Sender<watch::Receiver<ReloadState>>;

/// An event of reloads that the daemon reports to systemd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadNotice {
    /// A reload was asked for: it begins, joins the one in progress, or waits for it.
    Begun,
    /// No reload is in progress any more, and none waits.
    Ended,
}

/// Everything about reloads.
#[derive(Default)]
pub struct Reloads {
    /// The one in progress. The first one is the daemon's start.
    current: Option<watch::Sender<ReloadState>>,
    /// Those that begin when the current one is finished, since they are of another kind.
    queue: Vec<Queued>,
    /// Those that have finished, except for generations that drain.
    draining: Vec<watch::Sender<ReloadState>>,
    started: bool,
    scanned: bool,
    unreadable: Option<String>,
    /// The contents that were found last.
    found: FoundContents,
    /// The contents and the failures when an all-or-nothing reload changed nothing.
    refused: Option<(FoundContents, Vec<Failed>)>,
    /// Plugins that are removed when all others can be changed.
    removed: Vec<PluginName>,
    /// Plugins that are there only if all others can be changed.
    added: BTreeSet<PluginName>,
    requested: u64,
    completed: u64,
    /// The directories are to be read once more when they have been read.
    read_again: bool,
    /// Events since they were last taken.
    events: Vec<ReloadNotice>,
}

/// A reload that was asked for while one of another kind is in progress.
struct Queued {
    options: ReloadOptions,
    replies: Vec<ReloadReply>,
    /// Number of requests for it.
    times: u64,
}

/// The next thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Next {
    /// Read the directories.
    Read,
    /// Nothing: something in progress comes first.
    Wait,
}

/// The next step for the plugins of an all-or-nothing reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllOrNothingStep {
    /// Nothing: some of them are not ready yet, or there is no such reload.
    Wait,
    /// One has failed: none of them changes.
    TakeBack,
    /// All are ready: each may be handed the state of the version before it.
    HandOver(Vec<PluginName>),
    /// All can take over at once.
    Commit(Vec<PluginName>),
}

/// A reload that has finished, except for generations that drain.
pub struct Finished {
    /// Its last state.
    pub state: ReloadState,
    /// Somebody watches it.
    pub is_watched: bool,
    /// It was asked for; otherwise it is the daemon's start.
    pub was_requested: bool,
    /// The next step, for the reload that waited for it.
    pub next: Next,
}

impl Reloads {
    /// Whether the daemon's start has begun, so that the next request is a reload.
    #[must_use]
    pub fn has_started(&self) -> bool {
        self.started
    }

    /// Takes a request. One of the kind that is in progress shares its outcome; one of another kind waits for it.
    pub fn request(&mut self, options: ReloadOptions, reply: Option<ReloadReply>) -> Next {
        if !replace(&mut self.started, true) {
            self.current = Some(watch::Sender::new(ReloadState::new(options)));
            return Next::Read;
        }
        self.requested += 1;
        self.events.push(ReloadNotice::Begun);
        let is_of_another_kind =
            |current: &ReloadState| current.options.all_or_nothing != options.all_or_nothing;
        match &self.current {
            Some(current) if is_of_another_kind(&current.borrow()) => {
                self.enqueue(options, reply);
                Next::Wait
            }
            _ => self.begin(options, reply, 1),
        }
    }

    fn enqueue(&mut self, options: ReloadOptions, reply: Option<ReloadReply>) {
        let is_of_its_kind =
            |queued: &&mut Queued| queued.options.all_or_nothing == options.all_or_nothing;
        match self.queue.iter_mut().find(is_of_its_kind) {
            Some(queued) => {
                queued.options.again |= options.again;
                queued.replies.extend(reply);
                queued.times += 1;
            }
            None => {
                let replies = reply.into_iter().collect();
                self.queue.push(Queued { options, replies, times: 1 });
            }
        }
    }

    /// Begins a reload that was asked for this many `times`, or begins the current one again.
    fn begin(
        &mut self,
        options: ReloadOptions,
        replies: impl IntoIterator<Item = ReloadReply>,
        times: u64,
    ) -> Next {
        let was_requested = self.completed + times + self.waiting() < self.requested;
        let is_being_read = self.current.is_some() && !self.is_compared();
        let current = self.current.get_or_insert_with(|| {
            // Nobody sees this one: it is replaced below.
            watch::Sender::new(ReloadState::new(options))
        });
        current.send_modify(|state| {
            // The outcome of the daemon's start is not the outcome of a reload.
            *state =
                if was_requested { state.again(options.again) } else { ReloadState::new(options) };
        });
        for reply in replies {
            // The client may have gone away.
            reply.send(current.subscribe()).ok();
        }
        if is_being_read {
            // Files that changed since may have been read already.
            self.read_again = true;
            return Next::Wait;
        }
        Next::Read
    }

    /// Returns the number of requests that wait.
    fn waiting(&self) -> u64 {
        self.queue.iter().map(|queued| queued.times).sum()
    }

    fn is_compared(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.borrow().is_compared())
    }

    /// Returns the options of the current reload.
    #[must_use]
    pub fn options(&self) -> ReloadOptions {
        self.current.as_ref().map(|current| current.borrow().options).unwrap_or_default()
    }

    /// Returns the point at which new versions of the current reload must wait, if any.
    #[must_use]
    pub fn hold_point(&self) -> HoldPoint {
        if self.options().all_or_nothing { HoldPoint::Closed } else { HoldPoint::Open }
    }

    /// Changes the state of the current reload, if there is one.
    pub fn note(&self, change: impl FnOnce(&mut ReloadState)) {
        if let Some(current) = &self.current {
            current.send_modify(change);
        }
    }

    /// The same, where `change` returns whether those who watch it are to be notified.
    pub fn note_if(&self, change: impl FnOnce(&mut ReloadState) -> bool) {
        if let Some(current) = &self.current {
            current.send_if_modified(change);
        }
    }

    /// The directories could not be read.
    pub fn not_read(&mut self, error: &str) -> Next {
        self.note(|state| state.unreadable = Some(error.to_owned()));
        self.unreadable = Some(error.to_owned());
        self.compared()
    }

    /// This was found in the directories. Returns whether it is the first time that they were read.
    pub fn read(&mut self, found: FoundContents) -> bool {
        self.found = found;
        self.unreadable = None;
        self.removed.clear();
        self.note(ReloadState::compare_again);
        !replace(&mut self.scanned, true)
    }

    /// Whether this plugin was found in the directories.
    #[must_use]
    pub fn has_found(&self, name: &PluginName) -> bool {
        self.found.contains_key(name)
    }

    /// Returns the failures, if this very set was refused as a whole, unless `again` is set: a unit without
    /// `ReloadSignal=` gets SIGHUP after `ExecReload=`, which must not carry out a part of the refused reload.
    pub fn refused_before(&mut self) -> Option<Vec<Failed>> {
        if !self.options().again
            && let Some((found, failed)) = &self.refused
            && *found == self.found
        {
            let failed = failed.clone();
            self.note(|state| failed.iter().cloned().for_each(|failed| state.failed(failed)));
            return Some(failed);
        }
        self.refused = None;
        None
    }

    /// This plugin was not there before. An all-or-nothing reload adds it only with all others.
    pub fn add(&mut self, name: &PluginName) {
        if self.options().all_or_nothing {
            self.added.insert(name.clone());
        }
    }

    /// Whether this plugin is there only if all others can be changed.
    #[must_use]
    pub fn is_held_back(&self, name: &PluginName) -> bool {
        self.added.contains(name)
    }

    /// These plugins were not found any more. Returns those that are removed now, and those that an earlier reading of
    /// the same reload had added.
    pub fn not_found(&mut self, names: Vec<PluginName>) -> (Vec<PluginName>, Vec<PluginName>) {
        if !self.options().all_or_nothing {
            self.added.clear();
            return (names, Vec::new());
        }
        let (added, removed) = names.into_iter().partition(|name| self.added.remove(name));
        self.removed = removed;
        (Vec::new(), added)
    }

    /// Everything that was found has been compared.
    pub fn compared(&mut self) -> Next {
        if take(&mut self.read_again) {
            self.note(|state| *state = state.again(false));
            return Next::Read;
        }
        self.note(ReloadState::compared);
        Next::Wait
    }

    /// Returns the next step for the plugins of an all-or-nothing reload, by the `progress` of each.
    pub fn all_or_nothing_step(
        &mut self,
        progress: impl Fn(&PluginName) -> RolloutProgress,
    ) -> AllOrNothingStep {
        let Some(current) = &self.current else { return AllOrNothingStep::Wait };
        let (failed, pending): (Vec<Failed>, Vec<PluginName>) = {
            let state = current.borrow();
            if !state.options.all_or_nothing || !state.is_compared() || state.taken_back {
                return AllOrNothingStep::Wait;
            }
            if state.unreadable.is_some() {
                return AllOrNothingStep::TakeBack;
            }
            let pending = state.pending().map(|(name, _)| name.clone());
            (state.failed.values().cloned().collect(), pending.collect())
        };
        if !failed.is_empty() {
            self.refused = Some((self.found.clone(), failed));
            return AllOrNothingStep::TakeBack;
        }
        match pending.iter().map(progress).min() {
            None | Some(RolloutProgress::Settled) => AllOrNothingStep::Commit(pending),
            Some(RolloutProgress::Starting) => AllOrNothingStep::Wait,
            Some(_) => AllOrNothingStep::HandOver(pending),
        }
    }

    /// All take over. Returns the plugins that are removed with that.
    pub fn commit(&mut self) -> Vec<PluginName> {
        self.added.clear();
        take(&mut self.removed)
    }

    /// None takes over. Returns the plugins that are not there then, also those that an earlier reading added.
    pub fn take_back(&mut self) -> BTreeSet<PluginName> {
        self.note(ReloadState::take_back);
        self.removed.clear();
        take(&mut self.added)
    }

    /// Nothing is left of this generation.
    pub fn drained(&mut self, name: &PluginName, generation: u64) {
        self.note(|state| {
            state.drained(name, generation);
        });
        self.draining.retain(|reload| {
            reload.send_if_modified(|state| state.drained(name, generation));
            // It is of no interest without anyone who watches it.
            !reload.borrow().is_drained() && reload.receiver_count() > 0
        });
    }

    /// Finishes the current reload if nothing is awaited, and begins the one that waited for it.
    pub fn finish(&mut self) -> Option<Finished> {
        let reload = self.current.take_if(|current| current.borrow().is_settled())?;
        // Those who watch it learn its end by this, and later what drains.
        reload.send_modify(ReloadState::finish);
        let completed = self.requested - self.waiting();
        let was_requested = replace(&mut self.completed, completed) < completed;
        if was_requested && completed == self.requested {
            self.events.push(ReloadNotice::Ended);
        }
        let (state, is_watched) = (reload.borrow().clone(), reload.receiver_count() > 0);
        if !state.is_drained() {
            self.draining.push(reload);
        }
        let next = if self.queue.is_empty() {
            Next::Wait
        } else {
            let Queued { options, replies, times } = self.queue.remove(0);
            self.begin(options, replies, times)
        };
        Some(Finished { state, is_watched, was_requested, next })
    }

    /// Returns the events since the last call, in order.
    pub fn take_events(&mut self) -> Vec<ReloadNotice> {
        take(&mut self.events)
    }

    /// The daemon ends: nothing is reloaded any more.
    pub fn stop(&mut self) {
        self.current = None;
        self.queue.clear();
        self.draining.clear();
    }

    /// Adds its share to the summary. A plugin that was refused and is not there is known only here.
    pub fn sum_up(&self, is_there: impl Fn(&PluginName) -> bool, summary: &mut Summary) {
        summary.scanned = self.scanned;
        summary.unreadable.clone_from(&self.unreadable);
        summary.reloading = self.completed < self.requested;
        let refused = self.refused.iter().flat_map(|(_, failed)| failed);
        summary.failed.extend(refused.filter(|failed| !is_there(&failed.plugin)).cloned());
    }
}

#[cfg(test)]
mod tests;
