//! A version that fails at the start gives way to the one that served last.

use super::*;

/// A plugin that is not there yet, with what a daemon before this one leaves for it.
fn with_last_good(last_good: LastGood) -> Managed {
    let managed = Managed::new();
    Managed { plugin: managed.plugin.with_last_good(last_good), ..managed }
}

fn reads_last_good(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::ReadLastGood))
}

#[test]
fn a_version_that_never_served_gives_way_to_the_one_that_served_last() {
    let (good, bad) = (release(1, false), release(2, false));
    let mut managed = with_last_good(LastGood::Version(good.digests()));
    let (number, _) = managed.prepare(bad, false);
    assert!(reads_last_good(&managed.worker(number, trap_at_start())), "one failure is enough");
    assert!(managed.plugin.standing().awaited, "the start waits for it");

    let (ticket, verified) = (7, Verified::assumed(good));
    managed.handle(PluginEvent::FallBack { ticket, verified, requests: Vec::new() });
    let prepared = Prepared { generation: ticket, after_start: false, saved: None };
    managed.handle(PluginEvent::Prepared { ticket, outcome: Ok(prepared) });
    let actions = managed.worker(ticket, READY);
    let fell_back = |action: &Action| matches!(action, Action::Report(Fact::FellBack(_)));
    assert!(actions.iter().any(fell_back), "{actions:?}");
    let degraded = |managed: &Managed| {
        managed.plugin.failed().is_some_and(|failed| failed.previous_since.is_some())
    };
    assert!(degraded(&managed) && managed.plugin.condition() == Condition::Running);

    managed.handle(PluginEvent::Restart { generation: 8, relinked: None });
    managed.worker(8, READY);
    assert!(degraded(&managed), "new instances of the previous version fix nothing");
    managed.numbers = 8;
    let (number, _) = managed.prepare(release(3, false), true);
    managed.worker(number, READY);
    assert!(managed.plugin.failed().is_none());
}

#[test]
fn a_start_that_falls_back_to_a_program_that_returns_is_not_failed() {
    let good = release(1, false);
    let mut managed = with_last_good(LastGood::Version(good.digests()));
    let (number, _) = managed.prepare(release(2, false), false);
    managed.worker(number, trap_at_start());
    let (ticket, verified) = (7, Verified::assumed(good));
    managed.handle(PluginEvent::FallBack { ticket, verified, requests: Vec::new() });
    let prepared = Prepared { generation: ticket, after_start: false, saved: None };
    managed.handle(PluginEvent::Prepared { ticket, outcome: Ok(prepared) });
    managed.worker(ticket, WorkerEvent::Returned);
    assert_eq!(managed.plugin.condition(), Condition::Exited);
    assert!(managed.plugin.failed().is_some_and(|failed| failed.previous_since.is_some()));
    assert_eq!(managed.plugin.succeeded().map(|it| it.number), Some(ticket));
    // A program that fails when it is run again has no other version that could be the previous one.
    managed.plugin.problem = None;
    managed.handle(PluginEvent::Restart { generation: 8, relinked: None });
    managed.worker(8, trap_at_start());
    assert!(managed.plugin.failed().is_some_and(|failed| failed.previous_since.is_none()));
}

#[test]
fn a_plugin_that_never_served_is_left_out_where_others_have() {
    let mut managed = with_last_good(LastGood::Others);
    let (number, _) = managed.prepare(release(1, false), false);
    assert!(!reads_last_good(&managed.worker(number, trap_at_start())));
    assert!(managed.plugin.failed().is_some_and(|failed| !failed.required));
    let mut managed = with_last_good(LastGood::Nothing);
    let (number, _) = managed.prepare(release(1, false), false);
    managed.worker(number, trap_at_start());
    assert!(managed.plugin.failed().is_some_and(|failed| failed.required), "the first start");
}

#[test]
fn an_unavailable_plugin_that_never_served_is_retried_and_no_start_waits_for_it() {
    let unavailable =
        || failed(Failure::Unavailable("no database".to_owned()), InstanceStage::Starting);
    let mut managed = with_last_good(LastGood::Others);
    let (number, _) = managed.prepare(release(1, false), false);
    assert!(managed.plugin.standing().awaited, "the first attempt may succeed");
    for _ in 0..100 {
        let actions = managed.worker(number, unavailable());
        assert!(has(&actions, |it| matches!(it, Action::Report(Fact::Retried(_)))), "{actions:?}");
        assert!(!managed.plugin.standing().awaited);
        assert!(managed.plugin.standing().retried.is_some_and(|retried| !retried.required));
        assert_eq!(managed.plugin.condition(), Condition::Retrying);
        managed.now += Duration::from_secs(60);
        managed.handle(PluginEvent::Due { generation: number });
        assert!(!managed.plugin.standing().awaited);
    }
    managed.worker(number, READY);
    assert_eq!(managed.plugin.condition(), Condition::Running);

    // Nor does another version that a reload finds later have a single attempt.
    let mut managed = with_last_good(LastGood::Others);
    let (number, _) = managed.prepare(release(1, false), false);
    managed.worker(number, trap_at_start());
    let (number, _) = managed.prepare(release(2, false), true);
    managed.worker(number, unavailable());
    assert_eq!(managed.plugin.condition(), Condition::Retrying);
}

#[test]
fn the_version_that_served_last_is_not_followed_by_itself() {
    let good = release(1, false);
    let mut managed = with_last_good(LastGood::Version(good.digests()));
    let (number, _) = managed.prepare(good, false);
    assert!(!reads_last_good(&managed.worker(number, trap_at_start())));
    assert!(managed.plugin.failed().is_some_and(|failed| failed.required));
}

#[test]
fn where_the_last_good_version_cannot_be_read_the_start_fails() {
    let mut managed = with_last_good(LastGood::Version(release(1, false).digests()));
    let (number, _) = managed.prepare(release(2, false), false);
    managed.worker(number, trap_at_start());
    let actions = managed.handle(PluginEvent::NoFallback { left_out: false });
    assert!(!managed.plugin.standing().awaited);
    assert!(managed.plugin.failed().is_some_and(|failed| failed.required));
    // For clients that asked for a start or a restart meanwhile.
    let is_answer =
        |it: &Action| matches!(it, Action::Report(Fact::NotRestarted(RestartError::Failed(_))));
    assert!(has(&actions, is_answer), "{actions:?}");
}

#[test]
fn no_start_waits_for_a_plugin_that_fails_in_any_way_while_it_restores_its_state() {
    let good = release(1, true);
    for failure in [
        Failure::Restore("it is not mine".to_owned()),
        Failure::Trap("unreachable".to_owned()),
        Failure::OutOfMemory("it is too large".to_owned()),
        Failure::Timeout("restoring the state took too long"),
    ] {
        let mut managed = with_last_good(LastGood::Version(good.digests()));
        let (number, _) = managed.prepare(good.clone(), false);
        let actions = managed.worker(number, failed(failure, InstanceStage::Restoring));
        let error = &problems(&actions)[0].error;
        assert!(error.contains("restor"), "{error}");
        let standing = managed.plugin.standing();
        assert!(!standing.awaited && standing.failed.is_some_and(|it| !it.required), "{error}");
    }
}

#[test]
fn a_required_plugin_that_served_and_cannot_restore_its_state_any_more_is_missed() {
    let (mut managed, number) = Managed::serving(release(1, true));
    let wrong = Failure::Configuration("no greeting".to_owned());
    managed.worker(number, failed(wrong, InstanceStage::Restoring));
    assert_eq!(managed.plugin.condition(), Condition::Failed);
    assert!(managed.plugin.failed().is_some_and(|failed| failed.required));
    assert!(managed.plugin.is_required());
}

#[test]
fn where_the_last_good_version_cannot_be_read_others_start_without_it() {
    let mut managed = with_last_good(LastGood::Version(release(1, false).digests()));
    let (number, _) = managed.prepare(release(2, false), false);
    managed.worker(number, trap_at_start());
    managed.handle(PluginEvent::NoFallback { left_out: true });
    assert!(!managed.plugin.standing().awaited);
    assert!(managed.plugin.failed().is_some_and(|failed| !failed.required));
}
