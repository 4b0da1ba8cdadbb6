//! While a new attempt is in progress, no failure of an earlier one is reported.

use super::*;
use crate::plugin::manifest::FailureAction;

fn unavailable(why: &str) -> WorkerEvent {
    failed(Failure::Unavailable(why.to_owned()), InstanceStage::Starting)
}

/// What every report says about the failure of a plugin.
fn reported(managed: &Managed) -> (String, Option<String>, Option<String>) {
    let report = managed.plugin.report(None, None);
    let standing = managed.plugin.standing();
    (
        report.result,
        report.failure.map(|failure| failure.error),
        standing.failed.map(|failed| failed.error),
    )
}

fn nothing() -> (String, Option<String>, Option<String>) {
    ("success".to_owned(), None, None)
}

/// One of which the first version trapped, so that nothing serves.
fn trapped() -> Managed {
    let mut managed = Managed::new();
    let (number, _) = managed.prepare(release(1, false), true);
    for _ in 0..100 {
        managed.worker(number, trap_at_start());
        managed.now += Duration::from_secs(1);
        managed.handle(PluginEvent::Due { generation: number });
    }
    assert_eq!(managed.plugin.condition(), Condition::Failed);
    managed
}

#[test]
fn a_corrected_version_has_no_failure_while_it_is_compiled_and_started() {
    let mut managed = trapped();
    assert_eq!(reported(&managed).0, "start-limit-hit");
    managed.find(release(2, false));
    assert_eq!(managed.plugin.condition(), Condition::Starting(Step::Queued));
    assert_eq!(reported(&managed), nothing());
    let (number, _) = managed.prepare(release(2, false), true);
    assert_eq!(managed.plugin.condition(), Condition::Starting(Step::Starting));
    assert_eq!(reported(&managed), nothing());
    managed.worker(number, READY);
    assert_eq!(reported(&managed), nothing());
}

#[test]
fn a_corrected_version_that_is_unavailable_is_retried_for_its_own_reason() {
    let mut managed = trapped();
    let (number, _) = managed.prepare(release(2, false), true);
    let actions = managed.worker(number, unavailable("no database"));
    let retried = |action: &Action| match action {
        Action::Report(Fact::Retried(failed)) => Some(failed.error.clone()),
        _ => None,
    };
    let retried: Vec<_> = actions.iter().filter_map(retried).collect();
    assert!(retried.len() == 1 && retried[0].contains("no database"), "{actions:?}");
    let (result, failure, _) = reported(&managed);
    assert_eq!(result, "unavailable");
    assert!(failure.unwrap().contains("no database"));
}

#[test]
fn a_version_that_served_has_no_failure_of_the_next_one_while_that_is_tried_again() {
    let (mut managed, _) = Managed::serving(release(1, false));
    let (number, _) = managed.prepare(release(2, false), true);
    managed.worker(number, trap_at_start());
    assert!(reported(&managed).1.is_some());
    managed.find(release(3, false));
    assert_eq!(reported(&managed), nothing());
    // The new attempt is given up, so the failure before it is the last outcome.
    managed.handle(PluginEvent::NotWanted);
    assert!(reported(&managed).1.unwrap().contains("unreachable"));
}

#[test]
fn new_instances_of_the_previous_version_leave_the_failure_of_the_newest_one() {
    let (mut managed, _) = Managed::serving(release(1, false));
    let (number, _) = managed.prepare(release(2, false), true);
    managed.worker(number, trap_at_start());
    managed.handle(PluginEvent::Restart { generation: 9, relinked: None });
    assert!(reported(&managed).1.unwrap().contains("unreachable"));
    managed.worker(9, READY);
    assert!(reported(&managed).1.unwrap().contains("unreachable"));
}

/// The version that serves, 1, and the failure of the newest one, 2.
fn with_failed_newest() -> (Managed, u64) {
    let (mut managed, first) = Managed::serving(release(1, false));
    let (number, _) = managed.prepare(release(2, false), true);
    managed.worker(number, trap_at_start());
    (managed, first)
}

fn restart(managed: &mut Managed, generation: u64) {
    managed.numbers = generation;
    managed.handle(PluginEvent::Restart { generation, relinked: None });
}

/// The version that serves cannot continue.
fn fail_for_good(managed: &mut Managed, number: u64) -> Vec<Action> {
    let stage = InstanceStage::Ready { uptime: Duration::ZERO, served: false };
    managed.worker(number, failed(Failure::Configuration("no greeting".to_owned()), stage))
}

#[test]
fn a_restart_that_fails_is_reported_and_no_failure_of_the_version_that_serves() {
    let (mut managed, _) = Managed::serving(release(1, false));
    restart(&mut managed, 9);
    let actions = managed.worker(9, unavailable("no database"));
    assert_eq!(problems(&actions).len(), 1, "the client learns of it: {actions:?}");
    assert_eq!(reported(&managed), nothing());
    assert_eq!(managed.plugin.condition(), Condition::Running);
}

#[test]
fn a_restart_that_fails_leaves_the_failure_of_the_newest_version_to_the_next_one() {
    let (mut managed, _) = with_failed_newest();
    for generation in [9, 10] {
        restart(&mut managed, generation);
        let event = if generation == 9 { unavailable("no database") } else { READY };
        managed.worker(generation, event);
        assert!(reported(&managed).1.unwrap().contains("unreachable"), "{generation}");
        assert!(managed.plugin.failed().unwrap().previous_since.is_some(), "{generation}");
    }
}

#[test]
fn a_rollback_that_fails_is_reported_and_no_failure_of_the_version_that_serves() {
    let (from, to) = (release(2, false), release(1, false));
    let (mut managed, _) = Managed::serving(from.clone());
    managed.plugin.begin_rollback(from.digests(), to.digests());
    let (number, _) = managed.prepare(to.clone(), true);
    assert_eq!(problems(&managed.worker(number, trap_at_start())).len(), 1);
    assert_eq!(reported(&managed), nothing());
    // It is a new version now.
    let (number, _) = managed.prepare(to, true);
    managed.worker(number, trap_at_start());
    assert!(reported(&managed).1.unwrap().contains("unreachable"));
}

#[test]
fn a_restart_of_a_previous_version_that_failed_leaves_the_failure_of_the_newest() {
    let (mut managed, first) = with_failed_newest();
    assert_eq!(problems(&fail_for_good(&mut managed, first)).len(), 1);
    assert!(reported(&managed).1.unwrap().contains("no greeting"));
    restart(&mut managed, 9);
    assert_eq!(reported(&managed), nothing(), "it may serve again");
    managed.worker(9, unavailable("no database"));
    assert!(reported(&managed).1.unwrap().contains("no database"));
    restart(&mut managed, 10);
    managed.worker(10, READY);
    assert!(reported(&managed).1.unwrap().contains("unreachable"));
    let (number, _) = managed.prepare(release(3, false), true);
    managed.worker(number, READY);
    assert_eq!(reported(&managed), nothing());
}

#[test]
fn a_version_that_fails_while_the_next_one_is_on_its_way_does_not_end_that_one() {
    for is_prepared in [false, true] {
        let (mut managed, first) = Managed::serving(release(1, false));
        let mut number = managed.find(release(2, false));
        if is_prepared {
            (number, _) = managed.prepare(release(2, false), true);
        }
        let actions = fail_for_good(&mut managed, first);
        assert!(problems(&actions).is_empty(), "nobody waits for that version: {actions:?}");
        assert!(has(&actions, |it| matches!(it, Action::Publish)));
        assert!(matches!(managed.plugin.condition(), Condition::Starting(_)));
        assert_eq!(reported(&managed), nothing());
        if !is_prepared {
            (number, _) = managed.prepare(release(2, false), true);
        }
        assert!(is_reported_ready(&managed.worker(number, READY)));
        assert_eq!(managed.plugin.condition(), Condition::Running);
        assert_eq!(reported(&managed), nothing());
    }
}

#[test]
fn a_version_that_failed_meanwhile_is_the_failure_if_the_next_one_is_given_up() {
    let (mut managed, first) = Managed::serving(release(1, false));
    managed.find(release(2, false));
    fail_for_good(&mut managed, first);
    managed.handle(PluginEvent::NotWanted);
    assert!(reported(&managed).1.unwrap().contains("no greeting"));
    assert_eq!(managed.plugin.condition(), Condition::Failed);
}

#[test]
fn a_version_that_fails_for_good_while_it_saves_is_followed_without_its_state() {
    let (mut managed, first) = Managed::serving(release(1, true));
    let (number, _) = managed.prepare(release(2, true), true);
    let actions = managed.worker(number, READY);
    assert!(has(&actions, |it| matches!(it, Action::Save { .. })), "{actions:?}");
    let actions = fail_for_good(&mut managed, first);
    assert!(is_reported_ready(&actions), "{actions:?}");
    assert_eq!(managed.plugin.serving().map(|serving| serving.number), Some(number));
}

#[test]
fn routes_and_necessity_are_those_of_the_attempt_and_not_of_the_failure_before_it() {
    let mut managed = trapped();
    let optional = release(2, false);
    let manifest = Manifest { required: false, ..Manifest::default() };
    let optional = Arc::new(Release { manifest, ..Release::clone(&optional) });
    assert!(managed.plugin.is_required());
    managed.prepare(optional, true);
    assert!(!managed.plugin.is_required());
}

/// A version that ends the daemon when it fails, at a hold point.
fn exits_at(hold_point: HoldPoint) -> (Managed, Vec<Action>) {
    let mut manifest = Manifest::default();
    manifest.service.failure_action = FailureAction::Exit;
    let release = Arc::new(Release { manifest, ..Release::clone(&release(1, false)) });
    let (mut managed, ticket) = (Managed::new(), 1);
    let (verified, requests) = (Verified::assumed(release), Vec::new());
    managed.handle(PluginEvent::Found { ticket, verified, requests, hold_point });
    let outcome = Ok(Prepared { generation: 1, after_start: true, saved: None });
    managed.handle(PluginEvent::Prepared { ticket, outcome });
    let stage = InstanceStage::Starting;
    let actions = managed.worker(1, failed(Failure::Configuration("why".to_owned()), stage));
    (managed, actions)
}

#[test]
fn a_version_that_fails_at_a_hold_point_does_not_end_the_daemon() {
    for (hold_point, exits) in [(HoldPoint::Closed, false), (HoldPoint::Open, true)] {
        let (managed, actions) = exits_at(hold_point);
        let problems: Vec<_> = problems(&actions).into_iter().cloned().collect();
        let name = &managed.plugin.name;
        let exit: Vec<_> = problems.iter().map(|it| it.failed(name).exit).collect();
        assert_eq!(exit, [exits], "{hold_point:?}");
        assert_eq!(managed.plugin.failed().map(|failed| failed.exit), Some(exits));
    }
}

#[test]
fn a_version_that_failed_ends_the_daemon_only_if_the_next_one_fails() {
    for follower_serves in [true, false] {
        let mut manifest = Manifest::default();
        manifest.service.failure_action = FailureAction::Exit;
        let first = Arc::new(Release { manifest, ..Release::clone(&release(1, false)) });
        let (mut managed, number) = Managed::serving(first);
        let (next, _) = managed.prepare(release(2, false), true);
        let stage = InstanceStage::Ready { uptime: Duration::ZERO, served: false };
        managed.worker(number, failed(Failure::Configuration("why".to_owned()), stage));
        assert!(managed.plugin.serving().is_none() && managed.plugin.failed().is_none());
        managed.worker(next, if follower_serves { READY } else { trap_at_start() });
        let exits = managed.plugin.failed().is_some_and(|failed| failed.exit);
        assert_eq!(exits, !follower_serves);
    }
}
