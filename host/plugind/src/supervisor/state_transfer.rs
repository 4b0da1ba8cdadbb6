//! What one generation keeps in its memory goes to the next one, within a time; and to the next daemon.

use crate::supervisor::{Supervisor, transitions::send_after};
use crate::{
    base::name::PluginName,
    pool::failure::Failure,
    supervisor::{
        handle::Message,
        plugin::{HandoverProgress, PluginProblem},
        rollout::{RolloutProgress, SavedState},
    },
    world::bindings::exports::plugind::plugin::lifecycle::StopReason,
};
use std::time::Instant;

impl Supervisor {
    /// This generation is to hold new work and save what it keeps.
    pub(super) fn save(&mut self, name: &PluginName, number: u64) {
        self.tickets += 1;
        let ticket = self.tickets;
        let Some(kept) = self.plugins.get_mut(name) else { return };
        let Some(generation) = kept.generations.get_mut(number) else { return };
        let time = generation.manifest().handover.timeout;
        kept.handover = HandoverProgress { ticket, save: generation.pool.save() };
        send_after(
            self.inbox.clone(),
            time,
            Message::HandoverDue { name: name.clone(), number: ticket },
        );
    }

    /// This generation saved what it keeps, or could not.
    pub(super) fn saved(
        &mut self,
        name: &PluginName,
        number: u64,
        save: u64,
        outcome: Result<Option<SavedState>, Failure>,
    ) {
        let Some(kept) = self.plugins.get_mut(name) else { return };
        let is_current = kept.generations.current().is_some_and(|current| current.number == number);
        if !is_current || kept.handover.save != save {
            return;
        }
        match outcome {
            Ok(saved_state) => {
                match &saved_state {
                    Some(state) => self.deps.store.put(name, state.clone()),
                    None => self.deps.store.remove(name),
                }
                // If it goes on after all, whoever takes the place of its instance begins with that.
                if let Some(current) = kept.generations.current() {
                    current.pool.set_initial_state(saved_state.clone());
                }
                let orders = kept.generations.has_saved(number, saved_state, Instant::now());
                self.carry_out(name, orders);
            }
            Err(failure) => {
                let error = format!("the old version failed to hand over: {failure}");
                self.handover_failed(name, failure.result(), error);
            }
        }
    }

    /// This generation was given what the one before it kept, or does not take it.
    pub(super) fn restored(
        &mut self,
        name: &PluginName,
        number: u64,
        outcome: Result<(), Failure>,
    ) {
        let Some(kept) = self.plugins.get_mut(name) else { return };
        match outcome {
            Ok(()) => {
                let orders = kept.generations.has_restored(number, Instant::now());
                self.carry_out(name, orders);
            }
            Err(failure)
                if kept
                    .generations
                    .candidate()
                    .is_some_and(|candidate| candidate.number == number) =>
            {
                let error = format!("the new version failed to take over: {failure}");
                self.handover_failed(name, failure.result(), error);
            }
            Err(_) => (),
        }
    }

    pub(super) fn handover_due(&mut self, name: &PluginName, ticket: u64) {
        let Some(kept) = self.plugins.get(name).filter(|kept| kept.handover.ticket == ticket)
        else {
            return;
        };
        let is_under_way = match kept.generations.progress() {
            RolloutProgress::Saving | RolloutProgress::Restoring => true,
            // Work is held until all others are so far, too.
            RolloutProgress::Settled => kept.is_at_hold_point(),
            RolloutProgress::Starting | RolloutProgress::Ready => false,
        };
        if !is_under_way && !kept.generations.is_final_save() {
            return;
        }
        let current = kept.generations.current();
        let time = current.map(|current| current.manifest().handover.timeout).unwrap_or_default();
        let time = humantime::format_duration(time);
        let why = match kept.generations.progress() {
            RolloutProgress::Restoring => "the `restore` of the new version has not returned",
            RolloutProgress::Settled => "other plugins took longer",
            _ if current.is_some_and(|current| current.pool.has_begun_to_save()) => {
                "the `save` of the old version has not returned"
            }
            _ => "what the old version has under way has to end first, and does not",
        };
        let error = format!(
            "nothing was handed over within {time}: {why}; handover.timeout-sec gives it longer"
        );
        self.handover_failed(name, "timeout", error);
    }

    /// The one that serves goes on, or ends without having saved if it was to end.
    pub(super) fn handover_failed(
        &mut self,
        name: &PluginName,
        result: &'static str,
        error: String,
    ) {
        let Some(kept) = self.plugins.get_mut(name) else { return };
        if kept.generations.is_final_save() {
            tracing::warn!(plugin = %name, result, error, "state not saved");
            self.remove(name, StopReason::Shutdown);
            return;
        }
        let Some(candidate) = kept.generations.candidate() else { return };
        let problem = PluginProblem::of_handover(candidate, result, error);
        self.problem(name, problem);
        self.publish();
    }

    /// Removes the states that a daemon before this one left for plugins that are not there any more.
    pub(super) fn remove_orphaned_states(&self) {
        let store = &self.deps.store;
        let orphaned = store.handed_back().iter().filter(|name| !self.reloads.has_found(name));
        orphaned.for_each(|name| store.remove(name));
    }

    /// All of a plugin is to go since the daemon ends.
    pub(super) fn save_and_stop(&mut self, name: &PluginName) {
        let Some(kept) = self.plugins.get_mut(name) else { return };
        // Whether it saves before or not, it is over when nothing of it is left.
        (kept.preparing, kept.removed) = (None, true);
        let orders = kept.generations.save_and_stop(StopReason::Shutdown, Instant::now());
        self.carry_out(name, orders);
        let Some(kept) = self.plugins.get(name) else { return };
        if !kept.generations.is_final_save() {
            self.remove(name, StopReason::Shutdown);
        }
    }
}
