//! What one generation of a plugin does next, as a table. No clock, no I/O, no guest: news come in, effects go out.

use crate::supervisor::restart::{Decision, Restarts};
use std::{mem::take, time::Instant};

/// Where a generation is in its life.
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
    /// It is a program that returned ok.
    Inactive,
    /// It failed for good.
    Failed,
    /// It was dismissed; what is under way in it is being finished.
    Leaving,
    /// Nothing is left of it.
    Gone,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is to be started.
    Start,
    /// An instance is ready.
    Ready,
    /// An instance failed, and there are others or not.
    InstanceFailed {
        /// What that says about further tries.
        hope: Retry,
        /// Whether others take work.
        others: bool,
    },
    /// An instance takes no more work because a request in it took too long or because it has its age. It did nothing
    /// else that is wrong.
    Retired,
    /// One more instance could not be started; there are others.
    NoOneMore,
    /// The program returned ok.
    Returned,
    /// The time to wait is over.
    Due,
    /// It is to go.
    Dismiss,
    /// All of its instances are gone.
    AllGone,
    /// It was given enough time to go.
    TimedOut,
}

/// What a failure says about further tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// They will fail, too: the configuration is wrong.
    None,
    /// Something it needs is not there yet.
    Soon,
    /// Who knows.
    Some,
}

/// What is to be done.
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
    /// Tell when this moment has come.
    WakeAt(Instant),
    /// Take no more requests, finish what is under way, stop the instances.
    Dismiss,
    /// End what is left.
    Kill,
}

/// How failures before it was ever ready are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartPolicy {
    /// Each is final: it is to replace another generation, which goes on.
    Candidate,
    /// Final, except that something is not there yet: the daemon's start waits for it.
    Required,
    /// Like later ones: nobody waits for it.
    BestEffort,
}

/// The life of one generation.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    state: LifecycleState,
    trial: StartPolicy,
    restarts: Restarts,
    limit_hit: bool,
    /// It waits for nothing but room.
    enough: bool,
}

impl Lifecycle {
    /// One that was not started yet.
    #[must_use]
    pub fn new(trial: StartPolicy, restarts: Restarts) -> Self {
        Self { state: LifecycleState::Inactive, trial, restarts, limit_hit: false, enough: false }
    }

    /// Where it is in its life.
    #[must_use]
    pub fn state(&self) -> LifecycleState {
        self.state
    }

    /// How failures before it was ever ready are taken.
    #[must_use]
    pub fn trial(&self) -> StartPolicy {
        self.trial
    }

    /// Whether it failed because it was started too often in too short a time.
    #[must_use]
    pub fn limit_hit(&self) -> bool {
        self.limit_hit
    }

    /// Takes one event; returns what is to be done about it, in order.
    pub fn handle(&mut self, event: Event, now: Instant) -> Vec<Effect> {
        use {Effect as E, Event::*, LifecycleState::*};

        let (next, effects) = match (self.state, event) {
            (Inactive, Start) => (Starting, vec![E::StartWorker]),

            (Starting | Waiting, Ready) => (Active, vec![E::Publish]),

            (Starting | Waiting, InstanceFailed { hope, .. }) => self.not_started(hope, now),
            (Active | Recovering, InstanceFailed { hope, others }) => {
                self.not_running(hope, others, now)
            }

            (Active, Retired) => (Active, vec![E::StartWorker]),
            // That is no failure of the plugin: it has what it needs to serve, and there was no room for more.
            (Active, NoOneMore) => {
                self.enough = true;
                let moment = now + self.restarts.longest();
                (Recovering, vec![E::Hold, E::WakeAt(moment)])
            }
            (Recovering, Due) if take(&mut self.enough) => (Active, vec![E::Release]),
            (Recovering, Due) => (Active, vec![E::StartWorker]),
            (Waiting, Due) => (Starting, vec![E::StartWorker]),

            (Starting, Returned) => self.returned(now, vec![]),
            (Active | Recovering, Returned) => self.returned(now, vec![E::Withdraw]),

            (Active | Recovering, Dismiss) => (Leaving, vec![E::Withdraw, E::Dismiss]),
            // Whatever of it exists has not begun to work.
            (Starting | Waiting, Dismiss) => (Leaving, vec![E::Dismiss, E::Kill]),
            (Inactive | Failed, Dismiss) => (Leaving, vec![E::Dismiss]),
            (Leaving, TimedOut) => (Leaving, vec![E::Kill]),
            (Leaving, AllGone) => (Gone, vec![]),

            // Asked for what is already so, or told of what is over.
            (
                same,
                Start
                | Ready
                | Retired
                | NoOneMore
                | InstanceFailed { .. }
                | Returned
                | Due
                | Dismiss
                | AllGone
                | TimedOut,
            ) => (same, vec![]),
        };
        self.state = next;
        effects
    }

    /// It failed before it was ever ready.
    fn not_started(&mut self, hope: Retry, now: Instant) -> (LifecycleState, Vec<Effect>) {
        let again = match (self.trial, hope) {
            (_, Retry::None) => false,
            (StartPolicy::BestEffort, _) | (StartPolicy::Required, Retry::Soon) => true,
            (StartPolicy::Candidate, _) | (StartPolicy::Required, Retry::Some) => false,
        };
        if !again {
            return self.fail(vec![], false);
        }
        let delay = match self.restarts.failed(now) {
            Decision::After(delay) => delay,
            Decision::Leave => return self.fail(vec![], false),
            // The daemon's start has a deadline of its own, until which it waits for what is not there yet.
            Decision::LimitHit if self.trial == StartPolicy::Required => self.restarts.longest(),
            Decision::LimitHit => return self.fail(vec![], true),
        };
        (LifecycleState::Waiting, vec![Effect::Hold, Effect::WakeAt(now + delay)])
    }

    /// An instance failed of one that was ready.
    fn not_running(
        &mut self,
        hope: Retry,
        others: bool,
        now: Instant,
    ) -> (LifecycleState, Vec<Effect>) {
        let give_up = vec![Effect::Withdraw, Effect::Dismiss];
        match self.restarts.failed(now) {
            _ if hope == Retry::None => self.fail(give_up, false),
            // It counts, and the wait that has begun goes on.
            Decision::After(_) if self.state == LifecycleState::Recovering && !self.enough => {
                (LifecycleState::Recovering, vec![])
            }
            Decision::After(delay) => {
                self.enough = false;
                (LifecycleState::Recovering, vec![Effect::Hold, Effect::WakeAt(now + delay)])
            }
            Decision::Leave if others => (self.state, vec![]),
            Decision::Leave => self.fail(give_up, false),
            Decision::LimitHit => self.fail(give_up, true),
        }
    }

    fn fail(&mut self, effects: Vec<Effect>, limit_hit: bool) -> (LifecycleState, Vec<Effect>) {
        self.limit_hit = limit_hit;
        (LifecycleState::Failed, [effects, vec![Effect::Hold]].concat())
    }

    fn returned(
        &mut self,
        now: Instant,
        mut effects: Vec<Effect>,
    ) -> (LifecycleState, Vec<Effect>) {
        match self.restarts.returned(now) {
            Decision::After(delay) => {
                effects.extend([Effect::Hold, Effect::WakeAt(now + delay)]);
                (LifecycleState::Waiting, effects)
            }
            Decision::Leave => (LifecycleState::Inactive, effects),
            Decision::LimitHit => self.fail(effects, true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::manifest::Manifest;
    use std::time::Duration;

    fn lifecycle(trial: StartPolicy) -> Lifecycle {
        Lifecycle::new(trial, Restarts::new(&Manifest::default().service))
    }

    const TRAP: Event = Event::InstanceFailed { hope: Retry::Some, others: false };
    const UNAVAILABLE: Event = Event::InstanceFailed { hope: Retry::Soon, others: false };
    const MISCONFIGURED: Event = Event::InstanceFailed { hope: Retry::None, others: false };

    #[test]
    fn it_is_published_only_when_it_says_that_it_is_ready() {
        let (mut plugin, now) = (lifecycle(StartPolicy::Required), Instant::now());
        assert_eq!(plugin.handle(Event::Start, now), [Effect::StartWorker]);
        assert_eq!(plugin.state(), LifecycleState::Starting);
        assert_eq!(plugin.handle(Event::Ready, now), [Effect::Publish]);
        assert_eq!(plugin.state(), LifecycleState::Active);
    }

    #[test]
    fn who_is_tried_how_decides_what_a_first_failure_means() {
        let after = |trial, event| {
            let mut plugin = lifecycle(trial);
            plugin.handle(Event::Start, Instant::now());
            plugin.handle(event, Instant::now());
            plugin.state()
        };
        for (trial, trap, unavailable) in [
            (StartPolicy::Candidate, LifecycleState::Failed, LifecycleState::Failed),
            (StartPolicy::Required, LifecycleState::Failed, LifecycleState::Waiting),
            (StartPolicy::BestEffort, LifecycleState::Waiting, LifecycleState::Waiting),
        ] {
            assert_eq!(after(trial, TRAP), trap, "{trial:?}");
            assert_eq!(after(trial, UNAVAILABLE), unavailable, "{trial:?}");
            assert_eq!(after(trial, MISCONFIGURED), LifecycleState::Failed, "{trial:?}");
        }
    }

    #[test]
    fn one_that_served_is_started_anew_until_it_fails_too_often() {
        let (mut plugin, now) = (lifecycle(StartPolicy::Required), Instant::now());
        plugin.handle(Event::Start, now);
        plugin.handle(Event::Ready, now);
        for _ in 0..5 {
            assert!(
                !plugin.handle(TRAP, now).contains(&Effect::Withdraw),
                "requests wait for the next instance"
            );
            assert_eq!(plugin.state(), LifecycleState::Recovering);
            assert_eq!(plugin.handle(Event::Due, now), [Effect::StartWorker]);
            plugin.handle(Event::Ready, now);
        }
        assert!(plugin.handle(TRAP, now).contains(&Effect::Withdraw));
        assert_eq!((plugin.state(), plugin.limit_hit()), (LifecycleState::Failed, true));
    }

    #[test]
    fn one_of_several_that_fails_takes_no_route_away() {
        let (mut plugin, now) = (lifecycle(StartPolicy::Required), Instant::now());
        plugin.handle(Event::Start, now);
        plugin.handle(Event::Ready, now);
        let effects = plugin.handle(Event::InstanceFailed { hope: Retry::Some, others: true }, now);
        assert_eq!(effects, [Effect::Hold, Effect::WakeAt(now + Duration::from_millis(100))]);
        assert_eq!(plugin.handle(Event::Due, now), [Effect::StartWorker]);
    }

    #[test]
    fn whatever_happens_what_is_published_is_withdrawn_once_and_the_end_is_the_end() {
        let (mut seed, mut now) = (7_u64, Instant::now());
        let mut reached = std::collections::BTreeSet::new();
        for walk in 0..3_000 {
            let mut plugin = lifecycle(
                [StartPolicy::Candidate, StartPolicy::Required, StartPolicy::BestEffort][walk % 3],
            );
            let (mut published, mut dismissed) = (false, false);
            for _ in 0..60 {
                seed = seed
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                now += Duration::from_millis(seed >> 33 & 0x3fff);
                let hope = [Retry::None, Retry::Soon, Retry::Some][(seed >> 50) as usize % 3];
                let others = published && seed >> 55 & 1 == 1;
                let event = [
                    Event::Start,
                    Event::Ready,
                    Event::InstanceFailed { hope, others },
                    Event::Returned,
                    Event::Due,
                    Event::NoOneMore,
                    Event::Retired,
                    Event::Due,
                    Event::AllGone,
                    Event::TimedOut,
                    Event::Dismiss,
                ][(seed >> 40) as usize % if walk % 2 == 0 { 11 } else { 8 }];
                let before = plugin.state();
                for effect in plugin.handle(event, now) {
                    match effect {
                        Effect::Publish => assert!(!std::mem::replace(&mut published, true)),
                        Effect::Withdraw => assert!(std::mem::take(&mut published)),
                        Effect::StartWorker => assert!(!dismissed),
                        Effect::Kill => assert_eq!(plugin.state(), LifecycleState::Leaving),
                        Effect::Dismiss => dismissed = true,
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
