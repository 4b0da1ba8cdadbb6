//! The messages of a subscription that wait for room: they are bounded, since the server sends without being asked.

use crate::{
    base::budget::MemoryCharge,
    listen::lost_messages::{Loss, LostMessages},
};
use std::{collections::VecDeque, sync::Arc};

/// The most messages that wait, and the most bytes that they have together. One may have more than that.
pub(super) const MESSAGES_MAX: usize = 1024;
pub(super) const BYTES_MAX: usize = 8 << 20;

/// Messages that wait, in the order in which they came. Those that are left when this is dropped are lost.
#[derive(Debug)]
pub(super) struct WaitingMessages<T> {
    /// Each with its bytes, and with what counts as memory of the plugin.
    messages: VecDeque<(T, usize, Option<MemoryCharge>)>,
    bytes: usize,
    lost: Arc<LostMessages>,
}

impl<T> WaitingMessages<T> {
    /// None waits yet.
    pub(super) fn new(lost: Arc<LostMessages>) -> Self {
        Self { messages: VecDeque::new(), bytes: 0, lost }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Adds a message with this many bytes, which are charged while it waits. False if there is no room: it is dropped.
    pub(super) fn push(
        &mut self,
        message: T,
        bytes: usize,
        charge: impl FnOnce() -> Option<MemoryCharge>,
    ) -> bool {
        let has_room =
            self.messages.len() < MESSAGES_MAX && self.bytes.saturating_add(bytes) <= BYTES_MAX;
        if !has_room && !self.is_empty() {
            return false;
        }
        self.bytes = self.bytes.saturating_add(bytes);
        self.messages.push_back((message, bytes, charge()));
        true
    }

    /// Takes the first message.
    pub(super) fn pop(&mut self) -> Option<T> {
        let (message, bytes, _) = self.messages.pop_front()?;
        self.bytes = self.bytes.saturating_sub(bytes);
        Some(message)
    }
}

impl<T> Drop for WaitingMessages<T> {
    fn drop(&mut self) {
        self.lost.add(Loss::NotServed, self.messages.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{budget::Budget, subject::SubjectPattern};
    use proptest::prelude::*;

    fn lost() -> Arc<LostMessages> {
        let (plugin, subject) = ("a".parse().unwrap(), "b".parse::<SubjectPattern>().unwrap());
        LostMessages::new(plugin, subject)
    }

    fn free() -> Option<MemoryCharge> {
        None
    }

    #[test]
    fn what_a_message_takes_is_charged_until_it_is_taken_or_lost() {
        let budgets = [(); 2].map(|()| Arc::new(Budget::new(100)));
        let charge = |bytes| Some(MemoryCharge::always(budgets.clone(), bytes));
        let mut waiting = WaitingMessages::new(lost());
        assert!(waiting.push("a", 60, || charge(60)) && waiting.push("b", 70, || charge(70)));
        assert_eq!(budgets[0].used(), 130, "the bound of what waits is another one");
        assert!(!waiting.push("c", BYTES_MAX, || charge(BYTES_MAX)));
        assert_eq!((waiting.pop(), budgets[0].used()), (Some("a"), 70));
        drop(waiting);
        assert_eq!((budgets[0].used(), budgets[1].used()), (0, 0));
    }

    #[test]
    fn messages_that_still_wait_at_the_end_are_lost_and_counted() {
        let lost = lost();
        let mut waiting = WaitingMessages::new(lost.clone());
        assert!((0..3).all(|message| waiting.push(message, 1, free)));
        assert_eq!(waiting.pop(), Some(0));
        drop(waiting);
        assert_eq!(lost.unreported(Loss::NotServed), 2);
    }

    #[test]
    fn as_many_messages_wait_as_may() {
        let mut waiting = WaitingMessages::new(lost());
        assert!((0..MESSAGES_MAX).all(|message| waiting.push(message, 1, free)));
        assert!(!waiting.push(MESSAGES_MAX, 1, free));
        assert_eq!(waiting.pop(), Some(0));
        assert!(waiting.push(MESSAGES_MAX, 1, free));
    }

    #[test]
    fn a_message_that_is_larger_than_all_may_be_waits_alone() {
        let mut waiting = WaitingMessages::new(lost());
        assert!(waiting.push("large", BYTES_MAX + 1, free));
        assert!(!waiting.push("small", 0, free));
        assert_eq!((waiting.pop(), waiting.pop()), (Some("large"), None));
        assert!(waiting.push("small", 0, free));
    }

    proptest! {
        #[test]
        fn messages_are_bounded_by_their_bytes_and_keep_their_order(
            sizes in prop::collection::vec((any::<bool>(), 0..BYTES_MAX), 0..60),
        ) {
            let (mut waiting, mut expected) = (WaitingMessages::new(lost()), VecDeque::new());
            for (number, (takes, bytes)) in sizes.into_iter().enumerate() {
                if takes {
                    prop_assert_eq!(waiting.pop(), expected.pop_front().map(|(it, _)| it));
                } else if waiting.push(number, bytes, free) {
                    expected.push_back((number, bytes));
                }
                let sum: usize = expected.iter().map(|(_, bytes)| bytes).sum();
                prop_assert!(waiting.bytes == sum && sum <= BYTES_MAX);
            }
        }
    }
}
