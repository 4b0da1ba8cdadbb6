//! What generations decide is done, and its conclusions are drawn for their plugins.

use super::Supervisor;
use crate::{
    crew::News,
    generation::Generation,
    journal::messages,
    keeper::{Message, RestartError},
    kept::{Kept, Problem},
    lifecycle::{Effect, Event, State, Trial},
    name::PluginName,
    summary::Stage,
    text::cut,
    world::bindings::exports::plugind::plugin::lifecycle::StopReason,
};
use std::{
    mem::replace,
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

/// How much later than its instances' own deadline a generation is ended from outside.
const GRACE: Duration = Duration::from_secs(1);
/// The longest that is told of why something failed, in bytes.
pub(super) const ERROR_MAX: usize = 8 << 10;

impl Supervisor {
    /// Starts new instances of the version that there is, which take over when they are ready.
    pub(super) fn restart(
        &mut self,
        name: PluginName,
        reply: oneshot::Sender<Result<u64, RestartError>>,
    ) {
        let refused = match self.plugins.get(&name).filter(|kept| !kept.removed) {
            None => Some(RestartError::NoSuchPlugin),
            // What waits for its next try has it now.
            Some(Kept { candidate: Some(candidate), .. })
                if candidate.life.state() == State::Waiting =>
            {
                let trial = candidate.life.trial();
                let linked = candidate.pool.linked().clone();
                self.dismiss_candidate(&name);
                self.try_out(&name, linked, trial);
                None
            }
            // What is on its way has new instances, too.
            Some(kept) if kept.is_on_its_way() => None,
            Some(Kept { current: Some(current), .. }) => {
                let linked = current.pool.linked().clone();
                self.try_out(&name, linked, Trial::Candidate);
                None
            }
            Some(kept) => kept.failed(&name).map(RestartError::Failed),
        };
        match refused {
            // Whoever asked may have gone away.
            Some(why) => drop(reply.send(Err(why))),
            None => self.restarts.push((name, reply)),
        }
    }

    pub(super) fn restarted(&mut self, name: &PluginName, outcome: &Result<u64, RestartError>) {
        for (_, reply) in self.restarts.extract_if(.., |(waited_for, _)| waited_for == name) {
            reply.send(outcome.clone()).ok();
        }
    }

    pub(super) fn worker_news(&mut self, name: &PluginName, number: u64, news: News) {
        let ended = match &news {
            News::Failed { worker, failure, .. } => {
                Some((worker, failure.result(), failure.to_string()))
            }
            News::Retired { worker } => {
                Some((worker, "timeout", "a request took too long".to_owned()))
            }
            News::Ready { .. } | News::Aged | News::Returned | News::Gone => None,
        };
        if let Some((worker, result, error)) = ended {
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
        let event = generation.event(news);
        self.event(name, number, event);
    }

    fn generation(&mut self, name: &PluginName, number: u64) -> Option<&mut Generation> {
        self.plugins.get_mut(name)?.generation(number)
    }

    /// Lets one generation decide, does what it decided, and draws the conclusions for its plugin.
    pub(super) fn event(&mut self, name: &PluginName, number: u64, event: Event) {
        let Some(generation) = self.generation(name, number) else { return };
        let before = generation.life.state();
        let effects = generation.life.handle(event, Instant::now());
        let after = generation.life.state();
        for effect in effects {
            self.perform(name, number, effect);
        }
        if before != after {
            self.conclude(name, number, after);
        }
    }

    /// Sets work going and returns at once; its outcome comes back as news.
    fn perform(&mut self, name: &PluginName, number: u64, effect: Effect) {
        let inbox = self.inbox.clone();
        let Some(generation) = self.generation(name, number) else { return };
        match effect {
            Effect::StartWorker => generation.pool.start_worker(),
            Effect::Hold => generation.pool.hold(),
            Effect::Release => generation.pool.release(),
            Effect::Dismiss => {
                generation.pool.dismiss(generation.reason);
                let patience = generation.pool.patience() + GRACE;
                remind(
                    inbox,
                    patience,
                    Message::TimedOut { name: name.clone(), generation: number },
                );
            }
            Effect::Kill => generation.pool.kill(),
            Effect::WakeAt(moment) => {
                let time = moment.saturating_duration_since(Instant::now());
                remind(inbox, time, Message::Due { name: name.clone(), generation: number });
            }
            Effect::Publish => self.take_over(name, number),
            Effect::Withdraw => self.publish(),
        }
    }

    /// Draws the conclusions of a generation's having come to `state`.
    fn conclude(&mut self, name: &PluginName, number: u64, state: State) {
        match state {
            State::Failed => self.generation_failed(name, number),
            State::Inactive => {
                // A program that was quick to return was never said to be ready.
                self.take_over(name, number);
                info!(
                    message_id = messages::PLUGIN_INACTIVE,
                    plugin = %name,
                    generation = number,
                    result = "success",
                    "plugin inactive"
                );
            }
            State::Waiting => {
                // It is tried again, and nobody waits for that but the daemon's own start.
                let kept = self.plugins.get(name);
                if let Some(failed) = kept.and_then(|kept| kept.failed(name)) {
                    self.note(|reload| reload.failed(failed.clone()));
                    self.restarted(name, &Err(RestartError::Failed(failed)));
                }
            }
            State::Gone => {
                let Some(kept) = self.plugins.get_mut(name) else { return };
                kept.leaving.retain(|generation| generation.number != number);
                if kept.is_gone() {
                    self.plugins.remove(name);
                }
            }
            State::Starting | State::Active | State::Recovering | State::Leaving => (),
        }
    }

    /// The candidate is ready: it takes the place of the current generation in one swap.
    fn take_over(&mut self, name: &PluginName, number: u64) {
        let Some(kept) = self.plugins.get_mut(name) else { return };
        let Some(candidate) = kept.candidate.take_if(|candidate| candidate.number == number) else {
            return;
        };
        let mut candidate = candidate;
        candidate.since = Some(SystemTime::now());
        let replaced = kept.current.replace(candidate);
        kept.problem = None;
        let routes: Vec<_> = kept.routes().0.iter().map(|(route, _)| route.to_string()).collect();
        let route = if routes.is_empty() { "-".to_owned() } else { routes.join(" ") };
        self.publish();
        info!(
            message_id = messages::PLUGIN_READY,
            plugin = %name,
            generation = number,
            route,
            "plugin ready"
        );
        if let Some(replaced) = replaced {
            self.let_go(name, replaced, StopReason::Reload);
        }
        self.note(|reload| reload.taken_over(name));
        self.restarted(name, &Ok(number));
    }

    fn generation_failed(&mut self, name: &PluginName, number: u64) {
        let Some(kept) = self.plugins.get_mut(name) else { return };
        let stage = match &kept.candidate {
            Some(candidate) if candidate.number == number => Stage::Start,
            _ => Stage::Run,
        };
        let Some(generation) = kept.generation(number) else { return };
        let problem = Problem::of(generation, stage);
        self.problem(name, problem);
        self.publish();
    }

    /// The newest version of a plugin cannot be used. What there was goes on.
    pub(super) fn problem(&mut self, name: &PluginName, mut problem: Problem) {
        // It may quote files and components at length, and is told in many places.
        problem.error = cut(&problem.error, ERROR_MAX).into_owned();
        error!(
            message_id = messages::PLUGIN_FAILED,
            plugin = %name,
            generation = problem.generation,
            stage = %problem.stage,
            error = problem.error,
            "plugin failed"
        );
        let failed = problem.failed(name);
        let Some(kept) = self.plugins.get_mut(name) else { return };
        (kept.preparing, kept.problem) = (None, Some(problem));
        self.dismiss_candidate(name);
        self.note(|reload| reload.failed(failed.clone()));
        self.restarted(name, &Err(RestartError::Failed(failed)));
    }

    pub(super) fn dismiss_candidate(&mut self, name: &PluginName) {
        let candidate = self.plugins.get_mut(name).and_then(|kept| kept.candidate.take());
        if let Some(candidate) = candidate {
            self.let_go(name, candidate, StopReason::Stop);
        }
    }

    fn let_go(&mut self, name: &PluginName, mut generation: Generation, reason: StopReason) {
        let Some(kept) = self.plugins.get_mut(name) else { return };
        let number = generation.number;
        generation.reason = reason;
        kept.leaving.push(generation);
        self.event(name, number, Event::Dismiss);
    }

    pub(super) fn remove(&mut self, name: &PluginName, reason: StopReason) {
        let Some(kept) = self.plugins.get_mut(name) else { return };
        let was_there = !replace(&mut kept.removed, true);
        kept.preparing = None;
        let all: Vec<_> = kept.current.take().into_iter().chain(kept.candidate.take()).collect();
        for generation in all {
            self.let_go(name, generation, reason);
        }
        if was_there && reason == StopReason::Removed {
            info!(message_id = messages::PLUGIN_REMOVED, plugin = %name, "plugin removed");
            self.note(|reload| reload.removed.extend([name.clone()]));
            self.restarted(name, &Err(RestartError::NoSuchPlugin));
        }
        if self.plugins.get(name).is_some_and(Kept::is_gone) {
            self.plugins.remove(name);
        }
    }
}

fn remind(inbox: mpsc::UnboundedSender<Message>, time: Duration, message: Message) {
    tokio::spawn(async move {
        tokio::time::sleep(time).await;
        inbox.send(message).ok();
    });
}
