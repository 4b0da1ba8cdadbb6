//! The next step of one generation of a plugin, as a table. No clock, no I/O, no guest: events come in, effects go out.
//!
//! The effect of a failure before the generation was ever ready depends on who waits for it:
//!
//! | failure | candidate of a reload | required, at the daemon's start | any other |
//! | --- | --- | --- | --- |
//! | `configuration` | fails | fails | fails |
//! | `unavailable`, no room | fails | retried until `start-deadline-sec` | retried as long as it is wanted |
//! | any other | fails | fails | retried up to the start limit |
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
    /// An instance takes no more work because a request in it took too long or because it has its age. It did nothing
    /// else that is wrong.
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
    /// Final, except that something is not there yet: the daemon's start waits for it.
    Required,
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
    /// It waits only for room.
    enough: bool,
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
            enough: false,
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
            // That is no failure of the plugin: it has what it needs to serve, and there was no room for more.
            (Active, StartFailed { others: true, .. }) => {
                self.enough = true;
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
            (Recovering, Retired) if take(&mut self.enough) => (Active, vec![E::StartWorker]),
            (Recovering, Due) if take(&mut self.enough) => (Active, vec![E::Release]),
            (Recovering, Due) => (Active, vec![E::StartWorker]),
            (Waiting, Due) => (Starting, vec![E::StartWorker]),

            (Starting | Active | Recovering, Returned) => self.returned(now),

            (Active | Recovering, ShutDown) => (Leaving, vec![E::Withdraw, E::ShutDown]),
            // Whatever of it exists has not begun to work.
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
            // What ended was not the last one, or it was the one that a call has started.
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
            (StartPolicy::BestEffort, _) | (StartPolicy::Required, FailureKind::Unavailable) => {
                true
            }
            (StartPolicy::Candidate | StartPolicy::Required, _) => false,
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

    /// An instance failed of one that was ready.
    fn not_running(
        &mut self,
        kind: FailureKind,
        others: bool,
        now: Instant,
    ) -> (LifecycleState, Vec<Effect>) {
        let is_paused = self.state == LifecycleState::Recovering && !self.enough;
        if is_paused && kind != FailureKind::Configuration {
            // It belongs to the failure that began the pause.
            return (LifecycleState::Recovering, vec![]);
        }
        let give_up = vec![Effect::Withdraw, Effect::ShutDown];
        match self.restarts.failed(kind, now) {
            Decision::After(delay) if delay.is_zero() => {
                self.enough = false;
                (LifecycleState::Active, vec![Effect::StartWorker])
            }
            Decision::After(delay) => {
                self.enough = false;
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

    /// The program returned ok: it was ready, however short it ran.
    fn returned(&mut self, now: Instant) -> (LifecycleState, Vec<Effect>) {
        let was_ready = self.state != LifecycleState::Starting;
        (self.down, self.enough) = (false, false);
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
mod tests {
    use super::*;
    use crate::plugin::manifest::Manifest;
    use std::time::Duration;

    fn lifecycle(policy: StartPolicy) -> Lifecycle {
        Lifecycle::new(policy, Restarts::new(&Manifest::default().service))
    }

    const EARLY: Event = Event::InstanceFailed { kind: FailureKind::Early, others: false };
    const SERVED: Event = Event::InstanceFailed { kind: FailureKind::Served, others: false };
    const LATE: Event = Event::InstanceFailed { kind: FailureKind::Late, others: false };
    const UNAVAILABLE: Event =
        Event::InstanceFailed { kind: FailureKind::Unavailable, others: false };
    const MISCONFIGURED: Event =
        Event::InstanceFailed { kind: FailureKind::Configuration, others: false };

    fn ready(policy: StartPolicy, now: Instant) -> Lifecycle {
        let mut plugin = lifecycle(policy);
        plugin.handle(Event::Start, now);
        plugin.handle(Event::Ready, now);
        plugin
    }

    #[test]
    fn it_is_published_only_when_it_says_that_it_is_ready() {
        let (mut plugin, now) = (lifecycle(StartPolicy::Required), Instant::now());
        assert_eq!(plugin.handle(Event::Start, now), [Effect::StartWorker]);
        assert_eq!(plugin.state(), LifecycleState::Starting);
        assert_eq!(plugin.handle(Event::Ready, now), [Effect::Publish]);
        assert_eq!(plugin.state(), LifecycleState::Active);
    }

    #[test]
    fn the_start_policy_decides_what_a_failed_start_means() {
        let after = |policy, event| {
            let mut plugin = lifecycle(policy);
            plugin.handle(Event::Start, Instant::now());
            plugin.handle(event, Instant::now());
            plugin.state()
        };
        for (policy, trap, unavailable) in [
            (StartPolicy::Candidate, LifecycleState::Failed, LifecycleState::Failed),
            (StartPolicy::Required, LifecycleState::Failed, LifecycleState::Waiting),
            (StartPolicy::BestEffort, LifecycleState::Waiting, LifecycleState::Waiting),
        ] {
            assert_eq!(after(policy, EARLY), trap, "{policy:?}");
            assert_eq!(after(policy, UNAVAILABLE), unavailable, "{policy:?}");
            assert_eq!(after(policy, MISCONFIGURED), LifecycleState::Failed, "{policy:?}");
        }
    }

    #[test]
    fn one_that_was_ready_is_started_again_until_it_fails_too_often() {
        let now = Instant::now();
        let mut plugin = ready(StartPolicy::Required, now);
        for _ in 0..5 {
            assert!(
                !plugin.handle(EARLY, now).contains(&Effect::Withdraw),
                "requests wait for the next instance"
            );
            assert_eq!(plugin.state(), LifecycleState::Recovering);
            assert_eq!(plugin.handle(Event::Due, now), [Effect::StartWorker]);
            plugin.handle(Event::Ready, now);
        }
        assert!(plugin.handle(EARLY, now).contains(&Effect::Withdraw));
        assert_eq!((plugin.state(), plugin.limit_hit()), (LifecycleState::Failed, true));
    }

    #[test]
    fn unavailable_is_retried_for_ever_before_and_after_it_was_ready() {
        let mut now = Instant::now();
        for policy in [StartPolicy::Required, StartPolicy::BestEffort] {
            let mut plugin = lifecycle(policy);
            plugin.handle(Event::Start, now);
            for state in [LifecycleState::Waiting, LifecycleState::Recovering] {
                for _ in 0..1000 {
                    plugin.handle(UNAVAILABLE, now);
                    assert_eq!(plugin.state(), state, "{policy:?}");
                    let next = plugin.next_attempt().expect("there is a next attempt");
                    assert!(next > now && next <= now + Duration::from_secs(30));
                    now = next;
                    assert_eq!(plugin.handle(Event::Due, now), [Effect::StartWorker]);
                    assert_eq!(plugin.next_attempt(), None);
                }
                plugin.handle(Event::Ready, now);
            }
        }
    }

    #[test]
    fn requests_that_trap_one_after_another_never_take_a_plugin_away() {
        let mut now = Instant::now();
        let mut plugin = ready(StartPolicy::Required, now);
        for _ in 0..1000 {
            assert_eq!(plugin.handle(SERVED, now)[0], Effect::Hold);
            now = plugin.next_attempt().expect("there is a next attempt");
            assert_eq!(plugin.handle(Event::Due, now), [Effect::StartWorker]);
            plugin.handle(Event::Ready, now);
            assert_eq!(plugin.state(), LifecycleState::Active);
        }
    }

    #[test]
    fn an_instance_that_was_ready_for_long_is_replaced_at_once() {
        let now = Instant::now();
        let mut plugin = ready(StartPolicy::Required, now);
        for _ in 0..100 {
            assert_eq!(plugin.handle(LATE, now), [Effect::StartWorker]);
            assert!(plugin.is_down());
            plugin.handle(Event::Ready, now);
            assert!(!plugin.is_down());
        }
    }

    #[test]
    fn one_on_demand_is_published_without_an_instance_and_idle_until_work_starts_one() {
        let (mut plugin, now) = (lifecycle(StartPolicy::Required), Instant::now());
        plugin.handle(Event::Start, now);
        assert_eq!(plugin.handle(Event::Idle, now), [Effect::Publish]);
        for _ in 0..3 {
            assert_eq!((plugin.state(), plugin.demand()), (LifecycleState::Active, Demand::Idle));
            assert_eq!(plugin.handle(Event::Waking, now), []);
            assert_eq!(plugin.demand(), Demand::Waking);
            assert_eq!(plugin.handle(Event::Ready, now), []);
            assert_eq!(plugin.demand(), Demand::Running);
            assert_eq!(plugin.handle(Event::Idle, now), []);
        }
    }

    #[test]
    fn one_on_demand_that_cannot_start_is_down_and_fails_by_the_usual_policy() {
        let (mut plugin, now) = (lifecycle(StartPolicy::Required), Instant::now());
        plugin.handle(Event::Start, now);
        plugin.handle(Event::Idle, now);
        let failed = Event::StartFailed { kind: FailureKind::Early, others: false };
        for _ in 0..5 {
            plugin.handle(Event::Waking, now);
            plugin.handle(failed, now);
            assert!(plugin.is_down());
            assert_eq!(plugin.demand(), Demand::Running);
            plugin.handle(Event::Idle, now);
            assert_eq!(plugin.demand(), Demand::Running, "it is not idle, but down");
            assert_eq!(plugin.handle(Event::Due, now), [Effect::StartWorker]);
        }
        assert!(plugin.handle(failed, now).contains(&Effect::Withdraw));
        assert_eq!((plugin.state(), plugin.limit_hit()), (LifecycleState::Failed, true));
    }

    #[test]
    fn instances_that_fail_during_a_pause_count_once() {
        let now = Instant::now();
        let mut plugin = ready(StartPolicy::Required, now);
        for _ in 0..100 {
            plugin.handle(EARLY, now);
            assert_eq!(plugin.state(), LifecycleState::Recovering);
        }
        plugin.handle(MISCONFIGURED, now);
        assert_eq!(plugin.state(), LifecycleState::Failed);
    }

    #[test]
    fn nothing_serves_from_the_last_failure_until_the_next_instance_is_ready() {
        let now = Instant::now();
        let mut plugin = ready(StartPolicy::BestEffort, now);
        let others = Event::InstanceFailed { kind: FailureKind::Early, others: true };
        plugin.handle(others, now);
        assert!(!plugin.is_down(), "another instance serves");
        plugin.handle(EARLY, now);
        assert!(plugin.is_down());
        plugin.handle(Event::Due, now);
        assert!(plugin.is_down(), "the next instance is not ready yet");
        plugin.handle(Event::Ready, now);
        assert!(!plugin.is_down());
    }

    #[test]
    fn a_program_that_returned_ok_at_once_was_ready() {
        let now = Instant::now();
        let mut service = Manifest::default().service;
        service.restart = crate::plugin::manifest::RestartPolicy::Always;
        let mut plugin = Lifecycle::new(StartPolicy::Required, Restarts::new(&service));
        plugin.handle(Event::Start, now);
        assert!(plugin.handle(Event::Returned, now).contains(&Effect::Publish));
        assert_eq!(plugin.state(), LifecycleState::Recovering);
        assert!(!plugin.is_down());
    }

    #[test]
    fn one_of_several_that_fails_takes_no_route_away() {
        let (mut plugin, now) = (lifecycle(StartPolicy::Required), Instant::now());
        plugin.handle(Event::Start, now);
        plugin.handle(Event::Ready, now);
        let event = Event::InstanceFailed { kind: FailureKind::Early, others: true };
        let effects = plugin.handle(event, now);
        assert_eq!(effects, [Effect::Hold, Effect::WakeAt(now + Duration::from_millis(100))]);
        assert_eq!(plugin.handle(Event::Due, now), [Effect::StartWorker]);
    }

    #[test]
    fn whatever_happens_what_is_published_is_withdrawn_once_and_the_end_is_the_end() {
        let (mut seed, mut now) = (7_u64, Instant::now());
        let mut reached = std::collections::BTreeSet::new();
        for walk in 0..3_000 {
            let mut service = Manifest::default().service;
            if walk % 5 == 0 {
                service.restart = crate::plugin::manifest::RestartPolicy::Always;
            }
            let mut plugin = Lifecycle::new(
                [StartPolicy::Candidate, StartPolicy::Required, StartPolicy::BestEffort][walk % 3],
                Restarts::new(&service),
            );
            let (mut published, mut was_shut_down) = (false, false);
            for _ in 0..60 {
                seed = seed
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                now += Duration::from_millis(seed >> 33 & 0x3fff);
                let kind = [
                    FailureKind::Configuration,
                    FailureKind::Unavailable,
                    FailureKind::Early,
                    FailureKind::Served,
                    FailureKind::Late,
                ][(seed >> 50) as usize % 5];
                let others = published && seed >> 55 & 1 == 1;
                let event = [
                    Event::Start,
                    Event::Ready,
                    Event::InstanceFailed { kind, others },
                    Event::Returned,
                    Event::Due,
                    Event::StartFailed { kind, others },
                    Event::Retired,
                    Event::Due,
                    Event::AllGone,
                    Event::TimedOut,
                    Event::Idle,
                    Event::Waking,
                    Event::ShutDown,
                ][(seed >> 40) as usize % if walk % 2 == 0 { 13 } else { 8 }];
                let before = plugin.state();
                for effect in plugin.handle(event, now) {
                    match effect {
                        Effect::Publish => assert!(!std::mem::replace(&mut published, true)),
                        Effect::Withdraw => assert!(std::mem::take(&mut published)),
                        Effect::StartWorker => assert!(!was_shut_down),
                        Effect::Kill => assert_eq!(plugin.state(), LifecycleState::Leaving),
                        Effect::ShutDown => was_shut_down = true,
                        Effect::Hold | Effect::Release => (),
                        Effect::WakeAt(moment) => assert!(moment >= now),
                    }
                }
                let serves =
                    matches!(plugin.state(), LifecycleState::Active | LifecycleState::Recovering);
                assert_eq!(published, serves, "{before:?} {event:?}");
                if before == LifecycleState::Gone {
                    assert_eq!(plugin.state(), LifecycleState::Gone);
                }
                reached.insert(format!("{:?}", plugin.state()));
            }
        }
        assert_eq!(reached.len(), 8, "the walks reached only {reached:?}");
    }
}
