//! What a worker does next, as a pure function of what it sees.

use crate::world::bindings::exports::plugind::plugin::lifecycle::StopReason;

/// The most calls that a worker takes before the event loop of its instance comes to rest.
///
/// A call can be answered before the guest's own tasks for it have ended, such as the one that closes the body's
/// stream. They have their turn when the loop comes to rest, so a queue that is never empty must not keep it from that:
/// their handles would pile up until the instance reaches its limit.
pub(super) const CALLS_BETWEEN_RESTS: u32 = 8;

/// Why a worker takes no more calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Its generation drains.
    Draining(StopReason),
    /// It has served as many calls, or as long, or uses as much, as an instance should.
    Recycled,
    /// Its instance says that it cannot serve.
    Unhealthy(String),
}

/// What a worker sees.
#[derive(Clone, Debug, Default)]
pub(super) struct WorkerView {
    /// It takes no more calls, since there was a reason before.
    pub(super) leaving: bool,
    /// A call in it was not answered in time.
    pub(super) retiring: bool,
    /// Its generation drains.
    pub(super) draining: Option<StopReason>,
    /// The instance is as old as one may be.
    pub(super) aged: bool,
    /// The instance holds nearly as many resources, or as much memory, as it may.
    pub(super) near_memory_limit: bool,
    /// Calls that the guest is at.
    pub(super) calls: usize,
    /// As many calls are in flight as may be, or any at all where a transfer of the state is due.
    pub(super) full: bool,
    /// Calls that it has taken so far.
    pub(super) taken: u32,
    /// Calls that it has taken since its event loop was at rest.
    pub(super) since_rest: u32,
    /// The most calls at a time.
    pub(super) concurrency: usize,
    /// The most calls over its life.
    pub(super) recycle_after: Option<u32>,
    /// The state of the instance is to be saved or restored.
    pub(super) transfer_due: bool,
    /// A transfer of the state keeps calls waiting.
    pub(super) held: bool,
}

/// What a worker does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WorkerDecision {
    /// It transfers the state of its instance.
    Transfer,
    /// It takes no more calls.
    Leave(Why),
    /// It takes a call, if there is one and the guest accepts one.
    Take,
    /// It waits until something changes.
    Wait,
}

impl WorkerView {
    /// What the worker does next.
    pub(super) fn decide(&self) -> WorkerDecision {
        if self.leaving {
            return WorkerDecision::Wait;
        }
        if self.transfer_due && !self.retiring && self.calls == 0 && !self.full {
            return WorkerDecision::Transfer;
        }
        if let Some(reason) = self.draining {
            return WorkerDecision::Leave(Why::Draining(reason));
        }
        if self.recycle_after.is_some_and(|max| self.taken >= max)
            || self.aged
            || self.near_memory_limit
        {
            return WorkerDecision::Leave(Why::Recycled);
        }
        let may_take = !self.retiring
            && !self.held
            && !self.full
            && self.calls < self.concurrency
            && self.loop_allows();
        if may_take { WorkerDecision::Take } else { WorkerDecision::Wait }
    }

    /// Whether its event loop allows another call: when the loop is at rest, all calls of the guest wait for something;
    /// when the guest has none, no other worker is kept waiting for long.
    fn loop_allows(&self) -> bool {
        self.since_rest == 0 || (self.calls == 0 && self.since_rest < CALLS_BETWEEN_RESTS)
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
    fn a_worker_takes_calls_up_to_its_concurrency() {
        assert_eq!(idle().decide(), WorkerDecision::Take);
        assert_eq!(WorkerView { calls: 3, ..idle() }.decide(), WorkerDecision::Take);
        assert_eq!(WorkerView { calls: 4, ..idle() }.decide(), WorkerDecision::Wait);
        assert_eq!(WorkerView { full: true, ..idle() }.decide(), WorkerDecision::Wait);
    }

    #[test]
    fn a_worker_takes_a_bounded_number_of_calls_until_its_loop_rests() {
        assert_eq!(WorkerView { since_rest: 1, calls: 1, ..idle() }.decide(), WorkerDecision::Wait);
        assert_eq!(WorkerView { since_rest: 1, ..idle() }.decide(), WorkerDecision::Take);
        let max = WorkerView { since_rest: CALLS_BETWEEN_RESTS, ..idle() };
        assert_eq!(max.decide(), WorkerDecision::Wait);
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
            WorkerView { near_memory_limit: true, ..idle() },
            WorkerView { aged: true, ..idle() },
            WorkerView { taken: 7, recycle_after: Some(7), ..idle() },
        ] {
            assert_eq!(view.decide(), WorkerDecision::Leave(Why::Recycled));
        }
    }

    proptest! {
        #[test]
        fn no_call_is_taken_where_none_may_be(
            leaving: bool, retiring: bool, draining: bool, aged: bool, near_memory_limit: bool, calls in 0..9_usize,
            full: bool, since_rest in 0..20_u32, concurrency in 1..9_usize, due: bool, held: bool,
        ) {
            let draining = draining.then_some(StopReason::Reload);
            let (taken, recycle_after) = (0, None);
            let view = WorkerView {
                leaving, retiring, draining, aged, near_memory_limit, calls, full, taken, since_rest, concurrency,
                recycle_after, transfer_due: due, held,
            };
            if view.decide() == WorkerDecision::Take {
                prop_assert!(!(leaving || retiring || aged || near_memory_limit || full || held));
                prop_assert!(draining.is_none() && calls < concurrency);
                prop_assert!(since_rest == 0 || since_rest < CALLS_BETWEEN_RESTS);
            }
        }
    }
}
