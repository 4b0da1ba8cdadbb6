//! What generations decide is done, and its conclusions are drawn for their plugins.

use crate::supervisor::Supervisor;
use crate::{
    base::{name::PluginName, text::cut},
    journal::messages,
    pool::workers::{InstanceStage, WorkerEvent},
    supervisor::{
        generation::Generation,
        handle::{Message, RestartError},
        lifecycle::{Effect, Event, LifecycleState, StartPolicy},
        plugin::{ManagedPlugin, PluginProblem},
        rollout::{HoldPoint, RolloutAction},
        summary::FailedStage,
    },
    world::bindings::exports::plugind::plugin::lifecycle::StopReason,
};
use std::{
    mem::replace,
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

/// How much later than its instances' own deadline a generation is ended from outside.
const GRACE: Duration = Duration::from_secs(1);
/// The longest reason of a failure that is reported, in bytes.
pub(super) const ERROR_MAX: usize = 8 << 10;

impl Supervisor {
    /// Starts new instances of the version that there is, which take over when they are ready.
    pub(super) fn restart(
        &mut self,
        name: PluginName,
        reply: oneshot::Sender<Result<u64, RestartError>>,
    ) {
        let refused = match self.plugins.get(&name).filter(|managed| !managed.removed) {
            None => Some(RestartError::NoSuchPlugin),
            Some(managed) => match (managed.generations.candidate(), managed.generations.current())
            {
                // What waits for its next try has it now.
                (Some(candidate), _) if managed.is_waiting() => {
                    let (policy, hold_point) =
                        (candidate.lifecycle.policy(), managed.generations.hold_point());
                    let linked = candidate.pool.linked().clone();
                    self.start_candidate(&name, linked, policy, hold_point);
                    None
                }
                // What is on its way has new instances, too.
                _ if managed.is_in_progress() => None,
                (_, Some(current)) => {
                    let linked = current.pool.linked().clone();
                    self.start_candidate(&name, linked, StartPolicy::Candidate, HoldPoint::Open);
                    None
                }
                (_, None) => managed.failed(&name).map(RestartError::Failed),
            },
        };
        match refused {
            // The client may have gone away.
            Some(why) => drop(reply.send(Err(why))),
            None => self.restarts.push((name, reply)),
        }
    }

    pub(super) fn restarted(&mut self, name: &PluginName, outcome: &Result<u64, RestartError>) {
        for (_, reply) in self.restarts.extract_if(.., |(waited_for, _)| waited_for == name) {
            reply.send(outcome.clone()).ok();
        }
    }

    pub(super) fn worker_event(&mut self, name: &PluginName, number: u64, event: WorkerEvent) {
        let ended = match &event {
            WorkerEvent::Failed { worker, failure, .. } => {
                Some((worker, failure.result(), failure.to_string()))
            }
            WorkerEvent::Retired { worker } => {
                Some((worker, "timeout", "a request took too long".to_owned()))
            }
            WorkerEvent::Ready { .. }
            | WorkerEvent::Aged
            | WorkerEvent::Returned
            | WorkerEvent::Gone
            | WorkerEvent::Saved { .. }
            | WorkerEvent::Restored { .. } => None,
        };
        let is_paused = self
            .generation(name, number)
            .is_some_and(|generation| generation.lifecycle.state() == LifecycleState::Recovering);
        // Where each request has its own instance, many may fail to start during one pause.
        let is_known = is_paused
            && matches!(event, WorkerEvent::Failed { stage: InstanceStage::Starting, .. });
        if let Some((worker, result, error)) = ended.filter(|_| !is_known) {
            warn!(
                message_id = messages::WORKER_ENDED,
                plugin = %name,
                generation = number,
                worker,
                result,
                error,
                "worker ended"
            );
        }
        let Some(generation) = self.generation(name, number) else { return };
        let event = match event {
            WorkerEvent::Saved { save, outcome, .. } => {
                return self.saved(name, number, save, outcome);
            }
            WorkerEvent::Restored { outcome, .. } => return self.restored(name, number, outcome),
            event => generation.event(event),
        };
        if let Some(event) = event {
            self.event(name, number, event);
        }
    }

    fn generation(&mut self, name: &PluginName, number: u64) -> Option<&mut Generation> {
        self.plugins.get_mut(name)?.generations.get_mut(number)
    }

    /// Lets a plugin's generations decide, and does what they decided.
    pub(super) fn event(&mut self, name: &PluginName, number: u64, event: Event) {
        let Some(managed) = self.plugins.get_mut(name) else { return };
        let actions = managed.generations.handle(number, event, Instant::now());
        self.carry_out(name, actions);
    }

    /// Does what was decided, and draws the conclusions for the plugin.
    pub(super) fn carry_out(&mut self, name: &PluginName, actions: Vec<RolloutAction>) {
        for order in actions {
            match order {
                RolloutAction::Do(number, effect) => self.perform(name, number, effect),
                RolloutAction::Publish => self.publish(),
                RolloutAction::Swapped { new, old } => self.swapped(name, new, old),
                RolloutAction::Save(number) => self.save(name, number),
                RolloutAction::Resume(number) => {
                    if let Some(generation) = self.generation(name, number) {
                        generation.pool.resume();
                    }
                }
                RolloutAction::Restore(number, saved_state) => {
                    if let Some(generation) = self.generation(name, number) {
                        generation.pool.restore(saved_state);
                    }
                }
                RolloutAction::Concluded(number, state) => self.conclude(name, number, state),
                RolloutAction::CandidateFailed(number) => self.candidate_failed(name, number),
                RolloutAction::SaverFailed(number) => self.saver_failed(name, number),
            }
        }
        if self.plugins.get(name).is_some_and(ManagedPlugin::is_gone) {
            self.plugins.remove(name);
        }
    }

    /// Sets work going and returns at once; its outcome comes back as a message.
    fn perform(&mut self, name: &PluginName, number: u64, effect: Effect) {
        let inbox = self.inbox.clone();
        let Some(generation) = self.generation(name, number) else { return };
        match effect {
            Effect::StartWorker => generation.pool.start_worker(),
            Effect::Hold => generation.pool.hold(),
            Effect::Release => generation.pool.release(),
            Effect::ShutDown => {
                generation.pool.shut_down(generation.reason);
                let wait_max = generation.pool.wait_max() + GRACE;
                send_after(
                    inbox,
                    wait_max,
                    Message::TimedOut { name: name.clone(), generation: number },
                );
            }
            Effect::Kill => generation.pool.kill(),
            Effect::WakeAt(moment) => {
                let time = moment.saturating_duration_since(Instant::now());
                send_after(inbox, time, Message::Due { name: name.clone(), generation: number });
            }
            // Those are orders of the plugin as a whole.
            Effect::Publish | Effect::Withdraw => (),
        }
    }

    /// Draws the conclusions of a generation's having come to `state`.
    fn conclude(&mut self, name: &PluginName, number: u64, state: LifecycleState) {
        match state {
            LifecycleState::Failed => self.generation_failed(name, number),
            LifecycleState::Inactive => {
                info!(
                    message_id = messages::PLUGIN_INACTIVE,
                    plugin = %name,
                    generation = number,
                    result = "success",
                    "plugin inactive"
                );
            }
            LifecycleState::Waiting => {
                // It is tried again, and nobody waits for that but the daemon's own start.
                let managed = self.plugins.get(name);
                if let Some(failed) = managed.and_then(|managed| managed.failed(name)) {
                    self.reloads.note(|reload| reload.failed(failed.clone()));
                    self.restarted(name, &Err(RestartError::Failed(failed)));
                }
            }
            LifecycleState::Gone => {
                self.reloads.drained(name, number);
            }
            LifecycleState::Starting
            | LifecycleState::Active
            | LifecycleState::Recovering
            | LifecycleState::Leaving => (),
        }
    }

    /// A new version serves.
    fn swapped(&mut self, name: &PluginName, new: u64, old: Option<u64>) {
        let Some(managed) = self.plugins.get_mut(name) else { return };
        managed.problem = None;
        let saved = managed.generations.saved().cloned();
        if let Some(generation) = managed.generations.get_mut(new) {
            if !generation.pool.hands_over() {
                self.deps.store.remove(name);
            }
            generation.since = Some(SystemTime::now());
            // An instance that replaces a failed one begins with that.
            generation.pool.set_initial_state(saved);
        }
        let routes: Vec<_> =
            managed.routes().0.iter().map(|(route, _)| route.to_string()).collect();
        let route = if routes.is_empty() { "-".to_owned() } else { routes.join(" ") };
        self.publish();
        info!(
            message_id = messages::PLUGIN_READY,
            plugin = %name,
            generation = new,
            route,
            "plugin ready"
        );
        self.reloads.note(|reload| {
            if reload.awaits(name)
                && let Some(old) = old
            {
                reload.drains(name, old);
            }
            reload.taken_over(name);
        });
        self.restarted(name, &Ok(new));
    }

    /// A new version was ready and failed before it took over.
    fn candidate_failed(&mut self, name: &PluginName, number: u64) {
        let Some(generation) = self.generation(name, number) else { return };
        let problem = PluginProblem::of(generation, FailedStage::Start);
        self.problem(name, problem);
        self.publish();
    }

    /// The version that serves failed while it was to save its state.
    fn saver_failed(&mut self, name: &PluginName, number: u64) {
        let Some(generation) = self.generation(name, number) else { return };
        let failure = generation.failure.as_ref();
        let result = failure.map_or("failed", crate::pool::failure::Failure::result);
        let why = failure.map_or_else(|| "it ended".to_owned(), ToString::to_string);
        let error = format!("the old version failed to hand over: {why}");
        self.handover_failed(name, result, error);
    }

    fn generation_failed(&mut self, name: &PluginName, number: u64) {
        let Some(managed) = self.plugins.get_mut(name) else { return };
        let stage = match managed.generations.candidate() {
            Some(candidate) if candidate.number == number => FailedStage::Start,
            _ => FailedStage::Run,
        };
        let Some(generation) = managed.generations.get_mut(number) else { return };
        let problem = PluginProblem::of(generation, stage);
        self.problem(name, problem);
        self.publish();
    }

    /// The newest version of a plugin cannot be used. The previous one keeps serving.
    pub(super) fn problem(&mut self, name: &PluginName, mut problem: PluginProblem) {
        // It may quote files and components at length, and is reported in many places.
        problem.error = cut(&problem.error, ERROR_MAX).into_owned();
        self.log_failure(name, &problem);
        let failed = problem.failed(name);
        let Some(managed) = self.plugins.get_mut(name) else { return };
        (managed.preparing, managed.problem) = (None, Some(problem));
        self.shut_down_candidate(name);
        self.reloads.note(|reload| reload.failed(failed.clone()));
        self.restarted(name, &Err(RestartError::Failed(failed)));
    }

    pub(super) fn shut_down_candidate(&mut self, name: &PluginName) {
        let Some(managed) = self.plugins.get_mut(name) else { return };
        let actions = managed.generations.give_up(Instant::now());
        self.carry_out(name, actions);
    }

    pub(super) fn remove(&mut self, name: &PluginName, reason: StopReason) {
        let actions = self.removal(name, reason);
        self.carry_out(name, actions);
    }

    /// Says that a plugin is to go, and returns what there is to do for that.
    pub(super) fn removal(&mut self, name: &PluginName, reason: StopReason) -> Vec<RolloutAction> {
        let Some(managed) = self.plugins.get_mut(name) else { return Vec::new() };
        let was_there = !replace(&mut managed.removed, true);
        managed.preparing = None;
        let current = managed.generations.current().map(|current| current.number);
        let actions = managed.generations.remove(reason, Instant::now());
        if was_there && reason == StopReason::Removed {
            info!(message_id = messages::PLUGIN_REMOVED, plugin = %name, "plugin removed");
            self.deps.store.remove(name);
            self.reloads.note(|reload| {
                reload.removed.extend([name.clone()]);
                if let Some(current) = current {
                    reload.drains(name, current);
                }
            });
            self.restarted(name, &Err(RestartError::NoSuchPlugin));
        }
        actions
    }
}

pub(super) fn send_after(inbox: mpsc::UnboundedSender<Message>, time: Duration, message: Message) {
    tokio::spawn(async move {
        tokio::time::sleep(time).await;
        inbox.send(message).ok();
    });
}
