//! Where a call is, and the table of the events that change it.

/// Where a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    /// It waits for a worker.
    Queued,
    /// A worker has it.
    Taken,
    /// The guest has replied, and the reply is being delivered.
    Answered,
    /// The reply was delivered.
    Delivered,
    /// The caller left before it had the whole reply; the worker may still produce it.
    Abandoned,
    /// The caller left before a worker had it.
    Withdrawn,
    /// Its time was up before a worker had it.
    NotTaken,
    /// Its time was up before the guest replied.
    Expired,
    /// It was given back: its generation is going, and the next one can have it.
    Returned,
    /// It ended without a whole reply, in its worker or while it waited.
    Failed,
}

/// An event of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallEvent {
    /// A worker takes it.
    Take,
    /// The caller has the reply, or its worker is done with it.
    Answer,
    /// There will be no reply.
    Fail,
    /// The caller has the whole reply.
    Deliver,
    /// The caller is gone.
    Leave,
    /// Its time is up.
    Expire,
    /// It is given back.
    Return,
}

impl State {
    const ALL: [Self; 10] = [
        Self::Queued,
        Self::Taken,
        Self::Answered,
        Self::Delivered,
        Self::Abandoned,
        Self::Withdrawn,
        Self::NotTaken,
        Self::Expired,
        Self::Returned,
        Self::Failed,
    ];

    /// The state after `event`; none: it changes nothing.
    pub(crate) fn after(self, event: CallEvent) -> Option<Self> {
        Some(match (self, event) {
            (Self::Queued, CallEvent::Take) => Self::Taken,
            (Self::Queued, CallEvent::Leave) => Self::Withdrawn,
            (Self::Queued, CallEvent::Expire) => Self::NotTaken,
            (Self::Queued, CallEvent::Return) => Self::Returned,
            (Self::Queued | Self::Taken | Self::Answered, CallEvent::Fail) => Self::Failed,
            (Self::Taken, CallEvent::Answer) => Self::Answered,
            (Self::Taken, CallEvent::Leave) => Self::Abandoned,
            (Self::Taken, CallEvent::Expire) => Self::Expired,
            (Self::Answered, CallEvent::Deliver) => Self::Delivered,
            (Self::Answered, CallEvent::Leave) => Self::Abandoned,
            _ => return None,
        })
    }

    /// Whether it counts as in flight in its worker.
    pub(crate) fn is_in_worker(self) -> bool {
        matches!(self, Self::Taken | Self::Answered)
    }

    /// Whether its deadline still matters.
    pub(crate) fn has_deadline(self) -> bool {
        matches!(self, Self::Queued | Self::Taken)
    }

    /// Whether a worker had it. One that failed counts as taken, even if it failed while it waited.
    pub(crate) fn was_taken(self) -> bool {
        !matches!(self, Self::Queued | Self::Withdrawn | Self::NotTaken | Self::Returned)
    }

    /// The state with this number.
    pub(super) fn of(number: u8) -> Self {
        Self::ALL.into_iter().find(|state| *state as u8 == number).unwrap_or(Self::Failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EVENTS: [CallEvent; 7] = [
        CallEvent::Take,
        CallEvent::Answer,
        CallEvent::Fail,
        CallEvent::Deliver,
        CallEvent::Leave,
        CallEvent::Expire,
        CallEvent::Return,
    ];

    #[test]
    fn each_state_is_known_by_its_number() {
        for state in State::ALL {
            assert_eq!(State::of(state as u8), state);
        }
    }

    proptest! {
        #[test]
        fn a_worker_is_entered_and_left_at_most_once(
            events in prop::collection::vec(prop::sample::select(&EVENTS[..]), 0..20),
        ) {
            let (mut state, mut entered, mut left) = (State::Queued, 0, 0);
            for event in events {
                let Some(next) = state.after(event) else { continue };
                entered += u32::from(!state.is_in_worker() && next.is_in_worker());
                left += u32::from(state.is_in_worker() && !next.is_in_worker());
                prop_assert!(!state.is_in_worker() || next.was_taken());
                state = next;
            }
            prop_assert!(entered <= 1 && left <= entered);
            prop_assert_eq!(state.is_in_worker(), entered > left);
        }

        #[test]
        fn a_call_ends_however_it_began(
            events in prop::collection::vec(prop::sample::select(&EVENTS[..]), 0..20),
        ) {
            let mut state = State::Queued;
            for event in events.into_iter().chain([CallEvent::Expire, CallEvent::Leave]) {
                state = state.after(event).unwrap_or(state);
            }
            prop_assert!(!state.is_in_worker() && !state.has_deadline());
        }

        #[test]
        fn a_call_that_was_returned_is_never_taken(
            events in prop::collection::vec(prop::sample::select(&EVENTS[..]), 0..20),
        ) {
            let mut state = State::Returned;
            for event in events {
                state = state.after(event).unwrap_or(state);
                prop_assert_eq!(state, State::Returned);
            }
        }
    }
}
