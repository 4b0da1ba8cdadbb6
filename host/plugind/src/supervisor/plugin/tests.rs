//! Each event leads to actions, in one pass, and the plugin is what the actions say.

use super::*;
use crate::{
    plugin::{
        credentials::CredentialsSeen, inspection::Inspection, manifest::Manifest, release::Release,
    },
    pool::failure::Failure,
    supervisor::{
        problem::RestartError, reload::Step, report::Condition, rollout::SavedState,
        summary::SummaryEntry,
    },
};
use std::{path::PathBuf, time::Duration};

/// A plugin, with a clock that stands still and what it decided last.
struct Managed {
    plugin: ManagedPlugin,
    now: Instant,
    numbers: u64,
}

fn release(digest: u8, hands_over: bool) -> Arc<Release> {
    Arc::new(Release {
        name: "a".parse().unwrap(),
        path: PathBuf::from("/etc/plugind/plugins/a.wasm"),
        digest: [digest; 32],
        manifest: Manifest::default(),
        texts: Vec::new(),
        inspection: Inspection { handover: hands_over, ..Inspection::default() },
        credentials: CredentialsSeen::default(),
    })
}

impl Managed {
    fn new() -> Self {
        let plugin = ManagedPlugin::new("a".parse().unwrap());
        Self { plugin, now: Instant::now(), numbers: 0 }
    }

    fn handle(&mut self, event: PluginEvent) -> Vec<Action> {
        self.plugin.handle(event, self.now)
    }

    /// A version is found and prepared; returns the number of its generation.
    fn prepare(&mut self, release: Arc<Release>, after_start: bool) -> (u64, Vec<Action>) {
        self.numbers += 1;
        let number = self.numbers;
        let verified = Verified::assumed(release);
        let (requests, hold_point) = (Vec::new(), HoldPoint::Open);
        self.handle(PluginEvent::Found { ticket: number, verified, requests, hold_point });
        let prepared = Prepared { generation: number, after_start, saved: None };
        (number, self.handle(PluginEvent::Prepared { ticket: number, outcome: Ok(prepared) }))
    }

    fn worker(&mut self, generation: u64, event: WorkerEvent) -> Vec<Action> {
        self.handle(PluginEvent::Worker { generation, event, others: false })
    }

    /// One that serves; returns the number of its generation.
    fn serving(release: Arc<Release>) -> (Self, u64) {
        let mut managed = Self::new();
        let (number, _) = managed.prepare(release, false);
        managed.worker(number, READY);
        assert_eq!(managed.plugin.condition(), Condition::Running);
        (managed, number)
    }
}

const READY: WorkerEvent = WorkerEvent::Ready { worker: 0 };

fn failed(failure: Failure, stage: InstanceStage) -> WorkerEvent {
    WorkerEvent::Failed { worker: 0, failure, stage, post_mortem: PostMortem::default() }
}

fn trap_at_start() -> WorkerEvent {
    failed(Failure::Trap("unreachable".to_owned()), InstanceStage::Starting)
}

fn problems(actions: &[Action]) -> Vec<&PluginProblem> {
    let problem = |action| match action {
        &Action::Report(Fact::Failed(ref problem)) => Some(&**problem),
        _ => None,
    };
    actions.iter().filter_map(problem).collect()
}

fn is_reported_ready(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Report(Fact::Ready { .. })))
}

fn has(actions: &[Action], is: impl Fn(&Action) -> bool) -> bool {
    actions.iter().any(is)
}

#[test]
fn a_version_that_is_found_is_created_started_and_published_when_it_is_ready() {
    let mut managed = Managed::new();
    let (number, actions) = managed.prepare(release(1, false), false);
    let Action::Create { generation, source, .. } = &actions[0] else { panic!("{actions:?}") };
    assert_eq!((*generation, *source), (number, Source::Preparation(1)));
    assert!(has(&actions, |it| matches!(it, Action::StartWorker(1))));
    assert_eq!(managed.plugin.condition(), Condition::Starting(Step::Starting));
    let actions = managed.worker(number, READY);
    assert!(has(&actions, |it| matches!(it, Action::Publish)));
    assert!(is_reported_ready(&actions));
}

#[test]
fn a_preparation_that_something_newer_was_found_for_changes_nothing() {
    let mut managed = Managed::new();
    for (ticket, digest) in [(1, 1), (2, 2)] {
        let verified = Verified::assumed(release(digest, false));
        let (requests, hold_point) = (Vec::new(), HoldPoint::Open);
        managed.handle(PluginEvent::Found { ticket, verified, requests, hold_point });
    }
    let prepared = || Ok(Prepared { generation: 7, after_start: false, saved: None });
    assert!(managed.handle(PluginEvent::Prepared { ticket: 1, outcome: prepared() }).is_empty());
    assert!(!managed.handle(PluginEvent::Prepared { ticket: 2, outcome: prepared() }).is_empty());
}

#[test]
fn a_new_version_that_fails_is_reported_once_and_the_previous_one_keeps_serving() {
    let (mut managed, first) = Managed::serving(release(1, false));
    let (second, _) = managed.prepare(release(2, false), true);
    let actions = managed.worker(second, trap_at_start());
    let found = problems(&actions);
    assert_eq!(found.len(), 1, "{actions:?}");
    assert_eq!((found[0].stage, found[0].generation), (FailedStage::Start, Some(second)));
    assert!(has(&actions, |it| matches!(it, Action::Drain(number, _) if *number == second)));
    assert_eq!(managed.plugin.serving().map(|serving| serving.number), Some(first));
    assert_eq!(managed.plugin.condition(), Condition::Running);
    assert!(managed.plugin.failed().is_some(), "and everyone sees that the new one failed");
}

#[test]
fn an_event_of_an_older_generation_changes_nothing() {
    let (mut managed, first) = Managed::serving(release(1, false));
    let (second, _) = managed.prepare(release(2, false), true);
    managed.worker(second, READY);
    assert!(managed.worker(first, READY).is_empty());
    assert!(managed.handle(PluginEvent::Due { generation: 99 }).is_empty());
    let actions = managed.worker(first, WorkerEvent::Gone);
    assert!(has(&actions, |it| matches!(it, Action::Report(Fact::Gone { generation: 1 }))));
    assert_eq!(managed.plugin.serving().map(|serving| serving.number), Some(second));
}

#[test]
fn what_is_unavailable_is_retried_with_its_reason_and_the_time_of_the_next_try() {
    let unavailable =
        || failed(Failure::Unavailable("no database".to_owned()), InstanceStage::Starting);
    for after_start in [false, true] {
        let mut managed = Managed::new();
        let (number, _) = managed.prepare(release(1, false), after_start);
        for _ in 0..100 {
            let actions = managed.worker(number, unavailable());
            assert!(problems(&actions).is_empty(), "it never fails for good");
            assert_eq!(managed.plugin.condition(), Condition::Retrying);
            let report = managed.plugin.report(None, None);
            assert_eq!((&*report.active_state, &*report.result), ("activating", "unavailable"));
            assert!(report.failure.unwrap().error.contains("no database"));
            let next = report.next_attempt.expect("there is a next try");
            assert!(next > 0);
            let wake_at = |it: &Action| match it {
                Action::WakeAt(_, moment) => Some(*moment),
                _ => None,
            };
            let moment = actions.iter().find_map(wake_at).expect("there is a next try");
            assert!(moment <= managed.now + Duration::from_secs(30));
            managed.now = moment;
            let actions = managed.handle(PluginEvent::Due { generation: number });
            assert!(has(&actions, |it| matches!(it, Action::StartWorker(_))));
        }
        managed.worker(number, READY);
        assert_eq!(managed.plugin.condition(), Condition::Running);
    }
}

#[test]
fn a_plugin_whose_last_instance_failed_is_not_ready_until_the_next_one_is() {
    let (mut managed, number) = Managed::serving(release(1, false));
    let stage = InstanceStage::Ready { uptime: Duration::ZERO, served: false };
    let actions = managed.worker(number, failed(Failure::Trap("x".to_owned()), stage));
    assert!(has(&actions, |it| matches!(it, Action::Report(Fact::WorkerEnded { .. }))));
    assert_eq!(managed.plugin.condition(), Condition::Recovering);
    let standing = managed.plugin.standing();
    assert_eq!((standing.ready, standing.awaited, standing.retried.len()), (false, true, 1));
    assert_eq!(managed.plugin.report(None, None).active_state, "activating");
    managed.handle(PluginEvent::Due { generation: number });
    managed.worker(number, READY);
    // It has no handler, so all that it does is its own work.
    let expected = SummaryEntry { ready: true, at_work: true, ..SummaryEntry::default() };
    assert_eq!(managed.plugin.standing(), expected);
}

#[test]
fn each_condition_has_one_word_in_every_report() {
    let (managed, _) = Managed::serving(release(1, false));
    let report = managed.plugin.report(None, None);
    assert_eq!((&*report.active_state, &*report.sub_state), ("active", "running"));
    assert!(managed.plugin.standing().ready);

    let (mut managed, _) = Managed::serving(release(1, false));
    managed.prepare(release(2, false), true);
    let report = managed.plugin.report(None, None);
    assert_eq!((&*report.active_state, &*report.sub_state), ("reloading", "starting"));
    assert!(managed.plugin.standing().ready, "the previous version serves");

    managed.handle(PluginEvent::Remove(StopReason::Removed));
    assert_eq!(managed.plugin.report(None, None).active_state, "deactivating");
}

#[test]
fn a_handover_goes_from_save_to_restore_to_swap() {
    let (mut managed, first) = Managed::serving(release(1, true));
    let (second, _) = managed.prepare(release(2, true), true);
    let actions = managed.worker(second, READY);
    let save = |it: &Action| match it {
        Action::Save { generation, ticket, .. } => Some((*generation, *ticket)),
        _ => None,
    };
    let (saver, ticket) = actions.iter().find_map(save).expect("it is to save");
    assert_eq!(saver, first);
    let state: SavedState = Arc::from(*b"state");
    let saved = WorkerEvent::Saved { worker: 0, save: 1, outcome: Ok(Some(state)) };
    let actions = managed.worker(first, saved);
    assert!(has(&actions, |it| matches!(it, Action::Keep(Some(_)))));
    assert!(has(&actions, |it| matches!(it, Action::Restore(number, _) if *number == second)));
    let actions = managed.worker(second, WorkerEvent::Restored { worker: 0, outcome: Ok(()) });
    assert!(is_reported_ready(&actions));
    // Its time passes later, and means nothing any more.
    assert!(managed.handle(PluginEvent::HandoverDue { ticket, save_begun: true }).is_empty());
}

#[test]
fn a_handover_that_takes_too_long_leaves_the_previous_version_at_work() {
    let (mut managed, first) = Managed::serving(release(1, true));
    let (second, _) = managed.prepare(release(2, true), true);
    managed.worker(second, READY);
    let ticket = managed.plugin.handover;
    let actions = managed.handle(PluginEvent::HandoverDue { ticket, save_begun: false });
    let found = problems(&actions);
    assert_eq!((found.len(), found[0].stage), (1, FailedStage::Handover));
    assert!(has(&actions, |it| matches!(it, Action::Resume(number) if *number == first)));
    assert_eq!(managed.plugin.condition(), Condition::Running);
}

#[test]
fn a_restart_starts_the_same_version_and_one_without_a_version_is_refused() {
    let (mut managed, first) = Managed::serving(release(1, false));
    let actions = managed.handle(PluginEvent::Restart { generation: 9, relinked: None });
    let Action::Create { generation: 9, source, .. } = &actions[0] else { panic!("{actions:?}") };
    assert_eq!(*source, Source::Generation(first));

    let mut managed = Managed::new();
    let (requests, release) = (Vec::new(), release(1, false));
    let error = "no route".to_owned();
    let problem = Box::new(PluginProblem::of_routes(&release, error, requests));
    assert_eq!(problems(&managed.handle(PluginEvent::Unusable(problem))).len(), 1);
    let actions = managed.handle(PluginEvent::Restart { generation: 9, relinked: None });
    assert!(has(&actions, |it| matches!(
        it,
        Action::Report(Fact::NotRestarted(RestartError::Failed(_)))
    )));
}

#[test]
fn a_plugin_that_ends_with_the_daemon_saves_its_state_before() {
    let (mut managed, first) = Managed::serving(release(1, true));
    let actions = managed.handle(PluginEvent::Shutdown);
    assert!(has(&actions, |it| matches!(it, Action::Save { .. })));
    assert!(!has(&actions, |it| matches!(it, Action::Drain(..))));
    let saved = WorkerEvent::Saved { worker: 0, save: 1, outcome: Ok(None) };
    let actions = managed.worker(first, saved);
    assert!(has(&actions, |it| matches!(it, Action::Drain(_, StopReason::Shutdown))));
    managed.worker(first, WorkerEvent::Gone);
    assert!(managed.plugin.is_gone());
}

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
    managed.handle(PluginEvent::NoFallback { left_out: false });
    assert!(!managed.plugin.standing().awaited);
    assert!(managed.plugin.failed().is_some_and(|failed| failed.required));
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

#[test]
fn a_plugin_from_which_a_credential_was_withdrawn_does_not_serve_any_more() {
    let (mut managed, number) = Managed::serving(release(1, false));
    let problem = PluginProblem::of_credentials(&release(1, false), String::new(), Vec::new());
    let actions = managed.handle(PluginEvent::Withdraw(Box::new(problem)));
    let drains =
        |action: &Action| matches!(action, Action::Drain(drained, _) if *drained == number);
    assert!(actions.iter().any(drains), "{actions:?}");
    assert_eq!(managed.plugin.condition(), Condition::Failed);
    assert!(!managed.plugin.is_gone());
}

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
    let is_told = |action: &Action| matches!(action, Action::Report(Fact::Stopped));
    assert!(actions.iter().any(is_told), "{actions:?}");
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
fn a_trial_that_fails_is_tried_again_by_the_same_policy_and_not_started() {
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
