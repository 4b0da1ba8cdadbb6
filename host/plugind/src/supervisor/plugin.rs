//! One plugin as the supervisor sees it: the version that serves, the one that is to follow, and those that are leaving.
//!
//! No clock, no I/O, no guest: events come in, actions go out. All that is decided about one plugin is decided here and
//! in the files of this folder, in one pass for each event; the supervisor only executes the actions.

mod action;
mod event;
mod failed;
mod handover;
mod new_version;
mod on_demand;
mod removed;
mod rollback;
mod status;
mod stopped;
#[cfg(test)]
mod tests;

pub use action::{Action, Fact, Source};
pub use event::{HandoverTicket, PluginEvent, Prepared};

use crate::{
    api::FailedStage,
    base::name::PluginName,
    plugin::{archive::LastGood, verify::Verified},
    pool::{
        post_mortem::PostMortem,
        worker_event::{Retirement, WorkerEvent},
    },
    route::owners::RouteRequest,
    supervisor::{
        generation::Generation,
        lifecycle::{Effect, Event, LifecycleState, StartPolicy},
        operated::{Rollback, StoppedPlugin},
        problem::PluginProblem,
        rollout::{HoldPoint, Rollout, RolloutAction},
    },
    world::bindings::exports::plugind::plugin::lifecycle::StopReason,
};
use std::{collections::VecDeque, sync::Arc, time::Instant};

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
    /// Why the newest version that was tried does not serve: [`ManagedPlugin::current_problem`] says whether that is
    /// still so.
    pub problem: Option<PluginProblem>,
    /// Why the newest version does not serve, while the problem is that the version before it has failed as well.
    newest_problem: Option<PluginProblem>,
    /// Its files were removed, or the daemon ends: it is removed when its generations have ended.
    pub removed: bool,
    /// The version to use if no version has served yet and the newest one fails.
    last_good: LastGood,
    /// The progress of its use.
    fallback: Fallback,
    /// The handover that was begun last.
    handover: HandoverTicket,
    /// An operator stopped it, or it does not start by itself: nothing of it is prepared until it is started.
    stopped: Option<StoppedPlugin>,
    /// An operator rolled it back.
    rollback: Option<Rollback>,
    /// An operator starts it: its next version is not only tried, although it starts on demand.
    starts_now: bool,
}

/// The progress of using the last good version.
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
            newest_problem: None,
            removed: false,
            last_good: LastGood::default(),
            fallback: Fallback::default(),
            handover: HandoverTicket::default(),
            stopped: None,
            rollback: None,
            starts_now: false,
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
                    // Clients may wait for its outcome meanwhile.
                    turn.report(Fact::NotRestarted(self.why_not_serving()));
                }
            }
            PluginEvent::Unusable(problem) => self.fail(*problem, &mut turn),
            PluginEvent::Withdraw(problem) => {
                self.fail(*problem, &mut turn);
                turn.steps.extend(self.generations.remove(StopReason::Stop, now));
            }
            PluginEvent::Unchanged => {
                self.forget_problem();
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
                self.removed = true;
                self.forget_problem();
                // An operator may have started it meanwhile.
                turn.steps.extend(self.generations.remove(StopReason::Removed, now));
            }
        }
        while let Some(step) = turn.steps.pop_front() {
            self.carry_out(step, &mut turn);
        }
        turn.actions
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
            Effect::StartWorker if self.is_only_tried(number) => Action::TryInstance(number),
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
            // It changes the summary alone.
            WorkerEvent::Degraded => return,
            WorkerEvent::Ready { .. } => Event::Ready,
            // Another one has been started meanwhile.
            WorkerEvent::Idle { .. } if others => return,
            WorkerEvent::Idle { state } => {
                self.keep_idle_state(number, state, turn);
                self.hold_idle_candidate(number, turn);
                Event::Idle
            }
            WorkerEvent::Waking => Event::Waking,
            WorkerEvent::Returned => Event::Returned,
            WorkerEvent::Gone => Event::AllGone,
            WorkerEvent::Retired { worker, cause } => {
                if let Retirement::CallTimedOut(request) = cause {
                    let error = "a call was not answered within limits.request-timeout".to_owned();
                    let result = "timeout";
                    turn.report(Fact::WorkerEnded {
                        generation: number,
                        worker,
                        result,
                        error,
                        post_mortem: PostMortem { request, ..PostMortem::default() },
                    });
                }
                Event::Retired
            }
            WorkerEvent::Failed { worker, failure, stage, post_mortem } => {
                // Where each request has its own instance, many may fail to start during one pause.
                let is_known =
                    stage.is_start() && generation.lifecycle.state() == LifecycleState::Recovering;
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
        let before = self.demand_of(number);
        self.advance(number, event, turn);
        self.report_demand(number, before, event, turn);
    }

    /// Acts on a generation that has reached `state`.
    fn concluded(&mut self, number: u64, state: LifecycleState, turn: &mut Turn) {
        match state {
            LifecycleState::Failed => {
                let is_candidate =
                    self.generations.candidate().is_some_and(|it| it.number == number);
                if let Some(generation) = self.generations.get_mut(number) {
                    let is_start = is_candidate || generation.failed_on_demand;
                    let stage = if is_start { FailedStage::Start } else { FailedStage::Run };
                    let problem = PluginProblem::of(generation, stage);
                    match !is_candidate && self.is_in_progress() {
                        true => self.fail_followed(problem, turn),
                        false => self.fail(problem, turn),
                    }
                }
            }
            LifecycleState::Inactive => turn.report(Fact::Returned { generation: number }),
            // It is tried again, and nobody waits for that but the daemon's own start.
            LifecycleState::Waiting => {
                let is_required = |it: &Generation| it.lifecycle.policy() == StartPolicy::Required;
                if !self.waiting().is_some_and(is_required)
                    && let Some(failed) = self.retried()
                {
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
}
