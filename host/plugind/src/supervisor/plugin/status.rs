//! The status of a plugin: the versions it has, how far the new one is, and why it does not serve.

use crate::{
    api::FailedStage,
    plugin::release::Release,
    route::owners::RouteRequest,
    supervisor::{
        generation::Generation,
        lifecycle::{LifecycleState, StartPolicy},
        plugin::{Fallback, ManagedPlugin},
        problem::PluginProblem,
        reload::Step,
        rollout::{HoldPoint, RolloutProgress},
        summary::Failed,
    },
};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

impl ManagedPlugin {
    /// The generation to which requests come.
    #[must_use]
    pub fn serving(&self) -> Option<&Generation> {
        self.generations.serving()
    }

    /// The same, or a program that returned ok.
    #[must_use]
    pub fn succeeded(&self) -> Option<&Generation> {
        let current = self.generations.current();
        let is_done = |it: &&Generation| it.lifecycle.state() == LifecycleState::Inactive;
        self.serving().or_else(|| current.filter(is_done))
    }

    /// The newest generation that is there.
    #[must_use]
    pub fn newest(&self) -> Option<&Generation> {
        self.generations.candidate().or(self.generations.current())
    }

    /// Returns the step that its new version has reached, if one is in progress.
    #[must_use]
    pub fn step(&self) -> Option<Step> {
        if let Some(preparing) = &self.preparing {
            return Some(if preparing.queued { Step::Queued } else { Step::Compiling });
        }
        if self.fallback == Fallback::Reading {
            return Some(Step::Queued);
        }
        self.generations.candidate()?;
        Some(match self.generations.progress() {
            RolloutProgress::Starting => Step::Starting,
            RolloutProgress::Ready | RolloutProgress::Settled => Step::Ready,
            RolloutProgress::Saving | RolloutProgress::Restoring => Step::HandingOver,
        })
    }

    /// Whether its new version uses memory and time now, and does not only wait in the queue.
    #[must_use]
    pub fn is_at_work(&self) -> bool {
        match self.step() {
            Some(Step::Compiling | Step::HandingOver) => true,
            Some(Step::Starting) => !self.is_waiting(),
            Some(Step::Queued | Step::Ready) | None => false,
        }
    }

    /// Whether its new version takes over only if others can, too.
    #[must_use]
    pub fn is_at_hold_point(&self) -> bool {
        let candidate = self.generations.candidate().map(|_| self.generations.hold_point());
        let hold_point =
            self.preparing.as_ref().map(|preparing| preparing.hold_point).or(candidate);
        hold_point.is_some_and(|hold_point| hold_point != HoldPoint::Open)
    }

    /// Whether this very version is on its way already.
    #[must_use]
    pub fn is_preparing(&self, release: &Arc<Release>) -> bool {
        match &self.preparing {
            Some(preparing) => preparing.verified.release().is_same(release),
            None => {
                let candidate = self.generations.candidate();
                candidate.is_some_and(|candidate| candidate.release.is_same(release))
            }
        }
    }

    /// Whether this version is the one that there is. One that failed is not: it is tried again when somebody asks.
    #[must_use]
    pub fn is_current(&self, release: &Arc<Release>) -> bool {
        self.generations.current().is_some_and(|current| {
            current.lifecycle.state() != LifecycleState::Failed && current.release.is_same(release)
        })
    }

    /// Whether its new version waits before it is tried again.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.preparing.is_none() && self.waiting().is_some()
    }

    /// Whether something is under way that may make it serve.
    #[must_use]
    pub fn is_in_progress(&self) -> bool {
        self.preparing.is_some()
            || self.fallback == Fallback::Reading
            || self.generations.candidate().is_some()
    }

    /// Whether it has no instances, and none are on their way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.is_in_progress()
            && self.generations.current().is_none()
            && self.generations.leaving().is_empty()
    }

    /// Whether nothing of it is left.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.removed
            && self.generations.current().is_none()
            && self.generations.leaving().is_empty()
    }

    /// The longest time to stop of its versions.
    #[must_use]
    pub fn longest_stop(&self) -> Duration {
        let versions = [self.generations.current(), self.generations.candidate()];
        let versions = versions.into_iter().flatten().chain(self.generations.leaving());
        let times = versions.map(|version| version.release.manifest.service.timeout_stop);
        times.max().unwrap_or_default()
    }

    /// The routes that a version on its way asks for, in addition to those that are served.
    pub fn wanted(&self) -> impl Iterator<Item = &RouteRequest> {
        let preparing = self.preparing.iter().flat_map(|preparing| &*preparing.requests);
        preparing.chain(self.generations.candidate().into_iter().flat_map(|it| &*it.requests))
    }

    /// The routes it serves, or would serve, and the generation that serves them.
    #[must_use]
    pub fn routes(&self) -> (&[RouteRequest], Option<u64>) {
        if let Some(serving) = self.serving() {
            return (&serving.requests, Some(serving.number));
        }
        if let Some(stopped) = &self.stopped {
            return (&stopped.requests, None);
        }
        let preparing = self.preparing.as_ref().map(|preparing| &*preparing.requests);
        let problem = || self.current_problem().map(|problem| &*problem.requests);
        let newest = || self.newest().map(|newest| &*newest.requests);
        (preparing.or_else(problem).or_else(newest).unwrap_or_default(), None)
    }

    /// Whether the daemon is not ready without it, as its newest version says.
    #[must_use]
    pub fn is_required(&self) -> bool {
        let preparing =
            self.preparing.as_ref().map(|preparing| preparing.verified.manifest().required);
        let problem = self.current_problem().map(|problem| problem.required);
        let newest = self.newest().map(|newest| newest.release.manifest.required);
        let stopped = self.stopped.as_ref().map(|stopped| stopped.required);
        stopped.or(preparing).or(problem).or(newest).unwrap_or(true)
    }

    /// Why its newest version does not serve. While a new attempt is in progress, its outcome is not known, and an
    /// earlier failure says nothing about it.
    #[must_use]
    pub fn current_problem(&self) -> Option<&PluginProblem> {
        let candidate = self.generations.candidate();
        // The version that served last is no new attempt.
        let is_tried_again = |problem: &PluginProblem| {
            self.fallback == Fallback::Unused
                && (self.preparing.is_some()
                    || candidate.is_some_and(|candidate| problem.is_replaced_by(candidate)))
        };
        self.problem.as_ref().filter(|problem| !is_tried_again(problem))
    }

    /// Why its newest version failed for good, if that is so.
    #[must_use]
    pub fn failed(&self) -> Option<Failed> {
        let problem = self.current_problem()?;
        let failed = problem.failed(&self.name);
        // A version that is on its way may serve in its place.
        let exit = (failed.exit || self.is_failed_with_exit())
            && self.serving().is_none()
            && self.fallback == Fallback::Unused;
        // A program that returned ok is the previous version only if the problem is that of another one.
        let is_same = |it: &Generation| {
            problem.release.as_ref().is_some_and(|failed| failed.is_same(&it.release))
        };
        let is_previous = |it: &Generation| self.serving().is_some() || !is_same(it);
        let serves = problem.stage != FailedStage::Run && self.succeeded().is_some_and(is_previous);
        let previous_since = serves.then(|| problem.since.unwrap_or(SystemTime::UNIX_EPOCH));
        Some(Failed { exit, previous_since, ..failed })
    }

    /// Why it does not serve, if it is tried again: a version did not start, or the last instance of the one that is to
    /// serve failed.
    #[must_use]
    pub fn retried(&self) -> Option<Failed> {
        let problem = self.retried_problem()?;
        // That is not for good.
        Some(Failed { exit: false, ..problem.failed(&self.name) })
    }

    /// The same with all that is known of it.
    pub(in crate::supervisor) fn retried_problem(&self) -> Option<PluginProblem> {
        let down = || self.down().map(|down| PluginProblem::of(down, FailedStage::Run));
        let waiting = self.waiting().map(|waiting| {
            let left_out = waiting.lifecycle.policy() == StartPolicy::LeftOut;
            PluginProblem { left_out, ..PluginProblem::of(waiting, FailedStage::Start) }
        });
        waiting.or_else(down)
    }

    /// The problem that is reported: why its newest version does not serve, or is tried again.
    pub(in crate::supervisor) fn reported_problem(&self) -> Option<PluginProblem> {
        self.current_problem().cloned().or_else(|| self.retried_problem())
    }

    /// Whether the daemon's start does not wait for the version that is on its way, since that has failed once.
    pub(in crate::supervisor) fn is_left_out(&self) -> bool {
        let is_left_out = |candidate: &Generation| {
            candidate.lifecycle.policy() == StartPolicy::LeftOut && candidate.failure.is_some()
        };
        self.preparing.is_none() && self.generations.candidate().is_some_and(is_left_out)
    }

    /// The generation that is to serve and has no instance that does: the last one failed, and the next one is not ready.
    #[must_use]
    pub fn down(&self) -> Option<&Generation> {
        self.serving().filter(|serving| serving.lifecycle.is_down())
    }

    /// The version that did not start and waits for its next attempt.
    pub(super) fn waiting(&self) -> Option<&Generation> {
        let is_waiting = |it: &&Generation| it.lifecycle.state() == LifecycleState::Waiting;
        self.generations.candidate().filter(is_waiting)
    }
}
