//! Each event leads to actions, in one pass, and the plugin is what the actions say.

mod attempts;
mod falling_back;
mod on_demand;
mod operated;

use super::*;
use crate::{
    plugin::{
        credentials::CredentialsSeen, inspection::Inspection, manifest::Manifest, release::Release,
    },
    pool::{failure::Failure, worker_event::InstanceStage},
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

    /// A version is found; returns the number of its preparation.
    fn find(&mut self, release: Arc<Release>) -> u64 {
        self.numbers += 1;
        let (ticket, verified) = (self.numbers, Verified::assumed(release));
        let (requests, hold_point) = (Vec::new(), HoldPoint::Open);
        self.handle(PluginEvent::Found { ticket, verified, requests, hold_point });
        ticket
    }

    /// A version is found and prepared; returns the number of its generation.
    fn prepare(&mut self, release: Arc<Release>, after_start: bool) -> (u64, Vec<Action>) {
        let number = self.find(release);
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
            let standing = managed.plugin.standing();
            assert!(standing.retried.is_some() && standing.failed.is_none(), "{standing:?}");
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
    assert_eq!((standing.ready, standing.awaited, standing.failed), (false, true, None));
    assert!(standing.retried.is_some());
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
