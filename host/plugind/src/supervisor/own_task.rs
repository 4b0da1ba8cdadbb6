//! Tasks of the supervisor's own. Each sends its result as a message if it has one, and a message even if it panics.

use crate::pool::failure::panic_text;
use futures::FutureExt;
use std::panic::AssertUnwindSafe;
use tokio::sync::mpsc::UnboundedSender;

/// Does `work` in a task of its own and sends its result, if it has one. If it panics, it sends `failed` of the reason
/// instead: a message that does not come would be waited for without end. To be called within the runtime.
pub(super) fn spawn_and_send<M: Send + 'static>(
    inbox: UnboundedSender<M>,
    work: impl Future<Output = Option<M>> + Send + 'static,
    failed: impl FnOnce(String) -> M + Send + 'static,
) {
    tokio::spawn(async move {
        let done = AssertUnwindSafe(work).catch_unwind().await;
        let message = done.unwrap_or_else(|panic| Some(failed(panic_text(&*panic))));
        if let Some(message) = message {
            // The receiver is gone only when the daemon is ending.
            inbox.send(message).ok();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc::unbounded_channel;

    #[tokio::test]
    async fn work_that_panics_sends_a_message_with_the_reason() {
        let (inbox, mut messages) = unbounded_channel();
        spawn_and_send(inbox.clone(), async { panic!("for a reason") }, Err);
        assert_eq!(messages.recv().await, Some(Err("for a reason".to_owned())));
        spawn_and_send(inbox, async { Some(Ok(7)) }, Err);
        assert_eq!(messages.recv().await, Some(Ok(7)));
    }

    #[tokio::test]
    async fn work_that_is_not_wanted_any_more_sends_nothing() {
        let (inbox, mut messages) = unbounded_channel::<u8>();
        spawn_and_send(inbox, async { None }, |_| 1);
        assert_eq!(messages.recv().await, None);
    }
}
