//! Room for the messages of a subscription, whose size a reload may change.

use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// Room for messages.
pub(super) struct MessageRoom {
    semaphore: Arc<Semaphore>,
    max: Mutex<usize>,
}

impl MessageRoom {
    /// Room for `max` messages.
    pub(super) fn new(max: usize) -> Self {
        Self { semaphore: Arc::new(Semaphore::new(max)), max: Mutex::new(max) }
    }

    /// The semaphore of which each message takes a permit.
    pub(super) fn semaphore(&self) -> &Arc<Semaphore> {
        &self.semaphore
    }

    /// Changes its size. If it becomes smaller, messages that are in progress keep their room until they end.
    pub(super) fn resize(&self, max: usize) {
        let before =
            std::mem::replace(&mut *self.max.lock().unwrap_or_else(PoisonError::into_inner), max);
        if max >= before {
            self.semaphore.add_permits(max - before);
            return;
        }
        let (semaphore, less) = (self.semaphore.clone(), u32::try_from(before - max));
        tokio::spawn(async move {
            // It is never closed.
            if let Ok(permits) = semaphore.acquire_many_owned(less.unwrap_or(u32::MAX)).await {
                permits.forget();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::yield_now;

    #[tokio::test]
    async fn a_smaller_room_takes_no_message_until_enough_have_ended() {
        let room = MessageRoom::new(4);
        let take = || room.semaphore().clone().try_acquire_owned();
        let mut taken: Vec<_> = (0..4).map(|_| take().unwrap()).collect();
        room.resize(2);
        yield_now().await;
        taken.truncate(2);
        yield_now().await;
        assert!(take().is_err(), "there are two of at most two");
        taken.pop();
        assert!(take().is_ok());
        room.resize(3);
        taken.extend([take().unwrap(), take().unwrap()]);
        assert!(take().is_err());
    }
}
