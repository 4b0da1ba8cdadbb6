//! Threads of the supervisor's own, for work that blocks: what guests do must not keep a reload waiting.

use crate::{base::quantity::Span, pool::failure::panic_text};
use futures::channel::oneshot;
use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread::{self, ThreadId},
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
    #[error("the work did not end within {0}; a file system that it uses may not answer")]
    TimedOut(Span),
}

/// Does `work` in a thread of its own. To be called within the runtime; the thread is in its context, too.
///
/// # Errors
/// When there is no thread, or the work panics.
pub(super) async fn on_own_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, OwnThreadError> {
    let (job, done) = job(work);
    spawn(name, job)?;
    result(done).await
}

type BlockingJob = Box<dyn FnOnce() + Send>;
type WorkDone<T> = Result<T, String>;

/// The work with all that is around it, and where its result arrives.
fn job<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> (BlockingJob, oneshot::Receiver<WorkDone<T>>) {
    let (sender, receiver) = oneshot::channel();
    let runtime = Handle::current();
    let job = move || {
        let _entered = runtime.enter();
        let done = catch_unwind(AssertUnwindSafe(work)).map_err(|panic| panic_text(&*panic));
        // There is no receiver only if the daemon is ending.
        sender.send(done).ok();
    };
    (Box::new(job), receiver)
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), OwnThreadError> {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
    thread.map(drop).map_err(OwnThreadError::Start)
}

async fn result<T>(done: oneshot::Receiver<WorkDone<T>>) -> Result<T, OwnThreadError> {
    let ended = || OwnThreadError::Panicked("its thread ended".to_owned());
    done.await.map_err(|_| ended())?.map_err(OwnThreadError::Panicked)
}

/// Time that a thread waits for more work of the same kind.
const IDLE: Duration = Duration::from_secs(1);

/// Threads for work that comes in bursts, such as the plugins at the start: one that is done waits a moment for more.
#[derive(Clone, Default)]
pub(super) struct OwnThreads(Arc<Mutex<Vec<IdleThread>>>);

/// A thread that waits for work.
struct IdleThread {
    thread: ThreadId,
    work: mpsc::Sender<BlockingJob>,
}

impl OwnThreads {
    /// As [`on_own_thread`].
    ///
    /// # Errors
    /// When there is no thread, or the work panics.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, OwnThreadError> {
        let (job, done) = job(work);
        self.give(name, job)?;
        result(done).await
    }

    fn give(&self, name: &str, mut job: BlockingJob) -> Result<(), OwnThreadError> {
        while let Some(idle) = self.pop() {
            match idle.work.send(job) {
                Ok(()) => return Ok(()),
                Err(mpsc::SendError(not_taken)) => job = not_taken,
            }
        }
        let threads = self.clone();
        spawn(name, move || threads.work(job))
    }

    fn pop(&self) -> Option<IdleThread> {
        self.idle().pop()
    }

    /// Does work until there is no more for a moment.
    fn work(&self, mut job: BlockingJob) {
        let thread = thread::current().id();
        loop {
            job();
            let (work, jobs) = mpsc::channel();
            self.idle().push(IdleThread { thread, work });
            let next = jobs.recv_timeout(IDLE).or_else(|_| {
                let mut idle = self.idle();
                let is_idle = idle.iter().any(|it| it.thread == thread);
                idle.retain(|it| it.thread != thread);
                drop(idle);
                // One that is not listed any more is about to get work.
                if is_idle { Err(mpsc::RecvError) } else { jobs.recv() }
            });
            match next {
                Ok(next) => job = next,
                Err(mpsc::RecvError) => return,
            }
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<IdleThread>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for such work no longer than this. After that, its thread continues alone, and its result is dropped.
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
    async fn a_thread_does_further_work_and_work_at_the_same_time_has_threads_of_its_own() {
        let threads = OwnThreads::default();
        let id = || thread::current().id();
        let first = threads.run("work", id).await.unwrap();
        while threads.idle().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(threads.run("work", id).await.unwrap(), first);
        let meet = Arc::new(std::sync::Barrier::new(2));
        let wait = || {
            let meet = meet.clone();
            threads.run("work", move || {
                meet.wait();
            })
        };
        let (one, other) = tokio::join!(wait(), wait());
        assert!(one.is_ok() && other.is_ok());
        let failed = threads.run("work", || panic!("for a reason")).await.map(|(): ()| ());
        assert_eq!(failed.unwrap_err().to_string(), "the host failed: for a reason");
        assert_eq!(threads.run("work", || 7).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_panic_is_an_error_that_says_why() {
        let failed = on_own_thread("work", || panic!("for a reason")).await.map(|(): ()| ());
        assert_eq!(failed.unwrap_err().to_string(), "the host failed: for a reason");
    }
}
