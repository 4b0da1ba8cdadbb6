//! An instance that accepts no call by back-pressure: for how long that may last.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Sleep, sleep};

/// The time for which an instance without calls has accepted none.
pub(super) struct BackPressure {
    /// The longest time for which it may refuse all calls while some wait; zero means no limit.
    max: Duration,
    /// Runs while it refuses, and whether calls waited when it began.
    timer: Option<(Pin<Box<Sleep>>, bool)>,
}

impl BackPressure {
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
            let begin = || (Box::pin(sleep(self.max)), calls_wait);
            let (timer, waited) = self.timer.get_or_insert_with(begin);
            match timer.as_mut().poll(cx) {
                Poll::Ready(()) if calls_wait && *waited => return true,
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

    async fn look(back_pressure: &mut BackPressure, calls_wait: bool) -> bool {
        poll_fn(|cx| Poll::Ready(back_pressure.poll(calls_wait, cx))).await
    }

    /// As if the instance had refused all calls for as long as it may.
    async fn elapse(back_pressure: &mut BackPressure) {
        let mut timer = Box::pin(sleep(Duration::ZERO));
        timer.as_mut().await;
        back_pressure.timer.as_mut().expect("it refuses calls").0 = timer;
    }

    #[tokio::test]
    async fn an_instance_may_refuse_calls_for_a_limited_time_if_any_wait() {
        let mut back_pressure = BackPressure::new(Duration::from_hours(1));
        assert!(!look(&mut back_pressure, true).await);
        elapse(&mut back_pressure).await;
        assert!(!look(&mut back_pressure, false).await, "no call waits, so another period begins");
        assert!(!look(&mut back_pressure, true).await, "no call waited when it began");
        elapse(&mut back_pressure).await;
        assert!(
            !look(&mut back_pressure, true).await,
            "the next one begins with a call that waits"
        );
        elapse(&mut back_pressure).await;
        assert!(look(&mut back_pressure, true).await);
    }

    #[tokio::test]
    async fn an_instance_that_accepts_calls_in_between_may_refuse_as_long_again() {
        let mut back_pressure = BackPressure::new(Duration::from_hours(1));
        for _ in 0..3 {
            assert!(!look(&mut back_pressure, true).await);
            elapse(&mut back_pressure).await;
            back_pressure.end();
        }
        let mut unlimited = BackPressure::new(Duration::ZERO);
        assert!(!look(&mut unlimited, true).await);
        assert!(unlimited.timer.is_none());
    }
}
