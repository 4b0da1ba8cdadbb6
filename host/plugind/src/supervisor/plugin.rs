//! One plugin as the supervisor sees it: the version that serves, the one that is to follow, those that are leaving.

use crate::{
    api,
    base::name::PluginName,
    plugin::{
        inspection::Inspection,
        manifest::{FailureAction, Manifest},
        verify::Verified,
    },
    pool::{failure::Failure, instances::Pool},
    route::owners::RouteRequest,
    supervisor::{
        generation::Generation,
        lifecycle::{Lifecycle, LifecycleState, StartPolicy},
        reload::Step,
        rollout::{HoldPoint, Rollout, RolloutProgress},
        summary::{Failed, FailedStage, Summary},
    },
};
use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// One plugin and all of its generations.
#[derive(Default)]
pub struct ManagedPlugin {
    /// The version that serves, the one that is to follow, those that leave.
    pub generations: Rollout<Generation>,
    /// The preparation that is under way, or waits for its turn.
    pub preparing: Option<Preparing>,
    /// Why the newest version does not serve.
    pub problem: Option<PluginProblem>,
    /// Its files are gone, or the daemon ends: it goes when its generations have.
    pub removed: bool,
    /// Tells this handover from earlier ones, and what it saves from what was saved before.
    pub handover: HandoverProgress,
}

/// The handover that was begun last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandoverProgress {
    /// Of all handovers of all plugins.
    pub ticket: u64,
    /// Of all saves of the generation that serves.
    pub save: u64,
}

/// A version of a plugin that is being compiled and linked, or is to be.
pub struct Preparing {
    /// Tells this preparation from earlier ones.
    pub ticket: u64,
    /// The component's SHA-256 digest.
    pub digest: [u8; 32],
    /// The manifest.
    pub manifest: Manifest,
    /// The routes it asks for.
    pub route_requests: Vec<RouteRequest>,
    /// How far it may go.
    pub hold_point: HoldPoint,
    /// What is to be prepared, as long as others are in work.
    pub queued: Option<Box<Verified>>,
    /// The task that prepares it sees by this whether it is still wanted.
    pub wanted: Arc<()>,
}

/// A version of a plugin by what it is made of: its component's digest and its manifest.
pub type Content = ([u8; 32], Manifest);

/// Why the newest version of a plugin does not serve.
#[derive(Clone)]
pub struct PluginProblem {
    /// What it is called in one word, systemd's where it has one.
    pub result: &'static str,
    /// The version, if it was worth a try.
    pub content: Option<Content>,
    /// The number of its generation, if it came that far.
    pub generation: Option<u64>,
    /// A client waited for the outcome of this try, and got it.
    pub reported: bool,
    /// What was being done with it.
    pub stage: FailedStage,
    /// What went wrong.
    pub error: String,
    /// Trying again helps only after something was changed.
    pub configuration: bool,
    /// Whether the daemon is not ready without the plugin.
    pub required: bool,
    /// The routes it asks for, as far as that is known.
    pub route_requests: Vec<RouteRequest>,
}

impl ManagedPlugin {
    /// The generation to which requests come.
    #[must_use]
    pub fn serving(&self) -> Option<&Generation> {
        self.generations.serving()
    }

    fn newest(&self) -> Option<&Generation> {
        self.generations.candidate().or(self.generations.current())
    }

    /// How far its new version is, if one is on its way.
    #[must_use]
    pub fn step(&self) -> Option<Step> {
        if let Some(preparing) = &self.preparing {
            return Some(if preparing.queued.is_some() { Step::Queued } else { Step::Compiling });
        }
        self.generations.candidate()?;
        Some(match self.generations.progress() {
            RolloutProgress::Starting => Step::Starting,
            RolloutProgress::Ready | RolloutProgress::Settled => Step::Ready,
            RolloutProgress::Saving | RolloutProgress::Restoring => Step::HandingOver,
        })
    }

    /// Whether its new version takes memory and time just now, and not only its place in the queue.
    #[must_use]
    pub fn is_at_work(&self) -> bool {
        let waits = || self.candidate_state() == Some(LifecycleState::Waiting);
        match self.step() {
            Some(Step::Compiling | Step::HandingOver) => true,
            Some(Step::Starting) => !waits(),
            Some(Step::Queued | Step::Ready) | None => false,
        }
    }

    fn candidate_state(&self) -> Option<LifecycleState> {
        self.generations.candidate().map(|candidate| candidate.lifecycle.state())
    }

    /// Whether its new version takes over only if others can, too.
    #[must_use]
    pub fn is_at_hold_point(&self) -> bool {
        let candidate = self.generations.candidate().map(|_| self.generations.hold_point());
        let hold_point =
            self.preparing.as_ref().map(|preparing| preparing.hold_point).or(candidate);
        hold_point.is_some_and(|hold_point| hold_point != HoldPoint::Open)
    }

    /// Whether this very component with this very manifest is on its way already.
    #[must_use]
    pub fn is_preparing(&self, digest: &[u8; 32], manifest: &Manifest) -> bool {
        let candidate = || {
            let candidate = self.generations.candidate();
            candidate.is_some_and(|candidate| candidate.is_made_from(digest, manifest))
        };
        match &self.preparing {
            Some(preparing) => preparing.digest == *digest && preparing.manifest == *manifest,
            None => candidate(),
        }
    }

    /// Whether its new version waits before it is tried again.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.preparing.is_none() && self.candidate_state() == Some(LifecycleState::Waiting)
    }

    /// Whether something is under way that may make it serve.
    #[must_use]
    pub fn is_in_progress(&self) -> bool {
        self.preparing.is_some() || self.generations.candidate().is_some()
    }

    /// Whether nothing of it is left.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.removed
            && self.generations.current().is_none()
            && self.generations.leaving().is_empty()
    }

    /// The routes it serves, or would serve, and its instances if it does.
    #[must_use]
    pub fn routes(&self) -> (Vec<RouteRequest>, Option<Arc<Pool>>) {
        if let Some(serving) = self.serving() {
            return (serving.route_requests(), Some(serving.pool.clone()));
        }
        let preparing = self.preparing.as_ref().map(|preparing| preparing.route_requests.clone());
        let problem = || self.problem.as_ref().map(|problem| problem.route_requests.clone());
        let generation = || self.newest().map(Generation::route_requests);
        (preparing.or_else(problem).or_else(generation).unwrap_or_default(), None)
    }

    /// Whether the daemon is not ready without it, as its newest version says.
    fn is_required(&self) -> bool {
        let preparing = self.preparing.as_ref().map(|preparing| preparing.manifest.required);
        let problem = self.problem.as_ref().map(|problem| problem.required);
        let generation = self.newest().map(|generation| generation.manifest().required);
        preparing.or(problem).or(generation).unwrap_or(true)
    }

    /// Adds its share to the summary.
    pub fn sum_up(&self, name: &PluginName, summary: &mut Summary) {
        summary.plugins += 1;
        let required = self.is_required();
        let returned = |current: &Generation| current.lifecycle.state() == LifecycleState::Inactive;
        let is_down = self.down().is_some();
        if !is_down && self.serving().is_some() || self.generations.current().is_some_and(returned)
        {
            summary.ready += 1;
        } else if required && (is_down || self.is_in_progress()) {
            summary.awaited.push(name.clone());
            summary.retried.extend(self.waiting_problem(true).map(|problem| problem.failed(name)));
        }
        summary.retried.extend(self.replaced(name));
        summary.failed.extend(self.failed(name));
    }

    /// Why its newest version does not serve, if that is so.
    #[must_use]
    pub fn failed(&self, name: &PluginName) -> Option<Failed> {
        if let Some(problem) = &self.problem {
            let failed = problem.failed(name);
            return Some(Failed { exit: failed.exit && self.serving().is_none(), ..failed });
        }
        // That is not for good.
        Some(Failed { exit: false, ..self.waiting_problem(false)?.failed(name) })
    }

    /// The generation that is to serve and has no instance that does: the last one failed, and the next one is not ready.
    fn down(&self) -> Option<&Generation> {
        self.serving().filter(|serving| serving.lifecycle.is_down())
    }

    /// Why the version that is to serve does not, if it has an instance again soon.
    fn replaced(&self, name: &PluginName) -> Option<Failed> {
        let problem = PluginProblem::of(self.down()?, FailedStage::Run);
        Some(Failed { exit: false, ..problem.failed(name) })
    }

    /// Why the version that is tried again did not start; `required` tells one for which the daemon's start waits.
    fn waiting_problem(&self, required: bool) -> Option<PluginProblem> {
        let waits = |lifecycle: &Lifecycle| {
            lifecycle.state() == LifecycleState::Waiting
                && (lifecycle.policy() == StartPolicy::Required) == required
        };
        let candidate =
            self.generations.candidate().filter(|candidate| waits(&candidate.lifecycle))?;
        Some(PluginProblem::of(candidate, FailedStage::Start))
    }

    /// What there is to say of it in a list.
    #[must_use]
    pub fn report(&self, name: &PluginName) -> api::Plugin {
        let serving = self.serving();
        let serves = serving.is_some() && self.down().is_none();
        let state = self.generations.current().map(|current| current.lifecycle.state());
        let active_state = match (serves, self.is_in_progress()) {
            _ if self.removed => "deactivating",
            (true, true) => "reloading",
            (true, false) => "active",
            (false, true) => "activating",
            (false, false) => match state {
                Some(
                    LifecycleState::Starting
                    | LifecycleState::Waiting
                    | LifecycleState::Active
                    | LifecycleState::Recovering,
                ) => "activating",
                Some(LifecycleState::Inactive) => "inactive",
                _ => "failed",
            },
        };
        let down = || self.down().map(|down| PluginProblem::of(down, FailedStage::Run));
        let waiting = || self.waiting_problem(false).or_else(|| self.waiting_problem(true));
        let problem = self.problem.clone().or_else(waiting).or_else(down);
        let failure = problem.as_ref().map(|problem| problem.failed(name));
        let ended = problem.filter(|_| !serves);
        let newest = self.newest().filter(|_| self.preparing.is_none());
        let next_attempt = newest.and_then(|newest| newest.lifecycle.next_attempt());
        let since = serving.and_then(|serving| serving.since?.duration_since(UNIX_EPOCH).ok());
        let status = serving.map(|serving| serving.pool.shared().notify.status());
        api::Plugin {
            name: name.to_string(),
            active_state: active_state.to_owned(),
            result: ended.map_or("success", |problem| problem.result).to_owned(),
            required: self.is_required(),
            status: status.filter(|status| !status.is_empty()),
            generation: serving.map(|serving| serving.number),
            since: since.map(whole_microseconds),
            workers: serving.map_or(0, |serving| serving.pool.workers() as u64),
            failures: serving.map_or(0, |serving| serving.failures),
            routes: self.routes().0.iter().map(|(route, _)| route.to_string()).collect(),
            failure: failure.as_ref().map(Into::into),
            next_attempt: next_attempt.map(microseconds),
        }
    }

    /// What there is to say of it alone.
    #[must_use]
    pub fn describe(&self, name: &PluginName) -> api::Description {
        let made_of = self.generations.current().map(|current| current.pool.linked());
        let names = |names: fn(&Inspection) -> &Vec<String>| {
            made_of.map(|linked| names(&linked.inspection).clone()).unwrap_or_default()
        };
        api::Description {
            plugin: self.report(name),
            component: made_of.map(|linked| linked.path.display().to_string()),
            digest: made_of.map(|linked| hexadecimal(&linked.digest)),
            imports: names(|inspection| &inspection.imports),
            exports: names(|inspection| &inspection.exports),
        }
    }
}

impl PluginProblem {
    /// Why this generation cannot follow the one that serves, whatever else may be known of it.
    #[must_use]
    pub fn of_handover(generation: &Generation, result: &'static str, error: String) -> Self {
        Self { result, error, configuration: false, ..Self::of(generation, FailedStage::Handover) }
    }

    /// Why this generation does not serve.
    #[must_use]
    pub fn of(generation: &Generation, stage: FailedStage) -> Self {
        let failure = generation.failure.as_ref();
        let mut error = failure.map_or_else(|| "it failed".to_owned(), ToString::to_string);
        let mut result = failure.map_or("failed", Failure::result);
        if generation.lifecycle.limit_hit() {
            result = "start-limit-hit";
            error = format!(
                "start-limit-hit: it was started too often in too short a time; at last {error}"
            );
        }
        let linked = generation.pool.linked();
        Self {
            result,
            content: Some((linked.digest, linked.manifest.clone())),
            generation: Some(generation.number),
            reported: false,
            stage,
            error,
            configuration: matches!(failure, Some(Failure::Configuration(_))),
            // A daemon that comes back does not stay away from all because one does not take its own state back.
            required: linked.manifest.required && !matches!(failure, Some(Failure::Restore(_))),
            route_requests: generation.route_requests(),
        }
    }

    /// Whether it is one with this very component and this very manifest, and a client got it.
    #[must_use]
    pub fn is_of(&self, digest: &[u8; 32], manifest: &Manifest) -> bool {
        let content = self.content.as_ref().filter(|_| self.reported);
        content.is_some_and(|(failed, with)| failed == digest && with == manifest)
    }

    /// It as the summary of all plugins has it.
    #[must_use]
    pub fn failed(&self, name: &PluginName) -> Failed {
        let started = self.content.as_ref().filter(|_| self.generation.is_some());
        let action = started.map(|(_, manifest)| manifest.service.failure_action);
        Failed {
            plugin: name.clone(),
            required: self.required,
            exit: action == Some(FailureAction::Exit),
            stage: self.stage,
            error: self.error.clone(),
            configuration: self.configuration,
        }
    }
}

/// A moment to come, in µs since 1970.
fn microseconds(moment: Instant) -> u64 {
    let moment = SystemTime::now() + moment.saturating_duration_since(Instant::now());
    moment.duration_since(UNIX_EPOCH).map_or(0, whole_microseconds)
}

fn whole_microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
