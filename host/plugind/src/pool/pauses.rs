//! The limit of the pauses in a response. Without it, a plugin that never sends the next piece keeps the place of the
//! request and its client for ever.

use crate::world::client_connection::LATE_BYTES;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep};

/// The time for which a response may wait for its plugin. The time that the client takes does not count.
#[derive(Default)]
pub(crate) struct ResponsePauses {
    /// None: without end.
    max: Option<Duration>,
    /// The pause that lasts, and whether it was long enough when the plugin was looked at last.
    pause: Option<(Pin<Box<Sleep>>, bool)>,
}

impl ResponsePauses {
    pub(crate) fn new(max: Option<Duration>) -> Self {
        Self { max, pause: None }
    }

    /// The plugin has sent a piece.
    pub(crate) fn end(&mut self) {
        self.pause = None;
    }

    /// The plugin has sent nothing so far. Ready when it has had its time, which is returned.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Duration> {
        let Some(max) = self.max else { return Poll::Pending };
        let (pause, was_long) = self.pause.get_or_insert_with(|| (Box::pin(sleep(max)), false));
        loop {
            ready!(pause.as_mut().poll(cx));
            if std::mem::replace(was_long, true) {
                return Poll::Ready(max);
            }
            // The machine may have stood still, and the plugin with it.
            pause.as_mut().reset(Instant::now() + LATE_BYTES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::future::poll_fn;
    use tokio::time::advance;

    const MAX: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn each_pause_has_the_whole_time_and_what_lies_between_does_not_count() {
        let mut limit = ResponsePauses::new(Some(MAX));
        for _ in 0..3 {
            assert_eq!(poll_fn(|cx| limit.poll(cx)).now_or_never(), None);
            advance(MAX * 2 / 3).await;
            assert_eq!(poll_fn(|cx| limit.poll(cx)).now_or_never(), None);
            limit.end();
            // The client takes its time.
            advance(MAX * 2).await;
        }
        assert_eq!(poll_fn(|cx| limit.poll(cx)).await, MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_piece_that_was_late_because_the_machine_stood_still_ends_the_pause() {
        let mut limit = ResponsePauses::new(Some(MAX));
        for _ in 0..3 {
            assert_eq!(poll_fn(|cx| limit.poll(cx)).now_or_never(), None);
            advance(MAX * 2).await;
            assert_eq!(poll_fn(|cx| limit.poll(cx)).now_or_never(), None);
            limit.end();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_a_pause_has_no_end() {
        let mut limit = ResponsePauses::default();
        assert_eq!(poll_fn(|cx| limit.poll(cx)).now_or_never(), None);
        advance(MAX * 1000).await;
        assert_eq!(poll_fn(|cx| limit.poll(cx)).now_or_never(), None);
    }
}
