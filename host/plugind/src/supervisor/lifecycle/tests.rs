//! Each event leads to the state and the effects of the table.

use super::*;
use crate::plugin::manifest::Manifest;
use std::time::Duration;

fn lifecycle(policy: StartPolicy) -> Lifecycle {
    Lifecycle::new(policy, Restarts::new(&Manifest::default().service))
}

const EARLY: Event = Event::InstanceFailed { kind: FailureKind::Early, others: false };
const SERVED: Event = Event::InstanceFailed { kind: FailureKind::Served, others: false };
const LATE: Event = Event::InstanceFailed { kind: FailureKind::Late, others: false };
const UNAVAILABLE: Event = Event::InstanceFailed { kind: FailureKind::Unavailable, others: false };
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
        (StartPolicy::LeftOut, LifecycleState::Failed, LifecycleState::Waiting),
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
    for policy in [StartPolicy::Required, StartPolicy::LeftOut, StartPolicy::BestEffort] {
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
fn a_published_route_is_withdrawn_once_and_nothing_follows_the_end() {
    let (mut seed, mut now) = (7_u64, Instant::now());
    let mut reached = std::collections::BTreeSet::new();
    for walk in 0..3_000 {
        let mut service = Manifest::default().service;
        if walk % 5 == 0 {
            service.restart = crate::plugin::manifest::RestartPolicy::Always;
        }
        let mut plugin = Lifecycle::new(
            [
                StartPolicy::Candidate,
                StartPolicy::Required,
                StartPolicy::LeftOut,
                StartPolicy::BestEffort,
            ][walk % 4],
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
