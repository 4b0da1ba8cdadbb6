//! A plugin that an operator stopped, rolled back or started is counted as such.

use super::*;

#[test]
fn a_plugin_that_is_stopped_leaves_with_that_reason_and_is_neither_ready_nor_failed() {
    let (mut managed, number) = Managed::serving(release(1, true));
    let actions = managed.handle(PluginEvent::Stop);
    let drains =
        |action: &Action| matches!(action, Action::Drain(it, StopReason::Stop) if *it == number);
    assert!(actions.iter().any(drains), "{actions:?}");
    assert!(actions.iter().any(|action| matches!(action, Action::Publish)), "{actions:?}");
    assert!(actions.iter().any(|action| matches!(action, Action::Keep(None))), "{actions:?}");
    assert_eq!(managed.plugin.condition(), Condition::Stopping);
    managed.worker(number, WorkerEvent::Gone);
    assert_eq!(managed.plugin.condition(), Condition::Stopped);
    assert_eq!(managed.plugin.step(), None);
    let SummaryEntry { ready, stopped, awaited, failed, .. } = managed.plugin.standing();
    assert_eq!((ready, stopped, awaited, failed), (false, true, false, None));
    assert!(managed.plugin.is_required());

    managed.plugin.clear_stopped();
    let (number, _) = managed.prepare(release(1, true), true);
    managed.worker(number, READY);
    assert_eq!(managed.plugin.condition(), Condition::Running);
}

#[test]
fn a_version_that_is_on_its_way_is_given_up_by_a_stop() {
    let (mut managed, _) = Managed::serving(release(1, false));
    let (number, _) = managed.prepare(release(2, false), true);
    let actions = managed.handle(PluginEvent::Stop);
    let is_reported = |action: &Action| matches!(action, Action::Report(Fact::Stopped));
    assert!(actions.iter().any(is_reported), "{actions:?}");
    // It became ready too late.
    managed.worker(number, READY);
    assert!(managed.plugin.serving().is_none());
    assert_eq!(managed.plugin.condition(), Condition::Stopping);
}

#[test]
fn a_plugin_that_an_operator_changed_is_counted_until_that_is_undone() {
    let (mut managed, first) = Managed::serving(release(1, false));
    assert!(!managed.plugin.standing().operated);
    managed.plugin.begin_rollback(release(1, false).digests(), release(2, false).digests());
    let (second, _) = managed.prepare(release(2, false), true);
    managed.worker(second, READY);
    managed.worker(first, WorkerEvent::Gone);
    assert!(managed.plugin.standing().operated, "it is rolled back");
    managed.plugin.end_rollback();
    assert!(!managed.plugin.standing().operated);
    managed.handle(PluginEvent::Stop);
    assert!(managed.plugin.standing().operated, "it is stopped");
    managed.plugin.clear_stopped();
    assert!(!managed.plugin.standing().operated);
}

#[test]
fn a_plugin_that_does_not_start_by_itself_is_counted_while_it_serves() {
    let mut manifest = Manifest::default();
    manifest.service.autostart = false;
    let mut managed = Managed::new();
    managed.handle(PluginEvent::Rest { requests: Vec::new() });
    let standing = managed.plugin.standing();
    assert!(standing.stopped && !standing.operated, "the next start leaves it like that");
    managed.plugin.clear_stopped();
    let release = Release { manifest, ..Release::clone(&release(1, false)) };
    let (number, _) = managed.prepare(Arc::new(release), true);
    managed.worker(number, READY);
    assert!(managed.plugin.standing().operated, "an operator started it");
}

#[test]
fn a_restart_of_a_plugin_that_was_stopped_meanwhile_is_refused() {
    let (mut managed, _) = Managed::serving(release(1, false));
    managed.handle(PluginEvent::Stop);
    let actions = managed.handle(PluginEvent::Restart { generation: 9, relinked: None });
    let refused =
        |it: &Action| matches!(it, Action::Report(Fact::NotRestarted(RestartError::Stopped)));
    assert!(has(&actions, refused), "{actions:?}");
    assert!(!has(&actions, |it| matches!(it, Action::Create { .. })));
}

#[test]
fn a_plugin_that_an_operator_started_ends_with_the_reload_that_added_it() {
    let (mut managed, number) = Managed::serving(release(1, false));
    let actions = managed.handle(PluginEvent::Forget);
    let drains =
        |it: &Action| matches!(it, Action::Drain(it, StopReason::Removed) if *it == number);
    assert!(has(&actions, drains), "{actions:?}");
    managed.worker(number, WorkerEvent::Gone);
    assert!(managed.plugin.is_gone());
}
