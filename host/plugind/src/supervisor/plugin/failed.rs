//! A version of a plugin that cannot be used: the previous one keeps serving, or the one that served last is tried.

use crate::{
    base::text::cut,
    plugin::{archive::LastGood, manifest::FailureAction, release::Release},
    supervisor::{
        generation::Generation,
        lifecycle::LifecycleState,
        operated::Rollback,
        plugin::{Action, ERROR_MAX, Fact, Fallback, ManagedPlugin, Turn},
        problem::{PluginProblem, RestartError},
    },
};
use std::{mem::replace, time::SystemTime};

impl ManagedPlugin {
    /// The newest version cannot be used. The previous one keeps serving.
    pub(super) fn fail(&mut self, problem: PluginProblem, turn: &mut Turn) {
        let mut problem = self.following(problem);
        let candidate = self.generations.candidate().map(|candidate| candidate.number);
        problem.held_back =
            candidate.is_some() && candidate == problem.generation && self.is_at_hold_point();
        self.preparing = None;
        let has_fallen_back = replace(&mut self.fallback, Fallback::Unused) == Fallback::Trying;
        let is_of_last_good = self.is_of_last_good(&problem);
        let is_of_newest = !self.is_of_other_version(&problem);
        let has_served = self.generations.current().is_some();
        turn.report(Fact::Failed(Box::new(problem.clone())));
        // If the last good version fails as well, the problem of the newest one remains the one to report.
        if is_of_newest && !(has_fallen_back && is_of_last_good) {
            self.set_problem(problem);
        }
        turn.actions.push(Action::Publish);
        self.give_up(turn);
        if !has_served && !is_of_last_good && matches!(self.last_good, LastGood::Version(_)) {
            self.fallback = Fallback::Reading;
            turn.actions.push(Action::ReadLastGood);
        }
    }

    /// The newest version cannot be used, as it was found at `now`. All that is in progress continues.
    pub fn note_problem(&mut self, problem: PluginProblem, now: SystemTime) {
        let mut problem = self.following(problem);
        problem.since.get_or_insert(now);
        self.set_problem(problem);
    }

    /// The problem as it is kept after the one before it.
    fn following(&self, problem: PluginProblem) -> PluginProblem {
        let has_served = self.generations.current().is_some();
        PluginProblem {
            // It may quote files and components at length, and is reported in many places.
            error: cut(&problem.error, ERROR_MAX).into_owned(),
            since: self.problem.as_ref().and_then(|before| before.since),
            left_out: !has_served && self.last_good == LastGood::Others,
            ..problem
        }
    }

    /// The version that served cannot serve any more. The one that is to follow continues, and its outcome is what counts.
    pub(super) fn fail_followed(&mut self, problem: PluginProblem, turn: &mut Turn) {
        let problem = self.following(problem);
        self.set_problem(problem.clone());
        turn.report(Fact::FailedFollowed(Box::new(problem)));
        turn.actions.push(Action::Publish);
    }

    /// Whether the daemon is to end because the version that served failed, whatever followed it.
    pub(super) fn is_failed_with_exit(&self) -> bool {
        self.generations.current().is_some_and(|current| {
            let action = current.release.manifest.service.failure_action;
            current.lifecycle.state() == LifecycleState::Failed && action == FailureAction::Exit
        })
    }

    /// Notes why the newest version does not serve, or why the one that served does not any more. In the second case, the
    /// problem of the newest version is back when new instances of the other one serve.
    fn set_problem(&mut self, problem: PluginProblem) {
        let current = self.generations.current().map(|current| current.number);
        let is_of_current = current.is_some() && current == problem.generation;
        let before = self.problem.replace(problem);
        if is_of_current {
            self.newest_problem = before;
        } else if self.generations.candidate().is_none_or(|candidate| !candidate.is_restart) {
            self.newest_problem = None;
        }
    }

    /// No version has failed since the one that is wanted now.
    pub(super) fn forget_problem(&mut self) {
        (self.problem, self.newest_problem) = (None, None);
    }

    /// Whether this is no problem of a newer version, but of new instances of the one that serves, or of an earlier one to
    /// which an operator rolls back the one that served last. The client that waits for them learns of it.
    fn is_of_other_version(&mut self, problem: &PluginProblem) -> bool {
        let digests = |it: &Generation| it.release.digests();
        let (current, serving) =
            (self.generations.current().map(digests), self.serving().map(digests));
        let Some(failed) = problem.release.as_ref().map(|release| release.digests()) else {
            return false;
        };
        let candidate = self.generations.candidate();
        let is_restart = candidate.is_some_and(|candidate| candidate.is_restart);
        let is_rollback = |it: &mut Rollback| (Some(it.from), it.to) == (current, failed);
        self.rollback.take_if(is_rollback).is_some() || (is_restart && serving == Some(failed))
    }

    /// A client waited for the outcome of the last attempt, and got it.
    pub fn note_reported(&mut self) {
        if self.current_problem().is_some()
            && let Some(problem) = &mut self.problem
        {
            problem.reported = true;
        }
    }

    /// Whether it is a problem of the version that served last.
    fn is_of_last_good(&self, problem: &PluginProblem) -> bool {
        let failed = problem.release.as_ref().map(|release| LastGood::Version(release.digests()));
        failed == Some(self.last_good)
    }

    /// Whether this version has never served, and another one of the plugin has: one failure is enough then.
    pub(super) fn is_new_to_last_good(&self, release: &Release) -> bool {
        match self.last_good {
            LastGood::Nothing | LastGood::Others => false,
            LastGood::Version(digests) => release.digests() != digests,
        }
    }

    pub(super) fn give_up(&mut self, turn: &mut Turn) {
        turn.steps.extend(self.generations.give_up(turn.now));
    }

    pub(super) fn cancel_pending(&mut self, turn: &mut Turn) {
        self.preparing = None;
        self.give_up(turn);
        turn.report(Fact::NotRestarted(RestartError::TakenBack));
    }
}
