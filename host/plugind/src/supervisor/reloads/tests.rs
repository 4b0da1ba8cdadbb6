//! Requests are folded, wait for each other, and change all or nothing.

use super::*;
use crate::api::FailedStage;

const SOFT: ReloadOptions = ReloadOptions { again: true, all_or_nothing: false };
const ATOMIC: ReloadOptions = ReloadOptions { again: true, all_or_nothing: true };

fn name(name: &str) -> PluginName {
    name.parse().unwrap()
}

fn found(names: &[&str]) -> FoundContents {
    names.iter().map(|plugin| (name(plugin), Err("as it is".to_owned()))).collect()
}

fn failure(plugin: &str) -> Failed {
    Failed {
        plugin: name(plugin),
        required: false,
        exit: false,
        stage: FailedStage::Start,
        error: "why".to_owned(),
        configuration: false,
        stopped: false,
        previous_since: None,
    }
}

/// Reloads of a daemon whose start, with these plugins, has ended.
fn started(names: &[&str]) -> Reloads {
    let mut reloads = Reloads::default();
    assert_eq!(reloads.request(ReloadOptions::default(), None), Next::Read);
    assert!(reloads.read(found(names)));
    assert_eq!(reloads.compared(), Next::Wait);
    let finished = reloads.finish().unwrap();
    assert!(!finished.was_requested, "the start is no reload");
    reloads
}

fn request(reloads: &mut Reloads, options: ReloadOptions) -> (Next, Watched) {
    let (reply, mut answer) = oneshot::channel();
    let next = reloads.request(options, Some(reply));
    let watched = answer.try_recv().ok();
    (next, Watched { answer, watched })
}

/// A reload as the client that requested it sees it.
struct Watched {
    answer: oneshot::Receiver<watch::Receiver<ReloadState>>,
    watched: Option<watch::Receiver<ReloadState>>,
}

impl Watched {
    /// The state, if the reload has begun.
    fn state(&mut self) -> Option<ReloadState> {
        if self.watched.is_none() {
            self.watched = self.answer.try_recv().ok();
        }
        Some(self.watched.as_ref()?.borrow().clone())
    }
}

fn summary(reloads: &Reloads) -> (u64, u64) {
    (reloads.requested, reloads.completed)
}

#[test]
fn requests_of_one_kind_share_one_reload_which_reads_once_more_for_all_of_them() {
    let mut reloads = started(&["a"]);
    let (next, mut first) = request(&mut reloads, SOFT);
    assert_eq!(next, Next::Read);
    let mut others: Vec<_> = (0..10).map(|_| request(&mut reloads, SOFT)).collect();
    assert!(others.iter().all(|(next, _)| *next == Next::Wait));

    assert!(!reloads.read(found(&["a"])));
    assert_eq!(reloads.compared(), Next::Read, "files may have changed since");
    assert!(reloads.finish().is_none());
    assert!(!reloads.read(found(&["a"])));
    assert_eq!(reloads.compared(), Next::Wait);
    let finished = reloads.finish().unwrap();
    assert!(finished.was_requested && finished.is_watched);
    assert!(first.state().unwrap().has_ended());
    assert!(others.iter_mut().all(|(_, watched)| watched.state().unwrap().has_ended()));
    assert_eq!(summary(&reloads), (11, 11));
}

#[test]
fn a_request_after_the_comparison_reads_again_and_keeps_what_was_done() {
    let mut reloads = started(&["a", "b"]);
    let (_, mut watched) = request(&mut reloads, SOFT);
    reloads.read(found(&["a", "b"]));
    reloads.note(|state| state.await_plugin(&name("a")));
    reloads.note(|state| state.await_plugin(&name("b")));
    assert_eq!(reloads.compared(), Next::Wait);
    reloads.note(|state| state.taken_over(&name("a")));
    assert_eq!(request(&mut reloads, SOFT).0, Next::Read);
    reloads.read(found(&["a", "b"]));
    assert_eq!(reloads.compared(), Next::Wait);
    assert!(reloads.finish().is_some());
    assert_eq!(watched.state().unwrap().changed, BTreeSet::from([name("a")]));
}

#[test]
fn a_request_of_another_kind_waits_and_those_of_its_kind_wait_with_it() {
    let mut reloads = started(&[]);
    let (_, mut soft) = request(&mut reloads, SOFT);
    let (next, mut first) = request(&mut reloads, ATOMIC);
    assert_eq!((next, first.state()), (Next::Wait, None));
    let (next, mut second) = request(&mut reloads, ATOMIC);
    assert_eq!((next, second.state()), (Next::Wait, None));

    reloads.read(found(&[]));
    assert_eq!(reloads.compared(), Next::Wait);
    let finished = reloads.finish().unwrap();
    assert_eq!(finished.next, Next::Read, "the one that waited begins");
    assert!(soft.state().unwrap().has_ended());
    assert_eq!(summary(&reloads), (3, 1));
    assert!(first.state().unwrap().options.all_or_nothing);

    reloads.read(found(&[]));
    assert_eq!(reloads.compared(), Next::Wait);
    assert!(reloads.finish().unwrap().was_requested);
    assert!(first.state().unwrap().has_ended() && second.state().unwrap().has_ended());
    assert_eq!(summary(&reloads), (3, 3));
}

#[test]
fn directories_that_cannot_be_read_end_a_reload_and_change_nothing() {
    let mut reloads = started(&["a"]);
    let (_, mut watched) = request(&mut reloads, ATOMIC);
    assert_eq!(reloads.not_read("no such directory"), Next::Wait);
    assert_eq!(
        reloads.all_or_nothing_step(|_| RolloutProgress::Settled),
        AllOrNothingStep::TakeBack
    );
    assert!(reloads.take_back().is_empty());
    assert!(reloads.finish().is_some());
    assert_eq!(watched.state().unwrap().unreadable.as_deref(), Some("no such directory"));
    let mut summary = Summary::default();
    reloads.sum_up(|_| true, &mut summary);
    assert_eq!(summary.unreadable.as_deref(), Some("no such directory"));
    assert!(reloads.has_found(&name("a")));
}

#[test]
fn all_take_over_together_when_the_last_one_is_ready() {
    let mut reloads = started(&["a", "b"]);
    assert_eq!(reloads.hold_point(), HoldPoint::Open);
    let _watched = request(&mut reloads, ATOMIC);
    assert_eq!(reloads.hold_point(), HoldPoint::Closed);
    reloads.read(found(&["a", "b"]));
    for plugin in ["a", "b"] {
        reloads.note(|state| state.await_plugin(&name(plugin)));
    }
    assert_eq!(reloads.all_or_nothing_step(|_| RolloutProgress::Settled), AllOrNothingStep::Wait);
    assert_eq!(reloads.compared(), Next::Wait);
    let both = vec![name("a"), name("b")];
    for (last, step) in [
        (RolloutProgress::Starting, AllOrNothingStep::Wait),
        (RolloutProgress::Ready, AllOrNothingStep::HandOver(both.clone())),
        (RolloutProgress::Saving, AllOrNothingStep::HandOver(both.clone())),
        (RolloutProgress::Restoring, AllOrNothingStep::HandOver(both.clone())),
        (RolloutProgress::Settled, AllOrNothingStep::Commit(both.clone())),
    ] {
        let progress = |plugin: &PluginName| match plugin.to_string().as_str() {
            "b" => last,
            _ => RolloutProgress::Settled,
        };
        assert_eq!(reloads.all_or_nothing_step(progress), step);
    }
}

#[test]
fn one_failure_takes_all_back_and_the_same_set_is_not_tried_again_by_itself() {
    let mut reloads = started(&["a"]);
    let _watched = request(&mut reloads, ATOMIC);
    reloads.read(found(&["a", "b", "new"]));
    assert_eq!(reloads.refused_before(), None);
    reloads.add(&name("new"));
    assert!(reloads.is_held_back(&name("new")));
    for plugin in ["b", "new"] {
        reloads.note(|state| state.await_plugin(&name(plugin)));
    }
    assert_eq!(reloads.compared(), Next::Wait);
    reloads.note(|state| state.failed(failure("b")));
    assert_eq!(
        reloads.all_or_nothing_step(|_| RolloutProgress::Settled),
        AllOrNothingStep::TakeBack
    );
    assert_eq!(reloads.take_back(), BTreeSet::from([name("new")]));
    assert!(!reloads.is_held_back(&name("new")));
    assert!(reloads.finish().unwrap().state.taken_back);

    // SIGHUP: the same set, and nobody asks for another try.
    assert_eq!(reloads.request(ReloadOptions::default(), None), Next::Read);
    reloads.read(found(&["a", "b", "new"]));
    assert_eq!(reloads.refused_before(), Some(vec![failure("b")]));
    assert_eq!(reloads.compared(), Next::Wait);
    let finished = reloads.finish().unwrap();
    assert_eq!(finished.state.failed.len(), 1);

    // A change in the directories, or a client that asks, is another try.
    assert_eq!(reloads.request(ReloadOptions::default(), None), Next::Read);
    reloads.read(found(&["a", "b"]));
    assert_eq!(reloads.refused_before(), None);
}

#[test]
fn missing_plugins_are_removed_at_once_or_with_all_others() {
    let mut reloads = started(&["a"]);
    let _watched = request(&mut reloads, SOFT);
    reloads.read(found(&[]));
    assert_eq!(reloads.not_found(vec![name("a")]), (vec![name("a")], vec![]));
    assert_eq!(reloads.compared(), Next::Wait);
    assert!(reloads.finish().is_some());

    let _watched = request(&mut reloads, ATOMIC);
    reloads.read(found(&["new"]));
    reloads.add(&name("new"));
    // The directories are read once more for the same reload.
    reloads.read(found(&[]));
    let missing = vec![name("a"), name("new")];
    assert_eq!(reloads.not_found(missing), (vec![], vec![name("new")]));
    assert_eq!(reloads.compared(), Next::Wait);
    assert_eq!(
        reloads.all_or_nothing_step(|_| RolloutProgress::Starting),
        AllOrNothingStep::Commit(vec![])
    );
    assert_eq!(reloads.commit(), [name("a")]);
}

#[test]
fn a_reload_is_watched_until_what_it_replaced_has_drained() {
    let mut reloads = started(&["a"]);
    let (_, mut watched) = request(&mut reloads, SOFT);
    reloads.read(found(&["a"]));
    reloads.note(|state| {
        state.await_plugin(&name("a"));
        state.drains(&name("a"), 1);
    });
    assert_eq!(reloads.compared(), Next::Wait);
    reloads.note(|state| state.taken_over(&name("a")));
    assert!(reloads.finish().is_some());
    assert!(!watched.state().unwrap().is_drained());
    reloads.drained(&name("a"), 1);
    assert!(watched.state().unwrap().is_drained());
}

#[test]
fn requests_of_both_kinds_in_any_order_are_all_answered() {
    let mut seed = 7_u64;
    for _ in 0..500 {
        let mut reloads = started(&["a"]);
        let (mut watched, mut is_reading) = (Vec::new(), false);
        for step in 0..240 {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let choice = if step < 40 { seed >> 33 & 7 } else { 2 + (seed >> 33 & 1) };
            match choice {
                0 | 1 => {
                    let options = if choice == 0 { SOFT } else { ATOMIC };
                    let (next, one) = request(&mut reloads, options);
                    watched.push(one);
                    assert!(next == Next::Wait || !replace(&mut is_reading, true));
                }
                2 if is_reading => {
                    reloads.read(found(&["a"]));
                    is_reading = reloads.compared() == Next::Read;
                }
                3 => {
                    if let Some(finished) = reloads.finish() {
                        assert!(!is_reading && finished.was_requested);
                        is_reading = finished.next == Next::Read;
                    }
                }
                _ => (),
            }
        }
        assert!(watched.iter_mut().all(|one| one.state().is_some_and(|state| state.has_ended())));
        let (requested, completed) = summary(&reloads);
        assert_eq!(requested, completed);
    }
}
