//! The task that does the work of a worker: on the executor of its core, and in the background while its guest computes.
//!
//! A guest that computes gives way after each slice, but the other tasks of its core would wait for that slice after
//! each turn of theirs. In the background it has a thread, which shares the processors with those of the cores.
//!
//! A guest that runs at the moment at which a slice ends may have begun just then. So the turn in which it continues is
//! measured: that of a guest that computes is usually long, and that of another one usually short.

use crate::{
    pool::{worker_handle::WorkerHandle, workers::worker_guard::WorkerGuard},
    world::quota::time_of_thread,
};
use futures::{FutureExt, future::BoxFuture};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

/// After so many turns in which its guest did not compute, a worker returns to its core.
const CALM_TURNS: u32 = 256;
/// A turn that uses so much of the processor keeps the other tasks of a core waiting.
const LONG_TURN: Duration = Duration::from_millis(2);

/// Where the work is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WorkPlace {
    /// On its core.
    Core,
    /// In the background, for so many turns in which its guest did not compute.
    Background { calm: u32 },
}

impl WorkPlace {
    /// The place after a turn in which the guest `computed`, or did not.
    fn after(self, computed: bool) -> Self {
        match (self, computed) {
            (_, true) => Self::Background { calm: 0 },
            (Self::Background { calm }, false) if calm < CALM_TURNS => {
                Self::Background { calm: calm + 1 }
            }
            (_, false) => Self::Core,
        }
    }

    fn is_on_core(self) -> bool {
        self == Self::Core
    }
}

/// The work of a worker, to be done by a task.
pub(crate) struct WorkerTask {
    work: BoxFuture<'static, ()>,
    handle: Arc<WorkerHandle>,
    /// Dropped after the work, so that the set knows of it to its end.
    guard: WorkerGuard,
    place: WorkPlace,
    /// Its guest yielded in the middle of a computation in the last turn.
    resumes: bool,
}

impl WorkerTask {
    pub(crate) fn new(
        work: BoxFuture<'static, ()>,
        handle: Arc<WorkerHandle>,
        guard: WorkerGuard,
    ) -> Self {
        let place = match guard.set.is_computing() {
            true => WorkPlace::Background { calm: 0 },
            false => WorkPlace::Core,
        };
        Self { work, handle, guard, place, resumes: false }
    }

    /// Whether the task that it came from may do a part of it.
    pub(crate) fn is_on_core(&self) -> bool {
        self.place.is_on_core()
    }

    /// Spawns it in its place.
    pub(crate) fn spawn(self) {
        let executors = &self.guard.set.executors;
        let executor = match self.place {
            WorkPlace::Core => executors.core(self.handle.core),
            WorkPlace::Background { .. } => executors.background(),
        };
        executor.clone().spawn(RunningTask(Some(self)));
    }

    /// Does a part of it.
    pub(crate) fn poll_work(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let before = self.resumes.then(time_of_thread);
        let begun = Instant::now();
        let polled = self.work.poll_unpin(cx);
        self.handle.figures.ran(begun.elapsed());
        let computed =
            before.is_some_and(|before| time_of_thread().saturating_sub(before) >= LONG_TURN);
        self.resumes = self.handle.take_resumes();
        self.place = self.place.after(computed);
        self.guard.set.note_turn(computed, polled.is_ready());
        polled
    }
}

/// The task. It ends when the work should be done elsewhere, and another one continues.
struct RunningTask(Option<WorkerTask>);

impl Future for RunningTask {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(task) = &mut self.0 else { return Poll::Ready(()) };
        let was_on_core = task.is_on_core();
        if task.poll_work(cx).is_ready() {
            self.0 = None;
            return Poll::Ready(());
        }
        if task.is_on_core() == was_on_core {
            return Poll::Pending;
        }
        // Its wakers reach the new task once that has begun, and it begins with a turn.
        if let Some(task) = self.0.take() {
            task.spawn();
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_computes_is_in_the_background_until_it_has_been_calm_for_long() {
        assert!(WorkPlace::Core.after(false).is_on_core());
        let mut place = WorkPlace::Core.after(true);
        for _ in 0..CALM_TURNS {
            assert!(!place.is_on_core());
            place = place.after(false);
        }
        assert!(!place.after(true).is_on_core(), "that begins again");
        assert!(place.after(false).is_on_core());
    }
}
