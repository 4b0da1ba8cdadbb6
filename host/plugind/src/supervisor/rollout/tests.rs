//! One swap after the other, and then whatever may happen in any order.

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
    life: Lifecycle,
    hands_over: bool,
}

impl Fake {
    fn new(number: u64, trial: StartPolicy, hands_over: bool) -> Self {
        let life = Lifecycle::new(trial, Restarts::new(&Manifest::default().service));
        Self { number, life, hands_over }
    }
}

impl Stage for Fake {
    fn number(&self) -> u64 {
        self.number
    }
    fn life(&self) -> &Lifecycle {
        &self.life
    }
    fn life_mut(&mut self) -> &mut Lifecycle {
        &mut self.life
    }
    fn hands_over(&self) -> bool {
        self.hands_over
    }
    fn leave_for(&mut self, _: StopReason) {}
}

const TRAP: Event = Event::InstanceFailed { kind: FailureKind::Early, others: false };

/// Two generations that hand over: the first serves, the second is ready.
fn handing_over() -> (Rollout<Fake>, Vec<RolloutOrder>, Instant) {
    let (mut plugin, now) = (Rollout::default(), Instant::now());
    plugin.try_out(Fake::new(1, StartPolicy::Required, true), HoldPoint::Open, now);
    let orders = plugin.handle(1, Event::Ready, now);
    assert_eq!(orders[0], RolloutOrder::Swapped { new: 1, old: None });
    plugin.try_out(Fake::new(2, StartPolicy::Candidate, true), HoldPoint::Open, now);
    let orders = plugin.handle(2, Event::Ready, now);
    (plugin, orders, now)
}

fn swap(orders: &[RolloutOrder]) -> Option<(u64, Option<u64>)> {
    orders.iter().find_map(|order| match order {
        RolloutOrder::Swapped { new, old } => Some((*new, *old)),
        _ => None,
    })
}

#[test]
fn the_next_one_takes_over_when_it_is_ready_and_the_one_before_leaves_after_that() {
    let (mut plugin, now) = (Rollout::default(), Instant::now());
    plugin.try_out(Fake::new(1, StartPolicy::Required, false), HoldPoint::Open, now);
    plugin.handle(1, Event::Ready, now);
    let orders = plugin.try_out(Fake::new(2, StartPolicy::Candidate, false), HoldPoint::Open, now);
    assert_eq!(orders[0], RolloutOrder::Do(2, Effect::StartWorker));
    let orders = plugin.handle(2, Event::Ready, now);
    assert_eq!(
        orders,
        [
            RolloutOrder::Swapped { new: 2, old: Some(1) },
            RolloutOrder::Do(1, Effect::Dismiss),
            RolloutOrder::Concluded(1, LifecycleState::Leaving),
            RolloutOrder::Concluded(2, LifecycleState::Active),
        ]
    );
}

#[test]
fn behind_a_closed_gate_it_waits_and_then_all_is_one_swap() {
    let (mut plugin, now) = (Rollout::default(), Instant::now());
    plugin.try_out(Fake::new(1, StartPolicy::Required, false), HoldPoint::Open, now);
    plugin.handle(1, Event::Ready, now);
    plugin.try_out(Fake::new(2, StartPolicy::Candidate, false), HoldPoint::Closed, now);
    assert_eq!(swap(&plugin.handle(2, Event::Ready, now)), None);
    assert_eq!(plugin.serving().unwrap().number, 1);
    assert_eq!(swap(&plugin.open(HoldPoint::HandOver, now)), None);
    assert_eq!(plugin.progress(), RolloutProgress::Settled);
    assert_eq!(swap(&plugin.open(HoldPoint::Open, now)), Some((2, Some(1))));
}

#[test]
fn what_is_saved_is_restored_before_the_swap() {
    let (mut plugin, orders, now) = handing_over();
    assert!(orders.contains(&RolloutOrder::Save(1)) && swap(&orders).is_none());
    let legacy: SavedState = Arc::from(*b"state");
    let orders = plugin.has_saved(1, Some(legacy.clone()), now);
    assert_eq!(orders, [RolloutOrder::Restore(2, legacy.clone())]);
    assert_eq!(plugin.has_saved(1, None, now), [], "once is enough");
    assert_eq!(swap(&plugin.has_restored(2, now)), Some((2, Some(1))));
    assert_eq!(plugin.saved(), Some(&legacy), "it may be needed after a crash");
}

#[test]
fn whoever_has_nothing_to_keep_is_followed_at_once() {
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
        assert!(fail(&mut plugin, now).contains(&RolloutOrder::CandidateFailed(2)));
        assert_eq!(plugin.give_up(now)[0], RolloutOrder::Resume(1));
        assert_eq!(plugin.serving().unwrap().number, 1);
        assert_eq!(plugin.has_restored(2, now), [], "it came too late");
    }
    let (mut plugin, _, now) = handing_over();
    assert!(plugin.handle(1, TRAP, now).contains(&RolloutOrder::SaverFailed(1)));
    assert_eq!(plugin.give_up(now)[0], RolloutOrder::Resume(1));
}

#[test]
fn who_cannot_be_asked_any_more_is_followed_with_what_was_saved_last() {
    let (mut plugin, _, now) = handing_over();
    let legacy: SavedState = Arc::from(*b"state");
    plugin.has_saved(1, Some(legacy.clone()), now);
    plugin.has_restored(2, now);
    plugin.try_out(Fake::new(3, StartPolicy::Candidate, true), HoldPoint::Open, now);
    plugin.handle(2, TRAP, now);
    let orders = plugin.handle(3, Event::Ready, now);
    assert!(orders.contains(&RolloutOrder::Restore(3, legacy.clone())), "{orders:?}");
    plugin.give_up(now);
    assert_eq!(plugin.inheritance(), None, "its next instance may be there by then");
    plugin.handle(
        2,
        Event::InstanceFailed { kind: FailureKind::Configuration, others: false },
        now,
    );
    assert_eq!(plugin.inheritance(), Some(legacy));
    plugin.try_out(Fake::new(4, StartPolicy::Candidate, true), HoldPoint::Open, now);
    assert_eq!(swap(&plugin.handle(4, Event::Ready, now)), Some((4, Some(2))), "it has it");
}

#[test]
fn what_was_saved_is_forgotten_when_a_version_serves_that_keeps_nothing() {
    let (mut plugin, _, now) = handing_over();
    plugin.has_saved(1, Some(Arc::from(*b"state")), now);
    plugin.has_restored(2, now);
    plugin.try_out(Fake::new(3, StartPolicy::Candidate, false), HoldPoint::Open, now);
    plugin.handle(3, Event::Ready, now);
    assert_eq!(plugin.saved(), None);
    plugin.try_out(Fake::new(4, StartPolicy::Candidate, true), HoldPoint::Open, now);
    assert_eq!(swap(&plugin.handle(4, Event::Ready, now)), Some((4, Some(3))), "it begins anew");
}

#[test]
fn at_the_end_it_saves_once_more_and_goes() {
    let (mut plugin, now) = (Rollout::default(), Instant::now());
    plugin.try_out(Fake::new(1, StartPolicy::Required, true), HoldPoint::Open, now);
    plugin.handle(1, Event::Ready, now);
    assert_eq!(plugin.farewell(StopReason::Shutdown, now), [RolloutOrder::Save(1)]);
    let orders = plugin.has_saved(1, Some(Arc::from(*b"state")), now);
    assert!(orders.contains(&RolloutOrder::Do(1, Effect::Dismiss)), "{orders:?}");
    assert!(plugin.saved().is_some() && plugin.current().is_none());
}

/// What the world around a succession knows of it: who serves, who has work inside and until when.
#[derive(Default)]
struct Witness {
    serving: Option<u64>,
    dismissed: BTreeSet<u64>,
    timed_out: BTreeSet<u64>,
    ever_served: BTreeSet<u64>,
    gone: BTreeSet<u64>,
    held: Option<u64>,
    restored: BTreeSet<u64>,
    /// To whom requests go, by what was published last.
    published: Option<u64>,
}

impl Witness {
    fn see(&mut self, plugin: &Rollout<Fake>, orders: &[RolloutOrder]) {
        for order in orders {
            match order {
                RolloutOrder::Swapped { new, old } => {
                    assert!(self.serving.is_none() || self.serving == *old, "two would serve");
                    (self.serving, self.held) = (Some(*new), None);
                    self.published = plugin.serving().map(Stage::number);
                    self.ever_served.insert(*new);
                }
                RolloutOrder::Do(number, Effect::Dismiss) => {
                    assert_ne!(
                        plugin.serving().map(Stage::number),
                        Some(*number),
                        "what is dismissed was withdrawn"
                    );
                    self.dismissed.insert(*number);
                    self.held.take_if(|held| held == number);
                }
                RolloutOrder::Do(number, Effect::Kill) => assert!(
                    self.timed_out.contains(number) || !self.ever_served.contains(number),
                    "{number} may have work inside"
                ),
                RolloutOrder::Do(number, Effect::StartWorker) => {
                    assert!(!self.dismissed.contains(number) && !self.gone.contains(number));
                }
                RolloutOrder::Do(_, Effect::Publish | Effect::Withdraw) => panic!("{order:?}"),
                RolloutOrder::Save(number) => {
                    assert_eq!(plugin.serving().map(Stage::number), Some(*number));
                    assert_eq!(self.held.replace(*number), None, "it is held already");
                }
                RolloutOrder::Resume(number) => {
                    // Nothing was held where nobody could be asked.
                    assert!(self.held.is_none() || self.held == Some(*number));
                    self.held = None;
                }
                RolloutOrder::Concluded(number, LifecycleState::Gone) => {
                    assert!(self.gone.insert(*number), "it went twice");
                }
                RolloutOrder::Restore(number, _) => {
                    assert!(self.restored.insert(*number), "{number} would have it twice");
                }
                RolloutOrder::Publish => self.published = plugin.serving().map(Stage::number),
                RolloutOrder::Do(..)
                | RolloutOrder::Concluded(..)
                | RolloutOrder::CandidateFailed(_)
                | RolloutOrder::SaverFailed(_) => (),
            }
        }
        if let Some(serving) = plugin.serving() {
            assert!(!self.dismissed.contains(&serving.number), "it leaves and serves");
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
            let orders = match random(24) {
                0..3 => {
                    let trial =
                        [StartPolicy::Candidate, StartPolicy::Required, StartPolicy::BestEffort];
                    let fake = Fake::new(next, pick(&trial, random(3)), random(4) > 0);
                    next += 1;
                    let gate =
                        pick(&[HoldPoint::Closed, HoldPoint::Open, HoldPoint::Open], random(3));
                    if fake.hands_over && plugin.inheritance().is_some() {
                        witness.restored.insert(fake.number);
                    }
                    plugin.try_out(fake, gate, now)
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
                    let legacy = (random(3) > 0).then(|| SavedState::from(*b"state"));
                    plugin.has_saved(number, legacy, now)
                }
                20..22 => plugin.has_restored(number, now),
                22 => plugin.give_up(now),
                _ if random(4) == 0 => plugin.farewell(StopReason::Shutdown, now),
                _ => plugin.remove(StopReason::Removed, now),
            };
            let touches_old = orders.iter().any(|order| {
                matches!(order, RolloutOrder::Do(of, _) | RolloutOrder::Concluded(of, _) if *of == number)
            });
            assert!(!(is_old && touches_old), "{number} is not there any more: {orders:?}");
            for order in &orders {
                let kind = format!("{order:?}");
                let kind = kind.split(['(', ' ']).next().unwrap_or_default().to_owned();
                *seen.entry(kind).or_default() += 1;
            }
            witness.see(&plugin, &orders);
            // As its keeper does.
            let failed = orders.iter().any(|order| {
                matches!(order, RolloutOrder::CandidateFailed(_) | RolloutOrder::SaverFailed(_))
            });
            if failed {
                let orders = plugin.give_up(now);
                witness.see(&plugin, &orders);
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
