//! The handover of the state of one version to the next one, or to the next daemon.

use crate::{
    pool::failure::Failure,
    supervisor::{
        lifecycle::LifecycleState,
        plugin::{Action, Fact, ManagedPlugin, Turn},
        problem::PluginProblem,
        rollout::{RolloutProgress, SavedState},
    },
    world::bindings::exports::plugind::plugin::lifecycle::StopReason,
};
use std::time::Duration;

impl ManagedPlugin {
    /// This generation saved its state, or could not.
    pub(super) fn saved(
        &mut self,
        number: u64,
        outcome: Result<Option<SavedState>, Failure>,
        turn: &mut Turn,
    ) {
        if self.generations.current().is_none_or(|current| current.number != number) {
            return;
        }
        match outcome {
            Ok(saved) => {
                turn.actions.push(Action::Keep(saved.clone()));
                // If it keeps serving after all, an instance that replaces its instance begins with that.
                turn.actions.push(Action::Inherit(number, saved.clone()));
                turn.steps.extend(self.generations.has_saved(number, saved, turn.now));
            }
            Err(failure) => {
                let error = format!("the old version failed to hand over: {failure}");
                self.handover_failed(failure.result(), error, turn);
            }
        }
    }

    /// This generation was given the state of the one before it, or does not take it.
    pub(super) fn restored(&mut self, number: u64, outcome: Result<(), Failure>, turn: &mut Turn) {
        match outcome {
            Ok(()) => turn.steps.extend(self.generations.has_restored(number, turn.now)),
            Err(failure) if self.generations.candidate().is_some_and(|it| it.number == number) => {
                let error = format!("the new version failed to take over: {failure}");
                self.handover_failed(failure.result(), error, turn);
            }
            Err(_) => (),
        }
    }

    /// The version that serves failed while it was to save its state.
    pub(super) fn saver_failed(&mut self, number: u64, turn: &mut Turn) {
        let is_final_save = self.generations.is_final_save();
        let Some(generation) = self.generations.get_mut(number) else { return };
        if generation.lifecycle.state() == LifecycleState::Failed && !is_final_save {
            return turn.steps.extend(self.generations.skip_save(turn.now));
        }
        let failure = generation.failure.as_ref();
        let result = failure.map_or("failed", Failure::result);
        let why = failure.map_or_else(|| "it ended".to_owned(), ToString::to_string);
        let error = format!("the old version failed to hand over: {why}");
        self.handover_failed(result, error, turn);
    }

    pub(super) fn handover_due(&mut self, save_begun: bool, turn: &mut Turn) {
        let progress = self.generations.progress();
        let is_under_way = match progress {
            RolloutProgress::Saving | RolloutProgress::Restoring => true,
            // Work is held until all others have come this far, too.
            RolloutProgress::Settled => self.is_at_hold_point(),
            RolloutProgress::Starting | RolloutProgress::Ready => false,
        };
        if !is_under_way && !self.generations.is_final_save() {
            return;
        }
        let time = humantime::format_duration(self.handover_timeout());
        let why = match progress {
            RolloutProgress::Restoring => "the `restore` of the new version has not returned",
            RolloutProgress::Settled => "other plugins took longer",
            _ if save_begun => "the `save` of the old version has not returned",
            _ => "requests in progress in the old version have not ended",
        };
        let error = format!(
            "the handover took longer than {time}: {why}; raise handover.timeout-sec if it needs more"
        );
        self.handover_failed("timeout", error, turn);
    }

    /// The one that serves keeps serving, or ends without having saved if it was to end.
    fn handover_failed(&mut self, result: &'static str, error: String, turn: &mut Turn) {
        if self.generations.is_final_save() {
            turn.report(Fact::NotSaved { result, error });
            self.remove(StopReason::Shutdown, turn);
        } else if let Some(candidate) = self.generations.candidate() {
            let problem = PluginProblem::of_handover(candidate, result, error);
            self.fail(problem, turn);
        }
    }

    pub(super) fn handover_timeout(&self) -> Duration {
        let current = self.generations.current();
        current.map(|current| current.release.manifest.handover.timeout).unwrap_or_default()
    }
}
