//! One swap after the other, and then events of all kinds in any order.

use super::*;
use crate::{
    plugin::manifest::Manifest,
    supervisor::{lifecycle::StartPolicy, restart::FailureKind, restart::Restarts},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

struct Fake {
    number: u64,
    lifecycle: Lifecycle,
    hands_over: bool,
}

impl Fake {
    fn new(number: u64, policy: StartPolicy, hands_over: bool) -> Self {
        let lifecycle = Lifecycle::new(policy, Restarts::new(&Manifest::default().service));
        Self { number, lifecycle, hands_over }
    }
}

impl Stage for Fake {
    fn number(&self) -> u64 {
        self.number
    }
    fn lifecycle(&self) -> &Lifecycle {
        &self.lifecycle
    }
    fn lifecycle_mut(&mut self) -> &mut Lifecycle {
        &mut self.lifecycle
    }
    fn hands_over(&self) -> bool {
        self.hands_over
    }
    fn leave_for(&mut self, _: StopReason) {}
}

/// An instance that had been ready for long, which is replaced at once.
const LATE_TRAP: Event = Event::InstanceFailed { kind: FailureKind::Late, others: false };
const TRAP: Event = Event::InstanceFailed { kind: FailureKind::Early, others: false };

/// Two generations that hand over: the first serves, the second is ready.
fn handing_over() -> (Rollout<Fake>, Vec<RolloutAction>, Instant) {
    let (mut plugin, now) = (Rollout::default(), Instant::now());
    plugin.start_candidate(Fake::new(1, StartPolicy::Required, true), HoldPoint::Open, now);
    let actions = plugin.handle(1, Event::Ready, now);
    assert_eq!(actions[0], RolloutAction::Swapped { new: 1, old: None });
    plugin.start_candidate(Fake::new(2, StartPolicy::Candidate, true), HoldPoint::Open, now);
    let actions = plugin.handle(2, Event::Ready, now);
    (plugin, actions, now)
}

fn swap(actions: &[RolloutAction]) -> Option<(u64, Option<u64>)> {
    actions.iter().find_map(|order| match order {
        RolloutAction::Swapped { new, old } => Some((*new, *old)),
        _ => None,
    })
}

#[test]
fn the_next_one_takes_over_when_it_is_ready_and_the_one_before_leaves_after_that() {
    let (mut plugin, now) = (Rollout::default(), Instant::now());
    plugin.start_candidate(Fake::new(1, StartPolicy::Required, false), HoldPoint::Open, now);
    plugin.handle(1, Event::Ready, now);
    let actions =
        plugin.start_candidate(Fake::new(2, StartPolicy::Candidate, false), HoldPoint::Open, now);
    assert_eq!(actions[0], RolloutAction::Do(2, Effect::StartWorker));
    let actions = plugin.handle(2, Event::Ready, now);
    assert_eq!(
        actions,
        [
            RolloutAction::Swapped { new: 2, old: Some(1) },
            RolloutAction::Do(1, Effect::ShutDown),
            RolloutAction::Concluded(1, LifecycleState::Leaving),
            RolloutAction::Concluded(2, LifecycleState::Active),
        ]
    );
}

#[test]
fn at_a_hold_point_it_waits_and_then_takes_over_in_one_swap() {
    let (mut plugin, now) = (Rollout::default(), Instant::now());
    plugin.start_candidate(Fake::new(1, StartPolicy::Required, false), HoldPoint::Open, now);
    plugin.handle(1, Event::Ready, now);
    plugin.start_candidate(Fake::new(2, StartPolicy::Candidate, false), HoldPoint::Closed, now);
    assert_eq!(swap(&plugin.handle(2, Event::Ready, now)), None);
    assert_eq!(plugin.serving().unwrap().number, 1);
    assert_eq!(swap(&plugin.open(HoldPoint::HandOver, now)), None);
    assert_eq!(plugin.progress(), RolloutProgress::Settled);
    assert_eq!(swap(&plugin.open(HoldPoint::Open, now)), Some((2, Some(1))));
}

#[test]
fn what_is_saved_is_restored_before_the_swap() {
    let (mut plugin, actions, now) = handing_over();
    assert!(actions.contains(&RolloutAction::Save(1)) && swap(&actions).is_none());
    let saved_state: SavedState = Arc::from(*b"state");
    let actions = plugin.has_saved(1, Some(saved_state.clone()), now);
    assert_eq!(actions, [RolloutAction::Restore(2, saved_state.clone())]);
    assert_eq!(plugin.has_saved(1, None, now), [], "once is enough");
    assert_eq!(swap(&plugin.has_restored(2, now)), Some((2, Some(1))));
    assert_eq!(plugin.saved(), Some(&saved_state), "it may be needed after a crash");
}

#[test]
fn a_version_without_state_is_replaced_at_once() {
    let (mut plugin, _, now) = handing_over();
    assert_eq!(swap(&plugin.has_saved(1, None, now)), Some((2, Some(1))));
}

#[test]
fn a_handover_that_fails_leaves_everything_as_it_was() {
    for fail in [
        |plugin: &mut Rollout<Fake>, now| plugin.handle(2, TRAP, now),
        |plugin: &mut Rollout<Fake>, now| {
            plugin.has_saved(1, Some(Arc::from(*b"state")), now);
            plugin.handle(2, TRAP, now)
        },
    ] {
        let (mut plugin, _, now) = handing_over();
        assert!(fail(&mut plugin, now).contains(&RolloutAction::CandidateFailed(2)));
        assert_eq!(plugin.give_up(now)[0], RolloutAction::Resume(1));
        assert_eq!(plugin.serving().unwrap().number, 1);
        assert_eq!(plugin.has_restored(2, now), [], "it came too late");
    }
    for trap in [TRAP, LATE_TRAP] {
        let (mut plugin, _, now) = handing_over();
        assert!(plugin.handle(1, trap, now).contains(&RolloutAction::SaverFailed(1)), "{trap:?}");
        assert_eq!(plugin.give_up(now)[0], RolloutAction::Resume(1));
    }
}

#[test]
fn a_version_that_fails_in_its_last_save_is_not_asked_again() {
    for trap in [TRAP, LATE_TRAP] {
        let (mut plugin, now) = (Rollout::default(), Instant::now());
        plugin.start_candidate(Fake::new(1, StartPolicy::Required, true), HoldPoint::Open, now);
        plugin.handle(1, Event::Ready, now);
        plugin.save_and_stop(StopReason::Shutdown, now);
        assert!(plugin.handle(1, trap, now).contains(&RolloutAction::SaverFailed(1)), "{trap:?}");
    }
}

#[test]
fn a_version_that_cannot_save_any_more_is_followed_with_the_last_saved_state() {
    let (mut plugin, _, now) = handing_over();
    let saved_state: SavedState = Arc::from(*b"state");
    plugin.has_saved(1, Some(saved_state.clone()), now);
    plugin.has_restored(2, now);
    plugin.start_candidate(Fake::new(3, StartPolicy::Candidate, true), HoldPoint::Open, now);
    plugin.handle(2, TRAP, now);
    let actions = plugin.handle(3, Event::Ready, now);
    assert!(actions.contains(&RolloutAction::Restore(3, saved_state.clone())), "{actions:?}");
    plugin.give_up(now);
    assert_eq!(plugin.initial_state(), None, "its next instance may be there by then");
    plugin.handle(
        2,
        Event::InstanceFailed { kind: FailureKind::Configuration, others: false },
        now,
    );
    assert_eq!(plugin.initial_state(), Some(saved_state));
    plugin.start_candidate(Fake::new(4, StartPolicy::Candidate, true), HoldPoint::Open, now);
    assert_eq!(swap(&plugin.handle(4, Event::Ready, now)), Some((4, Some(2))), "it has it");
}

#[test]
fn what_was_saved_is_forgotten_when_a_version_serves_that_keeps_nothing() {
    let (mut plugin, _, now) = handing_over();
    plugin.has_saved(1, Some(Arc::from(*b"state")), now);
    plugin.has_restored(2, now);
    plugin.start_candidate(Fake::new(3, StartPolicy::Candidate, false), HoldPoint::Open, now);
    plugin.handle(3, Event::Ready, now);
    assert_eq!(plugin.saved(), None);
    plugin.start_candidate(Fake::new(4, StartPolicy::Candidate, true), HoldPoint::Open, now);
    assert_eq!(swap(&plugin.handle(4, Event::Ready, now)), Some((4, Some(3))), "no state is kept");
}

#[test]
fn at_shutdown_it_saves_once_more_and_ends() {
    let (mut plugin, now) = (Rollout::default(), Instant::now());
    plugin.start_candidate(Fake::new(1, StartPolicy::Required, true), HoldPoint::Open, now);
    plugin.handle(1, Event::Ready, now);
    assert_eq!(plugin.save_and_stop(StopReason::Shutdown, now), [RolloutAction::Save(1)]);
    let actions = plugin.has_saved(1, Some(Arc::from(*b"state")), now);
    assert!(actions.contains(&RolloutAction::Do(1, Effect::ShutDown)), "{actions:?}");
    assert!(plugin.saved().is_some() && plugin.current().is_none());
}

/// The facts that are visible outside of a rollout: the generation that serves, and those that work and until when.
#[derive(Default)]
struct Witness {
    serving: Option<u64>,
    was_shut_down: BTreeSet<u64>,
    timed_out: BTreeSet<u64>,
    ever_served: BTreeSet<u64>,
    gone: BTreeSet<u64>,
    held: Option<u64>,
    restored: BTreeSet<u64>,
    /// To whom requests go, by what was published last.
    published: Option<u64>,
}

impl Witness {
    fn see(&mut self, plugin: &Rollout<Fake>, actions: &[RolloutAction]) {
        for order in actions {
            match order {
                RolloutAction::Swapped { new, old } => {
                    assert!(self.serving.is_none() || self.serving == *old, "two would serve");
                    (self.serving, self.held) = (Some(*new), None);
                    self.published = plugin.serving().map(Stage::number);
                    self.ever_served.insert(*new);
                }
                RolloutAction::Do(number, Effect::ShutDown) => {
                    assert_ne!(
                        plugin.serving().map(Stage::number),
                        Some(*number),
                        "a generation is withdrawn before it is shut down"
                    );
                    self.was_shut_down.insert(*number);
                    self.held.take_if(|held| held == number);
                }
                RolloutAction::Do(number, Effect::Kill) => assert!(
                    self.timed_out.contains(number) || !self.ever_served.contains(number),
                    "{number} may have work inside"
                ),
                RolloutAction::Do(number, Effect::StartWorker) => {
                    assert!(!self.was_shut_down.contains(number) && !self.gone.contains(number));
                }
                RolloutAction::Do(_, Effect::Publish | Effect::Withdraw) => panic!("{order:?}"),
                RolloutAction::Save(number) => {
                    assert_eq!(plugin.serving().map(Stage::number), Some(*number));
                    assert_eq!(self.held.replace(*number), None, "it is held already");
                }
                RolloutAction::Resume(number) => {
                    // Nothing was held where nobody could be asked.
                    assert!(self.held.is_none() || self.held == Some(*number));
                    self.held = None;
                }
                RolloutAction::Concluded(number, LifecycleState::Gone) => {
                    assert!(self.gone.insert(*number), "it went twice");
                }
                RolloutAction::Restore(number, _) => {
                    assert!(self.restored.insert(*number), "{number} would have it twice");
                }
                RolloutAction::Publish => self.published = plugin.serving().map(Stage::number),
                RolloutAction::Do(..)
                | RolloutAction::Concluded(..)
                | RolloutAction::CandidateFailed(_)
                | RolloutAction::SaverFailed(_) => (),
            }
        }
        if let Some(serving) = plugin.serving() {
            assert!(!self.was_shut_down.contains(&serving.number), "it leaves and serves");
            assert!(plugin.leaving().iter().all(|leaving| leaving.number != serving.number));
        }
        let serving = plugin.serving().map(Stage::number);
        assert_eq!(self.published, serving, "what serves and what is published differ");
        self.serving = plugin.current().map(Stage::number);
    }
}

fn pick<T: Copy>(of: &[T], nth: u64) -> T {
    of[usize::try_from(nth).unwrap()]
}

#[test]
fn whatever_happens_one_serves_nothing_is_cut_short_and_old_numbers_change_nothing() {
    let mut seed = 11_u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut seen = BTreeMap::<String, u32>::new();
    for _ in 0..5_000 {
        let (mut plugin, mut witness) = (Rollout::default(), Witness::default());
        let (mut next, mut now) = (1, Instant::now());
        for _ in 0..80 {
            now += Duration::from_millis(random(4_000));
            // Mostly of those that there are.
            let current = plugin.current().map(Stage::number);
            let candidate = plugin.candidate().map(Stage::number);
            let number = match random(5) {
                0..2 => current,
                2..4 => candidate,
                _ => None,
            };
            let number = number.unwrap_or_else(|| 1 + random(next.max(2)));
            let is_there = plugin.get_mut(number).is_some();
            let is_old = number < next && !is_there;
            let actions = match random(24) {
                0..3 => {
                    let policy =
                        [StartPolicy::Candidate, StartPolicy::Required, StartPolicy::BestEffort];
                    let fake = Fake::new(next, pick(&policy, random(3)), random(4) > 0);
                    next += 1;
                    let hold_point =
                        pick(&[HoldPoint::Closed, HoldPoint::Open, HoldPoint::Open], random(3));
                    if fake.hands_over && plugin.initial_state().is_some() {
                        witness.restored.insert(fake.number);
                    }
                    plugin.start_candidate(fake, hold_point, now)
                }
                3..8 => plugin.handle(number, Event::Ready, now),
                8..10 => plugin.handle(number, TRAP, now),
                10..12 => plugin.handle(number, Event::Due, now),
                12 => plugin.handle(number, Event::Returned, now),
                13 => plugin.handle(number, Event::Retired, now),
                14..16 => plugin.handle(number, Event::AllGone, now),
                16 => {
                    witness.timed_out.insert(number);
                    plugin.handle(number, Event::TimedOut, now)
                }
                17 => plugin.open(pick(&[HoldPoint::HandOver, HoldPoint::Open], random(2)), now),
                18..20 => {
                    let saved_state = (random(3) > 0).then(|| SavedState::from(*b"state"));
                    plugin.has_saved(number, saved_state, now)
                }
                20..22 => plugin.has_restored(number, now),
                22 => plugin.give_up(now),
                _ if random(4) == 0 => plugin.save_and_stop(StopReason::Shutdown, now),
                _ => plugin.remove(StopReason::Removed, now),
            };
            let touches_old = actions.iter().any(|order| {
                matches!(order, RolloutAction::Do(of, _) | RolloutAction::Concluded(of, _) if *of == number)
            });
            assert!(!(is_old && touches_old), "{number} is not there any more: {actions:?}");
            for order in &actions {
                let kind = format!("{order:?}");
                let kind = kind.split(['(', ' ']).next().unwrap_or_default().to_owned();
                *seen.entry(kind).or_default() += 1;
            }
            witness.see(&plugin, &actions);
            // As the supervisor does.
            let failed = actions.iter().any(|order| {
                matches!(order, RolloutAction::CandidateFailed(_) | RolloutAction::SaverFailed(_))
            });
            if failed {
                let actions = plugin.give_up(now);
                witness.see(&plugin, &actions);
            }
        }
    }
    for kind in [
        "Do",
        "Publish",
        "Swapped",
        "Save",
        "Resume",
        "Restore",
        "Concluded",
        "CandidateFailed",
        "SaverFailed",
    ] {
        assert!(seen.get(kind).is_some_and(|times| *times > 50), "{kind}: {seen:?}");
    }
}
