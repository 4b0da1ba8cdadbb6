//! A call that one generation of a plugin gives back, because it drains, is offered to the next one.

use crate::pool::instances::Pool;
use std::{
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::time::Instant;

/// The generation that gave a call back: it is not offered the call again.
pub(super) struct GivenBack<P = Pool>(Option<Return<P>>);

struct Return<P> {
    /// Only to be compared: a generation that has ended must not be kept.
    by: Weak<P>,
    /// When the first generation gave it back.
    first: Instant,
}

impl<P> GivenBack<P> {
    /// No generation has had the call.
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// The call came back from this pool.
    pub(super) fn note(&mut self, by: &Arc<P>) {
        let first = self.0.take().map_or_else(Instant::now, |before| before.first);
        self.0 = Some(Return { by: Arc::downgrade(by), first });
    }

    /// Whether the call came back from this pool, so that no other generation serves yet, or first came back longer than
    /// `wait_max` ago.
    fn excludes(&self, pool: &Arc<P>, wait_max: Duration) -> bool {
        self.0.as_ref().is_some_and(|last| {
            Weak::ptr_eq(&last.by, &Arc::downgrade(pool)) || last.first.elapsed() > wait_max
        })
    }
}

impl GivenBack {
    /// Whether the call may be offered to a pool. The time for which it may wait for generations is that for a response.
    pub(super) fn allows(&self, pool: &Arc<Pool>) -> bool {
        !self.excludes(pool, pool.linked().release.manifest.limits.request_timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    const WAIT_MAX: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_call_is_offered_to_each_of_many_generations_once() {
        let mut given_back = GivenBack::none();
        for generation in 1..100 {
            let pool = Arc::new(generation);
            assert!(!given_back.excludes(&pool, WAIT_MAX));
            given_back.note(&pool);
            assert!(given_back.excludes(&pool, WAIT_MAX));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_does_not_wait_for_ever_because_of_many_generations() {
        let mut given_back = GivenBack::none();
        for generation in 1..=3 {
            given_back.note(&Arc::new(generation));
            assert!(!given_back.excludes(&Arc::new(0), WAIT_MAX));
            advance(WAIT_MAX / 3).await;
        }
        advance(WAIT_MAX / 3).await;
        assert!(given_back.excludes(&Arc::new(0), WAIT_MAX));
    }

    #[test]
    fn a_generation_that_gave_a_call_back_can_end() {
        let (mut given_back, pool) = (GivenBack::none(), Arc::new(1));
        given_back.note(&pool);
        assert!(Arc::into_inner(pool).is_some());
    }
}
