//! A version of a plugin that cannot be used: the previous one keeps serving, or the one that served last is tried.

use crate::{
    base::text::cut,
    plugin::{archive::LastGood, release::Release},
    supervisor::{
        operated::Rollback,
        plugin::{Action, ERROR_MAX, Fact, Fallback, ManagedPlugin, Turn},
        problem::{PluginProblem, RestartError},
    },
};
use std::mem::replace;

impl ManagedPlugin {
    /// The newest version cannot be used. The previous one keeps serving.
    pub(super) fn fail(&mut self, mut problem: PluginProblem, turn: &mut Turn) {
        problem = self.with_history(problem);
        self.preparing = None;
        let has_fallen_back = replace(&mut self.fallback, Fallback::Unused) == Fallback::Trying;
        let is_of_last_good = self.is_of_last_good(&problem);
        let is_of_newest = !self.is_of_other_version(&problem);
        let has_served = self.generations.current().is_some();
        problem.left_out = !has_served && self.last_good == LastGood::Others;
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

    /// The version that served failed while another one is on its way. That one decides how it ends.
    pub(super) fn fail_meanwhile(&mut self, problem: PluginProblem, turn: &mut Turn) {
        let problem = self.with_history(problem);
        self.set_problem(problem);
        turn.actions.push(Action::Publish);
    }

    /// The same problem, as it is reported.
    fn with_history(&self, mut problem: PluginProblem) -> PluginProblem {
        // It may quote files and components at length, and is reported in many places.
        problem.error = cut(&problem.error, ERROR_MAX).into_owned();
        problem.since = self.problem.as_ref().and_then(|before| before.since);
        problem
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

    /// Whether a version serves, and this is no problem of a newer one, but of new instances of the one that serves or of
    /// an earlier one to which an operator rolls it back. The client that waits for them learns of it.
    fn is_of_other_version(&mut self, problem: &PluginProblem) -> bool {
        let serving = self.serving().map(|serving| serving.release.digests());
        let failed = problem.release.as_ref().map(|release| release.digests());
        let (Some(serving), Some(failed)) = (serving, failed) else { return false };
        let candidate = self.generations.candidate();
        let is_restart = candidate.is_some_and(|candidate| candidate.is_restart);
        let is_rollback = |it: &mut Rollback| (it.from, it.to) == (serving, failed);
        self.rollback.take_if(is_rollback).is_some() || (is_restart && serving == failed)
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
