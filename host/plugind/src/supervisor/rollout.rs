//! The generations of one plugin, and which of them serves, as a table: the effects of one generation's lifecycle on
//! the others.
//!
//! No clock, no I/O, no guest: events come in, actions go out. At most one generation serves at a time, at most one is
//! on its way to take its place, and an event of a number that no longer exists changes nothing.

use crate::{
    supervisor::lifecycle::{Demand, Effect, Event, Lifecycle, LifecycleState},
    world::bindings::exports::plugind::plugin::lifecycle::StopReason,
};
use std::{mem::replace, sync::Arc, time::Instant};

/// The state that one generation hands over to the next.
pub type SavedState = Arc<[u8]>;

/// The properties of a generation that a rollout needs.
pub trait Stage {
    /// It tells the generations apart, and grows.
    fn number(&self) -> u64;
    /// Returns its place in the lifecycle.
    fn lifecycle(&self) -> &Lifecycle;
    /// Its lifecycle.
    fn lifecycle_mut(&mut self) -> &mut Lifecycle;
    /// Whether it can hand over its state, and take over a state.
    fn hands_over(&self) -> bool;
    /// The reason that its `stop` receives.
    fn leave_for(&mut self, reason: StopReason);
}

/// The point at which a candidate must wait, if any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HoldPoint {
    /// It waits when it is ready.
    Closed,
    /// It may take over the state of the previous generation, and waits then.
    HandOver,
    /// It takes over.
    Open,
}

/// The progress of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RolloutProgress {
    /// It is being started.
    Starting,
    /// It could serve.
    Ready,
    /// The previous generation holds its work and is saving its state.
    Saving,
    /// It is restoring that state.
    Restoring,
    /// It has restored the state, or there was none to restore.
    Settled,
}

/// The action to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RolloutAction {
    /// Something for this generation alone; never [`Effect::Publish`] or [`Effect::Withdraw`].
    Do(u64, Effect),
    /// Another generation serves now, or none does.
    Publish,
    /// This generation has taken the place of the other one, which leaves.
    Swapped {
        /// The one that serves now.
        new: u64,
        /// The one that served before.
        old: Option<u64>,
    },
    /// It must hold new work, finish its calls, and save its state.
    Save(u64),
    /// It is to take work again.
    Resume(u64),
    /// It is to be given this.
    Restore(u64, SavedState),
    /// It has come to this state.
    Concluded(u64, LifecycleState),
    /// It was ready, and failed before it took over.
    CandidateFailed(u64),
    /// It failed before it had saved its state.
    SaverFailed(u64),
}

/// The generations of one plugin.
pub struct Rollout<G> {
    current: Option<G>,
    candidate: Option<G>,
    leaving: Vec<G>,
    progress: RolloutProgress,
    hold_point: HoldPoint,
    /// The candidate was given what was saved last when it was started.
    has_initial_state: bool,
    /// The current one saves for the last time.
    final_save: Option<StopReason>,
    /// The state that was saved last.
    saved: Option<SavedState>,
}

impl<G> Default for Rollout<G> {
    fn default() -> Self {
        Self {
            current: None,
            candidate: None,
            leaving: Vec::new(),
            progress: RolloutProgress::Starting,
            hold_point: HoldPoint::Open,
            has_initial_state: false,
            final_save: None,
            saved: None,
        }
    }
}

impl<G: Stage> Rollout<G> {
    /// The one that serves, or did until it failed.
    #[must_use]
    pub fn current(&self) -> Option<&G> {
        self.current.as_ref()
    }

    /// The one that is to take its place.
    #[must_use]
    pub fn candidate(&self) -> Option<&G> {
        self.candidate.as_ref()
    }

    /// The one to which work comes.
    #[must_use]
    pub fn serving(&self) -> Option<&G> {
        let serves = |state| matches!(state, LifecycleState::Active | LifecycleState::Recovering);
        self.current.as_ref().filter(|current| serves(current.lifecycle().state()))
    }

    /// The generations that finish their requests.
    #[must_use]
    pub fn leaving(&self) -> &[G] {
        &self.leaving
    }

    /// Returns the progress of the candidate.
    #[must_use]
    pub fn progress(&self) -> RolloutProgress {
        self.progress
    }

    /// Returns the point at which the candidate must wait, if any.
    #[must_use]
    pub fn hold_point(&self) -> HoldPoint {
        self.hold_point
    }

    /// The state that was saved last.
    #[must_use]
    pub fn saved(&self) -> Option<&SavedState> {
        self.saved.as_ref()
    }

    /// Sets the state that was saved last, or forgets it.
    pub fn set_saved(&mut self, saved: Option<SavedState>) {
        self.saved = saved;
    }

    /// Whether the current one saves its state for the last time, and then ends.
    #[must_use]
    pub fn is_final_save(&self) -> bool {
        self.final_save.is_some()
    }

    /// The generation with this number.
    pub fn get_mut(&mut self, number: u64) -> Option<&mut G> {
        let all = self.current.iter_mut().chain(&mut self.candidate).chain(&mut self.leaving);
        all.into_iter().find(|generation| generation.number() == number)
    }

    /// Returns the state that the next candidate's instances have from the start, since no instance can hand it over.
    #[must_use]
    pub fn initial_state(&self) -> Option<SavedState> {
        // One that waits for its next instance may save by the time it is asked.
        let may_save = self.serving().is_some_and(Stage::hands_over);
        self.saved.clone().filter(|_| !may_save)
    }

    /// Starts a candidate in the place of the previous candidate, if there is one.
    pub fn start_candidate(
        &mut self,
        candidate: G,
        hold_point: HoldPoint,
        now: Instant,
    ) -> Vec<RolloutAction> {
        let mut actions = self.give_up(now);
        let number = candidate.number();
        self.has_initial_state = self.initial_state().is_some();
        (self.candidate, self.progress, self.hold_point) =
            (Some(candidate), RolloutProgress::Starting, hold_point);
        self.advance(number, Event::Start, now, &mut actions);
        actions
    }

    /// Something happened to this generation.
    pub fn handle(&mut self, number: u64, event: Event, now: Instant) -> Vec<RolloutAction> {
        let mut actions = Vec::new();
        self.advance(number, event, now, &mut actions);
        actions
    }

    /// Lets the candidate go further.
    pub fn open(&mut self, hold_point: HoldPoint, now: Instant) -> Vec<RolloutAction> {
        let mut actions = Vec::new();
        self.hold_point = self.hold_point.max(hold_point);
        self.proceed(now, &mut actions);
        actions
    }

    /// This generation saved its state, if it had any.
    pub fn has_saved(
        &mut self,
        number: u64,
        saved_state: Option<SavedState>,
        now: Instant,
    ) -> Vec<RolloutAction> {
        let mut actions = Vec::new();
        if self.current.as_ref().is_none_or(|current| current.number() != number) {
            return actions;
        }
        if let Some(reason) = self.final_save {
            self.saved = saved_state;
            return self.remove(reason, now);
        }
        let Some(candidate) =
            self.candidate.as_ref().filter(|_| self.progress == RolloutProgress::Saving)
        else {
            return actions;
        };
        self.saved = saved_state;
        // A candidate without an instance takes it over when it gets one.
        if let Some(saved) = self.saved.as_ref().filter(|_| !has_no_instance(candidate)) {
            self.progress = RolloutProgress::Restoring;
            actions.push(RolloutAction::Restore(candidate.number(), saved.clone()));
        } else {
            self.progress = RolloutProgress::Settled;
            self.proceed(now, &mut actions);
        }
        actions
    }

    /// The one that was to save its state has failed for good. The candidate follows with what was saved last.
    pub fn skip_save(&mut self, now: Instant) -> Vec<RolloutAction> {
        let mut actions = Vec::new();
        if self.progress == RolloutProgress::Saving {
            self.progress = RolloutProgress::Ready;
            self.proceed(now, &mut actions);
        }
        actions
    }

    /// This generation restored the state of the previous one.
    pub fn has_restored(&mut self, number: u64, now: Instant) -> Vec<RolloutAction> {
        let mut actions = Vec::new();
        let is_candidate =
            self.candidate.as_ref().is_some_and(|candidate| candidate.number() == number);
        if is_candidate && self.progress == RolloutProgress::Restoring {
            self.progress = RolloutProgress::Settled;
            self.proceed(now, &mut actions);
        }
        actions
    }

    /// Gives up the candidate. The current generation continues as before.
    pub fn give_up(&mut self, now: Instant) -> Vec<RolloutAction> {
        let mut actions = Vec::new();
        let Some(candidate) = self.candidate.take() else { return actions };
        let held = matches!(
            replace(&mut self.progress, RolloutProgress::Starting),
            RolloutProgress::Saving | RolloutProgress::Restoring | RolloutProgress::Settled
        );
        if let Some(current) = self.current.as_ref().filter(|_| held) {
            actions.push(RolloutAction::Resume(current.number()));
        }
        self.shut_down(candidate, StopReason::Stop, now, &mut actions);
        actions
    }

    /// Removes all generations, after the state was saved if that is possible.
    pub fn save_and_stop(&mut self, reason: StopReason, now: Instant) -> Vec<RolloutAction> {
        let mut actions = self.give_up(now);
        match self.current.as_ref().filter(|_| self.can_save()) {
            Some(_) if self.final_save.is_some() => (),
            Some(current) => {
                actions.push(RolloutAction::Save(current.number()));
                self.final_save = Some(reason);
            }
            None => actions.extend(self.remove(reason, now)),
        }
        actions
    }

    /// Removes all generations.
    pub fn remove(&mut self, reason: StopReason, now: Instant) -> Vec<RolloutAction> {
        let mut actions = self.give_up(now);
        self.final_save = None;
        if let Some(current) = self.current.take() {
            actions.push(RolloutAction::Publish);
            self.shut_down(current, reason, now, &mut actions);
        }
        actions
    }

    fn can_save(&self) -> bool {
        let is_able = |current: &G| {
            current.hands_over() && current.lifecycle().state() == LifecycleState::Active
        };
        self.current.as_ref().is_some_and(is_able)
    }

    fn advance(
        &mut self,
        number: u64,
        event: Event,
        now: Instant,
        actions: &mut Vec<RolloutAction>,
    ) {
        let is = |generation: &Option<G>| {
            generation.as_ref().is_some_and(|generation| generation.number() == number)
        };
        let (is_current, is_candidate) = (is(&self.current), is(&self.candidate));
        let Some(generation) = self.get_mut(number) else { return };
        let lifecycle = generation.lifecycle_mut();
        let before = lifecycle.state();
        let effects = lifecycle.handle(event, now);
        let after = lifecycle.state();
        let mut is_ready = after == LifecycleState::Inactive && before != after;
        for effect in effects {
            match effect {
                Effect::Publish | Effect::Withdraw if is_current => {
                    actions.push(RolloutAction::Publish)
                }
                Effect::Publish => is_ready = true,
                // It was never published, or the one that took its place has been.
                Effect::Withdraw => (),
                effect => actions.push(RolloutAction::Do(number, effect)),
            }
        }
        if is_candidate && is_ready && self.progress == RolloutProgress::Starting {
            self.progress = RolloutProgress::Ready;
            self.proceed(now, actions);
        }
        if before != after {
            actions.push(RolloutAction::Concluded(number, after));
        }
        if after == LifecycleState::Gone {
            self.leaving.retain(|generation| generation.number() != number);
        }
        // Taken over or not, it has not left yet.
        let is_waiting = is(&self.candidate) && self.progress != RolloutProgress::Starting;
        let has_failed = matches!(
            event,
            Event::InstanceFailed { .. } | Event::StartFailed { others: false, .. }
        );
        if is_waiting && has_failed {
            actions.push(RolloutAction::CandidateFailed(number));
        }
        let saves = self.final_save.is_some()
            || (self.candidate.is_some() && self.progress == RolloutProgress::Saving);
        // Another instance may be started at once, and knows nothing of the order to save.
        if is_current && saves && (has_failed || after != LifecycleState::Active) {
            actions.push(RolloutAction::SaverFailed(number));
        }
    }

    fn proceed(&mut self, now: Instant, actions: &mut Vec<RolloutAction>) {
        let Some(candidate) = &self.candidate else { return };
        if self.final_save.is_some() {
            return;
        }
        let number = candidate.number();
        if self.progress == RolloutProgress::Ready && self.hold_point >= HoldPoint::HandOver {
            let restores = candidate.hands_over() && !has_no_instance(candidate);
            let saved = self.saved.clone().filter(|_| restores && !self.has_initial_state);
            let saver = self.current.as_ref().filter(|_| candidate.hands_over() && self.can_save());
            self.progress = match (saver, saved) {
                (Some(current), _) => {
                    actions.push(RolloutAction::Save(current.number()));
                    RolloutProgress::Saving
                }
                // The one that had it failed meanwhile.
                (None, Some(saved)) => {
                    actions.push(RolloutAction::Restore(number, saved));
                    RolloutProgress::Restoring
                }
                (None, None) => RolloutProgress::Settled,
            };
        }
        if self.progress == RolloutProgress::Settled && self.hold_point == HoldPoint::Open {
            self.progress = RolloutProgress::Starting;
            if !candidate.hands_over() {
                // The saved state ends here: a later version must not find one older than the version before it.
                self.saved = None;
            }
            let old = replace(&mut self.current, self.candidate.take());
            let old_number = old.as_ref().map(Stage::number);
            actions.push(RolloutAction::Swapped { new: number, old: old_number });
            if let Some(old) = old {
                self.shut_down(old, StopReason::Reload, now, actions);
            }
        }
    }

    fn shut_down(
        &mut self,
        mut generation: G,
        reason: StopReason,
        now: Instant,
        actions: &mut Vec<RolloutAction>,
    ) {
        let number = generation.number();
        generation.leave_for(reason);
        self.leaving.push(generation);
        self.advance(number, Event::ShutDown, now, actions);
    }
}

/// Whether it was tried, and gets its first instance when there is work for it.
fn has_no_instance(generation: &impl Stage) -> bool {
    generation.lifecycle().demand() == Demand::Idle
}

#[cfg(test)]
mod tests;
