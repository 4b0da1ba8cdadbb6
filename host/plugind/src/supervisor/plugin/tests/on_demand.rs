//! A plugin on demand has instances only while there is work.

use super::*;

fn on_demand(digest: u8, hands_over: bool) -> Arc<Release> {
    let release = Release::clone(&release(digest, hands_over));
    let manifest = Manifest { on_demand: true, ..release.manifest };
    Arc::new(Release { manifest, ..release })
}

const IDLE: WorkerEvent = WorkerEvent::Idle { state: None };

/// A plugin that starts on demand and was tried; returns the number of its generation.
fn tried(release: Arc<Release>) -> (Managed, u64) {
    let mut managed = Managed::new();
    let (number, actions) = managed.prepare(release, false);
    assert!(has(&actions, |it| matches!(it, Action::TryInstance(it) if *it == number)));
    assert!(!has(&actions, |it| matches!(it, Action::StartWorker(_))));
    let actions = managed.worker(number, IDLE);
    assert!(is_reported_ready(&actions));
    assert_eq!(managed.plugin.condition(), Condition::OnDemand);
    (managed, number)
}

/// The position of the first of these actions.
fn place(actions: &[Action], is: impl Fn(&Action) -> bool) -> usize {
    actions.iter().position(is).unwrap_or_else(|| panic!("it is not in {actions:?}"))
}

#[test]
fn a_plugin_on_demand_is_tried_and_its_state_follows_its_work() {
    let (mut managed, number) = tried(on_demand(1, false));
    let standing = managed.plugin.standing();
    let expected = SummaryEntry { ready: true, on_demand: true, ..SummaryEntry::default() };
    assert_eq!(standing, expected);
    let report = managed.plugin.report(None, None);
    assert_eq!((&*report.active_state, &*report.sub_state), ("inactive", "on demand"));

    managed.worker(number, WorkerEvent::Waking);
    let report = managed.plugin.report(None, None);
    assert_eq!((&*report.active_state, &*report.sub_state), ("activating", "starting"));
    let actions = managed.worker(number, READY);
    let is_start =
        |it: &Action| matches!(it, Action::Report(Fact::StartedOnDemand { generation: 1 }));
    assert!(has(&actions, is_start), "{actions:?}");
    assert_eq!(managed.plugin.condition(), Condition::Running);
    let actions = managed.worker(number, IDLE);
    assert!(has(&actions, |it| matches!(it, Action::Report(Fact::Idle { generation: 1 }))));
    assert_eq!(managed.plugin.condition(), Condition::OnDemand);
}

#[test]
fn the_end_of_an_idle_instance_beside_another_one_changes_nothing() {
    let (mut managed, number) = tried(on_demand(1, true));
    managed.worker(number, WorkerEvent::Waking);
    managed.worker(number, READY);
    let event = PluginEvent::Worker { generation: number, event: IDLE, others: true };
    assert!(managed.handle(event).is_empty());
    assert_eq!(managed.plugin.condition(), Condition::Running);
}

#[test]
fn a_version_is_tried_if_the_one_before_is_idle_and_otherwise_started() {
    let (mut managed, number) = tried(on_demand(1, false));
    let (_, actions) = managed.prepare(on_demand(2, false), true);
    assert!(has(&actions, |it| matches!(it, Action::TryInstance(2))));
    managed.handle(PluginEvent::NotWanted);
    for event in [WorkerEvent::Waking, READY] {
        managed.worker(number, event);
        let (candidate, actions) = managed.prepare(on_demand(2, false), true);
        assert!(has(&actions, |it| matches!(it, Action::StartWorker(it) if *it == candidate)));
        managed.handle(PluginEvent::NotWanted);
    }
    managed.worker(number, IDLE);
    managed.plugin.start_now();
    let (_, actions) = managed.prepare(on_demand(2, false), true);
    assert!(has(&actions, |it| matches!(it, Action::StartWorker(_))), "an operator starts it");
}

#[test]
fn calls_start_a_tried_version_only_after_it_has_the_state_of_the_one_before() {
    let (mut managed, first) = tried(on_demand(1, true));
    let state: SavedState = Arc::from(*b"state");
    managed.worker(first, WorkerEvent::Waking);
    managed.worker(first, READY);
    let actions = managed.worker(first, WorkerEvent::Idle { state: Some(state.clone()) });
    assert!(has(&actions, |it| matches!(it, Action::Keep(Some(_)))), "{actions:?}");

    let (second, _) = managed.prepare(on_demand(2, true), true);
    let actions = managed.worker(second, IDLE);
    assert!(has(&actions, |it| matches!(it, Action::Save { generation: 1, .. })), "{actions:?}");
    let saved = WorkerEvent::Saved { worker: 0, save: 1, outcome: Ok(Some(state)) };
    let actions = managed.worker(first, saved);
    assert!(!has(&actions, |it| matches!(it, Action::Restore(..))), "it has no instance");
    let inherit = |it: &Action| matches!(it, Action::Inherit(number, Some(_)) if *number == second);
    let release = |it: &Action| matches!(it, Action::Release(number) if *number == second);
    assert!(place(&actions, inherit) < place(&actions, release));
    assert_eq!(managed.plugin.condition(), Condition::OnDemand);
}

#[test]
fn a_plugin_on_demand_that_cannot_start_fails_at_its_start() {
    let (mut managed, number) = tried(on_demand(1, false));
    managed.worker(number, WorkerEvent::Waking);
    managed.worker(number, trap_at_start());
    assert_eq!(managed.plugin.condition(), Condition::Recovering);
    assert!(!managed.plugin.standing().ready);
    managed.handle(PluginEvent::Due { generation: number });
    let failure = Failure::Configuration("no key".to_owned());
    let actions = managed.worker(number, failed(failure, InstanceStage::Starting));
    assert_eq!(problems(&actions)[0].stage, FailedStage::Start);
    assert_eq!(managed.plugin.condition(), Condition::Failed);
}

#[test]
fn a_plugin_on_demand_recovers_from_a_failed_start_by_an_instance_and_is_idle_later() {
    let (mut managed, number) = tried(on_demand(1, false));
    managed.worker(number, WorkerEvent::Waking);
    managed.worker(number, trap_at_start());
    // There was no call meanwhile.
    managed.worker(number, IDLE);
    assert_eq!(managed.plugin.condition(), Condition::Recovering);
    let actions = managed.handle(PluginEvent::Due { generation: number });
    assert!(has(&actions, |it| matches!(it, Action::StartWorker(_))), "{actions:?}");
    managed.worker(number, READY);
    assert!(managed.plugin.standing().ready);
    assert_eq!(managed.plugin.condition(), Condition::Running);
    managed.worker(number, IDLE);
    assert_eq!(managed.plugin.condition(), Condition::OnDemand);
}

#[test]
fn a_probe_that_fails_is_tried_again_by_the_same_policy_and_not_started() {
    let mut managed = Managed::new();
    let (number, _) = managed.prepare(on_demand(1, false), false);
    let no_room = failed(Failure::Resources("no room".to_owned()), InstanceStage::Starting);
    managed.worker(number, no_room);
    assert_eq!(managed.plugin.condition(), Condition::Retrying);
    let actions = managed.handle(PluginEvent::Due { generation: number });
    assert!(has(&actions, |it| matches!(it, Action::TryInstance(_))), "{actions:?}");
    assert!(!has(&actions, |it| matches!(it, Action::StartWorker(_))), "{actions:?}");
}

#[test]
fn an_idle_plugin_is_restarted_with_an_instance_and_stopped_without_one() {
    let (mut managed, number) = tried(on_demand(1, false));
    let actions = managed.handle(PluginEvent::Restart { generation: 9, relinked: None });
    assert!(has(&actions, |it| matches!(it, Action::StartWorker(9))), "{actions:?}");
    managed.worker(9, READY);
    assert_eq!(managed.plugin.condition(), Condition::Running);
    managed.worker(9, IDLE);
    managed.worker(number, WorkerEvent::Gone);
    managed.handle(PluginEvent::Stop);
    managed.worker(9, WorkerEvent::Gone);
    assert_eq!(managed.plugin.condition(), Condition::Stopped);
}
