//! The threads that serve: one executor a core for connections and guests, and one with several threads for guests
//! that compute.
//!
//! An executor of a core has one thread, so the work on a request wakes no other thread and moves to no other core.
//! A guest that computes would keep its core's other tasks waiting, so it is moved to the background, whose threads the
//! kernel shares out.

use std::{
    cell::Cell,
    fs, io,
    sync::{
        Arc, RwLock,
        atomic::{
            AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    thread::{self, available_parallelism},
};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::sync::CancellationToken;

/// The most checks whether threads have ended; together they take some ten milliseconds.
const LOOKS_MAX: u32 = 1000;

thread_local! {
    /// Which core's executor this thread is: set once, when it starts.
    static CORE: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The threads that serve.
#[derive(Clone)]
pub struct Executors(Arc<ExecutorSet>);

struct ExecutorSet {
    cores: Vec<CoreExecutor>,
    background: Handle,
}

/// The executor of one core.
struct CoreExecutor {
    handle: Handle,
    connections: AtomicUsize,
}

/// Keeps the executors running. When it is dropped, they end, and nobody waits for that.
pub struct RunningExecutors {
    stop: CancellationToken,
    background: Option<Runtime>,
}

impl Drop for RunningExecutors {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(background) = self.background.take() {
            background.shutdown_background();
        }
    }
}

/// A connection's share of its executor's load, until it is dropped.
pub struct ConnectionPlace {
    executors: Executors,
    core: usize,
}

impl ConnectionPlace {
    /// The executor that serves the connection.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        self.executors.core(self.core)
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        self.executors.0.cores[self.core].connections.fetch_sub(1, Relaxed);
    }
}

impl Executors {
    /// Starts an executor for each core that this process may use, and as many threads in the background.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start() -> io::Result<(Self, RunningExecutors)> {
        let count = available_parallelism().map_or(1, usize::from);
        check_threads(count)?;
        let stop = CancellationToken::new();
        let background = Builder::new_multi_thread()
            .enable_all()
            .worker_threads(count)
            .thread_name("background")
            .build()?;
        let handle = background.handle().clone();
        // From here on an error ends what was started.
        let running = RunningExecutors { stop: stop.clone(), background: Some(background) };
        let cores: io::Result<_> = (0..count).map(|core| start_core(core, stop.clone())).collect();
        let handles: Vec<_> = cores?;
        Ok((Self::of(handles, handle), running))
    }

    /// The runtime of this thread as the only executor, for what needs no other: it runs the background's work, too.
    #[must_use]
    pub fn of_this_runtime() -> Self {
        Self::of(vec![Handle::current()], Handle::current())
    }

    fn of(handles: Vec<Handle>, background: Handle) -> Self {
        let core = |handle| CoreExecutor { handle, connections: AtomicUsize::new(0) };
        Self(Arc::new(ExecutorSet { cores: handles.into_iter().map(core).collect(), background }))
    }

    /// Which core's executor this thread is; none for every other thread.
    #[must_use]
    pub fn this_core() -> Option<usize> {
        CORE.get()
    }

    /// The number of cores that have an executor: at least one.
    #[must_use]
    pub fn cores(&self) -> usize {
        self.0.cores.len()
    }

    /// The executor of a core.
    #[must_use]
    pub fn core(&self, core: usize) -> &Handle {
        // Any number is mapped to an existing core.
        &self.0.cores[core % self.0.cores.len()].handle
    }

    /// The executor of guests that compute.
    #[must_use]
    pub fn background(&self) -> &Handle {
        &self.0.background
    }

    /// Waits until each task of a core that was spawned before has had a turn.
    pub async fn turn(&self) {
        for core in &self.0.cores {
            // It fails only when the daemon ends.
            core.handle.spawn(async {}).await.ok();
        }
    }

    /// Every executor.
    pub fn all(&self) -> impl Iterator<Item = &Handle> {
        self.0.cores.iter().map(|core| &core.handle).chain([&self.0.background])
    }

    /// A place for a connection on the core that has the fewest.
    #[must_use]
    pub fn place_connection(&self) -> ConnectionPlace {
        let load = |core: &usize| self.0.cores[*core].connections.load(Relaxed);
        let core = (0..self.cores()).min_by_key(load).unwrap_or(0);
        self.0.cores[core].connections.fetch_add(1, Relaxed);
        ConnectionPlace { executors: self.clone(), core }
    }
}

fn start_core(core: usize, stop: CancellationToken) -> io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    run(runtime, format!("executor-{core}"), Some(core), stop)
}

/// Starts an executor beside those of the cores, with one thread and at most `blocking` threads for calls that block, which
/// `blocking_now` counts: those of calls that block, and those that have ended a call lately.
///
/// # Errors
/// When its thread cannot be started.
pub(super) fn start_single(
    name: &str,
    blocking: usize,
    blocking_now: &Arc<AtomicUsize>,
    stop: CancellationToken,
) -> io::Result<Handle> {
    let mut runtime = Builder::new_current_thread();
    runtime.enable_all().max_blocking_threads(blocking).thread_name(name);
    let (begun, ended) = (blocking_now.clone(), blocking_now.clone());
    runtime.on_thread_start(move || {
        begun.fetch_add(1, SeqCst);
    });
    runtime.on_thread_stop(move || {
        ended.fetch_sub(1, SeqCst);
    });
    run(runtime.build()?, name.to_owned(), None, stop)
}

/// Runs an executor on a thread of its own until it is to stop.
fn run(
    runtime: Runtime,
    name: String,
    core: Option<usize>,
    stop: CancellationToken,
) -> io::Result<Handle> {
    let handle = runtime.handle().clone();
    thread::Builder::new().name(name).spawn(move || {
        CORE.set(core);
        runtime.block_on(stop.cancelled());
        runtime.shutdown_background();
    })?;
    Ok(handle)
}

/// Starts so many threads at the same time, which end at once.
///
/// An executor with several threads panics if it cannot start one of them, so this is found out before.
///
/// # Errors
/// When they cannot be started.
pub fn check_threads(count: usize) -> io::Result<()> {
    let before = threads();
    let gate = RwLock::new(());
    let started = thread::scope(|scope| {
        let _closed = gate.write();
        let wait = || drop(gate.read());
        (0..count).try_for_each(|_| thread::Builder::new().spawn_scoped(scope, wait).map(drop))
    });
    // The kernel counts a thread for a moment after its end.
    let mut looks = LOOKS_MAX;
    while looks > 0 && threads() > before {
        thread::yield_now();
        looks -= 1;
    }
    started
}

/// The number of threads of this process; none: the kernel does not say.
fn threads() -> Option<usize> {
    fs::read_dir("/proc/self/task").ok().map(Iterator::count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_dealt_out_to_the_core_that_has_the_fewest() {
        let runtime = Builder::new_current_thread().build().unwrap();
        let handle = runtime.handle().clone();
        let executors = Executors::of(vec![handle.clone(), handle.clone()], handle);
        let first = executors.place_connection();
        let second = executors.place_connection();
        assert_eq!((first.core, second.core), (0, 1));
        drop(second);
        let third = executors.place_connection();
        assert_eq!(third.core, 1);
        drop(first);
        assert_eq!(executors.place_connection().core, 0);
    }

    #[test]
    fn a_task_runs_on_the_thread_of_its_core() {
        let (executors, running) = Executors::start().unwrap();
        let control = Builder::new_current_thread().build().unwrap();
        for core in 0..executors.cores() {
            let task = executors.core(core).spawn(async { Executors::this_core() });
            assert_eq!(control.block_on(task).unwrap(), Some(core));
        }
        let task = executors.background().spawn(async { Executors::this_core() });
        assert_eq!(control.block_on(task).unwrap(), None);
        drop(running);
    }
}
