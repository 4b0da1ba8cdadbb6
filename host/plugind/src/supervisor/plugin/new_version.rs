//! A new version of a plugin: prepared, started and put in the place of the one before it.

use crate::{
    plugin::{archive::LastGood, release::Release, verify::Verified},
    route::owners::RouteRequest,
    supervisor::{
        generation::Generation,
        lifecycle::StartPolicy,
        plugin::{Action, Fact, Fallback, ManagedPlugin, Prepared, Preparing, Source, Turn},
        prepare::PrepareError,
        problem::{PluginProblem, RestartError},
        rollout::{HoldPoint, Stage as _},
    },
};
use std::{mem::replace, sync::Arc};

impl ManagedPlugin {
    pub(super) fn prepare(
        &mut self,
        ticket: u64,
        verified: Verified,
        requests: Vec<RouteRequest>,
        hold_point: HoldPoint,
    ) {
        let (queued, wanted) = (true, Arc::default());
        self.preparing = Some(Preparing { ticket, verified, requests, hold_point, queued, wanted });
    }

    pub(super) fn prepared(
        &mut self,
        ticket: u64,
        outcome: Result<Prepared, PrepareError>,
        turn: &mut Turn,
    ) {
        // Otherwise something newer was found meanwhile, or nothing any more.
        let preparing = self.preparing.take_if(|preparing| preparing.ticket == ticket);
        let Some(Preparing { verified, requests, hold_point, .. }) = preparing else { return };
        let release = verified.release().clone();
        let is_tried = self.tries_only() && release.manifest.on_demand;
        let Prepared { generation, after_start, saved } = match outcome {
            Ok(prepared) => prepared,
            Err(error) => {
                let problem = PluginProblem::of_preparation(release, error, requests);
                return self.fail(problem, turn);
            }
        };
        if saved.is_some() && self.generations.saved().is_none() {
            self.generations.set_saved(saved);
        }
        let is_to_follow = self.serving().is_some()
            || hold_point != HoldPoint::Open
            || self.is_new_to_last_good(&release);
        let policy = match (self.last_good, release.manifest.required) {
            _ if is_to_follow => StartPolicy::Candidate,
            // Only the daemon's start waits for what is not there yet, and has a deadline for that.
            _ if after_start => StartPolicy::BestEffort,
            (LastGood::Others, _) => StartPolicy::LeftOut,
            (_, true) => StartPolicy::Required,
            (_, false) => StartPolicy::BestEffort,
        };
        let generation = Generation { is_tried, ..Generation::new(generation, release, policy) };
        self.start_candidate(generation, Source::Preparation(ticket), hold_point, turn);
    }

    /// Starts a generation that takes over when it is ready, and may.
    fn start_candidate(
        &mut self,
        new: Generation,
        source: Source,
        hold_point: HoldPoint,
        turn: &mut Turn,
    ) {
        let (generation, inherited) = (new.number, self.generations.initial_state());
        turn.actions.push(Action::Create { generation, source, inherited });
        turn.steps.extend(self.generations.start_candidate(new, hold_point, turn.now));
    }

    /// Starts new instances of the current version, which take over when they are ready.
    pub(super) fn restart(
        &mut self,
        number: u64,
        relinked: Option<(u64, Arc<Release>)>,
        turn: &mut Turn,
    ) {
        if self.removed {
            return turn.report(Fact::NotRestarted(RestartError::NoSuchPlugin));
        }
        if self.is_stopped() {
            return turn.report(Fact::NotRestarted(RestartError::Stopped));
        }
        let is_waiting = self.is_waiting();
        let (from, policy, hold_point) =
            match (self.generations.candidate(), self.generations.current()) {
                // A version that waits for its next try is tried now.
                (Some(candidate), _) if is_waiting => {
                    (candidate, candidate.lifecycle.policy(), self.generations.hold_point())
                }
                // A pending version will have new instances anyway.
                _ if self.is_in_progress() => return,
                (_, Some(current)) => (current, StartPolicy::Candidate, HoldPoint::Open),
                (_, None) => return turn.report(Fact::NotRestarted(self.why_not_serving())),
            };
        let is_of_it = |release: &Release| release.digests() == from.release.digests();
        // Another version may have taken over while this one was linked.
        let (source, release) = match relinked.filter(|(_, release)| is_of_it(release)) {
            Some((ticket, release)) => (Source::Preparation(ticket), release),
            None => (Source::Generation(from.number), from.release.clone()),
        };
        let generation = Generation::new(number, release, policy);
        let generation = Generation { is_restart: true, ..generation };
        self.start_candidate(generation, source, hold_point, turn);
    }

    /// Why nothing of it serves or is on its way.
    pub(super) fn why_not_serving(&self) -> RestartError {
        self.failed().map_or(RestartError::TakenBack, RestartError::Failed)
    }

    /// The generation of which a restart makes new instances; none, if a pending version has new ones anyway.
    #[must_use]
    pub fn restarts_from(&self) -> Option<&Generation> {
        match self.is_in_progress() {
            true => self.generations.candidate().filter(|_| self.is_waiting()),
            false => self.generations.current(),
        }
    }

    /// A new version serves.
    pub(super) fn swapped(&mut self, new: u64, old: Option<u64>, turn: &mut Turn) {
        let is_fallback = replace(&mut self.fallback, Fallback::Unused) == Fallback::Trying;
        // From now on, a failed version falls back to this one, and not to the one that an earlier daemon kept.
        self.last_good = LastGood::Nothing;
        let is_fixed = !is_fallback && self.is_fixed_by(new);
        if is_fixed {
            // New instances of the version that failed fix the failure of that version alone.
            let is_restart = self.generations.get_mut(new).is_some_and(|new| new.is_restart);
            self.problem = self.newest_problem.take().filter(|_| is_restart);
        }
        let problem = self.problem.clone().filter(|_| is_fallback).map(Box::new);
        let saved = self.generations.saved().cloned();
        let hands_over = self.generations.get_mut(new).is_some_and(|new| new.hands_over());
        turn.actions.push(Action::Publish);
        if !hands_over {
            turn.actions.push(Action::Keep(None));
        }
        // An instance that replaces a failed one begins with that.
        turn.actions.push(Action::Inherit(new, saved));
        self.release_tried(new, turn);
        turn.report(Fact::Ready { generation: new, previous: old });
        if let Some(problem) = problem {
            turn.report(Fact::FellBack(problem));
        }
    }

    /// Whether the problem is not there any more when this generation serves.
    fn is_fixed_by(&mut self, number: u64) -> bool {
        let Some(problem) = &self.problem else { return false };
        self.generations.get_mut(number).is_none_or(|serving| problem.is_replaced_by(serving))
    }
}
