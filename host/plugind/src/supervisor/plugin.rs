//! One plugin as the supervisor sees it: the version that serves, the one that is to follow, and those that are leaving.
//!
//! No clock, no I/O, no guest: events come in, actions go out. All that is decided about one plugin is decided here, in
//! one pass for each event; the supervisor only executes the actions.

use crate::{
    api::FailedStage,
    base::{name::PluginName, text::cut},
    plugin::{archive::LastGood, release::Release, verify::Verified},
    pool::{
        failure::Failure,
        post_mortem::PostMortem,
        workers::{InstanceStage, Retirement, WorkerEvent},
    },
    route::owners::RouteRequest,
    supervisor::{
        generation::Generation,
        lifecycle::{Effect, Event, LifecycleState, StartPolicy},
        operated::{Rollback, StoppedPlugin},
        prepare::PrepareError,
        problem::{PluginProblem, RestartError},
        reload::Step,
        rollout::{HoldPoint, Rollout, RolloutAction, RolloutProgress, SavedState, Stage as _},
        summary::Failed,
    },
    world::bindings::exports::plugind::plugin::lifecycle::StopReason,
};
use std::{
    collections::VecDeque,
    mem::replace,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

/// The longest reason of a failure that is reported, in bytes.
pub const ERROR_MAX: usize = 8 << 10;

/// One plugin and all of its generations.
pub struct ManagedPlugin {
    /// Its name.
    pub name: PluginName,
    /// The version that serves, the one that is to follow, those that leave.
    pub generations: Rollout<Generation>,
    /// The preparation that is under way, or waits for its turn.
    pub preparing: Option<Preparing>,
    /// Why the newest version does not serve.
    pub problem: Option<PluginProblem>,
    /// Its files are gone, or the daemon ends: it goes when its generations have.
    pub removed: bool,
    /// What there is if no version has served yet and the newest one fails.
    last_good: LastGood,
    /// Whether that is used.
    fallback: Fallback,
    /// The handover that was begun last.
    handover: HandoverTicket,
    /// An operator stopped it: nothing of it is prepared until an operator starts it.
    stopped: Option<StoppedPlugin>,
    /// An operator rolled it back.
    rollback: Option<Rollback>,
}

/// How far the use of the last good version is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fallback {
    /// It is not used.
    #[default]
    Unused,
    /// It is being read.
    Reading,
    /// It is prepared and started.
    Trying,
}

/// Tells one handover from all others of all plugins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandoverTicket {
    /// The generation that saves.
    generation: u64,
    /// Of all handovers of the plugin.
    nth: u64,
}

/// A version of a plugin that is being compiled and linked, or is to be.
pub struct Preparing {
    /// Tells this preparation from earlier ones.
    pub ticket: u64,
    /// The version that is prepared.
    pub verified: Verified,
    /// The routes it asks for.
    pub requests: Vec<RouteRequest>,
    /// The point at which it must wait, if any.
    pub hold_point: HoldPoint,
    /// It waits for its turn.
    pub queued: bool,
    /// The task that prepares it sees by this whether it is still wanted.
    pub wanted: Arc<()>,
}

/// An event of a plugin.
#[derive(Debug)]
pub enum PluginEvent {
    /// A version was found that is to be compiled, linked and started.
    Found {
        /// The number of the preparation.
        ticket: u64,
        /// The version that was found.
        verified: Verified,
        /// The routes it asks for, and gets.
        requests: Vec<RouteRequest>,
        /// The point at which it must wait, if any.
        hold_point: HoldPoint,
    },
    /// The version that served last was read, and is to be compiled, linked and started.
    FallBack {
        /// The number of the preparation.
        ticket: u64,
        /// What was read.
        verified: Verified,
        /// The routes it asks for, and gets.
        requests: Vec<RouteRequest>,
    },
    /// The version that served last cannot be used.
    NoFallback {
        /// Other plugins served last, so the start leaves this one out.
        left_out: bool,
    },
    /// A version was found that cannot be used.
    Unusable(Box<PluginProblem>),
    /// What serves must not continue, and there is no other version that can.
    Withdraw(Box<PluginProblem>),
    /// The version that was found serves already.
    Unchanged,
    /// The pending version is not wanted any more.
    NotWanted,
    /// A preparation has ended.
    Prepared {
        /// Its number.
        ticket: u64,
        /// The outcome.
        outcome: Result<Prepared, PrepareError>,
    },
    /// It is to have new instances, as the generation of this number.
    Restart {
        /// The number.
        generation: u64,
        /// The preparation by which it was linked again, and its version, if that was necessary.
        relinked: Option<(u64, Arc<Release>)>,
    },
    /// A worker reports.
    Worker {
        /// Its generation.
        generation: u64,
        /// The event.
        event: WorkerEvent,
        /// Whether others of its generation take work.
        others: bool,
    },
    /// The time to wait has passed.
    Due {
        /// For this generation.
        generation: u64,
    },
    /// The time to leave has passed.
    TimedOut {
        /// For this generation.
        generation: u64,
    },
    /// The time for a handover has passed.
    HandoverDue {
        /// Which handover.
        ticket: HandoverTicket,
        /// The guest was asked to save.
        save_begun: bool,
    },
    /// Its new version may go further.
    Open(HoldPoint),
    /// An operator stops it.
    Stop,
    /// It is there, and is not to start before an operator or a unit starts it.
    Rest {
        /// The routes it asks for.
        requests: Vec<RouteRequest>,
    },
    /// It is to go.
    Remove(StopReason),
    /// It is to go since the daemon ends. Its state is saved before, if there is one.
    Shutdown,
    /// It was added by a reload that changes nothing: it is not there.
    Forget,
}

/// A version that was compiled and linked.
#[derive(Debug)]
pub struct Prepared {
    /// The number that its generation gets.
    pub generation: u64,
    /// The daemon's start has ended.
    pub after_start: bool,
    /// The state that an earlier daemon saved for it.
    pub saved: Option<SavedState>,
}

/// The action to take.
#[derive(Debug)]
pub enum Action {
    /// The routes are to be published.
    Publish,
    /// The version that served last is to be read. The answer is [`PluginEvent::FallBack`] or
    /// [`PluginEvent::NoFallback`].
    ReadLastGood,
    /// A pool is to be made for a generation.
    Create {
        /// The generation.
        generation: u64,
        /// The source from which its instances are made.
        source: Source,
        /// The state that its instances take over when they start.
        inherited: Option<SavedState>,
    },
    /// An instance of this generation is to be started.
    StartWorker(u64),
    /// This generation is to start no more instances for now.
    Hold(u64),
    /// This generation may start instances when they are needed.
    Release(u64),
    /// This generation is to finish what it has, and stop its instances.
    Drain(u64, StopReason),
    /// The rest of this generation is to be ended.
    Kill(u64),
    /// [`PluginEvent::Due`] is wanted at this moment.
    WakeAt(u64, Instant),
    /// This generation is to hold its work and save its state.
    Save {
        /// The generation.
        generation: u64,
        /// The ticket to pass in [`PluginEvent::HandoverDue`].
        ticket: HandoverTicket,
        /// When it is wanted.
        timeout: Duration,
    },
    /// This generation is to take work again.
    Resume(u64),
    /// This generation is to take over this state.
    Restore(u64, SavedState),
    /// Instances of this generation take this over when they start.
    Inherit(u64, Option<SavedState>),
    /// This is to be kept for the next daemon, and nothing else.
    Keep(Option<SavedState>),
    /// Something is to be reported.
    Report(Fact),
}

/// The source from which the instances of a generation are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The result of this preparation.
    Preparation(u64),
    /// The same as those of this generation.
    Generation(u64),
}

/// A fact to report: in the log, and to those who wait.
#[derive(Debug)]
pub enum Fact {
    /// A worker ended that should not have.
    WorkerEnded {
        /// Its generation.
        generation: u64,
        /// Which.
        worker: u32,
        /// systemd's word for it.
        result: &'static str,
        /// Why.
        error: String,
        /// What else is known of it.
        post_mortem: PostMortem,
    },
    /// A new version serves.
    Ready {
        /// Its number.
        generation: u64,
        /// The one before, which finishes what it has.
        previous: Option<u64>,
    },
    /// The version that served last serves in the place of the newest one, which failed.
    FellBack(Box<PluginProblem>),
    /// A program returned ok.
    Returned {
        /// Its generation.
        generation: u64,
    },
    /// The newest version cannot be used.
    Failed(Box<PluginProblem>),
    /// The newest version did not start, and is tried again.
    Retried(Failed),
    /// An operator stopped it.
    Stopped,
    /// It was removed.
    Removed {
        /// The generation that served.
        serving: Option<u64>,
    },
    /// Nothing is left of a generation.
    Gone {
        /// Which.
        generation: u64,
    },
    /// Its state was not saved before the daemon ends.
    NotSaved {
        /// systemd's word for it.
        result: &'static str,
        /// Why.
        error: String,
    },
    /// Those who wait for new instances wait no more.
    NotRestarted(RestartError),
}

/// The results of one event.
struct Turn {
    now: Instant,
    steps: VecDeque<RolloutAction>,
    actions: Vec<Action>,
}

impl Turn {
    fn report(&mut self, fact: Fact) {
        self.actions.push(Action::Report(fact));
    }
}

impl ManagedPlugin {
    /// A plugin of which nothing is known.
    #[must_use]
    pub fn new(name: PluginName) -> Self {
        Self {
            name,
            generations: Rollout::default(),
            preparing: None,
            problem: None,
            removed: false,
            last_good: LastGood::default(),
            fallback: Fallback::default(),
            handover: HandoverTicket::default(),
            stopped: None,
            rollback: None,
        }
    }

    /// The same, with what a daemon before this one leaves for it.
    #[must_use]
    pub fn with_last_good(self, last_good: LastGood) -> Self {
        Self { last_good, ..self }
    }

    /// Takes an event, and returns what is to be done, in order.
    pub fn handle(&mut self, event: PluginEvent, now: Instant) -> Vec<Action> {
        let mut turn = Turn { now, steps: VecDeque::new(), actions: Vec::new() };
        match event {
            PluginEvent::Found { ticket, verified, requests, hold_point } => {
                self.fallback = Fallback::Unused;
                self.prepare(ticket, verified, requests, hold_point);
                self.give_up(&mut turn);
            }
            PluginEvent::FallBack { ticket, verified, requests } => {
                // Otherwise something newer was found meanwhile.
                if self.fallback == Fallback::Reading {
                    self.fallback = Fallback::Trying;
                    self.prepare(ticket, verified, requests, HoldPoint::Open);
                }
            }
            PluginEvent::NoFallback { left_out } => {
                if self.fallback == Fallback::Reading {
                    self.fallback = Fallback::Unused;
                    if let Some(problem) = &mut self.problem {
                        problem.left_out = left_out;
                    }
                }
            }
            PluginEvent::Unusable(problem) => self.fail(*problem, &mut turn),
            PluginEvent::Withdraw(problem) => {
                self.fail(*problem, &mut turn);
                turn.steps.extend(self.generations.remove(StopReason::Stop, now));
            }
            PluginEvent::Unchanged => {
                self.problem = None;
                self.cancel_pending(&mut turn);
            }
            // The last good version is wanted all the same.
            PluginEvent::NotWanted if self.fallback != Fallback::Unused => (),
            PluginEvent::NotWanted => self.cancel_pending(&mut turn),
            PluginEvent::Prepared { ticket, outcome } => self.prepared(ticket, outcome, &mut turn),
            PluginEvent::Restart { generation, relinked } => {
                self.restart(generation, relinked, &mut turn);
            }
            PluginEvent::Worker { generation, event, others } => {
                self.worker(generation, event, others, &mut turn);
            }
            PluginEvent::Due { generation } => self.advance(generation, Event::Due, &mut turn),
            PluginEvent::TimedOut { generation } => {
                self.advance(generation, Event::TimedOut, &mut turn);
            }
            PluginEvent::HandoverDue { ticket, save_begun } if ticket == self.handover => {
                self.handover_due(save_begun, &mut turn);
            }
            PluginEvent::HandoverDue { .. } => (),
            PluginEvent::Open(hold_point) => {
                turn.steps.extend(self.generations.open(hold_point, now))
            }
            PluginEvent::Stop => self.stop(&mut turn),
            PluginEvent::Rest { requests } => self.rest(requests, &mut turn),
            PluginEvent::Remove(reason) => self.remove(reason, &mut turn),
            PluginEvent::Shutdown => self.shut_down(&mut turn),
            PluginEvent::Forget => {
                self.cancel_pending(&mut turn);
                (self.removed, self.problem) = (true, None);
            }
        }
        while let Some(step) = turn.steps.pop_front() {
            self.carry_out(step, &mut turn);
        }
        turn.actions
    }

    fn prepare(
        &mut self,
        ticket: u64,
        verified: Verified,
        requests: Vec<RouteRequest>,
        hold_point: HoldPoint,
    ) {
        let (queued, wanted) = (true, Arc::default());
        self.preparing = Some(Preparing { ticket, verified, requests, hold_point, queued, wanted });
    }

    /// Carries out one decision of the rollout.
    fn carry_out(&mut self, step: RolloutAction, turn: &mut Turn) {
        match step {
            RolloutAction::Do(number, effect) => turn.actions.extend(self.action(number, effect)),
            RolloutAction::Publish => turn.actions.push(Action::Publish),
            RolloutAction::Swapped { new, old } => self.swapped(new, old, turn),
            RolloutAction::Save(generation) => {
                self.handover = HandoverTicket { generation, nth: self.handover.nth + 1 };
                let timeout = self.handover_timeout();
                turn.actions.push(Action::Save { generation, ticket: self.handover, timeout });
            }
            RolloutAction::Resume(number) => turn.actions.push(Action::Resume(number)),
            RolloutAction::Restore(number, state) => {
                turn.actions.push(Action::Restore(number, state));
            }
            RolloutAction::Concluded(number, state) => self.concluded(number, state, turn),
            RolloutAction::CandidateFailed(number) => {
                // Otherwise that was its end already.
                if let Some(candidate) = self.generations.candidate()
                    && candidate.number == number
                {
                    let problem = PluginProblem::of(candidate, FailedStage::Start);
                    self.fail(problem, turn);
                }
            }
            RolloutAction::SaverFailed(number) => self.saver_failed(number, turn),
        }
    }

    fn action(&mut self, number: u64, effect: Effect) -> Option<Action> {
        Some(match effect {
            Effect::StartWorker => Action::StartWorker(number),
            Effect::Hold => Action::Hold(number),
            Effect::Release => Action::Release(number),
            Effect::ShutDown => Action::Drain(number, self.generations.get_mut(number)?.reason),
            Effect::Kill => Action::Kill(number),
            Effect::WakeAt(moment) => Action::WakeAt(number, moment),
            Effect::Publish | Effect::Withdraw => Action::Publish,
        })
    }

    fn advance(&mut self, number: u64, event: Event, turn: &mut Turn) {
        turn.steps.extend(self.generations.handle(number, event, turn.now));
    }

    fn worker(&mut self, number: u64, event: WorkerEvent, others: bool, turn: &mut Turn) {
        let Some(generation) = self.generations.get_mut(number) else { return };
        let event = match event {
            WorkerEvent::Saved { outcome, .. } => return self.saved(number, outcome, turn),
            WorkerEvent::Restored { outcome, .. } => return self.restored(number, outcome, turn),
            WorkerEvent::Ready { .. } => Event::Ready,
            WorkerEvent::Returned => Event::Returned,
            WorkerEvent::Gone => Event::AllGone,
            WorkerEvent::Retired { worker, cause } => {
                if cause == Retirement::CallTimedOut {
                    let error = "a request took too long".to_owned();
                    let result = "timeout";
                    turn.report(Fact::WorkerEnded {
                        generation: number,
                        worker,
                        result,
                        error,
                        post_mortem: PostMortem::default(),
                    });
                }
                Event::Retired
            }
            WorkerEvent::Failed { worker, failure, stage, post_mortem } => {
                // Where each request has its own instance, many may fail to start during one pause.
                let is_known = stage == InstanceStage::Starting
                    && generation.lifecycle.state() == LifecycleState::Recovering;
                if !is_known {
                    let (result, error) = (failure.result(), failure.to_string());
                    turn.report(Fact::WorkerEnded {
                        generation: number,
                        worker,
                        result,
                        error,
                        post_mortem,
                    });
                }
                generation.failed(failure, stage, others)
            }
        };
        self.advance(number, event, turn);
    }

    /// Acts on a generation that has reached `state`.
    fn concluded(&mut self, number: u64, state: LifecycleState, turn: &mut Turn) {
        match state {
            LifecycleState::Failed => {
                let is_candidate =
                    self.generations.candidate().is_some_and(|it| it.number == number);
                let stage = if is_candidate { FailedStage::Start } else { FailedStage::Run };
                if let Some(generation) = self.generations.get_mut(number) {
                    let problem = PluginProblem::of(generation, stage);
                    self.fail(problem, turn);
                }
            }
            LifecycleState::Inactive => turn.report(Fact::Returned { generation: number }),
            // It is tried again, and nobody waits for that but the daemon's own start.
            LifecycleState::Waiting => {
                if let Some(failed) = self.failed() {
                    turn.report(Fact::Retried(failed));
                }
            }
            LifecycleState::Gone => turn.report(Fact::Gone { generation: number }),
            LifecycleState::Starting
            | LifecycleState::Active
            | LifecycleState::Recovering
            | LifecycleState::Leaving => (),
        }
    }

    /// A new version serves.
    fn swapped(&mut self, new: u64, old: Option<u64>, turn: &mut Turn) {
        let is_fallback = replace(&mut self.fallback, Fallback::Unused) == Fallback::Trying;
        // From now on the version before is the one that serves.
        self.last_good = LastGood::Nothing;
        let is_fixed = !is_fallback && self.is_fixed_by(new);
        self.problem.take_if(|_| is_fixed);
        let problem = self.problem.clone().filter(|_| is_fallback).map(Box::new);
        let saved = self.generations.saved().cloned();
        let hands_over = self.generations.get_mut(new).is_some_and(|new| new.hands_over());
        turn.actions.push(Action::Publish);
        if !hands_over {
            turn.actions.push(Action::Keep(None));
        }
        // An instance that replaces a failed one begins with that.
        turn.actions.push(Action::Inherit(new, saved));
        turn.report(Fact::Ready { generation: new, previous: old });
        if let Some(problem) = problem {
            turn.report(Fact::FellBack(problem));
        }
    }

    /// Whether the problem is not there any more when this generation serves. New instances of the previous version
    /// do not fix the newest one.
    fn is_fixed_by(&mut self, number: u64) -> bool {
        let Some(problem) = &self.problem else { return false };
        let Some(generation) = self.generations.get_mut(number) else { return true };
        let is_same = |failed: &Arc<Release>| failed.is_same(&generation.release);
        !generation.is_restart
            || problem.stage == FailedStage::Run
            || problem.release.as_ref().is_some_and(is_same)
    }

    /// The newest version cannot be used. The previous one keeps serving.
    fn fail(&mut self, mut problem: PluginProblem, turn: &mut Turn) {
        // It may quote files and components at length, and is reported in many places.
        problem.error = cut(&problem.error, ERROR_MAX).into_owned();
        problem.since = self.problem.as_ref().and_then(|before| before.since);
        self.preparing = None;
        let has_fallen_back = replace(&mut self.fallback, Fallback::Unused) == Fallback::Trying;
        let is_of_last_good = self.is_of_last_good(&problem);
        let has_served = self.generations.current().is_some();
        problem.left_out = !has_served && self.last_good == LastGood::Others;
        turn.report(Fact::Failed(Box::new(problem.clone())));
        // Where the last good version fails as well, the newest one is what has to be fixed.
        if !(has_fallen_back && is_of_last_good) {
            self.problem = Some(problem);
        }
        turn.actions.push(Action::Publish);
        self.give_up(turn);
        if !has_served && !is_of_last_good && matches!(self.last_good, LastGood::Version(_)) {
            self.fallback = Fallback::Reading;
            turn.actions.push(Action::ReadLastGood);
        }
    }

    /// Whether it is a problem of the version that served last.
    fn is_of_last_good(&self, problem: &PluginProblem) -> bool {
        let failed = problem.release.as_ref().map(|release| LastGood::Version(release.digests()));
        failed == Some(self.last_good)
    }

    /// Whether this version has never served, and others have, of it or of other plugins: one failure is enough then.
    fn is_new_to_last_good(&self, release: &Release) -> bool {
        match self.last_good {
            LastGood::Nothing => false,
            LastGood::Others => true,
            LastGood::Version(digests) => release.digests() != digests,
        }
    }

    fn give_up(&mut self, turn: &mut Turn) {
        turn.steps.extend(self.generations.give_up(turn.now));
    }

    fn cancel_pending(&mut self, turn: &mut Turn) {
        self.preparing = None;
        self.give_up(turn);
        turn.report(Fact::NotRestarted(RestartError::TakenBack));
    }

    fn prepared(&mut self, ticket: u64, outcome: Result<Prepared, PrepareError>, turn: &mut Turn) {
        // Otherwise something newer was found meanwhile, or nothing any more.
        let preparing = self.preparing.take_if(|preparing| preparing.ticket == ticket);
        let Some(Preparing { verified, requests, hold_point, .. }) = preparing else { return };
        let release = verified.release().clone();
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
        // Only the daemon's start waits for what is not there yet, and has a deadline for that.
        let is_to_follow = self.serving().is_some()
            || hold_point != HoldPoint::Open
            || self.is_new_to_last_good(&release);
        let policy = match (is_to_follow, release.manifest.required && !after_start) {
            (true, _) => StartPolicy::Candidate,
            (false, true) => StartPolicy::Required,
            (false, false) => StartPolicy::BestEffort,
        };
        let generation = Generation::new(generation, release, policy);
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

    /// Starts new instances of the version that there is, which take over when they are ready.
    fn restart(&mut self, number: u64, relinked: Option<(u64, Arc<Release>)>, turn: &mut Turn) {
        if self.removed {
            return turn.report(Fact::NotRestarted(RestartError::NoSuchPlugin));
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
                (_, None) => {
                    if let Some(failed) = self.failed() {
                        turn.report(Fact::NotRestarted(RestartError::Failed(failed)));
                    }
                    return;
                }
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

    /// The generation of which a restart makes new instances; none, if a pending version has new ones anyway.
    #[must_use]
    pub fn restarts_from(&self) -> Option<&Generation> {
        match self.is_in_progress() {
            true => self.generations.candidate().filter(|_| self.is_waiting()),
            false => self.generations.current(),
        }
    }

    fn remove(&mut self, reason: StopReason, turn: &mut Turn) {
        let was_there = !replace(&mut self.removed, true);
        (self.preparing, self.fallback) = (None, Fallback::Unused);
        let serving = self.generations.current().map(|current| current.number);
        turn.steps.extend(self.generations.remove(reason, turn.now));
        if was_there && reason == StopReason::Removed {
            turn.actions.push(Action::Keep(None));
            turn.report(Fact::Removed { serving });
            turn.report(Fact::NotRestarted(RestartError::NoSuchPlugin));
        }
    }

    fn shut_down(&mut self, turn: &mut Turn) {
        // Whether it saves before or not, it has ended when no worker is left.
        (self.preparing, self.removed, self.fallback) = (None, true, Fallback::Unused);
        turn.steps.extend(self.generations.save_and_stop(StopReason::Shutdown, turn.now));
    }

    /// This generation saved its state, or could not.
    fn saved(
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
    fn restored(&mut self, number: u64, outcome: Result<(), Failure>, turn: &mut Turn) {
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
    fn saver_failed(&mut self, number: u64, turn: &mut Turn) {
        let Some(generation) = self.generations.get_mut(number) else { return };
        let failure = generation.failure.as_ref();
        let result = failure.map_or("failed", Failure::result);
        let why = failure.map_or_else(|| "it ended".to_owned(), ToString::to_string);
        let error = format!("the old version failed to hand over: {why}");
        self.handover_failed(result, error, turn);
    }

    fn handover_due(&mut self, save_begun: bool, turn: &mut Turn) {
        let progress = self.generations.progress();
        let is_under_way = match progress {
            RolloutProgress::Saving | RolloutProgress::Restoring => true,
            // Work is held until all others are so far, too.
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

    fn handover_timeout(&self) -> Duration {
        let current = self.generations.current();
        current.map(|current| current.release.manifest.handover.timeout).unwrap_or_default()
    }

    /// The generation to which requests come.
    #[must_use]
    pub fn serving(&self) -> Option<&Generation> {
        self.generations.serving()
    }

    /// The newest generation that is there.
    #[must_use]
    pub fn newest(&self) -> Option<&Generation> {
        self.generations.candidate().or(self.generations.current())
    }

    /// Returns the stage of its new version, if one is in progress.
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
        let candidate = self.generations.candidate().map(|candidate| candidate.lifecycle.state());
        self.preparing.is_none() && candidate == Some(LifecycleState::Waiting)
    }

    /// Whether something is under way that may make it serve.
    #[must_use]
    pub fn is_in_progress(&self) -> bool {
        self.preparing.is_some()
            || self.fallback == Fallback::Reading
            || self.generations.candidate().is_some()
    }

    /// Whether nothing of it is left.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.removed
            && self.generations.current().is_none()
            && self.generations.leaving().is_empty()
    }

    /// The routes that a version on its way asks for, beside those that are served.
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
        let problem = || self.problem.as_ref().map(|problem| &*problem.requests);
        let newest = || self.newest().map(|newest| &*newest.requests);
        (preparing.or_else(problem).or_else(newest).unwrap_or_default(), None)
    }

    /// Whether the daemon is not ready without it, as its newest version says.
    #[must_use]
    pub fn is_required(&self) -> bool {
        let preparing =
            self.preparing.as_ref().map(|preparing| preparing.verified.manifest().required);
        let problem = self.problem.as_ref().map(|problem| problem.required);
        let newest = self.newest().map(|newest| newest.release.manifest.required);
        let stopped = self.stopped.as_ref().map(|stopped| stopped.required);
        stopped.or(preparing).or(problem).or(newest).unwrap_or(true)
    }

    /// Why its newest version does not serve, if that is so.
    #[must_use]
    pub fn failed(&self) -> Option<Failed> {
        if let Some(problem) = &self.problem {
            let failed = problem.failed(&self.name);
            // A version that is on its way may serve in its place.
            let exit = failed.exit && self.serving().is_none() && self.fallback == Fallback::Unused;
            let serves = self.serving().is_some() && problem.stage != FailedStage::Run;
            let previous_since = serves.then(|| problem.since.unwrap_or(SystemTime::UNIX_EPOCH));
            return Some(Failed { exit, previous_since, ..failed });
        }
        // That is not for good.
        Some(Failed { exit: false, ..self.waiting_problem(false)?.failed(&self.name) })
    }

    /// The generation that is to serve and has no instance that does: the last one failed, and the next one is not ready.
    #[must_use]
    pub fn down(&self) -> Option<&Generation> {
        self.serving().filter(|serving| serving.lifecycle.is_down())
    }

    /// Why the version that is tried again did not start; `required` means one for which the daemon's start waits.
    #[must_use]
    pub fn waiting_problem(&self, required: bool) -> Option<PluginProblem> {
        let candidate = self.generations.candidate().filter(|candidate| {
            candidate.lifecycle.state() == LifecycleState::Waiting
                && (candidate.lifecycle.policy() == StartPolicy::Required) == required
        })?;
        Some(PluginProblem::of(candidate, FailedStage::Start))
    }
}

mod rollback;
mod stopped;
#[cfg(test)]
mod tests;
