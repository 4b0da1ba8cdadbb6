//! The next step of a worker, as a pure function of its view.

use crate::world::bindings::exports::plugind::plugin::lifecycle::StopReason;

/// The most calls that a worker takes before the event loop of its instance comes to rest.
///
/// A call can be answered before the guest's own tasks for it have ended, such as the one that closes the body's
/// stream. They have their turn when the loop comes to rest, so a queue that is never empty must not keep it from that:
/// their handles would pile up until the instance reaches its limit.
pub(super) const CALLS_BETWEEN_RESTS: u32 = 8;

/// Why a worker takes no more calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LeaveReason {
    /// Its generation drains.
    Draining(StopReason),
    /// It has served as many calls, or as long, or uses as much, as an instance should.
    Recycled,
    /// It has had no work for long, and is not needed.
    Idle,
    /// Its instance says that it cannot serve.
    Unhealthy(String),
    /// Its instance accepts no call although some wait.
    Refusing,
}

/// The facts on which a worker decides.
#[derive(Clone, Debug, Default)]
pub(super) struct WorkerView {
    /// It takes no more calls, since there was a reason before.
    pub(super) leaving: bool,
    /// A call in it was not answered in time.
    pub(super) retiring: bool,
    /// Its generation drains.
    pub(super) draining: Option<StopReason>,
    /// It was asked to end because it has had no work for long, and has none now.
    pub(super) idle: bool,
    /// The instance is as old as one may be.
    pub(super) aged: bool,
    /// The instance holds half of the resources that it may, or as much memory as it is replaced at.
    pub(super) near_limit: bool,
    /// Calls that the guest is handling, without those that linger.
    pub(super) calls: usize,
    /// Calls on which the guest still works, whose callers have been gone for long.
    pub(super) lingering: usize,
    /// Calls of the guest that it passed on to other plugins. They do not count as its own.
    pub(super) passed: usize,
    /// As many calls are in flight as may be, or any at all where a transfer of the state is due.
    pub(super) full: bool,
    /// Calls that it has taken so far.
    pub(super) taken: u32,
    /// Calls that it has taken since its event loop was at rest.
    pub(super) since_rest: u32,
    /// Its guest used up a slice of processor time, and the event loop has not been at rest since.
    pub(super) computes: bool,
    /// The most calls at a time.
    pub(super) concurrency: usize,
    /// The most calls over its life.
    pub(super) recycle_after: Option<u32>,
    /// It is recycled only after this many calls, unless too many linger.
    pub(super) recycle_not_before: u32,
    /// The instance keeps a state that the one that replaces it takes over, and that was not saved for it yet.
    pub(super) unsaved: bool,
    /// A transfer of the state is in progress.
    pub(super) transferring: bool,
    /// The state of the instance is to be saved or restored.
    pub(super) transfer_due: bool,
    /// A transfer of the state, or a health check that is due, keeps calls waiting.
    pub(super) held: bool,
}

/// The next step of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WorkerDecision {
    /// It transfers the state of its instance.
    Transfer,
    /// It saves the state of its instance for the one that replaces it.
    SaveForNext,
    /// It takes no more calls.
    Leave(LeaveReason),
    /// It takes a call, if there is one and the guest accepts one.
    Take,
    /// It waits until something changes.
    Wait,
}

impl WorkerView {
    /// Returns the next step of the worker.
    pub(super) fn decide(&self) -> WorkerDecision {
        if self.leaving {
            return WorkerDecision::Wait;
        }
        if self.transfer_due && !self.retiring && self.calls == 0 && !self.full {
            return WorkerDecision::Transfer;
        }
        if let Some(reason) = self.draining {
            return WorkerDecision::Leave(LeaveReason::Draining(reason));
        }
        if self.is_recyclable() || self.idle {
            let why = if self.idle { LeaveReason::Idle } else { LeaveReason::Recycled };
            return match self.unsaved {
                false => WorkerDecision::Leave(why),
                true if self.transferring || self.calls > 0 || self.full => WorkerDecision::Wait,
                true => WorkerDecision::SaveForNext,
            };
        }
        let may_take = !self.retiring
            && !self.held
            && !self.full
            && self.calls < self.concurrency.saturating_add(self.passed)
            && self.loop_allows();
        if may_take { WorkerDecision::Take } else { WorkerDecision::Wait }
    }

    /// Whether it has served as many calls, or as long, or uses as much, as an instance should, or more calls linger in it
    /// than may.
    pub(super) fn is_recyclable(&self) -> bool {
        let has_served = self.recycle_after.is_some_and(|max| self.taken >= max);
        let is_used_up = has_served || self.aged || self.near_limit;
        (is_used_up && self.taken >= self.recycle_not_before)
            || self.lingering > self.lingering_max()
    }

    /// Limit of lingering calls in an instance: 0 where it serves one at a time, since no call may run beside another.
    fn lingering_max(&self) -> usize {
        if self.concurrency == 1 { 0 } else { self.concurrency }
    }

    /// Whether it could take a call if the replies that are on their way had reached their callers.
    pub(super) fn only_delivers(&self) -> bool {
        let delivered = Self { full: false, ..self.clone() };
        self.full && self.calls == 0 && delivered.decide() == WorkerDecision::Take
    }

    /// Whether another call may be taken now: if the event loop is at rest, because all calls of the guest then wait
    /// for something; or if the guest has no calls, because only tasks that earlier calls left behind then wait, for at
    /// most [`CALLS_BETWEEN_RESTS`] calls. While the guest computes, even for a call that has ended or whose caller has
    /// left, another call would wait for the end of the computation.
    fn loop_allows(&self) -> bool {
        !self.computes
            && (self.since_rest == 0 || (self.calls == 0 && self.since_rest < CALLS_BETWEEN_RESTS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn idle() -> WorkerView {
        WorkerView { concurrency: 4, ..WorkerView::default() }
    }

    #[test]
    fn an_instance_with_more_lingering_calls_than_its_concurrency_is_replaced() {
        let lingering = |lingering| WorkerView { lingering, ..idle() }.decide();
        assert_eq!(lingering(4), WorkerDecision::Take, "they keep no place");
        assert_eq!(lingering(5), WorkerDecision::Leave(LeaveReason::Recycled));
        let exclusive = WorkerView { lingering: 1, concurrency: 1, ..idle() };
        assert_eq!(exclusive.decide(), WorkerDecision::Leave(LeaveReason::Recycled));
    }

    #[test]
    fn a_worker_takes_calls_up_to_its_concurrency() {
        assert_eq!(idle().decide(), WorkerDecision::Take);
        assert_eq!(WorkerView { calls: 3, ..idle() }.decide(), WorkerDecision::Take);
        assert_eq!(WorkerView { calls: 4, ..idle() }.decide(), WorkerDecision::Wait);
        assert_eq!(WorkerView { full: true, ..idle() }.decide(), WorkerDecision::Wait);
    }

    #[test]
    fn an_idle_worker_leaves_after_its_state_was_saved() {
        let idle_one = WorkerView { idle: true, ..idle() };
        assert_eq!(idle_one.decide(), WorkerDecision::Leave(LeaveReason::Idle));
        let keeps = WorkerView { unsaved: true, ..idle_one.clone() };
        assert_eq!(keeps.decide(), WorkerDecision::SaveForNext);
        let saving = WorkerView { transferring: true, ..keeps.clone() };
        assert_eq!(saving.decide(), WorkerDecision::Wait);
        let due = WorkerView { transfer_due: true, held: true, ..keeps };
        assert_eq!(due.decide(), WorkerDecision::Transfer);
        let draining = Some(StopReason::Reload);
        let draining = WorkerView { draining, ..idle_one };
        assert_eq!(
            draining.decide(),
            WorkerDecision::Leave(LeaveReason::Draining(StopReason::Reload))
        );
    }

    #[test]
    fn calls_that_were_passed_on_leave_their_places_to_others() {
        let passed = WorkerView { calls: 7, passed: 4, ..idle() };
        assert_eq!(passed.decide(), WorkerDecision::Take);
        assert_eq!(WorkerView { calls: 8, ..passed.clone() }.decide(), WorkerDecision::Wait);
        let due = WorkerView { transfer_due: true, held: true, full: true, ..passed };
        assert_eq!(due.decide(), WorkerDecision::Wait, "a transfer waits for them as well");
    }

    #[test]
    fn a_worker_takes_a_bounded_number_of_calls_until_its_loop_rests() {
        assert_eq!(WorkerView { since_rest: 1, calls: 1, ..idle() }.decide(), WorkerDecision::Wait);
        assert_eq!(WorkerView { since_rest: 1, ..idle() }.decide(), WorkerDecision::Take);
        let max = WorkerView { since_rest: CALLS_BETWEEN_RESTS, ..idle() };
        assert_eq!(max.decide(), WorkerDecision::Wait);
    }

    #[test]
    fn a_worker_whose_guest_computes_takes_no_call() {
        for since_rest in [0, 1] {
            let view = WorkerView { computes: true, since_rest, ..idle() };
            assert_eq!(view.decide(), WorkerDecision::Wait);
            assert!(!WorkerView { full: true, ..view }.only_delivers());
        }
    }

    #[test]
    fn a_worker_only_delivers_if_its_guest_has_done_its_part() {
        let full = WorkerView { full: true, concurrency: 1, ..idle() };
        assert!(full.only_delivers());
        assert!(!WorkerView { calls: 1, ..full.clone() }.only_delivers());
        assert!(!WorkerView { retiring: true, ..full.clone() }.only_delivers());
        assert!(!WorkerView { leaving: true, ..full }.only_delivers());
        assert!(!idle().only_delivers());
    }

    #[test]
    fn a_transfer_waits_for_the_calls_in_progress() {
        let due = WorkerView { transfer_due: true, held: true, ..idle() };
        assert_eq!(due.decide(), WorkerDecision::Transfer);
        assert_eq!(WorkerView { calls: 1, ..due.clone() }.decide(), WorkerDecision::Wait);
        assert_eq!(WorkerView { full: true, ..due }.decide(), WorkerDecision::Wait);
    }

    #[test]
    fn an_instance_is_replaced_before_it_reaches_a_limit() {
        for view in [
            WorkerView { near_limit: true, ..idle() },
            WorkerView { aged: true, ..idle() },
            WorkerView { taken: 7, recycle_after: Some(7), ..idle() },
        ] {
            assert_eq!(view.decide(), WorkerDecision::Leave(LeaveReason::Recycled));
        }
    }

    #[test]
    fn the_state_of_an_instance_is_saved_before_it_is_replaced() {
        let near_limit = WorkerView { near_limit: true, unsaved: true, ..idle() };
        assert_eq!(near_limit.decide(), WorkerDecision::SaveForNext);
        for view in [
            WorkerView { calls: 1, ..near_limit.clone() },
            WorkerView { full: true, ..near_limit.clone() },
            WorkerView { transferring: true, ..near_limit.clone() },
        ] {
            assert_eq!(view.decide(), WorkerDecision::Wait);
        }
        let saved = WorkerView { unsaved: false, ..near_limit.clone() };
        assert_eq!(saved.decide(), WorkerDecision::Leave(LeaveReason::Recycled));
        let postponed = WorkerView { recycle_not_before: 9, ..near_limit };
        assert_eq!(postponed.decide(), WorkerDecision::Take, "it could not be saved a moment ago");
    }

    proptest! {
        #[test]
        fn no_call_is_taken_where_none_may_be(
            leaving: bool, retiring: bool, draining: bool, aged: bool, near_limit: bool, unsaved: bool,
            calls in 0..9_usize, full: bool, since_rest in 0..20_u32, concurrency in 1..9_usize, due: bool,
            held: bool, lingering in 0..20_usize, computes: bool, idle: bool,
        ) {
            let draining = draining.then_some(StopReason::Reload);
            let view = WorkerView {
                leaving, retiring, draining, aged, near_limit, unsaved, calls, full, since_rest, concurrency,
                transfer_due: due, held, lingering, computes, idle, ..WorkerView::default()
            };
            if view.decide() == WorkerDecision::Take {
                prop_assert!(!(leaving || retiring || aged || near_limit || full || held || computes || idle));
                prop_assert!(draining.is_none() && calls < concurrency && lingering <= concurrency);
                prop_assert!(since_rest == 0 || since_rest < CALLS_BETWEEN_RESTS);
            }
        }
    }

    /// An event of a worker.
    #[derive(Clone, Copy, Debug)]
    enum Happens {
        CallEnds,
        Computes,
        Rests,
        Idles,
        Ages,
        NearsLimit,
        Retires,
        Drains,
        OrdersTransfer,
        TransferEnds { saved: bool },
    }

    fn happens() -> impl Strategy<Value = Happens> {
        prop_oneof![
            10 => Just(Happens::CallEnds),
            1 => Just(Happens::Computes),
            5 => Just(Happens::Rests),
            1 => Just(Happens::Idles),
            1 => Just(Happens::Ages),
            1 => Just(Happens::NearsLimit),
            1 => Just(Happens::Retires),
            1 => Just(Happens::Drains),
            1 => Just(Happens::OrdersTransfer),
            2 => any::<bool>().prop_map(|saved| Happens::TransferEnds { saved }),
        ]
    }

    /// A worker that does what is decided, in a queue that is never empty.
    struct Walk {
        view: WorkerView,
        left: Option<LeaveReason>,
        was_saved: bool,
        saves_for_next: bool,
        /// The supervisor wants the state to be transferred.
        ordered: bool,
    }

    impl Walk {
        fn happen(&mut self, what: Happens) {
            let view = &mut self.view;
            match what {
                Happens::CallEnds => view.calls = view.calls.saturating_sub(1),
                Happens::Computes => view.computes = true,
                Happens::Rests => (view.since_rest, view.computes) = (0, false),
                Happens::Idles => view.idle = view.calls == 0,
                Happens::Ages => view.aged = true,
                Happens::NearsLimit => view.near_limit = true,
                Happens::Retires => view.retiring = true,
                Happens::Drains => view.draining = Some(StopReason::Reload),
                Happens::OrdersTransfer => self.ordered = true,
                Happens::TransferEnds { saved } if view.transferring => {
                    view.transferring = false;
                    if std::mem::take(&mut self.saves_for_next) {
                        match saved {
                            true => (view.unsaved, self.was_saved) = (false, true),
                            false => {
                                (view.recycle_not_before, view.idle) = (view.taken + 64, false)
                            }
                        }
                    }
                }
                Happens::TransferEnds { .. } => (),
            }
        }

        /// Decides until there is nothing to do.
        fn settle(&mut self) {
            for _ in 0..100 {
                let view = &mut self.view;
                view.transfer_due = self.ordered && !view.transferring;
                view.held = self.ordered || view.transferring;
                match view.decide() {
                    WorkerDecision::Wait => return,
                    WorkerDecision::Take => {
                        assert!(!view.transferring && self.left.is_none());
                        view.calls += 1;
                        view.taken += 1;
                        view.since_rest += 1;
                    }
                    WorkerDecision::Transfer => {
                        assert!(view.calls == 0 && !view.transferring);
                        (self.ordered, view.transferring) = (false, true);
                    }
                    WorkerDecision::SaveForNext => {
                        assert!(view.calls == 0 && !view.transferring);
                        (self.saves_for_next, view.transferring) = (true, true);
                    }
                    WorkerDecision::Leave(why) => {
                        assert!(self.left.is_none(), "it leaves once");
                        view.leaving = true;
                        self.left = Some(why);
                    }
                }
            }
            panic!("it never settles: {:?}", self.view);
        }
    }

    proptest! {
        #[test]
        fn a_walk_settles_takes_no_call_too_many_and_loses_no_state(
            concurrency in 1..5_usize, recycle_after in prop::option::of(1..50_u32), keeps: bool,
            steps in prop::collection::vec(happens(), 0..200),
        ) {
            let view = WorkerView {
                concurrency, recycle_after, unsaved: keeps, ..WorkerView::default()
            };
            let (was_saved, saves_for_next, ordered) = (false, false, false);
            let mut walk = Walk { view, left: None, was_saved, saves_for_next, ordered };
            walk.settle();
            for step in steps {
                walk.happen(step);
                walk.settle();
                prop_assert!(walk.view.calls <= concurrency);
                if matches!(walk.left, Some(LeaveReason::Recycled | LeaveReason::Idle)) && keeps {
                    prop_assert!(walk.was_saved, "its state is lost");
                }
                if let Some(max) = recycle_after.filter(|_| !keeps) {
                    prop_assert!(walk.view.taken <= max);
                }
            }
        }
    }
}
