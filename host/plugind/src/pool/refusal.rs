//! An instance that accepts no call by back-pressure: for how long that may last.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Sleep, sleep};

/// The time since an instance without calls has accepted none.
pub(super) struct Refusal {
    /// How long it may refuse all calls while some wait; zero is no limit.
    max: Duration,
    /// Runs while it refuses.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Refusal {
    /// It accepts calls.
    pub(super) fn new(max: Duration) -> Self {
        Self { max, timer: None }
    }

    /// The instance accepts calls, or is at work on some.
    pub(super) fn end(&mut self) {
        self.timer = None;
    }

    /// The instance refuses calls although it is at work on none. True if it did for too long, and calls wait.
    pub(super) fn poll(&mut self, calls_wait: bool, cx: &mut Context<'_>) -> bool {
        if self.max.is_zero() {
            return false;
        }
        loop {
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.max)));
            match timer.as_mut().poll(cx) {
                Poll::Ready(()) if calls_wait => return true,
                Poll::Ready(()) => self.timer = None,
                Poll::Pending => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::poll_fn;

    #[tokio::test(start_paused = true)]
    async fn an_instance_may_refuse_calls_for_so_long_if_any_wait() {
        let max = Duration::from_secs(10);
        let mut refusal = Refusal::new(max);
        let mut look =
            async |calls_wait| poll_fn(|cx| Poll::Ready(refusal.poll(calls_wait, cx))).await;
        assert!(!look(true).await);
        tokio::time::advance(max + Duration::from_secs(1)).await;
        assert!(!look(false).await, "no call waits, so another period begins");
        assert!(!look(true).await);
        tokio::time::advance(max + Duration::from_secs(1)).await;
        assert!(look(true).await);
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_that_accepts_calls_in_between_may_refuse_as_long_again() {
        let mut refusal = Refusal::new(Duration::from_secs(10));
        for _ in 0..3 {
            assert!(!poll_fn(|cx| Poll::Ready(refusal.poll(true, cx))).await);
            tokio::time::advance(Duration::from_secs(11)).await;
            refusal.end();
        }
        let mut unlimited = Refusal::new(Duration::ZERO);
        assert!(!poll_fn(|cx| Poll::Ready(unlimited.poll(true, cx))).await);
        assert!(unlimited.timer.is_none());
    }
}
