//! Threads of the supervisor's own, for work that blocks: what guests do must not keep a reload waiting.

use crate::{base::quantity::Span, pool::failure::panic_text};
use futures::channel::oneshot;
use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
    time::Duration,
};
use tokio::{runtime::Handle, time::timeout};

/// The reason that blocking work has no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum OwnThreadError {
    /// The system has no thread for it.
    #[error(
        "cannot start a thread; raise TasksMax= of the unit or the limit of processes (ulimit -u)"
    )]
    Start(#[source] io::Error),
    /// The host failed.
    #[error("the host failed: {0}")]
    Panicked(String),
    /// It did not end in time, and nothing can end it.
    #[error("it did not end within {0}; a file system that the plugin uses may not answer")]
    TimedOut(Span),
}

/// Does `work` in a thread of its own. To be called within the runtime, in which the thread is as well.
///
/// # Errors
/// When there is no thread, or the work panics.
pub(super) async fn on_own_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, OwnThreadError> {
    let (sender, receiver) = oneshot::channel();
    let runtime = Handle::current();
    let run = move || {
        let _entered = runtime.enter();
        let done = catch_unwind(AssertUnwindSafe(work)).map_err(|panic| panic_text(&*panic));
        // Nobody waits for it only when the daemon is ending.
        sender.send(done).ok();
    };
    thread::Builder::new().name(name.to_owned()).spawn(run).map_err(OwnThreadError::Start)?;
    let ended = || OwnThreadError::Panicked("its thread ended".to_owned());
    receiver.await.map_err(|_| ended())?.map_err(OwnThreadError::Panicked)
}

/// Waits for such work no longer than this. Then its thread is left to itself: what it waits for is not to be waited for
/// by others.
///
/// # Errors
/// Those of the work, and when it does not end in time.
pub(super) async fn within<T>(
    wait_max: Duration,
    work: impl Future<Output = Result<T, OwnThreadError>>,
) -> Result<T, OwnThreadError> {
    timeout(wait_max, work).await.unwrap_or(Err(OwnThreadError::TimedOut(Span(wait_max))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_does_not_end_is_given_up_with_the_reason() {
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let work = on_own_thread("work", move || ended.recv().is_err());
        let error = within(Duration::ZERO, work).await.unwrap_err().to_string();
        assert!(error.contains("did not end within"), "{error}");
        drop(end);
    }

    #[tokio::test]
    async fn work_is_done_although_no_blocking_thread_of_the_runtime_is_free() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(1)
            .build()
            .unwrap();
        let (free, wait) = std::sync::mpsc::channel::<()>();
        runtime.spawn_blocking(move || wait.recv().ok());
        let work = runtime.spawn(on_own_thread("work", || 7));
        assert_eq!(work.await.unwrap().unwrap(), 7);
        drop(free);
        runtime.shutdown_background();
    }

    #[tokio::test]
    async fn a_panic_is_an_error_that_says_why() {
        let failed = on_own_thread("work", || panic!("for a reason")).await.map(|(): ()| ());
        assert_eq!(failed.unwrap_err().to_string(), "the host failed: for a reason");
    }
}
