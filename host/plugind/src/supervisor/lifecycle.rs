//! The next step of one generation of a plugin, as a table. No clock, no I/O, no guest: events come in, effects go out.
//!
//! The effect of a failure before the generation was ever ready depends on who waits for it:
//!
//! | failure | candidate of a reload | required, at the daemon's start | left out of that start | any other |
//! | --- | --- | --- | --- | --- |
//! | `configuration` | fails | fails | fails | fails |
//! | `unavailable`, no room | fails | retried until `start-deadline-sec` | retried as long as it is wanted | the same |
//! | any other | fails | fails | fails | retried up to the start limit |
//!
//! Later, [`Restarts`] decides.

use crate::supervisor::restart::{Decision, FailureKind, Restarts};
use std::{mem::take, time::Instant};

/// The state of a generation's lifecycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifecycleState {
    /// Its first instance is being started.
    Starting,
    /// It serves.
    Active,
    /// It served, and waits before it replaces an instance that failed. Requests go to the others, or wait.
    Recovering,
    /// It was not ready yet, and waits before it is tried again.
    Waiting,
    /// It was not started yet, or is a program that returned ok.
    Inactive,
    /// It failed for good.
    Failed,
    /// It is shutting down, and finishes its requests.
    Leaving,
    /// Nothing is left of it.
    Gone,
}

/// An event of the generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is to be started.
    Start,
    /// An instance is ready.
    Ready,
    /// No instance is left, since there has been no work for long; or one was tried, and none is started before there is
    /// work.
    Idle,
    /// An instance is started although there was none, since there is work.
    Waking,
    /// An instance failed, and there are others or not.
    InstanceFailed {
        /// The kind of the failure.
        kind: FailureKind,
        /// Whether others take work.
        others: bool,
    },
    /// An instance takes no more work because a request in it took too long or because it is recycled. It did nothing
    /// else wrong.
    Retired,
    /// An instance failed before it was ready, and there are others or not.
    StartFailed {
        /// The kind of the failure.
        kind: FailureKind,
        /// Whether others take work.
        others: bool,
    },
    /// The program returned ok.
    Returned,
    /// The wait has ended.
    Due,
    /// It must end.
    ShutDown,
    /// All of its instances are gone.
    AllGone,
    /// Its time to stop has passed.
    TimedOut,
}

/// The action to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Start an instance.
    StartWorker,
    /// Start no more instances for now.
    Hold,
    /// Start more instances when they are needed.
    Release,
    /// Let requests come to it.
    Publish,
    /// Let no more requests come to it.
    Withdraw,
    /// Report when this moment has come.
    WakeAt(Instant),
    /// Take no more requests, finish what is under way, stop the instances.
    ShutDown,
    /// End what is left.
    Kill,
}

/// The policy for failures before it was ever ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartPolicy {
    /// Each is final: it is to replace another generation, which keeps serving.
    Candidate,
    /// Each is final, unless something is not there yet: the daemon's start waits for it.
    Required,
    /// The same, and the daemon's start waits for its first attempt only: it has never served, and others have.
    LeftOut,
    /// Like later ones: nobody waits for it.
    BestEffort,
}

/// Whether a generation that is to serve has an instance, if it starts on demand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Demand {
    /// It has one, or is to have one.
    #[default]
    Running,
    /// It has none, and its next request or connection starts one.
    Idle,
    /// Its first one is being started by a request or connection.
    Waking,
}

/// The lifecycle of one generation.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    state: LifecycleState,
    policy: StartPolicy,
    restarts: Restarts,
    limit_hit: bool,
    /// It waits only for room in the pool.
    waits_for_room: bool,
    /// It was ready, and its last instance failed: nothing serves until the next one is ready.
    down: bool,
    /// Whether it has an instance, if it starts on demand.
    demand: Demand,
    /// When the next instance is started.
    next_attempt: Option<Instant>,
}

impl Lifecycle {
    /// One that was not started yet.
    #[must_use]
    pub fn new(policy: StartPolicy, restarts: Restarts) -> Self {
        Self {
            state: LifecycleState::Inactive,
            policy,
            restarts,
            limit_hit: false,
            waits_for_room: false,
            down: false,
            demand: Demand::Running,
            next_attempt: None,
        }
    }

    /// Returns its place in the lifecycle.
    #[must_use]
    pub fn state(&self) -> LifecycleState {
        self.state
    }

    /// The policy for failures before it was ever ready.
    #[must_use]
    pub fn policy(&self) -> StartPolicy {
        self.policy
    }

    /// Whether it is to serve, and no instance does: the last one failed, and the next one is not ready yet.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.down && matches!(self.state, LifecycleState::Active | LifecycleState::Recovering)
    }

    /// Whether it has an instance, if it starts on demand.
    #[must_use]
    pub fn demand(&self) -> Demand {
        self.demand
    }

    /// When the next instance is started, if it waits for that.
    #[must_use]
    pub fn next_attempt(&self) -> Option<Instant> {
        self.next_attempt
    }

    /// Whether it failed because it was started too often in too short a time.
    #[must_use]
    pub fn limit_hit(&self) -> bool {
        self.limit_hit
    }

    /// Takes one event; returns what is to be done about it, in order.
    pub fn handle(&mut self, event: Event, now: Instant) -> Vec<Effect> {
        use {Effect as E, Event::*, LifecycleState::*};

        if event == Ready {
            self.down = false;
            self.restarts.ready();
        }
        let before = self.state;
        self.demand = self.demand_after(event);
        let (next, effects) = match (before, event) {
            (Inactive, Start) => (Starting, vec![E::StartWorker]),

            (Starting | Waiting, Ready | Idle) => (Active, vec![E::Publish]),

            (Starting | Waiting, InstanceFailed { kind, .. } | StartFailed { kind, .. }) => {
                self.not_started(kind, now)
            }
            // That is no failure of the plugin, whatever its kind: others serve. The next start waits as for room.
            (Active, StartFailed { others: true, .. }) => {
                self.waits_for_room = true;
                let moment = now + self.restarts.longest();
                (Recovering, vec![E::Hold, E::WakeAt(moment)])
            }
            (Recovering, StartFailed { others: true, .. }) => (Recovering, vec![]),
            (
                Active | Recovering,
                InstanceFailed { kind, others } | StartFailed { kind, others },
            ) => {
                self.down |= !others;
                self.not_running(kind, others, now)
            }

            (Active, Retired) => (Active, vec![E::StartWorker]),
            // It waits for room only, and an instance that had some is gone.
            (Recovering, Retired) if take(&mut self.waits_for_room) => {
                (Active, vec![E::StartWorker])
            }
            (Recovering, Due) if take(&mut self.waits_for_room) => (Active, vec![E::Release]),
            (Recovering, Due) => (Active, vec![E::StartWorker]),
            (Waiting, Due) => (Starting, vec![E::StartWorker]),

            (Starting | Active | Recovering, Returned) => self.returned(now),

            (Active | Recovering, ShutDown) => (Leaving, vec![E::Withdraw, E::ShutDown]),
            // If it has instances, they have not begun to work.
            (Starting | Waiting, ShutDown) => (Leaving, vec![E::ShutDown, E::Kill]),
            (Inactive | Failed, ShutDown) => (Leaving, vec![E::ShutDown]),
            (Leaving, TimedOut) => (Leaving, vec![E::Kill]),
            (Leaving, AllGone) => (Gone, vec![]),

            // The requested state has been reached already, or the event does not matter any more.
            (
                same,
                Start
                | Ready
                | Idle
                | Waking
                | Retired
                | StartFailed { .. }
                | InstanceFailed { .. }
                | Returned
                | Due
                | ShutDown
                | AllGone
                | TimedOut,
            ) => (same, vec![]),
        };
        self.state = next;
        let wake_at = effects.iter().find_map(|effect| match effect {
            E::WakeAt(moment) => Some(*moment),
            _ => None,
        });
        self.next_attempt = match wake_at {
            None if next == before => self.next_attempt,
            wake_at => wake_at,
        };
        effects
    }

    fn demand_after(&self, event: Event) -> Demand {
        match event {
            // The last failure counts until an instance is ready again.
            Event::Idle if !self.down => Demand::Idle,
            Event::Waking if self.demand == Demand::Idle => Demand::Waking,
            // The instance that ended was not the last one, or a call had started it.
            Event::Ready | Event::InstanceFailed { .. } | Event::StartFailed { .. } => {
                Demand::Running
            }
            Event::Idle
            | Event::Waking
            | Event::Start
            | Event::Retired
            | Event::Returned
            | Event::Due
            | Event::ShutDown
            | Event::AllGone
            | Event::TimedOut => self.demand,
        }
    }

    /// It failed before it was ever ready.
    fn not_started(&mut self, kind: FailureKind, now: Instant) -> (LifecycleState, Vec<Effect>) {
        let is_retried = match (self.policy, kind) {
            (StartPolicy::BestEffort, _)
            | (StartPolicy::Required | StartPolicy::LeftOut, FailureKind::Unavailable) => true,
            (StartPolicy::Candidate | StartPolicy::Required | StartPolicy::LeftOut, _) => false,
        };
        if !is_retried {
            return self.fail(vec![], false);
        }
        match self.restarts.failed(kind, now) {
            Decision::After(delay) => {
                let effects = vec![Effect::Hold, Effect::WakeAt(now + delay)];
                (LifecycleState::Waiting, effects)
            }
            Decision::Leave | Decision::Final => self.fail(vec![], false),
            Decision::LimitHit => self.fail(vec![], true),
        }
    }

    /// An instance of a generation that was ready has failed.
    fn not_running(
        &mut self,
        kind: FailureKind,
        others: bool,
        now: Instant,
    ) -> (LifecycleState, Vec<Effect>) {
        let is_paused = self.state == LifecycleState::Recovering && !self.waits_for_room;
        if is_paused && kind != FailureKind::Configuration {
            // It belongs to the failure that began the pause.
            return (LifecycleState::Recovering, vec![]);
        }
        let give_up = vec![Effect::Withdraw, Effect::ShutDown];
        match self.restarts.failed(kind, now) {
            Decision::After(delay) if delay.is_zero() => {
                self.waits_for_room = false;
                (LifecycleState::Active, vec![Effect::StartWorker])
            }
            Decision::After(delay) => {
                self.waits_for_room = false;
                (LifecycleState::Recovering, vec![Effect::Hold, Effect::WakeAt(now + delay)])
            }
            Decision::Leave if others => (self.state, vec![]),
            Decision::Leave | Decision::Final => self.fail(give_up, false),
            Decision::LimitHit => self.fail(give_up, true),
        }
    }

    fn fail(&mut self, effects: Vec<Effect>, limit_hit: bool) -> (LifecycleState, Vec<Effect>) {
        self.limit_hit = limit_hit;
        (LifecycleState::Failed, [effects, vec![Effect::Hold]].concat())
    }

    /// The program returned ok: it was ready, however briefly it ran.
    fn returned(&mut self, now: Instant) -> (LifecycleState, Vec<Effect>) {
        let was_ready = self.state != LifecycleState::Starting;
        (self.down, self.waits_for_room) = (false, false);
        match self.restarts.returned(now) {
            Decision::After(delay) => {
                let publish = if was_ready { vec![] } else { vec![Effect::Publish] };
                let pause = vec![Effect::Hold, Effect::WakeAt(now + delay)];
                (LifecycleState::Recovering, [publish, pause].concat())
            }
            Decision::LimitHit => {
                let withdraw = if was_ready { vec![Effect::Withdraw] } else { vec![] };
                self.fail(withdraw, true)
            }
            Decision::Leave | Decision::Final => {
                let withdraw = if was_ready { vec![Effect::Withdraw] } else { vec![] };
                (LifecycleState::Inactive, withdraw)
            }
        }
    }
}

#[cfg(test)]
mod tests;
